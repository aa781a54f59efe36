//! Several replicas whose database is away, goes back in time, or is another's.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::client::Request;
use crate::support::config::{Config, Dir};
use crate::support::eventually;
use crate::support::fleet::{Fleet, migrate};
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::postgres::{Postgres, Stop};
use crate::support::process;
use crate::support::relay::Relay;

#[test]
fn s20_without_the_database_the_token_serves_and_nothing_is_refreshed() {
    let mut fleet = Fleet::of(2, Partner::new());
    fleet.postgres.stop(Stop::Immediate);
    for (i, replica) in fleet.replicas.iter().enumerate() {
        fleet.order(i);
        replica.await_state("degraded");
        assert_eq!(replica.get("/x").status, 200);
    }
    // Not even when there is nothing left to lose: the others might do the same.
    fleet.partner.revoke_access();
    let answer = fleet.replicas[0].send_aside(Request::get("/x"));
    assert_eq!(fleet.partner.refreshes(), 1);
    fleet.postgres.start_again();
    assert_eq!(answer.join().unwrap().status, 200, "the request waits for the database");
    fleet.await_generation(2);
    assert_eq!(fleet.partner.refreshes(), 2);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s20_a_database_that_does_not_answer_is_given_up() {
    let fleet = Fleet::of(2, Partner::new());
    fleet.postgres.pause();
    fleet.order(0);
    fleet.replicas[0].await_state("degraded");
    assert_eq!(fleet.replicas[0].get("/x").status, 200);
    fleet.postgres.resume();
    fleet.await_generation(2);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s21_a_pair_that_cannot_be_stored_serves_and_is_stored_when_the_database_is_back() {
    let mut fleet = Fleet::of(2, Partner::new());
    let gate = fleet.partner.hold_refreshes();
    fleet.order(0);
    gate.await_arrivals(1);
    fleet.postgres.stop(Stop::Immediate);
    gate.open();
    fleet.replicas[0].await_generation(2);
    assert_eq!(fleet.replicas[0].of_partner("persisted"), false);
    assert_eq!(fleet.replicas[1].generation(), 1);
    for replica in &fleet.replicas {
        assert_eq!(replica.get("/x").status, 200);
    }
    fleet.postgres.start_again();
    fleet.await_generation(2);
    eventually("persisted", || fleet.replicas[0].of_partner("persisted") == true);
    assert_eq!((fleet.partner.refreshes(), fleet.stored()), (2, 2));
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s04_a_pair_that_only_the_journal_holds_survives_a_kill_and_serves_without_the_database() {
    let mut fleet = Fleet::of(2, Partner::new());
    let gate = fleet.partner.hold_refreshes();
    fleet.order(0);
    gate.await_arrivals(1);
    fleet.postgres.kill9();
    gate.open();
    fleet.replicas[0].await_generation(2);
    fleet.replicas[0].kill9();
    fleet.replicas[0].restart();
    fleet.replicas[0].await_ready();
    assert_eq!((fleet.replicas[0].generation(), fleet.replicas[0].get("/x").status), (2, 200));
    fleet.postgres.start_again();
    fleet.await_generation(2);
    assert_eq!((fleet.partner.refreshes(), fleet.stored()), (2, 2));
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s23_a_database_that_has_lost_commits_is_given_them_again() {
    let fleet = Fleet::of(3, Partner::new());
    fleet.database.sql("CREATE TABLE before AS SELECT * FROM bearerd_credential");
    for generation in 2..5 {
        fleet.order(0);
        fleet.await_generation(generation);
    }
    // As a standby that took over has it: the row as it was, and every session ended.
    fleet.database.sql(
        "UPDATE bearerd_credential c SET revision = b.revision, generation = b.generation, pair = b.pair, \
         parent = b.parent, record = b.record, obtained_at = b.obtained_at, expires_at = b.expires_at, \
         changed_at = b.changed_at FROM before b WHERE b.partner = c.partner; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bearerd'",
    );
    eventually("stored again", || fleet.stored() == 4);
    assert_eq!(fleet.partner.refreshes(), 4);
    fleet.order(1);
    fleet.await_generation(5);
    assert_eq!(fleet.partner.refreshes(), 5);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s26_a_replica_that_was_stopped_looks_at_all_rows_when_it_goes_on() {
    let fleet = Fleet::of(1, Partner::new());
    fleet.database.sql("CREATE TABLE before AS SELECT * FROM bearerd_credential");
    fleet.order(0);
    fleet.await_generation(2);
    fleet.replicas[0].pause();
    let stopped = Instant::now();
    // Nobody is told, and the row does not look as if it had changed lately.
    fleet.database.sql(
        "UPDATE bearerd_credential c SET revision = b.revision, generation = b.generation, pair = b.pair, \
         parent = b.parent, record = b.record, obtained_at = b.obtained_at, expires_at = b.expires_at, \
         changed_at = b.changed_at - interval '1 hour' FROM before b WHERE b.partner = c.partner",
    );
    eventually("away for longer than a moment", || stopped.elapsed() > Duration::from_secs(6));
    assert_eq!(fleet.stored(), 1);
    fleet.replicas[0].resume();
    eventually("looked at, and stored again", || fleet.stored() == 2);
    assert_eq!(fleet.partner.refreshes(), 2);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s23_a_database_restored_from_long_ago_is_given_the_live_pair() {
    let mut fleet = Fleet::of(2, Partner::new());
    fleet.database.sql("CREATE TABLE before AS SELECT * FROM bearerd_credential");
    for generation in 2..22 {
        fleet.order(0);
        fleet.await_generation(generation);
    }
    // One finds it when it is told, the other when it starts.
    fleet.replicas[1].stop();
    fleet.database.sql(
        "DELETE FROM bearerd_credential; INSERT INTO bearerd_credential SELECT * FROM before; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bearerd'",
    );
    fleet.replicas[1].restart();
    fleet.replicas[1].await_ready();
    eventually("stored again", || fleet.stored() == 21);
    fleet.order(1);
    fleet.await_generation(22);
    assert_eq!(fleet.partner.refreshes(), 22);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s23_a_database_that_has_lost_everything_is_given_it_again() {
    let fleet = Fleet::of(2, Partner::new());
    fleet.order(0);
    fleet.await_generation(2);
    fleet.database.sql(
        "DELETE FROM bearerd_credential; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bearerd'",
    );
    let rows = || fleet.database.value("SELECT count(*) FROM bearerd_credential WHERE generation = 2");
    eventually("stored again", || rows().as_deref() == Some("1"));
    fleet.order(1);
    fleet.await_generation(3);
    assert_eq!(fleet.partner.refreshes(), 3);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s19_a_live_pair_takes_the_place_of_a_dead_one_that_did_not_come_from_it() {
    let fleet = Fleet::of(1, Partner::new());
    let other = Fleet::of(1, Partner::new());
    other.order(0);
    other.await_generation(2);
    other.partner.revoke_refresh();
    other.partner.revoke_access();
    assert_eq!(other.replicas[0].get("/x").status, 503);
    other.replicas[0].await_state("reauth_required");
    let hex = |column: &str| other.row(&format!("encode({column}, 'hex')")).unwrap();
    let own = fleet.row("encode(pair, 'hex')");
    fleet.database.sql(&format!(
        "UPDATE bearerd_credential SET revision = revision + 1, generation = 2, \
         pair = decode('{}', 'hex'), record = decode('{}', 'hex'); \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bearerd'",
        hex("pair"),
        hex("record")
    ));
    eventually("stored again", || fleet.row("encode(pair, 'hex')") == own);
    assert_eq!((fleet.replicas[0].get("/x").status, fleet.partner.refreshes()), (200, 1));
}

#[test]
fn s24_a_replica_cut_off_from_the_database_hands_its_pair_in_when_it_is_back() {
    let postgres = Postgres::start();
    let database = postgres.database();
    migrate(&database);
    let relay = Relay::to(([127, 0, 0, 1], postgres.port()).into());
    let partner = Partner::new();
    let config = || Config::to(&partner).with_admin_socket().set("partner.refresh.timeout", "1s");
    let beyond = database.url().replace(&postgres.port().to_string(), &relay.port().to_string());
    let cut_off = Gateway::start(&config().with_database_url(&beyond));
    let other = Gateway::start(&config().with_database(&database));
    let gate = partner.hold_refreshes();
    let admin = cut_off.admin_addr().clone();
    let order = std::thread::spawn(move || Request::post("/partners/acme/refresh", "").send(&admin));
    gate.await_arrivals(1);
    relay.cut();
    gate.open();
    cut_off.await_generation(2);
    assert_eq!((cut_off.get("/x").status, other.get("/x").status), (200, 200));
    assert_eq!(order.join().unwrap().status, 200);
    assert_eq!((other.generation(), partner.refreshes()), (1, 2));
    relay.mend();
    other.await_generation(2);
    assert_eq!(partner.refreshes(), 2);
    partner.assert_no_spent_token_seen();
}

#[test]
fn followers_learn_of_a_change_that_nobody_told_them() {
    let fleet = Fleet::of(2, Partner::new());
    // What comes on the way of a notification can be lost; what is compared is not.
    fleet.database.sql("UPDATE bearerd_credential SET revision = revision + 1");
    fleet.order(1);
    fleet.await_generation(2);
    assert_eq!(fleet.partner.refreshes(), 2);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s12_a_record_under_another_key_is_refused_and_under_a_previous_one_read() {
    let mut fleet = Fleet::of(1, Partner::new());
    fleet.replicas[0].stop();
    let other = "0".repeat(63) + "1";
    let config = |key: &str| Config::to(&fleet.partner).with_database(&fleet.database).set("store.key", key);
    let dir = Dir::new();
    config(&other).write_to(&dir);
    let ended = process::run(dir.path(), &["run", "--config", "config.toml"]);
    assert_eq!(ended.code, Some(1));
    let cause = "the record of partner \"acme\": sealed under another key, or damaged";
    assert!(ended.stderr.contains(cause), "{}", ended.stderr);
    assert!(ended.stderr.contains("store.previous_key"), "{}", ended.stderr);

    let changing = config(&other).set("store.previous_key", crate::support::secrets::STORE_KEY);
    let gateway = Gateway::start(&changing);
    assert_eq!((gateway.get("/x").status, fleet.partner.refreshes()), (200, 1));
}

#[test]
fn s27_a_record_of_a_newer_version_is_refused_and_left_alone() {
    let mut fleet = Fleet::of(1, Partner::new());
    fleet.replicas[0].stop();
    fleet
        .database
        .sql("UPDATE bearerd_credential SET record = convert_to('bearerd-journal 2 something else', 'UTF8')");
    let dir = Dir::new();
    Config::to(&fleet.partner).with_database(&fleet.database).write_to(&dir);
    let ended = process::run(dir.path(), &["run", "--config", "config.toml"]);
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("written by a newer bearerd (record version 2)"), "{}", ended.stderr);
    assert!(ended.stderr.contains("run the version that wrote it"), "{}", ended.stderr);
    let left = fleet.row("convert_from(record, 'UTF8')").unwrap();
    assert_eq!(left, "bearerd-journal 2 something else");
}

#[test]
fn s28_two_deployments_with_one_credential_are_told_and_slow_down() {
    let partner = Partner::new();
    partner.lifetime(Duration::from_secs(1));
    partner.keep_newest_only();
    let start = || Gateway::spawn(&Config::to(&partner).with_login().unset("partner.refresh_token_file"));
    let (one, other) = (start(), start());
    let told = |gateway: &Gateway| gateway.logs().contains("another deployment uses the same credential");
    eventually("told", || told(&one) || told(&other));
    let counted = |gateway: &Gateway| {
        gateway.metric("bearerd_token_refresh_failures_total", &[("reason", "used_elsewhere")])
    };
    assert!(counted(&one).or_else(|| counted(&other)).is_some_and(|times| times >= 1.0));
}

#[test]
fn without_a_bearerd_the_commands_work_on_the_database() {
    let mut fleet = Fleet::of(1, Partner::new());
    fleet.replicas[0].stop();
    let dir = fleet.replicas[0].dir.path().to_owned();
    let status = process::run(&dir, &["token", "status", "--json", "--config", "config.toml"]);
    assert_eq!(status.code, Some(0), "{}", status.stderr);
    let shown: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(shown["partners"][0]["generation"], 1);
    assert_eq!(shown["partners"][0]["refresh_token"], "unspent");
    let token = fleet.partner.fresh_refresh_token();
    let loaded = process::pipe(&dir, &["token", "import", "--config", "config.toml"], token.as_bytes());
    assert_eq!(loaded.code, Some(0), "{}", loaded.stderr);
    assert!(loaded.stdout.contains(&fleet.database.shown()), "{}", loaded.stdout);
    fleet.partner.revoke_access();
    fleet.replicas[0].restart();
    assert_eq!(fleet.replicas[0].get("/x").status, 200);
    let presented = fleet.partner.refresh_call(1).opened.unwrap();
    assert_eq!(presented, json!({"refresh_token": token}));
}
