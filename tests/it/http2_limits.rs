//! What a connection over HTTP/2 to the partner is held to: exchanges that are given up on it, and how
//! many the partner wants.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;
use http::Request as Head;

use crate::support::client::Request;
use crate::support::eventually;
use crate::support::frames::{DATA, END_HEADERS, HEADERS, RST_STREAM};
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http2::{Http2Partner, connect, runtime};
use crate::support::partner_frames::{Frames, OK};

/// A bearerd that speaks HTTP/2 to `partner`, with one runtime.
fn before(partner: &Http2Partner) -> Gateway {
    Gateway::start(&partner.config().set("partner.http2", true).set("server.threads", 1))
}

/// Answers one request after another, until the connection ends.
fn serve(frames: &mut Frames) -> io::Result<()> {
    loop {
        let header = frames.request()?;
        frames.answer(header.stream, b"served")?;
    }
}

/// So many are given up at a time, beside one that is not.
const AT_ONCE: usize = 99;

/// Takes requests, waits until all of them have been given up, and answers them then.
fn answer_too_late(frames: &mut Frames, seen: &AtomicUsize) -> io::Result<()> {
    let mut streams = Vec::new();
    while streams.len() < AT_ONCE {
        streams.push(frames.request()?.stream);
        seen.fetch_add(1, Ordering::SeqCst);
    }
    for _ in 0..AT_ONCE {
        while frames.next()?.kind != RST_STREAM {}
        seen.fetch_add(1, Ordering::SeqCst);
    }
    streams.iter().try_for_each(|&stream| frames.send(HEADERS, END_HEADERS, stream, OK))?;
    for _ in 0..5 {
        // Of what comes at once a library may count only the first.
        frames.round_trip()?;
        streams.iter().try_for_each(|&stream| frames.send(DATA, 0, stream, b"too late"))?;
    }
    Ok(())
}

#[test]
fn s55_answers_that_nobody_waits_for_any_more_end_no_connection_under_others() {
    // Requests that have come, and resets.
    let (seen, gate) = (Arc::<AtomicUsize>::default(), Gate::shut());
    let (counts, held) = (Arc::clone(&seen), gate.clone());
    let partner = Http2Partner::scripted(move |mut frames| {
        if frames.number > 0 {
            return serve(&mut frames);
        }
        let long = frames.request()?;
        counts.fetch_add(1, Ordering::SeqCst);
        for _ in 0..4 {
            answer_too_late(&mut frames, &counts)?;
        }
        let beside = frames.request()?;
        frames.answer(beside.stream, b"beside them")?;
        answer_too_late(&mut frames, &counts)?;
        held.wait();
        frames.answer(long.stream, b"worth waiting for")
    });
    let gateway = before(&partner);
    let long = gateway.send_aside(Request::get("/long"));
    eventually("it has arrived", || seen.load(Ordering::SeqCst) == 1);

    let runtime = runtime();
    let mut requests = runtime.block_on(connect(gateway.proxy_addr()));
    let mut give_up = || {
        let before = seen.load(Ordering::SeqCst);
        let head = || Head::get("http://app.test/given-up").body(()).unwrap();
        let send = |_| runtime.block_on(async { requests.send_request(head(), true).unwrap() });
        let given_up: Vec<_> = (0..AT_ONCE).map(send).collect();
        eventually("they have arrived", || seen.load(Ordering::SeqCst) == before + AT_ONCE);
        for (_, mut stream) in given_up {
            stream.send_reset(Reason::CANCEL);
        }
        eventually("the partner knows", || seen.load(Ordering::SeqCst) == before + 2 * AT_ONCE);
    };
    (0..4).for_each(|_| give_up());
    assert_eq!(gateway.get("/beside").text(), "beside them");
    assert_eq!(partner.connections(), 1);

    // More than that are not put on the same connection, and what is under way on it goes on.
    give_up();
    gate.await_arrivals(1);
    assert_eq!(gateway.get("/elsewhere").text(), "served");
    assert_eq!(partner.connections(), 2);
    gate.open();
    let long = long.join().unwrap();
    assert_eq!((long.status, long.text().as_str()), (200, "worth waiting for"));
}

#[test]
fn a_partner_that_wants_no_exchanges_for_a_while_is_waited_for_and_not_flooded_with_connections() {
    let gate = Gate::shut();
    let held = gate.clone();
    let partner = Http2Partner::scripted(move |mut frames| {
        held.wait();
        frames.want(100)?;
        serve(&mut frames)
    });
    partner.max_streams(0);
    let gateway = before(&partner);
    let clients: Vec<_> = (0..20).map(|_| gateway.send_aside(Request::get("/x"))).collect();
    gate.await_arrivals(2);
    gate.open();
    for client in clients {
        let answer = client.join().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "served"));
    }
    assert_eq!(partner.connections(), 2);
}
