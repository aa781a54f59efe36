//! The database that the replicas share: one row with its history, behind connections that break.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

use super::journal::{access_of, refresh_of};
use super::notify::{expect_followers, notify};
use super::policy;
use super::world::{Shared, World, latency, lock, pass, step};
use crate::store::{
    BoxFuture, Draft, Lease, OpenIntent, Record, Row, StoreError, Table, Terms, Times, may_claim, may_write,
};
use crate::token::Digest;

/// How long a client of the database waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How many of the last commits a standby may lack.
const LOST: usize = 3;

#[derive(Default)]
pub(super) struct Database {
    /// The row after each of the last commits.
    commits: Vec<Commit>,
    /// Which pair came from which, by the number of the commit.
    pub(super) children: Vec<(u64, Option<Digest>, Digest)>,
    /// Out of order until then.
    pub(super) down: Duration,
    pub(super) failovers: u32,
    /// By owner: the last call that it was allowed to make.
    pub(super) claims: BTreeMap<i64, Claimed>,
}

/// The row as a commit left it. Times are the database's, in milliseconds.
#[derive(Debug, Clone)]
pub(super) struct Commit {
    number: u64,
    pub(super) revision: i64,
    pub(super) pair: Digest,
    pub(super) parent: Option<Digest>,
    sealed: Vec<u8>,
    pub(super) clear: Record,
    times: Times,
    pub(super) intent: Option<OpenIntent>,
    lease: Option<Lease>,
}

/// A call that was allowed.
pub(super) struct Claimed {
    number: u64,
    pub(super) deadline: i64,
    /// It may spend the refresh token.
    pub(super) spends: bool,
    /// Why its intent is no longer there.
    pub(super) lost: Option<Lost>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// By a failover.
    Failover,
    /// Its pair has been replaced.
    Replaced,
    /// Its owner has ended it.
    Ended,
    /// Somebody else has the next call.
    TakenOver,
}

impl Database {
    pub(super) fn row(&self) -> Option<&Commit> {
        self.commits.last()
    }

    /// The times of a row count from some other zero than the world's.
    pub(super) fn millis(now: Duration) -> i64 {
        5_000_000 + i64::try_from(now.as_millis()).unwrap()
    }

    fn row_at(&self, now: i64) -> Option<Row> {
        let commit = self.row()?;
        let ahead = |times: Times| Times {
            obtained: times.obtained.map(|at| at - now),
            expires: times.expires.map(|at| at - now),
            doubtful: times.doubtful.map(|at| at - now),
        };
        Some(Row {
            revision: commit.revision,
            pair: commit.pair,
            record: commit.sealed.clone(),
            times: ahead(commit.times),
            intent: commit.intent.map(|intent| OpenIntent {
                written: intent.written - now,
                deadline: intent.deadline - now,
                ..intent
            }),
            lease: commit.lease.map(|lease| Lease { until: lease.until - now, ..lease }),
        })
    }
}

/// Becomes the row, in place of the one before.
struct Change {
    draft: Draft,
    clear: Record,
    intent: Option<OpenIntent>,
    lease: Option<Lease>,
    /// When the draft was made.
    made: Duration,
}

fn commit(world: &mut World, replica: usize, change: Change) -> i64 {
    let now = world.now();
    let at = Database::millis(now);
    let Change { draft, clear, intent, lease, made } = change;
    let before = world.database.row().cloned();
    let times = Times {
        obtained: draft.times.obtained.map(|millis| at + millis),
        expires: draft.times.expires.map(|millis| at + millis),
        doubtful: draft.times.doubtful.map(|millis| at + millis),
    };
    // By the clock, so that none comes back after a failover.
    let least = at * 1000;
    let (number, revision) =
        before.as_ref().map_or((1, least), |commit| (commit.number + 1, least.max(commit.revision + 1)));
    let row = Commit {
        number,
        revision,
        pair: draft.pair,
        parent: draft.parent,
        sealed: draft.record.to_vec(),
        clear,
        times,
        intent,
        lease,
    };
    if let Some(open) = before.as_ref().and_then(|before| before.intent) {
        let gone = if row.intent == Some(open) {
            None
        } else if before.as_ref().is_some_and(|before| before.pair != row.pair) {
            Some(Lost::Replaced)
        } else if open.owner == draft.owner {
            Some(Lost::Ended)
        } else {
            Some(Lost::TakenOver)
        };
        if let Some(claim) = world.database.claims.get_mut(&open.owner) {
            claim.lost = claim.lost.or(gone);
        }
    }
    policy::judge_commit(world, before.as_ref(), &row, draft.owner);
    if let (Some(token), Some(expires)) = (access_of(&row.clear), row.times.expires) {
        let stored =
            Duration::from_millis(u64::try_from(expires - Database::millis(Duration::ZERO)).unwrap_or(0));
        policy::judge_expiry(world, token, stored, now.saturating_sub(made));
    }
    if before.as_ref().is_none_or(|before| before.pair != row.pair) {
        world.database.children.push((number, row.parent, row.pair));
    }
    world.tell(|_| {
        format!(
            "  commit {number} by {replica}: {:02x?} from {:02x?}, {:?} generation {} {:?} intent {:?} lease {:?}",
            &row.pair.0[..2],
            row.parent.as_ref().map(|parent| &parent.0[..2]),
            refresh_of(&row.clear),
            draft.generation,
            row.clear.standing,
            row.intent.map(|intent| intent.owner),
            row.lease.map(|lease| lease.owner)
        )
    });
    world.desk.committed(&row.clear);
    world.database.commits.push(row);
    if world.database.commits.len() > LOST + 1 {
        world.database.commits.remove(0);
    }
    revision
}

/// A standby takes over that has not seen the last commits.
pub(super) fn fail_over(world: &mut World) {
    let most = LOST.min(world.database.commits.len().saturating_sub(1));
    if most == 0 {
        return;
    }
    let keep = world.database.commits.len() - world.rng.usize(1..=most);
    world.count("failovers");
    world.database.failovers += 1;
    let lost = world.database.commits.split_off(keep);
    let number = world.database.commits[keep - 1].number;
    world.tell(|_| format!("a standby takes over at commit {number}; {} are lost", lost.len()));
    // Of what was known of these tokens something may be lost.
    for row in lost.iter().chain(world.database.commits.last().cloned().iter()) {
        if let Some(token) = refresh_of(&row.clear) {
            world.desk.forgotten(token);
        }
    }
    world.database.children.retain(|(child, ..)| *child <= number);
    for claim in world.database.claims.values_mut().filter(|claim| claim.number > number) {
        claim.lost = Some(Lost::Failover);
    }
}

/// A replica's connection to the database.
pub(super) struct SimTable {
    pub(super) world: Shared,
    pub(super) replica: usize,
    pub(super) changes: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    NotArrived,
    /// Applied when nobody waits for it any more.
    Late,
    AnswerLost,
}

impl SimTable {
    /// Sends a statement and waits for its answer. What was sent is applied or not, whatever becomes of
    /// who sent it.
    async fn statement<T: Send + 'static>(
        &self,
        name: &'static str,
        apply: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        step(&self.world, self.replica).await;
        let (sent, answer) = oneshot::channel();
        let fault = {
            let mut world = lock(&self.world);
            let rate = world.plan.statement_faults;
            match world.is_chaos() && world.chance(rate) {
                false => Fault::None,
                true => match world.rng.u8(..3) {
                    0 => Fault::NotArrived,
                    1 => Fault::Late,
                    _ => Fault::AnswerLost,
                },
            }
        };
        tokio::spawn(serve(Arc::clone(&self.world), self.replica, fault, apply, sent));
        let result = tokio::time::timeout(TIMEOUT, answer).await;
        step(&self.world, self.replica).await;
        if let Ok(Ok(value)) = result {
            return Ok(value);
        }
        let mut world = lock(&self.world);
        world.count("statements failed");
        world.tell(|_| format!("{}: {name} failed, {fault:?}", self.replica));
        Err(StoreError::Unreachable { database: "db".to_owned(), problem: "no answer".to_owned() })
    }

    fn writes(&self) -> (Record, Duration) {
        let world = lock(&self.world);
        (world.replicas[self.replica].writes.clone(), world.now())
    }
}

async fn serve<T>(
    world: Shared,
    replica: usize,
    fault: Fault,
    apply: impl FnOnce(&mut World) -> T,
    sent: oneshot::Sender<T>,
) {
    let millis = {
        let mut world = lock(&world);
        let late = if fault == Fault::Late { world.rng.u64(2000..9000) } else { 0 };
        late + latency(&mut world)
    };
    pass(millis).await;
    let applied = {
        let mut world = lock(&world);
        let arrives = fault != Fault::NotArrived && world.reaches_database(replica);
        let value = arrives.then(|| apply(&mut world));
        // Either the client is told at once, or it waits in vain.
        let millis = if arrives || world.rng.bool() { latency(&mut world) } else { 10_000 };
        value.ok_or(millis).map(|value| (value, millis))
    };
    let value = match applied {
        Ok((value, millis)) => {
            pass(millis).await;
            value
        }
        Err(millis) => return pass(millis).await,
    };
    if fault == Fault::AnswerLost || !lock(&world).reaches_database(replica) {
        tokio::time::sleep(TIMEOUT * 2).await;
        return;
    }
    let _ = sent.send(value);
}

impl Table for SimTable {
    fn name(&self) -> &str {
        "db"
    }

    fn read<'a>(&'a self, _partner: &'a str) -> BoxFuture<'a, Result<Option<Row>, StoreError>> {
        Box::pin(self.statement("read", |world| world.database.row_at(Database::millis(world.now()))))
    }

    fn claim<'a>(
        &'a self,
        _partner: &'a str,
        row: &'a Draft,
        claim: &'a Terms,
    ) -> BoxFuture<'a, Result<Option<i64>, StoreError>> {
        let (draft, terms, replica) = (row.clone(), *claim, self.replica);
        let (clear, made) = self.writes();
        Box::pin(self.statement("claim", move |world| {
            let now = Database::millis(world.now());
            if !may_claim(world.database.row_at(now).as_ref(), &draft, &terms) {
                world.tell(|_| format!("  {replica} may not call"));
                return None;
            }
            let until = |time: Duration| now + i64::try_from(time.as_millis()).unwrap();
            let owner = draft.owner;
            let deadline = until(terms.intent.unwrap_or(terms.lease));
            let intent = terms.intent.map(|_| OpenIntent { owner, written: now, deadline });
            let lease = Some(Lease { owner, until: until(terms.lease) });
            let revision = commit(world, replica, Change { draft, clear, intent, lease, made });
            let number = world.database.row()?.number;
            let claimed = Claimed { number, deadline, spends: intent.is_some(), lost: None };
            world.database.claims.insert(owner, claimed);
            Some(revision)
        }))
    }

    fn write<'a>(
        &'a self,
        _partner: &'a str,
        row: &'a Draft,
        pause: Duration,
    ) -> BoxFuture<'a, Result<Option<i64>, StoreError>> {
        let (draft, replica, shared) = (row.clone(), self.replica, Arc::clone(&self.world));
        let (clear, made) = self.writes();
        Box::pin(self.statement("write", move |world| {
            let now = Database::millis(world.now());
            if !may_write(world.database.row_at(now).as_ref(), &draft) {
                world.tell(|_| format!("  {replica} may not write {:?}", refresh_of(&clear)));
                return None;
            }
            let owner = draft.owner;
            let same = world.database.row().filter(|row| row.pair == draft.pair);
            let intent = same.and_then(|row| row.intent).filter(|intent| intent.owner != owner);
            let lease = same.and_then(|row| row.lease).filter(|lease| lease.owner != owner);
            let until = now + i64::try_from(pause.as_millis()).unwrap();
            let lease = lease.or_else(|| (!pause.is_zero()).then_some(Lease { owner, until }));
            let revision = commit(world, replica, Change { draft, clear, intent, lease, made });
            notify(&shared, world);
            expect_followers(&shared, world);
            Some(revision)
        }))
    }

    fn changes(&self, _partner: &str) -> Arc<Notify> {
        Arc::clone(&self.changes)
    }
}
