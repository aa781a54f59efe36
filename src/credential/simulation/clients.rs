//! Requests that need a token, and what befalls tokens and clocks while they run.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::world::{Shared, World, lock};
use crate::clock::{Clock as _, Moment};
use crate::credential::testing::secs;
use crate::credential::{RefreshHandle, Refusal};
use crate::token::Generation;

/// One client after another, until the process dies. Their dice are their own: in which order those who
/// wait on a `watch` are woken is not for the seed to decide.
pub(super) async fn client(world: Shared, handle: Arc<RefreshHandle>, mut rng: fastrand::Rng) {
    let mut reader = handle.cell().reader();
    loop {
        let longest = u64::try_from(lock(&world).plan.life.as_millis()).unwrap_or(u64::MAX) / 5;
        tokio::time::sleep(Duration::from_millis(rng.u64(100..longest))).await;
        let patience = secs(rng.u64(1..20));
        let now = lock(&world).now();
        let held = reader.usable(now).map(|(generation, header)| {
            let header = header.to_str().unwrap_or_default();
            (generation, header.trim_start_matches("Bearer ").to_owned())
        });
        // The client goes away when its patience is over, wherever it is.
        let request = request(&world, &handle, &mut rng, held);
        let _ = tokio::time::timeout(patience, request).await;
    }
}

async fn request(
    world: &Shared,
    handle: &Arc<RefreshHandle>,
    rng: &mut fastrand::Rng,
    held: Option<(Generation, String)>,
) {
    let deadline = Instant::now() + secs(15);
    let (generation, token) = match held {
        Some(held) if handle.is_doubtful(held.0) && rng.bool() => {
            match handle.fresh(held.0, deadline).await {
                Ok(token) => (token.generation, token.access.expose().to_owned()),
                Err(_) => return,
            }
        }
        Some(held) => held,
        None => match handle.usable(deadline).await {
            Ok(token) => (token.generation, token.access.expose().to_owned()),
            Err(_) => return,
        },
    };
    if attach(&mut lock(world), &token) {
        handle.accepted(&path(world, rng), generation);
        return;
    }
    match handle.refused(&path(world, rng), generation) {
        Refusal::PassOn(_) => {}
        Refusal::Newer(token) => {
            attach(&mut lock(world), token.access.expose());
        }
        Refusal::Asked(mut charge) => {
            {
                let mut world = lock(world);
                world.refused = world.refused.max(Some(generation));
                world.tell(|_| format!("a 401 to generation {generation}"));
            }
            let Ok(token) = charge.newer(deadline).await else { return };
            let accepted = attach(&mut lock(world), token.access.expose());
            lock(world).tally.mended += u64::from(accepted);
            charge.settle(token.generation, accepted);
        }
    }
}

/// A few paths, of which some are held; once it is calm, always another.
fn path(world: &Shared, rng: &mut fastrand::Rng) -> String {
    let range = if lock(world).calm { u64::MAX } else { 5 };
    format!("/{}", rng.u64(..range))
}

/// Sends a request with `token`; false if it comes back with 401.
fn attach(world: &mut World, token: &str) -> bool {
    let now = world.now();
    world.tally.attached += 1;
    let (accepted, expires_at) = world.desk.check(token, now);
    // A restart after the wall clock was set back cannot know; and records hold milliseconds.
    if now >= expires_at + Duration::from_millis(5) && expires_at > Moment::default() && !world.set_back {
        world.violate(format!("{token} was attached although it had expired"));
    }
    accepted
}

/// Revocations, clocks that are set, and orders, until the process dies.
pub(super) async fn fate(world: Shared, handle: Arc<RefreshHandle>) {
    loop {
        let pause = {
            let mut world = lock(&world);
            let longest = u64::try_from(world.plan.life.as_millis()).unwrap_or(u64::MAX);
            Duration::from_millis(world.rng.u64(100..longest))
        };
        tokio::time::sleep(pause).await;
        order(&world, &handle).await;
        let mut world = lock(&world);
        let (revocations, changes) = (world.plan.revocations, world.plan.clock_changes);
        if world.is_chaos() && world.chance(revocations) {
            world.tally.revocations += 1;
            if world.rng.u8(..8) == 0 {
                world.tell(|_| "everything was revoked".to_owned());
                world.desk.revoke_families();
                world.excuse("everything was revoked");
            } else {
                world.tell(|_| "the access tokens were revoked".to_owned());
                world.desk.revoke_access();
            }
        }
        if world.is_chaos() && world.chance(changes) {
            let time = secs(world.rng.u64(1..20));
            world.tell(|_| format!("suspended for {time:?}"));
            world.clock.suspend(time);
        }
        if world.is_chaos() && world.chance(changes / 3.0) {
            set_wall(&mut world);
        }
    }
}

/// An operator may order a refresh, and not wait for it to the end.
async fn order(world: &Shared, handle: &RefreshHandle) {
    {
        let mut world = lock(world);
        let orders = world.plan.orders;
        if !world.is_chaos() || !world.chance(orders) {
            return;
        }
        world.tell(|_| "an operator orders a refresh".to_owned());
        world.ordered = true;
        world.desk.login_refused = None;
    }
    let _ = tokio::time::timeout(secs(5), handle.refresh()).await;
}

/// Sets the wall clock, which must matter to nothing but a restart.
pub(super) fn set_wall(world: &mut World) {
    let by = secs(world.rng.u64(1..7200));
    world.excuse("the wall clock was set: no grace can be counted on across a restart");
    if world.rng.bool() {
        world.tell(|_| format!("the wall clock was set forward by {by:?}"));
        world.clock.set_wall_forward(by);
    } else {
        world.tell(|_| format!("the wall clock was set back by {by:?}"));
        world.clock.set_wall_back(by);
        world.set_back = true;
    }
    let _ = world.clock.wall();
}
