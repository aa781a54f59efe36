//! A partner to try things against: the same wire, with nothing of value behind it.
//!
//! It speaks what bearerd knows of the partner's API: the partner code on every call, sealed login
//! and refresh calls, rotating refresh tokens with detection of reuse, and a handful of calls that
//! want an access token. Its keys and secrets are the constants below, published, so whatever it
//! guards is open to everybody. `bearerd run` has one in process where `[sandbox]` is configured;
//! `bearerd sandbox` is one by itself.
//!
//! It is stricter than it need be where bearerd must not err (a token on a login, a partner code
//! twice), and lenient where that makes trying easier: the bodies of calls other than login and
//! refresh may be envelopes, plain JSON or absent. An envelope that does not open is refused
//! everywhere.
//!
//! Its tokens carry all there is to know of them, so those of an earlier run are honoured: the
//! journal of a gateway outlives its sandbox. What a run has seen spent or revoked is forgotten
//! when it ends.
//!
//! Two calls are for whoever watches how bearerd copes. They need neither code nor token, and no
//! partner has them:
//! - `POST /sandbox/revoke` makes every access token given so far worthless; refresh tokens stay
//!   good.
//! - `GET /sandbox/stats` shows counters as JSON.

mod auth;
mod calls;
mod ledger;
#[cfg(test)]
mod tests;
mod token;
mod wire;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use axum::{Json, Router, middleware};
use http::StatusCode;
use tokio::sync::oneshot;

use self::ledger::{Ledger, Now, Stats};
use self::token::Claims;
use self::wire::Refused;
use crate::clock::{Clock, SystemClock};
use crate::partner::envelope::EnvelopeKey;
use crate::partner::{LOGIN_PATH, REFRESH_PATH};
use crate::token::RefreshToken;

/// The partner code that it expects.
pub const PARTNER_CODE: &str = "SANDBOX";
/// The key of its envelopes, whose initialisation vector is sent in front.
pub const ENCRYPTION_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// The user's name in its login.
pub const USERNAME: &str = "sandbox";
/// The user's password in its login.
pub const PASSWORD: &str = "sandbox-password";
/// The client's identifier in its login.
pub const CLIENT_ID: &str = "sandbox-client";
/// The client's secret in its login.
pub const CLIENT_SECRET: &str = "sandbox-client-secret";

/// The refresh token to begin with. It is always the same and never expires; each run of a sandbox
/// honours it once.
pub fn seed() -> RefreshToken {
    #[expect(clippy::expect_used, reason = "base64url and dots are a b64token")]
    RefreshToken::parse(&Claims::SEED.sign()).expect("a JWT is a b64token")
}

/// The section `[sandbox]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Of an access token. Seconds are whole on the wire, so lifetimes are rounded up to them.
    pub access_lifetime: Duration,
    /// Of a refresh token.
    pub refresh_lifetime: Duration,
    /// How long a spent refresh token is still honoured.
    pub grace: Duration,
    /// How long a login or a refresh takes. What it does is done at its beginning, so a caller that
    /// gives up has spent its token.
    pub refresh_delay: Duration,
    /// How long any other call takes.
    pub request_delay: Duration,
    /// Every so many refresh calls fail as `fault` says; 0 means none.
    pub fault_every: u32,
    /// How a refresh call fails.
    pub fault: Fault,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 9400).into(),
            access_lifetime: Duration::from_secs(60),
            refresh_lifetime: Duration::from_secs(30 * 24 * 3600),
            grace: Duration::ZERO,
            refresh_delay: Duration::ZERO,
            request_delay: Duration::ZERO,
            fault_every: 0,
            fault: Fault::Busy,
        }
    }
}

/// How a refresh call of the sandbox fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `busy`: 503 with `Retry-After: 1`; nothing was done.
    Busy,
    /// `error`: 500; nothing was done.
    Error,
    /// `lost`: the token is rotated, and the connection closed without an answer.
    Lost,
    /// `refused`: 400 in JSON; nothing was done.
    Refused,
    /// `nonsense`: the token is rotated, and the answer is 200 with HTML.
    Nonsense,
}

/// A sandbox that has its address and does not answer yet.
#[derive(Debug)]
pub struct Sandbox {
    config: Config,
    listener: TcpListener,
}

impl Sandbox {
    /// Takes the address. Needs no runtime, so that it can be done before anything is started.
    pub fn bind(config: &Config) -> io::Result<Self> {
        let listener = TcpListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        Ok(Self { config: config.clone(), listener })
    }

    /// Where it listens, with the port that was chosen if the configured one is 0.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers, on the runtime it is called on, until `shutdown` ends; then calls in flight have
    /// two seconds to finish. Who shares a process with it stops it last, so that a refresh in
    /// flight can still be answered.
    ///
    /// # Errors
    /// If the listener cannot be registered with the runtime.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(self.listener)?;
        let address = listener.local_addr()?;
        tracing::warn!("the sandbox's keys are published: it guards nothing and is never for real traffic");
        tracing::info!(side = "sandbox", %address, "listening");

        // Answers are small; without this some would wait for the peer's delayed acknowledgement.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let (stop, stopped) = oneshot::channel::<()>();
        let server = axum::serve(listener, router(self.config, SystemClock::shared()))
            .with_graceful_shutdown(async { drop(stopped.await) })
            .into_future();
        tokio::pin!(server);
        tokio::select! {
            ended = &mut server => return ended,
            () = shutdown => drop(stop),
        }
        // A peer that holds its connection open would hold the process open.
        tokio::time::timeout(DRAIN, server).await.unwrap_or(Ok(()))
    }
}

/// The partner's wire, and beside it what watches it.
fn router(config: Config, clock: Arc<dyn Clock>) -> Router {
    #[expect(clippy::expect_used, reason = "the constant is 64 hexadecimal digits")]
    let key = EnvelopeKey::from_hex(ENCRYPTION_KEY).expect("64 hexadecimal digits");
    let ledger = Mutex::new(Ledger::new(config.clone()));
    let sandbox = Arc::new(Shared { config, clock, key, ledger });

    let wire = Router::new().route(LOGIN_PATH, post(auth::login)).route(REFRESH_PATH, post(auth::refresh));
    calls::CALLS
        .into_iter()
        .fold(wire, |wire, (path, answer)| wire.route(path, calls::serve(answer)))
        .fallback(async || Refused::new(StatusCode::NOT_FOUND, "not_found"))
        .method_not_allowed_fallback(async || {
            Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&sandbox), wire::partner_code))
        .route("/sandbox/revoke", post(revoke))
        .route("/sandbox/stats", get(stats))
        .with_state(sandbox)
}

/// `POST /sandbox/revoke`
async fn revoke(State(sandbox): State<Arc<Shared>>) -> StatusCode {
    sandbox.ledger().revoke_access();
    StatusCode::NO_CONTENT
}

/// `GET /sandbox/stats`
async fn stats(State(sandbox): State<Arc<Shared>>) -> Json<Stats> {
    Json(sandbox.ledger().stats)
}

/// What every call can see.
struct Shared {
    config: Config,
    clock: Arc<dyn Clock>,
    key: EnvelopeKey,
    ledger: Mutex<Ledger>,
}

impl Shared {
    fn now(&self) -> Now {
        Now::of(&*self.clock)
    }

    /// The ledger. Every change to it is whole before anything can panic, so poison means nothing.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long calls in flight may take once the sandbox is told to stop.
const DRAIN: Duration = Duration::from_secs(2);
