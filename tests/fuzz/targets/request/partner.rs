//! The partner, which forgives nothing.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::rc::Rc;
use std::sync::Arc;

use bearerd::credential::RefreshHandle;
use bearerd_fuzz::http1::{self, Framing, Head, Read, Request};
use bearerd_fuzz::login::{might_climb, might_log_in};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, spawn_local};

use crate::client::Reading;
use crate::support::{publish, token};

/// The values of `Partner-Code`, one for each partner.
pub(crate) const CODES: [&str; 2] = ["ONE", "TWO"];
/// The value of the partners' static header.
pub(crate) const SERVICE: &str = "fuzz-service";

/// How requests are answered.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) kind: Kind,
    /// At the end of the head already.
    pub(crate) early: bool,
    /// With these bytes, whatever the kind; after them the connection ends if it is an odd one.
    pub(crate) raw: Option<Rc<[u8]>>,
}

impl Script {
    /// With 200 and two bytes.
    pub(crate) const PLAIN: Self = Self { kind: Kind::Length, early: false, raw: None };

    /// Whether requests may be refused, and then come again.
    pub(crate) fn refuses(&self) -> bool {
        match &self.raw {
            Some(raw) => raw.windows(4).any(|part| part == b" 401"),
            None => matches!(self.kind, Kind::RefusedOnce | Kind::RefusedAlways),
        }
    }

    /// Whether the connection ends after the bytes.
    pub(crate) fn closes(&self) -> bool {
        self.kind as u8 % 2 == 1
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Length,
    Chunked,
    Empty,
    /// 401, and when the same request comes again, 200.
    RefusedOnce,
    RefusedAlways,
    /// A body that ends with the connection.
    Close,
    /// 101 to who asked for it; to others something else before the answer.
    Upgrade,
    /// Every second request gets none, and the connection ends.
    Lost,
}

pub(crate) struct Mock {
    authority: String,
    credential: Arc<RefreshHandle>,
    /// The number of the token in use.
    newest: Cell<u64>,
    pub(crate) script: RefCell<Script>,
    /// The requests that have come whole.
    pub(crate) seen: RefCell<Vec<Request>>,
    /// How many heads have come, of requests that were whole or not.
    pub(crate) heads: Cell<usize>,
    refused: Cell<bool>,
    /// Grows with everything that happens.
    pub(crate) moved: Rc<Cell<u64>>,
    connections: RefCell<Vec<AbortHandle>>,
}

impl Mock {
    pub(crate) fn new(port: u16, credential: Arc<RefreshHandle>) -> Rc<Self> {
        Rc::new(Self {
            authority: format!("127.0.0.1:{port}"),
            credential,
            newest: Cell::new(0),
            script: RefCell::new(Script::PLAIN),
            seen: RefCell::default(),
            heads: Cell::new(0),
            refused: Cell::new(false),
            moved: Rc::default(),
            connections: RefCell::default(),
        })
    }

    pub(crate) async fn accept(self: Rc<Self>, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            // Nothing of a connection is left when it is closed: there will be very many.
            stream.set_zero_linger().unwrap();
            self.moved.update(|moved| moved + 1);
            let connection = spawn_local(Rc::clone(&self).serve(stream));
            self.connections.borrow_mut().push(connection.abort_handle());
        }
    }

    /// Forgets what has come, and closes every connection.
    pub(crate) fn reset(&self, script: Script) {
        self.script.replace(script);
        self.seen.borrow_mut().clear();
        self.heads.set(0);
        self.refused.set(false);
        self.connections.borrow_mut().drain(..).for_each(|connection| connection.abort());
    }

    /// Forgets what has come; from now on answers in the simplest way.
    pub(crate) fn reset_seen(&self) {
        self.script.replace(Script::PLAIN);
        self.seen.borrow_mut().clear();
        self.heads.set(0);
        self.refused.set(false);
    }

    pub(crate) async fn publish(&self, credential: &RefreshHandle) {
        self.newest.update(|newest| newest + 1);
        publish(credential, self.newest.get()).await;
    }

    async fn serve(self: Rc<Self>, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        let mut begun = false;
        loop {
            let script = self.script.borrow().clone();
            let shown = bytes.escape_ascii();
            match http1::head(&bytes) {
                Read::Wrong(why) => panic!("{why} in what reached the partner:\n{shown}"),
                Read::Whole(head, length) if !begun => {
                    begun = true;
                    self.heads.update(|heads| heads + 1);
                    self.check(&head, &shown);
                    if script.raw.is_none() && script.kind == Kind::Lost && self.heads.get().is_multiple_of(2)
                    {
                        let _ = stream.shutdown().await;
                        return;
                    }
                    if head.framing == Framing::Length(0) {
                        assert_eq!(bytes.len(), length, "more than was asked:\n{shown}");
                    }
                    if script.early && self.answer(&mut stream, &head, &script).await.is_err() {
                        return;
                    }
                }
                Read::Whole(..) | Read::More => {}
            }
            match http1::request(&bytes) {
                Read::Wrong(why) => panic!("{why} in what reached the partner:\n{shown}"),
                Read::More => {
                    if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                    self.moved.update(|moved| moved + 1);
                }
                Read::Whole(request, length) => {
                    assert!(script.early || bytes.len() == length, "more than was asked:\n{shown}");
                    bytes.drain(..length);
                    begun = false;
                    let head = request.head.clone();
                    self.take(request);
                    if !script.early && self.answer(&mut stream, &head, &script).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn take(&self, request: Request) {
        for (name, _) in &request.trailers.0 {
            assert!(!is_managed(&name.replace('_', "-")), "{name} in the trailers");
        }
        self.seen.borrow_mut().push(request);
    }

    /// An error if nothing may follow on this connection.
    async fn answer(&self, stream: &mut TcpStream, head: &Head, script: &Script) -> Result<(), ()> {
        const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
        if let Some(raw) = &script.raw {
            if script.refuses() {
                self.publish(&self.credential).await;
            }
            stream.write_all(raw).await.map_err(drop)?;
            if Reading::of(script, &head.method).is_last() && !script.early && !script.closes() {
                let more = self.drain(stream).await;
                assert!(more.is_empty(), "more after the last answer:\n{}", more.escape_ascii());
                return Err(());
            }
            let switches = head.fields.has("upgrade") && raw.windows(4).any(|part| part == b" 101");
            if !script.closes() && !switches {
                return Ok(());
            }
            if script.closes() {
                let _ = stream.shutdown().await;
            }
            self.drain(stream).await;
            return Err(());
        }
        let kind = script.kind;
        let refuse = match kind {
            Kind::RefusedOnce => !self.refused.get(),
            Kind::RefusedAlways => true,
            _ => false,
        };
        self.refused.set(refuse);
        let (fields, body) = match kind {
            _ if refuse => {
                self.publish(&self.credential).await;
                ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n", "no")
            }
            Kind::Chunked => (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\nkeep-alive: timeout=5\r\n\r\n",
                "2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n",
            ),
            Kind::Empty => ("HTTP/1.1 204 No Content\r\n\r\n", ""),
            Kind::Close => ("HTTP/1.1 200 OK\r\nconnection: close, x-hop\r\nx-hop: 1\r\n\r\n", "ok"),
            Kind::Upgrade if head.fields.has("upgrade") => {
                ("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", "x")
            }
            Kind::Upgrade => ("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n", ""),
            _ => (OK, "ok"),
        };
        let mut answer = fields.to_owned();
        if head.method != "HEAD" {
            answer += body;
        }
        if answer.starts_with("HTTP/1.1 103 ") {
            answer += OK;
            answer += if head.method == "HEAD" { "" } else { "ok" };
        }
        stream.write_all(answer.as_bytes()).await.map_err(drop)?;
        match kind {
            Kind::Close if !refuse => {
                let _ = stream.shutdown().await;
                self.drain(stream).await;
                Err(())
            }
            Kind::Upgrade if answer.starts_with("HTTP/1.1 101 ") => {
                // From here on it is no HTTP.
                self.drain(stream).await;
                Err(())
            }
            _ => Ok(()),
        }
    }

    /// Reads until the other side closes: closed before that, a connection is reset, and what was
    /// sent on it may be lost.
    async fn drain(&self, stream: &mut TcpStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        while stream.read_buf(&mut bytes).await.unwrap_or(0) > 0 {
            self.moved.update(|moved| moved + 1);
        }
        bytes
    }

    /// What must be true of every head that reaches the partner.
    fn check(&self, head: &Head, shown: &dyn Display) {
        let Head { method, target, fields, .. } = head;
        let one = |name| fields.one(name).unwrap_or_else(|| panic!("not one {name}:\n{shown}"));
        assert_eq!(one("host"), self.authority.as_bytes(), "{shown}");
        assert_eq!(one("x-service-code"), SERVICE.as_bytes(), "{shown}");
        let code = CODES.iter().position(|code| one("partner-code") == code.as_bytes());
        let code = code.unwrap_or_else(|| panic!("{shown}"));
        let sent = one("authorization").strip_prefix(b"Bearer ").unwrap_or_else(|| panic!("{shown}"));
        let number = std::str::from_utf8(sent).ok().and_then(|digits| digits.parse().ok());
        let is_ours =
            number.is_some_and(|number| number <= self.newest.get() && sent == token(number).as_bytes());
        assert!(is_ours, "{shown}");
        assert!(fields.all("via").any(|via| via.starts_with(b"1.1 bearerd-")), "{shown}");

        assert!(!["CONNECT", "TRACE"].iter().any(|other| method.eq_ignore_ascii_case(other)), "{shown}");
        let path = target.split(|&byte| byte == b'?').next().unwrap_or_default();
        let base = if code == 0 { "" } else { "/base" };
        if !(method == "OPTIONS" && path == b"*") {
            let path = path.strip_prefix(base.as_bytes()).unwrap_or_else(|| panic!("{shown}"));
            assert!(path.starts_with(b"/") && !might_log_in(path) && !might_climb(path), "{shown}");
        }

        let upgrade = fields.has("upgrade");
        for (name, value) in &fields.0 {
            match name.as_str() {
                "connection" if upgrade => assert_eq!(value, b"upgrade", "{shown}"),
                "connection" => assert!(value == b"te" && fields.has("te"), "{shown}"),
                "upgrade" => assert!(fields.one("connection").is_some(), "{shown}"),
                "te" => assert!(value == b"trailers" && fields.one("connection").is_some(), "{shown}"),
                "host" | "partner-code" | "x-service-code" | "authorization" | "via" | "trailer"
                | "content-length" | "transfer-encoding" | "max-forwards" => {}
                other => assert!(!is_managed(&other.replace('_', "-")), "{other}:\n{shown}"),
            }
        }
    }
}

/// Fields, with hyphens, that no client may have a say in.
pub(crate) fn is_managed(name: &str) -> bool {
    const NAMES: [&str; 25] = [
        "authorization",
        "connection",
        "content-length",
        "expect",
        "forwarded",
        "host",
        "http2-settings",
        "keep-alive",
        "max-forwards",
        "partner-code",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-original-url",
        "x-real-ip",
        "x-rewrite-url",
        "x-service-code",
        // No page in a browser has caused what is carried.
        "origin",
        "x-forwarded-for",
        "x-forwarded-host",
    ];
    NAMES.contains(&name) || name.starts_with("x-forwarded-")
}
