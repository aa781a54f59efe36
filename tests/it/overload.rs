//! More than bearerd is to take at once.

use std::io::Write as _;
use std::net::TcpStream;
use std::thread;

use bytes::Bytes;
use hyper::Version;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::load;
use crate::support::partner::Partner;
use crate::support::vitals::{most_resident, resident};

/// A partner with a path, `/held`, that answers when the gate is opened.
fn holding() -> (Partner, Gate) {
    let (partner, gate) = (Partner::new(), Gate::shut());
    let held = gate.clone();
    partner.on("/held", move |x| {
        held.wait();
        x.answer(&Answer::new(200, "late"))
    });
    (partner, gate)
}

#[test]
fn s61_beyond_the_limit_everything_is_a_503_before_it_is_looked_at() {
    let (partner, gate) = holding();
    let config = Config::to(&partner).set("log.level", "info").set("server.max_in_flight", 3);
    let gateway = Gateway::start(&config);
    let waiting: Vec<_> = (0..3).map(|_| gateway.send_aside(Request::get("/held"))).collect();
    gate.await_arrivals(3);
    for request in [
        "GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        // These are wrong, or not all there; no work is done to find out.
        "GET /../x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "TRACE /x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "POST /openapi/v1/auth/refresh HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{}",
        "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1000\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST /x HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
    ] {
        let answer = gateway.raw(request);
        answer.assert_problem(503);
        assert_eq!(answer.fields.get("retry-after"), Some("1"), "{request:?}");
        assert_eq!(answer.informational, [0; 0], "{request:?}: nobody is asked to go on");
    }
    for path in ["/livez", "/readyz", "/metrics", "/status"] {
        assert_eq!(gateway.admin(&Request::get(path)).status, 200, "{path}");
    }
    assert_eq!(partner.seen().len(), 3);
    gate.open();
    for answer in waiting {
        assert_eq!(answer.join().unwrap().text(), "late");
    }
    assert_eq!((gateway.get("/x").status, partner.refreshes()), (200, 1));
}

#[test]
fn s61_streams_of_http2_beyond_the_limit_are_a_503_each_that_says_when_to_come_again() {
    let (partner, gate) = (Partner::new(), Gate::shut());
    let held = gate.clone();
    partner.on_any("/load", move |x| {
        x.body()?;
        held.wait();
        x.answer(&Answer::new(200, "late"))
    });
    let config = Config::to(&partner).set("log.level", "info").set("server.max_in_flight", 3);
    let gateway = Gateway::start(&config);
    let shed = || gateway.metric("bearerd_http_server_request_duration_seconds_count", &[("code", "5xx")]);
    let (address, body) = (gateway.proxy_addr().tcp(), Bytes::from_static(b"abc"));
    let replies = thread::scope(|scope| {
        let all = scope.spawn(|| load::at_once(address, Version::HTTP_2, 2, 50, &body));
        eventually("what is too much has been told", || shed() == Some(97.0));
        for path in ["/livez", "/readyz", "/metrics", "/status"] {
            assert_eq!(gateway.admin(&Request::get(path)).status, 200, "{path}");
        }
        gate.open();
        all.join().unwrap()
    });
    let (served, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!((served.len(), refused.len(), partner.seen_at("/load").len()), (3, 97, 3));
    for reply in refused {
        assert_eq!((reply.status.as_u16(), &reply.fields["retry-after"]), (503, &"1".parse().unwrap()));
        assert_eq!(reply.fields["content-type"], "application/problem+json");
        assert_eq!(reply.fields["proxy-status"], "bearerd; error=connection_limit_reached");
    }
    assert_eq!(load::at_once(address, Version::HTTP_2, 1, 1, &body)[0].status, 200);
}

#[test]
fn s61_requests_that_wait_for_a_token_count_and_the_rest_is_told_at_once() {
    let partner = Partner::new();
    let gate = partner.hold_refreshes();
    let config = Config::to(&partner).set("log.level", "info").set("server.max_in_flight", 50);
    let gateway = Gateway::spawn(&config);
    gate.await_arrivals(1);
    let mut all: Vec<_> = (0..200).map(|_| gateway.connect()).collect();
    for client in &mut all {
        client.send(&Request::post("/x", "abc").to_bytes()).unwrap();
    }
    let shed = || gateway.metric("bearerd_http_server_request_duration_seconds_count", &[("code", "5xx")]);
    eventually("what is too much has been told", || shed() == Some(150.0));
    assert_eq!(gateway.admin(&Request::get("/livez")).status, 200);
    assert_eq!(partner.seen().len(), 0);
    gate.open();
    let mut counts = [0, 0];
    for client in &mut all {
        let answer = client.answer("POST").unwrap();
        if answer.status == 503 {
            answer.assert_problem(503);
            assert!(answer.fields.has("retry-after"));
        }
        counts[usize::from(answer.status == 200)] += 1;
    }
    assert_eq!((counts, partner.seen().len(), partner.refreshes()), ([150, 50], 50, 1));
}

#[test]
fn s61_connections_beyond_the_limit_wait_and_the_operator_is_still_answered() {
    let partner = Partner::new();
    let config = Config::to(&partner).set("log.level", "info").set("server.threads", 1);
    let gateway = Gateway::start(&config.set("server.max_connections", 20));
    let mut first: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    let open = || gateway.metric("bearerd_connections", &[("side", "client")]);
    eventually("all are accepted", || open() == Some(20.0));
    let waiting: Vec<_> =
        (0..10).map(|n| gateway.send_aside(Request::get(&format!("/waited/{n}")))).collect();
    for client in &mut first {
        assert_eq!(client.exchange(&Request::get("/x")).status, 200);
    }
    assert_eq!(gateway.admin(&Request::get("/livez")).status, 200);
    assert_eq!((open(), partner.seen().len()), (Some(20.0), 20));
    drop(first);
    for answer in waiting {
        assert_eq!(answer.join().unwrap().status, 200);
    }
    assert_eq!(partner.seen().len(), 30);
}

#[test]
fn s61_connections_that_wait_are_accepted_when_a_reload_allows_more() {
    let partner = Partner::new();
    let config = Config::to(&partner).set("log.level", "info").set("server.threads", 1);
    let gateway = Gateway::start(&config.clone().set("server.max_connections", 5));
    let first: Vec<_> = (0..5).map(|_| gateway.connect()).collect();
    let open = || gateway.metric("bearerd_connections", &[("side", "client")]);
    eventually("all are accepted", || open() == Some(5.0));
    let waiting = gateway.send_aside(Request::get("/waited"));
    gateway.reload(&config.set("server.max_connections", 6));
    assert_eq!(waiting.join().unwrap().status, 200);
    drop(first);
}

#[test]
fn s60_heads_that_are_nearly_too_long_are_held_in_bounds() {
    let partner = Partner::new();
    let config = Config::to(&partner).set("log.level", "info").set("log.access", "off");
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.get("/x").status, 200);
    let before = resident(gateway.pid());
    let count = 200;
    let begun = format!("GET /x HTTP/1.1\r\nHost: a.test\r\nX: {}", "x".repeat(120 << 10));
    let mut streams: Vec<TcpStream> =
        (0..count).map(|_| TcpStream::connect(gateway.proxy_addr().tcp()).unwrap()).collect();
    for stream in &mut streams {
        stream.write_all(begun.as_bytes()).unwrap();
    }
    let open = || gateway.metric("bearerd_connections", &[("side", "client")]);
    eventually("all are there", || open() == Some(count as f64));
    let mut last = 0;
    eventually("all that was sent is held", || {
        let held = resident(gateway.pid());
        std::mem::replace(&mut last, held) == held
    });
    // Whoever goes on is told so, or cut off; and it costs nothing more.
    for stream in &mut streams {
        let _refused = stream.write_all(&vec![b'x'; 1 << 20]);
    }
    eventually("none is held any more", || open() == Some(0.0));
    let each = most_resident(gateway.pid()).saturating_sub(before) / count as u64;
    println!("{} KiB for each head of 120 KiB", each / 1024);
    assert!(each < 384 * 1024, "{each} bytes for each");
    assert_eq!((gateway.get("/x").status, partner.seen().len()), (200, 2));
}
