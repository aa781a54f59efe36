//! Where a credential lives when bearerd does not run.
//!
//! A store keeps one [`Record`] per partner. What it has acknowledged is durable: a crash of the
//! process or the machine at any later instruction does not lose it.

mod file;
pub mod postgres;
mod seal;
#[cfg(test)]
mod testing;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use self::file::FileStore;
use self::postgres::Database;
use crate::clock::UnixMillis;
use crate::token::{AccessToken, Digest, Generation, RefreshToken};

/// A boxed future, because stores and partners are chosen at run time and a refresh is rare.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The section `[store]`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the records that count are.
    pub kind: Kind,
    /// The directory that holds the journal of every partner.
    pub path: PathBuf,
    /// AES-256-GCM at rest; without it records carry a SHA-256 only. Records from before there was
    /// a key are still read, and sealed by the next save.
    pub key: Option<StoreKey>,
    /// Still read, never written, while a key is being changed.
    pub previous_key: Option<StoreKey>,
}

/// Where the records that count are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// In the journal.
    File,
    /// In a database that several bearerds share; the journal holds what is not there yet. There
    /// always is a key.
    Postgres(Database),
}

/// The 32 bytes of `store.key`. Wiped on drop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct StoreKey([u8; 32]);

impl Config {
    /// Whether both are one store, reached in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_key = |a: &Option<StoreKey>, b: &Option<StoreKey>| match (a, b) {
            (Some(a), Some(b)) => a.is_same(b),
            (None, None) => true,
            _ => false,
        };
        self.kind == other.kind
            && self.path == other.path
            && same_key(&self.key, &other.key)
            && same_key(&self.previous_key, &other.previous_key)
    }
}

impl StoreKey {
    /// Takes 64 hexadecimal digits of either case.
    pub fn from_hex(digits: &str) -> Option<Self> {
        let mut key = [0; 32];
        const_hex::decode_to_slice(digits, &mut key).ok()?;
        Some(Self(key))
    }

    /// Whether both are one key.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(\"...\")")
    }
}

/// Keeps one record per partner. `partner` is the partner's configured name.
pub trait Store: Send + Sync {
    /// The newest intact record, or `None` if there never was one.
    ///
    /// If a newer record is damaged, [`Loaded::newer_damaged`] says so, and the damaged one is kept
    /// aside under another name.
    fn load<'a>(&'a self, partner: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>>;

    /// Makes `record` durable in place of all earlier ones. Of two saves the one called later wins.
    ///
    /// On an error the earlier ones still stand; or this one does, if only its last sync failed.
    /// Either way a complete record does, and another save is the remedy. To drop the future
    /// cancels nothing that has begun.
    fn save<'a>(&'a self, partner: &'a str, record: &'a Record) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// What a store found.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The newest record that is intact.
    pub record: Record,
    /// A newer record was there and is damaged, so this one's refresh token may be spent.
    pub newer_damaged: bool,
}

/// Everything about a partner's credential that must outlive the process.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// How many access tokens there have been.
    pub generation: Generation,
    /// The access token of this generation, so that a restart serves at once.
    pub access: Option<SavedAccess>,
    /// The refresh token to present next.
    pub refresh: Option<RefreshToken>,
    /// What is known of whether `refresh` has been spent.
    pub standing: Standing,
    /// A call that was about to be made when this was written, and whose end is not recorded.
    pub intent: Option<Intent>,
    /// Digests of the refresh tokens that came from an operator, as a seed or loaded, oldest
    /// first; at most [`Record::SEEDS`].
    pub seeds: Vec<Digest>,
    /// The digest of the login secrets that were refused, so that they are not tried again.
    pub login_refused: Option<Digest>,
}

impl Record {
    /// How many digests of seeds are kept.
    pub const SEEDS: usize = 64;

    /// Adds a digest to those that are kept.
    pub fn remember_seed(seeds: &mut Vec<Digest>, seed: Digest) {
        if !seeds.contains(&seed) {
            seeds.push(seed);
        }
        if seeds.len() > Self::SEEDS {
            seeds.remove(0);
        }
    }
}

/// An access token with its life on the wall clock, which is all that makes sense across a restart.
#[derive(Debug, Clone)]
pub struct SavedAccess {
    /// The token.
    pub token: AccessToken,
    /// When the call that brought it was sent.
    pub obtained_at: UnixMillis,
    /// When it expires.
    pub expires_at: UnixMillis,
}

/// What is known of a refresh token that is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Standing {
    /// Never presented, or presented only in calls that were provably not processed.
    #[default]
    Unspent,
    /// Presented in a call whose outcome is unknown. Spent, or not.
    PerhapsSpent {
        /// When it was first presented.
        since: UnixMillis,
    },
    /// The partner refused it.
    Refused,
}

/// Written before the first byte of a call that spends a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intent {
    /// The generation that the call starts from.
    pub generation: Generation,
    /// The digest of the refresh token presented.
    pub parent: Digest,
    /// Who makes the call: drawn anew by every process.
    pub owner: u64,
    /// When the call was about to be sent.
    pub written_at: UnixMillis,
    /// When the owner will have given up, whatever happens.
    pub deadline: UnixMillis,
}

/// Why a store could not do its work. No variant holds anything of a record's content.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused. Waiting may help (a full disk) or not (a read-only mount).
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// What was being done, such as `write` or `sync`.
        action: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process holds the directory's lock.
    #[error("{}: in use by another bearerd; give each its own store.path", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The file or directory could be read, changed or replaced by somebody else. The operator must
    /// mend it.
    #[error("{}: {problem}; {remedy}", path.display())]
    Unsafe {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// There are records, and none of them can be used. The operator must decide; nothing was
    /// touched.
    #[error("{}: {problem}; {remedy}", path.display())]
    Unusable {
        /// The newest of the files, or the newest that is not just damaged.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The database cannot be reached, or takes no writes, or cannot do its work now. Waiting may
    /// help.
    #[error("{database}: {problem}")]
    Unreachable {
        /// `host:port/name`.
        database: String,
        /// What is the matter.
        problem: String,
    },
    /// The database refuses, and goes on refusing until the operator has mended something.
    #[error("{database}: {problem}; {remedy}")]
    Database {
        /// `host:port/name`.
        database: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
}
