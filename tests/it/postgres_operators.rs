//! What operators do with a database that several replicas share, and what they see of it.

use serde_json::json;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::fleet::Fleet;
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::postgres::Stop;
use crate::support::process;
use crate::support::secrets::marked;
use crate::support::trial::import;

/// Whether `gateway` has lost its session for a reason that says `why`.
fn has_lost_it(gateway: &Gateway, why: &str) -> bool {
    let lost = |line: &serde_json::Value| {
        line["message"].as_str().is_some_and(|message| message.starts_with("the database cannot be used"))
            && line["problem"].as_str().is_some_and(|problem| problem.contains(why))
    };
    gateway.log_lines().iter().any(lost)
}

fn sessions(gateway: &Gateway) -> usize {
    gateway.log_lines().iter().filter(|line| line["message"] == "connected").count()
}

fn end_sessions(fleet: &Fleet) {
    fleet
        .database
        .sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bearerd'");
}

#[test]
fn a_password_that_was_exchanged_in_its_file_is_taken_up_by_the_next_session() {
    let fleet = Fleet::of(1, Partner::new());
    let gateway = &fleet.replicas[0];
    let password = marked("rotated");
    fleet.postgres.sql(&format!("ALTER ROLE bearerd PASSWORD '{password}'"));
    end_sessions(&fleet);
    eventually("refused", || has_lost_it(gateway, "wrong user or password (28P01)"));
    gateway.dir.write("url", fleet.database.url_of("bearerd", &password));
    eventually("connected again", || sessions(gateway) == 2);
    fleet.order(0);
    fleet.await_generation(2);
    assert_eq!((fleet.stored(), gateway.get("/x").status), (2, 200));
}

#[test]
fn a_user_that_was_exchanged_in_the_urls_file_is_no_change_that_a_reload_refuses() {
    let fleet = Fleet::of(1, Partner::new());
    let gateway = &fleet.replicas[0];
    let password = marked("another");
    fleet.postgres.sql(&format!("CREATE ROLE another LOGIN PASSWORD '{password}' IN ROLE bearerd"));
    let url = fleet.database.url_of("another", &password);
    let config = Config::to(&fleet.partner).with_database_url(&url).with_admin_socket();
    gateway.reload(&config.set("server.allow_browsers", true));
    let from_a_page = Request::get("/x").with("Origin", "http://page.example");
    eventually("reloaded", || gateway.send(&from_a_page).status == 200);
    end_sessions(&fleet);
    eventually("connected again", || sessions(gateway) == 2);
    let user = "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'bearerd'";
    assert_eq!(fleet.database.value(user).as_deref(), Some("another"));
}

#[test]
fn without_the_urls_file_no_session_begins_and_what_is_held_serves() {
    let fleet = Fleet::of(1, Partner::new());
    let gateway = &fleet.replicas[0];
    for (count, url, why) in [
        (2, None, "store.url_file: "),
        (3, Some(String::new()), "expected a PostgreSQL URL such as "),
        (4, Some(fleet.database.owner_url().replace("/test0", "/test1")), "but another URL; restart bearerd"),
    ] {
        match url {
            None => std::fs::remove_file(gateway.dir.file("url")).unwrap(),
            Some(url) => drop(gateway.dir.write("url", url)),
        }
        end_sessions(&fleet);
        eventually(why, || has_lost_it(gateway, why));
        assert_eq!(gateway.get("/x").status, 200, "{why}");
        gateway.dir.write("url", fleet.database.url());
        eventually("connected again", || sessions(gateway) == count);
    }
    fleet.order(0);
    fleet.await_generation(2);
}

/// From here on every session that writes a row dies of it.
const DIE_OF_WRITES: &str = "
    CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
    CREATE TRIGGER die BEFORE INSERT OR UPDATE ON bearerd_credential FOR EACH ROW EXECUTE FUNCTION die()";

#[test]
fn an_import_whose_database_dies_of_it_says_where_the_token_is() {
    let mut fleet = Fleet::of(2, Partner::new());
    fleet.replicas.iter_mut().for_each(Gateway::stop);
    let before = fleet.row("encode(pair, 'hex')");
    let token = fleet.partner.fresh_refresh_token();
    let load = |replica: &Gateway| {
        process::pipe(replica.dir.path(), &["token", "import", "--config", "config.toml"], token.as_bytes())
    };

    fleet.database.sql(DIE_OF_WRITES);
    let ended = load(&fleet.replicas[0]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    let says = "the token is in the journal in state and perhaps in the database: keep token and journal";
    assert!(ended.stderr.contains(says), "{}", ended.stderr);
    assert!(ended.stderr.contains("load it again when the database can be used"), "{}", ended.stderr);
    assert_eq!(fleet.row("encode(pair, 'hex')"), before);

    fleet.postgres.stop(Stop::Immediate);
    let ended = load(&fleet.replicas[1]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    let shown = fleet.database.shown();
    assert!(ended.stderr.starts_with(&format!("bearerd: {shown}: Connection refused")), "{}", ended.stderr);
    assert!(ended.stderr.contains("the token was not loaded, and nothing was changed"), "{}", ended.stderr);

    // As it says.
    fleet.postgres.start_again();
    fleet.database.sql("DROP TRIGGER die ON bearerd_credential");
    fleet.replicas[0].restart();
    eventually("stored", || fleet.row("encode(pair, 'hex')") != before);
    fleet.partner.revoke_access();
    assert_eq!(fleet.replicas[0].get("/x").status, 200);
    let presented = fleet.partner.refresh_call(1).opened.unwrap();
    assert_eq!(presented, json!({"refresh_token": token}));
    // It has been presented, and another has come of it.
    fleet.replicas[0].stop();
    let before = fleet.row("encode(pair, 'hex')");
    let ended = load(&fleet.replicas[1]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("this token was loaded before"), "{}", ended.stderr);
    assert_eq!(fleet.row("encode(pair, 'hex')"), before);
    fleet.partner.assert_no_spent_token_seen();
}

/// As after an import that the database took, and whose answer was lost.
#[test]
fn a_token_that_was_loaded_and_presented_is_not_loaded_again() {
    let fleet = Fleet::of(2, Partner::new());
    let pair = json!({"refresh_token": fleet.partner.fresh_refresh_token()});
    let load = |replica: usize| fleet.replicas[replica].admin(&import(&pair)).status;
    assert_eq!(load(0), 200);
    fleet.await_generation(2);
    let row = || fleet.row("encode(pair, 'hex')");
    let before = row();
    assert_eq!((load(0), load(1)), (409, 409));
    assert_eq!((row(), fleet.partner.refreshes()), (before, 2));
    // Once it has nothing good, an operator's word counts.
    fleet.partner.revoke_refresh();
    fleet.order(1);
    fleet.replicas[1].await_state("reauth_required");
    assert_eq!(load(1), 200);
}

#[test]
fn an_import_that_is_repeated_does_no_harm() {
    let mut fleet = Fleet::of(1, Partner::new());
    fleet.replicas[0].stop();
    let token = fleet.partner.fresh_refresh_token();
    let dir = fleet.replicas[0].dir.path().to_owned();
    for _ in 0..2 {
        let ended = process::pipe(&dir, &["token", "import", "--config", "config.toml"], token.as_bytes());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    fleet.partner.revoke_access();
    fleet.replicas[0].restart();
    assert_eq!(fleet.replicas[0].get("/x").status, 200);
    assert_eq!(fleet.partner.refreshes(), 2);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn a_session_that_is_lost_is_counted_and_shown() {
    let mut fleet = Fleet::of(1, Partner::new());
    let connected = |fleet: &Fleet| {
        let status = fleet.replicas[0].status();
        let metric = |name: &str| fleet.replicas[0].metric(name, &[]).unwrap();
        (
            status["store"]["connected"].as_bool().unwrap(),
            metric("bearerd_store_connected"),
            metric("bearerd_store_sessions_total"),
        )
    };
    assert_eq!(connected(&fleet), (true, 1.0, 1.0));
    fleet.postgres.stop(Stop::Fast);
    eventually("shown", || connected(&fleet) == (false, 0.0, 1.0));
    let dir = fleet.replicas[0].dir.path();
    let told = process::run(dir, &["token", "status", "--config", "config.toml"]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(told.stderr.contains("has no session with its database"), "{}", told.stderr);
    fleet.postgres.start_again();
    eventually("shown", || connected(&fleet) == (true, 1.0, 2.0));
    let told = process::run(fleet.replicas[0].dir.path(), &["token", "status", "--config", "config.toml"]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""));
}

#[test]
fn of_a_store_that_is_no_database_no_session_is_shown() {
    let gateway = Gateway::before(&Partner::new());
    assert!(gateway.status()["store"].is_null());
    assert_eq!(gateway.metric("bearerd_store_connected", &[]), None);
}

/// As "A pair that was overtaken" in the manual's page on failures says.
#[test]
fn s19_a_pair_that_was_kept_aside_can_be_put_back() {
    let mut fleet = Fleet::of(2, Partner::new());
    let gate = fleet.partner.hold_refreshes();
    fleet.order(0);
    gate.await_arrivals(1);
    // Meanwhile somebody loads a pair that is worth nothing.
    let dead = json!({"refresh_token": marked("dead"), "access_token": marked("dead"), "expires_in": 3600});
    assert_eq!(fleet.replicas[1].admin(&import(&dead)).status, 200);
    gate.open();
    let state = fleet.replicas[0].dir.file("state");
    let named = |suffix: &str| {
        let names = std::fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.to_str().unwrap().ends_with(suffix)).collect::<Vec<_>>()
    };
    eventually("kept aside", || !named(".journal.overtaken").is_empty());
    // What it holds in memory is forgotten.
    fleet.replicas[0].stop();
    fleet.order(1);
    fleet.replicas[1].await_state("reauth_required");

    named(".journal").iter().for_each(|newer| std::fs::rename(newer, newer.with_extension("moved")).unwrap());
    let aside = named(".journal.overtaken").remove(0);
    std::fs::rename(&aside, aside.with_extension("")).unwrap();
    fleet.replicas[0].restart();
    for replica in &fleet.replicas {
        replica.await_state("valid");
        assert_eq!(replica.get("/x").status, 200);
    }
    let refreshes = fleet.partner.refreshes();
    let generation = fleet.stored() + 1;
    fleet.order(1);
    fleet.await_generation(generation);
    assert_eq!(fleet.partner.refreshes(), refreshes + 1);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn what_failed_is_said_whether_it_was_a_read_or_a_write() {
    let fleet = Fleet::of(1, Partner::new());
    let gateway = &fleet.replicas[0];
    let logged = |message: &str| gateway.log_lines().iter().any(|line| line["message"] == message);
    fleet.database.sql("REVOKE UPDATE, SELECT ON bearerd_credential FROM bearerd");
    fleet.order(0);
    eventually("a claim that failed", || logged("the store could not be asked for the next call"));
    assert!(!logged("the credential could not be saved"), "{}", gateway.logs());
    // Somebody else's change is to be read.
    fleet.database.sql("SELECT pg_notify('bearerd_credential', 'acme 9223372036854775807')");
    eventually("a read that failed", || logged("the credential could not be read from the store"));
    fleet.database.grant();
    fleet.await_generation(2);
    let gate = fleet.partner.hold_refreshes();
    fleet.order(0);
    gate.await_arrivals(1);
    fleet.database.sql("REVOKE UPDATE ON bearerd_credential FROM bearerd");
    gate.open();
    eventually("a save that failed", || logged("the credential could not be saved"));
    fleet.database.grant();
    eventually("saved", || fleet.stored() == 3);
    fleet.partner.assert_no_spent_token_seen();
}
