//! What requests and operators may ask of a credential.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;

use super::cell::{Token, TokenCell};
use super::command::{Command, ImportError, Pair};
use super::refusals::{Judgement, Refusals};
use super::status::{State, Status};
use crate::clock::{Clock, Moment};
use crate::token::{Digest, Generation};

/// A handle on one partner's refresher. Waiting on it may be given up at any time.
pub struct RefreshHandle {
    cell: Arc<TokenCell>,
    status: watch::Receiver<Status>,
    demand: Arc<Demand>,
    commands: mpsc::Sender<Command>,
    refusals: Mutex<Refusals>,
    /// How many paths `refusals` remembers, so that accepted requests need no lock when there is none.
    paths: AtomicUsize,
    clock: Arc<dyn Clock>,
}

/// What requests want of the refresher.
#[derive(Debug, Default)]
pub(super) struct Demand {
    /// One above the newest generation to which a 401 came back; 0 if none did.
    refused: AtomicU64,
    /// One above the newest generation than which a newer one is wanted; 0 if none is.
    wanted: AtomicU64,
    pub(super) wake: Notify,
}

impl Demand {
    /// Whether a 401 has come back to `generation`.
    pub(super) fn is_refused(&self, generation: Generation) -> bool {
        self.refused.load(Ordering::Acquire) > generation.0
    }

    /// Whether a token newer than `generation` is wanted.
    pub(super) fn is_wanted(&self, generation: Generation) -> bool {
        self.wanted.load(Ordering::Acquire) > generation.0
    }
}

/// No token could be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoToken {
    /// When waiting can help: how long. `None` if only an operator can.
    pub retry_after: Option<Duration>,
}

/// What to do about a 401.
#[derive(Debug)]
pub enum Refusal {
    /// The cell already holds a newer token.
    Newer(Arc<Token>),
    /// A refresh has been asked for.
    Asked(Charge),
    /// The 401 is the answer.
    PassOn(PassOn),
}

/// Why a 401 is passed on without a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PassOn {
    /// Refreshes did not help on this path lately.
    Held,
    /// 401s have asked for too many refreshes.
    Budget,
}

impl RefreshHandle {
    pub(super) fn new(
        cell: Arc<TokenCell>,
        status: watch::Receiver<Status>,
        demand: Arc<Demand>,
        commands: mpsc::Sender<Command>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let refusals = Mutex::new(Refusals::new(clock.now()));
        Self { cell, status, demand, commands, refusals, paths: AtomicUsize::new(0), clock }
    }

    /// The cell that holds the token in use.
    pub fn cell(&self) -> &TokenCell {
        &self.cell
    }

    /// How the credential stands.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Whether a token should not be spent on a request that cannot be sent again: a 401 has come back
    /// to it, or it is about to expire.
    pub fn is_doubtful(&self, generation: Generation) -> bool {
        let dying = self
            .cell
            .load()
            .is_some_and(|token| token.generation == generation && token.doubtful_from <= self.clock.now());
        dying || self.demand.is_refused(generation)
    }

    /// Asks for a token newer than `generation`, which is doubtful, and waits for it.
    pub async fn fresh(&self, generation: Generation, deadline: Instant) -> Result<Arc<Token>, NoToken> {
        self.demand.wanted.fetch_max(generation.next().0, Ordering::AcqRel);
        self.demand.wake.notify_one();
        self.newer(generation, deadline).await
    }

    /// Waits for a token that may be sent, at most until `deadline`.
    pub async fn usable(&self, deadline: Instant) -> Result<Arc<Token>, NoToken> {
        self.demand.wake.notify_one();
        self.wait(deadline, |token, now| token.is_usable(now)).await
    }

    /// Waits for a token newer than `generation`, at most until `deadline`.
    pub async fn newer(&self, generation: Generation, deadline: Instant) -> Result<Arc<Token>, NoToken> {
        self.wait(deadline, |token, now| token.generation > generation && token.is_usable(now)).await
    }

    /// A 401 came back on `path` (without query) to a request that was sent with `sent`.
    pub fn refused(self: &Arc<Self>, path: &str, sent: Generation) -> Refusal {
        let now = self.clock.now();
        if let Some(token) = self.cell.load().filter(|token| token.generation > sent && token.is_usable(now))
        {
            return Refusal::Newer(token);
        }
        let path = Digest::of(&[path.as_bytes()]);
        match self.with_refusals(|refusals| refusals.judge(path, sent, now)) {
            Judgement::Held => Refusal::PassOn(PassOn::Held),
            Judgement::Spent => Refusal::PassOn(PassOn::Budget),
            Judgement::Ask => {
                self.demand.refused.fetch_max(sent.next().0, Ordering::AcqRel);
                self.demand.wake.notify_one();
                Refusal::Asked(Charge { handle: Arc::clone(self), path, sent, settled: false })
            }
        }
    }

    /// A request on `path` was answered with something else than 401 to a token of `generation`.
    pub fn accepted(&self, path: &str, generation: Generation) {
        if self.paths.load(Ordering::Relaxed) > 0 {
            let path = Digest::of(&[path.as_bytes()]);
            self.with_refusals(|refusals| refusals.accepted(path, generation));
        }
    }

    /// Refreshes now, as an operator asks; returns how things stand when a call has ended.
    pub async fn refresh(&self) -> Option<Status> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Refresh(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Takes up a pair that an operator loads; returns once it is durable.
    pub async fn import(&self, pair: Pair) -> Result<Status, ImportError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Import(Box::new(pair), reply)).await.map_err(|_| ImportError::Ended)?;
        answer.await.map_err(|_| ImportError::Ended)?
    }

    async fn wait(
        &self,
        deadline: Instant,
        good: impl Fn(&Token, Moment) -> bool,
    ) -> Result<Arc<Token>, NoToken> {
        let mut status = self.status.clone();
        let wait = async {
            loop {
                // Marked as seen before the cell is read: what is published after that wakes us.
                let stuck = status.borrow_and_update().state == State::ReauthRequired;
                let now = self.clock.now();
                if let Some(token) = self.cell.load().filter(|token| good(token, now)) {
                    return Ok(token);
                }
                if stuck || status.changed().await.is_err() {
                    return Err(NoToken { retry_after: None });
                }
            }
        };
        match tokio::time::timeout_at(deadline, wait).await {
            Ok(result) => result,
            Err(_) => Err(NoToken { retry_after: Some(self.retry_after()) }),
        }
    }

    /// When another attempt is worth a client's while: whole seconds, at least one.
    fn retry_after(&self) -> Duration {
        let until = self.status.borrow().next_at.since(self.clock.now());
        Duration::from_secs(until.as_secs().clamp(0, 59) + 1)
    }

    fn with_refusals<T>(&self, f: impl FnOnce(&mut Refusals) -> T) -> T {
        // Nothing in `Refusals` panics half-way, so a poisoned lock still guards a whole value.
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let result = f(&mut refusals);
        self.paths.store(refusals.paths(), Ordering::Relaxed);
        result
    }
}

impl std::fmt::Debug for RefreshHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RefreshHandle").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

/// A refresh that a 401 asked for, until it is known whether it helped.
///
/// Dropped without a word, because the body could not be sent again or the client has gone, it did
/// not, and the path is held.
#[derive(Debug)]
pub struct Charge {
    handle: Arc<RefreshHandle>,
    path: Digest,
    sent: Generation,
    settled: bool,
}

impl Charge {
    /// Waits for the token that was asked for, at most until `deadline`.
    pub async fn newer(&mut self, deadline: Instant) -> Result<Arc<Token>, NoToken> {
        let result = self.handle.newer(self.sent, deadline).await;
        // Nothing could be tried, and that says nothing of the path.
        self.settled = result.is_err();
        result
    }

    /// The request could not be sent again for a reason that says nothing of the path.
    pub fn forget(mut self) {
        self.settled = true;
    }

    /// The request was sent again with `generation`, and this was the answer.
    pub fn settle(mut self, generation: Generation, accepted: bool) {
        self.settled = true;
        let now = self.handle.clock.now();
        self.handle.with_refusals(|refusals| {
            if accepted {
                refusals.accepted(self.path, generation);
            } else {
                refusals.hold(self.path, generation, now);
            }
        });
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if !self.settled {
            let now = self.handle.clock.now();
            self.handle.with_refusals(|refusals| refusals.hold(self.path, self.sent, now));
        }
    }
}
