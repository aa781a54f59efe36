//! One look at the clock for everything that is held to a limit in a turn.
//!
//! A task's turn takes microseconds, and on the way of a request half a dozen things are held to
//! limits of milliseconds and more: the time at which the turn began does for all. What is measured,
//! as the time that a request took, wants a look of its own where it begins or ends within a turn.
//!
//! This is the runtime's clock, which its timers follow. Lifetimes are another matter: see
//! [`Clock`](super::Clock).

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static BEGUN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs `turn`, in which [`now`] is the time at which it began.
pub fn run<T>(turn: impl FnOnce() -> T) -> T {
    let _end = End(BEGUN.replace(Some(Instant::now())));
    turn()
}

/// When the turn that is running began. Outside of any, now.
pub fn now() -> Instant {
    BEGUN.get().unwrap_or_else(Instant::now)
}

/// A turn's end, if it ends in a panic too.
struct End(Option<Instant>);

impl Drop for End {
    fn drop(&mut self) {
        BEGUN.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_stands_still_in_a_turn_and_in_no_other_place() {
        let begun = Instant::now();
        let step = Duration::from_secs(1);
        // A turn that could wait would be none, so the clock is moved by a future that needs no runtime.
        let pass = || {
            let mut passing = std::pin::pin!(advance(step));
            let _ = passing.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        };
        run(|| {
            pass();
            assert_eq!((now(), Instant::now()), (begun, begun + step));
            // One in another, as where a task is polled by hand.
            assert_eq!(run(now), begun + step);
            assert_eq!(now(), begun);
        });
        assert_eq!(now(), begun + step);
        let panicked = catch_unwind(AssertUnwindSafe(|| run(|| panic!("in a turn"))));
        pass();
        assert!(panicked.is_err() && now() == begun + 2 * step);
    }
}
