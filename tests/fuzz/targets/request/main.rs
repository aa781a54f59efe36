//! A whole request: bytes from a client, through the gateway, to a partner that forgives nothing.
//!
//! The first byte of the input says how the partner answers and in what pieces the rest is sent; the
//! rest is what a client sends on one connection. If there is a line `%%` in it, what comes after that
//! is what the partner answers every request with instead. What reaches the partner must be what a client can
//! have meant, with bearerd's credentials on it. Then another client sends a request that there is
//! nothing wrong with, and must be answered: nothing of the first one's has stayed on a connection.
#![no_main]

mod client;
mod gateway;
mod meant;
mod partner;
#[path = "../../../../benches/support/mod.rs"]
mod support;

use std::cell::Cell;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;

use self::client::Client;
use self::gateway::Gateway;
use self::meant::{Meant, goes_on_as};
use self::partner::{Kind, Mock, Script};

pub(crate) use bearerd::{clock, http1, incoming, proxy, upstream};

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
    if INPUTS.get().is_multiple_of(1000) {
        gateway.renew().await;
    }
    INPUTS.set(INPUTS.get() + 1);

    const RAW: &[u8] = b"\n%%\n";
    let split = bytes.windows(RAW.len()).position(|part| part == RAW);
    let (bytes, raw) = match split {
        Some(at) => (&bytes[..at], Some(bytes[at + RAW.len()..].into())),
        None => (bytes, None),
    };
    let script = Script { kind: KINDS[usize::from(control % 8)], early: control & 8 != 0, raw };
    let mock = &*gateway.mock;
    mock.reset(script.clone());
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
        if client.is_content(&meant, &script) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
        settle(mock).await;
    }
    client.judge(&meant, &script);
    drop(client);
    settle(mock).await;
    // Not before: what the client breaks off has to be seen breaking off.
    judge(mock, &meant, &script);

    mock.reset_seen();
    let canary = b"GET /canary HTTP/1.1\r\nhost: canary\r\n\r\n";
    let mut client = Client::new(gateway.connect(&proxy), mock);
    client.send(canary, canary.len(), mock, false).await;
    let only = Meant::by(canary);
    for _ in 0..200 {
        settle(mock).await;
        if client.is_content(&only, &Script::PLAIN) {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    client.judge(&only, &Script::PLAIN);
    client.has_plain_answer();
    judge(mock, &only, &Script::PLAIN);
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
pub(crate) async fn settle(mock: &Mock) {
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
fn judge(mock: &Mock, meant: &Meant, script: &Script) {
    let seen = mock.seen.borrow();
    let refuses = script.refuses();
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
