//! A clock, a store and a partner for the tests: in memory, on the paused clock, scripted.

mod rig;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

pub(super) use self::rig::{Rig, Setup};
use super::{Policy, RefreshHandle};
use crate::clock::{Clock, Moment, UnixMillis};
use crate::partner::{Cause, Outcome, TokenEndpoint, TokenSet, reason};
use crate::store::{BoxFuture, Loaded, Record, Store, StoreError};
use crate::token::{AccessToken, Generation, RefreshToken};

/// How long the fake partner's access tokens live.
pub(super) const LIFE: Duration = Duration::from_secs(600);

/// Where the fake clock begins: long after zero, as the real one does.
pub(super) const START: Moment = Moment(Duration::from_secs(1_000_000_000));

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(super) fn policy() -> Policy {
    Policy { ahead: secs(60), timeout: secs(10), grace: Duration::ZERO, default_lifetime: secs(300) }
}

pub(super) fn access(token: &str) -> AccessToken {
    AccessToken::parse(token).unwrap()
}

pub(super) fn refresh(token: &str) -> RefreshToken {
    RefreshToken::parse(token).unwrap()
}

pub(super) fn set(access_token: &str, refresh_token: &str) -> TokenSet {
    TokenSet {
        access: access(access_token),
        lifetime: Some(LIFE),
        refresh: Some(refresh_token).filter(|token| !token.is_empty()).map(refresh),
    }
}

pub(super) fn cause() -> Cause {
    Cause { reason: reason::CLOSED, status: None }
}

/// The paused runtime's time, and a wall clock that can be set.
pub(super) struct FakeClock {
    started: Instant,
    wall: Mutex<u64>,
    suspended: Mutex<Duration>,
}

impl FakeClock {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            wall: Mutex::new(1_700_000_000_000),
            suspended: Mutex::default(),
        })
    }

    /// The machine was asleep for so long: the runtime's timers know nothing of it.
    pub(super) fn suspend(&self, time: Duration) {
        *lock(&self.suspended) += time;
        self.set_wall_forward(time);
    }

    pub(super) fn set_wall_forward(&self, by: Duration) {
        *lock(&self.wall) += u64::try_from(by.as_millis()).unwrap();
    }

    pub(super) fn set_wall_back(&self, by: Duration) {
        *lock(&self.wall) -= u64::try_from(by.as_millis()).unwrap();
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Moment {
        START + self.started.elapsed() + *lock(&self.suspended)
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(*lock(&self.wall) + u64::try_from(self.started.elapsed().as_millis()).unwrap())
    }
}

/// Keeps every record that was saved. The handle on the refresher shows what was published by then.
#[derive(Default)]
pub(super) struct FakeStore {
    inner: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    records: Vec<Record>,
    newer_damaged: bool,
    /// The next saves fail, so many of them.
    failures: usize,
    attempts: usize,
    delay: Duration,
    watched: Option<Arc<RefreshHandle>>,
    /// For every save: its generation, and the cell's while it was saved.
    published: Vec<(Generation, Option<Generation>)>,
}

impl FakeStore {
    pub(super) fn holding(record: Record) -> Arc<Self> {
        let store = Self::default();
        lock(&store.inner).records.push(record);
        Arc::new(store)
    }

    pub(super) fn fail(&self, saves: usize) {
        lock(&self.inner).failures = saves;
    }

    pub(super) fn damage(&self) {
        lock(&self.inner).newer_damaged = true;
    }

    /// Saves take so long from now on.
    pub(super) fn slow(&self, delay: Duration) {
        lock(&self.inner).delay = delay;
    }

    /// Somebody else's save.
    pub(super) fn put(&self, record: Record) {
        lock(&self.inner).records.push(record);
    }

    pub(super) fn saves(&self) -> usize {
        lock(&self.inner).records.len()
    }

    pub(super) fn attempts(&self) -> usize {
        lock(&self.inner).attempts
    }

    pub(super) fn newest(&self) -> Record {
        lock(&self.inner).records.last().unwrap().clone()
    }

    pub(super) fn published(&self) -> Vec<(Generation, Option<Generation>)> {
        lock(&self.inner).published.clone()
    }
}

impl Store for FakeStore {
    fn load<'a>(&'a self, _partner: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            let inner = lock(&self.inner);
            let newer_damaged = inner.newer_damaged;
            Ok(inner.records.last().cloned().map(|record| Loaded {
                record,
                newer_damaged,
                ..Loaded::default()
            }))
        })
    }

    fn save<'a>(&'a self, _partner: &'a str, record: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let delay = lock(&self.inner).delay;
            tokio::time::sleep(delay).await;
            tokio::task::yield_now().await;
            let mut inner = lock(&self.inner);
            inner.attempts += 1;
            if inner.failures > 0 {
                inner.failures -= 1;
                return Err(store_error());
            }
            let seen = inner.watched.as_ref().and_then(|handle| handle.cell().load());
            inner.published.push((record.generation, seen.map(|token| token.generation)));
            inner.records.push(record.clone());
            inner.newer_damaged = false;
            Ok(())
        })
    }
}

pub(super) fn store_error() -> StoreError {
    let source = io::Error::from(io::ErrorKind::StorageFull);
    StoreError::Io { action: "write", path: "state".into(), source }
}

/// Answers as scripted; once the script is over, with new pairs: `a1` and `r1`, `a2` and `r2`, ...
pub(super) struct FakePartner {
    inner: Mutex<Desk>,
    /// A permit for every call that may be answered.
    gate: Semaphore,
}

#[derive(Default)]
struct Desk {
    script: VecDeque<Outcome>,
    presented: Vec<String>,
    /// What the store held when a refresh token arrived.
    intents: Vec<bool>,
    logins: usize,
    issued: usize,
    in_flight: usize,
    delay: Duration,
    store: Option<Arc<FakeStore>>,
}

impl FakePartner {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), gate: Semaphore::new(Semaphore::MAX_PERMITS >> 1) })
    }

    /// The next calls end so, in this order, whichever kind they are.
    pub(super) fn answer(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        lock(&self.inner).script.extend(outcomes);
    }

    /// Calls take so long from now on.
    pub(super) fn slow(&self, delay: Duration) {
        lock(&self.inner).delay = delay;
    }

    pub(super) fn close_gate(&self) {
        self.gate.forget_permits(usize::MAX);
    }

    pub(super) fn open_gate(&self) {
        self.gate.add_permits(1_000_000);
    }

    /// The refresh tokens that were presented, in order.
    pub(super) fn presented(&self) -> Vec<String> {
        lock(&self.inner).presented.clone()
    }

    /// For every refresh: whether its intent was durable when it arrived.
    pub(super) fn intents(&self) -> Vec<bool> {
        lock(&self.inner).intents.clone()
    }

    pub(super) fn logins(&self) -> usize {
        lock(&self.inner).logins
    }

    pub(super) fn in_flight(&self) -> usize {
        lock(&self.inner).in_flight
    }

    async fn call(&self) -> Outcome {
        let _call = {
            let mut inner = lock(&self.inner);
            inner.in_flight += 1;
            assert_eq!(inner.in_flight, 1, "one call at a time");
            InFlight(self)
        };
        let delay = lock(&self.inner).delay;
        tokio::time::sleep(delay).await;
        tokio::task::yield_now().await;
        self.gate.acquire().await.unwrap().forget();
        let mut inner = lock(&self.inner);
        inner.script.pop_front().unwrap_or_else(|| {
            inner.issued += 1;
            Outcome::Renewed(set(&format!("a{}", inner.issued), &format!("r{}", inner.issued)))
        })
    }
}

struct InFlight<'a>(&'a FakePartner);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        lock(&self.0.inner).in_flight -= 1;
    }
}

impl TokenEndpoint for FakePartner {
    fn refresh<'a>(&'a self, token: &'a RefreshToken, _by: Moment) -> BoxFuture<'a, Outcome> {
        let mut inner = lock(&self.inner);
        inner.presented.push(token.expose().to_owned());
        let record = inner.store.as_ref().filter(|store| store.saves() > 0).map(|store| store.newest());
        let intent = record.and_then(|record| record.intent);
        inner.intents.push(intent.is_some_and(|intent| intent.parent == token.digest()));
        Box::pin(self.call())
    }

    fn login(&self, _by: Moment) -> BoxFuture<'_, Outcome> {
        lock(&self.inner).logins += 1;
        Box::pin(self.call())
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}
