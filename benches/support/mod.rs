//! A credential without a partner and without a disk: what is measured is everything else.

use std::sync::Arc;
use std::time::Duration;

use bearerd::clock::{Moment, SystemClock};
use bearerd::credential::{Pair, Policy, RefreshHandle, Refresher, Settings};
use bearerd::metrics::Metrics;
use bearerd::partner::{Cause, Outcome, TokenEndpoint};
use bearerd::store::{BoxFuture, Loaded, Record, Store, StoreError};
use bearerd::token::{AccessToken, RefreshToken};
use tokio::sync::watch;

const HOUR: Duration = Duration::from_secs(3600);

/// A credential whose tokens come from [`publish`](Self::publish) alone.
pub(crate) struct TestCredential {
    pub(crate) handle: Arc<RefreshHandle>,
    refresher: Option<Refresher>,
    /// The refresher ends when this goes.
    _settings: watch::Sender<Settings>,
}

impl TestCredential {
    /// [`drive`](Self::drive) must run for anything to be published.
    pub(crate) async fn new(metrics: &Metrics) -> Self {
        let policy = Policy {
            ahead: Duration::from_secs(60),
            timeout: Duration::from_secs(10),
            grace: Duration::ZERO,
            default_lifetime: HOUR,
        };
        let settings = Settings { endpoint: Arc::new(NoPartner), policy, login: None, seed: None };
        let (settings, seen) = watch::channel(settings);
        let loaded = Refresher::load(
            "bench",
            seen,
            Arc::new(NoDisk),
            SystemClock::shared(),
            metrics.credential("bench"),
            fastrand::Rng::with_seed(1),
        );
        let (refresher, handle, _) = loaded.await.unwrap();
        Self { handle, refresher: Some(refresher), _settings: settings }
    }

    /// What makes the refresher go.
    pub(crate) fn drive(&mut self) -> impl Future<Output = ()> + Send + 'static {
        self.refresher.take().unwrap().run()
    }
}

/// Puts the token of 1 KiB that `number` stands for in use, through the credential's own command.
pub(crate) async fn publish(handle: &RefreshHandle, number: u64) {
    let refresh = RefreshToken::parse("refresh").unwrap();
    let access = AccessToken::parse(&token(number)).unwrap();
    handle.import(Pair { refresh, access: Some((access, HOUR)) }).await.unwrap();
}

/// The access token that `number` stands for.
pub(crate) fn token(number: u64) -> String {
    format!("{number:0>1024}")
}

struct NoPartner;

impl TokenEndpoint for NoPartner {
    fn refresh<'a>(&'a self, _: &'a RefreshToken, by: Moment) -> BoxFuture<'a, Outcome> {
        self.login(by)
    }

    fn login(&self, _: Moment) -> BoxFuture<'_, Outcome> {
        Box::pin(async { Outcome::NotSent(Cause { reason: "none", status: None }) })
    }
}

struct NoDisk;

impl Store for NoDisk {
    fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    fn save<'a>(&'a self, _: &'a str, _: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}
