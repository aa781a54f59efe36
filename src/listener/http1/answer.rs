//! An answer, as it is written (RFC 9112 sections 4 to 7).

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{StatusCode, response};
use http_body::{Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use tokio::time::Instant;

use super::date::Date;
use super::head::Facts;
use crate::http1::{Outbox, announced, members, write_chunk, write_field, write_last_chunk, write_length};

/// An answer on its way out.
#[derive(Debug)]
pub(super) struct Answering {
    framing: Framing,
    /// The trailers that the head announces to a client that takes them.
    announced: Vec<HeaderName>,
    /// Another request may follow.
    persistent: bool,
    state: State,
}

/// How the client is told where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// By its length, of which so much is still to come, in bytes.
    Length(u64),
    Chunked,
    /// By the connection's end.
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is more to come of the body.
    Open,
    /// All of it is in the outbox.
    Ended,
    /// It has broken off: what is in the outbox is the last of it.
    Broken,
}

impl Answering {
    /// Writes the head of an answer whose body is as long as `hint` says. `last` says that no other
    /// request is taken.
    pub(super) fn begin(
        head: &response::Parts,
        hint: &SizeHint,
        facts: Facts,
        last: bool,
        (date, now): (&Date, Instant),
        to: &mut Outbox,
    ) -> Self {
        let bodiless = head.status.is_informational()
            || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let framing = match hint.exact() {
            _ if bodiless || facts.head => Framing::Length(0),
            Some(length) => Framing::Length(length),
            None if facts.http10 => Framing::UntilClose,
            None => Framing::Chunked,
        };
        let mut this = Self {
            framing,
            announced: Vec::new(),
            persistent: facts.persistent && !last && framing != Framing::UntilClose,
            state: if framing == Framing::Length(0) { State::Ended } else { State::Open },
        };
        to.reserve(HEAD);
        status_line(head, facts, to);
        let told = this.write_fields(head, facts, bodiless, to);
        if !told.length && !bodiless {
            match hint.exact() {
                // What a GET would have got is not known here.
                Some(0) | None if facts.head => {}
                Some(length) => write_length(to, length),
                None if framing == Framing::Chunked => to.put(b"transfer-encoding: chunked\r\n"),
                None => {}
            }
        }
        // A 101 has said what becomes of the connection.
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            match this.persistent {
                true if facts.http10 => to.put(b"connection: keep-alive\r\n"),
                true => {}
                false => to.put(b"connection: close\r\n"),
            }
        }
        if !told.date {
            date.write(now, to);
        }
        to.put(b"\r\n");
        this
    }

    /// Writes the fields that are the answer's own, in one pass.
    fn write_fields(
        &mut self,
        head: &response::Parts,
        facts: Facts,
        bodiless: bool,
        to: &mut Outbox,
    ) -> Told {
        let mut told = Told::default();
        for (name, value) in &head.headers {
            match *name {
                // Where there is a body, its own length is written, which this is, too.
                header::CONTENT_LENGTH if !facts.head || bodiless || told.length => continue,
                header::CONTENT_LENGTH => told.length = true,
                header::TRANSFER_ENCODING => continue,
                header::CONNECTION if head.status != StatusCode::SWITCHING_PROTOCOLS => {
                    self.persistent &= !members(value).any(|option| option.eq_ignore_ascii_case(b"close"));
                    continue;
                }
                header::TRAILER if facts.head || facts.http10 || bodiless => continue,
                header::TRAILER if facts.trailers => announced(value, &mut self.announced),
                header::DATE => told.date = true,
                _ => {}
            }
            write_field(to, name.as_str().as_bytes(), value.as_bytes());
        }
        told
    }

    /// Takes what comes next of the body. `last` says that nothing comes behind it.
    pub(super) fn take(&mut self, frame: Option<Frame<Bytes>>, last: bool, to: &mut Outbox) {
        match (frame.map(Frame::into_data), self.framing) {
            (Some(Ok(data)), _) => self.take_data(data, last, to),
            (Some(Err(frame)), Framing::Chunked) => {
                self.end_chunks(frame.into_trailers().ok().as_ref(), to);
            }
            (None, Framing::Chunked) => self.end_chunks(None, to),
            (None, Framing::Length(_)) => self.state = State::Broken,
            // Trailers, for which there is no place.
            (Some(Err(_)), _) => {}
            (None, Framing::UntilClose) => self.state = State::Ended,
        }
    }

    /// The same, of data.
    pub(super) fn take_data(&mut self, data: Bytes, last: bool, to: &mut Outbox) {
        match self.framing {
            Framing::Chunked => {
                write_chunk(to, data);
                if last {
                    self.end_chunks(None, to);
                }
            }
            Framing::Length(left) => match left.checked_sub(data.len() as u64) {
                Some(left) => {
                    self.framing = Framing::Length(left);
                    to.push(data);
                    if left == 0 {
                        self.state = State::Ended;
                    }
                }
                // What is told in the head and what is sent must not differ by a byte.
                None => self.state = State::Broken,
            },
            Framing::UntilClose => to.push(data),
        }
    }

    fn end_chunks(&mut self, trailers: Option<&http::HeaderMap>, to: &mut Outbox) {
        write_last_chunk(to, trailers, &self.announced);
        self.state = State::Ended;
    }

    /// The body has broken off.
    pub(super) fn break_off(&mut self) {
        self.state = State::Broken;
    }

    /// Whether there is more to come of the body.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether the end of the connection is the end of the body.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.framing == Framing::UntilClose
    }

    pub(super) fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Whether another request may follow.
    pub(super) fn is_persistent(&self) -> bool {
        self.persistent
    }
}

/// What most heads need, in bytes.
const HEAD: usize = 512;

/// Which of the fields that every answer has were among its own.
#[derive(Debug, Default)]
struct Told {
    length: bool,
    date: bool,
}

fn status_line(head: &response::Parts, facts: Facts, to: &mut Outbox) {
    let reason = head.extensions.get::<ReasonPhrase>();
    if head.status == StatusCode::OK && reason.is_none() && !facts.http10 {
        return to.put(b"HTTP/1.1 200 OK\r\n");
    }
    to.put(if facts.http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    to.put(head.status.as_str().as_bytes());
    to.put(b" ");
    to.put(match reason {
        Some(reason) => reason.as_bytes(),
        None => head.status.canonical_reason().unwrap_or_default().as_bytes(),
    });
    to.put(b"\r\n");
}

#[cfg(test)]
mod tests;
