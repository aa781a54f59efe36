//! Heads: a request's as it is written, an answer's as it is read.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Method, StatusCode};
use hyper::ext::ReasonPhrase;

use crate::http1::{self, Decoder, Head, MAX_FIELDS, MAX_HEAD, Outbox, join, parse_length};
use crate::http1::{write_field, write_length};
use crate::upstream::{ExchangeError, Framing, Outgoing};

/// Writes the head of a request (RFC 9112 sections 3 and 5).
pub(super) fn write(head: &Outgoing<'_>, authorization: &HeaderValue, to: &mut Outbox) {
    let fields = head.fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
    let own = head.authority.len() + authorization.len() + 160;
    to.reserve(head.method.as_str().len() + head.target.len() + fields.sum::<usize>() + own);
    to.put(head.method.as_str().as_bytes());
    to.put(b" ");
    to.put(head.target.as_bytes());
    to.put(b" HTTP/1.1\r\nhost: ");
    to.put(head.authority.as_bytes());
    to.put(b"\r\nauthorization: ");
    to.put(authorization.as_bytes());
    to.put(b"\r\n");
    for (name, value) in head.fields {
        write_field(to, name.as_str().as_bytes(), value.as_bytes());
    }
    match head.framing {
        Framing::None => {}
        Framing::Length(length) => write_length(to, length),
        // Said outright, or a GET would lose its body on the way.
        Framing::Chunked => to.put(b"transfer-encoding: chunked\r\n"),
    }
    if let Some(protocol) = head.upgrade {
        write_field(to, b"upgrade", protocol.as_bytes());
        to.put(b"connection: upgrade\r\n");
    } else if head.trailers {
        to.put(b"te: trailers\r\nconnection: te\r\n");
    }
    to.put(b"\r\n");
}

/// The names in the `Trailer` fields of a request.
pub(super) fn announced(head: &Outgoing<'_>) -> Vec<HeaderName> {
    let mut names = Vec::new();
    for (_, value) in head.fields.iter().filter(|(name, _)| *name == header::TRAILER) {
        http1::announced(value, &mut names);
    }
    names
}

/// The head of a final answer, or of a 101.
#[derive(Debug)]
pub(super) struct AnswerHead {
    /// With what the partner calls the status, if that is not its usual name.
    pub(super) head: Head<Parts>,
    pub(super) decoder: Decoder,
    /// Another exchange may follow on the connection.
    pub(super) persistent: bool,
}

/// Takes the head off what has been read, `buffer` and then `more`; `None` if it is not whole yet.
/// What is left in `buffer` then is of the body.
///
/// Answers of status 1xx are passed over (RFC 9110 section 15.2), but for a 101.
pub(super) fn read(
    buffer: &mut Bytes,
    more: Bytes,
    method: &Method,
) -> Result<Option<AnswerHead>, ExchangeError> {
    // A head that comes in many parts is parsed once more only when a line has ended, and not for
    // every part of it.
    let worth_parsing = buffer.is_empty() || more.contains(&b'\n');
    join(buffer, more);
    while worth_parsing && !buffer.is_empty() {
        let Some((found, length)) = parse(buffer, method)? else { break };
        http1::skip(buffer, length);
        let status = found.head.status;
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(found));
        }
    }
    if buffer.len() > MAX_HEAD {
        return Err(ExchangeError::Malformed("the head is too long"));
    }
    Ok(None)
}

/// The head at the front of `bytes`, and its length.
fn parse(bytes: &Bytes, method: &Method) -> Result<Option<(AnswerHead, usize)>, ExchangeError> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        bytes,
        &mut fields,
    );
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(ExchangeError::Malformed("there are too many fields"));
        }
        Err(_) => return Err(ExchangeError::Malformed("the head is not HTTP/1")),
    };
    let status = StatusCode::from_u16(response.code.unwrap_or_default())
        .map_err(|_| ExchangeError::Malformed("the status is none"))?;
    let mut framing = Framed { http10: response.version != Some(1), ..Framed::default() };
    let upgraded = status == StatusCode::SWITCHING_PROTOCOLS;
    let mut head = Head::<Parts>::blank(response.headers.len());
    head.status = status;
    for field in &*response.headers {
        let malformed = || ExchangeError::Malformed("a field is malformed");
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| malformed())?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).map_err(|_| malformed())?;
        if framing.look_at(&name, &value)? || upgraded && name == header::UPGRADE {
            head.headers.append(name, value);
        }
    }
    for name in &framing.named {
        head.headers.remove(name);
    }
    let decoder = if has_body(status, method) { framing.decoder() } else { Decoder::none() };
    if framing.chunked {
        // The length, if there is one, is not that of what goes on.
        head.headers.remove(header::CONTENT_LENGTH);
    }
    let reason = response.reason.filter(|reason| status.canonical_reason() != Some(reason));
    if let Some(reason) = reason.and_then(|reason| ReasonPhrase::try_from(reason.as_bytes()).ok()) {
        head.extensions.insert(reason);
    }
    let persistent = !framing.http10 && !framing.close && !decoder.ends_with_connection();
    Ok(Some((AnswerHead { head, decoder, persistent }, length)))
}

fn has_body(status: StatusCode, method: &Method) -> bool {
    method != Method::HEAD
        && !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// What an answer's fields say of its end (RFC 9112 section 6.3) and of the connection's.
#[derive(Debug, Default)]
struct Framed {
    http10: bool,
    length: Option<u64>,
    chunked: bool,
    close: bool,
    /// Fields that are for this hop only because `Connection` says so.
    named: Vec<HeaderName>,
}

impl Framed {
    /// Whether the field goes on, or was for this hop only (RFC 9110 section 7.6.1).
    fn look_at(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, ExchangeError> {
        match name.as_str() {
            "content-length" => {
                let length = parse_length(value.as_bytes())
                    .ok_or(ExchangeError::Malformed("the length is not a number"))?;
                // What is said twice, and is the same, is passed on once.
                match self.length.replace(length) {
                    None => Ok(true),
                    Some(before) if before == length => Ok(false),
                    Some(_) => Err(ExchangeError::Malformed("there are two lengths")),
                }
            }
            "transfer-encoding" => {
                let chunked = value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
                // HTTP/1.0 has no codings, and nobody here undoes any other than this.
                if self.http10 || self.chunked || !chunked {
                    return Err(ExchangeError::Malformed("the transfer coding is not chunked"));
                }
                self.chunked = true;
                Ok(false)
            }
            "connection" => {
                for option in http1::members(value) {
                    let is = |name: &str| option.eq_ignore_ascii_case(name.as_bytes());
                    self.close |= is("close");
                    // That one is left out or kept for what the status says.
                    if !is("close") && !is("keep-alive") && !is("upgrade") {
                        self.named.extend(HeaderName::from_bytes(option));
                    }
                }
                Ok(false)
            }
            "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "upgrade" => Ok(false),
            _ => Ok(true),
        }
    }

    fn decoder(&mut self) -> Decoder {
        // With both, the length is not to be believed, and what follows is not either.
        self.close |= self.chunked && self.length.is_some();
        match self.length {
            _ if self.chunked => Decoder::chunked(),
            Some(length) => Decoder::length(length),
            None => Decoder::until_close(),
        }
    }
}

#[cfg(test)]
mod tests;
