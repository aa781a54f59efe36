//! HTTP/1.1 from the side that is asked.
//!
//! This is what every request costs, so it is done without a task, a channel or a second future of
//! its own: an exchange reads its body from the connection itself, and head and body of its answer
//! leave in one write. What may be read is decided in [`head`] and `http1/decode.rs`.
//!
//! What always holds: one exchange is under way at a time; bytes behind a request's body are parsed
//! as a request only if that body was read to its end and its answer has left; an answer whose body
//! breaks off is followed by the end of the connection, and by nothing else.

mod answer;
mod date;
mod head;
mod wire;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as _, SizeHint};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use self::answer::Answering;
use self::date::Date;
use self::head::Facts;
pub(super) use self::wire::Client;
use self::wire::{NextRequest, Wire};
use super::connection::{Exchanges, Stream};
use super::turnstile::Turnstile;
use crate::http1::ReadRoom;
use crate::proxy::{Tunnel, Unreadable};
use crate::upstream::Answer;

/// How long what a client still sends is read and thrown away once it has had its last answer. If it
/// were not, the system would reset the connection, and the client might lose the answer.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long of that nothing may come.
const SILENCE: Duration = Duration::from_secs(2);

/// What the connections of one runtime share.
#[derive(Debug)]
pub(super) struct Common {
    room: ReadRoom,
    date: Date,
    turnstile: Rc<Turnstile>,
}

impl Common {
    /// What those of the runtime that this is called in share.
    pub(super) fn new() -> Self {
        Self { room: ReadRoom::default(), date: Date::default(), turnstile: Turnstile::new() }
    }

    /// Frees what is not used; to be called now and then.
    pub(super) fn sweep(&self) {
        self.room.sweep();
    }
}

pin_project! {
    /// A client's connection, as a future that is ready when it has ended or is to be a tunnel.
    pub(super) struct Connection<T, F> {
        wire: Rc<Wire<T>>,
        #[pin]
        serving: F,
    }
}

/// A connection on which `first` has been read already.
pub(super) fn connection<T: Stream>(
    io: T,
    first: Bytes,
    exchanges: Exchanges,
) -> Connection<T, impl Future<Output = Option<Box<Tunnel>>>> {
    let wire = Rc::new(Wire::new(io, first, Rc::clone(&exchanges.activity), Rc::clone(&exchanges.common)));
    Connection { serving: serve(Rc::clone(&wire), exchanges), wire }
}

impl<T: Stream, F> Connection<T, F> {
    /// Takes no more exchanges, and ends with the one that is under way or has begun to arrive.
    pub(super) fn graceful_shutdown(&self) {
        self.wire.part();
    }
}

impl<T: Stream, F: Future<Output = Option<Box<Tunnel>>>> Future for Connection<T, F> {
    type Output = Option<(Box<Tunnel>, Client<T>)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let tunnel = this.serving.poll(cx);
        tunnel.map(|tunnel| tunnel.map(|tunnel| (tunnel, Client::new(Rc::clone(this.wire)))))
    }
}

/// What follows an exchange.
enum Next {
    Request,
    /// The end. If the client may still be sending, its last words are heard.
    End {
        unread: bool,
    },
    /// The end, and nothing is said any more: the client has gone, or must see that its answer is
    /// not whole.
    Cut,
    Tunnel(Box<Tunnel>),
}

async fn serve<T: Stream>(wire: Rc<Wire<T>>, exchanges: Exchanges) -> Option<Box<Tunnel>> {
    loop {
        let next = match poll_fn(|cx| wire.poll_request(cx)).await {
            Ok(None) => return None,
            // Not in a box: that an idle connection keeps room for an exchange costs less than to make
            // that room, and to copy the exchange into it, for every request.
            Ok(Some(request)) => {
                let mut exchange = pin!(exchange(&wire, &exchanges, request));
                poll_fn(|cx| match exchange.as_mut().poll(cx) {
                    Poll::Pending => wire.poll_gone(cx).map(|()| Next::Cut),
                    next => next,
                })
                .await
            }
            // This one is seldom.
            Err(unreadable) => Box::pin(refuse(&wire, unreadable)).await,
        };
        match next {
            Next::Request => {}
            Next::Tunnel(tunnel) => return Some(tunnel),
            Next::Cut => return None,
            Next::End { unread } => {
                poll_fn(|cx| wire.poll_shutdown(cx)).await;
                if unread {
                    let _ = timeout(LAST_WORDS, last_words(&wire)).await;
                }
                return None;
            }
        }
    }
}

/// Reads what the client still sends, until it falls silent.
async fn last_words<T: AsyncRead + AsyncWrite + Unpin + 'static>(wire: &Wire<T>) {
    while let Ok(true) = timeout(SILENCE, poll_fn(|cx| wire.poll_discard(cx))).await {}
}

/// One exchange, from the head of its request to the last byte of its answer.
async fn exchange<T: Stream>(wire: &Wire<T>, exchanges: &Exchanges, request: NextRequest) -> Next {
    let NextRequest { head, body, facts } = request;
    let (started, deadline, mut under_way) = exchanges.begin(false);
    let answer = exchanges.proxy.handle(head, body, started, deadline, &mut under_way).await;
    let Answer { head, mut body } = answer;
    // A client must know that its next request would not be looked at.
    let is_read =
        wire.has_read_message() || body.is_own() && poll_fn(|cx| Poll::Ready(wire.pass_over(cx))).await;
    let is_last = under_way.is_last() || !is_read;
    let mut answering = wire.begin_answer(&head, &body.size_hint(), facts, is_last);
    if answering.is_open()
        && let Some(data) = body.take_whole()
    {
        wire.put_body(&mut answering, data);
    }
    let cut_short = answering.ends_with_connection().then(|| CutShort(wire));
    if poll_fn(|cx| wire.poll_answer(&mut answering, &mut body, cx)).await.is_err() {
        return Next::Cut;
    }
    std::mem::forget(cut_short);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // Bytes of a body would be the tunnel's first.
        let tunnel = body.into_tunnel().filter(|_| wire.has_read_message());
        return tunnel.map_or(Next::Cut, Next::Tunnel);
    }
    drop(body);
    match poll_fn(|cx| Poll::Ready(wire.end_message(cx))).await {
        true if answering.is_persistent() => Next::Request,
        ended => Next::End { unread: !ended || poll_fn(|cx| Poll::Ready(wire.has_more(cx))).await },
    }
}

/// An answer that the connection's end will end. Dropped while it is on its way, whatever the reason, it
/// must not look whole.
struct CutShort<'a, T: Stream>(&'a Wire<T>);

impl<T: Stream> Drop for CutShort<'_, T> {
    fn drop(&mut self) {
        self.0.reset();
    }
}

/// Answers what is no request.
async fn refuse<T: Stream>(wire: &Wire<T>, unreadable: Unreadable) -> Next {
    let (head, data) = unreadable.response().into_parts();
    let hint = SizeHint::with_exact(data.len() as u64);
    let mut answering: Answering = wire.begin_answer(&head, &hint, Facts::default(), true);
    let mut body = http_body_util::Full::new(data);
    match poll_fn(|cx| wire.poll_answer(&mut answering, &mut body, cx)).await {
        Ok(()) => Next::End { unread: true },
        Err(_) => Next::Cut,
    }
}

#[cfg(test)]
mod tests;
