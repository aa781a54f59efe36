//! What a request must be, to be carried: decided on its head alone.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Response, Version};

use super::headers::tokens;
use super::respond::Problem;

/// Where a request wants to go.
#[derive(Debug)]
pub(super) struct Target {
    /// The authority that the request names; absent only in HTTP/1.0.
    pub(super) authority: Option<Authority>,
    /// The request line holds a whole URL, as applications send it that take bearerd for a proxy;
    /// then the port that its scheme stands for.
    pub(super) absolute: Option<u16>,
}

/// Checks a request's head, but for its path and the rules of single header fields.
pub(super) fn admit(parts: &Parts, allow_browsers: bool, our_via: &str) -> Result<Target, Problem> {
    let headers = &parts.headers;
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        // TRACE would show the token to whoever asks.
        return Err(Problem::Method);
    }
    let target = target(parts)?;
    if !allow_browsers && is_from_a_page(headers) {
        return Err(Problem::Browser);
    }
    for value in headers.get_all(header::TRANSFER_ENCODING) {
        if !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(Problem::TransferCoding);
        }
    }
    if headers.get_all(header::TRANSFER_ENCODING).iter().count() > 1 {
        return Err(Problem::TransferCoding);
    }
    for value in headers.get_all(header::EXPECT) {
        if !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"100-continue") {
            return Err(Problem::Expectation);
        }
    }
    let mut hops = headers.get_all(header::VIA).iter().flat_map(tokens);
    if hops.any(|hop| hop.split_ascii_whitespace().nth(1) == Some(our_via)) {
        return Err(Problem::Loop);
    }
    Ok(target)
}

fn target(parts: &Parts) -> Result<Target, Problem> {
    if parts.uri.path() == "*" && parts.method != Method::OPTIONS {
        return Err(Problem::BadRequest("The request target * is for OPTIONS only."));
    }
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, more) = (hosts.next(), hosts.next());
    if more.is_some() {
        return Err(Problem::BadRequest("There is more than one Host field."));
    }
    // The authority of the request line, or of :authority, wins over Host (RFC 9112 section 3.2.2,
    // RFC 9113 section 8.3.1); a Host is due all the same in HTTP/1.1.
    let named = parts.uri.authority().cloned();
    let from_host = match host {
        Some(host) => Some(
            Authority::try_from(host.as_bytes())
                .map_err(|_| Problem::BadRequest("The Host field is not a host and port."))?,
        ),
        None if parts.version == Version::HTTP_11 => {
            return Err(Problem::BadRequest("The Host field is missing."));
        }
        None => None,
    };
    if [&named, &from_host].into_iter().flatten().any(|authority| authority.as_str().contains('@')) {
        return Err(Problem::BadRequest("User information in the authority is not carried."));
    }
    // What is no port is none to the library that read it.
    let is_odd = |a: &Authority| {
        a.port_u16().is_none() && !matches!(a.as_str().strip_prefix(a.host()), Some("" | ":"))
    };
    if [&named, &from_host].into_iter().flatten().any(is_odd) {
        return Err(Problem::BadRequest("The port of the authority is not a port."));
    }
    let absolute = match parts.uri.scheme_str() {
        // In HTTP/2 every request names scheme and authority.
        _ if parts.version == Version::HTTP_2 => None,
        Some("http") => Some(80),
        Some("https") => Some(443),
        Some(_) => return Err(Problem::BadRequest("The request target's scheme is not http or https.")),
        None if named.is_some() => return Err(Problem::BadRequest("The request target is not a path.")),
        None => None,
    };
    Ok(Target { authority: named.or(from_host), absolute })
}

/// `Max-Forwards` of an OPTIONS request (RFC 9110 section 7.6.2): one less, or answered here at
/// zero.
pub(super) fn max_forwards(
    method: &Method,
    fields: &mut HeaderMap,
) -> Result<Option<Response<Bytes>>, Problem> {
    if method != Method::OPTIONS {
        return Ok(None);
    }
    let Some(value) = fields.get(header::MAX_FORWARDS) else { return Ok(None) };
    let left: Option<u32> = value.to_str().ok().and_then(|value| value.trim().parse().ok());
    match left {
        None => Err(Problem::BadRequest("The value of Max-Forwards is not a number.")),
        Some(0) => {
            let mut response = Response::new(Bytes::new());
            let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            response.headers_mut().insert(header::ALLOW, allow);
            Ok(Some(response))
        }
        Some(left) => {
            fields.insert(header::MAX_FORWARDS, HeaderValue::from(left - 1));
            Ok(None)
        }
    }
}

/// Whether a browser marked the request as one that a page, and not its user, caused.
fn is_from_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN)
        || headers.get_all("sec-fetch-site").iter().any(|site| site.as_bytes() != b"none")
}
