//! Everybody is refused at once: how long after the one refresh call the last answer comes.

mod streams;

use std::io;
use std::time::{Duration, Instant};

use crate::backend::{Backend, Behaviour, Storm};
use crate::machine::Cores;
use crate::options::Options;
use crate::report::{Finding, median};
use crate::subject::bearerd::{self, Wants};
use crate::subject::{Setting, free_addr};
use crate::workload::PATH;

const CONNECTIONS: usize = 100;
/// On each of them.
const STREAMS: usize = 100;
const REFRESH: Duration = Duration::from_millis(200);
/// How long a storm may take from the first request to the last answer.
const PATIENCE: Duration = Duration::from_secs(50);

pub(crate) fn measure(options: &Options, cores: Cores) -> io::Result<Finding> {
    let runs = (0..options.rounds).map(|_| run(cores)).collect::<io::Result<Vec<_>>>()?;
    let mut lines: Vec<String> = runs.iter().map(|run| run.line()).collect();
    lines.push(format!(
        "median: {:.0} ms after the first 401 and the refresh call, {:.0} ms after the last 401 and the call",
        median(runs.iter().map(|run| run.after_first)),
        median(runs.iter().map(|run| run.after_last)),
    ));
    Ok(Finding {
        title: format!("{CONNECTIONS} HTTP/2 connections of {STREAMS} streams, all refused at once"),
        lines,
    })
}

/// In milliseconds: when the last answer came, once the given 401 was sent and so much time had
/// passed as the refresh call took.
struct Run {
    after_first: f64,
    after_last: f64,
    /// From the first 401 to the last.
    refusing: f64,
    /// How long the refresh call took, as the partner saw it.
    refresh: f64,
    /// How many connections to the partner all of it took.
    connections: usize,
    /// Processor time that bearerd used for all of it.
    busy: f64,
}

impl Run {
    fn line(&self) -> String {
        let Self { after_first, after_last, refusing, refresh, connections, busy } = self;
        format!(
            "1 refresh of {refresh:.0} ms, {} answers of 200; the last came {after_first:.0} ms after the first \
             401 and the call, {after_last:.0} ms after the last 401 and the call ({refusing:.0} ms of 401s); \
             {connections} connections to the partner; bearerd was busy for {busy:.0} ms",
            CONNECTIONS * STREAMS
        )
    }
}

fn run(cores: Cores) -> io::Result<Run> {
    let storm = Storm { requests: CONNECTIONS * STREAMS, refresh: REFRESH };
    let backend = Backend::start(Behaviour { storm: Some(storm), ..Behaviour::default() })?;
    let setting = Setting { backend: backend.addr(), authority: None, http2: true, cores };
    let mut started = bearerd::start(&setting, &Wants { admin: free_addr()?, partners: 1 })?;
    started.check(false)?;
    let before = started.used()?.unwrap_or_default();
    let answered = streams::all(started.addr, (CONNECTIONS, STREAMS), PATH, PATIENCE)?;
    let used = started.used()?.unwrap_or_default().since(before);

    // The first refresh was that of the start.
    let refreshes = backend.seen(|seen| seen.refreshes.clone());
    let (refused, refreshed) = backend.seen(|seen| (seen.refused, seen.refreshed));
    let ([_, asked], Some((first_401, last_401)), Some(refreshed)) = (&*refreshes, refused, refreshed) else {
        return Err(io::Error::other(format!("{} refreshes", refreshes.len().saturating_sub(1))));
    };
    let refresh = refreshed - *asked;
    // Negative where the call had begun before the last 401 was sent.
    let after = |refused: Instant| millis(answered.last - refused) - millis(refresh);
    Ok(Run {
        after_first: after(first_401),
        after_last: after(last_401),
        refusing: millis(last_401 - first_401),
        refresh: millis(refresh),
        connections: backend.seen(|seen| seen.connections),
        busy: millis(used.user + used.system),
    })
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
