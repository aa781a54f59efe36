//! TLS for the library's connections.
//!
//! By hand, because the crates that do it bring an X.509 parser along for one purpose: to bind the
//! password's exchange to the server's certificate (`tls-server-end-point`, RFC 5929 section 4).
//! That guards against a server in between whose certificate is not looked at, and here every one
//! is verified, its name included.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::ServerName;

/// Makes the TLS of a connection; cheap to clone.
#[derive(Clone)]
pub(super) struct MakeTls(Option<TlsConnector>);

impl MakeTls {
    /// Where no host is spoken to over TLS.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Trusts whom `config` trusts.
    pub(super) fn new(config: &ClientConfig) -> Self {
        let mut config = config.clone();
        // What a server wants that is asked for TLS at once, and others do not mind.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        // Connections are few, and the server keeps no sessions.
        config.resumption = Resumption::disabled();
        Self(Some(TlsConnector::from(Arc::new(config))))
    }
}

impl MakeTlsConnect<Socket> for MakeTls {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, Infallible> {
        // Asked for with an empty name where no TLS will be used.
        Ok(Handshake { connector: self.0.clone(), host: host.to_owned() })
    }
}

/// A handshake that is to come.
pub(super) struct Handshake {
    connector: Option<TlsConnector>,
    host: String,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = HandshakeError;
    type Future = Pin<Box<dyn Future<Output = Result<Encrypted, HandshakeError>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let name = ServerName::try_from(self.host)
                .map_err(|error| HandshakeError(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
            let connector =
                self.connector.ok_or_else(|| HandshakeError(io::ErrorKind::Unsupported.into()))?;
            let stream = connector.connect(name, socket).await.map_err(HandshakeError)?;
            Ok(Encrypted(Box::new(stream)))
        })
    }
}

/// Why there was no TLS. A type of its own, to be found among the causes of the library's errors.
#[derive(Debug, thiserror::Error)]
#[error("no TLS")]
pub(super) struct HandshakeError(#[source] pub(super) io::Error);

/// A connection over TLS.
pub struct Encrypted(Box<tokio_rustls::client::TlsStream<Socket>>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
