//! The body of an application's request, whatever HTTP it comes in.

use std::error::Error;
use std::future::pending;
use std::pin::Pin;
use std::rc::Weak;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::runtime::Handle;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// How much of what a client of HTTP/2 still sends when nobody wants it is read, in bytes, and how
/// long it may take to learn of its answer.
const UNWANTED: usize = 64 * 1024;
const ON_ITS_WAY: Duration = Duration::from_millis(200);

/// Why a body broke off.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request.
#[derive(Debug)]
pub enum Incoming {
    /// Of HTTP/1.1.
    Http1(Receiving),
    /// Of HTTP/2.
    Http2(Streamed),
    /// What somebody else's server has read.
    Library(hyper::body::Incoming),
}

/// A connection that a body comes on.
pub trait Source {
    /// The next part of the body that came as the connection's message number `message`.
    fn poll_part(&self, message: u32, cx: &mut Context<'_>) -> Poll<Result<Part, BoxError>>;
}

/// What has come of a body.
#[derive(Debug)]
pub struct Part {
    /// Nothing at the end.
    pub frame: Option<Frame<Bytes>>,
    /// Nothing is behind it.
    pub last: bool,
}

/// A body that is read from its connection, by whoever polls it.
///
/// It lets go of the connection with the last byte, so that what follows cannot be taken for a part
/// of it. The connection does not wait for it, and may be gone first: then it has broken off.
pub struct Receiving {
    source: Option<Weak<dyn Source>>,
    message: u32,
    /// How much is still to come, if that is known.
    left: Option<u64>,
}

impl Receiving {
    /// No body.
    pub fn none() -> Self {
        Self { source: None, message: 0, left: Some(0) }
    }

    /// The body of message number `message` on `source`, of `length` bytes if that was told.
    pub fn new(source: Weak<dyn Source>, message: u32, length: Option<u64>) -> Self {
        Self { source: Some(source), message, left: length }
    }
}

impl Body for Receiving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(source) = &this.source else { return Poll::Ready(None) };
        let Some(source) = source.upgrade() else {
            return Poll::Ready(Some(Err("the connection is gone".into())));
        };
        let Part { frame, last } = match ready!(source.poll_part(this.message, cx)) {
            Ok(part) => part,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        if let (Some(left), Some(data)) = (&mut this.left, frame.as_ref().and_then(Frame::data_ref)) {
            *left = left.saturating_sub(data.len() as u64);
        }
        if last {
            *this = Self::none();
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl std::fmt::Debug for Receiving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiving").field("left", &self.left).finish_non_exhaustive()
    }
}

/// The body of a request in HTTP/2. Let go of before its end, it stays open for what is on its way.
///
/// A client learns of an answer that leaves early when it comes, and what it has sent by then comes on
/// a stream that has ended. The library remembers few of those; what comes on others it counts, and in
/// the end it closes the connection, under exchanges that may have been processed.
///
/// It has ended only if its stream has: the library takes a stream that is reset without an error for one
/// that has ended, and what came of it would pass for all.
#[derive(Debug)]
pub struct Streamed {
    body: Option<hyper::body::Incoming>,
    /// Its trailers have come.
    trailers: bool,
}

impl Streamed {
    /// That of a request which the task that drops it may outlive; it must be able to spawn local tasks.
    pub fn new(body: hyper::body::Incoming) -> Self {
        Self { body: Some(body).filter(|body| !body.is_end_stream()), trailers: false }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if Handle::try_current().is_ok() {
            spawn_local(timeout(ON_ITS_WAY, pass_over(body)));
        }
    }
}

/// Ready when `body` has ended.
async fn pass_over(mut body: hyper::body::Incoming) {
    let mut left = UNWANTED;
    while left > 0 {
        let Some(Ok(frame)) = body.frame().await else { return };
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
    }
    // There is no more room for it, so that nothing is on its way when its stream is reset.
    pending().await
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx)).transpose()?;
        this.trailers |= frame.as_ref().is_some_and(Frame::is_trailers);
        Poll::Ready(match frame {
            None if !this.trailers && !body.is_end_stream() => Some(Err("the stream was reset".into())),
            frame => frame.map(Ok),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx),
            Self::Http2(body) => Pin::new(body).poll_frame(cx),
            Self::Library(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Library(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Library(body) => body.size_hint(),
        }
    }
}
