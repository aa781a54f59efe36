//! What the sandbox remembers of its tokens: which are spent, which are revoked, and some counts.
//!
//! Everything here happens at a time that is passed in and without I/O. Memory is bounded: of spent
//! tokens and of revoked families the latest [`REMEMBERED`] are known, and older ones forgotten.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::token::{Claims, Id, Usage};
use super::{Config, Fault};
use crate::clock::{Clock, Moment, UnixMillis};

/// The tokens of one run of the sandbox.
#[derive(Debug)]
pub(super) struct Ledger {
    config: Config,
    /// This run's part of every [`Id`].
    instance: u64,
    /// How many ids were drawn.
    drawn: u64,
    /// Refresh tokens that were presented, and when.
    spent: Remembered<Moment>,
    /// Families of which no token is honoured any more.
    revoked_families: Remembered<()>,
    /// Access tokens up to this count are revoked, and with them all of earlier runs.
    revoked_up_to: Option<u64>,
    /// What happened so far.
    pub(super) stats: Stats,
}

impl Ledger {
    /// An empty one.
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            // Zero is the seed's.
            instance: fastrand::u64(1..),
            drawn: 0,
            spent: Remembered::default(),
            revoked_families: Remembered::default(),
            revoked_up_to: None,
            stats: Stats::default(),
        }
    }

    /// Counts a well-formed refresh call, and says whether it is one of those that fail.
    pub(super) fn refresh_call(&mut self) -> Option<Fault> {
        self.stats.refresh_calls += 1;
        let every = u64::from(self.config.fault_every);
        if every == 0 || !self.stats.refresh_calls.is_multiple_of(every) {
            return None;
        }
        self.stats.faults += 1;
        Some(self.config.fault)
    }

    /// The first pair of a new family.
    pub(super) fn login(&mut self, now: Now) -> TokenSet {
        self.stats.logins += 1;
        let family = self.draw();
        self.pair(family, 0, now)
    }

    /// Spends `token` and gives the next pair of its family.
    ///
    /// A token that is spent already and out of its grace is taken for stolen, and its whole family
    /// revoked (RFC 9700 section 4.14.2).
    pub(super) fn refresh(&mut self, token: &str, now: Now) -> Result<TokenSet, Refusal> {
        let pair = self.try_refresh(token, now);
        match &pair {
            Ok(_) => self.stats.refreshes += 1,
            Err(_) => self.stats.refusals += 1,
        }
        pair
    }

    /// Whether a request that carries `token` is let through.
    pub(super) fn admits(&self, token: &str, now: Now) -> bool {
        let Some(claims) = Claims::verify(token, Usage::Access) else { return false };
        let revoked = self
            .revoked_up_to
            .is_some_and(|count| claims.jti.instance != self.instance || claims.jti.count <= count);
        !revoked && !claims.expired(now.wall) && !self.revoked_families.contains(&claims.family)
    }

    /// Revokes every access token given so far. Refresh tokens stay good.
    pub(super) fn revoke_access(&mut self) {
        self.stats.revocations += 1;
        self.revoked_up_to = Some(self.drawn);
    }

    fn try_refresh(&mut self, token: &str, now: Now) -> Result<TokenSet, Refusal> {
        let claims = Claims::verify(token, Usage::Refresh).ok_or(Refusal::Unknown)?;
        if claims.expired(now.wall) {
            return Err(Refusal::Expired);
        }
        if self.revoked_families.contains(&claims.family) {
            return Err(Refusal::Revoked);
        }
        match self.spent.get(&claims.jti) {
            None => self.spent.insert(claims.jti, now.moment),
            Some(&at) if now.moment.since(at) < self.config.grace => self.stats.graced += 1,
            Some(_) => {
                self.stats.reuse_detected += 1;
                self.revoked_families.insert(claims.family, ());
                return Err(Refusal::Reused);
            }
        }
        Ok(self.pair(claims.family, claims.generation.saturating_add(1), now))
    }

    fn pair(&mut self, family: Id, generation: u64, now: Now) -> TokenSet {
        let (access_token, expires_in) =
            self.issue(Usage::Access, self.config.access_lifetime, family, generation, now);
        let (refresh_token, refresh_expires_in) =
            self.issue(Usage::Refresh, self.config.refresh_lifetime, family, generation, now);
        TokenSet { access_token, expires_in, refresh_token, refresh_expires_in, token_type: "Bearer" }
    }

    /// A token and its lifetime in seconds. Seconds are whole on the wire, so both the lifetime and
    /// the moment of expiry are rounded up: a token never dies before it was said to.
    fn issue(
        &mut self,
        usage: Usage,
        lifetime: Duration,
        family: Id,
        generation: u64,
        now: Now,
    ) -> (String, u64) {
        let lifetime = lifetime.as_millis().div_ceil(1000).clamp(1, u128::from(u32::MAX)) as u64;
        let exp = Some(now.wall.0.div_ceil(1000) + lifetime);
        let claims = Claims { usage, family, generation, iat: now.wall.0 / 1000, exp, jti: self.draw() };
        (claims.sign(), lifetime)
    }

    fn draw(&mut self) -> Id {
        self.drawn += 1;
        Id { instance: self.instance, count: self.drawn }
    }
}

/// The time at which something happens: the wall's for what is written into tokens, because they
/// outlive the process, and the other for what is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    moment: Moment,
    wall: UnixMillis,
}

impl Now {
    /// The time by `clock`.
    pub(super) fn of(clock: &dyn Clock) -> Self {
        Self { moment: clock.now(), wall: clock.wall() }
    }
}

/// The answer to a login or a refresh.
#[derive(Debug, Serialize)]
pub(super) struct TokenSet {
    access_token: String,
    expires_in: u64,
    refresh_token: String,
    refresh_expires_in: u64,
    token_type: &'static str,
}

/// Why a refresh token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No sandbox signed it, or not as a refresh token.
    Unknown,
    /// Its time is over.
    Expired,
    /// Its family was revoked before.
    Revoked,
    /// It was spent before, and its family is revoked for that.
    Reused,
}

/// What happened since the start, as `GET /sandbox/stats` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Stats {
    /// Calls other than login and refresh.
    pub(super) requests: u64,
    /// Of them, those answered 401.
    pub(super) unauthorized: u64,
    /// Of them, those that got an answer to what they asked.
    pub(super) served: u64,
    /// Logins that were granted.
    pub(super) logins: u64,
    /// Refresh calls that were well formed, whatever became of them.
    pub(super) refresh_calls: u64,
    /// Refresh tokens that gave a new pair, whether or not it arrived.
    pub(super) refreshes: u64,
    /// Of them, those that were spent already and within their grace.
    pub(super) graced: u64,
    /// Logins and refresh tokens that were refused, other than by a configured fault.
    pub(super) refusals: u64,
    /// Of them, refresh tokens that were spent already; each cost its family.
    pub(super) reuse_detected: u64,
    /// Refresh calls that failed because the configuration says so.
    pub(super) faults: u64,
    /// How often every access token was revoked.
    pub(super) revocations: u64,
    /// Calls that no partner would take: no or a foreign partner code, a token where none belongs,
    /// a body that does not open or is not JSON.
    pub(super) malformed: u64,
}

/// The latest [`REMEMBERED`] ids that were inserted, each with something about it.
#[derive(Debug)]
struct Remembered<V> {
    values: HashMap<Id, V>,
    order: VecDeque<Id>,
}

impl<V> Remembered<V> {
    fn contains(&self, id: &Id) -> bool {
        self.values.contains_key(id)
    }

    fn get(&self, id: &Id) -> Option<&V> {
        self.values.get(id)
    }

    fn insert(&mut self, id: Id, value: V) {
        if self.values.insert(id, value).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

impl<V> Default for Remembered<V> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

/// How many spent tokens, and how many revoked families, are known: under a mebibyte each.
const REMEMBERED: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten() {
        let mut known = Remembered::default();
        let id = |count| Id { instance: 1, count };
        for count in 0..=REMEMBERED as u64 {
            known.insert(id(count), ());
            known.insert(id(count), ());
        }
        assert_eq!((known.values.len(), known.order.len()), (REMEMBERED, REMEMBERED));
        assert!(!known.contains(&id(0)) && known.contains(&id(1)));
    }
}
