//! Many partners at once: their calls are spread.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::clock::{Clock, Moment};
use crate::credential::testing::{FakeClock, FakeStore, LIFE, access, lock, policy, refresh, secs, set};
use crate::credential::{Refresher, Settings, Stop};
use crate::metrics::Metrics;
use crate::partner::{Outcome, TokenEndpoint};
use crate::store::{BoxFuture, Record, SavedAccess, Store};
use crate::token::{Generation, RefreshToken};

const PARTNERS: u32 = 1_000;

/// Answers with a new pair, and writes down when it was asked.
#[derive(Default)]
struct Diary(Mutex<Vec<Instant>>);

impl TokenEndpoint for Diary {
    fn refresh<'a>(&'a self, _: &'a RefreshToken, _: Moment) -> BoxFuture<'a, Outcome> {
        Box::pin(async {
            lock(&self.0).push(Instant::now());
            Outcome::Renewed(set("access", "next"))
        })
    }

    fn login(&self, _: Moment) -> BoxFuture<'_, Outcome> {
        Box::pin(std::future::pending())
    }
}

/// Partners that start together, each with what `store` makes it.
struct Crowd {
    diary: Arc<Diary>,
    running: JoinSet<()>,
    /// Without these they would end.
    held: Vec<(watch::Sender<Settings>, Stop)>,
}

impl Crowd {
    async fn start(seed: u64, clock: &Arc<FakeClock>, store: impl Fn() -> Arc<FakeStore>) -> Self {
        let mut crowd = Self { diary: Arc::default(), running: JoinSet::new(), held: Vec::new() };
        let mut rng = fastrand::Rng::with_seed(seed);
        let metrics = Metrics::new("0");
        for order in 0..PARTNERS {
            let name = format!("p{order}");
            let (settings, seen) = watch::channel(Settings {
                endpoint: Arc::clone(&crowd.diary) as Arc<dyn TokenEndpoint>,
                policy: policy(),
                login: None,
                seed: Some(refresh("seed")),
            });
            let clock = Arc::clone(clock) as Arc<dyn Clock>;
            let (store, metrics) = (store() as Arc<dyn Store>, metrics.credential(&name));
            let (mut refresher, _, stop) =
                Refresher::load(&name, seen, store, clock, metrics, rng.fork()).await.unwrap();
            refresher.start_in_turn(order);
            crowd.running.spawn(refresher.run());
            crowd.held.push((settings, stop));
        }
        crowd
    }

    /// When the calls of one round came, once each partner has made its own.
    async fn round(&self) -> Vec<Instant> {
        for _ in 0..LIFE.as_secs() {
            if lock(&self.diary.0).len() == PARTNERS as usize {
                return std::mem::take(&mut lock(&self.diary.0));
            }
            tokio::time::sleep(secs(1)).await;
        }
        panic!("{} of {PARTNERS} called within a lifetime", lock(&self.diary.0).len());
    }
}

/// The most calls within `window`.
fn busiest(calls: &[Instant], window: Duration) -> usize {
    let within = |at: usize| calls[at..].iter().take_while(|call| **call - calls[at] < window).count();
    (0..calls.len()).map(within).max().unwrap()
}

#[tokio::test]
async fn a_refresher_that_has_nothing_to_do_takes_little_room() {
    let (_held, settings) = watch::channel(Settings {
        endpoint: Arc::new(Diary::default()),
        policy: policy(),
        login: None,
        seed: None,
    });
    let (store, clock) = (Arc::<FakeStore>::default() as Arc<dyn Store>, FakeClock::new() as Arc<dyn Clock>);
    let metrics = Metrics::new("0").credential("acme");
    let rng = fastrand::Rng::with_seed(0);
    let (refresher, _handle, _stop) =
        Refresher::load("acme", settings, store, clock, metrics, rng).await.unwrap();
    let itself = size_of_val(&refresher);
    let run = size_of_val(&refresher.run());
    // Where there are thousands of partners this is most of what each takes.
    assert!(itself + run <= 2048, "{itself} and {run} bytes");
}

#[tokio::test(start_paused = true)]
async fn first_refreshes_of_partners_that_start_together_come_one_after_the_other() {
    let clock = FakeClock::new();
    let crowd = Crowd::start(1, &clock, Arc::default).await;
    let calls = crowd.round().await;
    assert_eq!(calls.len(), PARTNERS as usize);
    // The runtime's timers have the grain of the pace.
    assert!(busiest(&calls, Duration::from_millis(10)) <= 11, "{calls:?}");
    assert!(calls[calls.len() - 1] - calls[0] < secs(2), "none waits for longer than its turn");
}

#[tokio::test(start_paused = true)]
async fn refreshes_of_partners_that_were_loaded_at_one_moment_stay_spread() {
    for seed in 0..2 {
        let clock = FakeClock::new();
        let obtained_at = clock.wall();
        let restored = || {
            FakeStore::holding(Record {
                generation: Generation(1),
                access: Some(SavedAccess {
                    token: access("access"),
                    obtained_at,
                    expires_at: clock.wall_at(clock.now() + LIFE),
                }),
                refresh: Some(refresh("first")),
                ..Record::default()
            })
        };
        let crowd = Crowd::start(seed, &clock, restored).await;
        for round in 0..2 {
            let calls = crowd.round().await;
            // They are due 540 s after they were obtained, less up to 27 s: 37 in a second, if evenly.
            let busiest = busiest(&calls, secs(1));
            assert!(busiest <= 75, "seed {seed}, round {round}: {busiest} of {PARTNERS} in a second");
            assert!(calls[calls.len() - 1] - calls[0] > secs(25), "seed {seed}, round {round}");
        }
    }
}
