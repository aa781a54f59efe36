//! What partners cost of which there are many: at their first start, when their tokens are due, at a
//! restart with what is in the store, and at rest after that.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::backend::{Backend, Behaviour};
use crate::machine::{Cores, now};
use crate::report::Finding;
use crate::subject::bearerd::{self, Wants};
use crate::subject::{Setting, Started, ask, free_addr};
use crate::workload::request;

const MANY: [usize; 2] = [1_000, 10_000];
/// A refresh is due after half of it, less up to a twentieth of that half.
const LIFETIME: Duration = Duration::from_secs(40);
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked. Being asked costs the gateway something too.
const EACH: Duration = Duration::from_millis(10);
/// How long nothing happens until what is resident is what it takes at rest.
const REST: Duration = Duration::from_secs(2);
/// The most refreshes within this are what a partner's machine feels.
const WINDOW: Duration = Duration::from_millis(100);

pub(crate) fn measure(cores: Cores) -> io::Result<Finding> {
    let alone = run(1, cores)?;
    let mut lines = vec![format!("1: {}", alone.line())];
    for count in MANY {
        match run(count, cores) {
            Ok(run) => lines.push(format!("{count}: {}; {}", run.line(), run.beside(&alone, count))),
            Err(error) => {
                let why = error.to_string().replace("\n", "; ");
                lines.push(format!("{count}: could not be measured: {why}"));
            }
        }
    }
    let life = LIFETIME.as_secs();
    Ok(Finding { title: format!("Many partners, with tokens that live {life} s"), lines })
}

struct Run {
    first: Start,
    /// With tokens in the store of which none is due.
    again: Start,
    /// How long it took from the first refresh to the last, of those after the start.
    wave: Duration,
    /// How many there were, and in the busiest window.
    refreshes: usize,
    busiest: usize,
}

struct Start {
    /// From the start to the first 200 of `/readyz`.
    ready: Duration,
    resident: u64,
    threads: u64,
}

impl Start {
    fn line(&self) -> String {
        format!(
            "ready after {:.2} s, {:.1} MiB, {} threads",
            self.ready.as_secs_f64(),
            self.resident as f64 / (1024.0 * 1024.0),
            self.threads
        )
    }

    fn each(&self, alone: &Self, count: usize) -> f64 {
        (self.resident as f64 - alone.resident as f64) / (count - 1) as f64 / 1024.0
    }
}

impl Run {
    fn line(&self) -> String {
        format!("first start: {}; restart: {}", self.first.line(), self.again.line())
    }

    fn beside(&self, alone: &Self, count: usize) -> String {
        format!(
            "{:.1} KiB for each more after the first start, {:.1} after a restart; \
             {} refreshes of {count} within {:.2} s, of which {:.1} % in the busiest 100 ms",
            self.first.each(&alone.first, count),
            self.again.each(&alone.again, count),
            self.refreshes,
            self.wave.as_secs_f64(),
            100.0 * self.busiest as f64 / self.refreshes.max(1) as f64,
        )
    }
}

fn run(partners: usize, cores: Cores) -> io::Result<Run> {
    let backend = Backend::start(Behaviour { lifetime: LIFETIME, ..Behaviour::default() })?;
    let setting = Setting { backend: backend.addr(), authority: None, http2: false, cores };
    let admin = free_addr()?;
    let begun = now();
    let mut started = bearerd::start(&setting, &Wants { admin, partners })?;
    let first = Start::of(&mut started, admin, begun)?;
    let calls = || backend.seen(|seen| seen.refreshes.len());
    let before = calls();
    if partners > 1 {
        // Until all have been due once more, or should have been. If they have not, fewer are told.
        let _ = started.wait(LIFETIME, EACH, || match calls() - before >= partners {
            true => Ok(()),
            false => Err(io::ErrorKind::TimedOut.into()),
        });
    }
    let times: Vec<Instant> = backend.seen(|seen| seen.refreshes[before..].to_vec());
    let wave = times.last().zip(times.first()).map(|(last, first)| *last - *first).unwrap_or_default();
    let (begun, mut restarted) = started.restart()?;
    let again = Start::of(&mut restarted, admin, begun)?;
    Ok(Run { first, again, wave, refreshes: times.len(), busiest: busiest(&times) })
}

impl Start {
    /// Waits until it is ready, and at rest.
    fn of(started: &mut Started, admin: SocketAddr, begun: Instant) -> io::Result<Self> {
        let probe = request("/readyz", &[], 0);
        started.wait(PATIENCE, EACH, || match ask(admin, &probe)?.0 {
            head if head.starts_with("HTTP/1.1 200 ") => Ok(()),
            head => Err(io::Error::other(head.lines().next().unwrap_or_default())),
        })?;
        let ready = begun.elapsed();
        std::thread::sleep(REST);
        let process = started.process().ok_or_else(|| io::Error::other("there is no process"))?;
        Ok(Self { ready, resident: process.resident()?, threads: process.threads()? })
    }
}

/// How many of the sorted times are at most within one window.
fn busiest(times: &[Instant]) -> usize {
    let from = |at: usize| times[at..].partition_point(|time| *time - times[at] < WINDOW);
    (0..times.len()).map(from).max().unwrap_or_default()
}
