//! The one source of time.
//!
//! Lifetimes run on a clock that goes on while the machine is suspended (`CLOCK_BOOTTIME`), so that
//! a token which expired in the meantime is known to be expired on waking. Wall time serves only
//! across restarts and for people. Everything that needs either takes a [`Clock`], so that tests
//! own time.

pub mod turn;

use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// A point on the boot-time clock: the time since some fixed point long before the machine started,
/// suspend included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

impl Moment {
    /// A moment that never comes.
    pub const NEVER: Self = Self(Duration::MAX);

    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// Saturates at [`Moment::NEVER`].
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(rhs))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    /// Saturates at the start of the clock.
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(rhs))
    }
}

/// Wall time in milliseconds since 1970-01-01 UTC. It may jump, so nothing but records and reports
/// use it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// This time as seconds, for metrics.
    pub fn as_secs_f64(self) -> f64 {
        Duration::from_millis(self.0).as_secs_f64()
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Now, on the clock that lifetimes run on.
    fn now(&self) -> Moment;

    /// Now, on the wall.
    fn wall(&self) -> UnixMillis;

    /// The wall time at which `moment` is, was or will be, as far as can be told now.
    fn wall_at(&self, moment: Moment) -> UnixMillis {
        let (now, wall) = (self.now(), self.wall().0);
        let ahead = u64::try_from(moment.since(now).as_millis()).unwrap_or(u64::MAX);
        let behind = u64::try_from(now.since(moment).as_millis()).unwrap_or(u64::MAX);
        UnixMillis(wall.saturating_add(ahead).saturating_sub(behind))
    }
}

/// The system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl SystemClock {
    /// A shared handle on it.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let now = clock_gettime(ClockId::Boottime);
        let secs = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
        Moment(AT_BOOT + Duration::new(secs, nanos))
    }

    fn wall(&self) -> UnixMillis {
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the clock that everything else is told to use"
        )]
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Sleeps until `clock` has reached `moment`.
///
/// The runtime's timers stand still during suspend, so a long sleep is cut into slices, after each
/// of which the clock is asked again: on waking from suspend this is late by one slice at most.
pub async fn sleep_until(clock: &dyn Clock, moment: Moment) {
    const SLICE: Duration = Duration::from_secs(10);
    loop {
        let left = moment.since(clock.now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(SLICE)).await;
    }
}

/// What the clock shows when the machine starts. Not zero, so that a time before that is a moment
/// too: after a reboot records tell of such times, and cut off at zero they would seem recent.
const AT_BOOT: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_moments_before_the_machine_started() {
        let day = Duration::from_secs(24 * 3600);
        let now = SystemClock.now();
        let before_boot = now - (now.since(Moment(AT_BOOT)) + day);
        assert_eq!(Moment(AT_BOOT).since(before_boot), day);
    }

    #[test]
    fn moments_saturate() {
        assert_eq!(Moment::NEVER + Duration::from_secs(1), Moment::NEVER);
        assert_eq!(Moment::default() - Duration::from_secs(1), Moment::default());
        assert_eq!(Moment::default().since(Moment::NEVER), Duration::ZERO);
    }

    #[test]
    fn wall_at_looks_both_ways() {
        struct Fixed;
        impl Clock for Fixed {
            fn now(&self) -> Moment {
                Moment(Duration::from_secs(100))
            }
            fn wall(&self) -> UnixMillis {
                UnixMillis(1_000_000)
            }
        }
        assert_eq!(Fixed.wall_at(Moment(Duration::from_secs(110))), UnixMillis(1_010_000));
        assert_eq!(Fixed.wall_at(Moment(Duration::from_secs(90))), UnixMillis(990_000));
    }
}
