//! One client connection: HTTP/1.1 or h2c on it, and the clocks that it is held to.
//!
//! The HTTP library has no timeout for a connection whose protocol is not known yet, none for a
//! body and none for an idle connection. One timer per connection does all of that here. It is not
//! moved when something happens; when it fires, it looks at what has happened and is set anew. It
//! never sleeps longer than the shortest of the limits, so it is never late.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
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
use crate::proxy::{Proxy, ResponseBody};

/// How large a header may be, and how much of a body is buffered, in bytes.
const MAX_BUFFER: usize = 128 * 1024;

/// How long an idle connection is still listened to in a drain, because its client may have sent a
/// request before it can know.
const LINGER: Duration = Duration::from_secs(1);

/// How long a connection that has been asked to end may take for it.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a client may take for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) header: Duration,
    pub(super) idle: Duration,
    /// Without a byte in either direction while exchanges are under way.
    pub(super) still: Duration,
}

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
    mut phase: watch::Receiver<Phase>,
) {
    let service = {
        let activity = Arc::clone(&activity);
        service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (proxy, under_way) = (proxy.clone(), activity.begin(request.version()));
            let activity = Arc::clone(&activity);
            let one_by_one = request.version() != http::Version::HTTP_2;
            async move {
                let mut response = proxy.handle(request, Instant::now()).await;
                let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                if one_by_one && !switches && activity.parting.load(Relaxed) {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, std::convert::Infallible>(
                    response.map(|body| Tracked { body, _under_way: under_way }),
                )
            }
        })
    };
    let builder = builder();
    let mut connection = pin!(builder.serve_connection_with_upgrades(io, service));
    let mut timer = pin!(sleep_until(activity.next_look(&limits)));
    loop {
        let parting = activity.parting.load(Relaxed);
        tokio::select! {
            // What went wrong on a client's connection is the client's affair.
            _ = connection.as_mut() => return,
            () = timer.as_mut() => match activity.look(&limits) {
                Look::Close => return,
                // Asked to end, and nothing is under way that would be cut off.
                _ if parting && activity.is_idle_for(FAREWELL) => return,
                Look::Again if !parting => timer.as_mut().reset(activity.next_look(&limits)),
                Look::Again | Look::Farewell => {
                    activity.parting.store(true, Relaxed);
                    if activity.is_idle_for(LINGER) {
                        connection.as_mut().graceful_shutdown();
                    }
                    timer.as_mut().reset(Instant::now() + LINGER);
                }
            },
            changed = phase.changed(), if !parting => {
                if changed.is_err() {
                    return;
                }
                activity.parting.store(true, Relaxed);
                if !activity.may_be_asked() {
                    connection.as_mut().graceful_shutdown();
                }
                timer.as_mut().reset(Instant::now() + LINGER);
            }
        }
    }
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

/// What happens on a connection. Written and read by one thread; atomic because an upgraded
/// connection must be able to move.
#[derive(Debug)]
struct Activity {
    accepted: Instant,
    /// The exchanges under way.
    under_way: AtomicU32,
    /// When the header that is being read began, in nanoseconds from `accepted`; [`NONE`] if none
    /// is.
    header: AtomicU64,
    /// Since when there has been nothing to do, or since when no byte has moved.
    since: AtomicU64,
    /// Bytes have moved since the timer fired last.
    moved: AtomicBool,
    /// In HTTP/2 bytes do not mean a request.
    multiplexed: AtomicBool,
    /// The next answer is the last.
    parting: AtomicBool,
}

const NONE: u64 = u64::MAX;

/// What the timer finds.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Again,
    Close,
    Farewell,
}

impl Activity {
    fn new() -> Self {
        Self {
            accepted: Instant::now(),
            under_way: AtomicU32::new(0),
            // The time for the first header begins with the connection.
            header: AtomicU64::new(0),
            since: AtomicU64::new(0),
            moved: AtomicBool::new(false),
            multiplexed: AtomicBool::new(false),
            parting: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_nanos()).unwrap_or(NONE - 1)
    }

    /// Bytes came or went.
    fn moved(&self, came: bool) {
        if self.under_way.load(Relaxed) > 0 {
            self.moved.store(true, Relaxed);
        } else if self.multiplexed.load(Relaxed) || self.header.load(Relaxed) != NONE {
            // Bytes do not mean a request, or it is timed already.
        } else if came {
            self.header.store(self.now(), Relaxed);
        } else {
            // The last of an answer is on its way.
            self.since.store(self.now(), Relaxed);
        }
    }

    /// A header is complete.
    fn begin(self: &Arc<Self>, version: http::Version) -> UnderWay {
        self.under_way.store(self.under_way.load(Relaxed) + 1, Relaxed);
        self.header.store(NONE, Relaxed);
        self.moved.store(true, Relaxed);
        self.multiplexed.store(version == http::Version::HTTP_2, Relaxed);
        UnderWay(Arc::clone(self))
    }

    /// Whether a request may be on its way that would be lost if the connection were closed now. In
    /// HTTP/2 the client is told up to which stream it was heard.
    fn may_be_asked(&self) -> bool {
        self.under_way.load(Relaxed) == 0 && !self.multiplexed.load(Relaxed)
    }

    fn is_idle_for(&self, time: Duration) -> bool {
        let idle = self.now().saturating_sub(self.since.load(Relaxed));
        self.under_way.load(Relaxed) == 0 && Duration::from_nanos(idle) >= time
    }

    fn end(&self) {
        let left = self.under_way.load(Relaxed) - 1;
        self.under_way.store(left, Relaxed);
        if left == 0 {
            self.since.store(self.now(), Relaxed);
        }
    }

    /// What is due, and whether it is.
    fn look(&self, limits: &Limits) -> Look {
        let now = self.now();
        let over = |since: u64, limit: Duration| Duration::from_nanos(now.saturating_sub(since)) >= limit;
        if self.under_way.load(Relaxed) > 0 {
            if self.moved.swap(false, Relaxed) {
                self.since.store(now, Relaxed);
            }
            return if over(self.since.load(Relaxed), limits.still) { Look::Close } else { Look::Again };
        }
        match self.header.load(Relaxed) {
            NONE if over(self.since.load(Relaxed), limits.idle) => Look::Farewell,
            NONE => Look::Again,
            header if over(header, limits.header) => Look::Close,
            _ => Look::Again,
        }
    }

    /// When to look again.
    fn next_look(&self, limits: &Limits) -> Instant {
        let (since, limit) = if self.under_way.load(Relaxed) > 0 {
            (self.since.load(Relaxed), limits.still)
        } else {
            match self.header.load(Relaxed) {
                NONE => (self.since.load(Relaxed), limits.idle),
                header => (header, limits.header),
            }
        };
        let due = self.accepted + Duration::from_nanos(since) + limit;
        due.min(Instant::now() + limits.header.min(limits.idle).min(limits.still))
    }
}

/// An exchange, for as long as it is under way.
#[derive(Debug)]
struct UnderWay(Arc<Activity>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// The body of an answer, which knows when the exchange is over.
struct Tracked {
    body: ResponseBody,
    _under_way: UnderWay,
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        header: Duration::from_secs(30),
        idle: Duration::from_secs(60),
        still: Duration::from_secs(120),
    };

    async fn pass(secs: u64) {
        tokio::time::advance(Duration::from_secs(secs)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_header_is_due_from_accept_whatever_comes() {
        let activity = Activity::new();
        pass(29).await;
        activity.moved(true);
        assert_eq!(activity.look(&LIMITS), Look::Again);
        assert!(activity.next_look(&LIMITS) <= Instant::now() + Duration::from_secs(1));
        pass(1).await;
        assert_eq!(activity.look(&LIMITS), Look::Close);
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_header_is_due_from_its_first_byte() {
        let activity = Arc::new(Activity::new());
        drop(activity.begin(http::Version::HTTP_11));
        pass(50).await;
        activity.moved(true);
        pass(29).await;
        activity.moved(true);
        assert_eq!(activity.look(&LIMITS), Look::Again);
        pass(1).await;
        assert_eq!(activity.look(&LIMITS), Look::Close);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_asked_to_end() {
        let activity = Arc::new(Activity::new());
        let exchange = activity.begin(http::Version::HTTP_11);
        pass(10).await;
        drop(exchange);
        pass(59).await;
        assert_eq!(activity.look(&LIMITS), Look::Again);
        pass(1).await;
        assert_eq!(activity.look(&LIMITS), Look::Farewell);
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_may_last_as_long_as_bytes_move() {
        let activity = Arc::new(Activity::new());
        let _exchange = activity.begin(http::Version::HTTP_11);
        for _ in 0..100 {
            pass(100).await;
            activity.moved(false);
            assert_eq!(activity.look(&LIMITS), Look::Again);
        }
        pass(119).await;
        assert_eq!(activity.look(&LIMITS), Look::Again);
        pass(1).await;
        assert_eq!(activity.look(&LIMITS), Look::Close);
    }

    #[tokio::test(start_paused = true)]
    async fn pings_on_an_idle_http2_connection_are_no_header() {
        let activity = Arc::new(Activity::new());
        drop(activity.begin(http::Version::HTTP_2));
        activity.moved(true);
        pass(59).await;
        assert_eq!(activity.look(&LIMITS), Look::Again);
        pass(1).await;
        assert_eq!(activity.look(&LIMITS), Look::Farewell);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_not_idle_while_the_last_of_an_answer_goes_out() {
        let activity = Arc::new(Activity::new());
        drop(activity.begin(http::Version::HTTP_11));
        pass(4).await;
        activity.moved(false);
        pass(4).await;
        assert!(!activity.is_idle_for(FAREWELL));
        pass(1).await;
        assert!(activity.is_idle_for(FAREWELL));
        let _exchange = activity.begin(http::Version::HTTP_11);
        assert!(!activity.is_idle_for(FAREWELL));
    }

    #[tokio::test(start_paused = true)]
    async fn the_timer_is_never_late() {
        let activity = Arc::new(Activity::new());
        let exchange = activity.begin(http::Version::HTTP_11);
        let look = activity.next_look(&LIMITS);
        // Right after the timer was set, the exchange ends and the next header begins.
        drop(exchange);
        activity.moved(true);
        assert!(look <= Instant::now() + LIMITS.header);
    }
}
