//! The table: every subject with every workload, in turn.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::backend::{Backend, Behaviour};
use crate::generator::{Generator, Outcome, Pace};
use crate::h2load::H2load;
use crate::machine::Cores;
use crate::options::Options;
use crate::report::{Cell, Sample, median, percentiles};
use crate::socket::Identity;
use crate::subject::{Setting, Started, Subject};
use crate::workload::Workload;

/// How long connections are used before anything is counted.
const WARM_UP: Duration = Duration::from_millis(300);
/// How often a peer is tried to learn what it gets through.
const TRIES: usize = 3;
/// What has failed so often is not tried again.
const MAX_FAILURES: usize = 2;
/// How many requests over HTTP/2 are sent before anything is counted.
const WARM_UP_COUNT: u64 = 4_000;

/// Measures, and says on the way what could not be measured.
pub(crate) struct Table<'a> {
    options: &'a Options,
    subjects: &'a [Subject],
    cores: Cores,
    identity: &'a Identity,
    plain: Backend,
    tls: Backend,
    /// What has failed, as often as it has.
    failed: Vec<(Cell, Subject)>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(
        options: &'a Options,
        subjects: &'a [Subject],
        cores: Cores,
        identity: &'a Identity,
    ) -> io::Result<Self> {
        let tls = Behaviour { tls: Some(identity.server.clone()), ..Behaviour::default() };
        let (plain, tls) = (Backend::start(Behaviour::default())?, Backend::start(tls)?);
        Ok(Self { options, subjects, cores, identity, plain, tls, failed: Vec::new() })
    }

    /// All rounds; whether bearerd could be measured throughout.
    pub(crate) fn measure(&mut self) -> (Vec<Sample>, bool) {
        let mut runs = Vec::new();
        for cell in self.cells() {
            let subjects = self
                .subjects
                .iter()
                .filter(|subject| **subject != Subject::Direct || cell.workload.goes_direct());
            runs.push((cell, subjects.copied().collect::<Vec<_>>()));
        }
        let count: usize =
            runs.iter().map(|(_, subjects)| subjects.len()).sum::<usize>() * self.options.rounds;
        // Two paces, and starting.
        let time = ((self.options.time + WARM_UP) * 2 + WARM_UP) * count as u32;
        eprintln!("load: {count} runs in about {} minutes", time.as_secs().div_ceil(60));
        // The first run of all is dearer than any other, and thrown away.
        if let Some((cell, subjects)) = runs.first() {
            let _ = self.run(*cell, subjects[0], 0);
        }
        // The same over all numbers of connections, so that their costs can be compared.
        let mut rates = BTreeMap::new();
        for (cell, subjects) in &runs {
            let rate = self.rate(*cell, subjects);
            rates
                .entry(cell.workload.name)
                .and_modify(|lowest: &mut u32| *lowest = rate.min(*lowest))
                .or_insert(rate);
        }
        for (cell, _) in &mut runs {
            cell.workload.rate = rates[cell.workload.name];
        }
        eprintln!("load: the fixed rates are known");
        let mut samples = Vec::with_capacity(count);
        for round in 0..self.options.rounds {
            for (cell, subjects) in &runs {
                for turn in 0..subjects.len() {
                    let subject = subjects[(turn + round) % subjects.len()];
                    samples.extend(self.run(*cell, subject, round));
                }
            }
            eprintln!("load: round {} of {} is done", round + 1, self.options.rounds);
        }
        let whole = self.failed.iter().all(|(_, subject)| *subject != Subject::Bearerd);
        (samples, whole)
    }

    /// How many requests a second are sent in the runs at a fixed rate: what was asked for, or half of
    /// what the slowest good peer gets through.
    fn rate(&self, cell: Cell, subjects: &[Subject]) -> u32 {
        let reached = |peer: Subject| {
            let tries: Vec<f64> = (0..TRIES).filter_map(|_| self.throughput(cell, peer).ok()).collect();
            (!tries.is_empty()).then(|| median(tries.into_iter()))
        };
        let slowest = || {
            let peers = subjects.iter().copied().filter(|subject| subject.sets_the_mark());
            // To the hundred, as it is to be read.
            peers.filter_map(reached).min_by(f64::total_cmp).map(|rate| (rate / 200.0).max(1.0) as u32 * 100)
        };
        self.options.rate.or_else(slowest).unwrap_or(cell.workload.rate)
    }

    fn cells(&self) -> Vec<Cell> {
        let of = |workload: Workload| {
            let connections = self.options.connections;
            let all =
                connections.map_or_else(|| workload.connections.to_vec(), |connections| vec![connections]);
            all.into_iter().map(move |connections| Cell { workload, connections })
        };
        self.options.workloads.iter().copied().flat_map(of).collect()
    }

    fn run(&mut self, cell: Cell, subject: Subject, round: usize) -> Option<Sample> {
        let failures = self.failed.iter().filter(|failed| **failed == (cell, subject)).count();
        if failures >= MAX_FAILURES {
            return None;
        }
        match self.try_run(cell, subject, round) {
            Ok(sample) => Some(sample),
            Err(error) => {
                let (subject_name, workload) = (subject.name(), cell.workload.name);
                let connections = cell.connections;
                eprintln!("load: {subject_name} failed in {workload}, {connections} connections: {error}");
                self.failed.push((cell, subject));
                None
            }
        }
    }

    /// Starts a subject, and sends to it until it is warm.
    fn begin<'r>(
        &'r self,
        cell: Cell,
        subject: Subject,
        request: &'r [u8],
    ) -> io::Result<(Started, Load<'r>)> {
        let (backend, authority) = match cell.workload.tls {
            true => (&self.tls, Some(&*self.identity.authority)),
            false => (&self.plain, None),
        };
        let http2 = cell.workload.http2;
        let started =
            subject.start(&Setting { backend: backend.addr(), authority, http2, cores: self.cores })?;
        let mut load = match http2 {
            true => Load::Http2(H2load::new(started.addr, cell.connections), 0.0),
            false => Load::Http1(Generator::connect(started.addr, cell.connections, request, backend)?),
        };
        load.warm_up(Pace::Saturation)?;
        Ok((started, load))
    }

    /// How many answers a second it gives at saturation.
    fn throughput(&self, cell: Cell, subject: Subject) -> io::Result<f64> {
        let request = cell.workload.request();
        let (_started, mut load) = self.begin(cell, subject, &request)?;
        Ok(load.run(Pace::Saturation, self.options.time)?.throughput())
    }

    fn try_run(&self, cell: Cell, subject: Subject, round: usize) -> io::Result<Sample> {
        let request = cell.workload.request();
        let (started, mut load) = self.begin(cell, subject, &request)?;
        let time = self.options.time;
        let (full, saturated) = counted(&started, || load.run(Pace::Saturation, time))?;
        let pace = Pace::Rate(cell.workload.rate);
        load.warm_up(pace)?;
        let (mut steady, paced) = counted(&started, || load.run(pace, time))?;
        Ok(Sample {
            subject,
            cell,
            round,
            throughput: full.throughput(),
            saturated,
            paced,
            latency: percentiles(&mut steady.latencies, [500, 990, 999]),
            resident: started.resident()? as f64 / (1024.0 * 1024.0),
            failed: full.failed + steady.failed,
        })
    }
}

/// What is sent, by whom.
enum Load<'a> {
    Http1(Generator<'a>),
    /// And how many a second it has got through.
    Http2(H2load, f64),
}

impl Load<'_> {
    fn warm_up(&mut self, pace: Pace) -> io::Result<()> {
        match (self, pace) {
            (Self::Http1(generator), _) => generator.run(pace, WARM_UP).map(drop),
            (Self::Http2(h2load, reached), Pace::Saturation) => {
                let outcome = h2load.run(pace, WARM_UP_COUNT)?;
                *reached = outcome.answered as f64 / outcome.took.as_secs_f64();
                Ok(())
            }
            // It makes new connections for each run.
            (Self::Http2(..), Pace::Rate(_)) => Ok(()),
        }
    }

    fn run(&mut self, pace: Pace, time: Duration) -> io::Result<Outcome> {
        match (self, pace) {
            (Self::Http1(generator), _) => generator.run(pace, time),
            // It is given a number of requests, so that all that it sends is counted.
            (Self::Http2(h2load, reached), Pace::Saturation) => {
                h2load.run(pace, (*reached * time.as_secs_f64()) as u64)
            }
            (Self::Http2(h2load, _), Pace::Rate(rate)) => {
                h2load.run(pace, (f64::from(rate) * time.as_secs_f64()) as u64)
            }
        }
    }
}

/// What a run found, and what it cost the subject: user and system, in microseconds per answer.
fn counted(
    started: &Started,
    run: impl FnOnce() -> io::Result<Outcome>,
) -> io::Result<(Outcome, Option<[f64; 2]>)> {
    let before = started.used()?;
    let outcome = run()?;
    let used = started.used()?.zip(before).map(|(after, before)| after.since(before));
    let each = |time: Duration| time.as_secs_f64() * 1e6 / outcome.answered.max(1) as f64;
    let each = used.map(|used| [each(used.user), each(used.system)]);
    Ok((outcome, each))
}
