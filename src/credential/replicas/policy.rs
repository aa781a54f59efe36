//! What the replicas must not do, judged from outside.

use std::time::Duration;

use super::database::{Commit, Database, Lost};
use super::journal::refresh_of;
use super::world::{Rotation, World};
use crate::clock::Clock as _;
use crate::partner::Outcome;
use crate::store::{Record, Standing};

/// How long after a refusal the same process may present the same token again.
const AFTER_REFUSAL: Duration = Duration::from_secs(600);

/// Records hold milliseconds.
const ROUNDING: Duration = Duration::from_millis(10);

/// How long after its deadline an intent still keeps others away, in milliseconds.
const MARGIN: i64 = 250;

/// A call that has been sent.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) number: u64,
    token: Option<String>,
    /// Until then it is nobody else's turn.
    until: Duration,
    unsure_before: Option<Duration>,
}

/// May `replica` send `token` now, or log in if it is none? It decided to when it `asked`.
pub(super) fn judge_call(world: &mut World, replica: usize, token: Option<&str>, asked: Duration) -> Call {
    let now = world.now();
    let owner = world.replicas[replica].owner;
    world.desk.calls += 1;
    world.desk.works_with(owner, token);
    let number = world.desk.calls;
    world.count(if token.is_some() { "refresh calls" } else { "logins" });
    world.tell(|_| format!("{replica}: call {number} with {token:?}"));
    if let Err(what) = is_claimed(world, owner, token.is_some()) {
        world.violate(format!("a call was sent without a claim: {what}"));
    }
    let left = world.database.claims.get(&owner).map_or(0, |claim| claim.deadline - Database::millis(now));
    let until = now + Duration::from_millis(u64::try_from(left).unwrap_or(0));
    let mut call = Call { number, token: token.map(str::to_owned), until, unsure_before: None };
    let others = world.desk.in_flight.iter().filter(|other| other.until > now);
    let same = others.clone().any(|other| token.is_some() && other.token.as_deref() == token);
    let quiet = world.plan.is_quiet();
    if quiet && others.count() > 0 {
        world.violate("two calls are in flight, and nothing went wrong");
    }
    if let Some(token) = token {
        judge_token(world, replica, token, same, asked);
        let quiet = quiet && world.plan.rotation == Rotation::Spends;
        let Some(issued) = world.desk.issued(token) else { return call };
        issued.presented += 1;
        call.unsure_before = issued.unsure;
        issued.unsure.get_or_insert(now);
        if quiet && issued.presented > 1 {
            world.violate(format!("{token} was presented twice, and nothing went wrong"));
        }
    } else if world.desk.login_refused && !world.replicas[replica].ordered && quiet {
        world.violate("a login that was refused was tried again");
    }
    world.desk.in_flight.push(call.clone());
    call
}

/// Whether `owner` was allowed to call, and nobody else is by now.
fn is_claimed(world: &World, owner: i64, spends: bool) -> Result<(), String> {
    let now = Database::millis(world.now());
    let Some(claim) = world.database.claims.get(&owner) else { return Err("none".to_owned()) };
    if claim.spends != spends {
        return Err("it is for another kind of call".to_owned());
    }
    if now > claim.deadline {
        return Err(format!("its deadline was {} ms ago", now - claim.deadline));
    }
    match claim.lost {
        // Nobody can know of what the database forgets; and a pair that has lost its place may be
        // presented, since nobody else will.
        None | Some(Lost::Failover | Lost::Replaced) => Ok(()),
        Some(lost) => Err(format!("its intent is gone: {lost:?}")),
    }
}

fn judge_token(world: &mut World, replica: usize, token: &str, in_flight: bool, asked: Duration) {
    let now = world.now();
    let (grace, spends) = (world.plan.policy.grace, world.plan.rotation == Rotation::Spends);
    let to_lose = something_to_lose(world, replica);
    let (owner, ordered) = (world.replicas[replica].owner, world.replicas[replica].ordered);
    let login = world.plan.login && !world.desk.login_refused && !ordered;
    let Some(issued) = world.desk.issued(token) else {
        return world.violate(format!("{token} was never issued"));
    };
    // A token that is never spent may go with another's pair, and then nobody knows of a call with it.
    if issued.forgotten || !spends {
        return;
    }
    let refused = issued.refused.filter(|(by, at)| *by == owner && now - *at < AFTER_REFUSAL);
    if let Some(since) = issued.unsure {
        if in_flight {
            world.violate(format!("{token} is presented by two at once"));
        } else if login {
            world.violate(format!("{token} may be spent, and was presented although a login is configured"));
        } else if asked >= since + grace && to_lose {
            world.violate(format!(
                "{token} may be spent, and was presented while there was something to lose"
            ));
        } else {
            world.count("presented again by the policy");
        }
    } else if refused.is_some() && to_lose && !ordered {
        world.violate(format!("{token} was refused, and presented again within ten minutes"));
    }
}

/// As an outsider can tell it: an access token would be lost by a refusal.
fn something_to_lose(world: &World, replica: usize) -> bool {
    let replica = &world.replicas[replica];
    let Some(token) = replica.token() else { return false };
    let dying = world.plan.policy.timeout.min(world.plan.life / 10);
    replica.refused.is_none_or(|refused| refused < token.generation)
        && replica.clock.now() + dying + ROUNDING < token.expires_at
}

/// `replica` learns how its call has ended.
pub(super) fn learn(world: &mut World, replica: usize, call: &Call, outcome: &Outcome) {
    world.tell(|_| format!("{replica}: call {} ended in {outcome:?}", call.number));
    let (now, owner) = (world.now(), world.replicas[replica].owner);
    world.desk.in_flight.retain(|other| other.number != call.number);
    let token = call.token.as_deref();
    match outcome {
        Outcome::Renewed(set) => {
            world.count("renewals");
            if now > call.until {
                world.count("renewals after the deadline");
            }
            let refresh = set.refresh.as_ref().map(|refresh| refresh.expose().to_owned());
            let refresh = refresh.or_else(|| token.map(str::to_owned));
            let access = set.access.expose().to_owned();
            match refresh {
                Some(refresh) => {
                    world.desk.arrived(&refresh, &access, (replica, owner));
                    // Given out again, it may be presented again.
                    world.desk.issued(&refresh).into_iter().for_each(|issued| issued.refused = None);
                }
                // A login has started over.
                None => world.desk.newest = None,
            }
            world.replicas[replica].in_hand = Some(access);
        }
        Outcome::Refused(_) if token.is_none() => world.desk.login_refused = true,
        _ => {}
    }
    let Some(issued) = token.and_then(|token| world.desk.issued(token)) else { return };
    match outcome {
        Outcome::Renewed(_) => (issued.unsure, issued.refused) = (None, None),
        Outcome::Refused(_) => (issued.unsure, issued.refused) = (None, Some((owner, now))),
        Outcome::Busy { .. } | Outcome::NotSent(_) => issued.unsure = call.unsure_before,
        Outcome::Unknown(_) => world.count("unknown outcomes"),
    }
}

/// May `row` take the place of the one `before`?
pub(super) fn judge_commit(world: &mut World, before: Option<&Commit>, row: &Commit, owner: i64) {
    let now = Database::millis(world.now());
    let Some(before) = before else { return };
    world.desk.works_with(owner, refresh_of(&row.clear));
    if before.pair == row.pair {
        let knows = |commit: &Commit| commit.clear.standing != Standing::Unspent;
        if knows(before) && !knows(row) {
            world.violate("it was known that a token may be spent, and no longer is");
        }
        let Some(open) = before.intent.filter(|open| open.owner != owner) else { return };
        if row.intent == Some(open) {
            return;
        }
        if open.deadline + MARGIN >= now || !knows(row) {
            world.violate("another's intent was taken off before its time");
        }
        // Nobody knows whether that call was made, after the refusal that is known of.
        if let Some(issued) = refresh_of(&row.clear).and_then(|token| world.desk.issued(token)) {
            issued.refused = None;
        }
        return;
    }
    let children = &world.database.children;
    // What stood between a pair and a login's is nobody's.
    let parent = row.parent.filter(|parent| children.iter().any(|(_, _, pair)| pair == parent));
    let rival = parent.is_some() && children.iter().any(|(_, other, _)| *other == parent);
    let back = children.iter().any(|(_, _, pair)| *pair == row.pair);
    if rival {
        world.violate("two generations descend from one parent");
    } else if back {
        world.violate("a pair came back that had a successor");
    }
    // An operator's word stands above what came before; one that was renewed without another in its
    // place is no new word.
    let new = |token: &&str| token.starts_with("operator") && refresh_of(&before.clear) != Some(*token);
    if let Some(token) = refresh_of(&row.clear).filter(new) {
        let holder = world.replicas.iter().position(|replica| replica.owner == owner).unwrap_or(0);
        world.desk.imported(token, row.pair, (holder, owner));
    }
}

/// The row says that `access` lives until `stored`; it was drawn up `ago`.
pub(super) fn judge_expiry(world: &mut World, access: &str, stored: Duration, ago: Duration) {
    let Some(expires_at) = world.desk.expires_at(access) else { return };
    // Of one that has expired, nobody needs to know when.
    if stored <= world.now() {
        return;
    }
    let late = stored.saturating_sub(expires_at);
    // Whoever has it from a row adds the way to what was added before.
    if late > world.desk.seems_to_live(access).saturating_add(ago + ROUNDING) {
        world.violate(format!("the row says that {access} lives {late:?} too long"));
    }
    if late > Duration::from_secs(3) {
        world.count("rows with a life too long by a pause");
    }
    world.desk.may_seem_to_live(access, late);
}

/// After everything that `replica` does.
pub(super) fn check(world: &mut World, replica: usize) {
    check_published(world, replica);
    if !newest_is_held(world) {
        newest_is_gone(world);
    }
}

fn check_published(world: &mut World, replica: usize) {
    let Some(handle) = world.replicas[replica].handle.clone() else { return };
    let Some(token) = handle.cell().load() else { return };
    let status = handle.status();
    let published = world.replicas[replica].published;
    if token.generation < published {
        world.violate("generations went back");
    }
    if token.generation > published {
        world.replicas[replica].published = token.generation;
        world.replicas[replica].in_hand = None;
    }
    if status.persisted && !world.desk.was_durable(token.access.expose()) {
        world.violate(format!("{} is in use at {replica} and not durable", token.access.expose()));
    }
    if status.generation != token.generation {
        world.violate("the status and the cell tell of different generations");
    }
}

/// Whether the newest pair that has arrived is somewhere, as long as the partner accepts it.
fn newest_is_held(world: &World) -> bool {
    let Some(newest) = &world.desk.newest else { return true };
    if !world.desk.is_live(&newest.refresh) {
        return true;
    }
    let row = world.database.row().and_then(|row| refresh_of(&row.clear));
    row == Some(&newest.refresh)
        || world.replicas.iter().any(|replica| {
            let runs = replica.handle.is_some();
            let in_memory = newest.in_memory && replica.owner == newest.holder.1;
            replica.journal.holds(&newest.refresh)
                || replica.aside.contains(&newest.refresh)
                || (runs && in_memory)
                || (runs && newest.access.is_some() && replica.in_hand == newest.access)
                || newest.access.as_deref().is_some_and(|access| {
                    replica.token().is_some_and(|token| token.access.expose() == access)
                })
        })
}

fn newest_is_gone(world: &mut World) {
    let Some(newest) = world.desk.newest.take() else { return };
    let (replica, owner) = newest.holder;
    let imports = |record: &Record| {
        refresh_of(record).is_some_and(|token| token.starts_with("operator"))
            && record.lineage.contains(&newest.pair)
    };
    if world.replicas.iter().filter_map(|replica| replica.journal.record.as_ref()).any(imports) {
        return world.count("pairs replaced by an import that a crash cut off");
    }
    if newest.refresh.starts_with("operator") && !world.imported.contains(&newest.refresh) {
        return world.count("imports that nobody was told had succeeded, and that did not");
    }
    let runs = world.replicas[replica].handle.is_some() && world.replicas[replica].owner == owner;
    let name = newest.refresh;
    if runs {
        world.violate(format!("{name} is live, and {replica} has dropped it"));
    } else if newest.journaled {
        world.violate(format!("{name} is live, was in a journal, and was dropped"));
    } else if newest.committed && world.database.failovers == 0 {
        world.violate(format!("{name} is live, was in the database, and was dropped"));
    } else {
        world.count("pairs lost with a process before they were durable");
    }
}
