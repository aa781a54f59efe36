//! A request goes out as it came in, but for what a gateway must change, and so does its answer.

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::{Answer, Fields, chunk, head_bytes};
use crate::support::partner::{CODE, Partner, REFRESH};
use crate::support::{eventually, noise, sha256};

#[test]
fn a_plain_request_goes_out_with_the_partner_code_and_a_bearer_token() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let answer = gateway.get("/openapi/v1/services?from_date=2026-01-01%2000:00:00&x=%E2%82%AC&&y=1+2");
    assert_eq!((answer.status, answer.text().as_str()), (200, "{\"ok\":true}"));
    let seen = partner.only();
    assert_eq!(seen.method, "GET");
    assert_eq!(seen.target, "/openapi/v1/services?from_date=2026-01-01%2000:00:00&x=%E2%82%AC&&y=1+2");
    assert_eq!(seen.fields.all("partner-code"), [CODE]);
    assert!(partner.authorized(&seen.fields));
    assert_eq!(seen.fields.all("host"), [partner.address().to_string()]);
    assert_eq!(seen.body, b"");
    assert_eq!(partner.refreshes(), 1);
}

#[test]
fn the_refresh_call_is_a_sealed_post_without_a_bearer_token() {
    let partner = Partner::new();
    let _gateway = Gateway::before(&partner);
    let call = partner.refresh_call(0);
    assert_eq!(call.target, REFRESH);
    assert_eq!(call.fields.all("partner-code"), [CODE]);
    assert_eq!(call.fields.get("content-type"), Some("application/json"));
    assert!(!call.fields.has("authorization"), "{:?}", call.fields);
    assert!(!call.fields.has("accept-encoding"), "{:?}", call.fields);
    let seed = partner.seed();
    assert_eq!(call.opened, Some(serde_json::json!({"refresh_token": seed})));
}

#[test]
fn every_envelope_has_an_initialisation_vector_of_its_own() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    partner.revoke_access();
    assert_eq!(gateway.get("/x").status, 200);
    let sealed = |index: usize| {
        let outer: serde_json::Value = serde_json::from_slice(&partner.refresh_call(index).body).unwrap();
        outer["data"].as_str().unwrap().to_owned()
    };
    let (first, second) = (sealed(0), sealed(1));
    assert_ne!(first[..32], second[..32]);
    assert_eq!(first, first.to_lowercase());
}

#[test]
fn a_gateway_without_a_seed_begins_with_a_login() {
    let partner = Partner::new();
    let config = Config::to(&partner).unset("partner.refresh_token_file").with_login();
    let gateway = Gateway::start(&config);
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!((partner.logins(), partner.refreshes()), (1, 0));
    assert!(!partner.login_call(0).fields.has("authorization"));
}

#[test]
fn paths_and_queries_go_on_byte_for_byte() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let targets = [
        "/",
        "/a//b",
        "/a%2Fb/%c3%a9",
        "/a;v=1/b,c",
        "/~x/!$&'()*+=:@",
        "/q?",
        "/q?a=/../b",
        "/q?%zz",
        "/%41",
    ];
    for target in targets {
        assert_eq!(gateway.get(target).status, 200, "{target}");
    }
    assert_eq!(partner.seen().iter().map(|seen| seen.target.as_str()).collect::<Vec<_>>(), targets);
}

#[test]
fn a_base_path_goes_in_front_of_the_path() {
    let partner = Partner::below("/base/v2");
    let gateway = Gateway::before(&partner);
    assert_eq!(gateway.get("/a/b?c=d").status, 200);
    assert_eq!(partner.only().target, "/base/v2/a/b?c=d");
    assert_eq!(partner.refresh_call(0).target, format!("/base/v2{REFRESH}"));
}

#[test]
fn bodies_go_on_byte_for_byte_whatever_their_framing() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let body = noise(300_000);
    assert_eq!(gateway.post("/sized", body.clone()).status, 200);
    assert_eq!(gateway.send(&Request::new("PUT", "/chunked").chunked(body.chunks(7000))).status, 200);
    assert_eq!(gateway.post("/empty", "").status, 200);
    let seen = partner.seen();
    assert_eq!(sha256(&seen[0].body), sha256(&body));
    assert_eq!(seen[0].fields.all("content-length"), ["300000"]);
    assert_eq!(sha256(&seen[1].body), sha256(&body));
    assert!(seen[1].chunked && seen[1].complete);
    assert_eq!(seen[2].fields.all("content-length"), ["0"]);
}

#[test]
fn a_get_keeps_its_body_even_in_the_chunked_coding() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    assert_eq!(gateway.send(&Request::get("/a").chunked([&b"abc"[..], b"def"])).status, 200);
    assert_eq!(gateway.send(&Request::get("/b").body("xyz")).status, 200);
    let bodies: Vec<_> = partner.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, [b"abcdef".to_vec(), b"xyz".to_vec()]);
}

#[test]
fn every_method_goes_on() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
        assert_eq!(gateway.send(&Request::new(method, "/m")).status, 200, "{method}");
    }
    let head = gateway.send(&Request::new("HEAD", "/m"));
    assert_eq!((head.status, head.fields.get("content-length")), (200, Some("11")));
    assert_eq!(partner.seen().last().unwrap().method, "HEAD");
    assert_eq!(partner.seen().len(), 8);
}

#[test]
fn the_answer_comes_back_as_the_partner_gave_it() {
    let partner = Partner::new();
    partner.on("/odd", |x| {
        x.answer(
            &Answer::new(418, vec![0, 255, 10])
                .with("X-One", "1")
                .with("Set-Cookie", "a=b")
                .with("Set-Cookie", "c=d"),
        )
    });
    partner.on("/forbidden", |x| x.answer(&Answer::new(403, "no")));
    let gateway = Gateway::before(&partner);
    let answer = gateway.get("/odd");
    assert_eq!((answer.status, answer.body.as_slice()), (418, &[0, 255, 10][..]));
    assert_eq!(answer.fields.all("set-cookie"), ["a=b", "c=d"]);
    assert_eq!(answer.fields.all("x-one"), ["1"]);
    assert_eq!(
        (gateway.get("/forbidden").status, partner.refreshes()),
        (403, 1),
        "s33: a 403 costs no refresh"
    );
}

#[test]
fn a_partner_over_tls_is_reached_under_its_own_authority() {
    let partner = Partner::over_tls();
    let gateway = Gateway::before(&partner);
    let body = noise(200_000);
    assert_eq!(gateway.post("/x", body.clone()).status, 200);
    assert_eq!(sha256(&partner.only().body), sha256(&body));
}

#[test]
fn s46_a_partner_whose_authority_is_unknown_is_not_trusted() {
    let partner = Partner::over_tls();
    let gateway =
        Gateway::spawn(&Config::to(&partner).unset("partner.ca_file").set("server.token_timeout", "1s"));
    gateway.get("/x").assert_problem(503);
    assert_eq!((partner.refreshes(), partner.seen().len()), (0, 0));
}

#[test]
fn s54_trailers_pass_both_ways() {
    let partner = Partner::new();
    partner.on("/t", |x| {
        x.body()?;
        x.begin_chunked(200, &[("Trailer", "X-Sum")])?;
        x.chunk(b"data")?;
        x.raw(b"0\r\nX-Sum: from-partner\r\n\r\n")
    });
    let gateway = Gateway::before(&partner);
    let request = Request::new("POST", "/t").with("TE", "trailers").with("Trailer", "X-Check");
    let answer = gateway.send(&request.chunked([&b"abc"[..]]).trailer("X-Check", "from-client"));
    assert_eq!((answer.status, answer.text().as_str()), (200, "data"));
    assert_eq!(answer.trailers.all("x-sum"), ["from-partner"]);
    assert_eq!(partner.only().trailers.all("x-check"), ["from-client"]);
}

#[test]
fn credentials_in_a_clients_trailers_go_no_further() {
    let partner = Partner::new();
    let gateway = Gateway::before(&partner);
    let request = Request::new("POST", "/t").with("Trailer", "Authorization, Partner-Code, X-Check");
    let request = request.chunked([&b"abc"[..]]).trailer("Authorization", "Bearer stolen");
    gateway.send(&request.trailer("Partner-Code", "OTHER").trailer("X-Check", "1"));
    let seen = partner.only();
    assert!(!seen.trailers.has("authorization") && !seen.trailers.has("partner-code"), "{:?}", seen.trailers);
}

#[test]
fn a_stream_flows_both_ways_before_either_end_is_reached() {
    let partner = Partner::new();
    partner.on("/stream", |x| {
        x.body_at_least(4)?;
        x.begin_chunked(200, &[])?;
        x.chunk(b"pong")?;
        x.body()?;
        x.chunk(b"done")?;
        x.raw(b"0\r\n\r\n")
    });
    let gateway = Gateway::before(&partner);
    let mut client = gateway.connect();
    let mut fields = Fields::default();
    fields.push("Host", "app.test");
    fields.push("Transfer-Encoding", "chunked");
    client.send(&head_bytes("POST /stream HTTP/1.1", &fields)).unwrap();
    client.send(&chunk(b"ping")).unwrap();
    let head = client.head().unwrap().expect("the head comes while the request is still going on");
    assert_eq!(head.word(1), "200");
    let mut framing = crate::support::http::Framing::of_answer(&head, "POST");
    let mut trailers = Fields::default();
    assert_eq!(client.part(&mut framing, &mut trailers).unwrap().unwrap(), b"pong");
    assert!(!partner.only().complete);
    client.send(&[chunk(b"more"), b"0\r\n\r\n".to_vec()].concat()).unwrap();
    assert_eq!(client.part(&mut framing, &mut trailers).unwrap().unwrap(), b"done");
    assert_eq!(client.part(&mut framing, &mut trailers).unwrap(), None);
    assert_eq!(partner.only().body, b"pingmore");
}

#[test]
fn s44_an_answer_cut_short_does_not_end_cleanly() {
    let partner = Partner::new();
    partner.on("/sized", |x| {
        x.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")?;
        x.close()
    });
    partner.on("/chunked", |x| {
        x.begin_chunked(200, &[])?;
        x.chunk(b"half")?;
        x.close()
    });
    let gateway = Gateway::before(&partner);
    for path in ["/sized", "/chunked"] {
        let mut client = gateway.connect();
        client.send(&Request::get(path).to_bytes()).unwrap();
        if let Ok(answer) = client.answer("GET") {
            answer.assert_problem(502);
        }
        assert_eq!(partner.seen_at(path).len(), 1, "{path} was sent again");
    }
}

#[test]
fn an_answer_in_a_coding_that_nobody_here_undoes_is_a_502() {
    let partner = Partner::new();
    partner.on("/x", |x| {
        x.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    });
    Gateway::before(&partner).get("/x").assert_problem(502);
}

#[test]
fn s44_a_request_whose_fate_is_unknown_is_a_502_and_not_sent_again() {
    let partner = Partner::new();
    partner.on("/openapi/v1/transaction/qr/generate", |x| {
        x.body()?;
        x.close()
    });
    let gateway = Gateway::before(&partner);
    // The first uses a connection of its own; after it one is pooled, which has been found reusable
    // before.
    for round in 1..=2 {
        gateway.post("/openapi/v1/transaction/qr/generate", "{\"amount\":1}").assert_problem(502);
        assert_eq!(partner.seen_at("/openapi/v1/transaction/qr/generate").len(), round);
        assert_eq!(gateway.get("/warm").status, 200);
    }
}

#[test]
fn s44_a_partner_that_never_answers_is_a_504() {
    let partner = Partner::new();
    let gate = Gate::shut();
    let held = gate.clone();
    partner.on("/slow", move |x| {
        held.wait();
        x.close()
    });
    let gateway = Gateway::start(&Config::to(&partner).set("server.request_timeout", "500ms"));
    gateway.get("/slow").assert_problem(504);
    assert_eq!(partner.seen_at("/slow").len(), 1);
    gate.open();
}

#[test]
fn s44_a_client_whose_body_does_not_come_is_told_that_nothing_was_sent() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("server.request_timeout", "500ms"));
    let mut client = gateway.connect();
    client.send(b"POST /slow HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhell").unwrap();
    let answer = client.answer("POST").unwrap();
    answer.assert_problem(408);
    assert_eq!(answer.fields.get("connection"), Some("close"));
    assert!(client.is_closed() && partner.seen_at("/slow").is_empty());
}

#[test]
fn s55_a_client_that_hangs_up_ends_the_exchange_with_the_partner() {
    let partner = Partner::new();
    let gate = Gate::shut();
    let held = gate.clone();
    partner.on("/slow", move |_| {
        held.wait();
        Ok(())
    });
    let gateway = Gateway::before(&partner);
    eventually("the refresh's connection is gone or idle", || partner.open_connections() <= 1);
    let mut client = gateway.connect();
    client.send(&Request::get("/slow").to_bytes()).unwrap();
    gate.await_arrivals(1);
    client.hang_up();
    gate.open();
    eventually("no connection is in use", || partner.open_connections() <= 1);
    assert_eq!(gateway.get("/next").status, 200);
}

#[test]
fn an_exchange_takes_longer_than_its_partner_and_even_a_refused_one_takes_time() {
    let partner = Partner::new();
    let gateway = Gateway::start(&Config::to(&partner).set("log.access", "all"));
    let took = |path: &str, status: u16, field: &str| {
        let lines = gateway.log_lines();
        let mut found = lines.iter().filter(|line| line["path"] == path && line["status"] == status);
        found.next()?[field].as_f64()
    };
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!(gateway.get("/a/../b").status, 400);
    eventually("both are in the log", || took("/a/../b", 400, "duration_ms").is_some());
    let (whole, partners) = (took("/x", 200, "duration_ms"), took("/x", 200, "upstream_duration_ms"));
    assert!(whole > partners && partners > Some(0.0), "{whole:?} and {partners:?}");
    assert!(took("/a/../b", 400, "duration_ms") > Some(0.0), "{:?}", gateway.log_lines());
}

#[test]
fn an_access_line_counts_both_bodies_however_the_answer_comes() {
    let partner = Partner::new();
    partner.on("/whole", |x| {
        x.body()?;
        x.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nat once")
    });
    partner.on("/late", |x| {
        x.body()?;
        x.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nin ")?;
        x.raw(b"part")
    });
    partner.on("/chunked", |x| {
        x.body()?;
        x.begin_chunked(200, &[])?;
        x.chunk(b"in a ")?;
        x.chunk(b"chunk")?;
        x.raw(b"0\r\n\r\n")
    });
    partner.on("/until-close", |x| {
        x.body()?;
        x.raw(b"HTTP/1.1 200 OK\r\n\r\nto the end")?;
        x.close()
    });
    let gateway = Gateway::start(&Config::to(&partner).set("log.access", "all"));
    for (path, body, length) in [
        ("/whole", "at once", 7),
        ("/late", "in part", 7),
        ("/chunked", "in a chunk", 10),
        ("/until-close", "to the end", 10),
    ] {
        let answer = gateway.post(path, "{\"amount\":1}");
        assert_eq!((answer.status, &answer.body[..]), (200, body.as_bytes()), "{path}");
        let line = || gateway.log_lines().into_iter().find(|line| line["path"] == path);
        eventually("it is in the log", || line().is_some());
        let line = line().unwrap();
        assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&12.into(), &length.into()), "{line}");
        assert!(line.get("problem").is_none(), "{line}");
    }
    let refused = gateway.get("/a/../b");
    let line = || gateway.log_lines().into_iter().find(|line| line["status"] == 400);
    eventually("it is in the log", || line().is_some());
    assert_eq!(line().unwrap()["bytes_out"], refused.body.len());
}
