//! Ten thousand clients that go away, and nothing of them stays.

use crate::support::client::{Connection, Request};
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::frames::{DATA, END_HEADERS, Frames, HEADERS, RST_STREAM, block, frame};
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::partner::Partner;
use crate::support::vitals::descriptors;

/// How many there are at once; as many exchanges are allowed.
const BATCH: usize = 250;
const BATCHES: usize = 14;

fn config(partner: &Partner) -> Config {
    Config::to(partner)
        .set("log.level", "info")
        .set("log.access", "off")
        .set("server.max_in_flight", i64::try_from(BATCH).unwrap())
        .set("server.token_timeout", "30s")
}

fn clients(gateway: &Gateway) -> Option<f64> {
    gateway.metric("bearerd_connections", &[("side", "client")])
}

/// Opens a batch of connections, sends these bytes on each, waits until `arrived`, and goes away.
fn abort(gateway: &Gateway, bytes: &[u8], arrived: impl Fn() -> bool) {
    let mut batch: Vec<Connection> = (0..BATCH).map(|_| gateway.connect()).collect();
    for client in &mut batch {
        client.send(bytes).unwrap();
    }
    eventually("all are there", || clients(gateway) == Some(BATCH as f64) && arrived());
    for client in batch {
        client.hang_up();
    }
    eventually("all are gone", || clients(gateway) == Some(0.0));
}

/// Asserts that as many exchanges as are allowed can be under way, none of which is taken by
/// somebody who has gone; and that all descriptors have been given back.
#[track_caller]
fn assert_nothing_left(partner: &Partner, gateway: &Gateway, before: usize) {
    let gate = Gate::shut();
    let held = gate.clone();
    partner.on("/held", move |x| {
        held.wait();
        x.answer(&Answer::new(200, "late"))
    });
    let waiting: Vec<_> = (0..BATCH).map(|_| gateway.send_aside(Request::get("/held"))).collect();
    gate.await_arrivals(BATCH);
    gateway.get("/more").assert_problem(503);
    gate.open();
    for answer in waiting {
        assert_eq!(answer.join().unwrap().text(), "late");
    }
    // What the partner had open it closes, so that connections which may be kept do not count.
    partner.close_connections();
    let left = || descriptors(gateway.pid());
    eventually("no descriptor is left", || left() <= before);
}

/// The descriptors of a gateway that has done each thing once, but keeps no connection.
fn baseline(partner: &Partner, gateway: &Gateway) -> usize {
    assert_eq!(gateway.get("/x").status, 200);
    partner.close_connections();
    eventually("nothing is open", || {
        clients(gateway) == Some(0.0)
            && gateway.metric("bearerd_connections", &[("side", "upstream")]) == Some(0.0)
    });
    descriptors(gateway.pid())
}

#[test]
fn s55_clients_that_go_before_they_have_sent_a_request_leave_nothing() {
    let partner = Partner::new();
    let gateway = Gateway::start(&config(&partner));
    let before = baseline(&partner, &gateway);
    let seen = partner.seen().len();
    for round in 0..BATCHES {
        let begun: &[u8] =
            [&b""[..], b"G", b"POST /x HTTP/1.1\r\nHost: a.t", b"PRI * HTTP/2.0\r\n"][round % 4];
        abort(&gateway, begun, || true);
    }
    assert_eq!(partner.seen().len(), seen);
    assert_nothing_left(&partner, &gateway, before);
}

#[test]
fn s55_clients_that_go_while_they_wait_for_a_token_leave_nothing() {
    let partner = Partner::new();
    let gateway = Gateway::start(&config(&partner));
    let before = baseline(&partner, &gateway);
    let seen = partner.seen().len();
    let gate = partner.hold_refreshes();
    partner.revoke_access();
    // The first finds out that the token is no good; everybody else meets the same, and waits.
    for round in 0..BATCHES {
        let refused = partner.rejected();
        let request = [Request::get("/x"), Request::post("/x", "abc")][round % 2].to_bytes();
        abort(&gateway, &request, || partner.rejected() >= refused + BATCH);
    }
    assert_eq!(gate.arrivals(), 1, "one refresh, which nobody who goes away cancels");
    gate.open();
    gateway.await_generation(2);
    assert_eq!(partner.seen().len(), seen + BATCH * BATCHES, "none of them is sent again");
    assert_nothing_left(&partner, &gateway, before);
    assert_eq!(partner.refreshes(), 2);
}

#[test]
fn s55_clients_that_go_in_the_middle_of_a_body_leave_nothing() {
    let partner = Partner::new();
    let gateway = Gateway::start(&config(&partner));
    let before = baseline(&partner, &gateway);
    let head = "POST /x HTTP/1.1\r\nHost: a.test\r\n";
    for round in 0..BATCHES {
        let seen = partner.seen().len();
        // Held before it is sent, streaming, and too long to be held.
        let (rest, streams) = [
            ("Content-Length: 1000\r\n\r\nabc", 0),
            ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", BATCH),
            ("Content-Length: 1000000\r\n\r\nabc", BATCH),
        ][round % 3];
        abort(&gateway, format!("{head}{rest}").as_bytes(), || partner.seen().len() == seen + streams);
    }
    assert!(
        partner
            .seen()
            .iter()
            .filter(|seen| seen.target == "/x" && seen.method == "POST")
            .all(|seen| !seen.complete)
    );
    assert_nothing_left(&partner, &gateway, before);
    assert_eq!(partner.refreshes(), 1);
}

#[test]
fn s55_a_client_that_goes_in_the_middle_of_a_body_that_is_answered_already_leaves_nothing() {
    let partner = Partner::new();
    partner.on_any("/early", |x| {
        x.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")?;
        while x.part()?.is_some() {}
        Ok(())
    });
    let gateway = Gateway::start(&config(&partner));
    let before = baseline(&partner, &gateway);
    let mut client = gateway.connect();
    client
        .send(b"POST /early HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        .unwrap();
    assert!(client.head().unwrap().is_some());
    client.hang_up();
    assert_nothing_left(&partner, &gateway, before);
}

#[test]
fn s55_a_client_that_resets_an_upload_without_an_error_has_not_ended_it() {
    let partner = Partner::new();
    let gateway = Gateway::start(&config(&partner));
    let fields = [(":method", "POST"), (":scheme", "http"), (":authority", "a.test"), (":path", "/x")];
    let mut client = Frames::connect(gateway.proxy_addr().tcp());
    client.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).unwrap();
    client.send(&frame(DATA, 0, 1, b"half a payment")).unwrap();
    eventually("it has begun to arrive", || partner.seen_at("/x").len() == 1);
    const NO_ERROR: u32 = 0;
    client.send(&frame(RST_STREAM, 0, 1, &NO_ERROR.to_be_bytes())).unwrap();
    eventually("the partner's connection has ended", || {
        gateway.metric("bearerd_connections", &[("side", "upstream")]) == Some(0.0)
    });
    assert!(!partner.seen_at("/x")[0].complete, "half of it passed for all");
}
