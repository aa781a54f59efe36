//! What one exchange costs in process, from the request's first byte to the answer's last: client,
//! gateway and partner are tasks on one thread, so that the time is the sum of what they all
//! compute, system calls included, and no other thread has to be woken.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bearerd::clock::SystemClock;
use bearerd::credential::RefreshHandle;
use bearerd::metrics::Metrics;
use bearerd::partner::{BaseUrl, Connector, Versions};
use bearerd::proxy::{self, Partner, Proxy, RouteConfig, Routes, Shared};
use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use support::{TestCredential, publish, token};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::spawn_local;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const UNAUTHORIZED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";

fn replay(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    let mut client = runtime.block_on(Client::new());
    let mut group = c.benchmark_group("exchange");
    for (name, request) in [
        ("GET", get("/plain")),
        ("POST 1 KiB, held", post("/plain", 1024)),
        ("POST 64 KiB, held", post("/plain", 64 * 1024)),
        ("POST 64 KiB, chunked, teed", chunked("/plain", 64 * 1024)),
        // The partner puts a new token in use before it answers, once with 200 and once with 401:
        // the difference is what sending again costs.
        ("POST 1 KiB, a token published meanwhile", post("/published", 1024)),
        ("POST 1 KiB, a token published meanwhile, replayed", post("/refused", 1024)),
    ] {
        group
            .bench_function(name, |b| b.iter_custom(|times| measure(&runtime, &mut client, &request, times)));
    }
    group.finish();
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the time that passes")]
fn measure(runtime: &LocalRuntime, client: &mut Client, request: &[u8], times: u64) -> Duration {
    runtime.block_on(async {
        let begun = Instant::now();
        for _ in 0..times {
            client.exchange(request).await;
        }
        begun.elapsed()
    })
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\naccept: */*\r\n\r\n").into()
}

fn post(path: &str, length: usize) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {length}\r\n\r\n");
    [head.into_bytes(), vec![b'a'; length]].concat()
}

fn chunked(path: &str, length: usize) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nhost: bench\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut request = head.into_bytes();
    for part in vec![b'a'; length].chunks(8 * 1024) {
        request.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        request.extend_from_slice(part);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}

/// A client on a connection to a gateway of its own.
struct Client {
    connection: DuplexStream,
    answer: Vec<u8>,
    _credential: TestCredential,
}

impl Client {
    async fn new() -> Self {
        let metrics = Metrics::new("bench");
        let mut credential = TestCredential::new(&metrics).await;
        spawn_local(credential.drive());
        publish(&credential.handle, 0).await;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        spawn_local(partner(listener, Arc::clone(&credential.handle)));

        let shared = Shared::new(routes(&base_url, &credential.handle), SystemClock::shared(), None);
        let proxy = Proxy::new(shared, metrics.shard());
        let (connection, served) = tokio::io::duplex(256 * 1024);
        spawn_local(async move {
            let service = service_fn(move |request| tower::Service::call(&mut proxy.clone(), request));
            let builder = hyper::server::conn::http1::Builder::new();
            builder.serve_connection(TokioIo::new(served), service).await.unwrap();
        });
        Self { connection, answer: Vec::new(), _credential: credential }
    }

    async fn exchange(&mut self, request: &[u8]) {
        self.connection.write_all(request).await.unwrap();
        self.answer.clear();
        while !self.answer.ends_with(b"\r\n\r\nok") {
            assert_ne!(self.connection.read_buf(&mut self.answer).await.unwrap(), 0);
            let answer = self.answer.escape_ascii();
            assert!(self.answer.starts_with(b"HTTP/1.1 200 "), "{answer}");
        }
    }
}

fn routes(base_url: &str, credential: &Arc<RefreshHandle>) -> Routes {
    let base_url = BaseUrl::parse(base_url).unwrap();
    let time = Duration::from_secs(60);
    let connector = Arc::new(Connector::new(&base_url, time, None, Versions::Http1).unwrap());
    let partner = Partner {
        name: "bench".to_owned(),
        base_url,
        partner_code: HeaderValue::from_static("BENCH"),
        headers: Vec::new(),
        route: RouteConfig { hosts: Vec::new(), path_prefix: "/".to_owned(), replay_limit: 64 * 1024 },
        credential: Arc::clone(credential),
        connector,
    };
    let config = proxy::Config {
        max_in_flight: 100,
        request_timeout: time,
        token_timeout: time,
        idle_timeout: time,
        replay_memory: 1024 * 1024,
        allow_browsers: false,
    };
    Routes { config, partners: vec![Arc::new(partner)] }
}

/// Answers what comes, on any number of connections.
async fn partner(listener: TcpListener, credential: Arc<RefreshHandle>) {
    let published = Rc::new(Published::default());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        spawn_local(answer_all(stream, Arc::clone(&credential), Rc::clone(&published)));
    }
}

/// What the partner has put in use.
#[derive(Default)]
struct Published {
    newest: Cell<u64>,
    /// The request that comes next was refused before, and must carry the newest token.
    refused: Cell<bool>,
}

async fn answer_all(mut stream: TcpStream, credential: Arc<RefreshHandle>, published: Rc<Published>) {
    stream.set_nodelay(true).unwrap();
    let mut request = Vec::with_capacity(128 * 1024);
    loop {
        request.clear();
        while !is_whole(&request) {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let path = request.split(|&byte| byte == b' ').nth(1).unwrap();
        let again = published.refused.take();
        assert!(!again || has_token(&request, published.newest.get()));
        let refuse = path == b"/refused" && !again;
        published.refused.set(refuse);
        if path == b"/published" || refuse {
            published.newest.update(|newest| newest + 1);
            publish(&credential, published.newest.get()).await;
        }
        stream.write_all(if refuse { UNAUTHORIZED } else { OK }).await.unwrap();
    }
}

/// Whether a request has come to its end; of chunked ones all end in an empty chunk.
fn is_whole(request: &[u8]) -> bool {
    let Some(head) = request.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let text = std::str::from_utf8(&request[..head]).unwrap();
    match text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()) {
        Some(length) => request.len() == head + 4 + length.parse::<usize>().unwrap(),
        None if text.contains("chunked") => request.ends_with(b"0\r\n\r\n"),
        None => true,
    }
}

fn has_token(request: &[u8], number: u64) -> bool {
    let token = token(number);
    let head = &request[..request.len().min(4096)];
    head.windows(token.len()).any(|window| window == token.as_bytes())
}

criterion_group!(benches, replay);
criterion_main!(benches);
