//! Orders and imports.

use crate::clock::Clock as _;
use crate::credential::testing::{Rig, Setup, access, cause, refresh, secs};
use crate::credential::{ImportError, Pair, State};
use crate::partner::Outcome;
use crate::store::Standing;
use crate::token::Generation;

fn refused() -> Outcome {
    Outcome::Refused(cause())
}

fn pair(token: &str) -> Pair {
    Pair { refresh: refresh(token), access: None }
}

async fn first() -> Rig {
    let rig = Setup::default().start().await;
    rig.until_generation(1).await;
    rig
}

#[tokio::test(start_paused = true)]
async fn s41_an_operator_can_load_a_new_pair_without_a_restart() {
    let setup = Setup::default();
    setup.partner.answer([refused()]);
    let rig = setup.start().await;
    rig.until_state(State::ReauthRequired).await;
    let status = rig.handle.import(pair("new")).await.unwrap();
    assert_eq!(status.state, State::Expired);
    let record = rig.setup.store.newest();
    assert_eq!((record.refresh.unwrap().expose(), record.standing), ("new", Standing::Unspent));
    rig.until_state(State::Valid).await;
    assert_eq!(rig.presented(), ["seed", "new"]);
}

#[tokio::test(start_paused = true)]
async fn an_imported_refresh_token_is_presented_at_once() {
    let rig = first().await;
    rig.handle.import(pair("new")).await.unwrap();
    rig.until_generation(2).await;
    assert_eq!(rig.presented(), ["seed", "new"]);
    assert!(rig.setup.clock.now().since(crate::credential::testing::START) < secs(5));
}

#[tokio::test(start_paused = true)]
async fn an_imported_access_token_serves_at_once_and_is_not_refreshed_before_its_time() {
    let rig = first().await;
    let whole = Pair { access: Some((access("new-access"), secs(3600))), ..pair("new") };
    let status = rig.handle.import(whole).await.unwrap();
    assert_eq!((status.state, status.generation), (State::Valid, Generation(2)));
    assert_eq!(rig.token().as_deref(), Some("new-access"));
    assert_eq!(rig.setup.store.newest().access.unwrap().token.expose(), "new-access");
    tokio::time::sleep(secs(3000)).await;
    assert_eq!(rig.presented(), ["seed"]);
    rig.until_generation(3).await;
    assert_eq!(rig.presented(), ["seed", "new"]);
}

#[tokio::test(start_paused = true)]
async fn an_import_that_cannot_be_saved_leaves_everything_as_it_was() {
    let rig = first().await;
    let before = rig.status();
    rig.setup.store.fail(1);
    let whole = Pair { access: Some((access("new-access"), secs(3600))), ..pair("new") };
    let error = rig.handle.import(whole).await.unwrap_err();
    assert!(matches!(error, ImportError::Store(_)));
    assert_eq!(rig.status(), before);
    assert_eq!(rig.token().as_deref(), Some("a1"));
    assert_eq!(rig.setup.store.newest().refresh.unwrap().expose(), "r1");
    rig.until_generation(2).await;
    assert_eq!(rig.presented(), ["seed", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn an_import_during_a_call_waits_for_its_end_and_then_counts() {
    let rig = first().await;
    rig.setup.partner.close_gate();
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    let handle = rig.handle.clone();
    let import = tokio::spawn(async move { handle.import(pair("new")).await.is_ok() });
    tokio::time::sleep(secs(1)).await;
    assert!(!import.is_finished());
    rig.setup.partner.open_gate();
    assert!(import.await.unwrap());
    rig.until_generation(3).await;
    assert_eq!(rig.presented(), ["seed", "r1", "new"]);
}

#[tokio::test(start_paused = true)]
async fn an_import_that_is_refused_is_shown_as_such() {
    let rig = first().await;
    rig.setup.partner.answer([refused()]);
    rig.handle.import(pair("dead")).await.unwrap();
    rig.until_state(State::ReauthRequired).await;
    assert!(rig.status().is_usable(rig.setup.clock.now()));
}

#[tokio::test(start_paused = true)]
async fn an_order_refreshes_at_once_and_is_answered_when_the_call_has_ended() {
    let rig = first().await;
    let status = rig.handle.refresh().await.unwrap();
    assert_eq!((status.state, status.generation), (State::Valid, Generation(2)));
    assert_eq!(rig.presented(), ["seed", "r1"]);
    rig.setup.partner.answer([Outcome::NotSent(cause())]);
    let status = rig.handle.refresh().await.unwrap();
    assert_eq!(status.last.unwrap().outcome, "not_sent");
    // It stands until a call has brought a token.
    rig.until_generation(3).await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.presented().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_order_sets_aside_a_back_off_and_a_refusal() {
    let setup = Setup::default();
    setup.partner.answer([refused()]);
    let rig = setup.start().await;
    rig.until_state(State::ReauthRequired).await;
    assert_eq!(rig.handle.refresh().await.unwrap().state, State::Valid);
    assert_eq!(rig.presented(), ["seed", "seed"]);
    rig.setup.partner.answer([Outcome::Busy { retry_after: Some(secs(60)), cause: cause() }]);
    rig.handle.refresh().await.unwrap();
    assert_eq!(rig.handle.refresh().await.unwrap().generation, Generation(2));
}

#[tokio::test(start_paused = true)]
async fn an_order_that_nothing_can_be_done_about_is_answered_at_once() {
    let rig = Setup { seed: None, ..Setup::default() }.start().await;
    assert_eq!(rig.handle.refresh().await.unwrap().state, State::ReauthRequired);
    assert!(rig.presented().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_order_does_not_present_a_token_that_may_be_spent_while_the_access_token_lives() {
    let rig = first().await;
    rig.setup.partner.answer([Outcome::Unknown(cause())]);
    assert_eq!(rig.handle.refresh().await.unwrap().state, State::Degraded);
    assert_eq!(rig.handle.refresh().await.unwrap().state, State::Degraded);
    assert_eq!(rig.presented(), ["seed", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn after_the_end_operators_are_told_so() {
    let rig = first().await;
    rig.stop.stop().await;
    rig.task.await.unwrap();
    assert!(rig.handle.refresh().await.is_none());
    assert!(matches!(rig.handle.import(pair("new")).await, Err(ImportError::Ended)));
    rig.stop.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_partner_that_was_taken_out_ends_its_refresher() {
    let rig = first().await;
    drop(rig.settings);
    rig.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_loaded_token_that_is_configured_as_seed_as_well_is_presented_once() {
    let rig = Setup { seed: None, ..Setup::default() }.start().await;
    rig.until_state(State::ReauthRequired).await;
    rig.setup.partner.answer([refused()]);
    rig.handle.import(pair("seed")).await.unwrap();
    rig.until_state(State::ReauthRequired).await;
    rig.settings.send_modify(|settings| settings.seed = Some(refresh("seed")));
    tokio::time::sleep(secs(30)).await;
    assert_eq!(rig.presented(), ["seed"]);
}
