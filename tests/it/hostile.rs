//! What a token endpoint may answer: nonsense of every kind costs one call and nothing else.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::envelope;
use crate::support::exchange::Exchange;
use crate::support::gateway::Gateway;
use crate::support::http::{Answer, chunk};
use crate::support::issuer::Refresh;
use crate::support::partner::Partner;
use crate::support::secrets::marked;
use crate::support::trial::{Ending, Trial};

/// A token set that lacks nothing, with these members replaced, or left out where they are null.
fn set(changes: &Value) -> Value {
    let mut set = json!({
        "access_token": marked("hostile.access"),
        "expires_in": 3600,
        "refresh_token": marked("hostile.refresh"),
        "token_type": "Bearer",
    });
    for (name, value) in changes.as_object().into_iter().flatten() {
        set[name] = value.clone();
    }
    set.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    set
}

fn good() -> Value {
    set(&json!({}))
}

/// An answer with status 200 and this body.
fn ok(body: impl Into<Vec<u8>>) -> Refresh {
    Refresh::RotatedBut(Answer::new(200, body).with("Content-Type", "application/json"))
}

#[test]
fn s34_bodies_that_are_no_token_set_are_malformed_and_change_nothing() {
    let trial = Trial::new();
    let good = good().to_string();
    let bodies: [(&str, Vec<u8>); 11] = [
        ("an error", b"{\"error\":\"invalid_grant\"}".to_vec()),
        ("HTML", b"<!doctype html><title>Sign in</title>".to_vec()),
        ("nothing", Vec::new()),
        ("cut short", good.as_bytes()[..good.len() - 1].to_vec()),
        ("a byte order mark", format!("\u{feff}{good}").into_bytes()),
        ("a key twice", format!("{{\"access_token\":\"a\",{}", &good[1..]).into_bytes()),
        ("a key twice, once escaped", format!("{{\"access\\u005ftoken\":\"a\",{}", &good[1..]).into_bytes()),
        ("nothing but nesting", b"{\"a\":".repeat(10_000)),
        ("an array", b"[\"a\",\"b\",\"Bearer\",3600,null]".to_vec()),
        ("two sets", format!("{good}{good}").into_bytes()),
        ("not UTF-8", b"{\"access_token\":\"\xff\"}".to_vec()),
    ];
    for (what, body) in bodies {
        trial.heal();
        let ending = trial.unknown(what, ok(body));
        assert_eq!((ending.words().1, ending.status), ("malformed", Some(200)), "{what}");
    }
}

#[test]
fn s34_deep_nesting_beside_a_token_set_does_not_cost_the_set() {
    let trial = Trial::new();
    for (what, name) in [("in a member of no interest", "x"), ("in place of a lifetime", "expires_in")] {
        let mut set = good();
        set.as_object_mut().unwrap().remove("expires_in");
        let set = set.to_string();
        let deep = format!("{},\"{name}\":{}1{}}}", &set[..set.len() - 1], "[".repeat(90), "]".repeat(90));
        trial.heal();
        let after = trial.call(ok(deep));
        assert_eq!(Ending::of(&after).outcome, "renewed", "{what}: {after}");
    }
    let bottomless = format!("{{\"access_token\":{}", "[".repeat(60_000));
    trial.heal();
    assert_eq!(trial.unknown("bottomless", ok(bottomless)).words().1, "malformed");
}

#[test]
fn s34_answers_that_are_not_http_are_unknown_each_for_its_reason() {
    let trial = Trial::new();
    let long_header = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    for (what, bytes, reason) in [
        ("nothing", &b""[..], "closed"),
        ("no HTTP", b"\x00\x01\x02\x03 hello\r\n\r\n", "malformed"),
        ("a version of its own", b"HTTP/9.9 200 OK\r\n\r\n", "malformed"),
        ("half a status line", b"HTTP/1.1 20", "closed"),
        ("half a header", b"HTTP/1.1 200 OK\r\nContent-Le", "closed"),
        ("a broken field", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n{}", "malformed"),
        ("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ", "malformed"),
        ("half a body", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "closed"),
        ("half a chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{", "closed"),
        ("a long header", long_header.as_bytes(), "too_large"),
    ] {
        trial.heal();
        let ending = trial.unknown(what, Refresh::raw(bytes));
        assert_eq!(ending.words().1, reason, "{what}");
    }
}

/// Sends `piece` until nobody takes it any more, and counts what was taken.
fn pour(x: &mut Exchange<'_>, piece: &[u8], poured: &AtomicUsize) {
    while x.wire.io.write_all(piece).is_ok() {
        poured.fetch_add(piece.len(), Ordering::SeqCst);
    }
}

#[test]
fn s34_a_gibibyte_and_a_body_without_end_are_not_read() {
    let trial = Trial::new();
    for (what, head, piece) in [
        ("a gibibyte", "Content-Length: 1073741824", vec![b' '; 1 << 16]),
        ("chunks without end", "Transfer-Encoding: chunked", chunk(&vec![b' '; 1 << 16])),
        ("until the end that never comes", "X-Framing: none", vec![b' '; 1 << 16]),
        ("chunk extensions without end", "Transfer-Encoding: chunked", b"1;".repeat(1 << 12)),
        (
            "trailers without end",
            "Transfer-Encoding: chunked",
            [b"0\r\n".to_vec(), b"x: y\r\n".repeat(1 << 12)].concat(),
        ),
    ] {
        trial.heal();
        let poured = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&poured);
        let script = Refresh::then(move |x| {
            x.raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes())?;
            pour(x, &piece, &count);
            Ok(())
        });
        let ending = trial.unknown(what, script);
        assert!(["too_large", "malformed", "closed"].contains(&ending.words().1), "{what}: {ending:?}");
        // What the system holds between the two is all that left the partner.
        let poured = poured.load(Ordering::SeqCst);
        assert!(poured < 64 << 20, "{what}: {poured} bytes were taken");
    }
}

#[test]
fn s34_the_old_pair_survives_a_restart_after_nonsense() {
    let mut trial = Trial::new();
    trial.unknown("HTML", ok("<html>"));
    trial.gateway.kill9();
    trial.gateway.restart();
    trial.gateway.await_ready();
    assert_eq!(trial.gateway.of_partner("state"), "degraded", "it is remembered that the token may be spent");
    assert_eq!((trial.gateway.get("/x").status, trial.gateway.generation()), (200, 1));
    assert_eq!(trial.partner.refreshes(), 2);
    trial.partner.assert_no_spent_token_seen();
    trial.heal();
    assert_eq!(trial.gateway.generation(), 2);
}

/// 64 MiB of zeros, as gzip would have them: a stored header and blocks that repeat one byte.
fn bomb() -> Vec<u8> {
    let mut bytes = b"\x1f\x8b\x08\0\0\0\0\0\0\xff".to_vec();
    bytes.extend(b"\xed\xc1\x01\x0d\0\0\0\xc2\xa0\xf7\x4f\x6d\x0e\x37\xa0".repeat(64));
    bytes
}

#[test]
fn s35_codings_that_nobody_asked_for_are_not_undone() {
    let trial = Trial::new();
    let coded = |coding: &str, body: Vec<u8>| {
        Refresh::RotatedBut(Answer::new(200, body).with("Content-Encoding", coding))
    };
    let good = good().to_string().into_bytes();
    for (what, script, reason) in [
        ("gzip", coded("gzip", bomb()), "content_coding"),
        ("br", coded("br", vec![0x0b, 0x02, 0x80]), "content_coding"),
        ("deflate", coded("deflate", vec![0x78, 0x9c, 0x03, 0x00]), "content_coding"),
        ("said to be gzip", coded("gzip", good.clone()), "content_coding"),
        ("twice", coded("identity, gzip", good.clone()), "content_coding"),
        ("unknown", coded("x-own", good.clone()), "content_coding"),
        (
            "a transfer coding",
            Refresh::raw(
                [
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_vec(),
                    chunk(&good),
                    b"0\r\n\r\n".to_vec(),
                ]
                .concat(),
            ),
            "content_coding",
        ),
    ] {
        trial.heal();
        assert_eq!(trial.unknown(what, script).words().1, reason, "{what}");
        let call = trial.partner.refresh_calls().pop().unwrap();
        assert!(!call.fields.has("accept-encoding") && !call.fields.has("te"), "{:?}", call.fields);
    }
}

#[test]
fn s35_a_charset_is_not_believed_over_the_bytes() {
    let trial = Trial::new();
    let good = good().to_string();
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let utf16 = Answer::new(200, utf16).with("Content-Type", "application/json; charset=utf-16");
    assert_eq!(trial.unknown("UTF-16", Refresh::RotatedBut(utf16)).words().1, "malformed");
    trial.heal();
    let latin = Answer::new(200, good).with("Content-Type", "text/plain; charset=iso-8859-1");
    let after = trial.call(Refresh::RotatedBut(latin));
    assert_eq!(Ending::of(&after).outcome, "renewed", "{after}");
}

#[test]
fn s35_a_coded_answer_to_a_request_passes_as_it_is() {
    let trial = Trial::new();
    let bomb = bomb();
    let answer = Answer::new(200, bomb.clone()).with("Content-Encoding", "gzip");
    trial.partner.on("/coded", move |x| x.answer(&answer));
    let answer = trial.gateway.get("/coded");
    assert_eq!((answer.status, answer.fields.all("content-encoding")), (200, vec!["gzip"]));
    assert!(answer.body == bomb);
}

#[test]
fn s36_what_may_be_missing_from_a_token_set_and_what_may_not() {
    let trial = Trial::with(|config| config.set("partner.refresh.default_lifetime", "20m"));
    for (missing, changes) in [
        ("access_token", json!({"access_token": null})),
        (
            "everything but the refresh token",
            json!({"access_token": null, "expires_in": null, "token_type": null}),
        ),
        ("a token of another type", json!({"token_type": "mac"})),
        ("a type that is no text", json!({"token_type": 1})),
        ("a refresh token that is no text", json!({"refresh_token": 7})),
        ("an access token that is no text", json!({"access_token": ["a"]})),
    ] {
        trial.heal();
        let ending = trial.unknown(missing, Refresh::With(changes));
        assert_eq!(ending.words().1, "malformed", "{missing}");
    }
    trial.heal();
    let after = trial.call(Refresh::With(json!({"token_type": null, "expires_in": null})));
    assert_eq!((Ending::of(&after).outcome.as_str(), &after["state"]), ("renewed", &json!("valid")));
    assert_lives(&after, 1200, "the configured default");
    // Without a refresh token the old one stays, and is presented again.
    let kept = trial.partner.fresh_refresh_token();
    let answer = trial.partner.pair_keeping(&kept);
    let presented = trial.partner.refresh_calls().len();
    assert_eq!(Ending::of(&trial.call(Refresh::Instead(answer))).outcome, "renewed");
    assert_eq!(Ending::of(&trial.call(Refresh::With(json!({})))).outcome, "renewed");
    let calls = trial.partner.refresh_calls();
    assert_eq!(calls[presented].opened, calls[presented + 1].opened);
    trial.partner.assert_no_spent_token_seen();
}

/// Asserts how long an access token was said to live, by what is left of that.
#[track_caller]
fn assert_lives(partner: &Value, seconds: u64, what: &str) {
    let left = partner["expires_in"].as_u64().unwrap();
    assert!(left <= seconds && left + 60 >= seconds, "{what}: {left} of {seconds} s are left");
}

#[test]
fn s37_each_lifetime_is_taken_clamped_or_replaced() {
    const DEFAULT: u64 = 1200;
    const MOST: u64 = 30 * 24 * 3600;
    let trial = Trial::with(|config| config.set("partner.refresh.default_lifetime", "20m"));
    for (given, lifetime) in [
        (json!(3600), 3600),
        (json!("3600"), 3600),
        (json!(1_u64 << 63), MOST),
        (json!(u64::MAX), MOST),
        (json!("99999999999999999999999"), MOST),
        (json!(2_592_001), MOST),
        (json!(0), DEFAULT),
        (json!(-1), DEFAULT),
        (json!(i64::MIN), DEFAULT),
        (json!("0"), DEFAULT),
        (json!("-1"), DEFAULT),
        (json!(null), DEFAULT),
        (json!(3600.5), DEFAULT),
        (json!(1e308), DEFAULT),
        (json!("3600.5"), DEFAULT),
        (json!(" 3600"), DEFAULT),
        (json!(""), DEFAULT),
        (json!(true), DEFAULT),
        (json!([3600]), DEFAULT),
        (json!({"seconds": 3600}), DEFAULT),
    ] {
        let after = trial.call(Refresh::With(json!({"expires_in": given})));
        assert_eq!(Ending::of(&after).outcome, "renewed", "{given}: {after}");
        assert_lives(&after, lifetime, &given.to_string());
    }
}

#[test]
fn s37_lifetimes_of_nothing_do_not_loop() {
    for given in [json!(0), json!(-1), json!("0")] {
        let partner = Partner::new();
        for _ in 0..100 {
            partner.script_refresh(Refresh::With(json!({"expires_in": given})));
        }
        let gateway = Gateway::before(&partner);
        let mut client = gateway.connect();
        for _ in 0..300 {
            assert_eq!(client.exchange(&Request::get("/x")).status, 200);
        }
        assert_eq!((partner.seen().len(), partner.refreshes()), (300, 1), "{given}");
    }
}

#[test]
fn s38_a_refresh_token_that_came_back_is_presented_again_after_a_crash() {
    let partner = Partner::new();
    let seed = partner.seed();
    for _ in 0..2 {
        let mut set = partner.pair_keeping(&seed).value();
        set["refresh_token"] = json!(seed);
        partner.script_refresh(Refresh::Instead(Answer::json(200, &set)));
    }
    let mut gateway = Gateway::start(&Config::to(&partner).with_admin_socket());
    gateway.admin(&Request::post("/partners/acme/refresh", ""));
    assert_eq!((gateway.generation(), gateway.of_partner("state")), (2, json!("valid")));
    gateway.kill9();
    gateway.restart();
    gateway.await_ready();
    assert_eq!(
        (gateway.generation(), gateway.of_partner("state")),
        (2, json!("valid")),
        "unspent, on disk too"
    );
    partner.revoke_access();
    assert_eq!((gateway.get("/x").status, gateway.generation()), (200, 3));
    let presented: Vec<_> = partner.refresh_calls().into_iter().map(|call| call.opened.unwrap()).collect();
    assert_eq!(presented, vec![json!({"refresh_token": seed}); 3]);
}

#[test]
fn s39_what_is_no_token_is_refused_and_not_shown_and_the_old_pair_stays() {
    let mut trial = Trial::new();
    let bad = |what: &str| format!("{}{what}", marked("bad"));
    for (what, token) in [
        ("CR and LF", bad("\r\nX-Injected: 1")),
        ("LF", bad("\n")),
        ("NUL", bad("\0")),
        ("0xFF", bad("\u{ff}")),
        ("a space", bad(" x")),
        ("a quote", bad("\"")),
        ("a comma", bad(",x")),
        ("padding in the middle", bad("=x")),
        ("beyond ASCII", bad("\u{20ac}")),
        ("17 KiB", bad(&"x".repeat(17 << 10))),
        ("nothing", String::new()),
    ] {
        for field in ["access_token", "refresh_token"] {
            trial.heal();
            let what = format!("{what} in the {field}");
            let ending = trial.unknown(&what, Refresh::With(json!({field: token})));
            assert_eq!(ending.words().1, "malformed", "{what}");
        }
    }
    trial.heal();
    let ending = trial.unknown("64 KiB", Refresh::With(json!({"access_token": bad(&"x".repeat(64 << 10))})));
    assert_eq!(ending.words().1, "too_large");
    // The pair before is what a restart finds.
    let generation = trial.gateway.generation();
    trial.gateway.kill9();
    trial.gateway.restart();
    trial.gateway.await_ready();
    assert_eq!((trial.gateway.get("/x").status, trial.gateway.generation()), (200, generation));
    trial.gateway.assert_no_secret_leaked();
}

#[test]
fn s40_an_envelope_that_opens_is_read() {
    let trial = Trial::new();
    let data = envelope::seal(good().to_string().as_bytes(), [3; 16]);
    let after = trial.call(Refresh::RotatedBut(Answer::json(200, &json!({"data": data}))));
    assert_eq!((Ending::of(&after).outcome.as_str(), &after["state"]), ("renewed", &json!("valid")));
}

#[test]
fn s40_every_way_in_which_an_envelope_does_not_open_is_one_error() {
    let trial = Trial::new();
    let data = envelope::seal(good().to_string().as_bytes(), [3; 16]);
    let last = if data.ends_with('0') { "1" } else { "0" };
    let foreign = const_hex::encode([7; 64]);
    for (what, data) in [
        ("bad padding", format!("{}{last}", &data[..data.len() - 1])),
        ("another key", foreign),
        ("cut by a block", data[..data.len() - 32].to_owned()),
        ("cut within a block", data[..data.len() - 2].to_owned()),
        ("cut within a digit", data[..data.len() - 1].to_owned()),
        ("nothing but the vector", data[..32].to_owned()),
        ("nothing", String::new()),
        ("not hexadecimal", data.replace('0', "g")),
        ("no token set within", envelope::seal(b"<html>", [3; 16])),
        ("an array within", envelope::seal(b"[1]", [3; 16])),
    ] {
        trial.heal();
        let ending = trial.unknown(what, Refresh::RotatedBut(Answer::json(200, &json!({"data": data}))));
        assert_eq!((ending.words(), ending.status), (("unknown", "envelope"), Some(200)), "{what}");
    }
}
