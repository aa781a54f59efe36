//! Connections to one partner, for one runtime.
//!
//! Every runtime has an [`Upstream`] per partner, with a pool that no other thread touches: taking
//! a connection and giving it back is a pop and a push. A connection goes back only when both
//! messages on it have ended; in every other case it is closed, because what is left on it belongs
//! to nobody.
//!
//! A request is sent on a second connection only if not a byte of it has left on the first one.
//! What may have left is never sent again here.

mod answer;
mod http1;
mod idle;
mod outbox;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response};
use http_body::Body;
use tokio::time::Instant;

pub use self::answer::{Answer, Upgraded};
use self::http1::{Connection, ReadRoom, Sending};
pub use self::idle::{IdleLimited, StreamError};
use crate::descriptors::{IdlePlace, Place};
use crate::metrics::{ConnectionGuard, Shard, Side};
use crate::partner::{ConnectError, Connector};

/// How many idle connections are kept per partner and runtime.
const MAX_IDLE: usize = 1024;

/// A request but for its token and its body, to be written out in the partner's version of HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// The method.
    pub method: &'a Method,
    /// In origin form, or `*`.
    pub target: &'a str,
    /// The value of `Host`: the partner's host and port.
    pub authority: &'a HeaderValue,
    /// Every other field, all of which go from end to end: none is for one hop, and none frames the
    /// message.
    pub fields: &'a [(&'a HeaderName, &'a HeaderValue)],
    /// How the end of the body is told.
    pub framing: Framing,
    /// The client takes trailers.
    pub trailers: bool,
    /// The client wants another protocol on this connection.
    pub upgrade: Option<&'a HeaderValue>,
}

/// How the end of a request's body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, and nothing is said of it.
    None,
    /// By its length in bytes.
    Length(u64),
    /// By its last chunk.
    Chunked,
}

/// The request's body broke off on the application's side.
#[derive(Debug, thiserror::Error)]
#[error("the request body broke off")]
pub struct BodyError;

/// One partner's origin, as one runtime reaches it.
pub struct Upstream {
    connector: Arc<Connector>,
    idle_timeout: Duration,
    shard: Arc<Shard>,
    idle: RefCell<Vec<Idle>>,
    room: ReadRoom,
}

struct Idle {
    connection: Connection,
    since: Instant,
    _place: IdlePlace,
}

/// What a connection has of what is counted, for as long as it is open.
struct Counted {
    _shown: ConnectionGuard,
    _place: Place,
}

impl Upstream {
    /// An empty pool. `shard` counts its connections.
    pub fn new(connector: Arc<Connector>, idle_timeout: Duration, shard: Arc<Shard>) -> Rc<Self> {
        Rc::new(Self { connector, idle_timeout, shard, idle: RefCell::default(), room: ReadRoom::default() })
    }

    /// Sends a request with `authorization` and waits for the head of the answer. Dropping the
    /// future closes the connection.
    ///
    /// # Errors
    ///
    /// There is no answer; whether the request may have been processed depends on the variant.
    pub async fn send<B>(
        self: &Rc<Self>,
        head: &Outgoing<'_>,
        authorization: &HeaderValue,
        body: B,
    ) -> Result<Response<Answer>, SendError>
    where
        B: Body<Data = Bytes, Error = BodyError> + Unpin + 'static,
    {
        let mut sending = Sending::new(head, authorization, body);
        while let Some(connection) = self.take() {
            match http1::exchange(self, connection, head, sending).await {
                Ok(response) => return Ok(response),
                // The partner closed it between two requests.
                Err((_, Some(unsent))) => sending = unsent,
                Err((error, None)) => return Err(SendError::Exchange(error)),
            }
        }
        // In a box of its own, because it is large and most requests need none.
        let place = Place::take().ok_or(SendError::TooMany)?;
        let transport = Box::pin(self.connector.connect()).await?;
        let counted = Counted { _shown: self.shard.connected(Side::Upstream), _place: place };
        let connection = Connection::new(transport, counted);
        http1::exchange(self, connection, head, sending).await.map_err(|(error, unsent)| match unsent {
            Some(_) => SendError::Closed(error),
            None => SendError::Exchange(error),
        })
    }

    /// Closes connections that have been idle for too long or that the partner has closed.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain_mut(|idle| self.is_fresh(idle, now));
    }

    /// The connection that was used last and that the partner has left open.
    fn take(&self) -> Option<Connection> {
        let mut pool = self.idle.borrow_mut();
        let now = pool.last().map(|_| Instant::now())?;
        loop {
            let mut idle = pool.pop()?;
            if self.is_fresh(&mut idle, now) {
                return Some(idle.connection);
            }
        }
    }

    /// Both messages on `connection` have ended: another exchange may follow.
    fn give_back(&self, connection: Connection) {
        let mut pool = self.idle.borrow_mut();
        if pool.len() < MAX_IDLE
            && let Some(place) = IdlePlace::take()
        {
            pool.push(Idle { connection, since: Instant::now(), _place: place });
        }
    }

    fn is_fresh(&self, idle: &mut Idle, now: Instant) -> bool {
        now.duration_since(idle.since) < self.idle_timeout && idle.connection.is_quiet()
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("idle", &self.idle.borrow().len()).finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// As many connections to partners are open as the limit on descriptors allows for: not a byte of
    /// the request has left.
    #[error("too many connections")]
    TooMany,
    /// No connection could be had: not a byte of the request has left.
    #[error("cannot connect")]
    Connect(#[from] ConnectError),
    /// A new connection was closed before anything was sent on it.
    #[error("the connection was closed before the request was sent")]
    Closed(#[source] ExchangeError),
    /// The request left, in whole or in part, and no answer came. Nobody knows whether it was
    /// processed.
    #[error("no usable answer")]
    Exchange(#[source] ExchangeError),
}

/// What went wrong on a connection.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// It was closed before the message on it had ended.
    #[error("the connection was closed in the middle of an answer")]
    Incomplete,
    /// The partner's bytes are no HTTP, or more than is taken. The text is one of this crate's.
    #[error("the answer is malformed: {0}")]
    Malformed(&'static str),
    /// The request's body broke off: the application's fault.
    #[error(transparent)]
    Body(#[from] BodyError),
}
