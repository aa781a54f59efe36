//! A connection, whether in clear or over TLS.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A connection to a partner.
///
/// It takes vectored writes but does not offer them: whoever asks whether it does would use them for
/// small messages too, for which copying head and body into one buffer was measured to be cheaper.
pub struct Transport(Inner);

enum Inner {
    Plain(TcpStream),
    // Boxed, because the state of a TLS session is large and a pool moves its connections about.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    pub(super) fn plain(tcp: TcpStream) -> Self {
        Self(Inner::Plain(tcp))
    }

    pub(super) fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self(Inner::Tls(Box::new(stream)))
    }

    /// The TCP connection below, for its addresses and options.
    pub fn tcp(&self) -> &TcpStream {
        match &self.0 {
            Inner::Plain(tcp) => tcp,
            Inner::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Whether nothing has come that has not been read: neither its end nor bytes.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        match &mut self.0 {
            Inner::Plain(tcp) => {
                tcp.try_read(&mut byte).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
            }
            Inner::Tls(stream) => {
                // Without the task's budget, which if used up would make every connection look
                // quiet. What has come may also be a ticket to resume the session with.
                let read = pin!(tokio::task::unconstrained(stream.read(&mut byte)));
                read.poll(&mut Context::from_waker(Waker::noop())).is_pending()
            }
        }
    }

    /// Whether this is TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.0, Inner::Tls(_))
    }

    /// Whether the partner chose HTTP/2 in the handshake.
    pub(super) fn chose_http2(&self) -> bool {
        match &self.0 {
            Inner::Plain(_) => false,
            Inner::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(&b"h2"[..]),
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("tcp", self.tcp()).field("tls", &self.is_tls()).finish()
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Inner::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Inner::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Inner::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Inner::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Inner::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, slices),
            Inner::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Inner::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Inner::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
