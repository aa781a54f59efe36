//! Serves a router on a socket, with bounds on what a peer can hold.
//!
//! `axum::serve` waits for a header for as long as the peer likes, hence this loop.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::guard;
use crate::descriptors;
use crate::listener::Socket;

/// Answers with `router` on `socket` until `shutdown` ends.
pub(super) async fn serve(
    socket: Socket,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = Listener::register(socket)?;
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    let most = || MAX_CONNECTIONS.min(descriptors::for_operators());
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < most() => match accepted {
                Ok(io) => drop(connections.spawn(connection(io, router.clone(), stopping.clone()))),
                // The peer has gone already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Out of descriptors, as a rule: to try again at once would only burn time.
                    warn!(side = "admin", %error, "cannot accept a connection");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = &mut shutdown => break,
        }
    }
    drop((listener, stop));
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// One connection, until either side has enough of it.
async fn connection(io: Box<dyn Io>, router: Router, mut stopping: watch::Receiver<()>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => {
            if let Err(error) = ended {
                debug!(side = "admin", %error, "a connection broke");
            }
            return;
        }
        () = sleep(MAX_AGE) => {}
        // The sender says nothing; it goes away when it is time to end.
        _ = stopping.changed() => {}
    }
    connection.as_mut().graceful_shutdown();
    // A call that has just begun still gets its answer; a peer that does not read it gets no more.
    let _ = timeout(guard::TIMEOUT + HEADER_TIMEOUT, connection).await;
}

/// A socket as the runtime's.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn register(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Socket::Unix(listener, _) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<Box<dyn Io>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Else small answers could wait for the peer's delayed acknowledgement.
                let _ = stream.set_nodelay(true);
                Box::new(stream)
            }
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// A stream of either kind.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Beyond it connections wait in the backlog. Each serves one call at a time.
const MAX_CONNECTIONS: usize = 128;
/// For a whole header, and for how long a kept-alive connection may be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(20);
/// After which a connection is closed when its call has ended, so that none is held for ever.
const MAX_AGE: Duration = Duration::from_secs(60);
/// A header may hold a token of the greatest length; also bounds what is buffered of an answer.
const MAX_HEADER: usize = 64 * 1024;
/// After a failure to accept.
const PAUSE: Duration = Duration::from_millis(100);
/// For calls in flight at the end.
const DRAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    fn connect() -> (DuplexStream, JoinHandle<()>, watch::Sender<()>) {
        let (client, server) = tokio::io::duplex(1024);
        let (stop, stopping) = watch::channel(());
        let large = get(async || "x".repeat(1024 * 1024));
        let router = Router::new().route("/large", large).route("/", get(async || "ok"));
        (client, tokio::spawn(connection(Box::new(server), router, stopping)), stop)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_finish_a_header_is_not_waited_for() {
        for begun in ["", "GET / HTTP/1.1\r\nHost:", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
            let (mut client, ended, _stop) = connect();
            let start = Instant::now();
            client.write_all(begun.as_bytes()).await.unwrap();
            ended.await.unwrap();
            assert!(start.elapsed() <= HEADER_TIMEOUT + Duration::from_secs(1), "{begun}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_connection_is_held_for_ever() {
        // By one call after the other.
        let (mut client, ended, _stop) = connect();
        let start = Instant::now();
        let mut answer = [0; 1024];
        while client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.is_ok() {
            if client.read(&mut answer).await.unwrap() == 0 {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        ended.await.unwrap();
        assert!(start.elapsed() <= MAX_AGE + Duration::from_secs(2));

        // By not reading the answer.
        let (mut client, ended, _stop) = connect();
        let start = Instant::now();
        client.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        ended.await.unwrap();
        assert!(start.elapsed() <= MAX_AGE + guard::TIMEOUT + HEADER_TIMEOUT + Duration::from_secs(1));
    }
}
