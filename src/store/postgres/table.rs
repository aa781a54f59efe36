//! The rows, by SQL. What each statement may do is told by `store::shared`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement};

use super::link::{Link, Task};
use crate::metrics::StoreMetrics;
use crate::store::shared::{Draft, Lease, OpenIntent, Row, Table, Terms, Times};
use crate::store::{BoxFuture, StoreError};
use crate::token::Digest;

/// The table `bearerd_credential`.
#[derive(Debug)]
pub(in crate::store) struct PgTable {
    name: String,
    link: Arc<Link>,
    _keeper: Task,
}

/// A session, and what is asked in it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Client,
    /// It is to end: something that was asked was not answered.
    pub(super) given_up: Notify,
    read: Statement,
    claim: Statement,
    write: Statement,
}

impl Session {
    pub(super) async fn prepare(client: Client) -> Result<Self, tokio_postgres::Error> {
        // How long the lease holds, and whether the token is in doubt and the call ordered.
        let claimed = [&DRAFT_TYPES[..], &[Type::INT8, Type::BOOL, Type::BOOL]].concat();
        let (read, claim, write) = tokio::try_join!(
            client.prepare(READ),
            client.prepare_typed(CLAIM, &claimed),
            client.prepare_typed(WRITE, &DRAFT_TYPES),
        )?;
        Ok(Self { client, given_up: Notify::new(), read, claim, write })
    }

    /// At which revision the rows of `partners` are.
    pub(super) async fn revisions(
        &self,
        partners: &[String],
    ) -> Result<Vec<(String, i64)>, tokio_postgres::Error> {
        let rows = self.client.query(REVISIONS, &[&partners]).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// Which rows have changed lately: since two reviews ago, and the time that a commit may take.
    pub(super) async fn recent(&self) -> Result<Vec<(String, i64)>, tokio_postgres::Error> {
        let rows = self.client.query(RECENT, &[]).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

impl PgTable {
    pub(super) fn new(link: Arc<Link>, keeper: Task) -> Self {
        Self { name: link.name(), link, _keeper: keeper }
    }

    async fn read(&self, partner: &str) -> Result<Option<Row>, StoreError> {
        let found = self.link.ask(async |s| s.client.query_opt(&s.read, &[&partner]).await, partner).await?;
        let row = found.map(|row| read_row(&row)).transpose();
        row.map_err(|error| self.link.error(&error))
    }

    async fn claim(&self, partner: &str, draft: &Draft, terms: &Terms) -> Result<Option<i64>, StoreError> {
        let values = Values::new(draft);
        let (intent, lease) = (terms.intent.map(millis), millis(terms.lease));
        let mut parameters = values.parameters(&partner);
        parameters.extend([&intent as &(dyn ToSql + Sync), &lease, &terms.doubtful, &terms.ordered]);
        self.revision(partner, async |s| s.client.query_opt(&s.claim, &parameters).await).await
    }

    async fn write(&self, partner: &str, draft: &Draft, pause: Duration) -> Result<Option<i64>, StoreError> {
        let values = Values::new(draft);
        let pause = millis(pause);
        let mut parameters = values.parameters(&partner);
        parameters.push(&pause);
        self.revision(partner, async |s| s.client.query_opt(&s.write, &parameters).await).await
    }

    async fn revision(
        &self,
        partner: &str,
        ask: impl AsyncFnOnce(&Session) -> Result<Option<tokio_postgres::Row>, tokio_postgres::Error>,
    ) -> Result<Option<i64>, StoreError> {
        let found = self.link.ask(ask, partner).await?;
        let revision =
            found.map(|row| row.try_get(0)).transpose().map_err(|error| self.link.error(&error))?;
        if let Some(revision) = revision {
            self.link.knows(partner, revision);
        }
        Ok(revision)
    }
}

impl Table for PgTable {
    fn name(&self) -> &str {
        &self.name
    }

    fn read<'a>(&'a self, partner: &'a str) -> BoxFuture<'a, Result<Option<Row>, StoreError>> {
        Box::pin(async move {
            let row = self.read(partner).await?;
            if let Some(row) = &row {
                self.link.knows(partner, row.revision);
            }
            Ok(row)
        })
    }

    fn claim<'a>(
        &'a self,
        partner: &'a str,
        row: &'a Draft,
        claim: &'a Terms,
    ) -> BoxFuture<'a, Result<Option<i64>, StoreError>> {
        Box::pin(self.claim(partner, row, claim))
    }

    fn write<'a>(
        &'a self,
        partner: &'a str,
        row: &'a Draft,
        pause: Duration,
    ) -> BoxFuture<'a, Result<Option<i64>, StoreError>> {
        Box::pin(self.write(partner, row, pause))
    }

    fn changes(&self, partner: &str) -> Arc<Notify> {
        self.link.changes(partner)
    }

    fn metrics(&self) -> Option<Arc<StoreMetrics>> {
        Some(self.link.metrics())
    }
}

/// A draft as parameters of a statement.
struct Values<'a> {
    draft: &'a Draft,
    generation: i64,
    pair: &'a [u8],
    parent: Option<&'a [u8]>,
    record: &'a [u8],
    lineage: Vec<&'a [u8]>,
}

impl<'a> Values<'a> {
    fn new(draft: &'a Draft) -> Self {
        Self {
            draft,
            generation: i64::try_from(draft.generation.0).unwrap_or(i64::MAX),
            pair: &draft.pair.0,
            parent: draft.parent.as_ref().map(|parent| &parent.0[..]),
            record: &draft.record,
            lineage: draft.lineage.iter().map(|pair| &pair.0[..]).collect(),
        }
    }

    /// As [`DRAFT_TYPES`] has them, without what follows the lineage.
    fn parameters<'p>(&'p self, partner: &'p &'p str) -> Vec<&'p (dyn ToSql + Sync)> {
        let times = &self.draft.times;
        vec![
            partner,
            &self.generation,
            &self.pair,
            &self.parent,
            &self.record,
            &times.obtained,
            &times.expires,
            &times.doubtful,
            &self.draft.owner,
            &self.draft.seen,
            &self.lineage,
        ]
    }
}

fn read_row(row: &tokio_postgres::Row) -> Result<Row, tokio_postgres::Error> {
    let owner: Option<i64> = row.try_get(6)?;
    let intent = match (owner, row.try_get(7)?, row.try_get(8)?) {
        (Some(owner), Some(written), Some(deadline)) => Some(OpenIntent { owner, written, deadline }),
        _ => None,
    };
    let lease = match (row.try_get(9)?, row.try_get(10)?) {
        (Some(owner), Some(until)) => Some(Lease { owner, until }),
        _ => None,
    };
    let times = Times { obtained: row.try_get(3)?, expires: row.try_get(4)?, doubtful: row.try_get(5)? };
    let pair: &[u8] = row.try_get(1)?;
    // A name of another length is none that a record has, and so is found out.
    let pair = Digest(pair.try_into().unwrap_or_default());
    Ok(Row { revision: row.try_get(0)?, pair, record: row.try_get(2)?, times, intent, lease })
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

const READ: &str = include_str!("statements/read.sql");
const CLAIM: &str = include_str!("statements/claim.sql");
const WRITE: &str = include_str!("statements/write.sql");
const REVISIONS: &str = "SELECT partner, revision FROM bearerd_credential WHERE partner = ANY ($1)";
const RECENT: &str = "SELECT partner, revision FROM bearerd_credential \
    WHERE changed_at > clock_timestamp() - interval '90 seconds'";

/// Of the parameters of both statements: the partner, what a draft holds, and how long the pause or the
/// intent lasts.
const DRAFT_TYPES: [Type; 12] = [
    Type::TEXT,
    Type::INT8,
    Type::BYTEA,
    Type::BYTEA,
    Type::BYTEA,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::BYTEA_ARRAY,
    Type::INT8,
];
