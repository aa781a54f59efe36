//! Clients that make an HTTP/2 connection as much work as they can: everybody else is served, and
//! what one connection can take is bounded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::frames::*;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::Answer;
use crate::support::partner::Partner;
use crate::support::vitals::{most_resident, resident};

const MEBIBYTE: u64 = 1 << 20;

#[test]
fn s59_a_stream_whose_answer_is_not_taken_is_given_up_among_others_that_are() {
    let partner = Partner::new();
    partner.on("/large", |x| x.answer(&Answer::new(200, vec![b'x'; 200_000])));
    let short = Config::to(&partner).set("server.idle_timeout", "1s").set("server.request_timeout", "1s");
    let gateway = Gateway::start(&short.set("log.access", "off"));
    let head = |stream, path| {
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", path)];
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))
    };
    let mut client = Frames::connect(gateway.proxy_addr().tcp());
    // No room on any stream, so that none of a body is taken.
    client.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).unwrap();
    client.send(&head(1, "/large")).unwrap();
    assert_eq!(client.next().unwrap(), Said::Status(1, 200));
    let mut streams = (3..).step_by(2);
    // Others come and go on the connection, whose answers have no body.
    partner.on("/empty", |x| x.answer(&Answer::new(204, "")));
    let given_up = loop {
        let stream = streams.next().unwrap();
        client.send(&head(stream, "/empty")).unwrap();
        match client.next().unwrap() {
            Said::Status(of, 204) => assert_eq!(of, stream),
            other => break other,
        }
    };
    const CANCEL: u32 = 8;
    assert_eq!(given_up, Said::Reset(1, CANCEL));
    assert!(matches!(client.next().unwrap(), Said::Status(_, 204)));
}

/// A client goes on until it has learned that it is answered, and what it has sent by then comes late.
#[test]
fn s55_uploads_that_are_answered_before_their_end_end_no_connection() {
    const AT_ONCE: usize = 99;
    let (partner, gate) = (Partner::new(), Gate::shut());
    let held = gate.clone();
    partner.on("/long", move |x| {
        held.wait();
        x.answer(&Answer::new(200, ""))
    });
    let gateway = Gateway::start(&Config::to(&partner).set("server.threads", 1).set("log.access", "off"));
    let mut client = Frames::connect(gateway.proxy_addr().tcp());
    // Room for all answers.
    client.send(&frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 24).to_be_bytes())).unwrap();
    client.send(&head(1, END_STREAM, "/long")).unwrap();
    gate.await_arrivals(1);
    for round in 0..12 {
        let streams = (1..=AT_ONCE).map(|number| odd(round * AT_ONCE + number));
        // To log in is bearerd's affair, and that it is asked for is clear from the head.
        let heads = streams.clone().flat_map(|stream| head(stream, 0, "/openapi/v1/auth/login"));
        client.send(&heads.collect::<Vec<u8>>()).unwrap();
        let mut answered = 0;
        while answered < AT_ONCE {
            match client.next().unwrap() {
                Said::Status(_, 403) => answered += 1,
                Said::Data(..) => {}
                other => panic!("{other:?} in round {round}"),
            }
        }
        for _ in 0..10 {
            let pieces = streams.clone().flat_map(|stream| frame(DATA, 0, stream, b"late"));
            client.send(&pieces.collect::<Vec<u8>>()).unwrap();
        }
        let mut told = 0;
        while told < AT_ONCE {
            match client.next().unwrap() {
                // Without an error.
                Said::Reset(_, 0) => told += 1,
                Said::Data(..) => {}
                other => panic!("{other:?} at the end of round {round}"),
            }
        }
    }
    gate.open();
    assert_eq!(client.next().unwrap(), Said::Status(1, 200));
}

/// Sends `begin`, and then the same again and again until it is enough or nobody takes it any more;
/// meanwhile others are served. Returns how many pieces were taken.
fn flood(begin: &[u8], pieces: usize, piece: impl Fn(usize) -> Vec<u8> + Sync) -> (Partner, Gateway, usize) {
    let partner = Partner::new();
    let config = Config::to(&partner).set("log.level", "info").set("log.access", "off");
    let gateway = Gateway::start(&config.set("server.idle_timeout", "2s").set("server.header_timeout", "2s"));
    assert_eq!(gateway.get("/quick").status, 200);
    let before = resident(gateway.pid());
    let mut client = Frames::connect(gateway.proxy_addr().tcp());
    client.send(begin).unwrap();
    let ended = AtomicBool::new(false);
    let taken = thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let taken = (0..pieces).take_while(|number| client.send(&piece(*number)).is_ok()).count();
            ended.store(true, Ordering::SeqCst);
            taken
        });
        let mut served = 0;
        while !ended.load(Ordering::SeqCst) || served == 0 {
            assert_eq!(gateway.get("/quick").status, 200);
            served += 1;
        }
        println!("{served} others were served meanwhile");
        flooding.join().unwrap()
    });
    let open = || gateway.metric("bearerd_connections", &[("side", "client")]);
    eventually("it is not waited for for ever", || open() == Some(0.0));
    let grown = most_resident(gateway.pid()).saturating_sub(before);
    println!("{taken} of {pieces} were taken, and took {} KiB", grown / 1024);
    assert!(grown < 16 * MEBIBYTE, "{grown} bytes");
    assert_eq!(gateway.get("/quick").status, 200);
    (partner, gateway, taken)
}

fn head(stream: u32, flags: u8, path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", path)];
    frame(HEADERS, END_HEADERS | flags, stream, &block(&fields))
}

fn odd(number: usize) -> u32 {
    u32::try_from(number).unwrap() * 2 + 1
}

#[test]
fn s59_streams_that_are_reset_at_once_cost_little_and_leave_nothing() {
    let (partner, gateway, _) = flood(b"", 20_000, |number| {
        let reset = frame(RST_STREAM, 0, odd(number), &8_u32.to_be_bytes());
        [head(odd(number), END_STREAM, "/reset"), reset].concat()
    });
    // Those that went out before their reset came were cancelled there, too.
    eventually("the partner's connections are free", || {
        gateway.metric("bearerd_connections", &[("side", "upstream")]) <= Some(4.0)
    });
    println!("{} of them reached the partner", partner.seen_at("/reset").len());
    assert_eq!(partner.refreshes(), 1);
}

#[test]
fn s59_streams_that_are_made_to_be_reset_by_the_server_cost_little() {
    // Each is opened, and then spoilt by a window of nothing.
    flood(b"", 20_000, |number| {
        let nothing = frame(WINDOW_UPDATE, 0, odd(number), &[0; 4]);
        [head(odd(number), 0, "/spoilt"), nothing].concat()
    });
}

#[test]
fn s60_a_head_without_end_is_not_read() {
    let begin = frame(HEADERS, 0, 1, &block(&[("x", "y")]));
    let (partner, _, taken) =
        flood(&begin, 10_000, |_| frame(CONTINUATION, 0, 1, &block(&[("x", "y"); 1000])));
    assert!(taken < 10_000, "40 MiB of one head were taken");
    assert_eq!(partner.seen_at("/x").len(), 0);
}

#[test]
fn s60_a_head_in_empty_pieces_is_not_read() {
    let begin = frame(HEADERS, 0, 1, &block(&[("x", "y")]));
    let (_, _, taken) = flood(&begin, 1_000_000, |_| frame(CONTINUATION, 0, 1, &[]));
    assert!(taken < 1_000_000, "a million pieces of one head were taken");
}

#[test]
fn s59_settings_and_pings_whose_answers_nobody_reads_are_not_heaped_up() {
    for kind in [SETTINGS, PING] {
        let payload: &[u8] = if kind == PING { b"pingpong" } else { &[0, 4, 0, 1, 0, 0] };
        flood(b"", 200, |_| frame(kind, 0, 0, payload).repeat(2000));
    }
}

#[test]
fn s59_empty_pieces_of_a_body_are_no_progress() {
    let begin = head(1, 0, "/x");
    let (partner, _, _) = flood(&begin, 500, |_| frame(DATA, 0, 1, b"").repeat(1000));
    assert!(partner.seen_at("/x").iter().all(|seen| !seen.complete));
}

#[test]
fn s60_more_streams_than_allowed_are_refused_and_the_others_served() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let gate = Gate::shut();
    let held = gate.clone();
    partner.on("/held", move |x| {
        held.wait();
        x.answer(&Answer::new(200, "late"))
    });
    let mut client = Frames::connect(gateway.proxy_addr().tcp());
    // The bound is known to a client only when it has read the settings; this one does not wait.
    for number in 0..150 {
        client.send(&head(odd(number), END_STREAM, "/held")).unwrap();
    }
    gate.await_arrivals(100);
    let mut refused = 0;
    while refused < 50 {
        match client.next().unwrap() {
            Said::Reset(_, 7) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(gate.arrivals(), 100);
    gate.open();
    let mut answered = 0;
    while answered < 100 {
        match client.next() {
            Ok(Said::Status(_, 200)) => answered += 1,
            Ok(Said::Data(..)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => panic!("{answered} were answered: {error}"),
        }
    }
    assert_eq!(gateway.send(&Request::get("/x")).status, 200);
}

/// The window of a client that reads nothing is full after a while; nothing more is made for it.
#[test]
fn s59_a_window_that_stays_shut_holds_the_answer_at_the_partner() {
    let partner = Partner::new();
    partner.on("/large", |x| x.answer(&Answer::new(200, vec![b'x'; 8 << 20])));
    let config = Config::to(&partner).set("log.level", "info").set("server.idle_timeout", "1s");
    let gateway = Gateway::start(&config.set("server.request_timeout", "1s"));
    assert_eq!(gateway.get("/large").body.len(), 8 << 20);
    let before = resident(gateway.pid());
    let mut client = Frames::connect(gateway.proxy_addr().tcp());
    // A first window of nothing for each stream.
    client.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).unwrap();
    for number in 0..50 {
        client.send(&head(odd(number), END_STREAM, "/large")).unwrap();
    }
    eventually("all have asked", || partner.seen_at("/large").len() == 51);
    assert_eq!(gateway.get("/quick").status, 200);
    let open = || gateway.metric("bearerd_connections", &[("side", "client")]);
    eventually("it is not waited for for ever", || open() == Some(0.0));
    let each = most_resident(gateway.pid()).saturating_sub(before) / 50;
    println!("{} KiB for each answer", each / 1024);
    assert!(each < 768 * 1024, "{each} bytes for each");
}
