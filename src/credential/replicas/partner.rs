//! The partner, with a memory for what the replicas can know of its tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::fate::strike_in_a_step;
use super::journal::{access_of, refresh_of};
use super::policy::{self, Call};
use super::world::{Again, Rotation, Shared, World, latency, lock, pass, step};
use crate::clock::{Clock as _, Moment};
use crate::credential::testing::{access, cause, refresh, secs};
use crate::partner::{Outcome, TokenEndpoint, TokenSet};
use crate::store::{self, BoxFuture, Record};
use crate::token::{Digest, RefreshToken};

/// The refresh token that the configuration holds.
pub(super) const SEED: &str = "seed";

/// How much longer than configured the partner grants its grace: requests take time to arrive.
const MARGIN: Duration = Duration::from_secs(30);

/// What the partner has issued, and what the replicas can know of it.
#[derive(Default)]
pub(super) struct Desk {
    refresh: BTreeMap<String, Issued>,
    access: BTreeMap<String, Access>,
    revoked: Vec<u32>,
    families: u32,
    issued: u32,
    /// Calls that have been sent and whose end nobody knows of.
    pub(super) in_flight: Vec<Call>,
    pub(super) calls: u64,
    /// The newest pair that has arrived anywhere.
    pub(super) newest: Option<Arrived>,
    /// When something in between refused a login, after which nobody who knows tries again: not even
    /// after an operator has had another replica log in, as long as it has not heard of that.
    pub(super) login_refused: bool,
}

#[derive(Default)]
pub(super) struct Issued {
    family: u32,
    number: u32,
    spent_at: Option<Duration>,
    /// What it brought.
    successor: Option<String>,
    current_access: Option<String>,
    /// Another has taken its place.
    dead: bool,
    /// When it was first sent in a call whose outcome nobody has learnt, or that brought nothing usable.
    pub(super) unsure: Option<Duration>,
    /// Who learnt when that it is refused.
    pub(super) refused: Option<(i64, Duration)>,
    /// The database has lost something of it.
    pub(super) forgotten: bool,
    /// How many calls presented it.
    pub(super) presented: u32,
}

struct Access {
    family: u32,
    expires_at: Duration,
    revoked: bool,
    /// It is durable, or was.
    durable: bool,
    /// So much later than it does expire it may be thought to.
    late: Duration,
}

/// A pair that has arrived at a replica, or an operator's token that was taken up.
pub(super) struct Arrived {
    pub(super) refresh: String,
    pub(super) access: Option<String>,
    /// Names it.
    pub(super) pair: Digest,
    /// An operator's token that the process which took it up has not gone on from.
    pub(super) in_memory: bool,
    number: u32,
    /// At which replica, and in which run of it.
    pub(super) holder: (usize, i64),
    /// It was durable in a journal once, and in the database.
    pub(super) journaled: bool,
    pub(super) committed: bool,
}

impl Desk {
    pub(super) fn issued(&mut self, token: &str) -> Option<&mut Issued> {
        self.refresh.get_mut(token)
    }

    /// Whether `token` has not been spent, and would be accepted.
    pub(super) fn is_live(&self, token: &str) -> bool {
        self.refresh.get(token).is_some_and(|issued| {
            !issued.dead && issued.spent_at.is_none() && !self.revoked.contains(&issued.family)
        })
    }

    /// Whether the partner accepts the access token, and until when it may have been thought to.
    pub(super) fn check(&self, token: &str, now: Duration) -> (bool, Duration) {
        let Some(known) = self.access.get(token) else { return (false, Duration::MAX) };
        let dead = known.revoked || self.revoked.contains(&known.family);
        (!dead && now < known.expires_at, known.expires_at.saturating_add(known.late))
    }

    pub(super) fn expires_at(&self, access: &str) -> Option<Duration> {
        self.access.get(access).map(|access| access.expires_at)
    }

    pub(super) fn may_seem_to_live(&mut self, access: &str, late: Duration) {
        if let Some(access) = self.access.get_mut(access) {
            access.late = access.late.max(late);
        }
    }

    /// How much longer than it does `access` may be thought to live.
    pub(super) fn seems_to_live(&self, access: &str) -> Duration {
        self.access.get(access).map_or(Duration::ZERO, |access| access.late)
    }

    /// A fresh refresh token, as an operator gets one.
    pub(super) fn enroll(&mut self, token: &str) {
        self.families += 1;
        self.issued += 1;
        let issued = Issued { family: self.families, number: self.issued, ..Issued::default() };
        self.refresh.insert(token.to_owned(), issued);
    }

    pub(super) fn revoke_access(&mut self) {
        self.access.values_mut().for_each(|token| token.revoked = true);
    }

    pub(super) fn revoke_families(&mut self) {
        self.revoked = (0..=self.families).collect();
    }

    pub(super) fn forgotten(&mut self, token: &str) {
        if let Some(issued) = self.refresh.get_mut(token) {
            issued.forgotten = true;
        }
    }

    /// A replica has it from the partner. An older one that arrives late is not the newest.
    pub(super) fn arrived(&mut self, token: &str, brought: &str, holder: (usize, i64)) {
        let number = self.number(token);
        if self.newest.as_ref().is_none_or(|newest| newest.number <= number) {
            let pair = store::pair(Some(&refresh(token)), Some(&access(brought)));
            let (refresh, access) = (token.to_owned(), Some(brought.to_owned()));
            let (in_memory, journaled, committed) = (false, false, false);
            self.newest =
                Some(Arrived { refresh, access, pair, in_memory, number, holder, journaled, committed });
        }
    }

    /// A replica has stored a `token` of an operator's, who has the last word.
    pub(super) fn imported(&mut self, token: &str, pair: Digest, holder: (usize, i64)) {
        let (refresh, number) = (token.to_owned(), self.number(token));
        let (access, in_memory, journaled, committed) = (None, true, false, false);
        self.newest =
            Some(Arrived { refresh, access, pair, in_memory, number, holder, journaled, committed });
    }

    /// The process `owner` works with `token`, or with none.
    pub(super) fn works_with(&mut self, owner: i64, token: Option<&str>) {
        if let Some(newest) = self.newest.as_mut().filter(|newest| newest.holder.1 == owner) {
            newest.in_memory &= token == Some(&newest.refresh);
        }
    }

    fn number(&self, token: &str) -> u32 {
        self.refresh.get(token).map_or(0, |issued| issued.number)
    }

    pub(super) fn journaled(&mut self, record: &Record) {
        if let Some(newest) = self.durable(record) {
            newest.journaled = true;
        }
    }

    pub(super) fn committed(&mut self, record: &Record) {
        if let Some(newest) = self.durable(record) {
            newest.committed = true;
        }
    }

    /// The record is durable somewhere; the newest pair, if it is that.
    fn durable(&mut self, record: &Record) -> Option<&mut Arrived> {
        if let Some(access) = access_of(record).and_then(|access| self.access.get_mut(access)) {
            access.durable = true;
        }
        self.newest.as_mut().filter(|newest| {
            refresh_of(record) == Some(&newest.refresh)
                && (newest.access.is_none() || access_of(record) == newest.access.as_deref())
        })
    }

    pub(super) fn was_durable(&self, access: &str) -> bool {
        self.access.get(access).is_some_and(|access| access.durable)
    }

    fn access(&mut self, family: u32, now: Duration, life: Duration) -> String {
        self.issued += 1;
        let name = format!("a{}", self.issued);
        let access =
            Access { family, expires_at: now + life, revoked: false, durable: false, late: Duration::ZERO };
        self.access.insert(name.clone(), access);
        name
    }

    fn new_refresh(&mut self, family: u32) -> String {
        let name = format!("r{}", self.issued);
        let issued = Issued { family, number: self.issued, ..Issued::default() };
        self.refresh.insert(name.clone(), issued);
        name
    }
}

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
