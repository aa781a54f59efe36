//! Room to read into.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How much is read at a time, in bytes. What is left of it serves the next reader.
const ROOM: usize = 16 * 1024;
/// The least that is worth asking the system for.
const LEAST: usize = 4 * 1024;
/// The most that is read at a time of a body whose length is known.
const MOST: usize = 64 * 1024;

/// Room to read into, shared by many connections of one runtime: one that waits holds none.
#[derive(Debug, Default)]
pub struct ReadRoom(RefCell<BytesMut>);

impl ReadRoom {
    /// What comes next on `io`; nothing at its end. `expected` is how much is known to come.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn poll_read(
        &self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        expected: u64,
    ) -> Poll<io::Result<Bytes>> {
        if expected > ROOM as u64 {
            let mut own = BytesMut::with_capacity(expected.min(MOST as u64) as usize);
            ready!(pin!(io.read_buf(&mut own)).poll(cx))?;
            return Poll::Ready(Ok(own.freeze()));
        }
        let mut room = self.0.borrow_mut();
        if room.capacity() < LEAST {
            room.reserve(ROOM);
        }
        ready!(pin!(io.read_buf(&mut *room)).poll(cx))?;
        Poll::Ready(Ok(room.split().freeze()))
    }
}
