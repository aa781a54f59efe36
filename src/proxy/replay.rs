//! Request bodies that can be sent a second time.
//!
//! A body of known length up to the limit is collected before it is sent. Any other streams through
//! a tee, which holds what it passes on up to the limit; as long as everything taken so far is
//! held, the request can be sent again, the held part first and the rest streaming after it. Bodies
//! of unknown length are never collected first: a client that waits for an answer before it goes on
//! would wait for ever.

mod memory;
mod whole;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

pub(super) use self::memory::ReplayMemory;
use self::memory::Reservation;
use self::whole::Whole;
use super::headers;
use crate::incoming::Incoming;
use crate::metrics::ReplayResult;
use crate::upstream::{BodyError, IdleLimited};

/// From this size on, in bytes, a part of a body is held as it came.
const PIECE: usize = 4 * 1024;

/// The limits that a body is held under.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Of this body, in bytes.
    pub(super) body: usize,
    /// Of all bodies together, in bytes.
    pub(super) total: usize,
    pub(super) memory: Arc<ReplayMemory>,
    /// How long the client may stand still.
    pub(super) idle_timeout: Duration,
    /// The partner's own fields, which a trailer must not carry.
    pub(super) managed: Rc<[HeaderName]>,
}

/// A request's body, for as long as the request may have to be sent again.
pub(super) enum Replay {
    /// There is none.
    Empty,
    /// Of known length, to be collected before it is sent.
    Short { body: IdleLimited<Incoming>, length: usize, reservation: Reservation },
    /// All of it.
    Held { data: Whole, reservation: Rc<Reservation> },
    /// It streams.
    Stream(Stream),
}

impl Replay {
    /// Looks at `body` without taking anything of it. `length` is known if the framing told it, and
    /// the body has no trailers.
    pub(super) fn new(body: Incoming, length: Option<u64>, limits: impl FnOnce() -> Limits) -> Self {
        // In HTTP/2 a length of zero may turn out to be none.
        if body.is_end_stream() {
            return Self::Empty;
        }
        let limits = limits();
        let body = IdleLimited::new(body, limits.idle_timeout);
        if let Some(length) = length.and_then(|length| usize::try_from(length).ok())
            && length <= limits.body
            && let Some(reservation) = limits.memory.reserve(length, limits.total)
        {
            return Self::Short { body, length, reservation };
        }
        Self::Stream(Stream::new(body, length, limits))
    }

    /// Whether it can be known only after sending if the body can be sent again.
    pub(super) fn is_uncertain(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// Collects a short body, at which moment a client that expects `100 Continue` gets it. Comes before
    /// the first attempt, and before its token is taken: what a client takes its time for may take longer
    /// than a token lives.
    pub(super) async fn collect(&mut self) -> Result<(), BodyError> {
        if let Self::Short { .. } = self {
            *self = std::mem::replace(self, Self::Empty).collected().await?;
        }
        Ok(())
    }

    /// The body for the next attempt.
    pub(super) fn attempt(&mut self) -> Result<RequestBody, BodyError> {
        Ok(match self {
            Self::Empty => RequestBody::Empty,
            // It must not be taken for one that is not there.
            Self::Short { .. } => return Err(BodyError),
            Self::Held { data, reservation } => {
                RequestBody::Whole { data: data.clone(), _share: Rc::clone(reservation) }
            }
            // A body that broke off has no end, and must not be given one.
            Self::Stream(stream) if stream.tee.borrow().broken => return Err(BodyError),
            Self::Stream(stream) => RequestBody::Streaming(stream.attempt()),
        })
    }

    async fn collected(self) -> Result<Self, BodyError> {
        let Self::Short { mut body, length, reservation } = self else { return Ok(self) };
        let reservation = Rc::new(reservation);
        let (mut data, mut small, mut taken) = (VecDeque::new(), BytesMut::new(), 0);
        while let Some(frame) = body.frame().await {
            let Ok(part) = frame.map_err(|_| BodyError)?.into_data() else { continue };
            if taken == 0 && part.len() == length && body.is_end_stream() {
                return Ok(Self::Held { data: Whole::InOne(part), reservation });
            }
            taken += part.len();
            if part.len() >= PIECE {
                data.extend((!small.is_empty()).then(|| small.split().freeze()));
                data.push_back(part);
            } else {
                // Parts as small as a client likes would each cost a handle, and keep the buffer
                // alive that they were read into.
                small.extend_from_slice(&part);
            }
        }
        data.extend((!small.is_empty()).then(|| small.freeze()));
        // The codec holds the client to its Content-Length; this holds the codec to it.
        if taken != length {
            return Err(BodyError);
        }
        Ok(Self::Held { data: Whole::InPieces(data), reservation })
    }

    /// Takes nothing more from the client: a 401 has come, and what is taken from now on could not
    /// be sent to anyone who wants it.
    pub(super) fn stop(&mut self) {
        if let Self::Stream(stream) = self {
            stream.tee.borrow_mut().active = 0;
        }
    }

    /// Why the request cannot be sent again, if it cannot.
    pub(super) fn lost(&self) -> Option<ReplayResult> {
        match self {
            Self::Stream(stream) => stream.tee.borrow().lost,
            _ => None,
        }
    }

    /// Whether it can be sent once more, nothing of it being lost.
    pub(super) fn is_repeatable(&self) -> bool {
        match self {
            Self::Stream(stream) => {
                let tee = stream.tee.borrow();
                !tee.broken && (tee.lost.is_none() || tee.taken == 0)
            }
            _ => true,
        }
    }

    /// Whether the client broke off its body.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::Stream(stream) if stream.tee.borrow().broken)
    }

    /// How many bytes of it have been taken from the client.
    pub(super) fn taken(&self) -> u64 {
        match self {
            Self::Empty | Self::Short { .. } => 0,
            Self::Held { data, .. } => data.len(),
            Self::Stream(stream) => stream.tee.borrow().taken,
        }
    }
}

/// A body that streams, and the attempts to send it.
pub(super) struct Stream {
    tee: Rc<RefCell<Tee>>,
    attempts: u8,
}

/// What the attempts share.
struct Tee {
    body: IdleLimited<Incoming>,
    length: Option<u64>,
    limits: Limits,
    /// In one piece for each attempt, as small parts are in [`Replay::collected`].
    held: Vec<Bytes>,
    /// What the attempt that is under way adds to it.
    fresh: BytesMut,
    trailers: Option<HeaderMap>,
    ended: bool,
    /// Of what is held.
    reservation: Option<Reservation>,
    lost: Option<ReplayResult>,
    broken: bool,
    taken: u64,
    /// The attempt that may take from the client; 0 is none. An attempt that was given up lives on
    /// until its connection has been torn down, and must not take what is meant for the next one.
    active: u8,
}

impl Stream {
    fn new(body: IdleLimited<Incoming>, length: Option<u64>, limits: Limits) -> Self {
        let tee = Tee {
            lost: length.is_some_and(|length| length > limits.body as u64).then_some(ReplayResult::TooLarge),
            body,
            length,
            limits,
            held: Vec::new(),
            fresh: BytesMut::new(),
            trailers: None,
            ended: false,
            reservation: None,
            broken: false,
            taken: 0,
            active: 0,
        };
        Self { tee: Rc::new(RefCell::new(tee)), attempts: 0 }
    }

    fn attempt(&mut self) -> Streaming {
        self.attempts += 1;
        let tee = &mut *self.tee.borrow_mut();
        tee.active = self.attempts;
        if !tee.fresh.is_empty() {
            tee.held.push(tee.fresh.split().freeze());
        }
        Streaming { tee: Rc::clone(&self.tee), attempt: self.attempts, given: 0, ended: false }
    }
}

impl Tee {
    fn poll_client(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.broken {
            // What has read it may tell of the break once, and then of an end.
            return Poll::Ready(Some(Err(BodyError)));
        }
        match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(data) => {
                    self.taken += data.len() as u64;
                    self.hold(&data);
                    self.ended = self.body.is_end_stream();
                    Frame::data(data)
                }
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    headers::strip_trailers(&mut trailers, &self.limits.managed);
                    self.ended = true;
                    self.trailers = Some(trailers.clone());
                    Frame::trailers(trailers)
                }
            }))),
            Some(Err(_)) => {
                self.broken = true;
                Poll::Ready(Some(Err(BodyError)))
            }
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    /// Keeps `data`, or gives up keeping anything.
    fn hold(&mut self, data: &Bytes) {
        if self.lost.is_some() {
            return;
        }
        let held = self.reservation.as_ref().map_or(0, |reservation| reservation.bytes());
        if held + data.len() > self.limits.body {
            return self.lose(ReplayResult::TooLarge);
        }
        let kept = match &mut self.reservation {
            Some(reservation) => reservation.grow(data.len(), self.limits.total),
            None => {
                self.reservation = self.limits.memory.reserve(data.len(), self.limits.total);
                self.reservation.is_some()
            }
        };
        if kept {
            self.fresh.extend_from_slice(data);
        } else {
            self.lose(ReplayResult::NoMemory);
        }
    }

    fn lose(&mut self, why: ReplayResult) {
        self.lost = Some(why);
        self.held = Vec::new();
        self.fresh = BytesMut::new();
        self.reservation = None;
    }
}

/// The body of one attempt to send a request.
#[derive(Debug)]
pub(super) enum RequestBody {
    /// There is none.
    Empty,
    /// All of it is there, and holds its share of memory: if the answer comes early, longer than the
    /// request may have to be sent again.
    Whole { data: Whole, _share: Rc<Reservation> },
    /// As much as is held, and then what the client still sends.
    Streaming(Streaming),
}

/// See [`RequestBody::Streaming`].
pub(super) struct Streaming {
    tee: Rc<RefCell<Tee>>,
    attempt: u8,
    /// How many of the held pieces have been handed over.
    given: usize,
    /// Everything has been.
    ended: bool,
}

impl Streaming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut tee = self.tee.borrow_mut();
        if tee.active != self.attempt {
            // Not an error, which would cut off the answer that the partner is sending. Whoever
            // gave this attempt up closes its connection.
            return Poll::Pending;
        }
        if self.ended {
            return Poll::Ready(None);
        }
        // What was taken by the attempts before this one.
        if let Some(piece) = tee.held.get(self.given) {
            let piece = piece.clone();
            self.given += 1;
            self.ended = tee.ended && tee.trailers.is_none() && self.given == tee.held.len();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if tee.ended {
            self.ended = true;
            return Poll::Ready(tee.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = ready!(tee.poll_client(cx));
        self.ended = tee.ended;
        Poll::Ready(frame)
    }
}

impl std::fmt::Debug for Streaming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streaming").field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole { data, .. } => Poll::Ready(data.take().map(|piece| Ok(Frame::data(piece)))),
            Self::Streaming(body) => body.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole { data, .. } => data.is_empty(),
            Self::Streaming(body) => body.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole { data, .. } => SizeHint::with_exact(data.len()),
            Self::Streaming(body) => {
                body.tee.borrow().length.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
        }
    }
}
