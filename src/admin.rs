//! The operator's side: probes, metrics, status, and the calls that change something.
//!
//! It answers over HTTP/1.1 on a socket of its own and on the control runtime, so that nothing
//! asked here can stall a request. What always holds:
//! - No answer holds a secret, and none quotes what was sent.
//! - Nothing here calls the partner, but for the refresh that an operator asks for.
//! - Calls that change something exist on a unix socket, which only the process's own user can
//!   reach, or where a token is configured.
//! - Whatever a web page in somebody's browser could have sent is refused.

mod guard;
mod operator;
mod probes;
mod problem;
mod serve;
#[cfg(test)]
mod tests;
mod view;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use axum::routing::{get, post, put};
use axum::{Router, middleware};
use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot};

use self::guard::Door;
use self::problem::Problem;
pub(crate) use self::view::{PartnerView, StatusView, rfc3339};
use crate::clock::Clock;
use crate::credential::RefreshHandle;
use crate::listener::{ListenAddr, Socket};
use crate::metrics::Metrics;

/// The section `[admin]`.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where probes, scrapers and operators connect.
    pub listen: ListenAddr,
    /// The token that calls which change something must carry.
    pub token: Option<SecretString>,
}

/// Asks for the configuration to be read again. The answer to it: done, or every message, free of
/// secrets, that says why the old one stays.
pub type ReloadRequest = oneshot::Sender<Result<(), Vec<String>>>;

/// What the operator's side knows. Not ready until [`Admin::set_partners`] was called once.
pub struct Admin {
    version: String,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    reload: mpsc::Sender<ReloadRequest>,
    partners: ArcSwapOption<Vec<Partner>>,
    token: ArcSwapOption<SecretString>,
    draining: AtomicBool,
}

/// A partner's name and what may be asked of its credential.
type Partner = (String, Arc<RefreshHandle>);

impl Admin {
    /// Knows no partner and no token yet. `reload` goes to whoever reads the configuration.
    pub fn new(
        version: &str,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        reload: mpsc::Sender<ReloadRequest>,
    ) -> Arc<Self> {
        Arc::new(Self {
            version: version.to_owned(),
            metrics,
            clock,
            reload,
            partners: ArcSwapOption::empty(),
            token: ArcSwapOption::empty(),
            draining: AtomicBool::new(false),
        })
    }

    /// From now on these are the partners, in this order.
    pub fn set_partners(&self, partners: Vec<(String, Arc<RefreshHandle>)>) {
        self.partners.store(Some(Arc::new(partners)));
    }

    /// From now on calls that change something must carry `token`; without one they do not exist,
    /// but on a unix socket.
    pub fn set_token(&self, token: Option<SecretString>) {
        self.token.store(token.map(Arc::new));
    }

    /// From now on bearerd is alive and not ready.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Answers on `socket` until `shutdown` ends; then calls in flight have a few seconds to
    /// finish.
    ///
    /// # Errors
    ///
    /// If the socket cannot be registered with the runtime that this is called on.
    pub async fn serve(
        self: Arc<Self>,
        socket: Socket,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let door = match &socket {
            Socket::Tcp(_) => Door::Tcp,
            Socket::Unix(..) => Door::Unix,
        };
        serve::serve(socket, self.router(door), shutdown).await
    }

    fn router(self: Arc<Self>, door: Door) -> Router {
        let changing = Router::new()
            .route("/partners/{name}/refresh", post(operator::refresh))
            .route("/partners/{name}/token", put(operator::import))
            .route("/reload", post(operator::reload))
            .route_layer(middleware::from_fn_with_state((Arc::clone(&self), door), guard::operators_only));
        Router::new()
            .route("/livez", get(probes::alive))
            .route("/readyz", get(probes::ready))
            .route("/readyz/{name}", get(probes::partner_ready))
            .route("/metrics", get(probes::metrics))
            .route("/status", get(probes::status))
            .merge(changing)
            .fallback(async || Problem::NotFound)
            .method_not_allowed_fallback(async || Problem::Method)
            .layer(middleware::from_fn(guard::in_time))
            .layer(middleware::from_fn(guard::no_browsers))
            .with_state(self)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("version", &self.version).finish_non_exhaustive()
    }
}
