//! HTTP/2 in clear, frame by frame, and as wrong as a test wants it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use super::DEADLINE;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
pub(crate) const PADDED: u8 = 0x8;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Fields as literals that nobody keeps, which needs neither table nor Huffman's code.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            // As Latin-1, so that every byte can be written.
            let text: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
            integer(&mut bytes, text.len());
            bytes.extend(text);
        }
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn integer(bytes: &mut Vec<u8>, value: usize) {
    if value < 127 {
        return bytes.push(u8::try_from(value).unwrap());
    }
    bytes.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
}

/// What the other side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Status(u32, u16),
    Data(u32, Vec<u8>),
    Reset(u32, u32),
    GoAway(u32),
    Closed,
}

/// A client's side of a connection.
pub(crate) struct Frames {
    pub(crate) io: TcpStream,
    read: Vec<u8>,
}

impl Frames {
    /// Connects and says how it begins: without a table for header compression, so that what comes can
    /// be read without one.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let io = TcpStream::connect(address).unwrap();
        io.set_nodelay(true).unwrap();
        io.set_read_timeout(Some(DEADLINE)).unwrap();
        io.set_write_timeout(Some(DEADLINE)).unwrap();
        let mut frames = Self { io, read: Vec::new() };
        let no_table = [0, 1, 0, 0, 0, 0];
        frames.send(&[PREFACE, &frame(SETTINGS, 0, 0, &no_table)].concat()).unwrap();
        frames
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes)
    }

    /// What is said next, but for what only keeps the connection going, which is done here.
    pub(crate) fn next(&mut self) -> io::Result<Said> {
        loop {
            let (kind, flags, stream, payload) = match self.frame() {
                Ok(frame) => frame,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Err(error);
                }
                Err(_) => return Ok(Said::Closed),
            };
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match kind {
                SETTINGS if flags & ACK == 0 => drop(self.send(&frame(SETTINGS, ACK, 0, &[]))),
                PING if flags & ACK == 0 => drop(self.send(&frame(PING, ACK, 0, &payload))),
                HEADERS => return Ok(Said::Status(stream, status(&payload))),
                DATA if !payload.is_empty() => return Ok(Said::Data(stream, payload)),
                RST_STREAM => return Ok(Said::Reset(stream, code(0))),
                GOAWAY => return Ok(Said::GoAway(code(4))),
                _ => {}
            }
        }
    }

    fn frame(&mut self) -> io::Result<(u8, u8, u32, Vec<u8>)> {
        let head = self.take(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Ok((head[3], head[4], stream, self.take(length as usize)?))
    }

    fn take(&mut self, size: usize) -> io::Result<Vec<u8>> {
        let mut piece = [0; 16 * 1024];
        while self.read.len() < size {
            match self.io.read(&mut piece)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => self.read.extend_from_slice(&piece[..read]),
            }
        }
        Ok(self.read.drain(..size).collect())
    }
}

/// The status, which is the first field of an answer.
fn status(block: &[u8]) -> u16 {
    let mut at = 0;
    // Changes of the table's size may come before.
    while block[at] & 0xe0 == 0x20 {
        assert_ne!(block[at] & 0x1f, 0x1f, "a table larger than any that was allowed");
        at += 1;
    }
    match block[at] {
        indexed @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        0x08 | 0x18 | 0x48 => {
            let length = usize::from(block[at + 1] & 0x7f);
            let text = &block[at + 2..at + 2 + length];
            if block[at + 1] & 0x80 == 0 {
                return std::str::from_utf8(text).unwrap().parse().unwrap();
            }
            digits(text)
        }
        other => panic!("a status that begins with {other:#x}"),
    }
}

/// Three digits in Huffman's code (RFC 7541 appendix B): 0 to 2 take five bits, the others six.
fn digits(coded: &[u8]) -> u16 {
    let mut bits = coded.iter().flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1)));
    let mut take = |count: usize| bits.by_ref().take(count).fold(0, |sum, bit| sum * 2 + bit);
    (0..3).fold(0, |number, _| {
        let five = take(5);
        let digit = if five < 3 { five } else { five * 2 + take(1) - 0x19 + 3 };
        number * 10 + digit
    })
}
