//! Connections to a partner: name, TCP, TLS, all within one time limit.
//!
//! A [`Connector`] is built once per partner; it reads what it trusts then, so that a file that is
//! missing is an error at start-up, and a file that was rotated is taken up by a reload.
//! Certificates are always verified: there is no way to say otherwise.

mod error;
mod names;
mod transport;

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

pub use self::error::{ConnectError, ConnectorError, Phase};
use self::names::Names;
pub use self::transport::Transport;
use crate::partner::{BaseUrl, Scheme};
use crate::trust::Trust;

/// Which versions of HTTP a partner is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// HTTP/1.1 and no other.
    Http1,
    /// HTTP/2 and no other; in clear without asking first (RFC 9113 section 3.3).
    Http2,
    /// What the partner chooses (ALPN, RFC 7301). In clear there is nothing to choose by, so it is
    /// HTTP/1.1.
    Either,
}

/// Connects to one partner. A clone is cheap and shares what is trusted and the TLS sessions.
#[derive(Clone)]
pub struct Connector {
    host: Arc<str>,
    port: u16,
    names: Names,
    tls: Option<Tls>,
    versions: Versions,
    timeout: Duration,
}

/// How TLS is begun.
#[derive(Clone)]
struct Tls {
    name: ServerName<'static>,
    trust: Arc<Trust>,
}

/// A new connection, by what is to be spoken on it.
#[derive(Debug)]
pub enum Connected {
    /// HTTP/1.1.
    Http1(Transport),
    /// HTTP/2, of which nothing has been sent yet.
    Http2(Transport),
}

impl Connector {
    /// A connector to `base_url` that gives up after `timeout`, and that trusts the certificate
    /// authorities in the PEM file `ca_file` or, without one, those of the system.
    ///
    /// Reads files, so it blocks; a `http://` URL needs none and `ca_file` is not looked at. The
    /// system's authorities are read once in the life of the process. Who trusts alike shares what
    /// that takes.
    ///
    /// # Errors
    ///
    /// What is to be trusted cannot be read, or is nothing: the operator must mend it.
    pub fn new(
        base_url: &BaseUrl,
        timeout: Duration,
        ca_file: Option<&Path>,
        versions: Versions,
    ) -> Result<Self, ConnectorError> {
        let tls = match base_url.scheme() {
            Scheme::Http => None,
            Scheme::Https => {
                let name = ServerName::try_from(base_url.host().to_owned())
                    .map_err(|_| ConnectorError::ServerName { host: base_url.host().to_owned() })?;
                Some(Tls { name, trust: Trust::of(ca_file)? })
            }
        };
        let versions = match versions {
            Versions::Either if tls.is_none() => Versions::Http1,
            versions => versions,
        };
        let (host, port) = (base_url.host().into(), base_url.port());
        Ok(Self { host, port, names: Names::new(), tls, versions, timeout })
    }

    /// Which versions of HTTP come into question.
    pub fn versions(&self) -> Versions {
        self.versions
    }

    /// Whether connections are over TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A new connection. The name is resolved every time, so that a partner may move.
    ///
    /// Not one byte that the caller would send has been sent when this fails. Dropping the future
    /// closes what was opened.
    ///
    /// # Errors
    ///
    /// The partner cannot be reached, or cannot show that it is the partner, or does not speak what
    /// it must, within the time limit.
    pub async fn connect(&self) -> Result<Connected, ConnectError> {
        let transport = self.open(self.versions).await?;
        match self.versions {
            Versions::Http1 => Ok(Connected::Http1(transport)),
            _ if transport.chose_http2() => Ok(Connected::Http2(transport)),
            Versions::Either => Ok(Connected::Http1(transport)),
            Versions::Http2 if transport.is_tls() => Err(ConnectError::NoHttp2),
            Versions::Http2 => Ok(Connected::Http2(transport)),
        }
    }

    /// A new connection for HTTP/1.1, whatever else comes into question.
    ///
    /// # Errors
    ///
    /// As for [`Self::connect`].
    pub async fn connect_http1(&self) -> Result<Transport, ConnectError> {
        self.open(Versions::Http1).await
    }

    /// Waits for `begun`, a part of connecting that is not this one's, as long as for connecting.
    ///
    /// # Errors
    ///
    /// Those of `begun`, or its time was over.
    pub async fn in_time<T>(
        &self,
        begun: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let begun = tokio::time::timeout(self.timeout, begun).await;
        begun.unwrap_or(Err(ConnectError::Timeout(Phase::Http2)))
    }

    async fn open(&self, versions: Versions) -> Result<Transport, ConnectError> {
        let deadline = Instant::now() + self.timeout;
        let addresses = timeout_at(deadline, self.names.look_up(&self.host, self.port))
            .await
            .map_err(|_| ConnectError::Timeout(Phase::Dns))?
            .map_err(ConnectError::Dns)?;
        let tcp = connect_to_one_of(&addresses, deadline).await?;
        // Requests are written whole; waiting for more would only delay them.
        tcp.set_nodelay(true).map_err(ConnectError::Tcp)?;
        let Some(tls) = &self.tls else {
            return Ok(Transport::plain(tcp));
        };
        let connector = TlsConnector::from(Arc::clone(offering(&tls.trust, versions)));
        let stream = timeout_at(deadline, connector.connect(tls.name.clone(), tcp))
            .await
            .map_err(|_| ConnectError::Timeout(Phase::Tls))?
            .map_err(ConnectError::tls)?;
        Ok(Transport::tls(stream))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls.is_some())
            .field("versions", &self.versions)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// The configuration that offers `versions`.
fn offering(trust: &Trust, versions: Versions) -> &Arc<ClientConfig> {
    match versions {
        Versions::Http1 => &trust.http1,
        Versions::Http2 => &trust.http2,
        Versions::Either => &trust.either,
    }
}

/// Tries the addresses in turn. Each gets an equal share of the time that is left, so that one
/// which swallows packets cannot keep the next from being tried.
async fn connect_to_one_of(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, ConnectError> {
    let mut failure = ConnectError::NoAddress;
    for (tried, address) in addresses.iter().enumerate() {
        let untried = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        let now = Instant::now();
        let share = deadline.saturating_duration_since(now) / untried;
        match timeout_at(now + share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => failure = ConnectError::Tcp(error),
            Err(_) => failure = ConnectError::Timeout(Phase::Tcp),
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests;
