//! What follows each outcome of a call, and what is shown of it.

use crate::clock::Clock as _;
use crate::credential::testing::{LIFE, Rig, Setup, cause, policy, refresh, secs, set};
use crate::credential::{Policy, Settings, State};
use crate::partner::{Outcome, TokenSet};
use crate::store::Standing;
use crate::token::Generation;

fn unknown() -> Outcome {
    Outcome::Unknown(cause())
}
fn refused() -> Outcome {
    Outcome::Refused(cause())
}

async fn first(setup: Setup) -> Rig {
    let rig = setup.start().await;
    rig.until_generation(1).await;
    rig
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_sent_again_with_the_same_token_after_a_growing_back_off() {
    let setup = Setup::default();
    setup.partner.answer((0..6).map(|_| Outcome::NotSent(cause())));
    let rig = setup.start().await;
    let began = rig.setup.clock.now();
    rig.until_state(State::Valid).await;
    // 0.5 + 1 + 2 + 4 + 8 + 16 s, less up to half.
    let took = rig.setup.clock.now().since(began);
    assert!((secs(15)..=secs(33)).contains(&took), "{took:?}");
    assert_eq!(rig.presented(), ["seed"; 7]);
    assert_eq!(rig.setup.partner.logins(), 0);
}

#[tokio::test(start_paused = true)]
async fn s42_a_busy_partner_is_left_alone_for_as_long_as_it_asks() {
    let rig = first(Setup { login: Setup::login(1), ..Setup::default() }).await;
    rig.setup.partner.answer([Outcome::Busy { retry_after: Some(secs(40)), cause: cause() }]);
    rig.until("busy", |rig| rig.status().last.is_some_and(|last| last.outcome == "busy")).await;
    assert_eq!((rig.status().state, rig.token().as_deref()), (State::Degraded, Some("a1")));
    let began = rig.setup.clock.now();
    assert!(rig.status().next_at.since(began) > secs(39));
    rig.until_state(State::Valid).await;
    let took = rig.setup.clock.now().since(began);
    assert!((secs(39)..=secs(45)).contains(&took), "{took:?}");
    assert_eq!(
        (rig.presented(), rig.setup.partner.logins()),
        (vec!["seed".into(), "r1".into(), "r1".into()], 0)
    );
}

#[tokio::test(start_paused = true)]
async fn s42_what_the_partner_asks_for_does_not_shorten_the_back_off() {
    let setup = Setup::default();
    setup.partner.answer((0..5).map(|_| Outcome::Busy { retry_after: Some(secs(0)), cause: cause() }));
    let rig = setup.start().await;
    let began = rig.setup.clock.now();
    rig.until_state(State::Valid).await;
    assert!(rig.setup.clock.now().since(began) >= secs(7));
}

#[tokio::test(start_paused = true)]
async fn s06_within_the_grace_a_lost_answer_is_asked_for_again() {
    let rig = first(Setup { policy: Policy { grace: secs(30), ..policy() }, ..Setup::default() }).await;
    rig.setup.partner.answer([unknown()]);
    rig.until_generation(2).await;
    assert_eq!(rig.presented(), ["seed", "r1", "r1"]);
    assert_eq!(rig.status().state, State::Valid);
}

#[tokio::test(start_paused = true)]
async fn s06_when_the_grace_is_over_the_access_token_serves_on_alone() {
    let rig = first(Setup { policy: Policy { grace: secs(8), ..policy() }, ..Setup::default() }).await;
    rig.setup.partner.answer((0..5).map(|_| unknown()));
    rig.until_state(State::Degraded).await;
    let began = rig.setup.clock.now();
    let expires_at = rig.status().expires_at.unwrap();
    tokio::time::sleep(secs(9)).await;
    let within = rig.presented().len();
    assert!((4..=6).contains(&within), "{within}");
    rig.until("one more", |rig| rig.presented().len() > within).await;
    assert!(expires_at.since(rig.setup.clock.now()) <= secs(10));
    assert!(rig.setup.clock.now().since(began) > secs(30));
}

#[tokio::test(start_paused = true)]
async fn s02_after_a_lost_answer_without_grace_the_token_is_presented_when_nothing_can_be_lost() {
    let rig = first(Setup::default()).await;
    let expires_at = rig.status().expires_at.unwrap();
    rig.setup.partner.answer((0..3).map(|_| unknown()));
    rig.until("unknown", |rig| rig.presented().len() == 2).await;
    rig.until("again", |rig| rig.presented().len() == 3).await;
    let left = expires_at.since(rig.setup.clock.now());
    assert!((secs(9)..=secs(10)).contains(&left), "{left:?}");
    rig.until_state(State::Valid).await;
    assert_eq!(rig.presented(), ["seed", "r1", "r1", "r1", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn s02_a_401_after_a_lost_answer_leaves_nothing_to_lose() {
    let rig = first(Setup::default()).await;
    rig.setup.partner.answer([unknown()]);
    rig.until_state(State::Degraded).await;
    tokio::time::sleep(secs(5)).await;
    assert_eq!(rig.presented().len(), 2);
    let charge = rig.handle.refused("/", Generation(1));
    rig.until_state(State::Valid).await;
    assert_eq!(rig.presented(), ["seed", "r1", "r1"]);
    drop(charge);
}

#[tokio::test(start_paused = true)]
async fn s02_a_login_mends_a_lost_answer_before_the_grace_is_tried() {
    let policy = Policy { grace: secs(30), ..policy() };
    let rig = first(Setup { login: Setup::login(1), policy, ..Setup::default() }).await;
    rig.setup.partner.answer([unknown()]);
    rig.until_generation(2).await;
    assert_eq!((rig.presented().len(), rig.setup.partner.logins()), (2, 1));
    assert_eq!(rig.setup.store.newest().standing, Standing::Unspent);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_refused_is_tried_again_only_with_another_secret_or_by_order() {
    let setup = Setup { seed: None, login: Setup::login(1), ..Setup::default() };
    setup.partner.answer([refused()]);
    let rig = setup.start().await;
    rig.until_state(State::ReauthRequired).await;
    tokio::time::sleep(secs(7200)).await;
    assert_eq!(rig.setup.partner.logins(), 1);
    // Nor after a restart.
    let rig = rig.crash().await.start().await;
    tokio::time::sleep(secs(7200)).await;
    assert_eq!((rig.setup.partner.logins(), rig.status().state), (1, State::ReauthRequired));
    rig.setup.partner.answer([refused()]);
    assert_eq!(rig.handle.refresh().await.unwrap().state, State::ReauthRequired);
    assert_eq!(rig.setup.partner.logins(), 2);
    tokio::time::sleep(secs(7200)).await;
    assert_eq!(rig.setup.partner.logins(), 2);
    rig.settings.send_modify(|settings| settings.login = Setup::login(2));
    rig.until_state(State::Valid).await;
    assert_eq!(rig.setup.partner.logins(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_refused_login_stays_refused_when_a_refresh_succeeds() {
    let policy = Policy { grace: secs(30), ..policy() };
    let rig = first(Setup { login: Setup::login(1), policy, ..Setup::default() }).await;
    rig.setup.partner.answer([unknown(), refused()]);
    rig.until_generation(2).await;
    assert_eq!((rig.presented().len(), rig.setup.partner.logins()), (3, 1));
    rig.setup.partner.answer([unknown()]);
    rig.until_generation(3).await;
    assert_eq!((rig.presented().len(), rig.setup.partner.logins()), (5, 1));
}

#[tokio::test(start_paused = true)]
async fn a_login_whose_refusal_could_not_be_saved_is_not_tried_after_a_restart() {
    let setup = Setup { seed: None, login: Setup::login(1), ..Setup::default() };
    setup.partner.answer([refused()]);
    setup.store.fail(1);
    let rig = setup.start().await;
    rig.until_state(State::ReauthRequired).await;
    rig.until("saved", |rig| rig.setup.store.saves() == 1).await;
    let rig = rig.crash().await.start().await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.setup.partner.logins(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_login_that_brought_no_refresh_token_the_old_one_is_not_presented() {
    let rig = first(Setup { login: Setup::login(1), ..Setup::default() }).await;
    rig.setup.partner.answer([unknown(), Outcome::Renewed(set("by-login", ""))]);
    rig.until_generation(2).await;
    assert!(rig.setup.store.newest().refresh.is_none());
    rig.until_generation(3).await;
    assert_eq!((rig.presented(), rig.setup.partner.logins()), (vec!["seed".into(), "r1".into()], 2));
}

#[tokio::test(start_paused = true)]
async fn a_seed_comes_before_a_login() {
    let rig = first(Setup { login: Setup::login(1), ..Setup::default() }).await;
    assert_eq!((rig.presented(), rig.setup.partner.logins()), (vec!["seed".to_owned()], 0));
}

#[tokio::test(start_paused = true)]
async fn s41_a_refused_token_is_followed_by_a_login() {
    let rig = first(Setup { login: Setup::login(1), ..Setup::default() }).await;
    rig.setup.partner.answer([refused()]);
    assert_eq!(rig.handle.refresh().await.unwrap().state, State::Valid);
    assert_eq!((rig.status().generation, rig.setup.partner.logins()), (Generation(2), 1));
}

#[tokio::test(start_paused = true)]
async fn s41_without_a_login_only_an_operator_can_help_but_the_token_serves_on() {
    let rig = first(Setup::default()).await;
    rig.setup.partner.answer((0..4).map(|_| refused()));
    rig.until_state(State::ReauthRequired).await;
    assert!(rig.status().is_usable(rig.setup.clock.now()));
    let deadline = rig.deadline(secs(15));
    assert_eq!(rig.handle.usable(deadline).await.unwrap().generation, Generation(1));
    // Every ten minutes, in case the refusal came from something in between.
    let mut before = rig.setup.clock.now();
    for calls in 3..=5 {
        rig.until("another", |rig| rig.presented().len() == calls).await;
        let now = rig.setup.clock.now();
        let waited = now.since(before);
        assert!((secs(599)..=secs(601)).contains(&waited), "{waited:?}");
        before = now;
    }
    rig.until_state(State::Valid).await;
    assert_eq!(rig.presented(), ["seed", "r1", "r1", "r1", "r1", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn s41_a_new_seed_is_taken_up_when_only_an_operator_can_help() {
    let setup = Setup::default();
    setup.partner.answer([refused()]);
    let rig = setup.start().await;
    rig.until_state(State::ReauthRequired).await;
    let reseed = |token: &'static str| {
        move |settings: &mut Settings| {
            settings.seed = Some(refresh(token));
        }
    };
    // The same again changes nothing.
    rig.settings.send_modify(reseed("seed"));
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.presented(), ["seed"]);
    rig.settings.send_modify(reseed("seed2"));
    rig.until_state(State::Valid).await;
    // In good health, one more is not taken up.
    rig.settings.send_modify(reseed("seed3"));
    rig.until_generation(3).await;
    assert_eq!(rig.presented(), ["seed", "seed2", "r1", "r2"]);
}

#[tokio::test(start_paused = true)]
async fn s41_a_dead_seed_is_not_presented_again_after_a_restart() {
    let setup = Setup::default();
    setup.partner.answer([refused(), refused()]);
    let rig = setup.start().await;
    rig.until_state(State::ReauthRequired).await;
    let rig = rig.crash().await.start().await;
    rig.until("once", |rig| rig.presented().len() == 2).await;
    tokio::time::sleep(secs(590)).await;
    // Once at the start, because nothing can be lost by it, and then every ten minutes.
    assert_eq!(rig.presented(), ["seed", "seed"]);
    assert_eq!(rig.status().state, State::ReauthRequired);
}

#[tokio::test(start_paused = true)]
async fn s15_a_token_serves_to_its_end_and_then_is_shown_as_expired() {
    let rig = first(Setup::default()).await;
    let expires_at = rig.status().expires_at.unwrap();
    rig.setup.partner.answer((0..1000).map(|_| Outcome::NotSent(cause())));
    rig.until_state(State::Degraded).await;
    rig.until_state(State::Expired).await;
    // Not only when the next call has ended, which may be a minute later.
    assert!(rig.setup.clock.now().since(expires_at) <= secs(1));
    let deadline = rig.deadline(secs(15));
    let no_token = rig.handle.usable(deadline).await.unwrap_err();
    assert!((secs(1)..=secs(60)).contains(&no_token.retry_after.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn s36_without_a_lifetime_the_default_is_used() {
    let setup = Setup::default();
    setup.partner.answer([Outcome::Renewed(TokenSet { lifetime: None, ..set("a", "r") })]);
    let rig = first(setup).await;
    let left = rig.status().expires_at.unwrap().since(rig.setup.clock.now());
    assert!(left > secs(295) && left <= secs(300), "{left:?}");
    assert_ne!(LIFE, secs(300));
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_follows_what_happens() {
    let rig = first(Setup::default()).await;
    let state = |rig: &Rig, state: &str| rig.shown("credential_state", &format!("state=\"{state}\""));
    let ended = |rig: &Rig, result: &str| {
        rig.shown("token_refreshes_total", &format!("result=\"{result}\"")).unwrap()
    };
    assert_eq!((state(&rig, "valid"), state(&rig, "degraded")), (Some(1.0), Some(0.0)));
    assert_eq!((ended(&rig, "renewed"), ended(&rig, "unknown")), (1.0, 0.0));
    assert_eq!(rig.shown("token_generation", ""), Some(1.0));
    assert_eq!(rig.shown("token_persisted", ""), Some(1.0));
    let expires = rig.shown("token_expiration_timestamp_seconds", "").unwrap();
    assert!((expires - 1_700_000_600.0).abs() < 2.0, "{expires}");
    rig.setup.partner.answer([unknown()]);
    rig.until_state(State::Degraded).await;
    rig.until("unknown", |rig| ended(rig, "unknown") == 1.0).await;
    assert_eq!((state(&rig, "valid"), state(&rig, "degraded")), (Some(0.0), Some(1.0)));
    assert_eq!(rig.shown("token_refresh_failures_total", "reason=\"closed\""), Some(1.0));
    let last = rig.status().last.unwrap();
    assert_eq!((last.outcome, last.cause), ("unknown", Some(cause())));
    rig.setup.partner.close_gate();
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    rig.setup.store.fail(1);
    rig.setup.partner.open_gate();
    rig.until_generation(2).await;
    assert_eq!(rig.shown("token_generation", ""), Some(2.0));
    assert_eq!(rig.shown("token_persisted", ""), Some(0.0));
    assert_eq!(rig.status().last.unwrap().cause, None);
    rig.until_state(State::Valid).await;
    assert_eq!(rig.shown("token_persisted", ""), Some(1.0));
    let refreshed = rig.shown("token_refresh_timestamp_seconds", "").unwrap();
    assert!(refreshed > 1_700_000_580.0, "{refreshed}");
}
