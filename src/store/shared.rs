//! One credential for many processes: the protocol between them.
//!
//! The partner cannot tell which of two processes may present a refresh token, so no lease can make
//! sure that it is presented once. What makes sure of it is this:
//!
//! - A call is made only when its [`Intent`](super::Intent) is in the database, which takes one
//!   statement that also checks that nobody else's is. It counts until its deadline and a margin,
//!   by the database's clock; its owner sends nothing later than that, by its own.
//! - A new pair is written to a journal of this process's own first, and then takes its parent's
//!   place, whoever has which lease by then: [`Lineage`](super::Lineage) alone decides. A process that
//!   was away for long and comes back with the only live pair can still hand it in.
//! - What is known of a pair, such as that its refresh token may be spent, is replaced only by who
//!   knew what was known last.
//! - A lease only saves calls: it keeps the others waiting during a login, which spends nothing and so
//!   has no intent, and during a pause after a call that failed. It is taken for as long as its owner
//!   may call or pauses, so it never has to be renewed in time.
//!
//! No lock and no transaction is held while the partner is called.

mod table;
#[cfg(test)]
mod testing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

pub(crate) use self::table::{Draft, Lease, MARGIN, OpenIntent, Row, Table, Terms, Times};
#[cfg(test)]
pub(crate) use self::table::{may_claim, may_write};
#[cfg(test)]
pub(crate) use self::testing::{MemJournal, MemSession, MemTable};
use super::seal::{self, Fault};
use super::{Begun, BoxFuture, Claim, Intent, Loaded, Record, Shared, Standing, Store, StoreError, StoreKey};
use crate::clock::{Clock, Moment, UnixMillis};
use crate::metrics::StoreMetrics;
use crate::token::RefreshToken;

/// A store in a database that other processes use too, with a journal of this one's own.
pub(crate) struct SharedStore<T> {
    table: T,
    journal: Arc<dyn Journal>,
    keys: Keys,
    clock: Arc<dyn Clock>,
    /// Names this process among the others.
    owner: i64,
    /// The revision of each row that this process has read or written last.
    seen: Mutex<HashMap<String, i64>>,
}

/// The keys of `[store]`. The first seals.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub(crate) key: StoreKey,
    pub(crate) previous: Option<StoreKey>,
}

/// Records of this process's own.
pub(crate) trait Journal: Store {
    /// Keeps `record` where no load finds it.
    fn set_aside<'a>(&'a self, partner: &'a str, record: &'a Record)
    -> BoxFuture<'a, Result<(), StoreError>>;
}

/// For who only reads what the database holds.
pub(crate) struct NoJournal;

impl Store for NoJournal {
    fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    fn save<'a>(&'a self, _: &'a str, _: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

impl Journal for NoJournal {
    fn set_aside<'a>(&'a self, _: &'a str, _: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

impl<T: Table> SharedStore<T> {
    /// `owner` must be another for every process, and every time that it starts.
    pub(crate) fn new(
        table: T,
        journal: Arc<dyn Journal>,
        keys: Keys,
        clock: Arc<dyn Clock>,
        owner: i64,
    ) -> Self {
        Self { table, journal, keys, clock, owner, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        // Sound after a panic: whole numbers are put in and taken out.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, partner: &str) -> Result<Option<(Row, Moment)>, StoreError> {
        // The moment before, so that what the row says is to come is never thought to be later than it
        // is.
        let asked = self.clock.now();
        let row = self.table.read(partner).await?;
        match &row {
            Some(row) => self.seen().insert(partner.to_owned(), row.revision),
            None => self.seen().remove(partner),
        };
        Ok(row.map(|row| (row, asked)))
    }

    async fn load(&self, partner: &str) -> Result<Option<Loaded>, StoreError> {
        let Some((row, asked)) = self.read(partner).await? else { return Ok(None) };
        let mut record = self.open(partner, &row)?;
        let at = |millis: i64| self.clock.wall_at(shift(asked, millis));
        if let (Some(access), Some(obtained), Some(expires)) =
            (&mut record.access, row.times.obtained, row.times.expires)
        {
            (access.obtained_at, access.expires_at) = (at(obtained), at(expires));
        }
        if let (Standing::PerhapsSpent { since }, Some(doubtful)) = (&mut record.standing, row.times.doubtful)
        {
            *since = at(doubtful);
        }
        // Of its own calls this process knows more than the row. Another's counts as one of unknown
        // outcome once its owner must have given up.
        record.intent =
            row.intent.filter(|intent| intent.owner != self.owner && is_over(intent)).map(|intent| Intent {
                generation: record.generation,
                parent: record.refresh.as_ref().map_or_else(|| record.pair(), RefreshToken::digest),
                owner: intent.owner.cast_unsigned(),
                written_at: at(intent.written),
                deadline: at(intent.deadline),
            });
        Ok(Some(Loaded { record, newer_damaged: false, held_for: self.held_for(&row) }))
    }

    /// The record in `row`, with times that say nothing.
    fn open(&self, partner: &str, row: &Row) -> Result<Record, StoreError> {
        let keys: Vec<&StoreKey> = std::iter::once(&self.keys.key).chain(&self.keys.previous).collect();
        let record =
            seal::decode(&row.record, partner, &keys).map_err(|fault| self.unusable(partner, &fault))?;
        if record.pair() != row.pair {
            return Err(self.unusable(partner, &Fault::Damaged));
        }
        Ok(record)
    }

    /// For how long another process has the next call.
    fn held_for(&self, row: &Row) -> Duration {
        let intent = row.intent.filter(|intent| intent.owner != self.owner).map(|i| i.deadline + MARGIN + 1);
        let lease = row.lease.filter(|lease| lease.owner != self.owner).map(|lease| lease.until + 1);
        let millis = intent.into_iter().chain(lease).max().unwrap_or(0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }

    /// What both clocks show when a record is handed in.
    fn clocks(&self) -> (UnixMillis, Moment) {
        (self.clock.wall(), self.clock.now())
    }

    /// `then` is what the clocks showed when the record told its times.
    fn draft(&self, partner: &str, record: &Record, then: (UnixMillis, Moment)) -> Result<Draft, StoreError> {
        let stored = Record { intent: None, ..record.clone() };
        let sealed = seal::encode(&stored, partner, Some(&self.keys.key))
            .map_err(|source| StoreError::Io { action: "seal a record for", path: partner.into(), source })?;
        // The wall clock may have been set meanwhile, the other may not.
        let passed = u64::try_from(self.clock.now().since(then.1).as_millis()).unwrap_or(u64::MAX);
        let wall = UnixMillis(then.0.0.saturating_add(passed));
        let from_now = |then: UnixMillis| millis_between(wall, then);
        let pair = record.pair();
        Ok(Draft {
            owner: self.owner,
            seen: self.seen().get(partner).copied(),
            generation: record.generation,
            pair,
            parent: record.lineage.parent(),
            lineage: record.lineage.iter().chain([pair]).collect(),
            record: sealed,
            times: Times {
                obtained: record.access.as_ref().map(|access| from_now(access.obtained_at)),
                expires: record.access.as_ref().map(|access| from_now(access.expires_at)),
                doubtful: match record.standing {
                    Standing::PerhapsSpent { since } => Some(from_now(since)),
                    Standing::Unspent | Standing::Refused => None,
                },
            },
        })
    }

    async fn begin(&self, partner: &str, record: &Record, claim: Claim) -> Result<Begun, StoreError> {
        let then = self.clocks();
        let terms = Terms {
            intent: record.intent.is_some().then_some(claim.timeout),
            lease: claim.timeout,
            // A refused token that is tried once more without an answer may be spent after all.
            doubtful: matches!(record.standing, Standing::PerhapsSpent { .. }),
            ordered: claim.ordered,
        };
        // From before the statement: the database counts from later on.
        let mut by = then.1 + claim.timeout;
        let mut draft = self.draft(partner, record, then)?;
        let mut claimed = self.table.claim(partner, &draft, &terms).await?;
        if claimed.is_none() && self.catch_up(partner, record, &draft).await? {
            by = self.clock.now() + claim.timeout;
            draft = self.draft(partner, record, then)?;
            claimed = self.table.claim(partner, &draft, &terms).await?;
        }
        if let Some(revision) = claimed {
            self.seen().insert(partner.to_owned(), revision);
            return Ok(Begun::Go { by });
        }
        let Some(row) = self.table.read(partner).await? else { return Ok(Begun::Changed) };
        let held_for = self.held_for(&row);
        if draft.seen != Some(row.revision) || held_for.is_zero() {
            return Ok(Begun::Changed);
        }
        Ok(Begun::Wait { until: self.clock.now() + held_for })
    }

    async fn write(&self, partner: &str, record: &Record, pause: Duration) -> Result<(), StoreError> {
        // First where nobody else can be in the way: from here on a crash does not lose the pair. A
        // disk that is full does not keep it from the database.
        let then = self.clocks();
        let journaled = self.journal.save(partner, record).await;
        if let Err(failure) = &journaled {
            warn!(partner, error = %failure, "the journal could not be written");
        }
        let draft = self.draft(partner, record, then)?;
        let mut written = self.table.write(partner, &draft, pause).await?;
        if written.is_none() && self.catch_up(partner, record, &draft).await? {
            let draft = self.draft(partner, record, then)?;
            written = self.table.write(partner, &draft, pause).await?;
        }
        let revision = written.ok_or(StoreError::Overtaken)?;
        self.seen().insert(partner.to_owned(), revision);
        Ok(())
    }

    /// Whether the row is not the one that `draft` knows because a claim of this process's own was applied
    /// and its answer lost; nobody else must have learnt more of the pair since.
    async fn catch_up(&self, partner: &str, record: &Record, draft: &Draft) -> Result<bool, StoreError> {
        let Some(row) = self.table.read(partner).await? else { return Ok(false) };
        let ours = row.intent.is_some_and(|intent| intent.owner == self.owner);
        let missed = ours
            && row.pair == draft.pair
            && draft.seen != Some(row.revision)
            && self.open(partner, &row)?.standing.certainty() <= record.standing.certainty();
        if missed {
            self.seen().insert(partner.to_owned(), row.revision);
        }
        Ok(missed)
    }
}

impl<T> SharedStore<T> {
    fn unusable(&self, partner: &str, fault: &Fault) -> StoreError
    where
        T: Table,
    {
        let remedy = match fault {
            Fault::Damaged => "restore the row, or load a new token with `bearerd token import`",
            Fault::Newer(_) | Fault::Foreign => "run the version that wrote it",
            Fault::Keyless | Fault::OtherKey => {
                "configure the key it was sealed with as store.key or store.previous_key"
            }
            Fault::OtherPartner(_) => "put the row back to where it belongs",
        };
        StoreError::Database {
            database: self.table.name().to_owned(),
            problem: format!("the record of partner \"{partner}\": {fault}"),
            remedy: remedy.to_owned(),
        }
    }
}

impl<T: Table> Store for SharedStore<T> {
    fn load<'a>(&'a self, partner: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>> {
        Box::pin(self.load(partner))
    }

    fn save<'a>(&'a self, partner: &'a str, record: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.write(partner, record, Duration::ZERO))
    }

    fn begin<'a>(
        &'a self,
        partner: &'a str,
        record: &'a Record,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Begun, StoreError>> {
        Box::pin(self.begin(partner, record, claim))
    }

    fn end<'a>(
        &'a self,
        partner: &'a str,
        record: &'a Record,
        wait: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.write(partner, record, wait))
    }

    fn shared(&self) -> Option<&dyn Shared> {
        Some(self)
    }
}

impl<T: Table> Shared for SharedStore<T> {
    fn recall<'a>(&'a self, partner: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>> {
        self.journal.load(partner)
    }

    fn keep<'a>(&'a self, partner: &'a str, record: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        self.journal.save(partner, record)
    }

    fn set_aside<'a>(
        &'a self,
        partner: &'a str,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.journal.set_aside(partner, record)
    }

    fn changes(&self, partner: &str) -> Arc<Notify> {
        self.table.changes(partner)
    }

    fn metrics(&self) -> Option<Arc<StoreMetrics>> {
        self.table.metrics()
    }
}

impl<T> std::fmt::Debug for SharedStore<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedStore").field("owner", &self.owner).finish_non_exhaustive()
    }
}

/// Whether an intent's owner must have given up.
fn is_over(intent: &OpenIntent) -> bool {
    intent.deadline + MARGIN < 0
}

fn shift(moment: Moment, millis: i64) -> Moment {
    let by = Duration::from_millis(millis.unsigned_abs());
    if millis < 0 { moment - by } else { moment + by }
}

fn millis_between(from: UnixMillis, to: UnixMillis) -> i64 {
    let (ahead, behind) = (to.0.saturating_sub(from.0), from.0.saturating_sub(to.0));
    i64::try_from(ahead).unwrap_or(i64::MAX) - i64::try_from(behind).unwrap_or(i64::MAX)
}
