//! A whole request: bytes from a client, through the gateway, to a partner that forgives nothing.
//!
//! The first byte of the input says how the partner answers and in what pieces the rest is sent; the
//! rest is what a client sends on one connection. What reaches the partner must be what a client can
//! have meant, with bearerd's credentials on it. Then another client sends a request that there is
//! nothing wrong with, and must be answered: nothing of the first one's has stayed on a connection.
#![no_main]

mod gateway;
mod meant;
mod partner;
#[path = "../../../../benches/support/mod.rs"]
mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bearerd_fuzz::http1::{self, Framing, Read};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::{AbortHandle, spawn_local};

use self::gateway::Gateway;
use self::meant::{Meant, goes_on_as};
use self::partner::{Kind, Mock, Script};

pub(crate) use bearerd::proxy;

thread_local! {
    static GATEWAY: &'static Gateway = Box::leak(Box::new(Gateway::new()));
    static INPUTS: Cell<u64> = const { Cell::new(0) };
}

fuzz_target!(|input: &[u8]| {
    let Some((&control, bytes)) = input.split_first() else { return };
    let gateway = GATEWAY.with(|gateway| *gateway);
    gateway.runtime.block_on(run(gateway, control, bytes));
});

async fn run(gateway: &Gateway, control: u8, bytes: &[u8]) {
    const KINDS: [Kind; 8] = [
        Kind::Length,
        Kind::Chunked,
        Kind::Empty,
        Kind::RefusedOnce,
        Kind::RefusedAlways,
        Kind::Close,
        Kind::Upgrade,
        Kind::Lost,
    ];
    if INPUTS.get() % 1000 == 0 {
        gateway.renew().await;
    }
    INPUTS.set(INPUTS.get() + 1);

    let script = Script { kind: KINDS[usize::from(control % 8)], early: control & 8 != 0 };
    let mock = &*gateway.mock;
    mock.reset(script);
    let proxy = gateway.proxy();
    let meant = Meant::by(bytes);
    let mut client = Client::new(gateway.connect(&proxy), mock);
    // Readable in a corpus: digits send all of it at once, capital letters byte by byte.
    match control >> 4 {
        4 | 12 => client.send(bytes, 1, mock, false).await,
        5 | 13 => client.send(bytes, 7, mock, false).await,
        6 | 14 => client.send(bytes, 64, mock, false).await,
        7 | 15 => client.send(bytes, bytes.len() / 16 + 1, mock, true).await,
        _ => client.send(bytes, bytes.len().max(1), mock, false).await,
    }
    settle(mock).await;
    // The system may have been slow; that a client waits in vain is said only when it has had time.
    for _ in 0..20 {
        if client.is_content(&meant) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
        settle(mock).await;
    }
    client.judge(&meant);
    drop(client);
    settle(mock).await;
    // Not before: what the client breaks off has to be seen breaking off.
    judge(mock, &meant, script);

    mock.reset_seen();
    let canary = b"GET /canary HTTP/1.1\r\nhost: canary\r\n\r\n";
    let mut client = Client::new(gateway.connect(&proxy), mock);
    client.send(canary, canary.len(), mock, false).await;
    let only = Meant::by(canary);
    for _ in 0..200 {
        settle(mock).await;
        if client.is_content(&only) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    client.judge(&only);
    assert!(client.received.borrow().starts_with(b"HTTP/1.1 200 "), "{}", client.shown());
    judge(mock, &only, mock.script.get());
    drop(client);
    mock.reset(script);
    settle(mock).await;
    drop(proxy);
    tokio::task::yield_now().await;
    if gateway.left_behind() > 0 {
        tokio::time::sleep(Duration::from_secs(600)).await;
        settle(mock).await;
        assert_eq!(gateway.left_behind(), 0, "tasks are left behind");
    }
}

/// Waits until nothing moves any more.
async fn settle(mock: &Mock) {
    const QUIET: u32 = 4;
    let mut quiet = 0;
    let mut moved = mock.moved.get();
    while quiet < QUIET {
        // The clock is paused: this returns when every task waits, and has looked at every socket.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let now = mock.moved.get();
        quiet = if now == moved { quiet + 1 } else { 0 };
        moved = now;
    }
}

/// What has reached the partner, against what was meant.
fn judge(mock: &Mock, meant: &Meant, script: Script) {
    let seen = mock.seen.borrow();
    let refuses = matches!(script.kind, Kind::RefusedOnce | Kind::RefusedAlways);
    let most = if refuses { 2 * meant.most() } else { meant.most() };
    assert!(mock.heads.get() <= most, "{} heads at the partner, and at most {most} meant", mock.heads.get());
    // Each of them is one that was meant, in the same order; again only if it was refused.
    let mut next = 0;
    let mut again = false;
    let mut doubtful = if refuses { 2 * meant.doubtful } else { meant.doubtful };
    for seen in &*seen {
        if again && goes_on_as(&meant.requests[next - 1], seen) {
            again = false;
        } else if let Some(at) = meant.requests[next..].iter().position(|meant| goes_on_as(meant, seen)) {
            next += at + 1;
            again = refuses;
        } else {
            assert!(doubtful > 0, "nobody meant\n{seen:?}\nbut\n{:?}", meant.requests);
            doubtful -= 1;
        }
    }
}

/// A client, and what it has been answered.
struct Client {
    writer: WriteHalf<DuplexStream>,
    reader: AbortHandle,
    received: Rc<RefCell<Vec<u8>>>,
    ended: Rc<Cell<bool>>,
}

impl Client {
    fn new(stream: DuplexStream, mock: &Mock) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let (received, ended) = (Rc::default(), Rc::default());
        let moved = Rc::clone(&mock.moved);
        let reader = spawn_local(read(reader, Rc::clone(&received), Rc::clone(&ended), moved)).abort_handle();
        Self { writer, reader, received, ended }
    }

    async fn send(&mut self, bytes: &[u8], piece: usize, mock: &Mock, slowly: bool) {
        for piece in bytes.chunks(piece) {
            if self.writer.write_all(piece).await.is_err() {
                return;
            }
            match slowly {
                true => settle(mock).await,
                false => tokio::task::yield_now().await,
            }
        }
    }

    fn shown(&self) -> String {
        self.received.borrow().escape_ascii().to_string()
    }

    /// Whether there is nothing that it still waits for.
    fn is_content(&self, meant: &Meant) -> bool {
        self.ended.get() || self.answers(meant).is_ok_and(|count| count >= meant.requests.len())
    }

    /// Judges what has come.
    fn judge(&self, meant: &Meant) {
        let answers = self.answers(meant).unwrap_or_else(|why| panic!("{why}:\n{}", self.shown()));
        // One more may be to what is no request at all.
        assert!(answers <= meant.most() + 1 || answers == usize::MAX, "{answers} answers:\n{}", self.shown());
        assert!(
            self.is_content(meant),
            "{answers} of {} requests are answered:\n{}",
            meant.requests.len(),
            self.shown()
        );
        let received = self.received.borrow();
        assert!(!received.windows(64).any(|part| part == [b'0'; 64]), "a token:\n{}", self.shown());
    }

    /// How many answers have come; the most there is if it is no longer HTTP/1.1.
    fn answers(&self, meant: &Meant) -> Result<usize, &'static str> {
        let received = self.received.borrow();
        let mut rest = &received[..];
        let mut count = 0;
        while !rest.is_empty() {
            let method = match meant.requests.get(count) {
                Some(request) => request.head.method.as_str(),
                None if meant.may_be_head => return Ok(usize::MAX),
                None => "",
            };
            let answer = match http1::response(rest, method) {
                Read::Whole(answer, length) => {
                    rest = &rest[length..];
                    answer
                }
                Read::More if self.ended.get() => return Ok(count),
                Read::More => return Err("half an answer"),
                Read::Wrong(why) => return Err(why),
            };
            for name in ["keep-alive", "x-hop", "proxy-connection", "te"] {
                if answer.fields.has(name) {
                    return Err("a field that was for another hop");
                }
            }
            match answer.status {
                101 => return Ok(usize::MAX),
                100..=199 => continue,
                _ if answer.framing == Framing::Close && !self.ended.get() => {
                    return Err("an answer without end");
                }
                _ => count += 1,
            }
        }
        Ok(count)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(
    mut reader: ReadHalf<DuplexStream>,
    received: Rc<RefCell<Vec<u8>>>,
    ended: Rc<Cell<bool>>,
    moved: Rc<Cell<u64>>,
) {
    let mut piece = Vec::with_capacity(4096);
    while reader.read_buf(&mut piece).await.unwrap_or(0) > 0 {
        received.borrow_mut().append(&mut piece);
        moved.update(|moved| moved + 1);
    }
    ended.set(true);
    moved.update(|moved| moved + 1);
}
