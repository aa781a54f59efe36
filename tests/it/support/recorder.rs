//! A peer that keeps every byte it is sent, and reads them as strictly as HTTP/1.1 can be read.
//!
//! What arrives in any other than the one unambiguous form is noted as a fault, because some server
//! would take it for something else.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::http::{Answer, Fields};
use super::{DEADLINE, eventually};

/// How the body of a message is delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Delimited {
    #[default]
    Bodiless,
    Length,
    Chunked,
}

/// A request as it arrived, or as much of it as did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrival {
    pub(crate) connection: usize,
    pub(crate) raw: Vec<u8>,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) fields: Fields,
    pub(crate) delimited: Delimited,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// It arrived to its end.
    pub(crate) complete: bool,
    /// Nothing more will come of it.
    pub(crate) settled: bool,
    pub(crate) faults: Vec<String>,
}

/// What the peer says to a request, and whether it closes then.
pub(crate) struct Reply {
    pub(crate) bytes: Vec<u8>,
    pub(crate) close: bool,
}

/// Asked again whenever more of a request has arrived, until it gives the answer.
type Script = dyn Fn(&Arrival) -> Option<Reply> + Send + Sync;

/// The peer. Its threads end with the test's process.
pub(crate) struct Recorder {
    address: SocketAddr,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    accepted: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    /// By the number of their connection.
    streams: Arc<Mutex<HashMap<usize, TcpStream>>>,
}

impl Recorder {
    /// Answers every whole request with its own method and target.
    pub(crate) fn new() -> Self {
        Self::answering(|arrival| arrival.complete.then(|| Reply { bytes: echo(arrival), close: false }))
    }

    pub(crate) fn answering(script: impl Fn(&Arrival) -> Option<Reply> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let arrivals = Arc::<Mutex<Vec<Arrival>>>::default();
        let (accepted, open) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (noted, script) = (Arc::clone(&arrivals), Arc::new(script));
        let (all, counted) = (Arc::clone(&accepted), Arc::clone(&open));
        let streams = Arc::<Mutex<HashMap<usize, TcpStream>>>::default();
        let kept = Arc::clone(&streams);
        thread::spawn(move || {
            for (connection, stream) in listener.incoming().enumerate() {
                let Ok(stream) = stream else { return };
                let (noted, counted, script) =
                    (Arc::clone(&noted), Arc::clone(&counted), Arc::clone(&script));
                kept.lock().unwrap().insert(connection, stream.try_clone().unwrap());
                let kept = Arc::clone(&kept);
                counted.fetch_add(1, Ordering::SeqCst);
                all.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    serve(stream, connection, &noted, &*script);
                    kept.lock().unwrap().remove(&connection);
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, arrivals, accepted, open, streams }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn count(&self) -> usize {
        self.arrivals.lock().unwrap().len()
    }

    /// All that has arrived so far.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.arrivals.lock().unwrap().clone()
    }

    /// Sends bytes that nobody asked for on every connection that is open.
    pub(crate) fn send_on_idle(&self, bytes: &[u8]) {
        for mut stream in self.streams.lock().unwrap().values() {
            // One may have ended meanwhile.
            let _gone = stream.write_all(bytes);
        }
    }

    /// Closes every connection, in order or with a reset.
    pub(crate) fn close_all(&self, reset: bool) {
        for stream in self.streams.lock().unwrap().values() {
            if reset {
                SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
                // Its thread reads the end, and drops it.
                stream.shutdown(Shutdown::Read).unwrap();
            } else {
                stream.shutdown(Shutdown::Both).unwrap();
            }
        }
        eventually("they are closed", || self.open.load(Ordering::SeqCst) == 0);
    }

    /// What has arrived after the first `count`, once nothing more will come of any of it. So many
    /// connections are open on the other side.
    #[track_caller]
    pub(crate) fn settled_since(&self, count: usize, open: impl Fn() -> usize) -> Vec<Arrival> {
        // Connections are accepted in order: after this one, no earlier one is still unseen.
        let before = self.accepted.load(Ordering::SeqCst);
        drop(TcpStream::connect(self.address).unwrap());
        eventually("every connection is known, and those that were closed have been read", || {
            self.accepted.load(Ordering::SeqCst) > before && self.open.load(Ordering::SeqCst) == open()
        });
        let since = || self.arrivals.lock().unwrap()[count..].to_vec();
        eventually("what arrived has ended", || since().iter().all(|arrival| arrival.settled));
        since()
    }
}

/// An answer that says which request it is to, in a field and in its body.
pub(crate) fn echo(arrival: &Arrival) -> Vec<u8> {
    let seen = format!("{} {}", arrival.method, arrival.target);
    let body: Vec<u8> = seen.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let answer = Answer::new(200, body).with("X-Seen", &seen);
    let mut bytes = answer.to_bytes();
    if arrival.method == "HEAD" {
        bytes.truncate(bytes.len() - answer.body.len());
    }
    bytes
}

fn serve(mut stream: TcpStream, connection: usize, noted: &Mutex<Vec<Arrival>>, script: &Script) {
    let _prompt = stream.set_nodelay(true);
    let _bounded = stream.set_read_timeout(Some(DEADLINE * 2));
    let (mut buffer, mut piece) = (Vec::new(), [0; 16 * 1024]);
    let mut current: Option<usize> = None;
    let mut answered = false;
    loop {
        while !buffer.is_empty() {
            let (mut arrival, size) = read(&buffer);
            arrival.connection = connection;
            arrival.settled = size.is_some();
            let index = *current.get_or_insert_with(|| {
                noted.lock().unwrap().push(Arrival::default());
                noted.lock().unwrap().len() - 1
            });
            noted.lock().unwrap()[index] = arrival.clone();
            if !answered && let Some(reply) = script(&arrival) {
                answered = true;
                let sent = stream.write_all(&reply.bytes);
                if reply.close || sent.is_err() {
                    let _gone = stream.shutdown(Shutdown::Both);
                    noted.lock().unwrap()[index].settled = true;
                    return;
                }
            }
            let Some(size) = size else { break };
            buffer.drain(..size);
            (current, answered) = (None, false);
        }
        match stream.read(&mut piece) {
            Ok(size) if size > 0 => buffer.extend_from_slice(&piece[..size]),
            _ => break,
        }
    }
    if let Some(index) = current {
        noted.lock().unwrap()[index].settled = true;
    }
}

/// Reads the request that `bytes` begin with, and how long it is, if it is whole or can never be.
fn read(bytes: &[u8]) -> (Arrival, Option<usize>) {
    let mut arrival = Arrival { raw: bytes.to_vec(), ..Arrival::default() };
    let Some(end) = find(bytes, b"\r\n\r\n") else { return (arrival, None) };
    let (head, body) = (&bytes[..end + 2], &bytes[end + 4..]);
    let mut lines = lines(head, &mut arrival.faults);
    request_line(&lines.remove(0), &mut arrival);
    arrival.fields = fields(&lines, &mut arrival.faults);
    framing(&mut arrival);
    if !arrival.faults.is_empty() {
        // Where it ends is anybody's guess.
        return (arrival, Some(bytes.len()));
    }
    let size = match arrival.delimited {
        Delimited::Bodiless => Some(0),
        Delimited::Length => {
            let length: usize = arrival.fields.get("content-length").unwrap().parse().unwrap();
            arrival.body = body[..length.min(body.len())].to_vec();
            (body.len() >= length).then_some(length)
        }
        Delimited::Chunked => chunks(body, &mut arrival),
    };
    if !arrival.faults.is_empty() {
        return (arrival, Some(bytes.len()));
    }
    let size = size.map(|size| end + 4 + size);
    arrival.raw.truncate(size.unwrap_or(bytes.len()));
    arrival.complete = size.is_some();
    (arrival, size)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The lines of a head, each of which ends in CR and LF.
fn lines(head: &[u8], faults: &mut Vec<String>) -> Vec<Vec<u8>> {
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(end) = find(rest, b"\r\n") {
        let line = &rest[..end];
        if line.iter().any(|&b| (b < b' ' && b != b'\t') || b == 0x7f) {
            faults.push(format!("a control character in {:?}", String::from_utf8_lossy(line)));
        }
        lines.push(line.to_vec());
        rest = &rest[end + 2..];
    }
    lines
}

fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn request_line(line: &[u8], arrival: &mut Arrival) {
    let line = text(line);
    let words: Vec<_> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return arrival.faults.push(format!("the request line {line:?}"));
    };
    if method.is_empty() || !method.bytes().all(is_token) {
        arrival.faults.push(format!("the method {method:?}"));
    }
    if !(target.starts_with('/') || target == "*") || target.contains('#') {
        arrival.faults.push(format!("the target {target:?}"));
    }
    (arrival.method, arrival.target) = (method.to_owned(), target.to_owned());
}

fn fields(lines: &[Vec<u8>], faults: &mut Vec<String>) -> Fields {
    let mut fields = Fields::default();
    for line in lines {
        let line = text(line);
        let (name, value) = line.split_once(": ").unwrap_or((&line, " "));
        let value_is_plain = value.is_empty() || value.trim_matches([' ', '\t']) == value;
        if name.is_empty() || !name.bytes().all(is_token) || !value_is_plain {
            faults.push(format!("the field {line:?}"));
        }
        fields.push(name, value);
    }
    fields
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// How the body ends, and whether that and whom the request is for are said exactly once.
fn framing(arrival: &mut Arrival) {
    let count = |name| arrival.fields.all(name).len();
    let (lengths, codings) = (count("content-length"), count("transfer-encoding"));
    for name in ["host", "authorization", "partner-code"] {
        if count(name) != 1 {
            arrival.faults.push(format!("{name}: {:?}", arrival.fields.all(name)));
        }
    }
    for name in ["expect", "proxy-authorization", "proxy-connection", "keep-alive", "http2-settings"] {
        if count(name) != 0 {
            arrival.faults.push(format!("{name} is for one hop only"));
        }
    }
    arrival.delimited = match (lengths, codings) {
        (0, 0) => Delimited::Bodiless,
        (1, 0) => Delimited::Length,
        (0, 1) => Delimited::Chunked,
        _ => {
            arrival.faults.push(format!("{lengths} lengths, {codings} codings"));
            return;
        }
    };
    let length = arrival.fields.get("content-length").unwrap_or("0");
    let digits = length.bytes().all(|b| b.is_ascii_digit()) && length.parse::<u32>().is_ok();
    if !digits || arrival.fields.get("transfer-encoding").is_some_and(|coding| coding != "chunked") {
        arrival.faults.push(format!("the framing {:?}", arrival.fields));
    }
}

/// Reads the chunked coding without a single liberty, and how long it is.
fn chunks(body: &[u8], arrival: &mut Arrival) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = find(&body[at..], b"\r\n")?;
        let size = text(&body[at..at + line]);
        let plain = !size.is_empty() && size.len() <= 8 && size.bytes().all(|b| b.is_ascii_hexdigit());
        if !plain {
            arrival.faults.push(format!("the chunk size {size:?}"));
            return None;
        }
        let size = usize::from_str_radix(&size, 16).unwrap();
        at += line + 2;
        if size == 0 {
            break;
        }
        let data = body.get(at..at + size + 2)?;
        if !data.ends_with(b"\r\n") {
            arrival.faults.push("a chunk without its end".to_owned());
            return None;
        }
        arrival.body.extend_from_slice(&data[..size]);
        at += size + 2;
    }
    if body[at..].starts_with(b"\r\n") {
        return Some(at + 2);
    }
    let end = find(&body[at..], b"\r\n\r\n")?;
    let lines = lines(&body[at..at + end + 2], &mut arrival.faults);
    arrival.trailers = fields(&lines, &mut arrival.faults);
    for name in ["host", "authorization", "partner-code", "content-length", "transfer-encoding", "trailer"] {
        if arrival.trailers.has(name) {
            arrival.faults.push(format!("{name} in the trailers"));
        }
    }
    Some(at + end + 4)
}
