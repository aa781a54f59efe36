//! A table and a journal in memory.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Draft, Journal, Lease, OpenIntent, Row, Table, Terms, Times, may_claim, may_write};
use crate::store::{BoxFuture, Loaded, Record, Store, StoreError};

/// One row, which any number of processes share.
pub(crate) struct MemTable {
    started: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Its times count from `started`.
    row: Option<Row>,
    sessions: Vec<Arc<Notify>>,
}

/// One process's session with the table.
pub(crate) struct MemSession {
    table: Arc<MemTable>,
    changes: Arc<Notify>,
}

impl MemTable {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { started: Instant::now(), inner: Mutex::default() })
    }

    pub(crate) fn session(self: &Arc<Self>) -> MemSession {
        let changes = Arc::new(Notify::new());
        lock(&self.inner).sessions.push(Arc::clone(&changes));
        MemSession { table: Arc::clone(self), changes }
    }

    fn now(&self) -> i64 {
        millis(self.started.elapsed())
    }

    /// Puts `draft` in the row's place if `may` it.
    fn put(
        &self,
        draft: &Draft,
        intent: impl FnOnce(Option<&Row>) -> Option<OpenIntent>,
        lease: Option<Duration>,
        may: impl FnOnce(Option<&Row>) -> bool,
    ) -> Option<i64> {
        let now = self.now();
        let mut inner = lock(&self.inner);
        let seen = inner.row.as_ref().map(|row| shifted(row, -now));
        if !may(seen.as_ref()) {
            return None;
        }
        let revision = seen.as_ref().map_or(1, |row| row.revision + 1);
        let row = Row {
            revision,
            pair: draft.pair,
            record: draft.record.to_vec(),
            times: draft.times,
            intent: intent(seen.as_ref()),
            lease: lease.map(|time| Lease { owner: draft.owner, until: millis(time) }),
        };
        inner.row = Some(shifted(&row, now));
        inner.sessions.iter().for_each(|changes| changes.notify_one());
        Some(revision)
    }
}

fn shifted(row: &Row, by: i64) -> Row {
    let Times { obtained, expires, doubtful } = row.times;
    let later = |at: Option<i64>| at.map(|at| at + by);
    Row {
        times: Times { obtained: later(obtained), expires: later(expires), doubtful: later(doubtful) },
        intent: row.intent.map(|open| OpenIntent {
            written: open.written + by,
            deadline: open.deadline + by,
            ..open
        }),
        lease: row.lease.map(|lease| Lease { until: lease.until + by, ..lease }),
        ..row.clone()
    }
}

impl Table for MemSession {
    fn name(&self) -> &str {
        "memory"
    }

    fn read<'a>(&'a self, _partner: &'a str) -> BoxFuture<'a, Result<Option<Row>, StoreError>> {
        let now = self.table.now();
        let row = lock(&self.table.inner).row.as_ref().map(|row| shifted(row, -now));
        Box::pin(async { Ok(row) })
    }

    fn claim<'a>(
        &'a self,
        _partner: &'a str,
        row: &'a Draft,
        claim: &'a Terms,
    ) -> BoxFuture<'a, Result<Option<i64>, StoreError>> {
        let deadline = claim.intent.map(millis);
        let intent = deadline.map(|deadline| OpenIntent { owner: row.owner, written: 0, deadline });
        let revision = self.table.put(row, |_| intent, Some(claim.lease), |seen| may_claim(seen, row, claim));
        Box::pin(async move { Ok(revision) })
    }

    fn write<'a>(
        &'a self,
        _partner: &'a str,
        row: &'a Draft,
        pause: Duration,
    ) -> BoxFuture<'a, Result<Option<i64>, StoreError>> {
        let others = |seen: Option<&Row>| {
            seen.filter(|seen| seen.pair == row.pair)
                .and_then(|seen| seen.intent)
                .filter(|open| open.owner != row.owner)
        };
        let pause = Some(pause).filter(|pause| !pause.is_zero());
        let revision = self.table.put(row, others, pause, |seen| may_write(seen, row));
        Box::pin(async move { Ok(revision) })
    }

    fn changes(&self, _partner: &str) -> Arc<Notify> {
        Arc::clone(&self.changes)
    }
}

/// A process's journal.
#[derive(Default)]
pub(crate) struct MemJournal {
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    record: Option<Record>,
    aside: Vec<Record>,
    fails: bool,
    delay: Duration,
}

impl MemJournal {
    pub(crate) fn holding(record: Record) -> Arc<Self> {
        let pages = Pages { record: Some(record), ..Pages::default() };
        Arc::new(Self { pages: Mutex::new(pages) })
    }

    pub(crate) fn record(&self) -> Option<Record> {
        lock(&self.pages).record.clone()
    }

    /// What was set aside, oldest first.
    pub(crate) fn aside(&self) -> Vec<Record> {
        lock(&self.pages).aside.clone()
    }

    /// From now on nothing can be set aside, or it can again.
    pub(crate) fn fail_aside(&self, fails: bool) {
        lock(&self.pages).fails = fails;
    }

    /// From now on it takes so long to set something aside.
    pub(crate) fn slow_aside(&self, delay: Duration) {
        lock(&self.pages).delay = delay;
    }
}

impl Store for MemJournal {
    fn load<'a>(&'a self, _partner: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>> {
        Box::pin(async { Ok(self.record().map(|record| Loaded { record, ..Loaded::default() })) })
    }

    fn save<'a>(&'a self, _partner: &'a str, record: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        lock(&self.pages).record = Some(record.clone());
        Box::pin(async { Ok(()) })
    }
}

impl Journal for MemJournal {
    fn set_aside<'a>(
        &'a self,
        _partner: &'a str,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let delay = lock(&self.pages).delay;
            tokio::time::sleep(delay).await;
            let mut pages = lock(&self.pages);
            if pages.fails {
                let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
                return Err(StoreError::Io { action: "write", path: "aside".into(), source });
            }
            pages.aside.push(record.clone());
            Ok(())
        })
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}
