//! Replicas that are killed, stopped and cut off at random, while their clients go on asking.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::support::client::{self, Address, Request};
use crate::support::eventually;
use crate::support::fleet::Fleet;
use crate::support::gateway::Gateway;
use crate::support::partner::Partner;
use crate::support::postgres::Stop;

const REPLICAS: usize = 5;

/// How the requests to one replica went.
#[derive(Default)]
struct Count {
    good: AtomicUsize,
    /// Answered with something else than 200.
    bad: AtomicUsize,
    /// Not answered, because the connection broke or none was to be had.
    broken: AtomicUsize,
    /// Of these, while nobody had killed the replica.
    wrongly: AtomicUsize,
    killed: AtomicBool,
    over: AtomicBool,
}

/// Asks one replica again and again, on one connection after another, until it is over.
fn ask(address: &std::sync::Mutex<Address>, count: &Count) {
    while !count.over.load(Ordering::SeqCst) {
        let to = address.lock().unwrap().clone();
        let killed = count.killed.load(Ordering::SeqCst);
        let connected = std::net::TcpStream::connect(to.tcp()).is_ok();
        let answer = connected.then(|| {
            let mut connection = client::connect(&to);
            connection.send(&Request::get("/x").to_bytes()).and_then(|()| connection.answer("GET"))
        });
        match answer {
            Some(Ok(answer)) if answer.status == 200 => count.good.fetch_add(1, Ordering::SeqCst),
            Some(Ok(answer)) => {
                println!("{}: {}", answer.status, answer.text());
                count.bad.fetch_add(1, Ordering::SeqCst)
            }
            _ => {
                let now = address.lock().unwrap().tcp();
                if !killed && !count.killed.load(Ordering::SeqCst) && now == to.tcp() {
                    count.wrongly.fetch_add(1, Ordering::SeqCst);
                }
                count.broken.fetch_add(1, Ordering::SeqCst)
            }
        };
    }
}

/// `BEARERD_SEED` runs a certain one, `BEARERD_EVENTS` says for how long.
#[test]
fn s18_s21_s24_whatever_happens_to_one_at_a_time_nothing_is_lost_and_nobody_else_fails() {
    let env = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = env("BEARERD_SEED").unwrap_or_else(|| fastrand::u64(..));
    let events = env("BEARERD_EVENTS").unwrap_or(8);
    println!("seed {seed}, {events} events");
    let mut rng = fastrand::Rng::with_seed(seed);
    let partner = Partner::new();
    partner.lifetime(Duration::from_secs(3));
    partner.grace(Duration::from_secs(3600));
    let mut fleet = Fleet::with(REPLICAS, partner, |_, config| {
        config
            .set("log.level", "info")
            .set("partner.refresh.timeout", "1s")
            .set("partner.refresh.grace", "1h")
    });
    let counts: Vec<Count> = (0..REPLICAS).map(|_| Count::default()).collect();
    let address = |replica: &Gateway| std::sync::Mutex::new(replica.proxy_addr().clone());
    let addresses: Vec<_> = fleet.replicas.iter().map(address).collect();
    let mut told = [0; 4];
    thread::scope(|scope| {
        for (address, count) in addresses.iter().zip(&counts) {
            scope.spawn(|| ask(address, count));
        }
        for _ in 0..events {
            // The others go on: by so many requests, and one generation.
            let victim = rng.usize(..REPLICAS);
            let generation = fleet.stored();
            let what = rng.usize(..4);
            told[what] += 1;
            match what {
                0 => {
                    counts[victim].killed.store(true, Ordering::SeqCst);
                    fleet.replicas[victim].kill9();
                    eventually("the others refresh", || fleet.stored() > generation);
                    fleet.replicas[victim].restart();
                    *addresses[victim].lock().unwrap() = fleet.replicas[victim].proxy_addr().clone();
                    fleet.replicas[victim].await_ready();
                    counts[victim].killed.store(false, Ordering::SeqCst);
                }
                1 => {
                    fleet.replicas[victim].pause();
                    eventually("the others refresh", || fleet.stored() > generation);
                    fleet.replicas[victim].resume();
                }
                2 => fleet.postgres.restart(Stop::Immediate),
                _ => {
                    fleet.postgres.kill9();
                    fleet.postgres.start_again();
                }
            }
            let before: Vec<usize> = counts.iter().map(|count| count.good.load(Ordering::SeqCst)).collect();
            eventually("everybody is served", || {
                counts
                    .iter()
                    .zip(&before)
                    .all(|(count, before)| count.good.load(Ordering::SeqCst) > before + 5)
            });
            let stored = fleet.stored();
            eventually("a new generation", || fleet.stored() > stored);
        }
        counts.iter().for_each(|count| count.over.store(true, Ordering::SeqCst));
    });
    for replica in &fleet.replicas {
        replica.await_state("valid");
    }
    let sum = |of: fn(&Count) -> &AtomicUsize| -> usize {
        counts.iter().map(|count| of(count).load(Ordering::SeqCst)).sum()
    };
    println!(
        "{} kills, {} pauses, {} restarts of the database, {} kills of it; {} answered, {} broken with a kill; \
         {} generations, {} calls, {} of them by the partner's grace",
        told[0],
        told[1],
        told[2],
        told[3],
        sum(|c| &c.good),
        sum(|c| &c.broken),
        fleet.stored(),
        fleet.partner.refreshes(),
        fleet.partner.graced()
    );
    assert_eq!((sum(|c| &c.bad), sum(|c| &c.wrongly)), (0, 0));
    fleet.partner.assert_no_spent_token_seen();
}
