//! Requests that need a token.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::world::{Shared, World, lock};
use crate::credential::testing::secs;
use crate::credential::{RefreshHandle, Refusal};
use crate::token::Generation;

/// One request after another, until the process dies. The dice are the client's own, as in the
/// simulation of one process.
pub(super) async fn client(
    world: Shared,
    replica: usize,
    handle: Arc<RefreshHandle>,
    mut rng: fastrand::Rng,
) {
    let mut reader = handle.cell().reader();
    loop {
        let longest = u64::try_from(lock(&world).plan.life.as_millis()).unwrap() / 4;
        tokio::time::sleep(Duration::from_millis(rng.u64(100..longest))).await;
        let now = {
            use crate::clock::Clock as _;
            lock(&world).replicas[replica].clock.now()
        };
        let held = reader.usable(now).map(|(generation, header)| {
            let header = header.to_str().unwrap_or_default();
            (generation, header.trim_start_matches("Bearer ").to_owned())
        });
        let request = request(&world, replica, &handle, &mut rng, held);
        let _ = tokio::time::timeout(secs(20), request).await;
    }
}

async fn request(
    world: &Shared,
    replica: usize,
    handle: &Arc<RefreshHandle>,
    rng: &mut fastrand::Rng,
    held: Option<(Generation, String)>,
) {
    let deadline = Instant::now() + secs(15);
    let (generation, token) = match held {
        Some(held) => held,
        None => match handle.usable(deadline).await {
            Ok(token) => (token.generation, token.access.expose().to_owned()),
            Err(_) => return lock(world).count("requests without a token"),
        },
    };
    let range = if lock(world).calm { u64::MAX } else { 5 };
    let path = format!("/{}", rng.u64(..range));
    if attach(&mut lock(world), replica, &token) {
        return handle.accepted(&path, generation);
    }
    match handle.refused(&path, generation) {
        Refusal::PassOn(_) => {}
        Refusal::Newer(token) => {
            attach(&mut lock(world), replica, token.access.expose());
        }
        Refusal::Asked(mut charge) => {
            {
                let mut world = lock(world);
                let refused = &mut world.replicas[replica].refused;
                *refused = (*refused).max(Some(generation));
                world.count("401s");
                world.tell(|_| format!("{replica}: a 401 to {token}"));
            }
            let Ok(token) = charge.newer(deadline).await else { return };
            let accepted = attach(&mut lock(world), replica, token.access.expose());
            if accepted {
                lock(world).count("401s mended");
            }
            charge.settle(token.generation, accepted);
        }
    }
}

/// Sends a request with `token`; false if it comes back with 401.
fn attach(world: &mut World, replica: usize, token: &str) -> bool {
    let now = world.now();
    world.count("requests");
    let (accepted, expires_at) = world.desk.check(token, now);
    if now >= expires_at.saturating_add(Duration::from_millis(10)) {
        world.violate(format!("{token} was attached at {replica} although it had expired"));
    }
    accepted
}
