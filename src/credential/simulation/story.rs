//! One seed: runs of the refresher with crashes between them, and how it ends.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clients::{client, fate, set_wall};
use super::disk::SimStore;
use super::partner::{SEED, SimPartner};
use super::policy;
use super::world::{LOGIN, LONG_GRACE, Shared, Tally, World, lock};
use crate::clock::{Clock, Moment, sleep_until};
use crate::credential::seeds::Outcome;
use crate::credential::testing::{START, refresh, secs};
use crate::credential::{Pair, RefreshHandle, Refresher, Settings, State, Stop};
use crate::metrics::CredentialMetrics;
use crate::partner::TokenEndpoint;

/// Runs one seed on a clock of its own.
pub(super) fn simulate(seed: u64, telling: bool) -> Outcome<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let world = Arc::new(Mutex::new(World::new(seed, telling)));
        tell_story(&world).await;
        let mut world = lock(&world);
        Outcome {
            tally: std::mem::take(&mut world.tally),
            violation: world.violation.take(),
            story: std::mem::take(&mut world.story),
        }
    })
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// In the middle of a call or a save.
    Crashed,
    /// When its time had come.
    TimeUp,
    /// By itself.
    Stopped,
    Violation,
}

async fn tell_story(world: &Shared) {
    let settings = {
        let mut w = lock(world);
        w.desk.enroll(SEED);
        Settings {
            endpoint: Arc::new(SimPartner(Arc::clone(world))) as Arc<dyn TokenEndpoint>,
            policy: w.plan.policy.clone(),
            login: w.plan.login.then_some(LOGIN),
            seed: w.plan.seed.then(|| refresh(SEED)),
        }
    };
    let (_settings, seen) = watch::channel(settings);
    let chaos_ends = START + lock(world).plan.chaos;
    loop {
        let Some((refresher, handle, stop)) = start(world, seen.clone()).await else { return };
        let mut others = JoinSet::new();
        for _ in 0..3 {
            let rng = lock(world).rng.fork();
            others.spawn(client(Arc::clone(world), Arc::clone(&handle), rng));
        }
        others.spawn(fate(Arc::clone(world), Arc::clone(&handle)));
        let (steps, lasts, politely) = draw_run(world);
        let mut run = Box::pin(refresher.run());
        let until = (lock(world).now() + lasts).min(chaos_ends);
        let end = drive(world, &mut run, steps, time_is_up(world, until)).await;
        if end == End::Violation {
            return;
        }
        if lock(world).now() >= chaos_ends && end == End::TimeUp {
            lock(world).calm = true;
            let conclusion = conclude(world, &handle);
            drive(world, &mut run, None, conclusion).await;
            stop_and_check(world, &mut run, &stop).await;
            return;
        }
        if end == End::TimeUp && politely {
            stop_and_check(world, &mut run, &stop).await;
        } else if end != End::Stopped {
            let mut w = lock(world);
            w.crashing = true;
            w.tally.crashes += 1;
            w.tell(|_| "the process dies".to_owned());
        }
        drop(run);
        others.shutdown().await;
        come_back(world).await;
    }
}

async fn start(
    world: &Shared,
    settings: watch::Receiver<Settings>,
) -> Option<(Refresher, Arc<RefreshHandle>, Stop)> {
    let (clock, rng) = {
        let mut w = lock(world);
        (w.clock.clone() as Arc<dyn Clock>, w.rng.fork())
    };
    let store = Arc::new(SimStore(Arc::clone(world)));
    let metrics = Arc::new(CredentialMetrics::default());
    match Refresher::load("acme", settings, store, clock, metrics, rng).await {
        Ok((refresher, handle, stop)) => {
            let mut w = lock(world);
            w.handle = Some(Arc::clone(&handle));
            w.tell(|_| format!("starts, {}", handle.status().state.as_str()));
            Some((refresher, handle, stop))
        }
        Err(error) => {
            lock(world).violate(error.to_string());
            None
        }
    }
}

/// After how many steps under way a run crashes, if it does; how long it lasts otherwise; and whether
/// it then ends politely.
fn draw_run(world: &Shared) -> (Option<u32>, Duration, bool) {
    let mut w = lock(world);
    let (rate, most, run) = (w.plan.busy_crashes, w.plan.steps, w.plan.run);
    let steps = if w.chance(rate) { Some(w.rng.u32(1..=most)) } else { None };
    let share = w.rng.f64();
    (steps, run.mul_f64(share), w.rng.u8(..4) == 0)
}

/// Drives `run` until `until` is over, and looks at everything after every step.
async fn drive(
    world: &Shared,
    run: &mut (impl Future<Output = ()> + Unpin),
    mut steps: Option<u32>,
    until: impl Future<Output = ()>,
) -> End {
    let mut until = pin!(until);
    poll_fn(|context| {
        {
            let w = lock(world);
            if w.violation.is_some() {
                return Poll::Ready(End::Violation);
            }
            if w.busy > 0 && w.is_chaos() {
                match &mut steps {
                    Some(0) => return Poll::Ready(End::Crashed),
                    Some(left) => *left -= 1,
                    None => {}
                }
            }
        }
        let stopped = pin!(&mut *run).poll(context).is_ready();
        check(world);
        if stopped {
            return Poll::Ready(End::Stopped);
        }
        until.as_mut().poll(context).map(|()| End::TimeUp)
    })
    .await
}

/// Nothing is published that is not durable, unless the status says so.
fn check(world: &Shared) {
    let mut w = lock(world);
    let Some(handle) = w.handle.clone() else { return };
    let Some(token) = handle.cell().load() else { return };
    let durable = w.disk.durable().is_some_and(|record| {
        let same = record.access.as_ref().is_some_and(|a| a.token.expose() == token.access.expose());
        // Its successor is saved before it is replaced.
        same || record.generation > token.generation
    });
    let status = handle.status();
    if !durable && status.persisted {
        w.violate(format!("generation {} is in use and not durable", token.generation));
    }
    policy::judge_saving(&mut w, status.persisted);
    if status.generation != token.generation {
        w.violate("the status and the cell tell of different generations");
    }
}

/// At `moment`, or later if bearerd has yet to recover from a lost pair.
async fn time_is_up(world: &Shared, moment: Moment) {
    let clock = lock(world).clock.clone();
    sleep_until(&*clock, moment).await;
    let last = clock.now() + LONG_GRACE;
    while !lock(world).is_chaos() && clock.now() < last {
        tokio::time::sleep(secs(1)).await;
    }
}

async fn stop_and_check(world: &Shared, run: &mut (impl Future<Output = ()> + Unpin), stop: &Stop) {
    if lock(world).violation.is_some() {
        return;
    }
    stop.stop().await;
    lock(world).tell(|_| "is told to stop".to_owned());
    if drive(world, run, None, tokio::time::sleep(secs(120))).await != End::Stopped {
        lock(world).violate("did not stop");
    }
}

/// The time between two runs.
async fn come_back(world: &Shared) {
    let pause = {
        let mut w = lock(world);
        let changes = w.plan.clock_changes;
        if w.is_chaos() && w.chance(changes) {
            set_wall(&mut w);
        }
        policy::restart(&mut w);
        w.handle = None;
        w.crashing = false;
        w.refused = None;
        w.ordered = false;
        w.unsaved_since = None;
        Duration::from_millis(w.rng.u64(..20_000))
    };
    tokio::time::sleep(pause).await;
}

/// The faults are over. Whatever the partner allows, bearerd does by itself; the rest an operator can.
async fn conclude(world: &Shared, handle: &RefreshHandle) {
    lock(world).tell(|_| "from here on nothing goes wrong".to_owned());
    if until_valid(world, handle).await {
        lock(world).tally.valid += 1;
        return;
    }
    {
        let mut w = lock(world);
        let state = handle.status().state;
        if w.excuses.is_empty() || (w.plan.login && w.desk.login_refused.is_none()) {
            w.violate(format!("no valid token, although the partner allows it; {}", state.as_str()));
        } else if state != State::ReauthRequired {
            w.violate(format!("no valid token, and nobody is told; {}", state.as_str()));
        }
        w.ordered = true;
        w.desk.enroll("operators");
        w.desk.not_recovered = 0;
        w.tell(|_| "the operator helps".to_owned());
    }
    let log_in = {
        let mut w = lock(world);
        w.plan.login && w.rng.bool()
    };
    if log_in {
        handle.refresh().await;
    } else if handle.import(Pair { refresh: refresh("operators"), access: None }).await.is_err() {
        lock(world).violate("the operator's import failed");
    }
    if until_valid(world, handle).await {
        lock(world).tally.operators += 1;
    } else {
        lock(world).violate("the operator could not help");
    }
}

/// Waits until a durable token is in use that the partner accepts; false if that takes too long, or
/// can be seen not to happen.
async fn until_valid(world: &Shared, handle: &RefreshHandle) -> bool {
    let most = lock(world).plan.life + secs(1300);
    let deadline = lock(world).now() + most;
    loop {
        {
            let w = lock(world);
            let (now, status) = (w.now(), handle.status());
            let token = handle.cell().load();
            let accepted = token.is_some_and(|token| w.desk.check(token.access.expose(), now).0);
            if accepted && status.state == State::Valid && status.persisted {
                return true;
            }
            let grace = w.plan.policy.grace;
            let hopeless = status.state == State::ReauthRequired
                && w.disk.held().is_none_or(|held| !w.desk.would_accept(held, now, grace));
            if (hopeless && !w.ordered) || now >= deadline || w.violation.is_some() {
                return false;
            }
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}
