//! The numbers of one partner's credential.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::histogram::Histogram;
use super::lock;

/// The states of a credential, as [`CredentialMetrics::set_state`] takes them.
pub const CREDENTIAL_STATES: [&str; 5] = ["starting", "valid", "degraded", "expired", "reauth_required"];

/// How a refresh can end. Shown as 0 before it first happens: a counter that begins at 1 hides its
/// first increase from `increase()`.
const RESULTS: [&str; 5] = ["renewed", "not_sent", "busy", "refused", "unknown"];

/// What is shown of one partner's credential. Written by its refresher only.
#[derive(Debug)]
pub struct CredentialMetrics {
    /// Index into [`CREDENTIAL_STATES`].
    state: AtomicUsize,
    generation: AtomicU64,
    expiration: OptionalSeconds,
    refreshed: OptionalSeconds,
    persisted: AtomicBool,
    /// By the order of [`RESULTS`].
    refreshes: [AtomicU64; RESULTS.len()],
    failures: Mutex<BTreeMap<&'static str, u64>>,
    pub(super) duration: Histogram,
}

impl Default for CredentialMetrics {
    fn default() -> Self {
        Self {
            state: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
            expiration: OptionalSeconds::default(),
            refreshed: OptionalSeconds::default(),
            // There is nothing yet that could be lost.
            persisted: AtomicBool::new(true),
            refreshes: Default::default(),
            failures: Mutex::default(),
            duration: Histogram::default(),
        }
    }
}

impl CredentialMetrics {
    /// The state is now `state`, one of [`CREDENTIAL_STATES`]; any other word changes nothing.
    pub fn set_state(&self, state: &'static str) {
        let index = CREDENTIAL_STATES.iter().position(|known| *known == state);
        debug_assert!(index.is_some(), "{state} is not a state of a credential");
        if let Some(index) = index {
            self.state.store(index, Ordering::Relaxed);
        }
    }

    /// The generation of the access token that is held.
    pub fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Ordering::Relaxed);
    }

    /// When the access token that is held expires, in seconds since 1970; `None` while none is
    /// held.
    pub fn set_expiration(&self, seconds: Option<f64>) {
        self.expiration.set(seconds);
    }

    /// When the last new token arrived, in seconds since 1970.
    pub fn set_refreshed(&self, seconds: f64) {
        self.refreshed.set(Some(seconds));
    }

    /// Whether the token pair that is held is in the store too.
    pub fn set_persisted(&self, persisted: bool) {
        self.persisted.store(persisted, Ordering::Relaxed);
    }

    /// A refresh or login call has ended after `duration`. `result` is one of `renewed`, `not_sent`,
    /// `busy`, `refused` and `unknown`; any other word counts only the duration.
    pub fn refresh_ended(&self, result: &'static str, duration: Duration) {
        let index = RESULTS.iter().position(|known| *known == result);
        debug_assert!(index.is_some(), "{result} is no way for a call to end");
        if let Some(index) = index {
            self.refreshes[index].fetch_add(1, Ordering::Relaxed);
        }
        self.duration.observe(duration);
    }

    /// A refresh did not bring a token. `reason` is one word from a closed list.
    pub fn refresh_failed(&self, reason: &'static str) {
        *lock(&self.failures).entry(reason).or_default() += 1;
    }

    pub(super) fn state(&self) -> &'static str {
        CREDENTIAL_STATES[self.state.load(Ordering::Relaxed)]
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(super) fn expiration(&self) -> Option<f64> {
        self.expiration.value()
    }

    pub(super) fn refreshed(&self) -> Option<f64> {
        self.refreshed.value()
    }

    pub(super) fn persisted(&self) -> bool {
        self.persisted.load(Ordering::Relaxed)
    }

    pub(super) fn refreshes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.into_iter().zip(self.refreshes.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    pub(super) fn failures(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.failures).clone()
    }
}

/// Seconds as the bits of an `f64`; NaN means none.
#[derive(Debug)]
struct OptionalSeconds(AtomicU64);

impl Default for OptionalSeconds {
    fn default() -> Self {
        Self(AtomicU64::new(f64::NAN.to_bits()))
    }
}

impl OptionalSeconds {
    fn set(&self, seconds: Option<f64>) {
        self.0.store(seconds.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
    }

    fn value(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Ordering::Relaxed))).filter(|seconds| !seconds.is_nan())
    }
}
