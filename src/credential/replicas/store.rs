//! The shared store as it ships, with a note of what it is told to write: rows are sealed.

use super::database::SimTable;
use super::world::{Shared, lock};
use crate::store::{self, Begun, BoxFuture, Claim, Loaded, Record, SharedStore, Store, StoreError};

pub(super) struct Noted {
    pub(super) store: SharedStore<SimTable>,
    pub(super) world: Shared,
    pub(super) replica: usize,
}

impl Noted {
    fn note(&self, record: &Record) {
        lock(&self.world).replicas[self.replica].writes = record.clone();
    }
}

impl Store for Noted {
    fn load<'a>(&'a self, partner: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>> {
        Store::load(&self.store, partner)
    }

    fn save<'a>(&'a self, partner: &'a str, record: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        self.note(record);
        self.store.save(partner, record)
    }

    fn begin<'a>(
        &'a self,
        partner: &'a str,
        record: &'a Record,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Begun, StoreError>> {
        self.note(record);
        Store::begin(&self.store, partner, record, claim)
    }

    fn end<'a>(
        &'a self,
        partner: &'a str,
        record: &'a Record,
        wait: std::time::Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.note(record);
        self.store.end(partner, record, wait)
    }

    fn shared(&self) -> Option<&dyn store::Shared> {
        self.store.shared()
    }
}
