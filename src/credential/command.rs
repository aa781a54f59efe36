//! What others ask of a refresher.

use tokio::sync::{mpsc, oneshot};

use super::status::Status;
use crate::store::StoreError;
use crate::token::{AccessToken, RefreshToken};

/// A pair that an operator loads.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The refresh token to present next.
    pub refresh: RefreshToken,
    /// An access token that goes with it and how long it still lives; without one, the refresh token
    /// is presented at once.
    pub access: Option<(AccessToken, std::time::Duration)>,
}

/// Why a pair was not taken up. Everything is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It could not be made durable.
    #[error("the pair was not loaded, because it could not be saved: {0}")]
    Store(#[from] StoreError),
    /// It was loaded before, and what other processes hold as well has come after it and is good.
    #[error("the pair was not loaded, because it was before, and a good one has come after it")]
    Followed,
    /// The refresher has ended, because bearerd is draining or the partner was taken out.
    #[error("the pair was not loaded, because bearerd is shutting down")]
    Ended,
}

/// Ends a refresher: see [`Stop::stop`].
#[derive(Debug, Clone)]
pub struct Stop(mpsc::Sender<Command>);

impl Stop {
    pub(super) fn new(commands: mpsc::Sender<Command>) -> Self {
        Self(commands)
    }

    /// Asks the refresher to finish the call under way, to make durable what is not, and to end.
    pub async fn stop(&self) {
        // An error says that it has ended already.
        let _ = self.0.send(Command::Stop).await;
    }
}

/// A command to a refresher. The sender of a reply may have gone. Small, because the channel makes
/// room for 32 of them at once, for each partner.
#[derive(Debug)]
pub(super) enum Command {
    /// Refresh now; replies once a call has ended, or at once if none can be made.
    Refresh(oneshot::Sender<Status>),
    /// Take up a pair; replies once it is durable.
    Import(Box<Pair>, oneshot::Sender<Result<Status, ImportError>>),
    /// Finish what is under way, make durable what is not, and end.
    Stop,
}
