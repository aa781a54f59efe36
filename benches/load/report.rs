//! What was found, line by line.

mod flatness;
mod markdown;
mod svg;
mod text;

pub(crate) use self::flatness::flatness;
pub(crate) use self::markdown::markdown;
pub(crate) use self::svg::svg;
pub(crate) use self::text::text;
use crate::subject::Subject;
use crate::workload::Workload;

/// One workload over so many connections.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) workload: Workload,
    pub(crate) connections: usize,
}

impl PartialEq for Cell {
    fn eq(&self, other: &Self) -> bool {
        (self.workload.name, self.connections) == (other.workload.name, other.connections)
    }
}

/// What one subject did with one workload in one round.
pub(crate) struct Sample {
    pub(crate) subject: Subject,
    pub(crate) cell: Cell,
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
    pub(crate) resident: f64,
    /// Requests without a 200.
    pub(crate) failed: u64,
}

/// Medians over all rounds. What is not there is not a number.
pub(crate) struct Line {
    pub(crate) subject: Subject,
    pub(crate) cell: Cell,
    pub(crate) throughput: f64,
    pub(crate) saturated: Cost,
    pub(crate) paced: Cost,
    pub(crate) latency: [f64; 3],
    /// The 99th percentile against nginx's, within a round.
    pub(crate) latency_to_nginx: f64,
    pub(crate) resident: f64,
    /// In all rounds together.
    pub(crate) failed: u64,
}

/// Processor time per answer.
pub(crate) struct Cost {
    /// In microseconds.
    pub(crate) user: f64,
    pub(crate) system: f64,
    /// Against nginx, within a round.
    pub(crate) to_nginx: f64,
    /// Against the cheapest of nginx and the HAProxies: the largest of the ratios to each.
    pub(crate) to_cheapest: f64,
    /// Against Envoy, within a round.
    pub(crate) to_envoy: f64,
}

/// What a workload found that is not in the table.
pub(crate) struct Finding {
    pub(crate) title: String,
    pub(crate) lines: Vec<String>,
}

/// A line for each subject and workload, in the order in which they were first measured.
pub(crate) fn summarize(samples: &[Sample]) -> Vec<Line> {
    let mut cells: Vec<Cell> = Vec::new();
    for sample in samples {
        if !cells.contains(&sample.cell) {
            cells.push(sample.cell);
        }
    }
    let line = |cell, subject| line(samples, cell, subject);
    cells
        .iter()
        .flat_map(|cell| Subject::ALL.into_iter().filter_map(move |subject| line(*cell, subject)))
        .collect()
}

fn line(samples: &[Sample], cell: Cell, subject: Subject) -> Option<Line> {
    let all: Vec<&Sample> = samples.iter().filter(|s| s.cell == cell).collect();
    let own: Vec<&Sample> = all.iter().copied().filter(|s| s.subject == subject).collect();
    if own.is_empty() {
        return None;
    }
    let middle = |of: &dyn Fn(&Sample) -> f64| median(own.iter().map(|sample| of(sample)));
    let p99 = |s: &Sample| Some(s.latency[1]);
    Some(Line {
        subject,
        cell,
        throughput: middle(&|s| s.throughput),
        saturated: cost(&all, &own, |s| s.saturated),
        paced: cost(&all, &own, |s| s.paced),
        latency: [0, 1, 2].map(|at| middle(&|s| s.latency[at])),
        latency_to_nginx: ratio(&all, &own, p99, Subject::Nginx),
        resident: middle(&|s| s.resident),
        failed: own.iter().map(|s| s.failed).sum(),
    })
}

fn cost(all: &[&Sample], own: &[&Sample], of: impl Fn(&Sample) -> Option<[f64; 2]>) -> Cost {
    let part = |at: usize| median(own.iter().filter_map(|sample| Some(of(sample)?[at])));
    let sum = |sample: &Sample| of(sample).map(|[user, system]| user + system);
    let to = |peer| ratio(all, own, sum, peer);
    let marks = Subject::ALL.into_iter().filter(|subject| subject.sets_the_mark());
    Cost {
        user: part(0),
        system: part(1),
        to_nginx: to(Subject::Nginx),
        to_cheapest: marks.map(to).fold(f64::NAN, f64::max),
        to_envoy: to(Subject::Envoy),
    }
}

/// The median over the rounds of the ratio to the peer in the round.
fn ratio(all: &[&Sample], own: &[&Sample], of: impl Fn(&Sample) -> Option<f64>, peer: Subject) -> f64 {
    median(own.iter().filter_map(|sample| {
        let peer = all.iter().find(|other| other.round == sample.round && other.subject == peer)?;
        Some(of(sample)? / of(peer)?)
    }))
}

/// The given percentiles, in per mille, of what is sorted for it.
pub(crate) fn percentiles<const N: usize>(values: &mut [u32], per_mille: [usize; N]) -> [f64; N] {
    values.sort_unstable();
    per_mille.map(|at| {
        let index = (values.len() * at).div_ceil(1000).max(1) - 1;
        values.get(index).copied().map_or(f64::NAN, f64::from)
    })
}

/// Not a number if there is nothing.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

/// A number with so many digits after the point; a dash if it is none.
fn number(value: f64, digits: usize) -> String {
    if value.is_nan() { "-".to_owned() } else { format!("{value:.digits$}") }
}
