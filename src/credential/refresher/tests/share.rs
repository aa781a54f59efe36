//! Processes that share a credential, on a table in memory.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::credential::state::Credential;
use crate::credential::testing::{FakeClock, FakePartner, Setup, cause, policy, refresh, secs, set};
use crate::credential::{RefreshHandle, Refresher, State};
use crate::metrics::Metrics;
use crate::partner::{Outcome, TokenSet};
use crate::store::{
    Begun, Claim, Intent, Journal, Keys, MemJournal, MemSession, MemTable, Record, SharedStore, Standing,
    Store, StoreKey,
};
use crate::token::{Generation, RefreshToken};

const NAME: &str = "acme";

/// A refresher at work.
struct Replica {
    handle: Arc<RefreshHandle>,
    partner: Arc<FakePartner>,
    _task: JoinHandle<()>,
}

impl Replica {
    async fn start(table: &Arc<MemTable>, journal: &Arc<MemJournal>, clock: &Arc<FakeClock>) -> Self {
        let setup = Setup { clock: Arc::clone(clock), seed: None, ..Setup::default() };
        let (_settings, seen) = watch::channel(setup.settings());
        let owner = i64::from(fastrand::u32(..));
        let (store, clock) = (store(table, Arc::clone(journal) as _, clock, owner), Arc::clone(clock));
        let credential = Metrics::new("0").credential(NAME);
        let rng = fastrand::Rng::with_seed(7);
        let loaded = Refresher::load(NAME, seen, Arc::new(store), clock, credential, rng).await;
        let (refresher, handle, stop) = loaded.unwrap();
        let task = tokio::spawn(async move {
            let _alive = (_settings, stop);
            refresher.run().await;
        });
        Self { handle, partner: setup.partner, _task: task }
    }

    fn token(&self) -> Option<String> {
        self.handle.cell().load().map(|token| token.access.expose().to_owned())
    }

    async fn until_token(&self, token: &str) {
        for _ in 0..72_000 {
            if self.token().as_deref() == Some(token) {
                return;
            }
            tokio::time::sleep(secs(1)).await;
        }
        panic!("never {token}, but {:?}", self.token());
    }
}

fn store(
    table: &Arc<MemTable>,
    journal: Arc<dyn Journal>,
    clock: &Arc<FakeClock>,
    owner: i64,
) -> SharedStore<MemSession> {
    let keys = Keys { key: StoreKey::from_hex(&"11".repeat(32)).unwrap(), previous: None };
    SharedStore::new(table.session(), journal, keys, Arc::clone(clock) as Arc<dyn Clock>, owner)
}

/// Another process, which does what a test says.
struct Other {
    store: SharedStore<MemSession>,
    clock: Arc<FakeClock>,
}

impl Other {
    fn new(table: &Arc<MemTable>, clock: &Arc<FakeClock>) -> Self {
        let store = store(table, Arc::<MemJournal>::default(), clock, -1);
        Self { store, clock: Arc::clone(clock) }
    }

    async fn save(&self, credential: &Credential) {
        let _ = Store::load(&self.store, NAME).await.unwrap();
        self.store.save(NAME, &credential.record(&*self.clock)).await.unwrap();
    }

    /// The refresh token in the table turns out to be refused.
    async fn found_refused(&self) {
        let mut record = Store::load(&self.store, NAME).await.unwrap().unwrap().record;
        record.standing = Standing::Refused;
        self.store.save(NAME, &record).await.unwrap();
    }

    /// The refresh token in the table, and what is known of it.
    async fn found(&self) -> (String, Standing) {
        let record = Store::load(&self.store, NAME).await.unwrap().unwrap().record;
        (record.refresh.as_ref().map(RefreshToken::expose).unwrap_or_default().to_owned(), record.standing)
    }
}

/// A pair that was obtained now, which descends from what `before` holds.
fn renewed(before: &Credential, clock: &FakeClock, access: &str, refresh: &str) -> Credential {
    let mut next = before.clone();
    let (now, set) = (clock.now(), TokenSet { lifetime: Some(secs(3600)), ..set(access, refresh) });
    next.renewed(set, now, now, &policy(), 0.0);
    next
}

fn refused(credential: &Credential, clock: &FakeClock) -> Credential {
    let mut next = credential.clone();
    let presented = next.refresh.clone().unwrap();
    next.refresh_refused(&presented, clock.now());
    next
}

fn begin(clock: &FakeClock) -> Credential {
    renewed(&Credential { refresh: Some(refresh("seed")), ..Credential::default() }, clock, "a1", "r1")
}

fn held(record: &Record) -> Option<&str> {
    record.refresh.as_ref().map(RefreshToken::expose)
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_that_another_has_tried_in_vain_waits_until_nothing_is_lost() {
    let (table, clock) = (MemTable::new(), FakeClock::new());
    let other = Other::new(&table, &clock);
    let pair = refused(&begin(&clock), &clock);
    other.save(&pair).await;
    let replica = Replica::start(&table, &Arc::default(), &clock).await;
    assert_eq!(replica.handle.status().state, State::ReauthRequired);
    // Shortly before it may be tried once more, another process does, and is never heard of again.
    tokio::time::sleep(secs(595)).await;
    let intent = Intent {
        generation: pair.generation,
        parent: refresh("r1").digest(),
        owner: 9,
        written_at: clock.wall(),
        deadline: clock.wall(),
    };
    let record = Record { intent: Some(intent), ..pair.record(&*clock) };
    let claim = Claim { timeout: secs(10), ordered: false };
    let begun = Store::begin(&other.store, NAME, &record, claim).await.unwrap();
    assert!(matches!(begun, Begun::Go { .. }), "{begun:?}");
    tokio::time::sleep(secs(3600 - 595 - 60)).await;
    assert_eq!(replica.partner.presented(), [""; 0]);
    assert_eq!(replica.handle.status().state, State::Degraded);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(replica.partner.presented(), ["r1"]);
}

#[tokio::test(start_paused = true)]
async fn an_ancestor_of_a_dead_stranger_is_no_living_pair() {
    let (table, clock) = (MemTable::new(), FakeClock::new());
    let other = Other::new(&table, &clock);
    let first = begin(&clock);
    let second = renewed(&first, &clock, "a2", "r2");
    let third = refused(&renewed(&second, &clock, "a3", "r3"), &clock);
    other.save(&third).await;
    // One comes with a pair of its own, and the other with one that has been spent since.
    let stranger = renewed(&begin(&clock), &clock, "b2", "s2");
    let own = MemJournal::holding(stranger.record(&*clock));
    let one = Replica::start(&table, &own, &clock).await;
    one.until_token("b2").await;
    tokio::time::sleep(secs(1)).await;
    assert_eq!(other.found().await, ("s2".to_owned(), Standing::Unspent));
    other.found_refused().await;
    let late = Replica::start(&table, &MemJournal::holding(second.record(&*clock)), &clock).await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(other.found().await, ("s2".to_owned(), Standing::Refused));
    assert_eq!(late.token().as_deref(), Some("b2"));
}

#[tokio::test(start_paused = true)]
async fn a_pair_kept_aside_that_another_has_gone_on_from_stays_aside() {
    let (table, clock) = (MemTable::new(), FakeClock::new());
    let other = Other::new(&table, &clock);
    let rival = begin(&clock);
    let stranger = renewed(&Credential::default(), &clock, "b1", "s1");
    other.save(&stranger).await;
    let journal = MemJournal::holding(rival.record(&*clock));
    let replica = Replica::start(&table, &journal, &clock).await;
    replica.until_token("b1").await;
    assert_eq!(journal.aside().iter().map(held).collect::<Vec<_>>(), [Some("r1")]);
    // Somebody else had that pair as well, put it in the place of the stranger's, and renewed it.
    let mut next = rival.clone();
    next.lineage.push(stranger.pair());
    let next = renewed(&next, &clock, "a2", "r2");
    other.save(&next).await;
    replica.until_token("a2").await;
    other.save(&refused(&next, &clock)).await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(other.found().await, ("r2".to_owned(), Standing::Refused));
    assert_eq!(replica.partner.presented(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_not_presented_again_from_a_pair_kept_aside() {
    let (table, clock) = (MemTable::new(), FakeClock::new());
    let other = Other::new(&table, &clock);
    let stored = renewed(&Credential::default(), &clock, "b1", "r1");
    other.save(&stored).await;
    // The partner has given the same refresh token out twice.
    let journal = MemJournal::holding(begin(&clock).record(&*clock));
    let replica = Replica::start(&table, &journal, &clock).await;
    replica.until_token("b1").await;
    assert_eq!(journal.aside().len(), 1);
    other.save(&refused(&stored, &clock)).await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(replica.partner.presented(), [""; 0]);
    assert_eq!(replica.handle.status().state, State::ReauthRequired);
}

#[tokio::test(start_paused = true)]
async fn a_pair_that_cannot_be_set_aside_stays_in_the_journal_until_it_can() {
    let (table, clock) = (MemTable::new(), FakeClock::new());
    let other = Other::new(&table, &clock);
    let stored = renewed(&Credential::default(), &clock, "b1", "s1");
    other.save(&stored).await;
    let journal = MemJournal::holding(begin(&clock).record(&*clock));
    journal.fail_aside(true);
    let replica = Replica::start(&table, &journal, &clock).await;
    replica.until_token("b1").await;
    assert_eq!(journal.record().as_ref().and_then(held), Some("r1"));
    journal.fail_aside(false);
    other.save(&renewed(&stored, &clock, "b2", "s2")).await;
    replica.until_token("b2").await;
    tokio::time::sleep(secs(1)).await;
    assert_eq!(journal.record().as_ref().and_then(held), Some("s2"));
    assert_eq!(journal.aside().iter().map(held).collect::<Vec<_>>(), [Some("r1")]);
}

#[tokio::test(start_paused = true)]
async fn a_pair_is_journaled_by_the_wall_clock_of_that_moment() {
    let (table, clock) = (MemTable::new(), FakeClock::new());
    Other::new(&table, &clock).save(&renewed(&Credential::default(), &clock, "b1", "s1")).await;
    let journal = MemJournal::holding(begin(&clock).record(&*clock));
    journal.slow_aside(secs(2));
    let set_back = async {
        tokio::time::sleep(secs(1)).await;
        clock.set_wall_back(secs(7200));
    };
    let (replica, ()) = tokio::join!(Replica::start(&table, &journal, &clock), set_back);
    let expires_at = replica.handle.cell().load().unwrap().expires_at;
    let journaled = journal.record().unwrap().access.unwrap();
    assert_eq!(journaled.expires_at, clock.wall_at(expires_at));
}

#[tokio::test(start_paused = true)]
async fn the_status_tells_of_the_token_that_serves() {
    let (table, clock) = (MemTable::new(), FakeClock::new());
    let other = Other::new(&table, &clock);
    let first = begin(&clock);
    other.save(&first).await;
    let replica = Replica::start(&table, &Arc::default(), &clock).await;
    replica.until_token("a1").await;
    // An operator has loaded a refresh token elsewhere, and it is refused there and here.
    replica.partner.answer([Outcome::Refused(cause())]);
    let mut loaded = first.clone();
    loaded.take_up(refresh("operator"));
    (loaded.access, loaded.generation) = (None, Generation(5));
    other.save(&refused(&loaded, &clock)).await;
    tokio::time::sleep(secs(1)).await;
    assert_eq!(replica.partner.presented(), ["operator"]);
    assert_eq!(replica.handle.status().state, State::ReauthRequired);
    assert_eq!(replica.token().as_deref(), Some("a1"));
    assert_eq!(replica.handle.status().generation, first.generation);
}
