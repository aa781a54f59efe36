use super::*;

const LIMITS: Limits = Limits {
    header: Duration::from_secs(30),
    idle: Duration::from_secs(60),
    request: Duration::from_secs(60),
    still: Duration::from_secs(120),
};

async fn pass(secs: u64) {
    tokio::time::advance(Duration::from_secs(secs)).await;
}

#[tokio::test(start_paused = true)]
async fn the_first_header_is_due_from_accept_whatever_comes() {
    let activity = Activity::new();
    pass(29).await;
    activity.moved(true);
    assert_eq!(activity.look(&LIMITS), Look::Again);
    assert!(activity.next_look(&LIMITS) <= Instant::now() + Duration::from_secs(1));
    pass(1).await;
    assert_eq!(activity.look(&LIMITS), Look::Close);
}

#[tokio::test(start_paused = true)]
async fn the_next_header_is_due_from_its_first_byte() {
    let activity = Rc::new(Activity::new());
    drop(activity.begin(false, Instant::now() + LIMITS.request));
    pass(50).await;
    activity.moved(true);
    pass(29).await;
    activity.moved(true);
    assert_eq!(activity.look(&LIMITS), Look::Again);
    pass(1).await;
    assert_eq!(activity.look(&LIMITS), Look::Close);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_asked_to_end() {
    let activity = Rc::new(Activity::new());
    let exchange = activity.begin(false, Instant::now() + LIMITS.request);
    pass(10).await;
    drop(exchange);
    pass(59).await;
    assert_eq!(activity.look(&LIMITS), Look::Again);
    pass(1).await;
    assert_eq!(activity.look(&LIMITS), Look::Farewell);
}

#[tokio::test(start_paused = true)]
async fn an_exchange_may_last_as_long_as_bytes_move() {
    let activity = Rc::new(Activity::new());
    let _exchange = activity.begin(false, Instant::now() + LIMITS.request);
    for _ in 0..100 {
        pass(100).await;
        activity.moved(false);
        assert_eq!(activity.look(&LIMITS), Look::Again);
    }
    pass(119).await;
    assert_eq!(activity.look(&LIMITS), Look::Again);
    pass(1).await;
    assert_eq!(activity.look(&LIMITS), Look::Close);
}

#[tokio::test(start_paused = true)]
async fn pings_on_an_idle_http2_connection_are_no_header() {
    let activity = Rc::new(Activity::new());
    drop(activity.begin(true, Instant::now() + LIMITS.request));
    activity.moved(true);
    pass(59).await;
    assert_eq!(activity.look(&LIMITS), Look::Again);
    pass(1).await;
    assert_eq!(activity.look(&LIMITS), Look::Farewell);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_not_idle_while_the_last_of_an_answer_goes_out() {
    let activity = Rc::new(Activity::new());
    drop(activity.begin(false, Instant::now() + LIMITS.request));
    pass(4).await;
    activity.moved(false);
    pass(4).await;
    assert!(!activity.is_idle_for(FAREWELL));
    pass(1).await;
    assert!(activity.is_idle_for(FAREWELL));
    let _exchange = activity.begin(false, Instant::now() + LIMITS.request);
    assert!(!activity.is_idle_for(FAREWELL));
}

#[tokio::test(start_paused = true)]
async fn a_connection_gets_its_time_to_end_however_long_it_has_been_idle() {
    let activity = Rc::new(Activity::new());
    drop(activity.begin(false, Instant::now() + LIMITS.request));
    pass(30).await;
    activity.part();
    // What comes now may become a request.
    activity.moved(true);
    pass(4).await;
    activity.part();
    assert!(!activity.is_overdue_to_part(&LIMITS));
    pass(1).await;
    assert!(activity.is_overdue_to_part(&LIMITS));
    let _exchange = activity.begin(false, Instant::now() + LIMITS.request);
    assert!(!activity.is_overdue_to_part(&LIMITS));
}

#[tokio::test(start_paused = true)]
async fn an_exchange_is_told_when_its_time_is_over() {
    let activity = Rc::new(Activity::new());
    activity.next_look(&LIMITS);
    pass(5).await;
    let deadline = Instant::now() + LIMITS.request;
    let mut exchange = activity.begin(false, deadline);
    assert!(exchange.timer.is_none());
    while polled(&mut exchange).is_pending() {
        tokio::time::sleep_until(activity.next_look(&LIMITS)).await;
        assert_eq!(activity.look(&LIMITS), Look::Again);
    }
    assert_eq!(Instant::now(), deadline);
    drop(exchange);
    // The next one has a time of its own.
    let mut next = activity.begin(false, deadline + LIMITS.request);
    assert!(polled(&mut next).is_pending());
}

#[tokio::test(start_paused = true)]
async fn an_exchange_is_not_told_before_what_it_waits_for_until_then() {
    let activity = Rc::new(Activity::new());
    let looks = activity.next_look(&LIMITS);
    let deadline = looks + Duration::from_millis(5);
    let mut exchange = activity.begin(false, deadline);
    let mut wait = Box::pin(sleep_until(deadline));
    let mut context = Context::from_waker(std::task::Waker::noop());
    assert!(wait.as_mut().poll(&mut context).is_pending());
    tokio::time::sleep_until(looks).await;
    // The clock goes on without the timers, as it does between their turn and a task's.
    let mut passing = std::pin::pin!(tokio::time::advance(Duration::from_millis(10)));
    assert!(passing.as_mut().poll(&mut context).is_pending());
    assert_eq!((activity.look(&LIMITS), wait.is_elapsed()), (Look::Again, false));
    assert!(polled(&mut exchange).is_pending());
    tokio::time::sleep_until(activity.next_look(&LIMITS)).await;
    assert_eq!((activity.look(&LIMITS), wait.is_elapsed()), (Look::Again, true));
    assert!(polled(&mut exchange).is_ready());
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_would_be_told_too_late_or_is_not_alone_has_its_own_timer() {
    let activity = Rc::new(Activity::new());
    let looks = activity.next_look(&LIMITS);
    let early = looks - Duration::from_secs(1);
    for (multiplexed, deadline, own) in [(false, early, true), (false, looks, false), (true, looks, true)] {
        let mut exchange = activity.begin(multiplexed, deadline);
        assert_eq!(exchange.timer.is_some(), own);
        assert!(polled(&mut exchange).is_pending());
        if own {
            (&mut exchange).await;
            assert!(Instant::now() >= deadline);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_to_end_still_tells_an_exchange_in_time() {
    let activity = Rc::new(Activity::new());
    activity.next_look(&LIMITS);
    pass(29).await;
    let deadline = Instant::now() + Duration::from_millis(1500);
    let _exchange = activity.begin(false, deadline);
    pass(1).await;
    activity.part();
    assert_eq!(activity.linger(), deadline);
}

fn polled(exchange: &mut UnderWay) -> Poll<()> {
    Pin::new(exchange).poll(&mut Context::from_waker(std::task::Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn the_timer_is_never_late() {
    let activity = Rc::new(Activity::new());
    let exchange = activity.begin(false, Instant::now() + LIMITS.request);
    let look = activity.next_look(&LIMITS);
    // Right after the timer was set, the exchange ends and the next header begins.
    drop(exchange);
    activity.moved(true);
    assert!(look <= Instant::now() + LIMITS.header);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_exchange_that_has_ended_calls_nobody() {
    let activity = Rc::new(Activity::new());
    drop(activity.begin(false, Instant::now() + Duration::from_secs(10)));
    pass(20).await;
    assert_eq!(activity.look(&LIMITS), Look::Again);
    assert!(activity.next_look(&LIMITS) > Instant::now());
    assert!(activity.linger() > Instant::now());
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_was_given_more_time_than_the_connection_knows_of_has_it() {
    let activity = Rc::new(Activity::new());
    let deadline = Instant::now() + 3 * LIMITS.still;
    let _exchange = activity.begin(false, deadline);
    pass(1).await;
    assert_eq!(activity.look(&LIMITS), Look::Again);
    while Instant::now() < deadline {
        assert_eq!(activity.look(&LIMITS), Look::Again);
        let next = activity.next_look(&LIMITS);
        assert!(next > Instant::now());
        tokio::time::sleep_until(next).await;
    }
    assert_eq!(activity.look(&LIMITS), Look::Close);
}

#[tokio::test(start_paused = true)]
async fn in_http2_the_last_answers_may_take_as_long_as_some_of_them_leaves() {
    let activity = Rc::new(Activity::new());
    drop(activity.begin(true, Instant::now() + LIMITS.request));
    activity.part();
    for _ in 0..10 {
        pass(4).await;
        assert!(!activity.is_overdue_to_part(&LIMITS));
        activity.moved(false);
    }
    // But not for ever, and what comes does not tell that they leave.
    pass(LIMITS.still.as_secs()).await;
    activity.moved(false);
    assert!(activity.is_overdue_to_part(&LIMITS));
    let activity = Rc::new(Activity::new());
    drop(activity.begin(true, Instant::now() + LIMITS.request));
    activity.part();
    pass(4).await;
    activity.moved(true);
    pass(1).await;
    assert!(activity.is_overdue_to_part(&LIMITS));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_to_end_has_its_time_for_it_after_a_long_exchange() {
    let activity = Rc::new(Activity::new());
    let exchange = activity.begin(true, Instant::now() + LIMITS.request);
    activity.part();
    for _ in 0..10 {
        pass(LIMITS.still.as_secs() / 2).await;
        activity.moved(false);
        assert_eq!(activity.look(&LIMITS), Look::Again);
    }
    drop(exchange);
    pass(4).await;
    assert!(!activity.is_overdue_to_part(&LIMITS));
    pass(1).await;
    assert!(activity.is_overdue_to_part(&LIMITS));
}
