//! A histogram of durations in atomics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, from what a loopback partner takes to the longest default deadline.
const BOUNDS: [Duration; 14] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// The last bucket has no bound.
const BUCKETS: usize = BOUNDS.len() + 1;

/// Counts durations. Two cache lines, and aligned so that it shares neither with a neighbour: the
/// prefetcher of common processors fetches lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    /// In microseconds: nanoseconds would overflow after three weeks of ten thousand exchanges at a
    /// time.
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub(super) fn observe(&self, duration: Duration) {
        let bucket = BOUNDS.iter().position(|bound| duration <= *bound).unwrap_or(BOUNDS.len());
        let rounded = u64::from(duration.subsec_nanos() + 500) / 1000;
        let micros = duration.as_secs().saturating_mul(1_000_000).saturating_add(rounded);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }
}

/// What one or more histograms have counted.
#[derive(Debug, Default)]
pub(super) struct Totals {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Totals {
    /// Adds what `histogram` has counted so far.
    pub(super) fn add(&mut self, histogram: &Histogram) {
        for (total, bucket) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
        self.sum = self.sum.wrapping_add(histogram.sum.load(Ordering::Relaxed));
    }

    /// How many durations. Taken from the buckets, so that it always agrees with them.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All durations together, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        Duration::from_micros(self.sum).as_secs_f64()
    }

    /// Each bucket's upper bound in seconds and its own count.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS.iter().map(Duration::as_secs_f64).chain([f64::INFINITY]);
        bounds.zip(self.buckets).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let histogram = Histogram::default();
        for bound in BOUNDS {
            histogram.observe(bound);
            histogram.observe(bound + Duration::from_nanos(1));
        }
        histogram.observe(Duration::ZERO);
        let mut totals = Totals::default();
        totals.add(&histogram);
        assert!(totals.buckets().iter().take(BOUNDS.len()).all(|(_, count)| *count == 2), "{totals:?}");
        assert_eq!(totals.buckets()[BOUNDS.len()], (f64::INFINITY, 1));
        assert_eq!(totals.count(), 2 * BOUNDS.len() as u64 + 1);
    }

    #[test]
    fn bounds_grow() {
        assert!(BOUNDS.is_sorted());
        assert_eq!(BOUNDS[BOUNDS.len() - 1], Duration::from_secs(60));
    }

    #[test]
    fn the_sum_is_in_seconds_and_rounded_to_microseconds() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_nanos(1_500));
        histogram.observe(Duration::from_secs(2));
        let mut totals = Totals::default();
        totals.add(&histogram);
        assert_eq!(totals.seconds(), 2.000_002);
    }

    #[test]
    fn a_histogram_is_two_cache_lines() {
        assert_eq!(size_of::<Histogram>(), 128);
    }
}
