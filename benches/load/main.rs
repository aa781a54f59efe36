//! What the whole gateway costs: the release program between a load and a backend, all on loopback.
//!
//! The gateway has one core, the load and the backend have the other. Subjects are measured in
//! turn, one round after another with the order rotated, because what a machine gives drifts by
//! more than what is to be told apart: only what was measured within a round is to be compared.

#![allow(missing_docs)]

mod backend;
mod generator;
mod process;
mod report;
mod subject;
mod wire;
mod workload;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use self::backend::Backend;
use self::generator::{Generator, Outcome, Pace};
use self::report::{Sample, each, percentiles};
use self::subject::{Started, Subject};
use self::workload::{WORKLOADS, Workload};

const USAGE: &str = "\
cargo bench --bench load -- [OPTION...]
    --seconds N       how long each run takes, 1 to 60; 2 if not given
    --rounds N        how many rounds, 1 to 100; 3 if not given
    --workload NAME   get, post-1k or post-64k; all of them if not given
    --connections N   1 to 2000; 8, 64 and 512 if not given
    --rate N          requests a second in the runs at a fixed rate, 1 to 100000
    --subject NAME    direct, bearerd or nginx; all of them if not given";

/// How long connections are used before anything is counted.
const WARM_UP: Duration = Duration::from_millis(300);

/// What is asked for.
struct Options {
    time: Duration,
    rounds: usize,
    workloads: Vec<Workload>,
    connections: Vec<usize>,
    rate: Option<u32>,
    subjects: Vec<Subject>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` says `--bench`; `cargo test` runs this too, and wants to know only that it
    // starts.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured without `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let Some(options) = Options::parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn parse(arguments: &[String]) -> Option<Self> {
        let mut options = Self {
            time: Duration::from_secs(2),
            rounds: 3,
            workloads: WORKLOADS.to_vec(),
            connections: vec![8, 64, 512],
            rate: None,
            subjects: Subject::available(),
        };
        let mut arguments = arguments.iter().filter(|argument| *argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next()?;
            let number = |range: std::ops::RangeInclusive<u32>| {
                value.parse::<u32>().ok().filter(|number| range.contains(number))
            };
            match name.as_str() {
                "--seconds" => options.time = Duration::from_secs(number(1..=60)?.into()),
                "--rounds" => options.rounds = number(1..=100)? as usize,
                "--connections" => options.connections = vec![number(1..=2000)? as usize],
                "--rate" => options.rate = Some(number(1..=100_000)?),
                "--workload" => options.workloads.retain(|workload| workload.name == value),
                "--subject" => options.subjects.retain(|subject| subject.name() == value),
                _ => return None,
            }
        }
        (!options.workloads.is_empty() && !options.subjects.is_empty()).then_some(options)
    }
}

fn run(options: &Options) -> io::Result<()> {
    bearerd::telemetry::raise_descriptor_limit()?;
    let cores = process::cores()?;
    let (Some(&gateway), Some(&load)) = (cores.first(), cores.last()) else {
        return Err(io::Error::other("no core to run on"));
    };
    if gateway == load {
        eprintln!("load: there is one core only; what is measured includes the wait for it");
    }
    process::pin(load)?;
    let backend = Backend::start()?;

    let cases = options.workloads.len() * options.connections.len() * options.subjects.len();
    let time = (options.time + WARM_UP) * 2 * (cases * options.rounds) as u32;
    eprintln!("load: {} runs in about {} s", 2 * cases * options.rounds, time.as_secs());
    let mut samples = Vec::with_capacity(cases * options.rounds);
    for round in 0..options.rounds {
        for workload in &options.workloads {
            for &connections in &options.connections {
                for turn in 0..options.subjects.len() {
                    let subject = options.subjects[(turn + round) % options.subjects.len()];
                    let named = |error| {
                        let (subject, workload) = (subject.name(), workload.name);
                        io::Error::other(format!("{subject}, {workload}, {connections} connections: {error}"))
                    };
                    let started = subject.start(backend.addr(), gateway, load).map_err(named)?;
                    let rate = options.rate.unwrap_or(workload.rate);
                    let measure = Measure { started: &started, time: options.time, rate };
                    let sample = measure.run(subject, *workload, connections, round).map_err(named)?;
                    samples.push(sample);
                }
            }
        }
        eprintln!("load: round {} of {} is done", round + 1, options.rounds);
    }
    report::print(&samples, options.rounds);
    Ok(())
}

/// One subject, as long as it runs.
struct Measure<'a> {
    started: &'a Started,
    time: Duration,
    rate: u32,
}

impl Measure<'_> {
    fn run(
        &self,
        subject: Subject,
        workload: Workload,
        connections: usize,
        round: usize,
    ) -> io::Result<Sample> {
        let request = workload.request();
        let mut generator = Generator::connect(self.started.addr, connections, &request)?;
        let (full, saturated) = self.pace(&mut generator, Pace::Saturation)?;
        let (mut steady, paced) = self.pace(&mut generator, Pace::Rate(self.rate))?;
        Ok(Sample {
            subject,
            workload,
            connections,
            round,
            throughput: full.answered as f64 / full.took.as_secs_f64(),
            saturated,
            paced,
            latency: percentiles(&mut steady.latencies, [500, 990, 999]),
            resident: self.started.resident()?.map(|bytes| bytes as f64 / (1024.0 * 1024.0)),
            failed: full.failed + steady.failed,
        })
    }

    fn pace(&self, generator: &mut Generator<'_>, pace: Pace) -> io::Result<(Outcome, Option<[f64; 2]>)> {
        generator.run(pace, WARM_UP)?;
        let before = self.started.used()?;
        let outcome = generator.run(pace, self.time)?;
        let used = self.started.used()?.zip(before).map(|(after, before)| after.since(before));
        let each = used.map(|used| [used.user, used.system].map(|time| each(time, outcome.answered)));
        Ok((outcome, each))
    }
}
