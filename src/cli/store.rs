//! `bearerd store`: the database that several bearerds share.

use clap::Subcommand;

use super::output::{Failure, print};
use crate::config::{Config, Source};
use crate::store::postgres::{self, Connect, Database, Migrated};
use crate::store::{Kind, StoreError};

/// `bearerd store ...`
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make or bring up to date what the database must have
    ///
    /// Applies the migrations that are missing, in order, each whole or not at all. Does no harm
    /// when there is nothing to do, when bearerds run on the database, or when it is run twice at
    /// once. To be run with a configuration whose store.url is that of the tables' owner; bearerd
    /// itself needs far less. Nothing of the configuration but kind, url and ca_file of [store] is
    /// read: no key, no partner and none of their secrets need be there.
    #[command(
        verbatim_doc_comment,
        after_help = "\
Example: bearerd store migrate --config /etc/bearerd/migrate.toml

Exit codes: 0 if the database has all that it must have; 64 for wrong usage or configuration, such
as a store.kind other than \"postgres\"; 1 if something could not be done."
    )]
    Migrate,
}

/// Carries out `command`.
pub(super) fn run(source: &Source, command: Command) -> Result<(), Failure> {
    let Kind::Postgres(database) = Config::resolve_store(source)? else {
        return Err(Failure::usage(
            "store.kind: expected \"postgres\", which alone has migrations, found \"file\"",
        ));
    };
    match command {
        Command::Migrate => migrate(&database),
    }
}

fn migrate(database: &Database) -> Result<(), Failure> {
    let failed = |error: StoreError| Failure::failed(error.to_string());
    let connect = Connect::new(database).map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let migrated = runtime.block_on(postgres::bring_up_to_date(&connect));
    print(&said(database, &migrated.map_err(failed)?))
}

fn said(database: &Database, migrated: &Migrated) -> String {
    let schema = migrated.schema;
    let applied: Vec<String> = migrated.applied.iter().map(ToString::to_string).collect();
    match applied.is_empty() {
        true => format!("{database}: the schema is at {schema}: nothing to do\n"),
        false => format!("{database}: applied {}, the schema is at {schema}\n", applied.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_said_in_one_line() {
        let database = Database::parse("host=h dbname=b").unwrap();
        let said = |applied: &[i32]| said(&database, &Migrated { applied: applied.to_vec(), schema: 3 });
        assert_eq!(said(&[]), "h:5432/b: the schema is at 3: nothing to do\n");
        assert_eq!(said(&[2, 3]), "h:5432/b: applied 2, 3, the schema is at 3\n");
    }
}
