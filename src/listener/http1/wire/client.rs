//! A client's connection that goes on in another protocol.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Wire;

/// The connection as it is.
pub(crate) struct Client<T>(Rc<Wire<T>>);

impl<T> Client<T> {
    pub(in super::super) fn new(wire: Rc<Wire<T>>) -> Self {
        // It would hold the memory of a task that has ended.
        wire.state.borrow_mut().task = None;
        Self(wire)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Client<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let state = &mut *self.0.state.borrow_mut();
        if state.buffer.is_empty() {
            return Pin::new(&mut state.io).poll_read(cx, buf);
        }
        let part = state.buffer.len().min(buf.remaining());
        buf.put_slice(&state.buffer.split_to(part));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Client<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0.state.borrow_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.state.borrow_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.state.borrow_mut().io).poll_shutdown(cx)
    }
}
