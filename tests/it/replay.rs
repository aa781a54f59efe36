//! A 401 is mended where it can be: a new token, and the same request again, to the byte.

use std::io::Read as _;
use std::sync::Mutex;

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::{Answer, Fields, chunk, head_bytes};
use crate::support::partner::Partner;
use crate::support::{eventually, noise, sha256};

const LIMIT: usize = 64 * 1024;

/// Chunks small enough that no size lines up with a buffer.
fn chunked(path: &str, body: &[u8]) -> Request {
    Request::new("POST", path).chunked(body.chunks(4093))
}

#[test]
fn the_token_is_that_of_the_moment_at_which_a_slow_body_has_come() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).with_admin_socket());
    let mut client = gateway.connect();
    let slow = "POST /slow HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 6\r\n\r\n";
    client.send(slow.as_bytes()).unwrap();
    // Which says that the body is waited for.
    assert!(client.head().unwrap().unwrap().start.contains(" 100 "));
    let generation = gateway.generation();
    partner.revoke_access();
    assert_eq!(gateway.admin(&Request::post("/partners/acme/refresh", "")).status, 200);
    gateway.await_generation(generation + 1);
    client.send(b"abcdef").unwrap();
    assert_eq!(client.answer("POST").unwrap().status, 200);
    assert_eq!((partner.rejected(), partner.only().body), (0, b"abcdef".to_vec()));
}

#[test]
fn a_401_is_invisible_and_the_body_is_the_same_to_the_byte() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    for size in [0, 1, LIMIT - 1, LIMIT] {
        let body = noise(size);
        for (path, request) in [
            ("/known", Request::post("/known?q=1", body.clone())),
            ("/unknown", chunked("/unknown?q=1", &body)),
        ] {
            let (refreshes, before) = (partner.refreshes(), partner.seen_at(path).len());
            partner.revoke_access();
            assert_eq!(gateway.send(&request).status, 200, "{path} {size}");
            let seen = partner.seen_at(path).split_off(before);
            assert_eq!(seen.len(), 2, "{path} {size}");
            for (round, sent) in seen.iter().enumerate() {
                assert!(sent.complete, "{path} {size} {round}");
                assert_eq!(sha256(&sent.body), sha256(&body), "{path} {size} {round}");
            }
            assert_eq!((&seen[0].target, &seen[0].method), (&seen[1].target, &seen[1].method));
            assert_eq!(partner.refreshes(), refreshes + 1);
        }
    }
    partner.assert_no_spent_token_seen();
    assert!(
        gateway.metric("bearerd_replays_total", &[("partner", "acme"), ("result", "accepted")]) >= Some(8.0)
    );
}

#[test]
fn a_body_in_the_smallest_of_chunks_is_replayed_to_the_byte() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("log.level", "info"));
    let body = noise(20_000);
    partner.revoke_access();
    assert_eq!(gateway.send(&Request::new("POST", "/x").chunked(body.chunks(1))).status, 200);
    assert!(partner.seen_at("/x").iter().all(|seen| seen.body == body));
}

#[test]
fn a_request_whose_time_is_up_while_it_waits_for_a_token_is_a_503() {
    let partner = Partner::new();
    // So late that the request's own deadline comes before the one for the token.
    partner.on_any("/late", |x| {
        std::thread::sleep(std::time::Duration::from_millis(500));
        x.unauthorized()
    });
    let config =
        Config::to(&partner).set("server.request_timeout", "5s").set("server.token_timeout", "4900ms");
    let gateway = Gateway::start(&config);
    let gate = partner.hold_refreshes();
    let answer = gateway.get("/late");
    gate.open();
    answer.assert_problem(503);
    assert!(answer.fields.has("retry-after"), "{answer:?}");
}

#[test]
fn what_may_be_sent_once_only_waits_while_the_token_is_in_doubt() {
    let partner = Partner::new();
    partner.on_any("/strict", |x| x.unauthorized());
    let gateway = Gateway::start(&Config::to(&partner).set("server.threads", 1));
    let gate = partner.hold_refreshes();
    std::thread::scope(|scope| {
        let _strict = scope.spawn(|| gateway.get("/strict"));
        eventually("the token is in doubt", || partner.refreshes_in_progress() == 1);
        let mut client = gateway.connect();
        client.send(&chunked("/x", b"once").to_bytes()).unwrap();
        // The one thread has seen what came before this.
        assert_eq!(gateway.get("/other").status, 200);
        assert!(partner.seen_at("/x").is_empty(), "it did not wait");
        gate.open();
        assert_eq!(client.answer("POST").unwrap().status, 200);
    });
    assert_eq!(partner.seen_at("/x").len(), 1);
}

#[test]
fn what_may_be_sent_once_only_goes_with_a_doubtful_token_if_no_other_comes() {
    let partner = Partner::new();
    partner.on_any("/strict", |x| x.unauthorized());
    let gateway = Gateway::start(&Config::to(&partner).set("server.token_timeout", "500ms"));
    let gate = partner.hold_refreshes();
    // This puts the token in doubt, and nothing newer comes.
    gateway.get("/strict").assert_problem(503);
    let answer = gateway.send(&chunked("/x", b"once"));
    gate.open();
    assert_eq!(answer.status, 200);
    assert_eq!(partner.seen_at("/x").len(), 1);
}

#[test]
fn s50_a_body_beyond_the_limit_is_not_replayed_and_a_metric_says_why() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    for (round, request) in
        [Request::post("/big/0", noise(LIMIT + 1)), chunked("/big/1", &noise(LIMIT + 1))].iter().enumerate()
    {
        partner.revoke_access();
        let generation = gateway.generation();
        let answer = gateway.send(request);
        assert_eq!((answer.status, answer.text().as_str()), (401, "{\"error\":\"invalid_token\"}"));
        assert_eq!(partner.seen_at(&request.target).len(), 1, "sent once");
        let counted =
            gateway.metric("bearerd_replays_total", &[("partner", "acme"), ("result", "too_large")]);
        assert_eq!(counted, Some(round as f64 + 1.0));
        // The refresh starts all the same, so that the next one fares better.
        gateway.await_generation(generation + 1);
        assert_eq!(gateway.get("/other").status, 200);
    }
}

#[test]
fn the_limit_is_the_partners_own() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("partner.replay.limit", "1KiB"));
    for (size, expected) in [(1024, 200), (1025, 401)] {
        partner.revoke_access();
        assert_eq!(gateway.post(&format!("/{size}"), noise(size)).status, expected, "{size}");
    }
}

#[test]
fn bodies_beyond_the_replay_memory_stream_without_being_held() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("server.replay_memory", "1KiB"));
    let body = noise(LIMIT);
    assert_eq!(gateway.post("/x", body.clone()).status, 200);
    assert_eq!(sha256(&partner.only().body), sha256(&body));
    partner.revoke_access();
    assert_eq!(gateway.post("/x", body).status, 401);
}

#[test]
fn a_body_that_is_still_leaving_when_its_answer_comes_is_still_held() {
    const SIZE: usize = 12 << 20;
    let (partner, gate) = (Partner::new(), Gate::shut());
    let held = gate.clone();
    // More than there is room for on the way is not read.
    partner.on_any("/early", move |x| {
        x.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")?;
        held.wait();
        x.close()
    });
    let config =
        Config::to(&partner).set("partner.replay.limit", "12MiB").set("server.replay_memory", "20MiB");
    let gateway = Gateway::start(&config);
    let mut early = gateway.connect();
    early.send(&Request::post("/early", noise(SIZE)).to_bytes()).unwrap();
    assert!(early.head().unwrap().is_some());
    partner.revoke_access();
    assert_eq!(gateway.post("/x", noise(SIZE)).status, 401, "both were held");
    gate.open();
    // The end of it is a break.
    let _broken = early.io.read_to_end(&mut Vec::new());
    eventually("its share is free", || {
        partner.revoke_access();
        gateway.post("/x", noise(SIZE)).status == 200
    });
}

#[test]
fn every_method_is_replayed() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        partner.revoke_access();
        let path = format!("/{method}");
        assert_eq!(gateway.send(&Request::new(method, &path)).status, 200, "{method}");
        let methods: Vec<_> = partner.seen_at(&path).into_iter().map(|seen| seen.method).collect();
        assert_eq!(methods, [method, method]);
    }
}

#[test]
fn a_replay_carries_the_same_headers_but_for_the_token() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    partner.revoke_access();
    let request = Request::post("/x", "abc").with("X-A", "1").with("X-A", "2").with("Accept", "*/*");
    assert_eq!(gateway.send(&request).status, 200);
    let seen = partner.seen();
    let without_token = |fields: &Fields| {
        let mut rest: Vec<_> = fields
            .0
            .iter()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("authorization"))
            .cloned()
            .collect();
        rest.sort();
        rest
    };
    assert_eq!(without_token(&seen[0].fields), without_token(&seen[1].fields));
    assert_ne!(seen[0].fields.get("authorization"), seen[1].fields.get("authorization"));
}

#[test]
fn trailers_are_replayed_with_the_body() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    partner.revoke_access();
    let request = Request::new("POST", "/x").with("Trailer", "X-Check").chunked([&b"abc"[..]]);
    assert_eq!(gateway.send(&request.trailer("X-Check", "7")).status, 200);
    for seen in partner.seen() {
        assert_eq!((seen.body.as_slice(), seen.trailers.all("x-check")), (&b"abc"[..], vec!["7"]));
    }
}

#[test]
fn a_401_to_an_older_generation_is_sent_again_without_a_refresh() {
    let partner = Partner::new();
    let gate = Gate::shut();
    let held = gate.clone();
    partner.on_any("/late", move |x| {
        if x.seen.fields.get("x-round") == Some("1") && held.arrivals() == 0 {
            held.wait();
            return x.unauthorized();
        }
        x.answer(&Answer::new(200, "mended"))
    });
    let gateway = Gateway::before(&partner);
    let late = gateway.send_aside(Request::get("/late").with("X-Round", "1"));
    gate.await_arrivals(1);
    // Meanwhile another request finds the token dead, and has it renewed.
    partner.revoke_access();
    assert_eq!(gateway.get("/now").status, 200);
    assert_eq!(partner.refreshes(), 2);
    gate.open();
    let answer = late.join().unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "mended"));
    assert_eq!(partner.refreshes(), 2);
    assert_eq!(partner.seen_at("/late").len(), 2);
}

#[test]
fn s52_a_401_in_the_middle_of_an_upload_is_mended_if_all_of_it_is_still_held() {
    let partner = Partner::new();
    let refused = Mutex::new(None);
    partner.on_any("/upload", move |x| {
        x.body_at_least(5)?;
        let token = x.seen.fields.get("authorization").map(str::to_owned);
        // The first token that comes is refused before the end of the body.
        if *refused.lock().unwrap().get_or_insert_with(|| token.clone()) == token {
            return x.unauthorized();
        }
        x.body()?;
        x.answer(&Answer::new(200, x.seen.body.clone()))
    });
    let gateway = Gateway::before(&partner);
    let mut client = gateway.connect();
    let mut fields = Fields::default();
    fields.push("Host", "app.test");
    fields.push("Transfer-Encoding", "chunked");
    client.send(&head_bytes("POST /upload HTTP/1.1", &fields)).unwrap();
    client.send(&chunk(b"first")).unwrap();
    // Only when the request has been sent a second time does the rest of it leave the client.
    eventually("sent again", || partner.seen_at("/upload").len() == 2);
    client.send(&[chunk(b", then the rest"), b"0\r\n\r\n".to_vec()].concat()).unwrap();
    let answer = client.answer("POST").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "first, then the rest"));
    let seen = partner.seen_at("/upload");
    assert!(!seen[0].complete && seen[1].complete);
    assert_ne!(
        seen[0].connection, seen[1].connection,
        "a connection with half a request on it is not used again"
    );
}

#[test]
fn s52_a_401_in_the_middle_of_a_long_upload_goes_to_the_client_whole() {
    let partner = Partner::new();
    partner.on_any("/upload", |x| {
        x.body_at_least(LIMIT + 1000)?;
        x.answer(&Answer::new(401, "x".repeat(5000)))
    });
    let gateway = Gateway::before(&partner);
    let mut client = gateway.connect();
    let mut fields = Fields::default();
    fields.push("Host", "app.test");
    fields.push("Transfer-Encoding", "chunked");
    client.send(&head_bytes("POST /upload HTTP/1.1", &fields)).unwrap();
    client.send(&chunk(&noise(LIMIT + 2000))).unwrap();
    let answer = client.answer("POST").unwrap();
    assert_eq!((answer.status, answer.body.len()), (401, 5000));
    assert_eq!(partner.seen_at("/upload").len(), 1);
}

#[test]
fn s55_a_client_that_goes_while_it_waits_for_a_refresh_cancels_nothing() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let gate = partner.hold_refreshes();
    partner.revoke_access();
    let mut client = gateway.connect();
    client.send(&Request::get("/gone").to_bytes()).unwrap();
    gate.await_arrivals(1);
    let waiting = gateway.send_aside(Request::get("/stays"));
    eventually("the other waits as well", || partner.seen_at("/stays").len() == 1);
    client.hang_up();
    gate.open();
    assert_eq!(waiting.join().unwrap().status, 200);
    assert_eq!(partner.refreshes(), 2);
    assert_eq!(partner.seen_at("/gone").len(), 1);
    assert_eq!(gateway.generation(), 2);
    partner.assert_no_spent_token_seen();
}

#[test]
fn s65_a_token_echoed_by_the_partner_is_not_logged() {
    let partner = Partner::new();
    partner.on_any("/echo", |x| {
        let token = x.seen.fields.get("authorization").unwrap_or_default().to_owned();
        x.answer(&Answer::new(500, token.clone()).with("X-Echo", &token).with("WWW-Authenticate", &token))
    });
    let gateway = Gateway::start(&Config::to(&partner).set("log.access", "all"));
    assert_eq!(gateway.get("/echo").status, 500);
    eventually("the exchange is in the log", || gateway.logs().contains("/echo"));
    gateway.assert_no_secret_leaked();
}
