//! The partner, and each replica's way to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::fate::strike_in_a_step;
use super::policy;
use super::world::{Again, Rotation, Shared, World, latency, lock, pass, step};
use crate::clock::{Clock as _, Moment};
use crate::credential::testing::{access, cause, refresh, secs};
use crate::partner::{Outcome, TokenEndpoint, TokenSet};
use crate::store::BoxFuture;
use crate::token::RefreshToken;

/// The refresh token that the configuration holds.
pub(super) const SEED: &str = "seed";

/// How much longer than configured the partner grants its grace: requests take time to arrive.
const MARGIN: Duration = Duration::from_secs(30);

/// The partner processes a refresh, or a login if `token` is none.
fn process(world: &mut World, token: Option<&str>) -> Outcome {
    let (now, life, rotation) = (world.now(), world.plan.life, world.plan.rotation);
    let (again, strict, dies) = (world.plan.again, world.plan.strict, world.plan.old_access_dies);
    let grace = world.plan.policy.grace;
    let desk = &mut world.desk;
    let family = match token {
        None => {
            desk.families += 1;
            desk.families
        }
        Some(token) => match desk.refresh.get(token) {
            Some(issued) if !issued.dead && !desk.revoked.contains(&issued.family) => issued.family,
            _ => return Outcome::Refused(cause()),
        },
    };
    let name = desk.access(family, now, life);
    let next = match (token, rotation) {
        (_, Rotation::Silent) => None,
        (Some(token), Rotation::Same) => Some(token.to_owned()),
        (None, _) => Some(desk.new_refresh(family)),
        (Some(token), Rotation::Spends) => {
            let successor = desk.refresh[token].successor.clone();
            let used = successor.as_ref().is_some_and(|next| desk.refresh[next].spent_at.is_some());
            let next = match (desk.refresh[token].spent_at, successor) {
                (Some(spent_at), Some(next)) => {
                    let in_grace = !grace.is_zero() && now - spent_at <= grace + MARGIN && !used;
                    if !in_grace {
                        if strict {
                            desk.revoked.push(family);
                        }
                        world.count("spent tokens refused");
                        return Outcome::Refused(cause());
                    }
                    match again {
                        Again::SameSuccessor => next,
                        Again::Another => desk.new_refresh(family),
                        Again::AnotherInstead => {
                            if let Some(before) = desk.refresh.get_mut(&next) {
                                before.dead = true;
                            }
                            desk.new_refresh(family)
                        }
                    }
                }
                _ => desk.new_refresh(family),
            };
            let issued = desk.refresh.get_mut(token).unwrap();
            issued.spent_at.get_or_insert(now);
            issued.successor = Some(next.clone());
            Some(next)
        }
    };
    if let Some(issued) = token.and_then(|token| desk.refresh.get_mut(token)) {
        let before = issued.current_access.replace(name.clone());
        let before = before.filter(|_| dies).and_then(|before| desk.access.get_mut(&before));
        if let Some(before) = before {
            before.revoked = true;
        }
    }
    if let Some(issued) = next.as_ref().and_then(|next| desk.refresh.get_mut(next)) {
        issued.current_access = Some(name.clone());
    }
    Outcome::Renewed(TokenSet {
        access: access(&name),
        lifetime: Some(life).filter(|_| world.desk.issued.is_multiple_of(2)),
        refresh: next.as_deref().map(refresh),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    NotSent,
    Busy,
    LostBefore,
    LostAfter,
    Nonsense,
    /// Something in between refuses.
    Refused,
    /// Takes about as long as the call may.
    Slow,
}

fn draw(world: &mut World) -> Fault {
    let rate = world.plan.partner_faults;
    if !world.is_chaos() || !world.chance(rate) {
        return Fault::None;
    }
    match world.rng.u8(..14) {
        0..3 => Fault::NotSent,
        3..5 => Fault::Busy,
        5..7 => Fault::LostBefore,
        7..9 => Fault::LostAfter,
        9..11 => Fault::Nonsense,
        11..13 => Fault::Slow,
        _ => Fault::Refused,
    }
}

/// One replica's way to the partner.
pub(super) struct SimPartner {
    pub(super) world: Shared,
    pub(super) replica: usize,
}

impl SimPartner {
    async fn call(&self, token: Option<&str>, by: Moment) -> Outcome {
        let (fault, asked) = {
            let mut world = lock(&self.world);
            (draw(&mut world), world.now())
        };
        step(&self.world, self.replica).await;
        let cut_off = |world: &World| world.replicas[self.replica].no_partner > world.now();
        if fault == Fault::NotSent || cut_off(&lock(&self.world)) {
            let millis = lock(&self.world).rng.u64(..3000);
            pass(millis).await;
            return Outcome::NotSent(cause());
        }
        let (sent, answer) = oneshot::channel();
        let (call, left) = {
            let mut world = lock(&self.world);
            // As the real one does: the clock is looked at with the first byte.
            let now = world.replicas[self.replica].clock.now();
            if now >= by {
                world.count("calls given up before they were sent");
                return Outcome::NotSent(cause());
            }
            let call = policy::judge_call(&mut world, self.replica, token, asked);
            (call, by.since(now).min(world.plan.policy.timeout))
        };
        let request = Request { number: call.number, token: token.map(str::to_owned), fault };
        tokio::spawn(answer_to(Arc::clone(&self.world), self.replica, request, sent));
        strike_in_a_step(&self.world, &mut lock(&self.world), self.replica);
        let outcome = match tokio::time::timeout(left, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Outcome::Unknown(cause()),
        };
        policy::learn(&mut lock(&self.world), self.replica, &call, &outcome);
        outcome
    }
}

struct Request {
    number: u64,
    token: Option<String>,
    fault: Fault,
}

/// Goes on whatever becomes of who called.
async fn answer_to(world: Shared, replica: usize, request: Request, sent: oneshot::Sender<Outcome>) {
    let Request { number, token, fault } = request;
    let millis = {
        let mut world = lock(&world);
        let slow = if fault == Fault::Slow { world.rng.u64(4000..11_000) } else { 0 };
        slow + latency(&mut world)
    };
    pass(millis).await;
    let cut_off = |world: &World| world.replicas[replica].no_partner > world.now();
    let outcome = {
        let mut world = lock(&world);
        match fault {
            Fault::LostBefore => None,
            Fault::Busy => {
                let asked = world.rng.u64(..120);
                let retry_after = (asked <= 60).then(|| secs(asked));
                Some(Outcome::Busy { retry_after, cause: cause() })
            }
            Fault::Refused => Some(Outcome::Refused(cause())),
            _ if cut_off(&world) => None,
            _ => {
                let outcome = process(&mut world, token.as_deref());
                world.tell(|_| format!("  the partner answers call {number}: {outcome:?}"));
                Some(outcome)
            }
        }
    };
    let millis = latency(&mut lock(&world));
    pass(millis).await;
    let arrives = fault != Fault::LostAfter && !cut_off(&lock(&world));
    match outcome {
        Some(_) if fault == Fault::Nonsense => drop(sent.send(Outcome::Unknown(cause()))),
        Some(outcome) if arrives => drop(sent.send(outcome)),
        // The connection breaks, or nothing is heard any more.
        _ => {
            let millis = lock(&world).rng.u64(..15_000);
            pass(millis).await;
        }
    }
}

impl TokenEndpoint for SimPartner {
    fn refresh<'a>(&'a self, token: &'a RefreshToken, by: Moment) -> BoxFuture<'a, Outcome> {
        Box::pin(self.call(Some(token.expose()), by))
    }

    fn login(&self, by: Moment) -> BoxFuture<'_, Outcome> {
        Box::pin(self.call(None, by))
    }
}
