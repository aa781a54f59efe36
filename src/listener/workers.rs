//! One current-thread runtime per core, each with its own socket and its own proxy.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Notify, watch};
use tokio::task::{spawn_local, unconstrained, yield_now};
use tokio::time::{sleep, timeout};
use tracing::{error, warn};

use super::activity::Limits;
use super::connection::serve;
use super::http1::Common;
use super::{Config, Phase, Socket};
use crate::descriptors;
use crate::metrics::{Metrics, Shard, Side};
use crate::proxy::{Proxy, Shared};

/// How long a runtime waits before it accepts again when the system has no descriptor left.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How often a runtime that has no room for a client looks whether there may be more now.
const LOOK: Duration = Duration::from_millis(500);
/// How often idle upstream connections are looked through, which is when it is seen that a partner
/// has closed one.
const SWEEP: Duration = Duration::from_secs(1);

/// What connections are held to; a reload may replace it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The section.
    pub listener: Config,
    /// From a header to the head of its answer.
    pub request: Duration,
    /// How long not a byte may move while exchanges are under way: the time for an answer to begin
    /// and for a body to go on.
    pub still: Duration,
}

/// The running data path.
#[derive(Debug)]
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    phase: watch::Sender<Phase>,
    settings: Arc<ArcSwap<Settings>>,
    running: watch::Receiver<usize>,
}

impl Workers {
    /// Starts a thread for every socket.
    ///
    /// # Errors
    ///
    /// The system gives no thread, or what a runtime needs.
    pub fn start(
        settings: Settings,
        sockets: Vec<Socket>,
        shared: &Arc<Shared>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let (ended, running) = watch::channel(sockets.len());
        let ended = Arc::new(ended);
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let slots = Arc::new(Slots::default());
        let mut threads = Vec::with_capacity(sockets.len());
        for (number, socket) in sockets.into_iter().enumerate() {
            let worker = Worker {
                settings: Arc::clone(&settings),
                slots: Arc::clone(&slots),
                phase: phase_seen.clone(),
                shared: Arc::clone(shared),
                shard: metrics.shard(),
            };
            let ended = Arc::clone(&ended);
            let (started, has_started) = mpsc::sync_channel(1);
            let run = move || {
                worker.run(socket, &started);
                ended.send_modify(|running| *running -= 1);
            };
            threads.push(std::thread::Builder::new().name(format!("worker-{number}")).spawn(run)?);
            has_started.recv().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
        }
        Ok(Self { threads, phase, settings, running })
    }

    /// Connections that are accepted from now on are held to `settings`.
    pub fn reload(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// Stops accepting, lets exchanges under way finish for `timeout`, and ends. Returns whether
    /// all of them did finish. Should `cut` come true before, what is under way is cut off at once.
    pub async fn drain(mut self, timeout: Duration, cut: impl Future<Output = ()>) -> bool {
        self.phase.send_replace(Phase::Draining);
        let in_time = tokio::select! {
            waited = tokio::time::timeout(timeout, self.running.wait_for(|running| *running == 0)) => {
                waited.is_ok()
            }
            () = cut => false,
        };
        self.phase.send_replace(Phase::Ended);
        for thread in self.threads.drain(..) {
            let joined = tokio::task::spawn_blocking(|| thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                error!("a worker ended in a panic");
            }
        }
        in_time
    }
}

/// What one thread works with.
struct Worker {
    settings: Arc<ArcSwap<Settings>>,
    slots: Arc<Slots>,
    phase: watch::Receiver<Phase>,
    shared: Arc<Shared>,
    shard: Arc<Shard>,
}

impl Worker {
    fn run(self, socket: Socket, started: &mpsc::SyncSender<io::Result<()>>) {
        let ready = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .and_then(|runtime| Ok((Acceptor::new(&runtime, socket)?, runtime)));
        let (acceptor, runtime) = match ready {
            Ok(ready) => ready,
            Err(error) => return drop(started.send(Err(error))),
        };
        let _ = started.send(Ok(()));
        runtime.block_on(self.serve(acceptor));
        // A name that is still being looked up holds nobody up.
        runtime.shutdown_background();
    }

    async fn serve(mut self, acceptor: Acceptor) {
        let proxy = Proxy::new(Arc::clone(&self.shared), Arc::clone(&self.shard));
        let (open, common) = (Rc::new(Open::default()), Rc::new(Common::new()));
        let sweeper = spawn_local(sweep(proxy.clone(), Rc::clone(&common)));
        let mut phase = self.phase.clone();
        tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
            () = self.accept_all(&acceptor, &proxy, &common, &open) => {}
        }
        self.accept_those_who_wait(&acceptor, &proxy, &common, &open).await;
        drop(acceptor);
        tokio::select! {
            () = open.none() => {}
            _ = self.phase.wait_for(|phase| *phase == Phase::Ended) => {}
        }
        sweeper.abort();
    }

    /// The system has connected them, and would reset them when the socket is closed.
    async fn accept_those_who_wait(
        &self,
        acceptor: &Acceptor,
        proxy: &Proxy,
        common: &Rc<Common>,
        open: &Rc<Open>,
    ) {
        // Goes on when the runtime has asked what has come.
        yield_now().await;
        let mut all = pin!(unconstrained(self.accept_all(acceptor, proxy, common, open)));
        poll_fn(|cx| Poll::Ready(all.as_mut().poll(cx).is_ready())).await;
    }

    async fn accept_all(&self, acceptor: &Acceptor, proxy: &Proxy, common: &Rc<Common>, open: &Rc<Open>) {
        loop {
            let most = || self.settings.load().listener.max_connections.min(descriptors::for_clients());
            self.slots.room(most).await;
            let stream = match acceptor.accept().await {
                Ok(stream) => stream,
                // The client has gone already; the next one may be there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    warn!(%error, "cannot accept connections; trying again shortly");
                    sleep(EXHAUSTED).await;
                    continue;
                }
            };
            let settings = self.settings.load();
            let limits = Limits {
                header: settings.listener.header_timeout,
                idle: settings.listener.idle_timeout,
                request: settings.request,
                still: settings.still,
            };
            let guards = (Slots::take(&self.slots), open.one_more(), self.shard.connected(Side::Client));
            let (proxy, common, phase) = (proxy.clone(), Rc::clone(common), self.phase.clone());
            // A task of each kind, not one with room for both.
            match stream {
                Stream::Tcp(stream) => spawn_local(serve(stream, proxy, common, limits, phase, guards)),
                Stream::Unix(stream) => spawn_local(serve(stream, proxy, common, limits, phase, guards)),
            };
        }
    }
}

async fn sweep(proxy: Proxy, common: Rc<Common>) {
    loop {
        sleep(SWEEP).await;
        proxy.sweep();
        common.sweep();
    }
}

/// A socket that one runtime accepts from.
enum Acceptor {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

impl Acceptor {
    fn new(runtime: &LocalRuntime, socket: Socket) -> io::Result<Self> {
        let _inside = runtime.enter();
        Ok(match socket {
            Socket::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Socket::Unix(listener, _) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

/// The connections of all runtimes, of which there may be so many, or one more for each runtime
/// that accepts at the same moment. Beyond that they wait in the system's backlog.
#[derive(Debug, Default)]
struct Slots {
    taken: AtomicUsize,
    freed: Notify,
}

impl Slots {
    /// Waits until there is room for one more.
    async fn room(&self, limit: impl Fn() -> usize) {
        loop {
            // Before the look, or a slot that is freed in between is missed.
            let freed = self.freed.notified();
            if self.taken.load(Ordering::Relaxed) < limit() {
                return;
            }
            // The limit may rise as well, of which nobody tells.
            let _ = timeout(LOOK, freed).await;
        }
    }

    fn take(slots: &Arc<Self>) -> Slot {
        slots.taken.fetch_add(1, Ordering::Relaxed);
        Slot(Arc::clone(slots))
    }
}

/// One connection's place.
struct Slot(Arc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
        // Every runtime: one that is told alone may have nobody at its own socket.
        self.0.freed.notify_waiters();
    }
}

/// The connections of one runtime, so that it knows when it has none left.
#[derive(Debug, Default)]
struct Open {
    count: Cell<usize>,
    closed: Notify,
}

impl Open {
    fn one_more(self: &Rc<Self>) -> OpenGuard {
        self.count.set(self.count.get() + 1);
        OpenGuard(Rc::clone(self))
    }

    async fn none(&self) {
        while self.count.get() > 0 {
            self.closed.notified().await;
        }
    }
}

struct OpenGuard(Rc<Open>);

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.closed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_runtime_that_waits_for_room_is_told_of_it() {
        let slots = Arc::new(Slots::default());
        let taken = Slots::take(&slots);
        let all = async {
            tokio::join!(slots.room(|| 1), slots.room(|| 1), async { drop(taken) });
        };
        timeout(LOOK / 2, all).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_has_risen_is_seen_although_nobody_has_gone() {
        let slots = Arc::new(Slots::default());
        let _taken = Slots::take(&slots);
        let limit = Cell::new(1);
        let all = async {
            tokio::join!(slots.room(|| limit.get()), async { limit.set(2) });
        };
        timeout(2 * LOOK, all).await.unwrap();
    }
}
