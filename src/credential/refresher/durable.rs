//! What makes durable what a refresher knows, and asks the store whether a call may be made.

use std::time::Duration;

use tracing::{error, info, warn};

use super::Refresher;
use crate::clock::Moment;
use crate::credential::schedule::backoff;
use crate::store::{Begun, Claim, Intent, Record, StoreError};

impl Refresher {
    pub(super) async fn save_again(&mut self) {
        match self.save().await {
            Ok(()) => info!(partner = &*self.name, "the credential has been saved after all"),
            Err(StoreError::Overtaken) => {
                self.credential.behind = false;
                self.look().await;
            }
            Err(_) => {}
        }
    }

    pub(super) async fn save_once_more(&mut self) {
        if !self.credential.unsaved && !self.credential.behind {
            return;
        }
        let _ = self.save().await;
        match (self.credential.unsaved, self.credential.shared) {
            (false, _) => {}
            // If that could not be written either, it has been said.
            (true, true) => {
                warn!(partner = &*self.name, "ending with a token pair that only the journal holds")
            }
            (true, false) => {
                error!(partner = &*self.name, "ending with a token pair that could not be saved; it is lost");
            }
        }
    }

    /// Asks the store whether a call may be made now, with `intent` if it spends the refresh token:
    /// until when, if it may.
    pub(super) async fn begin(&mut self, intent: Option<Intent>) -> Option<Moment> {
        let record = Record { intent, ..self.credential.record(&*self.clock) };
        let claim = Claim { timeout: self.settings.policy.timeout, ordered: self.credential.ordered };
        let begun = self.store.begin(&self.name, &record, claim).await;
        match begun {
            Ok(Begun::Go { by }) => {
                if intent.is_some() || self.credential.shared {
                    self.has_saved();
                }
                Some(by)
            }
            Ok(Begun::Wait { until }) => {
                self.credential.held_until = until;
                None
            }
            Ok(Begun::Changed) => {
                self.look().await;
                None
            }
            Err(failure) => {
                self.store_failed(if self.credential.shared { NOT_CLAIMED } else { NOT_SAVED }, &failure);
                (!self.credential.shared).then_some(Moment::NEVER)
            }
        }
    }

    /// Records how a call ended that brought no token, and so closes its intent. No other process is
    /// to call before `wait` is over.
    pub(super) async fn save_end(&mut self, wait: Duration) {
        self.secure_aside().await;
        let record = self.credential.record(&*self.clock);
        self.credential.behind = true;
        match self.store.end(&self.name, &record, wait).await {
            Ok(()) => self.has_saved(),
            Err(StoreError::Overtaken) => {
                self.credential.behind = false;
                self.look().await;
            }
            Err(failure) => self.store_failed(NOT_SAVED, &failure),
        }
    }

    /// Makes the credential durable. It takes the place in the journal of what was there.
    pub(super) async fn save(&mut self) -> Result<(), StoreError> {
        self.secure_aside().await;
        let record = self.credential.record(&*self.clock);
        let result = self.store.save(&self.name, &record).await;
        match &result {
            Ok(()) => self.has_saved(),
            Err(StoreError::Overtaken) => {}
            Err(failure) => self.store_failed(NOT_SAVED, failure),
        }
        result
    }

    pub(super) fn has_saved(&mut self) {
        self.credential.unsaved = false;
        self.credential.behind = false;
        self.credential.store_failures = 0;
    }

    /// The store did not do what was asked of it: `what`, for the log.
    pub(super) fn store_failed(&mut self, what: &'static str, failure: &StoreError) {
        self.credential.store_failures = self.credential.store_failures.saturating_add(1);
        let wait = backoff(self.credential.store_failures, self.rng.f64());
        self.credential.store_not_before = self.clock.now() + wait;
        error!(partner = &*self.name, error = %failure, "{what}");
    }
}

/// The pair, the end of a call, or in a store of this process's own the intent.
const NOT_SAVED: &str = "the credential could not be saved";
pub(super) const NOT_READ: &str = "the credential could not be read from the store";
/// Without it no call is made.
const NOT_CLAIMED: &str = "the store could not be asked for the next call";
