//! Many replicas on one database: what a generation costs it, and how soon everybody has it.
//!
//! `cargo bench --bench replicas -- --replicas 50 --partners 1000 --life 60 --seconds 60`. The replicas
//! are refreshers and stores as in the real process, each store with a session and a journal of its
//! own, all in this process; the partner is a table in memory that answers after 5 ms; the database is
//! a real one, which this starts and ends.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, unused_imports)]
mod support;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bearerd::clock::{Moment, SystemClock};
use bearerd::credential::{Policy, RefreshHandle, Refresher, Settings};
use bearerd::metrics::Metrics;
use bearerd::partner::{Cause, Outcome, TokenEndpoint, TokenSet, reason};
use bearerd::store::postgres::Database;
use bearerd::store::{self, BoxFuture, Kind, StoreKey};
use bearerd::token::{AccessToken, Generation, RefreshToken};
use tokio::sync::watch;

use support::fleet::migrate;
use support::postgres::Postgres;

struct Options {
    replicas: usize,
    partners: usize,
    life: Duration,
    seconds: Duration,
}

impl Options {
    fn from_args() -> Self {
        let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
        let mut found = HashMap::new();
        while let (Some(name), Some(value)) = (args.next(), args.next()) {
            let value: u64 =
                value.parse().unwrap_or_else(|_| panic!("{name}: expected a number, found {value:?}"));
            found.insert(name, value);
        }
        let mut take = |name: &str, usual| found.remove(name).unwrap_or(usual);
        let options = Self {
            replicas: usize::try_from(take("--replicas", 5)).unwrap(),
            partners: usize::try_from(take("--partners", 100)).unwrap(),
            life: Duration::from_secs(take("--life", 20)),
            seconds: Duration::from_secs(take("--seconds", 20)),
        };
        assert!(found.is_empty(), "unknown: {:?}", found.keys());
        options
    }
}

/// What the partner knows: per partner's name the one refresh token that lives.
#[derive(Default)]
struct Desk {
    live: Mutex<HashMap<String, u64>>,
    calls: AtomicU64,
    spent: AtomicU64,
}

struct Endpoint {
    desk: Arc<Desk>,
    name: String,
    life: Duration,
}

impl TokenEndpoint for Endpoint {
    fn refresh<'a>(&'a self, token: &'a RefreshToken, _: Moment) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            self.desk.calls.fetch_add(1, Ordering::Relaxed);
            let mut live = self.desk.live.lock().unwrap();
            let number = live.entry(self.name.clone()).or_insert(0);
            if token.expose() != refresh_token(&self.name, *number) {
                self.desk.spent.fetch_add(1, Ordering::Relaxed);
                return Outcome::Refused(Cause { reason: reason::REFUSED, status: None });
            }
            *number += 1;
            Outcome::Renewed(TokenSet {
                // As long as a JWT is.
                access: AccessToken::parse(&format!("{}.{number}.{}", self.name, "x".repeat(1000))).unwrap(),
                lifetime: Some(self.life),
                refresh: Some(RefreshToken::parse(&refresh_token(&self.name, *number)).unwrap()),
            })
        })
    }

    fn login(&self, _: Moment) -> BoxFuture<'_, Outcome> {
        Box::pin(async { Outcome::Refused(Cause { reason: reason::NO_LOGIN, status: None }) })
    }
}

fn refresh_token(partner: &str, number: u64) -> String {
    format!("{partner}.{number}.{}", "y".repeat(500))
}

/// When each replica had which generation of a partner that is watched.
type Seen = Arc<Mutex<HashMap<(String, u64), Vec<Instant>>>>;

async fn replica(
    options: &Options,
    url: &str,
    desk: &Arc<Desk>,
    dir: &std::path::Path,
    seen: &Seen,
) -> Vec<tokio::task::JoinHandle<()>> {
    let config = store::Config {
        kind: Kind::Postgres(Database::parse(url).unwrap()),
        path: dir.to_owned(),
        key: StoreKey::from_hex(support::secrets::STORE_KEY),
        previous_key: None,
    };
    let store = store::open(&config, SystemClock::shared()).await.unwrap();
    let metrics = Metrics::new("0");
    let policy = Policy {
        ahead: options.life / 10,
        timeout: Duration::from_secs(10),
        grace: Duration::ZERO,
        default_lifetime: options.life,
    };
    let mut tasks = Vec::with_capacity(options.partners);
    for partner in 0..options.partners {
        let name = format!("partner-{partner}");
        let settings = Settings {
            endpoint: Arc::new(Endpoint { desk: Arc::clone(desk), name: name.clone(), life: options.life }),
            policy: policy.clone(),
            login: None,
            seed: RefreshToken::parse(&refresh_token(&name, 0)).ok(),
        };
        let (sender, settings) = watch::channel(settings);
        let (mut refresher, handle, stop) = Refresher::load(
            &name,
            settings,
            Arc::clone(&store),
            SystemClock::shared(),
            metrics.credential(&name),
            fastrand::Rng::new(),
        )
        .await
        .unwrap();
        refresher.start_in_turn(u32::try_from(partner).unwrap());
        if partner % (options.partners / 20).max(1) == 0 {
            tasks.push(tokio::spawn(watch_one(name, handle, Arc::clone(seen))));
        }
        tasks.push(tokio::spawn(async move {
            // For as long as the refresher runs.
            let _kept = (sender, stop);
            refresher.run().await;
        }));
    }
    tasks
}

async fn watch_one(name: String, handle: Arc<RefreshHandle>, seen: Seen) {
    let mut generation = Generation(0);
    loop {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(3600);
        let Ok(token) = handle.newer(generation, deadline).await else { continue };
        generation = token.generation;
        seen.lock().unwrap().entry((name.clone(), generation.0)).or_default().push(Instant::now());
    }
}

/// What the database has done so far.
struct Work {
    cpu: Duration,
    commits: u64,
    wal: u64,
    rows: u64,
}

fn work(postgres: &Postgres, database: &support::postgres::Database) -> Work {
    // The statistics are a second behind.
    database.sql("SELECT pg_stat_force_next_flush()");
    let number = |sql: &str| database.value(sql).unwrap().parse::<f64>().unwrap() as u64;
    Work {
        cpu: cpu(&postgres.dir().join("data")),
        commits: number("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"),
        wal: number("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"),
        rows: number("SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'bearerd_credential'"),
    }
}

/// The processor time that the processes of the server in `data` have used, those included that have
/// ended.
fn cpu(data: &std::path::Path) -> Duration {
    let ticks = |process: std::path::PathBuf| -> u64 {
        let stat = std::fs::read_to_string(process.join("stat")).unwrap_or_default();
        let Some((_, fields)) = stat.rsplit_once(") ") else { return 0 };
        // User and system, its own and its dead children's: fields 14 to 17 of proc(5).
        fields.split(' ').skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
    };
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let own = processes.filter(|path| std::fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd == data));
    let ticks: u64 = own.map(ticks).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

fn main() {
    let options = Options::from_args();
    let postgres = Postgres::start();
    let database = postgres.database();
    migrate(&database);
    let url = database.url();
    let dirs = tempfile::tempdir_in("/dev/shm").unwrap();
    let (desk, seen) = (Arc::<Desk>::default(), Seen::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (ready_after, out) = runtime.block_on(async {
        let began = Instant::now();
        let mut tasks = Vec::new();
        for number in 0..options.replicas {
            tasks.extend(replica(&options, &url, &desk, &dirs.path().join(number.to_string()), &seen).await);
        }
        let everybody = |seen: &Seen| {
            let seen = seen.lock().unwrap();
            seen.iter().filter(|(_, times)| times.len() == options.replicas).count()
        };
        while everybody(&seen) < options.partners.min(20) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let ready_after = began.elapsed();
        seen.lock().unwrap().clear();
        let (before, calls) =
            (tokio::task::block_in_place(|| work(&postgres, &database)), desk.calls.load(Ordering::Relaxed));
        let started = Instant::now();
        tokio::time::sleep(options.seconds).await;
        let (after, took) = (tokio::task::block_in_place(|| work(&postgres, &database)), started.elapsed());
        let generations = desk.calls.load(Ordering::Relaxed) - calls;
        let report = || report(&options, &before, &after, took, generations, &seen, &database);
        (ready_after, tokio::task::block_in_place(report))
    });
    println!("ready after {:.1} s", ready_after.as_secs_f64());
    print!("{out}");
    println!("calls with a spent token: {}", desk.spent.load(Ordering::Relaxed));
    runtime.shutdown_background();
}

fn report(
    options: &Options,
    before: &Work,
    after: &Work,
    took: Duration,
    generations: u64,
    seen: &Seen,
    database: &support::postgres::Database,
) -> String {
    let per = |amount: u64| amount as f64 / generations.max(1) as f64;
    let mut late: Vec<Duration> = Vec::new();
    let mut missed = 0;
    for times in seen.lock().unwrap().values() {
        let Some(first) = times.iter().min() else { continue };
        missed += options.replicas - times.len().min(options.replicas);
        late.extend(times.iter().filter(|time| *time != first).map(|time| *time - *first));
    }
    late.sort_unstable();
    let at = |share: f64| {
        let index = ((late.len().max(1) - 1) as f64 * share) as usize;
        late.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    let connections =
        database.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'bearerd'").unwrap();
    let size = database.value("SELECT pg_total_relation_size('bearerd_credential')").unwrap();
    let mut out = String::new();
    let seconds = took.as_secs_f64();
    writeln!(
        out,
        "replicas {}, partners {}, tokens of {:?}",
        options.replicas, options.partners, options.life
    )
    .unwrap();
    writeln!(out, "generations {generations} in {seconds:.1} s: {:.1}/s", generations as f64 / seconds)
        .unwrap();
    writeln!(out, "transactions per generation {:.2}", per(after.commits - before.commits)).unwrap();
    writeln!(out, "row versions per generation {:.2}", per(after.rows - before.rows)).unwrap();
    writeln!(out, "WAL per generation {:.1} KiB", per(after.wal - before.wal) / 1024.0).unwrap();
    let cpu = after.cpu - before.cpu;
    writeln!(
        out,
        "database CPU {:.2} s: {:.2} ms per generation, {:.0} us per generation and replica",
        cpu.as_secs_f64(),
        cpu.as_secs_f64() * 1e3 / generations.max(1) as f64,
        cpu.as_secs_f64() * 1e6 / generations.max(1) as f64 / options.replicas as f64
    )
    .unwrap();
    writeln!(out, "connections {connections}, table and indexes {size} bytes").unwrap();
    writeln!(
        out,
        "from the first replica's use to another's: median {:.1} ms, p99 {:.1} ms, worst {:.1} ms ({} measured, {missed} not yet)",
        at(0.5),
        at(0.99),
        at(1.0),
        late.len()
    )
    .unwrap();
    out
}
