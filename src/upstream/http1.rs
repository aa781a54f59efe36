//! One exchange at a time in HTTP/1.1, from the side that asks.
//!
//! This is what every request costs, so it is done without a task, a channel or a map of its own:
//! head and body leave in one write, and the request's future reads the answer itself. What may be
//! read is decided in [`head`] and `http1/decode.rs`, strictly: an answer whose end could be understood in
//! two ways is none.

mod head;
mod pool;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncWrite, ReadHalf};
use tokio::sync::oneshot;

use self::head::AnswerHead;
pub(super) use self::pool::Pool;
use super::upload::Upload;
use super::{Answer, AnswerBody, BodyError, Counted, ExchangeError, Framing, Outgoing, Upgraded, Upstream};
use crate::http1::{Decoded, Decoder, Outbox, OwnRoom, ReadRoom, join, write_chunk, write_last_chunk};
use crate::partner::Transport;

/// A connection that can carry one exchange at a time. Closed when dropped.
pub(super) struct Connection {
    io: Transport,
    counted: Counted,
}

impl Connection {
    pub(super) fn new(io: Transport, counted: Counted) -> Self {
        Self { io, counted }
    }

    /// Whether nothing has come since the last exchange: neither the end nor bytes that nobody
    /// asked for, which must not be taken for the next answer.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.io.is_quiet()
    }
}

/// A request on its way out. It belongs to no connection before its first byte has left.
pub(super) struct Sending<B> {
    body: B,
    outbox: Outbox,
    framing: Framing,
    /// Of a body whose length was told: how much of it is still to come, in bytes.
    left: u64,
    /// The trailers that the head announces. No others go on (RFC 9110 section 6.5.1).
    announced: Vec<HeaderName>,
    /// All of it is in the outbox.
    ended: bool,
    /// A write has been tried.
    tried: bool,
    /// Some of it has left.
    begun: bool,
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Sending<B> {
    pub(super) fn new(head: &Outgoing<'_>, authorization: &HeaderValue, body: B) -> Self {
        let mut outbox = Outbox::default();
        head::write(head, authorization, &mut outbox);
        let left = if let Framing::Length(length) = head.framing { length } else { 0 };
        let announced = if head.framing == Framing::Chunked { head::announced(head) } else { Vec::new() };
        let ended = left == 0 && head.framing != Framing::Chunked;
        Self { body, outbox, framing: head.framing, left, announced, ended, tried: false, begun: false }
    }

    /// The body of a request that has not been tried to send: nothing has been taken of it.
    pub(super) fn into_body(self) -> B {
        self.body
    }

    /// Sends until all of it has left.
    fn poll(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ExchangeError>> {
        loop {
            // First as much as there is, so that it leaves in one write.
            while !self.ended && self.outbox.has_room() {
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(frame) => self.take(frame.transpose()?)?,
                    Poll::Pending => break,
                }
            }
            if self.outbox.is_empty() {
                ready!(Pin::new(io).poll_flush(cx))?;
                return if self.ended { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            self.tried = true;
            ready!(self.outbox.poll_write(Pin::new(io), cx))?;
            self.begun = true;
        }
    }

    fn take(&mut self, frame: Option<Frame<Bytes>>) -> Result<(), ExchangeError> {
        match (frame.map(Frame::into_data), self.framing) {
            (Some(Ok(data)), Framing::Chunked) if !data.is_empty() => {
                write_chunk(&mut self.outbox, data);
                if self.body.is_end_stream() {
                    self.end_chunks(None);
                }
            }
            (Some(Ok(data)), Framing::Length(_)) => {
                // What is told in the head and what is sent must not differ by a byte.
                self.left = self.left.checked_sub(data.len() as u64).ok_or(BodyError)?;
                self.ended = self.left == 0;
                self.outbox.push(data);
            }
            (Some(Err(frame)), Framing::Chunked) => self.end_chunks(frame.into_trailers().ok().as_ref()),
            (None, Framing::Chunked) => self.end_chunks(None),
            (None, Framing::Length(_)) => return Err(BodyError.into()),
            // An empty piece, or trailers for which there is no place.
            (Some(_), _) => {}
            (None, Framing::None) => self.ended = true,
        }
        Ok(())
    }

    fn end_chunks(&mut self, trailers: Option<&http::HeaderMap>) {
        write_last_chunk(&mut self.outbox, trailers, &self.announced);
        self.ended = true;
    }
}

/// Sends `request` on `connection` and waits for the head of its answer. After an error the request
/// is still there if it may be sent on another: nothing of it has left, and its body has not broken
/// off.
pub(super) async fn exchange<B>(
    pool: &Rc<Upstream>,
    mut connection: Connection,
    head: &Outgoing<'_>,
    request: &mut Option<Sending<B>>,
) -> Result<Answer<AnswerBody>, ExchangeError>
where
    B: Body<Data = Bytes, Error = BodyError> + Unpin + 'static,
{
    let mut buffer = Bytes::new();
    let mut sent = false;
    let mut broken = None;
    let read = poll_fn(|cx| {
        if let Some(sending) = &mut *request
            && !sent
            && broken.is_none()
        {
            match sending.poll(&mut connection.io, cx) {
                Poll::Ready(Ok(())) => sent = true,
                // A partner that does not want the rest may have answered before it closed.
                Poll::Ready(Err(error @ ExchangeError::Io(_))) if sending.begun => broken = Some(error),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
        }
        loop {
            // Nothing may be there before the request has begun to leave.
            let more = ready!(pool.room.poll_read(&mut connection.io, cx));
            let more = match more {
                Ok(more) if !more.is_empty() => more,
                Ok(_) => return Poll::Ready(Err(broken.take().unwrap_or(ExchangeError::Incomplete))),
                Err(error) => return Poll::Ready(Err(broken.take().unwrap_or_else(|| error.into()))),
            };
            if let Some(found) = head::read(&mut buffer, more, head.method)? {
                return Poll::Ready(Ok(found));
            }
        }
    });
    let found = match read.await {
        Ok(found) => found,
        Err(error) => {
            // A body that has broken off will do so on every connection.
            let broken_off = matches!(error, ExchangeError::Body(_));
            // Over TLS a write that fails may have put a part on the wire all the same.
            let tls = connection.io.is_tls();
            request.take_if(|sending| broken_off || sending.begun || sending.tried && tls);
            return Err(error);
        }
    };
    let AnswerHead { head, decoder, persistent } = found;
    let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
    let is_whole = sent && !switches && decoder.size_hint().exact() == Some(buffer.len() as u64);
    let body = if is_whole {
        if persistent {
            pool.http1.give_back(connection);
        }
        AnswerBody::whole(buffer)
    } else {
        let io = if sent {
            Io::Whole { connection, persistent }
        } else {
            Io::early(connection, request.take().filter(|_| broken.is_none()))
        };
        let (pool, room) = (Rc::clone(pool), OwnRoom::default());
        let idle_timeout = pool.idle_timeout;
        let mut incoming = Incoming { pool, io: Some(io), decoder, buffer, room };
        if incoming.is_end_stream() && !switches {
            incoming.release();
        }
        AnswerBody::http1(incoming, idle_timeout)
    };
    Ok(Answer { head, body })
}

/// The body of an answer. The connection goes back to its pool when this has been read to its end
/// and may carry another exchange; in every other case it is closed when this is dropped.
pub(super) struct Incoming {
    pool: Rc<Upstream>,
    io: Option<Io>,
    decoder: Decoder,
    /// What has been read of the body and not yet been handed over.
    buffer: Bytes,
    /// What a large body is read into.
    room: OwnRoom,
}

enum Io {
    Whole {
        connection: Connection,
        persistent: bool,
    },
    /// The answer came before the whole request had left, which goes on by itself: a client may
    /// read nothing before it has sent everything. Such a connection is not used again.
    Early {
        read: ReadHalf<Transport>,
        /// Tells if the request's body breaks off; `None` when it has ended.
        broken_off: Option<oneshot::Receiver<()>>,
        _upload: Option<Upload>,
        _counted: Counted,
    },
}

impl Io {
    fn early<B>(connection: Connection, rest: Option<Sending<B>>) -> Self
    where
        B: Body<Data = Bytes, Error = BodyError> + Unpin + 'static,
    {
        let Connection { io, counted } = connection;
        let (read, mut write) = tokio::io::split(io);
        let (tell, broken_off) = oneshot::channel();
        let upload = rest.map(|mut sending| {
            Upload::spawn(async move {
                // A partner that takes no more may still answer. If there is no more to take, both learn
                // it: the partner, and who reads its answer.
                if let Err(ExchangeError::Body(_)) = poll_fn(|cx| sending.poll(&mut write, cx)).await {
                    let _ = tell.send(());
                }
            })
        });
        Self::Early { read, broken_off: Some(broken_off), _upload: upload, _counted: counted }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        (shared, own): (&ReadRoom, &mut OwnRoom),
        expected: u64,
    ) -> Poll<io::Result<Bytes>> {
        match self {
            Self::Whole { connection, .. } => shared.poll_expected(&mut connection.io, cx, own, expected),
            Self::Early { read, broken_off, .. } => {
                // What has come of the answer is still good.
                let read = shared.poll_expected(read, cx, own, expected);
                if read.is_pending()
                    && let Some(told) = broken_off
                    && let Poll::Ready(told) = Pin::new(told).poll(cx)
                {
                    *broken_off = None;
                    if told.is_ok() {
                        return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
                    }
                }
                read
            }
        }
    }
}

impl Incoming {
    /// After a 101: the connection as it is.
    pub(super) fn upgrade(mut self) -> Option<Upgraded> {
        match self.io.take()? {
            Io::Whole { connection: Connection { io, counted }, .. } => {
                Some(Upgraded { io, read: std::mem::take(&mut self.buffer), _counted: counted })
            }
            Io::Early { .. } => None,
        }
    }

    /// The answer has ended. What has come behind it belongs to nobody.
    fn release(&mut self) {
        self.pool.room.give_back(&mut self.room);
        if let Some(Io::Whole { connection, persistent: true }) = self.io.take()
            && self.buffer.is_empty()
        {
            self.pool.http1.give_back(connection);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, ExchangeError>> {
        loop {
            let expected = match self.decoder.decode(&mut self.buffer)? {
                Decoded::Frame(frame) => return Poll::Ready(Ok(Some(frame))),
                Decoded::End => return Poll::Ready(Ok(None)),
                Decoded::More(expected) => expected,
            };
            let Some(io) = &mut self.io else { return Poll::Ready(Ok(None)) };
            let more = ready!(io.poll_read(cx, (&self.pool.room, &mut self.room), expected))?;
            if more.is_empty() {
                self.decoder.closed()?;
            }
            join(&mut self.buffer, more);
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        let frame = ready!(self.poll(cx));
        match &frame {
            Ok(_) if !self.decoder.has_ended() => {}
            Ok(_) => self.release(),
            Err(_) => self.io = None,
        }
        Poll::Ready(frame.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.decoder.has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        self.decoder.size_hint()
    }
}
