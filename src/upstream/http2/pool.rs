//! The connections of one upstream, which its exchanges share.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::connection::Connection;
use crate::partner::{ConnectError, Transport};
use crate::upstream::{Counted, NoConnection};

/// How many connections there may be, per partner and runtime. When all of them are full, requests
/// wait for a stream within their deadlines; how many can wait is bounded by
/// `server.max_in_flight`.
const MAX_CONNECTIONS: usize = 64;

/// On how many in a row the partner may want no exchange at all (RFC 9113 section 5.1.2), before no other is
/// tried. More than one, because it may be a part of the partner only that wants none.
const MAX_SHUT: usize = 2;

/// What becomes of a connection that is being made.
type Made = Option<Result<(), NoConnection>>;

/// Tells whoever waits for a connection what became of it.
pub(in crate::upstream) type SayMade = watch::Sender<Made>;

/// The connections.
#[derive(Default)]
pub(in crate::upstream) struct Pool {
    connections: RefCell<Vec<Rc<Connection>>>,
    /// One is being made, by a task of its own: whoever waits for it may go away at any time.
    being_made: RefCell<Option<watch::Receiver<Made>>>,
    room: Rc<Notify>,
}

impl Pool {
    /// Begins HTTP/2 on `io`, and adds it.
    pub(in crate::upstream) async fn add(&self, io: Transport, counted: Counted) -> Result<(), ConnectError> {
        let connection = Connection::begin(io, counted, Rc::clone(&self.room)).await?;
        self.connections.borrow_mut().push(Rc::new(connection));
        Ok(())
    }

    /// The first connection on which one more exchange may begin, so that those behind it can come
    /// to rest.
    pub(in crate::upstream) fn with_room(&self) -> Option<Rc<Connection>> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.is_open());
        connections.iter().find(|connection| connection.has_room()).cloned()
    }

    /// Lets go of a connection that takes no more exchanges.
    pub(in crate::upstream) fn remove(&self, connection: &Rc<Connection>) {
        self.connections.borrow_mut().retain(|other| !Rc::ptr_eq(other, connection));
    }

    /// Waits until there may be room: one connection more, which `make` makes unless that is being
    /// done already, or one exchange less. An error if there is no connection, and none can be had.
    pub(in crate::upstream) async fn more_room<F>(
        &self,
        make: impl FnOnce(SayMade) -> F,
    ) -> Result<(), NoConnection>
    where
        F: Future<Output = ()> + 'static,
    {
        if self.is_full() {
            self.room.notified().await;
            return Ok(());
        }
        let mut made = self.being_made(make);
        let result = tokio::select! {
            () = self.room.notified() => return Ok(()),
            made = made.wait_for(Option::is_some) => match made {
                Ok(made) => made.clone().unwrap_or(Ok(())),
                // Its task has ended without a word: so does this wait, and the next one begins.
                Err(_) => return Ok(()),
            },
        };
        if result.is_err() && !self.connections.borrow().is_empty() {
            self.room.notified().await;
            return Ok(());
        }
        result
    }

    fn is_full(&self) -> bool {
        let connections = self.connections.borrow();
        let shut = connections.iter().rev().take_while(|connection| connection.is_shut());
        connections.len() >= MAX_CONNECTIONS || shut.count() >= MAX_SHUT
    }

    fn being_made<F>(&self, make: impl FnOnce(SayMade) -> F) -> watch::Receiver<Made>
    where
        F: Future<Output = ()> + 'static,
    {
        let mut being_made = self.being_made.borrow_mut();
        // One that has been made, or whose task has ended, is not being made.
        if let Some(made) = being_made.as_ref().filter(|made| matches!(made.has_changed(), Ok(false))) {
            return made.clone();
        }
        let (say, made) = watch::channel(None);
        tokio::task::spawn_local(make(say));
        being_made.insert(made).clone()
    }

    /// Lets go of all.
    pub(in crate::upstream) fn retire(&self) {
        self.connections.take();
    }

    /// Lets go of connections that have been without an exchange for `time`, or have ended.
    pub(in crate::upstream) fn sweep(&self, time: Duration, now: Instant) {
        let stays = |connection: &Rc<Connection>| connection.is_open() && !connection.is_idle_for(time, now);
        self.connections.borrow_mut().retain(stays);
    }

    /// How many connections there are.
    pub(in crate::upstream) fn len(&self) -> usize {
        self.connections.borrow().len()
    }
}
