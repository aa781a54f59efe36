//! Why there is no connection, or no connector.

use std::io;
use std::path::PathBuf;

use tokio_rustls::rustls::{CertificateError, Error as TlsError};

use crate::partner::reason;

/// Why a connector could not be built. Always for the operator to mend; waiting does not help.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The file of certificate authorities cannot be read.
    #[error("ca_file {}: {source}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what it should be. Nothing of its content is shown: it may be a key.
    #[error("ca_file {}: {problem}; expected PEM with at least one BEGIN CERTIFICATE", path.display())]
    CaFileContent {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The system has no certificate authorities.
    #[error(
        "the system has no certificate authorities; install the package ca-certificates, set SSL_CERT_FILE, \
         or give the partner a ca_file"
    )]
    NoSystemRoots,
    /// The host can be the subject of no certificate.
    #[error("base_url: no certificate can be issued to the host {host:?}")]
    ServerName {
        /// The host.
        host: String,
    },
    /// TLS 1.2 and 1.3 are not both to be had from the cryptographic library: a fault of the build.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] TlsError),
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
        let failure = match source.get_ref().and_then(|e| e.downcast_ref()) {
            Some(TlsError::InvalidCertificate(error)) => TlsFailure::of(error),
            _ => TlsFailure::Other,
        };
        Self::Tls { failure, source }
    }
}

/// How TLS failed, as far as an operator does something different about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFailure {
    /// The certificate has expired or is not valid yet: the partner's fault, or this clock's.
    CertificateExpired,
    /// The certificate is for other names: `base_url` is wrong, or somebody is in between.
    WrongHost,
    /// The certificate's issuer is not trusted: `ca_file` is missing or wrong, or somebody is in
    /// between.
    UnknownIssuer,
    /// Anything else: no common version or cipher, a bad signature, a connection that broke.
    Other,
}

impl TlsFailure {
    fn of(error: &CertificateError) -> Self {
        use CertificateError as E;
        match error {
            E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
                Self::CertificateExpired
            }
            E::NotValidForName | E::NotValidForNameContext { .. } => Self::WrongHost,
            // An issuer of the right name with another key: the authority was made anew.
            E::UnknownIssuer | E::BadSignature => Self::UnknownIssuer,
            _ => Self::Other,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::CertificateExpired => "its certificate is out of date",
            Self::WrongHost => "its certificate is for another name",
            Self::UnknownIssuer => "its certificate's issuer is not trusted",
            Self::Other => "the handshake failed",
        }
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
