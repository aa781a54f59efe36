//! An application, down to the exact bytes that it sends.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::DEADLINE;
use super::http::{Answer, Fields, Wire, chunk, head_bytes};

/// Where a side of bearerd listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Address {
    pub(crate) fn parse(text: &str) -> Self {
        match text.strip_prefix("unix:") {
            Some(path) => Self::Unix(path.into()),
            None => Self::Tcp(text.parse().unwrap()),
        }
    }

    pub(crate) fn tcp(&self) -> SocketAddr {
        match self {
            Self::Tcp(address) => *address,
            Self::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }
}

/// A socket of either family.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection to bearerd.
pub(crate) type Connection = Wire<Stream>;

/// Connects, with a deadline on every read.
pub(crate) fn connect(address: &Address) -> Connection {
    Wire::new(match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            Stream::Tcp(stream)
        }
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            Stream::Unix(stream)
        }
    })
}

impl Connection {
    /// Sends `request` and reads its answer; the connection can be used again.
    #[track_caller]
    pub(crate) fn exchange(&mut self, request: &Request) -> Answer {
        // An early answer may meet a sender that has not finished, so a failed write is no failure
        // yet.
        let sent = self.send(&request.to_bytes());
        self.answer(&request.method)
            .unwrap_or_else(|e| panic!("{} {}: {e}, {sent:?}", request.method, request.target))
    }

    /// Whether the other side has closed, after whatever it still had to say.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        match self.io.read_to_end(&mut rest) {
            Ok(_) => true,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    /// Goes away, as an application that crashed.
    pub(crate) fn hang_up(self) {
        match &self.io {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Both),
        }
        .unwrap();
    }
}

/// A request to send.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    fields: Fields,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    None,
    Sized(Vec<u8>),
    Chunked(Vec<Vec<u8>>, Fields),
}

impl Request {
    /// A request for `target`, with `Host: app.test`.
    pub(crate) fn new(method: &str, target: &str) -> Self {
        let mut fields = Fields::default();
        fields.push("Host", "app.test");
        Self { method: method.to_owned(), target: target.to_owned(), fields, body: Body::None }
    }

    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target).body(body)
    }

    #[must_use]
    pub(crate) fn host(mut self, host: &str) -> Self {
        self.fields.0[0].1 = host.to_owned();
        self
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push(name, value);
        self
    }

    /// A body whose length is given.
    #[must_use]
    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Sized(body.into());
        self
    }

    /// A body in the chunked coding, in these pieces.
    #[must_use]
    pub(crate) fn chunked<'a>(mut self, chunks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        self.body = Body::Chunked(chunks.into_iter().map(<[u8]>::to_vec).collect(), Fields::default());
        self
    }

    /// A trailer field. The body must be chunked.
    #[must_use]
    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        match &mut self.body {
            Body::Chunked(_, trailers) => trailers.push(name, value),
            other => panic!("trailers need a chunked body, not {other:?}"),
        }
        self
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut fields = self.fields.clone();
        match &self.body {
            Body::None => {}
            Body::Sized(body) => fields.push("Content-Length", &body.len().to_string()),
            Body::Chunked(..) => fields.push("Transfer-Encoding", "chunked"),
        }
        let mut bytes = head_bytes(&format!("{} {} HTTP/1.1", self.method, self.target), &fields);
        match &self.body {
            Body::None => {}
            Body::Sized(body) => bytes.extend_from_slice(body),
            Body::Chunked(chunks, trailers) => {
                // An empty chunk would be the end.
                for data in chunks.iter().filter(|data| !data.is_empty()) {
                    bytes.extend(chunk(data));
                }
                bytes.extend(head_bytes("0", trailers));
            }
        }
        bytes
    }

    /// Sends the request on a connection of its own.
    #[track_caller]
    pub(crate) fn send(&self, address: &Address) -> Answer {
        connect(address).exchange(self)
    }
}
