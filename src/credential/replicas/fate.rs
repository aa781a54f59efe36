//! What befalls replicas, their connections and the database.

use std::sync::Arc;
use std::time::Duration;

use super::database::fail_over;
use super::notify::tell_when_back;
use super::world::{Shared, World, lock};
use crate::credential::Pair;
use crate::credential::seeds::pick;
use crate::credential::testing::{refresh, secs};

/// One thing that can befall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blow {
    Crash,
    /// The process stands still, and its clock does not: stopped, or its machine asleep.
    Pause,
    NoDatabase,
    NoPartner,
    DatabaseDown,
    Failover,
    /// The wall clock is set.
    Wall,
    Order,
    Import,
    RevokeAccess,
    RevokeAll,
}

impl Blow {
    pub(super) const ALL: [Self; 11] = [
        Self::Crash,
        Self::Pause,
        Self::NoDatabase,
        Self::NoPartner,
        Self::DatabaseDown,
        Self::Failover,
        Self::Wall,
        Self::Order,
        Self::Import,
        Self::RevokeAccess,
        Self::RevokeAll,
    ];
}

/// In the middle of something that `replica` does.
pub(super) fn strike_in_a_step(shared: &Shared, world: &mut World, replica: usize) {
    let rate = world.plan.step_blows;
    if !world.is_chaos() || world.plan.blows.is_empty() || !world.chance(rate) {
        return;
    }
    let blow = *pick(&mut world.rng, &world.plan.blows);
    // People do not act so fast.
    if !matches!(blow, Blow::Order | Blow::Import | Blow::RevokeAccess | Blow::RevokeAll) {
        strike(shared, world, replica, blow);
    }
}

/// At any time.
pub(super) async fn fate(shared: Shared) {
    loop {
        let pause = {
            let mut world = lock(&shared);
            let most = world.plan.life.div_f64(world.plan.blows_per_life.max(0.1));
            most.mul_f64(2.0 * world.rng.f64())
        };
        tokio::time::sleep(pause).await;
        let mut world = lock(&shared);
        if !world.is_chaos() {
            return;
        }
        if !world.plan.blows.is_empty() && world.plan.blows_per_life > 0.0 {
            let world = &mut *world;
            let replica = world.rng.usize(..world.plan.replicas);
            let blow = *pick(&mut world.rng, &world.plan.blows);
            strike(&shared, world, replica, blow);
        }
    }
}

fn strike(shared: &Shared, world: &mut World, replica: usize, blow: Blow) {
    world.tell(|_| format!("{replica}: {blow:?}"));
    let now = world.now();
    let life = world.plan.life;
    let time = *pick(&mut world.rng, &[secs(1), secs(4), secs(12), secs(40), life, life * 2]);
    let until = now + time;
    match blow {
        Blow::Crash => {
            world.replicas[replica].dies = true;
            world.replicas[replica].wake();
        }
        Blow::Pause => world.replicas[replica].paused = until,
        Blow::NoDatabase => {
            world.replicas[replica].no_database = until;
            tell_when_back(shared, world, replica, until);
        }
        Blow::NoPartner => world.replicas[replica].no_partner = until,
        Blow::DatabaseDown => take_down(shared, world, until),
        Blow::Failover => {
            fail_over(world);
            let millis = world.rng.u64(500..5000);
            take_down(shared, world, now + Duration::from_millis(millis));
        }
        Blow::Wall => set_wall(world, replica),
        Blow::Order => order(world, replica),
        Blow::Import => import(shared, world, replica),
        Blow::RevokeAccess => world.desk.revoke_access(),
        // Rare: after it there is nothing to see.
        Blow::RevokeAll if world.rng.u8(..8) == 0 => world.desk.revoke_families(),
        Blow::RevokeAll => {}
    }
}

fn take_down(shared: &Shared, world: &mut World, until: Duration) {
    world.database.down = world.database.down.max(until);
    for replica in 0..world.replicas.len() {
        tell_when_back(shared, world, replica, until);
    }
}

/// Everything works again, and everybody goes on.
pub(super) fn make_peace(shared: &Shared, world: &mut World) {
    world.calm = true;
    let now = world.now();
    world.database.down = now;
    for replica in 0..world.replicas.len() {
        let slot = &mut world.replicas[replica];
        (slot.no_database, slot.no_partner, slot.paused) = (now, now, now);
        slot.wake();
        tell_when_back(shared, world, replica, now);
    }
}

/// Sets the wall clock, which must matter to nothing but a restart without the database.
fn set_wall(world: &mut World, replica: usize) {
    let by = secs(world.rng.u64(1..7200));
    let forward = world.rng.bool();
    let slot = &mut world.replicas[replica];
    if forward {
        slot.clock.set_wall_forward(by);
    } else {
        slot.clock.set_wall_back(by);
        slot.journal.set_back += 1;
    }
}

/// An operator orders a refresh, and does not wait for it to the end.
fn order(world: &mut World, replica: usize) {
    let Some(handle) = world.replicas[replica].handle.clone() else { return };
    world.count("orders");
    world.replicas[replica].ordered = true;
    tokio::spawn(async move {
        let _ = tokio::time::timeout(secs(5), handle.refresh()).await;
    });
}

fn import(shared: &Shared, world: &mut World, replica: usize) {
    let Some(handle) = world.replicas[replica].handle.clone() else { return };
    world.count("imports");
    world.imports += 1;
    let token = format!("operator{}", world.imports);
    world.desk.enroll(&token);
    let pair = Pair { refresh: refresh(&token), access: None };
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let result = tokio::time::timeout(secs(30), handle.import(pair)).await;
        let mut world = lock(&shared);
        match result {
            Ok(Ok(_)) => world.imported.push(token),
            Ok(Err(_)) => world.count("imports refused"),
            Err(_) => {}
        }
    });
}
