//! How a credential stands, for those who ask.

use crate::clock::{Moment, UnixMillis};
use crate::partner::Cause;
use crate::token::Generation;

/// The state of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// No token yet, and no call has ended.
    Starting,
    /// A token is held and all is well.
    Valid,
    /// A token is held, but refreshing or saving fails.
    Degraded,
    /// No token is held; still trying.
    Expired,
    /// Only an operator or a login can help. A token that is held still serves until it expires.
    ReauthRequired,
}

impl State {
    /// The word for `/status`, metrics and the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Valid => "valid",
            Self::Degraded => "degraded",
            Self::Expired => "expired",
            Self::ReauthRequired => "reauth_required",
        }
    }
}

/// What the refresher shows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The state.
    pub state: State,
    /// The generation in use.
    pub generation: Generation,
    /// When the access token that is held expires.
    pub expires_at: Option<Moment>,
    /// Whether what is held is durable.
    pub persisted: bool,
    /// The last call that ended, and how.
    pub last: Option<LastCall>,
    /// When the next call or write is due.
    pub next_at: Moment,
}

impl Status {
    /// Whether a token is held that may be sent at `now`.
    pub fn is_usable(&self, now: Moment) -> bool {
        self.expires_at.is_some_and(|expires_at| now < expires_at)
    }
}

/// The last call to the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastCall {
    /// When it ended.
    pub at: UnixMillis,
    /// `renewed`, `not_sent`, `busy`, `refused` or `unknown`.
    pub outcome: &'static str,
    /// Why, if it brought no token.
    pub cause: Option<Cause>,
}
