//! A partner with rotation, reuse detection, grace and faults, and a memory for what bearerd can know.

use std::collections::BTreeMap;
use std::time::Duration;

use super::policy::{judge, judge_login, lost};
use super::world::{Rotation, Shared, World, lock, step};
use crate::clock::Moment;
use crate::credential::testing::{access, cause, refresh};
use crate::partner::{Outcome, TokenEndpoint, TokenSet};
use crate::store::BoxFuture;
use crate::token::RefreshToken;

/// The refresh token that the configuration holds.
pub(super) const SEED: &str = "seed";

/// How much longer than configured the partner grants its grace: requests take time to arrive.
const MARGIN: Duration = Duration::from_secs(30);

/// What the partner has issued, and what bearerd can know of it.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) refresh: BTreeMap<String, Issued>,
    access: BTreeMap<String, Access>,
    revoked_families: Vec<u32>,
    families: u32,
    issued: u32,
    in_flight: usize,
    /// When something in between refused the login, after which bearerd must not try again by itself.
    pub(super) login_refused: Option<Moment>,
    /// New pairs that were lost since the last renewal.
    pub(super) not_recovered: u64,
}

#[derive(Default)]
pub(super) struct Issued {
    pub(super) family: u32,
    pub(super) spent_at: Option<Moment>,
    /// When the last call that presented it began.
    pub(super) presented_at: Moment,
    /// Since when bearerd knows that it may be spent.
    pub(super) unsure: Option<Moment>,
    /// When bearerd was told that it is refused.
    pub(super) refused_at: Option<Moment>,
    /// bearerd once knew and could not write it down.
    pub(super) forgotten: bool,
    /// Its intent was durable when it was last presented.
    pub(super) tracked: bool,
}

struct Access {
    family: u32,
    expires_at: Moment,
    revoked: bool,
}

impl Desk {
    pub(super) fn spent_at(&self, token: &str) -> Option<Moment> {
        self.refresh.get(token)?.spent_at
    }

    /// Since when `token` may be spent for all that bearerd knows, or is.
    pub(super) fn doubtful_since(&self, token: &str) -> Option<Moment> {
        let issued = self.refresh.get(token)?;
        issued.unsure.into_iter().chain(issued.spent_at).min()
    }

    /// Whether a refresh with `token` would succeed.
    pub(super) fn would_accept(&self, token: &str, now: Moment, grace: Duration) -> bool {
        self.refresh.get(token).is_some_and(|issued| {
            !self.revoked_families.contains(&issued.family)
                && issued.spent_at.is_none_or(|at| now.since(at) <= grace + MARGIN)
        })
    }

    /// Whether the partner accepts `token`, and when it really expires.
    pub(super) fn check(&self, token: &str, now: Moment) -> (bool, Moment) {
        let Some(known) = self.access.get(token) else { return (false, Moment::default()) };
        let dead = known.revoked || self.revoked_families.contains(&known.family);
        (!dead && now < known.expires_at, known.expires_at)
    }

    /// A fresh refresh token, as an operator gets one.
    pub(super) fn enroll(&mut self, token: &str) {
        self.families += 1;
        let issued = Issued { family: self.families, ..Issued::default() };
        self.refresh.insert(token.to_owned(), issued);
    }

    pub(super) fn revoke_access(&mut self) {
        self.access.values_mut().for_each(|token| token.revoked = true);
    }

    pub(super) fn revoke_families(&mut self) {
        self.revoked_families = (0..=self.families).collect();
    }

    fn pair(&mut self, family: u32, now: Moment, life: Duration, with: Option<String>) -> TokenSet {
        self.issued += 1;
        let name = format!("a{}", self.issued);
        self.access.insert(name.clone(), Access { family, expires_at: now + life, revoked: false });
        TokenSet {
            access: access(&name),
            lifetime: Some(life).filter(|_| self.issued.is_multiple_of(2)),
            refresh: with.as_deref().map(refresh),
        }
    }

    fn new_refresh(&mut self, family: u32) -> String {
        let name = format!("r{}", self.issued + 1);
        self.refresh.insert(name.clone(), Issued { family, ..Issued::default() });
        name
    }
}

/// The partner processes a refresh that was sent at `sent_at`.
fn process(world: &mut World, token: &str, sent_at: Moment) -> Outcome {
    let (now, life, grace) = (world.now(), world.plan.life, world.plan.policy.grace);
    let desk = &mut world.desk;
    if !desk.would_accept(token, now, grace) {
        let spent = desk.refresh.get(token).filter(|issued| issued.spent_at.is_some());
        if let Some(family) = spent.map(|issued| issued.family) {
            // Reuse: somebody has stolen it, for all the partner knows.
            desk.revoked_families.push(family);
        }
        world.tally.refused += 1;
        return Outcome::Refused(cause());
    }
    let family = desk.refresh[token].family;
    let next = match world.plan.rotation {
        Rotation::Spends => {
            if let Some(issued) = desk.refresh.get_mut(token) {
                issued.spent_at.get_or_insert(now);
            }
            Some(desk.new_refresh(family))
        }
        Rotation::Same => Some(token.to_owned()),
        Rotation::Silent => None,
    };
    // Its life counts from when bearerd sent the request, at the earliest.
    Outcome::Renewed(desk.pair(family, sent_at, life, next))
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
}

fn draw(world: &mut World) -> Fault {
    let rate = world.plan.partner_faults;
    if !world.is_chaos() || !world.chance(rate) {
        return Fault::None;
    }
    match world.rng.u8(..12) {
        0..3 => Fault::NotSent,
        3..5 => Fault::Busy,
        5..7 => Fault::LostBefore,
        7..9 => Fault::LostAfter,
        9..11 => Fault::Nonsense,
        _ => Fault::Refused,
    }
}

/// A call that is under way. `token` is what it presents; a login presents none.
struct Call<'a> {
    world: &'a Shared,
    token: Option<&'a str>,
    began: Moment,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Sent,
    Processed,
    Over,
}

impl<'a> Call<'a> {
    fn new(world: &'a Shared, token: Option<&'a str>) -> Self {
        let mut w = lock(world);
        let began = w.now();
        w.busy += 1;
        w.desk.in_flight += 1;
        if w.desk.in_flight > 1 {
            w.violate("two calls are in flight");
        }
        w.tell(|_| format!("call with {token:?}"));
        match token {
            Some(token) => judge(&mut w, token),
            None => judge_login(&mut w),
        }
        Self { world, token, began, stage: Stage::Connecting }
    }

    async fn run(&mut self) -> Outcome {
        let fault = draw(&mut lock(self.world));
        step(self.world, true).await;
        if fault == Fault::NotSent {
            return Outcome::NotSent(cause());
        }
        self.stage = Stage::Sent;
        step(self.world, true).await;
        match fault {
            Fault::Busy => {
                let asked = lock(self.world).rng.u64(..120);
                let retry_after = (asked <= 60).then(|| Duration::from_secs(asked));
                return Outcome::Busy { retry_after, cause: cause() };
            }
            Fault::Refused => {
                let mut world = lock(self.world);
                world.tally.refused += 1;
                if self.token.is_some_and(|token| world.desk.spent_at(token).is_some()) {
                    world.excuse("something in between refused a token within its grace");
                }
                return Outcome::Refused(cause());
            }
            Fault::LostBefore => {
                tokio::time::sleep(Duration::from_secs(4)).await;
                return Outcome::Unknown(cause());
            }
            _ => {}
        }
        let outcome = self.process();
        step(self.world, true).await;
        match fault {
            Fault::LostAfter => tokio::time::sleep(Duration::from_secs(3)).await,
            Fault::Nonsense => {}
            _ => return outcome,
        }
        Outcome::Unknown(cause())
    }

    fn process(&mut self) -> Outcome {
        self.stage = Stage::Processed;
        let mut world = lock(self.world);
        if let Some(token) = self.token {
            return process(&mut world, token, self.began);
        }
        let (began, life) = (self.began, world.plan.life);
        world.desk.families += 1;
        let family = world.desk.families;
        let with = world.plan.rotation != Rotation::Silent;
        let next = with.then(|| world.desk.new_refresh(family));
        Outcome::Renewed(world.desk.pair(family, began, life, next))
    }

    /// What bearerd knows by now.
    fn end(&mut self, outcome: &Outcome) {
        self.stage = Stage::Over;
        let mut world = lock(self.world);
        world.tell(|_| format!("  ended in {outcome:?}"));
        let (now, began) = (world.now(), self.began);
        let renewed = matches!(outcome, Outcome::Renewed(_));
        world.tally.renewals += u64::from(renewed);
        if renewed {
            world.tally.recovered += std::mem::take(&mut world.desk.not_recovered);
        }
        let Some(token) = self.token else {
            if matches!(outcome, Outcome::Refused(_)) {
                world.desk.login_refused = Some(now);
                world.excuse("the login was refused");
            }
            return;
        };
        let spent = world.desk.spent_at(token).is_some();
        if let Some(issued) = world.desk.refresh.get_mut(token) {
            match outcome {
                Outcome::Renewed(_) => (issued.unsure, issued.refused_at) = (None, None),
                Outcome::Unknown(_) => {
                    issued.unsure.get_or_insert(began);
                    (issued.refused_at, issued.forgotten) = (None, false);
                }
                // From here on another rule holds: one try every ten minutes.
                Outcome::Refused(_) => (issued.unsure, issued.refused_at) = (None, Some(now)),
                Outcome::NotSent(_) | Outcome::Busy { .. } => {}
            }
        }
        if spent && matches!(outcome, Outcome::Unknown(_)) {
            lost(&mut world);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let mut world = lock(self.world);
        world.busy -= 1;
        world.desk.in_flight -= 1;
        if self.stage == Stage::Over {
            return;
        }
        if !world.crashing {
            world.violate("a call was cancelled, and not by a crash");
        }
        world.tally.crashes_in_calls += 1;
        let Some(token) = self.token else { return };
        // What has been sent arrives, or not.
        if self.stage == Stage::Sent && world.rng.bool() {
            let _ = process(&mut world, token, self.began);
        }
        if let Some(issued) = world.desk.refresh.get_mut(token) {
            issued.unsure.get_or_insert(self.began);
            (issued.refused_at, issued.forgotten) = (None, false);
        }
    }
}

/// The partner's endpoint.
pub(super) struct SimPartner(pub(super) Shared);

impl TokenEndpoint for SimPartner {
    fn refresh<'a>(&'a self, token: &'a RefreshToken, _by: Moment) -> BoxFuture<'a, Outcome> {
        // Here and not when first polled: bearerd has decided to present it.
        let mut call = Call::new(&self.0, Some(token.expose()));
        Box::pin(async move {
            let outcome = call.run().await;
            call.end(&outcome);
            outcome
        })
    }

    fn login(&self, _by: Moment) -> BoxFuture<'_, Outcome> {
        let mut call = Call::new(&self.0, None);
        Box::pin(async move {
            let outcome = call.run().await;
            call.end(&outcome);
            outcome
        })
    }
}
