//! The body of a partner's answer, and with it the connection that it comes on.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::http1::Incoming;
use super::{Counted, IdleLimited, StreamError};
use crate::partner::Transport;

/// The body of an answer. The connection goes back to its pool when this has been read to its end
/// and the request has been sent to its own; it is closed when this is dropped earlier.
pub struct Answer(IdleLimited<Incoming>);

impl Answer {
    pub(super) fn new(body: Incoming, idle_timeout: Duration) -> Self {
        Self(IdleLimited::new(body, idle_timeout))
    }

    /// After a 101: the connection, on which another protocol is spoken from now on. `None` if the
    /// request had not left when the partner agreed.
    pub fn upgrade(self) -> Option<Upgraded> {
        self.0.into_inner().upgrade()
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

impl Body for Answer {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upgraded").field("io", &self.io).finish_non_exhaustive()
    }
}
