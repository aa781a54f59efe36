//! A database that is not as it must be: `bearerd run` and `bearerd store migrate` say what is wrong
//! and what mends it, in one line and without a secret.

use std::fs;
use std::net::TcpListener;
use std::thread;

use bearerd::store::StoreError;
use bearerd::store::postgres::Connect;

use crate::support::client::Request;
use crate::support::config::{Config, Dir};
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::postgres::{Database, Postgres, Stop};
use crate::support::process::{self, Ended, Process};
use crate::support::secrets::marked;
use crate::support::tls::Authority;

/// A directory with a configuration for the database at `url`.
struct Place {
    partner: Partner,
    dir: Dir,
}

impl Place {
    fn new(url: &str) -> Self {
        Self::with(url, |config| config)
    }

    fn with(url: &str, change: impl FnOnce(Config) -> Config) -> Self {
        let partner = Partner::new();
        let dir = Dir::new();
        change(Config::to(&partner).with_database_url(url)).write_to(&dir);
        Self { partner, dir }
    }

    fn migrate(&self) -> Ended {
        process::run(self.dir.path(), &["store", "migrate", "--config", "config.toml"])
    }

    fn run(&self) -> Ended {
        process::run(self.dir.path(), &["run", "--config", "config.toml"])
    }

    /// Neither starts nor migrates, for the reason `says`.
    #[track_caller]
    fn assert_refused(&self, says: &str) {
        assert_says(&self.migrate(), says);
        self.assert_not_started(says);
    }

    /// Starts, gets a token, and ends in an orderly way.
    #[track_caller]
    fn assert_starts(&self) {
        let refreshes = self.partner.refreshes();
        let mut process = Process::spawn(self.dir.path(), &["run", "--config", "config.toml"]);
        eventually("a token", || {
            assert!(process.is_running(), "{}", process.logs());
            self.partner.refreshes() > refreshes || process.logs().contains("\"to\":\"valid\"")
        });
        process.signal(rustix::process::Signal::TERM);
        assert_eq!(process.wait().code(), Some(0), "{}", process.logs());
    }

    #[track_caller]
    fn assert_not_started(&self, says: &str) {
        let refreshes = self.partner.refreshes();
        assert_says(&self.run(), says);
        assert_eq!(self.partner.refreshes(), refreshes, "{says}");
    }
}

#[track_caller]
fn assert_says(ended: &Ended, says: &str) {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), format!("bearerd: {says}\n").as_str()));
}

/// The schema as it is, for comparison.
fn schema(database: &Database) -> Vec<Vec<Option<String>>> {
    database.sql(
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns \
         WHERE table_schema = 'public' ORDER BY 1, ordinal_position",
    )
}

/// A database that has been migrated, and lets bearerd's role do what it must.
fn migrated(postgres: &Postgres) -> Database {
    let database = postgres.database();
    let ended = Place::new(&database.owner_url()).migrate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    database.grant();
    database
}

const NO_TABLES: &str = "bearerd's tables are not there, or not in this user's search_path; run `bearerd store \
                         migrate`; if it has been, grant this user USAGE on their schema, or set its search_path";

#[test]
fn migrations_are_applied_once() {
    let postgres = Postgres::start();
    let database = postgres.database();
    let place = Place::new(&database.owner_url());
    let first = place.migrate();
    assert_eq!((first.code, first.stderr.as_str()), (Some(0), ""));
    assert_eq!(first.stdout, format!("{}: applied 1, the schema is at 1\n", database.shown()));
    let made = schema(&database);
    assert!(made.iter().any(|column| column[1].as_deref() == Some("intent_deadline")), "{made:?}");
    let again = place.migrate();
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(again.stdout, format!("{}: the schema is at 1: nothing to do\n", database.shown()));
    assert_eq!(schema(&database), made);
}

/// Whoever migrates has the owner's URL, and often none of bearerd's secrets.
#[test]
fn migrations_need_no_key_and_no_partners_secret() {
    let postgres = Postgres::start();
    let database = postgres.database();
    let without = |config: Config| {
        config
            .with_login()
            .unset("store.key")
            .set("store.key_file", "gone")
            .unset("partner.encryption_key")
            .set("partner.encryption_key_env", "BEARERD_TEST_NOT_SET")
    };
    let place = Place::with(&database.owner_url(), without);
    for file in ["acme.seed", "password", "client-secret"] {
        fs::remove_file(place.dir.file(file)).unwrap();
    }
    let ended = place.migrate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stdout, format!("{}: applied 1, the schema is at 1\n", database.shown()));
    // Not even a partner.
    place.dir.write("config.toml", "[store]\nkind = \"postgres\"\nurl_file = \"url\"\n");
    assert_eq!(place.migrate().code, Some(0));
    fs::remove_file(place.dir.file("url")).unwrap();
    let ended = place.migrate();
    assert_eq!(ended.code, Some(64));
    assert!(
        ended.stderr.contains("config.toml:3: store.url_file: expected a readable text file"),
        "{}",
        ended.stderr
    );
}

#[test]
fn several_may_migrate_at_once() {
    let postgres = Postgres::start();
    let database = postgres.database();
    let place = Place::new(&database.owner_url());
    let all: Vec<Ended> = thread::scope(|scope| {
        let running: Vec<_> = (0..4).map(|_| scope.spawn(|| place.migrate())).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for one in &all {
        assert_eq!(one.code, Some(0), "{}", one.stderr);
    }
    let applied = all.iter().filter(|one| one.stdout.contains("applied 1")).count();
    assert_eq!(applied, 1, "{:?}", all.iter().map(|one| &one.stdout).collect::<Vec<_>>());
    assert_eq!(database.value("SELECT count(*) FROM bearerd_migration").as_deref(), Some("1"));
}

#[test]
fn s30_a_database_without_its_tables_is_refused() {
    let postgres = Postgres::start();
    let database = postgres.database();
    let shown = database.shown();
    Place::new(&database.url()).assert_not_started(&format!("{shown}: {NO_TABLES}"));

    // They are there, in a schema that this user may not look into.
    database.sql("CREATE SCHEMA elsewhere AUTHORIZATION migrator");
    database.sql(
        "ALTER ROLE migrator SET search_path = elsewhere; ALTER ROLE bearerd SET search_path = elsewhere",
    );
    let ended = Place::new(&database.owner_url()).migrate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(
        database.value("SELECT to_regclass('elsewhere.bearerd_credential') IS NULL").as_deref(),
        Some("f")
    );
    Place::new(&database.url()).assert_not_started(&format!("{shown}: {NO_TABLES}"));
}

#[test]
fn s30_missing_rights_are_named_with_what_grants_them() {
    let postgres = Postgres::start();
    let database = migrated(&postgres);
    let place = Place::new(&database.url());
    let shown = database.shown();
    let lacks = |rights: &str, grants: &str| {
        format!("{shown}: the user in store.url lacks {rights}; as the owner of the tables: {grants}")
    };
    database.sql("REVOKE UPDATE ON bearerd_credential FROM bearerd");
    place.assert_not_started(&lacks(
        "UPDATE ON bearerd_credential",
        "GRANT UPDATE ON bearerd_credential TO it",
    ));
    database.sql("REVOKE ALL ON bearerd_credential, bearerd_migration FROM bearerd");
    place.assert_not_started(&lacks(
        "SELECT, INSERT, UPDATE ON bearerd_credential and SELECT ON bearerd_migration",
        "GRANT SELECT, INSERT, UPDATE ON bearerd_credential TO it; GRANT SELECT ON bearerd_migration TO it",
    ));
    // The same rights, at each column.
    database.grant();
    database.sql("REVOKE INSERT ON bearerd_credential FROM bearerd");
    let columns = database.value(
        "SELECT string_agg(attname, ', ') FROM pg_attribute \
         WHERE attrelid = 'bearerd_credential'::regclass AND attnum > 0",
    );
    database.sql(&format!("GRANT INSERT ({}) ON bearerd_credential TO bearerd", columns.unwrap()));
    place.assert_starts();
    // Where there is nothing to do, nothing more is needed.
    assert_eq!(place.migrate().code, Some(0));
    // Who may not make tables cannot make any.
    let stranger = Place::new(&postgres.database().url());
    let ended = stranger.migrate();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let says = "permission denied for schema public (42501); grant the right: ";
    assert!(ended.stderr.contains(says) && ended.stderr.contains("CREATE on the schema"), "{}", ended.stderr);
}

#[test]
fn s30_rows_that_are_hidden_are_not_taken_for_missing() {
    let postgres = Postgres::start();
    let database = migrated(&postgres);
    database.sql("ALTER TABLE bearerd_credential ENABLE ROW LEVEL SECURITY");
    Place::new(&database.url()).assert_not_started(&format!(
        "{}: row-level security hides rows of bearerd_credential from this user; \
         ALTER TABLE bearerd_credential DISABLE ROW LEVEL SECURITY",
        database.shown()
    ));
}

#[test]
fn s27_a_newer_schema_is_taken_unless_it_says_that_older_bearerds_cannot() {
    let postgres = Postgres::start();
    let database = migrated(&postgres);
    let (running, migrating) = (Place::new(&database.url()), Place::new(&database.owner_url()));
    database.sql("INSERT INTO bearerd_migration VALUES (2, 1, now())");
    running.assert_starts();
    let ended = migrating.migrate();
    assert_eq!(ended.stdout, format!("{}: the schema is at 2: nothing to do\n", database.shown()));
    database.sql("INSERT INTO bearerd_migration VALUES (3, 3, now())");
    let says = format!(
        "{}: the schema is at 3, and what is in it only a bearerd that knows 3 understands: this one knows 1; \
         run a newer bearerd",
        database.shown()
    );
    running.assert_not_started(&says);
    assert_says(&migrating.migrate(), &says);
}

#[test]
fn s30_a_login_that_is_refused_shows_neither_user_nor_password() {
    let postgres = Postgres::start();
    let database = postgres.database();
    let shown = database.shown();
    let wrong = database.url_of("bearerd", &marked("wrong"));
    Place::new(&wrong).assert_refused(&format!("{shown}: wrong user or password (28P01); correct store.url"));
    let unknown = database.url_of(&marked("nobody"), &marked("wrong"));
    Place::new(&unknown)
        .assert_refused(&format!("{shown}: wrong user or password (28P01); correct store.url"));
    let none = database.url().replace(&format!(":{}", marked("bearerd")), "");
    Place::new(&none).assert_refused(&format!(
        "{shown}: the server asks for a password, and there is none; put one into store.url"
    ));
    postgres.sql("ALTER ROLE bearerd NOLOGIN");
    Place::new(&database.url()).assert_refused(&format!(
        "{shown}: the server does not let this user in from here (28000); see its log: pg_hba.conf needs an entry \
         for this user, database and address, and the role LOGIN"
    ));
}

#[test]
fn s30_a_database_that_does_not_exist_is_named() {
    let postgres = Postgres::start();
    let url = postgres.database().url().replace("/test0", "/nosuch");
    Place::new(&url).assert_refused(&format!(
        "127.0.0.1:{}/nosuch: no such database (3D000); create it, or correct store.url; then run `bearerd store \
         migrate`",
        postgres.port()
    ));
}

#[test]
fn s30_tls_is_verified() {
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = format!("{}?sslmode=require", database.owner_url());
    let trusting = |ca: String, url: &str| {
        Place::with(url, |config| config.set("store.ca_file", "db.pem").with_file("db.pem", &ca))
    };
    let other = Authority::named("another").pem();
    let unknown = "no TLS: its certificate's issuer is not trusted; let store.ca_file name the file with the \
                   certificate of the authority that issued it";
    trusting(other, &url).assert_refused(&format!("{}: {unknown}", database.shown()));
    let elsewhere = url.replace("127.0.0.1", "localhost");
    assert_ne!(elsewhere, url);
    trusting(postgres.ca(), &elsewhere).assert_refused(&format!(
        "{}: no TLS: its certificate is for another name; let store.url name the host as the certificate does, or \
         give the server one for this name",
        database.shown().replace("127.0.0.1", "localhost")
    ));
    let ended = trusting(postgres.ca(), &url).migrate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(postgres.log().contains("SSL enabled"), "{}", postgres.log());
}

#[test]
fn s30_a_server_without_tls_is_not_spoken_to_in_clear_where_tls_is_asked_for() {
    let postgres = Postgres::start_without_tls();
    let database = postgres.database();
    let place = Place::with(&format!("{}?sslmode=require", database.url()), |config| {
        config.set("store.ca_file", "db.pem").with_file("db.pem", &postgres.ca())
    });
    place.assert_refused(&format!(
        "{}: the server does not offer TLS; set ssl = on in its postgresql.conf, with a certificate for this host's \
         name",
        database.shown()
    ));
}

#[test]
fn a_socket_of_this_machine_needs_neither_tls_nor_a_password() {
    let postgres = Postgres::start();
    let database = postgres.database();
    let place = Place::new(&database.socket_url("migrator"));
    let ended = place.migrate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn whoever_takes_writes_is_the_one() {
    let postgres = Postgres::start();
    let database = postgres.database();
    // Nobody listens on the first.
    let url = database.owner_url().replace('@', "@127.0.0.1:1,");
    let ended = Place::new(&url).migrate();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    database.sql(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name));
    let shown = database.shown().replace('/', ",127.0.0.1:1/");
    let ended = Place::new(&database.owner_url().replace("/test", ",127.0.0.1:1/test")).migrate();
    assert_says(
        &ended,
        &format!(
            "{shown}: 127.0.0.1:{}: takes no writes (default_transaction_read_only), 127.0.0.1:1: Connection refused \
             (os error 111)",
            postgres.port()
        ),
    );
}

#[test]
fn what_cannot_be_reached_is_said_in_time() {
    let mut postgres = Postgres::start();
    let database = migrated(&postgres);
    let place = Place::new(&database.owner_url());
    let shown = database.shown();
    postgres.pause();
    assert_says(&place.migrate(), &format!("{shown}: no session in time"));
    postgres.resume();
    assert_eq!(place.migrate().code, Some(0));
    postgres.sql("ALTER ROLE migrator CONNECTION LIMIT 0");
    assert_says(&place.migrate(), &format!("{shown}: too many connections (53300)"));
    postgres.sql("ALTER ROLE migrator CONNECTION LIMIT -1");
    postgres.stop(Stop::Fast);
    assert_says(&place.migrate(), &format!("{shown}: Connection refused (os error 111)"));
    postgres.start_again();
    assert_eq!(place.migrate().code, Some(0));
    postgres.kill9();
    postgres.start_again();
    postgres.restart(Stop::Immediate);
    assert_eq!(place.migrate().code, Some(0));
    assert_eq!(database.value("SELECT number FROM bearerd_migration").as_deref(), Some("1"));
}

#[test]
fn somebody_else_who_answers_is_not_taken_for_a_database() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answering = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut socket, b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let url = format!("postgres://bearerd:{}@{address}/b", marked("bearerd"));
    let ended = Place::new(&url).migrate();
    answering.join().unwrap();
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.starts_with(&format!("bearerd: {address}/b: ")), "{}", ended.stderr);
}

#[test]
fn only_a_database_has_migrations() {
    let dir = Dir::new();
    Config::to(&Partner::new()).write_to(&dir);
    let ended = process::run(dir.path(), &["store", "migrate", "--config", "config.toml"]);
    assert_eq!(ended.code, Some(64));
    assert_eq!(
        ended.stderr,
        "bearerd: store.kind: expected \"postgres\", which alone has migrations, found \"file\"\n"
    );
    assert!(!dir.file("state").exists());
}

#[test]
fn check_shows_the_database_without_its_url() {
    let url = format!("postgres://someone:{}@db.example/tokens", marked("bearerd"));
    let place = Place::new(&url);
    let ended = process::run(place.dir.path(), &["check", "--config", "config.toml"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("db.example:5432/tokens, over TLS"), "{}", ended.stdout);
    assert!(!ended.stdout.contains("someone"), "{}", ended.stdout);
    assert!(fs::read_dir(place.dir.path()).unwrap().all(|entry| entry.unwrap().file_name() != "state"));
}

/// What a role or a database is set to must not make a session wait longer or write less surely.
#[test]
fn a_session_has_its_own_limits() {
    let postgres = Postgres::start();
    let database = migrated(&postgres);
    database.sql(
        "ALTER ROLE bearerd SET statement_timeout = 0; ALTER ROLE bearerd SET lock_timeout = 0; \
         ALTER ROLE bearerd SET synchronous_commit = off; \
         ALTER ROLE bearerd SET default_transaction_isolation = 'serializable'",
    );
    let connect = Connect::new(&bearerd::store::postgres::Database::parse(&database.url()).unwrap()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (client, connection) = connect.connect().await.unwrap();
        let session = tokio::spawn(connection);
        for (setting, expected) in [
            ("application_name", "bearerd"),
            ("statement_timeout", "2s"),
            ("lock_timeout", "1s"),
            ("idle_in_transaction_session_timeout", "5s"),
            ("synchronous_commit", "on"),
            ("default_transaction_isolation", "read committed"),
        ] {
            let row =
                connect.in_time(client.query_one("SELECT current_setting($1)", &[&setting])).await.unwrap();
            assert_eq!(row.get::<_, &str>(0), expected, "{setting}");
        }
        // The server gives up first, and the session goes on.
        let slow = connect.in_time(client.batch_execute("SELECT pg_sleep(60)")).await.unwrap_err();
        assert!(matches!(slow, StoreError::Unreachable { .. }), "{slow}");
        assert!(slow.to_string().ends_with("canceling statement due to statement timeout (57014)"), "{slow}");
        connect.in_time(client.batch_execute("SELECT 1")).await.unwrap();
        // A server that says nothing is not waited for.
        postgres.pause();
        let silent = connect.in_time(client.batch_execute("SELECT 1")).await.unwrap_err();
        assert_eq!(silent.to_string(), format!("{}: no answer in time", database.shown()));
        postgres.resume();
        drop(client);
        session.await.unwrap().unwrap();
    });
}

#[test]
fn a_reload_that_changes_the_store_is_refused_whole() {
    let postgres = Postgres::start();
    let partner = Partner::new();
    let config = Config::to(&partner);
    let mut gateway = Gateway::start(&config);
    gateway.reload(&config.with_database(&postgres.database()).set("server.allow_browsers", true));
    eventually("refused", || {
        gateway.logs().contains("config.toml: store cannot change while bearerd runs; restart it")
    });
    let from_a_page = Request::get("/x").with("Origin", "http://page.example");
    assert_eq!((gateway.get("/x").status, gateway.send(&from_a_page).status), (200, 403));
    gateway.stop();
}
