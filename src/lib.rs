//! bearerd carries the Bearer token, so that applications need not.

pub mod clock;
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
