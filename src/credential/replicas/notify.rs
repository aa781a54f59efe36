//! Who is told of what happens in the database, and when.

use std::sync::Arc;
use std::time::Duration;

use super::journal::access_of;
use super::world::{Replica, Shared, World, lock, pass};

/// How often a replica looks without being told.
const SLOW: Duration = Duration::from_secs(30);

/// How long a commit takes until everybody uses it, where nothing goes wrong: some steps of theirs.
const TOLD_WITHIN: Duration = Duration::from_secs(1);

/// Tells everybody of a change, some late and some never.
pub(super) fn notify(shared: &Shared, world: &mut World) {
    for replica in 0..world.replicas.len() {
        let rate = world.plan.notify_loss;
        if world.is_chaos() && world.chance(rate) {
            continue;
        }
        let late = world.is_chaos() && !world.plan.is_quiet() && world.rng.u8(..8) == 0;
        let millis = if late { world.rng.u64(..5000) } else { world.rng.u64(1..100) };
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            pass(millis).await;
            let world = lock(&shared);
            if world.reaches_database(replica) {
                world.replicas[replica].changes.notify_one();
            }
        });
    }
}

/// Where nothing goes wrong, a new pair is in use everywhere at once.
pub(super) fn expect_followers(shared: &Shared, world: &World) {
    let Some(row) = world.database.row().filter(|_| world.plan.is_quiet()) else { return };
    let Some(access) = access_of(&row.clear).map(str::to_owned) else { return };
    let (revision, shared) = (row.revision, Arc::clone(shared));
    tokio::spawn(async move {
        tokio::time::sleep(TOLD_WITHIN).await;
        let mut world = lock(&shared);
        let behind = |replica: &Replica| replica.token().is_none_or(|token| token.access.expose() != access);
        let behind = world.replicas.iter().position(|replica| replica.handle.is_some() && behind(replica));
        if let Some(replica) = behind
            && world.database.row().is_some_and(|row| row.revision == revision)
        {
            world.violate(format!("{replica} does not use {access}, and nothing went wrong"));
        }
    });
}

/// Tells `replica` on a slow timer.
pub(super) async fn listen(shared: Shared, replica: usize) {
    loop {
        tokio::time::sleep(SLOW).await;
        let world = lock(&shared);
        if world.reaches_database(replica) {
            world.replicas[replica].changes.notify_one();
        }
    }
}

/// Tells `replica` within a second of when it can reach the database again, at `until`.
pub(super) fn tell_when_back(shared: &Shared, world: &mut World, replica: usize, until: Duration) {
    let wait = until.saturating_sub(world.now()) + Duration::from_millis(world.rng.u64(1..1000));
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        let world = lock(&shared);
        if world.reaches_database(replica) {
            world.replicas[replica].changes.notify_one();
        }
    });
}
