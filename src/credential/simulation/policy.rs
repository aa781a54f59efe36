//! What bearerd must not do, judged from outside: by what it was told and what it has on record.

use std::time::Duration;

use super::disk;
use super::world::{LOGIN, LONG_GRACE, World};
use crate::clock::Moment;

/// How long after a refusal the same token may be presented again.
const AFTER_REFUSAL: Duration = Duration::from_secs(600);

/// What could not be saved is saved within this time once the store works: the longest back-off, a save
/// that is slow, and some sleep.
const SAVED_WITHIN: Duration = Duration::from_secs(150);

/// May `token` be presented now?
pub(super) fn judge(world: &mut World, token: &str) {
    world.tally.calls += 1;
    let (now, grace) = (world.now(), world.plan.policy.grace);
    let nothing_left = world.nothing_left_to_lose();
    let tracked = world.disk.has_intent(token);
    if !tracked && !nothing_left {
        world.violate("a call was made without a durable intent, while there was something to lose");
    }
    let ordered = world.ordered;
    let login = world.plan.login && world.desk.login_refused.is_none() && !ordered;
    let Some(issued) = world.desk.refresh.get_mut(token) else {
        world.violate(format!("{token} was never issued"));
        return;
    };
    (issued.tracked, issued.presented_at) = (tracked, now);
    let too_soon = issued.refused_at.is_some_and(|at| now.since(at) < AFTER_REFUSAL) && !ordered;
    if let Some(since) = issued.unsure {
        if login {
            world.violate(format!("{token} may be spent, and was presented although a login is configured"));
        } else if now >= since + grace && !nothing_left {
            world.violate(format!(
                "{token} may be spent, and was presented while there was something to lose"
            ));
        }
    } else if too_soon {
        world.violate(format!("{token} was refused, and presented again within ten minutes"));
    }
}

pub(super) fn judge_login(world: &mut World) {
    world.tally.logins += 1;
    if world.desk.login_refused.is_some() && !world.ordered {
        world.violate("a login that was refused was tried again");
    }
    world.desk.login_refused = None;
}

/// The partner has spent the token that the store holds, and bearerd does not have the next one.
pub(super) fn lost(world: &mut World) {
    world.tally.lost += 1;
    world.desk.not_recovered += 1;
    if world.plan.policy.grace != LONG_GRACE {
        world.excuse("a new pair was lost, and the grace is short");
    }
}

/// After a crash: what does a restart know of the token that it finds?
pub(super) fn restart(world: &mut World) {
    disk::crash(world);
    restart_login(world);
    let Some(token) = world.disk.held().map(str::to_owned) else { return };
    let told = world.disk.tells(&token);
    let refused = world.disk.tells_refused(&token);
    let set_back = world.set_back;
    let doubt = world.in_doubt().is_some();
    let Some(issued) = world.desk.refresh.get_mut(&token) else { return };
    // A restart forgets when it was refused, and may try where nothing can be lost.
    issued.refused_at = None;
    if doubt && !refused && !issued.forgotten {
        issued.unsure.get_or_insert(issued.presented_at);
    }
    let forgotten = issued.unsure.is_some() && !told;
    let (tracked, presented_at) = (issued.tracked, issued.presented_at);
    issued.forgotten |= forgotten;
    if forgotten || set_back {
        issued.unsure = None;
    }
    if forgotten && (tracked || had_time_to_save(world, presented_at)) {
        world.violate(format!("{token} may be spent, which was on record, and no longer is"));
    }
    if forgotten {
        world.excuse("the store could not take the intent");
    }
    if doubt {
        lost(world);
    }
}

/// After a crash: does a restart know that the login was refused?
fn restart_login(world: &mut World) {
    let now = world.now();
    let recorded = world.disk.durable().is_some_and(|record| record.login_refused == Some(LOGIN));
    match world.desk.login_refused {
        Some(refused_at) if !recorded => {
            if had_time_to_save(world, refused_at) {
                world.violate("that the login was refused was not written down");
            }
            world.desk.login_refused = None;
        }
        None if recorded => world.desk.login_refused = Some(now),
        _ => {}
    }
}

/// Nothing stays in memory alone while the store works.
pub(super) fn judge_saving(world: &mut World, persisted: bool) {
    if persisted {
        world.unsaved_since = None;
        return;
    }
    let now = world.now();
    let since = *world.unsaved_since.get_or_insert(now);
    if had_time_to_save(world, since) {
        world.violate("the store works, and the pair in use is still not saved");
    }
}

fn had_time_to_save(world: &World, since: Moment) -> bool {
    world.now().since(since.max(world.disk.failed_at())) > SAVED_WITHIN
}
