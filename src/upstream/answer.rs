//! An answer; and the body of a partner's, with the connection that it comes on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{Response, StatusCode, response};
use http_body::{Body, Frame, SizeHint};

use super::{Counted, ExchangeError, IdleLimited, StreamError, http1, http2};
use crate::http1::Head;
use crate::partner::Transport;

/// An answer.
#[derive(Debug)]
pub struct Answer<B> {
    /// Its head.
    pub head: Head<response::Parts>,
    /// Its body.
    pub body: B,
}

impl<B> Answer<B> {
    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.head.status
    }

    /// The same answer with another body.
    pub fn map<C>(self, body: impl FnOnce(B) -> C) -> Answer<C> {
        Answer { head: self.head, body: body(self.body) }
    }
}

impl<B> From<Response<B>> for Answer<B> {
    fn from(response: Response<B>) -> Self {
        let (head, body) = response.into_parts();
        Self { head: head.into(), body }
    }
}

impl<B> From<Answer<B>> for Response<B> {
    fn from(Answer { head, body }: Answer<B>) -> Self {
        Self::from_parts(head.into_parts(), body)
    }
}

/// The body of an answer. The connection goes back to its pool when the answer has come to its end
/// and the request has been sent to its own; it is closed when this is dropped earlier. In HTTP/2
/// the same is true of a stream.
pub struct AnswerBody(Content);

enum Content {
    /// All of it has come with the head, and the connection has gone back already. Empty when it has
    /// been read.
    Whole(Bytes),
    /// In a box, because answers are moved often and most have come whole.
    Coming(Box<IdleLimited<Incoming>>),
}

enum Incoming {
    Http1(http1::Incoming),
    Http2(http2::Incoming),
}

impl AnswerBody {
    pub(super) fn whole(data: Bytes) -> Self {
        Self(Content::Whole(data))
    }

    pub(super) fn http1(body: http1::Incoming, idle_timeout: Duration) -> Self {
        Self::coming(Incoming::Http1(body), idle_timeout)
    }

    pub(super) fn http2(body: http2::Incoming, idle_timeout: Duration) -> Self {
        Self::coming(Incoming::Http2(body), idle_timeout)
    }

    fn coming(body: Incoming, idle_timeout: Duration) -> Self {
        Self(Content::Coming(Box::new(IdleLimited::new(body, idle_timeout))))
    }

    /// All of it, if it has come; nothing is left of it then.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Content::Whole(data) => (!data.is_empty()).then(|| std::mem::take(data)),
            Content::Coming(_) => None,
        }
    }

    /// Whether all of it has been passed on, but perhaps for trailers: whoever knows its length asks for
    /// no more.
    pub fn is_whole(&self) -> bool {
        match &self.0 {
            Content::Whole(data) => data.is_empty(),
            Content::Coming(body) => match body.inner() {
                Incoming::Http1(body) => body.is_end_stream(),
                Incoming::Http2(body) => body.is_whole(),
            },
        }
    }

    /// After a 101: the connection, on which another protocol is spoken from now on. `None` if the
    /// request had not left when the partner agreed.
    pub fn upgrade(self) -> Option<Upgraded> {
        match self.0 {
            Content::Coming(body) => match body.into_inner() {
                Incoming::Http1(body) => body.upgrade(),
                Incoming::Http2(_) => None,
            },
            Content::Whole(_) => None,
        }
    }
}

/// A connection on which the partner has agreed to another protocol.
pub struct Upgraded {
    /// The connection.
    pub io: Transport,
    /// What the partner has sent on it already.
    pub read: Bytes,
    pub(super) _counted: Counted,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = ExchangeError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ExchangeError>>> {
        match self.get_mut() {
            Self::Http1(body) => Pin::new(body).poll_frame(cx),
            Self::Http2(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        match &mut self.0 {
            Content::Whole(_) => Poll::Ready(self.take_whole().map(|data| Ok(Frame::data(data)))),
            Content::Coming(body) => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map(cleaned)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Whole(data) => data.is_empty(),
            Content::Coming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(data) => SizeHint::with_exact(data.len() as u64),
            Content::Coming(body) => body.size_hint(),
        }
    }
}

/// What is for one hop, or frames a message, has no place in trailers (RFC 9110 section 6.5.1), where
/// another server might take it for the header's.
fn cleaned(frame: Frame<Bytes>) -> Frame<Bytes> {
    const BAD: [HeaderName; 10] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    match frame.into_trailers() {
        Ok(mut trailers) => {
            for name in BAD {
                trailers.remove(name);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

impl std::fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerBody").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgraded").field("io", &self.io).finish_non_exhaustive()
    }
}
