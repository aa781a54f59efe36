//! What bearerd counts, and how a scrape sees it.
//!
//! There are two kinds of numbers. Those of a credential change a few times an hour and live in one
//! [`CredentialMetrics`] per partner. Those of the data path change with every request, so each
//! runtime counts in a [`Shard`] of its own, whose cache lines no other runtime writes, and a
//! scrape adds the shards up.
//!
//! What always holds: no label comes from a request. The values of `partner` are the configured
//! names, and the empty one for requests that matched no partner; all others come from lists in
//! this crate.

mod credential;
mod exchange;
mod expose;
mod histogram;
mod process;
mod store;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

pub use self::credential::{CREDENTIAL_STATES, CredentialMetrics};
pub use self::exchange::{ConnectionGuard, ExchangeMetrics, ReplayResult, Shard, Side};
pub use self::store::StoreMetrics;

/// The `Content-Type` of what [`Metrics::encode`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The name that stands for requests which matched no partner.
pub const NO_PARTNER: &str = "";

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    inner: Arc<Inner>,
    registry: Registry,
}

impl Metrics {
    /// Nothing counted yet. `version` is shown as `bearerd_build_info`.
    pub fn new(version: &str) -> Arc<Self> {
        let inner = Arc::new(Inner {
            version: version.to_owned(),
            credentials: Mutex::default(),
            shards: Mutex::default(),
            dropped_lines: OnceLock::new(),
            store: OnceLock::new(),
        });
        let mut registry = Registry::with_prefix("bearerd");
        registry.register_collector(Box::new(Arc::clone(&inner)));
        Arc::new(Self { inner, registry })
    }

    /// All of it in the OpenMetrics text format, of type [`CONTENT_TYPE`].
    ///
    /// Reads `/proc/self` for the `process_` metrics, so it belongs on the control runtime.
    pub fn encode(&self) -> String {
        let mut process = Registry::default();
        process.register_collector(Box::new(process::Process));
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a String cannot fail, and our collectors return no error of their own.
        let _ = text::encode_registry(&mut text, &self.registry);
        let _ = text::encode_registry(&mut text, &process);
        let _ = text::encode_eof(&mut text);
        text
    }

    /// The numbers of the credential of the partner `name`; the same ones each time it is asked
    /// for.
    pub fn credential(&self, name: &str) -> Arc<CredentialMetrics> {
        let mut credentials = lock(&self.inner.credentials);
        Arc::clone(credentials.entry(name.into()).or_default())
    }

    /// Forgets the partners that `keep` does not name. What still holds their metrics may go on
    /// counting, but nobody sees it.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        lock(&self.inner.credentials).retain(|name, _| keep(name));
        for shard in lock(&self.inner.shards).iter() {
            shard.retain(|name| name == NO_PARTNER || keep(name));
        }
    }

    /// A new shard, for one runtime.
    pub fn shard(&self) -> Arc<Shard> {
        let shard = Arc::new(Shard::default());
        lock(&self.inner.shards).push(Arc::clone(&shard));
        shard
    }

    /// From now on `read` tells how many lines of the log were dropped. Only the first call counts.
    pub fn watch_dropped_lines(&self, read: impl Fn() -> u64 + Send + Sync + 'static) {
        let _ = self.inner.dropped_lines.set(Box::new(read));
    }

    /// From now on the session that `store` counts is shown. Only the first call counts; without one
    /// there is no such session, and nothing is shown.
    pub fn watch_store(&self, store: Arc<StoreMetrics>) {
        let _ = self.inner.store.set(store);
    }

    /// Whether there is a session with the database, if one is watched.
    pub fn store_connected(&self) -> Option<bool> {
        self.inner.store.get().map(|store| store.is_connected())
    }
}

/// What a scrape reads.
struct Inner {
    version: String,
    credentials: Mutex<BTreeMap<Box<str>, Arc<CredentialMetrics>>>,
    shards: Mutex<Vec<Arc<Shard>>>,
    dropped_lines: OnceLock<Box<dyn Fn() -> u64 + Send + Sync>>,
    store: OnceLock<Arc<StoreMetrics>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("version", &self.version).finish_non_exhaustive()
    }
}

/// Nothing is done under these locks that could leave a value half written, so a panic elsewhere
/// does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
