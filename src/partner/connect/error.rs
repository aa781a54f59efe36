//! Why there is no connection, or no connector.

use std::io;

use crate::partner::reason;
use crate::trust::{TlsFailure, TrustError};

/// Why a connector could not be built. Always for the operator to mend; waiting does not help.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// What is to be trusted cannot be read, or is nothing.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The host can be the subject of no certificate.
    #[error("base_url: no certificate can be issued to the host {host:?}")]
    ServerName {
        /// The host.
        host: String,
    },
}

/// Why there is no connection. Waiting may help with each of these, but hardly with a certificate.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name cannot be resolved.
    #[error("cannot resolve the partner's name")]
    Dns(#[source] io::Error),
    /// The name resolves to nothing.
    #[error("the partner's name has no address")]
    NoAddress,
    /// No address takes the connection; this is what the last one said.
    #[error("cannot connect to the partner")]
    Tcp(#[source] io::Error),
    /// No TLS can be agreed on, or the certificate is not good.
    #[error("no TLS with the partner: {}", failure.as_str())]
    Tls {
        /// What kind of failure.
        failure: TlsFailure,
        /// What the library or the system said.
        source: io::Error,
    },
    /// It must be HTTP/2, and the partner chose or said something else, or nothing: `http2` is
    /// wrong, or somebody is in between.
    #[error("the partner does not speak HTTP/2")]
    NoHttp2,
    /// The time for connecting was over.
    #[error("the partner took too long: {}", .0.as_str())]
    Timeout(Phase),
}

impl ConnectError {
    /// Why, as one of the words of [`reason`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Dns(_) | Self::NoAddress => reason::DNS,
            Self::Tcp(_) => reason::CONNECT,
            Self::Tls { failure: TlsFailure::CertificateExpired, .. } => reason::TLS_CERTIFICATE_EXPIRED,
            Self::Tls { failure: TlsFailure::WrongHost, .. } => reason::TLS_WRONG_HOST,
            Self::Tls { failure: TlsFailure::UnknownIssuer, .. } => reason::TLS_UNKNOWN_ISSUER,
            Self::Tls { failure: TlsFailure::Other, .. } | Self::NoHttp2 => reason::TLS,
            Self::Timeout(_) => reason::CONNECT_TIMEOUT,
        }
    }

    /// What tokio-rustls made of a failed handshake: the library's error is inside the system's.
    pub(super) fn tls(source: io::Error) -> Self {
        let failure = TlsFailure::of(&source);
        Self::Tls { failure, source }
    }
}

/// What was being done when the time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Resolving the name.
    Dns,
    /// Connecting to an address.
    Tcp,
    /// The TLS handshake.
    Tls,
    /// What each side says first in HTTP/2.
    Http2,
}

impl Phase {
    fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "resolving its name",
            Self::Tcp => "accepting a connection",
            Self::Tls => "in the TLS handshake",
            Self::Http2 => "saying how much it takes in HTTP/2",
        }
    }
}
