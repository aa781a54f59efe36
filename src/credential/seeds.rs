//! Runs a simulation for many seeds, names those that failed, and tells the story of the first.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// How a seed went.
pub(super) struct Outcome<T> {
    pub(super) tally: T,
    pub(super) violation: Option<String>,
    /// Line by line, if it was asked for.
    pub(super) story: Vec<String>,
}

/// What happened, over all seeds.
pub(super) trait Figures: Default + Send + fmt::Display + fmt::Debug + PartialEq {
    fn add(&mut self, other: &Self);
}

/// Runs as many seeds as `BEARERD_SEEDS` says, or `usual`, from `BEARERD_SEED` on, by
/// `simulate(seed, telling)`.
pub(super) fn run<T: Figures>(usual: u64, simulate: fn(u64, bool) -> Outcome<T>) {
    let first = env("BEARERD_SEED");
    let seeds = env("BEARERD_SEEDS").unwrap_or_else(|| first.map_or(usual, |_| 1));
    let (begin, end) = (first.unwrap_or(0), first.unwrap_or(0) + seeds);
    let next = AtomicU64::new(begin);
    let failed: Mutex<BTreeMap<u64, String>> = Mutex::default();
    let total = Mutex::new(T::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = simulate(seed, false);
                    total.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome.tally);
                    if let Some(violation) = outcome.violation {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.insert(seed, violation);
                    }
                }
            });
        }
    });
    println!("{seeds} seeds from {begin}: {}", total.into_inner().unwrap_or_default());
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some((&seed, violation)) = failed.first_key_value() {
        for line in simulate(seed, true).story {
            println!("{line}");
        }
        println!("{} seeds failed: {failed:#?}", failed.len());
        panic!("seed {seed}: {violation}\nBEARERD_SEED={seed} runs it again");
    }
    if seeds == 1 {
        simulate(begin, true).story.iter().for_each(|line| println!("{line}"));
    }
}

/// Runs the first seeds twice each, as many as `BEARERD_SEEDS` says, or `usual`.
pub(super) fn replay<T: Figures>(usual: u64, simulate: fn(u64, bool) -> Outcome<T>) {
    for seed in 0..env("BEARERD_SEEDS").unwrap_or(usual) {
        let (one, two) = (simulate(seed, true), simulate(seed, true));
        assert!(one.story.len() > 5, "seed {seed}: {:?}", one.story);
        assert_eq!(one.story, two.story, "seed {seed}");
        assert_eq!((one.tally, one.violation), (two.tally, two.violation), "seed {seed}");
    }
}

pub(super) fn pick<'a, T>(rng: &mut fastrand::Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

/// The figures of a tally by name, in a line.
pub(super) fn in_a_line(figures: &[(&str, u64)]) -> String {
    let figures: Vec<_> = figures.iter().map(|(what, n)| format!("{n} {what}")).collect();
    figures.join(", ")
}

fn env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}: expected a number, found {text:?}")))
}
