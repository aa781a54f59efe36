//! What a connection over HTTP/2 to the partner is held to: exchanges that are given up on it, and how
//! many the partner wants.

use std::io::{self, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use h2::Reason;
use http::Request as Head;
use serde_json::Value;

use crate::support::client::{self, Request};
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, block, frame};
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http2::{Http2Partner, connect, runtime};
use crate::support::partner_frames::{Frames, OK};

/// For a bearerd that speaks HTTP/2 to `partner`, with one runtime.
fn config(partner: &Http2Partner) -> Config {
    partner.config().set("partner.http2", true).set("server.threads", 1)
}

fn before(partner: &Http2Partner) -> Gateway {
    Gateway::start(&config(partner))
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

/// How a partner tells the end of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// With its head.
    Head,
    /// In a frame of its own, behind the rest.
    Behind,
    /// In one that comes when the client has got all the rest.
    Later,
}

/// Whoever ends answers like that is neither told that they were given up nor left for another connection.
#[test]
fn an_answer_that_ends_with_its_head_or_by_itself_is_not_given_up() {
    const COUNT: usize = 450;
    for (end, method) in [
        (End::Head, "GET"),
        (End::Behind, "GET"),
        (End::Later, "GET"),
        (End::Behind, "HEAD"),
        (End::Later, "HEAD"),
    ] {
        let (got, has_got) = mpsc::channel();
        let has_got = Mutex::new(has_got);
        let body: &[u8] = if method == "GET" && end != End::Head { b"all" } else { b"" };
        let partner = Http2Partner::scripted(move |mut frames| {
            let length = if end == End::Head { "0" } else { "3" };
            let head = [OK, &block(&[("content-length", length)])].concat();
            for _ in 0..COUNT {
                let header = frames.next()?;
                assert_eq!(header.kind, HEADERS);
                let flags = if end == End::Head { END_HEADERS | END_STREAM } else { END_HEADERS };
                let mut answer = frame(HEADERS, flags, header.stream, &head);
                if !body.is_empty() {
                    answer.extend(frame(DATA, 0, header.stream, body));
                }
                if end == End::Later {
                    frames.io.write_all(&std::mem::take(&mut answer))?;
                    has_got.lock().unwrap().recv().map_err(io::Error::other)?;
                }
                if end != End::Head {
                    answer.extend(frame(DATA, END_STREAM, header.stream, b""));
                }
                frames.io.write_all(&answer)?;
            }
            serve(&mut frames)
        });
        let gateway = Gateway::start(&config(&partner).set("log.access", "all"));
        let mut connection = client::connect(gateway.proxy_addr());
        for _ in 0..COUNT {
            let answer = connection.exchange(&Request::new(method, "/x"));
            assert_eq!((answer.status, &answer.body[..]), (200, body));
            let _nobody_waits_for_it = got.send(());
        }
        assert_eq!(gateway.get("/y").text(), "served");
        assert_eq!(partner.connections(), 1, "{end:?} {method}");
        let is_whole = |line: &Value| line["path"] == "/x" && line["problem"].is_null();
        let whole = || gateway.log_lines().iter().filter(|line| is_whole(line)).count();
        eventually("all of them are in the log as whole", || whole() == COUNT);
    }
}

/// Clients that wait while two connections are held at `gate`, and what becomes of them behind it.
fn all_are_served_when_opened(gateway: &Gateway, gate: &Gate) {
    let clients: Vec<_> = (0..20).map(|_| gateway.send_aside(Request::get("/x"))).collect();
    gate.await_arrivals(2);
    gate.open();
    for client in clients {
        let answer = client.join().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "served"));
    }
}

#[test]
fn when_the_connections_end_on_which_nothing_was_wanted_others_are_tried() {
    let gate = Gate::shut();
    let held = gate.clone();
    let partner = Http2Partner::scripted(move |mut frames| {
        if frames.number < 2 {
            held.wait();
            return Ok(());
        }
        frames.want(100)?;
        serve(&mut frames)
    });
    partner.max_streams(0);
    let gateway = before(&partner);
    all_are_served_when_opened(&gateway, &gate);
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
    all_are_served_when_opened(&gateway, &gate);
    assert_eq!(partner.connections(), 2);
}

#[test]
fn a_request_for_which_there_is_no_stream_in_time_is_a_503() {
    let partner = Http2Partner::new();
    partner.max_streams(0);
    let config = config(&partner).set("server.request_timeout", "1s");
    let gateway = Gateway::start(&config);
    let answer = gateway.get("/x");
    answer.assert_problem(503);
    assert!(answer.fields.has("retry-after") && answer.text().contains("was not processed"), "{answer:?}");
    assert!(partner.seen().is_empty());
}

#[test]
fn empty_frames_of_some_answers_break_off_no_others() {
    const EMPTY: usize = 3;
    let partner = Http2Partner::scripted(move |mut frames| {
        loop {
            let stream = frames.request()?.stream;
            frames.send(HEADERS, END_HEADERS, stream, OK)?;
            (0..EMPTY).try_for_each(|_| frames.send(DATA, 0, stream, b""))?;
            frames.send(DATA, END_STREAM, stream, b"served")?;
        }
    });
    let gateway = before(&partner);
    for _ in 0..100 {
        assert_eq!(gateway.get("/x").text(), "served");
    }
    // Seventeen on each.
    assert_eq!(partner.connections(), 6);
}
