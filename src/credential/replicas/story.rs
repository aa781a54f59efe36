//! One seed: the lives of the replicas, and how it ends.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Sleep;

use super::clients::client;
use super::database::SimTable;
use super::fate::{fate, make_peace};
use super::journal::{SimJournal, refresh_of};
use super::notify::listen;
use super::partner::{SEED, SimPartner};
use super::policy;
use super::store::Noted;
use super::world::{LOGIN, Shared, Tally, World, lock};
use crate::clock::Clock;
use crate::credential::seeds::Outcome;
use crate::credential::testing::{refresh, secs};
use crate::credential::{ImportError, Pair, Refresher, Settings, State};
use crate::metrics::CredentialMetrics;
use crate::partner::TokenEndpoint;
use crate::store::{Journal, Keys, Record, SharedStore, Store, StoreKey};
use crate::token::Generation;

/// Runs one seed on a clock of its own.
pub(super) fn simulate(seed: u64, telling: bool) -> Outcome<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let world = Arc::new(Mutex::new(World::new(seed, telling)));
        let over = Arc::clone(&lock(&world).over);
        tokio::select! {
            biased;
            () = over.notified() => {}
            () = tell_story(&world) => {}
        }
        let mut world = lock(&world);
        Outcome {
            tally: std::mem::take(&mut world.tally),
            violation: world.violation.take(),
            story: std::mem::take(&mut world.story),
        }
    })
}

async fn tell_story(world: &Shared) {
    lock(world).desk.enroll(SEED);
    let replicas = lock(world).plan.replicas;
    for replica in 0..replicas {
        tokio::spawn(listen(Arc::clone(world), replica));
        tokio::spawn(live(Arc::clone(world), replica));
    }
    tokio::spawn(fate(Arc::clone(world)));
    let chaos = lock(world).plan.chaos;
    tokio::time::sleep(chaos).await;
    make_peace(world, &mut lock(world));
    conclude(world).await;
}

/// One process after another on one machine.
async fn live(world: Shared, replica: usize) {
    loop {
        let run = Box::pin(run(Arc::clone(&world), replica));
        let died = Supervised { world: Arc::clone(&world), replica, run, pause: None }.await;
        let pause = {
            let mut w = lock(&world);
            w.count(if died { "crashes" } else { "polite ends" });
            w.tell(|_| format!("{replica} {}", if died { "dies" } else { "has ended" }));
            let slot = &mut w.replicas[replica];
            (slot.dies, slot.handle, slot.refused, slot.ordered) = (false, None, None, false);
            (slot.in_hand, slot.published) = (None, Generation(0));
            slot.aside.clear();
            policy::check(&mut w, replica);
            let longest = if w.calm { 1000 } else { 20_000 };
            Duration::from_millis(w.rng.u64(..longest))
        };
        tokio::time::sleep(pause).await;
    }
}

/// Polls a process unless it stands still, looks at everything after that, and ends with whether it
/// died.
struct Supervised {
    world: Shared,
    replica: usize,
    run: Pin<Box<dyn Future<Output = ()> + Send>>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Future for Supervised {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        loop {
            let paused = {
                let mut world = lock(&this.world);
                let now = world.now();
                let slot = &mut world.replicas[this.replica];
                slot.waker = Some(context.waker().clone());
                if slot.dies {
                    return Poll::Ready(true);
                }
                slot.paused.saturating_sub(now)
            };
            if paused.is_zero() {
                break;
            }
            let pause = this.pause.insert(Box::pin(tokio::time::sleep(paused)));
            if pause.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
        this.pause = None;
        let ended = this.run.as_mut().poll(context).is_ready();
        let mut world = lock(&this.world);
        policy::check(&mut world, this.replica);
        if world.replicas[this.replica].dies {
            return Poll::Ready(true);
        }
        if ended { Poll::Ready(false) } else { Poll::Pending }
    }
}

/// One process.
async fn run(world: Shared, replica: usize) {
    let (store, clock, rng) = open(&world, replica);
    let settings = {
        let w = lock(&world);
        let endpoint = SimPartner { world: Arc::clone(&world), replica };
        Settings {
            endpoint: Arc::new(endpoint) as Arc<dyn TokenEndpoint>,
            policy: w.plan.policy.clone(),
            login: w.plan.login.then_some(LOGIN),
            seed: Some(refresh(SEED)),
        }
    };
    let (_settings, seen) = watch::channel(settings);
    let metrics = Arc::new(CredentialMetrics::default());
    let loaded = Refresher::load("acme", seen, store, clock, metrics, rng).await;
    let (refresher, handle, stop) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return lock(&world).violate(error.to_string()),
    };
    let (rng, lasts) = {
        let mut w = lock(&world);
        w.tell(|_| format!("{replica} starts, {}", handle.status().state.as_str()));
        w.replicas[replica].handle = Some(Arc::clone(&handle));
        let most = w.plan.chaos.mul_f64(w.rng.f64() * 3.0);
        (w.rng.fork(), most)
    };
    let stopper = async {
        if !lock(&world).plan.is_quiet() {
            tokio::time::sleep(lasts).await;
            if lock(&world).is_chaos() {
                lock(&world).tell(|_| format!("{replica} is told to stop"));
                stop.stop().await;
            }
        }
        std::future::pending::<()>().await;
    };
    let (mut run, mut client) =
        (pin!(refresher.run()), pin!(client(Arc::clone(&world), replica, handle, rng)));
    let mut stopper = pin!(stopper);
    poll_fn(|context| {
        let _ = stopper.as_mut().poll(context);
        if run.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let _ = client.as_mut().poll(context);
        Poll::Pending
    })
    .await;
}

fn open(world: &Shared, replica: usize) -> (Arc<dyn Store>, Arc<dyn Clock>, fastrand::Rng) {
    let mut w = lock(world);
    w.owners += 1;
    let (owner, rng) = (w.owners, w.rng.fork());
    w.replicas[replica].owner = owner;
    let changes = Arc::clone(&w.replicas[replica].changes);
    let clock = w.replicas[replica].clock.clone() as Arc<dyn Clock>;
    let table = SimTable { world: Arc::clone(world), replica, changes };
    let journal = Arc::new(SimJournal { world: Arc::clone(world), replica }) as Arc<dyn Journal>;
    let keys = Keys { key: StoreKey::from_hex(&"07".repeat(32)).unwrap(), previous: None };
    let store = SharedStore::new(table, journal, keys, Arc::clone(&clock), owner);
    (Arc::new(Noted { store, world: Arc::clone(world), replica }), clock, rng)
}

/// The faults are over. Whatever the partner allows, the replicas do by themselves; the rest an
/// operator can, on any of them.
async fn conclude(world: &Shared) {
    lock(world).tell(|_| "from here on nothing goes wrong".to_owned());
    let begun = lock(world).now();
    if until_valid(world, false).await {
        let mut w = lock(world);
        let what = match (w.now() - begun).as_secs() {
            0..60 => "ended valid within a minute",
            60..660 => "ended valid within ten minutes",
            _ => "ended valid later",
        };
        return w.count(what);
    }
    let (replica, log_in) = {
        let w = &mut *lock(world);
        let states: Vec<_> = states(w).iter().map(|state| state.map_or("none", State::as_str)).collect();
        if w.plan.is_quiet() {
            w.violate(format!("no valid token, and nothing went wrong; {states:?}"));
        } else if let Some(live) = live_in_use(w) {
            w.violate(format!("no valid token, although {live} is live; {states:?}"));
        } else if w.plan.login && !w.desk.login_refused {
            w.violate(format!("no valid token, although a login is configured; {states:?}"));
        } else if states.iter().any(|state| *state != State::ReauthRequired.as_str()) {
            w.violate(format!("no valid token, and not all tell; {states:?}"));
        }
        w.tell(|_| "the operator helps".to_owned());
        w.desk.enroll("operators");
        (w.rng.usize(..w.plan.replicas), w.plan.login && w.rng.bool())
    };
    if let Err(error) = help(world, replica, log_in).await {
        return lock(world).violate(format!("the operator's word was not taken: {error}"));
    }
    if until_valid(world, true).await {
        lock(world).count("ended with an operator's help");
    } else {
        lock(world).violate("the operator could not help");
    }
}

/// The operator's word to one replica, and again if that was about to end.
async fn help(world: &Shared, replica: usize, log_in: bool) -> Result<(), ImportError> {
    let mut result = Err(ImportError::Ended);
    for _ in 0..100 {
        let handle = {
            let slot = &mut lock(world).replicas[replica];
            slot.ordered = true;
            slot.handle.clone()
        };
        if let Some(handle) = handle {
            result = match log_in {
                true => handle.refresh().await.map(drop).ok_or(ImportError::Ended),
                false => handle.import(Pair { refresh: refresh("operators"), access: None }).await.map(drop),
            };
        }
        if !matches!(result, Err(ImportError::Ended)) {
            break;
        }
        tokio::time::sleep(secs(1)).await;
    }
    result
}

fn states(world: &World) -> Vec<Option<State>> {
    let state = |replica: &super::world::Replica| replica.handle.as_ref().map(|handle| handle.status().state);
    world.replicas.iter().map(state).collect()
}

/// A live refresh token that a replica works with, or could.
fn live_in_use(world: &World) -> Option<String> {
    let row = world.database.row().map(|row| &row.clear);
    // Of a journal that could not be written since, its replica goes on with what came after.
    let in_use = |record: &&Record| row.is_none_or(|row| !row.lineage.contains(&record.pair()));
    let journals = world.replicas.iter().filter_map(|replica| replica.journal.record.as_ref());
    let journals = journals.filter(in_use);
    let tokens = row.into_iter().chain(journals).filter_map(refresh_of);
    tokens.filter(|token| world.desk.is_live(token)).map(str::to_owned).next()
}

/// Waits until all replicas have the same durable token and the partner accepts it; false if that takes
/// too long, or can be seen not to happen.
async fn until_valid(world: &Shared, helped: bool) -> bool {
    let (begun, most) = {
        let w = lock(world);
        (w.now(), w.plan.life + secs(1300))
    };
    loop {
        {
            let w = lock(world);
            let now = w.now();
            let tokens: Vec<_> = w.replicas.iter().filter_map(super::world::Replica::token).collect();
            let same = tokens.windows(2).all(|two| two[0].access.expose() == two[1].access.expose());
            let accepted = tokens.iter().all(|token| w.desk.check(token.access.expose(), now).0);
            let states = states(&w);
            let valid = states.iter().all(|state| *state == Some(State::Valid));
            if valid && same && accepted && tokens.len() == w.plan.replicas {
                return true;
            }
            let stuck = states.iter().all(|state| *state == Some(State::ReauthRequired));
            let hopeless = stuck && !helped && live_in_use(&w).is_none();
            if hopeless || now - begun > most {
                return false;
            }
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}
