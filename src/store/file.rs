//! Records as files in one directory.
//!
//! One process at a time owns the directory, by a lock that the system releases when the process
//! dies. What is acknowledged is on disk; what is not has harmed nothing. Files of the store are
//! nobody else's business: if others could have read or replaced one, the store refuses to start.
//!
//! The work blocks, so it runs on the runtime's blocking threads and goes on to its end even if the
//! caller goes away. It also runs in order: of two saves, the one called later wins, whichever
//! thread is faster.

mod dir;
mod journal;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use self::dir::Dir;
use self::journal::{Journal, Progress};
use super::{BoxFuture, Config, Loaded, Record, Store, StoreError, StoreKey, seal};

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
        let shared = Shared {
            dir,
            key: config.key.clone(),
            previous_key: config.previous_key.clone(),
            tickets: AtomicU64::new(0),
            progress: Mutex::default(),
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
        Ok(Journal::new(&dir, partner).look(&keys)?.loaded)
    }
}

impl Store for FileStore {
    fn load<'a>(&'a self, partner: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>> {
        Box::pin(async move {
            check_name(self.shared.dir.path(), partner)?;
            let name = partner.to_owned();
            self.blocking("load", move |shared| shared.load(&name)).await
        })
    }

    fn save<'a>(&'a self, partner: &'a str, record: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        // Drawn now: the order of the calls decides which record is newer, not the order in which
        // the threads get to them.
        let ticket = self.shared.tickets.fetch_add(1, Ordering::Relaxed) + 1;
        Box::pin(async move {
            check_name(self.shared.dir.path(), partner)?;
            let bytes = self.encode(partner, record)?;
            let name = partner.to_owned();
            self.blocking("save", move |shared| shared.save(&name, &bytes, ticket)).await
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
            self.blocking("save", move |shared| {
                let mut progress = shared.progress();
                let progress = progress.entry(name.clone()).or_default();
                Journal::new(&shared.dir, &name).set_aside(&bytes, progress)
            })
            .await
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
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(done) => done,
            Err(failed) => Err(self.shared.dir.error(action, "", io::Error::other(failed))),
        }
    }
}

/// What the blocking tasks work on. They keep it, and with it the lock, for as long as they run.
#[derive(Debug)]
struct Shared {
    dir: Dir,
    key: Option<StoreKey>,
    previous_key: Option<StoreKey>,
    tickets: AtomicU64,
    /// By partner. Locked for all of a load or a save, so there is one at a time.
    progress: Mutex<HashMap<String, Progress>>,
    _lock: OwnedFd,
}

impl Shared {
    fn load(&self, partner: &str) -> Result<Option<Loaded>, StoreError> {
        let _one_at_a_time = self.progress();
        let keys = keys(self.key.as_ref(), self.previous_key.as_ref());
        Journal::new(&self.dir, partner).load(&keys)
    }

    fn save(&self, partner: &str, bytes: &[u8], ticket: u64) -> Result<(), StoreError> {
        let mut progress = self.progress();
        let progress = progress.entry(partner.to_owned()).or_default();
        if progress.ticket > ticket {
            // A save that was called later is durable already; this one's caller has gone, or was
            // content to be overtaken.
            return Ok(());
        }
        Journal::new(&self.dir, partner).save(bytes, progress)?;
        progress.ticket = ticket;
        Ok(())
    }

    fn progress(&self) -> MutexGuard<'_, HashMap<String, Progress>> {
        // Sound after a panic: the directory is read anew each time, and the counters only grow.
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
