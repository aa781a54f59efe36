//! The memory that bodies held for replay may take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What all bodies held for replay may take together.
#[derive(Debug)]
pub(in crate::proxy) struct ReplayMemory {
    used: AtomicUsize,
}

impl ReplayMemory {
    pub(in crate::proxy) fn new() -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0) })
    }

    /// A share of `bytes`, unless that would make it more than `limit`.
    pub(super) fn reserve(self: &Arc<Self>, bytes: usize, limit: usize) -> Option<Reservation> {
        self.take(bytes, limit).then(|| Reservation { memory: Arc::clone(self), bytes })
    }

    fn take(&self, bytes: usize, limit: usize) -> bool {
        let fits = self.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= limit;
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

/// A share of the memory, given back on drop.
#[derive(Debug)]
pub(in crate::proxy) struct Reservation {
    memory: Arc<ReplayMemory>,
    bytes: usize,
}

impl Reservation {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it larger, unless that would make all of it more than `limit`.
    pub(super) fn grow(&mut self, bytes: usize, limit: usize) -> bool {
        let fits = self.memory.take(bytes, limit);
        if fits {
            self.bytes += bytes;
        }
        fits
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_exact_and_comes_back() {
        let memory = ReplayMemory::new();
        let mut share = memory.reserve(60, 100).unwrap();
        assert!(memory.reserve(41, 100).is_none());
        assert!(!share.grow(41, 100) && share.grow(40, 100));
        assert_eq!((share.bytes(), memory.used.load(Ordering::Relaxed)), (100, 100));
        assert!(memory.reserve(1, 100).is_none());
        drop(share);
        assert_eq!((memory.used.load(Ordering::Relaxed), Arc::strong_count(&memory)), (0, 1));
    }
}
