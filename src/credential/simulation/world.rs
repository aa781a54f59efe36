//! What a seed decides, and what everybody in the simulation knows.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::disk::Disk;
use super::partner::Desk;
use crate::clock::{Clock as _, Moment};
use crate::credential::seeds::{Figures, in_a_line, pick};
use crate::credential::testing::{FakeClock, START};
use crate::credential::{Policy, RefreshHandle};
use crate::token::{Digest, Generation};

/// A grace within which bearerd must recover: the faults let go of it long before it is over, and some
/// access tokens live on much longer, so that to wait for their end is too late.
pub(super) const LONG_GRACE: Duration = Duration::from_secs(300);
const MERCY: Duration = Duration::from_secs(90);

/// The digest of the login secrets, where a login is configured.
pub(super) const LOGIN: Digest = Digest([1; 32]);

/// What stays as it is for all of one seed.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) policy: Policy,
    /// How long the partner's access tokens live.
    pub(super) life: Duration,
    pub(super) login: bool,
    pub(super) seed: bool,
    pub(super) rotation: Rotation,
    /// How often a call goes wrong.
    pub(super) partner_faults: f64,
    /// How often a save begins a series of failures.
    pub(super) store_faults: f64,
    /// Of the runs, how many end in a crash while a call or a save is under way.
    pub(super) busy_crashes: f64,
    /// How many steps under way such a crash waits for, at most.
    pub(super) steps: u32,
    /// How long a run lasts otherwise, at most.
    pub(super) run: Duration,
    /// How long the faults go on.
    pub(super) chaos: Duration,
    pub(super) revocations: f64,
    pub(super) clock_changes: f64,
    pub(super) orders: f64,
}

/// What the partner does with a refresh token that it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rotation {
    /// Spends it and gives another.
    Spends,
    /// Gives it back.
    Same,
    /// Says nothing of it, which means the same.
    Silent,
}

impl Plan {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let life = Duration::from_secs(*pick(rng, &[20, 60, 60, 300, 1800]));
        let login = rng.u8(..3) == 0;
        let policy = Policy {
            ahead: Duration::from_secs(*pick(rng, &[5, 30, 900])),
            timeout: Duration::from_secs(10),
            grace: *pick(rng, &[Duration::ZERO, Duration::from_secs(5), LONG_GRACE, LONG_GRACE]),
            default_lifetime: life,
        };
        Self {
            policy,
            life,
            login,
            seed: !login || rng.bool(),
            rotation: *pick(
                rng,
                &[Rotation::Spends, Rotation::Spends, Rotation::Spends, Rotation::Same, Rotation::Silent],
            ),
            partner_faults: *pick(rng, &[0.0, 0.1, 0.3, 0.6]),
            store_faults: *pick(rng, &[0.0, 0.0, 0.05, 0.3]),
            busy_crashes: *pick(rng, &[0.0, 0.5, 0.9]),
            steps: *pick(rng, &[5, 15, 40]),
            run: life * *pick(rng, &[1, 3, 10]),
            chaos: life * rng.u32(2..12),
            revocations: *pick(rng, &[0.0, 0.0, 0.2]),
            clock_changes: *pick(rng, &[0.0, 0.0, 0.1]),
            orders: *pick(rng, &[0.0, 0.0, 0.3]),
        }
    }
}

/// Everything outside the refresher, and the accounts.
pub(super) struct World {
    pub(super) rng: fastrand::Rng,
    pub(super) plan: Plan,
    pub(super) clock: Arc<FakeClock>,
    pub(super) disk: Disk,
    pub(super) desk: Desk,
    pub(super) tally: Tally,
    /// The faults are over.
    pub(super) calm: bool,
    /// The process is dying right now.
    pub(super) crashing: bool,
    /// Calls and saves under way.
    pub(super) busy: usize,
    /// The newest generation to which this run's clients saw a 401.
    pub(super) refused: Option<Generation>,
    /// An operator has asked for a refresh.
    pub(super) ordered: bool,
    /// Since when the pair in use is in memory alone.
    pub(super) unsaved_since: Option<Moment>,
    /// This run's handle.
    pub(super) handle: Option<Arc<RefreshHandle>>,
    /// Why it may be that only an operator can help.
    pub(super) excuses: Vec<&'static str>,
    /// The wall clock was set back, so that across a restart no time is what it seems.
    pub(super) set_back: bool,
    pub(super) violation: Option<String>,
    pub(super) story: Vec<String>,
    telling: bool,
}

pub(super) type Shared = Arc<Mutex<World>>;

pub(super) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(super) fn new(seed: u64, telling: bool) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = Plan::draw(&mut rng);
        let mut world = Self {
            rng,
            plan,
            clock: FakeClock::new(),
            disk: Disk::default(),
            desk: Desk::default(),
            tally: Tally::default(),
            calm: false,
            crashing: false,
            busy: 0,
            refused: None,
            ordered: false,
            unsaved_since: None,
            handle: None,
            excuses: Vec::new(),
            set_back: false,
            violation: None,
            story: Vec::new(),
            telling,
        };
        world.tell(|world| format!("{:?}", world.plan));
        world
    }

    pub(super) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.rng.f64() < probability
    }

    /// Whether anything may go wrong now. A partner that grants a long grace is not made to lose a
    /// token by faults that go on until it is over: that is where bearerd must recover. It counts from
    /// when the token was first presented, since nobody tells bearerd when it was spent.
    pub(super) fn is_chaos(&self) -> bool {
        let mercy = self.plan.policy.grace == LONG_GRACE
            && self
                .disk
                .held()
                .and_then(|token| self.desk.doubtful_since(token))
                .is_some_and(|since| self.now().since(since) > MERCY);
        !self.calm && !mercy
    }

    /// Since when what the store holds is a refresh token that the partner has spent.
    pub(super) fn in_doubt(&self) -> Option<Moment> {
        self.desk.spent_at(self.disk.held()?)
    }

    /// As an outsider can tell it: no access token would be lost by a refusal.
    pub(super) fn nothing_left_to_lose(&self) -> bool {
        let Some(token) = self.handle.as_ref().and_then(|handle| handle.cell().load()) else { return true };
        let dying = self.plan.policy.timeout.min(self.plan.life / 10);
        // Records hold milliseconds.
        let rounding = Duration::from_millis(5);
        self.refused.is_some_and(|refused| refused >= token.generation)
            || self.now() + dying + rounding >= token.expires_at
    }

    /// It is not promised that bearerd recovers by itself.
    pub(super) fn excuse(&mut self, why: &'static str) {
        if !self.excuses.contains(&why) {
            self.tell(|_| format!("from now on an operator may be needed: {why}"));
            self.excuses.push(why);
        }
    }

    pub(super) fn violate(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.tell(|_| format!("VIOLATION: {what}"));
        self.violation.get_or_insert(what);
    }

    /// Tells the story, if somebody listens.
    pub(super) fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.telling {
            let at = self.now().since(START).as_secs_f64();
            let line = format!("{at:10.3} {}", what(self));
            self.story.push(line);
        }
    }
}

/// Takes some time, so that a crash can come in between; `slow` now and then takes seconds.
pub(super) async fn step(world: &Shared, slow: bool) {
    let millis = {
        let mut world = lock(world);
        match world.rng.u8(..10) {
            0..3 => 0,
            9 if slow && world.is_chaos() => world.rng.u64(..3000),
            _ => world.rng.u64(1..100),
        }
    };
    match millis {
        0 => tokio::task::yield_now().await,
        millis => tokio::time::sleep(Duration::from_millis(millis)).await,
    }
}

/// What happened, over all seeds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) crashes: u64,
    pub(super) crashes_in_calls: u64,
    pub(super) crashes_in_saves: u64,
    pub(super) calls: u64,
    pub(super) logins: u64,
    pub(super) renewals: u64,
    /// A new pair that never became durable, because its answer or the process was lost.
    pub(super) lost: u64,
    /// Of these, how many were followed by a renewal without an operator.
    pub(super) recovered: u64,
    pub(super) not_saved: u64,
    pub(super) revocations: u64,
    pub(super) refused: u64,
    pub(super) attached: u64,
    pub(super) mended: u64,
    /// Seeds that ended where only an operator could help, and the operator did.
    pub(super) operators: u64,
    /// Seeds that ended with a valid token.
    pub(super) valid: u64,
}

impl Tally {
    fn figures(&self) -> [(&'static str, u64); 15] {
        [
            ("crashes", self.crashes),
            ("of them during a call", self.crashes_in_calls),
            ("during a save", self.crashes_in_saves),
            ("refresh calls", self.calls),
            ("logins", self.logins),
            ("renewals", self.renewals),
            ("new pairs lost", self.lost),
            ("of them recovered from", self.recovered),
            ("saves failed", self.not_saved),
            ("revocations", self.revocations),
            ("refusals", self.refused),
            ("requests", self.attached),
            ("401s mended", self.mended),
            ("ended valid", self.valid),
            ("ended with an operator's help", self.operators),
        ]
    }
}

impl Figures for Tally {
    fn add(&mut self, other: &Self) {
        let sum = |a: &mut u64, b: u64| *a += b;
        sum(&mut self.crashes, other.crashes);
        sum(&mut self.crashes_in_calls, other.crashes_in_calls);
        sum(&mut self.crashes_in_saves, other.crashes_in_saves);
        sum(&mut self.calls, other.calls);
        sum(&mut self.logins, other.logins);
        sum(&mut self.renewals, other.renewals);
        sum(&mut self.lost, other.lost);
        sum(&mut self.recovered, other.recovered);
        sum(&mut self.not_saved, other.not_saved);
        sum(&mut self.revocations, other.revocations);
        sum(&mut self.refused, other.refused);
        sum(&mut self.attached, other.attached);
        sum(&mut self.mended, other.mended);
        sum(&mut self.operators, other.operators);
        sum(&mut self.valid, other.valid);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&in_a_line(&self.figures()))
    }
}
