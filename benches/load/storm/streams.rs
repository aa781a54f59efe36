//! Requests in HTTP/2 that are all sent before the first answer, as cheaply as they can be: whoever
//! asks shares a core with the partner, and is not what is measured.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use crate::machine::now;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD: usize = 9;

/// RFC 9113 section 6.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
}

/// Of DATA and HEADERS; of SETTINGS and PING the same bit says that it is an answer.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200`, as RFC 7541 has it in its static table.
const STATUS_200: u8 = 0x88;

/// What came of all requests.
pub(super) struct Answered {
    /// Answers of 200 that came to their end.
    pub(super) good: usize,
    /// When the last of them ended.
    pub(super) last: Instant,
}

/// Sends `streams` times `path` on each of `connections`, and waits for all answers until `patience` is
/// over.
pub(super) fn all(
    addr: SocketAddr,
    (connections, streams): (usize, usize),
    path: &str,
    patience: Duration,
) -> io::Result<Answered> {
    let until = now() + patience;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(Connection::open(addr)?);
    }
    let requests = requests(streams, path)?;
    for (number, connection) in open.iter_mut().enumerate() {
        connection.stream.write_all(&requests)?;
        epoll::add(&epoll, &connection.stream, EventData::new_u64(number as u64), EventFlags::IN)?;
    }
    let mut answered = Answered { good: 0, last: now() };
    let mut events = Vec::with_capacity(connections);
    while answered.good < connections * streams {
        for number in ready(&epoll, &mut events, until)? {
            let good = open[number].read()?;
            if good > 0 {
                answered = Answered { good: answered.good + good, last: now() };
            }
        }
    }
    Ok(answered)
}

/// Which connections can be read.
fn ready(epoll: &OwnedFd, events: &mut Vec<epoll::Event>, until: Instant) -> io::Result<Vec<usize>> {
    let left = until.saturating_duration_since(now());
    if left.is_zero() {
        return Err(io::Error::other("the answers did not come"));
    }
    events.clear();
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    epoll::wait(epoll, rustix::buffer::spare_capacity(events), Some(&left))?;
    Ok(events.iter().map(|event| event.data.u64() as usize).collect())
}

/// The header of a request on each of so many streams, one after the other.
fn requests(streams: usize, path: &str) -> io::Result<Vec<u8>> {
    // :method GET, :scheme http, and without a place in the table :path and :authority.
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(0x04, path), (0x01, "bench.example")] {
        let length = u8::try_from(value.len()).ok().filter(|length| *length < 127);
        block.extend([name, length.ok_or_else(|| io::Error::other("the path is too long"))?]);
        block.extend(value.as_bytes());
    }
    let numbers = (0..streams as u32).map(|n| 2 * n + 1);
    Ok(numbers.flat_map(|stream| frame(kind::HEADERS, END_STREAM | END_HEADERS, stream, &block)).collect())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

struct Connection {
    stream: TcpStream,
    /// What has come of a frame that is not all there.
    read: Vec<u8>,
}

impl Connection {
    fn open(addr: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.write_all(&[PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat())?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Reads what is there: how many answers have ended.
    fn read(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 64 * 1024];
        let count = self.stream.read(&mut buffer)?;
        if count == 0 {
            return Err(io::Error::other("the connection was closed"));
        }
        self.read.extend(&buffer[..count]);
        let (mut good, mut done) = (0, 0);
        while let Some(head) = self.read[done..].first_chunk::<FRAME_HEAD>() {
            let [a, b, c, kind, flags, ..] = *head;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            let Some(payload) = self.read[done + FRAME_HEAD..].get(..length) else { break };
            match kind {
                kind::HEADERS if payload.first() != Some(&STATUS_200) => {
                    return Err(io::Error::other("an answer is not 200"));
                }
                kind::HEADERS | kind::DATA => good += usize::from(flags & END_STREAM != 0),
                kind::SETTINGS | kind::PING if flags & ACK == 0 => {
                    let payload = if kind == kind::PING { payload } else { &[] };
                    let answer = frame(kind, ACK, 0, payload);
                    (&self.stream).write_all(&answer)?;
                }
                kind::RST_STREAM | kind::GOAWAY => {
                    return Err(io::Error::other("a stream was reset, or the connection given up"));
                }
                _ => {}
            }
            done += FRAME_HEAD + length;
        }
        self.read.drain(..done);
        Ok(good)
    }
}
