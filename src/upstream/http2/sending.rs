//! A request's body on its way out.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::{Body, Frame};

use crate::upstream::{BodyError, Framing};

/// What is left to send of a request. One piece at a time is taken from the body, and only when the
/// partner has room for some of it.
pub(super) struct Sending<B> {
    body: B,
    stream: SendStream<Bytes>,
    framing: Framing,
    /// Of a body whose length was told: how much of it is still to come, in bytes.
    left: u64,
    /// A piece that waits for room, and whether it is the last.
    piece: Option<(Bytes, bool)>,
    ended: bool,
}

/// Whether a request has ended with its header.
pub(in crate::upstream) fn ends_with_header(framing: Framing, body: &impl Body) -> bool {
    match framing {
        Framing::None | Framing::Length(0) => true,
        Framing::Length(_) => false,
        Framing::Chunked => body.is_end_stream(),
    }
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Sending<B> {
    pub(super) fn new(framing: Framing, stream: SendStream<Bytes>, body: B) -> Self {
        let ended = ends_with_header(framing, &body);
        let left = if let Framing::Length(length) = framing { length } else { 0 };
        Self { body, stream, framing, left, piece: None, ended }
    }

    /// Sends until all of it has been sent, or nobody wants more of it: why, the answer says. On an
    /// error the stream has been reset.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let result = ready!(self.poll_rest(cx));
        if result.is_err() {
            // What was sent must not be taken for all there is.
            self.stream.send_reset(Reason::CANCEL);
            self.ended = true;
        }
        Poll::Ready(result)
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while !self.ended {
            // Asked in every round, so that the task is woken while it waits for the client.
            if self.stream.poll_reset(cx).is_ready() {
                self.ended = true;
                break;
            }
            if self.piece.is_some() && self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => self.ended = true,
                }
                continue;
            }
            match self.piece.take() {
                Some((data, last)) => self.send(data, last),
                None => {
                    let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
                    self.take(frame.transpose()?)?;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), BodyError> {
        match (frame.map(Frame::into_data), self.framing) {
            (Some(Ok(data)), Framing::Chunked) if !data.is_empty() => {
                self.offer(data, self.body.is_end_stream());
            }
            (Some(Ok(data)), Framing::Length(_)) if !data.is_empty() => {
                // What is told in the header and what is sent must not differ by a byte.
                self.left = self.left.checked_sub(data.len() as u64).ok_or(BodyError)?;
                self.offer(data, self.left == 0);
            }
            (Some(Err(frame)), Framing::Chunked) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                self.stream.send_trailers(trailers).map_err(|_| BodyError)?;
                self.ended = true;
            }
            (None, Framing::Chunked) => self.send(Bytes::new(), true),
            (None, Framing::Length(_)) => return Err(BodyError),
            (None, Framing::None) => self.ended = true,
            // An empty piece, or trailers for which there is no place.
            (Some(_), _) => {}
        }
        Ok(())
    }

    fn offer(&mut self, data: Bytes, last: bool) {
        // To be told of room it is enough to ask for a byte of it; to ask for more while none is
        // needed would keep it from others.
        self.stream.reserve_capacity(1);
        self.piece = Some((data, last));
    }

    fn send(&mut self, data: Bytes, last: bool) {
        self.ended = self.stream.send_data(data, last).is_err() || last;
    }
}
