//! What happens on a client's connection, and the clocks that it is held to.
//!
//! One timer per connection does all of it, and in HTTP/1 also tells an exchange that its time is
//! over. It is not moved when something happens; when it fires, it looks at what has happened and is
//! set anew. It never sleeps longer than the shortest of the limits, so it is never late.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::clock::turn;

/// How long an idle connection is still listened to in a drain, because its client may have sent a
/// request before it can know.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How long a connection that has been asked to end may take for it.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);

/// How long a client may take for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) header: Duration,
    pub(super) idle: Duration,
    /// From a header to the head of its answer.
    pub(super) request: Duration,
    /// Without a byte in either direction while exchanges are under way.
    pub(super) still: Duration,
}

/// What happens on a connection.
#[derive(Debug)]
pub(super) struct Activity {
    /// The exchanges under way.
    under_way: Cell<u32>,
    /// When the header that is being read began, if one is.
    header: Cell<Option<Instant>>,
    /// Since when there has been nothing to do, or since when no byte has moved.
    since: Cell<Instant>,
    /// Bytes have moved since the timer fired last.
    moved: Cell<bool>,
    /// In HTTP/2 bytes do not mean a request.
    multiplexed: Cell<bool>,
    /// Since when the next answer is the last, if it is.
    parting: Cell<Option<Instant>>,
    /// When the exchange under way must have been answered, if this connection's timer tells it.
    due: Cell<Option<Instant>>,
    /// That time is over.
    overdue: Cell<bool>,
    /// When all exchanges so far must have been answered. Only then is it stillness that ends them: a
    /// reload may have given them more time than this connection's limits know of.
    last_due: Cell<Instant>,
    /// When the timer fires.
    fires: Cell<Instant>,
}

/// What the timer finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    Again,
    Close,
    Farewell,
}

impl Activity {
    pub(super) fn new() -> Self {
        let now = turn::now();
        Self {
            under_way: Cell::new(0),
            // The time for the first header begins with the connection.
            header: Cell::new(Some(now)),
            since: Cell::new(now),
            moved: Cell::new(false),
            multiplexed: Cell::new(false),
            parting: Cell::new(None),
            due: Cell::new(None),
            overdue: Cell::new(false),
            last_due: Cell::new(now),
            fires: Cell::new(now),
        }
    }

    /// Bytes came or went.
    pub(super) fn moved(&self, came: bool) {
        if self.under_way.get() > 0 {
            self.moved.set(true);
        } else if self.multiplexed.get() && self.is_parting() && !came {
            // The library has taken the last answers, and they are on their way.
            self.since.set(turn::now());
        } else if self.multiplexed.get() || self.header.get().is_some() {
            // Bytes do not mean a request, or it is timed already.
        } else if came {
            self.header.set(Some(turn::now()));
        } else {
            // The last of an answer is on its way.
            self.since.set(turn::now());
        }
    }

    /// A header is complete. The answer's head is due at `deadline`.
    pub(super) fn begin(self: &Rc<Self>, multiplexed: bool, deadline: Instant) -> UnderWay {
        self.under_way.update(|under_way| under_way + 1);
        self.header.set(None);
        self.moved.set(true);
        self.multiplexed.set(multiplexed);
        // Among others it needs a timer of its own, and so it does if its time is over before the
        // connection's timer fires: a reload has made it shorter.
        let own_timer = multiplexed || deadline < self.fires.get();
        self.due.set((!own_timer).then_some(deadline));
        self.overdue.set(false);
        self.last_due.set(self.last_due.get().max(deadline));
        UnderWay { activity: Rc::clone(self), timer: own_timer.then(|| Box::pin(sleep_until(deadline))) }
    }

    /// Whether a header has begun to come.
    #[cfg(test)]
    pub(super) fn reads_header(&self) -> bool {
        self.header.get().is_some()
    }

    pub(super) fn is_parting(&self) -> bool {
        self.parting.get().is_some()
    }

    /// The next answer is the last.
    pub(super) fn part(&self) {
        self.parting.set(Some(self.parting.get().unwrap_or_else(turn::now)));
    }

    /// Whether its exchanges are those of HTTP/2, whose client is told up to which stream it was heard.
    pub(super) fn is_multiplexed(&self) -> bool {
        self.multiplexed.get()
    }

    /// Whether nothing is under way and the connection has had all the time to end that it gets: not
    /// much without a byte, and not without end for a client that only keeps it busy.
    pub(super) fn is_overdue_to_part(&self, limits: &Limits) -> bool {
        let Some(asked) = self.parting.get() else { return false };
        let asked = turn::now().duration_since(asked);
        self.under_way.get() == 0
            && (asked >= FAREWELL && self.is_idle_for(FAREWELL) || asked >= limits.still)
    }

    /// When to look again at a connection that is to end; the timer is set to it.
    pub(super) fn linger(&self) -> Instant {
        self.fires_at(turn::now() + LINGER)
    }

    /// `look`, or when an exchange is due, if that is earlier.
    fn fires_at(&self, look: Instant) -> Instant {
        let fires = self.due.get().map_or(look, |due| look.min(due));
        self.fires.set(fires);
        fires
    }

    /// Whether no exchange has been under way for so long. A header may be on its way.
    pub(super) fn is_idle_for(&self, time: Duration) -> bool {
        self.under_way.get() == 0 && turn::now().duration_since(self.since.get()) >= time
    }

    fn end(&self) {
        let left = self.under_way.get() - 1;
        self.under_way.set(left);
        if left == 0 {
            self.since.set(turn::now());
            self.due.set(None);
            // Its time to end begins when it can.
            self.parting.update(|asked| asked.map(|_| turn::now()));
        }
    }

    /// What is due, and whether it is.
    pub(super) fn look(&self, limits: &Limits) -> Look {
        let now = turn::now();
        let over = |since: Instant, limit: Duration| now.duration_since(since) >= limit;
        if self.under_way.get() > 0 {
            if self.moved.replace(false) {
                self.since.set(now);
            }
            // By the timer and not by the clock, which is ahead of it: what the exchange waits for may be
            // timed to the same moment, and says better what that means.
            if self.due.get().is_some_and(|due| due <= self.fires.get()) {
                self.due.set(None);
                self.overdue.set(true);
            }
            let still = over(self.since.get(), limits.still) && now >= self.last_due.get();
            return if still { Look::Close } else { Look::Again };
        }
        match self.header.get() {
            None if over(self.since.get(), limits.idle) => Look::Farewell,
            Some(header) if over(header, limits.header) => Look::Close,
            _ => Look::Again,
        }
    }

    /// When to look again; the timer is set to it.
    pub(super) fn next_look(&self, limits: &Limits) -> Instant {
        let since = self.since.get();
        let over = match self.header.get() {
            _ if self.under_way.get() > 0 => (since + limits.still).max(self.last_due.get()),
            None => since + limits.idle,
            Some(header) => header + limits.header,
        };
        let shortest = limits.header.min(limits.idle).min(limits.request).min(limits.still);
        self.fires_at(over.min(turn::now() + shortest))
    }
}

/// An exchange, for as long as it is under way. As a future it is ready when the time for its
/// answer is over.
#[derive(Debug)]
pub(super) struct UnderWay {
    activity: Rc<Activity>,
    /// Where the connection's timer does not tell.
    timer: Option<Pin<Box<Sleep>>>,
}

impl UnderWay {
    /// Whether its answer is the last.
    pub(super) fn is_last(&self) -> bool {
        self.activity.is_parting()
    }
}

impl Future for UnderWay {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { activity, timer } = &mut *self;
        match timer {
            Some(timer) => timer.as_mut().poll(cx),
            // Whoever polls this is the task that looks, so it need not be woken.
            None if !activity.overdue.get() => Poll::Pending,
            None => Poll::Ready(()),
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.activity.end();
    }
}

#[cfg(test)]
mod tests;
