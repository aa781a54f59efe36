//! Records in a PostgreSQL database that several bearerds share.
//!
//! [`Database`] says where it is, `connect` how a session with it begins, `migrate` what must be in
//! it, and `error` what is made of its refusals. Every session is with a server that takes writes,
//! verified over TLS unless it is on this machine, and nothing that is asked of it is waited for
//! without end.

mod connect;
mod database;
mod error;
mod migrate;
mod tls;

use tokio::task::JoinHandle;
use tokio_postgres::Client;

pub use self::connect::{Connect, Connection};
pub use self::database::Database;
pub use self::migrate::{Migrated, check, migrate};
use super::StoreError;

/// Begins a session only to see whether everything is in order, and ends it.
///
/// # Errors
///
/// Those of [`Connect::connect`] and of [`check`].
pub async fn look(connect: &Connect) -> Result<(), StoreError> {
    let (client, connection) = connect.connect().await?;
    let session = tokio::spawn(connection);
    let checked = check(connect, &client).await;
    end(client, session).await;
    checked
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
