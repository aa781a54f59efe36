//! Watches whether anything of a request was sent.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::{Clock, Moment};
use crate::partner::Transport;

/// What became of a request. Outlives the connection, and the future that held it.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<Flags>);

#[derive(Default)]
struct Flags {
    any: AtomicBool,
    too_late: AtomicBool,
}

impl Sent {
    /// Whether the first byte may have left. Below a byte that was handed on nothing is certain.
    pub(super) fn any(&self) -> bool {
        self.0.any.load(Ordering::Acquire)
    }

    /// Whether the first byte was held back because the time was over.
    pub(super) fn too_late(&self) -> bool {
        self.0.too_late.load(Ordering::Acquire)
    }
}

/// A connection, TLS done, that notes the first byte of a request before it hands it on, and that
/// hands none on once the time is over.
///
/// The latter is for a process that was stopped, or a machine that was suspended, between writing
/// the intent and sending: by now another replica may have presented the refresh token.
pub(super) struct Watched {
    transport: Transport,
    sent: Sent,
    clock: Arc<dyn Clock>,
    deadline: Moment,
}

impl Watched {
    pub(super) fn new(transport: Transport, sent: Sent, clock: Arc<dyn Clock>, deadline: Moment) -> Self {
        Self { transport, sent, clock, deadline }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_read(cx, buf)
    }
}

// Vectored writes are left to the default, which comes through `poll_write`.
impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if !buf.is_empty() && !self.sent.any() {
            if self.clock.now() >= self.deadline {
                self.sent.0.too_late.store(true, Ordering::Release);
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // Before the write: one that fails or has to wait may have sent some of it all the
            // same.
            self.sent.0.any.store(true, Ordering::Release);
        }
        Pin::new(&mut self.transport).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
