//! The token stays fresh by itself, and across restarts.

use std::time::Duration;

use serde_json::json;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::issuer::Refresh;
use crate::support::partner::Partner;

#[test]
fn three_refreshes_then_a_restart_without_a_seed_then_a_fourth() {
    let partner = Partner::new();
    let config = Config::to(&partner);
    let mut gateway = Gateway::start(&config);
    for round in 2..=3 {
        partner.revoke_access();
        assert_eq!(gateway.get("/x").status, 200);
        assert_eq!((partner.refreshes(), gateway.generation()), (round, round as u64));
    }
    gateway.stop();
    std::fs::remove_file(gateway.dir.file("acme.seed")).unwrap();
    config.unset("partner.refresh_token_file").write_without_files(&gateway.dir);
    gateway.restart();
    gateway.await_ready();
    assert_eq!(gateway.get("/x").status, 200, "the saved access token still serves");
    assert_eq!((partner.refreshes(), gateway.generation()), (3, 3));
    partner.revoke_access();
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((partner.refreshes(), gateway.generation()), (4, 4));
    partner.assert_no_spent_token_seen();
}

#[test]
fn a_kill_between_refreshes_loses_nothing() {
    let partner = Partner::new();
    let mut gateway = Gateway::before(&partner);
    for round in 1..=5 {
        partner.revoke_access();
        assert_eq!(gateway.get("/x").status, 200);
        gateway.kill9();
        gateway.restart();
        gateway.await_ready();
        assert_eq!(gateway.generation(), round + 1);
    }
    assert_eq!(partner.refreshes(), 6);
    partner.assert_no_spent_token_seen();
}

#[test]
fn with_lifetimes_of_three_seconds_a_steady_client_never_waits_for_a_refresh() {
    let partner = Partner::new();
    partner.lifetime(Duration::from_secs(3));
    partner.refresh_delay(Duration::from_millis(300));
    let gateway = Gateway::before(&partner);
    let before = partner.answered_meanwhile();
    let mut client = gateway.connect();
    let mut rounds = 0;
    eventually("three more tokens", || {
        let answer = client.exchange(&Request::post("/steady", "x"));
        assert_eq!(answer.status, 200);
        rounds += 1;
        partner.refreshes() >= 4
    });
    assert!(partner.answered_meanwhile() > before, "answers go on during a refresh call");
    assert_eq!(partner.rejected(), 0, "no request went out with a token that had expired");
    println!("{rounds} requests, {} of them during a refresh", partner.answered_meanwhile() - before);
    partner.assert_no_spent_token_seen();
}

#[test]
fn while_a_refresh_call_is_held_the_token_in_use_serves() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).with_admin_socket());
    let gate = partner.hold_refreshes();
    let admin = gateway.admin_addr().clone();
    let asked = std::thread::spawn(move || Request::post("/partners/acme/refresh", "").send(&admin));
    gate.await_arrivals(1);
    for _ in 0..20 {
        assert_eq!(gateway.get("/x").status, 200);
    }
    assert_eq!(gateway.generation(), 1);
    gate.open();
    assert!((200..300).contains(&asked.join().unwrap().status));
    gateway.await_generation(2);
}

#[test]
fn s15_an_expired_token_is_never_sent() {
    let partner = Partner::new();
    partner.lifetime(Duration::from_secs(2));
    let config =
        Config::to(&partner).set("server.token_timeout", "500ms").set("partner.refresh.timeout", "30s");
    let gateway = Gateway::start(&config);
    let gate = partner.hold_refreshes();
    gate.await_arrivals(1);
    gateway.await_state("expired");
    let sent = partner.seen().len();
    let answer = gateway.get("/x");
    answer.assert_problem(503);
    assert!(answer.fields.has("retry-after"), "waiting helps");
    assert_eq!(partner.seen().len(), sent);
    gate.open();
    gateway.await_state("valid");
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!(partner.rejected(), 0);
}

#[test]
fn s37_lifetimes_that_make_no_sense_are_clamped_and_do_not_loop() {
    for odd in [
        json!(0),
        json!(-1),
        json!("3600"),
        json!(3600.5),
        json!(1e308),
        json!(u64::MAX),
        json!(null),
        json!("x"),
    ] {
        let partner = Partner::new();
        partner.script_refresh(Refresh::With(json!({"expires_in": odd})));
        let gateway = Gateway::start(&Config::to(&partner).set("partner.refresh.default_lifetime", "10m"));
        assert_eq!(gateway.get("/x").status, 200, "{odd}");
        // Zero and below may count as the least lifetime, which one more refresh mends.
        assert!(partner.refreshes() <= 2, "{odd}: {} refreshes", partner.refreshes());
        partner.assert_no_spent_token_seen();
    }
}

#[test]
fn s36_an_answer_without_a_refresh_token_leaves_the_old_one_in_use() {
    let partner = Partner::new();
    let seed = partner.seed();
    let kept = partner.pair_keeping(&seed);
    partner.script_refresh(Refresh::Instead(kept));
    let gateway = Gateway::before(&partner);
    partner.revoke_access();
    assert_eq!(gateway.get("/x").status, 200);
    let presented: Vec<_> = partner.refresh_calls().into_iter().map(|call| call.opened.unwrap()).collect();
    assert_eq!(presented[0], presented[1]);
    partner.assert_no_spent_token_seen();
}

#[test]
fn s38_the_same_refresh_token_again_still_advances_the_generation() {
    let partner = Partner::new();
    let seed = partner.seed();
    let mut kept = partner.pair_keeping(&seed);
    let mut set = kept.value();
    set["refresh_token"] = json!(seed);
    kept.body = set.to_string().into_bytes();
    partner.script_refresh(Refresh::Instead(kept));
    let gateway = Gateway::before(&partner);
    assert_eq!((gateway.get("/x").status, gateway.generation()), (200, 1));
    partner.revoke_access();
    assert_eq!((gateway.get("/x").status, gateway.generation()), (200, 2));
}

#[test]
fn the_status_tells_of_the_last_refresh() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let status = gateway.status();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    let acme = &status["partners"][0];
    assert_eq!(
        (&acme["name"], &acme["state"], &acme["generation"]),
        (&json!("acme"), &json!("valid"), &json!(1))
    );
    assert!(!acme["expires_at"].is_null() && !acme["last_refresh"].is_null(), "{acme}");
    assert_eq!(gateway.metric("bearerd_token_generation", &[("partner", "acme")]), Some(1.0));
    assert_eq!(gateway.metric("bearerd_token_persisted", &[("partner", "acme")]), Some(1.0));
    assert_eq!(gateway.metric("bearerd_token_refreshes_total", &[("partner", "acme")]), Some(1.0));
    assert_eq!(
        gateway.metric("bearerd_credential_state", &[("partner", "acme"), ("state", "valid")]),
        Some(1.0)
    );
}
