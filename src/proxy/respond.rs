//! Everything that bearerd answers by itself, in one place.
//!
//! An answer of bearerd's own is a problem document (RFC 9457) and carries `Proxy-Status` (RFC
//! 9209), so that nobody takes it for the partner's. Its texts are fixed: the chain of causes goes
//! to the log.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Response, StatusCode};

use crate::upstream::Progress;

/// Why what a client sends is no request. The answer is the last one on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It is not HTTP/1, or could be read in two ways; the text says what.
    Malformed(&'static str),
    /// The head is longer, or has more fields, than is taken.
    TooLarge,
    /// The request target is longer than is taken.
    TargetTooLong,
}

impl Unreadable {
    /// The whole answer.
    pub fn response(self) -> Response<Bytes> {
        let problem = match self {
            Self::Malformed(detail) => Problem::BadRequest(detail),
            Self::TooLarge => Problem::HeadTooLarge,
            Self::TargetTooLong => Problem::TargetTooLong,
        };
        problem.response()
    }
}

/// Why a request is not carried, or its answer not had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Problem {
    /// The client sent what cannot be carried safely; the text says what.
    BadRequest(&'static str),
    /// The head is longer, or has more fields, than is taken.
    HeadTooLarge,
    /// The request target is longer than is taken.
    TargetTooLong,
    /// A field name that other servers would take for one that bearerd sets.
    Underscore,
    /// The client broke off its body.
    BrokenBody,
    /// A header asks for another path than the one that was checked.
    Rewrite,
    /// The request may have come from a web page.
    Browser,
    /// No partner is configured for the host and path.
    NoPartner,
    /// The application tried to log in or to refresh.
    AuthCall,
    /// CONNECT or TRACE.
    Method,
    /// An expectation other than `100-continue`.
    Expectation,
    /// A transfer coding other than `chunked`.
    TransferCoding,
    /// The request has been through this bearerd already.
    Loop,
    /// Too many exchanges are under way.
    Overloaded,
    /// No token can be had, now or without an operator.
    NoToken {
        /// When trying again is worth it; `None` if only an operator can help.
        retry_after: Option<Duration>,
    },
    /// The partner cannot be reached.
    Unreachable {
        /// The word of RFC 9209 for it.
        error: &'static str,
    },
    /// The partner was reached and did not process the request, however often it was sent.
    Unprocessed,
    /// The partner was reached and gave no usable answer; the request may have been processed.
    NoAnswer,
    /// The deadline passed while waiting for the partner.
    Deadline,
    /// It passed while waiting for the application's body: nothing was sent.
    SlowBody,
    /// It passed while waiting for a connection to the partner: the request was not processed.
    NotSent,
    /// A defect of bearerd's; how far the request had come is not known.
    Panicked,
}

impl Problem {
    /// A word for the access log.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::HeadTooLarge => "head_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::Underscore => "underscore",
            Self::BrokenBody => "broken_body",
            Self::Rewrite => "rewrite",
            Self::Browser => "browser",
            Self::NoPartner => "no_partner",
            Self::AuthCall => "auth_call",
            Self::Method => "method",
            Self::Expectation => "expectation",
            Self::TransferCoding => "transfer_coding",
            Self::Loop => "loop",
            Self::Overloaded => "overloaded",
            Self::NoToken { retry_after: Some(_) } => "no_token",
            Self::NoToken { retry_after: None } => "operator_needed",
            Self::Unreachable { .. } => "unreachable",
            Self::Unprocessed => "unprocessed",
            Self::NoAnswer => "no_answer",
            Self::Deadline => "deadline",
            Self::SlowBody => "slow_body",
            Self::NotSent => "not_sent",
            Self::Panicked => "panicked",
        }
    }

    /// What it is of a request that had come so far.
    pub(super) fn after(self, progress: Progress) -> Self {
        match (self, progress) {
            (Self::Deadline, Progress::Coming) => Self::SlowBody,
            (Self::Deadline, Progress::Waiting) => Self::NotSent,
            _ => self,
        }
    }

    /// The whole answer.
    pub(super) fn response(self) -> Response<Bytes> {
        let (status, title, detail, error) = self.texts();
        let body = serde_json::json!({
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "detail": detail,
        });
        let mut response = Response::new(Bytes::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(value) = HeaderValue::try_from(format!("bearerd; error={error}")) {
            headers.insert("proxy-status", value);
        }
        if let Some(wait) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        if self == Self::Method {
            let allow = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.closes() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// How long a client should wait, if waiting can help.
    fn retry_after(self) -> Option<Duration> {
        match self {
            Self::NoToken { retry_after } => retry_after,
            Self::Overloaded | Self::NotSent => Some(Duration::from_secs(1)),
            _ => None,
        }
    }

    /// Whether the client's connection is not worth keeping: what follows on it cannot be trusted.
    /// After CONNECT it may be for a tunnel, after `Content_Length` a body.
    fn closes(self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::HeadTooLarge
                | Self::TargetTooLong
                | Self::Underscore
                | Self::BrokenBody
                | Self::SlowBody
                | Self::TransferCoding
                | Self::Method
        )
    }

    /// Status, title, detail and the error word of RFC 9209.
    fn texts(self) -> (StatusCode, &'static str, &'static str, &'static str) {
        const DENIED: &str = "http_request_denied";
        const ERROR: &str = "http_request_error";
        match self {
            Self::BadRequest(detail) => (StatusCode::BAD_REQUEST, "Bad request", detail, ERROR),
            Self::HeadTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "Request header fields too large",
                "The request's head is longer, or has more fields, than is taken.",
                ERROR,
            ),
            Self::TargetTooLong => (
                StatusCode::URI_TOO_LONG,
                "Request target too long",
                "The request target is longer than is taken.",
                ERROR,
            ),
            Self::Underscore => (
                StatusCode::BAD_REQUEST,
                "Bad request",
                "A header field name is a spelling, with underscores, of one that bearerd sets itself.",
                ERROR,
            ),
            Self::BrokenBody => (
                StatusCode::BAD_REQUEST,
                "Bad request",
                "The request body broke off or was malformed.",
                ERROR,
            ),
            Self::Rewrite => (
                StatusCode::FORBIDDEN,
                "Refused",
                "X-Original-URL and X-Rewrite-URL are refused: they ask for another path than the one checked.",
                DENIED,
            ),
            Self::Browser => (
                StatusCode::FORBIDDEN,
                "Refused",
                "Requests that a web page could have sent are refused; see server.allow_browsers.",
                DENIED,
            ),
            Self::NoPartner => {
                (StatusCode::FORBIDDEN, "Refused", "No partner is configured for this host and path.", DENIED)
            }
            Self::AuthCall => (
                StatusCode::FORBIDDEN,
                "Refused",
                "bearerd logs in and refreshes by itself; an application must not, or the credential would be lost.",
                DENIED,
            ),
            Self::Method => {
                (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", "This method is not carried.", DENIED)
            }
            Self::Expectation => (
                StatusCode::EXPECTATION_FAILED,
                "Expectation failed",
                "The only expectation supported is 100-continue.",
                ERROR,
            ),
            Self::TransferCoding => (
                StatusCode::NOT_IMPLEMENTED,
                "Not implemented",
                "The only transfer coding supported is chunked.",
                ERROR,
            ),
            Self::Loop => (
                StatusCode::LOOP_DETECTED,
                "Loop detected",
                "This request has been through this bearerd already.",
                "proxy_loop_detected",
            ),
            Self::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Overloaded",
                "Too many requests are under way; this one was not processed.",
                "connection_limit_reached",
            ),
            Self::NoToken { retry_after: Some(_) } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "No access token",
                "No access token could be had in time; bearerd keeps trying.",
                "proxy_internal_response",
            ),
            Self::NoToken { retry_after: None } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "No access token",
                "The partner refuses the credential. An operator is needed: load a new refresh token.",
                "proxy_configuration_error",
            ),
            Self::Unreachable { error } => (
                StatusCode::BAD_GATEWAY,
                "Partner unreachable",
                "No connection to the partner could be made; the request was not processed.",
                error,
            ),
            Self::Unprocessed => (
                StatusCode::BAD_GATEWAY,
                "Not processed",
                "The partner turned the request away, or the connection was closed before it had left; \
                 it was not processed.",
                "connection_terminated",
            ),
            Self::NoAnswer => (
                StatusCode::BAD_GATEWAY,
                "No answer",
                "The partner gave no usable answer. The request may have been processed; it is not sent again.",
                "http_response_incomplete",
            ),
            Self::Deadline => (
                StatusCode::GATEWAY_TIMEOUT,
                "Deadline passed",
                "The partner did not answer in time. The request may have been processed; it is not sent again.",
                "http_response_timeout",
            ),
            Self::SlowBody => (
                StatusCode::REQUEST_TIMEOUT,
                "Request timeout",
                "The request's body did not come in time; none of it was sent.",
                ERROR,
            ),
            Self::NotSent => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Not sent in time",
                "No connection to the partner could be had in time; the request was not processed.",
                "connection_timeout",
            ),
            Self::Panicked => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Internal error",
                "A defect of bearerd's. The request may have been processed; it is not sent again.",
                "proxy_internal_error",
            ),
        }
    }
}
