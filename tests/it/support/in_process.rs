//! A data path in this process, put together as `app` does it, but for a clock in which something can
//! be made to happen on the thread that carries a request.

use std::sync::{Arc, Mutex};

use bearerd::clock::{Clock, Moment, SystemClock, UnixMillis};
use bearerd::config::{Config, Source};
use bearerd::credential::{RefreshHandle, Refresher, Settings};
use bearerd::listener;
use bearerd::listener::{ListenAddr, Socket, Workers};
use bearerd::metrics::Metrics;
use bearerd::partner::{Connector, HttpEndpoint, Versions};
use bearerd::proxy::{Partner as Route, Routes, Shared};
use bearerd::store::FileStore;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::DEADLINE;
use super::client::{Address, Request};
use super::config::{Config as Builder, Dir};
use super::partner::Partner;

type NextLook = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// The system's clock, but for what happens the next time that it is looked at.
struct Trapped(NextLook);

impl Clock for Trapped {
    fn now(&self) -> Moment {
        let next_look = self.0.lock().unwrap().take();
        if let Some(happen) = next_look {
            happen();
        }
        SystemClock.now()
    }

    fn wall(&self) -> UnixMillis {
        SystemClock.wall()
    }
}

/// A data path in this process, and what is under it.
pub(crate) struct InProcess {
    pub(crate) address: Address,
    next_look: NextLook,
    pub(crate) credential: Arc<RefreshHandle>,
    pub(crate) workers: Workers,
    pub(crate) control: Runtime,
    _dir: Dir,
}

impl InProcess {
    pub(crate) fn before(partner: &Partner, change: impl FnOnce(Builder) -> Builder) -> Self {
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
        let next_look = NextLook::default();
        let shared = Shared::new(routes, Arc::new(Trapped(Arc::clone(&next_look))), None);
        let sockets = Socket::bind_shared(&config.listener.listen, 1).unwrap();
        let ListenAddr::Tcp(address) = sockets[0].local_addr().unwrap() else { panic!("the tests use TCP") };
        let request = config.proxy.request_timeout;
        let still = request + config.proxy.idle_timeout;
        let settings = listener::Settings { listener: config.listener.clone(), request, still };
        let workers = Workers::start(settings, sockets, &shared, &metrics).unwrap();
        Self { address: Address::Tcp(address), next_look, credential, workers, control, _dir: dir }
    }

    /// Does it when a request looks at the clock next.
    pub(crate) fn at_the_next_look(&self, happen: impl FnOnce() + Send + 'static) {
        *self.next_look.lock().unwrap() = Some(Box::new(happen));
    }

    pub(crate) fn has_looked(&self) -> bool {
        self.next_look.lock().unwrap().is_none()
    }

    #[track_caller]
    pub(crate) fn serves(&self, path: &str) {
        assert_eq!(Request::get(path).send(&self.address).status, 200, "{path}");
    }

    /// The end is an orderly one: no worker ended in a panic of its own.
    #[track_caller]
    pub(crate) fn end(self) {
        assert!(self.control.block_on(self.workers.drain(DEADLINE, std::future::pending())));
    }
}
