//! The body of an application's request, whatever HTTP it comes in.

use std::error::Error;
use std::pin::Pin;
use std::rc::Weak;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// Why a body broke off.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request.
#[derive(Debug)]
pub enum Incoming {
    /// Of HTTP/1.1.
    Http1(Receiving),
    /// What the HTTP library has read.
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

impl Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx),
            Self::Library(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Library(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Library(body) => body.size_hint(),
        }
    }
}
