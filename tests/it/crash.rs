//! kill -9 and SIGTERM while the partner holds the answer to a refresh.

use std::time::Duration;

use serde_json::json;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::issuer::Refresh;
use crate::support::partner::Partner;

/// A bearerd with generation 1, whose next refresh the partner holds.
fn held(partner: &Partner, config: &Config) -> (Gateway, Gate) {
    let gateway = Gateway::start(&config.clone().with_admin_socket());
    let gate = partner.hold_refreshes();
    let admin = gateway.admin_addr().clone();
    // Its answer never comes if bearerd is killed.
    std::thread::spawn(move || {
        let request = Request::post("/partners/acme/refresh", "");
        let mut connection = crate::support::client::connect(&admin);
        let _killed = connection.send(&request.to_bytes()).and_then(|()| connection.answer("POST"));
    });
    gate.await_arrivals(1);
    (gateway, gate)
}

/// bearerd dies while its call is held; then the partner goes on with it.
fn kill_in_call(partner: &Partner, config: &Config) -> Gateway {
    let (mut gateway, gate) = held(partner, config);
    gateway.kill9();
    gate.open();
    eventually("the call is over", || {
        partner.refreshes_in_progress() == 0 && partner.open_connections() == 0
    });
    gateway.restart();
    gateway
}

/// After a restart: the access token that was saved serves, and nothing is presented.
fn assert_holds_on(gateway: &Gateway, partner: &Partner) {
    gateway.await_state("degraded");
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((partner.refreshes(), gateway.generation()), (2, 1));
    eventually("the log tells of it", || gateway.logs().contains("ended in the middle of a refresh"));
    partner.assert_no_spent_token_seen();
}

#[test]
fn s02_killed_after_the_partner_committed_it_serves_what_it_holds_and_then_asks_for_an_operator() {
    let partner = Partner::new();
    let gateway = kill_in_call(&partner, &Config::to(&partner));
    assert_holds_on(&gateway, &partner);
    partner.revoke_access();
    assert_ne!(gateway.get("/x").status, 200);
    gateway.await_state("reauth_required");
    assert_eq!((partner.refreshes(), partner.spent_presented()), (3, 1), "once, when nothing was left");
    eventually("the log says what to do", || gateway.logs().contains("bearerd token import"));
}

#[test]
fn s02_killed_before_the_partner_committed_it_recovers_when_nothing_is_left_to_lose() {
    let partner = Partner::new();
    // For generation 1 as usual; the call that is held comes to nothing.
    partner.script_refresh(Refresh::With(json!({})));
    partner.script_refresh(Refresh::Instead(Answer::json(503, &json!({"error": "busy"}))));
    let gateway = kill_in_call(&partner, &Config::to(&partner));
    assert_holds_on(&gateway, &partner);
    partner.revoke_access();
    assert_eq!(gateway.get("/x").status, 200);
    gateway.await_state("valid");
    assert_eq!((partner.refreshes(), gateway.generation()), (3, 2));
    partner.assert_no_spent_token_seen();
}

#[test]
fn s06_killed_after_the_partner_committed_it_presents_the_token_once_more_within_the_grace() {
    let partner = Partner::new();
    partner.grace(Duration::from_secs(3600));
    let gateway = kill_in_call(&partner, &Config::to(&partner).set("partner.refresh.grace", "1h"));
    gateway.await_state("valid");
    assert_eq!((gateway.get("/x").status, gateway.generation()), (200, 2));
    assert_eq!((partner.refreshes(), partner.graced()), (3, 1));
}

#[test]
fn s02_killed_after_the_partner_committed_it_logs_in_where_it_can() {
    let partner = Partner::new();
    let gateway = kill_in_call(&partner, &Config::to(&partner).with_login());
    let calls = partner.refreshes() + partner.logins();
    gateway.await_state("valid");
    assert_eq!((gateway.get("/x").status, gateway.generation()), (200, 2));
    assert!(calls <= 3 && partner.logins() > 0);
    assert_eq!(partner.refreshes() + partner.logins(), 3);
    partner.assert_no_spent_token_seen();
}

#[test]
fn s06_an_answer_that_is_lost_is_asked_for_again_within_the_grace() {
    let partner = Partner::new();
    partner.grace(Duration::from_secs(3600));
    let gateway = Gateway::start(&Config::to(&partner).set("partner.refresh.grace", "1h"));
    partner.script_refresh(Refresh::Lost);
    partner.revoke_access();
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((partner.refreshes(), partner.graced(), gateway.generation()), (3, 1, 2));
}

#[test]
fn s56_on_sigterm_a_refresh_in_flight_is_made_durable_before_the_exit() {
    let partner = Partner::new();
    let (mut gateway, gate) = held(&partner, &Config::to(&partner));
    gateway.sigterm();
    eventually("draining", || gateway.logs().contains("draining"));
    assert!(gateway.is_running(), "it waits for the partner");
    gate.open();
    assert_eq!(gateway.wait_exit().code(), Some(0), "{}", gateway.logs());
    gateway.restart();
    gateway.await_ready();
    assert_eq!((gateway.get("/x").status, gateway.generation()), (200, 2));
    assert_eq!(partner.refreshes(), 2);
    partner.assert_no_spent_token_seen();
}
