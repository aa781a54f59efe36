//! TLS, with certificates made for the occasion.

use std::io::Write as _;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        Self::named("one")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn file(&self) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(self.0.pem().as_bytes()).unwrap();
        file
    }

    fn acceptor(&self, host: &str, change: impl FnOnce(&mut CertificateParams)) -> TlsAcceptor {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config).into()
    }
}

fn secure(port: u16, ca: &tempfile::NamedTempFile) -> Config {
    Config { ca_file: Some(ca.path().to_owned()), ..config("https://127.0.0.1:0", port) }
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_is_taken() {
    let authority = Authority::new();
    let acceptor = authority.acceptor("127.0.0.1", |_| {});
    let (listener, port) = listen().await;
    let server = tokio::spawn(async move {
        let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
        let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        (answer_on(&mut stream, &ok(SET)).await, protocol)
    });
    assert_renewed(&refresh(secure(port, &authority.file())).await);
    let (request, protocol) = server.await.unwrap();
    assert!(request.starts_with("POST /openapi/v1/auth/refresh HTTP/1.1\r\n"));
    assert_eq!(protocol.as_deref(), Some(b"http/1.1".as_slice()));
}

#[tokio::test]
async fn s46_bad_certificates_are_not_sent_anything_each_for_its_reason() {
    let (authority, namesake, other) = (Authority::new(), Authority::new(), Authority::named("other"));
    for (acceptor, reason) in [
        (namesake.acceptor("127.0.0.1", |_| {}), "tls_unknown_issuer"),
        (other.acceptor("127.0.0.1", |_| {}), "tls_unknown_issuer"),
        (authority.acceptor("other.example", |_| {}), "tls_wrong_host"),
        (
            authority.acceptor("127.0.0.1", |params| params.not_after = date_time_ymd(2020, 1, 1)),
            "tls_certificate_expired",
        ),
        (
            authority.acceptor("127.0.0.1", |params| params.not_before = date_time_ymd(4000, 1, 1)),
            "tls_certificate_expired",
        ),
    ] {
        let (listener, port) = listen().await;
        let server = tokio::spawn(async move {
            acceptor.accept(listener.accept().await.unwrap().0).await.map(|_| ()).unwrap_err()
        });
        assert_not_sent(&refresh(secure(port, &authority.file())).await, reason);
        server.await.unwrap();
    }
}

#[tokio::test]
async fn s46_a_peer_that_speaks_no_tls_of_ours_is_not_sent_anything() {
    let alert_protocol_version = b"\x15\x03\x02\x00\x02\x02\x46".as_slice();
    for answer in [alert_protocol_version, b"HTTP/1.1 400 Bad\r\n\r\n", b""] {
        let authority = Authority::new();
        let (listener, port) = listen().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_buf(&mut Vec::new()).await.unwrap();
            stream.write_all(answer).await.unwrap();
        });
        assert_not_sent(&refresh(secure(port, &authority.file())).await, "tls");
        server.await.unwrap();
    }
}

#[tokio::test]
async fn s44_a_handshake_that_is_never_answered_is_not_sent() {
    let ca = Authority::new().file();
    for (connect_timeout, timeout, reason) in
        [(Duration::from_millis(300), LONG, "connect_timeout"), (LONG, Duration::from_millis(300), "timeout")]
    {
        let (_listener, port) = listen().await;
        let outcome = refresh(Config { connect_timeout, timeout, ..secure(port, &ca) }).await;
        assert_not_sent(&outcome, reason);
    }
}

#[tokio::test]
async fn s44_an_answer_cut_without_close_notify_is_unknown() {
    let authority = Authority::new();
    for answer in [ok(SET)[..90].to_owned(), format!("HTTP/1.1 200 OK\r\n\r\n{SET}")] {
        let acceptor = authority.acceptor("127.0.0.1", |_| {});
        let (listener, port) = listen().await;
        let server = tokio::spawn(async move {
            let mut stream = acceptor.accept(listener.accept().await.unwrap().0).await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            stream.get_mut().0.shutdown().await.unwrap();
        });
        assert_unknown(&refresh(secure(port, &authority.file())).await, "closed");
        server.await.unwrap();
    }
}
