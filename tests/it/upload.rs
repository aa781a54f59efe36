//! Bodies far longer than anything that bearerd may hold.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::mpsc;

use crate::support::client::{Stream, connect};
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::{Answer, Fields, Framing, Wire};
use crate::support::raw_peer::RawPeer;
use crate::support::trial::in_hand;
use crate::support::vitals::{most_resident, resident};

const BLOCK: usize = 64 * 1024;
const BLOCKS: u64 = 256 << 20 >> 16;
const MEBIBYTE: u64 = 1 << 20;

/// A block that can be told from every other.
fn block(number: u64) -> Vec<u8> {
    let mut block = vec![b'.'; BLOCK];
    block[..8].copy_from_slice(&number.to_be_bytes());
    block
}

/// Reads a request, compares its body with the blocks, and tells how many there were.
fn compare(stream: &mut TcpStream, held: &Gate) -> u64 {
    let mut wire = Wire::new(stream.try_clone().unwrap());
    let head = wire.head().unwrap().unwrap();
    held.wait();
    let (mut framing, mut trailers) = (Framing::of_request(&head), Fields::default());
    let (mut count, mut pending) = (0, Vec::new());
    while let Some(part) = wire.part(&mut framing, &mut trailers).unwrap() {
        pending.extend(part);
        while pending.len() >= BLOCK {
            let rest = pending.split_off(BLOCK);
            assert!(pending == block(count), "block {count} is another");
            (count, pending) = (count + 1, rest);
        }
    }
    assert_eq!(pending.len(), 0);
    wire.send(&Answer::new(200, count.to_string()).to_bytes()).unwrap();
    count
}

/// A gateway before a peer that does not begin to read a body before the gate is open.
fn stand(gate: &Gate) -> (Gateway, mpsc::Receiver<u64>) {
    let (told, counts) = mpsc::channel();
    let held = gate.clone();
    let peer = RawPeer::doing(move |stream| told.send(compare(stream, &held)).unwrap());
    let change = |config: Config| config.set("log.level", "info");
    (in_hand(peer.address(), change), counts)
}

#[test]
fn s51_an_upload_of_unknown_length_streams_in_flat_memory() {
    let gate = Gate::shut();
    let (gateway, counts) = stand(&gate);
    let before = resident(gateway.pid());
    let mut client = connect(gateway.proxy_addr());
    let Stream::Tcp(mut upload) = client.io.try_clone().unwrap() else { panic!("the tests use TCP") };
    let sending = std::thread::spawn(move || {
        upload.set_write_timeout(Some(crate::support::DEADLINE * 2)).unwrap();
        let head = "POST /upload HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
        upload.write_all(head.as_bytes()).unwrap();
        for number in 0..BLOCKS {
            let chunk = [format!("{BLOCK:x}\r\n").as_bytes(), &block(number), b"\r\n"].concat();
            upload.write_all(&chunk).unwrap();
        }
        upload.write_all(b"0\r\n\r\n").unwrap();
    });
    // The client sends what it can while the partner takes nothing.
    gate.await_arrivals(1);
    let taken = || resident(gateway.pid());
    let mut last = 0;
    eventually("the upload stands still", || std::mem::replace(&mut last, taken()) == last);
    gate.open();
    let answer = client.answer("POST").unwrap();
    assert_eq!((answer.status, answer.text()), (200, BLOCKS.to_string()));
    sending.join().unwrap();
    assert_eq!(counts.recv().unwrap(), BLOCKS);
    let grown = most_resident(gateway.pid()).saturating_sub(before);
    println!("{} KiB on top of {} KiB for {} MiB", grown / 1024, before / 1024, BLOCKS * 64 / 1024);
    assert!(grown < 20 * MEBIBYTE, "{grown} bytes for one upload");
}
