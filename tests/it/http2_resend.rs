//! What is sent again over HTTP/2, and what never is: GOAWAY, refused streams, lost connections.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::client::Request;
use crate::support::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, PUSH_PROMISE, RST_STREAM, frame};
use crate::support::gateway::Gateway;
use crate::support::http::{Answer, Fields, chunk, head_bytes};
use crate::support::http2::Http2Partner;
use crate::support::partner_frames::{Frame, Frames, OK, REFUSED_STREAM, goaway};
use crate::support::rest::Watched;
use crate::support::{eventually, noise};

const LIMIT: usize = 64 * 1024;

/// The bodies of the requests that reached the partner, as far as they came, in order of arrival.
#[derive(Clone, Default)]
struct Arrived(Arc<Mutex<Vec<Vec<u8>>>>);

impl Arrived {
    fn push(&self, body: Vec<u8>) {
        self.0.lock().unwrap().push(body);
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn bodies(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().clone()
    }
}

/// A bearerd before a partner that does `script` with each of its connections. It keeps to one
/// runtime, so that the order of connections is known.
fn before(script: impl Fn(&mut Frames) -> io::Result<()> + Send + Sync + 'static) -> (Http2Partner, Gateway) {
    let partner = Http2Partner::scripted(move |mut frames| script(&mut frames));
    let config = partner.config().set("partner.http2", true).set("server.threads", 1);
    let gateway = Gateway::start(&config.set("log.access", "all"));
    (partner, gateway)
}

/// Takes whole requests and answers each with its body, until the connection ends.
fn serve(frames: &mut Frames, arrived: &Arrived) -> io::Result<()> {
    loop {
        let header = frames.request()?;
        let body = frames.body(&header)?;
        arrived.push(body.clone());
        frames.answer(header.stream, &body)?;
    }
}

/// The log's line on the exchange for `path`.
fn line_of(gateway: &Gateway, path: &str) -> Value {
    let line = || gateway.log_lines().into_iter().find(|line| line["path"] == path);
    eventually("the exchange is in the log", || line().is_some());
    line().unwrap()
}

fn post(path: &str, body: &[u8], held: bool) -> Request {
    match held {
        true => Request::post(path, body),
        false => Request::new("POST", path).chunked(body.chunks(4093)),
    }
}

#[test]
fn s49_a_request_above_the_last_stream_of_a_goaway_is_sent_again() {
    for held in [true, false] {
        let arrived = Arrived::default();
        let seen = arrived.clone();
        let (partner, gateway) = before(move |frames| {
            if frames.number > 0 {
                return serve(frames, &seen);
            }
            let first = frames.request()?;
            frames.answer(first.stream, b"first")?;
            let second = frames.request()?;
            seen.push(frames.body(&second)?);
            io::Write::write_all(&mut frames.io, &goaway(first.stream, 0))
        });
        assert_eq!(gateway.get("/first").text(), "first");
        let body = noise(10_000);
        let answer = gateway.send(&post("/second", &body, held));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body == body && arrived.bodies() == [body.clone(), body], "held: {held}");
        assert_eq!(partner.connections(), 2);
        assert_eq!(line_of(&gateway, "/second")["resend_count"], 1);
        assert_eq!(gateway.metric("bearerd_replays_total", &[]).unwrap_or(0.0), 0.0, "no 401 was met");
    }
}

#[test]
fn s49_a_request_at_or_below_the_last_stream_of_a_goaway_is_not_sent_again() {
    for held in [true, false] {
        for (last, code) in [(1, 0), (1, 11), (0x7fff_ffff, 0)] {
            let arrived = Arrived::default();
            let seen = arrived.clone();
            let (_partner, gateway) = before(move |frames| {
                let header = frames.request()?;
                seen.push(frames.body(&header)?);
                io::Write::write_all(&mut frames.io, &goaway(last, code))
            });
            let answer = gateway.send(&post("/pay", &noise(100), held));
            answer.assert_problem(502);
            assert!(answer.text().contains("may have been processed"), "{}", answer.text());
            assert_eq!(arrived.count(), 1, "held: {held}, last: {last}");
            assert_eq!(line_of(&gateway, "/pay")["resend_count"], 0);
        }
    }
}

#[test]
fn s49_an_exchange_at_or_below_the_last_stream_goes_on_and_new_ones_go_elsewhere() {
    let arrived = Arrived::default();
    let (seen, begun) = (arrived.clone(), Arrived::default());
    let first = begun.clone();
    let (partner, gateway) = before(move |frames| {
        if frames.number > 0 {
            return serve(frames, &seen);
        }
        let header = frames.request()?;
        first.push(Vec::new());
        io::Write::write_all(&mut frames.io, &goaway(header.stream, 0))?;
        eventually("another has been served", || seen.count() == 1);
        frames.answer(header.stream, b"the old one")
    });
    let old = gateway.send_aside(Request::get("/old"));
    eventually("the old one has arrived", || begun.count() == 1);
    let new = gateway.post("/new", "the new one");
    assert_eq!((new.status, new.text().as_str()), (200, "the new one"));
    let old = old.join().unwrap();
    assert_eq!((old.status, old.text().as_str()), (200, "the old one"));
    assert_eq!((arrived.count(), partner.connections()), (1, 2));
}

/// What ends a stream that may have been processed is not taken for the GOAWAY that came before it.
#[test]
fn s49_a_partner_that_breaks_the_protocol_after_a_goaway_gets_nothing_twice() {
    let arrived = Arrived::default();
    let seen = arrived.clone();
    let (_partner, gateway) = before(move |frames| {
        if frames.number > 0 {
            return serve(frames, &seen);
        }
        let (low, high) = (frames.request()?, frames.request()?);
        seen.push(low.payload.clone());
        let mut bytes = goaway(low.stream, 0);
        let promise = [&2_u32.to_be_bytes()[..], &[0x82, 0x84, 0x86]].concat();
        bytes.extend(frame(PUSH_PROMISE, END_HEADERS, high.stream, &promise));
        io::Write::write_all(&mut frames.io, &bytes)?;
        while frames.next().is_ok() {}
        Ok(())
    });
    let both: Vec<_> = (0..2).map(|_| gateway.send_aside(Request::post("/pay", "twice?"))).collect();
    let mut statuses: Vec<u16> = both.into_iter().map(|one| one.join().unwrap().status).collect();
    statuses.sort_unstable();
    // One may have been processed; the other was not, and is.
    assert_eq!(statuses, [200, 502]);
    assert_eq!(arrived.bodies()[1..], [b"twice?".to_vec()]);
}

#[test]
fn s49_a_refused_stream_is_sent_again() {
    for held in [true, false] {
        let arrived = Arrived::default();
        let seen = arrived.clone();
        let (partner, gateway) = before(move |frames| {
            let header = frames.request()?;
            seen.push(frames.body(&header)?);
            frames.reset(header.stream, REFUSED_STREAM)?;
            serve(frames, &seen)
        });
        let body = noise(10_000);
        let answer = gateway.send(&post("/pay", &body, held));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body == body && arrived.bodies() == [body.clone(), body], "held: {held}");
        // A refused stream says nothing against its connection.
        assert_eq!(partner.connections(), 1);
        assert_eq!(line_of(&gateway, "/pay")["resend_count"], 1);
    }
}

#[test]
fn s49_a_body_that_streams_is_sent_again_whole_and_the_rest_follows() {
    let arrived = Arrived::default();
    let seen = arrived.clone();
    let (_partner, gateway) = before(move |frames| {
        for _ in 0..2 {
            let header = frames.request()?;
            // Refused in the middle.
            let part = frames.next()?;
            assert_eq!((part.kind, part.stream), (DATA, header.stream));
            seen.push(part.payload);
            frames.reset(header.stream, REFUSED_STREAM)?;
        }
        let header = frames.request()?;
        let part = frames.next()?;
        seen.push(part.payload.clone());
        let body = [part.payload, frames.body(&header)?].concat();
        frames.answer(header.stream, &body)
    });
    let mut client = gateway.connect();
    let mut fields = Fields::default();
    fields.push("Host", "app.test");
    fields.push("Transfer-Encoding", "chunked");
    client.send(&head_bytes("POST /upload HTTP/1.1", &fields)).unwrap();
    client.send(&chunk(b"first")).unwrap();
    eventually("sent three times", || arrived.count() == 3);
    client.send(&[chunk(b", then the rest"), b"0\r\n\r\n".to_vec()].concat()).unwrap();
    let answer = client.answer("POST").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "first, then the rest"));
    assert_eq!(arrived.bodies(), vec![b"first".to_vec(); 3]);
}

#[test]
fn s49_a_body_of_which_something_is_lost_is_not_sent_again() {
    let arrived = Arrived::default();
    let seen = arrived.clone();
    let (_partner, gateway) = before(move |frames| {
        let header = frames.request()?;
        seen.push(frames.next()?.payload);
        frames.reset(header.stream, REFUSED_STREAM)?;
        while frames.next().is_ok() {}
        Ok(())
    });
    let answer = gateway.post("/pay", noise(LIMIT + 1));
    answer.assert_problem(502);
    assert!(answer.text().contains("it was not processed"), "{}", answer.text());
    assert_eq!(arrived.count(), 1);
    assert_eq!(line_of(&gateway, "/pay")["problem"], "unprocessed");
}

#[test]
fn s49_a_partner_that_refuses_everything_is_asked_three_times() {
    let arrived = Arrived::default();
    let seen = arrived.clone();
    let (_partner, gateway) = before(move |frames| {
        loop {
            let header = frames.request()?;
            seen.push(Vec::new());
            frames.reset(header.stream, REFUSED_STREAM)?;
        }
    });
    gateway.get("/x").assert_problem(502);
    assert_eq!(arrived.count(), 3);
    assert_eq!(line_of(&gateway, "/x")["resend_count"], 2);
}

#[test]
fn s49_a_stream_that_is_reset_with_any_other_code_is_not_sent_again() {
    let arrived = Arrived::default();
    let seen = arrived.clone();
    let codes = Arc::new(AtomicUsize::new(0));
    let (_partner, gateway) = before(move |frames| {
        loop {
            let header = frames.request()?;
            seen.push(frames.body(&header)?);
            let code = codes.fetch_add(1, Ordering::SeqCst);
            // 7 is the one that says that nothing was done; here it is left out.
            frames.reset(header.stream, u32::try_from(if code < 7 { code } else { code + 1 }).unwrap())?;
        }
    });
    for round in 1..=14 {
        gateway.post("/pay", "100").assert_problem(502);
        assert_eq!(arrived.count(), round);
    }
}

#[test]
fn s49_once_an_answer_has_begun_a_refusal_is_its_end() {
    let arrived = Arrived::default();
    let seen = arrived.clone();
    let (_partner, gateway) = before(move |frames| {
        let header = frames.request()?;
        seen.push(frames.body(&header)?);
        frames.send(HEADERS, END_HEADERS, header.stream, OK)?;
        frames.send(DATA, 0, header.stream, b"so far")?;
        frames.reset(header.stream, REFUSED_STREAM)?;
        serve(frames, &seen)
    });
    let mut client = gateway.connect();
    client.send(&Request::post("/pay", "100").to_bytes()).unwrap();
    let broken = client.answer("POST");
    assert!(broken.is_err(), "the answer is cut off, not ended: {broken:?}");
    assert_eq!(arrived.count(), 1);
}

#[test]
fn s48_a_connection_that_is_lost_in_an_exchange_costs_the_exchange() {
    let arrived = Arrived::default();
    let seen = arrived.clone();
    let (_partner, gateway) = before(move |frames| {
        let header = frames.request()?;
        seen.push(frames.body(&header)?);
        frames.io.shutdown(std::net::Shutdown::Both)
    });
    gateway.post("/pay", "100").assert_problem(502);
    assert_eq!(arrived.count(), 1);
}

/// However the end of the connection and the next request come together: nothing has left on the
/// old connection, so the request goes on a new one.
#[test]
fn s48_a_connection_that_is_closed_between_requests_costs_none() {
    let arrived = Arrived::default();
    let (seen, close) = (arrived.clone(), Arc::new(AtomicUsize::new(0)));
    let (closing, closed) = (Arc::clone(&close), Arc::new(AtomicUsize::new(0)));
    let closings = Arc::clone(&closed);
    let (partner, gateway) = before(move |frames| {
        let header = frames.request()?;
        let body = frames.body(&header)?;
        seen.push(body.clone());
        frames.answer(header.stream, &body)?;
        eventually("to be closed", || closing.load(Ordering::SeqCst) > frames.number);
        frames.io.shutdown(std::net::Shutdown::Both)?;
        closings.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let mut client = gateway.connect();
    assert_eq!(client.exchange(&Request::post("/pay", "first")).text(), "first");
    let worker = Watched::named(gateway.pid(), "worker-0");
    for round in 1..=20 {
        let end = || {
            close.store(round, Ordering::SeqCst);
            eventually("closed", || closed.load(Ordering::SeqCst) == round);
        };
        let request = Request::post("/pay", format!("{round}")).to_bytes();
        // The end and the request are found at once, one before the other or the other way round.
        worker.await_rest();
        gateway.pause();
        if round % 2 == 0 {
            end();
        }
        client.send(&request).unwrap();
        if round % 2 == 1 {
            end();
        }
        gateway.resume();
        let answer: Answer = client.answer("POST").unwrap();
        assert_eq!((answer.status, answer.text()), (200, format!("{round}")));
        assert_eq!((partner.connections(), arrived.count()), (round + 1, round + 1));
    }
    close.store(usize::MAX, Ordering::SeqCst);
}

#[test]
fn s49_a_request_that_was_refused_can_still_be_replayed_after_a_401() {
    const UNAUTHORIZED: &[u8] = &[0x08, 3, b'4', b'0', b'1'];
    let arrived = Arrived::default();
    let seen = arrived.clone();
    let (partner, gateway) = before(move |frames| {
        for round in 0..3 {
            let header = frames.request()?;
            seen.push(frames.body(&header)?);
            if round == 1 {
                frames.send(HEADERS, END_HEADERS | END_STREAM, header.stream, UNAUTHORIZED)?;
            } else {
                frames.reset(header.stream, REFUSED_STREAM)?;
            }
        }
        serve(frames, &seen)
    });
    let body = noise(5000);
    let answer = gateway.send(&post("/pay", &body, false));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(arrived.bodies() == vec![body; 4]);
    assert_eq!(partner.tokens.refreshes(), 2);
    assert_eq!(line_of(&gateway, "/pay")["resend_count"], 3);
    let accepted = gateway.metric("bearerd_replays_total", &[("result", "accepted")]);
    assert_eq!(accepted, Some(1.0), "the 401 was met once");
}

#[test]
fn a_client_that_goes_while_a_connection_is_made_takes_it_from_nobody() {
    let (partner, gateway) = before(|frames| serve(frames, &Arrived::default()));
    let gate = partner.hold_connections();
    let mut going = gateway.connect();
    going.send(&Request::post("/going", "x").to_bytes()).unwrap();
    gate.await_arrivals(1);
    let staying = gateway.send_aside(Request::post("/staying", "y"));
    eventually("both wait", || gateway.metric("bearerd_connections", &[("side", "client")]) == Some(2.0));
    going.hang_up();
    eventually("one has gone", || gateway.metric("bearerd_connections", &[("side", "client")]) == Some(1.0));
    gate.open();
    assert_eq!(staying.join().unwrap().text(), "y");
    assert_eq!(partner.connections(), 1);
}

#[test]
fn a_partner_that_is_away_is_told_to_all_who_wait_for_it() {
    let (mut partner, gateway) = before(|frames| serve(frames, &Arrived::default()));
    partner.stop();
    let clients: Vec<_> = (0..5).map(|_| gateway.send_aside(Request::get("/x"))).collect();
    for client in clients {
        let answer = client.join().unwrap();
        answer.assert_problem(502);
        assert!(answer.text().contains("was not processed"), "{}", answer.text());
    }
}

#[test]
fn a_client_that_goes_away_has_its_stream_reset_and_no_other() {
    let resets: Arc<Mutex<Vec<Frame>>> = Arc::default();
    let (seen, begun) = (Arc::clone(&resets), Arrived::default());
    let arriving = begun.clone();
    let (_partner, gateway) = before(move |frames| {
        let (first, second) = (frames.request()?, frames.request()?);
        arriving.push(Vec::new());
        loop {
            let frame = frames.next()?;
            if frame.kind == RST_STREAM {
                seen.lock().unwrap().push(frame);
                // The other one is answered all the same.
                for stream in [first.stream, second.stream] {
                    frames.answer(stream, b"ok")?;
                }
            }
        }
    });
    let mut going = gateway.connect();
    going.send(&Request::get("/going").to_bytes()).unwrap();
    let staying = gateway.send_aside(Request::get("/staying"));
    eventually("both have arrived", || begun.count() == 1);
    going.hang_up();
    assert_eq!(staying.join().unwrap().text(), "ok");
    let resets = resets.lock().unwrap();
    assert_eq!(resets.len(), 1, "{resets:?}");
    assert_eq!(resets[0].payload, 8_u32.to_be_bytes(), "CANCEL");
}
