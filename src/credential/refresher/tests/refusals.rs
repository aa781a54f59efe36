//! Refreshes that 401s ask for.

use crate::credential::testing::{Rig, Setup, cause, secs};
use crate::credential::{Charge, PassOn, Refusal, State};
use crate::partner::Outcome;
use crate::token::Generation;

async fn first() -> Rig {
    let rig = Setup::default().start().await;
    rig.until_generation(1).await;
    rig
}

#[track_caller]
fn asked(refusal: Refusal) -> Charge {
    match refusal {
        Refusal::Asked(charge) => charge,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_401_to_the_current_generation_refreshes_at_once() {
    let rig = first().await;
    let mut charge = asked(rig.handle.refused("/a", Generation(1)));
    let token = charge.newer(rig.deadline(secs(1))).await.unwrap();
    assert_eq!(token.generation, Generation(2));
    charge.settle(token.generation, true);
    assert_eq!(rig.presented(), ["seed", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn s32_a_401_to_an_older_generation_costs_no_refresh() {
    let rig = first().await;
    rig.handle.refresh().await.unwrap();
    for _ in 0..100 {
        let Refusal::Newer(token) = rig.handle.refused("/a", Generation(1)) else { panic!() };
        assert_eq!(token.generation, Generation(2));
    }
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.presented(), ["seed", "r1"]);
}

#[tokio::test(start_paused = true)]
async fn s31_a_401_that_no_token_mends_costs_one_refresh_and_holds_its_path() {
    let rig = first().await;
    let mut charge = asked(rig.handle.refused("/a", Generation(1)));
    let token = charge.newer(rig.deadline(secs(1))).await.unwrap();
    charge.settle(token.generation, false);
    for _ in 0..100 {
        let refusal = rig.handle.refused("/a", Generation(2));
        assert!(matches!(refusal, Refusal::PassOn(PassOn::Held)), "{refusal:?}");
    }
    tokio::time::sleep(secs(29)).await;
    assert!(matches!(rig.handle.refused("/a", Generation(2)), Refusal::PassOn(PassOn::Held)));
    assert_eq!(rig.presented(), ["seed", "r1"]);
    // Other paths still heal.
    let mut charge = asked(rig.handle.refused("/b", Generation(2)));
    charge.newer(rig.deadline(secs(1))).await.unwrap();
    charge.settle(Generation(3), true);
}

#[tokio::test(start_paused = true)]
async fn s31_a_client_that_hangs_up_or_cannot_send_again_holds_its_path() {
    let rig = first().await;
    drop(asked(rig.handle.refused("/a", Generation(1))));
    rig.until_generation(2).await;
    assert!(matches!(rig.handle.refused("/a", Generation(2)), Refusal::PassOn(PassOn::Held)));
    // Acceptance with a newer generation lifts it.
    rig.handle.accepted("/a", Generation(2));
    drop(asked(rig.handle.refused("/a", Generation(2))));
    rig.until_generation(3).await;
    // To go away while waiting is the same.
    let mut charge = asked(rig.handle.refused("/b", Generation(3)));
    let deadline = rig.deadline(secs(9));
    let waiting = tokio::spawn(async move { charge.newer(deadline).await.is_ok() });
    rig.setup.partner.close_gate();
    tokio::task::yield_now().await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert!(matches!(rig.handle.refused("/b", Generation(3)), Refusal::PassOn(PassOn::Held)));
}

#[tokio::test(start_paused = true)]
async fn s31_what_could_not_be_tried_for_want_of_a_token_holds_no_path() {
    let rig = first().await;
    rig.setup.partner.answer((0..100).map(|_| Outcome::NotSent(cause())));
    let mut charge = asked(rig.handle.refused("/a", Generation(1)));
    let no_token = charge.newer(rig.deadline(secs(3))).await.unwrap_err();
    assert!(no_token.retry_after.is_some());
    drop(charge);
    asked(rig.handle.refused("/a", Generation(1))).forget();
    asked(rig.handle.refused("/a", Generation(1))).forget();
}

#[tokio::test(start_paused = true)]
async fn s31_401s_spend_ten_refreshes_in_a_burst_and_then_one_every_ten_seconds() {
    let rig = first().await;
    let mut passed = 0;
    for n in 0..200 {
        let generation = rig.status().generation;
        match rig.handle.refused(&format!("/{n}"), generation) {
            Refusal::Asked(mut charge) => {
                let token = charge.newer(rig.deadline(secs(1))).await.unwrap();
                charge.settle(token.generation, false);
            }
            Refusal::PassOn(PassOn::Budget) => passed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((rig.presented().len(), passed), (11, 190));
    tokio::time::sleep(secs(10)).await;
    drop(asked(rig.handle.refused("/later", rig.status().generation)));
    rig.until("one more", |rig| rig.presented().len() == 12).await;
    let generation = rig.status().generation;
    assert!(matches!(rig.handle.refused("/last", generation), Refusal::PassOn(PassOn::Budget)));
}

#[tokio::test(start_paused = true)]
async fn a_401_during_the_call_that_replaces_the_token_costs_no_second_one() {
    let rig = first().await;
    rig.setup.partner.close_gate();
    let mut early = asked(rig.handle.refused("/a", Generation(1)));
    rig.until("a call", |rig| rig.setup.partner.in_flight() == 1).await;
    let mut late = asked(rig.handle.refused("/b", Generation(1)));
    rig.setup.partner.open_gate();
    for charge in [&mut early, &mut late] {
        assert_eq!(charge.newer(rig.deadline(secs(1))).await.unwrap().generation, Generation(2));
    }
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.presented(), ["seed", "r1"]);
    early.settle(Generation(2), true);
    late.settle(Generation(2), true);
}

#[tokio::test(start_paused = true)]
async fn where_only_an_operator_can_help_a_401_waits_for_nothing() {
    let rig = first().await;
    rig.setup.partner.answer([Outcome::Refused(cause())]);
    rig.until_state(State::ReauthRequired).await;
    let mut charge = asked(rig.handle.refused("/a", Generation(1)));
    let no_token = charge.newer(rig.deadline(secs(15))).await.unwrap_err();
    assert_eq!(no_token.retry_after, None);
    tokio::time::sleep(secs(60)).await;
    assert_eq!(rig.presented(), ["seed", "r1"]);
}
