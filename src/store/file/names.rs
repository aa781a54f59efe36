//! The names of partners' files, and which of them there are.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use super::dir::Dir;
use crate::store::StoreError;

/// The last listing of the directory, for those who called before it was made.
///
/// A listing costs as much as there are files, whose number grows with that of the partners, and at
/// the start every partner needs one. All that wait for one share it.
#[derive(Debug, Default)]
pub(super) struct Listing(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    /// Drawn when the listing began.
    begun: u64,
    files: HashMap<Box<str>, Vec<Entry>>,
}

impl Listing {
    /// The partner's files, highest number first, as they were at some moment after `ticket` was
    /// drawn. A listing gives them once: whoever asks again must draw another ticket first.
    pub(super) fn take(
        &self,
        dir: &Dir,
        partner: &str,
        ticket: u64,
        draw: impl FnOnce() -> u64,
    ) -> Result<Vec<Entry>, StoreError> {
        // Sound after a panic: what was not listed whole was not put here.
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if listed.begun <= ticket {
            let begun = draw();
            *listed = Listed { begun, files: list(dir)? };
        }
        Ok(listed.files.remove(partner).unwrap_or_default())
    }
}

/// Every partner's files, highest number first.
pub(super) fn list(dir: &Dir) -> Result<HashMap<Box<str>, Vec<Entry>>, StoreError> {
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
    Overtaken,
}

impl Entry {
    /// The partner and the entry that a file's name stands for, if it is one of ours.
    pub(super) fn parse(name: &str) -> Option<(&str, Self)> {
        let (partner, own) = name.split_once('.')?;
        let (digits, suffix) = own.split_once('.')?;
        let kinds = [Kind::Temporary, Kind::Record, Kind::Aside, Kind::Overtaken];
        let kind = kinds.into_iter().find(|kind| kind.suffix() == suffix)?;
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
            Self::Overtaken => "journal.overtaken",
        }
    }
}
