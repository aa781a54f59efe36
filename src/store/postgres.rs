//! Records in a PostgreSQL database that several bearerds share.
//!
//! [`Database`] says where it is, `connect` how a session with it begins, `migrate` what must be in
//! it, `link` keeps one session up, `rounds` says when to look whether a notification was missed,
//! `table` is the rows, and `error` what is made of refusals. What the replicas owe each other is told
//! by `store::shared`.
//!
//! Every session is with a server that takes writes, verified over TLS unless it is on this machine,
//! and nothing that is asked of it is waited for without end.

mod connect;
mod database;
mod error;
mod link;
mod migrate;
mod rounds;
mod table;
mod tls;

use std::io;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_postgres::Client;

pub use self::connect::{Connect, Connection};
pub use self::database::Database;
use self::link::Link;
pub use self::migrate::{Migrated, check, migrate};
use self::table::PgTable;
use super::StoreError;
use super::shared::{Journal, Keys, SharedStore};
use crate::clock::Clock;

/// Opens the store of kind `postgres`. Its session is kept up on the runtime that calls this.
///
/// # Errors
///
/// [`StoreError::Database`] with what the operator has to mend. That the database cannot be reached
/// is not an error.
pub(super) async fn open(
    database: &Database,
    journal: Arc<dyn Journal>,
    keys: Keys,
    clock: Arc<dyn Clock>,
) -> Result<SharedStore<PgTable>, StoreError> {
    let (link, keeper) = Link::open(Connect::new(database)?, Arc::clone(&clock)).await?;
    let mut owner = [0; 8];
    getrandom::fill(&mut owner).map_err(|error| StoreError::Io {
        action: "draw a name for this process beside",
        path: database.to_string().into(),
        source: io::Error::other(error),
    })?;
    let table = PgTable::new(link, keeper);
    Ok(SharedStore::new(table, journal, keys, clock, i64::from_ne_bytes(owner)))
}

/// Begins a session for [`migrate`] alone, and ends it.
///
/// # Errors
///
/// Those of [`Connect::connect`] and of [`migrate`].
pub async fn bring_up_to_date(connect: &Connect) -> Result<Migrated, StoreError> {
    let (mut client, connection) = connect.connect().await?;
    let session = tokio::spawn(connection);
    let migrated = migrate(connect, &mut client).await;
    end(client, session).await;
    migrated
}

/// Says goodbye, which the server's log would miss. Why a session ended otherwise was told to
/// whoever waited for an answer.
async fn end(client: Client, session: JoinHandle<Result<(), tokio_postgres::Error>>) {
    drop(client);
    let _ended = tokio::time::timeout(Connect::ANSWER, session).await;
}
