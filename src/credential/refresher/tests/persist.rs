//! Intent before the call, durable before published, and what a crash leaves behind.

use std::sync::Arc;

use crate::clock::Clock as _;
use crate::credential::testing::{FakeStore, LIFE, Rig, Setup, cause, policy, secs};
use crate::credential::{Policy, State};
use crate::partner::Outcome;
use crate::store::{Record, Standing};
use crate::token::Generation;

/// A refresher in its first generation.
async fn first(setup: Setup) -> Rig {
    let rig = setup.start().await;
    rig.until_generation(1).await;
    rig
}

#[tokio::test(start_paused = true)]
async fn s05_a_pair_is_durable_before_it_is_published() {
    let rig = first(Setup::default()).await;
    rig.until_generation(4).await;
    // The first record of every generation was saved while the one before was in use.
    for generation in 1..=4 {
        let first = rig.setup.store.published().into_iter().find(|(saved, _)| saved.0 == generation);
        let (_, published) = first.unwrap();
        assert_eq!(published.map_or(0, |held| held.0), generation - 1);
    }
    let record = rig.setup.store.newest();
    assert_eq!(record.access.unwrap().token.expose(), "a4");
    assert_eq!(record.refresh.unwrap().expose(), "r4");
    assert_eq!((record.intent, record.standing), (None, Standing::Unspent));
}

#[tokio::test(start_paused = true)]
async fn s01_every_call_finds_its_intent_durable() {
    let rig = first(Setup::default()).await;
    let failures = [Outcome::NotSent(cause()), Outcome::Busy { retry_after: None, cause: cause() }];
    rig.setup.partner.answer(failures);
    rig.until_generation(3).await;
    assert_eq!(rig.setup.partner.intents(), [true; 5]);
}

#[tokio::test(start_paused = true)]
async fn s01_the_intent_tells_who_what_and_until_when() {
    let setup = Setup::default();
    setup.partner.close_gate();
    let rig = setup.start().await;
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    let intent = rig.setup.store.newest().intent.unwrap();
    assert_eq!(intent.generation, Generation(0));
    assert_eq!(intent.parent, crate::credential::testing::refresh("seed").digest());
    assert_eq!(intent.deadline.0 - intent.written_at.0, 10_000);
}

#[tokio::test(start_paused = true)]
async fn s02_a_crash_during_the_call_is_not_followed_by_a_blind_second_one() {
    let rig = first(Setup::default()).await;
    rig.setup.partner.close_gate();
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    let setup = rig.crash().await;
    setup.partner.open_gate();
    let rig = setup.start().await;
    // The restart serves at once.
    assert_eq!((rig.token().as_deref(), rig.status().state), (Some("a1"), State::Degraded));
    let expires_at = rig.status().expires_at.unwrap();
    rig.until("the second call", |rig| rig.presented().len() == 3).await;
    assert!(expires_at.since(rig.setup.clock.now()) <= secs(10));
    assert_eq!(rig.presented(), ["seed", "r1", "r1"]);
    rig.until_state(State::Valid).await;
}

#[tokio::test(start_paused = true)]
async fn s06_a_crash_during_a_call_that_came_early_is_mended_within_the_grace() {
    let rig = first(Setup { policy: Policy { grace: secs(30), ..policy() }, ..Setup::default() }).await;
    rig.setup.partner.close_gate();
    let handle = rig.handle.clone();
    // Nothing would be due for nine minutes.
    tokio::spawn(async move { handle.refresh().await });
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    let setup = rig.crash().await;
    setup.partner.open_gate();
    let rig = setup.start().await;
    tokio::time::sleep(secs(1)).await;
    assert_eq!(rig.presented(), ["seed", "r1", "r1"]);
    assert_eq!(rig.status().state, State::Valid);
}

#[tokio::test(start_paused = true)]
async fn s02_a_crash_during_the_call_is_mended_by_a_login_at_once() {
    let rig = first(Setup { login: Setup::login(1), ..Setup::default() }).await;
    rig.setup.partner.close_gate();
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    let setup = rig.crash().await;
    setup.partner.open_gate();
    let rig = setup.start().await;
    rig.until_state(State::Valid).await;
    assert_eq!((rig.presented().len(), rig.setup.partner.logins()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn s05_a_restart_with_a_saved_pair_makes_no_call() {
    let rig = first(Setup::default()).await;
    let rig = rig.crash().await.start().await;
    assert_eq!((rig.token().as_deref(), rig.status().state), (Some("a1"), State::Valid));
    assert_eq!(rig.status().generation, Generation(1));
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.presented(), ["seed"]);
}

#[tokio::test(start_paused = true)]
async fn s07_a_pair_that_cannot_be_saved_serves_from_memory_and_is_saved_later() {
    let rig = first(Setup::default()).await;
    rig.setup.partner.close_gate();
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    let attempts = rig.setup.store.attempts();
    rig.setup.store.fail(5);
    rig.setup.partner.open_gate();
    rig.until_generation(2).await;
    assert_eq!(rig.token().as_deref(), Some("a2"));
    assert_eq!((rig.status().state, rig.status().persisted), (State::Degraded, false));
    assert_eq!(rig.setup.store.newest().generation, Generation(1));
    let began = rig.setup.clock.now();
    rig.until("saved", |rig| rig.status().persisted).await;
    // Four more failures with back-offs of 0.5, 1, 2, 4 and 8 s, less up to half.
    let took = rig.setup.clock.now().since(began);
    assert!((secs(7)..=secs(16)).contains(&took), "{took:?}");
    assert_eq!(rig.setup.store.attempts() - attempts, 6);
    assert_eq!(rig.status().state, State::Valid);
    assert_eq!(rig.setup.store.newest().refresh.unwrap().expose(), "r2");
}

#[tokio::test(start_paused = true)]
async fn s20_a_store_that_cannot_take_the_intent_forbids_the_call_until_the_token_is_dying() {
    let rig = first(Setup::default()).await;
    let expires_at = rig.status().expires_at.unwrap();
    rig.setup.store.fail(usize::MAX);
    rig.until("degraded", |rig| rig.status().state == State::Degraded).await;
    assert!(expires_at.since(rig.setup.clock.now()) > secs(55));
    rig.until("a call", |rig| rig.presented().len() == 2).await;
    let left = expires_at.since(rig.setup.clock.now());
    assert!((secs(9)..=secs(10)).contains(&left), "{left:?}");
    rig.until_generation(2).await;
    assert!(!rig.status().persisted);
    assert_eq!(rig.setup.partner.intents(), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn s20_a_store_that_recovers_lets_the_refresh_through() {
    let rig = first(Setup::default()).await;
    rig.setup.store.fail(3);
    rig.until_generation(2).await;
    assert_eq!(rig.setup.partner.intents(), [true, true]);
    assert_eq!((rig.status().state, rig.status().persisted), (State::Valid, true));
}

#[tokio::test(start_paused = true)]
async fn s20_a_refused_token_is_refreshed_even_if_the_store_cannot_take_the_intent() {
    let rig = first(Setup::default()).await;
    rig.setup.store.fail(usize::MAX);
    let charge = rig.handle.refused("/", Generation(1));
    rig.until_generation(2).await;
    assert_eq!((rig.presented().len(), rig.status().persisted), (2, false));
    drop(charge);
}

#[tokio::test(start_paused = true)]
async fn s02_the_end_of_a_call_that_could_not_be_saved_is_saved_later() {
    for (outcome, standing) in
        [(Outcome::Unknown(cause()), "PerhapsSpent"), (Outcome::Refused(cause()), "Refused")]
    {
        let rig = first(Setup::default()).await;
        rig.setup.partner.close_gate();
        rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
        rig.setup.partner.answer([outcome]);
        rig.setup.store.fail(1);
        rig.setup.partner.open_gate();
        rig.until("an end", |rig| rig.status().last.is_some_and(|last| last.outcome != "renewed")).await;
        // The pair is durable all the while.
        assert!(rig.status().persisted);
        rig.until("saved", |rig| rig.setup.store.newest().intent.is_none()).await;
        assert!(format!("{:?}", rig.setup.store.newest().standing).starts_with(standing));
        assert_eq!(rig.presented().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn s06_a_store_that_was_too_slow_for_the_grace_is_followed_by_no_call() {
    let rig = first(Setup { policy: Policy { grace: secs(30), ..policy() }, ..Setup::default() }).await;
    rig.setup.partner.answer([Outcome::Unknown(cause())]);
    rig.until("unknown", |rig| rig.status().last.is_some_and(|last| last.outcome == "unknown")).await;
    rig.setup.store.slow(secs(31));
    tokio::time::sleep(secs(40)).await;
    assert_eq!(rig.presented(), ["seed", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn s10_behind_a_damaged_record_the_older_refresh_token_is_kept_until_nothing_can_be_lost() {
    let rig = first(Setup::default()).await;
    let setup = rig.crash().await;
    setup.store.damage();
    let rig = setup.start().await;
    let expires_at = rig.status().expires_at.unwrap();
    assert_eq!((rig.token().as_deref(), rig.status().state), (Some("a1"), State::Degraded));
    rig.until("a call", |rig| rig.presented().len() == 2).await;
    assert!(expires_at.since(rig.setup.clock.now()) <= secs(10));
    assert_eq!(rig.presented(), ["seed", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn s15_an_expired_token_from_the_store_is_not_usable() {
    let rig = first(Setup::default()).await;
    let setup = rig.crash().await;
    tokio::time::sleep(LIFE).await;
    setup.partner.close_gate();
    let rig = setup.start().await;
    let deadline = rig.deadline(secs(3));
    let no_token = rig.handle.usable(deadline).await.unwrap_err();
    assert!(no_token.retry_after.is_some());
    rig.setup.partner.open_gate();
    rig.until_state(State::Valid).await;
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_for_the_call_under_way_and_saves_its_pair() {
    let rig = first(Setup::default()).await;
    rig.setup.partner.close_gate();
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    rig.stop.stop().await;
    tokio::time::sleep(secs(5)).await;
    assert!(!rig.task.is_finished());
    rig.setup.partner.open_gate();
    rig.task.await.unwrap();
    assert_eq!(rig.setup.store.newest().refresh.unwrap().expose(), "r2");
}

#[tokio::test(start_paused = true)]
async fn the_end_tries_once_more_to_save_what_is_not_durable() {
    let rig = first(Setup::default()).await;
    rig.setup.partner.close_gate();
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    rig.setup.store.fail(1);
    rig.setup.partner.open_gate();
    rig.stop.stop().await;
    rig.task.await.unwrap();
    assert_eq!(rig.setup.store.newest().refresh.unwrap().expose(), "r2");
    assert!(rig.setup.store.newest().intent.is_none());
}

#[tokio::test(start_paused = true)]
async fn s41_before_a_refusal_is_believed_the_store_is_read_once_more() {
    let rig = first(Setup::default()).await;
    rig.setup.partner.answer([Outcome::Refused(cause())]);
    rig.setup.partner.close_gate();
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    let newest = rig.setup.store.newest();
    let now = rig.setup.clock.wall();
    let mut saved = newest.access.clone().unwrap();
    saved.token = crate::credential::testing::access("other");
    saved.obtained_at = now;
    saved.expires_at.0 = now.0 + 600_000;
    let refresh = Some(crate::credential::testing::refresh("theirs"));
    let generation = Generation(5);
    rig.setup.store.put(Record { generation, access: Some(saved), refresh, intent: None, ..newest });
    rig.setup.partner.open_gate();
    rig.until_generation(5).await;
    assert_eq!((rig.token().as_deref(), rig.status().state), (Some("other"), State::Valid));
    rig.until_generation(6).await;
    assert_eq!(rig.presented(), ["seed", "r1", "theirs"]);
}

#[tokio::test(start_paused = true)]
async fn s41_a_refused_seed_is_not_tried_in_turns_with_what_a_failing_store_holds() {
    let refused = || Outcome::Refused(cause());
    let record = Record { refresh: Some(crate::credential::testing::refresh("old")), ..Record::default() };
    let store = FakeStore::holding(record);
    store.fail(usize::MAX);
    let setup = Setup { store: Arc::clone(&store), ..Setup::default() };
    setup.partner.answer((0..1000).map(|_| refused()));
    let rig = setup.start().await;
    rig.until_state(State::ReauthRequired).await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.presented(), ["old", "seed", "old"]);
}
