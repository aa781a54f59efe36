//! Asks the bearerd that runs, over the socket of its operator's side.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use zeroize::Zeroizing;

use super::output::Failure;
use crate::admin;
use crate::listener::ListenAddr;
use crate::token::AccessToken;

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// Of the answer.
    pub(super) status: StatusCode,
    /// Null if the answer is not JSON.
    pub(super) body: Value,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// Nothing listens there, so no bearerd runs on this configuration.
    NotRunning,
    /// Anything else.
    Failed(Failure),
}

impl NoAnswer {
    /// As a failure of a command that needs a bearerd that runs.
    pub(super) fn needed(self, config: &admin::Config) -> Failure {
        match self {
            Self::NotRunning => {
                Failure::failed(format!("no bearerd runs: nothing listens on {}", config.listen))
            }
            Self::Failed(failure) => failure,
        }
    }
}

/// Makes one call. `body` is JSON and may hold secrets.
pub(super) fn call(
    config: &admin::Config,
    method: Method,
    path: &str,
    body: Option<Zeroizing<Vec<u8>>>,
) -> Result<Answer, NoAnswer> {
    let failed = |error: &dyn std::fmt::Display| {
        NoAnswer::Failed(Failure::failed(format!("asking the bearerd on {}: {error}", config.listen)))
    };
    let request = request(config, method, path, body).map_err(|error| failed(&error))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| failed(&error))?;
    runtime.block_on(async {
        match tokio::time::timeout(TIMEOUT, exchange(&config.listen, request)).await {
            Err(_) => Err(failed(&"no answer in time; what the call began may go on")),
            Ok(Err(Broken::Connect(error))) if nothing_listens(&error) => Err(NoAnswer::NotRunning),
            Ok(Err(Broken::Connect(error))) => Err(failed(&error)),
            Ok(Err(Broken::Http(error))) => Err(failed(&error)),
            Ok(Ok(answer)) => Ok(answer),
        }
    })
}

fn request(
    config: &admin::Config,
    method: Method,
    path: &str,
    body: Option<Zeroizing<Vec<u8>>>,
) -> Result<Request<Full<Bytes>>, String> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, "bearerd");
    // On a unix socket it is not needed, so it is not shown.
    if let (ListenAddr::Tcp(_), Some(token)) = (&config.listen, &config.token) {
        let token = AccessToken::parse(token.expose_secret()).map_err(|error| error.to_string())?;
        request = request.header(AUTHORIZATION, token.header());
    }
    let body = match body {
        Some(body) => {
            request = request.header(CONTENT_TYPE, "application/json");
            Full::new(Bytes::from_owner(body))
        }
        None => Full::default(),
    };
    request.body(body).map_err(|error| error.to_string())
}

/// Where an exchange broke.
enum Broken {
    Connect(io::Error),
    Http(Box<dyn std::error::Error + Send + Sync>),
}

async fn exchange(listen: &ListenAddr, request: Request<Full<Bytes>>) -> Result<Answer, Broken> {
    match listen {
        ListenAddr::Tcp(address) => {
            let stream = TcpStream::connect(reachable(*address)).await.map_err(Broken::Connect)?;
            send(stream, request).await.map_err(Broken::Http)
        }
        ListenAddr::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(Broken::Connect)?;
            send(stream, request).await.map_err(Broken::Http)
        }
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors come out of the calls below as well.
    tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
    Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() })
}

/// The address at which to find who listens on `address`, which may be every one of the machine's.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

fn nothing_listens(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
}

/// Longer than the operator's side takes for any call.
const TIMEOUT: Duration = Duration::from_secs(75);
/// Some thousands of partners.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;
    use crate::admin::Admin;
    use crate::clock::SystemClock;
    use crate::listener::Socket;
    use crate::metrics::Metrics;

    /// Runs an operator's side on `listen` while `check` runs; it is given where that is.
    fn with_admin(listen: &ListenAddr, token: Option<&str>, check: impl FnOnce(&admin::Config)) {
        let socket = Socket::bind(listen).unwrap();
        let config = admin::Config { listen: socket.local_addr().unwrap(), token: token.map(Into::into) };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (ready, is_ready) = mpsc::channel();
        let token = config.token.clone();
        let server = std::thread::spawn(move || {
            let (reload, mut reloads) = tokio::sync::mpsc::channel(1);
            let admin = Admin::new("1.2.3", Metrics::new("1.2.3"), SystemClock::shared(), reload);
            admin.set_token(token);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::spawn(async move {
                    while let Some(reload) = reloads.recv().await {
                        let _ = reload.send(Err(vec!["wrong".to_owned()]));
                    }
                });
                ready.send(()).unwrap();
                Arc::clone(&admin).serve(socket, async { drop(stopped.await) }).await.unwrap();
            });
        });
        is_ready.recv().unwrap();
        check(&config);
        drop(stop);
        server.join().unwrap();
    }

    fn everywhere() -> ListenAddr {
        ListenAddr::Tcp(([0, 0, 0, 0], 0).into())
    }

    #[test]
    fn a_bearerd_that_runs_answers_on_either_kind_of_socket() {
        let dir = tempfile::tempdir().unwrap();
        for listen in [everywhere(), ListenAddr::Unix(dir.path().join("admin"))] {
            with_admin(&listen, Some("token"), |config| {
                let answer = call(config, Method::GET, "/status", None).unwrap();
                assert_eq!((answer.status, &answer.body["version"]), (StatusCode::OK, &"1.2.3".into()));
                // The token went along where it is needed, and the body with its type.
                let body = Some(Zeroizing::new(b"{}".to_vec()));
                let answer = call(config, Method::POST, "/reload", body).unwrap();
                assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
                assert_eq!(answer.body["errors"][0], "wrong");
            });
        }
        with_admin(&everywhere(), None, |config| {
            let answer = call(config, Method::POST, "/reload", None).unwrap();
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
        });
    }

    #[test]
    fn where_nothing_listens_no_bearerd_runs() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        drop(socket);
        let dir = tempfile::tempdir().unwrap();
        let stale = dir.path().join("stale");
        drop(Socket::bind(&ListenAddr::Unix(stale.clone())).unwrap());
        let unix = [stale, dir.path().join("nothing")].map(ListenAddr::Unix);
        for listen in unix.into_iter().chain([ListenAddr::Tcp(address)]) {
            let config = admin::Config { listen, token: None };
            let answer = call(&config, Method::GET, "/status", None);
            assert!(matches!(answer, Err(NoAnswer::NotRunning)), "{answer:?}");
        }
    }

    #[test]
    fn another_failure_is_not_taken_for_that() {
        let dir = tempfile::tempdir().unwrap();
        // A path through a file, not a directory.
        std::fs::File::create(dir.path().join("file")).unwrap();
        let listen = ListenAddr::Unix(dir.path().join("file").join("admin"));
        let answer = call(&admin::Config { listen, token: None }, Method::GET, "/status", None);
        assert!(matches!(answer, Err(NoAnswer::Failed(_))), "{answer:?}");

        // Somebody who does not speak HTTP.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = ListenAddr::Tcp(socket.local_addr().unwrap());
        let other = std::thread::spawn(move || drop(socket.accept()));
        let answer = call(&admin::Config { listen, token: None }, Method::GET, "/status", None);
        assert!(matches!(answer, Err(NoAnswer::Failed(_))), "{answer:?}");
        other.join().unwrap();
    }
}
