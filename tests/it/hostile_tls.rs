//! Partners that cannot show that they are the partner are not sent anything, and the reason is
//! told.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use rcgen::date_time_ymd;
use serde_json::json;

use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::raw_peer::RawPeer;
use crate::support::secrets::marked;
use crate::support::tls::{self, Authority};
use crate::support::trial::import;

fn to(partner: &Partner) -> Config {
    Config::to(partner).set("server.token_timeout", "1s").with_admin_socket()
}

fn failures(gateway: &Gateway, reason: &str) -> f64 {
    gateway.metric("bearerd_token_refresh_failures_total", &[("reason", reason)]).unwrap_or_default()
}

/// Neither the refresh token nor a request goes to a partner that is not trusted, for `reason`.
#[track_caller]
fn assert_fails_closed(gateway: &Gateway, what: &str, reason: &str, proxy_status: &str) {
    eventually(&format!("{what} is told as {reason}"), || failures(gateway, reason) >= 1.0);
    eventually("the status tells it too", || {
        let last = gateway.of_partner("last_refresh");
        last["outcome"] == "not_sent" && last["reason"] == reason
    });
    gateway.get("/x").assert_problem(503);
    // Each by itself: between two looks another call may have ended as it should.
    for result in ["renewed", "busy", "refused", "unknown"] {
        let ended = gateway.metric("bearerd_token_refreshes_total", &[("result", result)]);
        assert_eq!(ended, Some(0.0), "{what} is {result}");
    }
    // With an access token in hand, requests get as far as the handshake.
    let pair = json!({
        "refresh_token": marked("of-an-operator"), "access_token": marked("in-hand"), "expires_in": 3600,
    });
    assert_eq!(gateway.admin(&import(&pair)).status, 200);
    let answer = gateway.post("/x", "{\"amount\":1}");
    answer.assert_problem(502);
    let source = answer.fields.get("proxy-status").unwrap();
    assert_eq!(source, format!("bearerd; error={proxy_status}"), "{what}");
}

#[test]
fn s46_each_bad_certificate_is_refused_for_its_own_reason() {
    let authority = Authority::named("one");
    let namesake = Authority::named("one");
    for (what, identity, reason) in [
        (
            "an expired certificate",
            authority.vouches_for("127.0.0.1", |params| params.not_after = date_time_ymd(2020, 1, 1)),
            "tls_certificate_expired",
        ),
        (
            "a certificate of the future",
            authority.vouches_for("127.0.0.1", |params| params.not_before = date_time_ymd(4000, 1, 1)),
            "tls_certificate_expired",
        ),
        (
            "a certificate for another host",
            authority.vouches_for("partner.example", |_| {}),
            "tls_wrong_host",
        ),
        (
            "an unknown authority",
            Authority::named("two").vouches_for("127.0.0.1", |_| {}),
            "tls_unknown_issuer",
        ),
        ("an authority made anew", namesake.vouches_for("127.0.0.1", |_| {}), "tls_unknown_issuer"),
        ("a certificate that vouches for itself", tls::self_signed("127.0.0.1"), "tls_unknown_issuer"),
    ] {
        let partner = Partner::with_identity(identity, authority.pem());
        let gateway = Gateway::spawn(&to(&partner));
        assert_fails_closed(&gateway, what, reason, "tls_certificate_error");
        assert_eq!((partner.refreshes(), partner.seen().len()), (0, 0), "{what}");
    }
}

/// Reads what comes first and says this to it.
fn replying(bytes: Vec<u8>) -> RawPeer {
    RawPeer::doing(move |stream: &mut TcpStream| {
        let mut hello = [0; 4096];
        if matches!(stream.read(&mut hello), Ok(size) if size > 0) {
            let _gone = stream.write_all(&bytes);
        }
    })
}

#[test]
fn s46_a_partner_without_tls_1_2_is_refused() {
    // A ServerHello of TLS 1.1: version 3.2, no session, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA.
    let mut hello = b"\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02".to_vec();
    hello.extend([0x5a; 32]);
    hello.extend(b"\x00\xc0\x13\x00");
    let partner = Partner::over_tls();
    for (what, bytes) in [
        ("an alert, protocol_version", b"\x15\x03\x02\x00\x02\x02\x46".to_vec()),
        ("a hello of TLS 1.1", hello),
        ("HTTP in clear", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()),
        ("nothing", Vec::new()),
    ] {
        let peer = replying(bytes);
        let config = to(&partner).set("partner.base_url", format!("https://{}", peer.address()));
        let gateway = Gateway::spawn(&config);
        assert_fails_closed(&gateway, what, "tls", "tls_protocol_error");
        assert!(peer.connections() >= 2, "{what}");
    }
    assert_eq!((partner.refreshes(), partner.seen().len()), (0, 0));
}

#[test]
fn s46_a_rotated_authority_is_picked_up_on_reload() {
    let (old, new) = (Authority::named("old"), Authority::named("new"));
    let partner = Partner::with_identity(new.vouches_for("127.0.0.1", |_| {}), old.pem());
    let config = to(&partner);
    let gateway = Gateway::spawn(&config);
    eventually("the new certificate is not trusted yet", || failures(&gateway, "tls_unknown_issuer") >= 1.0);
    assert_eq!(partner.refreshes(), 0);
    gateway.reload(&config.with_file("acme.pem", &format!("{}{}", old.pem(), new.pem())));
    gateway.await_ready();
    assert_eq!((gateway.get("/x").status, partner.refreshes(), partner.seen().len()), (200, 1, 1));
}

#[test]
fn s46_an_authority_that_is_gone_is_trusted_no_longer_after_a_reload() {
    let partner = Partner::over_tls();
    let gateway = Gateway::start(&to(&partner));
    assert_eq!(gateway.get("/x").status, 200);
    gateway.reload(&to(&partner).with_file("acme.pem", &Authority::named("other").pem()));
    eventually("requests are no longer sent", || gateway.get("/x").status == 502);
    let answer = gateway.get("/x");
    assert_eq!(answer.fields.get("proxy-status"), Some("bearerd; error=tls_certificate_error"));
}

#[test]
fn s46_a_ca_file_that_cannot_be_used_is_refused_and_the_old_one_stays() {
    let partner = Partner::over_tls();
    let gateway = Gateway::start(&to(&partner));
    for broken in ["", "not PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let count = || {
            let refusals = gateway.log_lines().into_iter().filter(|line| {
                line["message"] == "the configuration was not reloaded; the one before it stays"
            });
            refusals.count()
        };
        let before = count();
        gateway.reload(&to(&partner).with_file("acme.pem", broken));
        eventually("the reload is refused", || count() > before);
        assert_eq!(gateway.get("/x").status, 200, "{broken:?}");
    }
    eventually("the file is named", || gateway.logs().contains("acme.pem"));
}
