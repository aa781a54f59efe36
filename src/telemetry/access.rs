//! One line for an exchange.

use std::time::Duration;

/// The target of these lines.
pub const ACCESS_TARGET: &str = "bearerd::access";

/// The longest path that is written, in bytes.
const MAX_PATH: usize = 256;

/// The longest method that is written, in bytes. The registered ones are shorter.
const MAX_METHOD: usize = 32;

/// What is written of an exchange. No header and no query: those are where secrets are.
#[derive(Debug, Clone, Copy)]
pub struct AccessLine<'a> {
    /// The method as the client sent it.
    pub method: &'a str,
    /// The path as the client sent it. A query is cut off if there is one.
    pub path: &'a str,
    /// What the client got; 0 if it was nothing.
    pub status: u16,
    /// The partner's configured name, or nothing if none matched.
    pub partner: &'a str,
    /// How much of the request's body was read, in bytes.
    pub bytes_in: u64,
    /// How much of the answer's body was sent, in bytes.
    pub bytes_out: u64,
    /// From the request's header to the answer's last byte.
    pub duration: Duration,
    /// From the partner's side, the same; `None` if the partner was not asked.
    pub upstream_duration: Option<Duration>,
    /// How many times the request was sent again.
    pub resend_count: u32,
    /// The trace that the exchange belongs to.
    pub trace_id: Option<&'a str>,
    /// Why bearerd itself answered, if it did: one word from a closed list.
    pub problem: Option<&'static str>,
}

/// Writes `line`. Whether an exchange gets one is for [`Access::wants`](super::Access::wants) to
/// say, asked before `line` is put together.
pub fn access_line(line: &AccessLine<'_>) {
    let path = line.path.split('?').next().unwrap_or_default();
    tracing::info!(
        target: ACCESS_TARGET,
        method = head(line.method, MAX_METHOD),
        path = head(path, MAX_PATH),
        status = line.status,
        partner = line.partner,
        bytes_in = line.bytes_in,
        bytes_out = line.bytes_out,
        duration_ms = millis(line.duration),
        upstream_duration_ms = line.upstream_duration.map(millis),
        resend_count = line.resend_count,
        trace_id = line.trace_id,
        problem = line.problem,
        "exchange",
    );
}

/// As much of `text` as fits.
fn head(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Milliseconds, to the microsecond.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
