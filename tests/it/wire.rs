//! Requests that are wrong on the wire, sent as the bytes that they are.

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::partner::Partner;

/// Sends each, expects `status`, and that nothing of it reached the partner.
#[track_caller]
fn all_refused(status: u16, requests: &[&str]) {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    for request in requests {
        let answer = gateway.raw(request);
        assert_eq!(answer.status, status, "{request:?}: {answer:?}");
    }
    assert_eq!(partner.seen().len(), 0, "{:?}", partner.seen());
    assert_eq!(gateway.get("/after").status, 200);
}

#[test]
fn a_missing_or_second_host_is_a_400() {
    all_refused(
        400,
        &[
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nhost: b.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: u:p@a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test:99999\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test:x\r\n\r\n",
        ],
    );
}

#[test]
fn paths_with_two_readings_are_a_400() {
    let paths = [
        "/%",
        "/%2",
        "/%zz",
        "/a/%4",
        "/a/../b",
        "/..",
        "/.",
        "/a/.",
        "/a/%2e%2e/b",
        "/a/%2E/b",
        "/a/.%2e/b",
        "/a/..;x=y/b",
        "/a/%252e%252e/b",
        "/a\\b",
        "/a/..%2fb",
        "/a%5cb",
        "/a%00b",
        "/a%2500b",
    ];
    let requests: Vec<_> =
        paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n")).collect();
    all_refused(400, &requests.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn targets_that_are_no_paths_are_refused() {
    all_refused(
        400,
        &[
            "GET http://user:pass@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET http://user@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ],
    );
}

#[test]
fn malformed_heads_are_a_400() {
    all_refused(
        400,
        &[
            "GET / HTTP/1.1\r\nHost : a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\n folded: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\n: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\rb\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +1\r\n\r\na",
            "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1, 1\r\n\r\na",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ],
    );
}

#[test]
fn a_transfer_coding_other_than_chunked_is_a_501() {
    all_refused(
        501,
        &[
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ],
    );
}

#[test]
fn connect_and_trace_are_a_405() {
    all_refused(
        405,
        &[
            "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n",
            "TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ],
    );
}

#[test]
fn an_unknown_expectation_is_a_417() {
    all_refused(417, &["POST / HTTP/1.1\r\nHost: a.test\r\nExpect: miracle\r\nContent-Length: 1\r\n\r\na"]);
}

#[test]
fn two_lengths_smuggle_nothing() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let smuggling = [
        "POST /first HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        "POST /first HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 50\r\n\r\n0\r\n\r\nGET /second HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ];
    for request in smuggling {
        let mut client = gateway.connect();
        client.send(request.as_bytes()).unwrap();
        let answer = client.answer("POST").unwrap();
        assert!(matches!(answer.status, 200 | 400), "{answer:?}");
        assert!(client.is_closed(), "what follows has no certain beginning");
    }
    assert!(partner.seen().iter().all(|seen| seen.target == "/first" && seen.body.is_empty()));
    assert!(partner.seen().iter().all(|seen| seen.fields.all("content-length").len() <= 1));
}

#[test]
fn bare_line_feeds_are_read_and_written_properly() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    assert_eq!(gateway.raw("\r\nGET /bare HTTP/1.1\nHost: a.test\nX-A: 1\n\n").status, 200);
    assert_eq!(partner.only().fields.all("x-a"), ["1"]);
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
