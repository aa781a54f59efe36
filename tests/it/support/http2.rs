//! A partner that speaks HTTP/2 to requests and HTTP/1.1 to token calls, and a client that speaks
//! HTTP/2.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use super::client::Address;
use super::config::Config;
use super::gate::Gate;
use super::http::Fields;
use super::partner::Partner;
use super::partner_frames::Frames;
use super::tls;

type Handler = Arc<dyn Fn(Call) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;
type Script = Arc<dyn Fn(Frames) -> io::Result<()> + Send + Sync>;

/// The partner. It passes what is HTTP/1.1 on to `tokens`, which issues and knows the tokens.
pub(crate) struct Http2Partner {
    pub(crate) tokens: Arc<Partner>,
    address: SocketAddr,
    ca: Option<String>,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// A request as the partner saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) fields: Fields,
}

struct Shared {
    tls: Mutex<Option<Arc<ServerConfig>>>,
    handlers: Mutex<HashMap<String, Handler>>,
    seen: Mutex<Vec<Seen>>,
    /// What was agreed on in each TLS handshake; empty if nothing was.
    agreed: Mutex<Vec<String>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    max_streams: AtomicUsize,
    script: Option<Script>,
    hold: Mutex<Option<Gate>>,
    tokens: Arc<Partner>,
}

impl Http2Partner {
    /// In clear.
    pub(crate) fn new() -> Self {
        Self::start(None, None, None)
    }

    /// Over TLS, where it offers these protocols.
    pub(crate) fn offering(protocols: &[&str]) -> Self {
        let (config, ca) = tls::identity();
        let partner = Self::start(Some(config), Some(ca), None);
        partner.offer(protocols);
        partner
    }

    /// From now on it offers these protocols.
    pub(crate) fn offer(&self, protocols: &[&str]) {
        let mut tls = self.shared.tls.lock().unwrap();
        let mut config = ServerConfig::clone(tls.as_ref().unwrap());
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        *tls = Some(Arc::new(config));
    }

    /// In clear, and with `script` for each connection, on a thread of its own.
    pub(crate) fn scripted(script: impl Fn(Frames) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::start(None, None, Some(Arc::new(script)))
    }

    fn start(tls: Option<Arc<ServerConfig>>, ca: Option<String>, script: Option<Script>) -> Self {
        let tokens = Arc::new(Partner::new());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            tls: Mutex::new(tls),
            handlers: Mutex::default(),
            seen: Mutex::default(),
            agreed: Mutex::default(),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            max_streams: AtomicUsize::new(1000),
            script,
            hold: Mutex::default(),
            tokens: Arc::clone(&tokens),
        });
        let runtime = runtime();
        listener.set_nonblocking(true).unwrap();
        let accepting = Arc::clone(&shared);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&accepting).serve(stream));
            }
        });
        Self { tokens, address, ca, shared, runtime: Some(runtime) }
    }

    /// A configuration for it; what it says of HTTP/2 is the test's to add.
    pub(crate) fn config(&self) -> Config {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        let config = Config::to(&self.tokens).set("partner.base_url", format!("{scheme}://{}", self.address));
        match &self.ca {
            Some(pem) => config.set("partner.ca_file", "http2.pem").with_file("http2.pem", pem),
            None => config,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests for `path` are handled by `handler`, whatever token they carry. Others get 200 if
    /// their token is good, and else 401.
    pub(crate) fn on<F>(&self, path: &str, handler: impl Fn(Call) -> F + Send + Sync + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |call| Box::pin(handler(call)));
        self.shared.handlers.lock().unwrap().insert(path.to_owned(), handler);
    }

    /// How many exchanges at once each new connection takes.
    pub(crate) fn max_streams(&self, count: usize) {
        self.shared.max_streams.store(count, Ordering::SeqCst);
    }

    /// Before its script begins, a connection waits at the gate.
    pub(crate) fn hold_connections(&self) -> Gate {
        let gate = Gate::shut();
        *self.shared.hold.lock().unwrap() = Some(gate.clone());
        gate
    }

    /// Closes the listener and every connection.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Every request that came in HTTP/2, in the order of arrival.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// What was agreed on in the TLS handshakes so far.
    pub(crate) fn agreed(&self) -> Vec<String> {
        self.shared.agreed.lock().unwrap().clone()
    }

    /// How many connections in HTTP/2 there have been.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many connections in HTTP/2 are open.
    pub(crate) fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for Http2Partner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let _prompt = stream.set_nodelay(true);
        let tls = self.tls.lock().unwrap().clone();
        let Some(tls) = tls else {
            let mut first = [0; 3];
            // The first bytes of a message come together.
            return match stream.peek(&mut first).await {
                Ok(3) if first == *b"PRI" => self.http2(stream).await,
                Ok(_) => self.http1(stream).await,
                Err(_) => {}
            };
        };
        let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await else { return };
        let agreed = stream.get_ref().1.alpn_protocol().unwrap_or_default().to_vec();
        self.agreed.lock().unwrap().push(String::from_utf8(agreed.clone()).unwrap());
        match agreed == b"h2" {
            true => self.serve_http2(stream).await,
            false => self.http1(stream).await,
        }
    }

    async fn http1(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut tokens = TcpStream::connect(self.tokens.address()).await.unwrap();
        let _ended = copy_bidirectional(&mut stream, &mut tokens).await;
    }

    async fn http2(self: Arc<Self>, stream: TcpStream) {
        let Some(script) = self.script.clone() else { return self.serve_http2(stream).await };
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let hold = self.hold.lock().unwrap().clone();
        let most = self.max_streams.load(Ordering::SeqCst);
        thread::spawn(move || {
            if let Some(gate) = hold {
                gate.wait();
            }
            // A script ends with its connection.
            let _ended = Frames::accept(stream, number, most).and_then(|frames| script(frames));
        });
    }

    async fn serve_http2(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let number = self.connections.fetch_add(1, Ordering::SeqCst);
        self.open.fetch_add(1, Ordering::SeqCst);
        let mut builder = h2::server::Builder::new();
        let most = u32::try_from(self.max_streams.load(Ordering::SeqCst)).unwrap();
        builder.max_concurrent_streams(most).initial_connection_window_size(1024 * 1024);
        if let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await {
            while let Some(Ok((request, respond))) = connection.accept().await {
                let call = Call { request, respond, connection: number };
                self.seen.lock().unwrap().push(call.seen());
                let handler = self.handlers.lock().unwrap().get(call.request.uri().path()).cloned();
                match handler {
                    Some(handler) => drop(tokio::spawn(handler(call))),
                    None if self.tokens.authorized(&call.fields()) => {
                        tokio::spawn(call.answer(200, b"{\"ok\":true}"));
                    }
                    None => drop(tokio::spawn(call.answer(401, b"{\"error\":\"invalid_token\"}"))),
                }
            }
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A request that a handler answers.
pub(crate) struct Call {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
    /// Counts the partner's connections in HTTP/2.
    pub(crate) connection: usize,
}

impl Call {
    fn seen(&self) -> Seen {
        Seen {
            method: self.request.method().to_string(),
            uri: self.request.uri().to_string(),
            fields: self.fields(),
        }
    }

    pub(crate) fn fields(&self) -> Fields {
        fields(self.request.headers())
    }

    /// The next piece of the body, for which room is made at once; `None` at its end.
    pub(crate) async fn part(&mut self) -> Option<Bytes> {
        part(self.request.body_mut()).await
    }

    /// The body to its end.
    pub(crate) async fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        while let Some(part) = self.part().await {
            body.extend_from_slice(&part);
        }
        body
    }

    /// Sends the head of an answer.
    pub(crate) fn begin(&mut self, status: u16, fields: &[(&str, &str)], ends: bool) -> SendStream<Bytes> {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        self.respond.send_response(response.body(()).unwrap(), ends).unwrap()
    }

    /// Reads the request to its end, and sends a whole answer.
    pub(crate) async fn answer(mut self, status: u16, body: &'static [u8]) {
        self.body().await;
        self.begin(status, &[], false).send_data(Bytes::from_static(body), true).unwrap();
    }

    /// Waits until the other side gives the exchange up, and tells why.
    pub(crate) async fn reset(&mut self) -> Option<Reason> {
        std::future::poll_fn(|cx| self.respond.poll_reset(cx)).await.ok()
    }
}

/// The next piece of a body, for which room is made at once; `None` at its end, or if it breaks
/// off.
pub(crate) async fn part(body: &mut RecvStream) -> Option<Bytes> {
    let data = body.data().await?.ok()?;
    body.flow_control().release_capacity(data.len()).unwrap();
    Some(data)
}

/// Sends all of `data` as there is room for it, and counts what is on its way.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, sent: &AtomicUsize) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(room)) => {
                let piece = data.split_to(room.min(data.len()));
                sent.fetch_add(piece.len(), Ordering::SeqCst);
                stream.send_data(piece, false).unwrap();
            }
            _ => return false,
        }
    }
    true
}

pub(crate) fn fields(headers: &HeaderMap) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in headers {
        fields.push(name.as_str(), value.to_str().unwrap());
    }
    fields
}

/// A runtime whose tasks go on while the test looks at other things.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A connection to bearerd, in clear and without asking first.
pub(crate) async fn connect(address: &Address) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(address.tcp()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (requests, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    requests.ready().await.unwrap()
}

/// A request of the kind that gRPC sends.
pub(crate) fn grpc(path: &str) -> Request<()> {
    Request::post(format!("http://app.test{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// A gRPC message: not compressed, and its length in front.
pub(crate) fn message(content: &[u8]) -> Bytes {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[0][..], &length, content].concat().into()
}
