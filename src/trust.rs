//! Whom to trust: certificate authorities, and the TLS configurations made of them.
//!
//! Partners and the database are trusted alike: by authority and name, always, with no way to say
//! otherwise.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore};
use zeroize::Zeroizing;

use crate::token::Digest;

/// Some authorities, and the configurations that trust them and no others, by what they offer to
/// speak. All who trust the same authorities share one.
///
/// All of them offer the sessions of one cache for resumption: a protocol is agreed on anew in every
/// handshake, whatever was spoken in the session before (RFC 7301 section 3.1).
#[derive(Debug)]
pub struct Trust {
    /// Offers HTTP/1.1.
    pub http1: Arc<ClientConfig>,
    /// Offers HTTP/2.
    pub http2: Arc<ClientConfig>,
    /// Offers both, and HTTP/2 first.
    pub either: Arc<ClientConfig>,
}

impl Trust {
    /// Trust in the authorities in the PEM file `ca_file` and no others or, without one, in those of
    /// the system.
    ///
    /// Blocks.
    ///
    /// # Errors
    ///
    /// What is to be trusted cannot be read, or is nothing.
    pub fn of(ca_file: Option<&Path>) -> Result<Arc<Self>, TrustError> {
        ca_file.map_or_else(system, only)
    }

    fn new(roots: RootCertStore) -> Result<Arc<Self>, TrustError> {
        let config = client_config(roots)?;
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        let (http1, http2) = (&b"http/1.1"[..], &b"h2"[..]);
        Ok(Arc::new(Self {
            http1: offering(&[http1]),
            http2: offering(&[http2]),
            either: offering(&[http2, http1]),
        }))
    }
}

/// Why nobody can be trusted. Always for the operator to mend; waiting does not help.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
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
         or say by ca_file whom to trust"
    )]
    NoSystemRoots,
    /// TLS 1.2 and 1.3 are not both to be had from the cryptographic library: a fault of the build.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[source] TlsError),
}

/// How TLS failed, as far as an operator does something different about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFailure {
    /// The certificate has expired or is not valid yet: the other side's fault, or this clock's.
    CertificateExpired,
    /// The certificate is for other names: the address is wrong, or somebody is in between.
    WrongHost,
    /// The certificate's issuer is not trusted: `ca_file` is missing or wrong, or somebody is in
    /// between.
    UnknownIssuer,
    /// Anything else: no common version or cipher, a bad signature, a connection that broke.
    Other,
}

impl TlsFailure {
    /// What tokio-rustls made of a failed handshake: the library's error is inside the system's.
    pub fn of(error: &io::Error) -> Self {
        match library(error) {
            Some(TlsError::InvalidCertificate(error)) => Self::of_certificate(error),
            _ => Self::Other,
        }
    }

    /// What is wrong, as a sentence about the other side.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CertificateExpired => "its certificate is out of date",
            Self::WrongHost => "its certificate is for another name",
            Self::UnknownIssuer => "its certificate's issuer is not trusted",
            Self::Other => "the handshake failed",
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
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
}

/// The library's error in what tokio-rustls made of it; `None` if the connection failed below TLS.
pub fn library(error: &io::Error) -> Option<&TlsError> {
    error.get_ref().and_then(|error| error.downcast_ref())
}

/// Trust in the system's authorities. They are more than a hundred, so they are parsed once. Finding
/// none is not remembered.
fn system() -> Result<Arc<Trust>, TrustError> {
    static SYSTEM: OnceLock<Arc<Trust>> = OnceLock::new();
    if let Some(trust) = SYSTEM.get() {
        return Ok(Arc::clone(trust));
    }
    let mut roots = RootCertStore::empty();
    // One that cannot be read or used must not cost all the others: its sites fail, and say why.
    let (_usable, _ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TrustError::NoSystemRoots);
    }
    let trust = Trust::new(roots)?;
    // Whoever came first wins; the loser's copy is dropped.
    Ok(Arc::clone(SYSTEM.get_or_init(|| trust)))
}

/// Trust in the authorities in the PEM file `path` and no others.
fn only(path: &Path) -> Result<Arc<Trust>, TrustError> {
    /// Of those in use, by the digest of the file's content: the same file with other content, after
    /// a rotation, is another.
    static IN_USE: Mutex<Option<HashMap<Digest, Weak<Trust>>>> = Mutex::new(None);
    let content = |problem| TrustError::CaFileContent { path: path.to_owned(), problem };
    // Some keep a private key in the same file.
    let pem = Zeroizing::new(
        fs::read(path).map_err(|source| TrustError::CaFile { path: path.to_owned(), source })?,
    );
    let digest = Digest::of(&[&pem]);
    // Sound after a panic: an entry is put in whole.
    let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
    let in_use = in_use.get_or_insert_default();
    if let Some(trust) = in_use.get(&digest).and_then(Weak::upgrade) {
        return Ok(trust);
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        // The parser's errors quote the text.
        let certificate = certificate.map_err(|_| content("not well-formed PEM"))?;
        roots.add(certificate).map_err(|_| content("holds a certificate that cannot be used"))?;
    }
    if roots.is_empty() {
        return Err(content("holds no certificate"));
    }
    let trust = Trust::new(roots)?;
    in_use.retain(|_, trust| trust.strong_count() > 0);
    in_use.insert(digest, Arc::downgrade(&trust));
    Ok(trust)
}

/// TLS 1.2 and 1.3, no client certificate. Sessions are resumed between the connections that share
/// the configuration, which never includes two that trust differently.
fn client_config(roots: RootCertStore) -> Result<ClientConfig, TrustError> {
    Ok(ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TrustError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth())
}
