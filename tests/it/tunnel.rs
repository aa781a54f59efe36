//! Another protocol on a connection, agreed on with a 101.

use std::io::{ErrorKind, Read as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::{Connection, Request};
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::exchange::Exchange;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::partner::{LOGIN, Partner};
use crate::support::rest::Watched;

/// Agrees to whatever is asked for, and then sends back what comes.
fn echo(partner: &Partner) {
    partner.on("/ws", |x| {
        x.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n")?;
        x.raw(b"Keep-Alive: timeout=5\r\nX-Kept: 1\r\n\r\n")?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let size = x.wire.io.read(&mut buffer)?;
            if size == 0 {
                return x.close();
            }
            x.wire.send(&buffer[..size])?;
        }
    });
}

fn upgrade() -> Request {
    Request::get("/ws").with("Connection", "Upgrade").with("Upgrade", "websocket")
}

/// Opens a tunnel, and returns the fields of the 101.
fn open(gateway: &Gateway) -> (Connection, crate::support::http::Head) {
    let mut client = gateway.connect();
    client.send(&upgrade().to_bytes()).unwrap();
    let head = client.head().unwrap().unwrap();
    assert_eq!(head.word(1), "101", "{head:?}");
    (client, head)
}

fn assert_echoes(client: &mut Connection, data: &[u8]) {
    let mut echoed = vec![0; data.len()];
    std::thread::scope(|scope| {
        let mut io = client.io.try_clone().unwrap();
        scope.spawn(move || std::io::Write::write_all(&mut io, data).unwrap());
        client.io.read_exact(&mut echoed).unwrap();
    });
    assert!(echoed == data);
}

#[test]
fn bytes_pass_both_ways_in_clear_and_over_tls() {
    for partner in [Partner::new(), Partner::over_tls()] {
        echo(&partner);
        let gateway = Gateway::before(&partner);
        let (mut client, head) = open(&gateway);
        assert_eq!(head.fields.all("upgrade"), ["websocket"]);
        assert!(head.fields.has("x-kept") && !head.fields.has("keep-alive"), "{head:?}");
        for size in [1, 100, 1_000_000] {
            assert_echoes(&mut client, &crate::support::noise(size));
        }
    }
}

/// Whether anything has come on the partner's side of the connection behind the request.
fn has_come(x: &Exchange<'_>) -> bool {
    let stream = x.wire.io.tcp();
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    x.wire.has_more() || !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// RUSTSEC-2026-0033: what a client sends behind its request for a tunnel is for nobody yet.
#[test]
fn not_a_byte_goes_to_the_partner_before_it_has_agreed() {
    let partner = Partner::new();
    let (gate, early) = (Gate::shut(), Arc::new(AtomicUsize::new(0)));
    let (held, noted) = (gate.clone(), Arc::clone(&early));
    partner.on("/ws", move |x| {
        held.wait();
        noted.fetch_add(usize::from(has_come(x)), Ordering::SeqCst);
        x.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")?;
        let mut buffer = [0; 64];
        loop {
            let size = x.wire.io.read(&mut buffer)?;
            if size == 0 {
                return x.close();
            }
            x.wire.send(&buffer[..size])?;
        }
    });
    let gateway = Gateway::start(&Config::to(&partner).set("server.threads", 1));
    let worker = Watched::named(gateway.pid(), "worker-0");
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let mut client = gateway.connect();
    client.send(&[&upgrade().to_bytes()[..], smuggled].concat()).unwrap();
    gate.await_arrivals(1);
    client.send(smuggled).unwrap();
    worker.await_rest();
    gate.open();
    assert_eq!(client.head().unwrap().unwrap().word(1), "101");
    let mut echoed = vec![0; 2 * smuggled.len()];
    client.read_exact(&mut echoed).unwrap();
    assert!(echoed == smuggled.repeat(2), "all of it is the tunnel's, in order");
    assert_eq!(early.load(Ordering::SeqCst), 0);
    assert_eq!(partner.seen().len(), 1);
}

#[test]
fn what_was_meant_for_a_tunnel_that_is_refused_is_not_carried() {
    let partner = Partner::new();
    let late = Arc::new(AtomicUsize::new(0));
    let noted = Arc::clone(&late);
    partner.on("/ws", move |x| {
        noted.fetch_add(usize::from(has_come(x)), Ordering::SeqCst);
        x.answer(&Answer::new(200, "no tunnel"))
    });
    let gateway = Gateway::start(&Config::to(&partner).set("server.threads", 1));
    let refresh = format!("POST {LOGIN} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\n{{}}");
    for (meant, status) in [
        (&b"\x81\x85\0\0\0\0hello"[..], 400),
        (b"hello\r\n\r\n", 400),
        // What looks like a request is one, and is looked at like any other.
        (refresh.as_bytes(), 403),
        (b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", 405),
    ] {
        let mut client = gateway.connect();
        client.send(&[&upgrade().to_bytes()[..], meant].concat()).unwrap();
        assert_eq!(client.answer("GET").unwrap().text(), "no tunnel");
        match client.answer("GET") {
            Ok(answer) => assert_eq!(answer.status, status, "{:?}", meant.escape_ascii().to_string()),
            Err(closed) => assert_ne!(closed.kind(), ErrorKind::WouldBlock),
        }
    }
    assert!(partner.seen().iter().all(|seen| seen.target == "/ws" && seen.body.is_empty()));
    assert_eq!((late.load(Ordering::SeqCst), partner.seen().len(), partner.logins()), (0, 4, 0));
    assert_eq!(gateway.get("/x").status, 200);
}

#[test]
fn a_tunnel_that_nobody_asked_for_is_a_502_and_carries_nothing() {
    let partner = Partner::new();
    echo(&partner);
    let gateway = Gateway::before(&partner);
    let mut client = gateway.connect();
    client.send(&[&Request::get("/ws").to_bytes()[..], &Request::get("/next").to_bytes()].concat()).unwrap();
    client.answer("GET").unwrap().assert_problem(502);
    assert_eq!(client.answer("GET").unwrap().status, 200, "the next request is a request");
    assert_eq!(partner.seen_at("/next").len(), 1);
}

#[test]
fn a_tunnel_counts_as_an_exchange_for_as_long_as_it_lasts() {
    let partner = Partner::new();
    echo(&partner);
    let gateway = Gateway::start(&Config::to(&partner).set("server.max_in_flight", 1));
    let (client, _) = open(&gateway);
    gateway.get("/x").assert_problem(503);
    // The refused one goes, and the tunnel's stays.
    eventually("one connection", || {
        gateway.metric("bearerd_connections", &[("side", "client")]) == Some(1.0)
    });
    client.hang_up();
    eventually("room again", || gateway.get("/x").status == 200);
}

#[test]
fn s56_a_tunnel_is_waited_for_in_a_drain() {
    let partner = Partner::new();
    echo(&partner);
    let mut gateway = Gateway::before(&partner);
    let (mut client, _) = open(&gateway);
    gateway.sigterm();
    eventually("no new connections", || std::net::TcpStream::connect(gateway.proxy_addr().tcp()).is_err());
    assert_echoes(&mut client, b"still here");
    assert!(gateway.is_running());
    client.hang_up();
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn an_upgrade_to_http_or_in_http_1_0_is_ignored() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    for protocol in ["h2c", "websocket, h2c", "TLS/1.0", "HTTP/2.0"] {
        let request = Request::get("/x").with("Connection", "Upgrade").with("Upgrade", protocol);
        assert_eq!(gateway.send(&request).status, 200);
    }
    let old = "GET /x HTTP/1.0\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(gateway.raw(old).status, 200);
    for seen in partner.seen() {
        assert!(!seen.fields.has("upgrade"), "{seen:?}");
    }
}
