//! Requests that wait for a token.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Clock as _;
use crate::credential::testing::{Rig, Setup, cause, secs};
use crate::credential::{NoToken, Pair, State};
use crate::partner::Outcome;
use crate::token::Generation;

async fn first() -> Rig {
    let rig = Setup::default().start().await;
    rig.until_generation(1).await;
    rig
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_over_several_attempts() {
    let setup = Setup::default();
    setup.partner.answer((0..4).map(|_| Outcome::NotSent(cause())));
    let rig = setup.start().await;
    let token = rig.handle.usable(rig.deadline(secs(15))).await.unwrap();
    assert_eq!((token.generation, rig.presented().len()), (Generation(1), 5));
}

#[tokio::test(start_paused = true)]
async fn s15_a_request_waits_to_its_deadline_and_learns_when_to_come_back() {
    let setup = Setup::default();
    setup.partner.answer([Outcome::Busy { retry_after: Some(secs(40)), cause: cause() }]);
    let rig = setup.start().await;
    let began = Instant::now();
    let no_token = rig.handle.usable(rig.deadline(secs(15))).await.unwrap_err();
    assert_eq!(began.elapsed().as_secs(), 15);
    let wait = no_token.retry_after.unwrap();
    assert!((secs(25)..=secs(30)).contains(&wait), "{wait:?}");
    assert_eq!(wait.subsec_nanos(), 0);
}

#[tokio::test(start_paused = true)]
async fn s41_where_only_an_operator_can_help_nobody_waits() {
    let setup = Setup::default();
    setup.partner.answer([Outcome::Refused(cause())]);
    let rig = setup.start().await;
    let deadline = rig.deadline(secs(15));
    // Who waited already is let go, too.
    assert_eq!(rig.handle.usable(deadline).await.unwrap_err(), NoToken { retry_after: None });
    assert_eq!(rig.status().state, State::ReauthRequired);
    let began = Instant::now();
    assert_eq!(rig.handle.usable(deadline).await.unwrap_err(), NoToken { retry_after: None });
    assert_eq!(rig.handle.newer(Generation(0), deadline).await.unwrap_err(), NoToken { retry_after: None });
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn s41_a_request_that_comes_after_the_import_waits_for_what_it_brings() {
    let setup = Setup::default();
    setup.partner.answer([Outcome::Refused(cause())]);
    let rig = setup.start().await;
    rig.until_state(State::ReauthRequired).await;
    let pair = Pair { refresh: crate::credential::testing::refresh("new"), access: None };
    rig.handle.import(pair).await.unwrap();
    assert!(rig.handle.usable(rig.deadline(secs(15))).await.is_ok());
}

/// However the waiter's first look and the publication interleave, the waiter wakes.
#[tokio::test(start_paused = true)]
async fn no_wake_up_is_lost() {
    for yields in 0..60 {
        let rig = Setup::default().start().await;
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        rig.handle.usable(rig.deadline(secs(15))).await.unwrap();
        let charge = rig.handle.refused("/", Generation(1));
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        rig.handle.newer(Generation(1), rig.deadline(secs(15))).await.unwrap();
        assert_eq!(began.elapsed(), Duration::ZERO, "after {yields} yields");
        drop(charge);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dying_or_refused_token_is_doubtful_and_a_newer_one_can_be_had() {
    let rig = first().await;
    assert!(!rig.handle.is_doubtful(Generation(1)));
    let charge = rig.handle.refused("/", Generation(1));
    assert!(rig.handle.is_doubtful(Generation(1)));
    let token = rig.handle.fresh(Generation(1), rig.deadline(secs(1))).await.unwrap();
    assert_eq!(token.generation, Generation(2));
    assert!(!rig.handle.is_doubtful(Generation(2)));
    drop(charge);
    // About to die while the partner is out of reach.
    rig.setup.partner.answer((0..20).map(|_| Outcome::NotSent(cause())));
    let expires_at = rig.status().expires_at.unwrap();
    rig.until("dying", |rig| rig.handle.is_doubtful(Generation(2))).await;
    let left = expires_at.since(rig.setup.clock.now());
    assert!((secs(9)..=secs(10)).contains(&left), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn one_who_wants_a_newer_token_gets_it_before_it_is_due() {
    let rig = first().await;
    let token = rig.handle.fresh(Generation(1), rig.deadline(secs(1))).await.unwrap();
    assert_eq!(token.generation, Generation(2));
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.presented(), ["seed", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn after_the_end_nobody_waits() {
    let rig = Setup { seed: None, login: Setup::login(1), ..Setup::default() };
    rig.partner.answer((0..100).map(|_| Outcome::NotSent(cause())));
    let rig = rig.start().await;
    rig.until("a call", |rig| rig.setup.partner.logins() == 1).await;
    rig.stop.stop().await;
    rig.task.await.unwrap();
    let (began, deadline) = (Instant::now(), Instant::now() + secs(15));
    assert_eq!(rig.handle.usable(deadline).await.unwrap_err(), NoToken { retry_after: None });
    assert_eq!(began.elapsed(), Duration::ZERO);
}
