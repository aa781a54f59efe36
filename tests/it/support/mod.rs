//! What the tests stand on: a scripted partner, the real binary, and clients that send exact bytes.

pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod envelope;
pub(crate) mod exchange;
pub(crate) mod fleet;
pub(crate) mod frames;
pub(crate) mod gate;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod in_process;
pub(crate) mod issuer;
pub(crate) mod load;
pub(crate) mod network;
pub(crate) mod partner;
pub(crate) mod partner_frames;
pub(crate) mod postgres;
pub(crate) mod process;

pub(crate) mod raw_peer;
pub(crate) mod recorder;
pub(crate) mod relay;
pub(crate) mod rest;
pub(crate) mod secrets;
pub(crate) mod strace;
pub(crate) mod tls;
pub(crate) mod tmpfs;
pub(crate) mod trial;
pub(crate) mod vitals;

use std::time::{Duration, Instant};

/// Stops a hang. No test asserts how long anything takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < give_up, "still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `size` bytes that look like nothing else. The seed is printed, for the case that a test fails.
pub(crate) fn noise(size: usize) -> Vec<u8> {
    let seed = fastrand::u64(..);
    println!("noise({size}) from seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(|| rng.u8(..)).take(size).collect()
}

/// SHA-256 as hex, to compare bodies that are too long to print.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    const_hex::encode(sha2::Sha256::digest(bytes))
}
