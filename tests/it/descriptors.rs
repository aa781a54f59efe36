//! No descriptor is left, or none for clients.

use std::thread;
use std::time::Instant;

use bytes::Bytes;
use hyper::Version;
use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::support::client::{Connection, Request, connect};
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::load;
use crate::support::partner::Partner;
use crate::support::vitals::{descriptors, processor_time};

const LIMIT: usize = 256;
/// Less than the process has open already: whatever it tries to open fails.
const NONE: usize = 8;

/// From now on the process may have so many descriptors.
fn limit(gateway: &Gateway, count: usize) {
    // The hard limit stays as it is, or it could not be raised again.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: Some(count as u64), maximum };
    prlimit(Some(gateway.pid()), Resource::Nofile, limit).unwrap();
}

/// How often it was in the log that nothing could be accepted, on whatever side.
fn refusals(gateway: &Gateway) -> usize {
    gateway.logs().matches("cannot accept ").count()
}

fn open(gateway: &Gateway, side: &str) -> usize {
    gateway.metric("bearerd_connections", &[("side", side)]).unwrap() as usize
}

/// Opens more connections than there is room for, and waits until no more of them are accepted.
fn take_all(gateway: &Gateway, first: &[u8]) -> Vec<Connection> {
    let connect = |_| {
        let mut client = gateway.connect();
        client.send(first).unwrap();
        client
    };
    let clients = (0..LIMIT).map(connect).collect();
    let mut last = 0;
    eventually("clients have all that they can get", || {
        let now = open(gateway, "client");
        std::mem::replace(&mut last, now) == now && now >= LIMIT / 5
    });
    assert!(last <= LIMIT / 2, "{last} clients");
    clients
}

/// A partner that answers on `/load` when the gate is opened.
fn holding() -> (Partner, Gate) {
    let (partner, gate) = (Partner::new(), Gate::shut());
    let held = gate.clone();
    partner.on_any("/load", move |x| {
        x.body()?;
        held.wait();
        x.answer(&Answer::new(200, "late"))
    });
    (partner, gate)
}

/// New calls of an operator are answered, and what they ask for is done.
#[track_caller]
fn assert_operable(gateway: &Gateway, partner: &Partner) {
    for path in ["/livez", "/readyz", "/metrics", "/status"] {
        assert_eq!(gateway.admin(&Request::get(path)).status, 200, "{path}");
    }
    let (before, generation) = (partner.refreshes(), gateway.generation());
    let asked = gateway.admin(&Request::post("/partners/acme/refresh", ""));
    assert!(matches!(asked.status, 200 | 202), "{asked:?}");
    gateway.await_generation(generation + 1);
    assert_eq!((partner.refreshes(), gateway.of_partner("persisted")), (before + 1, true.into()));
    assert_eq!(refusals(gateway), 0);
}

#[test]
fn s58_clients_that_take_all_they_can_get_leave_enough_for_operators_and_refreshes() {
    let (partner, gate) = holding();
    let gateway = Gateway::start(&Config::to(&partner).set("log.level", "info").with_admin_socket());
    limit(&gateway, LIMIT);
    let clients = take_all(&gateway, &Request::get("/load").with("Connection", "close").to_bytes());
    eventually("each has a connection to the partner", || gate.arrivals() == open(&gateway, "client"));
    println!("{} clients, {} descriptors", gate.arrivals(), descriptors(gateway.pid()));
    assert_operable(&gateway, &partner);
    assert!(descriptors(gateway.pid()) + 16 <= LIMIT, "{}", descriptors(gateway.pid()));
    gate.open();
    for mut client in clients {
        assert_eq!(client.answer("GET").unwrap().status, 200);
    }
    assert_eq!((partner.seen_at("/load").len(), refusals(&gateway)), (LIMIT, 0));
}

#[test]
fn s58_streams_beyond_the_descriptors_for_partners_are_told_to_come_again() {
    let (partner, gate) = holding();
    let gateway = Gateway::start(&Config::to(&partner).set("log.level", "info").with_admin_socket());
    limit(&gateway, LIMIT);
    let shed = || gateway.metric("bearerd_http_server_request_duration_seconds_count", &[("code", "5xx")]);
    let (address, body) = (gateway.proxy_addr().tcp(), Bytes::from_static(b"abc"));
    let replies = thread::scope(|scope| {
        let all = scope.spawn(|| load::at_once(address, Version::HTTP_2, 3, 100, &body));
        eventually("each is at the partner or has been shed", || {
            gate.arrivals() + shed().unwrap_or_default() as usize == 300
        });
        println!("{} at the partner, {} descriptors", gate.arrivals(), descriptors(gateway.pid()));
        assert_eq!(gate.arrivals(), open(&gateway, "upstream"));
        assert_operable(&gateway, &partner);
        gate.open();
        all.join().unwrap()
    });
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
    for reply in &refused {
        assert_eq!((reply.status.as_u16(), &reply.fields["retry-after"]), (503, &"1".parse().unwrap()));
        assert_eq!(reply.fields["proxy-status"], "bearerd; error=connection_limit_reached");
    }
    let seen = partner.seen_at("/load").len();
    assert!(refused.len() >= 100 && seen == 300 - refused.len(), "{} and {seen}", refused.len());
    // Half of the connections that were made are not kept: others may need the room.
    eventually("half of them are closed", || open(&gateway, "upstream") <= gate.arrivals() / 2);
    assert_eq!(gateway.get("/x").status, 200);
}

#[test]
fn s58_without_descriptors_accepting_pauses_and_goes_on_when_there_are_some() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("log.level", "info"));
    let mut operator = connect(gateway.admin_addr());
    assert_eq!(operator.exchange(&Request::get("/livez")).status, 200);
    assert_eq!(gateway.get("/x").status, 200);
    eventually("no client is left", || open(&gateway, "client") == 0);
    limit(&gateway, NONE);
    let idle: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    eventually("nothing can be accepted", || refusals(&gateway) > 0);

    // Each of the two runtimes tries again ten times a second, and does nothing in between.
    let (began, used, before) = (Instant::now(), processor_time(gateway.pid()), refusals(&gateway));
    eventually("it is tried again", || refusals(&gateway) >= before + 20);
    let (used, times) = (processor_time(gateway.pid()) - used, refusals(&gateway) - before);
    let passed = began.elapsed();
    println!("{times} times in {passed:?}, with {used:?} of the processor");
    let most = 2 * (passed.as_millis() / 100 + 2);
    assert!(times as u128 <= most, "{times} times in {passed:?}: it spins");
    assert!(used < passed / 5, "{used:?} of {passed:?}: it spins");

    // An operator who is connected is served; whoever waits is, as soon as there is room.
    assert_eq!(operator.exchange(&Request::get("/readyz")).status, 200);
    let waiting = gateway.send_aside(Request::get("/waited"));
    limit(&gateway, LIMIT);
    assert_eq!(waiting.join().unwrap().status, 200);
    drop(idle);
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
    limit(&gateway, NONE);
    partner.revoke_access();
    let answer = kept.exchange(&Request::post("/pay", "{\"amount\":1}"));
    answer.assert_problem(503);
    assert!(answer.fields.has("retry-after"), "{answer:?}");
    assert_eq!(operator.exchange(&Request::get("/livez")).status, 200);
    assert_eq!(partner.refreshes(), 1);
    limit(&gateway, LIMIT);
    eventually("a token is there", || gateway.get("/x").status == 200);
    assert_eq!(partner.refreshes(), 2);
    partner.assert_no_spent_token_seen();
    let paid = partner.seen_at("/pay");
    assert_eq!(paid.iter().filter(|seen| partner.authorized(&seen.fields)).count(), 0, "{paid:?}");
}

#[test]
fn s58_a_request_that_finds_no_descriptor_is_told_so_and_the_partner_is_not_blamed() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("log.level", "info"));
    let mut kept = gateway.connect();
    assert_eq!(kept.exchange(&Request::get("/x")).status, 200);
    partner.close_connections();
    limit(&gateway, NONE);
    let answer = kept.exchange(&Request::post("/pay", "{\"amount\":1}"));
    answer.assert_problem(503);
    assert_eq!(answer.fields.get("retry-after"), Some("1"));
    assert_eq!(answer.fields.get("proxy-status"), Some("bearerd; error=connection_limit_reached"));
    limit(&gateway, LIMIT);
    assert_eq!(kept.exchange(&Request::post("/pay", "{\"amount\":1}")).status, 200);
    assert_eq!(partner.seen_at("/pay").len(), 1);
}

/// The limit may be taken away again while bearerd runs, as an operator would do.
#[test]
fn s58_with_more_descriptors_accepting_goes_on_although_nobody_has_gone() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("log.level", "info"));
    limit(&gateway, LIMIT);
    let idle = take_all(&gateway, b"");
    let waiting = gateway.send_aside(Request::get("/waited"));
    limit(&gateway, 4 * LIMIT);
    assert_eq!(waiting.join().unwrap().status, 200);
    assert_eq!(gateway.admin(&Request::get("/livez")).status, 200);
    assert_eq!(refusals(&gateway), 0);
    drop(idle);
}

#[test]
fn s58_more_connections_than_there_are_descriptors_for_are_warned_of_once() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let most = maximum.unwrap_or(u64::MAX);
    for (asked, warned) in [(1, false), (1_000_000, most < 2_500_000)] {
        let partner = Partner::new();
        let config = Config::to(&partner).set("log.level", "info").set("server.max_connections", asked);
        let gateway = Gateway::start(&config);
        assert_eq!(gateway.get("/x").status, 200);
        let said = format!("max_connections is {asked}, but the limit of {most} descriptors leaves room for");
        assert_eq!(gateway.logs().matches(&said).count(), usize::from(warned), "{asked} of {most}");
    }
}
