//! As much of HTTP/1.1 as the load and the backend need: messages whose length is given.

use std::io::{self, BufRead, ErrorKind, Read, Write};

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
    /// What is still to come of the body, once the head is there.
    left: Option<usize>,
}

/// The longest head taken, in bytes.
const MAX_HEAD: usize = 64 * 1024;

impl Message {
    /// Reads what is there. Until the next call [`head`](Self::head) is that of the message read.
    pub(crate) fn read(&mut self, mut from: impl Read, scratch: &mut [u8]) -> io::Result<Got> {
        if self.left == Some(0) {
            self.left = None;
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
            let left = match self.left {
                Some(left) => left.checked_sub(count),
                None => {
                    self.head.extend_from_slice(&scratch[..count]);
                    let Some((head, body)) = parse(&self.head)? else { continue };
                    let left = body.checked_sub(self.head.len() - head);
                    self.head.truncate(head);
                    left
                }
            };
            self.left = Some(left.ok_or_else(|| invalid("more came than the message's length"))?);
            if self.left == Some(0) {
                return Ok(Got::Whole);
            }
        }
    }

    /// The head that was read last, with the empty line at its end.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }
}

/// The lengths of head and body, once the head is there.
fn parse(text: &[u8]) -> io::Result<Option<(usize, usize)>> {
    const LENGTH: &[u8] = b"content-length:";
    let (mut rest, mut body) = (text, 0);
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
        if let Some((name, value)) = line.split_at_checked(LENGTH.len())
            && name.eq_ignore_ascii_case(LENGTH)
        {
            let value = str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok());
            body = value.ok_or_else(|| invalid("not a length"))?;
        }
    }
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
