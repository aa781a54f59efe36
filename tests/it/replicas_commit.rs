//! A database that goes away in the middle of a commit, so that nobody was told how it ended.

use std::thread;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::fleet::{Fleet, migrate};
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::postgres::{Database, Postgres};
use crate::support::relay::Relay;

#[test]
fn s22_a_commit_whose_answer_is_lost_is_found_and_not_made_again() {
    let postgres = Postgres::start();
    let database = postgres.database();
    migrate(&database);
    let relay = Relay::to(([127, 0, 0, 1], postgres.port()).into());
    let partner = Partner::new();
    let config = || Config::to(&partner).with_admin_socket();
    let beyond = database.url().replace(&postgres.port().to_string(), &relay.port().to_string());
    let writer = Gateway::start(&config().with_database_url(&beyond));
    let other = Gateway::start(&config().with_database(&database));
    let gate = partner.hold_refreshes();
    let admin = writer.admin_addr().clone();
    let order = thread::spawn(move || Request::post("/partners/acme/refresh", "").send(&admin));
    gate.await_arrivals(1);
    relay.cut_answers();
    gate.open();
    other.await_generation(2);
    writer.await_generation(2);
    assert_eq!(order.join().unwrap().status, 200);
    assert_eq!(writer.of_partner("persisted"), false, "it cannot know");
    let revision = || database.value("SELECT revision FROM bearerd_credential");
    let committed = revision();
    relay.mend();
    eventually("found", || writer.of_partner("persisted") == true);
    assert_eq!((partner.refreshes(), revision()), (2, committed));
    partner.assert_no_spent_token_seen();
}

#[test]
fn s22_a_database_killed_after_it_has_committed_is_not_written_to_again() {
    let mut fleet = Fleet::of(2, Partner::new());
    let gate = fleet.partner.hold_refreshes();
    fleet.order(0);
    gate.await_arrivals(1);
    // From here on whoever commits waits for a standby, with the commit on disk.
    fleet.database.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    fleet.database.sql("SELECT pg_reload_conf()");
    eventually("commits wait", || a_commit_waits(&fleet.database));
    gate.open();
    await_a_session_in(&fleet.database, "SyncRep");
    fleet.postgres.kill9();
    fleet.postgres.start_again();
    assert_eq!(fleet.stored(), 2);
    let committed = fleet.row("revision");
    fleet.database.sql("ALTER SYSTEM RESET synchronous_standby_names");
    fleet.database.sql("SELECT pg_reload_conf()");
    assert_one_pair_and_one_call(&fleet);
    assert_eq!(fleet.row("revision"), committed);
}

#[test]
fn s22_a_database_killed_before_it_has_committed_is_written_to_again() {
    let mut fleet = Fleet::of(2, Partner::new());
    let gate = fleet.partner.hold_refreshes();
    fleet.order(0);
    gate.await_arrivals(1);
    fleet.database.sql(
        "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_sleep(60); RETURN NEW; END'; \
         CREATE TRIGGER linger AFTER UPDATE ON bearerd_credential FOR EACH ROW EXECUTE FUNCTION linger()",
    );
    gate.open();
    await_a_session_in(&fleet.database, "PgSleep");
    fleet.postgres.kill9();
    fleet.postgres.start_again();
    assert_eq!(fleet.stored(), 1);
    fleet.database.sql("DROP TRIGGER linger ON bearerd_credential");
    assert_one_pair_and_one_call(&fleet);
}

/// Waits until a session of bearerd's waits for `what`.
fn await_a_session_in(database: &Database, what: &str) {
    eventually(what, || is_a_session_in(database, what));
}

fn is_a_session_in(database: &Database, what: &str) -> bool {
    let waiting = format!("SELECT count(*) FROM pg_stat_activity WHERE wait_event = '{what}'");
    database.value(&waiting).as_deref() == Some("1")
}

/// Whether one that is made for it waits for a standby: a setting is taken up some time after it was
/// made.
fn a_commit_waits(database: &Database) -> bool {
    let prober = database.clone();
    let probe = thread::spawn(move || prober.sql("SELECT pg_logical_emit_message(true, 'probe', '')"));
    let waits = loop {
        match is_a_session_in(database, "SyncRep") {
            false if probe.is_finished() => break false,
            false => {}
            true => break true,
        }
    };
    if waits {
        database.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    }
    probe.join().unwrap();
    waits
}

#[track_caller]
fn assert_one_pair_and_one_call(fleet: &Fleet) {
    fleet.await_generation(2);
    eventually("persisted", || fleet.replicas.iter().all(|replica| replica.of_partner("persisted") == true));
    assert_eq!((fleet.partner.refreshes(), fleet.stored()), (2, 2));
    for replica in &fleet.replicas {
        assert_eq!(replica.get("/x").status, 200);
    }
    fleet.partner.assert_no_spent_token_seen();
}
