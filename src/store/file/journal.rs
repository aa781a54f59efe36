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

use std::io;

use tracing::{debug, warn};

use super::dir::{Dir, PROBE, PROBE_TMP};
use super::names::{Entry, Kind};
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
    /// The partner's files, highest number first, kept up with after the directory was listed;
    /// `None` if it was not, or what was found could not be used.
    pub(super) files: Option<Vec<Entry>>,
    /// Drawn after the last load or save: a listing from before it is not true any more.
    pub(super) touched: u64,
    /// The highest number that a save has tried.
    pub(super) tried: u64,
    /// The ticket of the last save that succeeded.
    pub(super) ticket: u64,
}

/// A partner's files, highest number first.
type Files = Result<Vec<Entry>, StoreError>;

/// What a look at the files has found.
pub(super) struct Found {
    pub(super) loaded: Option<Loaded>,
    /// The partner's files, highest number first.
    pub(super) files: Vec<Entry>,
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
    ///
    /// `files` are the partner's, and `tried` is the highest number that a save has tried.
    pub(super) fn save(
        &self,
        bytes: &[u8],
        files: &mut Vec<Entry>,
        tried: &mut u64,
    ) -> Result<(), StoreError> {
        self.write(bytes, files, tried, Kind::Record)
    }

    /// Keeps a record, already encoded, where no `look` takes it for one that counts.
    pub(super) fn set_aside(
        &self,
        bytes: &[u8],
        files: &mut Vec<Entry>,
        tried: &mut u64,
    ) -> Result<(), StoreError> {
        self.write(bytes, files, tried, Kind::Overtaken)
    }

    fn write(
        &self,
        bytes: &[u8],
        files: &mut Vec<Entry>,
        tried: &mut u64,
        kind: Kind,
    ) -> Result<(), StoreError> {
        if bytes.len() > MAX_LEN {
            // It would never be read again.
            return Err(self.dir.error("save a record in", "", io::ErrorKind::FileTooLarge));
        }
        let highest = files.first().map_or(0, |entry| entry.number);
        let number = highest.max(*tried).checked_add(1).ok_or_else(|| {
            self.dir.error("save a record in", "", io::Error::other("the file numbers are used up"))
        })?;
        *tried = number;
        let temporary = self.name(Entry { number, kind: Kind::Temporary });
        let record = Entry { number, kind };

        let renamed = self
            .dir
            .write_new(&temporary, bytes)
            .and_then(|()| self.dir.rename(&temporary, &self.name(record)));
        if let Err(error) = renamed {
            if let Err(left) = self.dir.remove(&temporary) {
                debug!(error = %left, "the file of a failed save stays until the next start");
            }
            return Err(error);
        }
        files.insert(0, record);
        self.dir.sync()?;

        self.prune(files);
        Ok(())
    }

    /// The newest intact record, among the files that `list` says there are. Damaged ones that are
    /// newer are set aside.
    pub(super) fn load(&self, list: impl FnMut() -> Files, keys: &[&StoreKey]) -> Result<Found, StoreError> {
        let mut found = self.look(list, keys)?;
        let damaged = std::mem::take(&mut found.damaged);
        for entry in &damaged {
            // Need not succeed: while they keep their names, the next load finds the same.
            let aside = Entry { kind: Kind::Aside, ..*entry };
            let path = self.dir.path_of(&self.name(aside));
            match self.dir.rename(&self.name(*entry), &self.name(aside)) {
                Ok(()) => {
                    warn!(path = %path.display(), "kept a damaged record aside");
                    found.files.iter_mut().filter(|file| *file == entry).for_each(|file| *file = aside);
                }
                Err(error) => warn!(%error, "cannot keep a damaged record aside"),
            }
        }
        if !damaged.is_empty() {
            self.prune(&mut found.files);
        }
        Ok(found)
    }

    /// As [`Journal::load`], but changes nothing.
    pub(super) fn look(
        &self,
        mut list: impl FnMut() -> Files,
        keys: &[&StoreKey],
    ) -> Result<Found, StoreError> {
        // Without the lock, files may go between being listed and being read.
        for _ in 0..LOOKS - 1 {
            match self.look_once(list()?, keys) {
                Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                done => return done,
            }
        }
        self.look_once(list()?, keys)
    }

    fn look_once(&self, files: Vec<Entry>, keys: &[&StoreKey]) -> Result<Found, StoreError> {
        let kept = || files.iter().copied().filter(|entry| entry.kind != Kind::Temporary);
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
                    let loaded = Some(Loaded { record, newer_damaged, ..Loaded::default() });
                    return Ok(Found { loaded, files, damaged });
                }
                Err(Fault::Damaged) => damaged.push(entry),
                // An older record must not stand in for these: they may hold the only live token.
                Err(fault) => return Err(self.unusable(&name, &fault)),
            }
        }
        match damaged.first() {
            Some(newest) => Err(self.unusable(&self.name(*newest), &Fault::Damaged)),
            None => Ok(Found { loaded: None, files, damaged }),
        }
    }

    /// Removes what is beyond the bounds. Failing to do so harms nothing yet.
    fn prune(&self, files: &mut Vec<Entry>) {
        let bounds = [(Kind::Record, KEPT_RECORDS), (Kind::Aside, KEPT_ASIDE), (Kind::Overtaken, KEPT_ASIDE)];
        for (kind, keep) in bounds {
            let mut kept = 0;
            files.retain(|entry| {
                if entry.kind != kind || kept < keep {
                    kept += usize::from(entry.kind == kind);
                    return true;
                }
                let removed = self.dir.remove(&self.name(*entry));
                if let Err(error) = &removed {
                    debug!(%error, "cannot remove an old record");
                }
                removed.is_err()
            });
        }
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

/// The longest record taken, in bytes: several times what two of the longest tokens and all else
/// need.
const MAX_LEN: usize = 256 * 1024;
/// How many records of a partner stay: the one that counts, and two that can stand in for it.
const KEPT_RECORDS: usize = 3;
/// How many records of each kind that do not count are kept for an operator to look at.
const KEPT_ASIDE: usize = 8;
/// How often files may vanish under a look before that counts as an error.
const LOOKS: usize = 5;
