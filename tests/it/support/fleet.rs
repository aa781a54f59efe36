//! Several bearerds that share a credential in a PostgreSQL of their own.

use std::thread;

use super::client::{self, Request};
use super::config::{Config, Dir};
use super::eventually;
use super::gateway::Gateway;
use super::partner::Partner;
use super::postgres::{Database, Postgres};
use super::process;

/// Replicas, what they share, and their partner.
pub(crate) struct Fleet {
    pub(crate) postgres: Postgres,
    pub(crate) database: Database,
    pub(crate) partner: Partner,
    pub(crate) replicas: Vec<Gateway>,
}

impl Fleet {
    /// So many, ready.
    pub(crate) fn of(count: usize, partner: Partner) -> Self {
        Self::with(count, partner, |_, config| config)
    }

    /// So many, ready, each with its configuration changed.
    pub(crate) fn with(count: usize, partner: Partner, change: impl Fn(usize, Config) -> Config) -> Self {
        let postgres = Postgres::start();
        let database = postgres.database();
        migrate(&database);
        let config = |i| change(i, Config::to(&partner).with_database(&database).with_admin_socket());
        // All at once, as when they are deployed.
        let replicas: Vec<Gateway> = (0..count).map(|i| Gateway::spawn(&config(i))).collect();
        replicas.iter().for_each(Gateway::await_ready);
        Self { postgres, database, partner, replicas }
    }

    /// Waits until every replica uses `generation`, or one after it.
    #[track_caller]
    pub(crate) fn await_generation(&self, generation: u64) {
        self.replicas.iter().for_each(|replica| replica.await_generation(generation));
    }

    /// Asks `replica` for a refresh as an operator does, and does not wait for it.
    pub(crate) fn order(&self, replica: usize) {
        let admin = self.replicas[replica].admin_addr().clone();
        thread::spawn(move || {
            let request = Request::post("/partners/acme/refresh", "");
            let mut connection = client::connect(&admin);
            // The replica may be killed meanwhile.
            let _killed = connection.send(&request.to_bytes()).and_then(|()| connection.answer("POST"));
        });
    }

    /// The number that `expression` gives, of the one row.
    #[track_caller]
    pub(crate) fn row(&self, expression: &str) -> Option<String> {
        self.database.value(&format!("SELECT {expression} FROM bearerd_credential WHERE partner = 'acme'"))
    }

    /// The generation in the database.
    #[track_caller]
    pub(crate) fn stored(&self) -> u64 {
        self.row("generation").unwrap().parse().unwrap()
    }

    /// Waits until a call is on record.
    pub(crate) fn await_intent(&self) {
        eventually("an intent", || self.row("intent_owner").is_some());
    }

    /// Waits until the others may take over the call that is on record.
    pub(crate) fn await_takeover(&self) {
        let over = "intent_deadline + interval '300 milliseconds' < clock_timestamp()";
        eventually("the intent's deadline over", || self.row(over).as_deref() == Some("t"));
    }
}

/// Makes the tables in `database`, and lets bearerd at them.
pub(crate) fn migrate(database: &Database) {
    let partner = Partner::new();
    let dir = Dir::new();
    Config::to(&partner).with_database_url(&database.owner_url()).write_to(&dir);
    let ended = process::run(dir.path(), &["store", "migrate", "--config", "config.toml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    database.grant();
}
