//! What takes too long or too much room on the wire, and what has to wait there. What is wrong in
//! form is in `cases`.

use std::io::{Read as _, Write as _};

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::partner::Partner;

#[test]
fn the_last_answer_is_not_lost_to_a_client_that_has_sent_more_than_its_last_request() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    // More than is read at a time, so that some of it is still unread in the system at the end.
    let more = Request::post("/x", vec![b'x'; 200_000]).to_bytes();
    let last = Request::get("/last").with("Connection", "close").to_bytes();
    for behind in [&b"\r\n"[..], &more] {
        let mut client = std::net::TcpStream::connect(gateway.proxy_addr().tcp()).unwrap();
        client.write_all(&[&last, behind].concat()).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer));
        let _ = client.shutdown(std::net::Shutdown::Write);
        eventually("the connection has ended", || {
            gateway.metric("bearerd_connections", &[("side", "client")]) == Some(0.0)
        });
        // A reset takes with it what the client has not read, with most systems.
        assert!(client.take_error().unwrap().is_none(), "it was reset");
    }
    assert_eq!((partner.seen_at("/last").len(), partner.seen_at("/x").len()), (2, 0));
}

#[test]
fn a_request_without_a_path_in_http2_is_a_400() {
    let field = |name: &str, value: &str| {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
    };
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    };
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let mut connection = gateway.connect();
    let head = [field(":method", "GET"), field(":scheme", "http")].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    connection.io.write_all(&[preface, &*frame(4, 0, 0, &[]), &frame(1, 5, 1, &head)].concat()).unwrap();
    let status = loop {
        let mut head = [0; 9];
        connection.io.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        connection.io.read_exact(&mut payload).unwrap();
        if head[3] == 1 {
            break payload[0];
        }
    };
    // RFC 7541 appendix A: the entry of the static table for `:status: 400`.
    assert_eq!(status, 0x80 | 12);
    assert_eq!(partner.seen().len(), 0, "{:?}", partner.seen());
}

#[test]
fn s60_heads_beyond_the_bounds_are_refused() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let uri = gateway.raw(format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(70_000)));
    assert_eq!(uri.status, 414);
    let many = "X-Many: 1\r\n".repeat(200);
    assert_eq!(gateway.raw(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{many}\r\n")).status, 431);
    let long = "x".repeat(600_000);
    let mut client = gateway.connect();
    let _refused =
        client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Long: {long}\r\n\r\n").as_bytes());
    match client.answer("GET") {
        Ok(answer) => assert_eq!(answer.status, 431),
        Err(closed) => println!("closed without an answer: {closed}"),
    }
    assert_eq!(partner.seen().len(), 0);
}

#[test]
fn s59_a_head_that_does_not_come_is_not_waited_for() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("server.header_timeout", "500ms"));
    for beginning in
        ["", "G", "P", "PRI * HT", "GET / HTTP/1.1\r\nHost: a.t", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut client = gateway.connect();
        client.send(beginning.as_bytes()).unwrap();
        assert!(client.is_closed(), "{beginning:?} holds a connection");
    }
    let mut client = gateway.connect();
    assert_eq!(client.exchange(&Request::get("/x")).status, 200);
}

#[test]
fn s59_a_body_that_stands_still_is_not_waited_for() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("server.idle_timeout", "300ms"));
    let mut client = gateway.connect();
    client.send(b"POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    let ended = client.answer("POST").map(|answer| answer.status);
    assert!(!matches!(ended, Ok(200..400)), "{ended:?}");
    assert!(client.is_closed());
    assert!(partner.seen().iter().all(|seen| !seen.complete));
}

#[test]
fn a_kept_alive_connection_that_idles_is_closed() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("server.idle_timeout", "300ms"));
    let mut client = gateway.connect();
    assert_eq!(client.exchange(&Request::get("/x")).status, 200);
    assert!(client.is_closed());
}

#[test]
fn s53_continue_is_said_only_when_a_token_is_there() {
    let partner = Partner::new();
    let gate = partner.hold_refreshes();
    let gateway = Gateway::spawn(&Config::to(&partner));
    gate.await_arrivals(1);
    let mut client = gateway.connect();
    // Without a length, so that nothing needs to be collected before it is sent.
    let head =
        "POST /x HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(head.as_bytes()).unwrap();
    let reader = std::thread::spawn(move || {
        let interim = client.head().unwrap().unwrap();
        (interim, client)
    });
    // The reader has nothing to read while the token is awaited.
    assert_eq!(gateway.admin(&Request::get("/readyz")).status, 503);
    assert!(!reader.is_finished());
    gate.open();
    let (interim, mut client) = reader.join().unwrap();
    assert_eq!(interim.word(1), "100");
    client.send(b"3\r\nabc\r\n0\r\n\r\n").unwrap();
    assert_eq!(client.answer("POST").unwrap().status, 200);
    assert_eq!(partner.only().body, b"abc");
    assert!(!partner.only().fields.has("expect"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let partner = Partner::new();
    let gate = Gate::shut();
    let held = gate.clone();
    partner.on("/first", move |x| {
        held.wait();
        x.answer(&Answer::new(200, "first"))
    });
    partner.on("/second", |x| x.answer(&Answer::new(200, "second")));
    let gateway = Gateway::before(&partner);
    let mut client = gateway.connect();
    client.send(&[Request::get("/first").to_bytes(), Request::get("/second").to_bytes()].concat()).unwrap();
    gate.await_arrivals(1);
    gate.open();
    assert_eq!(client.answer("GET").unwrap().text(), "first");
    assert_eq!(client.answer("GET").unwrap().text(), "second");
}

#[test]
fn broken_answers_of_the_partner_are_a_502() {
    let partner = Partner::new();
    let answers: [(&str, &[u8]); 5] = [
        ("/garbage", b"\x16\x03\x01 no http\r\n\r\n"),
        ("/lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        ("/status", b"HTTP/1.1 99999 OK\r\n\r\n"),
        ("/field", b"HTTP/1.1 200 OK\r\nX\0: 1\r\n\r\n"),
        ("/nothing", b""),
    ];
    for (path, bytes) in answers {
        partner.on(path, move |x| {
            x.raw(bytes)?;
            x.close()
        });
    }
    let gateway = Gateway::before(&partner);
    for (path, _) in answers {
        gateway.get(path).assert_problem(502);
        assert_eq!(partner.seen_at(path).len(), 1, "{path}");
    }
}
