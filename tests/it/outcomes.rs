//! How a refresh call can end, and what follows.

use serde_json::json;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::issuer::Refresh;
use crate::support::partner::Partner;
use crate::support::raw_peer::RawPeer;

/// In front of `partner`, where requests give up soon when no token comes.
fn impatient(partner: &Partner) -> Config {
    Config::to(partner).set("server.token_timeout", "1s").with_admin_socket()
}

#[test]
fn s41_a_refused_credential_is_a_503_that_asks_for_an_operator() {
    let partner = Partner::new();
    partner.revoke_refresh();
    let gateway = Gateway::spawn(&impatient(&partner));
    gateway.await_state("reauth_required");
    let answer = gateway.get("/x");
    answer.assert_problem(503);
    assert!(!answer.fields.has("retry-after"), "waiting does not help");
    assert!(answer.text().contains("operator"), "{}", answer.text());
    assert_eq!(gateway.admin(&Request::get("/readyz")).status, 503);
    assert_eq!(gateway.admin(&Request::get("/livez")).status, 200);
    assert_eq!((partner.refreshes(), partner.seen().len()), (1, 0));
    let failures = gateway.metric("bearerd_token_refresh_failures_total", &[("partner", "acme")]);
    assert!(failures >= Some(1.0), "{failures:?}");
}

#[test]
fn s41_an_operator_heals_it_with_a_new_refresh_token() {
    let partner = Partner::new();
    partner.revoke_refresh();
    let mut gateway = Gateway::spawn(&impatient(&partner));
    gateway.await_state("reauth_required");
    let token = partner.fresh_refresh_token();
    let body = json!({"refresh_token": token}).to_string();
    let put = Request::new("PUT", "/partners/acme/token").with("Content-Type", "application/json").body(body);
    let answer = gateway.admin(&put);
    assert!((200..300).contains(&answer.status), "{answer:?}");
    gateway.await_ready();
    assert_eq!(gateway.get("/x").status, 200);
    // What an operator loads is as durable as what the partner gives.
    gateway.kill9();
    gateway.restart();
    gateway.await_ready();
    assert_eq!(partner.refreshes(), 2);
    partner.assert_no_spent_token_seen();
}

#[test]
fn a_new_seed_in_the_configuration_heals_it() {
    let partner = Partner::new();
    partner.revoke_refresh();
    let gateway = Gateway::spawn(&impatient(&partner));
    gateway.await_state("reauth_required");
    let seed = partner.fresh_refresh_token();
    gateway.reload(&impatient(&partner).with_file("acme.seed", &seed));
    gateway.await_ready();
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!(partner.refreshes(), 2);
}

#[test]
fn a_seed_that_was_presented_before_is_not_presented_after_a_restart() {
    let partner = Partner::new();
    let mut gateway = Gateway::start(&impatient(&partner));
    partner.revoke_refresh();
    partner.revoke_access();
    gateway.get("/x").assert_problem(503);
    gateway.await_state("reauth_required");
    gateway.restart();
    gateway.await_state("reauth_required");
    partner.assert_no_spent_token_seen();
}

#[test]
fn a_refused_refresh_token_is_followed_by_a_login_if_there_is_one() {
    let partner = Partner::new();
    partner.revoke_refresh();
    let gateway = Gateway::start(&impatient(&partner).with_login());
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((partner.refreshes(), partner.logins()), (1, 1));
}

#[test]
fn a_refused_login_is_not_tried_again() {
    let partner = Partner::new();
    partner.revoke_refresh();
    partner.refuse_logins();
    let mut gateway = Gateway::spawn(&impatient(&partner).with_login());
    gateway.await_state("reauth_required");
    for _ in 0..3 {
        gateway.get("/x").assert_problem(503);
    }
    gateway.restart();
    gateway.await_state("reauth_required");
    assert_eq!(partner.logins(), 1, "partners lock accounts");
}

#[test]
fn a_partner_that_is_down_is_a_502() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    drop(partner);
    gateway.get("/x").assert_problem(502);
    gateway.post("/x", "abc").assert_problem(502);
}

#[test]
fn a_partner_that_is_down_from_the_start_is_a_503_that_says_when_to_come_back() {
    let partner = Partner::new();
    let config = impatient(&partner);
    drop(partner);
    let gateway = Gateway::spawn(&config);
    let answer = gateway.get("/x");
    answer.assert_problem(503);
    assert!(answer.fields.has("retry-after"));
}

#[test]
fn s42_a_busy_token_endpoint_is_asked_again_with_the_same_token() {
    for status in [408, 425, 429, 503, 500] {
        let partner = Partner::new();
        partner.script_refresh(Refresh::Instead(Answer::json(status, &json!({"error": "busy"}))));
        let gateway = Gateway::start(&Config::to(&partner));
        assert_eq!((gateway.get("/x").status, partner.refreshes()), (200, 2), "{status}");
    }
}

#[test]
fn s42_retry_after_is_honoured_and_told_to_the_client() {
    let partner = Partner::new();
    let busy = Answer::json(503, &json!({"error": "busy"})).with("Retry-After", "3600");
    partner.script_refresh(Refresh::Instead(busy));
    let gateway = Gateway::spawn(&impatient(&partner));
    eventually("asked", || partner.refreshes() == 1);
    let answer = gateway.get("/x");
    answer.assert_problem(503);
    let wait: u64 = answer.fields.get("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}: capped at a minute");
    assert_eq!(partner.refreshes(), 1);
}

#[test]
fn s45_a_redirect_of_the_refresh_call_is_not_followed() {
    let partner = Partner::new();
    let elsewhere = RawPeer::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let target = format!("http://{}/stolen", elsewhere.address());
    partner.script_refresh(Refresh::Instead(Answer::new(307, "").with("Location", &target)));
    let gateway = Gateway::start(&Config::to(&partner));
    assert_eq!((gateway.get("/x").status, partner.refreshes(), elsewhere.connections()), (200, 2, 0));
}

#[test]
fn a_4xx_that_is_not_json_comes_from_something_in_between() {
    let partner = Partner::new();
    let page = Answer::new(403, "<html>blocked</html>").with("Content-Type", "text/html");
    partner.script_refresh(Refresh::Instead(page));
    let gateway = Gateway::start(&Config::to(&partner));
    assert_eq!((gateway.get("/x").status, partner.refreshes()), (200, 2));
}

#[test]
fn s06_a_lost_answer_is_followed_by_no_blind_second_call() {
    let partner = Partner::new();
    let gateway = Gateway::start(&impatient(&partner));
    partner.script_refresh(Refresh::Lost);
    gateway.admin(&Request::post("/partners/acme/refresh", ""));
    gateway.await_state("degraded");
    for _ in 0..10 {
        assert_eq!(gateway.get("/x").status, 200, "the token that is held goes on serving");
    }
    assert_eq!(gateway.admin(&Request::get("/readyz")).status, 200);
    assert_eq!(partner.refreshes(), 2);
    partner.assert_no_spent_token_seen();
}

#[test]
fn s06_a_lost_answer_is_followed_by_a_login_if_there_is_one() {
    let partner = Partner::new();
    let gateway = Gateway::start(&impatient(&partner).with_login());
    partner.script_refresh(Refresh::Lost);
    partner.revoke_access();
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((partner.refreshes(), partner.logins()), (2, 1));
    partner.assert_no_spent_token_seen();
}

#[test]
fn s06_within_the_partners_grace_the_same_token_is_presented_again() {
    let partner = Partner::new();
    let config = impatient(&partner).set("partner.refresh.grace", "30s").set("server.token_timeout", "15s");
    let gateway = Gateway::start(&config);
    // Not processed, but bearerd cannot know; the partner takes the token when it comes again.
    partner.script_refresh(Refresh::Instead(Answer::new(200, "")));
    partner.revoke_access();
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((partner.refreshes(), gateway.generation()), (3, 2));
}

#[test]
fn s34_answers_without_a_usable_token_are_unknown_and_harm_nothing() {
    let answers = [
        Answer::json(200, &json!({"error": "invalid_grant"})),
        Answer::new(200, "<html></html>"),
        Answer::new(200, ""),
        Answer::new(200, "{\"access_token\":"),
        Answer::new(200, "[".repeat(60_000)),
        Answer::new(200, " ".repeat(1 << 20)),
        Answer::json(200, &json!({"access_token": "a b", "expires_in": 60, "token_type": "Bearer"})),
        Answer::json(200, &json!({"access_token": "a\r\nX: y", "expires_in": 60, "token_type": "Bearer"})),
        Answer::json(
            200,
            &json!({"access_token": "x".repeat(20_000), "expires_in": 60, "token_type": "Bearer"}),
        ),
        Answer::json(200, &json!({"data": "00112233"})),
        Answer::json(502, &json!({"error": "gateway"})),
    ];
    let partner = Partner::new();
    for answer in answers {
        let text = answer.text().chars().take(60).collect::<String>();
        let partner_calls = partner.refreshes();
        let token = partner.fresh_refresh_token();
        let gateway = Gateway::start(&impatient(&partner).with_file("acme.seed", &token));
        partner.script_refresh(Refresh::RotatedBut(answer));
        gateway.admin(&Request::post("/partners/acme/refresh", ""));
        gateway.await_state("degraded");
        assert_eq!(gateway.get("/x").status, 200, "{text}");
        assert_eq!((partner.refreshes() - partner_calls, gateway.generation()), (2, 1), "{text}");
    }
    partner.assert_no_spent_token_seen();
}
