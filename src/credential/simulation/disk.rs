//! A store that forgets what was not synced.

use super::partner::SEED;
use super::world::{Shared, World, lock, step};
use crate::clock::Moment;
use crate::credential::testing::store_error;
use crate::store::{BoxFuture, Loaded, Record, Standing, Store, StoreError};
use crate::token::RefreshToken;

/// What is on the disk.
#[derive(Default)]
pub(super) struct Disk {
    /// The newest durable record.
    durable: Option<Record>,
    /// Written and not synced: a crash keeps it, loses it or damages it.
    pending: Option<Record>,
    /// A record newer than the durable one is there and damaged.
    newer_damaged: bool,
    /// So many more saves fail.
    failing: u32,
    /// When the last save failed.
    failed_at: Moment,
}

impl Disk {
    pub(super) fn durable(&self) -> Option<&Record> {
        self.durable.as_ref()
    }

    /// The refresh token that a restart would find: with an empty store, that of the configuration.
    pub(super) fn held(&self) -> Option<&str> {
        let Some(record) = &self.durable else { return Some(SEED) };
        record.refresh.as_ref().map(RefreshToken::expose)
    }

    pub(super) fn failed_at(&self) -> Moment {
        self.failed_at
    }

    /// Whether a restart would know that `token`, which it would find, may be spent.
    pub(super) fn tells(&self, token: &str) -> bool {
        let Some(record) = &self.durable else { return false };
        self.newer_damaged || record.standing != Standing::Unspent || self.has_intent(token)
    }

    /// Whether a restart would know that `token`, which it would find, was refused, and no more.
    pub(super) fn tells_refused(&self, token: &str) -> bool {
        let refused = self.durable.as_ref().is_some_and(|record| record.standing == Standing::Refused);
        refused && !self.newer_damaged && !self.has_intent(token)
    }

    /// Whether it is on record that `token` is about to be presented.
    pub(super) fn has_intent(&self, token: &str) -> bool {
        let parent = RefreshToken::parse(token).unwrap().digest();
        self.durable.as_ref().and_then(|record| record.intent).is_some_and(|intent| intent.parent == parent)
    }
}

/// The machine dies: what becomes of what was not synced.
pub(super) fn crash(world: &mut World) {
    let Some(pending) = world.disk.pending.take() else { return };
    match world.rng.u8(..20) {
        0..10 => {
            world.tell(|_| "the write that was under way survived".to_owned());
            world.disk.durable = Some(pending);
            world.disk.newer_damaged = false;
        }
        // A real file is renamed after its sync, so this takes a bad disk.
        10 if world.disk.durable.is_some() && world.is_chaos() => {
            world.tell(|_| "the write that was under way is damaged".to_owned());
            world.disk.newer_damaged = true;
            world.excuse("a damaged record: when its token was presented is unknown, so no grace counts");
        }
        _ => world.tell(|_| "the write that was under way is gone".to_owned()),
    }
}

/// A handle on the world's disk.
pub(super) struct SimStore(pub(super) Shared);

/// A save or a load that is under way.
struct UnderWay<'a>(&'a Shared);

impl<'a> UnderWay<'a> {
    fn new(world: &'a Shared) -> Self {
        lock(world).busy += 1;
        Self(world)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut world = lock(self.0);
        world.busy -= 1;
        if world.crashing {
            world.tally.crashes_in_saves += 1;
        }
    }
}

impl SimStore {
    fn fails(&self) -> bool {
        let mut world = lock(&self.0);
        if !world.is_chaos() {
            world.disk.failing = 0;
            return false;
        }
        let rate = world.plan.store_faults;
        if world.disk.failing == 0 && world.chance(rate) {
            world.disk.failing = world.rng.u32(1..9);
        }
        let fails = world.disk.failing > 0;
        world.disk.failing = world.disk.failing.saturating_sub(1);
        fails
    }

    async fn write(&self, record: &Record) -> Result<(), StoreError> {
        let _under_way = UnderWay::new(&self.0);
        let fails = self.fails();
        step(&self.0, true).await;
        if fails && lock(&self.0).rng.bool() {
            return Err(store_error());
        }
        lock(&self.0).disk.pending = Some(record.clone());
        step(&self.0, true).await;
        if fails {
            // Only the last sync failed: either this record stands or the one before it.
            let mut world = lock(&self.0);
            let pending = world.disk.pending.take();
            if world.rng.bool() {
                world.disk.durable = pending;
            }
            return Err(store_error());
        }
        {
            let mut world = lock(&self.0);
            world.disk.durable = world.disk.pending.take();
            world.disk.newer_damaged = false;
        }
        step(&self.0, false).await;
        Ok(())
    }
}

impl Store for SimStore {
    fn load<'a>(&'a self, _partner: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>> {
        Box::pin(async move {
            step(&self.0, false).await;
            let mut world = lock(&self.0);
            // Only while it runs: without a record there is no start.
            if world.handle.is_some() && world.is_chaos() && world.disk.failing > 0 && world.rng.bool() {
                return Err(store_error());
            }
            let newer_damaged = world.disk.newer_damaged;
            Ok(world.disk.durable.clone().map(|record| Loaded { record, newer_damaged, ..Loaded::default() }))
        })
    }

    fn save<'a>(&'a self, _partner: &'a str, record: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let told = |result: &str| {
                format!(
                    "save generation {} {:?} intent={}: {result}",
                    record.generation,
                    record.standing,
                    record.intent.is_some()
                )
            };
            lock(&self.0).tell(|_| told("begins"));
            let result = self.write(record).await;
            let mut world = lock(&self.0);
            world.tell(|_| told(if result.is_ok() { "durable" } else { "failed" }));
            if result.is_err() {
                world.tally.not_saved += 1;
                world.disk.failed_at = world.now();
            }
            result
        })
    }
}
