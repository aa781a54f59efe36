//! No descriptor is left.

use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::support::client::{Connection, Request, connect};
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::vitals::{descriptors, processor_time};

const LIMIT: usize = 256;

/// From now on the process may have so many descriptors.
fn limit(gateway: &Gateway, count: usize) {
    // The hard limit stays as it is, or it could not be raised again.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(count as u64), maximum };
    prlimit(Some(gateway.pid()), Resource::Nofile, limit).unwrap();
}

/// How often it was in the log that nothing could be accepted.
fn refusals(gateway: &Gateway) -> usize {
    gateway.logs().matches("cannot accept connections").count()
}

/// Opens connections until one is not accepted for want of a descriptor.
fn exhaust(gateway: &Gateway) -> Vec<Connection> {
    let mut idle = Vec::new();
    eventually("no descriptor is left", || {
        idle.extend((0..20).map(|_| gateway.connect()));
        refusals(gateway) > 0
    });
    // What is left is as good as nothing: another thread may be about to take it.
    assert!(descriptors(gateway.pid()) + 2 >= LIMIT, "{}", descriptors(gateway.pid()));
    idle
}

#[test]
fn s58_without_descriptors_accepting_pauses_and_goes_on_when_there_are_some() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("log.level", "info"));
    let mut kept = gateway.connect();
    let mut operator = connect(gateway.admin_addr());
    assert_eq!(kept.exchange(&Request::get("/x")).status, 200);
    assert_eq!(operator.exchange(&Request::get("/livez")).status, 200);
    limit(&gateway, LIMIT);
    let idle = exhaust(&gateway);

    // Each of the two runtimes tries again ten times a second, and does nothing in between.
    let (began, used, before) = (Instant::now(), processor_time(gateway.pid()), refusals(&gateway));
    eventually("it is tried again", || refusals(&gateway) >= before + 20);
    let (used, times) = (processor_time(gateway.pid()) - used, refusals(&gateway) - before);
    let passed = began.elapsed();
    println!("{times} times in {passed:?}, with {used:?} of the processor");
    let most = 2 * (passed.as_millis() / 100 + 2);
    assert!(times as u128 <= most, "{times} times in {passed:?}: it spins");
    assert!(used < passed / 5, "{used:?} of {passed:?}: it spins");

    // Who is connected is served, by the operator's side as well.
    assert_eq!(kept.exchange(&Request::get("/x")).status, 200);
    assert_eq!(operator.exchange(&Request::get("/readyz")).status, 200);
    // Whoever waits to be accepted is served as soon as there is room.
    let waiting = gateway.send_aside(Request::get("/waited"));
    drop(idle);
    assert_eq!(waiting.join().unwrap().status, 200);
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!(partner.refreshes(), 1);
}

#[test]
fn s58_a_refresh_that_finds_no_descriptor_is_made_when_there_is_one() {
    let partner = Partner::new();
    let config = Config::to(&partner).set("log.level", "info").set("server.token_timeout", "500ms");
    let gateway = Gateway::start(&config);
    let mut kept = gateway.connect();
    let mut operator = connect(gateway.admin_addr());
    assert_eq!(kept.exchange(&Request::get("/x")).status, 200);
    assert_eq!(operator.exchange(&Request::get("/livez")).status, 200);
    limit(&gateway, LIMIT);
    let idle = exhaust(&gateway);
    partner.revoke_access();
    let answer = kept.exchange(&Request::post("/pay", "{\"amount\":1}"));
    println!("meanwhile: {} {:?}", answer.status, answer.fields.get("retry-after"));
    // Whether the descriptor of a connection that has just ended is there for it is a matter of luck.
    assert!(matches!(answer.status, 200 | 502 | 503), "{answer:?}");
    assert_eq!(operator.exchange(&Request::get("/livez")).status, 200);
    drop(idle);
    eventually("a token is there", || gateway.get("/x").status == 200);
    assert!(partner.refreshes() <= 2 + 1, "{} calls", partner.refreshes());
    partner.assert_no_spent_token_seen();
    let paid = partner.seen_at("/pay");
    assert!(paid.iter().filter(|seen| partner.authorized(&seen.fields)).count() <= 1, "{paid:?}");
}

/// The limit may be taken away again while bearerd runs, as an operator would do.
#[test]
fn s58_with_more_descriptors_accepting_goes_on_although_nobody_has_gone() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("log.level", "info"));
    assert_eq!(gateway.get("/x").status, 200);
    limit(&gateway, LIMIT);
    let idle = exhaust(&gateway);
    let waiting = gateway.send_aside(Request::get("/waited"));
    limit(&gateway, 4 * LIMIT);
    assert_eq!(waiting.join().unwrap().status, 200);
    assert_eq!(gateway.admin(&Request::get("/livez")).status, 200);
    drop(idle);
}
