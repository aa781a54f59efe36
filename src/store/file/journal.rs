//! One partner's records: a file for each of the last few, and the newest intact one counts.
//!
//! | name | what it is |
//! |---|---|
//! | `<partner>.<number>.tmp` | a save that is under way, or was when the process died |
//! | `<partner>.<number>.journal` | a record |
//! | `<partner>.<number>.journal.damaged` | a damaged one, set aside when an older one stood in |
//! | `<partner>.<number>.journal.overtaken` | one whose token pair another replica has overtaken |
//!
//! The number has 16 hexadecimal digits and only grows: a save takes one more than any file of the
//! partner has, whatever its kind and state, and never one that was tried before.

use std::fmt;
use std::io;

use tracing::{debug, warn};

use super::dir::{Dir, PROBE, PROBE_TMP};
use crate::store::seal::{self, Fault};
use crate::store::{Loaded, StoreError, StoreKey};

/// One partner's part of the directory.
pub(super) struct Journal<'a> {
    dir: &'a Dir,
    partner: &'a str,
}

/// How far this process has come with a partner.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The highest number that a save has tried.
    tried: u64,
    /// The ticket of the last save that succeeded.
    pub(super) ticket: u64,
}

/// What a look at the files has found.
pub(super) struct Found {
    pub(super) loaded: Option<Loaded>,
    /// Damaged, and newer than what was loaded.
    damaged: Vec<Entry>,
}

impl<'a> Journal<'a> {
    pub(super) fn new(dir: &'a Dir, partner: &'a str) -> Self {
        Self { dir, partner }
    }

    /// Puts a record, already encoded, in place of all earlier ones.
    ///
    /// Whenever the machine dies, a complete record is found afterwards:
    ///
    /// 1. Until the rename, the new record has a name that `look` does not read: the earlier ones
    ///    stand.
    /// 2. The content is on disk before the rename, so whenever the new name is seen, it is seen
    ///    with its whole content, in whatever order the file system writes the two.
    /// 3. Between the rename and the directory's sync either may be found, and both are complete.
    /// 4. Earlier records go only after that sync, so there is never a moment with neither.
    ///
    /// A sync that fails may have thrown the data away and succeed if repeated. It is not: the next
    /// save writes a new file under a new number.
    pub(super) fn save(&self, bytes: &[u8], progress: &mut Progress) -> Result<(), StoreError> {
        self.write(bytes, progress, Kind::Record)
    }

    /// Keeps a record, already encoded, where no `look` takes it for one that counts.
    pub(super) fn set_aside(&self, bytes: &[u8], progress: &mut Progress) -> Result<(), StoreError> {
        self.write(bytes, progress, Kind::Overtaken)
    }

    fn write(&self, bytes: &[u8], progress: &mut Progress, kind: Kind) -> Result<(), StoreError> {
        if bytes.len() > MAX_LEN {
            // It would never be read again.
            return Err(self.dir.error("save a record in", "", io::ErrorKind::FileTooLarge));
        }
        let highest = self.entries()?.first().map_or(0, |entry| entry.number);
        let number = highest.max(progress.tried).checked_add(1).ok_or_else(|| {
            self.dir.error("save a record in", "", io::Error::other("the file numbers are used up"))
        })?;
        progress.tried = number;
        let temporary = self.name(Entry { number, kind: Kind::Temporary });
        let journal = self.name(Entry { number, kind });

        let renamed =
            self.dir.write_new(&temporary, bytes).and_then(|()| self.dir.rename(&temporary, &journal));
        if let Err(error) = renamed {
            if let Err(left) = self.dir.remove(&temporary) {
                debug!(error = %left, "the file of a failed save stays until the next start");
            }
            return Err(error);
        }
        self.dir.sync()?;

        self.prune();
        Ok(())
    }

    /// The newest intact record. Damaged ones that are newer are set aside.
    pub(super) fn load(&self, keys: &[&StoreKey]) -> Result<Option<Loaded>, StoreError> {
        let found = self.look(keys)?;
        for entry in &found.damaged {
            // Need not succeed: while they keep their names, the next load finds the same.
            let name = self.name(*entry);
            let aside = self.name(Entry { kind: Kind::Aside, ..*entry });
            match self.dir.rename(&name, &aside) {
                Ok(()) => warn!(path = %self.dir.path_of(&aside).display(), "kept a damaged record aside"),
                Err(error) => warn!(%error, "cannot keep a damaged record aside"),
            }
        }
        if !found.damaged.is_empty() {
            self.prune();
        }
        Ok(found.loaded)
    }

    /// As [`Journal::load`], but changes nothing.
    pub(super) fn look(&self, keys: &[&StoreKey]) -> Result<Found, StoreError> {
        // Without the lock, files may go between being listed and being read.
        for _ in 0..LOOKS - 1 {
            match self.look_once(keys) {
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        self.look_once(keys)
    }

    fn look_once(&self, keys: &[&StoreKey]) -> Result<Found, StoreError> {
        let entries = self.entries()?;
        let kept = || entries.iter().copied().filter(|entry| entry.kind != Kind::Temporary);
        // All of them before any is used: one that others could read or replace discredits the
        // rest.
        for entry in kept() {
            self.dir.check(&self.name(entry))?;
        }

        let mut damaged = Vec::new();
        for entry in kept().filter(|entry| entry.kind == Kind::Record) {
            let name = self.name(entry);
            let content = self.dir.read(&name, MAX_LEN)?;
            let decoded =
                content.ok_or(Fault::Damaged).and_then(|bytes| seal::decode(&bytes, self.partner, keys));
            match decoded {
                Ok(record) => {
                    // One that was set aside earlier counts until the next save, which takes a
                    // higher number: the process may have died before it wrote down what the damage
                    // means.
                    let aside = kept().any(|e| e.kind == Kind::Aside && e.number > entry.number);
                    let newer_damaged = aside || !damaged.is_empty();
                    return Ok(Found {
                        loaded: Some(Loaded { record, newer_damaged, ..Loaded::default() }),
                        damaged,
                    });
                }
                Err(Fault::Damaged) => damaged.push(entry),
                // An older record must not stand in for these: they may hold the only live token.
                Err(fault) => return Err(self.unusable(&name, &fault)),
            }
        }
        match damaged.first() {
            Some(newest) => Err(self.unusable(&self.name(*newest), &Fault::Damaged)),
            None => Ok(Found { loaded: None, damaged }),
        }
    }

    /// Removes what is beyond the bounds. Failing to do so harms nothing yet.
    fn prune(&self) {
        let prune = || {
            let entries = self.entries()?;
            let bounds =
                [(Kind::Record, KEPT_RECORDS), (Kind::Aside, KEPT_ASIDE), (Kind::Overtaken, KEPT_ASIDE)];
            for (kind, keep) in bounds {
                for entry in entries.iter().filter(|entry| entry.kind == kind).skip(keep) {
                    self.dir.remove(&self.name(*entry))?;
                }
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = prune() {
            debug!(%error, "cannot remove old records");
        }
    }

    /// The partner's files, highest number first.
    fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let names = self.dir.names()?;
        let mut entries: Vec<Entry> = names
            .iter()
            .filter_map(|name| Entry::parse(name))
            .filter_map(|(partner, entry)| (partner == self.partner).then_some(entry))
            .collect();
        entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.number));
        Ok(entries)
    }

    fn name(&self, entry: Entry) -> String {
        format!("{}.{entry}", self.partner)
    }

    fn unusable(&self, name: &str, fault: &Fault) -> StoreError {
        let partner = self.partner;
        let away = format!(
            "move the files {partner}.* away and start over with a new refresh_token or \
             `bearerd token import`"
        );
        let (problem, remedy) = match fault {
            Fault::Damaged => (
                "damaged, and no older record is intact".to_owned(),
                format!("restore it from a copy made since the last refresh, or {away}"),
            ),
            Fault::Newer(_) => (fault.to_string(), format!("run that version, or {away}")),
            Fault::Keyless => (fault.to_string(), format!("configure the key it was sealed with, or {away}")),
            Fault::OtherKey => (
                fault.to_string(),
                format!("configure that key as store.key or store.previous_key, or {away}"),
            ),
            Fault::OtherPartner(_) => (fault.to_string(), "move it to where it belongs".to_owned()),
            Fault::Foreign => (fault.to_string(), format!("run the version that wrote it, or {away}")),
        };
        StoreError::Unusable { path: self.dir.path_of(name), problem, remedy }
    }
}

/// Removes what saves and probes left behind when the process died. Only under the lock.
pub(super) fn clean(dir: &Dir) -> Result<(), StoreError> {
    for name in dir.names()? {
        let temporary = Entry::parse(&name).is_some_and(|(_, entry)| entry.kind == Kind::Temporary);
        if temporary || name == PROBE_TMP || name == PROBE {
            dir.remove(&name)?;
        }
    }
    Ok(())
}

/// A file of a partner; displays as its name without the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    number: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Temporary,
    Record,
    Aside,
    Overtaken,
}

impl Entry {
    /// The partner and the entry that a file's name stands for, if it is one of ours.
    fn parse(name: &str) -> Option<(&str, Self)> {
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

/// The longest record taken, in bytes: several times what two of the longest tokens and all else
/// need.
const MAX_LEN: usize = 256 * 1024;
/// How many records of a partner stay: the one that counts, and two that can stand in for it.
const KEPT_RECORDS: usize = 3;
/// How many records of each kind that do not count are kept for an operator to look at.
const KEPT_ASIDE: usize = 8;
/// How often files may vanish under a look before that counts as an error.
const LOOKS: usize = 5;
