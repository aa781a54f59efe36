//! Connections to one partner, for one runtime.
//!
//! Every runtime has an [`Upstream`] per partner, with a pool that no other thread touches: taking
//! a connection and giving it back is a pop and a push. A connection goes back only when both
//! messages on it have ended; in every other case it is closed, because what is left on it belongs
//! to nobody.
//!
//! A request is sent on a second connection only if the first one gives it back unsent. What may
//! have left is never sent again here.

mod answer;
mod idle;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, Version};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::Instant;

pub use self::answer::Answer;
pub use self::idle::{IdleLimited, StreamError};
use crate::metrics::{ConnectionGuard, Shard, Side};
use crate::partner::{ConnectError, Connector};

/// How many idle connections are kept per partner and runtime.
const MAX_IDLE: usize = 1024;

/// Shared with a body that is streamed: set by it once nothing of it is left to send. `None` for a
/// body that is handed over whole.
pub type Upload = Option<Rc<Cell<bool>>>;

/// The request's body broke off on the application's side.
#[derive(Debug, thiserror::Error)]
#[error("the request body broke off")]
pub struct BodyError;

/// One partner's origin, as one runtime reaches it.
pub struct Upstream<B> {
    connector: Arc<Connector>,
    idle_timeout: Duration,
    shard: Arc<Shard>,
    idle: RefCell<Vec<Idle<B>>>,
}

struct Idle<B> {
    connection: Connection<B>,
    since: Instant,
}

/// A connection that can carry one exchange at a time. Closed when dropped.
struct Connection<B> {
    sender: SendRequest<B>,
    driver: AbortHandle,
}

impl<B> Drop for Connection<B> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl<B: http_body::Body<Data = bytes::Bytes, Error = BodyError> + Unpin + 'static> Upstream<B> {
    /// An empty pool. `shard` counts its connections.
    pub fn new(connector: Arc<Connector>, idle_timeout: Duration, shard: Arc<Shard>) -> Rc<Self> {
        Rc::new(Self { connector, idle_timeout, shard, idle: RefCell::new(Vec::new()) })
    }

    /// Sends `request`, in origin form and with its framing and `Host` set, and waits for the head
    /// of the answer. Dropping the future closes the connection.
    pub async fn send(
        self: &Rc<Self>,
        mut request: Request<B>,
        upload: Upload,
    ) -> Result<Response<Answer<B>>, SendError> {
        while let Some(connection) = self.take() {
            match self.exchange(connection, request, &upload).await {
                Ok(response) => return Ok(response),
                // The partner closed it between two requests.
                Err((_, Some(unsent))) => request = unsent,
                Err((error, None)) => return Err(SendError::Exchange(error)),
            }
        }
        let connection = self.connect().await?;
        self.exchange(connection, request, &upload).await.map_err(|(error, unsent)| match unsent {
            Some(_) => SendError::Closed(error),
            None => SendError::Exchange(error),
        })
    }

    /// Closes connections that have been idle for too long or that the partner has closed.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|idle| self.is_fresh(idle, now));
    }

    async fn exchange(
        self: &Rc<Self>,
        mut connection: Connection<B>,
        request: Request<B>,
        upload: &Upload,
    ) -> Result<Response<Answer<B>>, (hyper::Error, Option<Request<B>>)> {
        match connection.sender.try_send_request(request).await {
            Ok(response) => {
                // To a partner that has answered in HTTP/1.0 the HTTP library would speak HTTP/1.0
                // from now on, and silently leave out every body whose length is not known.
                let once = response.version() != Version::HTTP_11;
                let lease = Lease { pool: Rc::clone(self), connection, once };
                Ok(response.map(|body| Answer::new(body, lease, upload.clone(), self.idle_timeout)))
            }
            Err(mut error) => {
                let unsent = error.take_message();
                Err((error.into_error(), unsent))
            }
        }
    }

    async fn connect(&self) -> Result<Connection<B>, SendError> {
        let transport = self.connector.connect().await?;
        let handshake = http1::Builder::new()
            // One flat buffer a message costs less than a vectored write.
            .writev(false)
            .handshake(TokioIo::new(transport));
        let (sender, connection) = handshake.await.map_err(SendError::Closed)?;
        let guard = self.shard.connected(Side::Upstream);
        let driver = tokio::task::spawn_local(drive(connection.with_upgrades(), guard)).abort_handle();
        Ok(Connection { sender, driver })
    }

    /// The connection that was used last and is ready.
    fn take(&self) -> Option<Connection<B>> {
        let mut pool = self.idle.borrow_mut();
        if pool.is_empty() {
            return None;
        }
        let now = Instant::now();
        let mut busy = Vec::new();
        let found = loop {
            match pool.pop() {
                Some(idle) if !self.is_fresh(&idle, now) => {}
                Some(idle) if idle.connection.sender.is_ready() => break Some(idle.connection),
                // Still flushing what it was given; it will be ready for a later request.
                Some(idle) => busy.push(idle),
                None => break None,
            }
        };
        pool.extend(busy.into_iter().rev());
        found
    }

    fn is_fresh(&self, idle: &Idle<B>, now: Instant) -> bool {
        !idle.connection.sender.is_closed() && now.duration_since(idle.since) < self.idle_timeout
    }
}

impl<B> std::fmt::Debug for Upstream<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("idle", &self.idle.borrow().len()).finish_non_exhaustive()
    }
}

/// A connection while an exchange is on it.
struct Lease<B> {
    pool: Rc<Upstream<B>>,
    connection: Connection<B>,
    /// This exchange is the last on it.
    once: bool,
}

impl<B> Lease<B> {
    /// Both messages have ended: another exchange may follow.
    fn give_back(self) {
        let mut pool = self.pool.idle.borrow_mut();
        if !self.once && pool.len() < MAX_IDLE && !self.connection.sender.is_closed() {
            pool.push(Idle { connection: self.connection, since: Instant::now() });
        }
    }
}

async fn drive(connection: impl Future<Output = hyper::Result<()>>, guard: ConnectionGuard) {
    // The exchange on the connection, if there is one, gets the error; an idle one has nobody to
    // tell.
    let _ = connection.await;
    drop(guard);
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection could be had: not a byte of the request has left.
    #[error("cannot connect")]
    Connect(#[from] ConnectError),
    /// A new connection was closed before anything was sent on it.
    #[error("the connection was closed before the request was sent")]
    Closed(#[source] hyper::Error),
    /// The request left, in whole or in part, and no answer came. Nobody knows whether it was
    /// processed.
    #[error("no usable answer")]
    Exchange(#[source] hyper::Error),
}
