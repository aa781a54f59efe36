//! What becomes of a client's connection when its request or its answer did not end as usual.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use crate::support::client::{Connection, Request, Stream};
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::partner::Partner;

/// A login, which is refused before its body is looked at.
const REFUSED: &str = "POST /openapi/v1/auth/login HTTP/1.1\r\nHost: a.test\r\n";

fn tcp(client: &Connection) -> TcpStream {
    let Stream::Tcp(stream) = client.io.try_clone().unwrap() else { panic!("the tests use TCP") };
    stream
}

#[test]
fn a_connection_is_kept_when_a_refused_request_is_there_to_its_end() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let mut client = gateway.connect();
    let bodies = ["Content-Length: 3\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"];
    for body in bodies {
        client.send(format!("{REFUSED}{body}").as_bytes()).unwrap();
        client.answer("POST").unwrap().assert_problem(403);
        assert_eq!(client.exchange(&Request::get("/x")).status, 200);
    }
    assert_eq!(partner.seen_at("/x").len(), bodies.len());
}

#[test]
fn a_connection_ends_when_a_refused_request_does_not() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let next = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for fields in ["Content-Length: 400\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5\r\n"] {
        let mut client = gateway.connect();
        client.send(format!("{REFUSED}{fields}").as_bytes()).unwrap();
        let answer = client.answer("POST").unwrap();
        answer.assert_problem(403);
        assert_eq!(answer.fields.get("connection"), Some("close"), "it is told");
        let _closed = client.send(next.as_bytes());
        assert!(client.is_closed());
    }
    assert_eq!(partner.seen_at("/smuggled").len(), 0);
}

#[test]
fn a_client_is_told_that_a_partners_early_answer_is_the_last() {
    let partner = Partner::new();
    partner.on_any("/large", |x| x.answer(&Answer::new(413, "too large")));
    let gateway = Gateway::before(&partner);
    let mut client = gateway.connect();
    client
        .send(b"POST /large HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        .unwrap();
    let answer = client.answer("POST").unwrap();
    assert_eq!((answer.status, answer.fields.get("connection")), (413, Some("close")));
    assert!(client.is_closed());
}

#[test]
fn an_early_refusal_reaches_a_client_that_sends_everything_first() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    for _ in 0..20 {
        let mut client = gateway.connect();
        let mut upload = tcp(&client);
        let body = vec![b'x'; 4 << 20];
        upload.write_all(format!("{REFUSED}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).unwrap();
        upload.write_all(&body).unwrap();
        client.answer("POST").unwrap().assert_problem(403);
        assert!(client.is_closed());
    }
    assert_eq!(partner.logins(), 0);
}

#[test]
fn a_client_that_sends_no_more_before_its_answer_is_gone() {
    let (partner, gate) = (Partner::new(), Gate::shut());
    let held = gate.clone();
    partner.on("/held", move |x| {
        x.body()?;
        held.wait();
        x.answer(&Answer::new(200, "late"))
    });
    let gateway = Gateway::before(&partner);
    let mut client = gateway.connect();
    client.send(&Request::post("/held", "abc").to_bytes()).unwrap();
    gate.await_arrivals(1);
    tcp(&client).shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    client.io.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"", "the partner has not answered yet");
    gate.open();
    eventually("nothing is left of it", || {
        gateway.metric("bearerd_connections", &[("side", "client")]) == Some(0.0)
    });
}

#[test]
fn an_answer_of_unknown_length_ends_with_the_connection_in_http_1_0() {
    let partner = Partner::new();
    partner.on("/long", |x| {
        x.begin_chunked(200, &[])?;
        x.chunk(b"hello, ")?;
        x.chunk(b"world")?;
        x.raw(b"0\r\n\r\n")
    });
    let gateway = Gateway::before(&partner);
    let mut client = gateway.connect();
    client.send(b"GET /long HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n").unwrap();
    let mut got = String::new();
    client.io.read_to_string(&mut got).unwrap();
    let (head, body) = got.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
    assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!(body, "hello, world");
}

#[test]
fn an_answer_reaches_a_client_to_its_end_though_its_connection_ends_with_it() {
    const SIZE: usize = 4 << 20;
    let partner = Partner::new();
    partner.on("/large", |x| x.answer(&Answer::new(200, vec![b'x'; SIZE])));
    partner.on("/long", |x| {
        x.begin_chunked(200, &[])?;
        x.chunk(&vec![b'x'; SIZE])?;
        x.raw(b"0\r\n\r\n")
    });
    let gateway = Gateway::before(&partner);
    for request in [
        "GET /large HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n",
        "GET /large HTTP/1.0\r\nHost: a.test\r\n\r\n",
        "GET /long HTTP/1.0\r\nHost: a.test\r\n\r\n",
    ] {
        let mut client = gateway.connect();
        // One before it on the same connection changes nothing.
        assert_eq!(client.exchange(&Request::get("/x")).status, 200);
        client.send(request.as_bytes()).unwrap();
        let mut got = Vec::new();
        client.io.read_to_end(&mut got).unwrap();
        assert!(got.ends_with(&[b'x'; 1000]) && got.len() > SIZE, "{} bytes of {request}", got.len());
    }
}

#[test]
fn an_idle_connection_is_closed_and_not_reset() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("server.idle_timeout", "1s"));
    let mut client = gateway.connect();
    assert_eq!(client.exchange(&Request::get("/x")).status, 200);
    assert_eq!(client.io.read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_is_no_request_is_answered_as_everything_else_is() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    for (sent, status) in [
        ("nonsense\r\n\r\n".to_owned(), 400),
        ("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na".to_owned(), 400),
        (format!("GET /x HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200)), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(70_000)), 414),
    ] {
        let mut client = gateway.connect();
        client.send(sent.as_bytes()).unwrap();
        let answer = client.answer("GET").unwrap();
        answer.assert_problem(status);
        assert_eq!(answer.fields.get("connection"), Some("close"));
        assert!(client.is_closed());
    }
    assert_eq!(partner.seen().len(), 0);
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_its_answer_and_then_the_next() {
    let partner = Partner::new();
    partner.on("/large", |x| {
        let body: Vec<u8> = (0..4 << 20).map(|at: u32| (at % 251) as u8).collect();
        x.answer(&Answer::new(200, body))
    });
    let gateway = Gateway::before(&partner);
    let mut client = gateway.connect();
    let both = [Request::get("/large").to_bytes(), Request::get("/x").to_bytes()].concat();
    client.send(&both).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.io.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let mut got = Vec::new();
    // Parts that fit nothing.
    for size in (1..).step_by(1013) {
        let left = (4 << 20) - got.len();
        let mut part = vec![0; size.min(left)];
        client.io.read_exact(&mut part).unwrap();
        got.extend(part);
        if left <= size {
            break;
        }
    }
    assert!(got.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251));
    assert_eq!(client.answer("GET").unwrap().status, 200);
}
