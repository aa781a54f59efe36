//! A replica's own disk. It outlives its process.

use std::time::Duration;

use super::world::{Shared, lock, step};
use crate::credential::testing::store_error;
use crate::store::{BoxFuture, Journal, Loaded, Record, Store, StoreError};
use crate::token::RefreshToken;

/// What is on the disk.
#[derive(Default)]
pub(super) struct Pages {
    pub(super) record: Option<Record>,
    /// What was set aside, oldest first.
    pub(super) aside: Vec<Record>,
    /// How often the wall clock was set back, and how often it had been when the record was drawn up.
    pub(super) set_back: u32,
    drawn_up: u32,
}

impl Pages {
    /// Whether `refresh` is on the disk in any form.
    pub(super) fn holds(&self, refresh: &str) -> bool {
        self.record.iter().chain(&self.aside).any(|record| refresh_of(record) == Some(refresh))
    }
}

pub(super) fn refresh_of(record: &Record) -> Option<&str> {
    record.refresh.as_ref().map(RefreshToken::expose)
}

pub(super) fn access_of(record: &Record) -> Option<&str> {
    record.access.as_ref().map(|access| access.token.expose())
}

/// A replica's handle on its disk.
pub(super) struct SimJournal {
    pub(super) world: Shared,
    pub(super) replica: usize,
}

impl SimJournal {
    async fn write(&self, record: &Record, put: fn(&mut Pages, Record, u32)) -> Result<(), StoreError> {
        let set_back = lock(&self.world).replicas[self.replica].journal.set_back;
        step(&self.world, self.replica).await;
        let fails = {
            let mut world = lock(&self.world);
            let rate = world.plan.journal_faults;
            let fails = world.is_chaos() && world.chance(rate);
            // Only the last sync may have failed.
            if !fails || world.rng.bool() {
                put(&mut world.replicas[self.replica].journal, record.clone(), set_back);
            }
            fails
        };
        step(&self.world, self.replica).await;
        if fails {
            lock(&self.world).count("journal writes failed");
            return Err(store_error());
        }
        lock(&self.world).desk.journaled(record);
        Ok(())
    }
}

impl Store for SimJournal {
    fn load<'a>(&'a self, _partner: &'a str) -> BoxFuture<'a, Result<Option<Loaded>, StoreError>> {
        Box::pin(async move {
            step(&self.world, self.replica).await;
            let mut world = lock(&self.world);
            let pages = &world.replicas[self.replica].journal;
            let (record, set_back) = (pages.record.clone(), pages.set_back != pages.drawn_up);
            if let Some(access) = record.as_ref().and_then(access_of).filter(|_| set_back) {
                // After the wall clock was set back, what a journal says of times is wrong.
                world.desk.may_seem_to_live(access, Duration::MAX);
            }
            Ok(record.map(|record| Loaded { record, ..Loaded::default() }))
        })
    }

    fn save<'a>(&'a self, _partner: &'a str, record: &'a Record) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.write(record, |pages, record, set_back| {
            pages.record = Some(record);
            pages.drawn_up = set_back;
        }))
    }
}

impl Journal for SimJournal {
    fn set_aside<'a>(
        &'a self,
        _partner: &'a str,
        record: &'a Record,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            {
                let mut world = lock(&self.world);
                world.count("pairs set aside");
                world.tell(|_| format!("{} sets {:?} aside", self.replica, refresh_of(record)));
                if let Some(refresh) = refresh_of(record) {
                    world.replicas[self.replica].aside.push(refresh.to_owned());
                }
            }
            self.write(record, |pages, record, _| pages.aside.push(record)).await
        })
    }
}
