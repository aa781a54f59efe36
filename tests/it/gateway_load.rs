//! Many at once: one refresh for all, and nobody sees a 401.

use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use hyper::Version;

use crate::support::DEADLINE;
use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::exchange::Exchange;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::load;
use crate::support::partner::Partner;

/// Refuses the first `count` requests with a token that was good until all of them have arrived, so
/// that all meet the same expiry.
fn expire_under(partner: &Partner, count: usize) {
    let arrived = Arc::new((Mutex::new(0_usize), Condvar::new()));
    let old = Mutex::new(None);
    partner.on_any("/load", move |x: &mut Exchange<'_>| {
        x.body()?;
        let token = x.seen.fields.get("authorization").map(str::to_owned);
        let old = old.lock().unwrap().get_or_insert_with(|| token.clone()).clone();
        if token != old {
            return x.answer(&Answer::new(200, x.seen.body.clone()));
        }
        let (number, all) = &*arrived;
        let mut number = number.lock().unwrap();
        *number += 1;
        all.notify_all();
        drop(all.wait_timeout_while(number, DEADLINE, |number| *number < count).unwrap());
        x.unauthorized()
    });
}

fn a_thousand(version: Version, connections: usize, streams: usize) {
    let partner = Partner::new();
    let gateway =
        Gateway::start(&Config::to(&partner).set("log.level", "info").set("server.token_timeout", "30s"));
    expire_under(&partner, 1000);
    let body = Bytes::from_static(b"{\"order_id\":\"1\",\"amount\":50000}");
    let replies = load::at_once(gateway.proxy_addr().tcp(), version, connections, streams, &body);
    assert_eq!(replies.len(), 1000);
    for reply in &replies {
        assert_eq!((reply.status.as_u16(), &reply.body), (200, &body));
    }
    // One at the start, one for the thousand.
    assert_eq!(partner.refreshes(), 2);
    assert_eq!(partner.seen().len(), 2000);
    partner.assert_no_spent_token_seen();
}

#[test]
fn s32_a_thousand_requests_that_meet_an_expired_token_cost_one_refresh() {
    a_thousand(Version::HTTP_11, 1000, 1);
}

#[test]
fn s32_a_thousand_streams_that_meet_an_expired_token_cost_one_refresh() {
    a_thousand(Version::HTTP_2, 20, 50);
}

#[test]
fn requests_that_arrive_before_the_first_token_wait_for_it() {
    let partner = Partner::new();
    let gate = partner.hold_refreshes();
    let gateway = Gateway::spawn(&Config::to(&partner));
    gate.await_arrivals(1);
    let waiting: Vec<_> = (0..20).map(|n| gateway.send_aside(Request::get(&format!("/early/{n}")))).collect();
    assert_eq!(gateway.admin(&Request::get("/readyz")).status, 503);
    assert_eq!(partner.seen().len(), 0);
    gate.open();
    for answer in waiting {
        assert_eq!(answer.join().unwrap().status, 200);
    }
    assert_eq!(partner.refreshes(), 1);
}

#[test]
fn both_versions_are_served_on_one_port() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let body = Bytes::from_static(b"abc");
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let replies = load::at_once(gateway.proxy_addr().tcp(), version, 2, 5, &body);
        assert!(replies.iter().all(|reply| reply.status == 200));
    }
    assert_eq!(partner.seen().len(), 20);
    assert!(partner.seen().iter().all(|seen| seen.body == *b"abc" && partner.authorized(&seen.fields)));
}

#[test]
fn many_more_clients_than_begin_at_a_time_get_all_their_answers() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("server.threads", 1));
    let address = gateway.proxy_addr().tcp();
    let replies = load::at_once(address, Version::HTTP_11, 400, 5, &Bytes::from_static(b"abc"));
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 2000);
    assert_eq!(partner.seen().len(), 2000);
}

#[test]
fn connections_to_the_partner_are_used_again() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("server.threads", 1));
    let mut client = gateway.connect();
    for _ in 0..20 {
        assert_eq!(client.exchange(&Request::post("/again", "x")).status, 200);
    }
    let mut connections: Vec<_> = partner.seen().iter().map(|seen| seen.connection).collect();
    connections.dedup();
    assert_eq!(connections.len(), 1);
}

#[test]
fn s61_exchanges_beyond_the_limit_get_503_and_the_operator_is_still_answered() {
    let partner = Partner::new();
    let gate = crate::support::gate::Gate::shut();
    let held = gate.clone();
    partner.on("/held", move |x| {
        held.wait();
        x.answer(&Answer::new(200, "late"))
    });
    let gateway = Gateway::start(&Config::to(&partner).set("server.max_in_flight", 2));
    let waiting: Vec<_> = (0..2).map(|_| gateway.send_aside(Request::get("/held"))).collect();
    gate.await_arrivals(2);
    gateway.get("/more").assert_problem(503);
    assert_eq!(gateway.admin(&Request::get("/livez")).status, 200);
    gate.open();
    for answer in waiting {
        assert_eq!(answer.join().unwrap().text(), "late");
    }
    assert_eq!(gateway.get("/more").status, 200);
}
