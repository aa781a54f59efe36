//! Connections to one partner, for one runtime.
//!
//! Every runtime has an [`Upstream`] per partner, with a pool that no other thread touches: taking
//! a connection and giving it back is a pop and a push. A connection goes back only when both
//! messages on it have ended; in every other case it is closed, because what is left on it belongs
//! to nobody.
//!
//! A request is sent on a second connection only if not a byte of it has left on the first one.
//! What may have left is never sent again here.
//!
//! Where the partner speaks HTTP/2, exchanges share connections (`upstream/http2.rs`). Which version
//! it speaks is known when the first connection stands, and as the last one says it: a partner that
//! moves to another version is followed.

mod answer;
mod http1;
mod http2;
mod idle;
mod upload;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method};
use http_body::Body;
use tokio::time::Instant;

pub use self::answer::{Answer, AnswerBody, Upgraded};
use self::http1::{Connection, Sending};
pub use self::idle::{IdleLimited, StreamError};
use crate::descriptors::Place;
use crate::http1::{MessageError, ReadRoom};
use crate::metrics::{ConnectionGuard, Shard, Side};
use crate::partner::{ConnectError, Connected, Connector, Versions};

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
    /// Kept for whoever has to say what became of it.
    pub progress: &'a Cell<Progress>,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Its body is waited for, before any of it is sent.
    Coming,
    /// It waits for its turn: for a token, or for a connection. If it was sent before, it was certainly
    /// not processed.
    Waiting,
    /// Some of it may have left, and be processed.
    Sent,
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
    speaks: Cell<Speaks>,
    room: ReadRoom,
    http1: http1::Pool,
    http2: http2::Pool,
}

/// What the partner speaks, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
    Unknown,
}

/// What a connection has of what is counted, for as long as it is open.
struct Counted {
    _shown: ConnectionGuard,
    _place: Place,
}

impl Upstream {
    /// An empty pool. `shard` counts its connections.
    pub fn new(connector: Arc<Connector>, idle_timeout: Duration, shard: Arc<Shard>) -> Rc<Self> {
        let speaks = match connector.versions() {
            Versions::Http1 => Speaks::Http1,
            Versions::Http2 => Speaks::Http2,
            Versions::Either => Speaks::Unknown,
        };
        Rc::new(Self {
            connector,
            idle_timeout,
            shard,
            speaks: Cell::new(speaks),
            room: ReadRoom::default(),
            http1: http1::Pool::new(idle_timeout),
            http2: http2::Pool::default(),
        })
    }

    /// Sends a request with `authorization` and waits for the head of the answer. Dropping the
    /// future closes the connection, or in HTTP/2 resets the stream.
    ///
    /// # Errors
    ///
    /// There is no answer; whether the request may have been processed depends on the variant.
    pub async fn send<B>(
        self: &Rc<Self>,
        head: &Outgoing<'_>,
        authorization: &HeaderValue,
        mut body: B,
    ) -> Result<Answer<AnswerBody>, SendError>
    where
        B: Body<Data = Bytes, Error = BodyError> + Unpin + 'static,
    {
        // Another protocol can only be agreed on in HTTP/1.1.
        let needs_http1 = head.upgrade.is_some() && self.connector.versions() == Versions::Either;
        if self.speaks.get() != Speaks::Http1 && !needs_http1 {
            // Boxed, so that it costs nothing where it is not needed.
            match Box::pin(self.send_http2(head, authorization, body)).await {
                Ok(answer) => return Ok(answer),
                Err(Http2Error::Send(error)) => return Err(error),
                Err(Http2Error::NotSpoken(unsent)) => body = unsent,
            }
        }
        let mut request = Some(Sending::new(head, authorization, body));
        let mut tried = false;
        while let Some(connection) = self.http1.take() {
            head.progress.set(Progress::Sent);
            match http1::exchange(self, connection, head, &mut request).await {
                Ok(answer) => return Ok(answer),
                Err(error) if request.is_none() => return Err(SendError::Exchange(error)),
                // The partner closed it between two requests.
                Err(_) => head.progress.set(Progress::Waiting),
            }
            tried = true;
        }
        // In a box of its own, because it is large and most requests need none.
        let place = Place::take().ok_or(SendError::TooMany)?;
        let connected = match needs_http1 {
            true => Box::pin(self.connector.connect_http1()).await.map(Connected::Http1),
            false => Box::pin(self.connector.connect()).await,
        };
        let transport = match connected.map_err(Arc::new)? {
            Connected::Http1(transport) => transport,
            // It speaks HTTP/2 by now, in which requests share connections that are made for all.
            Connected::Http2(_) => {
                self.speaks.set(Speaks::Http2);
                let Some(untried) = request.filter(|_| !tried) else {
                    // Some of the body may have been taken and not sent: it begins anew.
                    return Err(SendError::Unprocessed(ExchangeError::Incomplete));
                };
                let sent = Box::pin(self.send_http2(head, authorization, untried.into_body()));
                return sent.await.map_err(|error| match error {
                    Http2Error::Send(error) => error,
                    // It has changed its mind twice.
                    Http2Error::NotSpoken(_) => SendError::Closed(ExchangeError::Incomplete),
                });
            }
        };
        let connection = Connection::new(transport, self.counted(place));
        head.progress.set(Progress::Sent);
        let answer = http1::exchange(self, connection, head, &mut request).await;
        answer.map_err(|error| match request {
            Some(_) => SendError::Closed(error),
            None => SendError::Exchange(error),
        })
    }

    /// Sends a request over HTTP/2, if the partner speaks it.
    async fn send_http2<B>(
        self: &Rc<Self>,
        head: &Outgoing<'_>,
        authorization: &HeaderValue,
        body: B,
    ) -> Result<Answer<AnswerBody>, Http2Error<B>>
    where
        B: Body<Data = Bytes, Error = BodyError> + Unpin + 'static,
    {
        let scheme = || if self.connector.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
        let ends = http2::ends_with_header(head.framing, &body);
        let mut refused = 0;
        while self.speaks.get() != Speaks::Http1 {
            let Some(connection) = self.http2.with_room() else {
                self.more_room().await.map_err(SendError::from)?;
                continue;
            };
            let Ok(request) = http2::request(head, authorization, scheme()) else {
                let unfit = ExchangeError::Malformed("the request cannot be said in HTTP/2");
                return Err(SendError::Closed(unfit).into());
            };
            match connection.open(request, ends) {
                Ok(opened) => {
                    head.progress.set(Progress::Sent);
                    let is_head = head.method == Method::HEAD;
                    let exchange = http2::exchange(opened, head.framing, is_head, body, self.idle_timeout);
                    return Ok(exchange.await?);
                }
                Err(error) if refused == REFUSED => return Err(SendError::Closed(error).into()),
                Err(_) => refused += 1,
            }
            self.http2.remove(&connection);
        }
        Err(Http2Error::NotSpoken(body))
    }

    async fn more_room(self: &Rc<Self>) -> Result<(), NoConnection> {
        let upstream = Rc::clone(self);
        let make = |say: http2::SayMade| async move {
            say.send_replace(Some(upstream.make().await));
        };
        self.http2.more_room(make).await
    }

    /// Makes a connection for whoever waits for one, and learns what the partner speaks.
    async fn make(&self) -> Result<(), NoConnection> {
        let place = Place::take().ok_or(NoConnection::TooMany)?;
        match self.connector.connect().await? {
            Connected::Http2(transport) => {
                self.speaks.set(Speaks::Http2);
                self.connector.in_time(self.http2.add(transport, self.counted(place))).await?;
            }
            Connected::Http1(transport) => {
                self.speaks.set(Speaks::Http1);
                self.http1.give_back(Connection::new(transport, self.counted(place)));
            }
        }
        Ok(())
    }

    fn counted(&self, place: Place) -> Counted {
        Counted { _shown: self.shard.connected(Side::Upstream), _place: place }
    }

    /// No other exchange is begun. One that is under way may last for hours, and keeps what it needs.
    pub fn retire(&self) {
        self.http1.retire();
        self.http2.retire();
    }

    /// Closes connections that nobody needs, and frees room that nobody reads into.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.http1.sweep(now);
        self.http2.sweep(self.idle_timeout, now);
        self.room.sweep();
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("speaks", &self.speaks.get())
            .field("idle", &self.http1.len())
            .field("http2", &self.http2.len())
            .finish_non_exhaustive()
    }
}

/// Why there is no answer over HTTP/2.
enum Http2Error<B> {
    Send(SendError),
    /// The partner speaks HTTP/1.1, and nothing was sent.
    NotSpoken(B),
}

/// Why there is no connection. Shared by all who waited for it.
#[derive(Debug, Clone)]
enum NoConnection {
    TooMany,
    Failed(Arc<ConnectError>),
}

impl From<ConnectError> for NoConnection {
    fn from(error: ConnectError) -> Self {
        Self::Failed(Arc::new(error))
    }
}

impl From<NoConnection> for SendError {
    fn from(none: NoConnection) -> Self {
        match none {
            NoConnection::TooMany => Self::TooMany,
            NoConnection::Failed(error) => Self::Connect(error),
        }
    }
}

impl<B> From<SendError> for Http2Error<B> {
    fn from(error: SendError) -> Self {
        Self::Send(error)
    }
}

/// How often it may happen to one request that a connection takes no more exchanges when it is to
/// go on it.
const REFUSED: usize = 4;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// As many connections to partners are open as the limit on descriptors allows for: not a byte of
    /// the request has left.
    #[error("too many connections")]
    TooMany,
    /// No connection could be had: not a byte of the request has left. Shared by all who waited for
    /// it.
    #[error("cannot connect")]
    Connect(#[from] Arc<ConnectError>),
    /// A new connection was closed before anything was sent on it.
    #[error("the connection was closed before the request was sent")]
    Closed(#[source] ExchangeError),
    /// The request may have left, and was certainly not processed: it may be sent again.
    #[error("the request was not processed")]
    Unprocessed(#[source] ExchangeError),
    /// The request left, in whole or in part, and no answer came. Nobody knows whether it was
    /// processed.
    #[error("no usable answer")]
    Exchange(#[source] ExchangeError),
}

impl From<MessageError> for ExchangeError {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::Incomplete => Self::Incomplete,
            MessageError::Malformed(why) => Self::Malformed(why),
        }
    }
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
    /// In HTTP/2: the exchange was given up, by the partner or because it broke the rules.
    #[error("the stream was reset: {0}")]
    Reset(h2::Reason),
    /// In HTTP/2: the connection was given up, by the partner or because it broke the rules.
    #[error("the connection was ended: {0}")]
    GoneAway(h2::Reason),
    /// The request's body broke off: the application's fault.
    #[error(transparent)]
    Body(#[from] BodyError),
}
