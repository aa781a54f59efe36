use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use http::HeaderValue;

use super::*;
use crate::partner::TokenSet;
use crate::partner::envelope::seal;

const DAYS_30: u64 = 30 * 24 * 3600;
/// 2023-11-14 22:13:20 UTC.
const WALL: UnixMillis = UnixMillis(1_700_000_000_000);

fn key() -> EnvelopeKey {
    EnvelopeKey::from_hex(&"5a".repeat(32)).unwrap()
}

fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
    let parse = |&(name, value): &(&'static str, &str)| {
        (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    // `collect` would keep one of each name.
    list.iter().map(parse).fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    })
}

fn classify(status: u16, list: &[(&'static str, &str)], body: impl AsRef<[u8]>) -> Outcome {
    classify_as(status, list, body, true)
}

fn classify_as(
    status: u16,
    list: &[(&'static str, &str)],
    body: impl AsRef<[u8]>,
    repeat_on_5xx: bool,
) -> Outcome {
    let reader = Reader { key: &key(), iv: Iv::Prefix, repeat_on_5xx, wall: WALL };
    reader.classify(StatusCode::from_u16(status).unwrap(), &headers(list), body.as_ref())
}

fn renewed(body: &str) -> TokenSet {
    match classify(200, &[], body) {
        Outcome::Renewed(set) => set,
        other => panic!("{body}: {other:?}"),
    }
}

fn unknown(body: impl AsRef<[u8]>) -> &'static str {
    match classify(200, &[], body.as_ref()) {
        Outcome::Unknown(Cause { reason, status: Some(200) }) => reason,
        other => panic!("{:?}: {other:?}", body.as_ref().escape_ascii().to_string()),
    }
}

/// The name of an outcome and its reason.
fn named(outcome: &Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Renewed(_) => ("renewed", ""),
        Outcome::NotSent(cause) => ("not_sent", cause.reason),
        Outcome::Busy { cause, .. } => ("busy", cause.reason),
        Outcome::Refused(cause) => ("refused", cause.reason),
        Outcome::Unknown(cause) => ("unknown", cause.reason),
    }
}

const SET: &str = r#"{"access_token":"new.access.token","expires_in":36000,"refresh_token":"new.refresh",
    "refresh_expires_in":86400,"token_type":"Bearer"}"#;

#[test]
fn a_token_set_is_renewed() {
    let set = renewed(SET);
    assert_eq!(set.access.expose(), "new.access.token");
    assert_eq!(set.refresh.unwrap().expose(), "new.refresh");
    assert_eq!(set.lifetime, Some(Duration::from_secs(36_000)));
}

#[test]
fn the_table_of_outcomes() {
    const OBJECT: &str = r#" {"error":"invalid_grant"} "#;
    const HTML: &str = "<html>";
    for (status, body, outcome) in [
        (200, SET, ("renewed", "")),
        (200, OBJECT, ("unknown", "malformed")),
        (200, HTML, ("unknown", "malformed")),
        (201, SET, ("unknown", "status")),
        (202, SET, ("unknown", "status")),
        (204, "", ("unknown", "status")),
        (206, SET, ("unknown", "status")),
        (101, "", ("unknown", "status")),
        (600, OBJECT, ("unknown", "status")),
        (999, OBJECT, ("unknown", "status")),
        (301, HTML, ("busy", "redirect")),
        (304, "", ("busy", "redirect")),
        (307, HTML, ("busy", "redirect")),
        (307, OBJECT, ("unknown", "redirect")),
        (400, OBJECT, ("refused", "refused")),
        (400, HTML, ("busy", "not_json")),
        (400, "", ("busy", "not_json")),
        (400, "[]", ("busy", "not_json")),
        (400, "\"invalid_grant\"", ("busy", "not_json")),
        (400, "{\"error\":", ("busy", "not_json")),
        (400, "\u{feff}{\"error\":1}", ("refused", "refused")),
        (400, "{\"error\":1,\"error\":2}", ("refused", "refused")),
        (401, OBJECT, ("refused", "refused")),
        (401, HTML, ("busy", "not_json")),
        (403, OBJECT, ("refused", "refused")),
        (404, HTML, ("busy", "not_json")),
        (404, OBJECT, ("refused", "refused")),
        (408, OBJECT, ("busy", "busy")),
        (425, OBJECT, ("busy", "busy")),
        (429, OBJECT, ("busy", "busy")),
        (429, HTML, ("busy", "busy")),
        (499, OBJECT, ("refused", "refused")),
        (500, OBJECT, ("busy", "server_error")),
        (501, OBJECT, ("unknown", "server_error")),
        (502, HTML, ("unknown", "server_error")),
        (503, HTML, ("busy", "busy")),
        (504, HTML, ("unknown", "server_error")),
        (599, HTML, ("unknown", "server_error")),
    ] {
        let got = classify(status, &[], body);
        assert_eq!(named(&got), outcome, "{status} {body}");
        assert!(outcome.1.is_empty() || reason::ALL.contains(&outcome.1), "{}", outcome.1);
    }
    let got = classify_as(500, &[], OBJECT, false);
    assert_eq!(named(&got), ("unknown", "server_error"));
}

#[test]
fn s34_nonsense_with_status_200_is_unknown() {
    let deep = format!("{{\"access_token\":\"a\",\"data\":{}1{}}}", "[".repeat(300), "]".repeat(300));
    for body in [
        r#"{"error":"invalid_grant"}"#,
        "<!doctype html><p>sign in",
        "",
        " ",
        "null",
        "{}",
        r#"{"access_token":"a""#,
        r#"{"access_token":"a"} x"#,
        r#"{"access_token":"a"}{"access_token":"b"}"#,
        "\u{feff}{\"access_token\":\"a\"}",
        r#"{"access_token":"a","access_token":"b"}"#,
        r#"{"access_token":"a","access\u005ftoken":"b"}"#,
        r#"{"access_token":"a","refresh_token":"b","refresh_token":"c"}"#,
        r#"["a","b","Bearer",3600,null]"#,
        r#"{"data":{"access_token":"a"}}"#,
        &"{\"a\":".repeat(20_000),
        &"[".repeat(60_000),
        &deep[..deep.len() - 1],
    ] {
        assert_eq!(unknown(body), "malformed", "{body:.80}");
    }
    assert_eq!(unknown(b"{\"access_token\":\"\xff\"}"), "malformed");
}

#[test]
fn s35_what_is_coded_is_not_decoded() {
    let utf16: Vec<u8> = SET.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(unknown(utf16), "malformed");
    for (name, value, outcome) in [
        ("content-encoding", "gzip", "unknown"),
        ("content-encoding", "br", "unknown"),
        ("content-encoding", "deflate", "unknown"),
        ("content-encoding", "identity, gzip", "unknown"),
        ("content-encoding", "\u{e9}", "unknown"),
        ("transfer-encoding", "gzip, chunked", "unknown"),
        ("content-encoding", "identity", "renewed"),
        ("content-encoding", "Identity", "renewed"),
        ("content-encoding", "", "renewed"),
        ("transfer-encoding", "chunked", "renewed"),
    ] {
        let got = classify(200, &[(name, value)], SET);
        assert_eq!(named(&got).0, outcome, "{name}: {value}");
        if outcome == "unknown" {
            for status in [200, 302, 400] {
                let got = classify(status, &[(name, value)], "coded");
                assert_eq!(named(&got), ("unknown", "content_coding"), "{status} {name}: {value}");
            }
        }
    }
    let twice = [("content-encoding", "identity"), ("content-encoding", "gzip")];
    assert_eq!(named(&classify(200, &twice, SET)), ("unknown", "content_coding"));
    assert_eq!(named(&classify(503, &twice, "")), ("busy", "busy"));
}

#[test]
fn s36_what_may_be_missing() {
    assert_eq!(unknown(r#"{"refresh_token":"b","expires_in":60,"token_type":"Bearer"}"#), "malformed");
    for missing in [r#"{"access_token":null,"refresh_token":"b"}"#, r#"{"access_token":7}"#] {
        assert_eq!(unknown(missing), "malformed");
    }
    for body in [
        r#"{"access_token":"a"}"#,
        r#"{"access_token":"a","refresh_token":null,"expires_in":null,"token_type":null,"data":null}"#,
    ] {
        let set = renewed(body);
        assert!(set.refresh.is_none() && set.lifetime.is_none(), "{body}");
    }
    for (kind, usable) in [
        (r#""Bearer""#, true),
        (r#""bearer""#, true),
        (r#""BEARER""#, true),
        (r#""mac""#, false),
        (r#""""#, false),
        ("1", false),
        ("{}", false),
    ] {
        let body = format!(r#"{{"access_token":"a","token_type":{kind}}}"#);
        let got = classify(200, &[], body);
        assert_eq!(matches!(got, Outcome::Renewed(_)), usable, "{kind}");
    }
}

#[test]
fn s37_lifetimes() {
    for (expires_in, seconds) in [
        ("3600", Some(3600)),
        ("1", Some(1)),
        (r#""3600""#, Some(3600)),
        (r#""007""#, Some(7)),
        ("9223372036854775808", Some(DAYS_30)),
        ("18446744073709551615", Some(DAYS_30)),
        (r#""99999999999999999999999""#, Some(DAYS_30)),
        ("2592001", Some(DAYS_30)),
        ("0", None),
        ("-1", None),
        (r#""0""#, None),
        (r#""-1""#, None),
        (r#""+1""#, None),
        (r#"" 1""#, None),
        (r#""1.5""#, None),
        (r#""""#, None),
        (r#""soon""#, None),
        ("3600.5", None),
        ("3600.0", None),
        ("1e308", None),
        ("-9223372036854775808", None),
        ("null", None),
        ("true", None),
        ("[3600]", None),
        (r#"{"seconds":3600}"#, None),
    ] {
        let set = renewed(&format!(r#"{{"access_token":"a","expires_in":{expires_in}}}"#));
        assert_eq!(set.lifetime, seconds.map(Duration::from_secs), "{expires_in}");
    }
    assert_eq!(unknown(r#"{"access_token":"a","expires_in":1e999}"#), "malformed");
}

#[test]
fn s37_without_a_lifetime_the_access_token_s_own_counts() {
    let now = WALL.0 / 1000;
    let exp = |ahead: i64| format!(r#"{{"exp":{}}}"#, now as i64 + ahead);
    for (payload, seconds) in [
        (exp(600), Some(600)),
        (exp(0), None),
        (exp(-600), None),
        (r#"{"exp":5600,"iat":5000}"#.into(), Some(600)),
        (r#"{"exp":5600.9,"iat":5000.2}"#.into(), Some(600)),
        (r#"{"exp":5000.5,"iat":5000}"#.into(), Some(1)),
        (r#"{"exp":5000,"iat":5000}"#.into(), None),
        (r#"{"exp":5000,"iat":5600}"#.into(), None),
        (r#"{"exp":1e300,"iat":0}"#.into(), Some(DAYS_30)),
        (r#"{"exp":"5600","iat":5000}"#.into(), None),
        (r#"{"iat":5000}"#.into(), None),
        (r#"{"exp":null}"#.into(), None),
        ("[5600,5000]".into(), None),
        ("nonsense".into(), None),
    ] {
        for payload in [URL_SAFE_NO_PAD.encode(&payload), URL_SAFE.encode(&payload)] {
            // Padding may stand at a token's end only.
            if payload.ends_with('=') {
                continue;
            }
            let set = renewed(&format!(r#"{{"access_token":"h.{payload}.s","expires_in":0}}"#));
            assert_eq!(set.lifetime, seconds.map(Duration::from_secs), "{payload}");
            for not_a_jwt in [format!("h.{payload}"), format!("h.{payload}.s.t"), payload.clone()] {
                assert_eq!(renewed(&format!(r#"{{"access_token":"{not_a_jwt}"}}"#)).lifetime, None);
            }
            let set = renewed(&format!(r#"{{"access_token":"h.{payload}.s","expires_in":7}}"#));
            assert_eq!(set.lifetime, Some(Duration::from_secs(7)), "expires_in comes first");
        }
    }
}

#[test]
fn s38_the_same_refresh_token_may_come_back() {
    let set = renewed(r#"{"access_token":"a","refresh_token":"the-one-that-was-sent"}"#);
    assert_eq!(set.refresh.unwrap().expose(), "the-one-that-was-sent");
}

#[test]
fn s39_what_is_not_a_token_is_unknown_and_not_shown() {
    for bad in
        ["", "marked a", r"marked\r\nX: y", r"marked\u0000", "marked\u{e9}", "=", &"marked".repeat(10_000)]
    {
        for body in [
            format!(r#"{{"access_token":"{bad}"}}"#),
            format!(r#"{{"access_token":"a","refresh_token":"{bad}"}}"#),
        ] {
            let got = classify(200, &[], &body);
            assert_eq!(named(&got), ("unknown", "malformed"), "{body:.80}");
            assert!(!format!("{got:?}").contains("marked"));
        }
    }
    for other in ["1", "[]", "{}", "false"] {
        assert_eq!(unknown(format!(r#"{{"access_token":"a","refresh_token":{other}}}"#)), "malformed");
    }
}

#[test]
fn s40_an_answer_may_be_an_envelope_and_one_that_does_not_open_is_unknown() {
    let sealed = |text: &str| seal(&key(), Iv::Prefix, text.as_bytes()).unwrap();
    let envelope = |data: &str| format!(r#"{{"data":"{data}"}}"#);
    assert_eq!(renewed(&envelope(&sealed(SET))).access.expose(), "new.access.token");
    let set = renewed(&format!(r#"{{"access_token":"outer","data":"{}"}}"#, sealed(SET)));
    assert_eq!(set.access.expose(), "outer", "a token set is no envelope");

    let good = sealed(SET);
    let other_key = EnvelopeKey::from_hex(&"00".repeat(32)).unwrap();
    for data in [
        "",
        "zz",
        &good[..good.len() - 2],
        &good[..good.len() - 32],
        &seal(&other_key, Iv::Prefix, SET.as_bytes()).unwrap(),
        &sealed("no object"),
        &sealed("[]"),
        &sealed(""),
    ] {
        assert_eq!(unknown(envelope(data)), "envelope", "{data}");
    }
    assert_eq!(unknown(envelope(&sealed("{}"))), "malformed");
    assert_eq!(unknown(envelope(&sealed(&envelope(&good)))), "malformed", "one envelope only");
    assert_eq!(named(&classify(400, &[], envelope("zz"))), ("refused", "refused"));
}

#[test]
fn s42_retry_after() {
    for (value, seconds) in [
        ("0", Some(0)),
        ("7", Some(7)),
        (" 7 ", Some(7)),
        ("60", Some(60)),
        ("61", Some(60)),
        ("99999999999999999999999", Some(60)),
        ("Tue, 14 Nov 2023 22:13:30 GMT", Some(10)),
        ("Tuesday, 14-Nov-23 22:13:30 GMT", Some(10)),
        ("Tue Nov 14 22:13:30 2023", Some(10)),
        ("Tue, 14 Nov 2023 22:13:20 GMT", Some(0)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", Some(60)),
        ("-1", None),
        ("1.5", None),
        ("+7", None),
        ("", None),
        ("soon", None),
        ("Tue, 99 Nov 2023 22:13:30 GMT", None),
        ("\u{e9}", None),
    ] {
        for status in [408, 425, 429, 500, 503, 307, 404] {
            let Outcome::Busy { retry_after, cause } = classify(status, &[("retry-after", value)], "") else {
                panic!("{status} is not busy");
            };
            assert_eq!(retry_after, seconds.map(Duration::from_secs), "{value}");
            assert_eq!(cause.status, Some(status));
        }
    }
    assert!(matches!(classify(503, &[], ""), Outcome::Busy { retry_after: None, .. }));
}

proptest::proptest! {
    #[test]
    fn whatever_comes_is_classified(status in 100u16..1000, body: Vec<u8>, text: String) {
        classify(status, &[], body);
        classify(status, &[], &text);
        if let Ok(value) = serde_json::to_string(&text) {
            for field in ["access_token", "refresh_token", "expires_in", "token_type", "data"] {
                classify(status, &[], format!(r#"{{"access_token":"a","{field}":{value}}}"#));
            }
        }
    }
}
