//! bearerd carries the Bearer token, so that applications need not.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credential;
pub mod listener;
pub mod metrics;
pub mod partner;
pub mod proxy;
pub mod sandbox;
pub mod store;
pub mod telemetry;
pub mod token;
pub mod upstream;
