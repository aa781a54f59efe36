//! A connection to the partner that was kept, and that the partner closes at the worst moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::Request;
use crate::support::eventually;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::recorder::{Arrival, Recorder, Reply, echo};
use crate::support::trial::in_hand;

/// Bodies that are held before they are sent, that stream, and that are too long to be held.
fn payments(path: &str) -> [(&'static str, Request); 4] {
    let long = vec![b'x'; 65 * 1024];
    [
        ("without a body", Request::new("POST", path)),
        ("held", Request::post(path, "{\"amount\":1}")),
        ("streaming", Request::new("POST", path).chunked([&b"{\"amount\""[..], b":1}"])),
        ("too long to be held", Request::post(path, long)),
    ]
}

/// One runtime, so that the connection that was kept is the one that is used.
fn before(recorder: &Recorder) -> Gateway {
    in_hand(recorder.address(), |config| {
        config.set("server.threads", 1).set("log.level", "info").set("log.access", "off")
    })
}

fn payments_in(arrivals: &[Arrival]) -> Vec<&Arrival> {
    arrivals.iter().filter(|arrival| arrival.method == "POST").collect()
}

#[test]
fn s48_a_connection_that_was_seen_to_close_costs_nothing() {
    let recorder = Recorder::new();
    let gateway = before(&recorder);
    let idle = || gateway.metric("bearerd_connections", &[("side", "upstream")]);
    for reset in [false, true] {
        for (what, payment) in payments("/pay") {
            assert_eq!(gateway.get("/warm").status, 200);
            assert_eq!(idle(), Some(1.0));
            recorder.close_all(reset);
            eventually("it is seen", || idle() == Some(0.0));
            let before = recorder.count();
            assert_eq!(gateway.send(&payment).status, 200, "{what}, reset: {reset}");
            assert_eq!(recorder.count(), before + 1, "{what}, reset: {reset}");
        }
    }
}

/// The close and the request reach bearerd at the same moment, so that it may write before it knows.
#[test]
fn s48_a_post_that_meets_a_close_is_sent_once_or_ends_in_a_502() {
    let recorder = Recorder::new();
    let gateway = before(&recorder);
    let (mut carried, mut lost) = (0, 0);
    for reset in [false, true] {
        for close_first in [true, false] {
            for (what, payment) in payments("/pay") {
                let what = format!("{what}, reset: {reset}, the close first: {close_first}");
                let mut client = gateway.connect();
                assert_eq!(client.exchange(&Request::get("/warm")).status, 200);
                let before = recorder.count();
                gateway.pause();
                if close_first {
                    recorder.close_all(reset);
                }
                client.send(&payment.to_bytes()).unwrap();
                if !close_first {
                    recorder.close_all(reset);
                }
                gateway.resume();
                let answer = client.answer("POST").unwrap();
                let arrivals = recorder.arrivals();
                let sent = payments_in(&arrivals[before..]);
                let whole = sent.iter().filter(|arrival| arrival.complete).count();
                match answer.status {
                    200 => {
                        assert_eq!((sent.len(), whole), (1, 1), "{what}");
                        carried += 1;
                    }
                    _ => {
                        answer.assert_problem(502);
                        assert_eq!(whole, 0, "{what}: the partner read nothing on a closed connection");
                        lost += 1;
                    }
                }
            }
        }
    }
    println!("{carried} were carried on another connection, {lost} ended in a 502");
    assert!(carried > 0, "what was not sent is sent on another connection");
}

#[test]
fn s48_a_post_that_was_read_in_part_or_whole_is_not_sent_again() {
    // Closes on the second request of a connection, once so much of it has come.
    for (when, is_enough) in [
        ("at the first byte", (|_: &Arrival| true) as fn(&Arrival) -> bool),
        ("at the head", |arrival| !arrival.method.is_empty()),
        ("in the body", |arrival| !arrival.body.is_empty() || arrival.complete),
        ("at the end", |arrival| arrival.complete),
    ] {
        let answers = Arc::new(AtomicUsize::new(0));
        let given = Arc::clone(&answers);
        let recorder = Recorder::answering(move |arrival| {
            if arrival.target == "/warm" {
                return arrival.complete.then(|| Reply { bytes: echo(arrival), close: false });
            }
            is_enough(arrival).then(|| {
                given.fetch_add(1, Ordering::SeqCst);
                Reply { bytes: Vec::new(), close: true }
            })
        });
        let gateway = before(&recorder);
        for (index, (what, payment)) in payments("/pay").into_iter().enumerate() {
            assert_eq!(gateway.get("/warm").status, 200);
            let answer: Answer = gateway.send(&payment);
            answer.assert_problem(502);
            assert_eq!(answers.load(Ordering::SeqCst), index + 1, "{what}, {when}: it was sent again");
        }
    }
}
