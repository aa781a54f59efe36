//! Accepts connections and serves HTTP/1.1 and h2c on them.
//!
//! There is one current-thread runtime per core, each with its own socket and its own
//! [`Proxy`](crate::proxy::Proxy): what a request touches on its way belongs to one core. The
//! system spreads connections over the sockets.

mod activity;
mod aside;
mod connection;
mod http1;
mod socket;
mod tasks;
mod turnstile;
mod version;
mod workers;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use self::socket::Socket;
pub use self::workers::{Settings, Workers};

/// Where a socket listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddr {
    /// `host:port`, resolved.
    Tcp(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What concerns sockets in `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where applications connect.
    pub listen: ListenAddr,
    /// How many runtimes serve them.
    pub threads: NonZeroUsize,
    /// How many connections may be open; beyond it they wait in the backlog.
    pub max_connections: usize,
    /// From accept to the end of the first header, and for each next header from its first byte.
    pub header_timeout: Duration,
    /// How long a kept-alive connection may be idle.
    pub idle_timeout: Duration,
    /// Between readiness off and the end of accepting.
    pub drain_delay: Duration,
    /// How long exchanges in flight may take to finish.
    pub drain_timeout: Duration,
}

/// How far the data path has come in ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not at all.
    Serving,
    /// Nothing new is accepted; what is under way finishes.
    Draining,
    /// What is still under way is cut off.
    Ended,
}
