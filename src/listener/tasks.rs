//! The tasks that carry the exchanges of an HTTP/2 connection, each with a clock of its own.
//!
//! What moves on the connection says nothing of one exchange among many. And a client that takes no
//! more of an answer is not asked for anything that could fail: the library waits for room, and looks
//! at nothing else meanwhile. So it is the task as a whole that is given up, which resets its stream.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::task::spawn_local;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock::turn;

/// Runs the tasks of one connection on this thread.
#[derive(Debug, Clone)]
pub(super) struct Tasks {
    /// How long a client may take nothing of an answer. Longer than any other clock lets an answer stand
    /// still, so that only the client can be the cause.
    still: Duration,
    next: Rc<RefCell<Option<Rc<Progress>>>>,
}

/// How far an exchange has come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// When something of the answer was taken last; `None` before it begins.
    taken: Cell<Option<Instant>>,
}

impl Progress {
    /// Something of the answer is taken.
    pub(super) fn take(&self) {
        self.taken.set(Some(turn::now()));
    }
}

impl Tasks {
    pub(super) fn new(still: Duration) -> Self {
        Self { still, next: Rc::default() }
    }

    /// The progress of an exchange whose task is the next to be run, which the library sees to as soon
    /// as it has the exchange.
    pub(super) fn progress(&self) -> Rc<Progress> {
        let progress = Rc::<Progress>::default();
        self.next.replace(Some(Rc::clone(&progress)));
        progress
    }
}

impl<F: Future<Output = ()> + 'static> Executor<F> for Tasks {
    fn execute(&self, task: F) {
        match self.next.take() {
            Some(progress) => {
                let task = Box::pin(task);
                spawn_local(Watched { task, progress, still: self.still, timer: None });
            }
            None => drop(spawn_local(task)),
        }
    }
}

/// A task that ends when nothing of its answer has been taken for too long.
struct Watched<F> {
    task: Pin<Box<F>>,
    progress: Rc<Progress>,
    still: Duration,
    /// Made when the answer first has to wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { task, progress, still, timer } = &mut *self;
        if turn::run(|| task.as_mut().poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        while let Some(taken) = progress.taken.get() {
            let due = taken + *still;
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use tokio::time::{advance, sleep};

    use super::*;

    const STILL: Duration = Duration::from_secs(10);

    fn watched(task: impl Future<Output = ()>, progress: &Rc<Progress>) -> Watched<impl Future<Output = ()>> {
        Watched { task: Box::pin(task), progress: Rc::clone(progress), still: STILL, timer: None }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_as_long_as_some_of_it_is_taken() {
        let progress = Rc::<Progress>::default();
        let begun = Instant::now();
        let answering = Rc::clone(&progress);
        let task = async move {
            // The head is timed elsewhere.
            sleep(5 * STILL).await;
            for _ in 0..5 {
                answering.take();
                sleep(STILL - Duration::from_secs(1)).await;
            }
            answering.take();
            pending().await
        };
        watched(task, &progress).await;
        assert_eq!(begun.elapsed(), 5 * STILL + 5 * (STILL - Duration::from_secs(1)) + STILL);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ends_by_itself_needs_no_timer() {
        let progress = Rc::<Progress>::default();
        let mut task = watched(std::future::ready(()), &progress);
        progress.take();
        advance(2 * STILL).await;
        poll_fn(|cx| Pin::new(&mut task).poll(cx)).await;
        assert!(task.timer.is_none());
    }
}
