//! A refresher with everything that it works with.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{FakeClock, FakePartner, FakeStore, lock, policy, refresh};
use crate::clock::Clock;
use crate::credential::{Policy, RefreshHandle, Refresher, Settings, State, Status, Stop};
use crate::metrics::Metrics;
use crate::partner::TokenEndpoint;
use crate::store::Store;
use crate::token::{Digest, Generation};

/// What a refresher begins with.
pub(in crate::credential) struct Setup {
    pub(in crate::credential) store: Arc<FakeStore>,
    pub(in crate::credential) partner: Arc<FakePartner>,
    pub(in crate::credential) clock: Arc<FakeClock>,
    pub(in crate::credential) policy: Policy,
    pub(in crate::credential) login: Option<Digest>,
    pub(in crate::credential) seed: Option<&'static str>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            store: Arc::default(),
            partner: FakePartner::new(),
            clock: FakeClock::new(),
            policy: policy(),
            login: None,
            seed: Some("seed"),
        }
    }
}

impl Setup {
    /// The digest of login secrets that are numbered.
    pub(in crate::credential) fn login(number: u8) -> Option<Digest> {
        Some(Digest([number; 32]))
    }

    pub(in crate::credential) fn settings(&self) -> Settings {
        Settings {
            endpoint: Arc::clone(&self.partner) as Arc<dyn TokenEndpoint>,
            policy: self.policy.clone(),
            login: self.login,
            seed: self.seed.map(refresh),
        }
    }

    /// Loads and runs a refresher.
    pub(in crate::credential) async fn start(self) -> Rig {
        let metrics = Metrics::new("0");
        let (settings, seen) = watch::channel(self.settings());
        let (refresher, handle, stop) = Refresher::load(
            "acme",
            seen,
            Arc::clone(&self.store) as Arc<dyn Store>,
            Arc::clone(&self.clock) as Arc<dyn Clock>,
            metrics.credential("acme"),
            fastrand::Rng::with_seed(7),
        )
        .await
        .unwrap();
        lock(&self.store.inner).watched = Some(Arc::clone(&handle));
        lock(&self.partner.inner).store = Some(Arc::clone(&self.store));
        let task = tokio::spawn(refresher.run());
        Rig { setup: self, metrics, settings, handle, stop, task }
    }
}

/// A refresher at work, and all that it works with.
pub(in crate::credential) struct Rig {
    pub(in crate::credential) setup: Setup,
    pub(in crate::credential) metrics: Arc<Metrics>,
    pub(in crate::credential) settings: watch::Sender<Settings>,
    pub(in crate::credential) handle: Arc<RefreshHandle>,
    pub(in crate::credential) stop: Stop,
    pub(in crate::credential) task: JoinHandle<()>,
}

impl Rig {
    /// Lets time pass until `condition` holds, at most two hours.
    pub(in crate::credential) async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..72_000 {
            if condition(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never: {what}; {:?}, presented {:?}", self.status(), self.setup.partner.presented());
    }

    pub(in crate::credential) async fn until_state(&self, state: State) {
        self.until(state.as_str(), |rig| rig.status().state == state).await;
    }

    /// Waits until a token of `generation` is in use.
    pub(in crate::credential) async fn until_generation(&self, generation: u64) {
        self.until("generation", |rig| rig.status().generation == Generation(generation)).await;
    }

    pub(in crate::credential) fn status(&self) -> Status {
        self.handle.status()
    }

    pub(in crate::credential) fn presented(&self) -> Vec<String> {
        self.setup.partner.presented()
    }

    /// The access token in the cell.
    pub(in crate::credential) fn token(&self) -> Option<String> {
        self.handle.cell().load().map(|token| token.access.expose().to_owned())
    }

    pub(in crate::credential) fn deadline(&self, after: Duration) -> Instant {
        Instant::now() + after
    }

    /// The value that is shown of one of this partner's numbers; `labels` come before `partner`'s.
    pub(in crate::credential) fn shown(&self, name: &str, labels: &str) -> Option<f64> {
        let text = self.metrics.encode();
        let of = |line: &&str| {
            line.strip_prefix("bearerd_").and_then(|line| line.strip_prefix(name)).is_some_and(|rest| {
                rest.starts_with('{') && rest.contains("\"acme\"") && rest.contains(labels)
            })
        };
        text.lines().find(of)?.rsplit(' ').next()?.parse().ok()
    }

    /// The process dies here.
    pub(in crate::credential) async fn crash(self) -> Setup {
        self.task.abort();
        let _ = self.task.await;
        self.setup
    }
}
