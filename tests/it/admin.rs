//! The operator's side.

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::partner::Partner;
use crate::support::secrets::{self, marked};

fn changing() -> [Request; 3] {
    [
        Request::post("/partners/acme/refresh", ""),
        Request::new("PUT", "/partners/acme/token").with("Content-Type", "application/json").body("{}"),
        Request::post("/reload", ""),
    ]
}

#[test]
fn probes_metrics_and_status_answer_and_hold_no_secret() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    assert_eq!(gateway.get("/x").status, 200);
    for path in ["/livez", "/readyz", "/readyz/acme", "/metrics", "/status"] {
        let answer = gateway.admin(&Request::get(path));
        assert_eq!(answer.status, 200, "{path}");
        secrets::assert_none_in(path, &answer.text());
    }
    assert_eq!((partner.refreshes(), partner.seen().len()), (1, 1), "probes never call the partner");
    assert_eq!(gateway.admin(&Request::get("/nothing")).status, 404);
}

#[test]
fn every_metric_that_is_promised_is_there() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    partner.revoke_access();
    assert_eq!(gateway.get("/x").status, 200);
    let text = gateway.admin(&Request::get("/metrics")).text();
    for name in [
        "token_expiration_timestamp_seconds",
        "token_refresh_timestamp_seconds",
        "token_refreshes_total",
        "token_refresh_duration_seconds_bucket",
        "token_generation",
        "token_persisted",
        "credential_state",
        "replays_total",
        "http_server_request_duration_seconds_bucket",
        "http_client_request_duration_seconds_bucket",
        "connections",
        "build_info",
    ] {
        assert!(text.lines().any(|line| line.starts_with(&format!("bearerd_{name}{{"))), "{name}\n{text}");
    }
    assert!(text.lines().any(|line| line.starts_with("process_")), "{text}");
}

#[test]
fn readiness_says_what_is_missing() {
    let partner = Partner::new();
    partner.revoke_refresh();
    let gateway = Gateway::spawn(&Config::to(&partner));
    gateway.await_state("reauth_required");
    for path in ["/readyz", "/readyz/acme"] {
        let answer = gateway.admin(&Request::get(path));
        assert_eq!(answer.status, 503, "{path}");
        let text = answer.value().to_string();
        assert!(text.contains("acme") && text.contains("reauth_required"), "{text}");
    }
}

#[test]
fn without_a_token_on_tcp_there_are_no_changing_calls() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    for request in changing() {
        let status = gateway.admin(&request).status;
        assert!(matches!(status, 403 | 404), "{} {}: {status}", request.method, request.target);
    }
    assert_eq!(partner.refreshes(), 1);
}

#[test]
fn with_a_token_a_changing_call_must_carry_it() {
    let partner = Partner::new();
    let config = Config::to(&partner).set("admin.token_file", "token").with_file("token", &marked("admin"));
    let gateway = Gateway::start(&config);
    let bearer = |token: &str| format!("Bearer {token}");
    for request in changing() {
        for request in [request.clone(), request.with("Authorization", &bearer(&marked("guess")))] {
            let status = gateway.admin(&request).status;
            assert!(matches!(status, 401 | 403), "{} {}: {status}", request.method, request.target);
        }
    }
    assert_eq!(partner.refreshes(), 1);
    let good = Request::post("/partners/acme/refresh", "").with("Authorization", &bearer(&marked("admin")));
    let answer = gateway.admin(&good);
    assert!((200..300).contains(&answer.status), "{answer:?}");
    gateway.await_generation(2);
    assert_eq!(gateway.admin(&Request::get("/status")).status, 200, "reading needs none");
}

#[test]
fn what_a_web_page_could_forge_is_refused_even_with_the_token() {
    let partner = Partner::new();
    let config = Config::to(&partner).set("admin.token_file", "token").with_file("token", &marked("admin"));
    let gateway = Gateway::start(&config);
    let good = Request::post("/partners/acme/refresh", "")
        .with("Authorization", &format!("Bearer {}", marked("admin")));
    for (name, value) in
        [("Origin", "https://evil.test"), ("Origin", "null"), ("Sec-Fetch-Site", "cross-site")]
    {
        assert_eq!(gateway.admin(&good.clone().with(name, value)).status, 403, "{name}: {value}");
    }
    assert_eq!(partner.refreshes(), 1);
}

#[test]
fn on_a_unix_socket_changing_calls_need_no_token() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).with_admin_socket());
    let ok = |answer: &Answer| (200..300).contains(&answer.status);
    assert!(ok(&gateway.admin(&Request::post("/partners/acme/refresh", ""))));
    gateway.await_generation(2);
    assert!(ok(&gateway.admin(&Request::post("/reload", ""))));
    assert_eq!(gateway.admin(&Request::post("/partners/nobody/refresh", "")).status, 404);
    assert_eq!(gateway.admin(&Request::get("/partners/acme/refresh")).status, 405, "nothing changes by GET");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(gateway.dir.file("admin.sock")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_token_that_is_none_is_refused_and_not_echoed() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).with_admin_socket());
    let put = |body: &str| {
        Request::new("PUT", "/partners/acme/token").with("Content-Type", "application/json").body(body)
    };
    let bad = marked("not a token");
    for body in ["", "{", "[]", "{}", &format!("{{\"refresh_token\":\"{bad}\"}}"), "{\"refresh_token\":1}"] {
        let answer = gateway.admin(&put(body));
        assert!((400..500).contains(&answer.status), "{body}: {answer:?}");
        secrets::assert_none_in("the answer", &answer.text());
    }
    assert_eq!((gateway.generation(), partner.refreshes()), (1, 1));
}

#[test]
fn the_proxy_does_not_answer_for_the_operators_side() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    assert_eq!(gateway.get("/status").text(), "{\"ok\":true}", "it is a path like any other");
    assert_eq!(partner.only().target, "/status");
}
