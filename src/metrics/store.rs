//! The numbers of the session with the database that several bearerds share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What is shown of the session. Written by whoever keeps it up.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    connected: AtomicBool,
    sessions: AtomicU64,
}

impl StoreMetrics {
    /// There is a session from now on.
    pub fn begun(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
        self.connected.store(true, Ordering::Relaxed);
    }

    /// There is none, until the next one begins.
    pub fn ended(&self) {
        self.connected.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }
}
