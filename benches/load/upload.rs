//! What a long upload takes of which nobody knows how long it will be.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::backend::{Backend, Behaviour};
use crate::machine::{Cores, now};
use crate::report::Finding;
use crate::subject::{Setting, Subject, message};

const LENGTH: usize = 256 * 1024 * 1024;
const CHUNK: usize = 64 * 1024;

pub(crate) fn measure(cores: Cores) -> io::Result<Finding> {
    let backend = Backend::start(Behaviour::default())?;
    let setting = Setting { backend: backend.addr(), authority: None, http2: false, cores };
    let started = Subject::Bearerd.start(&setting)?;
    let process = started.process().ok_or_else(|| io::Error::other("there is no process"))?;
    process.forget_peak()?;
    let idle = process.resident()? as f64;
    let begun = now();
    upload(&TcpStream::connect(started.addr)?)?;
    let took = begun.elapsed();
    let came = backend.seen(|seen| seen.body);
    if came != LENGTH as u64 {
        return Err(io::Error::other(format!("{came} bytes of {LENGTH} came through")));
    }
    const MIB: f64 = 1024.0 * 1024.0;
    let peak = process.peak()? as f64;
    let line = format!(
        "bearerd: at most {:.1} MiB over the {:.1} MiB of before; it took {:.1} s",
        (peak - idle) / MIB,
        idle / MIB,
        took.as_secs_f64()
    );
    let title = "Memory of one upload of 256 MiB in the chunked coding".to_owned();
    Ok(Finding { title, lines: vec![line] })
}

fn upload(mut to: &TcpStream) -> io::Result<()> {
    to.set_read_timeout(Some(Duration::from_secs(30)))?;
    to.set_write_timeout(Some(Duration::from_secs(30)))?;
    to.write_all(b"POST /upload HTTP/1.1\r\nHost: bench.example\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let mut chunk = format!("{CHUNK:x}\r\n").into_bytes();
    chunk.resize(chunk.len() + CHUNK, b'a');
    chunk.extend_from_slice(b"\r\n");
    for _ in 0..LENGTH / CHUNK {
        to.write_all(&chunk)?;
    }
    to.write_all(b"0\r\n\r\n")?;
    let answer = message(to)?;
    match answer.head().starts_with(b"HTTP/1.1 200 ") {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(answer.head()).into_owned())),
    }
}
