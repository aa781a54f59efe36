//! As much of HTTP/1.1 as the load and the backend need.

mod chunked;

use std::io::{self, BufRead, ErrorKind, Read, Write};

use self::chunked::Chunked;

/// What [`Message::read`] found.
pub(crate) enum Got {
    /// Not yet all of it.
    Part,
    /// All of it; the head.
    Whole,
    /// The other side has closed.
    End,
}

/// One message after another from one connection. Never more than one is on its way.
#[derive(Default)]
pub(crate) struct Message {
    head: Vec<u8>,
    body: Body,
}

/// What is known of the body.
#[derive(Default)]
enum Body {
    /// The head is not there yet.
    #[default]
    Unknown,
    /// How long it is, and how much of that is still to come.
    Length(usize, usize),
    Chunked(Chunked),
}

/// The longest head taken, in bytes.
const MAX_HEAD: usize = 64 * 1024;

impl Message {
    /// Reads what is there. Until the next call [`head`](Self::head) is that of the message read.
    pub(crate) fn read(&mut self, mut from: impl Read, scratch: &mut [u8]) -> io::Result<Got> {
        if self.has_ended() {
            *self = Self { head: std::mem::take(&mut self.head), body: Body::Unknown };
            self.head.clear();
        }
        loop {
            let count = match from.read(scratch) {
                Ok(0) => return Ok(Got::End),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Got::Part),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if self.take(&scratch[..count])? {
                return Ok(Got::Whole);
            }
        }
    }

    /// The head that was read last, with the empty line at its end.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// How long the body is that was read last, in bytes and without its coding.
    pub(crate) fn body_len(&self) -> u64 {
        match &self.body {
            Body::Unknown => 0,
            Body::Length(length, _) => *length as u64,
            Body::Chunked(chunked) => chunked.body,
        }
    }

    fn has_ended(&self) -> bool {
        match &self.body {
            Body::Unknown => false,
            Body::Length(_, left) => *left == 0,
            Body::Chunked(chunked) => chunked.has_ended(),
        }
    }

    /// Takes what has come; whether the message is whole with it.
    fn take(&mut self, bytes: &[u8]) -> io::Result<bool> {
        match &mut self.body {
            Body::Unknown => {
                self.head.extend_from_slice(bytes);
                let Some((head, body)) = parse(&self.head)? else { return Ok(false) };
                self.body = body;
                let begun = &bytes[bytes.len() - (self.head.len() - head)..];
                self.head.truncate(head);
                if begun.is_empty() { Ok(self.has_ended()) } else { self.take(begun) }
            }
            Body::Length(_, left) => {
                let rest = left.checked_sub(bytes.len());
                *left = rest.ok_or_else(|| invalid("more came than the message's length"))?;
                Ok(*left == 0)
            }
            Body::Chunked(chunked) => chunked.feed(bytes),
        }
    }
}

/// The length of the head and what follows it, once the head is there.
fn parse(text: &[u8]) -> io::Result<Option<(usize, Body)>> {
    const LENGTH: &[u8] = b"content-length:";
    const CODING: &[u8] = b"transfer-encoding:";
    let (mut rest, mut body) = (text, Body::Length(0, 0));
    loop {
        let line = rest;
        let count = rest.skip_until(b'\n')?;
        let line = &line[..count];
        if line == b"\r\n" {
            return Ok(Some((text.len() - rest.len(), body)));
        }
        if !line.ends_with(b"\n") {
            return if text.len() > MAX_HEAD { Err(invalid("the head is too long")) } else { Ok(None) };
        }
        if let Some(value) = value_of(LENGTH, line) {
            let length = str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok());
            let length = length.ok_or_else(|| invalid("not a length"))?;
            body = Body::Length(length, length);
        } else if value_of(CODING, line).is_some() {
            body = Body::Chunked(Chunked::new());
        }
    }
}

fn value_of<'a>(name: &[u8], line: &'a [u8]) -> Option<&'a [u8]> {
    let (given, value) = line.split_at_checked(name.len())?;
    given.eq_ignore_ascii_case(name).then_some(value)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Writes as much as goes; how much in all has gone of `message`, of which `sent` bytes had before.
pub(crate) fn write(mut to: impl Write, message: &[u8], mut sent: usize) -> io::Result<usize> {
    while sent < message.len() {
        match to.write(&message[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
