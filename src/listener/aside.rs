//! What is seldom of interest to a task that is often woken.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is polled only after it has itself been woken, and not each time that its task
/// is. The task must be one that keeps its waker, as a spawned one does.
#[derive(Debug)]
pub(super) struct Aside<F> {
    future: Pin<Box<F>>,
    flag: Arc<Flag>,
    waker: Waker,
}

#[derive(Debug)]
struct Flag {
    woken: AtomicBool,
    task: OnceLock<Waker>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}

impl<F: Future> Aside<F> {
    pub(super) fn new(future: F) -> Self {
        let flag = Arc::new(Flag { woken: AtomicBool::new(true), task: OnceLock::new() });
        Self { future: Box::pin(future), waker: Waker::from(Arc::clone(&flag)), flag }
    }

    /// Puts another future in the place of the one that is ready.
    pub(super) fn set(&mut self, future: F) {
        self.future.set(future);
        self.flag.woken.store(true, Ordering::Relaxed);
    }
}

impl<F: Future> Future for Aside<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.flag.task.get_or_init(|| cx.waker().clone());
        // Before the poll, so that a wake during it is not lost.
        if !self.flag.woken.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.flag.woken.store(false, Ordering::Relaxed);
        let Self { future, waker, .. } = &mut *self;
        future.as_mut().poll(&mut Context::from_waker(waker))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_polled_once_and_then_only_when_woken_itself() {
        let polls = Cell::new(0);
        let counted = |mut ready: oneshot::Receiver<u8>| {
            let polls = &polls;
            std::future::poll_fn(move |cx| {
                polls.set(polls.get() + 1);
                Pin::new(&mut ready).poll(cx)
            })
        };
        let (tell, told) = oneshot::channel();
        let mut aside = Aside::new(counted(told));
        for _ in 0..10 {
            let timer = tokio::time::sleep(Duration::from_secs(1));
            tokio::select! {
                _ = &mut aside => panic!("nobody has told it"),
                () = timer => {}
            }
        }
        assert_eq!(polls.get(), 1);
        tell.send(1).unwrap();
        assert_eq!((&mut aside).await, Ok(1));
        assert_eq!(polls.get(), 2);
        let (tell, told) = oneshot::channel();
        aside.set(counted(told));
        let late = async {
            tokio::task::yield_now().await;
            tell.send(2).unwrap();
        };
        assert_eq!(tokio::join!(&mut aside, late).0, Ok(2));
    }
}
