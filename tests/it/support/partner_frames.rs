//! HTTP/2 frame by frame on the partner's side, for what no library would do.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use super::DEADLINE;
use super::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    frame,
};

pub(crate) const REFUSED_STREAM: u32 = 7;

/// `:status: 200`, compressed.
pub(crate) const OK: &[u8] = &[0x88];

/// A frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// The partner's side of a connection. Reading and writing block.
pub(crate) struct Frames {
    pub(crate) io: TcpStream,
    /// Counts the connections.
    pub(crate) number: usize,
}

impl Frames {
    /// Takes the other side's preface, and sends this side's, which wants `most` exchanges at once.
    pub(crate) fn accept(mut io: TcpStream, number: usize, most: usize) -> io::Result<Self> {
        io.set_nodelay(true)?;
        io.set_read_timeout(Some(DEADLINE))?;
        let mut preface = [0; 24];
        io.read_exact(&mut preface)?;
        assert_eq!(preface, PREFACE);
        let mut frames = Self { io, number };
        frames.want(most)?;
        Ok(frames)
    }

    /// From now on this side wants so many exchanges at once.
    pub(crate) fn want(&mut self, most: usize) -> io::Result<()> {
        let most = u32::try_from(most).unwrap().to_be_bytes();
        self.send(SETTINGS, 0, 0, &[&[0, 3][..], &most].concat())
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.io.write_all(&frame(kind, flags, stream, payload))
    }

    /// The next frame of an exchange, or its reset, or a GOAWAY. Others are answered as is due.
    pub(crate) fn next(&mut self) -> io::Result<Frame> {
        loop {
            let frame = self.any()?;
            match frame.kind {
                SETTINGS | PING if frame.flags & ACK == 0 => {
                    let payload: &[u8] = if frame.kind == PING { &frame.payload } else { &[] };
                    self.send(frame.kind, ACK, 0, payload)?;
                }
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Ok(frame),
            }
        }
    }

    /// Waits until the other side has taken what it was sent. What it says meanwhile is not kept.
    pub(crate) fn round_trip(&mut self) -> io::Result<()> {
        self.send(PING, 0, 0, &[0; 8])?;
        loop {
            let frame = self.any()?;
            if (frame.kind, frame.flags & ACK) == (PING, ACK) {
                return Ok(());
            }
        }
    }

    fn any(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head)?;
        let [a, b, c, kind, flags, d, e, f, g] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.io.read_exact(&mut payload)?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff, payload })
    }

    /// The next request, of which nothing but the header has been taken.
    pub(crate) fn request(&mut self) -> io::Result<Frame> {
        loop {
            let frame = self.next()?;
            if frame.kind == HEADERS {
                return Ok(frame);
            }
        }
    }

    /// What is left of the body of a request that began with `header`.
    pub(crate) fn body(&mut self, header: &Frame) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        let mut ended = header.ends_stream();
        while !ended {
            let frame = self.next()?;
            if frame.stream == header.stream && frame.kind == DATA {
                body.extend_from_slice(&frame.payload);
            }
            ended = frame.stream == header.stream && frame.ends_stream();
        }
        Ok(body)
    }

    /// Answers with 200 and `body`.
    pub(crate) fn answer(&mut self, stream: u32, body: &[u8]) -> io::Result<()> {
        self.send(HEADERS, END_HEADERS, stream, OK)?;
        self.send(DATA, END_STREAM, stream, body)
    }

    pub(crate) fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes())
    }
}

/// A GOAWAY that says that streams up to `last` may have been processed.
pub(crate) fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

/// The fields of a header block, by how they are to be remembered (RFC 7541 section 6). Names and
/// values may be in the Huffman code and are not looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// All of it is in a table.
    Indexed(usize),
    /// It goes into the table of the connection.
    Remembered(usize),
    /// It does not, this time.
    Once(usize),
    /// It must never.
    Never(usize),
}

/// Reads a header block; each field is told with the number of its name, 0 if that is spelled out.
pub(crate) fn fields(mut block: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    while let Some(&first) = block.first() {
        let (bits, make): (u32, fn(usize) -> Field) = match first {
            0x80.. => (7, Field::Indexed),
            0x40.. => (6, Field::Remembered),
            0x20.. => {
                // The size of the table.
                number(&mut block, 5);
                continue;
            }
            0x10.. => (4, Field::Never),
            _ => (4, Field::Once),
        };
        let field = make(number(&mut block, bits));
        if let Field::Remembered(name) | Field::Once(name) | Field::Never(name) = field {
            let strings = if name == 0 { 2 } else { 1 };
            for _ in 0..strings {
                let length = number(&mut block, 7);
                block = &block[length..];
            }
        }
        fields.push(field);
    }
    fields
}

/// A number of which the first byte holds `bits` bits (section 5.1).
fn number(block: &mut &[u8], bits: u32) -> usize {
    let most = (1 << bits) - 1;
    let mut take = || {
        let byte = block[0];
        *block = &block[1..];
        usize::from(byte)
    };
    let mut number = take() & most;
    if number == most {
        for shift in (0..).step_by(7) {
            let byte = take();
            number += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    number
}
