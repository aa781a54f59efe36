//! A load in HTTP/2, with nghttp2's `h2load`: it is cheap, and none of ours.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::generator::{Outcome, Pace};
use crate::subject::find;
use crate::workload::{FIELDS, PATH};

const PROGRAM: &str = "h2load";

/// So many requests are at most in flight at the same time.
#[derive(Clone, Copy)]
pub(crate) struct H2load {
    connections: usize,
    streams: usize,
    addr: SocketAddr,
}

impl H2load {
    /// `in_flight` on at most eight connections.
    pub(crate) fn new(addr: SocketAddr, in_flight: usize) -> Self {
        let connections = in_flight.clamp(1, 8);
        Self { connections, streams: in_flight.div_ceil(connections), addr }
    }

    /// `count` requests. At a fixed rate each connection sends one whenever it is time for one and
    /// a stream is free: latency counts from then, not from when it was due.
    pub(crate) fn run(self, pace: Pace, count: u64) -> io::Result<Outcome> {
        let dir = TempDir::new()?;
        let log = dir.path().join("log");
        let mut command = program()?;
        command.args(["-t", "1", "-n", &count.to_string()]);
        command.args(["-c", &self.connections.to_string(), "-m", &self.streams.to_string()]);
        for field in FIELDS {
            command.args(["-H", field]);
        }
        if let Pace::Rate(rate) = pace {
            command.args(["--rps", &(f64::from(rate) / self.connections as f64).to_string()]);
            command.arg("--log-file").arg(&log);
        }
        let report = report(command.arg(format!("http://{}{PATH}", self.addr)))?;
        let answered = number_before(&report, " 2xx")?;
        Ok(Outcome {
            answered: answered as u64,
            failed: count.saturating_sub(answered as u64),
            took: Duration::from_secs_f64(count as f64 / number_before(&report, " req/s")?.max(1.0)),
            latencies: if log.is_file() { latencies(&log)? } else { Vec::new() },
        })
    }
}

/// One request with these fields, which must be answered with 200.
pub(crate) fn one(addr: SocketAddr, path: &str, fields: &[&str]) -> io::Result<()> {
    let mut command = program()?;
    for field in fields {
        command.args(["-H", field]);
    }
    let report = report(command.args(["-n", "1", "-c", "1"]).arg(format!("http://{addr}{path}")))?;
    if number_before(&report, " 2xx")? == 1.0 { Ok(()) } else { Err(io::Error::other(report)) }
}

fn program() -> io::Result<Command> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "there is no h2load here");
    find(PROGRAM).map(Command::new).ok_or_else(missing)
}

fn report(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(text)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()))
    }
}

/// The number in front of the first `unit`.
fn number_before(report: &str, unit: &str) -> io::Result<f64> {
    let number = report.split_once(unit).and_then(|(before, _)| before.split([' ', '\n']).next_back());
    let number = number.and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("h2load did not say how many{unit}:\n{report}")))
}

/// The third column, in microseconds.
fn latencies(log: &Path) -> io::Result<Vec<u32>> {
    let text = std::fs::read_to_string(log)?;
    Ok(text.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect())
}
