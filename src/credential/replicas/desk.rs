//! What the partner has issued, and what the replicas can know of it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::journal::{access_of, refresh_of};
use super::policy::Call;
use crate::credential::testing::{access, refresh};
use crate::store::{self, Record};
use crate::token::Digest;

/// The partner's memory, and the judges'.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) refresh: BTreeMap<String, Issued>,
    pub(super) access: BTreeMap<String, Access>,
    pub(super) revoked: Vec<u32>,
    pub(super) families: u32,
    pub(super) issued: u32,
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
    pub(super) family: u32,
    number: u32,
    pub(super) spent_at: Option<Duration>,
    /// What it brought.
    pub(super) successor: Option<String>,
    pub(super) current_access: Option<String>,
    /// Another has taken its place.
    pub(super) dead: bool,
    /// When it was first sent in a call whose outcome nobody has learnt, or that brought nothing usable.
    pub(super) unsure: Option<Duration>,
    /// Who learnt when that it is refused.
    pub(super) refused: Option<(i64, Duration)>,
    /// The database has lost something of it.
    pub(super) forgotten: bool,
    /// How many calls presented it.
    pub(super) presented: u32,
}

pub(super) struct Access {
    family: u32,
    expires_at: Duration,
    pub(super) revoked: bool,
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

    pub(super) fn access(&mut self, family: u32, now: Duration, life: Duration) -> String {
        self.issued += 1;
        let name = format!("a{}", self.issued);
        let access =
            Access { family, expires_at: now + life, revoked: false, durable: false, late: Duration::ZERO };
        self.access.insert(name.clone(), access);
        name
    }

    pub(super) fn new_refresh(&mut self, family: u32) -> String {
        let name = format!("r{}", self.issued);
        let issued = Issued { family, number: self.issued, ..Issued::default() };
        self.refresh.insert(name.clone(), issued);
        name
    }
}
