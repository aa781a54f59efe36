//! Whom to trust: certificate authorities, and the TLS configurations made of them.

use std::fs;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::{ConnectorError, Versions};

/// The configuration that trusts the system's authorities. They are more than a hundred, so they
/// are parsed once, and every partner without a `ca_file` shares them. Finding none is not
/// remembered.
pub(super) fn system() -> Result<Arc<ClientConfig>, ConnectorError> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = SYSTEM.get() {
        return Ok(config.clone());
    }
    let mut roots = RootCertStore::empty();
    // One that cannot be read or used must not cost all the others: its sites fail, and say why.
    let (_usable, _ignored) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(ConnectorError::NoSystemRoots);
    }
    let config = client_config(roots)?;
    // Whoever came first wins; the loser's copy is dropped.
    Ok(SYSTEM.get_or_init(|| config).clone())
}

/// The configuration that trusts the authorities in the PEM file `path` and no others.
pub(super) fn only(path: &Path) -> Result<Arc<ClientConfig>, ConnectorError> {
    let content = |problem| ConnectorError::CaFileContent { path: path.to_owned(), problem };
    // Some keep a private key in the same file.
    let pem = Zeroizing::new(
        fs::read(path).map_err(|source| ConnectorError::CaFile { path: path.to_owned(), source })?,
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

/// What `config`, which offers HTTP/1.1, becomes when it offers `versions`.
pub(super) fn offering(config: &Arc<ClientConfig>, versions: Versions) -> Arc<ClientConfig> {
    let mut offering = match versions {
        Versions::Http1 => return Arc::clone(config),
        Versions::Http2 | Versions::Either => ClientConfig::clone(config),
    };
    offering.alpn_protocols.insert(0, super::HTTP2.to_vec());
    offering.alpn_protocols.truncate(if versions == Versions::Http2 { 1 } else { 2 });
    Arc::new(offering)
}

/// TLS 1.2 and 1.3, HTTP/1.1 only, no client certificate. Sessions are resumed between the
/// connections that share the configuration, which never includes two that trust differently.
fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, ConnectorError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(ConnectorError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
