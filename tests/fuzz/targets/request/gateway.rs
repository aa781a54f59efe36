//! A gateway in one thread: whatever depends on how bearerd is put together is here.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bearerd::clock::SystemClock;
use bearerd::metrics::{Metrics, Shard};
use bearerd::partner::{BaseUrl, Connector, Versions};
use bearerd::proxy::{self, HostPattern, Partner, Proxy, RouteConfig, Routes, Shared};
use http::{HeaderName, HeaderValue};
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, LocalOptions, LocalRuntime};
use tokio::sync::watch;
use tokio::task::spawn_local;

use crate::partner::{CODES, Mock, SERVICE};
use crate::support::{TestCredential, publish};

/// The product's own file: what is in it is private to the module that it is part of there.
#[path = "../../../../src/listener"]
mod listener {
    use std::rc::Rc;
    use std::time::Duration;

    use bearerd::proxy::Proxy;
    use tokio::io::DuplexStream;
    use tokio::sync::{oneshot, watch};

    mod activity;
    mod aside;
    mod connection;
    mod http1;
    mod tasks;
    mod turnstile;
    mod version;

    /// As in the product, which does not show it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Phase {
        Serving,
    }

    impl connection::Stream for DuplexStream {
        fn reset(&self) {}
    }

    pub(crate) async fn serve(stream: DuplexStream, proxy: Proxy, phase: watch::Receiver<Phase>) {
        let time = Duration::from_secs(60);
        let limits = activity::Limits { header: time, idle: time, request: time, still: time };
        let common = Rc::new(http1::Common::new());
        let (guard, gone) = oneshot::channel::<()>();
        connection::serve(stream, proxy, Rc::clone(&common), limits, phase, guard).await;
        // A tunnel goes on in a task of its own.
        let _ = gone.await;
        common.sweep();
    }
}

/// Everything that lives for as long as the fuzzer runs.
pub(crate) struct Gateway {
    pub(crate) runtime: LocalRuntime,
    pub(crate) mock: Rc<Mock>,
    shared: Arc<Shared>,
    shard: Arc<Shard>,
    phase: watch::Sender<listener::Phase>,
    credential: TestCredential,
    /// The tasks that there are between two inputs.
    tasks: usize,
}

impl Gateway {
    pub(crate) fn new() -> Self {
        let mut builder = Builder::new_current_thread();
        // Time passes when nothing else is left to do, which is how one knows.
        let runtime = builder.enable_all().start_paused(true).build_local(LocalOptions::default()).unwrap();
        runtime.block_on(Self::within()).with(runtime)
    }

    async fn within() -> Parts {
        let metrics = Metrics::new("fuzz");
        let mut credential = TestCredential::new(&metrics).await;
        spawn_local(credential.drive());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mock = Mock::new(port, Arc::clone(&credential.handle));
        publish(&credential.handle, 0).await;
        spawn_local(Rc::clone(&mock).accept(listener));

        let time = Duration::from_secs(60);
        let of = |code: &'static str, base: &str, hosts, replay_limit| {
            let base_url = BaseUrl::parse(&format!("http://127.0.0.1:{port}{base}")).unwrap();
            let service = (HeaderName::from_static("x-service-code"), HeaderValue::from_static(SERVICE));
            Arc::new(Partner {
                name: code.to_lowercase(),
                connector: Arc::new(Connector::new(&base_url, time, None, Versions::Http1).unwrap()),
                base_url,
                partner_code: HeaderValue::from_static(code),
                headers: vec![service],
                route: RouteConfig { hosts, path_prefix: "/".to_owned(), replay_limit },
                credential: Arc::clone(&credential.handle),
            })
        };
        let two = HostPattern { host: "two.example".to_owned(), port: None };
        let routes = Routes {
            config: proxy::Config {
                max_in_flight: 100,
                request_timeout: time,
                token_timeout: time,
                idle_timeout: time,
                replay_memory: 1024 * 1024,
                allow_browsers: false,
            },
            // Of the first, some bodies are too long to be sent again.
            partners: vec![of(CODES[0], "", Vec::new(), 256), of(CODES[1], "/base", vec![two], 64 * 1024)],
        };
        let shared = Shared::new(routes, SystemClock::shared(), None);
        let tasks = Handle::current().metrics().num_alive_tasks();
        Parts { mock, shared, shard: metrics.shard(), credential, tasks }
    }

    /// A proxy of its own for every input, so that none depends on those before it.
    pub(crate) fn proxy(&self) -> Proxy {
        Proxy::new(Arc::clone(&self.shared), Arc::clone(&self.shard))
    }

    /// A client's connection.
    pub(crate) fn connect(&self, proxy: &Proxy) -> DuplexStream {
        let (client, served) = tokio::io::duplex(1024 * 1024);
        spawn_local(listener::serve(served, proxy.clone(), self.phase.subscribe()));
        client
    }

    /// How many tasks an input has left behind.
    pub(crate) fn left_behind(&self) -> usize {
        Handle::current().metrics().num_alive_tasks() - self.tasks
    }

    /// A token does not last as long as the fuzzer runs.
    pub(crate) async fn renew(&self) {
        self.mock.publish(&self.credential.handle).await;
    }
}

struct Parts {
    mock: Rc<Mock>,
    shared: Arc<Shared>,
    shard: Arc<Shard>,
    credential: TestCredential,
    tasks: usize,
}

impl Parts {
    fn with(self, runtime: LocalRuntime) -> Gateway {
        let Self { mock, shared, shard, credential, tasks } = self;
        let (phase, _) = watch::channel(listener::Phase::Serving);
        Gateway { runtime, mock, shared, shard, phase, credential, tasks }
    }
}
