//! What a connection to the partner may carry after what it has carried.

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::{Answer, chunk};
use crate::support::noise;
use crate::support::partner::Partner;

const LIMIT: usize = 64 * 1024;

/// One runtime, and so one pool.
fn one_pool(partner: &Partner) -> Config {
    Config::to(partner).set("server.threads", 1)
}

/// The connections on which the requests for `path` came.
fn connections(partner: &Partner, path: &str) -> Vec<usize> {
    partner.seen_at(path).into_iter().map(|seen| seen.connection).collect()
}

#[test]
fn a_partner_of_http_1_0_still_gets_the_body_of_the_next_request() {
    let partner = Partner::new();
    partner.on("/old", |x| {
        x.body()?;
        x.raw(b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok")
    });
    let gateway = Gateway::start(&one_pool(&partner));
    for _ in 0..2 {
        let mut client = gateway.connect();
        client.send(&Request::get("/old").to_bytes()).unwrap();
        let head = client.head().unwrap().unwrap();
        assert!(head.start.starts_with("HTTP/1.1 200"), "{head:?}");
        let body = Request::new("POST", "/x").chunked([&b"pay 100"[..]]);
        assert_eq!(gateway.send(&body).status, 200);
        assert_eq!(partner.seen_at("/x").last().unwrap().body, b"pay 100");
    }
}

#[test]
fn a_long_upload_leaves_its_connection_for_the_next_request() {
    let partner = Partner::new();
    let gateway = Gateway::start(&one_pool(&partner));
    for _ in 0..3 {
        assert_eq!(gateway.post("/x", noise(LIMIT + 1)).status, 200);
        let chunked = noise(3000);
        assert_eq!(gateway.send(&Request::new("POST", "/x").chunked(chunked.chunks(1000))).status, 200);
    }
    let used = connections(&partner, "/x");
    assert!(used.iter().all(|connection| *connection == used[0]), "{used:?}");
}

#[test]
fn a_body_that_is_broken_from_the_start_costs_no_connections() {
    let partner = Partner::new();
    let gateway = Gateway::start(&one_pool(&partner));
    let gate = Gate::shut();
    let shut = gate.clone();
    partner.on("/held", move |x| {
        shut.wait();
        x.answer(&Answer::new(200, ""))
    });
    // Two connections that are idle at the same time.
    let held = gateway.send_aside(Request::get("/held"));
    eventually("the first is under way", || partner.seen_at("/held").len() == 1);
    assert_eq!(gateway.get("/x").status, 200);
    gate.open();
    assert_eq!(held.join().unwrap().status, 200);
    let idle = [connections(&partner, "/held"), connections(&partner, "/x")].concat();
    let broken = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n";
    gateway.raw(broken).assert_problem(400);
    assert_eq!(gateway.get("/x").status, 200);
    // The broken one may have taken one with it, and must not have tried them all.
    let used = connections(&partner, "/x");
    assert!(idle.len() == 2 && idle.contains(&used[1]), "{idle:?}, {used:?}");
}

#[test]
fn a_replay_leaves_its_connection_for_the_next_request() {
    let partner = Partner::new();
    let gateway = Gateway::start(&one_pool(&partner));
    for body in [Request::post("/x", "abc"), Request::new("POST", "/x").chunked([&b"abc"[..]])] {
        let before = partner.seen_at("/x").len();
        partner.revoke_access();
        assert_eq!(gateway.send(&body).status, 200);
        assert_eq!(gateway.get("/x").status, 200);
        let used = connections(&partner, "/x").split_off(before);
        assert_eq!(used.len(), 3);
        assert!(used.iter().all(|connection| *connection == used[0]), "{used:?}");
    }
}

#[test]
fn an_answer_with_trailers_leaves_its_connection_for_the_next_request() {
    let partner = Partner::new();
    partner.on("/x", |x| {
        x.begin_chunked(200, &[("Trailer", "X-Check")])?;
        x.chunk(b"abc")?;
        x.raw(b"0\r\nX-Check: 7\r\n\r\n")
    });
    let gateway = Gateway::start(&one_pool(&partner).set("log.access", "all"));
    for te in ["trailers", "gzip"] {
        let request = Request::get("/x").with("TE", te).with("Connection", "TE");
        assert_eq!(gateway.send(&request).text(), "abc");
    }
    let used = connections(&partner, "/x");
    assert_eq!(used[0], used[1]);
    eventually("both are in the log", || gateway.logs().matches("\"path\":\"/x\"").count() == 2);
    assert!(!gateway.logs().contains("broken_off"), "an answer with trailers has ended like any other");
}

#[test]
fn a_401_to_an_older_generation_leaves_its_connection_for_the_next_request() {
    let partner = Partner::new();
    let gate = Gate::shut();
    let held = gate.clone();
    partner.on_any("/late", move |x| {
        if held.arrivals() == 0 {
            held.wait();
            return x.unauthorized();
        }
        x.answer(&Answer::new(200, "mended"))
    });
    let gateway = Gateway::start(&one_pool(&partner));
    let late = gateway.send_aside(Request::get("/late"));
    gate.await_arrivals(1);
    partner.revoke_access();
    assert_eq!(gateway.get("/now").status, 200);
    gate.open();
    assert_eq!(late.join().unwrap().status, 200);
    // By the end of one more exchange on the same runtime, a connection that was given up is gone.
    assert_eq!(gateway.get("/now").status, 200);
    assert_eq!(gateway.metric("bearerd_connections", &[("side", "upstream")]), Some(2.0));
}

#[test]
fn a_body_that_broke_off_is_not_made_whole_by_a_replay() {
    let partner = Partner::new();
    let gate = Gate::shut();
    let held = gate.clone();
    partner.on_any("/pay", move |x| {
        x.body_at_least(5)?;
        if held.arrivals() == 0 {
            held.wait();
            return x.unauthorized();
        }
        x.body()?;
        x.answer(&Answer::new(200, "paid"))
    });
    let gateway = Gateway::start(&one_pool(&partner));
    let mut client = gateway.connect();
    let head = "POST /pay HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(&[head.as_bytes(), &chunk(b"first")].concat()).unwrap();
    gate.await_arrivals(1);
    // Both things happen at once for bearerd: the body turns out to be broken, and the 401 comes.
    gateway.pause();
    client.send(b"broken\r\n").unwrap();
    gate.open();
    eventually("the 401 is on its way", || partner.seen_at("/pay")[0].body == b"first");
    std::thread::sleep(std::time::Duration::from_millis(50));
    gateway.resume();
    assert_eq!(client.answer("POST").unwrap().status, 400);
    let seen = partner.seen_at("/pay");
    assert!(seen.iter().all(|seen| !seen.complete), "{seen:?}");
}

#[test]
fn an_answer_that_is_said_to_be_the_last_is_the_last_on_its_connection() {
    let partner = Partner::new();
    let gateway = Gateway::start(&one_pool(&partner));
    for (path, head) in [
        ("/close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
        ("/old", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("/empty", "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
        ("/more", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more"),
    ] {
        // The partner keeps the connection open, whatever it says.
        partner.on(path, move |x| x.raw(head.as_bytes()));
        assert!(gateway.get(path).status < 300);
        assert_eq!(gateway.get("/next").status, 200);
        let (last, next) = (connections(&partner, path), connections(&partner, "/next"));
        assert_ne!(last.last(), next.last(), "{path}");
    }
}
