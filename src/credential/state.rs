//! What is known of a credential, and how each event changes it. No clock, no I/O, no lock.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::Policy;
use super::schedule;
use super::standing::Standing;
use super::status::State;
use crate::clock::{Clock, Moment, UnixMillis};
use crate::partner::TokenSet;
use crate::store::{self, Lineage, Loaded, Record, SavedAccess};
use crate::token::{AccessToken, Digest, Generation, RefreshToken};

/// An access token's shortest and longest life that is believed.
const LIFETIME: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30 * 24 * 3600));

/// How long after a refusal the same refresh token is tried again, in case the refusal came from
/// something between bearerd and the partner.
pub(super) const AFTER_REFUSAL: Duration = Duration::from_secs(600);

/// Clocks that run at slightly different speeds differ by no more than this.
const SAME_TIME: Duration = Duration::from_secs(1);

/// The first pause before another login, where logins are undone by somebody else.
const STRANGERS: Duration = Duration::from_secs(30);

/// A credential: what a [`Record`] holds, on the clock of this process, and how the attempts to
/// renew it have gone.
#[derive(Debug, Clone, Default)]
pub struct Credential {
    /// How many access tokens there have been.
    pub generation: Generation,
    /// The access token of this generation.
    pub access: Option<Access>,
    /// The refresh token to present next.
    pub refresh: Option<RefreshToken>,
    /// What is known of whether it has been spent.
    pub standing: Standing,
    /// The token pairs before this one.
    pub lineage: Lineage,
    /// Digests of the seeds and loaded tokens that have been taken up, oldest first.
    pub seeds: Vec<Digest>,
    /// The digest of the login secrets that were refused.
    pub login_refused: Option<Digest>,

    /// The digest of the login secrets that are configured.
    pub login: Option<Digest>,
    /// The digest of the seed that is configured.
    pub seed: Option<Digest>,

    /// A 401 came back to this generation's access token.
    pub refused: bool,
    /// A request that cannot be sent again wants a newer token than this generation's.
    pub wanted: bool,
    /// An operator asked for a refresh.
    pub ordered: bool,
    /// Whether any call has ended since the start.
    pub attempted: bool,
    /// Calls in a row that brought no token.
    pub failures: u32,
    /// Refresh tokens that were refused when they were presented for the first time, although the
    /// partner had given them out, since one was last accepted.
    pub strangers: u32,
    /// No call before this moment.
    pub not_before: Moment,
    /// Writes to the store in a row that failed.
    pub store_failures: u32,
    /// No write that can wait before this moment.
    pub store_not_before: Moment,
    /// The pair that is held is not durable.
    pub unsaved: bool,
    /// The end of a call is not durable, though the pair may be.
    pub behind: bool,
    /// Other processes use the same store: without it no call is made.
    pub shared: bool,
    /// Another process has the next call until then.
    pub held_until: Moment,
}

/// An access token and its life.
#[derive(Debug, Clone)]
pub struct Access {
    /// The token.
    pub token: AccessToken,
    /// When the call that brought it was sent.
    pub obtained_at: Moment,
    /// When a refresh is due.
    pub refresh_at: Moment,
    /// When it expires, counted from when the call was sent.
    pub expires_at: Moment,
}

impl Credential {
    /// Takes up what a store holds. `jitter` is from 0 to 1.
    pub fn restore(loaded: Loaded, policy: &Policy, clock: &dyn Clock, jitter: f64) -> Self {
        let Loaded { record, newer_damaged, held_for } = loaded;
        let (now, wall) = (clock.now(), clock.wall());
        let access = record.access.map(|saved| {
            // Only as long a life as was given, however the wall clock was set in the meantime.
            let life = Duration::from_millis(saved.expires_at.0.saturating_sub(saved.obtained_at.0));
            let left = Duration::from_millis(saved.expires_at.0.saturating_sub(wall.0)).min(life);
            let expires_at = now + left;
            let obtained_at = expires_at - life;
            let refresh_at = schedule::refresh_at(obtained_at, expires_at, policy, jitter);
            Access { token: saved.token, obtained_at, refresh_at, expires_at }
        });
        // A time in the future says that the clock was set back; then no grace can be counted on.
        let ago = |then: UnixMillis| match wall.0.checked_sub(then.0) {
            Some(millis) => now - Duration::from_millis(millis),
            None => Moment::default(),
        };
        let mut standing = match record.standing {
            store::Standing::Unspent => Standing::Unspent,
            store::Standing::PerhapsSpent { since } => Standing::PerhapsSpent { since: ago(since) },
            // Tried at once only where nothing can be lost by it.
            store::Standing::Refused => Standing::Refused {
                again_at: access.as_ref().map_or(now, |access| access.expires_at.min(now + AFTER_REFUSAL)),
            },
        };
        if newer_damaged {
            // No grace: nobody knows when that record was written, or what became of its tokens.
            standing = Standing::PerhapsSpent { since: Moment::default() };
        } else if let Some(intent) = record.intent {
            standing = standing.perhaps_spent(ago(intent.written_at));
        }
        Self {
            generation: record.generation,
            access,
            refresh: record.refresh,
            standing,
            lineage: record.lineage,
            seeds: record.seeds,
            login_refused: record.login_refused,
            held_until: if held_for.is_zero() { Moment::default() } else { now + held_for },
            ..Self::default()
        }
    }

    /// What a store is to hold; the caller adds an intent.
    pub fn record(&self, clock: &dyn Clock) -> Record {
        Record {
            generation: self.generation,
            access: self.access.as_ref().map(|access| SavedAccess {
                token: access.token.clone(),
                obtained_at: clock.wall_at(access.obtained_at),
                expires_at: clock.wall_at(access.expires_at),
            }),
            refresh: self.refresh.clone(),
            standing: match self.standing {
                Standing::Unspent => store::Standing::Unspent,
                Standing::PerhapsSpent { since } => {
                    store::Standing::PerhapsSpent { since: clock.wall_at(since) }
                }
                Standing::Refused { .. } => store::Standing::Refused,
            },
            lineage: self.lineage.clone(),
            intent: None,
            seeds: self.seeds.clone(),
            login_refused: self.login_refused,
        }
    }

    /// Goes on with what another process has stored. What this one has learnt stays learnt, so that
    /// what was refused is not tried in turns.
    pub fn take_over(&mut self, stored: Self) {
        let descends = stored.lineage.contains(&self.pair());
        // Whatever became of the store, here generations only grow, and no two tokens have the same.
        let other = match (&self.access, &stored.access) {
            (Some(here), Some(there)) => here.token.expose() != there.token.expose(),
            (here, _) => here.is_some(),
        };
        let least = if other { self.generation.next() } else { self.generation };
        self.generation = stored.generation.max(least);
        self.attempted |= stored.access.is_some();
        self.access = stored.access;
        self.refresh = stored.refresh;
        self.standing = stored.standing;
        self.lineage = stored.lineage;
        self.held_until = stored.held_until;
        for seed in stored.seeds {
            self.remember_seed(seed);
        }
        // Whoever renewed this very pair has known that its login was refused, and that it no longer is.
        self.login_refused =
            if descends { stored.login_refused } else { self.login_refused.or(stored.login_refused) };
        self.unsaved = false;
        self.behind = false;
        self.ordered = false;
        self.failures = 0;
        self.not_before = Moment::default();
    }

    /// Learns what a store says of the pair that is held.
    pub fn learn(&mut self, stored: Self) {
        self.held_until = stored.held_until;
        // A life that this process has from its journal is as long as the wall clock makes it, which may
        // have been set since; others count by the store's clock.
        if let (Some(own), Some(theirs)) = (&mut self.access, stored.access)
            && theirs.expires_at + SAME_TIME < own.expires_at
        {
            *own = theirs;
        }
        for seed in stored.seeds {
            self.remember_seed(seed);
        }
        // What could not be written yet is newer than what is there, unless another process has called
        // in the meantime and learnt more.
        if self.behind && self.standing.certainty() >= stored.standing.certainty() {
            return;
        }
        // An operator who orders a call orders a login that was refused, too.
        if !self.ordered {
            self.login_refused = self.login_refused.or(stored.login_refused);
        }
        let known = matches!(
            (self.standing, stored.standing),
            (Standing::Refused { .. }, Standing::Refused { .. })
                | (Standing::PerhapsSpent { .. }, Standing::PerhapsSpent { .. })
        );
        if !known {
            self.standing = stored.standing;
        }
    }

    /// Names the token pair that is held.
    pub fn pair(&self) -> Digest {
        store::pair(self.refresh.as_ref(), self.access.as_ref().map(|access| &access.token))
    }

    /// What is taken up next descends from the pair that is held.
    fn succeed(&mut self) {
        let pair = self.pair();
        self.lineage.push(pair);
    }

    /// A call that was sent at `sent_at` brought `set` at `now`, whose refresh token, or none, is the one
    /// to present next. `jitter` is from 0 to 1.
    pub fn renewed(&mut self, set: TokenSet, sent_at: Moment, now: Moment, policy: &Policy, jitter: f64) {
        self.succeed();
        let life = set.lifetime.unwrap_or(policy.default_lifetime).clamp(LIFETIME.0, LIFETIME.1);
        let expires_at = sent_at + life;
        let refresh_at = schedule::refresh_at(sent_at, expires_at, policy, jitter);
        self.access = Some(Access { token: set.access, obtained_at: sent_at, refresh_at, expires_at });
        self.generation = self.generation.next();
        self.refresh = set.refresh;
        self.standing = Standing::Unspent;
        self.refused = false;
        self.wanted = false;
        self.ordered = false;
        self.attempted = true;
        self.failures = 0;
        // Where calls take longer than tokens live, there is still a pause between them.
        let pause = if refresh_at <= now { schedule::backoff(1, jitter) } else { Duration::ZERO };
        self.not_before = now + pause;
    }

    /// The partner accepted the refresh token that was `presented`.
    pub fn was_accepted(&mut self, presented: &RefreshToken) {
        if !self.seeds.contains(&presented.digest()) {
            self.strangers = 0;
        }
    }

    /// A call ended without a token and may be made again after `wait`.
    pub fn failed(&mut self, now: Moment, wait: Duration) {
        self.attempted = true;
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + wait;
    }

    /// A refresh sent at `sent_at` may or may not have been processed.
    pub fn perhaps_spent(&mut self, sent_at: Moment) {
        self.standing = self.standing.perhaps_spent(sent_at);
    }

    /// The partner refused `presented`. How many times in a row now that was one which it had given
    /// out itself and which was never presented from here: somebody else has.
    pub fn refresh_refused(&mut self, presented: &RefreshToken, now: Moment) -> u32 {
        let given_out = !self.seeds.contains(&presented.digest());
        if self.standing == Standing::Unspent && given_out {
            self.strangers = self.strangers.saturating_add(1);
        }
        // Two that take the credential from each other in turns do it ever more slowly.
        let pause = match self.strangers {
            0 | 1 => Duration::ZERO,
            more => (STRANGERS * (1 << (more - 2).min(8))).min(AFTER_REFUSAL),
        };
        self.failed(now, pause);
        self.ordered = false;
        self.standing = Standing::Refused { again_at: now + AFTER_REFUSAL };
        self.strangers
    }

    /// The partner refused the login.
    pub fn login_was_refused(&mut self, now: Moment) {
        self.failed(now, Duration::ZERO);
        self.ordered = false;
        self.login_refused = self.login;
    }

    /// Takes up a seed or a token that an operator loaded: a refresh token that was never presented.
    /// Its digest is kept, so that the same token in the configuration is no new seed.
    pub fn take_up(&mut self, refresh: RefreshToken) {
        self.succeed();
        self.remember_seed(refresh.digest());
        self.refresh = Some(refresh);
        self.standing = Standing::Unspent;
        self.failures = 0;
        self.not_before = Moment::default();
    }

    /// Takes up the configured seed, so that it counts as presented from now on, and is at once.
    pub fn adopt_seed(&mut self, seed: RefreshToken) {
        self.take_up(seed);
        self.ordered = true;
    }

    /// An operator asks for a refresh now: what stood in the way of one is forgotten once.
    pub fn order(&mut self, now: Moment) {
        self.ordered = true;
        self.not_before = now;
        self.store_not_before = now;
        self.held_until = Moment::default();
        self.login_refused = None;
        if let Standing::Refused { again_at } = &mut self.standing {
            *again_at = now;
        }
    }

    /// Whether a login is configured that has not been refused.
    pub fn can_log_in(&self) -> bool {
        self.login.is_some() && self.login != self.login_refused
    }

    /// Whether a seed is configured that was never taken up.
    pub fn has_new_seed(&self) -> bool {
        self.seed.is_some_and(|seed| !self.seeds.contains(&seed))
    }

    fn remember_seed(&mut self, seed: Digest) {
        Record::remember_seed(&mut self.seeds, seed);
    }

    /// Whether `token` was taken up before, and what is held now has come after it and is good. With a
    /// database that took a token and could not say so, who loads it once more would have a spent one
    /// presented.
    pub fn has_followed(&self, token: &RefreshToken) -> bool {
        self.standing == Standing::Unspent && Record::has_come_of(token, self.refresh.as_ref(), &self.seeds)
    }

    /// Whether an access token is held that has not expired.
    pub fn is_usable(&self, now: Moment) -> bool {
        self.access.as_ref().is_some_and(|access| now < access.expires_at)
    }

    /// The state, as an operator sees it.
    pub fn state(&self, now: Moment) -> State {
        // What others hold is not known as long as the store cannot be reached.
        let unknown = self.shared && self.refresh.is_none() && self.store_failures > 0;
        let spent = self.refresh.is_none() || matches!(self.standing, Standing::Refused { .. });
        if spent && !unknown && !self.can_log_in() && !self.has_new_seed() {
            return State::ReauthRequired;
        }
        let troubled = self.failures > 0
            || self.store_failures > 0
            || self.unsaved
            || self.behind
            || matches!(self.standing, Standing::PerhapsSpent { .. });
        match (self.is_usable(now), troubled) {
            (true, false) => State::Valid,
            (true, true) => State::Degraded,
            (false, _) if self.attempted => State::Expired,
            (false, _) => State::Starting,
        }
    }
}
