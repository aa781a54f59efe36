use super::*;
use crate::credential::testing::{LIFE, START, access, policy, refresh, secs};
use crate::token::Digest;

/// A credential with an access token that was obtained at [`START`] and lives for [`LIFE`].
fn held() -> Credential {
    let expires_at = START + LIFE;
    let refresh_at = refresh_at(START, expires_at, &policy(), 0.0);
    let access = Some(Access { token: access("a"), obtained_at: START, refresh_at, expires_at });
    Credential { access, refresh: Some(refresh("r")), ..Credential::default() }
}

fn login() -> Option<Digest> {
    Some(Digest([1; 32]))
}

const NANO: Duration = Duration::from_nanos(1);
const UNKNOWN: Standing = Standing::PerhapsSpent { since: START };

/// When the access token of `held` is refreshed, about to die, and expired.
fn due() -> Moment {
    START + secs(540)
}
fn dying() -> Moment {
    START + secs(590)
}
fn expired() -> Moment {
    START + LIFE
}

#[track_caller]
fn decides(credential: &Credential, policy: &Policy, now: Moment, expected: Decision) {
    assert_eq!(decide(credential, policy, now), expected);
}

#[test]
fn a_refresh_is_due_at_its_moment_and_not_before() {
    decides(&held(), &policy(), due() - NANO, Decision::Sleep(due()));
    decides(&held(), &policy(), due(), Decision::Refresh);
    decides(&held(), &policy(), expired() + secs(9), Decision::Refresh);
}

#[test]
fn what_somebody_wants_newer_is_due_at_once() {
    decides(&Credential { refused: true, ..held() }, &policy(), START, Decision::Refresh);
    decides(&Credential { wanted: true, ..held() }, &policy(), START, Decision::Refresh);
    decides(&Credential { ordered: true, ..held() }, &policy(), START, Decision::Refresh);
    decides(&Credential { access: None, ..held() }, &policy(), START, Decision::Refresh);
}

#[test]
fn no_call_comes_before_the_back_off_is_over_whoever_wants_it() {
    let not_before = START + secs(7);
    for c in [
        Credential { refused: true, not_before, ..held() },
        Credential { wanted: true, not_before, ..held() },
        Credential { access: None, not_before, ..held() },
        Credential { standing: UNKNOWN, login: login(), not_before, ..held() },
        Credential { standing: Standing::Refused { again_at: START }, not_before, ..held() },
    ] {
        decides(&c, &policy(), not_before - NANO, Decision::Sleep(not_before));
        assert!(!matches!(decide(&c, &policy(), not_before), Decision::Sleep(_)));
    }
}

#[test]
fn s06_within_the_grace_the_same_token_is_presented_again_even_if_no_refresh_is_due() {
    let policy = Policy { grace: secs(30), ..policy() };
    let c = Credential { standing: UNKNOWN, ..held() };
    decides(&c, &policy, START + secs(1), Decision::Refresh);
    decides(&c, &policy, START + secs(30) - NANO, Decision::Refresh);
    decides(&c, &policy, START + secs(30), Decision::Sleep(dying()));
}

#[test]
fn s02_without_grace_the_old_token_waits_until_the_access_token_is_about_to_die() {
    let c = Credential { standing: UNKNOWN, ..held() };
    decides(&c, &policy(), START, Decision::Sleep(dying()));
    decides(&c, &policy(), dying() - NANO, Decision::Sleep(dying()));
    decides(&c, &policy(), dying(), Decision::Refresh);
    decides(&c, &policy(), expired(), Decision::Refresh);
}

#[test]
fn s02_after_an_unknown_outcome_what_has_been_refused_or_is_not_held_cannot_be_lost() {
    decides(
        &Credential { standing: UNKNOWN, refused: true, ..held() },
        &policy(),
        START + NANO,
        Decision::Refresh,
    );
    decides(
        &Credential { standing: UNKNOWN, access: None, ..held() },
        &policy(),
        START + NANO,
        Decision::Refresh,
    );
    // To be wanted, or ordered, says nothing against it.
    for c in [
        Credential { standing: UNKNOWN, wanted: true, ..held() },
        Credential { standing: UNKNOWN, ordered: true, ..held() },
    ] {
        decides(&c, &policy(), START, Decision::Sleep(dying()));
    }
}

#[test]
fn s02_after_an_unknown_outcome_a_login_comes_first() {
    let policy = Policy { grace: secs(30), ..policy() };
    let c = Credential { standing: UNKNOWN, login: login(), ..held() };
    decides(&c, &policy, START, Decision::Login);
    decides(&c, &policy, expired(), Decision::Login);
    let c = Credential { login_refused: login(), ..c };
    decides(&c, &policy, START, Decision::Refresh);
    decides(&c, &policy, START + secs(30), Decision::Sleep(dying()));
    let changed = Credential { login: Some(Digest([2; 32])), ..c };
    decides(&changed, &policy, START + secs(30), Decision::Login);
}

#[test]
fn s41_a_refused_token_is_followed_by_login_then_seed_then_one_try_every_ten_minutes() {
    let again_at = START + AFTER;
    let c = Credential { standing: Standing::Refused { again_at }, ..held() };
    decides(&c, &policy(), START, Decision::Sleep(again_at));
    decides(&c, &policy(), again_at - NANO, Decision::Sleep(again_at));
    decides(&c, &policy(), again_at, Decision::Refresh);
    let seed = Digest([7; 32]);
    let seeded = Credential { seed: Some(seed), ..c.clone() };
    decides(&seeded, &policy(), START, Decision::AdoptSeed);
    let presented = Credential { seeds: vec![Digest([6; 32]), seed], ..seeded.clone() };
    decides(&presented, &policy(), START, Decision::Sleep(again_at));
    let both = Credential { login: login(), ..seeded };
    decides(&both, &policy(), START, Decision::Login);
    let refused = Credential { login_refused: login(), ..both };
    decides(&refused, &policy(), START, Decision::AdoptSeed);
}
const AFTER: Duration = crate::credential::state::AFTER_REFUSAL;

#[test]
fn an_empty_store_begins_with_the_seed_then_the_login_and_else_waits_for_an_operator() {
    let empty = Credential::default();
    decides(&empty, &policy(), START, Decision::Sleep(Moment::NEVER));
    let with_login = Credential { login: login(), ..empty.clone() };
    decides(&with_login, &policy(), START, Decision::Login);
    let with_seed = Credential { seed: Some(Digest([7; 32])), ..empty };
    decides(&with_seed, &policy(), START, Decision::AdoptSeed);
    let with_both = Credential { login: login(), ..with_seed };
    decides(&with_both, &policy(), START, Decision::AdoptSeed);
    let presented = Credential { seeds: vec![Digest([7; 32])], ..with_both };
    decides(&presented, &policy(), START, Decision::Login);
}

#[test]
fn a_healthy_credential_takes_up_no_new_seed_and_does_not_log_in() {
    let c = Credential { seed: Some(Digest([7; 32])), login: login(), ..held() };
    decides(&c, &policy(), START, Decision::Sleep(due()));
    decides(&c, &policy(), due(), Decision::Refresh);
}

#[test]
fn a_login_without_a_refresh_token_is_renewed_by_a_login_when_it_is_due() {
    let c = Credential { refresh: None, login: login(), ..held() };
    decides(&c, &policy(), due() - NANO, Decision::Sleep(due()));
    decides(&c, &policy(), due(), Decision::Login);
}

#[test]
fn s20_a_failing_store_allows_no_refresh_while_anything_can_be_lost() {
    let store_not_before = due() + secs(5);
    let c = Credential { store_failures: 1, store_not_before, ..held() };
    decides(&c, &policy(), due(), Decision::Sleep(store_not_before));
    // Then the store is tried again, by way of the intent.
    decides(&c, &policy(), store_not_before, Decision::Refresh);
    let later = Credential { store_not_before: expired(), ..c.clone() };
    decides(&later, &policy(), dying() - NANO, Decision::Sleep(dying()));
    decides(&later, &policy(), dying(), Decision::Refresh);
    decides(&Credential { refused: true, ..later.clone() }, &policy(), START, Decision::Refresh);
    decides(&Credential { access: None, ..later }, &policy(), START, Decision::Refresh);
}

#[test]
fn s07_what_is_not_durable_is_saved_before_anything_else_but_not_before_the_back_off() {
    let store_not_before = START + secs(5);
    for (unsaved, behind) in [(true, false), (false, true), (true, true)] {
        let c = Credential { unsaved, behind, store_failures: 1, store_not_before, ..held() };
        decides(&c, &policy(), START, Decision::Sleep(store_not_before));
        decides(&c, &policy(), store_not_before, Decision::Save);
        decides(&c, &policy(), expired(), Decision::Save);
        let later = Credential { store_not_before: expired() + secs(60), ..c };
        decides(&later, &policy(), dying(), Decision::Refresh);
    }
}

#[test]
fn the_refresh_moment_is_ahead_of_expiry_but_not_before_half_of_the_life() {
    let at = |life, ahead, jitter| {
        let policy = Policy { ahead: secs(ahead), ..policy() };
        refresh_at(START, START + secs(life), &policy, jitter).since(START)
    };
    assert_eq!(at(600, 60, 0.0), secs(540));
    assert_eq!(at(600, 300, 0.0), secs(300));
    assert_eq!(at(600, 301, 0.0), secs(300));
    assert_eq!(at(600, 9000, 0.0), secs(300));
    assert_eq!(at(600, 0, 0.0), secs(600));
    assert_eq!(at(1, 60, 0.0), Duration::from_millis(500));
    // Jitter is up to 5 %, and always earlier.
    assert_eq!(at(600, 60, 1.0), secs(513));
    assert_eq!(at(600, 60, 0.5), Duration::from_millis(526_500));
    assert_eq!(at(600, 60, 7.0), secs(513));
    assert_eq!(at(600, 60, -7.0), secs(540));
}

#[test]
fn an_access_token_is_dying_for_one_call_but_at_most_a_tenth_of_its_life() {
    let dies = |life, timeout| {
        let expires_at = START + secs(life);
        let access = Access { token: access("a"), obtained_at: START, refresh_at: START, expires_at };
        expires_at.since(dying_at(&access, &Policy { timeout: secs(timeout), ..policy() }))
    };
    assert_eq!(dies(600, 10), secs(10));
    assert_eq!(dies(100, 10), secs(10));
    assert_eq!(dies(50, 10), secs(5));
}

#[test]
fn s42_the_back_off_doubles_from_half_a_second_to_a_minute_less_up_to_half() {
    let unjittered: Vec<_> = (0..12).map(|failures| backoff(failures, 0.0).as_millis()).collect();
    let expected = [500, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000, 60_000];
    assert_eq!(unjittered, expected);
    assert_eq!(backoff(u32::MAX, 0.0), secs(60));
    assert_eq!(backoff(1, 1.0), Duration::from_millis(250));
    assert_eq!(backoff(u32::MAX, 9.0), secs(30));
}

#[test]
fn s37_a_decision_to_sleep_is_always_for_some_time() {
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..200_000 {
        let mut moment = || START + Duration::from_millis(rng.u64(0..700_000));
        let (not_before, store_not_before, since, again_at, now) =
            (moment(), moment(), moment(), moment(), moment());
        let base = held();
        let c = Credential {
            access: base.access.filter(|_| rng.bool()),
            refresh: base.refresh.filter(|_| rng.bool()),
            standing: *rng
                .choice(&[
                    Standing::Unspent,
                    Standing::PerhapsSpent { since },
                    Standing::Refused { again_at },
                ])
                .unwrap(),
            login: login().filter(|_| rng.bool()),
            seed: Some(Digest([7; 32])).filter(|_| rng.bool()),
            refused: rng.bool(),
            wanted: rng.bool(),
            ordered: rng.bool(),
            store_failures: rng.u32(0..2),
            unsaved: rng.bool(),
            behind: rng.bool(),
            not_before,
            store_not_before,
            ..Credential::default()
        };
        let policy = Policy { grace: secs(rng.u64(0..60)), ..policy() };
        match decide(&c, &policy, now) {
            Decision::Sleep(until) => assert!(until > now, "{c:?} at {now:?}"),
            Decision::Refresh => assert!(c.refresh.is_some(), "{c:?} at {now:?}"),
            Decision::Login => assert!(c.can_log_in()),
            Decision::AdoptSeed => assert!(c.has_new_seed() && c.standing != UNKNOWN),
            Decision::Save => assert!(c.unsaved || c.behind),
        }
    }
}
