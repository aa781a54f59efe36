//! The head of a request, as it is read (RFC 9112 sections 2 to 6).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Uri, Version};

use crate::http1::{Decoder, Head, MAX_FIELDS, members, parse_length, skip};
use crate::proxy::Unreadable;

/// The longest request target, in bytes: what the type that holds it can.
const MAX_TARGET: usize = u16::MAX as usize - 1;

/// What has been read of a request.
#[derive(Debug)]
pub(super) struct RequestHead {
    pub(super) head: Head<Parts>,
    /// Where its body ends.
    pub(super) decoder: Decoder,
    /// The client waits to be told to go on with its body.
    pub(super) expects: bool,
    pub(super) facts: Facts,
}

/// What the way in which it is answered depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The client speaks HTTP/1.0.
    pub(super) http10: bool,
    /// The answer has no body, whatever it says.
    pub(super) head: bool,
    /// The client takes trailers.
    pub(super) trailers: bool,
    /// Another request may follow.
    pub(super) persistent: bool,
}

/// Takes a head off what has been read; `None` if it is not whole yet. What is left in `buffer` then
/// is of the body, or another's.
pub(super) fn read(buffer: &mut Bytes) -> Result<Option<RequestHead>, Unreadable> {
    // Here, or a client could have them skipped again with each one that it sends.
    while buffer.starts_with(b"\r\n") || buffer.starts_with(b"\n") {
        skip(buffer, if buffer.starts_with(b"\n") { 1 } else { 2 });
    }
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(buffer, &mut fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Unreadable::TooLarge),
        Err(_) => return Err(Unreadable::Malformed("The head of the request is not HTTP/1.")),
    };
    let target = parsed.path.unwrap_or_default().as_bytes();
    if target.len() > MAX_TARGET {
        return Err(Unreadable::TargetTooLong);
    }
    let mut head = Head::<Parts>::blank(parsed.headers.len());
    head.method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| Unreadable::Malformed("The method is malformed."))?;
    head.uri = Uri::from_maybe_shared(buffer.slice_ref(target))
        .map_err(|_| Unreadable::Malformed("The request target is malformed."))?;
    let mut framed = Framed { http10: parsed.version != Some(1), ..Framed::default() };
    head.version = if framed.http10 { Version::HTTP_10 } else { Version::HTTP_11 };
    for field in &*parsed.headers {
        const MALFORMED: Unreadable = Unreadable::Malformed("A header field is malformed.");
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| MALFORMED)?;
        let value = HeaderValue::from_maybe_shared(buffer.slice_ref(field.value)).map_err(|_| MALFORMED)?;
        if framed.look_at(&name, &value)? {
            head.headers.append(name, value);
        }
    }
    let decoder = framed.decoder()?;
    let facts = Facts {
        http10: framed.http10,
        head: head.method == Method::HEAD,
        trailers: framed.trailers,
        persistent: framed.is_persistent(),
    };
    let expects = framed.expects && !framed.http10 && !decoder.has_ended();
    skip(buffer, length);
    Ok(Some(RequestHead { head, decoder, expects, facts }))
}

/// What a request's fields say of its end and of the connection's.
#[derive(Debug, Default)]
struct Framed {
    http10: bool,
    length: Option<u64>,
    /// There are transfer codings; whether the last one is `chunked`.
    chunked: Option<bool>,
    close: bool,
    keep_alive: bool,
    expects: bool,
    trailers: bool,
}

impl Framed {
    /// Whether the field is passed on; not one that only repeats another.
    fn look_at(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, Unreadable> {
        match *name {
            header::CONTENT_LENGTH => {
                // Beyond 63 bits the next server may read another number.
                let length = parse_length(value.as_bytes())
                    .filter(|length| i64::try_from(*length).is_ok())
                    .ok_or(Unreadable::Malformed("The value of Content-Length is not a length."))?;
                match self.length.replace(length) {
                    None => return Ok(true),
                    Some(before) if before == length => return Ok(false),
                    Some(_) => return Err(Unreadable::Malformed("There are two lengths.")),
                }
            }
            header::TRANSFER_ENCODING => {
                let last = members(value).last().unwrap_or_default();
                self.chunked = Some(last.eq_ignore_ascii_case(b"chunked"));
            }
            header::CONNECTION => {
                for option in members(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            header::EXPECT => self.expects |= value.as_bytes().eq_ignore_ascii_case(b"100-continue"),
            header::TE => self.trailers |= members(value).any(|te| te.eq_ignore_ascii_case(b"trailers")),
            _ => {}
        }
        Ok(true)
    }

    /// Whether the codings before the last one are known is for the proxy to say, and whether a
    /// request may have any.
    fn decoder(&self) -> Result<Decoder, Unreadable> {
        match self.chunked {
            None => Ok(self.length.map_or_else(Decoder::none, Decoder::length)),
            // HTTP/1.0 has no codings: another would take what follows for a body of its own length.
            Some(_) if self.http10 => {
                Err(Unreadable::Malformed("There are no transfer codings in HTTP/1.0."))
            }
            Some(true) => Ok(Decoder::chunked()),
            Some(false) => Err(Unreadable::Malformed("The last transfer coding is not chunked.")),
        }
    }

    fn is_persistent(&self) -> bool {
        // With both, the length is not to be believed, and what follows is not either.
        let both = self.chunked.is_some() && self.length.is_some();
        !both && !self.close && (!self.http10 || self.keep_alive)
    }
}

#[cfg(test)]
mod tests;
