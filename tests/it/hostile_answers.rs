//! What a partner may do to a request: whatever it is, the client can tell, and nothing is sent
//! again.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use serde_json::json;
use socket2::SockRef;

use crate::support::client::{Connection, Request};
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::{Answer, Fields, Framing};
use crate::support::partner::Partner;
use crate::support::raw_peer::RawPeer;
use crate::support::trial::in_hand;

/// The head and the first piece of an answer, and what else can be read of it.
struct Begun {
    status: String,
    framing: Framing,
    client: Connection,
}

impl Begun {
    /// Sends a request and reads as far as `half`.
    #[track_caller]
    fn read(gateway: &Gateway, path: &str) -> Self {
        let mut client = gateway.connect();
        client.send(&Request::get(path).to_bytes()).unwrap();
        let head = client.head().unwrap().unwrap();
        let mut framing = Framing::of_answer(&head, "GET");
        let first = client.part(&mut framing, &mut Fields::default()).unwrap();
        assert_eq!(first.as_deref(), Some(&b"half"[..]));
        Self { status: head.word(1).to_owned(), framing, client }
    }

    /// Reads to the end, which must not look like one.
    #[track_caller]
    fn assert_broken_off(mut self, what: &str) {
        assert_eq!(self.status, "200", "{what}");
        assert_ne!(self.framing, Framing::UntilClose, "{what}: its end could not be told from a break");
        let rest: io::Result<Option<Vec<u8>>> = self.client.part(&mut self.framing, &mut Fields::default());
        assert!(rest.is_err(), "{what}: {rest:?}");
    }
}

/// Begins an answer at each path, waits at the gate, and breaks it off.
fn break_off(partner: &Partner, gate: &Gate) -> [&'static str; 3] {
    for (path, head, tail) in [
        ("/sized", "Content-Length: 100", "half"),
        ("/chunked", "Transfer-Encoding: chunked", "4\r\nhalf\r\n"),
        ("/in-a-chunk", "Transfer-Encoding: chunked", "9\r\nhalf"),
    ] {
        let gate = gate.clone();
        partner.on(path, move |x| {
            x.raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{tail}").as_bytes())?;
            gate.wait();
            x.close()
        });
    }
    ["/sized", "/chunked", "/in-a-chunk"]
}

#[test]
fn s44_a_close_in_the_middle_of_an_answer_is_a_break_for_the_client() {
    let partner = Partner::new();
    let gate = Gate::shut();
    let paths = break_off(&partner, &gate);
    let gateway = Gateway::before(&partner);
    let begun = paths.map(|path| (path, Begun::read(&gateway, path)));
    gate.open();
    for (path, begun) in begun {
        begun.assert_broken_off(path);
        assert_eq!(partner.seen_at(path).len(), 1, "{path} was sent again");
    }
    let broken = || gateway.log_lines().into_iter().filter(|line| line["problem"] == "broken_off").count();
    eventually("the breaks are in the log", || broken() == 3);
}

#[test]
fn s44_a_client_of_http_1_0_sees_a_break_where_only_the_end_of_the_connection_tells() {
    let partner = Partner::new();
    let gate = Gate::shut();
    let gateway = Gateway::before(&partner);
    for path in break_off(&partner, &gate) {
        let mut client = gateway.connect();
        client.send(format!("GET {path} HTTP/1.0\r\nHost: a.test\r\n\r\n").as_bytes()).unwrap();
        let head = client.head().unwrap().unwrap();
        let mut framing = Framing::of_answer(&head, "GET");
        let first = client.part(&mut framing, &mut Fields::default()).unwrap();
        assert_eq!(first.as_deref(), Some(&b"half"[..]), "{path}");
        gate.open();
        let rest = client.part(&mut framing, &mut Fields::default());
        assert!(rest.is_err(), "{path}: {rest:?}");
    }
}

#[test]
fn s44_the_end_of_a_drain_is_a_break_where_only_the_end_of_the_connection_tells() {
    let (partner, gate) = (Partner::new(), Gate::shut());
    break_off(&partner, &gate);
    let mut gateway = Gateway::start(&Config::to(&partner).set("server.drain_timeout", "300ms"));
    let mut client = gateway.connect();
    client.send(b"GET /chunked HTTP/1.0\r\nHost: a.test\r\n\r\n").unwrap();
    let head = client.head().unwrap().unwrap();
    let mut framing = Framing::of_answer(&head, "GET");
    let first = client.part(&mut framing, &mut Fields::default()).unwrap();
    assert_eq!(first.as_deref(), Some(&b"half"[..]));
    gateway.sigterm();
    let rest = client.part(&mut framing, &mut Fields::default());
    assert!(rest.is_err(), "{rest:?}");
    assert_eq!(gateway.wait_exit().code(), Some(1));
    gate.open();
}

#[test]
fn s44_a_close_without_close_notify_is_a_break_whatever_the_framing() {
    let partner = Partner::over_tls();
    let gate = Gate::shut();
    let paths = break_off(&partner, &gate);
    let held = gate.clone();
    // Without a length only close_notify could tell the end from a cut.
    partner.on("/until-close", move |x| {
        x.raw(b"HTTP/1.1 200 OK\r\n\r\nhalf")?;
        held.wait();
        x.close()
    });
    let gateway = Gateway::before(&partner);
    let begun: Vec<_> =
        paths.into_iter().chain(["/until-close"]).map(|path| (path, Begun::read(&gateway, path))).collect();
    gate.open();
    for (path, begun) in begun {
        begun.assert_broken_off(path);
        assert_eq!(partner.seen_at(path).len(), 1, "{path} was sent again");
    }
}

/// Reads a request, answers with `bytes`, waits at the gate, and resets the connection.
fn resetting(bytes: &'static [u8], gate: &Gate) -> RawPeer {
    let gate = gate.clone();
    RawPeer::doing(move |stream| {
        let mut request = [0; 4096];
        let _size = stream.read(&mut request).unwrap();
        stream.write_all(bytes).unwrap();
        gate.wait();
        SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
    })
}

#[test]
fn s44_a_reset_in_the_middle_of_an_answer_is_a_break_whatever_the_framing() {
    for (what, bytes) in [
        ("sized", &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"[..]),
        ("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        ("until close", b"HTTP/1.1 200 OK\r\n\r\nhalf"),
    ] {
        let gate = Gate::shut();
        let peer = resetting(bytes, &gate);
        let gateway = in_hand(peer.address(), |config| config);
        let begun = Begun::read(&gateway, "/x");
        gate.open();
        begun.assert_broken_off(what);
        assert_eq!(peer.connections(), 1, "{what}: it was sent again");
    }
}

#[test]
fn s44_a_reset_before_the_answer_is_a_502_and_not_sent_again() {
    for (what, bytes) in [("no answer", &b""[..]), ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le")] {
        let gate = Gate::shut();
        gate.open();
        let peer = resetting(bytes, &gate);
        let gateway = in_hand(peer.address(), |config| config);
        let answer = gateway.post("/x", "{\"amount\":1}");
        answer.assert_problem(502);
        let source = answer.fields.get("proxy-status");
        assert_eq!(source, Some("bearerd; error=http_response_incomplete"), "{what}");
        assert_eq!(peer.connections(), 1, "{what}: it was sent again");
    }
}

#[test]
fn s44_no_answer_at_all_is_a_502_and_is_not_asked_for_again() {
    let partner = Partner::new();
    partner.on("/closed", |x| {
        x.body()?;
        x.close()
    });
    partner.on("/half-closed", |x| {
        x.body()?;
        x.wire.io.tcp().shutdown(Shutdown::Write)
    });
    partner.on("/garbage", |x| {
        x.body()?;
        x.raw(b"\x16\x03\x01 this is no HTTP\r\n\r\n")?;
        x.close()
    });
    partner.on("/half-a-head", |x| {
        x.body()?;
        x.raw(b"HTTP/1.1 200 OK\r\nContent-Le")?;
        x.close()
    });
    let gateway = Gateway::before(&partner);
    for path in ["/closed", "/half-closed", "/garbage", "/half-a-head"] {
        let answer = gateway.post(path, "{\"amount\":1}");
        answer.assert_problem(502);
        let source = answer.fields.get("proxy-status").unwrap();
        assert_eq!(source, "bearerd; error=http_response_incomplete", "{path}");
        assert_eq!(partner.seen_at(path).len(), 1, "{path} was sent again");
    }
    assert_eq!((partner.refreshes(), gateway.get("/x").status), (1, 200));
}

#[test]
fn s43_a_head_that_dribbles_in_is_a_504() {
    let partner = Partner::new();
    for (path, start, byte) in
        [("/status", "HTTP/1.1 200 ", &b"O"[..]), ("/field", "HTTP/1.1 200 OK\r\nX-Slow: ", b"x")]
    {
        partner.on(path, move |x| {
            x.body()?;
            x.raw(start.as_bytes())?;
            while x.raw(byte).is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
            x.close()
        });
    }
    let gateway = Gateway::start(&Config::to(&partner).set("server.request_timeout", "1s"));
    for path in ["/status", "/field"] {
        gateway.post(path, "{}").assert_problem(504);
        assert_eq!(partner.seen_at(path).len(), 1, "{path} was sent again");
    }
}

#[test]
fn s43_a_body_that_stands_still_is_a_break_for_the_client() {
    let partner = Partner::new();
    let gate = Gate::shut();
    let paths = break_off(&partner, &gate);
    let gateway = Gateway::start(&Config::to(&partner).set("server.idle_timeout", "1s"));
    for path in paths {
        Begun::read(&gateway, path).assert_broken_off(path);
    }
    assert_eq!(gate.arrivals(), 3, "nobody has let the partner go on");
    gate.open();
    assert_eq!(gateway.get("/x").status, 200);
}

#[test]
fn s33_a_403_costs_no_refresh_and_a_401_for_want_of_scope_costs_one() {
    let partner = Partner::new();
    partner.on("/forbidden", |x| x.answer(&Answer::json(403, &json!({"error": "insufficient_scope"}))));
    partner.on("/scope", |x| {
        let challenge = "Bearer realm=\"other\", error=\"insufficient_scope\"";
        x.answer(&Answer::new(401, "{\"error\":\"scope\"}").with("WWW-Authenticate", challenge))
    });
    let gateway = Gateway::before(&partner);
    for _ in 0..20 {
        assert_eq!(gateway.get("/forbidden").status, 403);
    }
    assert_eq!((partner.seen_at("/forbidden").len(), partner.refreshes()), (20, 1));
    for _ in 0..20 {
        let answer = gateway.get("/scope");
        assert_eq!((answer.status, answer.text().as_str()), (401, "{\"error\":\"scope\"}"));
        assert!(answer.fields.get("www-authenticate").unwrap().contains("insufficient_scope"));
    }
    assert_eq!((partner.seen_at("/scope").len(), partner.refreshes()), (21, 2), "one refresh and one replay");
    assert_eq!(gateway.get("/x").status, 200);
}
