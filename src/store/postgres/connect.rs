//! A session with the database: on whichever of its hosts takes writes, and within its limits.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::{Client, SimpleQueryMessage, Socket};

use super::database::{Database, Server};
use super::error::{Failure, at};
use super::tls::{Encrypted, MakeTls};
use crate::secret_file;
use crate::store::StoreError;
use crate::trust::{Trust, TrustError};

/// The half of a session that moves its bytes, and says what the server says unasked. It has to be
/// polled, and ends with the session.
pub type Connection = tokio_postgres::Connection<Socket, Encrypted>;

/// Begins sessions with one database. A clone is cheap.
#[derive(Clone)]
pub struct Connect {
    database: Database,
    tls: MakeTls,
}

impl Connect {
    /// The time for a session to begin, name and TLS and password and settings, on all hosts.
    pub const TIMEOUT: Duration = Duration::from_secs(2);
    /// The time for an answer. A little more than what the server gives itself for a statement, so
    /// that it is the server who gives up, if it still can.
    pub const ANSWER: Duration = Duration::from_secs(3);

    /// Reads what is to be trusted, so it blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] if that cannot be read, or is nothing.
    pub fn new(database: &Database) -> Result<Self, StoreError> {
        if !database.uses_tls() {
            return Ok(Self { database: database.clone(), tls: MakeTls::none() });
        }
        let refused = |error: TrustError| {
            at(
                database,
                Failure::Refused {
                    problem: format!("nobody can be trusted: {error}"),
                    remedy: "mend store.ca_file, or leave it out to trust the system's authorities"
                        .to_owned(),
                },
            )
        };
        let trust = Trust::of(database.ca_file.as_deref()).map_err(refused)?;
        Ok(Self { database: database.clone(), tls: MakeTls::new(&trust.http1) })
    }

    /// Begins a session.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unreachable`] if no host can be reached, or none that takes writes, or not in
    /// time; [`StoreError::Database`] if all refuse.
    pub async fn connect(&self) -> Result<(Client, Connection), StoreError> {
        let deadline = Instant::now() + Self::TIMEOUT;
        let database = self.current(deadline).await.map_err(|failure| at(&self.database, failure))?;
        let servers = database.servers();
        let mut failures = Vec::new();
        for (tried, server) in servers.iter().enumerate() {
            // Each gets an equal share of the time that is left, so that one which swallows packets
            // cannot keep the next from being tried.
            let untried = u32::try_from(servers.len() - tried).unwrap_or(u32::MAX);
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / untried;
            match timeout_at(now + share, self.begin(server)).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(failure)) => failures.push((server.address.as_str(), failure)),
                Err(_) => failures.push((&server.address, Failure::Away("no session in time".to_owned()))),
            }
        }
        Err(at(&self.database, Failure::of_all(failures)))
    }

    /// Waits for `asked`, something that was asked of the server, and no longer than for an answer.
    ///
    /// # Errors
    ///
    /// What the server's, or its silence, comes to.
    pub async fn in_time<T>(
        &self,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        self.within(Self::ANSWER, asked).await
    }

    /// The same with another limit.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        asked: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, StoreError> {
        let answered = timeout(limit, asked).await;
        let failure = match answered {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Failure::of(&error),
            Err(_) => Failure::Away("no answer in time".to_owned()),
        };
        Err(at(&self.database, failure))
    }

    /// The database that sessions are with.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// What `error`, one of the library's about a session with this database, comes to.
    pub fn error(&self, error: &tokio_postgres::Error) -> StoreError {
        at(&self.database, Failure::of(error))
    }

    /// The database as its URL's file has it now, so that another user or password is taken up when the
    /// one before is refused. It must be the same database: another one, which other replicas do not use
    /// yet, is none to share a credential in.
    async fn current(&self, by: Instant) -> Result<Database, Failure> {
        let Some(file) = self.database.url_file.clone() else { return Ok(self.database.clone()) };
        let shown = file.display().to_string();
        let away = |problem: &str| Failure::Away(format!("store.url_file: {shown}: {problem}"));
        // It may be on a disk that does not answer.
        let reading = tokio::task::spawn_blocking(move || secret_file::read(&file));
        let text = match timeout_at(by, reading).await {
            Ok(Ok(read)) => read.map_err(|problem| away(&problem))?,
            Ok(Err(failed)) => return Err(away(&failed.to_string())),
            Err(_) => return Err(away("not read in time")),
        };
        let read = Database::parse(&text)
            .map_err(|found| away(&format!("expected {}, found {found}", Database::EXPECTED)))?;
        if !self.database.is_same_place(&read) {
            return Err(Failure::Refused {
                problem: format!(
                    "store.url_file: {shown}: not only another user or password, but another URL"
                ),
                remedy: "restart bearerd to take it up, or put the one before back".to_owned(),
            });
        }
        Ok(read)
    }

    async fn begin(&self, server: &Server) -> Result<(Client, Connection), Failure> {
        let begun = server.config.connect(self.tls.clone()).await;
        let (client, mut connection) = begun.map_err(|error| Failure::of(&error))?;
        let rows = {
            let mut settled = pin!(client.simple_query(SETTINGS));
            tokio::select! {
                biased;
                rows = &mut settled => rows,
                ended = &mut connection => match ended {
                    Err(error) => Err(error),
                    // Whoever waits for an answer is told that there will be none.
                    Ok(()) => settled.await,
                }
            }
        };
        let rows = rows.map_err(|error| Failure::of(&error))?;
        let last = rows.iter().rev().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let column = |i: usize| last.and_then(|row| row.try_get(i).ok()).flatten().unwrap_or_default();
        usable(column(0), column(1), column(2))?;
        Ok((client, connection))
    }
}

impl fmt::Debug for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connect").field(&self.database).finish()
    }
}

/// Whether a server can be used, by what it says of itself.
fn usable(in_recovery: &str, read_only: &str, version: &str) -> Result<(), Failure> {
    if in_recovery != "f" {
        return Err(Failure::Away("a standby, which takes no writes".to_owned()));
    }
    if read_only != "off" {
        return Err(Failure::Away("takes no writes (default_transaction_read_only)".to_owned()));
    }
    match version.parse::<u32>() {
        Ok(version) if version >= OLDEST => Ok(()),
        _ => Err(Failure::Refused {
            problem: format!("PostgreSQL of the version {version:?}"),
            remedy: format!("bearerd needs {} or newer", OLDEST / 10_000),
        }),
    }
}

/// As the server numbers its versions.
const OLDEST: u32 = 120_000;

/// Set by statements, because a pooler in between may not take them with the start of a session.
/// They stand whatever is configured for the role or the database. What was acknowledged must be
/// durable, so a commit that the server would not wait for is made one that it does; where it waits
/// for more than its own disk, it stays so.
const SETTINGS: &str = "
    SET statement_timeout = '2s';
    SET lock_timeout = '1s';
    SET idle_in_transaction_session_timeout = '5s';
    SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', 'on', false)
        WHERE current_setting('synchronous_commit') IN ('off', 'local');
    SELECT pg_is_in_recovery(), current_setting('transaction_read_only'),
        current_setting('server_version_num')";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_takes_writes_and_is_new_enough_is_used() {
        assert!(usable("f", "off", "150008").is_ok());
        assert!(usable("f", "off", "120000").is_ok());
        assert!(matches!(usable("t", "on", "150008"), Err(Failure::Away(_))));
        assert!(matches!(usable("f", "on", "150008"), Err(Failure::Away(_))));
        assert!(matches!(usable("f", "off", "110022"), Err(Failure::Refused { .. })));
        assert!(matches!(usable("f", "off", ""), Err(Failure::Refused { .. })));
        assert!(matches!(usable("", "", ""), Err(Failure::Away(_))));
    }
}
