//! One client connection: HTTP/1.1 or h2c on it, and the clocks that it is held to.
//!
//! The HTTP library has no timeout for a connection whose protocol is not known yet, none for a
//! body and none for an idle connection: [`Activity`](super::activity) has.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::Phase;
use super::activity::{Activity, FAREWELL, LINGER, Limits, Look, UnderWay};
use super::aside::Aside;
use super::version::Connection;
use crate::proxy::{Proxy, ResponseBody};

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    proxy: Proxy,
    limits: Limits,
    phase: watch::Receiver<Phase>,
) {
    let (open, closed) = oneshot::channel();
    let activity = Arc::new(Activity::new());
    let io = Watched { stream, first: Bytes::new(), activity: Arc::clone(&activity), _open: open };
    serve_http(io, activity, proxy, limits, phase).await;
    // After an upgrade a tunnel has the connection: it counts, and is waited for, as before.
    let _ = closed.await;
}

async fn serve_http(
    io: Watched<impl AsyncRead + AsyncWrite + Send + Unpin + 'static>,
    activity: Arc<Activity>,
    proxy: Proxy,
    limits: Limits,
    phase: watch::Receiver<Phase>,
) {
    let exchanges = Exchanges { proxy, activity: Arc::clone(&activity) };
    let mut connection = pin!(Connection::new(io, exchanges));
    let mut call = Aside::new(next_call(activity.next_look(&limits), phase));
    loop {
        let (called, phase) = tokio::select! {
            biased;
            () = activity.turn(connection.as_mut()) => return,
            called = &mut call => called,
        };
        let parting = activity.is_parting();
        let look = match called {
            Call::Ended => return,
            Call::Look => match activity.look(&limits) {
                Look::Close => return,
                // Asked to end, and nothing is under way that would be cut off.
                _ if parting && activity.is_idle_for(FAREWELL) => return,
                Look::Again if !parting => activity.next_look(&limits),
                Look::Again | Look::Farewell => {
                    activity.part();
                    if activity.is_idle_for(LINGER) {
                        connection.graceful_shutdown();
                    }
                    activity.linger()
                }
            },
            Call::Drain if parting => activity.linger(),
            Call::Drain => {
                activity.part();
                if !activity.may_be_asked() {
                    connection.graceful_shutdown();
                }
                activity.linger()
            }
        };
        call.set(next_call(look, phase));
    }
}

/// What calls a connection's attention away from the bytes on it.
enum Call {
    /// It is time to look at what has happened.
    Look,
    /// It is to end when it can.
    Drain,
    /// It is to end now.
    Ended,
}

async fn next_call(look: Instant, mut phase: watch::Receiver<Phase>) -> (Call, watch::Receiver<Phase>) {
    let call = tokio::select! {
        () = sleep_until(look) => Call::Look,
        changed = phase.changed() => changed.map_or(Call::Ended, |()| Call::Drain),
    };
    (call, phase)
}

/// What serves the exchanges of one connection.
pub(super) struct Exchanges {
    proxy: Proxy,
    activity: Arc<Activity>,
}

impl Service<Request<Incoming>> for Exchanges {
    type Response = Response<Tracked>;
    type Error = Infallible;
    /// In a box, or every idle connection would keep room for an exchange.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let one_by_one = request.version() != Version::HTTP_2;
        let started = self.activity.instant();
        let deadline = started + self.proxy.request_timeout();
        let (proxy, mut exchange) = (self.proxy.clone(), self.activity.begin(!one_by_one, deadline));
        Box::pin(async move {
            let mut response = proxy.handle(request, started, deadline, &mut exchange).await;
            let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            if one_by_one && !switches && exchange.is_last() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| Tracked { body, _exchange: exchange }))
        })
    }
}

/// The body of an answer, which knows when the exchange is over.
pub(super) struct Tracked {
    body: ResponseBody,
    _exchange: UnderWay,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = <ResponseBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that reports what moves on it.
pub(super) struct Watched<T> {
    pub(super) stream: T,
    /// Has been read, and is to be read again.
    first: Bytes,
    activity: Arc<Activity>,
    /// Tells when this is dropped, which after an upgrade is the tunnel's affair.
    _open: oneshot::Sender<()>,
}

impl<T> Watched<T> {
    /// The same connection, on which `first` is read before anything else.
    pub(super) fn beginning_with(self, first: Bytes) -> Self {
        Self { first, ..self }
    }
}

impl<T: AsyncRead + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let part = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(part));
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut TokioIo::new(&mut self.stream)).poll_read(cx, buf));
        self.activity.moved(true);
        Poll::Ready(result)
    }
}

impl<T: AsyncWrite + Unpin> Write for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        self.activity.moved(false);
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
