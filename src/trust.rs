//! Whom to trust: certificate authorities, and the TLS configurations made of them.
//!
//! Partners and the database are trusted alike: by authority and name, always, with no way to say
//! otherwise.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore};
use zeroize::Zeroizing;

/// The configuration that trusts the authorities in the PEM file `ca_file` and no others or,
/// without one, those of the system. It offers HTTP/1.1.
///
/// Blocks.
///
/// # Errors
///
/// What is to be trusted cannot be read, or is nothing.
pub fn client(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TrustError> {
    ca_file.map_or_else(system, only)
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

/// The configuration that trusts the system's authorities. They are more than a hundred, so they
/// are parsed once, and every partner without a `ca_file` shares them. Finding none is not
/// remembered.
fn system() -> Result<Arc<ClientConfig>, TrustError> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = SYSTEM.get() {
        return Ok(config.clone());
    }
    let mut roots = RootCertStore::empty();
    // One that cannot be read or used must not cost all the others: its sites fail, and say why.
    let (_usable, _ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TrustError::NoSystemRoots);
    }
    let config = client_config(roots)?;
    // Whoever came first wins; the loser's copy is dropped.
    Ok(SYSTEM.get_or_init(|| config).clone())
}

/// The configuration that trusts the authorities in the PEM file `path` and no others.
fn only(path: &Path) -> Result<Arc<ClientConfig>, TrustError> {
    let content = |problem| TrustError::CaFileContent { path: path.to_owned(), problem };
    // Some keep a private key in the same file.
    let pem = Zeroizing::new(
        fs::read(path).map_err(|source| TrustError::CaFile { path: path.to_owned(), source })?,
    );
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        // The parser's errors quote the text.
        let certificate = certificate.map_err(|_| content("not well-formed PEM"))?;
        roots.add(certificate).map_err(|_| content("holds a certificate that cannot be used"))?;
    }
    if roots.is_empty() {
        return Err(content("holds no certificate"));
    }
    client_config(roots)
}

/// TLS 1.2 and 1.3, HTTP/1.1 only, no client certificate. Sessions are resumed between the
/// connections that share the configuration, which never includes two that trust differently.
fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, TrustError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(TrustError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
