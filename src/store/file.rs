//! Records as files in one directory.
//!
//! One process at a time owns the directory, by a lock that the system releases when the process
//! dies. What is acknowledged is on disk; what is not has harmed nothing. Files of the store are
//! nobody else's business: if others could have read or replaced one, the store refuses to start.
//!
//! The work blocks, so it runs on threads of the store's own and goes on to its end even if the
//! caller goes away. For one partner it also runs in order: of two saves, the one called later wins,
//! whichever thread is faster. Partners wait for each other no longer than the disk has them wait. Of
//! the intents of those who have not called yet few are written at once, so that a pair that is in
//! hand does not wait behind all of them: however slow the disk is, it holds back those who begin
//! before those who end.
//!
//! Since nobody else may change the directory, a partner's files are listed when it is loaded, and
//! known from then on.

mod dir;
mod journal;
mod names;
#[cfg(test)]
mod tests;
mod threads;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use self::dir::Dir;
use self::journal::{Journal, Progress};
use self::names::{Entry, Listing};
use self::threads::Threads;
use super::{Begun, BoxFuture, Claim, Config, Loaded, Record, Store, StoreError, StoreKey, seal};
use crate::clock::Moment;

/// The store of kind `file`. Holds the directory's lock until it is dropped and its last save is
/// done.
#[derive(Debug)]
pub struct FileStore {
    shared: Arc<Shared>,
}

impl FileStore {
    /// Takes the directory at `config.path`, and makes it first if it is not there.
    ///
    /// Finds out here whether the store can be written, before a refresh token is spent that could
    /// not be replaced. What crashed saves have left behind is removed. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if another process has it, [`StoreError::Unsafe`] if others could use
    /// it, [`StoreError::Io`] if it cannot be written.
    pub fn open(config: &Config) -> Result<Self, StoreError> {
        let dir = Dir::create(&config.path)?;
        let lock = dir.lock(LOCK)?;
        journal::clean(&dir)?;
        dir.probe()?;
        let threads = Threads::new().map_err(|source| dir.error("start the threads for", "", source))?;
        let shared = Shared {
            dir,
            listing: Listing::default(),
            threads,
            key: config.key.clone(),
            previous_key: config.previous_key.clone(),
            tickets: AtomicU64::new(0),
            progress: Mutex::default(),
            intents: Semaphore::new(INTENTS),
            _lock: lock,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What [`Store::load`] would find, without the lock and without changing anything: not even
    /// damaged records are set aside. Another bearerd may be running. Blocks.
    ///
    /// # Errors
    ///
    /// As [`Store::load`]. A directory that does not exist is `None`.
    pub fn peek(config: &Config, partner: &str) -> Result<Option<Loaded>, StoreError> {
        check_name(&config.path, partner)?;
        let Some(dir) = Dir::open(&config.path)? else {
            return Ok(None);
        };
        let keys = keys(config.key.as_ref(), config.previous_key.as_ref());
        let list = || Ok(names::list(&dir)?.remove(partner).unwrap_or_default());
        Ok(Journal::new(&dir, partner).look(list, &keys)?.loaded)
    }
}

impl Store for FileStore {
    fn load<'a>(&'a self, partner: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>> {
        let ticket = self.shared.draw();
        Box::pin(async move {
            check_name(self.shared.dir.path(), partner)?;
            let name = partner.to_owned();
            self.blocking("load", move |shared| shared.load(&name, ticket)).await
        })
    }

    fn save<'a>(&'a self, partner: &'a str, record: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        // Drawn now: the order of the calls decides which record is newer, not the order in which
        // the threads get to them.
        let ticket = self.shared.draw();
        Box::pin(async move {
            check_name(self.shared.dir.path(), partner)?;
            let bytes = self.encode(partner, record)?;
            let name = partner.to_owned();
            self.blocking("save", move |shared| shared.save(&name, &bytes, ticket)).await
        })
    }

    fn begin<'a>(
        &'a self,
        partner: &'a str,
        record: &'a Record,
        _claim: Claim,
    ) -> BoxFuture<'a, Result<Begun, StoreError>> {
        Box::pin(async move {
            if record.intent.is_some() {
                // Never closed; and without a turn the intent would be written all the same.
                let _turn = self.shared.intents.acquire().await;
                self.save(partner, record).await?;
            }
            Ok(Begun::Go { by: Moment::NEVER })
        })
    }
}

impl super::shared::Journal for FileStore {
    fn set_aside<'a>(
        &'a self,
        partner: &'a str,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            check_name(self.shared.dir.path(), partner)?;
            let bytes = self.encode(partner, record)?;
            let name = partner.to_owned();
            let ticket = self.shared.draw();
            self.blocking("save", move |shared| shared.set_aside(&name, &bytes, ticket)).await
        })
    }
}

impl FileStore {
    fn encode(&self, partner: &str, record: &Record) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        seal::encode(record, partner, self.shared.key.as_ref())
            .map_err(|source| self.shared.dir.error("seal a record for", "", source))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        match self.shared.threads.run(move || work(&shared)).await {
            Ok(done) => done,
            Err(failed) => Err(self.shared.dir.error(action, "", io::Error::other(failed))),
        }
    }
}

/// What the blocking tasks work on. They keep it, and with it the lock, for as long as they run.
#[derive(Debug)]
struct Shared {
    dir: Dir,
    listing: Listing,
    key: Option<StoreKey>,
    previous_key: Option<StoreKey>,
    tickets: AtomicU64,
    /// By partner. A partner's is locked for all of a load or a save, so there is one of these at a
    /// time; those of different partners share the waits for the disk.
    progress: Mutex<HashMap<Box<str>, Arc<Mutex<Progress>>>>,
    threads: Threads,
    /// The turns of intents.
    intents: Semaphore,
    _lock: OwnedFd,
}

impl Shared {
    fn load(&self, partner: &str, ticket: u64) -> Result<Option<Loaded>, StoreError> {
        let progress = self.progress(partner);
        let mut progress = lock(&progress);
        let Progress { files, touched, .. } = &mut *progress;
        *files = None;
        *touched = ticket.max(*touched);
        let list = || {
            let files = self.list(partner, *touched);
            *touched = self.draw();
            files
        };
        let keys = keys(self.key.as_ref(), self.previous_key.as_ref());
        let found = Journal::new(&self.dir, partner).load(list, &keys);
        *touched = self.draw();
        let found = found?;
        *files = Some(found.files);
        Ok(found.loaded)
    }

    fn save(&self, partner: &str, bytes: &[u8], ticket: u64) -> Result<(), StoreError> {
        let progress = self.progress(partner);
        let mut progress = lock(&progress);
        let Progress { files, touched, tried, ticket: last } = &mut *progress;
        if *last > ticket {
            // A save that was called later is durable already; this one's caller has gone, or was
            // content to be overtaken.
            return Ok(());
        }
        if files.is_none() {
            *files = Some(self.list(partner, ticket.max(*touched))?);
        }
        let saved = Journal::new(&self.dir, partner).save(bytes, files.get_or_insert_default(), tried);
        *touched = self.draw();
        saved?;
        *last = ticket;
        Ok(())
    }

    fn set_aside(&self, partner: &str, bytes: &[u8], ticket: u64) -> Result<(), StoreError> {
        let progress = self.progress(partner);
        let mut progress = lock(&progress);
        let Progress { files, touched, tried, .. } = &mut *progress;
        if files.is_none() {
            *files = Some(self.list(partner, ticket.max(*touched))?);
        }
        let kept = Journal::new(&self.dir, partner).set_aside(bytes, files.get_or_insert_default(), tried);
        *touched = self.draw();
        kept
    }

    fn list(&self, partner: &str, ticket: u64) -> Result<Vec<Entry>, StoreError> {
        self.listing.take(&self.dir, partner, ticket, || self.draw())
    }

    fn draw(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::AcqRel) + 1
    }

    fn progress(&self, partner: &str) -> Arc<Mutex<Progress>> {
        Arc::clone(lock(&self.progress).entry(partner.into()).or_default())
    }
}

/// Sound after a panic: the counters only grow, and what is known of the files is written last.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names are checked when the configuration is read; once more here, because they become file
/// names.
fn check_name(dir: &Path, partner: &str) -> Result<(), StoreError> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !partner.is_empty() && partner.bytes().all(allowed) {
        return Ok(());
    }
    let source = io::Error::new(io::ErrorKind::InvalidInput, "a partner's name is made of a-z, 0-9 and -");
    Err(StoreError::Io { action: "use", path: PathBuf::from(dir), source })
}

/// The keys to try, in this order.
fn keys<'a>(key: Option<&'a StoreKey>, previous: Option<&'a StoreKey>) -> Vec<&'a StoreKey> {
    key.into_iter().chain(previous).collect()
}

const LOCK: &str = "lock";
/// How many intents are written at once: half of what the threads can do.
const INTENTS: usize = 16;
