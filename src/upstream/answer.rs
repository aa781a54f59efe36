//! The body of a partner's answer, and with it the connection that it comes on.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{IdleLimited, Lease, StreamError, Upload};

/// The body of an answer. The connection goes back to its pool when this has been read to its end
/// and the request has been sent to its own; it is closed when this is dropped earlier.
pub struct Answer<B> {
    body: IdleLimited,
    lease: Option<Lease<B>>,
    upload: Upload,
}

impl<B> Answer<B> {
    pub(super) fn new(body: Incoming, lease: Lease<B>, upload: Upload, idle_timeout: Duration) -> Self {
        let mut answer = Self { body: IdleLimited::new(body, idle_timeout), lease: Some(lease), upload };
        if answer.is_end_stream() {
            answer.release();
        }
        answer
    }

    /// The answer has ended. If the request has too, another may follow on the connection; if not,
    /// the connection is closed when this is dropped.
    fn release(&mut self) {
        let sent = self.upload.as_ref().is_none_or(|upload| upload.get());
        if let Some(lease) = self.lease.take_if(|_| sent) {
            lease.give_back();
        }
    }
}

impl<B> Body for Answer<B> {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let ended = match &frame {
            None => true,
            // Nothing follows trailers, and nobody asks whether something does.
            Some(Ok(frame)) => frame.is_trailers() || self.is_end_stream(),
            Some(Err(_)) => false,
        };
        if ended {
            self.release();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> std::fmt::Debug for Answer<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}
