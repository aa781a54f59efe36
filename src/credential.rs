//! A partner's credential: the token in use, and the task that keeps it fresh.
//!
//! One [`Refresher`] per partner owns the credential, on the control runtime and never inside a
//! request's future. It publishes tokens to a [`TokenCell`], which requests read without a lock, and
//! its [`Status`] to a `watch`, on which requests wait through a [`RefreshHandle`]. A request that goes
//! away therefore cancels nothing.
//!
//! What to do next is decided by [`decide`], a pure function of [`Credential`], [`Policy`] and time.

mod cell;
mod command;
mod handle;
mod refresher;
mod refusals;
#[cfg(test)]
mod replicas;
mod schedule;
#[cfg(test)]
mod seeds;
#[cfg(test)]
mod simulation;
mod standing;
mod state;
mod status;
#[cfg(test)]
mod testing;

use std::time::Duration;

pub use self::cell::{Token, TokenCell, TokenReader};
pub use self::command::{ImportError, Pair, Stop};
pub use self::handle::{Charge, NoToken, PassOn, RefreshHandle, Refusal};
pub use self::refresher::{Refresher, Settings, StartError};
pub use self::schedule::{Decision, decide};
pub use self::standing::Standing;
pub use self::state::{Access, Credential};
pub use self::status::{LastCall, State, Status};

/// When to refresh, and what to make of silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How long before expiry a refresh is due, but never before half of the lifetime is over.
    pub ahead: Duration,
    /// The time for the whole refresh call.
    pub timeout: Duration,
    /// How long the partner still honours a spent refresh token.
    pub grace: Duration,
    /// The lifetime of an access token where the partner gives no usable one.
    pub default_lifetime: Duration,
}
