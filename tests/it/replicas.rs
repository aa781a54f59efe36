//! Several replicas and one credential: what each does while another is stopped, killed or late.

use std::thread;
use std::time::Duration;

use bytes::Bytes;
use hyper::Version;
use serde_json::json;

use crate::support::client::Request;
use crate::support::eventually;
use crate::support::fleet::Fleet;
use crate::support::gateway::Gateway;
use crate::support::load::at_once;
use crate::support::partner::Partner;
use crate::support::relay::Relay;
use crate::support::trial::import;

/// How many connections each replica's clients have.
const CONNECTIONS: usize = 10;

/// The number in the environment under `name`, or `usual`.
fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// A replica that has asked the partner, and is stopped before it sees the answer, which is on its
/// way.
fn stopped_after_sending(fleet: &Fleet) {
    let gate = fleet.partner.hold_refreshes();
    fleet.order(0);
    gate.await_arrivals(1);
    fleet.replicas[0].pause();
    gate.open();
    eventually("the partner has answered", || fleet.partner.refreshes_in_progress() == 0);
    fleet.await_takeover();
}

/// What `replica` makes of a call that another has not ended.
fn made_of_it(replica: &Gateway) -> Option<String> {
    let said = "another replica has not ended its call in time; the refresh token may be spent";
    let line = replica.log_lines().into_iter().find(|line| line["message"] == said)?;
    assert_eq!(line["partner"], "acme");
    line["then"].as_str().map(str::to_owned)
}

#[test]
fn s16_five_replicas_that_start_at_once_make_one_call_and_all_follow() {
    let fleet = Fleet::of(5, Partner::new());
    fleet.await_generation(1);
    assert_eq!((fleet.partner.refreshes(), fleet.stored()), (1, 1));
    for generation in 2..6 {
        let replica = usize::try_from(generation).unwrap() % 5;
        fleet.order(replica);
        fleet.await_generation(generation);
        for replica in &fleet.replicas {
            assert_eq!(replica.get("/x").status, 200);
        }
        assert_eq!(fleet.partner.refreshes(), usize::try_from(generation).unwrap());
    }
    fleet.partner.assert_no_spent_token_seen();
    assert_eq!(fleet.partner.rejected(), 0);
}

/// `BEARERD_GENERATIONS=200 BEARERD_REQUESTS=1000` for the whole of it.
#[test]
fn s16_requests_at_every_replica_at_the_moment_of_expiry_wait_for_one_call() {
    let generations = number("BEARERD_GENERATIONS", 3);
    let streams = number("BEARERD_REQUESTS", 100) / CONNECTIONS;
    let partner = Partner::new();
    partner.lifetime(Duration::from_secs(3));
    let fleet = Fleet::with(5, partner, |_, config| {
        config
            .set("partner.refresh.ahead", "0s")
            .set("log.level", "info")
            .set("partner.refresh.timeout", "60s")
    });
    for _ in 0..generations {
        let gate = fleet.partner.hold_refreshes();
        gate.await_arrivals(1);
        eventually("every token expired", || {
            fleet.replicas.iter().all(|replica| replica.of_partner("state") == "expired")
        });
        let clients: Vec<_> = fleet
            .replicas
            .iter()
            .map(|replica| {
                let address = replica.proxy_addr().tcp();
                thread::spawn(move || {
                    at_once(address, Version::HTTP_2, CONNECTIONS, streams, &Bytes::from_static(b"pay"))
                })
            })
            .collect();
        eventually("all connected", || {
            fleet.replicas.iter().all(|replica| {
                let open = replica.metric("bearerd_connections", &[("side", "client")]);
                open.is_some_and(|open| open >= CONNECTIONS as f64)
            })
        });
        gate.open();
        for client in clients {
            let replies = client.join().unwrap();
            assert_eq!(replies.len(), CONNECTIONS * streams);
            let failed = replies.iter().find(|reply| reply.status != 200);
            assert!(failed.is_none(), "{:?}", failed.map(|reply| (reply.status, &reply.fields)));
        }
    }
    fleet.partner.assert_no_spent_token_seen();
    eventually("one generation for each call", || fleet.stored() == fleet.partner.refreshes() as u64);
    // A token that dies on its way to the partner is mended by a replay, and no client sees it.
    let (calls, late) = (fleet.partner.refreshes(), fleet.partner.rejected());
    println!("{generations} generations, {calls} calls, {late} tokens that expired on their way");
}

#[test]
fn a_401_at_a_replica_that_is_behind_costs_no_call() {
    let fleet = Fleet::of(2, Partner::new());
    fleet.replicas[1].pause();
    fleet.order(0);
    fleet.replicas[0].await_generation(2);
    fleet.partner.revoke_access();
    let gate = fleet.partner.hold_refreshes();
    fleet.order(0);
    gate.await_arrivals(1);
    gate.open();
    fleet.replicas[0].await_generation(3);
    // It finds the request before anything that it has been told.
    let answer = fleet.replicas[1].send_aside(Request::get("/x"));
    fleet.replicas[1].resume();
    assert_eq!(answer.join().unwrap().status, 200);
    assert_eq!(fleet.partner.refreshes(), 3);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s17_a_replica_that_was_stopped_before_sending_sends_nothing_after_its_deadline() {
    let partner = Partner::over_tls();
    let relay = Relay::to(partner.address());
    let base_url = format!("https://127.0.0.1:{}", relay.port());
    let fleet = Fleet::with(2, partner, |replica, config| {
        let config = config.set("partner.refresh.timeout", "1s").set("partner.connect_timeout", "900ms");
        if replica == 0 { config.set("partner.base_url", base_url.clone()) } else { config }
    });
    let before = fleet.partner.refreshes();
    let generation = fleet.stored();
    relay.cut();
    fleet.order(0);
    fleet.await_intent();
    fleet.replicas[0].pause();
    fleet.await_takeover();
    relay.mend();
    fleet.replicas[0].resume();
    // It knows that it has sent nothing, says so, and tries again: under another intent.
    fleet.order(0);
    fleet.await_generation(generation + 1);
    assert_eq!(fleet.partner.refreshes(), before + 1);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s18_a_replica_that_was_stopped_after_sending_hands_its_pair_in_late() {
    let fleet = Fleet::with(2, Partner::new(), |_, config| config.set("partner.refresh.timeout", "1s"));
    stopped_after_sending(&fleet);
    // The token may be spent, and the other still has something to lose.
    fleet.order(1);
    fleet.replicas[1].await_state("degraded");
    assert_eq!(fleet.replicas[1].get("/x").status, 200);
    assert_eq!((fleet.partner.refreshes(), fleet.stored()), (2, 1));
    let then = "the access token serves; when it is about to die or refused, the same refresh token again";
    assert_eq!(made_of_it(&fleet.replicas[1]).as_deref(), Some(then));
    fleet.replicas[0].resume();
    fleet.await_generation(2);
    for replica in &fleet.replicas {
        replica.await_state("valid");
        assert_eq!(replica.get("/x").status, 200);
    }
    assert_eq!(fleet.partner.refreshes(), 2);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s19_a_refusal_that_another_was_given_meanwhile_does_not_keep_a_late_pair_out() {
    let fleet = Fleet::with(2, Partner::new(), |_, config| config.set("partner.refresh.timeout", "1s"));
    stopped_after_sending(&fleet);
    // Nothing is left to lose, so the other presents the token, which the first has spent.
    fleet.partner.revoke_access();
    assert_eq!(fleet.replicas[1].get("/x").status, 503);
    fleet.replicas[1].await_state("reauth_required");
    assert_eq!((fleet.partner.refreshes(), fleet.partner.spent_presented()), (3, 1));
    fleet.replicas[0].resume();
    fleet.await_generation(2);
    for replica in &fleet.replicas {
        replica.await_state("valid");
    }
}

#[test]
fn s29_a_slow_call_is_nobody_elses_even_when_its_lease_is_over() {
    let fleet = Fleet::of(2, Partner::new());
    let gate = fleet.partner.hold_refreshes();
    fleet.order(0);
    gate.await_arrivals(1);
    let covered = "lease_owner = intent_owner AND lease_until >= intent_deadline";
    assert_eq!(fleet.row(covered).as_deref(), Some("t"), "it never has to be renewed");
    fleet.database.sql("UPDATE bearerd_credential SET lease_until = clock_timestamp() - interval '1 hour'");
    let since = fleet.database.value("SELECT clock_timestamp()").unwrap();
    fleet.order(1);
    eventually("asked by the other, and answered", || {
        let asked = format!(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE usename = 'bearerd' AND state = 'idle' AND query_start > '{since}'"
        );
        fleet.database.value(&asked).as_deref() != Some("0")
    });
    gate.open();
    fleet.await_generation(2);
    assert_eq!((fleet.partner.refreshes(), fleet.stored()), (2, 2));
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s02_what_a_killed_replica_was_doing_is_known_to_the_others_and_to_itself() {
    let mut fleet = Fleet::with(2, Partner::new(), |_, config| {
        config.set("partner.refresh.timeout", "1s").set("partner.refresh.grace", "1h")
    });
    fleet.partner.grace(Duration::from_secs(3600));
    let gate = fleet.partner.hold_refreshes();
    fleet.order(0);
    gate.await_arrivals(1);
    fleet.replicas[0].kill9();
    gate.open();
    // The grace allows it to be presented once more, by whoever comes first.
    fleet.replicas[1].await_generation(2);
    let then = "the same refresh token again, within the partner's grace";
    assert_eq!(made_of_it(&fleet.replicas[1]).as_deref(), Some(then));
    fleet.replicas[0].restart();
    fleet.replicas[0].await_ready();
    fleet.await_generation(2);
    assert_eq!((fleet.partner.refreshes(), fleet.partner.graced()), (3, 1));
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn what_an_operator_loads_into_one_replica_helps_all() {
    let fleet = Fleet::of(3, Partner::new());
    fleet.partner.revoke_refresh();
    fleet.partner.revoke_access();
    for replica in &fleet.replicas {
        assert_eq!(replica.get("/x").status, 503);
        replica.await_state("reauth_required");
    }
    assert_eq!(fleet.partner.refreshes(), 2, "one refusal is enough for all");
    let pair = json!({"refresh_token": fleet.partner.fresh_refresh_token()});
    assert_eq!(fleet.replicas[1].admin(&import(&pair)).status, 200);
    for replica in &fleet.replicas {
        replica.await_state("valid");
        assert_eq!(replica.get("/x").status, 200);
    }
    assert_eq!(fleet.partner.refreshes(), 3);
}

#[test]
fn a_login_is_made_by_one_replica_for_all() {
    let fleet = Fleet::with(3, Partner::new(), |_, config| config.with_login());
    fleet.partner.revoke_refresh();
    fleet.partner.revoke_access();
    let answers: Vec<_> = fleet.replicas.iter().map(|r| r.send_aside(Request::get("/x"))).collect();
    for answer in answers {
        assert_eq!(answer.join().unwrap().status, 200);
    }
    assert_eq!((fleet.partner.refreshes(), fleet.partner.logins()), (2, 1));
}

#[test]
fn s56_a_replica_that_ends_keeps_nothing_from_the_others() {
    let mut fleet = Fleet::of(3, Partner::new());
    let gate = fleet.partner.hold_refreshes();
    fleet.order(0);
    gate.await_arrivals(1);
    fleet.replicas[0].sigterm();
    gate.open();
    assert_eq!(fleet.replicas[0].wait_exit().code(), Some(0));
    for replica in &fleet.replicas[1..] {
        replica.await_generation(2);
        assert_eq!(replica.get("/x").status, 200);
    }
    fleet.order(1);
    fleet.replicas[2].await_generation(3);
    assert_eq!(fleet.partner.refreshes(), 3);
    fleet.partner.assert_no_spent_token_seen();
}

#[test]
fn s42_a_partner_that_asks_for_patience_is_asked_by_one_replica() {
    use crate::support::http::Answer;
    use crate::support::issuer::Refresh;

    let fleet = Fleet::of(3, Partner::new());
    let busy = Answer::json(503, &json!({"error": "busy"})).with("retry-after", "2");
    fleet.partner.script_refresh(Refresh::Instead(busy));
    fleet.order(0);
    eventually("a pause on record", || fleet.row("lease_owner").is_some());
    fleet.partner.revoke_access();
    let answers: Vec<_> = fleet.replicas.iter().map(|r| r.send_aside(Request::get("/x"))).collect();
    for answer in answers {
        assert_eq!(answer.join().unwrap().status, 200);
    }
    assert_eq!(fleet.partner.refreshes(), 3);
    thread::yield_now();
    fleet.partner.assert_no_spent_token_seen();
}
