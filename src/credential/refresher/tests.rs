//! The refresher whole, with a clock, a store and a partner that are scripted.

mod crowd;
mod flight;
mod operator;
mod outcomes;
mod persist;
mod refusals;
mod share;
mod waiting;
