//! Another protocol on a connection, agreed on with a 101.

use std::io::Read as _;

use crate::support::client::{Connection, Request};
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;

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
