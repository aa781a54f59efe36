//! What a token endpoint may do: refuse, be busy, dawdle, break off, point elsewhere.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use socket2::SockRef;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::exchange::Exchange;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::issuer::Refresh;
use crate::support::partner::Partner;
use crate::support::raw_peer::RawPeer;
use crate::support::trial::{Ending, Trial, import};

#[test]
fn s41_a_refusal_while_the_token_lives_alarms_and_goes_on_serving() {
    let trial = Trial::new();
    trial.partner.revoke_refresh();
    let after = trial.call(Refresh::With(json!({})));
    assert_eq!(
        (Ending::of(&after).words(), &after["state"]),
        (("refused", "refused"), &json!("reauth_required"))
    );
    let state = trial.gateway.metric("bearerd_credential_state", &[("state", "reauth_required")]);
    assert_eq!(state, Some(1.0));
    for _ in 0..50 {
        assert_eq!(trial.gateway.get("/x").status, 200);
    }
    assert_eq!(trial.gateway.admin(&Request::get("/readyz")).status, 200);
    let alarms = trial.gateway.log_lines().into_iter().filter(|line| {
        line["level"] == "ERROR"
            && line["message"].as_str().is_some_and(|text| text.starts_with("the refresh token was refused"))
    });
    assert_eq!((alarms.count(), trial.partner.refreshes()), (1, 2));
}

#[test]
fn s41_requests_do_not_make_a_refused_token_be_presented_again() {
    let trial = Trial::new();
    trial.partner.revoke_refresh();
    trial.partner.revoke_access();
    for _ in 0..50 {
        let answer = trial.gateway.get("/x");
        answer.assert_problem(503);
        assert!(!answer.fields.has("retry-after"), "{answer:?}");
    }
    assert_eq!(trial.partner.refreshes(), 2);
    trial.partner.assert_no_spent_token_seen();
}

#[test]
fn s41_an_imported_pair_heals_without_a_call_and_without_a_restart() {
    let trial = Trial::new();
    trial.partner.revoke_refresh();
    trial.partner.revoke_access();
    trial.gateway.get("/x").assert_problem(503);
    let calls = trial.partner.refreshes();
    let token = trial.partner.fresh_refresh_token();
    let mut pair = trial.partner.pair_keeping(&token).value();
    pair = json!({
        "refresh_token": token,
        "access_token": pair["access_token"].take(),
        "expires_in": pair["expires_in"].take(),
    });
    let answer = trial.gateway.admin(&import(&pair));
    assert_eq!((answer.status, &answer.value()["state"]), (200, &json!("valid")), "{answer:?}");
    assert_eq!((trial.gateway.get("/x").status, trial.partner.refreshes()), (200, calls));
    eventually("it is in the log", || {
        let lines = trial.gateway.log_lines();
        lines.iter().any(|line| line["message"] == "an operator loaded a new refresh token")
    });
}

#[test]
fn s41_an_import_that_is_no_token_is_an_error_and_the_state_as_it_was() {
    let trial = Trial::new();
    let records = || -> Vec<_> {
        let read = |path: std::path::PathBuf| (std::fs::read(&path).unwrap(), path);
        trial.gateway.dir.records().into_iter().map(read).collect()
    };
    let before = (records(), trial.gateway.of_partner("state"), trial.gateway.generation());
    let good = trial.partner.fresh_refresh_token();
    for pair in [
        json!({"refresh_token": format!("{good} x")}),
        json!({"refresh_token": format!("{good}\n")}),
        json!({"refresh_token": ""}),
        json!({"refresh_token": "x".repeat(17 << 10)}),
        json!({"refresh_token": good, "access_token": "a b", "expires_in": 60}),
        json!({"refresh_token": good, "access_token": "ab", "expires_in": 0}),
        json!({"refresh_token": good, "access_token": "ab"}),
        json!({"refresh_token": good, "expires": 60}),
        json!([good]),
    ] {
        let answer = trial.gateway.admin(&import(&pair));
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(!answer.text().contains(&good), "{}", answer.text());
    }
    assert!(before == (records(), trial.gateway.of_partner("state"), trial.gateway.generation()));
    assert_eq!((trial.gateway.get("/x").status, trial.partner.refreshes()), (200, 1));
}

/// From the end of the last call to the next attempt, as the status tells it.
fn planned(partner: &Value) -> Duration {
    let time = |value: &Value| humantime::parse_rfc3339(value.as_str().unwrap()).unwrap();
    let next = time(&partner["next_attempt_at"]);
    next.duration_since(time(&partner["last_refresh"]["at"])).unwrap_or_default()
}

#[test]
fn s42_retry_after_is_a_minimum_and_capped_whatever_its_form() {
    let date = |from_now: i64| {
        let now = SystemTime::now();
        let shift = Duration::from_secs(from_now.unsigned_abs());
        httpdate::fmt_http_date(if from_now < 0 { now - shift } else { now + shift })
    };
    let absurd = "9".repeat(40);
    // Between what was asked for, a tenth of it on top, and some slack for a slow machine.
    for (status, value, least, most) in [
        (503, "7", 7, 12),
        (429, "30", 30, 38),
        (408, "60", 60, 71),
        (425, "3600", 60, 71),
        (503, absurd.as_str(), 60, 71),
        (503, &date(40), 30, 49),
        (503, &date(86400), 60, 71),
        (503, &date(-86400), 0, 5),
        (503, "Fri, 31 Dec 9999 23:59:59 GMT", 60, 71),
        (429, "0", 0, 5),
        (429, "-5", 0, 5),
        (429, "soon", 0, 5),
        (429, "1.5", 0, 5),
        (429, "", 0, 5),
    ] {
        let trial = Trial::new();
        let busy = Answer::json(status, &json!({"error": "busy"})).with("Retry-After", value);
        let after = trial.call(Refresh::Instead(busy));
        assert_eq!(Ending::of(&after).words(), ("busy", "busy"), "{value}: {after}");
        let wait = planned(&after);
        let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
        assert!(least <= wait && wait <= most, "{value}: {wait:?}");
        assert_eq!(trial.gateway.get("/x").status, 200, "{value}");
        if most < Duration::from_secs(6) {
            // The same token is presented again: it was not spent.
            trial.gateway.await_generation(2);
        } else {
            assert_eq!(trial.partner.refreshes(), 2, "{value}");
        }
        trial.partner.assert_no_spent_token_seen();
    }
}

#[test]
fn s42_one_busy_partner_does_not_keep_another_waiting() {
    let (busy, other) = (Partner::new(), Partner::new());
    busy.script_refresh(Refresh::Instead(Answer::new(429, "").with("Retry-After", "3600")));
    let config = Config::to(&busy).set("partner.path_prefix", "/busy").and("beta", &other);
    let gateway = Gateway::spawn(&config.set("server.token_timeout", "1s"));
    eventually("the busy one has been asked", || busy.refreshes() == 1);
    gateway.get("/busy/x").assert_problem(503);
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((busy.refreshes(), other.refreshes()), (1, 1));
}

#[test]
fn s42_a_busy_answer_to_a_request_passes_as_it_is() {
    let trial = Trial::new();
    for status in [429, 503] {
        trial.partner.on("/busy", move |x| x.answer(&Answer::new(status, "later").with("Retry-After", "7")));
        let answer = trial.gateway.get("/busy");
        assert_eq!((answer.status, answer.fields.all("retry-after")), (status, vec!["7"]));
        assert!(!answer.fields.has("proxy-status"), "{answer:?}");
    }
    assert_eq!((trial.partner.seen_at("/busy").len(), trial.partner.refreshes()), (2, 1));
}

/// A byte now and then, for as long as somebody listens.
fn dribble(x: &mut Exchange<'_>, byte: &[u8]) {
    while x.raw(byte).is_ok() {
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn s43_a_token_call_that_dawdles_ends_at_its_deadline() {
    let trial = Trial::with(|config| config.set("partner.refresh.timeout", "2s"));
    for (what, head, byte) in [
        ("in the status line", "HTTP/1.1 200 ", &b"O"[..]),
        ("in the header", "HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        ("in field after field", "HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        ("in the body", "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b" "),
        ("in the chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        ("in interim answers", "", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        trial.heal();
        let script = Refresh::then(move |x| {
            x.raw(head.as_bytes())?;
            dribble(x, byte);
            Ok(())
        });
        // Slow fields may also come to be too many.
        let ending = trial.unknown(what, script);
        assert!(["timeout", "too_large"].contains(&ending.words().1), "{what}: {ending:?}");
    }
}

#[test]
fn s43_nobody_waits_for_a_token_longer_than_the_own_deadline() {
    let partner = Partner::new();
    let gate = partner.hold_refreshes();
    let config =
        Config::to(&partner).set("server.token_timeout", "500ms").set("partner.refresh.timeout", "30s");
    let gateway = Gateway::spawn(&config);
    gate.await_arrivals(1);
    let waiting: Vec<_> = (0..20).map(|_| gateway.send_aside(Request::get("/x"))).collect();
    for waiter in waiting {
        let answer = waiter.join().unwrap();
        answer.assert_problem(503);
        assert!(answer.fields.has("retry-after"), "{answer:?}");
    }
    assert_eq!((gate.arrivals(), partner.refreshes_in_progress()), (1, 1), "the call itself goes on");
    gate.open();
    gateway.await_ready();
    assert_eq!((gateway.get("/x").status, partner.refreshes()), (200, 1));
}

#[test]
fn s43_s44_a_peer_that_never_shakes_hands_is_not_sent_anything() {
    let partner = Partner::over_tls();
    let silent = RawPeer::doing(|stream| {
        // Whatever comes is read, and nothing said to it.
        let _gone = std::io::copy(stream, &mut std::io::sink());
    });
    let config = Config::to(&partner)
        .set("partner.base_url", format!("https://{}", silent.address()))
        .set("partner.connect_timeout", "300ms")
        .set("server.token_timeout", "1s");
    let gateway = Gateway::spawn(&config);
    let failed = || gateway.metric("bearerd_token_refresh_failures_total", &[("reason", "connect_timeout")]);
    eventually("the handshake is given up", || failed() >= Some(1.0));
    gateway.get("/x").assert_problem(503);
    assert_eq!(gateway.metric("bearerd_token_refreshes_total", &[("result", "unknown")]), Some(0.0));
}

#[test]
fn s44_a_token_call_that_breaks_off_is_unknown() {
    let trial = Trial::with(|config| config.set("partner.refresh.timeout", "2s"));
    let gate = Gate::shut();
    let never = gate.clone();
    let cases: [(&str, Refresh, &str); 4] = [
        (
            "never an answer",
            Refresh::then(move |_| {
                never.wait();
                Ok(())
            }),
            "timeout",
        ),
        ("half closed", Refresh::then(|x| x.wire.io.tcp().shutdown(Shutdown::Write)), "closed"),
        ("closed in the body", Refresh::raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), "closed"),
        ("closed at once", Refresh::Lost, "closed"),
    ];
    for (what, script, reason) in cases {
        trial.heal();
        assert_eq!(trial.unknown(what, script).words().1, reason, "{what}");
        gate.open();
    }
}

#[test]
fn s44_a_token_call_that_is_reset_is_unknown() {
    for bytes in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"access"] {
        let partner = Partner::new();
        let peer = RawPeer::doing(move |stream| {
            let mut request = [0; 4096];
            if matches!(stream.read(&mut request), Ok(size) if size > 0) {
                let _gone = stream.write_all(bytes);
            }
            // What is still to be read, and this, make the close a reset.
            let _gone = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        });
        let gateway = Gateway::spawn(
            &Config::to(&partner).set("partner.base_url", format!("http://{}", peer.address())),
        );
        let last = || gateway.of_partner("last_refresh");
        eventually("it has ended", || !last().is_null());
        assert_eq!((&last()["outcome"], &last()["reason"]), (&json!("unknown"), &json!("closed")));
        assert_eq!(gateway.metric("bearerd_token_refreshes_total", &[("result", "not_sent")]), Some(0.0));
    }
}

#[test]
fn s45_no_redirect_of_a_token_call_is_followed() {
    let trial = Trial::new();
    let elsewhere = RawPeer::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let elsewhere = Arc::new(elsewhere);
    for status in [301, 302, 303, 307, 308] {
        let target = format!("http://{}/stolen", elsewhere.address());
        let after = trial.call(Refresh::Instead(Answer::new(status, "moved").with("Location", &target)));
        assert_eq!(Ending::of(&after).words(), ("busy", "redirect"), "{status}: {after}");
        // The same token goes to the same place again.
        trial.gateway.await_state("valid");
        let answer = Answer::json(status, &json!({"location": target})).with("Location", &target);
        let ending = trial.unknown("a redirect in JSON", Refresh::RotatedBut(answer));
        assert_eq!((ending.words().1, ending.status), ("redirect", Some(u64::from(status))));
        trial.heal();
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn s45_a_redirect_of_a_request_goes_to_the_client() {
    let trial = Trial::new();
    let elsewhere = RawPeer::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let target = format!("http://{}/stolen", elsewhere.address());
    let location = target.clone();
    trial.partner.on("/moved", move |x| x.answer(&Answer::new(307, "").with("Location", &location)));
    let answer = trial.gateway.post("/moved", "{\"amount\":1}");
    assert_eq!((answer.status, answer.fields.all("location")), (307, vec![target.as_str()]));
    assert_eq!((trial.partner.seen_at("/moved").len(), elsewhere.connections()), (1, 0));
}
