//! A partner, a store and a clock that do as they are told, around the real refresher.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, Moment, UnixMillis};
use crate::credential::{Policy, RefreshHandle, Refresher, Settings};
use crate::metrics::Metrics;
use crate::partner::{Cause, Outcome, TokenEndpoint, TokenSet, reason};
use crate::store::{BoxFuture, Loaded, Record, Store, StoreError};
use crate::token::{AccessToken, RefreshToken};

/// Time stands still until it is moved.
#[derive(Default)]
pub(super) struct TestClock(AtomicU64);

impl TestClock {
    pub(super) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Moment {
        Moment(Duration::from_millis(1_000_000 + self.0.load(Ordering::SeqCst)))
    }

    fn wall(&self) -> UnixMillis {
        // 2026-01-02T03:04:05.678Z
        UnixMillis(1_767_323_045_678 + self.0.load(Ordering::SeqCst))
    }
}

/// Remembers the last record, unless it is broken.
#[derive(Default)]
pub(super) struct MemoryStore {
    pub(super) broken: AtomicBool,
    record: Mutex<Option<Record>>,
}

impl MemoryStore {
    /// The refresh token that is held.
    pub(super) fn refresh_token(&self) -> String {
        let record = self.record.lock().unwrap();
        record.as_ref().unwrap().refresh.as_ref().unwrap().expose().to_owned()
    }
}

impl Store for MemoryStore {
    fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>> {
        let record = self.record.lock().unwrap().clone();
        Box::pin(async {
            Ok(record.map(|record| Loaded { record, newer_damaged: false, ..Loaded::default() }))
        })
    }

    fn save<'a>(&'a self, _: &'a str, record: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async {
            if self.broken.load(Ordering::SeqCst) {
                let source = io::Error::from_raw_os_error(28);
                return Err(StoreError::Io { action: "write", path: PathBuf::from("state"), source });
            }
            *self.record.lock().unwrap() = Some(record.clone());
            Ok(())
        })
    }
}

/// Renews every time, unless another answer has been put in.
#[derive(Default)]
pub(super) struct TestEndpoint {
    pub(super) answers: Mutex<VecDeque<Outcome>>,
    calls: AtomicU64,
}

impl TokenEndpoint for TestEndpoint {
    fn refresh<'a>(&'a self, _: &'a RefreshToken, _: Moment) -> BoxFuture<'a, Outcome> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = self.answers.lock().unwrap().pop_front().unwrap_or_else(|| {
            Outcome::Renewed(TokenSet {
                access: AccessToken::parse(&format!("marked-access-{call}")).unwrap(),
                lifetime: Some(Duration::from_secs(600)),
                refresh: Some(RefreshToken::parse(&format!("marked-refresh-{call}")).unwrap()),
            })
        });
        Box::pin(async { outcome })
    }

    fn login(&self, _by: Moment) -> BoxFuture<'_, Outcome> {
        Box::pin(async { Outcome::Refused(Cause { reason: reason::NO_LOGIN, status: None }) })
    }
}

/// A partner with its refresher running.
pub(super) struct Partner {
    pub(super) handle: Arc<RefreshHandle>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) endpoint: Arc<TestEndpoint>,
    _settings: watch::Sender<Settings>,
}

impl Partner {
    /// Runs the refresher of the partner `name`, which begins with `seed`.
    pub(super) async fn start(
        name: &str,
        seed: Option<&str>,
        clock: Arc<TestClock>,
        metrics: &Metrics,
    ) -> Self {
        let (store, endpoint) = (Arc::<MemoryStore>::default(), Arc::<TestEndpoint>::default());
        let policy = Policy {
            ahead: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            grace: Duration::ZERO,
            default_lifetime: Duration::from_secs(600),
        };
        let (settings, watched) = watch::channel(Settings {
            endpoint: Arc::clone(&endpoint) as _,
            policy,
            login: None,
            seed: seed.map(|seed| RefreshToken::parse(seed).unwrap()),
        });
        let counters = metrics.credential(name);
        let rng = fastrand::Rng::with_seed(7);
        let made = Refresher::load(name, watched, Arc::clone(&store) as _, clock, counters, rng).await;
        let (refresher, handle, _) = made.unwrap();
        tokio::spawn(refresher.run());
        if seed.is_some() {
            let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
            handle.usable(deadline).await.unwrap();
        }
        Self { handle, store, endpoint, _settings: settings }
    }
}
