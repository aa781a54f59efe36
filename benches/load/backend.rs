//! The partner: cheap and constant, one thread over raw sockets.

mod answers;
mod server;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio_rustls::rustls::ServerConfig;

use self::answers::Answers;
pub(crate) use self::answers::{CHECK_PATH, PARTNER_CODE, access_token};
use self::server::Server;

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
        let mut server = Server::new(listener, tls, Answers::new(&behaviour, Arc::clone(&seen)))?;
        let is_over = Arc::clone(&ended);
        let run = move || {
            let mut events = Vec::with_capacity(1024);
            while !is_over.load(Ordering::Relaxed) {
                if let Err(error) = server.turn(&mut events) {
                    eprintln!("load: the backend has ended: {error}");
                    return;
                }
            }
        };
        Ok(Self { addr, seen, ended, thread: Some(std::thread::spawn(run)) })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn seen<T>(&self, of: impl FnOnce(&Seen) -> T) -> T {
        of(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
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
