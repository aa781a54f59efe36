//! Token pairs that operators bring.

use tracing::info;

use super::Refresher;
use crate::credential::command::{ImportError, Pair};
use crate::credential::status::Status;
use crate::partner::TokenSet;
use crate::store::StoreError;

impl Refresher {
    /// Takes up what an operator loads, if it can be made durable.
    pub(super) async fn import(&mut self, pair: Pair) -> Result<Status, ImportError> {
        let mut result = self.import_once(&pair).await;
        // An operator's word stands above what others have brought in the meantime.
        for _ in 0..3 {
            if !matches!(result, Err(ImportError::Store(StoreError::Overtaken))) {
                break;
            }
            self.look().await;
            result = self.import_once(&pair).await;
        }
        result?;
        self.publish_token();
        info!(partner = &*self.name, "an operator loaded a new refresh token");
        let decision = self.decide();
        self.publish_status(decision);
        Ok(self.status.borrow().clone())
    }

    async fn import_once(&mut self, pair: &Pair) -> Result<(), ImportError> {
        if self.credential.shared && self.credential.has_followed(&pair.refresh) {
            return Err(ImportError::Followed);
        }
        let before = self.credential.clone();
        let now = self.clock.now();
        self.credential.take_up(pair.refresh.clone());
        match &pair.access {
            Some((access, lifetime)) => {
                let (access, refresh) = (access.clone(), Some(pair.refresh.clone()));
                let set = TokenSet { access, lifetime: Some(*lifetime), refresh };
                let jitter = self.rng.f64();
                self.credential.renewed(set, now, now, &self.settings.policy, jitter);
            }
            None => self.credential.ordered = true,
        }
        let result = self.save().await;
        if result.is_err() {
            self.credential = before;
            self.keep_own().await;
        }
        Ok(result?)
    }
}
