//! One client connection: HTTP/1.1 or h2c on it, and the clocks that it is held to.
//!
//! The HTTP library has no timeout for a connection whose protocol is not known yet, none for a
//! body and none for an idle connection: [`Activity`](super::activity) has.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONNECTION, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::rt::{Executor, Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::Phase;
use super::activity::{Activity, FAREWELL, LINGER, Limits, Look, UnderWay};
use super::aside::Aside;
use crate::proxy::{Proxy, ResponseBody};

/// How large a header may be, and how much of a body is buffered, in bytes.
const MAX_BUFFER: usize = 128 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    proxy: Proxy,
    limits: Limits,
    phase: watch::Receiver<Phase>,
) {
    let (open, closed) = oneshot::channel();
    let activity = Arc::new(Activity::new());
    let io = Watched { io: TokioIo::new(stream), activity: Arc::clone(&activity), _open: open };
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
    let service = {
        let activity = Arc::clone(&activity);
        service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let one_by_one = request.version() != http::Version::HTTP_2;
            let started = activity.instant();
            let deadline = started + proxy.request_timeout();
            let (proxy, mut exchange) = (proxy.clone(), activity.begin(!one_by_one, deadline));
            // In a box, or every idle connection would keep room for an exchange.
            Box::pin(async move {
                let mut response = proxy.handle(request, started, deadline, &mut exchange).await;
                let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if one_by_one && !switches && exchange.is_last() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(response.map(|body| Tracked { body, _exchange: exchange }))
            })
        })
    };
    let builder = builder();
    let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
    let mut call = Aside::new(next_call(activity.next_look(&limits), phase));
    loop {
        let (called, phase) = tokio::select! {
            biased;
            // What went wrong on a client's connection is the client's affair.
            _ = activity.turn(connection.as_mut()) => return,
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
                        connection.as_mut().graceful_shutdown();
                    }
                    activity.linger()
                }
            },
            Call::Drain if parting => activity.linger(),
            Call::Drain => {
                activity.part();
                if !activity.may_be_asked() {
                    connection.as_mut().graceful_shutdown();
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

fn builder() -> auto::Builder<Local> {
    let mut builder = auto::Builder::new(Local);
    builder
        .http1()
        // One flat buffer a message costs less than a vectored write.
        .writev(false)
        .max_buf_size(MAX_BUFFER)
        // See the module's documentation.
        .header_read_timeout(None);
    builder
        .http2()
        .timer(TokioTimer::new())
        // What a connection may make bearerd hold: for each stream, and in all.
        .max_concurrent_streams(100)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder
}

/// Runs the tasks of a connection on this thread.
#[derive(Debug, Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

/// The body of an answer, which knows when the exchange is over.
struct Tracked {
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
struct Watched<T> {
    io: TokioIo<T>,
    activity: Arc<Activity>,
    /// Tells when this is dropped, which after an upgrade is the tunnel's affair.
    _open: oneshot::Sender<()>,
}

impl<T: AsyncRead + Unpin> Read for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
        self.activity.moved(true);
        Poll::Ready(result)
    }
}

impl<T: AsyncWrite + Unpin> Write for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.io).poll_write(cx, buf));
        self.activity.moved(false);
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
