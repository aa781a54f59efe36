//! What the bytes of a connection prove, whatever the library makes of them.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::partner::Transport;

/// What is known of a connection from its bytes.
#[derive(Debug, Default)]
pub(super) struct Wire {
    reads: Cell<u64>,
    writes: Cell<u64>,
    last_stream: Cell<Option<u32>>,
    begun: Notify,
    empty_frames: Cell<usize>,
}

impl Wire {
    /// Waits until something has come, or nothing will.
    pub(super) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Nothing will come.
    pub(super) fn end(&self) {
        self.begun.notify_one();
    }

    /// Grows with everything that comes.
    pub(super) fn reads(&self) -> u64 {
        self.reads.get()
    }

    /// How many DATA frames have come that hold nothing and end no stream.
    pub(super) fn empty_frames(&self) -> usize {
        self.empty_frames.get()
    }

    /// Grows before anything leaves: if it has not grown, nothing has left. An attempt that fails
    /// counts as well, because over TLS a part of it may have left all the same.
    pub(super) fn writes(&self) -> u64 {
        self.writes.get()
    }

    /// The last stream that the partner may have processed or may yet process, once it has said so
    /// (RFC 9113 section 6.8). The lowest, because none may be higher than those before it.
    pub(super) fn last_stream(&self) -> Option<u32> {
        self.last_stream.get()
    }

    fn going_away(&self, last: u32) {
        let last = self.last_stream.get().map_or(last, |before| before.min(last));
        self.last_stream.set(Some(last));
    }
}

/// A connection that is watched.
#[derive(Debug)]
pub(super) struct Watched<T = Transport> {
    io: T,
    frames: Frames,
    wire: Rc<Wire>,
}

impl<T> Watched<T> {
    pub(super) fn new(io: T, wire: Rc<Wire>) -> Self {
        Self { io, frames: Frames::default(), wire }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        if this.wire.reads.replace(this.wire.reads.get().wrapping_add(1)) == 0 {
            this.wire.begun.notify_one();
        }
        this.frames.look_through(&buf.filled()[before..], &this.wire);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.writes.set(self.wire.writes.get().wrapping_add(1));
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Finds the GOAWAY frames in a stream of frames (RFC 9113 section 4.1), counts the empty ones, and passes over
/// all else.
#[derive(Debug, Default)]
struct Frames {
    /// A frame's header, and of a GOAWAY the last stream.
    head: [u8; HEADER + LAST_STREAM],
    have: usize,
    /// How much of a frame's payload is still to come, in bytes.
    skip: usize,
}

/// Length, type, flags, stream.
const HEADER: usize = 9;
const LAST_STREAM: usize = 4;
const DATA: u8 = 0;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;
/// The first bit of a stream's number is reserved.
const STREAM: u32 = 0x7fff_ffff;

impl Frames {
    fn look_through(&mut self, mut bytes: &[u8], wire: &Wire) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let wanted = if self.is_goaway() { HEADER + LAST_STREAM } else { HEADER };
            let part = (wanted - self.have).min(bytes.len());
            self.head[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            self.have += part;
            bytes = &bytes[part..];
            if self.have < wanted {
                return;
            }
            if wanted == HEADER && self.is_goaway() {
                continue;
            }
            if self.is_goaway() {
                wire.going_away(self.number(HEADER));
            }
            if self.may_be_empty() {
                wire.empty_frames.update(|count| count + 1);
            }
            self.skip = self.length() - (wanted - HEADER);
            self.have = 0;
        }
    }

    /// Whether it is a frame of data that ends no stream, and holds no data or, for all that the header
    /// tells, nothing but padding.
    fn may_be_empty(&self) -> bool {
        let most = if self.head[4] & PADDED == 0 { 0 } else { 256 };
        self.head[3] == DATA && self.head[4] & END_STREAM == 0 && self.length() <= most
    }

    /// Whether the header is there, and is a GOAWAY's. One that is too short or on a stream is the
    /// library's to refuse, and proves nothing.
    fn is_goaway(&self) -> bool {
        let fits = self.length() >= LAST_STREAM && self.number(HEADER - 4) == 0;
        self.have >= HEADER && self.head[3] == GOAWAY && fits
    }

    fn length(&self) -> usize {
        let [a, b, c, ..] = self.head;
        u32::from_be_bytes([0, a, b, c]) as usize
    }

    /// The number of the stream at `at`.
    fn number(&self, at: usize) -> u32 {
        let bytes = [self.head[at], self.head[at + 1], self.head[at + 2], self.head[at + 3]];
        u32::from_be_bytes(bytes) & STREAM
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
    }

    fn goaway(last: u32) -> Vec<u8> {
        frame(GOAWAY, 0, &[&last.to_be_bytes()[..], &[0; 4], b"debug"].concat())
    }

    /// What is known after `bytes` that come in parts of `step`.
    fn last_stream(bytes: &[u8], step: usize) -> Option<u32> {
        let (mut frames, wire) = (Frames::default(), Wire::default());
        bytes.chunks(step).for_each(|part| frames.look_through(part, &wire));
        wire.last_stream()
    }

    #[test]
    fn the_last_stream_is_found_between_other_frames_however_they_are_cut() {
        // A payload that looks like the frame that is looked for.
        let decoy = frame(0, 1, &goaway(3));
        let empty = frame(4, 0, &[]);
        let bytes = [&decoy[..], &empty, &goaway(0x8000_0007), &empty, &decoy].concat();
        for step in 1..=bytes.len() {
            assert_eq!(last_stream(&bytes, step), Some(7), "{step}");
            assert_eq!(last_stream(&[&decoy[..], &empty].concat(), step), None);
        }
    }

    #[test]
    fn frames_of_data_without_data_are_counted_but_for_a_stream_s_last() {
        let flagged = |flag, payload: &[u8]| {
            let mut frame = frame(DATA, 1, payload);
            frame[4] = flag;
            frame
        };
        let bytes = [
            &frame(DATA, 1, &[])[..],
            &frame(DATA, 1, b"data"),
            &frame(4, 0, &[]),
            &flagged(END_STREAM, &[]),
            &frame(DATA, 3, &[]),
            &flagged(PADDED, &[2, 0, 0]),
            &flagged(PADDED, &[0; 257]),
        ];
        let bytes = bytes.concat();
        for step in 1..=bytes.len() {
            let (mut frames, wire) = (Frames::default(), Wire::default());
            bytes.chunks(step).for_each(|part| frames.look_through(part, &wire));
            assert_eq!(wire.empty_frames(), 3, "{step}");
        }
    }

    #[test]
    fn of_several_the_lowest_counts() {
        for order in [[goaway(0x7fff_ffff), goaway(5)], [goaway(5), goaway(9)]] {
            assert_eq!(last_stream(&order.concat(), 4), Some(5));
        }
        assert_eq!(last_stream(&goaway(0), 1000), Some(0));
    }

    #[test]
    fn a_malformed_one_proves_nothing_and_hides_no_other() {
        for bad in [frame(GOAWAY, 0, &[0, 0, 1]), frame(GOAWAY, 1, &[0; 8]), frame(GOAWAY, 0, &[])] {
            assert_eq!(last_stream(&bad, 2), None);
            assert_eq!(last_stream(&[bad, goaway(11)].concat(), 2), Some(11));
        }
        // Cut off before it is known.
        assert_eq!(last_stream(&goaway(5)[..12], 100), None);
    }

    #[tokio::test]
    async fn what_leaves_is_counted_before_it_leaves_and_what_comes_when_it_has_come() {
        let (near, mut far) = tokio::io::duplex(100);
        let wire = Rc::<Wire>::default();
        let mut near = Watched::new(near, Rc::clone(&wire));
        near.write_all(b"ping").await.unwrap();
        assert_eq!((wire.writes(), wire.reads()), (1, 0));
        far.write_all(&goaway(5)).await.unwrap();
        let mut buf = [0; 100];
        assert_eq!(near.read(&mut buf).await.unwrap(), goaway(5).len());
        assert_eq!((wire.reads(), wire.last_stream()), (1, Some(5)));
        drop(far);
        near.write_all(b"ping").await.unwrap_err();
        assert_eq!(wire.writes(), 2, "one that fails counts as well");
    }
}
