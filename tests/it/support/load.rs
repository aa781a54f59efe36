//! Many requests at once, over HTTP/1.1 or HTTP/2 with prior knowledge.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// What came back for one request.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Bytes,
}

/// Opens `connections`, and when all stand sends `streams` requests on each: at once over HTTP/2,
/// one after the other over HTTP/1.1.
pub(crate) fn at_once(
    address: SocketAddr,
    version: Version,
    connections: usize,
    streams: usize,
    body: &Bytes,
) -> Vec<Reply> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let barrier = Arc::new(Barrier::new(connections));
        let mut tasks = JoinSet::new();
        for connection in 0..connections {
            let request = request(address, connection, version, body.clone());
            let barrier = Arc::clone(&barrier);
            tasks.spawn(async move {
                match version {
                    Version::HTTP_2 => over_h2(address, request, streams, &barrier).await,
                    _ => over_h1(address, request, streams, &barrier).await,
                }
            });
        }
        tasks.join_all().await.into_iter().flatten().collect()
    })
}

fn request(address: SocketAddr, connection: usize, version: Version, body: Bytes) -> Request<Full<Bytes>> {
    let target = match version {
        Version::HTTP_2 => format!("http://{address}/load?connection={connection}"),
        _ => format!("/load?connection={connection}"),
    };
    let mut request = Request::post(target).version(version);
    if version != Version::HTTP_2 {
        request = request.header("host", "app.test");
    }
    request.body(Full::new(body)).unwrap()
}

async fn over_h1(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
    count: usize,
    barrier: &Barrier,
) -> Vec<Reply> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    barrier.wait().await;
    let mut replies = Vec::new();
    for _ in 0..count {
        sender.ready().await.unwrap();
        replies.push(reply(sender.send_request(request.clone()).await.unwrap()).await);
    }
    replies
}

async fn over_h2(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
    count: usize,
    barrier: &Barrier,
) -> Vec<Reply> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    barrier.wait().await;
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (mut sender, request) = (sender.clone(), request.clone());
        tasks.spawn(async move {
            sender.ready().await.unwrap();
            reply(sender.send_request(request).await.unwrap()).await
        });
    }
    tasks.join_all().await
}

async fn reply(response: hyper::Response<hyper::body::Incoming>) -> Reply {
    let (status, fields) = (response.status(), response.headers().clone());
    Reply { status, fields, body: response.into_body().collect().await.unwrap().to_bytes() }
}
