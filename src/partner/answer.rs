//! What an answer means: the table of outcomes in `design.md`, as a pure function.
//!
//! Where it is in doubt whether the partner processed the call, the outcome is
//! [`Outcome::Unknown`]: to present a spent refresh token again may revoke the whole family (RFC
//! 9700 section 4.14.2), while caution costs a login or a wait.

mod token_set;

use std::time::{Duration, SystemTime};

use http::header::{CONTENT_ENCODING, HeaderName, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::envelope::{EnvelopeKey, Iv};
use super::{Cause, Outcome, reason};
use crate::clock::UnixMillis;

/// The longest that `Retry-After` can make anybody wait.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// What it takes to read an answer.
pub(super) struct Reader<'a> {
    /// Opens answers that are envelopes.
    pub(super) key: &'a EnvelopeKey,
    /// Where their initialisation vector is.
    pub(super) iv: Iv,
    /// Whether a 500 says that nothing was done.
    pub(super) repeat_on_5xx: bool,
    /// The wall time, for dates in answers.
    pub(super) wall: UnixMillis,
}

impl Reader<'_> {
    /// The outcome of a call that was answered with `status`, `headers` and, in whole, `body`.
    pub(super) fn classify(&self, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Outcome {
        if let Some(outcome) = self.classify_head(status, headers) {
            return outcome;
        }
        match status.as_u16() {
            200 => match token_set::read(self, body) {
                Ok(set) => Outcome::Renewed(set),
                Err(reason) => Outcome::Unknown(cause(reason, status)),
            },
            300..=399 if is_json_object(body) => Outcome::Unknown(cause(reason::REDIRECT, status)),
            300..=399 => self.busy(reason::REDIRECT, status, headers),
            // Only these are left by `classify_head`.
            _ if is_json_object(body) => Outcome::Refused(cause(reason::REFUSED, status)),
            _ => self.busy(reason::NOT_JSON, status, headers),
        }
    }

    /// The outcome, if the body can say nothing to it; then it need not be read either.
    pub(super) fn classify_head(&self, status: StatusCode, headers: &HeaderMap) -> Option<Outcome> {
        match status.as_u16() {
            408 | 425 | 429 | 503 => Some(self.busy(reason::BUSY, status, headers)),
            500 if self.repeat_on_5xx => Some(self.busy(reason::SERVER_ERROR, status, headers)),
            500..=599 => Some(Outcome::Unknown(cause(reason::SERVER_ERROR, status))),
            200 | 300..=499 if is_coded(headers) => {
                Some(Outcome::Unknown(cause(reason::CONTENT_CODING, status)))
            }
            200 | 300..=499 => None,
            _ => Some(Outcome::Unknown(cause(reason::STATUS, status))),
        }
    }

    fn busy(&self, reason: &'static str, status: StatusCode, headers: &HeaderMap) -> Outcome {
        Outcome::Busy { retry_after: retry_after(headers, self.wall), cause: cause(reason, status) }
    }
}

/// `reason`, with the status of the answer that gave it.
pub(super) fn cause(reason: &'static str, status: StatusCode) -> Cause {
    Cause { reason, status: Some(status.as_u16()) }
}

/// Reads a JSON object. Derived types would take an array of their fields as well.
fn read_object<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    if !json.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// Whether an answer is "in JSON": whatever its content type, the body is one JSON object. A byte
/// order mark is forgiven, because what follows it is the partner's word all the same.
fn is_json_object(body: &[u8]) -> bool {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    read_object::<IgnoredAny>(body).is_some()
}

/// Whether the body is coded in any way. None was asked for, so none is undone (which also means
/// that nothing can swell).
fn is_coded(headers: &HeaderMap) -> bool {
    let has_other_than = |name: HeaderName, plain: &str| {
        headers.get_all(name).iter().any(|value| match value.to_str() {
            Ok(codings) => codings.split(',').map(str::trim).any(|c| {
                let plain = c.is_empty() || c.eq_ignore_ascii_case(plain);
                !plain
            }),
            Err(_) => true,
        })
    };
    has_other_than(CONTENT_ENCODING, "identity") || has_other_than(TRANSFER_ENCODING, "chunked")
}

/// `Retry-After` in either form (RFC 9110 section 10.2.3), at most [`MAX_RETRY_AFTER`]; what is
/// neither form is as if it were not there.
fn retry_after(headers: &HeaderMap, wall: UnixMillis) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match whole_seconds(value) {
        Some(seconds) => Duration::from_secs(seconds),
        None => {
            let now = SystemTime::UNIX_EPOCH + Duration::from_millis(wall.0);
            httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

/// Digits and nothing else, as a number; more than fit are as many as fit.
fn whole_seconds(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
