//! What a seed decides, and what everybody in the simulation knows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::database::Database;
use super::desk::Desk;
use super::fate::{Blow, strike_in_a_step};
use super::journal::Pages;
use crate::credential::seeds::{Figures, in_a_line, pick};
use crate::credential::testing::{FakeClock, secs};
use crate::credential::{Policy, RefreshHandle};
use crate::store::Record;
use crate::token::{Digest, Generation};

/// The digest of the login secrets, where a login is configured.
pub(super) const LOGIN: Digest = Digest([1; 32]);

/// What stays as it is for all of one seed.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) replicas: usize,
    pub(super) policy: Policy,
    /// How long the partner's access tokens live.
    pub(super) life: Duration,
    pub(super) login: bool,
    pub(super) rotation: Rotation,
    /// A spent token that is presented too late revokes everything that came from it.
    pub(super) strict: bool,
    /// What a spent token brings within the partner's grace.
    pub(super) again: Again,
    /// A renewal ends the access token before.
    pub(super) old_access_dies: bool,
    /// How often a call goes wrong.
    pub(super) partner_faults: f64,
    /// How often a statement goes wrong.
    pub(super) statement_faults: f64,
    pub(super) journal_faults: f64,
    /// How many notifications are lost.
    pub(super) notify_loss: f64,
    /// What else befalls replicas and the database, and how often it does in the middle of a step and
    /// in the course of an access token's life.
    pub(super) blows: Vec<Blow>,
    pub(super) step_blows: f64,
    pub(super) blows_per_life: f64,
    /// How long the faults go on.
    pub(super) chaos: Duration,
}

/// What the partner does with a refresh token that it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rotation {
    Spends,
    Same,
    Silent,
}

/// What a spent token brings within the partner's grace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    SameSuccessor,
    Another,
    /// And the successor before is dead.
    AnotherInstead,
}

impl Plan {
    fn draw(rng: &mut fastrand::Rng) -> Self {
        let life = secs(*pick(rng, &[20, 60, 60, 300, 1800]));
        let policy = Policy {
            ahead: secs(*pick(rng, &[5, 30, 900])),
            timeout: secs(10),
            grace: *pick(rng, &[Duration::ZERO, Duration::ZERO, secs(20), secs(300)]),
            default_lifetime: life,
        };
        let quiet = rng.u8(..6) == 0;
        let mut rate = |rates: &[f64]| if quiet { 0.0 } else { *pick(rng, rates) };
        let (partner_faults, statement_faults) = (rate(&[0.0, 0.0, 0.1, 0.4]), rate(&[0.0, 0.0, 0.05, 0.2]));
        let (journal_faults, notify_loss) = (rate(&[0.0, 0.0, 0.2]), rate(&[0.0, 0.0, 0.3, 1.0]));
        let (step_blows, blows_per_life) = (rate(&[0.0, 0.01, 0.05]), rate(&[0.0, 0.5, 2.0]));
        let mut blows: Vec<Blow> = Blow::ALL.iter().copied().filter(|_| rng.u8(..5) < 2).collect();
        if quiet {
            blows.clear();
        }
        Self {
            replicas: rng.usize(2..=5),
            policy,
            life,
            login: rng.u8(..4) == 0,
            rotation: *pick(
                rng,
                &[
                    Rotation::Spends,
                    Rotation::Spends,
                    Rotation::Spends,
                    Rotation::Spends,
                    Rotation::Same,
                    Rotation::Silent,
                ],
            ),
            strict: rng.bool(),
            again: *pick(rng, &[Again::SameSuccessor, Again::Another, Again::AnotherInstead]),
            old_access_dies: rng.bool(),
            partner_faults,
            statement_faults,
            journal_faults,
            notify_loss,
            blows,
            step_blows,
            blows_per_life,
            chaos: life * rng.u32(2..9),
        }
    }

    /// Nothing goes wrong.
    pub(super) fn is_quiet(&self) -> bool {
        let faults = self.partner_faults + self.statement_faults + self.journal_faults + self.notify_loss;
        faults == 0.0 && (self.blows.is_empty() || self.step_blows + self.blows_per_life == 0.0)
    }
}

/// One process on one machine, and what is between it and the others. Times are the world's.
pub(super) struct Replica {
    pub(super) clock: Arc<FakeClock>,
    /// Notified of what others do in the database.
    pub(super) changes: Arc<Notify>,
    pub(super) journal: Pages,
    /// Cut off from the database, and from the partner, until then.
    pub(super) no_database: Duration,
    pub(super) no_partner: Duration,
    /// Stands still until then.
    pub(super) paused: Duration,
    /// Dies as soon as it is looked at.
    pub(super) dies: bool,
    pub(super) waker: Option<Waker>,
    /// This run's handle.
    pub(super) handle: Option<Arc<RefreshHandle>>,
    /// This run's name in the database.
    pub(super) owner: i64,
    /// The newest generation to which this run's clients saw a 401.
    pub(super) refused: Option<Generation>,
    pub(super) ordered: bool,
    /// The access token of a pair that has arrived and is not in use yet.
    pub(super) in_hand: Option<String>,
    /// Refresh tokens that could not be set aside on disk, and are in memory.
    pub(super) aside: Vec<String>,
    /// What was published last in this run.
    pub(super) published: Generation,
    /// What the store was last told to write, in clear.
    pub(super) writes: Record,
}

/// Everything outside the refreshers, and the accounts.
pub(super) struct World {
    pub(super) rng: fastrand::Rng,
    pub(super) plan: Plan,
    started: Instant,
    pub(super) replicas: Vec<Replica>,
    pub(super) database: Database,
    pub(super) desk: Desk,
    pub(super) owners: i64,
    pub(super) imports: u32,
    /// Those that an operator was told of that they were taken up.
    pub(super) imported: Vec<String>,
    pub(super) tally: Tally,
    /// The faults are over.
    pub(super) calm: bool,
    pub(super) violation: Option<String>,
    /// Notified of a violation.
    pub(super) over: Arc<Notify>,
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
        let replicas = (0..plan.replicas).map(|_| Replica::new(&mut rng)).collect();
        let mut world = Self {
            rng,
            plan,
            started: Instant::now(),
            replicas,
            database: Database::default(),
            desk: Desk::default(),
            owners: 0,
            imports: 0,
            imported: Vec::new(),
            tally: Tally::default(),
            calm: false,
            violation: None,
            over: Arc::default(),
            story: Vec::new(),
            telling,
        };
        world.tell(|world| format!("{:?}", world.plan));
        world
    }

    /// The true time.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.f64() < probability
    }

    pub(super) fn is_chaos(&self) -> bool {
        !self.calm
    }

    pub(super) fn reaches_database(&self, replica: usize) -> bool {
        self.replicas[replica].no_database.max(self.database.down) <= self.now()
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.tally.0.entry(what).or_default() += 1;
    }

    pub(super) fn violate(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.tell(|_| format!("VIOLATION: {what}"));
        self.violation.get_or_insert(what);
        self.over.notify_one();
    }

    /// Tells the story, if somebody listens.
    pub(super) fn tell(&mut self, what: impl FnOnce(&Self) -> String) {
        if self.telling {
            let line = format!("{:10.3} {}", self.now().as_secs_f64(), what(self));
            self.story.push(line);
        }
    }
}

impl Replica {
    fn new(rng: &mut fastrand::Rng) -> Self {
        let clock = FakeClock::new();
        // No two machines have started at the same time, or think the same of what time it is.
        clock.suspend(secs(rng.u64(..1_000_000)));
        clock.set_wall_back(secs(rng.u64(..1_000_000)));
        Self {
            clock,
            changes: Arc::default(),
            journal: Pages::default(),
            no_database: Duration::ZERO,
            no_partner: Duration::ZERO,
            paused: Duration::ZERO,
            dies: false,
            waker: None,
            handle: None,
            owner: 0,
            refused: None,
            ordered: false,
            in_hand: None,
            aside: Vec::new(),
            published: Generation(0),
            writes: Record::default(),
        }
    }

    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The access token in use.
    pub(super) fn token(&self) -> Option<Arc<crate::credential::Token>> {
        self.handle.as_ref()?.cell().load()
    }
}

/// A step of what `replica` does: takes some time, and something may befall it.
pub(super) async fn step(shared: &Shared, replica: usize) {
    let millis = {
        let mut world = lock(shared);
        strike_in_a_step(shared, &mut world, replica);
        latency(&mut world)
    };
    pass(millis).await;
}

/// How long a message takes, in milliseconds.
pub(super) fn latency(world: &mut World) -> u64 {
    let slow = world.is_chaos() && !world.plan.is_quiet();
    match world.rng.u8(..20) {
        0..6 => 0,
        19 if slow => world.rng.u64(..3000),
        _ => world.rng.u64(1..60),
    }
}

pub(super) async fn pass(millis: u64) {
    match millis {
        0 => tokio::task::yield_now().await,
        millis => tokio::time::sleep(Duration::from_millis(millis)).await,
    }
}

/// What happened, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally(pub(super) BTreeMap<&'static str, u64>);

impl Figures for Tally {
    fn add(&mut self, other: &Self) {
        for (what, n) in &other.0 {
            *self.0.entry(what).or_default() += n;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures: Vec<_> = self.0.iter().map(|(what, n)| (*what, *n)).collect();
        f.write_str(&in_a_line(&figures))
    }
}
