//! What the operator's side refuses, as problem documents (RFC 9457) with fixed texts.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use serde_json::{Value, json};

use super::view::PartnerView;

/// Why a call was not carried out.
#[derive(Debug)]
pub(super) enum Problem {
    /// The request may have come from a web page.
    Browser,
    /// There is no such call.
    NotFound,
    /// There is such a call, with another method.
    Method,
    /// No partner of this name is configured.
    UnknownPartner,
    /// Over TCP and without a token nothing can be changed.
    Disabled,
    /// The token is missing or wrong.
    Unauthorized,
    /// A body that does not say it is JSON, as only a form would send it.
    ContentType,
    /// The body is longer than it can rightly be.
    TooLarge,
    /// The body broke off.
    BrokenBody,
    /// The pair is not one; the text says what is wrong and quotes nothing.
    NotAPair(&'static str),
    /// The pair could not be made durable.
    NotSaved,
    /// The pair was loaded before, and a good one has come after it.
    Followed,
    /// The call to the partner brought no token.
    NoToken(Box<PartnerView>),
    /// No call to the partner was made.
    NoCall(Box<PartnerView>),
    /// The refresher, or who reloads, has ended.
    Ended,
    /// The configuration is wrong; the messages are free of secrets.
    NotReloaded(Vec<String>),
    /// It takes too long.
    Deadline,
}

impl Problem {
    fn texts(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Browser => (
                StatusCode::FORBIDDEN,
                "Refused",
                "Requests that a web page could have sent, with Origin or Sec-Fetch-Site, are refused.",
            ),
            Self::NotFound => (StatusCode::NOT_FOUND, "Not found", "There is no such call."),
            Self::Method => {
                (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", "This call takes another method.")
            }
            Self::UnknownPartner => {
                (StatusCode::NOT_FOUND, "Not found", "No partner of this name is configured.")
            }
            Self::Disabled => (
                StatusCode::NOT_FOUND,
                "Not enabled",
                "Calls that change something exist only with a token or on a unix socket: \
                 set admin.token_file, or admin.listen = \"unix:/path\".",
            ),
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                "This call takes the token of [admin], as `Authorization: Bearer <token>`.",
            ),
            Self::ContentType => (
                StatusCode::FORBIDDEN,
                "Refused",
                "A body is taken only with `Content-Type: application/json`.",
            ),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Too large", "The body is longer than 64 KiB."),
            Self::BrokenBody => (StatusCode::BAD_REQUEST, "Bad request", "The body broke off."),
            Self::NotAPair(detail) => (StatusCode::BAD_REQUEST, "Bad request", detail),
            Self::NotSaved => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Not saved",
                "The token could not be saved; the log says why. Nothing was changed, unless the store took it and \
                 its answer was lost; it does no harm to load it again.",
            ),
            Self::Followed => (
                StatusCode::CONFLICT,
                "Loaded before",
                "This token was loaded before, and a good one has come after it; nothing was changed.",
            ),
            Self::NoToken(_) => (
                StatusCode::BAD_GATEWAY,
                "No new token",
                "The call to the partner brought no token; last_refresh says how it ended.",
            ),
            Self::NoCall(_) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "No call was made",
                "There was nothing to call the partner with, or the store could not take note of the call \
                 beforehand; state and the log say which.",
            ),
            Self::Ended => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Shutting down",
                "bearerd is about to end; nothing was done.",
            ),
            Self::NotReloaded(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "Not reloaded",
                "The configuration was refused whole and the old one stays.",
            ),
            Self::Deadline => (
                StatusCode::GATEWAY_TIMEOUT,
                "Not done in time",
                "The call has not ended within 60 seconds; what it began goes on.",
            ),
        }
    }

    /// What the document says beside its text.
    fn extension(&self) -> Option<(&'static str, Value)> {
        match self {
            Self::NoToken(view) | Self::NoCall(view) => Some(("partner", json!(view))),
            Self::NotReloaded(messages) => Some(("errors", json!(messages))),
            _ => None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, title, detail) = self.texts();
        let mut document = json!({
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
        });
        if let Some((name, value)) = self.extension() {
            document[name] = value;
        }
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static("application/problem+json")),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let mut response = (status, headers, document.to_string()).into_response();
        if matches!(self, Self::Unauthorized) {
            let challenge = HeaderValue::from_static("Bearer realm=\"bearerd\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
