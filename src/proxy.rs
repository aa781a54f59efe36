//! From an application's request to the partner's answer.
//!
//! A [`Proxy`] serves one runtime. [`Proxy::handle`] is the life of a request: it is admitted
//! ([`admit`](self), on its head alone), its partner is found, its header is cleaned, its body is
//! prepared for a replay, and then it is authorized and carried. What bearerd answers by itself is
//! made in one place, `respond`.

mod admit;
mod authorize;
mod exchange;
mod headers;
mod local;
mod panics;
mod path;
mod replay;
mod respond;
mod route;
mod tunnel;
mod worker;

use std::fmt;
use std::time::Duration;

pub use self::exchange::ResponseBody;
pub use self::headers::is_managed;
pub use self::respond::Unreadable;
pub use self::route::{Partner, Routes};
pub use self::tunnel::Tunnel;
pub use self::worker::{Proxy, Shared};

/// What concerns exchanges in `[server]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// How many exchanges may be under way; beyond it the answer is 503.
    pub max_in_flight: usize,
    /// From the header of a request to the head of its answer, waiting for a token included.
    pub request_timeout: Duration,
    /// The longest that a request waits for a token.
    pub token_timeout: Duration,
    /// How long a body may stand still.
    pub idle_timeout: Duration,
    /// What all bodies held for replay may take together, in bytes.
    pub replay_memory: usize,
    /// Whether requests that a web page in a browser could have sent are carried.
    pub allow_browsers: bool,
}

/// Which requests are for a partner, and how they are carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteConfig {
    /// The hosts by which a request names this partner; empty means any.
    pub hosts: Vec<HostPattern>,
    /// Whole path segments; begins with a slash and, but for `/` itself, does not end in one.
    pub path_prefix: String,
    /// The longest body that is held for a replay, in bytes.
    pub replay_limit: usize,
}

/// A host as configured: matches any port unless it names one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPattern {
    /// In lower case; an IPv6 address in brackets.
    pub host: String,
    /// The port, if one was given.
    pub port: Option<u16>,
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}
