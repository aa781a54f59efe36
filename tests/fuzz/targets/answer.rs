//! The partner's answers: what is made of one, against the table in the design.
//!
//! The input is text. Its first line has the status, and `sealed` if the body is to be put into an
//! envelope; then come header fields, an empty line, and the body.
#![no_main]

use std::time::Duration;

use bearerd::partner::envelope::{EnvelopeKey, Iv, seal};
use bearerd::partner::{Cause, Outcome, TokenSet, reason};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

pub(crate) use bearerd::{clock, token};

/// The product's own file: what is in it is private to the module that it is part of there.
#[path = "../../../src/partner"]
mod partner {
    mod answer;

    pub(crate) use bearerd::partner::{Cause, Outcome, TokenSet, envelope, reason};
    use http::{HeaderMap, StatusCode};

    pub(crate) struct Asked<'a> {
        pub(crate) key: &'a envelope::EnvelopeKey,
        pub(crate) iv: envelope::Iv,
        pub(crate) repeat_on_5xx: bool,
    }

    impl Asked<'_> {
        /// As the endpoint does it: the body is not read if the head says enough.
        pub(crate) fn classify(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
            let reader = answer::Reader {
                key: self.key,
                iv: self.iv,
                repeat_on_5xx: self.repeat_on_5xx,
                wall: bearerd::clock::UnixMillis(1_800_000_000_000),
            };
            let outcome = reader.classify(status, headers, body);
            if let Some(by_head) = reader.classify_head(status, headers) {
                assert_eq!(format!("{by_head:?}"), format!("{outcome:?}"));
            }
            outcome
        }
    }
}

const KEY: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";

fuzz_target!(|input: &[u8]| {
    let Some(answer) = Answer::parse(input) else { return };
    let key = EnvelopeKey::from_hex(KEY).unwrap();
    for (iv, repeat_on_5xx) in [(Iv::Fixed([7; 16]), true), (Iv::Prefix, false)] {
        let asked = partner::Asked { key: &key, iv, repeat_on_5xx };
        let body = if answer.sealed {
            format!("{{\"data\":\"{}\"}}", seal(&key, iv, answer.body).unwrap()).into_bytes()
        } else {
            answer.body.to_vec()
        };
        let outcome = asked.classify(answer.status, &answer.headers, &body);
        answer.fits(&outcome, repeat_on_5xx);
        answer.keeps_secrets(&outcome);
        if answer.sealed && answer.status == StatusCode::OK {
            let plain = asked.classify(answer.status, &answer.headers, answer.body);
            answer.is_read_alike(&outcome, &plain);
        }
    }
});

struct Answer<'a> {
    status: StatusCode,
    sealed: bool,
    headers: HeaderMap,
    body: &'a [u8],
    json: Option<Value>,
}

impl<'a> Answer<'a> {
    fn parse(input: &'a [u8]) -> Option<Self> {
        let (first, mut body) = line(input)?;
        let first = std::str::from_utf8(first).ok()?;
        let (status, sealed) = match first.split_once(' ') {
            Some((status, "sealed")) => (status, true),
            Some(_) => return None,
            None => (first, false),
        };
        let mut headers = HeaderMap::new();
        while let Some((field, rest)) = line(body) {
            body = rest;
            if field.is_empty() {
                break;
            }
            let colon = field.iter().position(|&byte| byte == b':')?;
            let name = HeaderName::from_bytes(&field[..colon]).ok()?;
            headers.append(name, HeaderValue::from_bytes(field[colon + 1..].trim_ascii()).ok()?);
        }
        let json = serde_json::from_slice(body).ok().filter(Value::is_object);
        Some(Self { status: status.parse().ok()?, sealed, headers, body, json })
    }

    /// Whether `outcome` is one that the status, the header and the body allow.
    fn fits(&self, outcome: &Outcome, repeat_on_5xx: bool) {
        let status = self.status.as_u16();
        let said = |cause: &Cause| {
            assert_eq!(cause.status, Some(status));
            assert!(reason::ALL.contains(&cause.reason));
        };
        // What is in strings and numbers that nobody looks at does not matter to bearerd, but does
        // to this reading: hence two bounds.
        let is_json = self.sealed || self.json.is_some();
        let body = self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(self.body).trim_ascii();
        let may_be_json = self.sealed || (body.starts_with(b"{") && body.ends_with(b"}"));
        match outcome {
            Outcome::Renewed(set) => {
                assert_eq!(status, 200);
                self.fits_set(set);
            }
            Outcome::NotSent(_) => panic!("the answer is there"),
            Outcome::Busy { retry_after, cause } => {
                said(cause);
                assert!(retry_after.is_none_or(|wait| wait <= Duration::from_secs(60)));
                match status {
                    408 | 425 | 429 | 503 => {}
                    500 => assert!(repeat_on_5xx),
                    300..=499 => assert!(!is_json),
                    _ => panic!("busy"),
                }
            }
            Outcome::Refused(cause) => {
                said(cause);
                assert!(matches!(status, 400..=499) && !matches!(status, 408 | 425 | 429));
                assert!(may_be_json);
            }
            Outcome::Unknown(cause) => {
                said(cause);
                assert!(!matches!(status, 408 | 425 | 429 | 503));
                assert!(status != 500 || !repeat_on_5xx);
                assert!(!self.is_plainly_good());
            }
        }
    }

    fn fits_set(&self, set: &TokenSet) {
        if let Some(json) = self.json.as_ref().filter(|_| !self.is_envelope()) {
            let given = |name: &str| json[name].as_str();
            // A set is taken whole or not at all.
            assert!(json["refresh_token"].is_null() || json["refresh_token"].is_string());
            let kind = given("token_type").is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
            assert!(json["token_type"].is_null() || (json["token_type"].is_string() && kind));
            assert_eq!(Some(set.access.expose()), given("access_token"));
            assert_eq!(set.refresh.as_ref().map(|token| token.expose()), given("refresh_token"));
            if let Some(seconds) = json["expires_in"].as_u64().filter(|&seconds| seconds > 0) {
                assert_eq!(set.lifetime, Some(Duration::from_secs(seconds.min(30 * 24 * 3600))));
            }
        }
        assert!(is_token(set.access.expose()));
        assert_eq!(set.access.header().as_bytes(), [b"Bearer ", set.access.expose().as_bytes()].concat());
        assert!(set.access.header().is_sensitive());
        assert!(set.refresh.as_ref().is_none_or(|token| is_token(token.expose())));
        let usable = Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3600);
        assert!(set.lifetime.is_none_or(|lifetime| usable.contains(&lifetime)));
    }

    /// Whether there is nothing about this answer that could be held against it.
    fn is_plainly_good(&self) -> bool {
        let Some(Value::Object(fields)) = &self.json else { return false };
        let names = ["access_token", "refresh_token", "token_type", "expires_in", "data"];
        // Twice the same name is held against it, and this reading does not see that.
        let once = names.iter().all(|name| count(self.body, format!("\"{name}\"").as_bytes()) <= 1);
        let is_token = |name: &str| fields.get(name).and_then(Value::as_str).is_some_and(is_token);
        self.status == StatusCode::OK
            && self.headers.is_empty()
            && once
            && !self.body.contains(&b'\\')
            && is_token("access_token")
            && (!fields.contains_key("refresh_token") || is_token("refresh_token"))
            && fields.get("token_type").is_none_or(|name| name == "Bearer" || name == "bearer")
    }

    /// No token that the body holds is shown.
    fn keeps_secrets(&self, outcome: &Outcome) {
        let shown = match outcome {
            Outcome::Renewed(set) => format!("{outcome:?} {set:?}"),
            Outcome::NotSent(cause) | Outcome::Refused(cause) | Outcome::Unknown(cause) => {
                format!("{outcome:?} {cause}")
            }
            Outcome::Busy { cause, .. } => format!("{outcome:?} {cause}"),
        };
        for name in ["access_token", "refresh_token", "data"] {
            // A shorter one may be part of a word by chance.
            let secret = self.json.as_ref().and_then(|json| json[name].as_str());
            if let Some(secret) = secret.filter(|secret| secret.len() >= 24) {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }

    /// What comes in an envelope means what it means outside.
    fn is_read_alike(&self, sealed: &Outcome, plain: &Outcome) {
        match (sealed, plain) {
            (Outcome::Renewed(sealed), Outcome::Renewed(plain)) => {
                assert_eq!(sealed.access.expose(), plain.access.expose());
                assert_eq!(sealed.lifetime, plain.lifetime);
                assert_eq!(
                    sealed.refresh.as_ref().map(|token| token.expose()),
                    plain.refresh.as_ref().map(|token| token.expose())
                );
            }
            (Outcome::Unknown(sealed), Outcome::Unknown(plain)) => {
                let one = |cause: &Cause| match cause.reason {
                    reason::ENVELOPE => reason::MALFORMED,
                    other => other,
                };
                assert_eq!(one(sealed), one(plain));
            }
            // An envelope within an envelope is not opened.
            (Outcome::Unknown(_), Outcome::Renewed(_)) => assert!(self.is_envelope()),
            (sealed, plain) => panic!("{sealed:?} in an envelope, and {plain:?} without"),
        }
    }

    /// Whether the body may be an envelope by itself, which the fuzzer has found.
    fn is_envelope(&self) -> bool {
        let has = |name: &str| self.json.as_ref().is_some_and(|json| json[name].is_string());
        has("data") && !has("access_token")
    }
}

/// RFC 6750 section 2.1.
fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    (1..=16 * 1024).contains(&text.len())
        && !body.is_empty()
        && body.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c))
}

fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn count(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes.windows(wanted.len()).filter(|window| *window == wanted).count()
}
