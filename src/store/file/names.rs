//! The names of a partner's files, and which of them there are.
//!
//! To list the directory for every save would cost as much as it has files, whose number grows with
//! that of the partners. So it is listed once, and what is done to it here is kept up with. Should
//! somebody else change it all the same, an operator who restores a file perhaps, its time of
//! modification tells, and it is listed again: a record that was put there must not be taken for
//! newer than the next one that is saved.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::dir::{Dir, Stamp};
use crate::store::StoreError;

/// What the directory holds.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// How the directory looked after the last change that was made here; `None` if what is known
    /// may be wrong.
    stamp: Option<Stamp>,
    /// Each partner's files, highest number first.
    entries: HashMap<Box<str>, Vec<Entry>>,
}

impl Names {
    /// Does `change` to the directory and to what is known of the partner's files, which it gets
    /// highest number first. Everything that changes the directory goes through here, one at a time;
    /// it must not take long, so nothing is synced here.
    pub(super) fn change<T>(
        &self,
        dir: &Dir,
        partner: &str,
        change: impl FnOnce(&mut Vec<Entry>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // Sound after a panic: without a stamp everything is listed anew.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = known.stamp.take();
        if stamp.is_none() || stamp != dir.stamp() {
            known.entries = list(dir)?;
        }
        let entries = known.entries.entry(partner.into()).or_default();
        let result = change(entries)?;
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.number));
        known.stamp = dir.stamp();
        Ok(result)
    }

    /// The partner's files, highest number first.
    pub(super) fn of(&self, dir: &Dir, partner: &str) -> Result<Vec<Entry>, StoreError> {
        self.change(dir, partner, |entries| Ok(entries.clone()))
    }

    /// Has the directory listed anew.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).stamp = None;
    }
}

fn list(dir: &Dir) -> Result<HashMap<Box<str>, Vec<Entry>>, StoreError> {
    let mut all: HashMap<Box<str>, Vec<Entry>> = HashMap::new();
    for name in dir.names()? {
        if let Some((partner, entry)) = Entry::parse(&name) {
            all.entry(partner.into()).or_default().push(entry);
        }
    }
    for entries in all.values_mut() {
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.number));
    }
    Ok(all)
}

/// A file of a partner; displays as its name without the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Temporary,
    Record,
    Aside,
}

impl Entry {
    /// The partner and the entry that a file's name stands for, if it is one of ours.
    pub(super) fn parse(name: &str) -> Option<(&str, Self)> {
        let (partner, own) = name.split_once('.')?;
        let (digits, suffix) = own.split_once('.')?;
        let kind = [Kind::Temporary, Kind::Record, Kind::Aside].into_iter().find(|k| k.suffix() == suffix)?;
        let entry = Self { number: u64::from_str_radix(digits, 16).ok()?, kind };
        // Only as we write it: one number, one name.
        (entry.to_string() == own).then_some((partner, entry))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}.{}", self.number, self.kind.suffix())
    }
}

impl Kind {
    fn suffix(self) -> &'static str {
        match self {
            Self::Temporary => "tmp",
            Self::Record => "journal",
            Self::Aside => "journal.damaged",
        }
    }
}
