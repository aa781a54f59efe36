//! The scripted partner itself: a test is worth no more than what it stands on.

use std::thread;

use bytes::Bytes;
use hyper::Version;
use serde_json::{Value, json};

use crate::support::client::{self, Address, Request};
use crate::support::config::{Config, Dir};
use crate::support::http::{Answer, Fields};
use crate::support::issuer::Refresh;
use crate::support::partner::{CODE, LOGIN, Partner, REFRESH};
use crate::support::postgres::{Postgres, Stop};
use crate::support::raw_peer::RawPeer;
use crate::support::secrets::{self, ENVELOPE_KEY, MARKER, marked};
use crate::support::{envelope, eventually, load};

fn at(partner: &Partner) -> Address {
    Address::Tcp(partner.address())
}

fn sealed(content: &Value) -> String {
    json!({"data": envelope::seal(content.to_string().as_bytes(), [1; 16])}).to_string()
}

fn refresh(partner: &Partner, token: &str) -> Answer {
    Request::post(REFRESH, sealed(&json!({"refresh_token": token}))).send(&at(partner))
}

fn with_token(request: Request, set: &Value) -> Request {
    let bearer = format!("Bearer {}", set["access_token"].as_str().unwrap());
    request.with("Partner-Code", CODE).with("Authorization", &bearer)
}

#[test]
fn the_partner_rotates_and_notices_a_spent_token() {
    let partner = Partner::new();
    let seed = partner.seed();
    let set = refresh(&partner, &seed).value();
    assert_eq!(refresh(&partner, "stranger").status, 400);
    assert_eq!(partner.spent_presented(), 0);
    assert_eq!(refresh(&partner, &seed).status, 400);
    assert_eq!((partner.spent_presented(), partner.refreshes()), (1, 3));
    assert_eq!(refresh(&partner, set["refresh_token"].as_str().unwrap()).status, 200);
}

#[test]
fn the_partner_takes_a_live_token_and_nothing_else() {
    let partner = Partner::new();
    let seed = partner.seed();
    let set = refresh(&partner, &seed).value();
    let send = |request: Request| request.send(&at(&partner)).status;
    assert_eq!(send(Request::get("/x")), 401);
    assert_eq!(send(with_token(Request::get("/x"), &set)), 200);
    assert_eq!(send(with_token(Request::get("/x"), &set).with("Authorization", "Basic x")), 401);
    assert_eq!(send(with_token(Request::get("/x"), &set).with("Partner-Code", CODE)), 401);
    partner.revoke_access();
    assert_eq!(send(with_token(Request::get("/x"), &set)), 401);
    assert_eq!((partner.rejected(), partner.seen().len()), (4, 5));
}

#[test]
fn the_partner_takes_a_login_with_the_right_secrets() {
    let partner = Partner::new();
    let login = |password: &str| {
        let secrets = json!({"username": "merchant", "password": password, "client_id": "client", "client_secret": marked("client-secret")});
        Request::post(LOGIN, sealed(&secrets)).send(&at(&partner)).status
    };
    assert_eq!((login("wrong"), login(&marked("password")), partner.logins()), (400, 200, 2));
}

#[test]
fn refresh_calls_follow_their_scripts_in_order() {
    let partner = Partner::new();
    let seed = partner.seed();
    partner.script_refresh(Refresh::Instead(Answer::new(503, "busy")));
    partner.script_refresh(Refresh::With(json!({"expires_in": null, "token_type": "other"})));
    assert_eq!(refresh(&partner, &seed).status, 503);
    let set = refresh(&partner, &seed).value();
    assert_eq!((set.get("expires_in"), &set["token_type"]), (None, &json!("other")));
    partner.script_refresh(Refresh::Lost);
    let mut client = client::connect(&at(&partner));
    let body = sealed(&json!({"refresh_token": set["refresh_token"]}));
    client.send(&Request::post(REFRESH, body).to_bytes()).unwrap();
    assert!(client.is_closed());
    assert_eq!(refresh(&partner, set["refresh_token"].as_str().unwrap()).status, 400);
    assert_eq!(partner.spent_presented(), 1);
}

#[test]
fn a_gate_holds_a_refresh_call_until_it_is_opened() {
    let partner = Partner::new();
    let gate = partner.hold_refreshes();
    let seed = partner.seed();
    thread::scope(|scope| {
        let call = scope.spawn(|| refresh(&partner, &seed));
        gate.await_arrivals(1);
        assert!(!call.is_finished());
        assert_eq!(partner.refreshes_in_progress(), 1);
        gate.open();
        assert_eq!(call.join().unwrap().status, 200);
    });
}

#[test]
fn requests_are_recorded_as_they_came() {
    let partner = Partner::new();
    partner.on_any("/echo", |x| {
        x.body()?;
        x.begin_chunked(200, &[("Trailer", "X-T")])?;
        x.chunk(&x.seen.body.clone())?;
        x.raw(b"0\r\nX-T: 2\r\n\r\n")
    });
    let request = Request::new("POST", "/echo?q").with("X-A", "1").with("x-a", "\u{e9}");
    let answer = request.chunked([&b"ab"[..], b"c"]).trailer("X-Sum", "9").send(&at(&partner));
    assert_eq!((answer.text().as_str(), answer.trailers.all("x-t")), ("abc", vec!["2"]));
    let seen = partner.only();
    assert_eq!(seen.fields.0[1..3], [("X-A".into(), "1".into()), ("x-a".into(), "\u{e9}".into())]);
    assert_eq!((seen.target.as_str(), seen.trailers.all("x-sum")), ("/echo?q", vec!["9"]));
    assert!(seen.chunked && seen.complete && seen.body == *b"abc");
}

#[test]
fn an_early_answer_is_followed_by_reading_the_rest() {
    let partner = Partner::new();
    partner.on_any("/early", |x| x.unauthorized());
    let mut client = client::connect(&at(&partner));
    client.send(b"POST /early HTTP/1.1\r\nContent-Length: 3\r\n\r\na").unwrap();
    assert_eq!(client.answer("POST").unwrap().status, 401);
    assert!(!partner.only().complete);
    client.send(b"bc").unwrap();
    eventually("the rest has come", || partner.only().complete);
    assert_eq!(client.exchange(&Request::new("HEAD", "/early")).status, 401);
    drop(client);
    eventually("the connection is gone", || partner.open_connections() == 0);
}

#[test]
fn a_thousand_connections_at_once_are_served() {
    let partner = Partner::new();
    partner.on_any("/load", |x| {
        x.body()?;
        x.answer(&Answer::new(200, x.seen.body.clone()))
    });
    let replies = load::at_once(partner.address(), Version::HTTP_11, 1000, 2, &Bytes::from_static(b"abc"));
    assert_eq!(replies.len(), 2000);
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.body == "abc"));
}

#[test]
fn a_raw_peer_sends_what_it_was_given() {
    let peer = RawPeer::answering("HTTP/1.1 299 Odd\r\nContent-Length: 1\r\n\r\n!");
    assert_eq!(Request::get("/").send(&Address::Tcp(peer.address())).text(), "!");
    assert_eq!(peer.connections(), 1);
}

#[test]
fn a_leak_is_found_in_any_case_and_in_hex() {
    for leak in
        [MARKER.to_lowercase(), marked("x"), ENVELOPE_KEY.to_uppercase(), const_hex::encode(marked("x"))]
    {
        assert_eq!(secrets::leaks(&format!("fine\nnot {leak} fine\n")).len(), 1, "{leak}");
    }
    assert!(secrets::leaks("fine\nfine").is_empty());
}

#[test]
fn a_configuration_is_written_as_it_was_set() {
    let partner = Partner::over_tls();
    let dir = Dir::new();
    let path = Config::to(&partner)
        .set("partner.refresh.grace", "3s")
        .with_admin_socket()
        .and("beta", &partner)
        .unset("partner.ca_file")
        .write_to(&dir);
    let written: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    assert_eq!(written["partner"][0]["refresh"]["grace"].as_str(), Some("3s"));
    assert_eq!(written["partner"][1]["name"].as_str(), Some("beta"));
    assert!(written["partner"][1].get("ca_file").is_none() && dir.file("beta.pem").exists());
    let socket = format!("unix:{}/admin.sock", dir.path().display());
    assert_eq!(written["admin"]["listen"].as_str(), Some(socket.as_str()));
    assert_eq!(Fields::default().names(), [""; 0]);
}

#[test]
fn a_database_server_leaves_nothing_behind() {
    let harms: [fn(&mut Postgres); 4] =
        [|_| {}, |server| server.pause(), |server| server.kill9(), |server| server.stop(Stop::Fast)];
    for harm in harms {
        let mut server = Postgres::start();
        let database = server.database();
        database.sql("CREATE TABLE kept (one int); INSERT INTO kept VALUES (7)");
        server.kill9();
        server.start_again();
        server.restart(Stop::Immediate);
        assert_eq!(database.value("SELECT one FROM kept").as_deref(), Some("7"));
        harm(&mut server);
        let dir = server.dir().to_owned();
        assert!(dir.join("data").exists());
        drop(server);
        assert!(!dir.exists());
        let own =
            |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.unwrap().path().join("cwd"));
        let left = std::fs::read_dir("/proc").unwrap().filter_map(|entry| own(entry).ok());
        assert_eq!(left.filter(|own| own.starts_with(&dir)).count(), 0);
    }
}

#[test]
fn the_harness_seals_as_openssl_does() {
    // printf ... | openssl enc -aes-256-cbc -K $ENVELOPE_KEY -iv 01...01
    let expected = concat!(
        "01010101010101010101010101010101",
        "48ea26e1b647014268be4d848ca02a35f50de97f2b86926132bb0b2876c86ddd"
    );
    assert_eq!(envelope::seal(b"{\"refresh_token\":\"abc\"}", [1; 16]), expected);
    let body = json!({"data": expected}).to_string();
    assert_eq!(envelope::open(body.as_bytes()), Some(json!({"refresh_token": "abc"})));
}
