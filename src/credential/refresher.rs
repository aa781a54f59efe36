//! The task that keeps one partner's credential fresh.
//!
//! It alone calls the token endpoint, so the partner sees one call at a time however many requests
//! wait. Each of its states is a method; [`Refresher::run`] only chooses among them.

mod durable;
mod import;
mod pace;
mod share;
mod show;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tracing::{error, info, warn};

use super::Policy;
use super::cell::TokenCell;
use super::command::{Command, Stop};
use super::handle::{Demand, RefreshHandle};
use super::schedule::{Decision, backoff, decide};
use super::state::Credential;
use super::status::{LastCall, State, Status};
use crate::clock::{Clock, Moment, sleep_until};
use crate::metrics::CredentialMetrics;
use crate::partner::{Outcome, TokenEndpoint, TokenSet, reason};
use crate::store::{Intent, Store, StoreError};
use crate::token::{Digest, RefreshToken};

/// What a refresher works with, and a reload may replace.
#[derive(Clone)]
pub struct Settings {
    /// Calls the partner.
    pub endpoint: Arc<dyn TokenEndpoint>,
    /// When to refresh, and what to make of silence.
    pub policy: Policy,
    /// The digest of the login secrets, if a login is configured.
    pub login: Option<Digest>,
    /// The refresh token to begin with.
    pub seed: Option<RefreshToken>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// A credential could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("partner \"{partner}\": {source}")]
pub struct StartError {
    partner: String,
    source: StoreError,
}

/// Keeps one partner's credential fresh. Made by [`Refresher::load`], driven by [`Refresher::run`].
pub struct Refresher {
    name: Arc<str>,
    /// Marks this process's intents.
    owner: u64,
    credential: Credential,
    settings: Settings,
    new_settings: watch::Receiver<Settings>,
    store: Arc<dyn Store>,
    /// Where other processes use the store: notified of what they do.
    changes: Option<Arc<Notify>>,
    /// A pair that another process has overtaken, for the case that what took its place is dead.
    aside: Option<Box<Credential>>,
    /// It is not on disk beside the journal.
    aside_at_risk: bool,
    clock: Arc<dyn Clock>,
    cell: Arc<TokenCell>,
    status: watch::Sender<Status>,
    last: Option<LastCall>,
    demand: Arc<Demand>,
    commands: mpsc::Receiver<Command>,
    /// Operators who wait for the next call to end.
    waiting: Vec<tokio::sync::oneshot::Sender<Status>>,
    metrics: Arc<CredentialMetrics>,
    rng: fastrand::Rng,
}

impl Refresher {
    /// Loads the partner's credential from the store and publishes the access token that it holds, so
    /// that requests are served at once. `rng` draws jitter and the mark of this process's intents.
    pub async fn load(
        name: &str,
        settings: watch::Receiver<Settings>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        metrics: Arc<CredentialMetrics>,
        mut rng: fastrand::Rng,
    ) -> Result<(Self, Arc<RefreshHandle>, Stop), StartError> {
        let failed = |source| StartError { partner: name.to_owned(), source };
        // Of a store that others use as well, first what this process knows of its own: it may have
        // died with a pair in hand.
        let loaded = match store.shared() {
            Some(shared) => shared.recall(name).await.map_err(failed)?,
            None => store.load(name).await.map_err(failed)?,
        };
        let mut new_settings = settings;
        let settings = new_settings.borrow_and_update().clone();
        let mut credential = match loaded {
            Some(loaded) => {
                if loaded.newer_damaged {
                    error!(partner = name, "the newest record is damaged; going on with the one before it");
                }
                if loaded.record.intent.is_some() {
                    warn!(
                        partner = name,
                        "the last run ended in the middle of a refresh; its refresh token may be spent"
                    );
                }
                // Until the store has been seen, nobody knows whether the others have it.
                let unsaved = store.shared().is_some();
                Credential { unsaved, ..Credential::restore(loaded, &settings.policy, &*clock, rng.f64()) }
            }
            None => Credential::default(),
        };
        credential.shared = store.shared().is_some();
        configure(&mut credential, &settings);

        let cell = Arc::new(TokenCell::new());
        let (status, status_seen) = watch::channel(Status {
            state: State::Starting,
            generation: credential.generation,
            expires_at: None,
            persisted: true,
            last: None,
            next_at: clock.now(),
        });
        let demand = Arc::new(Demand::default());
        let (orders, commands) = mpsc::channel(16);
        let handle = Arc::new(RefreshHandle::new(
            Arc::clone(&cell),
            status_seen,
            Arc::clone(&demand),
            orders.clone(),
            Arc::clone(&clock),
        ));
        let changes = store.shared().map(|shared| shared.changes(name));
        let mut refresher = Self {
            name: name.into(),
            changes,
            aside: None,
            aside_at_risk: false,
            owner: rng.u64(..),
            credential,
            settings,
            new_settings,
            store,
            clock,
            cell,
            status,
            last: None,
            demand,
            commands,
            waiting: Vec::new(),
            metrics,
            rng,
        };
        // In a box, because it is rare, and thousands may be loading at once.
        Box::pin(refresher.look_first()).await.map_err(failed)?;
        refresher.publish_token();
        let decision = refresher.decide();
        refresher.publish_status(decision);
        Ok((refresher, handle, Stop::new(orders)))
    }

    /// Runs until it is told to stop. What is under way then is finished first.
    //
    // No `async fn`: its future would have room for the refresher twice, where it was and where it went.
    pub fn run(self) -> impl Future<Output = ()> {
        let mut refresher = Box::new(self);
        async move { refresher.go_on().await }
    }

    async fn go_on(&mut self) {
        loop {
            let decision = self.decide();
            self.publish_status(decision);
            match decision {
                Decision::Sleep(until) => {
                    if !self.idle(until).await {
                        return Box::pin(self.save_once_more()).await;
                    }
                }
                // In boxes, so that a partner at rest has no room taken for what is rare.
                Decision::Refresh => Box::pin(self.refresh()).await,
                Decision::Login => Box::pin(self.login()).await,
                Decision::AdoptSeed => self.adopt_seed(),
                Decision::Save => Box::pin(self.save_again()).await,
            }
        }
    }

    fn decide(&mut self) -> Decision {
        self.credential.refused = self.demand.is_refused(self.credential.generation);
        self.credential.wanted = self.demand.is_wanted(self.credential.generation);
        decide(&self.credential, &self.settings.policy, self.clock.now())
    }

    /// Waits for `until` or for something to happen; false when it is time to end.
    async fn idle(&mut self, until: Moment) -> bool {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(self.status.borrow().clone());
        }
        // The state changes when the token expires, even if there is nothing to do then.
        let expires_at = self.credential.access.as_ref().map(|access| access.expires_at);
        let expires_at = expires_at.filter(|at| *at > self.clock.now()).unwrap_or(Moment::NEVER);
        // Operators first, so that no number of requests keeps them out; what is due comes next in any
        // case. A fixed order also lets a simulation be repeated.
        tokio::select! {
            biased;
            command = self.commands.recv() => match command {
                Some(Command::Refresh(reply)) => {
                    self.credential.order(self.clock.now());
                    // Answered when the call has ended, or by the next turn if none can be made.
                    self.waiting.push(reply);
                }
                Some(Command::Import(pair, reply)) => {
                    let result = Box::pin(self.import(*pair)).await;
                    let _ = reply.send(result);
                }
                Some(Command::Stop) | None => return false,
            },
            changed = self.new_settings.changed() => {
                if changed.is_err() {
                    return false;
                }
                self.settings = self.new_settings.borrow_and_update().clone();
                configure(&mut self.credential, &self.settings);
            }
            () = share::changed(self.changes.as_deref()) => Box::pin(self.look()).await,
            () = self.demand.wake.notified() => {}
            () = sleep_until(&*self.clock, until.min(expires_at)) => {}
        }
        true
    }

    /// Presents the refresh token, once the store has the intent.
    async fn refresh(&mut self) {
        let Some(token) = self.credential.refresh.clone() else { return };
        let now = self.clock.now();
        let intent = Intent {
            generation: self.credential.generation,
            parent: token.digest(),
            owner: self.owner,
            written_at: self.clock.wall(),
            deadline: self.clock.wall_at(now + self.settings.policy.timeout),
        };
        // Durable before the first byte is sent: a crash from here on finds an open intent and knows
        // that the token may be spent. Then decided once more: a store that cannot take the intent
        // forbids the call unless nothing is left to lose, and one that was slow may have used up the
        // partner's grace.
        let Some(by) = self.begin(Some(intent)).await else { return };
        if self.decide() != Decision::Refresh {
            return;
        }
        // In a box, so that those who wait for the store take less room.
        Box::pin(self.present(token, by)).await;
    }

    async fn present(&mut self, token: RefreshToken, by: Moment) {
        let sent_at = self.clock.now();
        let outcome = self.settings.endpoint.refresh(&token, by).await;
        self.account_for("refresh", &outcome, sent_at);
        match outcome {
            Outcome::Renewed(mut set) => {
                self.credential.was_accepted(&token);
                // RFC 6749, section 6: one in whose place none was given goes on.
                set.refresh.get_or_insert(token);
                self.renewed(set, sent_at).await;
            }
            Outcome::NotSent(_) => self.try_later(None).await,
            Outcome::Busy { retry_after, .. } => self.try_later(retry_after).await,
            Outcome::Refused(_) => self.refresh_refused(&token).await,
            Outcome::Unknown(_) => {
                self.credential.perhaps_spent(sent_at);
                self.try_later(None).await;
            }
        }
    }

    /// Starts over. A login spends nothing, so it needs no intent.
    async fn login(&mut self) {
        let Some(by) = self.begin(None).await else { return };
        let sent_at = self.clock.now();
        let outcome = self.settings.endpoint.login(by).await;
        self.account_for("login", &outcome, sent_at);
        match outcome {
            // Whether or not the login brought one, the refresh token before it has had its day.
            Outcome::Renewed(set) => self.renewed(set, sent_at).await,
            Outcome::NotSent(_) | Outcome::Unknown(_) => self.try_later(None).await,
            Outcome::Busy { retry_after, .. } => self.try_later(retry_after).await,
            Outcome::Refused(_) => {
                error!(
                    partner = &*self.name,
                    "the login was refused; it is not tried again until its secret changes or an operator asks"
                );
                self.credential.login_was_refused(self.clock.now());
                self.save_end(Duration::ZERO).await;
            }
        }
    }

    async fn renewed(&mut self, set: TokenSet, sent_at: Moment) {
        let jitter = self.rng.f64();
        self.credential.renewed(set, sent_at, self.clock.now(), &self.settings.policy, jitter);
        // In this order. A crash before the pair is durable finds the intent; a crash after it finds
        // the pair. Published first, a request could use a token that a restart knows nothing of.
        // Where saving fails, serving from memory is the best that is left, and is shown as such.
        self.credential.unsaved = true;
        if let Err(StoreError::Overtaken) = self.save().await {
            self.look().await;
        }
        self.publish_token();
        self.metrics.set_refreshed(self.clock.wall().as_secs_f64());
        info!(partner = &*self.name, generation = self.credential.generation.0, "a new token is in use");
    }

    async fn try_later(&mut self, retry_after: Option<Duration>) {
        let jitter = self.rng.f64();
        let wait = backoff(self.credential.failures + 1, jitter);
        // What the partner asks for is a minimum; the jitter comes on top.
        let wait = retry_after.map_or(wait, |asked| wait.max(asked.mul_f64(1.0 + 0.1 * jitter)));
        self.credential.failed(self.clock.now(), wait);
        self.save_end(wait).await;
    }

    /// Looks whether the store knows better before it believes that the token is dead.
    async fn refresh_refused(&mut self, presented: &RefreshToken) {
        if self.look_for_another(presented).await {
            return;
        }
        let strangers = self.credential.refresh_refused(presented, self.clock.now());
        if strangers > 1 {
            self.metrics.refresh_failed(reason::USED_ELSEWHERE);
            error!(
                partner = &*self.name,
                times = strangers,
                "refresh tokens that were never presented from here are refused again and again; most likely another deployment uses the same credential with a store of its own: give it a credential of its own, or let both use one store of kind \"postgres\""
            );
        }
        if self.credential.state(self.clock.now()) == State::ReauthRequired {
            error!(
                partner = &*self.name,
                "the refresh token was refused; load a new one with `bearerd token import` or a new refresh_token in the configuration"
            );
        }
        self.save_end(Duration::ZERO).await;
    }

    fn adopt_seed(&mut self) {
        if let Some(seed) = self.settings.seed.clone() {
            info!(partner = &*self.name, "taking up the configured refresh token");
            self.credential.adopt_seed(seed);
        }
    }
}

impl std::fmt::Debug for Refresher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refresher").field("name", &self.name).finish_non_exhaustive()
    }
}

fn configure(credential: &mut Credential, settings: &Settings) {
    credential.login = settings.login;
    credential.seed = settings.seed.as_ref().map(RefreshToken::digest);
}
