//! A client's connection: what is read from it and written to it, and by whom.

mod client;

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::{request, response};
use http_body::{Body, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

pub(in super::super) use self::client::Client;
use super::super::activity::Activity;
use super::super::connection::Stream;
use super::super::turnstile::Place;
use super::Common;
use super::answer::Answering;
use super::head::{self, Facts, RequestHead};
use crate::clock::turn;
use crate::http1::{Decoded, Decoder, Head, MAX_HEAD, Outbox, OwnRoom, join};
use crate::incoming::{BoxError, Incoming, Part, Receiving, Source};
use crate::proxy::Unreadable;

/// How much of a body that nobody wants is read so that the connection can be used again, in bytes.
/// More costs more than another connection does.
const UNWANTED: usize = 64 * 1024;

/// A connection. The task that serves it and whoever reads the request's body share it; what they do
/// on it does not overlap, and none of it waits while holding it.
pub(super) struct Wire<T> {
    state: RefCell<State<T>>,
    activity: Rc<Activity>,
    common: Rc<Common>,
}

/// What [`Wire::poll_request`] finds.
pub(super) struct NextRequest {
    pub(super) head: Head<request::Parts>,
    pub(super) body: Incoming,
    pub(super) facts: Facts,
}

struct State<T> {
    io: T,
    /// What has been read and belongs to the message that is being read, or to the next one.
    buffer: Bytes,
    /// What a large message is read into.
    room: OwnRoom,
    outbox: Outbox,
    /// Where the message ends.
    decoder: Decoder,
    /// How long the body of the message before it was, if that was told: most clients send more of
    /// the same.
    before: u64,
    /// Before the next message.
    place: Place,
    /// Which message it is, so that nobody reads another's body.
    message: u32,
    /// The client waits to be told to go on with its body.
    expects: bool,
    /// The head of the answer has been put in the outbox.
    answered: bool,
    /// The message has no end.
    broken: bool,
    /// No other message is taken.
    parting: bool,
    /// The task that serves the connection.
    task: Option<Waker>,
    /// Another one, which waits for the body.
    elsewhere: Elsewhere,
}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Wire<T> {
    pub(super) fn new(io: T, buffer: Bytes, activity: Rc<Activity>, common: Rc<Common>) -> Self {
        let state = State {
            io,
            buffer,
            room: OwnRoom::default(),
            outbox: Outbox::default(),
            decoder: Decoder::none(),
            before: 0,
            place: Place::Inside,
            message: 0,
            expects: false,
            answered: false,
            broken: false,
            parting: false,
            task: None,
            elsewhere: Elsewhere::default(),
        };
        Self { state: RefCell::new(state), activity, common }
    }

    /// No other message is taken, unless it has come or begun to.
    pub(super) fn part(&self) {
        self.state.borrow_mut().parting = true;
    }

    /// The next request; `None` if there is none.
    pub(super) fn poll_request(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<NextRequest>, Unreadable>> {
        let state = &mut *self.state.borrow_mut();
        let mut worth_parsing = !state.buffer.is_empty();
        loop {
            if worth_parsing {
                if let Some(head) = head::read(&mut state.buffer)? {
                    if state.task.is_none() {
                        state.task = Some(cx.waker().clone());
                    }
                    return Poll::Ready(Ok(Some(self.begin_message(state, head))));
                }
                if !state.buffer.is_empty() {
                    // Empty lines are no beginning of one.
                    self.activity.moved(true);
                }
            }
            if state.buffer.len() > MAX_HEAD {
                return Poll::Ready(Err(Unreadable::TooLarge));
            }
            ready!(self.common.turnstile.poll_pass(&mut state.place, cx));
            let State { io, room, before, .. } = state;
            let Poll::Ready(read) = self.common.room.poll_expected(io, cx, room, *before) else {
                if state.parting && state.buffer.is_empty() {
                    return Poll::Ready(Ok(None));
                }
                state.place = Place::Outside;
                return Poll::Pending;
            };
            let more = match read {
                Ok(more) if !more.is_empty() => more,
                // Half a head is none.
                _ => return Poll::Ready(Ok(None)),
            };
            // A head that comes in many parts is parsed once more only when a line has ended.
            worth_parsing = state.buffer.is_empty() || more.contains(&b'\n');
            join(&mut state.buffer, more);
        }
    }

    fn begin_message(self: &Rc<Self>, state: &mut State<T>, head: RequestHead) -> NextRequest {
        let RequestHead { head, decoder, expects, facts } = head;
        state.before = decoder.size_hint().exact().unwrap_or(0);
        let body = if decoder.has_ended() {
            Receiving::none()
        } else {
            let source: Weak<dyn Source> = Rc::downgrade(self) as _;
            Receiving::new(source, state.message, decoder.size_hint().exact())
        };
        (state.decoder, state.expects, state.answered) = (decoder, expects, false);
        NextRequest { head, body: Incoming::Http1(body), facts }
    }

    /// Ready when the client has gone. To be polled while its request is under way, which may already
    /// have been followed by another.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let state = &mut *self.state.borrow_mut();
        if state.broken || !state.decoder.has_ended() || !state.buffer.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.common.room.poll_read(&mut state.io, cx)) {
            Ok(more) if !more.is_empty() => {
                self.activity.moved(true);
                state.buffer = more;
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Puts the head of the answer in the outbox.
    pub(super) fn begin_answer(
        &self,
        head: &response::Parts,
        hint: &SizeHint,
        facts: Facts,
        last: bool,
    ) -> Answering {
        let state = &mut *self.state.borrow_mut();
        state.answered = true;
        // A client that was not told to go on may or may not: what follows cannot be told.
        let last = last || state.expects;
        let date = (&self.common.date, turn::now());
        Answering::begin(head, hint, facts, last, date, &mut state.outbox)
    }

    /// Puts all of the answer's body in the outbox.
    pub(super) fn put_body(&self, answering: &mut Answering, data: Bytes) {
        answering.take_data(data, true, &mut self.state.borrow_mut().outbox);
    }

    /// Sends the answer until all of it has left. An error if it does not leave, or not whole.
    pub(super) fn poll_answer<B: Body<Data = Bytes> + Unpin>(
        &self,
        answering: &mut Answering,
        body: &mut B,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            // First as much as there is, so that it leaves in one write.
            while answering.is_open() && self.state.borrow().outbox.has_room() {
                // It may read the request's body in turn, and so come back here.
                let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else { break };
                match frame.transpose() {
                    Ok(frame) => {
                        let outbox = &mut self.state.borrow_mut().outbox;
                        answering.take(frame, body.is_end_stream(), outbox);
                    }
                    Err(_) => answering.break_off(),
                }
            }
            let state = &mut *self.state.borrow_mut();
            if state.outbox.is_empty() {
                ready!(Pin::new(&mut state.io).poll_flush(cx))?;
                return match answering {
                    _ if answering.is_open() => Poll::Pending,
                    // What there was of it has left, so that it looks like part of an answer.
                    _ if answering.is_broken() => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    _ => Poll::Ready(Ok(())),
                };
            }
            ready!(state.outbox.poll_write(Pin::new(&mut state.io), cx))?;
            self.activity.moved(false);
        }
    }

    /// Whether the request has been read to its end.
    pub(super) fn has_read_message(&self) -> bool {
        let state = self.state.borrow();
        state.decoder.has_ended() && !state.broken
    }

    /// Nobody wants the request any more. Whether it could be read to its end without waiting for the
    /// client.
    pub(super) fn pass_over(&self, cx: &mut Context<'_>) -> bool {
        self.read_rest(&mut self.state.borrow_mut(), cx)
    }

    /// The answer has left. Whether the request has been read to its end, or could be without
    /// waiting for the client. Nobody reads its body any more.
    pub(super) fn end_message(&self, cx: &mut Context<'_>) -> bool {
        let state = &mut *self.state.borrow_mut();
        state.outbox.rest();
        let ended = self.read_rest(state, cx);
        self.common.room.give_back(&mut state.room);
        ended
    }

    /// Reads what there is of the message, whose body nobody else reads any more.
    fn read_rest(&self, state: &mut State<T>, cx: &mut Context<'_>) -> bool {
        state.message = state.message.wrapping_add(1);
        state.elsewhere.wake();
        let mut left = UNWANTED;
        while !state.broken && !state.expects && left > 0 {
            match state.decoder.decode(&mut state.buffer) {
                Ok(Decoded::End) => return true,
                Ok(Decoded::Frame(frame)) => {
                    left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
                }
                Ok(Decoded::More(_)) => match self.common.room.poll_read(&mut state.io, cx) {
                    Poll::Ready(Ok(more)) if !more.is_empty() => join(&mut state.buffer, more),
                    _ => return false,
                },
                Err(_) => return false,
            }
        }
        false
    }

    /// Whether the client has sent something behind its last message.
    pub(super) fn has_more(&self, cx: &mut Context<'_>) -> bool {
        let state = &mut *self.state.borrow_mut();
        !state.buffer.is_empty()
            || matches!(self.common.room.poll_read(&mut state.io, cx), Poll::Ready(Ok(more)) if !more.is_empty())
    }

    /// Tells the client that nothing follows.
    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.state.borrow_mut().io).poll_shutdown(cx).map(drop)
    }

    /// Reads some of what the client still sends; whether there was any.
    pub(super) fn poll_discard(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let read = self.common.room.poll_read(&mut self.state.borrow_mut().io, cx);
        read.map(|read| read.is_ok_and(|more| !more.is_empty()))
    }
}

impl<T: Stream> Wire<T> {
    /// Makes the end of the connection look like a break: nothing else tells that the answer is not
    /// whole.
    pub(super) fn reset(&self) {
        self.state.borrow().io.reset();
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Source for Wire<T> {
    fn poll_part(&self, message: u32, cx: &mut Context<'_>) -> Poll<Result<Part, BoxError>> {
        let state = &mut *self.state.borrow_mut();
        if state.broken || state.message != message {
            return Poll::Ready(Err("the message has ended".into()));
        }
        let part = ready!(self.poll_decode(state, cx));
        state.broken = part.is_err();
        if !matches!(part, Ok(Part { last: false, .. })) {
            // From now on it is for the connection's own task to listen for the client's end.
            state.wake_task(cx);
        }
        Poll::Ready(part)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Wire<T> {
    fn poll_decode(&self, state: &mut State<T>, cx: &mut Context<'_>) -> Poll<Result<Part, BoxError>> {
        if state.expects && !state.answered {
            state.expects = false;
            state.outbox.put(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        // Once an answer is on its way, this is for it to do.
        while !state.answered && !state.outbox.is_empty() {
            match state.outbox.poll_write(Pin::new(&mut state.io), cx)? {
                Poll::Ready(_) => self.activity.moved(false),
                Poll::Pending => break,
            }
        }
        loop {
            let expected = match state.decoder.decode(&mut state.buffer)? {
                Decoded::Frame(frame) => {
                    return Poll::Ready(Ok(Part { frame: Some(frame), last: state.decoder.has_ended() }));
                }
                Decoded::End => return Poll::Ready(Ok(Part { frame: None, last: true })),
                Decoded::More(expected) => expected,
            };
            let State { io, room, .. } = state;
            let Poll::Ready(more) = self.common.room.poll_expected(io, cx, room, expected)? else {
                state.wait_elsewhere(cx);
                return Poll::Pending;
            };
            self.activity.moved(true);
            if more.is_empty() {
                state.decoder.closed()?;
            }
            join(&mut state.buffer, more);
        }
    }
}

impl<T> State<T> {
    fn is_task(&self, cx: &Context<'_>) -> bool {
        self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker()))
    }

    fn wait_elsewhere(&mut self, cx: &Context<'_>) {
        if !self.is_task(cx) {
            self.elsewhere.0 = Some(cx.waker().clone());
        }
    }

    fn wake_task(&self, cx: &Context<'_>) {
        if !self.is_task(cx)
            && let Some(task) = &self.task
        {
            task.wake_by_ref();
        }
    }
}

/// Another task than the connection's own, which must learn that the body has no more for it.
#[derive(Debug, Default)]
struct Elsewhere(Option<Waker>);

impl Elsewhere {
    fn wake(&mut self) {
        if let Some(waker) = self.0.take() {
            waker.wake();
        }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.wake();
    }
}
