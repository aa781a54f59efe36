//! One client connection: HTTP/1.1 or h2c on it, and the clocks that it is held to.
//!
//! No version of HTTP has a timeout of its own: [`Activity`](super::activity) has one for whatever
//! the connection waits for.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

use super::Phase;
use super::activity::{Activity, LINGER, Limits, Look, UnderWay};
use super::aside::Aside;
use super::http1::Common;
use super::tasks::{Progress, Tasks};
use super::version::{Connection, connection};
use crate::clock::turn;
use crate::incoming::{Incoming, Streamed};
use crate::proxy::{Proxy, ResponseBody, Tunnel};

/// What a client is connected by.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Makes its end look like a break, where the system can do that.
    fn reset(&self);
}

impl Stream for TcpStream {
    fn reset(&self) {
        // Without the option the connection ends as others do.
        let _ = self.set_zero_linger();
    }
}

impl Stream for UnixStream {
    fn reset(&self) {}
}

pin_project! {
    /// A connection, as a future that is ready when it has ended.
    ///
    /// What is looked at whenever it is woken comes first, and right behind what the runtime looks at:
    /// with hundreds of connections it has left the near caches, and each other place is one more wait.
    #[repr(C)]
    struct Serving<T, F, C, G> {
        call: Aside<C>,
        next_call: fn(Instant, watch::Receiver<Phase>) -> C,
        activity: Rc<Activity>,
        #[pin]
        connection: Connection<T, F>,
        limits: Limits,
        guards: Option<G>,
    }
}

/// Serves one connection to its end, and keeps `guards` as long.
pub(super) fn serve(
    stream: impl Stream,
    proxy: Proxy,
    common: Rc<Common>,
    limits: Limits,
    phase: watch::Receiver<Phase>,
    guards: impl Unpin + 'static,
) -> impl Future<Output = ()> {
    let (activity, tasks) = (Rc::new(Activity::new()), Tasks::new(limits.still));
    let exchanges = Exchanges { proxy, activity: Rc::clone(&activity), common, tasks };
    Serving {
        call: Aside::new(next_call(activity.next_look(&limits), phase)),
        next_call,
        activity,
        connection: connection(stream, exchanges),
        limits,
        guards: Some(guards),
    }
}

impl<T, F, C, G> Future for Serving<T, F, C, G>
where
    T: Stream,
    F: Future<Output = Option<Box<Tunnel>>>,
    C: Future<Output = (Call, watch::Receiver<Phase>)>,
    G: 'static,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let this = self.as_mut().project();
            let mut connection = this.connection;
            if let Poll::Ready(tunnel) = turn::run(|| connection.as_mut().poll(cx)) {
                if let Some((tunnel, client)) = tunnel {
                    let guards = this.guards.take();
                    // It has a clock of its own.
                    spawn_local(async move {
                        let _guards = guards;
                        tunnel.carry(client).await;
                    });
                }
                return Poll::Ready(());
            }
            let (called, phase) = ready!(Pin::new(&mut *this.call).poll(cx));
            let Some(look) = attend(called, this.activity, this.limits, connection) else {
                return Poll::Ready(());
            };
            this.call.set((this.next_call)(look, phase));
        }
    }
}

/// When to look at the connection again; `None` if it is to end at once.
fn attend<T: Stream, F>(
    called: Call,
    activity: &Activity,
    limits: &Limits,
    connection: Pin<&mut Connection<T, F>>,
) -> Option<Instant> {
    let parting = activity.is_parting();
    Some(match called {
        Call::Ended => return None,
        Call::Look => match activity.look(limits) {
            Look::Close => return None,
            _ if activity.is_overdue_to_part(limits) => return None,
            Look::Again if !parting => activity.next_look(limits),
            Look::Again | Look::Farewell => {
                activity.part();
                if activity.is_multiplexed() || activity.is_idle_for(LINGER) {
                    connection.graceful_shutdown();
                }
                activity.linger()
            }
        },
        Call::Drain if parting => activity.linger(),
        Call::Drain => {
            activity.part();
            // In HTTP/1 the answer says so, or if it is on its way already, that to a request which the
            // client may send before it can know.
            if activity.is_multiplexed() {
                connection.graceful_shutdown();
            }
            activity.linger()
        }
    })
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
    pub(super) proxy: Proxy,
    pub(super) activity: Rc<Activity>,
    pub(super) common: Rc<Common>,
    /// Of HTTP/2.
    pub(super) tasks: Tasks,
}

impl Exchanges {
    /// A header is complete: when it was, when the head of its answer is due, and the exchange.
    pub(super) fn begin(&self, multiplexed: bool) -> (Instant, Instant, UnderWay) {
        let started = turn::now();
        let deadline = started + self.proxy.request_timeout();
        (started, deadline, self.activity.begin(multiplexed, deadline))
    }
}

/// Those of HTTP/2.
impl Service<Request<hyper::body::Incoming>> for Exchanges {
    type Response = Response<Tracked>;
    type Error = Infallible;
    /// In a box, or every idle connection would keep room for an exchange.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let (started, deadline, mut exchange) = self.begin(true);
        let (proxy, progress) = (self.proxy.clone(), self.tasks.progress());
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = Incoming::Http2(Streamed::new(body));
            let answer = proxy.handle(head.into(), body, started, deadline, &mut exchange).await;
            progress.take();
            Ok(answer.map(|body| Tracked { body, progress, _exchange: exchange }).into())
        })
    }
}

/// The body of an answer, which knows when the exchange is over.
pub(super) struct Tracked {
    body: ResponseBody,
    progress: Rc<Progress>,
    _exchange: UnderWay,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = <ResponseBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.progress.take();
        Poll::Ready(frame)
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
    stream: T,
    /// Has been read, and is to be read again.
    first: Bytes,
    activity: Rc<Activity>,
}

impl<T> Watched<T> {
    /// A connection on which `first` is read before anything else.
    pub(super) fn new(stream: T, first: Bytes, activity: Rc<Activity>) -> Self {
        Self { stream, first, activity }
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
