use super::*;
use crate::credential::status::Status;
use crate::credential::testing::{FakeClock, LIFE, START, access, policy, refresh, secs, set};
use crate::store::Intent;

fn intent(clock: &FakeClock) -> Intent {
    let written_at = clock.wall();
    Intent { generation: Generation(3), parent: Digest([9; 32]), owner: 1, written_at, deadline: written_at }
}

/// A credential with a pair that was obtained at [`START`].
fn held() -> Credential {
    let mut c = Credential { generation: Generation(2), ..Credential::default() };
    c.renewed(set("a", "r"), START, START, &policy(), 0.0);
    c
}

fn restored(record: Record, clock: &FakeClock) -> Credential {
    Credential::restore(Loaded { record, newer_damaged: false, ..Loaded::default() }, &policy(), clock, 0.0)
}

/// What a restart makes of `c` after `pass`, in which the machine may have been rebooted.
fn restart(c: &Credential, clock: &FakeClock, pass: impl FnOnce()) -> Credential {
    let record = c.record(clock);
    pass();
    restored(record, clock)
}

fn life(c: &Credential) -> (Duration, Duration) {
    let access = c.access.as_ref().unwrap();
    (access.expires_at.since(access.obtained_at), access.refresh_at.since(access.obtained_at))
}

#[tokio::test(start_paused = true)]
async fn a_record_brings_everything_back() {
    let clock = FakeClock::new();
    let mut c = held();
    c.seeds = vec![Digest([1; 32])];
    c.login_refused = Some(Digest([2; 32]));
    let record = c.record(&*clock);
    tokio::time::advance(secs(100)).await;
    let back = restored(record, &clock);
    assert_eq!(back.generation, Generation(3));
    assert_eq!(back.access.as_ref().unwrap().token.expose(), "a");
    assert_eq!(back.refresh.as_ref().unwrap().expose(), "r");
    assert_eq!(back.standing, Standing::Unspent);
    assert_eq!((back.seeds.clone(), back.login_refused), (c.seeds.clone(), c.login_refused));
    assert_eq!(back.access.as_ref().unwrap().expires_at, START + LIFE);
    assert_eq!(life(&back), (LIFE, secs(540)));
    assert_eq!(back.state(clock.now()), State::Valid);
}

#[tokio::test(start_paused = true)]
async fn a_credential_without_tokens_comes_back_without() {
    let clock = FakeClock::new();
    let back = restart(&Credential::default(), &clock, || {});
    assert!(back.access.is_none() && back.refresh.is_none());
    assert_eq!(back.generation, Generation(0));
}

#[tokio::test(start_paused = true)]
async fn s25_a_wall_clock_set_forward_shortens_a_life_and_one_set_back_does_not_lengthen_it() {
    let clock = FakeClock::new();
    let back = restart(&held(), &clock, || clock.set_wall_forward(secs(500)));
    assert_eq!(back.access.as_ref().unwrap().expires_at, START + secs(100));
    assert_eq!(life(&back), (LIFE, secs(540)));
    let back = restart(&held(), &clock, || clock.set_wall_forward(secs(3600)));
    assert_eq!(back.access.as_ref().unwrap().expires_at, START);
    assert!(!back.is_usable(clock.now()));
    let back = restart(&held(), &clock, || clock.set_wall_back(secs(3600)));
    assert_eq!(back.access.as_ref().unwrap().expires_at, START + LIFE);
    assert_eq!(life(&back), (LIFE, secs(540)));
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_token_expires_before_it_began_is_merely_expired() {
    let clock = FakeClock::new();
    let mut record = held().record(&*clock);
    let saved = record.access.as_mut().unwrap();
    (saved.obtained_at, saved.expires_at) = (saved.expires_at, saved.obtained_at);
    assert!(!restored(record, &clock).is_usable(clock.now()));
}

#[tokio::test(start_paused = true)]
async fn s02_grace_goes_on_across_a_restart_from_when_the_token_was_first_presented() {
    let clock = FakeClock::new();
    let mut c = held();
    c.perhaps_spent(START + secs(5));
    c.perhaps_spent(START + secs(9));
    assert_eq!(c.standing, Standing::PerhapsSpent { since: START + secs(5) });
    tokio::time::advance(secs(20)).await;
    let back = restart(&c, &clock, || {});
    assert_eq!(back.standing, c.standing);
    // Set back, the wall clock says nothing of how long ago that was.
    let back = restart(&c, &clock, || clock.set_wall_back(secs(3600)));
    assert_eq!(back.standing, Standing::PerhapsSpent { since: Moment::default() });
    let back = restart(&c, &clock, || clock.set_wall_forward(secs(7200)));
    assert_eq!(back.standing, Standing::PerhapsSpent { since: START + secs(5) - secs(7200) });
}

#[tokio::test(start_paused = true)]
async fn s02_an_open_intent_means_perhaps_spent_since_it_was_written() {
    let clock = FakeClock::new();
    tokio::time::advance(secs(50)).await;
    let open = |c: &Credential| Record { intent: Some(intent(&clock)), ..c.record(&*clock) };
    let unspent = held();
    let mut twice = held();
    twice.perhaps_spent(START + secs(5));
    let mut refused = held();
    refused.refresh_refused(&refresh("r"), START);
    let records = [(open(&unspent), 50), (open(&twice), 5), (open(&refused), 50)];
    tokio::time::advance(secs(50)).await;
    for (record, since) in records {
        let since = START + secs(since);
        assert_eq!(restored(record, &clock).standing, Standing::PerhapsSpent { since });
    }
}

#[tokio::test(start_paused = true)]
async fn s10_behind_a_damaged_record_the_older_access_token_serves_and_no_grace_is_counted_on() {
    let clock = FakeClock::new();
    for intent in [None, Some(intent(&clock))] {
        let record = Record { intent, ..held().record(&*clock) };
        let loaded = Loaded { record, newer_damaged: true, ..Loaded::default() };
        let back = Credential::restore(loaded, &policy(), &*clock, 0.0);
        assert_eq!(back.standing, Standing::PerhapsSpent { since: Moment::default() });
        assert!(back.is_usable(clock.now()));
        assert_eq!(back.state(clock.now()), State::Degraded);
        let generous = Policy { grace: secs(3600), ..policy() };
        assert!(matches!(schedule::decide(&back, &generous, clock.now()), schedule::Decision::Sleep(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn s41_after_a_restart_a_refused_token_is_tried_when_nothing_can_be_lost_by_it() {
    let clock = FakeClock::new();
    let mut c = held();
    c.refresh_refused(&refresh("r"), START);
    assert_eq!(c.standing, Standing::Refused { again_at: START + AFTER_REFUSAL });
    tokio::time::advance(secs(100)).await;
    let back = restart(&c, &clock, || {});
    assert_eq!(back.standing, Standing::Refused { again_at: START + LIFE });
    tokio::time::advance(secs(1)).await;
    let mut long = c.clone();
    long.access.as_mut().unwrap().expires_at = START + secs(9000);
    let back = restart(&long, &clock, || {});
    assert_eq!(back.standing, Standing::Refused { again_at: clock.now() + AFTER_REFUSAL });
    let back = restart(&Credential { access: None, ..c }, &clock, || {});
    assert_eq!(back.standing, Standing::Refused { again_at: clock.now() });
}

#[test]
fn s37_lifetimes_are_believed_between_a_second_and_thirty_days() {
    let month = secs(30 * 24 * 3600);
    let default = policy().default_lifetime;
    for (given, believed) in [
        (Some(Duration::ZERO), secs(1)),
        (Some(Duration::from_millis(999)), secs(1)),
        (Some(secs(1)), secs(1)),
        (Some(secs(3600)), secs(3600)),
        (Some(month), month),
        (Some(month + secs(1)), month),
        (Some(Duration::MAX), month),
        (None, default),
    ] {
        let mut c = Credential::default();
        let set = TokenSet { lifetime: given, ..set("a", "r") };
        c.renewed(set, START, START, &policy(), 0.0);
        assert_eq!(life(&c).0, believed, "{given:?}");
    }
}

#[test]
fn s37_a_token_that_is_due_on_arrival_is_followed_by_a_pause() {
    let short = TokenSet { lifetime: Some(secs(1)), ..set("a", "r") };
    let mut c = Credential::default();
    let now = START + secs(3);
    c.renewed(short.clone(), START, now, &policy(), 0.0);
    assert_eq!(c.not_before, now + Duration::from_millis(500));
    c.renewed(short, START, START, &policy(), 0.0);
    assert_eq!(c.not_before, START);
}

#[test]
fn a_life_counts_from_when_the_call_was_sent() {
    let mut c = Credential::default();
    c.renewed(set("a", "r"), START, START + secs(9), &policy(), 0.0);
    assert_eq!(c.access.unwrap().expires_at, START + LIFE);
}

#[test]
fn a_new_token_settles_what_was_asked_for_but_not_a_login_that_was_refused() {
    let mut c = held();
    (c.refused, c.wanted, c.ordered) = (true, true, true);
    c.login_refused = Some(Digest([2; 32]));
    c.perhaps_spent(START);
    c.failed(START, secs(5));
    c.renewed(set("a2", "r2"), START, START, &policy(), 0.0);
    assert!(!c.refused && !c.wanted && !c.ordered && c.attempted);
    assert_eq!((c.failures, c.not_before, c.standing), (0, START, Standing::Unspent));
    assert_eq!(c.login_refused, Some(Digest([2; 32])));
    assert_eq!((c.generation, c.refresh.unwrap().expose()), (Generation(4), "r2"));
}

#[test]
fn what_a_login_brings_descends_from_what_was_held_before() {
    let mut c = held();
    let before = c.pair();
    c.renewed(set("a2", ""), START, START, &policy(), 0.0);
    assert!(c.refresh.is_none());
    assert_eq!((c.lineage.parent(), c.lineage.len()), (Some(before), 2));
}

#[test]
fn of_the_seeds_that_were_taken_up_the_last_64_are_known() {
    let mut c = Credential::default();
    for n in 0..=Record::SEEDS {
        c.adopt_seed(refresh(&format!("seed{n}")));
        c.adopt_seed(refresh(&format!("seed{n}")));
    }
    assert_eq!(c.seeds.len(), Record::SEEDS);
    c.seed = Some(refresh("seed0").digest());
    assert!(c.has_new_seed());
    for n in 1..=Record::SEEDS {
        c.seed = Some(refresh(&format!("seed{n}")).digest());
        assert!(!c.has_new_seed());
    }
    c.seed = None;
    assert!(!c.has_new_seed());
}

#[test]
fn an_adopted_seed_is_presented_at_once() {
    let mut c = held();
    c.refresh_refused(&refresh("r"), START);
    c.adopt_seed(refresh("seed"));
    assert_eq!(schedule::decide(&c, &policy(), START), schedule::Decision::Refresh);
}

#[test]
fn an_order_sets_aside_back_off_refusals_and_the_store_for_once() {
    let mut c = held();
    c.login = Some(Digest([2; 32]));
    c.login_was_refused(START);
    c.refresh_refused(&refresh("r"), START);
    c.failed(START, secs(60));
    c.store_not_before = START + secs(60);
    c.order(START);
    assert!(c.ordered && c.can_log_in());
    assert_eq!((c.not_before, c.store_not_before), (START, START));
    assert_eq!(c.standing, Standing::Refused { again_at: START });
}

#[test]
fn the_states_are_as_the_documentation_tells() {
    let now = START + secs(1);
    let login = Some(Digest([2; 32]));
    let unknown = Standing::PerhapsSpent { since: START };
    let refused = Standing::Refused { again_at: START };
    let digest = Digest([3; 32]);
    let seed = Some(digest);
    let none = || Credential { access: None, ..held() };
    for (c, expected) in [
        (Credential { attempted: false, ..none() }, State::Starting),
        (Credential { login, ..Credential::default() }, State::Starting),
        (Credential { seed, ..Credential::default() }, State::Starting),
        (Credential::default(), State::ReauthRequired),
        (held(), State::Valid),
        (Credential { failures: 1, ..held() }, State::Degraded),
        (Credential { store_failures: 1, ..held() }, State::Degraded),
        (Credential { unsaved: true, ..held() }, State::Degraded),
        (Credential { behind: true, ..held() }, State::Degraded),
        (Credential { standing: unknown, ..held() }, State::Degraded),
        (none(), State::Expired),
        (Credential { standing: unknown, ..none() }, State::Expired),
        (Credential { standing: refused, ..held() }, State::ReauthRequired),
        (Credential { standing: refused, ..none() }, State::ReauthRequired),
        (Credential { standing: refused, seed, ..none() }, State::Expired),
        (Credential { standing: refused, seed, seeds: vec![digest], ..none() }, State::ReauthRequired),
        (Credential { standing: refused, login, ..none() }, State::Expired),
        (Credential { standing: refused, login, ..held() }, State::Valid),
        (Credential { standing: refused, login, login_refused: login, ..none() }, State::ReauthRequired),
        (Credential { refresh: None, login, ..held() }, State::Valid),
        (Credential { refresh: None, ..held() }, State::ReauthRequired),
    ] {
        assert_eq!(c.state(now), expected, "{c:?}");
    }
    assert_eq!(held().state(START + LIFE - Duration::from_nanos(1)), State::Valid);
    assert_eq!(held().state(START + LIFE), State::Expired);
}

#[test]
fn what_another_process_stored_is_taken_over_and_what_was_learnt_stays() {
    let mut c = held();
    c.adopt_seed(refresh("seed"));
    c.login = Some(Digest([2; 32]));
    c.login_was_refused(START);
    let mut stored = Credential { seeds: vec![Digest([8; 32])], ..Credential::default() };
    stored.generation = Generation(7);
    stored.access = Some(Access {
        token: access("a7"),
        obtained_at: START,
        refresh_at: START + secs(540),
        expires_at: START + LIFE,
    });
    stored.refresh = Some(refresh("r7"));
    c.take_over(stored);
    assert_eq!(c.generation, Generation(7));
    assert_eq!(c.access.as_ref().unwrap().token.expose(), "a7");
    assert_eq!(c.refresh.as_ref().unwrap().expose(), "r7");
    assert_eq!(c.seeds, [refresh("seed").digest(), Digest([8; 32])]);
    assert!(!c.can_log_in());
    assert_eq!(c.state(START), State::Valid);
}

#[tokio::test(start_paused = true)]
async fn a_life_from_before_the_wall_clock_was_set_back_is_corrected_by_the_store() {
    let clock = FakeClock::new();
    let c = held();
    let record = c.record(&*clock);
    tokio::time::advance(LIFE / 2).await;
    clock.set_wall_back(secs(7200));
    let mut back = restored(record, &clock);
    assert_eq!(back.access.as_ref().unwrap().expires_at, clock.now() + LIFE);
    back.learn(c.clone());
    assert_eq!(back.access.as_ref().unwrap().expires_at, START + LIFE);
    // Nothing is gained by a store whose clock says more, or next to nothing less.
    for more in [secs(60), Duration::ZERO] {
        let mut stored = c.clone();
        stored.access.as_mut().unwrap().expires_at = START + LIFE - Duration::from_millis(1) + more;
        back.learn(stored);
        assert_eq!(back.access.as_ref().unwrap().expires_at, START + LIFE);
    }
}

#[test]
fn a_status_shows_a_token_as_usable_until_the_moment_of_its_expiry() {
    let expires_at = Moment(Duration::from_secs(100));
    let status = Status {
        state: State::Valid,
        generation: Generation(1),
        expires_at: Some(expires_at),
        persisted: true,
        last: None,
        next_at: Moment::NEVER,
    };
    assert!(status.is_usable(expires_at - Duration::from_nanos(1)));
    assert!(!status.is_usable(expires_at));
    assert!(!Status { expires_at: None, ..status }.is_usable(Moment::default()));
}

#[test]
fn an_end_that_is_not_written_yet_does_not_hide_what_others_have_learnt() {
    let doubt = Standing::PerhapsSpent { since: START + secs(1) };
    for (own, stored, then) in [
        (Standing::Unspent, doubt, doubt),
        (doubt, Standing::Unspent, doubt),
        (Standing::Unspent, Standing::Unspent, Standing::Unspent),
        (
            doubt,
            Standing::Refused { again_at: START + secs(2) },
            Standing::Refused { again_at: START + secs(2) },
        ),
    ] {
        let mut credential = Credential { standing: own, behind: true, ..Credential::default() };
        credential.learn(Credential { standing: stored, ..Credential::default() });
        assert_eq!(credential.standing, then, "{own:?} {stored:?}");
    }
}

#[test]
fn an_order_to_log_in_again_outlives_a_look_at_the_store() {
    let stored = Credential { login_refused: Some(Digest([1; 32])), ..Credential::default() };
    let mut credential = Credential { login: stored.login_refused, ..stored.clone() };
    credential.order(START);
    credential.learn(stored.clone());
    assert!(credential.can_log_in());
    credential.ordered = false;
    credential.learn(stored);
    assert!(!credential.can_log_in());
}

#[test]
fn a_login_that_helped_one_process_is_open_to_the_others() {
    let refused = Some(Digest([1; 32]));
    let mut own = Credential { login: refused, login_refused: refused, ..held() };
    let mut stored = Credential { login_refused: None, ..own.clone() };
    stored.renewed(set("b", "s"), START, START, &policy(), 0.0);
    own.take_over(stored);
    assert!(own.can_log_in());
}

#[test]
fn without_the_shared_store_nobody_knows_that_an_operator_is_needed() {
    let mut c = Credential { shared: true, store_failures: 1, ..Credential::default() };
    assert_eq!(c.state(START), State::Starting);
    c.store_failures = 0;
    assert_eq!(c.state(START), State::ReauthRequired);
}
