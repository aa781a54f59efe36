//! Bytes on their way out.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::spare::Spare;

/// From this size on, in bytes, a piece is written from where it lies. Copying a smaller one costs
/// less than a vectored write does.
const LARGE: usize = 16 * 1024;

/// How much is taken before some of it has gone, in bytes.
const ROOM: usize = 128 * 1024;

/// How many rooms for small pieces a runtime keeps when they are not needed, and how large they may
/// be, in bytes. Those that are larger than what is made for a head are seldom.
const SPARES: usize = 1024;
const SPARE_SIZES: std::ops::Range<usize> = 512..4096;

thread_local! {
    static SPARE: RefCell<Spare<BytesMut>> = const { RefCell::new(Spare::new(SPARES)) };
}

fn give_back(mut tail: BytesMut) {
    tail.clear();
    if tail.try_reclaim(SPARE_SIZES.start) && !tail.try_reclaim(SPARE_SIZES.end) {
        // At a thread's end there may be nowhere to keep it.
        let _ = SPARE.try_with(|spare| spare.borrow_mut().keep(tail));
    }
}

/// Frees what has not been needed on this thread for a while.
pub(super) fn sweep() {
    SPARE.with_borrow_mut(Spare::sweep);
}

/// How many pieces go in one write.
const SLICES: usize = 8;

/// What is to be written: small pieces joined, large ones as they came.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Bytes>,
    /// Follows the pieces.
    tail: BytesMut,
    length: usize,
}

impl Outbox {
    /// Whether nothing waits to leave.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether more may be put in before some has left.
    pub fn has_room(&self) -> bool {
        self.length < ROOM
    }

    /// Makes room for `bytes` that are put in piece by piece.
    pub fn reserve(&mut self, bytes: usize) {
        if self.tail.capacity() == 0 {
            self.tail = SPARE.with_borrow_mut(Spare::take).unwrap_or_default();
        }
        self.tail.reserve(bytes);
    }

    /// Puts in a copy of `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.tail.extend_from_slice(bytes);
    }

    /// Puts in `data`, without a copy if it is large.
    pub fn push(&mut self, data: Bytes) {
        if data.len() < LARGE {
            return self.put(&data);
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.length += data.len();
        self.pieces.push_back(data);
    }

    /// Gives back the room for small pieces, once all of it has left.
    pub fn rest(&mut self) {
        if self.is_empty() {
            give_back(std::mem::take(&mut self.tail));
        }
    }

    /// All of it, for tests of what was put in.
    #[cfg(test)]
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.length = 0;
        self.pieces.iter().flatten().chain(&self.tail).copied().collect()
    }

    /// Writes some of it, and says how much.
    ///
    /// # Errors
    ///
    /// The connection is broken.
    pub fn poll_write(
        &mut self,
        mut io: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let written = if self.pieces.is_empty() {
            ready!(io.as_mut().poll_write(cx, &self.tail))?
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let pieces = self.pieces.iter().map(|piece| &piece[..]).chain([&self.tail[..]]);
            let mut count = 0;
            for (slot, piece) in slices.iter_mut().zip(pieces) {
                *slot = IoSlice::new(piece);
                count += 1;
            }
            ready!(io.as_mut().poll_write_vectored(cx, &slices[..count]))?
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(written);
        Poll::Ready(Ok(written))
    }

    fn advance(&mut self, mut written: usize) {
        self.length -= written;
        while let Some(piece) = self.pieces.front_mut() {
            let part = piece.len().min(written);
            piece.advance(part);
            written -= part;
            if !piece.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
        self.tail.advance(written);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Writes all of it through a pipe that takes `step` bytes at a time.
    async fn written(mut outbox: Outbox, step: usize) -> Vec<u8> {
        let (mut near, mut far) = tokio::io::duplex(step);
        let write = async {
            while !outbox.is_empty() {
                std::future::poll_fn(|cx| outbox.poll_write(Pin::new(&mut near), cx)).await.unwrap();
            }
            drop(near);
        };
        let mut all = Vec::new();
        let (_, read) = tokio::join!(write, far.read_to_end(&mut all));
        read.unwrap();
        all
    }

    #[tokio::test]
    async fn pieces_of_every_size_leave_in_order_however_little_is_taken() {
        let sizes = [1, LARGE - 1, LARGE, 3, 0, LARGE + 1, LARGE, LARGE, 7];
        for step in [1000, LARGE, 10 * LARGE] {
            let (mut outbox, mut expected) = (Outbox::default(), Vec::new());
            for (number, size) in sizes.into_iter().enumerate() {
                let piece = vec![b'a' + number as u8; size];
                expected.extend_from_slice(&piece);
                outbox.push(piece.into());
            }
            assert_eq!(outbox.length, expected.len());
            assert!(written(outbox, step).await == expected, "{step}");
        }
    }

    #[tokio::test]
    async fn small_pieces_are_joined_and_large_ones_are_not_copied() {
        let mut outbox = Outbox::default();
        outbox.put(b"head");
        outbox.push(Bytes::from_static(b"small"));
        assert!(outbox.pieces.is_empty());
        let large = Bytes::from(vec![0; LARGE]);
        outbox.push(large.clone());
        assert_eq!(outbox.pieces.len(), 2);
        assert_eq!(outbox.pieces[1].as_ptr(), large.as_ptr());
    }

    #[test]
    fn there_is_room_until_enough_waits_to_leave() {
        let mut outbox = Outbox::default();
        assert!(outbox.is_empty() && outbox.has_room());
        outbox.push(Bytes::from(vec![0; ROOM]));
        assert!(!outbox.has_room());
    }

    #[tokio::test]
    async fn room_that_is_given_back_serves_the_next_outbox_and_holds_nothing() {
        let mut outbox = Outbox::default();
        outbox.reserve(600);
        let place = outbox.tail.as_ptr();
        outbox.put(&[b'x'; 600]);
        assert_eq!(written(outbox, 1000).await.len(), 600);
        let mut next = Outbox::default();
        next.reserve(600);
        assert!(next.is_empty() && next.tail.is_empty() && next.tail.as_ptr() == place);
        next.put(b"y");
        assert_eq!(next.into_bytes(), b"y");
    }

    #[test]
    fn large_rooms_are_not_kept() {
        let mut outbox = Outbox::default();
        outbox.reserve(10 * SPARE_SIZES.end);
        drop(outbox);
        assert_eq!(SPARE.with_borrow(Spare::len), 0);
    }
}
