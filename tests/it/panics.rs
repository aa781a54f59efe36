//! A panic while a request is served. The real binary has no way to be made to panic, and should have
//! none; so the parts are put together here as `app` does it, but with a clock that can break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bearerd::clock::{Clock, Moment, SystemClock, UnixMillis};
use bearerd::config::{Config, Source};
use bearerd::credential::{RefreshHandle, Refresher, Settings};
use bearerd::listener::{ListenAddr, Socket, Workers};
use bearerd::metrics::Metrics;
use bearerd::partner::{Connector, HttpEndpoint, Versions};
use bearerd::proxy::{Partner as Route, Routes, Shared};
use bearerd::store::FileStore;
use bearerd::{listener, token};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::support::DEADLINE;
use crate::support::client::{Address, Connection, Request, connect};
use crate::support::config::{Config as Builder, Dir};
use crate::support::eventually;
use crate::support::frames::*;
use crate::support::gate::Gate;
use crate::support::http::Answer;
use crate::support::partner::Partner;

/// The system's clock, but for the next time that it is asked once it has been broken.
struct Breakable(Arc<AtomicBool>);

impl Clock for Breakable {
    fn now(&self) -> Moment {
        assert!(!self.0.swap(false, Ordering::SeqCst), "the clock is broken; this is the test's doing");
        SystemClock.now()
    }

    fn wall(&self) -> UnixMillis {
        SystemClock.wall()
    }
}

/// A data path in this process, and what is under it.
struct InProcess {
    address: Address,
    broken: Arc<AtomicBool>,
    credential: Arc<RefreshHandle>,
    workers: Workers,
    control: Runtime,
    _dir: Dir,
}

impl InProcess {
    fn before(partner: &Partner, change: impl FnOnce(Builder) -> Builder) -> Self {
        let dir = Dir::new();
        let path = change(Builder::to(partner).set("server.threads", 1)).write_to(&dir);
        let config = Config::resolve(&Source::read(path).unwrap()).unwrap();
        let control = Runtime::new().unwrap();
        let _inside = control.enter();
        let metrics = Metrics::new("test");
        let one = config.partners[0].clone();
        let clock = SystemClock::shared();
        let settings = Settings {
            login: None,
            seed: one.seed.clone(),
            policy: one.policy.clone(),
            endpoint: Arc::new(HttpEndpoint::new(one.endpoint.clone(), Arc::clone(&clock)).unwrap()),
        };
        let (sender, seen) = watch::channel(settings);
        let store = Arc::new(FileStore::open(&config.store).unwrap());
        let load = Refresher::load(
            &one.name,
            seen,
            store,
            clock,
            metrics.credential(&one.name),
            fastrand::Rng::new(),
        );
        let (refresher, credential, stop) = control.block_on(load).unwrap();
        control.spawn(async move {
            refresher.run().await;
            drop((sender, stop));
        });
        let connect_timeout = one.endpoint.connect_timeout;
        let connector =
            Connector::new(&one.endpoint.base_url, connect_timeout, None, Versions::Http1).unwrap();
        let route = Route {
            name: one.name,
            base_url: one.endpoint.base_url,
            partner_code: one.endpoint.partner_code,
            headers: one.endpoint.headers,
            route: one.route,
            credential: Arc::clone(&credential),
            connector: Arc::new(connector),
        };
        let routes = Routes { config: config.proxy.clone(), partners: vec![Arc::new(route)] };
        let broken = Arc::new(AtomicBool::new(false));
        let shared = Shared::new(routes, Arc::new(Breakable(Arc::clone(&broken))), None);
        let sockets = Socket::bind_shared(&config.listener.listen, 1).unwrap();
        let ListenAddr::Tcp(address) = sockets[0].local_addr().unwrap() else { panic!("the tests use TCP") };
        let request = config.proxy.request_timeout;
        let still = request + config.proxy.idle_timeout;
        let settings = listener::Settings { listener: config.listener.clone(), request, still };
        let workers = Workers::start(settings, sockets, &shared, &metrics).unwrap();
        Self { address: Address::Tcp(address), broken, credential, workers, control, _dir: dir }
    }

    /// Sends a request that meets a panic, and is told so.
    #[track_caller]
    fn panic_on(&self, client: &mut Connection) {
        self.broken.store(true, Ordering::SeqCst);
        let answer = client.exchange(&Request::post("/panic", "abc"));
        answer.assert_problem(500);
        assert_eq!(answer.fields.get("proxy-status"), Some("bearerd; error=proxy_internal_error"));
        assert_eq!(answer.fields.get("retry-after"), None, "trying again is not known to help");
        assert!(!answer.text().contains("the test's doing"), "{}", answer.text());
        assert!(!self.broken.load(Ordering::SeqCst), "the panic was met");
    }

    #[track_caller]
    fn serves(&self, path: &str) {
        assert_eq!(Request::get(path).send(&self.address).status, 200, "{path}");
    }

    /// The end is an orderly one: no worker ended in a panic of its own.
    #[track_caller]
    fn end(self) {
        assert!(self.control.block_on(self.workers.drain(DEADLINE, std::future::pending())));
    }
}

#[test]
fn s62_a_panic_ends_the_request_that_met_it_and_nothing_else() {
    let partner = Partner::new();
    let gateway = InProcess::before(&partner, |config| config.set("server.max_in_flight", 1));
    gateway.serves("/before");
    let mut kept = connect(&gateway.address);
    assert_eq!(kept.exchange(&Request::get("/kept")).status, 200);
    for _ in 0..20 {
        gateway.panic_on(&mut kept);
        // Of its place among the exchanges there is but one, and it has been given back.
        gateway.serves("/after");
        assert_eq!(kept.exchange(&Request::get("/kept")).status, 200);
    }
    assert_eq!((partner.seen_at("/panic").len(), partner.refreshes()), (0, 1));
    gateway.end();
}

#[test]
fn s62_a_panic_on_one_stream_of_http2_is_a_500_there_and_the_others_go_on() {
    let partner = Partner::new();
    let gateway = InProcess::before(&partner, |config| config);
    gateway.serves("/before");
    let gate = Gate::shut();
    let held = gate.clone();
    partner.on("/held", move |x| {
        held.wait();
        x.answer(&Answer::new(200, "late"))
    });
    let head = |stream, path| {
        let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", path)];
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields))
    };
    let mut client = Frames::connect(gateway.address.tcp());
    client.send(&head(1, "/held")).unwrap();
    gate.await_arrivals(1);
    let next = |client: &mut Frames, awaited: u32| loop {
        match client.next().unwrap() {
            Said::Status(stream, status) if stream == awaited => return status,
            Said::Data(stream, _) if stream != 1 => {}
            other => panic!("{other:?}"),
        }
    };
    gateway.broken.store(true, Ordering::SeqCst);
    client.send(&head(3, "/panic")).unwrap();
    assert_eq!(next(&mut client, 3), 500);
    client.send(&head(5, "/x")).unwrap();
    assert_eq!(next(&mut client, 5), 200);
    gate.open();
    assert_eq!(next(&mut client, 1), 200);
    drop(client);
    assert_eq!((partner.seen_at("/panic").len(), partner.refreshes()), (0, 1));
    gateway.end();
}

#[test]
fn s62_a_panic_of_one_does_not_keep_the_others_from_the_token_that_they_wait_for() {
    let partner = Partner::new();
    let gateway = InProcess::before(&partner, |config| config);
    gateway.serves("/before");
    let gate = partner.hold_refreshes();
    partner.revoke_access();
    let waiting: Vec<_> = (0..10)
        .map(|n| {
            let address = gateway.address.clone();
            std::thread::spawn(move || Request::post(&format!("/wait/{n}"), "abc").send(&address).status)
        })
        .collect();
    gate.await_arrivals(1);
    eventually("all have met the refusal", || partner.rejected() == 10);
    for _ in 0..5 {
        gateway.panic_on(&mut connect(&gateway.address));
    }
    gate.open();
    for waiter in waiting {
        assert_eq!(waiter.join().unwrap(), 200);
    }
    assert_eq!(gateway.credential.status().generation, token::Generation(2));
    assert_eq!((partner.refreshes(), partner.seen_at("/panic").len()), (2, 0));
    partner.assert_no_spent_token_seen();
    gateway.serves("/after");
    gateway.end();
}
