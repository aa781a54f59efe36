//! Signals: an orderly end, and a new configuration without an end.

use std::future::{pending, poll_fn};
use std::net::TcpStream;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::thread;

use crate::support::DEADLINE;
use crate::support::client::{Request, connect};
use crate::support::config::Config;
use crate::support::eventually;
use crate::support::gate::Gate;
use crate::support::gateway::Gateway;
use crate::support::http::{Answer, Fields, Framing};
use crate::support::in_process::InProcess;
use crate::support::partner::Partner;

/// A partner with a path, `/held`, that answers when the gate is opened.
fn holding() -> (Partner, Gate) {
    let (partner, gate) = (Partner::new(), Gate::shut());
    let held = gate.clone();
    partner.on("/held", move |x| {
        x.body()?;
        held.wait();
        x.answer(&Answer::new(200, "late"))
    });
    (partner, gate)
}

#[test]
fn s56_on_sigterm_an_exchange_in_flight_finishes_and_the_exit_is_0() {
    let (partner, gate) = holding();
    let mut gateway = Gateway::before(&partner);
    let mut idle = gateway.connect();
    assert_eq!(idle.exchange(&Request::get("/x")).status, 200);
    let waiting = gateway.send_aside(Request::post("/held", "abc"));
    gate.await_arrivals(1);
    gateway.sigterm();
    eventually("no new connections", || TcpStream::connect(gateway.proxy_addr().tcp()).is_err());
    assert!(idle.is_closed(), "a connection without a request does not hold the end up");
    assert!(gateway.is_running());
    gate.open();
    assert_eq!(waiting.join().unwrap().text(), "late");
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn s56_no_request_on_a_kept_connection_is_lost_in_a_drain() {
    let partner = Partner::new();
    let mut gateway = Gateway::start(&Config::to(&partner).set("log.level", "info"));
    thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = gateway.connect();
                    loop {
                        let answer = client.exchange(&Request::post("/x", "abc"));
                        assert_eq!(answer.status, 200);
                        if answer.fields.get("connection") == Some("close") {
                            return;
                        }
                        // A client that does something between its requests.
                        thread::sleep(std::time::Duration::from_millis(5));
                    }
                })
            })
            .collect();
        eventually("they are at it", || partner.seen().len() > 100);
        gateway.sigterm();
        for client in clients {
            client.join().unwrap();
        }
    });
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn s56_who_is_connected_when_accepting_ends_is_answered() {
    let (partner, gate) = (Partner::new(), Gate::shut());
    let gateway = InProcess::before(&partner, |config| config);
    gateway.serves("/before");
    // The only runtime stands still, so that the system alone takes the connections.
    let held = gate.clone();
    gateway.at_the_next_look(move || held.wait());
    let address = gateway.address.clone();
    let first = thread::spawn(move || Request::get("/first").send(&address));
    gate.await_arrivals(1);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let mut client = connect(&gateway.address);
            client.send(&Request::post("/x", "abc").to_bytes()).unwrap();
            client
        })
        .collect();
    let InProcess { control, workers, .. } = gateway;
    let in_time = control.block_on(async {
        let mut drain = pin!(workers.drain(DEADLINE, pending()));
        assert!(poll_fn(|cx| Poll::Ready(drain.as_mut().poll(cx))).await.is_pending());
        gate.open();
        drain.await
    });
    assert!(in_time);
    assert_eq!(first.join().unwrap().status, 200);
    for mut client in waiting {
        let answer = client.answer("POST").unwrap();
        assert_eq!((answer.status, answer.fields.get("connection")), (200, Some("close")));
    }
    assert_eq!(partner.seen_at("/x").len(), 20);
}

#[test]
fn s56_a_request_after_an_answer_that_could_not_say_that_it_is_the_last_is_answered() {
    let (partner, gate) = (Partner::new(), Gate::shut());
    let held = gate.clone();
    partner.on("/long", move |x| {
        x.begin_chunked(200, &[])?;
        x.chunk(b"half")?;
        held.wait();
        x.chunk(b"rest")?;
        x.raw(b"0\r\n\r\n")
    });
    let mut gateway = Gateway::before(&partner);
    let mut client = gateway.connect();
    client.send(&Request::get("/long").to_bytes()).unwrap();
    let head = client.head().unwrap().unwrap();
    let mut framing = Framing::of_answer(&head, "GET");
    let mut trailers = Fields::default();
    assert_eq!(client.part(&mut framing, &mut trailers).unwrap().unwrap(), b"half");
    gateway.sigterm();
    eventually("no new connections", || TcpStream::connect(gateway.proxy_addr().tcp()).is_err());
    gate.open();
    assert_eq!(client.part(&mut framing, &mut trailers).unwrap().unwrap(), b"rest");
    assert_eq!(client.part(&mut framing, &mut trailers).unwrap(), None);
    let last = client.exchange(&Request::post("/pay", "abc"));
    assert_eq!((last.status, last.fields.get("connection")), (200, Some("close")));
    assert_eq!(partner.seen_at("/pay").len(), 1);
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn s56_a_name_that_is_being_looked_up_holds_no_end_up() {
    let (partner, gate, over) = (Partner::new(), Gate::shut(), Gate::shut());
    over.open();
    let gateway = InProcess::before(&partner, |config| config);
    gateway.serves("/before");
    // As the system's resolver does it when its servers are silent.
    let (held, end) = (gate.clone(), over.clone());
    let look_up = move || [held, end].iter().for_each(Gate::wait);
    gateway.at_the_next_look(move || drop(tokio::task::spawn_blocking(look_up)));
    gateway.serves("/x");
    gate.await_arrivals(1);
    gateway.end();
    assert_eq!(over.arrivals(), 0, "it was waited for");
    gate.open();
}

#[test]
fn s56_readiness_goes_before_accepting_does() {
    let partner = Partner::new();
    let mut gateway = Gateway::start(&Config::to(&partner).set("server.drain_delay", "3s"));
    gateway.sigterm();
    eventually("not ready", || gateway.admin(&Request::get("/readyz")).status == 503);
    assert_eq!(gateway.get("/x").status, 200);
    assert_eq!(gateway.wait_exit().code(), Some(0));
}

#[test]
fn s56_a_drain_that_takes_too_long_ends_with_1() {
    let (partner, gate) = holding();
    let mut gateway = Gateway::start(&Config::to(&partner).set("server.drain_timeout", "300ms"));
    let mut client = gateway.connect();
    client.send(&Request::get("/held").to_bytes()).unwrap();
    gate.await_arrivals(1);
    gateway.sigterm();
    assert_eq!(gateway.wait_exit().code(), Some(1));
    gate.open();
}

#[test]
fn s56_a_refresh_in_flight_is_made_durable_before_the_exit() {
    let partner = Partner::new();
    let mut gateway = Gateway::start(&Config::to(&partner).with_admin_socket());
    let gate = partner.hold_refreshes();
    let admin = gateway.admin_addr().clone();
    let asked = thread::spawn(move || {
        let mut connection = crate::support::client::connect(&admin);
        let _sent = connection.send(&Request::post("/partners/acme/refresh", "").to_bytes());
        connection.answer("POST").map(|answer| answer.status)
    });
    gate.await_arrivals(1);
    gateway.sigterm();
    gate.open();
    assert_eq!(gateway.wait_exit().code(), Some(0));
    // Whether the operator still hears of it is not promised.
    println!("the call ended in {:?}", asked.join().unwrap());
    gateway.restart();
    gateway.await_ready();
    assert_eq!((gateway.generation(), partner.refreshes()), (2, 2));
    assert_eq!(gateway.get("/x").status, 200);
    partner.assert_no_spent_token_seen();
}

#[test]
fn s57_a_reload_takes_effect_without_dropping_a_request() {
    let (partner, gate) = holding();
    let config = Config::to(&partner).set("partner.headers.x-service-code", "one");
    let gateway = Gateway::start(&config);
    let mut kept = gateway.connect();
    assert_eq!(kept.exchange(&Request::get("/x")).status, 200);
    let waiting = gateway.send_aside(Request::get("/held"));
    gate.await_arrivals(1);
    gateway.reload(&config.clone().set("partner.headers.x-service-code", "two"));
    eventually("the new header is sent", || {
        assert_eq!(kept.exchange(&Request::get("/x")).status, 200);
        partner.seen_at("/x").last().unwrap().fields.all("x-service-code") == ["two"]
    });
    gate.open();
    assert_eq!(waiting.join().unwrap().text(), "late");
    assert_eq!(partner.refreshes(), 1, "a reload costs no refresh");
}

#[test]
fn s57_an_answer_that_goes_on_after_a_reload_keeps_no_idle_connections() {
    let (partner, gate) = (Partner::new(), Gate::shut());
    let held = gate.clone();
    partner.on("/long", move |x| {
        x.begin_chunked(200, &[])?;
        x.chunk(b"begun")?;
        held.wait();
        x.raw(b"0\r\n\r\n")
    });
    let config = Config::to(&partner).set("server.threads", 1);
    let gateway = Gateway::start(&config);
    let mut client = gateway.connect();
    client.send(&Request::get("/long").to_bytes()).unwrap();
    gate.await_arrivals(1);
    assert_eq!(gateway.get("/x").status, 200);
    let open = || gateway.metric("bearerd_connections", &[("side", "upstream")]);
    eventually("one is idle", || open() == Some(2.0));
    gateway.reload(&config.clone().set("partner.headers.x-service-code", "two"));
    // With the next request, or a while later without one.
    eventually("the idle one is closed", || open() == Some(1.0));
    gate.open();
    assert_eq!(client.answer("GET").unwrap().text(), "begun");
    // Nor is the one that it came on kept.
    eventually("it is closed as well", || open() == Some(0.0));
}

#[test]
fn s57_a_partner_can_be_added_and_taken_away() {
    let (first, second) = (Partner::new(), Partner::new());
    let one = Config::to(&first);
    let gateway = Gateway::start(&one);
    gateway.reload(&one.clone().and("beta", &second).set("partner.path_prefix", "/beta"));
    eventually("the second partner serves", || {
        gateway.get("/beta/x").status == 200 && second.seen().len() == 1
    });
    gateway.reload(&one);
    let at_first = || first.seen_at("/beta/y").len();
    eventually("the first has the path again", || gateway.get("/beta/y").status == 200 && at_first() > 0);
    assert_eq!((first.refreshes(), second.refreshes()), (1, 1));
}

#[test]
fn s57_a_partner_that_comes_back_waits_for_the_call_that_it_was_taken_out_in() {
    let (first, second) = (Partner::new(), Partner::new());
    let one = Config::to(&first);
    let both = one.clone().and("beta", &second).set("partner.path_prefix", "/beta");
    // Which would allow to present once more what has perhaps been spent.
    let both = both.set("partner.refresh.grace", "60s");
    let gateway = Gateway::start(&both);
    assert_eq!(gateway.get("/beta/x").status, 200);
    let gate = second.hold_refreshes();
    second.revoke_access();
    let waiting = gateway.send_aside(Request::get("/beta/x"));
    gate.await_arrivals(1);
    gateway.reload(&one);
    eventually("it is out", || gateway.logs().contains("the configuration was reloaded"));
    gateway.reload(&both);
    eventually("its call is waited for", || gateway.logs().contains("it was taken out a moment ago"));
    gate.open();
    assert_eq!(waiting.join().unwrap().status, 200);
    eventually("it is back", || {
        gateway.get("/beta/z").status == 200 && !second.seen_at("/beta/z").is_empty()
    });
    assert_eq!((second.refreshes(), second.graced(), second.spent_presented()), (2, 0, 0));
}

#[test]
fn s57_a_bad_configuration_is_refused_whole_and_the_old_one_stays() {
    let partner = Partner::new();
    let config = Config::to(&partner).with_admin_socket().set("partner.headers.x-service-code", "one");
    let gateway = Gateway::start(&config);
    let changed = config.clone().set("partner.headers.x-service-code", "two");
    for bad in [
        changed.clone().set("partner.encryption_key", "abc"),
        changed.clone().set("server.thraeds", 1),
        changed.clone().set("server.threads", 3),
        changed.clone().set("server.listen", "127.0.0.1:1"),
        changed.clone().set("admin.listen", "127.0.0.1:0"),
        changed.clone().set("store.path", "other"),
    ] {
        bad.write_to(&gateway.dir);
        let answer = gateway.admin(&Request::post("/reload", ""));
        assert!((400..500).contains(&answer.status), "{answer:?}");
        assert_eq!(gateway.get("/x").status, 200);
        assert_eq!(partner.seen_at("/x").last().unwrap().fields.all("x-service-code"), ["one"]);
    }
    changed.write_to(&gateway.dir);
    let answer = gateway.admin(&Request::post("/reload", ""));
    assert!((200..300).contains(&answer.status), "{answer:?}");
    eventually("the good one is taken", || {
        gateway.get("/x");
        partner.seen_at("/x").last().unwrap().fields.all("x-service-code") == ["two"]
    });
}

#[test]
fn s57_a_bad_reload_by_signal_is_told_in_the_log() {
    let partner = Partner::new();
    let config = Config::to(&partner);
    let gateway = Gateway::start(&config);
    gateway.reload(&config.set("partner.encryption_key", "abc"));
    eventually("an error in the log", || {
        gateway
            .log_lines()
            .iter()
            .any(|line| line["level"] == "ERROR" && line.to_string().contains("encryption_key"))
    });
    assert_eq!(gateway.get("/x").status, 200);
}

#[test]
fn s57_many_reloads_under_load_fail_no_request() {
    let partner = Partner::new();
    let config = Config::to(&partner).set("log.level", "info");
    let gateway = Gateway::start(&config);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Whatever happens, the clients must end, because the scope waits for them.
        let stopping = StopOnDrop(&stop);
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = gateway.connect();
                    while !stop.load(Ordering::SeqCst) {
                        assert_eq!(client.exchange(&Request::post("/x", "abc")).status, 200);
                    }
                })
            })
            .collect();
        for round in 0..100 {
            let value = format!("round-{round}");
            gateway.reload(&config.clone().set("partner.headers.x-round", value.as_str()));
            eventually("the round is seen", || {
                let seen = partner.seen();
                seen.last().is_some_and(|seen| seen.fields.all("x-round") == [value.as_str()])
            });
        }
        drop(stopping);
        for client in clients {
            client.join().unwrap();
        }
    });
    assert_eq!(partner.refreshes(), 1);
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
