//! A body that may not stand still.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// A body, from either side, that ends in an error when nothing has come for too long.
pub struct IdleLimited<B> {
    body: B,
    limit: Duration,
    /// Made when the body first lets us wait, so that a body that is all there costs no timer.
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer runs for the wait that is going on.
    waiting: bool,
}

impl<B> IdleLimited<B> {
    /// Limits how long each frame of `body` is waited for.
    pub fn new(body: B, limit: Duration) -> Self {
        Self { body, limit, timer: None, waiting: false }
    }

    /// The body as it is.
    pub fn inner(&self) -> &B {
        &self.body
    }

    /// The body without its limit.
    pub fn into_inner(self) -> B {
        self.body
    }
}

impl<B> Body for IdleLimited<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| StreamError::Broken(error.into()))));
        }
        let limit = this.limit;
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !this.waiting {
            this.waiting = true;
            timer.as_mut().reset(Instant::now() + limit);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(StreamError::Idle)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> std::fmt::Debug for IdleLimited<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IdleLimited").finish_non_exhaustive()
    }
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection broke, or the framing was wrong.
    #[error("the body broke off")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
    /// Nothing came for `server.idle_timeout`.
    #[error("the body stood still for too long")]
    Idle,
}
