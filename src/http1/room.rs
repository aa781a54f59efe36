//! Room to read into.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::spare::Spare;

/// How much is read at a time, in bytes. What is left of it serves the next reader.
const ROOM: usize = 16 * 1024;
/// The least that is worth asking the system for.
const LEAST: usize = 4 * 1024;
/// From this size on, in bytes, what is known to come is read into room of its own.
const LARGE: u64 = 32 * 1024;
/// How much that is, in bytes: enough for 64 KiB and the head in front of them. A reading that does
/// not fill its room has taken all that there is, and no other is needed to learn that.
const OWN: usize = 64 * 1024 + LEAST;
/// How many of those that nobody uses a runtime keeps for a while.
const SPARES: usize = 64;

/// Room to read into, shared by many connections of one runtime: one that waits holds none.
#[derive(Debug)]
pub struct ReadRoom {
    shared: RefCell<BytesMut>,
    /// Room that was a connection's own. If it were given back the system would take it, and each
    /// page of the next would cost a fault.
    spare: RefCell<Spare<BytesMut>>,
}

impl Default for ReadRoom {
    fn default() -> Self {
        Self { shared: RefCell::default(), spare: RefCell::new(Spare::new(SPARES)) }
    }
}

/// Room of one connection's own, for as long as a large message comes: so that it is in one piece,
/// and takes one reading if all of it is there.
#[derive(Debug, Default)]
pub struct OwnRoom {
    room: BytesMut,
    /// A part of the message is in it.
    begun: bool,
}

impl ReadRoom {
    /// What comes next on `io`; nothing at its end.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn poll_read(
        &self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Bytes>> {
        let mut room = self.shared.borrow_mut();
        make_room(&mut room);
        ready!(pin!(io.read_buf(&mut *room)).poll(cx))?;
        Poll::Ready(Ok(room.split().freeze()))
    }

    /// The same, where so many bytes are `expected`: if they are many, in `own` room.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn poll_expected(
        &self,
        io: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        own: &mut OwnRoom,
        expected: u64,
    ) -> Poll<io::Result<Bytes>> {
        let goes_on = own.begun && expected <= own.room.capacity() as u64;
        if expected < LARGE && !goes_on {
            return self.poll_read(io, cx);
        }
        if !goes_on && own.room.capacity() < LEAST {
            self.give_back(own);
            let spare = self.spare.borrow_mut().take();
            own.room = spare.unwrap_or_else(|| BytesMut::with_capacity(OWN));
        }
        let Poll::Ready(read) = pin!(io.read_buf(&mut own.room)).poll(cx) else {
            // Whoever waits holds none, but for what the message is held in anyway.
            if !goes_on {
                self.give_back(own);
            }
            return Poll::Pending;
        };
        if read? >= LEAST {
            own.begun = true;
            return Poll::Ready(Ok(own.room.split().freeze()));
        }
        // Little is no reason to hold so much.
        let mut room = self.shared.borrow_mut();
        make_room(&mut room);
        room.extend_from_slice(&own.room);
        own.room.clear();
        Poll::Ready(Ok(room.split().freeze()))
    }

    /// Takes the room back from a connection that reads no large message any more.
    pub fn give_back(&self, own: &mut OwnRoom) {
        let OwnRoom { mut room, .. } = std::mem::take(own);
        if room.capacity() > 0 && room.try_reclaim(OWN) {
            self.spare.borrow_mut().keep(room);
        }
    }

    /// Frees what nobody has needed for a while; to be called now and then.
    pub fn sweep(&self) {
        self.spare.borrow_mut().sweep();
    }
}

fn make_room(room: &mut BytesMut) {
    if room.capacity() < LEAST {
        room.reserve(ROOM);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncWriteExt as _, DuplexStream};

    use super::*;

    /// A connection on which `bytes` have come.
    async fn io(bytes: &[u8]) -> (DuplexStream, DuplexStream) {
        let (near, mut far) = tokio::io::duplex(1024 * 1024);
        far.write_all(bytes).await.unwrap();
        (near, far)
    }

    /// What there is to read; nothing if that would have to be waited for.
    async fn read(room: &ReadRoom, io: &mut DuplexStream, own: &mut OwnRoom, expected: u64) -> Option<Bytes> {
        poll_fn(|cx| match room.poll_expected(io, cx, own, expected) {
            Poll::Ready(read) => Poll::Ready(Some(read.unwrap())),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    fn numbered(count: usize) -> Vec<u8> {
        (0..count).map(|number| (number % 251) as u8).collect()
    }

    #[tokio::test]
    async fn what_is_known_to_be_large_takes_one_reading_with_its_head() {
        let (room, mut own, bytes) = (ReadRoom::default(), OwnRoom::default(), numbered(66_000));
        let (mut near, _far) = io(&bytes).await;
        assert_eq!(read(&room, &mut near, &mut own, 65_536).await.unwrap(), bytes);
    }

    #[tokio::test]
    async fn a_large_message_that_comes_in_parts_lies_in_one_piece() {
        let (room, mut own) = (ReadRoom::default(), OwnRoom::default());
        let (mut near, mut far) = io(&[]).await;
        let (mut parts, mut left) = (Vec::new(), 60_000);
        while left > 0 {
            far.write_all(&[b'x'; 12_000]).await.unwrap();
            let part = read(&room, &mut near, &mut own, left).await.unwrap();
            left -= part.len() as u64;
            parts.push(part);
            assert!(read(&room, &mut near, &mut own, left.max(1)).await.is_none(), "nothing has come");
        }
        let begins: Vec<usize> = parts.iter().map(|part| part.as_ptr() as usize - 12_000).collect();
        let ends: Vec<usize> = parts.iter().map(|part| part.as_ptr() as usize).collect();
        assert_eq!(begins[1..], ends[..ends.len() - 1]);
    }

    #[tokio::test]
    async fn who_waits_for_a_large_message_holds_no_room() {
        let (room, mut own) = (ReadRoom::default(), OwnRoom::default());
        let (mut near, mut far) = io(&[]).await;
        assert!(read(&room, &mut near, &mut own, 60_000).await.is_none());
        assert_eq!((own.room.capacity(), room.spare.borrow().len()), (0, 1));
        // Nor does one whose first word has come.
        far.write_all(b"POST").await.unwrap();
        let first = read(&room, &mut near, &mut own, 60_000).await.unwrap();
        assert!(read(&room, &mut near, &mut own, 60_000).await.is_none());
        assert_eq!((own.room.capacity(), room.spare.borrow().len()), (0, 1));
        assert_eq!(first, "POST");
    }

    #[tokio::test]
    async fn little_of_a_large_message_is_held_in_the_room_of_all() {
        let room = ReadRoom::default();
        let mut firsts = Vec::new();
        for _ in 0..2 {
            let (mut near, _far) = io(b"some").await;
            firsts.push(read(&room, &mut near, &mut OwnRoom::default(), 60_000).await.unwrap());
        }
        assert_eq!(firsts, ["some", "some"]);
        assert_eq!(firsts[0].as_ptr() as usize + 4, firsts[1].as_ptr() as usize);
    }

    #[tokio::test]
    async fn room_that_is_given_back_is_read_into_again_only_when_nobody_holds_it() {
        let (room, bytes) = (ReadRoom::default(), numbered(50_000));
        let (mut own, mut places) = (OwnRoom::default(), Vec::new());
        let mut held = None;
        for _ in 0..3 {
            let (mut near, _far) = io(&bytes).await;
            let all = read(&room, &mut near, &mut own, 50_000).await.unwrap();
            assert_eq!(all, bytes);
            places.push(all.as_ptr());
            if places.len() == 2 {
                held = Some(all);
            } else {
                drop(all);
            }
            room.give_back(&mut own);
        }
        assert_eq!(places[0], places[1]);
        assert_ne!(places[1], places[2]);
        assert_eq!(held.unwrap(), bytes);
    }

    #[tokio::test]
    async fn a_message_longer_than_any_room_comes_whole() {
        let (room, mut own, bytes) = (ReadRoom::default(), OwnRoom::default(), numbered(500_000));
        let (mut near, _far) = io(&bytes).await;
        let mut all = Vec::new();
        while all.len() < bytes.len() {
            let left = bytes.len() - all.len();
            all.extend_from_slice(&read(&room, &mut near, &mut own, left as u64).await.unwrap());
        }
        assert_eq!(all, bytes);
    }

    #[tokio::test]
    async fn few_spare_rooms_are_kept_and_none_that_nobody_needs() {
        let room = ReadRoom::default();
        let mut all: Vec<OwnRoom> = Vec::new();
        for _ in 0..2 * SPARES {
            let (mut near, _far) = io(&[b'x'; 5_000]).await;
            let mut own = OwnRoom::default();
            read(&room, &mut near, &mut own, 60_000).await.unwrap();
            all.push(own);
        }
        all.iter_mut().for_each(|own| room.give_back(own));
        assert_eq!(room.spare.borrow().len(), SPARES);
        (0..2).for_each(|_| room.sweep());
        assert_eq!(room.spare.borrow().len(), 0);
    }
}
