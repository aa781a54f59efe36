//! Clients that take their time, many of them at once: everybody else is served, and they are not
//! waited for longer than the limits say.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::partner::Partner;
use crate::support::vitals::{most_resident, resident};

const MANY: usize = 400;

fn config(partner: &Partner) -> Config {
    Config::to(partner).set("log.level", "info").set("log.access", "off")
}

/// Opens many connections, sends `begin` on each, and then one byte after the other until all have
/// been closed. Meanwhile everybody else is served.
fn dribble(gateway: &Gateway, begin: &[u8], byte: &[u8]) {
    let address = gateway.proxy_addr().tcp();
    let mut slow: Vec<TcpStream> = (0..MANY).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(begin).unwrap();
        stream.set_nonblocking(true).unwrap();
    }
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let served = scope.spawn(|| {
            let mut served = 0;
            let mut kept = gateway.connect();
            while !ended.load(Ordering::SeqCst) {
                let answers = [kept.exchange(&Request::post("/quick", "abc")), gateway.get("/quick")];
                assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
                served += 1;
            }
            served
        });
        let stop = StopOnDrop(&ended);
        eventually("none is waited for any more", || {
            // A write fails at the latest when the reset of the one before has come.
            slow.retain_mut(|stream| stream.write_all(byte).is_ok());
            thread::sleep(Duration::from_millis(50));
            slow.is_empty()
        });
        drop(stop);
        assert!(served.join().unwrap() > 0, "everybody else was served meanwhile");
    });
    eventually("none is left", || gateway.metric("bearerd_connections", &[("side", "client")]) == Some(0.0));
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn s59_heads_that_dribble_in_are_not_waited_for() {
    let partner = Partner::new();
    let gateway = Gateway::start(&config(&partner).set("server.header_timeout", "1s"));
    for (begin, byte) in [
        (&b"GET /slow HTTP/1.1\r\nHost: a.test\r\nX: "[..], &b"x"[..]),
        (b"GET /slow HTTP/1.1\r\nHost: a.test\r\n", b"X: y\r\n"),
        (b"\r\n", b"\r\n"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", b"\0\0\x08\x06\0\0\0\0\0pingpong"),
    ] {
        dribble(&gateway, begin, byte);
    }
    assert_eq!(partner.seen_at("/slow").len(), 0);
}

#[test]
fn s59_bodies_that_dribble_in_are_not_waited_for() {
    let partner = Partner::new();
    let gateway = Gateway::start(&config(&partner).set("server.request_timeout", "1s"));
    for begin in [
        "POST /slow HTTP/1.1\r\nHost: a.test\r\nContent-Length: 60000\r\n\r\n",
        "POST /slow HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6000000\r\n\r\n",
    ] {
        dribble(&gateway, begin.as_bytes(), b"x");
    }
    let chunked = "POST /slow HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    dribble(&gateway, chunked.as_bytes(), b"1\r\nx\r\n");
    assert!(partner.seen_at("/slow").iter().all(|seen| !seen.complete));
    eventually("the partner's connections are free", || {
        gateway.metric("bearerd_connections", &[("side", "upstream")]) <= Some(4.0)
    });
}

#[test]
fn s59_answers_that_nobody_reads_are_given_up_and_not_heaped_up() {
    let partner = Partner::new();
    partner.on("/large", |x| x.answer(&Answer::new(200, vec![b'x'; 8 << 20])));
    let limits = config(&partner).set("server.idle_timeout", "1s").set("server.request_timeout", "1s");
    let gateway = Gateway::start(&limits);
    assert_eq!(gateway.get("/large").body.len(), 8 << 20);
    let before = resident(gateway.pid());
    let address = gateway.proxy_addr().tcp();
    let count = 100;
    let mut slow: Vec<TcpStream> = (0..count).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(&Request::get("/large").to_bytes()).unwrap();
    }
    eventually("all have asked", || partner.seen_at("/large").len() == 1 + count);
    assert_eq!(gateway.get("/quick").status, 200);
    eventually("none is waited for any more", || {
        assert_eq!(gateway.get("/quick").status, 200);
        gateway.metric("bearerd_connections", &[("side", "client")]) == Some(0.0)
    });
    let each = most_resident(gateway.pid()).saturating_sub(before) / count as u64;
    println!("{} KiB for each answer of 8 MiB that nobody reads", each / 1024);
    // What is buffered on both sides; it does not grow with the answer.
    assert!(each < 768 * 1024, "{each} bytes for each");
    for mut stream in slow {
        let mut rest = Vec::new();
        let _reset = stream.read_to_end(&mut rest);
        assert!(rest.len() < 8 << 20, "what was given up does not look whole");
    }
}
