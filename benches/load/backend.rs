//! The partner: cheap and constant, over raw sockets.
//!
//! A thread of its own serves it, or whoever has [taken it over](Backend::take_over).

mod answers;
mod server;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio_rustls::rustls::ServerConfig;

use self::answers::Answers;
pub(crate) use self::answers::{CHECK_PATH, PARTNER_CODE, access_token};
pub(crate) use self::server::Server;
use crate::machine::wait;

/// How the partner behaves.
pub(crate) struct Behaviour {
    /// TLS, and what it shows; in clear if there is nothing.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// How long its tokens live.
    pub(crate) lifetime: Duration,
    pub(crate) storm: Option<Storm>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { tls: None, lifetime: Duration::from_secs(86_400), storm: None }
    }
}

/// The first token is refused, to all who carry it at the same time.
#[derive(Clone, Copy)]
pub(crate) struct Storm {
    /// So many requests are waited for before the first one is refused.
    pub(crate) requests: usize,
    /// How long the refresh call after that takes.
    pub(crate) refresh: Duration,
}

/// What the partner has seen.
#[derive(Default)]
pub(crate) struct Seen {
    /// How many connections were made to it.
    pub(crate) connections: usize,
    /// When each refresh call came.
    pub(crate) refreshes: Vec<Instant>,
    /// How long the bodies were, in bytes, but for those of refresh calls.
    pub(crate) body: u64,
    /// From when to when the storm's requests were refused.
    pub(crate) refused: Option<(Instant, Instant)>,
    /// When the call after that was answered.
    pub(crate) refreshed: Option<Instant>,
}

/// The running partner; ends when dropped.
pub(crate) struct Backend {
    addr: SocketAddr,
    server: Arc<Mutex<Server>>,
    seen: Arc<Mutex<Seen>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Its thread runs where the calling one may run.
    pub(crate) fn start(behaviour: Behaviour) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.listen(4096)?;
        let listener = TcpListener::from(socket);
        let addr = listener.local_addr()?;
        let (seen, ended) = (Arc::<Mutex<Seen>>::default(), Arc::new(AtomicBool::new(false)));
        let tls = behaviour.tls.clone();
        let server = Server::new(listener, tls, Answers::new(&behaviour, Arc::clone(&seen)))?;
        let (epoll, server) = (Arc::clone(server.epoll()), Arc::new(Mutex::new(server)));
        let (served, is_over) = (Arc::clone(&server), Arc::clone(&ended));
        let run = move || {
            let mut events = Vec::with_capacity(1024);
            while !is_over.load(Ordering::Relaxed) {
                // Not while it waits: it is taken over at any time.
                let idle = lock(&served).wait();
                let turn = wait(&epoll, &mut events, idle).and_then(|()| lock(&served).serve(&events));
                if let Err(error) = turn {
                    eprintln!("load: the backend has ended: {error}");
                    return;
                }
            }
        };
        Ok(Self { addr, server, seen, ended, thread: Some(std::thread::spawn(run)) })
    }

    /// Its thread does nothing while the server is held, and whoever holds it serves it.
    pub(crate) fn take_over(&self) -> MutexGuard<'_, Server> {
        lock(&self.server)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn seen<T>(&self, of: impl FnOnce(&Seen) -> T) -> T {
        of(&lock(&self.seen))
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
