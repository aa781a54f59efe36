//! Whether more connections make an answer dearer.

use std::collections::BTreeSet;

use super::{Finding, Sample, median, number};
use crate::subject::Subject;
use crate::workload::{WORKLOADS, Workload};

/// For each workload that was measured over several numbers of connections: the dearest against the
/// cheapest.
pub(crate) fn flatness(samples: &[Sample]) -> Vec<Finding> {
    WORKLOADS.iter().filter_map(|workload| of_workload(samples, workload)).collect()
}

fn of_workload(samples: &[Sample], workload: &Workload) -> Option<Finding> {
    let all: Vec<&Sample> = samples.iter().filter(|s| s.cell.workload.name == workload.name).collect();
    let counts: BTreeSet<usize> = all.iter().map(|sample| sample.cell.connections).collect();
    let (fewest, most) = (counts.first()?, counts.last()?);
    if fewest == most {
        return None;
    }
    let rate = all.first()?.cell.workload.rate;
    let title = format!(
        "CPU of a {} over {fewest} to {most} connections, dearest to cheapest, within a round",
        workload.name
    );
    let line = |subject: Subject| {
        let own: Vec<&Sample> = all.iter().copied().filter(|s| s.subject == subject).collect();
        let full = spread(&own, &counts, |sample| sample.saturated);
        let paced = spread(&own, &counts, |sample| sample.paced);
        let (full, paced) = (number(full?, 2), number(paced?, 2));
        Some(format!("{}: {full} at saturation, {paced} at {rate} a second", subject.name()))
    };
    Some(Finding { title, lines: Subject::ALL.into_iter().filter_map(line).collect() })
}

/// The largest of the medians, over the rounds, of what one number of connections costs to another.
fn spread(
    own: &[&Sample],
    counts: &BTreeSet<usize>,
    cost: impl Fn(&Sample) -> Option<[f64; 2]>,
) -> Option<f64> {
    let at = |round: usize, connections: usize| {
        let sample = own.iter().find(|s| s.round == round && s.cell.connections == connections)?;
        cost(sample).map(|[user, system]| user + system)
    };
    let ratio = |one: usize, other: usize| {
        let rounds: BTreeSet<usize> = own.iter().map(|sample| sample.round).collect();
        median(rounds.into_iter().filter_map(|round| Some(at(round, one)? / at(round, other)?)))
    };
    let pairs = counts.iter().flat_map(|&one| counts.iter().map(move |&other| (one, other)));
    pairs.map(|(one, other)| ratio(one, other)).filter(|ratio| !ratio.is_nan()).max_by(f64::total_cmp)
}
