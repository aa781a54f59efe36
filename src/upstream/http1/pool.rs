//! Connections that wait for their next exchange.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::time::Instant;

use super::Connection;
use crate::clock::turn;
use crate::descriptors::IdlePlace;

/// How many idle connections are kept per partner and runtime. After a burst there are more, as far as
/// there are descriptors, since to close thousands at once would keep requests waiting.
const MAX_IDLE: usize = 1024;

/// How many idle connections are closed by one sweep.
const CLOSED_AT_ONCE: usize = 256;

/// The idle connections to one partner, in one runtime.
pub(in crate::upstream) struct Pool {
    idle: RefCell<Vec<Idle>>,
    /// How long a connection may be idle.
    timeout: Duration,
    /// None is kept any more.
    retired: Cell<bool>,
}

struct Idle {
    connection: Connection,
    since: Instant,
    _place: IdlePlace,
}

impl Pool {
    pub(in crate::upstream) fn new(timeout: Duration) -> Self {
        Self { idle: RefCell::default(), timeout, retired: Cell::new(false) }
    }

    /// The connection that was used last and that the partner has left open.
    pub(in crate::upstream) fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let now = idle.last().map(|_| turn::now())?;
        loop {
            let mut last = idle.pop()?;
            if self.is_fresh(&mut last, now) {
                return Some(last.connection);
            }
        }
    }

    /// Both messages on `connection` have ended: another exchange may follow.
    pub(in crate::upstream) fn give_back(&self, connection: Connection) {
        if !self.retired.get()
            && let Some(place) = IdlePlace::take()
        {
            self.idle.borrow_mut().push(Idle { connection, since: turn::now(), _place: place });
        }
    }

    /// Closes all, and each that comes back.
    pub(in crate::upstream) fn retire(&self) {
        self.retired.set(true);
        self.idle.take();
    }

    /// Closes connections that are too many, the oldest first, that have been idle for too long or that
    /// the partner has closed: a few at a time.
    pub(in crate::upstream) fn sweep(&self, now: Instant) {
        close_some(&mut self.idle.borrow_mut(), |idle| self.is_fresh(idle, now));
    }

    pub(in crate::upstream) fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    fn is_fresh(&self, idle: &mut Idle, now: Instant) -> bool {
        now.duration_since(idle.since) < self.timeout && idle.connection.is_quiet()
    }
}

fn close_some<T>(idle: &mut Vec<T>, mut is_fresh: impl FnMut(&mut T) -> bool) {
    let (mut excess, mut closed) = (idle.len().saturating_sub(MAX_IDLE), 0);
    idle.retain_mut(|one| {
        if closed == CLOSED_AT_ONCE || excess == 0 && is_fresh(one) {
            return true;
        }
        closed += 1;
        excess = excess.saturating_sub(1);
        false
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_idle_connections_are_closed_a_few_at_a_time() {
        let mut idle: Vec<usize> = (0..MAX_IDLE + CLOSED_AT_ONCE + 10).collect();
        for (left, oldest) in [(MAX_IDLE + 10, CLOSED_AT_ONCE), (MAX_IDLE, CLOSED_AT_ONCE + 10)] {
            close_some(&mut idle, |_| true);
            assert_eq!((idle.len(), idle[0]), (left, oldest));
        }
        close_some(&mut idle, |_| true);
        assert_eq!(idle.len(), MAX_IDLE);
        // So are those that their partner has closed.
        close_some(&mut idle, |_| false);
        assert_eq!(idle.len(), MAX_IDLE - CLOSED_AT_ONCE);
        idle.truncate(3);
        let closed = idle[1];
        close_some(&mut idle, |one| *one != closed);
        assert_eq!(idle.len(), 2);
    }
}
