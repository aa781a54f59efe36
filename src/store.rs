//! Where a credential lives when bearerd does not run.
//!
//! A store keeps one [`Record`] per partner. What it has acknowledged is durable: a crash of the
//! process or the machine at any later instruction does not lose it.

mod error;
mod file;
mod lineage;
pub mod postgres;
mod seal;
mod shared;
#[cfg(test)]
mod testing;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::sync::Notify;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use self::error::StoreError;
pub use self::file::FileStore;
pub use self::lineage::Lineage;
pub(crate) use self::lineage::{Kinship, kinship, pair};
use self::postgres::Database;
pub(crate) use self::shared::Keys;
use self::shared::NoJournal;
#[cfg(test)]
pub(crate) use self::shared::{
    Draft, Journal, Lease, MemJournal, MemSession, MemTable, OpenIntent, Row, SharedStore, Table, Terms,
    Times, may_claim, may_write,
};
use crate::clock::{Clock, Moment, UnixMillis};
use crate::metrics::StoreMetrics;
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
#[derive(Debug, Clone)]
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

/// Where it is, for messages.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::File => self.path.display().fmt(f),
            Kind::Postgres(database) => database.fmt(f),
        }
    }
}

impl Config {
    /// Whether both are one store, reached in the same way.
    pub fn is_same(&self, other: &Self) -> bool {
        let same_key = |a: &Option<StoreKey>, b: &Option<StoreKey>| match (a, b) {
            (Some(a), Some(b)) => a.is_same(b),
            (None, None) => true,
            _ => false,
        };
        self.kind.is_same(&other.kind)
            && self.path == other.path
            && same_key(&self.key, &other.key)
            && same_key(&self.previous_key, &other.previous_key)
    }
}

impl Kind {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File, Self::File) => true,
            (Self::Postgres(one), Self::Postgres(other)) => one.is_same(other),
            _ => false,
        }
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

/// Opens the store that is configured. May block.
///
/// # Errors
///
/// Whatever the operator has to mend before it can be used. That a database cannot be reached is not
/// an error: what the journal holds serves until it can.
pub async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<dyn Store>, StoreError> {
    let journal = FileStore::open(config)?;
    match (&config.kind, &config.key) {
        (Kind::Postgres(database), Some(key)) => {
            let keys = Keys { key: key.clone(), previous: config.previous_key.clone() };
            Ok(Arc::new(postgres::open(database, Arc::new(journal), keys, clock).await?))
        }
        _ => Ok(Arc::new(journal)),
    }
}

/// What the store that is configured holds of `partners`, in their order. Changes nothing and takes no
/// lock: another bearerd may be running. May block.
///
/// # Errors
///
/// As [`Store::load`].
pub async fn peek(
    config: &Config,
    partners: &[&str],
    clock: Arc<dyn Clock>,
) -> Result<Vec<Option<Loaded>>, StoreError> {
    match (&config.kind, &config.key) {
        (Kind::Postgres(database), Some(key)) => {
            let keys = Keys { key: key.clone(), previous: config.previous_key.clone() };
            let store = postgres::open(database, Arc::new(NoJournal), keys, clock).await?;
            let mut found = Vec::with_capacity(partners.len());
            for partner in partners {
                found.push(Store::load(&store, partner).await?);
            }
            Ok(found)
        }
        _ => partners.iter().map(|partner| FileStore::peek(config, partner)).collect(),
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

    /// Asks whether a call may be made now, and makes durable that it is about to be: `record` holds
    /// its [`Intent`], if it is one that spends a refresh token.
    fn begin<'a>(
        &'a self,
        partner: &'a str,
        record: &'a Record,
        _claim: Claim,
    ) -> BoxFuture<'a, Result<Begun, StoreError>> {
        Box::pin(async move {
            if record.intent.is_some() {
                self.save(partner, record).await?;
            }
            Ok(Begun::Go { by: Moment::NEVER })
        })
    }

    /// As [`Store::save`], after a call that brought no token; nobody is to call before `wait` is
    /// over.
    fn end<'a>(
        &'a self,
        partner: &'a str,
        record: &'a Record,
        _wait: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.save(partner, record)
    }

    /// What only other processes can do to a record.
    fn shared(&self) -> Option<&dyn Shared> {
        None
    }
}

/// What a store can do that several processes use at once.
pub trait Shared: Send + Sync {
    /// The newest record that this process knows of without the others: all there is while the store
    /// cannot be reached.
    fn recall<'a>(&'a self, partner: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>>;

    /// Keeps what other processes have brought, for [`Shared::recall`].
    fn keep<'a>(&'a self, partner: &'a str, record: &'a Record) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Keeps a record whose token pair another process has overtaken, for an operator to look at.
    fn set_aside<'a>(&'a self, partner: &'a str, record: &'a Record)
    -> BoxFuture<'a, Result<(), StoreError>>;

    /// Notified when the partner's record may have changed, or the store can be reached again.
    fn changes(&self, partner: &str) -> Arc<Notify>;

    /// What is counted of the session with the store, if it takes one.
    fn metrics(&self) -> Option<Arc<StoreMetrics>>;
}

/// What is asked for before a call.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// How long the call may take.
    pub timeout: Duration,
    /// An operator asks: another's pause between calls does not count.
    pub ordered: bool,
}

/// Whether a call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// It may, and must have ended by then: from a while after that on others may make one.
    Go {
        /// The deadline, on this process's clock.
        by: Moment,
    },
    /// Another process has the next call, at most until then.
    Wait {
        /// When to ask again.
        until: Moment,
    },
    /// The store holds something else than it did: load, and decide anew.
    Changed,
}

/// What a store found.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The newest record that is intact.
    pub record: Record,
    /// A newer record was there and is damaged, so this one's refresh token may be spent.
    pub newer_damaged: bool,
    /// For so long from now another process has the next call.
    pub held_for: Duration,
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
    /// The token pairs before this one.
    pub lineage: Lineage,
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

    /// Names the token pair that this record holds.
    pub fn pair(&self) -> Digest {
        lineage::pair(self.refresh.as_ref(), self.access.as_ref().map(|access| &access.token))
    }

    /// Whether `held` has come of `token`, which was taken up before: it is none that was taken up itself,
    /// as one is that an operator goes back from.
    pub(crate) fn has_come_of(token: &RefreshToken, held: Option<&RefreshToken>, seeds: &[Digest]) -> bool {
        seeds.contains(&token.digest()) && held.is_some_and(|held| !seeds.contains(&held.digest()))
    }

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

impl Standing {
    /// How much is known.
    fn certainty(self) -> u8 {
        match self {
            Self::Unspent => 0,
            Self::PerhapsSpent { .. } => 1,
            Self::Refused => 2,
        }
    }
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
