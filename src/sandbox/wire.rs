//! What every call has in common: the partner code, the envelope, and how a call is refused.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{PARTNER_CODE, Shared};
use crate::partner::envelope::{self, Iv};

/// Lets a call through that carries the sandbox's partner code, once.
pub(super) async fn partner_code(
    State(sandbox): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let mut codes = request.headers().get_all("partner-code").iter();
    let refused = match (codes.next(), codes.next()) {
        (Some(code), None) if code == PARTNER_CODE => return next.run(request).await,
        (Some(_), None) => Refused::new(StatusCode::FORBIDDEN, "unknown_partner"),
        (None, _) => Refused::bad_request("the Partner-Code header is missing"),
        (Some(_), Some(_)) => Refused::bad_request("the Partner-Code header came more than once"),
    };
    sandbox.refuse(refused)
}

/// The bearer token of a request that carries exactly one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// Refuses a call that carries a token although it is one that gets tokens.
pub(super) fn without_token(headers: &HeaderMap) -> Result<(), Refused> {
    if headers.contains_key(AUTHORIZATION) {
        return Err(Refused::bad_request("this call must not carry Authorization"));
    }
    Ok(())
}

impl Shared {
    /// Counts a refusal, and answers with it. Those of tokens and logins are counted where they are
    /// decided.
    pub(super) fn refuse(&self, refused: Refused) -> Response {
        match refused {
            Refused { status: StatusCode::UNAUTHORIZED, .. } => self.ledger().stats.unauthorized += 1,
            Refused { error: "invalid_request" | "unknown_partner", .. } => {
                self.ledger().stats.malformed += 1
            }
            _ => {}
        }
        refused.into_response()
    }

    /// What a sealed body says.
    pub(super) fn open<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Refused> {
        let sealed = sealed(body).ok_or_else(|| Refused::bad_request("the body is not an envelope"))?;
        serde_json::from_slice(&self.unseal(&sealed)?)
            .map_err(|_| Refused::bad_request("a field is missing or is not a string"))
    }

    /// What a body says that need not be sealed, or be there at all: the sandbox's leniency, so
    /// that a line of curl is enough to try things.
    pub(super) fn open_leniently(&self, body: &[u8]) -> Result<Value, Refused> {
        let not_json = |_| Refused::bad_request("the body is not JSON");
        match sealed(body) {
            Some(sealed) => serde_json::from_slice(&self.unseal(&sealed)?).map_err(not_json),
            None if body.is_empty() => Ok(Value::Null),
            None => serde_json::from_slice(body).map_err(not_json),
        }
    }

    fn unseal(&self, data: &str) -> Result<Zeroizing<Vec<u8>>, Refused> {
        envelope::open(&self.key, Iv::Prefix, data)
            .map_err(|_| Refused::bad_request("the envelope does not open"))
    }
}

/// The `data` of a body that is an envelope: an object with that one string.
fn sealed(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Envelope {
        data: String,
    }
    serde_json::from_slice::<Envelope>(body).ok().map(|envelope| envelope.data)
}

/// A call that is not served, and what the caller is told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    status: StatusCode,
    error: &'static str,
    description: &'static str,
}

impl Refused {
    /// A refusal that one word says all about.
    pub(super) const fn new(status: StatusCode, error: &'static str) -> Self {
        Self { status, error, description: "" }
    }

    /// 400: the call is not as the partner's API wants it.
    pub(super) const fn bad_request(description: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: "invalid_request", description }
    }

    /// 400: the refresh token or the login is not taken.
    pub(super) const fn invalid_grant(description: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: "invalid_grant", description }
    }

    /// 401: there is no access token, or it is none that is honoured.
    pub(super) const UNAUTHORIZED: Self = Self::new(StatusCode::UNAUTHORIZED, "invalid_token");

    /// 503, to be tried again in a second.
    pub(super) const BUSY: Self = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy");
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.error });
        if !self.description.is_empty() {
            body["error_description"] = self.description.into();
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

/// An answer of which nothing arrives: the connection closes in its place.
///
/// The head waits in the server's buffer for the first piece of the body. That piece is an error,
/// which ends the connection before the buffer is flushed.
pub(super) fn cut() -> Response {
    Body::new(Cut).into_response()
}

struct Cut;

impl http_body::Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
    }
}
