//! Spans from a request to a collector on loopback.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;

use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What a collector was sent: the request's head in lower case, and its body.
type Received = (String, Vec<u8>);

/// A collector that takes one request, and where it listens.
fn collector(answer: &'static str) -> (String, mpsc::Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            stream.read_line(&mut head).unwrap();
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).unwrap();
        let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).unwrap();
        sender.send((head, body)).unwrap();
    });
    (endpoint, received)
}

fn exporting_to(endpoint: String) -> Tracing {
    Tracing::new(export::provider(&export::Settings { endpoint }).unwrap())
}

fn with_parent() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(TRACEPARENT, PARENT.parse().unwrap());
    headers.insert(TRACESTATE, "vendor=1".parse().unwrap());
    headers
}

fn holds(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_span_reaches_the_collector_as_protobuf() {
    let (endpoint, received) = collector("200 OK");
    let tracing = exporting_to(endpoint);
    let span = tracing.start(&with_parent());
    assert_eq!(span.trace_id(), "0af7651916cd43dd8448eb211c80319c");
    span.end(&Method::POST, 503, "acme", 1);
    tracing.shutdown(Duration::from_secs(10)).await;

    let (head, body) = received.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/x-protobuf\r\n"), "{head}");
    for part in [
        "POST",
        "http.request.method",
        "http.response.status_code",
        "http.request.resend_count",
        "error.type",
        "503",
        "bearerd.partner",
        "acme",
        "service.name",
    ] {
        assert!(holds(&body, part.as_bytes()), "{part}");
    }
    assert!(holds(&body, &const_hex::decode("0af7651916cd43dd8448eb211c80319c").unwrap()));
    assert!(holds(&body, &const_hex::decode("b7ad6b7169203331").unwrap()), "the caller's span is the parent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_collector_that_is_not_there_delays_nothing() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tracing = exporting_to(format!("http://{gone}/v1/traces"));
    for _ in 0..10_000 {
        tracing.start(&HeaderMap::new()).end(&Method::GET, 200, "acme", 0);
    }
    tracing.shutdown(Duration::from_millis(500)).await;
    // Spans that outlive the export go nowhere.
    tracing.start(&HeaderMap::new()).end(&Method::GET, 200, "acme", 0);
}

#[tokio::test]
async fn an_export_that_is_dropped_on_its_own_runtime_does_not_wait_for_itself() {
    let (endpoint, _received) = collector("200 OK");
    let tracing = exporting_to(endpoint);
    let span = tracing.start(&HeaderMap::new());
    drop(tracing);
    span.end(&Method::GET, 200, "", 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_span_becomes_the_parent_of_what_the_partner_does() {
    let tracing = exporting_to("http://127.0.0.1:9/v1/traces".into());
    let mut headers = with_parent();
    tracing.start(&headers).inject(&mut headers);
    let value = headers[TRACEPARENT].to_str().unwrap().to_owned();
    assert_eq!((value.len(), &value[..36], &value[52..]), (55, &PARENT[..36], "-01"));
    assert_ne!(value[36..52], PARENT[36..52]);
    assert_eq!(headers[TRACESTATE], "vendor=1");
    assert_eq!(trace_id_of(&headers), Some(&PARENT[3..35]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn without_a_valid_parent_a_new_trace_begins_and_its_state_with_it() {
    let tracing = exporting_to("http://127.0.0.1:9/v1/traces".into());
    let mut headers = with_parent();
    headers.insert(TRACEPARENT, "00-nonsense".parse().unwrap());
    let span = tracing.start(&headers);
    span.inject(&mut headers);
    assert_eq!(trace_id_of(&headers), Some(span.trace_id()));
    assert!(!headers.contains_key(TRACESTATE));
    assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_caller_that_does_not_sample_is_followed() {
    let tracing = exporting_to("http://127.0.0.1:9/v1/traces".into());
    let mut headers = with_parent();
    headers.insert(TRACEPARENT, PARENT.replace("-01", "-00").parse().unwrap());
    let span = tracing.start(&headers);
    span.inject(&mut headers);
    let value = headers[TRACEPARENT].to_str().unwrap();
    assert!(value.starts_with(&PARENT[..36]) && value.ends_with("-00"), "{value}");
    span.end(&Method::GET, 200, "acme", 0);
}

#[test]
fn methods_come_from_a_closed_list() {
    assert_eq!(known(&Method::PATCH), "PATCH");
    assert_eq!(known(&Method::from_bytes(b"MADE-UP").unwrap()), OTHER);
}
