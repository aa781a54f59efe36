//! What the whole gateway costs: the release program between a load and a backend, all on loopback,
//! beside other gateways that do the same work.
//!
//! The gateway has one core, the load and the backend have the other. Subjects are measured in
//! turn, one round after another with the order rotated, because what a machine gives drifts by
//! more than what is to be told apart: only what was measured within a round is to be compared.

#![allow(missing_docs)]

mod backend;
mod generator;
mod h2load;
mod idle;
mod machine;
mod options;
mod partners;
mod process;
mod report;
mod rotation;
mod socket;
mod storm;
mod subject;
mod table;
mod upload;
mod wire;
mod workload;

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use self::machine::Cores;
use self::options::{Options, USAGE};
use self::socket::Identity;
use self::subject::Subject;
use self::table::Table;
use self::workload::Special;

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
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all of bearerd could be measured. What could not has been said.
fn run(options: &Options) -> io::Result<bool> {
    machine::raise_descriptors();
    bearerd::telemetry::raise_descriptor_limit()?;
    let cores = Cores::find()?;
    if cores.gateway == cores.load {
        eprintln!("load: there is one core only; what is measured includes the wait for it");
    }
    machine::pin(cores.load)?;
    let mut about = vec![
        machine::describe(cores),
        format!(
            "medians over {} rounds of {} s for each subject and pace, in turn; ratios are within a round",
            options.rounds,
            options.time.as_secs()
        ),
    ];
    let subjects = available(&options.subjects, &mut about);
    let (samples, mut whole) = match options.workloads.is_empty() {
        true => (Vec::new(), true),
        false => Table::new(options, &subjects, cores, &Identity::new()?)?.measure(),
    };
    let mut findings = report::flatness(&samples);
    for &special in &options.specials {
        let found = match special {
            Special::Idle => idle::measure(&subjects, cores),
            Special::Upload => upload::measure(cores),
            Special::Rotation => rotation::measure(options, cores),
            Special::Storm => storm::measure(options, cores),
            Special::Partners => partners::measure(cores),
        };
        match found {
            Ok(finding) => findings.push(finding),
            Err(error) => {
                eprintln!("load: {} could not be measured: {error}", special.name());
                whole = false;
            }
        }
    }
    let lines = report::summarize(&samples);
    print!("{}", report::text(&about, &lines, &findings));
    if let Some(path) = &options.markdown {
        write(path, &report::markdown(&about, &lines, &findings))?;
    }
    if let Some(path) = &options.svg {
        write(path, &report::svg(&lines, &about[0]))?;
    }
    Ok(whole)
}

/// Those that can be had here, with their versions added to `about`; says which cannot.
fn available(subjects: &[Subject], about: &mut Vec<String>) -> Vec<Subject> {
    let mut all = Vec::new();
    for &subject in subjects {
        match subject.version() {
            Ok(version) => {
                about.push(format!("{}: {}", subject.name(), version.trim_start_matches("bearerd ")));
                all.push(subject);
            }
            Err(reason) => eprintln!("load: {} is left out: {reason}", subject.name()),
        }
    }
    all
}

#[expect(clippy::disallowed_methods, reason = "what can be measured again need not survive a crash")]
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, text)
}
