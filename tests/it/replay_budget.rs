//! A 401 that means "you may not" costs the partner one refresh, and no client can spend refreshes
//! at will.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::client::Request;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::partner::Partner;
use crate::support::{eventually, noise};

/// A partner that refuses everything below these paths, whatever the token.
fn refusing(paths: impl IntoIterator<Item = String>) -> Partner {
    let partner = Partner::new();
    for path in paths {
        partner.on_any(&path, |x| {
            x.body()?;
            x.answer(
                &Answer::new(401, "you may not")
                    .with("WWW-Authenticate", "Bearer error=\"insufficient_scope\""),
            )
        });
    }
    partner
}

#[test]
fn s31_a_401_that_no_token_mends_costs_one_refresh_and_is_passed_on() {
    let partner = refusing(["/never".to_owned()]);
    let gateway = Gateway::before(&partner);
    let answer = gateway.get("/never?try=1");
    assert_eq!((answer.status, answer.text().as_str()), (401, "you may not"));
    assert_eq!(answer.fields.get("www-authenticate"), Some("Bearer error=\"insufficient_scope\""));
    assert_eq!((partner.seen_at("/never").len(), partner.refreshes()), (2, 2));
    for n in 0..20 {
        assert_eq!(gateway.get(&format!("/never?try={n}")).status, 401);
    }
    assert_eq!((partner.seen_at("/never").len(), partner.refreshes()), (22, 2), "the path is held");
}

#[test]
fn s31_while_one_path_is_held_another_heals() {
    let partner = refusing(["/never".to_owned()]);
    let gateway = Gateway::before(&partner);
    assert_eq!(gateway.get("/never").status, 401);
    partner.revoke_access();
    assert_eq!(gateway.get("/ordinary").status, 200);
    assert_eq!(partner.refreshes(), 3);
    assert_eq!(gateway.get("/never").status, 401);
    assert_eq!(partner.refreshes(), 3);
}

#[test]
fn s31_a_held_path_is_let_go_when_a_newer_token_is_accepted_on_it() {
    let partner = refusing(["/fickle".to_owned()]);
    let gateway = Gateway::before(&partner);
    assert_eq!(gateway.get("/fickle").status, 401);
    partner.on("/fickle", |x| x.answer(&Answer::new(200, "now you may")));
    // A refresh that somebody else caused brings a newer token.
    partner.revoke_access();
    assert_eq!(gateway.get("/ordinary").status, 200);
    assert_eq!(gateway.get("/fickle").status, 200);
    partner.revoke_access();
    assert_eq!(gateway.get("/fickle").status, 200, "and its 401s are mended again");
    assert_eq!(partner.refreshes(), 4);
}

#[test]
fn s31_unreplayable_bodies_cannot_spend_refreshes() {
    let partner = refusing(["/big".to_owned()]);
    let gateway = Gateway::before(&partner);
    for _ in 0..5 {
        assert_eq!(gateway.post("/big", noise(100_000)).status, 401);
    }
    gateway.await_generation(2);
    assert_eq!(gateway.post("/big", noise(100_000)).status, 401);
    assert_eq!((partner.refreshes(), gateway.generation()), (2, 2));
}

#[test]
fn s31_clients_that_hang_up_cannot_spend_refreshes() {
    let partner = refusing(["/gone".to_owned()]);
    let gateway = Gateway::before(&partner);
    let gate = partner.hold_refreshes();
    let mut client = gateway.connect();
    client.send(&Request::get("/gone").to_bytes()).unwrap();
    gate.await_arrivals(1);
    client.hang_up();
    gate.open();
    gateway.await_generation(2);
    for n in 0..5 {
        assert_eq!(gateway.get(&format!("/gone?{n}")).status, 401);
    }
    assert_eq!(partner.refreshes(), 2);
}

#[test]
fn s31_a_burst_of_ten_refreshes_and_then_401s_pass() {
    let paths = || (0..30).map(|n| format!("/never/{n}"));
    let partner = refusing(paths());
    let gateway = Gateway::before(&partner);
    for path in paths() {
        assert_eq!(gateway.get(&path).status, 401);
    }
    // One at the start and ten in the burst; one more comes free every ten seconds, should this
    // take as long.
    let spent = partner.refreshes();
    assert!((11..=14).contains(&spent), "{spent} refreshes");
    assert_eq!(gateway.get("/ordinary").status, 200, "the token in use is still good");
    partner.assert_no_spent_token_seen();
}

#[test]
fn s31_concurrent_401s_on_many_paths_share_one_refresh() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let gate = partner.hold_refreshes();
    partner.revoke_access();
    let waiting: Vec<_> = (0..40).map(|n| gateway.send_aside(Request::get(&format!("/many/{n}")))).collect();
    eventually("all have been refused", || partner.rejected() == 40);
    gate.open();
    for answer in waiting {
        assert_eq!(answer.join().unwrap().status, 200);
    }
    assert_eq!(partner.refreshes(), 2);
}

#[test]
fn s31_a_401_to_the_token_that_the_request_waited_for_is_the_partners_answer() {
    let partner = refusing(["/early".to_owned()]);
    let gate = partner.hold_refreshes();
    let gateway = Gateway::spawn(&crate::support::config::Config::to(&partner));
    gate.await_arrivals(1);
    let early = gateway.send_aside(Request::get("/early"));
    gate.open();
    assert_eq!(early.join().unwrap().text(), "you may not");
    assert!(partner.refreshes() <= 2, "no loop: {}", partner.refreshes());
}

#[test]
fn a_401_to_a_token_that_the_request_waited_for_and_that_has_been_replaced_since_is_mended() {
    let (partner, held) = (Partner::new(), Gate::shut());
    let (gate, refused) = (held.clone(), AtomicBool::new(false));
    partner.on("/early", move |x| {
        if refused.swap(true, Ordering::SeqCst) {
            return x.answer(&Answer::new(200, "paid"));
        }
        gate.wait();
        x.answer(&Answer::new(401, "that one is old"))
    });
    let refreshes = partner.hold_refreshes();
    let gateway = Gateway::spawn(&crate::support::config::Config::to(&partner).with_admin_socket());
    refreshes.await_arrivals(1);
    let early = gateway.send_aside(Request::get("/early"));
    refreshes.open();
    held.await_arrivals(1);
    let generation = gateway.generation();
    assert_eq!(gateway.admin(&Request::post("/partners/acme/refresh", "")).status, 200);
    gateway.await_generation(generation + 1);
    held.open();
    assert_eq!(early.join().unwrap().text(), "paid");
    assert_eq!(partner.refreshes(), 2);
}
