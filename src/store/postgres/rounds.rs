//! When it is time to look at the rows, because a notification may have been missed.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Moment};

/// How often rows that have changed lately are looked at, whether or not a notification came.
const REVIEW: Duration = Duration::from_secs(30);

/// How often the clock is looked at. A process that has been away knows it after so long.
const TICK: Duration = Duration::from_secs(1);

/// Between two ticks as much as this has passed only if nothing ran: the machine was suspended or has
/// moved, or the process was stopped. A database that has heard nothing for that long may have given
/// its session up, and what it had to say with it.
const AWAY: Duration = Duration::from_secs(5);

/// Which rows are to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Those that have changed lately.
    Lately,
    /// All.
    All,
}

pub(super) struct Rounds {
    clock: Arc<dyn Clock>,
    ticked: Moment,
    looked: Moment,
}

impl Rounds {
    /// The first look has just been had.
    pub(super) fn new(clock: &Arc<dyn Clock>) -> Self {
        let now = clock.now();
        Self { clock: Arc::clone(clock), ticked: now, looked: now }
    }

    /// Waits until it is time for the next look. Nothing is lost if that is given up.
    pub(super) async fn next(&mut self) -> Look {
        loop {
            tokio::time::sleep(TICK).await;
            let now = self.clock.now();
            let was_away = now.since(self.ticked) >= AWAY;
            self.ticked = now;
            if was_away || now.since(self.looked) >= REVIEW {
                self.looked = now;
                return if was_away { Look::All } else { Look::Lately };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;
    use crate::clock::UnixMillis;

    /// The runtime's time, and what the machine has slept.
    struct Machine(Instant, Mutex<Duration>);

    impl Clock for Machine {
        fn now(&self) -> Moment {
            Moment(self.0.elapsed() + *self.1.lock().unwrap())
        }

        fn wall(&self) -> UnixMillis {
            UnixMillis::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_changed_lately_is_looked_at_twice_a_minute() {
        let machine: Arc<dyn Clock> = Arc::new(Machine(Instant::now(), Mutex::default()));
        let mut rounds = Rounds::new(&machine);
        for round in 1..=3 {
            assert_eq!(rounds.next().await, Look::Lately);
            assert_eq!(machine.now().0, REVIEW * round);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn s26_after_a_suspend_everything_is_looked_at_within_a_second() {
        let machine = Arc::new(Machine(Instant::now(), Mutex::default()));
        let clock: Arc<dyn Clock> = machine.clone();
        let mut rounds = Rounds::new(&clock);
        let begun = Instant::now();
        let suspend = async {
            tokio::time::sleep(Duration::from_millis(7_500)).await;
            *machine.1.lock().unwrap() += Duration::from_secs(600);
        };
        let (look, ()) = tokio::join!(rounds.next(), suspend);
        assert_eq!((look, begun.elapsed()), (Look::All, Duration::from_secs(8)));
        assert_eq!(rounds.next().await, Look::Lately);
        assert_eq!(begun.elapsed(), Duration::from_secs(8) + REVIEW);
    }

    #[tokio::test(start_paused = true)]
    async fn s26_a_process_that_was_stopped_looks_at_everything_too() {
        let machine: Arc<dyn Clock> = Arc::new(Machine(Instant::now(), Mutex::default()));
        let mut rounds = Rounds::new(&machine);
        // The runtime's timers go on meanwhile, and nobody hears them.
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(rounds.next().await, Look::All);
    }
}
