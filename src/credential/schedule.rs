//! When to do what: pure functions of the credential and the time.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::Policy;
use super::standing::Standing;
use super::state::{Access, Credential};
use crate::clock::Moment;

/// What the refresher does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing before this moment, unless something happens.
    Sleep(Moment),
    /// Present the refresh token that is held.
    Refresh,
    /// Start over with the configured login.
    Login,
    /// Take up the configured seed.
    AdoptSeed,
    /// Try again to make durable what is known.
    Save,
}

/// Decides, as "Life of a token" in the crate's manual tells it.
pub fn decide(credential: &Credential, policy: &Policy, now: Moment) -> Decision {
    let save_at =
        if credential.unsaved || credential.behind { credential.store_not_before } else { Moment::NEVER };
    if now >= save_at {
        return Decision::Save;
    }
    let wait = match next_call(credential, policy, now) {
        Ok(call) => return call,
        Err(wait) => wait,
    };
    Decision::Sleep(wait.min(save_at))
}

/// The call to make now, or when to ask again.
fn next_call(c: &Credential, policy: &Policy, now: Moment) -> Result<Decision, Moment> {
    // Without the store others could make the same call.
    let store_back_at = if c.shared && c.store_failures > 0 { c.store_not_before } else { Moment::default() };
    let allowed = store_back_at.max(c.held_until);
    let asked = c.refused || c.wanted || c.ordered;
    let due = match (&c.access, c.standing) {
        (Some(access), Standing::Unspent) if !asked => access.refresh_at,
        // What follows an unknown outcome or a refusal does not wait until a refresh would be due: by
        // then the partner's grace is over.
        _ => Moment::default(),
    };
    let earliest = due.max(c.not_before).max(allowed);
    if now < earliest {
        return Err(earliest);
    }
    match (&c.refresh, c.standing) {
        (Some(_), Standing::Unspent) => refresh_on_record(c, policy, now),
        (Some(_), Standing::PerhapsSpent { .. }) if c.can_log_in() => Ok(Decision::Login),
        (Some(_), Standing::PerhapsSpent { since }) => {
            if now < since + policy.grace || nothing_left_to_lose(c, policy, now) {
                refresh_on_record(c, policy, now)
            } else {
                Err(dying_at_or_never(c, policy))
            }
        }
        // To begin with, a seed that was given comes before a login.
        (None, _) if c.has_new_seed() => Ok(Decision::AdoptSeed),
        _ if c.can_log_in() => Ok(Decision::Login),
        _ if c.has_new_seed() => Ok(Decision::AdoptSeed),
        (Some(_), Standing::Refused { again_at }) if now >= again_at => refresh_on_record(c, policy, now),
        (Some(_), Standing::Refused { again_at }) => Err(again_at),
        (None, _) => Err(Moment::NEVER),
    }
}

/// A refresh, unless the store cannot take its intent and the access token still has time.
fn refresh_on_record(c: &Credential, policy: &Policy, now: Moment) -> Result<Decision, Moment> {
    if c.store_failures == 0 || now >= c.store_not_before || nothing_left_to_lose(c, policy, now) {
        Ok(Decision::Refresh)
    } else {
        Err(c.store_not_before.min(dying_at_or_never(c, policy)))
    }
}

/// Whether no access token would be lost if the refresh token turned out to be spent: none is held,
/// it has been refused, or it is about to die.
pub(super) fn nothing_left_to_lose(c: &Credential, policy: &Policy, now: Moment) -> bool {
    match &c.access {
        None => true,
        Some(access) => c.refused || now >= dying_at(access, policy),
    }
}

/// From when an access token is about to die: time for one more call, at most a tenth of its life.
pub(super) fn dying_at(access: &Access, policy: &Policy) -> Moment {
    let life = access.expires_at.since(access.obtained_at);
    access.expires_at - policy.timeout.min(life / 10)
}

fn dying_at_or_never(c: &Credential, policy: &Policy) -> Moment {
    c.access.as_ref().map_or(Moment::NEVER, |access| dying_at(access, policy))
}

/// When a refresh is due: `ahead` before expiry, but not before half of the lifetime is over, minus
/// up to 5 % of the time until then. `jitter` is from 0 to 1.
pub(super) fn refresh_at(obtained_at: Moment, expires_at: Moment, policy: &Policy, jitter: f64) -> Moment {
    let life = expires_at.since(obtained_at);
    let after = life.saturating_sub(policy.ahead).max(life / 2);
    obtained_at + after - after.mul_f64(0.05 * jitter.clamp(0.0, 1.0))
}

/// How long to wait after so many failures in a row: 0.5 s doubling to 60 s, of which `jitter`,
/// from 0 to 1, takes away up to half.
pub(super) fn backoff(failures: u32, jitter: f64) -> Duration {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(60);
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST).mul_f64(1.0 - 0.5 * jitter.clamp(0.0, 1.0))
}
