//! What must be in the database, and how it gets there.
//!
//! Migrations are numbered, and only ever added to. Each is one transaction, and all of them one
//! after the other behind a lock, so that two who migrate at once are harmless. A row says of each
//! which bearerds may go on: those that know the number in `needs`. So where a migration leaves what
//! is there as it was, older bearerds run beside newer ones, and an upgrade can roll.
//!
//! No name says in which schema: what `search_path` finds is used, and its first entry is where
//! tables are made.

use std::time::Duration;

use tokio_postgres::{Client, Error};

use super::connect::Connect;
use super::error::{Failure, at};
use crate::store::StoreError;

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The numbers of the migrations that were applied, in order.
    pub applied: Vec<i32>,
    /// The highest number that the database now has; above what this bearerd knows, if a newer one
    /// was there before.
    pub schema: i32,
}

/// Applies every migration that is missing. Its user owns what is made, and needs no right at it
/// before.
///
/// # Errors
///
/// [`StoreError::Database`] if the user may not make tables, or the schema is one that only a newer
/// bearerd understands. What was applied before the one that failed stays.
pub async fn migrate(connect: &Connect, client: &mut Client) -> Result<Migrated, StoreError> {
    let mut applied = Vec::new();
    for migration in &MIGRATIONS {
        if connect.within(LIMIT, apply(client, migration)).await? {
            applied.push(migration.number);
        }
    }
    let found = connect.in_time(state(client)).await?;
    newer(found).map_err(|failure| at(connect.database(), failure))?;
    Ok(Migrated { applied, schema: found.schema })
}

/// Whether the database has what this bearerd needs, and its user the rights. Changes nothing.
///
/// # Errors
///
/// [`StoreError::Database`] if something is missing, with what mends it.
pub async fn check(connect: &Connect, client: &Client) -> Result<(), StoreError> {
    let failed = |failure| at(connect.database(), failure);
    let there = connect.in_time(client.query_one(THERE, &[])).await?;
    let (migrations, credentials): (bool, bool) = (there.get(0), there.get(1));
    if !migrations || !credentials {
        return Err(failed(Failure::Refused {
            problem: "bearerd's tables are not there, or not in this user's search_path".to_owned(),
            remedy: format!("run `bearerd store migrate`{USAGE}"),
        }));
    }
    let missing = connect.in_time(client.query(RIGHTS, &[&&COLUMNS[..]])).await?;
    let missing: Vec<(String, String)> = missing.iter().map(|row| (row.get(0), row.get(1))).collect();
    rights(&missing).map_err(failed)?;
    let found = connect.in_time(state(client)).await?;
    newer(found).map_err(failed)?;
    if found.schema < NEEDED {
        return Err(failed(Failure::Refused {
            problem: format!("the schema is at {}, and this bearerd needs {NEEDED}", found.schema),
            remedy: "run `bearerd store migrate`".to_owned(),
        }));
    }
    let filtered: bool = connect.in_time(client.query_one(FILTERED, &[])).await?.get(0);
    if filtered {
        return Err(failed(Failure::Refused {
            problem: "row-level security hides rows of bearerd_credential from this user".to_owned(),
            remedy: "ALTER TABLE bearerd_credential DISABLE ROW LEVEL SECURITY".to_owned(),
        }));
    }
    Ok(())
}

/// Which migrations a database has had.
#[derive(Debug, Clone, Copy)]
struct State {
    /// The highest number.
    schema: i32,
    /// The number that whoever uses it must know.
    needs: i32,
}

/// One step. `needs` is the number of the first one whose bearerd can work with what this makes.
struct Migration {
    number: i32,
    needs: i32,
    sql: &'static str,
}

/// Applies `migration`, unless it has been.
async fn apply(client: &mut Client, migration: &Migration) -> Result<bool, Error> {
    // Ends what it began when it is dropped.
    let transaction = client.transaction().await?;
    transaction.batch_execute(BEGIN).await?;
    let there: bool = transaction.query_one(THERE, &[]).await?.get(0);
    if !there {
        transaction.batch_execute(JOURNAL).await?;
    }
    let known = "SELECT EXISTS (SELECT FROM bearerd_migration WHERE number = $1)";
    let done: bool = transaction.query_one(known, &[&migration.number]).await?.get(0);
    if !done {
        transaction.batch_execute(migration.sql).await?;
        let noted = "INSERT INTO bearerd_migration (number, needs, applied_at) VALUES ($1, $2, now())";
        transaction.execute(noted, &[&migration.number, &migration.needs]).await?;
    }
    transaction.commit().await?;
    Ok(!done)
}

async fn state(client: &Client) -> Result<State, Error> {
    let row = client
        .query_one("SELECT coalesce(max(number), 0), coalesce(max(needs), 0) FROM bearerd_migration", &[])
        .await?;
    Ok(State { schema: row.try_get(0)?, needs: row.try_get(1)? })
}

/// Refuses a schema that only a newer bearerd understands.
fn newer(found: State) -> Result<(), Failure> {
    match found.needs > NEEDED {
        false => Ok(()),
        true => Err(Failure::Refused {
            problem: format!(
                "the schema is at {}, and what is in it only a bearerd that knows {} understands: this one knows \
                 {NEEDED}",
                found.schema, found.needs
            ),
            remedy: "run a newer bearerd".to_owned(),
        }),
    }
}

/// Refuses if there are rights `missing`: pairs of a right and its table.
fn rights(missing: &[(String, String)]) -> Result<(), Failure> {
    let mut tables: Vec<&str> = missing.iter().map(|(_, table)| table.as_str()).collect();
    tables.dedup();
    let on = |table: &&str| {
        let of_it = missing.iter().filter(|(_, of)| of == table).map(|(right, _)| right.as_str());
        format!("{} ON {table}", of_it.collect::<Vec<_>>().join(", "))
    };
    let missing: Vec<String> = tables.iter().map(on).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let grants: Vec<String> = missing.iter().map(|rights| format!("GRANT {rights} TO it")).collect();
    Err(Failure::Refused {
        problem: format!("the user in store.url lacks {}", missing.join(" and ")),
        remedy: format!("as the owner of the tables: {}", grants.join("; ")),
    })
}

/// In the order of their numbers, which begin with 1 and leave none out.
const MIGRATIONS: [Migration; 1] =
    [Migration { number: 1, needs: 1, sql: include_str!("migrations/0001_credential.sql") }];

/// The schema that this bearerd was written for.
const NEEDED: i32 = MIGRATIONS[MIGRATIONS.len() - 1].number;

/// How long one migration may take, the wait for another who migrates included.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits longer than a session's statements do, and lets in one at a time. The number is drawn by
/// lot; no other program is likely to have drawn it.
const BEGIN: &str = "
    SET LOCAL statement_timeout = '55s';
    SET LOCAL lock_timeout = '55s';
    SELECT pg_advisory_xact_lock(7461398250471963)";

const JOURNAL: &str = "
    CREATE TABLE bearerd_migration (
        number     integer PRIMARY KEY CHECK (number > 0),
        needs      integer NOT NULL CHECK (needs BETWEEN 1 AND number),
        applied_at timestamptz NOT NULL
    );
    COMMENT ON TABLE bearerd_migration IS 'bearerd: which migrations this database has had';
    COMMENT ON COLUMN bearerd_migration.needs IS 'the migration that a bearerd must know to work with this one';";

const THERE: &str = "
    SELECT to_regclass('bearerd_migration') IS NOT NULL, to_regclass('bearerd_credential') IS NOT NULL";

/// A right at the table, or at each of the columns that are used.
const RIGHTS: &str = "
    SELECT wanted, name FROM (VALUES
        (1, 'SELECT', 'bearerd_credential'), (2, 'INSERT', 'bearerd_credential'),
        (3, 'UPDATE', 'bearerd_credential'), (4, 'SELECT', 'bearerd_migration')) AS needed (place, wanted, name)
    WHERE NOT has_table_privilege(name, wanted) AND (
        name = 'bearerd_migration'
        OR EXISTS (SELECT FROM unnest($1::text[]) AS used (one) WHERE NOT has_column_privilege(name, one, wanted)))
    ORDER BY place";

const FILTERED: &str = "SELECT row_security_active('bearerd_credential')";

const USAGE: &str = "; if it has been, grant this user USAGE on their schema, or set its search_path";

/// Those that this bearerd reads and writes.
const COLUMNS: [&str; 15] = [
    "partner",
    "revision",
    "generation",
    "pair",
    "parent",
    "record",
    "obtained_at",
    "expires_at",
    "doubtful_since",
    "intent_owner",
    "intent_at",
    "intent_deadline",
    "lease_owner",
    "lease_until",
    "changed_at",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_a_gap() {
        for (place, migration) in (1..).zip(&MIGRATIONS) {
            assert_eq!(migration.number, place);
            assert!((1..=place).contains(&migration.needs));
        }
    }

    #[test]
    fn every_column_that_is_used_is_made() {
        for column in COLUMNS {
            let made = format!("\n    {column} ");
            assert!(MIGRATIONS.iter().any(|migration| migration.sql.contains(&made)), "{column}");
        }
    }

    #[test]
    fn missing_rights_are_named_with_what_grants_them() {
        let missing = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(r, t)| ((*r).to_owned(), (*t).to_owned())).collect();
            rights(&pairs)
        };
        assert_eq!(missing(&[]), Ok(()));
        let Err(Failure::Refused { problem, remedy }) =
            missing(&[("SELECT", "one"), ("UPDATE", "one"), ("SELECT", "two")])
        else {
            panic!("not refused");
        };
        assert_eq!(problem, "the user in store.url lacks SELECT, UPDATE ON one and SELECT ON two");
        assert_eq!(
            remedy,
            "as the owner of the tables: GRANT SELECT, UPDATE ON one TO it; GRANT SELECT ON two TO it"
        );
    }

    #[test]
    fn a_newer_schema_is_refused_only_if_it_says_so() {
        assert!(newer(State { schema: NEEDED + 5, needs: NEEDED }).is_ok());
        assert!(newer(State { schema: NEEDED + 5, needs: NEEDED + 1 }).is_err());
    }
}
