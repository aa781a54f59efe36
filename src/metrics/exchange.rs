//! The numbers of the data path, one set per runtime.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use super::histogram::{Histogram, Totals};
use super::lock;

/// What one runtime counts. A scrape adds all shards up.
///
/// Aligned so that the counters of two runtimes never share a cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Shard {
    connections: [AtomicI64; Side::ALL.len()],
    partners: Mutex<BTreeMap<Box<str>, Arc<ExchangeMetrics>>>,
}

impl Shard {
    /// This runtime's counters for the partner `name`, or for [`NO_PARTNER`](super::NO_PARTNER).
    ///
    /// Takes a lock and searches: to be called when routes are made, not for every request.
    pub fn partner(&self, name: &str) -> Arc<ExchangeMetrics> {
        Arc::clone(lock(&self.partners).entry(name.into()).or_default())
    }

    /// Counts a connection for as long as the guard lives.
    pub fn connected(self: &Arc<Self>, side: Side) -> ConnectionGuard {
        self.connections[side as usize].fetch_add(1, Ordering::Relaxed);
        ConnectionGuard { shard: Arc::clone(self), side }
    }

    pub(super) fn open(&self, side: Side) -> i64 {
        self.connections[side as usize].load(Ordering::Relaxed)
    }

    pub(super) fn partners(&self) -> Vec<(Box<str>, Arc<ExchangeMetrics>)> {
        lock(&self.partners).iter().map(|(name, exchange)| (name.clone(), Arc::clone(exchange))).collect()
    }

    pub(super) fn retain(&self, keep: impl Fn(&str) -> bool) {
        lock(&self.partners).retain(|name, _| keep(name));
    }
}

/// The two sides on which bearerd has connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Applications.
    Client,
    /// Partners.
    Upstream,
}

impl Side {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Client, Self::Upstream];

    /// The value of the label `side`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }
}

/// One open connection.
#[derive(Debug)]
#[must_use = "the connection is counted until this is dropped"]
pub struct ConnectionGuard {
    shard: Arc<Shard>,
    side: Side,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.shard.connections[self.side as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// What one runtime counts for one partner: relaxed atomics only, no lock, and no allocation but
/// for the first exchange that ends in a status class.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ExchangeMetrics {
    server: ByClass,
    client: ByClass,
    replays: [AtomicU64; ReplayResult::ALL.len()],
}

impl ExchangeMetrics {
    /// An application's request was answered with `status`, or with nothing if that is 0,
    /// `duration` after its header had come.
    pub fn server(&self, status: u16, duration: Duration) {
        self.server.observe(status, duration);
    }

    /// A request to the partner was answered with `status`, or with nothing if that is 0, after
    /// `duration`.
    pub fn client(&self, status: u16, duration: Duration) {
        self.client.observe(status, duration);
    }

    /// What became of a request that the partner answered with 401.
    pub fn replay(&self, result: ReplayResult) {
        self.replays[result as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// What became of a request that the partner answered with 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayResult {
    /// Sent again, and answered with something other than 401.
    Accepted,
    /// Sent again, and answered with 401 again.
    RefusedAgain,
    /// Sent again, and the partner gave no usable answer.
    Failed,
    /// Not sent again: the body was longer than the replay limit.
    TooLarge,
    /// Not sent again: other held bodies had taken all of `replay_memory`.
    NoMemory,
    /// Not sent again, and no refresh: refreshes have not helped on this path.
    Held,
    /// Not sent again, and no refresh: too many were asked for of late.
    Budget,
    /// Not sent again: no newer token came in time.
    NoToken,
    /// Not sent again: the token that was refused was one this very request had waited for.
    Fresh,
    /// The client went away before the outcome was known.
    Unfinished,
}

impl ReplayResult {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Self; 10] = [
        Self::Accepted,
        Self::RefusedAgain,
        Self::Failed,
        Self::TooLarge,
        Self::NoMemory,
        Self::Held,
        Self::Budget,
        Self::NoToken,
        Self::Fresh,
        Self::Unfinished,
    ];

    /// The value of the label `result`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::RefusedAgain => "refused_again",
            Self::Failed => "failed",
            Self::TooLarge => "too_large",
            Self::NoMemory => "no_memory",
            Self::Held => "held",
            Self::Budget => "budget",
            Self::NoToken => "no_token",
            Self::Fresh => "fresh",
            Self::Unfinished => "unfinished",
        }
    }
}

/// What all runtimes together counted for one partner.
#[derive(Debug, Default)]
pub(super) struct ExchangeTotals {
    pub(super) server: [Totals; CLASSES.len()],
    pub(super) client: [Totals; CLASSES.len()],
    pub(super) replays: [u64; ReplayResult::ALL.len()],
}

impl ExchangeTotals {
    pub(super) fn add(&mut self, exchange: &ExchangeMetrics) {
        exchange.server.add_to(&mut self.server);
        exchange.client.add_to(&mut self.client);
        for (total, replays) in self.replays.iter_mut().zip(&exchange.replays) {
            *total += replays.load(Ordering::Relaxed);
        }
    }
}

/// The values of the label `code`; the last one stands for no answer.
pub(super) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "none"];

/// A histogram for each status class. Most partners see two or three classes, so each is made when
/// it is first needed: a thousand partners cost about a kilobyte each on every runtime.
#[derive(Debug, Default)]
struct ByClass([OnceLock<Box<Histogram>>; CLASSES.len()]);

impl ByClass {
    fn observe(&self, status: u16, duration: Duration) {
        let class = match status {
            100..600 => usize::from(status / 100) - 1,
            _ => CLASSES.len() - 1,
        };
        self.0[class].get_or_init(Box::default).observe(duration);
    }

    fn add_to(&self, totals: &mut [Totals; CLASSES.len()]) {
        for (totals, histogram) in totals.iter_mut().zip(&self.0) {
            if let Some(histogram) = histogram.get() {
                totals.add(histogram);
            }
        }
    }
}
