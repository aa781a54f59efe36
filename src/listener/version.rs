//! Which version of HTTP a client speaks: told by its first bytes, as RFC 9113 section 3.4 has it.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::server::conn::http2;
use hyper_util::rt::TokioTimer;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::connection::{Exchanges, Stream, Watched};
use super::http1::{self, Client};
use super::tasks::Tasks;
use crate::proxy::Tunnel;

/// What a client of HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much is read to see what it is, in bytes.
const FIRST: usize = 2048;

/// How many exchanges a connection carries at once in HTTP/2, and how much a client may send on each of
/// them before it is read, in bytes. On all together it may send as much, so that a partner that does
/// not read one of them keeps no other waiting.
const STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 64 * 1024;

pin_project! {
    /// A client's connection, as a future that is ready when it has ended or is to be a tunnel.
    #[project = Version]
    pub(super) enum Connection<T, F> {
        /// Too little has come.
        Unknown {
            start: Option<(T, Exchanges)>,
            first: BytesMut,
            http1: fn(T, Bytes, Exchanges) -> http1::Connection<T, F>,
        },
        /// HTTP/1.1, or what claims to be. Not in a box: for each request, somewhere else to go would
        /// be one more wait for memory that has left the caches.
        Http1 {
            #[pin]
            connection: http1::Connection<T, F>,
        },
        /// HTTP/2. In a box, because it is large and seldom.
        Http2 { connection: Pin<Box<http2::Connection<Watched<T>, Exchanges, Tasks>>> },
    }
}

/// A connection on which nothing has come yet.
pub(super) fn connection<T: Stream>(
    stream: T,
    exchanges: Exchanges,
) -> Connection<T, impl Future<Output = Option<Box<Tunnel>>>> {
    Connection::Unknown { start: Some((stream, exchanges)), first: BytesMut::new(), http1: http1::connection }
}

impl<T: Stream, F> Connection<T, F> {
    /// Takes no more exchanges, and ends with the last one.
    pub(super) fn graceful_shutdown(self: Pin<&mut Self>) {
        match self.project() {
            Version::Unknown { start, .. } => *start = None,
            Version::Http1 { connection } => connection.graceful_shutdown(),
            Version::Http2 { connection } => connection.as_mut().graceful_shutdown(),
        }
    }
}

impl<T: Stream, F: Future<Output = Option<Box<Tunnel>>>> Future for Connection<T, F> {
    type Output = Option<(Box<Tunnel>, Client<T>)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let known = match self.as_mut().project() {
                Version::Unknown { start, first, http1 } => {
                    let Some((stream, _)) = start else { return Poll::Ready(None) };
                    let Ok(is_http2) = ready!(poll_is_http2(stream, first, cx)) else {
                        return Poll::Ready(None);
                    };
                    let (first, start) = (first.split().freeze(), start.take());
                    let Some((stream, exchanges)) = start else { return Poll::Ready(None) };
                    match is_http2 {
                        true => Self::Http2 { connection: Box::pin(http2(stream, first, exchanges)) },
                        false => Self::Http1 { connection: http1(stream, first, exchanges) },
                    }
                }
                Version::Http1 { connection } => return connection.poll(cx),
                // What went wrong on a client's connection is the client's affair.
                Version::Http2 { connection } => return connection.as_mut().poll(cx).map(|_| None),
            };
            self.set(known);
        }
    }
}

/// Reads into `first` until it is clear what it is the beginning of.
fn poll_is_http2(
    stream: &mut (impl AsyncRead + Unpin),
    first: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    loop {
        let mut room = [0; FIRST];
        let read = ready!(pin!(stream.read(&mut room)).poll(cx))?;
        first.extend_from_slice(&room[..read]);
        if first.starts_with(PREFACE) {
            return Poll::Ready(Ok(true));
        }
        // At the end of what comes it is for HTTP/1.1 to say what is wrong with it.
        if read == 0 || !PREFACE.starts_with(first) {
            return Poll::Ready(Ok(false));
        }
    }
}

fn http2<T: Stream>(
    stream: T,
    first: Bytes,
    exchanges: Exchanges,
) -> http2::Connection<Watched<T>, Exchanges, Tasks> {
    let io = Watched::new(stream, first, Rc::clone(&exchanges.activity));
    let mut builder = http2::Builder::new(exchanges.tasks.clone());
    builder
        .timer(TokioTimer::new())
        // What a connection may make bearerd hold: for each stream, and in all.
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAMS * STREAM_WINDOW)
        .max_send_buf_size(64 * 1024)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(20));
    builder.serve_connection(io, exchanges)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn the_first_bytes_tell_and_none_of_them_is_lost() {
        for (sent, http2) in [
            (&b"GET / HTTP/1.1\r\n"[..], false),
            (b"P", false),
            (b"POST / HTTP/1.1\r\n", false),
            (b"PRI * HTTP/2.0\r\n\r\nSN", false),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04", true),
            (b"\r\n", false),
            (b"", false),
        ] {
            for step in [1, sent.len().max(1)] {
                let (mut near, mut far) = tokio::io::duplex(1);
                let send = async {
                    for part in sent.chunks(step) {
                        far.write_all(part).await.unwrap();
                    }
                    drop(far);
                };
                let mut first = BytesMut::new();
                let read = async {
                    let found = poll_fn(|cx| poll_is_http2(&mut near, &mut first, cx)).await.unwrap();
                    let mut rest = Vec::new();
                    near.read_to_end(&mut rest).await.unwrap();
                    (found, rest)
                };
                let (_, (found, rest)) = tokio::join!(send, read);
                assert_eq!(found, http2, "{sent:?}");
                assert_eq!([&first[..], &rest].concat(), sent);
            }
        }
    }
}
