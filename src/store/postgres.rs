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
    // Its end is told to whoever waits for an answer, and it ends with the client.
    let moving = tokio::spawn(connection);
    let checked = check(connect, &client).await;
    drop(client);
    let _goodbye = tokio::time::timeout(Connect::ANSWER, moving).await;
    checked
}
