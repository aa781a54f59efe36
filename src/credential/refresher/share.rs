//! What other processes do to a credential that they share with this one.

use std::future::pending;

use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::Refresher;
use super::durable::NOT_READ;
use crate::credential::schedule::nothing_left_to_lose;
use crate::credential::standing::Standing;
use crate::credential::state::Credential;
use crate::store::{self, Kinship, Lineage, Loaded, StoreError, kinship};
use crate::token::{Generation, RefreshToken};

/// Waits until another process may have changed the record; for ever, where there is none.
pub(super) async fn changed(changes: Option<&Notify>) {
    match changes {
        Some(changes) => changes.notified().await,
        None => pending().await,
    }
}

impl Refresher {
    /// Looks at what the store holds before anything else is done. One that cannot be reached is
    /// waited for; meanwhile the token of this process's journal serves.
    pub(super) async fn look_first(&mut self) -> Result<(), StoreError> {
        if self.store.shared().is_none() {
            return Ok(());
        }
        match self.store.load(&self.name).await {
            Ok(loaded) => self.reconcile(loaded).await,
            Err(failure @ StoreError::Unreachable { .. }) => self.store_failed(NOT_READ, &failure),
            Err(failure) => return Err(failure),
        }
        Ok(())
    }

    /// Looks at what the store holds now, and goes on with that wherever it is ahead.
    pub(super) async fn look(&mut self) {
        match self.store.load(&self.name).await {
            Ok(loaded) => {
                self.credential.store_failures = 0;
                self.credential.store_not_before = self.clock.now();
                self.reconcile(loaded).await;
            }
            Err(failure) => self.store_failed(NOT_READ, &failure),
        }
    }

    /// Whether the store holds another refresh token than the one that was `presented`, and it is not
    /// known to be dead; goes on with that.
    pub(super) async fn look_for_another(&mut self, presented: &RefreshToken) -> bool {
        if self.store.shared().is_some() {
            self.look().await;
            return self.credential.refresh.as_ref().is_none_or(|held| held.digest() != presented.digest());
        }
        let Ok(Some(loaded)) = self.store.load(&self.name).await else { return false };
        let record = &loaded.record;
        let other = record.refresh.as_ref().is_some_and(|held| held.digest() != presented.digest());
        let dead = record.standing == store::Standing::Refused;
        if !other || dead || record.generation < self.credential.generation {
            return false;
        }
        warn!(partner = &*self.name, "the store holds another refresh token; going on with that");
        let stored = self.restored(loaded);
        self.credential.take_over(stored);
        self.publish_token();
        true
    }

    /// Brings what this process holds and what the store holds together.
    async fn reconcile(&mut self, loaded: Option<Loaded>) {
        let Some(loaded) = loaded else {
            // Nobody has written anything yet, or the database has lost it.
            self.credential.unsaved = self.credential.access.is_some();
            return;
        };
        let record = loaded.record.clone();
        let stored = self.restored(loaded);
        let (held, own) = (record.pair(), self.credential.pair());
        match kinship((&held, &record.lineage), (&own, &self.credential.lineage)) {
            Kinship::Same if record.generation <= self.credential.generation => {
                self.credential.unsaved = false;
                let before = self.credential.standing;
                self.credential.learn(stored);
                self.publish_token();
                if !matches!(before, Standing::PerhapsSpent { .. }) {
                    self.tell_of_doubt(&record);
                }
                if matches!(self.credential.standing, Standing::Refused { .. }) {
                    self.fall_back().await;
                }
            }
            // A commit was lost, or never came to be.
            Kinship::Ancestor => self.credential.unsaved = true,
            Kinship::Stranger if self.outlives(&stored) => {
                warn!(
                    partner = &*self.name,
                    "the store has gone back by many generations; storing this one's again"
                );
                self.credential.lineage.push(held);
                self.credential.unsaved = true;
            }
            Kinship::Stranger if self.is_rival_of(&stored) && dead(&stored) && !dead(&self.credential) => {
                warn!(partner = &*self.name, "what another replica has stored is dead; storing this one's");
                self.keep_aside(&record).await;
                // With the ancestors, or one of them would seem a stranger's living pair to who comes late.
                self.credential.lineage.join(&record.lineage);
                self.credential.lineage.push(held);
                self.credential.unsaved = true;
            }
            Kinship::Same | Kinship::Descendant => self.follow(stored, &record).await,
            Kinship::Stranger => {
                if self.is_rival_of(&stored) {
                    self.set_aside().await;
                }
                self.follow(stored, &record).await;
            }
        }
    }

    /// Goes on with what another process has stored.
    async fn follow(&mut self, stored: Credential, record: &store::Record) {
        self.credential.take_over(stored);
        let generation = self.credential.generation.0;
        info!(partner = &*self.name, generation, "a token that another replica has stored is in use");
        self.tell_of_doubt(record);
        self.publish_token();
        let decision = self.decide();
        self.publish_status(decision);
        // For a start without the database. It can be had again, so failing to keep it is no fault. What
        // could not be kept aside is in the journal still, and is not written over for this.
        self.secure_aside().await;
        if !self.aside_at_risk {
            self.keep_own().await;
        }
    }

    /// Says so if the refresh token is in doubt because of an open intent in `record`, whose owner must
    /// have given up by now, and what is made of it here.
    fn tell_of_doubt(&self, record: &store::Record) {
        let (Some(_), Standing::PerhapsSpent { since }) = (record.intent, self.credential.standing) else {
            return;
        };
        let (policy, now) = (&self.settings.policy, self.clock.now());
        let then = if self.credential.can_log_in() {
            "a login"
        } else if now < since + policy.grace {
            "the same refresh token again, within the partner's grace"
        } else if nothing_left_to_lose(&self.credential, policy, now) {
            "the same refresh token again, since nothing is left to lose"
        } else {
            "the access token serves; when it is about to die or refused, the same refresh token again"
        };
        warn!(
            partner = &*self.name,
            then, "another replica has not ended its call in time; the refresh token may be spent"
        );
    }

    /// Puts what this process holds in its journal, in place of what is there. Drawn up only now, because
    /// the wall clock may have been set since it was read.
    pub(super) async fn keep_own(&self) {
        let Some(shared) = self.store.shared() else { return };
        let record = self.credential.record(&*self.clock);
        if let Err(failure) = shared.keep(&self.name, &record).await {
            warn!(partner = &*self.name, error = %failure, "the journal could not be written");
        }
    }

    /// Whether what is `stored` is from longer ago than ancestors are remembered, as in a database that
    /// was restored from a backup. Two that have an ancestor in common are rivals instead.
    fn outlives(&self, stored: &Credential) -> bool {
        let own = &self.credential;
        let related = stored.lineage.iter().any(|pair| own.lineage.contains(&pair));
        stored.generation < own.generation && own.access.is_some() && !dead(own) && !related
    }

    /// Whether this process holds a pair that may be alive beside the one that is `stored`, and not one
    /// from so long ago that its kinship is forgotten. That the store once had it says nothing: a
    /// failover may have lost it before somebody else's pair came.
    fn is_rival_of(&self, stored: &Credential) -> bool {
        let forgotten = Generation(self.credential.generation.0.saturating_add(Lineage::KEPT as u64));
        self.credential.refresh.is_some() && stored.generation < forgotten
    }

    /// Another process's pair has the place that this one's pair was to take. It may be the live one
    /// all the same, so it is kept: here, and on disk for an operator.
    async fn set_aside(&mut self) {
        error!(
            partner = &*self.name,
            generation = self.credential.generation.0,
            "another replica has stored a token pair in place of the one that this pair came from; this pair is kept aside"
        );
        self.aside = Some(Box::new(self.credential.clone()));
        self.aside_at_risk = true;
        self.secure_aside().await;
    }

    /// Puts what was set aside on disk, if it is in memory and perhaps in the journal only.
    pub(super) async fn secure_aside(&mut self) {
        if let Some(aside) = self.aside.as_ref().filter(|_| self.aside_at_risk) {
            self.aside_at_risk = !self.keep_aside(&aside.record(&*self.clock)).await;
        }
    }

    /// Whether `record` is on disk beside the journal.
    async fn keep_aside(&self, record: &store::Record) -> bool {
        let Some(shared) = self.store.shared() else { return true };
        let kept = shared.set_aside(&self.name, record).await;
        if let Err(failure) = &kept {
            error!(partner = &*self.name, error = %failure, "a token pair could not be kept aside");
        }
        kept.is_ok()
    }

    /// What the store holds is dead, so a pair that was set aside takes its place. It is kept, because
    /// its refusal may have come from something between bearerd and the partner.
    async fn fall_back(&mut self) {
        let refused = self.credential.refresh.as_ref().map(RefreshToken::digest);
        // A partner may have given the same refresh token out twice, and then it is refused in both.
        let other = |aside: &Credential| aside.refresh.as_ref().map(RefreshToken::digest) != refused;
        // Another process may have had it as well, and have gone on from it.
        let last = |aside: &Credential| !self.credential.lineage.contains(&aside.pair());
        let aside = self.aside.take().filter(|aside| !dead(aside) && other(aside) && last(aside));
        self.aside_at_risk = false;
        let Some(aside) = aside else { return };
        self.keep_aside(&self.credential.record(&*self.clock)).await;
        warn!(partner = &*self.name, "the token pair in use is dead; trying the one that was kept aside");
        let mut next = *aside;
        next.lineage.join(&self.credential.lineage);
        next.lineage.push(self.credential.pair());
        self.credential.take_over(next);
        self.credential.unsaved = true;
        self.publish_token();
        let decision = self.decide();
        self.publish_status(decision);
    }

    fn restored(&mut self, loaded: Loaded) -> Credential {
        Credential::restore(loaded, &self.settings.policy, &*self.clock, self.rng.f64())
    }
}

fn dead(credential: &Credential) -> bool {
    credential.refresh.is_none() || matches!(credential.standing, Standing::Refused { .. })
}
