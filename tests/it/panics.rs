//! A panic while a request is served. The real binary has no way to be made to panic, and should have
//! none; hence the data path in this process, with a clock that can break.

use crate::support::client::{Connection, Request, connect};
use crate::support::eventually;
use crate::support::frames::*;
use crate::support::gate::Gate;
use crate::support::http::Answer;
use crate::support::in_process::InProcess;
use crate::support::partner::Partner;

/// Makes the next request that looks at the clock meet a panic.
fn break_the_clock(gateway: &InProcess) {
    gateway.at_the_next_look(|| panic!("the clock is broken; this is the test's doing"));
}

/// Sends a request that meets a panic, and is told so.
#[track_caller]
fn panic_on(gateway: &InProcess, client: &mut Connection) {
    break_the_clock(gateway);
    let answer = client.exchange(&Request::post("/panic", "abc"));
    answer.assert_problem(500);
    assert_eq!(answer.fields.get("proxy-status"), Some("bearerd; error=proxy_internal_error"));
    assert_eq!(answer.fields.get("retry-after"), None, "trying again is not known to help");
    assert!(!answer.text().contains("the test's doing"), "{}", answer.text());
    assert!(gateway.has_looked(), "the panic was met");
}

#[test]
fn s62_a_panic_ends_the_request_that_met_it_and_nothing_else() {
    let partner = Partner::new();
    let gateway = InProcess::before(&partner, |config| config.set("server.max_in_flight", 1));
    gateway.serves("/before");
    let mut kept = connect(&gateway.address);
    assert_eq!(kept.exchange(&Request::get("/kept")).status, 200);
    for _ in 0..20 {
        panic_on(&gateway, &mut kept);
        // Of its place among the exchanges there is but one, and it has been given back.
        gateway.serves("/after");
        assert_eq!(kept.exchange(&Request::get("/kept")).status, 200);
    }
    assert_eq!((partner.seen_at("/panic").len(), partner.refreshes()), (0, 1));
    gateway.end();
}

#[test]
fn s62_a_panic_on_one_stream_of_http2_is_a_500_there_and_the_others_go_on() {
    let partner = Partner::new();
    let gateway = InProcess::before(&partner, |config| config);
    gateway.serves("/before");
    let gate = Gate::shut();
    let held = gate.clone();
    partner.on("/held", move |x| {
        held.wait();
        x.answer(&Answer::new(200, "late"))
    });
    let head = |stream, path| {
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", path)];
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))
    };
    let mut client = Frames::connect(gateway.address.tcp());
    client.send(&head(1, "/held")).unwrap();
    gate.await_arrivals(1);
    let next = |client: &mut Frames, awaited: u32| loop {
        match client.next().unwrap() {
            Said::Status(stream, status) if stream == awaited => return status,
            Said::Data(stream, _) if stream != 1 => {}
            other => panic!("{other:?}"),
        }
    };
    break_the_clock(&gateway);
    client.send(&head(3, "/panic")).unwrap();
    assert_eq!(next(&mut client, 3), 500);
    client.send(&head(5, "/x")).unwrap();
    assert_eq!(next(&mut client, 5), 200);
    gate.open();
    assert_eq!(next(&mut client, 1), 200);
    drop(client);
    assert_eq!((partner.seen_at("/panic").len(), partner.refreshes()), (0, 1));
    gateway.end();
}

#[test]
fn s62_a_panic_of_one_does_not_keep_the_others_from_the_token_that_they_wait_for() {
    let partner = Partner::new();
    let gateway = InProcess::before(&partner, |config| config);
    gateway.serves("/before");
    let gate = partner.hold_refreshes();
    partner.revoke_access();
    let waiting: Vec<_> = (0..10)
        .map(|n| {
            let address = gateway.address.clone();
            std::thread::spawn(move || Request::post(&format!("/wait/{n}"), "abc").send(&address).status)
        })
        .collect();
    gate.await_arrivals(1);
    eventually("all have met the refusal", || partner.rejected() == 10);
    for _ in 0..5 {
        panic_on(&gateway, &mut connect(&gateway.address));
    }
    gate.open();
    for waiter in waiting {
        assert_eq!(waiter.join().unwrap(), 200);
    }
    assert_eq!(gateway.credential.status().generation, bearerd::token::Generation(2));
    assert_eq!((partner.refreshes(), partner.seen_at("/panic").len()), (2, 0));
    partner.assert_no_spent_token_seen();
    gateway.serves("/after");
    gateway.end();
}
