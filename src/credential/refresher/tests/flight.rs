//! One call for everybody, and nobody who goes away takes it with them.

use crate::clock::Clock as _;
use crate::credential::testing::{LIFE, Setup, secs, set};
use crate::credential::{Refusal, State};
use crate::partner::{Outcome, TokenSet};
use crate::token::Generation;

#[tokio::test(start_paused = true)]
async fn s16_a_thousand_waiters_share_one_call() {
    let setup = Setup::default();
    setup.partner.close_gate();
    let rig = setup.start().await;
    let deadline = rig.deadline(secs(15));
    let waiters: Vec<_> = (0..1000)
        .map(|_| {
            let handle = rig.handle.clone();
            tokio::spawn(async move { handle.usable(deadline).await.map(|token| token.generation) })
        })
        .collect();
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    rig.setup.partner.open_gate();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Ok(Generation(1)));
    }
    assert_eq!(rig.presented(), ["seed"]);
}

#[tokio::test(start_paused = true)]
async fn s32_ten_thousand_401s_cost_one_call_and_are_all_mended() {
    let rig = Setup::default().start().await;
    rig.until_generation(1).await;
    rig.setup.partner.close_gate();
    let deadline = rig.deadline(secs(15));
    let waiters: Vec<_> = (0..10_000)
        .map(|n| {
            let handle = rig.handle.clone();
            tokio::spawn(async move {
                let path = format!("/{}", n % 100);
                match handle.refused(&path, Generation(1)) {
                    Refusal::Newer(token) => token.generation,
                    Refusal::Asked(mut charge) => {
                        let token = charge.newer(deadline).await.unwrap();
                        charge.settle(token.generation, true);
                        token.generation
                    }
                    Refusal::PassOn(why) => panic!("{why:?}"),
                }
            })
        })
        .collect();
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    rig.setup.partner.open_gate();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Generation(2));
    }
    assert_eq!(rig.presented(), ["seed", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn s55_waiters_that_go_away_cancel_nothing() {
    let setup = Setup::default();
    setup.partner.close_gate();
    let rig = setup.start().await;
    let deadline = rig.deadline(secs(15));
    let waiters: Vec<_> = (0..100)
        .map(|_| {
            let handle = rig.handle.clone();
            tokio::spawn(async move { handle.usable(deadline).await.is_ok() })
        })
        .collect();
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    for waiter in waiters {
        waiter.abort();
        assert!(waiter.await.unwrap_err().is_cancelled());
    }
    assert_eq!(rig.setup.partner.in_flight(), 1);
    rig.setup.partner.open_gate();
    rig.until_state(State::Valid).await;
    assert_eq!((rig.presented(), rig.token().as_deref()), (vec!["seed".to_owned()], Some("a1")));
}

#[tokio::test(start_paused = true)]
async fn s55_operators_who_go_away_cancel_nothing() {
    let rig = Setup::default().start().await;
    rig.until_generation(1).await;
    rig.setup.partner.close_gate();
    let handle = rig.handle.clone();
    let operator = tokio::spawn(async move { handle.refresh().await });
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    operator.abort();
    rig.setup.partner.open_gate();
    rig.until_generation(2).await;
    assert_eq!(rig.presented(), ["seed", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_is_refreshed_ahead_of_its_expiry_again_and_again() {
    let rig = Setup::default().start().await;
    rig.until_generation(1).await;
    for generation in 2..=10 {
        let expires_at = rig.status().expires_at.unwrap();
        rig.until_generation(generation).await;
        let left = expires_at.since(rig.setup.clock.now());
        // 60 s ahead, and up to 5 % of 540 s before that.
        assert!((secs(59)..=secs(87)).contains(&left), "{left:?}");
    }
    assert_eq!(rig.presented().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn s26_after_a_suspend_an_expired_token_is_refreshed_within_a_slice() {
    let rig = Setup::default().start().await;
    rig.until_generation(1).await;
    rig.setup.clock.suspend(LIFE * 2);
    assert!(!rig.status().is_usable(rig.setup.clock.now()));
    tokio::time::sleep(secs(11)).await;
    assert_eq!(rig.status().generation, Generation(2));
    assert!(rig.status().is_usable(rig.setup.clock.now()));
}

#[tokio::test(start_paused = true)]
async fn s37_lives_shorter_than_the_calls_leave_room_for_orders_and_for_the_end() {
    let setup = Setup::default();
    let brief = |n: u32| TokenSet { lifetime: Some(secs(0)), ..set(&format!("a{n}"), &format!("r{n}")) };
    setup.partner.answer((0..10_000).map(|n| Outcome::Renewed(brief(n))));
    setup.partner.slow(secs(2));
    let rig = setup.start().await;
    rig.until("some calls", |rig| rig.presented().len() == 5).await;
    assert!(rig.handle.refresh().await.is_some());
    assert!(rig.presented().len() < 10);
    rig.stop.stop().await;
    rig.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn s38_a_refresh_token_in_whose_place_none_is_given_is_presented_again() {
    let setup = Setup::default();
    setup.partner.answer([set("a1", ""), set("a2", "")].map(Outcome::Renewed));
    let rig = setup.start().await;
    rig.until_generation(2).await;
    assert_eq!(rig.presented(), ["seed", "seed"]);
}
