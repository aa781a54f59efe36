//! Exchanges under way go first.
//!
//! Where more is asked than a runtime gets through, it would begin everything that has come, and find
//! the answers behind all of it: hundreds of exchanges would be under way at the same time, each on a
//! connection of its own to the partner, and what they touch, here and in the system, would have left
//! the near caches before an answer is looked at. So only a few begin before the runtime asks again
//! what has come. All others wait here in their order, and their requests in their sockets.
//!
//! Nobody waits for a partner here: those who wait begin, a few at a time, as soon as the answers
//! that have come are on their way.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::runtime::{Handle, RuntimeMetrics};
use tokio::task::{spawn_local, yield_now};

/// How many begin at a time. With fewer the runtime asks more often, and with more the first has left
/// the near caches when the last has begun.
const AT_A_TIME: usize = 16;

/// What all connections of a runtime pass before each exchange.
#[derive(Debug)]
pub(super) struct Turnstile {
    /// How many may pass before the runtime asks what has come. None while somebody waits.
    left: Cell<usize>,
    /// How often the runtime had slept when that was last looked at. When it sleeps nobody waits.
    slept: Cell<u64>,
    runtime: RuntimeMetrics,
    waiting: RefCell<VecDeque<Waker>>,
    /// The number of the first who waits.
    first: Cell<u64>,
}

/// Where a connection is.
#[derive(Debug)]
pub(super) enum Place {
    /// It has passed.
    Inside,
    /// It waits for a request.
    Outside,
    /// It has one, and this number among those who wait.
    Waiting(u64),
}

impl Turnstile {
    /// The one of the runtime that this is called in, which must be a current-thread one that can
    /// spawn local tasks.
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            left: Cell::new(AT_A_TIME),
            slept: Cell::new(0),
            runtime: Handle::current().metrics(),
            waiting: RefCell::default(),
            first: Cell::new(0),
        })
    }

    /// Ready, and inside, when the connection at `place` may read its next request.
    pub(super) fn poll_pass(self: &Rc<Self>, place: &mut Place, cx: &mut Context<'_>) -> Poll<()> {
        match *place {
            Place::Inside => return Poll::Ready(()),
            Place::Outside if !self.has_room() => {
                *place = Place::Waiting(self.wait(cx.waker()));
                return Poll::Pending;
            }
            Place::Outside => self.left.update(|left| left - 1),
            Place::Waiting(number) => {
                if let Some(at) = number.checked_sub(self.first.get()) {
                    // Something else has woken it, or another task polls it now.
                    self.waiting.borrow_mut()[at as usize].clone_from(cx.waker());
                    return Poll::Pending;
                }
            }
        }
        *place = Place::Inside;
        Poll::Ready(())
    }

    fn has_room(&self) -> bool {
        let slept = self.runtime.worker_park_count(0);
        if self.slept.replace(slept) != slept {
            self.left.set(AT_A_TIME);
        }
        self.left.get() > 0
    }

    /// The number of one more who waits.
    fn wait(self: &Rc<Self>, waker: &Waker) -> u64 {
        let waiting = &mut *self.waiting.borrow_mut();
        if waiting.is_empty() {
            let this = Rc::clone(self);
            spawn_local(async move {
                // Goes on when the runtime has asked what has come, and behind all that has.
                while !this.waiting.borrow().is_empty() {
                    yield_now().await;
                    this.let_pass();
                }
            });
        }
        waiting.push_back(waker.clone());
        self.first.get() + waiting.len() as u64 - 1
    }

    /// The first of those who wait.
    fn let_pass(&self) {
        let waiting = &mut *self.waiting.borrow_mut();
        let count = waiting.len().min(AT_A_TIME);
        waiting.drain(..count).for_each(Waker::wake);
        self.first.update(|first| first + count as u64);
        self.left.set(if waiting.is_empty() { AT_A_TIME - count } else { 0 });
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn passes(turnstile: &Rc<Turnstile>, place: &mut Place) -> bool {
        turnstile.poll_pass(place, &mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[tokio::test(flavor = "local")]
    async fn a_few_pass_at_once_and_the_others_in_their_order_when_it_has_been_asked_what_has_come() {
        let turnstile = Turnstile::new();
        let (passed, looks) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
        let clients: Vec<_> = (0..3 * AT_A_TIME + 1)
            .map(|client| {
                let (turnstile, passed, looks) = (turnstile.clone(), passed.clone(), looks.clone());
                spawn_local(async move {
                    let mut place = Place::Outside;
                    poll_fn(|cx| turnstile.poll_pass(&mut place, cx)).await;
                    passed.borrow_mut().push((client, looks.get()));
                })
            })
            .collect();
        // Whoever yields is woken each time that it has been asked.
        let counted = Rc::clone(&looks);
        let counter = spawn_local(async move {
            loop {
                yield_now().await;
                counted.update(|looks| looks + 1);
            }
        });
        for client in clients {
            client.await.unwrap();
        }
        counter.abort();
        let passed = passed.borrow();
        let order: Vec<usize> = passed.iter().map(|(client, _)| *client).collect();
        assert_eq!(order, (0..3 * AT_A_TIME + 1).collect::<Vec<_>>());
        for look in 0..=3 {
            let at_a_time = passed.iter().filter(|(_, seen)| *seen == look).count();
            assert_eq!(at_a_time, if look < 3 { AT_A_TIME } else { 1 }, "after {look} looks: {passed:?}");
        }
    }

    #[tokio::test(flavor = "local")]
    async fn who_is_woken_by_something_else_keeps_its_place() {
        let turnstile = Turnstile::new();
        while turnstile.has_room() {
            assert!(passes(&turnstile, &mut Place::Outside));
        }
        let (mut one, mut other) = (Place::Outside, Place::Outside);
        assert!(!passes(&turnstile, &mut one) && !passes(&turnstile, &mut other));
        assert!(!passes(&turnstile, &mut one) && !passes(&turnstile, &mut other));
        assert_eq!(turnstile.waiting.borrow().len(), 2);
        turnstile.let_pass();
        assert!(passes(&turnstile, &mut other) && passes(&turnstile, &mut one));
        // What it has passed it need not pass again.
        assert!(passes(&turnstile, &mut one));
        assert_eq!(turnstile.left.get(), AT_A_TIME - 2);
    }

    #[tokio::test(flavor = "local")]
    async fn nobody_waits_after_the_runtime_has_slept() {
        let turnstile = Turnstile::new();
        while turnstile.has_room() {
            assert!(passes(&turnstile, &mut Place::Outside));
        }
        let (runtime, slept) = (turnstile.runtime.clone(), turnstile.slept.get());
        let (wake, woken) = tokio::sync::oneshot::channel();
        let waker = std::thread::spawn(move || {
            while runtime.worker_park_count(0) == slept {
                std::thread::yield_now();
            }
            wake.send(()).unwrap();
        });
        woken.await.unwrap();
        assert!(turnstile.has_room());
        waker.join().unwrap();
    }
}
