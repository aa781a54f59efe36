//! Who may ask what.
//!
//! A page in a browser can send requests to any address that the browser reaches, and by DNS
//! rebinding even read the answers. `Host` cannot tell them apart, because probes come with the
//! pod's address in it; but browsers say in `Origin` or `Sec-Fetch-Site` where a request comes
//! from, and no probe, scraper or operator's tool sends these.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, ORIGIN};
use http::{HeaderMap, HeaderValue};
use http_body::Body as _;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;
use tracing::warn;

use super::{Admin, Problem};
use crate::token::Digest;

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Over TCP: from anybody who can reach the port.
    Tcp,
    /// On a unix socket of mode 0600: from the process's own user.
    Unix,
}

/// Refuses what a web page could have sent.
pub(super) async fn no_browsers(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let elsewhere = |site: &HeaderValue| site != "none";
    if headers.contains_key(ORIGIN) || headers.get_all(SEC_FETCH_SITE).iter().any(elsewhere) {
        return Problem::Browser.into_response();
    }
    next.run(request).await
}

/// Gives up on a call after [`TIMEOUT`].
pub(super) async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(TIMEOUT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::Deadline.into_response(),
    }
}

/// Lets only operators change something.
pub(super) async fn operators_only(
    State((admin, door)): State<(Arc<Admin>, Door)>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(problem) = check(&admin, door, &request) {
        warn!(method = %request.method(), ?problem, "an operator's call was refused");
        return problem.into_response();
    }
    next.run(request).await
}

fn check(admin: &Admin, door: Door, request: &Request) -> Result<(), Problem> {
    match (door, &*admin.token.load()) {
        (Door::Unix, _) => {}
        (Door::Tcp, None) => return Err(Problem::Disabled),
        (Door::Tcp, Some(token)) if carries(request.headers(), token) => {}
        (Door::Tcp, Some(_)) => return Err(Problem::Unauthorized),
    }
    // A form of a page cannot send this type, and a script only after the browser has asked.
    if !request.body().is_end_stream() && !is_json(request.headers()) {
        return Err(Problem::ContentType);
    }
    Ok(())
}

/// Whether there is one `Authorization` header, and `token` in it.
fn carries(headers: &HeaderMap, token: &SecretString) -> bool {
    let Some((scheme, presented)) = only(headers, &AUTHORIZATION).and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    // Of digests, so that not even the token's length can be told from the time it takes.
    let presented = Digest::of(&[presented.trim_start().as_bytes()]);
    let expected = Digest::of(&[token.expose_secret().as_bytes()]);
    scheme.eq_ignore_ascii_case("bearer") & bool::from(presented.0.ct_eq(&expected.0))
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = only(headers, &CONTENT_TYPE).and_then(|value| value.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// The value of a header that is there exactly once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// For a whole call: as long as a refresh takes unless the partner is very slow.
pub(super) const TIMEOUT: Duration = Duration::from_secs(60);

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
