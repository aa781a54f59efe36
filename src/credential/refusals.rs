//! What 401s may cost: which paths are held, and how many refreshes they may ask for.
//!
//! A token that was revoked heals with one refresh. A 401 that means "you may not" is not mended
//! by any token, and a client that repeats it must not be able to spend refreshes at will. So a
//! path on which a refresh did not help is held for a while, and all paths have a budget.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;
use crate::token::{Digest, Generation};

/// Paths that are remembered, the last ones.
const PATHS: usize = 64;
/// How long a path is held at first, and at most.
const HOLD: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// Refreshes in a burst, and the time in which one more becomes available.
const BURST: u32 = 10;
const REFILL: Duration = Duration::from_secs(10);

/// The 401s of one partner.
#[derive(Debug)]
pub(super) struct Refusals {
    held: VecDeque<Held>,
    available: u32,
    refilled_at: Moment,
    /// A refresh beyond this generation has been paid for.
    paid_for: Option<Generation>,
}

#[derive(Debug)]
struct Held {
    path: Digest,
    until: Moment,
    wait: Duration,
    /// The generation that was refused.
    generation: Generation,
}

/// Whether a 401 against the current generation may ask for a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It may, or one is already under way for the same generation.
    Ask,
    /// The path is held.
    Held,
    /// The budget is used up.
    Spent,
}

impl Refusals {
    pub(super) fn new(now: Moment) -> Self {
        Self { held: VecDeque::new(), available: BURST, refilled_at: now, paid_for: None }
    }

    /// Judges a 401 on `path` against `generation`, which is the current one.
    pub(super) fn judge(&mut self, path: Digest, generation: Generation, now: Moment) -> Judgement {
        if self.held.iter().any(|held| held.path == path && now < held.until) {
            return Judgement::Held;
        }
        if self.paid_for.is_some_and(|paid| paid >= generation) {
            return Judgement::Ask;
        }
        self.refill(now);
        if self.available == 0 {
            return Judgement::Spent;
        }
        self.available -= 1;
        self.paid_for = Some(generation);
        Judgement::Ask
    }

    /// A refresh did not help on `path`, on which `generation` was refused.
    pub(super) fn hold(&mut self, path: Digest, generation: Generation, now: Moment) {
        let earlier = self.held.iter().position(|held| held.path == path).and_then(|at| self.held.remove(at));
        let wait = match earlier {
            // Several requests of one burst report the same failure: it counts once.
            Some(held) if now < held.until => held.wait,
            Some(held) => (held.wait * 2).min(HOLD.1),
            None => HOLD.0,
        };
        if self.held.len() == PATHS {
            self.held.pop_front();
        }
        self.held.push_back(Held { path, until: now + wait, wait, generation });
    }

    /// A request on `path` was accepted with `generation`.
    pub(super) fn accepted(&mut self, path: Digest, generation: Generation) {
        self.held.retain(|held| held.path != path || held.generation >= generation);
    }

    /// How many paths are remembered.
    pub(super) fn paths(&self) -> usize {
        self.held.len()
    }

    fn refill(&mut self, now: Moment) {
        let refills = now.since(self.refilled_at).as_secs() / REFILL.as_secs();
        let refills = u32::try_from(refills).unwrap_or(BURST).min(BURST);
        self.available = (self.available + refills).min(BURST);
        // What a full budget does not take in is not saved up.
        self.refilled_at = if self.available == BURST { now } else { self.refilled_at + REFILL * refills };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> Digest {
        Digest::of(&[name.as_bytes()])
    }

    fn at(secs: u64) -> Moment {
        Moment(Duration::from_secs(secs))
    }

    #[test]
    fn one_generation_is_paid_for_once() {
        let mut refusals = Refusals::new(at(0));
        for n in 0..100 {
            assert_eq!(refusals.judge(path(&format!("/{n}")), Generation(1), at(0)), Judgement::Ask);
        }
        assert_eq!(refusals.available, BURST - 1);
    }

    #[test]
    fn ten_in_a_burst_and_then_one_every_ten_seconds() {
        let mut refusals = Refusals::new(at(0));
        for n in 1..=10 {
            assert_eq!(refusals.judge(path("/a"), Generation(n), at(0)), Judgement::Ask);
        }
        assert_eq!(refusals.judge(path("/a"), Generation(11), at(9)), Judgement::Spent);
        assert_eq!(refusals.judge(path("/a"), Generation(11), at(10)), Judgement::Ask);
        assert_eq!(refusals.judge(path("/a"), Generation(12), at(19)), Judgement::Spent);
        assert_eq!(refusals.judge(path("/a"), Generation(12), at(20)), Judgement::Ask);
        for n in 13..23 {
            assert_eq!(refusals.judge(path("/a"), Generation(n), at(100_000)), Judgement::Ask);
        }
        assert_eq!(refusals.judge(path("/a"), Generation(23), at(100_000)), Judgement::Spent);
    }

    #[test]
    fn a_hold_doubles_from_thirty_seconds_to_ten_minutes() {
        let mut refusals = Refusals::new(at(0));
        let mut now = 0;
        for wait in [30, 60, 120, 240, 480, 600, 600] {
            refusals.hold(path("/a"), Generation(1), at(now));
            assert_eq!(refusals.judge(path("/a"), Generation(1), at(now + wait - 1)), Judgement::Held);
            assert_ne!(refusals.judge(path("/a"), Generation(1), at(now + wait)), Judgement::Held);
            now += wait;
        }
    }

    #[test]
    fn a_burst_of_reports_on_a_path_counts_once() {
        let mut refusals = Refusals::new(at(0));
        for _ in 0..100 {
            refusals.hold(path("/a"), Generation(1), at(0));
        }
        assert_ne!(refusals.judge(path("/a"), Generation(1), at(30)), Judgement::Held);
    }

    #[test]
    fn other_paths_still_heal() {
        let mut refusals = Refusals::new(at(0));
        refusals.hold(path("/a"), Generation(1), at(0));
        assert_eq!(refusals.judge(path("/b"), Generation(1), at(1)), Judgement::Ask);
    }

    #[test]
    fn only_acceptance_of_a_newer_generation_lifts_a_hold() {
        let mut refusals = Refusals::new(at(0));
        refusals.hold(path("/a"), Generation(2), at(0));
        refusals.accepted(path("/a"), Generation(2));
        refusals.accepted(path("/b"), Generation(3));
        assert_eq!(refusals.judge(path("/a"), Generation(2), at(1)), Judgement::Held);
        refusals.accepted(path("/a"), Generation(3));
        assert_eq!(refusals.judge(path("/a"), Generation(3), at(1)), Judgement::Ask);
    }

    #[test]
    fn the_last_64_paths_are_remembered() {
        let mut refusals = Refusals::new(at(0));
        for n in 0..=PATHS {
            refusals.hold(path(&n.to_string()), Generation(1), at(0));
        }
        assert_eq!(refusals.paths(), PATHS);
        assert_eq!(refusals.judge(path("0"), Generation(1), at(1)), Judgement::Ask);
        assert_eq!(refusals.judge(path("1"), Generation(1), at(1)), Judgement::Held);
    }
}
