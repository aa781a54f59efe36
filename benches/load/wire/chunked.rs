//! The chunked coding of a body (RFC 9112 section 7.1), as far as to find its end.

use std::io;

use super::invalid;

/// Follows one body; what it holds is counted and thrown away.
pub(super) struct Chunked {
    state: State,
    /// How much the chunks have held until now, in bytes.
    pub(super) body: u64,
}

enum State {
    /// In the line that gives a chunk's size, of which so much has been read.
    Size(u64),
    /// Behind the digits of that line.
    Extension(u64),
    /// In a chunk, of which so much is still to come.
    Data(u64),
    /// Between a chunk and the line after it.
    Behind,
    /// In the trailer; whether the line is empty until now.
    Trailer(bool),
    End,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Self { state: State::Size(0), body: 0 }
    }

    /// Takes what has come; whether that was the end.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> io::Result<bool> {
        while let [byte, rest @ ..] = bytes {
            if let State::Data(left) = self.state {
                let count = (bytes.len() as u64).min(left);
                self.body += count;
                self.state = if count == left { State::Behind } else { State::Data(left - count) };
                bytes = &bytes[count as usize..];
                continue;
            }
            self.state = self.after(*byte)?;
            bytes = rest;
        }
        Ok(self.has_ended())
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.state, State::End)
    }

    fn after(&self, byte: u8) -> io::Result<State> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        match (&self.state, byte, digit) {
            (State::Size(size), _, Some(digit)) => size
                .checked_mul(16)
                .map(|size| State::Size(size + digit))
                .ok_or_else(|| invalid("a chunk's size")),
            (State::Size(0) | State::Extension(0), b'\n', _) => Ok(State::Trailer(true)),
            (State::Size(size) | State::Extension(size), b'\n', _) => Ok(State::Data(*size)),
            (State::Size(size) | State::Extension(size), _, _) => Ok(State::Extension(*size)),
            (State::Behind, b'\r', _) => Ok(State::Behind),
            (State::Behind, b'\n', _) => Ok(State::Size(0)),
            (State::Trailer(true), b'\n', _) => Ok(State::End),
            (State::Trailer(false), b'\n', _) => Ok(State::Trailer(true)),
            (State::Trailer(empty), _, _) => Ok(State::Trailer(*empty && byte == b'\r')),
            (State::Behind | State::Data(_) | State::End, _, _) => Err(invalid("not the chunked coding")),
        }
    }
}
