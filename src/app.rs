//! The composition: a [`Config`] in, a running gateway, and its end.
//!
//! [`run`] reads from the top: sockets are bound and the store is opened before anything is
//! started, so that what cannot work is said at once; readiness comes when every partner has a
//! token; and the end is a drain.

mod partners;
mod reload;
mod signals;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use self::partners::Partners;
use self::reload::Reloader;
use self::signals::{Signal, Signals};
use crate::admin::Admin;
use crate::clock::SystemClock;
use crate::config::{Config, Source};
use crate::descriptors;
use crate::listener::{ListenAddr, Settings, Socket, Workers};
use crate::metrics::Metrics;
use crate::proxy;
use crate::sandbox::Sandbox;
use crate::store::{self, Store, StoreError};
use crate::telemetry::{self, Tracing};

/// The version that `/status` and `build_info` show.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How long spans that are still queued may take to be exported at the end.
const TRACES: Duration = Duration::from_secs(2);

/// Why bearerd could not start, or did not end as it should.
#[derive(Debug)]
pub enum RunError {
    /// A socket could not be bound.
    Listen(ListenAddr, io::Error),
    /// The store could not be opened.
    Store(StoreError),
    /// Partners could not be set up; one message each.
    Partners(Vec<String>),
    /// The system refused something without which nothing works.
    System(&'static str, io::Error),
    /// Exchanges were cut off at the end of `server.drain_timeout`, or by a second signal.
    Drain,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(addr, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {addr}: another process does; is bearerd running already?")
            }
            Self::Listen(addr, error) => write!(f, "cannot listen on {addr}: {error}"),
            Self::Store(error) => error.fmt(f),
            Self::Partners(messages) => f.write_str(&messages.join("\n")),
            Self::System(what, error) => write!(f, "cannot {what}: {error}"),
            Self::Drain => f.write_str("the drain did not finish in time; exchanges were cut off"),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs the gateway until a signal ends it. `config` is what `source` says.
///
/// # Errors
///
/// See [`RunError`]; all of them mean exit code 1.
pub fn run(source: Source, config: Config) -> Result<(), RunError> {
    let log = telemetry::init(&config.log);
    if let Err(error) = telemetry::harden() {
        warn!(%error, "core dumps could not be switched off");
    }
    if let Err(error) = telemetry::raise_descriptor_limit() {
        warn!(%error, "the limit on descriptors could not be raised");
    }
    let bound = Bound::new(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| RunError::System("start the control runtime", error))?;
    share_descriptors(&config);
    let result = runtime.block_on(async {
        let store = store::open(&config.store, SystemClock::shared()).await.map_err(RunError::Store)?;
        App::start_and_run(source, config, bound, store, &log).await
    });
    // A task that hangs must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Every socket, bound before anything else is done.
struct Bound {
    proxy: Vec<Socket>,
    admin: Socket,
    sandbox: Option<Sandbox>,
}

impl Bound {
    fn new(config: &Config) -> Result<Self, RunError> {
        let listen = |addr: &ListenAddr| {
            let addr = addr.clone();
            move |error| RunError::Listen(addr, error)
        };
        let sandbox = match &config.sandbox {
            Some(sandbox) => {
                let failed = listen(&ListenAddr::Tcp(sandbox.listen));
                Some(Sandbox::bind(sandbox).map_err(failed)?)
            }
            None => None,
        };
        let admin = Socket::bind(&config.admin.listen).map_err(listen(&config.admin.listen))?;
        let server = &config.listener;
        let proxy =
            Socket::bind_shared(&server.listen, server.threads.get()).map_err(listen(&server.listen))?;
        Ok(Self { proxy, admin, sandbox })
    }
}

struct App {
    admin: Arc<Admin>,
    workers: Workers,
    partners: Partners,
    reloader: Reloader,
    reload_asked: mpsc::Receiver<oneshot::Sender<Result<(), Vec<String>>>>,
    tracing: Option<Arc<Tracing>>,
    /// Ends the admin side and the sandbox.
    last: Vec<(oneshot::Sender<()>, tokio::task::JoinHandle<()>)>,
}

impl App {
    async fn start_and_run(
        source: Source,
        config: Config,
        bound: Bound,
        store: Arc<dyn Store>,
        log: &telemetry::Guard,
    ) -> Result<(), RunError> {
        let mut signals = Signals::new().map_err(|error| RunError::System("listen for signals", error))?;
        let app = Self::start(source, config, bound, store, log).await?;
        app.serve(&mut signals).await
    }

    async fn start(
        source: Source,
        config: Config,
        bound: Bound,
        store: Arc<dyn Store>,
        log: &telemetry::Guard,
    ) -> Result<Self, RunError> {
        let clock = SystemClock::shared();
        let metrics = Metrics::new(VERSION);
        let lines = log.handle();
        metrics.watch_dropped_lines({
            let lines = lines.clone();
            move || lines.dropped_lines()
        });
        if let Some(session) = store.shared().and_then(|shared| shared.metrics()) {
            metrics.watch_store(session);
        }
        let tracing = Tracing::from_env().map(Arc::new);
        let mut last = Vec::new();
        let sandbox_addr = match &bound.sandbox {
            Some(sandbox) => {
                Some(sandbox.local_addr().map_err(|e| RunError::System("read the sandbox's address", e))?)
            }
            None => None,
        };
        if let Some(sandbox) = bound.sandbox {
            last.push(spawn_until(|ended| async move {
                if let Err(error) = sandbox.run(ended).await {
                    error!(%error, "the sandbox has ended");
                }
            }));
        }

        let partners = Partners::new(store, Arc::clone(&clock), Arc::clone(&metrics));
        let mut reloader = Reloader::new(source, config, sandbox_addr, lines);
        let prepared = reloader.prepare_first(&partners).map_err(RunError::Partners)?;
        let mut partners = partners;
        let routes = partners.apply(prepared).await.map_err(RunError::Partners)?;

        let (reload, reload_asked) = mpsc::channel(4);
        let admin = Admin::new(VERSION, Arc::clone(&metrics), Arc::clone(&clock), reload);
        admin.set_partners(partners.handles());
        admin.set_token(reloader.config().admin.token.clone());
        log_listening("admin", &bound.admin);
        let serve = Arc::clone(&admin);
        last.push(spawn_until(|ended| async move {
            if let Err(error) = serve.serve(bound.admin, ended).await {
                error!(%error, "the admin side has ended");
            }
        }));

        if let Some(socket) = bound.proxy.first() {
            log_listening("proxy", socket);
        }
        let shared = proxy::Shared::new(routes, clock, tracing.clone());
        let workers = match Workers::start(settings(reloader.config()), bound.proxy, &shared, &metrics) {
            Ok(workers) => workers,
            Err(error) => {
                // A call under way may have spent a token.
                partners.stop().await;
                return Err(RunError::System("start the workers", error));
            }
        };
        reloader.set_shared(shared);
        Ok(Self { admin, workers, partners, reloader, reload_asked, tracing, last })
    }

    /// Serves until a signal asks for the end, and ends.
    async fn serve(mut self, signals: &mut Signals) -> Result<(), RunError> {
        let mut watch = tokio::time::interval(reload::WATCH);
        watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::End => break,
                    Signal::Reload => {
                        let _ = self.reload().await;
                    }
                },
                Some(reply) = self.reload_asked.recv() => {
                    let result = self.reload().await;
                    let _ = reply.send(result);
                }
                _ = watch.tick() => {
                    if let Some(config) = self.reloader.changed_secrets() {
                        let _ = self.apply(config).await;
                    }
                }
            }
        }
        self.drain(signals).await
    }

    /// Reads the configuration anew, and takes it up whole or not at all.
    async fn reload(&mut self) -> Result<(), Vec<String>> {
        match self.reloader.read() {
            Ok(config) => self.apply(config).await,
            Err(messages) => {
                for message in &messages {
                    error!("{message}");
                }
                error!("the configuration was not reloaded; the one before it stays");
                Err(messages)
            }
        }
    }

    async fn apply(&mut self, next: reload::Next) -> Result<(), Vec<String>> {
        match self.reloader.apply(next, &mut self.partners).await {
            Ok(()) => {
                self.admin.set_partners(self.partners.handles());
                self.admin.set_token(self.reloader.config().admin.token.clone());
                self.workers.reload(settings(self.reloader.config()));
                info!("the configuration was reloaded");
                Ok(())
            }
            Err(messages) => {
                for message in &messages {
                    error!("{message}");
                }
                error!("the configuration was not reloaded; the one before it stays");
                Err(messages)
            }
        }
    }

    /// Readiness off, exchanges finish, the refresh under way is made durable.
    async fn drain(self, signals: &mut Signals) -> Result<(), RunError> {
        let server = self.reloader.config().listener.clone();
        info!("draining");
        self.admin.start_draining();
        let cut_short = tokio::select! {
            () = tokio::time::sleep(server.drain_delay) => false,
            () = signals.end() => true,
        };
        let timeout = if cut_short { Duration::ZERO } else { server.drain_timeout };
        let in_time = self.workers.drain(timeout, signals.end()).await;
        // After the exchanges, which may still need a token; before the sandbox, which may still
        // have to answer. A call under way is bounded by `refresh.timeout`.
        self.partners.stop().await;
        for (end, task) in self.last.into_iter().rev() {
            let _ = end.send(());
            let _ = task.await;
        }
        if let Some(tracing) = &self.tracing {
            tracing.shutdown(TRACES).await;
        }
        info!("ended");
        if in_time { Ok(()) } else { Err(RunError::Drain) }
    }
}

/// Says what the limit on descriptors makes of the configured number of connections.
fn share_descriptors(config: &Config) {
    descriptors::settle(config.listener.threads.get());
    let (asked, most) = (config.listener.max_connections, descriptors::for_clients());
    if asked > most {
        let limit = descriptors::limit();
        warn!(
            "server.max_connections is {asked}, but the limit of {limit} descriptors leaves room for {most}; \
             more wait to be accepted"
        );
    }
}

/// What connections are held to.
fn settings(config: &Config) -> Settings {
    let request = config.proxy.request_timeout;
    let still = request + config.proxy.idle_timeout;
    Settings { listener: config.listener.clone(), request, still }
}

fn log_listening(side: &'static str, socket: &Socket) {
    if let Ok(address) = socket.local_addr() {
        info!(side, %address, "listening");
    }
}

/// Spawns what runs until the returned sender says that it should end.
fn spawn_until<F>(task: impl FnOnce(Ended) -> F) -> (oneshot::Sender<()>, tokio::task::JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (end, ended) = oneshot::channel();
    let ended: Ended = Box::pin(async move {
        let _ = ended.await;
    });
    (end, tokio::spawn(task(ended)))
}

type Ended = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// The address that a sandbox on port 0 was given.
pub(crate) type SandboxAddr = Option<SocketAddr>;
