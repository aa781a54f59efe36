//! What the protocol asks of a database.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::metrics::StoreMetrics;
use crate::store::{BoxFuture, StoreError};
use crate::token::{Digest, Generation};

/// One row per partner, in a database that several processes use. Each call is one statement, or
/// behaves like one; none leaves a lock or a transaction behind.
///
/// Whatever has to do with time is told from now on and by the database's clock, so that no two
/// processes need clocks that agree.
pub(crate) trait Table: Send + Sync {
    /// What an operator calls the database: its host and name.
    fn name(&self) -> &str;

    /// The row.
    fn read<'a>(&'a self, partner: &'a str) -> BoxFuture<'a, Result<Option<Row>, StoreError>>;

    /// Writes `row` with its claim if [`may_claim`] allows it. The revision, if it was written.
    fn claim<'a>(
        &'a self,
        partner: &'a str,
        row: &'a Draft,
        claim: &'a Terms,
    ) -> BoxFuture<'a, Result<Option<i64>, StoreError>>;

    /// Writes `row` if [`may_write`] allows it, and takes its own intent off, or any if the row held
    /// another pair; keeps others from calling for `pause`. The revision, if it was written.
    fn write<'a>(
        &'a self,
        partner: &'a str,
        row: &'a Draft,
        pause: Duration,
    ) -> BoxFuture<'a, Result<Option<i64>, StoreError>>;

    /// Notified when the partner's row may have changed, or the database can be reached again.
    fn changes(&self, partner: &str) -> Arc<Notify>;

    /// What is counted of the session with the database, if there is one.
    fn metrics(&self) -> Option<Arc<StoreMetrics>> {
        None
    }
}

/// A partner's row, as it was at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// Grows with every change, and never comes back: not after a failover to a standby that lacks the
    /// last changes either, or what was seen before it would pass for what is there.
    pub(crate) revision: i64,
    /// Names the token pair.
    pub(crate) pair: Digest,
    /// The record, sealed.
    pub(crate) record: Vec<u8>,
    pub(crate) times: Times,
    pub(crate) intent: Option<OpenIntent>,
    /// Who has the next call.
    pub(crate) lease: Option<Lease>,
}

/// The times of a record: so many milliseconds from now, less than zero if before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) obtained: Option<i64>,
    pub(crate) expires: Option<i64>,
    /// When its refresh token was first presented in a call of unknown outcome.
    pub(crate) doubtful: Option<i64>,
}

/// A call that was about to be made, and whose end is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenIntent {
    pub(crate) owner: i64,
    /// When it was written, in milliseconds from now.
    pub(crate) written: i64,
    /// When its owner will have given up, in milliseconds from now.
    pub(crate) deadline: i64,
}

/// The right to the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) owner: i64,
    /// In milliseconds from now.
    pub(crate) until: i64,
}

/// What is to be written.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// Who writes.
    pub(crate) owner: i64,
    /// The revision that this process knows, if any.
    pub(crate) seen: Option<i64>,
    pub(crate) generation: Generation,
    pub(crate) pair: Digest,
    pub(crate) parent: Option<Digest>,
    /// The pairs whose place it may take: itself and its ancestors.
    pub(crate) lineage: Vec<Digest>,
    pub(crate) record: Zeroizing<Vec<u8>>,
    pub(crate) times: Times,
}

/// On what terms a call is claimed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// For how long the intent holds, if the call spends a refresh token.
    pub(crate) intent: Option<Duration>,
    /// For how long the lease holds.
    pub(crate) lease: Duration,
    /// It is known that the refresh token may be spent, so that an intent whose deadline is over may
    /// be replaced.
    pub(crate) doubtful: bool,
    /// Another's lease does not count.
    pub(crate) ordered: bool,
}

/// How long after an intent's deadline its owner is given up on, in milliseconds.
pub(crate) const MARGIN: i64 = 250;

/// Whether `draft` may claim the next call; the SQL says the same. `None` is a row that is not there.
#[cfg(test)]
pub(crate) fn may_claim(row: Option<&Row>, draft: &Draft, terms: &Terms) -> bool {
    let Some(row) = row else { return true };
    let ours = row.intent.is_some_and(|intent| intent.owner == draft.owner);
    let known = row.pair != draft.pair || draft.seen == Some(row.revision);
    draft.lineage.contains(&row.pair)
        && known
        && row.intent.is_none_or(|intent| ours || (terms.doubtful && intent.deadline + MARGIN < 0))
        && row.lease.is_none_or(|lease| terms.ordered || lease.owner == draft.owner || lease.until < 0)
}

/// Whether `draft` may be written; the SQL says the same.
#[cfg(test)]
pub(crate) fn may_write(row: Option<&Row>, draft: &Draft) -> bool {
    let Some(row) = row else { return true };
    // What is known of a pair may be replaced by whoever knows what was known last; a pair, by any that
    // descends from it. Who has made the call is no reason: a statement of its own that nobody waits
    // for any more may come in late, and would take the intent off a call that is under way.
    draft.lineage.contains(&row.pair) && (row.pair != draft.pair || draft.seen == Some(row.revision))
}
