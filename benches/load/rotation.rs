//! Whether requests feel that the token changes under them: a steady load with a refresh every
//! second, and the same load without, in turn.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::backend::{Backend, Behaviour};
use crate::generator::{Generator, Outcome, Pace};
use crate::machine::Cores;
use crate::options::Options;
use crate::report::{Finding, median, percentiles};
use crate::subject::bearerd::{self, ADMIN_TOKEN, Wants};
use crate::subject::{Setting, ask, free_addr};
use crate::workload::{PATH, request};

/// From one refresh to the next.
const EACH: Duration = Duration::from_secs(1);
const RATE: u32 = 8_000;
const CONNECTIONS: usize = 64;

pub(crate) fn measure(options: &Options, cores: Cores) -> io::Result<Finding> {
    let backend = Backend::start(Behaviour::default())?;
    let setting = Setting { backend: backend.addr(), authority: None, http2: false, cores };
    let admin = free_addr()?;
    let mut started = bearerd::start(&setting, &Wants { admin, partners: 1 })?;
    started.check(false)?;
    let rate = options.rate.unwrap_or(RATE);
    let connections = options.connections.unwrap_or(CONNECTIONS);
    // Long enough for some refreshes.
    let time = (options.time * 3).max(3 * EACH);
    let request = request(PATH, &[], 0);
    let mut generator = Generator::connect(started.addr, connections, &request, &backend)?;
    generator.run(Pace::Rate(rate), EACH)?;

    let calls = || backend.seen(|seen| seen.refreshes.len());
    let (mut with, mut without, mut refreshes, mut failed) = (Vec::new(), Vec::new(), 0, 0);
    for round in 0..options.rounds {
        for turn in 0..2 {
            let before = calls();
            let refreshing = (turn + round) % 2 == 0;
            let mut outcome = match refreshing {
                true => beside_refreshes(admin, || generator.run(Pace::Rate(rate), time))?,
                false => generator.run(Pace::Rate(rate), time)?,
            };
            let seen = calls() - before;
            let wanted = if refreshing { time.as_secs() as usize - 1..=usize::MAX } else { 0..=0 };
            if !wanted.contains(&seen) {
                return Err(io::Error::other(format!(
                    "there were {seen} refreshes, refreshing: {refreshing}"
                )));
            }
            refreshes += seen;
            failed += outcome.failed;
            let latency = percentiles(&mut outcome.latencies, [500, 990, 999]);
            if refreshing { with.push(latency) } else { without.push(latency) }
        }
    }
    let middle = |all: &[[f64; 3]]| [0, 1, 2].map(|at| median(all.iter().map(|latency| latency[at])));
    let ratio = |at: usize| median(with.iter().zip(&without).map(|(with, without)| with[at] / without[at]));
    let line = |name: &str, [p50, p99, p999]: [f64; 3]| {
        format!("{name}: p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us")
    };
    Ok(Finding {
        title: format!("A refresh every second, under {rate} requests a second on {connections} connections"),
        lines: vec![
            line("with", middle(&with)),
            line("without", middle(&without)),
            format!(
                "median of the ratios within a round: p50 {:.3}, p99 {:.3}, p99.9 {:.3}",
                ratio(0),
                ratio(1),
                ratio(2)
            ),
            format!(
                "{} rounds of {} s each; the partner counted {refreshes} refreshes; {failed} requests failed",
                options.rounds,
                time.as_secs()
            ),
        ],
    })
}

/// Runs while an operator asks for one refresh after another, each of which must succeed.
fn beside_refreshes(admin: SocketAddr, run: impl FnOnce() -> io::Result<Outcome>) -> io::Result<Outcome> {
    let (stop, stopped) = channel::<()>();
    std::thread::scope(|scope| {
        let operator = scope.spawn(move || {
            // Not at the edges of the run.
            let mut pause = EACH / 2;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                refresh(admin)?;
                pause = EACH;
            }
            Ok::<(), io::Error>(())
        });
        let outcome = run();
        drop(stop);
        operator.join().map_err(|_| io::Error::other("the operator panicked"))??;
        outcome
    })
}

fn refresh(admin: SocketAddr) -> io::Result<()> {
    let request = format!(
        "POST /partners/p0/refresh HTTP/1.1\r\nHost: {admin}\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    match ask(admin, request.as_bytes())?.0 {
        head if head.starts_with("HTTP/1.1 200 ") => Ok(()),
        head => Err(io::Error::other(head)),
    }
}
