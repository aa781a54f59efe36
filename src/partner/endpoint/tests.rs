//! Over real sockets, against scripted peers.

mod tls;

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::clock::{Moment, SystemClock, UnixMillis};
use crate::partner::envelope::{EnvelopeKey, Iv, open};
use crate::partner::{BaseUrl, Login};

const SET: &str =
    r#"{"access_token":"new-access","expires_in":60,"refresh_token":"new-refresh","token_type":"Bearer"}"#;
/// Long enough that it never decides a test which is not about it.
const LONG: Duration = Duration::from_secs(60);

fn key() -> EnvelopeKey {
    EnvelopeKey::from_hex(&"5a".repeat(32)).unwrap()
}

fn config(url: &str, port: u16) -> Config {
    Config {
        name: "acme".into(),
        base_url: BaseUrl::parse(url).unwrap().with_port(port),
        partner_code: HeaderValue::from_static("M-1"),
        headers: vec![(HeaderName::from_static("x-service-code"), HeaderValue::from_static("marked-static"))],
        key: key(),
        iv: Iv::Prefix,
        login: Some(Login {
            username: "marked-user".into(),
            password: "marked \"password\"".into(),
            client_id: "marked-id".into(),
            client_secret: "marked-secret".into(),
        }),
        connect_timeout: LONG,
        timeout: LONG,
        repeat_on_5xx: true,
        ca_file: None,
    }
}

fn plain(port: u16) -> Config {
    config("http://127.0.0.1:0", port)
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn refresh(config: Config) -> Outcome {
    refresh_by(config, SystemClock::shared()).await
}

async fn refresh_by(config: Config, clock: Arc<dyn Clock>) -> Outcome {
    let token = RefreshToken::parse("marked-refresh").unwrap();
    let outcome = HttpEndpoint::new(config, clock).unwrap().refresh(&token, Moment::NEVER).await;
    assert!(!format!("{outcome:?}").contains("marked"));
    outcome
}

/// Reads one whole request.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut got = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&got);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return text.into_owned();
            }
        }
        assert_ne!(stream.read_buf(&mut got).await.unwrap(), 0, "cut short: {got:?}");
    }
}

/// Reads one request, writes `answer` and closes, in order. Gives the request.
fn answer_once(listener: TcpListener, answer: impl Into<String>) -> JoinHandle<String> {
    let answer = answer.into();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer_on(&mut stream, &answer).await
    })
}

async fn answer_on(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), answer: &str) -> String {
    let request = read_request(stream).await;
    stream.write_all(answer.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    request
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What became of a refresh that is answered with these bytes.
async fn refresh_against(answer: impl Into<String>) -> Outcome {
    let (listener, port) = listen().await;
    let server = answer_once(listener, answer);
    let outcome = refresh(plain(port)).await;
    server.await.unwrap();
    outcome
}

#[track_caller]
fn assert_unknown(outcome: &Outcome, reason: &str) {
    assert!(matches!(outcome, Outcome::Unknown(cause) if cause.reason == reason), "{outcome:?}");
}

#[track_caller]
fn assert_not_sent(outcome: &Outcome, reason: &str) {
    assert!(
        matches!(outcome, Outcome::NotSent(Cause { reason: got, status: None }) if *got == reason),
        "{outcome:?}"
    );
}

#[track_caller]
fn assert_renewed(outcome: &Outcome) {
    let Outcome::Renewed(set) = outcome else { panic!("{outcome:?}") };
    assert_eq!(set.access.expose(), "new-access");
    assert_eq!(set.refresh.as_ref().unwrap().expose(), "new-refresh");
    assert_eq!(set.lifetime, Some(Duration::from_secs(60)));
}

/// The request as it is on the wire, but for `data`; and `data`, opened.
async fn sent_by(url: &str, login: bool) -> (String, String, u16) {
    let (listener, port) = listen().await;
    let server = answer_once(listener, ok(SET));
    let mut config = config(url, port);
    let inserted = [
        ("authorization", "Bearer x"),
        ("accept-encoding", "gzip"),
        ("transfer-encoding", "chunked"),
        ("host", "evil.example"),
        ("content-length", "1"),
        ("partner-code", "other"),
        ("x-service-code", "second"),
    ];
    config.headers.extend(
        inserted.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))),
    );
    if login {
        let endpoint = HttpEndpoint::new(config, SystemClock::shared()).unwrap();
        assert_renewed(&endpoint.login(Moment::NEVER).await);
    } else {
        assert_renewed(&refresh(config).await);
    }
    let request = server.await.unwrap();
    let data = request.split("{\"data\":\"").nth(1).unwrap().strip_suffix("\"}").unwrap();
    let opened = String::from_utf8(open(&key(), Iv::Prefix, data).unwrap().to_vec()).unwrap();
    let length = format!("content-length: {}", data.len() + 11);
    (request.replace(data, "...").replace(&length, "content-length: N"), opened, port)
}

#[tokio::test]
async fn the_refresh_call_byte_for_byte() {
    let (request, opened, port) = sent_by("http://127.0.0.1:0/base/", false).await;
    let mut lines: Vec<&str> = request.split("\r\n").collect();
    assert_eq!(lines.remove(0), "POST /base/openapi/v1/auth/refresh HTTP/1.1");
    assert_eq!(lines.split_off(lines.len() - 2), ["", "{\"data\":\"...\"}"]);
    lines.sort_unstable();
    let mut expected = [
        "accept: application/json",
        "connection: close",
        "content-length: N",
        "content-type: application/json",
        &format!("host: 127.0.0.1:{port}"),
        "partner-code: M-1",
        concat!("user-agent: bearerd/", env!("CARGO_PKG_VERSION")),
        "x-service-code: marked-static",
        "x-service-code: second",
    ];
    expected.sort_unstable();
    assert_eq!(lines, expected);
    assert_eq!(opened, r#"{"refresh_token":"marked-refresh"}"#);
}

#[tokio::test]
async fn the_login_call() {
    let (request, opened, _) = sent_by("http://127.0.0.1:0", true).await;
    assert!(request.starts_with("POST /openapi/v1/auth/login HTTP/1.1\r\n"), "{request}");
    assert!(!request.contains("authorization") && !request.contains("marked-user"));
    assert_eq!(
        opened,
        r#"{"username":"marked-user","password":"marked \"password\"","client_id":"marked-id","client_secret":"marked-secret"}"#
    );
}

#[tokio::test]
async fn a_fixed_iv_is_not_sent() {
    let iv = Iv::Fixed([7; 16]);
    let (listener, port) = listen().await;
    let server = answer_once(listener, ok(SET));
    assert_renewed(&refresh(Config { iv, ..plain(port) }).await);
    let request = server.await.unwrap();
    let data = request.split('"').nth(3).unwrap();
    assert_eq!(open(&key(), iv, data).unwrap().as_slice(), br#"{"refresh_token":"marked-refresh"}"#);
}

#[tokio::test]
async fn without_a_login_there_is_nothing_to_connect_for() {
    let endpoint = HttpEndpoint::new(Config { login: None, ..plain(1) }, SystemClock::shared()).unwrap();
    assert!(matches!(
        endpoint.login(Moment::NEVER).await,
        Outcome::Refused(Cause { reason: "no_login", .. })
    ));
}

#[tokio::test]
async fn a_refused_connection_is_not_sent() {
    // Bound and not listening: nobody else can come to listen there meanwhile.
    let closed = TcpSocket::new_v4().unwrap();
    closed.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = closed.local_addr().unwrap().port();
    assert_not_sent(&refresh(plain(port)).await, "connect");
}

#[tokio::test]
async fn s44_a_peer_that_closes_at_once_tells_the_truth_about_what_was_sent() {
    for _ in 0..50 {
        let (listener, port) = listen().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.shutdown().await.unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).await.unwrap();
            got
        });
        let outcome = refresh(plain(port)).await;
        let got = server.await.unwrap();
        match outcome {
            Outcome::NotSent(_) => assert!(got.is_empty(), "{got:?}"),
            Outcome::Unknown(_) => assert!(!got.is_empty()),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn s44_a_peer_that_reads_and_closes_is_unknown() {
    assert_unknown(&refresh_against("").await, "closed");
}

#[tokio::test]
async fn s44_half_an_answer_is_unknown() {
    assert_unknown(&refresh_against("HTTP/1.1 200 OK\r\ncontent-le").await, "closed");
    let whole = ok(SET);
    assert_unknown(&refresh_against(&whole[..whole.len() - 1]).await, "closed");
    // Without a length the end of the connection is the end of the body.
    let until_close = format!("HTTP/1.1 200 OK\r\n\r\n{SET}");
    assert_renewed(&refresh_against(&until_close).await);
    assert_unknown(&refresh_against(&until_close[..until_close.len() - 1]).await, "malformed");
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n";
    assert_unknown(&refresh_against(chunked).await, "closed");
    // A refusal that was cut off may be anything.
    assert_unknown(&refresh_against("HTTP/1.1 400 Bad\r\ncontent-length: 9\r\n\r\n{").await, "closed");
}

#[tokio::test]
async fn s44_a_reset_in_the_answer_is_unknown() {
    let (listener, port) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{").await.unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    assert_unknown(&refresh(plain(port)).await, "closed");
    server.await.unwrap();
}

#[tokio::test]
async fn s42_busy_needs_no_body() {
    let cut = "HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 99\r\n\r\n{";
    let outcome = refresh_against(cut).await;
    let Outcome::Busy { retry_after, cause } = outcome else { panic!("{outcome:?}") };
    assert_eq!((retry_after, cause.status), (Some(Duration::from_secs(7)), Some(503)));
}

#[tokio::test]
async fn s34_what_is_not_http_is_unknown() {
    assert_unknown(&refresh_against("SSH-2.0-OpenSSH_9.2\r\n").await, "malformed");
    assert_unknown(&refresh_against("HTTP/1.1 200 OK\r\nno colon\r\n\r\n").await, "malformed");
}

#[tokio::test]
async fn s41_a_refusal_is_refused() {
    let body = r#"{"error":"marked"}"#;
    let refusal = format!("HTTP/1.1 401 No\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let outcome = refresh_against(refusal).await;
    assert!(matches!(outcome, Outcome::Refused(Cause { reason: "refused", status: Some(401) })));
}

#[tokio::test]
async fn informational_answers_are_passed_over() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    assert_renewed(&refresh_against(hints.to_owned() + &ok(SET)).await);
}

#[tokio::test]
async fn s43_s44_a_peer_that_never_answers_is_unknown_by_the_deadline() {
    for half in ["", "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"] {
        let (listener, port) = listen().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
            stream.write_all(half.as_bytes()).await.unwrap();
            // Until the other side has given up.
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
        });
        let outcome = refresh(Config { timeout: Duration::from_secs(1), ..plain(port) }).await;
        assert_unknown(&outcome, "timeout");
        server.await.unwrap();
    }
}

#[tokio::test]
async fn s17_a_request_whose_time_is_over_before_it_leaves_is_not_sent() {
    /// Stands still until it is asked a second time, then is an hour further.
    struct Suspended(AtomicU64);
    impl Clock for Suspended {
        fn now(&self) -> Moment {
            Moment(Duration::from_secs(self.0.fetch_add(3600, Relaxed)))
        }
        fn wall(&self) -> UnixMillis {
            UnixMillis(0)
        }
    }

    let (listener, port) = listen().await;
    let server = tokio::spawn(async move {
        let mut got = Vec::new();
        listener.accept().await.unwrap().0.read_to_end(&mut got).await.unwrap();
        got
    });
    let outcome = refresh_by(plain(port), Arc::new(Suspended(AtomicU64::new(0)))).await;
    assert_not_sent(&outcome, "timeout");
    assert!(server.await.unwrap().is_empty());
}

#[tokio::test]
async fn s45_a_redirect_is_not_followed() {
    let (target, target_port) = listen().await;
    for status in [301, 302, 303, 307, 308] {
        let outcome = refresh_against(format!(
            "HTTP/1.1 {status} Elsewhere\r\nlocation: http://127.0.0.1:{target_port}/\r\ncontent-length: 0\r\n\r\n"
        ))
        .await;
        assert!(matches!(outcome, Outcome::Busy { cause: Cause { reason: "redirect", .. }, .. }));
    }
    // A connection would have been in the queue by now.
    let target = target.into_std().unwrap();
    assert_eq!(target.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

/// Writes `head`, then up to 1 GiB; gives how much was taken.
async fn flood(listener: TcpListener, head: &str, piece: &[u8]) -> usize {
    let (mut stream, _) = listener.accept().await.unwrap();
    read_request(&mut stream).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut taken = 0;
    while taken < 1 << 30 && stream.write_all(piece).await.is_ok() {
        taken += piece.len();
    }
    taken
}

#[tokio::test]
async fn s34_a_gibibyte_is_not_read() {
    let chunk = format!("8000\r\n{}\r\n", " ".repeat(0x8000));
    let spaces = " ".repeat(0x8000);
    for (head, piece) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n", &spaces),
        ("HTTP/1.1 200 OK\r\n\r\n", &spaces),
        ("HTTP/1.1 400 Bad\r\ntransfer-encoding: chunked\r\n\r\n", &chunk),
        ("HTTP/1.1 200 OK\r\nx: ", &"a".repeat(0x8000)),
    ] {
        let (listener, port) = listen().await;
        let (head, piece) = (head.to_owned(), piece.clone());
        let server = tokio::spawn(async move { flood(listener, &head, piece.as_bytes()).await });
        assert_unknown(&refresh(plain(port)).await, "too_large");
        // What the sockets' buffers hold, and no more.
        assert!(server.await.unwrap() < 64 << 20);
    }
}

#[tokio::test]
async fn s34_the_longest_answer_is_read_and_one_byte_more_is_not() {
    let padded = |length: usize| SET.to_owned() + &" ".repeat(length - SET.len());
    assert_renewed(&refresh_against(ok(&padded(MAX_ANSWER))).await);
    // Not written whole before the other side closes, so the server's end is not looked at.
    let (listener, port) = listen().await;
    let server = answer_once(listener, ok(&padded(MAX_ANSWER + 1)));
    assert_unknown(&refresh(plain(port)).await, "too_large");
    let _ = server.await;
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let (listener, port) = listen().await;
    let call = tokio::spawn(refresh(plain(port)));
    let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
    read_request(&mut stream).await;
    call.abort();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let config = plain(1);
    let endpoint = HttpEndpoint::new(config.clone(), SystemClock::shared()).unwrap();
    let text = format!("{config:?} {endpoint:?} {:?} {:?}", config.login, endpoint.connector);
    assert!(!text.contains("marked") && !text.contains("5a5a"), "{text}");
    assert!(text.contains("x-service-code"));
}
