//! What was found, as a table.

use std::time::Duration;

use super::subject::Subject;
use super::workload::Workload;

/// What one subject did with one workload in one round.
pub(crate) struct Sample {
    pub(crate) subject: Subject,
    pub(crate) workload: Workload,
    pub(crate) connections: usize,
    /// Which round it was.
    pub(crate) round: usize,
    /// Answers a second at saturation.
    pub(crate) throughput: f64,
    /// Of user and system, per answer and in microseconds, at saturation.
    pub(crate) saturated: Option<[f64; 2]>,
    /// The same at the fixed rate.
    pub(crate) paced: Option<[f64; 2]>,
    /// In microseconds at the fixed rate: the 50th, 99th and 99.9th percentile.
    pub(crate) latency: [f64; 3],
    /// In MiB.
    pub(crate) resident: Option<f64>,
    /// Requests without a 200.
    pub(crate) failed: u64,
}

/// What `time` is for each of `count`, in microseconds.
pub(crate) fn each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count.max(1) as f64
}

/// The given percentiles, in per mille, of what is sorted for it.
pub(crate) fn percentiles<const N: usize>(values: &mut [u32], per_mille: [usize; N]) -> [f64; N] {
    values.sort_unstable();
    per_mille.map(|at| {
        let index = (values.len() * at).div_ceil(1000).max(1) - 1;
        values.get(index).copied().map_or(f64::NAN, f64::from)
    })
}

/// Prints the medians over all rounds, a line for each subject, and the ratio to nginx if it was
/// there.
pub(crate) fn print(samples: &[Sample], rounds: usize) {
    println!(
        "Medians over {rounds} rounds. CPU is of all the subject's processes, in microseconds per answer:"
    );
    println!("user + system, and in brackets the median of the ratios to nginx within a round.\n");
    println!(
        "{:9} {:>5} {:8} {:>8} {:>22} {:>22} {:>7} {:>7} {:>7} {:>8} {:>6}",
        "workload",
        "conns",
        "subject",
        "req/s",
        "CPU, saturation",
        "CPU, fixed rate",
        "p50 us",
        "p99",
        "p99.9",
        "RSS MiB",
        "failed"
    );
    let mut done: Vec<(&str, usize, Subject)> = Vec::new();
    for sample in samples {
        let key = (sample.workload.name, sample.connections, sample.subject);
        if done.contains(&key) {
            continue;
        }
        done.push(key);
        let of = |subject| {
            samples
                .iter()
                .filter(move |s| (s.workload.name, s.connections, s.subject) == (key.0, key.1, subject))
        };
        let all: Vec<&Sample> = of(key.2).collect();
        let peer: Vec<&Sample> = of(Subject::Nginx).collect();
        println!(
            "{:9} {:>5} {:8} {:>8.0} {:>22} {:>22} {:>7.0} {:>7.0} {:>7.0} {:>8} {:>6}",
            key.0,
            key.1,
            key.2.name(),
            median(all.iter().map(|s| s.throughput)),
            cpu(&all, &peer, |s| s.saturated),
            cpu(&all, &peer, |s| s.paced),
            median(all.iter().map(|s| s.latency[0])),
            median(all.iter().map(|s| s.latency[1])),
            median(all.iter().map(|s| s.latency[2])),
            memory(&all),
            all.iter().map(|s| s.failed).sum::<u64>(),
        );
    }
}

fn cpu(all: &[&Sample], peer: &[&Sample], of: impl Fn(&Sample) -> Option<[f64; 2]>) -> String {
    let part = |at: usize| median(all.iter().filter_map(|sample| of(sample)).map(|cpu| cpu[at]));
    if all.iter().all(|sample| of(sample).is_none()) {
        return "-".to_owned();
    }
    let sum = |sample: &Sample| of(sample).map(|[user, system]| user + system);
    let ratio = median(all.iter().filter_map(|sample| {
        let beside = peer.iter().find(|peer| peer.round == sample.round)?;
        Some(sum(sample)? / sum(beside)?)
    }));
    let ratio = if ratio.is_nan() { String::new() } else { format!(" ({ratio:.2})") };
    format!("{:.1} + {:.1}{ratio}", part(0), part(1))
}

fn memory(all: &[&Sample]) -> String {
    let resident = median(all.iter().filter_map(|sample| sample.resident));
    if resident.is_nan() { "-".to_owned() } else { format!("{resident:.1}") }
}

/// Not a number if there is nothing.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}
