//! What a request must be, to be carried: decided on its head alone.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Method, Response, Version};

use super::headers::Found;
use super::respond::Problem;

/// Where a request wants to go.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// The host that the request names, as it is written there; empty only in HTTP/1.0.
    pub(super) host: &'a str,
    /// The port, if the request names one.
    pub(super) port: Option<u16>,
    /// The request line holds a whole URL, as applications send it that take bearerd for a proxy;
    /// then the port that its scheme stands for.
    pub(super) absolute: Option<u16>,
}

/// Checks a request's head, but for its path and the partner's own fields.
pub(super) fn admit<'a>(
    parts: &'a Parts,
    found: &Found<'a>,
    allow_browsers: bool,
) -> Result<Target<'a>, Problem> {
    // TRACE would show the token to whoever asks. In small letters it is another method, but not to
    // every server.
    let refused = [Method::CONNECT, Method::TRACE];
    if refused.iter().any(|refused| parts.method.as_str().eq_ignore_ascii_case(refused.as_str())) {
        return Err(Problem::Method);
    }
    let target = target(parts, found)?;
    if found.from_a_page && !allow_browsers {
        return Err(Problem::Browser);
    }
    if found.unknown_coding {
        return Err(Problem::TransferCoding);
    }
    if found.unknown_expectation {
        return Err(Problem::Expectation);
    }
    if found.looped {
        return Err(Problem::Loop);
    }
    Ok(target)
}

fn target<'a>(parts: &'a Parts, found: &Found<'a>) -> Result<Target<'a>, Problem> {
    let path = parts.uri.path();
    if path == "*" && parts.method != Method::OPTIONS {
        return Err(Problem::BadRequest("The request target * is for OPTIONS only."));
    }
    // An authority alone, or HTTP/2 without :path, which would leave the request line without a
    // target.
    if path != "*" && !path.starts_with('/') {
        return Err(Problem::BadRequest("The request target is not a path."));
    }
    if found.hosts {
        return Err(Problem::BadRequest("There is more than one Host field."));
    }
    // The authority of the request line, or of :authority, wins over Host (RFC 9112 section 3.2.2,
    // RFC 9113 section 8.3.1); a Host is due all the same in HTTP/1.1.
    let named = parts.uri.authority().map(|authority| authority.as_str());
    let from_host = match found.host {
        Some(host) => {
            Some(host.to_str().map_err(|_| Problem::BadRequest("The Host field is not a host and port."))?)
        }
        None if parts.version == Version::HTTP_11 => {
            return Err(Problem::BadRequest("The Host field is missing."));
        }
        None => None,
    };
    let from_host = from_host.map(host_and_port).transpose()?;
    let (host, port) = match named {
        Some(named) => host_and_port(named)?,
        None => from_host.unwrap_or_default(),
    };
    let absolute = match parts.uri.scheme_str() {
        // In HTTP/2 every request names scheme and authority.
        _ if parts.version == Version::HTTP_2 => None,
        Some("http") => Some(80),
        Some("https") => Some(443),
        Some(_) => return Err(Problem::BadRequest("The request target's scheme is not http or https.")),
        None => None,
    };
    Ok(Target { host, port, absolute })
}

/// Parts `authority`, which is taken only if it has one reading.
fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), Problem> {
    if let Some(plain) = plain_host_and_port(authority) {
        return Ok(plain);
    }
    if authority.contains('@') {
        return Err(Problem::BadRequest("User information in the authority is not carried."));
    }
    let parsed: Authority =
        authority.parse().map_err(|_| Problem::BadRequest("The Host field is not a host and port."))?;
    let host = &authority[..parsed.host().len()];
    let port = parsed.port_u16();
    // What is no port is none to the library that read it.
    if port.is_none() && !matches!(&authority[host.len()..], "" | ":") {
        return Err(Problem::BadRequest("The port of the authority is not a port."));
    }
    Ok((host, port))
}

/// What nearly every request has: a name or an IPv4 address, and perhaps a port. The library would
/// copy it first.
fn plain_host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
    let end = authority.bytes().position(|b| !plain(&b)).unwrap_or(authority.len());
    let (host, rest) = authority.split_at(end);
    match rest.as_bytes() {
        _ if host.is_empty() => None,
        [] => Some((host, None)),
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
            Some((host, Some(rest[1..].parse().ok()?)))
        }
        _ => None,
    }
}

/// What `Max-Forwards` asks for.
#[derive(Debug)]
pub(super) enum MaxForwards {
    /// Nothing.
    Unlimited,
    /// The request goes on with this value.
    Left(HeaderValue),
    /// It ends here, with this answer: in a box, because it is rare and would make every exchange's
    /// state larger.
    Last(Box<Response<Bytes>>),
}

/// Reads `Max-Forwards` of an OPTIONS request (RFC 9110 section 7.6.2).
pub(super) fn max_forwards(method: &Method, headers: &HeaderMap) -> Result<MaxForwards, Problem> {
    if method != Method::OPTIONS {
        return Ok(MaxForwards::Unlimited);
    }
    let Some(value) = headers.get(header::MAX_FORWARDS) else { return Ok(MaxForwards::Unlimited) };
    let left: Option<u32> = value.to_str().ok().and_then(|value| value.trim().parse().ok());
    match left {
        None => Err(Problem::BadRequest("The value of Max-Forwards is not a number.")),
        Some(0) => {
            let mut response = Response::new(Bytes::new());
            let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
            response.headers_mut().insert(header::ALLOW, allow);
            Ok(MaxForwards::Last(Box::new(response)))
        }
        Some(left) => Ok(MaxForwards::Left(HeaderValue::from(left - 1))),
    }
}
