use std::io::{self, Write as _};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};

use super::*;
use crate::partner::reason;
use crate::trust::{TlsFailure, Trust, TrustError};

fn file(content: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn new(url: &str, ca_file: Option<&Path>) -> Result<Connector, ConnectorError> {
    Connector::new(&BaseUrl::parse(url).unwrap(), Duration::from_secs(10), ca_file, Versions::Http1)
}

#[test]
fn s46_a_ca_file_that_cannot_be_used_is_an_error_that_shows_nothing_of_it() {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for (content, problem) in [
        ("", "holds no certificate"),
        ("marked", "holds no certificate"),
        (key.as_str(), "holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nmarked\n", "not well-formed PEM"),
        ("-----BEGIN CERTIFICATE-----\n*marked*\n-----END CERTIFICATE-----\n", "not well-formed PEM"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "holds a certificate that cannot be used",
        ),
    ] {
        let file = file(content);
        let error = new("https://a.example", Some(file.path())).unwrap_err().to_string();
        assert!(error.contains(problem) && error.contains(file.path().to_str().unwrap()), "{error}");
        assert!(!error.contains("marked") && !error.contains("PRIVATE"), "{error}");
    }
    let error = new("https://a.example", Some(Path::new("/nonexistent/ca.pem"))).unwrap_err();
    assert!(matches!(error, ConnectorError::Trust(TrustError::CaFile { .. })), "{error}");
}

#[test]
fn the_system_s_authorities_are_read_once() {
    match (Trust::of(None), Trust::of(None)) {
        (Ok(one), Ok(other)) => {
            assert!(Arc::ptr_eq(&one, &other));
            assert_eq!(offering(&one, Versions::Http1).alpn_protocols, [b"http/1.1"]);
        }
        // A machine without any.
        (Err(error), _) | (_, Err(error)) => assert!(error.to_string().contains("ca-certificates")),
    }
}

#[test]
fn who_trusts_the_same_authorities_shares_them_and_who_trusts_others_does_not() {
    let ca = || rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
    let (one, other) = (ca(), ca());
    let path = file(&one);
    let trust = Trust::of(Some(path.path())).unwrap();
    assert!(Arc::ptr_eq(&trust, &Trust::of(Some(path.path())).unwrap()));
    assert!(Arc::ptr_eq(&trust, &Trust::of(Some(file(&one).path())).unwrap()), "in another file");
    assert!(!Arc::ptr_eq(&trust, &Trust::of(Some(file(&other).path())).unwrap()));
    // A rotation, while the partner still runs that trusts what was there before.
    std::io::Write::write_all(&mut path.reopen().unwrap(), format!("{one}{other}").as_bytes()).unwrap();
    assert!(!Arc::ptr_eq(&trust, &Trust::of(Some(path.path())).unwrap()));
}

#[test]
fn what_is_offered_is_what_comes_into_question() {
    let ca = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let trust = Trust::of(Some(file(&ca.cert.pem()).path())).unwrap();
    assert_eq!(offering(&trust, Versions::Http1).alpn_protocols, [b"http/1.1"]);
    assert_eq!(offering(&trust, Versions::Http2).alpn_protocols, [b"h2"]);
    assert_eq!(offering(&trust, Versions::Either).alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    // In clear there is nothing to choose by.
    for (asked, comes) in [
        (Versions::Either, Versions::Http1),
        (Versions::Http1, Versions::Http1),
        (Versions::Http2, Versions::Http2),
    ] {
        let url = BaseUrl::parse("http://a.example").unwrap();
        let connector = Connector::new(&url, Duration::from_secs(1), None, asked).unwrap();
        assert_eq!(connector.versions(), comes);
    }
}

#[test]
fn in_clear_nothing_is_read() {
    new("http://a.example", Some(Path::new("/nonexistent/ca.pem"))).unwrap();
}

#[test]
fn s46_s47_failures_have_words_of_their_own() {
    let io = || io::Error::from(io::ErrorKind::Other);
    let tls = |failure| ConnectError::Tls { failure, source: io() };
    for (error, word) in [
        (ConnectError::Dns(io()), "dns"),
        (ConnectError::NoAddress, "dns"),
        (ConnectError::Tcp(io()), "connect"),
        (tls(TlsFailure::CertificateExpired), "tls_certificate_expired"),
        (tls(TlsFailure::WrongHost), "tls_wrong_host"),
        (tls(TlsFailure::UnknownIssuer), "tls_unknown_issuer"),
        (tls(TlsFailure::Other), "tls"),
        (ConnectError::NoHttp2, "tls"),
        (ConnectError::Timeout(Phase::Dns), "connect_timeout"),
        (ConnectError::Timeout(Phase::Tcp), "connect_timeout"),
        (ConnectError::Timeout(Phase::Tls), "connect_timeout"),
    ] {
        assert_eq!(error.reason(), word);
        assert!(reason::ALL.contains(&word));
    }
}

#[tokio::test]
async fn the_next_address_is_tried_if_one_fails() {
    // Bound and not listening: nobody else can come to listen there meanwhile.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = closed.local_addr().unwrap();
    let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [refused, open.local_addr().unwrap()];
    let deadline = Instant::now() + Duration::from_secs(10);
    let tcp = connect_to_one_of(&addresses, deadline).await.unwrap();
    assert_eq!(tcp.peer_addr().unwrap(), addresses[1]);
    let error = connect_to_one_of(&addresses[..1], deadline).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tcp(_)), "{error}");
    assert!(matches!(connect_to_one_of(&[], deadline).await, Err(ConnectError::NoAddress)));
}

#[tokio::test]
async fn s44_a_handshake_that_is_never_answered_ends_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ca = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let file = file(&ca.cert.pem());
    let url = BaseUrl::parse("https://127.0.0.1:0").unwrap().with_port(listener.local_addr().unwrap().port());
    let connector =
        Connector::new(&url, Duration::from_millis(500), Some(file.path()), Versions::Either).unwrap();
    let error = connector.connect().await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout(_)), "{error}");
}

#[tokio::test]
async fn bytes_pass_both_ways() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = BaseUrl::parse("http://127.0.0.1:0").unwrap().with_port(listener.local_addr().unwrap().port());
    let connector = Connector::new(&url, Duration::from_secs(10), None, Versions::Either).unwrap();
    let Connected::Http1(mut near) = connector.connect().await.unwrap() else { panic!("HTTP/2 in clear") };
    let (mut far, _) = listener.accept().await.unwrap();
    assert!(near.tcp().nodelay().unwrap() && !near.is_tls());
    near.write_all(b"ping").await.unwrap();
    near.shutdown().await.unwrap();
    let mut got = String::new();
    far.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "ping");
    far.write_all(b"pong").await.unwrap();
    drop(far);
    got.clear();
    near.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "pong");
}
