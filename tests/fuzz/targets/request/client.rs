//! A client, and what it is answered.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bearerd_fuzz::http1::{self, Fields, Framing, Read, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::{AbortHandle, spawn_local};

use crate::meant::Meant;
use crate::partner::{Mock, Script};
use crate::settle;

pub(crate) struct Client {
    writer: WriteHalf<DuplexStream>,
    reader: AbortHandle,
    received: Rc<RefCell<Vec<u8>>>,
    ended: Rc<Cell<bool>>,
    /// It has sent what looks like a token, which an answer may have from there.
    sent_one: bool,
}

/// What has come so far.
struct Answers {
    /// The final ones, whole.
    whole: Vec<Response>,
    /// What follows cannot be told apart: another protocol, or answers to who knows what.
    unclear: bool,
}

/// Whether there is what looks like a token: they are numbers of very many digits.
fn holds_one(bytes: &[u8]) -> bool {
    bytes.windows(64).any(|part| part == [b'0'; 64])
}

impl Client {
    pub(crate) fn new(stream: DuplexStream, mock: &Mock) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let (received, ended) = (Rc::default(), Rc::default());
        let moved = Rc::clone(&mock.moved);
        let reader = spawn_local(read(reader, Rc::clone(&received), Rc::clone(&ended), moved)).abort_handle();
        Self { writer, reader, received, ended, sent_one: false }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8], piece: usize, mock: &Mock, slowly: bool) {
        self.sent_one = holds_one(bytes);
        for piece in bytes.chunks(piece) {
            if self.writer.write_all(piece).await.is_err() {
                return;
            }
            match slowly {
                true => settle(mock).await,
                false => tokio::task::yield_now().await,
            }
        }
    }

    /// Whether there is nothing that it still waits for, or may have to wait for in vain.
    pub(crate) fn is_content(&self, meant: &Meant, script: &Script) -> bool {
        let in_vain = meant.requests.iter().any(|request| match Reading::of(script, &request.head.method) {
            Reading::One(_) => false,
            Reading::Cut | Reading::Unclear => true,
        });
        let all = |answers: Answers| answers.unclear || answers.whole.len() >= meant.requests.len();
        self.ended.get() || in_vain || self.answers(meant, script).is_ok_and(all)
    }

    /// Judges what has come.
    pub(crate) fn judge(&self, meant: &Meant, script: &Script) {
        let shown = self.received.borrow().escape_ascii().to_string();
        let answers = self.answers(meant, script).unwrap_or_else(|why| panic!("{why}:\n{shown}"));
        // One more may be to what is no request at all.
        assert!(answers.whole.len() <= meant.most() + 1, "too many answers:\n{shown}");
        assert!(self.is_content(meant, script), "not all requests are answered:\n{shown}");
        // The partner may have thought of one by itself.
        let is_given = self.sent_one || script.raw.as_deref().is_some_and(holds_one);
        assert!(is_given || !holds_one(&self.received.borrow()), "a token:\n{shown}");
        for (request, answer) in meant.requests.iter().zip(&answers.whole) {
            if script.raw.is_some() {
                Reading::of(script, &request.head.method).fits(answer, &shown);
            }
        }
    }

    /// Whether the one answer is the plain one.
    pub(crate) fn has_plain_answer(&self) {
        let received = self.received.borrow();
        match http1::response(&received, "GET") {
            Read::Whole(answer, length) => {
                assert_eq!(length, received.len(), "{}", received.escape_ascii());
                assert_eq!((answer.status, answer.body.as_slice()), (200, b"ok".as_slice()));
            }
            _ => panic!("{}", received.escape_ascii()),
        }
    }

    fn answers(&self, meant: &Meant, script: &Script) -> Result<Answers, &'static str> {
        let received = self.received.borrow();
        let mut rest = &received[..];
        let mut answers = Answers { whole: Vec::new(), unclear: false };
        // An answer of the partner's that has no end goes on for ever.
        let endless = script.raw.is_some();
        while !rest.is_empty() {
            let method = match meant.requests.get(answers.whole.len()) {
                Some(request) => request.head.method.as_str(),
                None if meant.may_be_head => return Ok(Answers { unclear: true, ..answers }),
                None => "",
            };
            let answer = match http1::response(rest, method) {
                Read::Whole(answer, length) => {
                    rest = &rest[length..];
                    answer
                }
                Read::More if self.ended.get() || endless => return Ok(answers),
                Read::More => return Err("half an answer"),
                Read::Wrong(why) => return Err(why),
            };
            let hops = ["keep-alive", "proxy-connection", "proxy-authenticate", "te"];
            if hops.iter().any(|name| answer.fields.has(name)) || !endless && answer.fields.has("x-hop") {
                return Err("a field that was for another hop");
            }
            match answer.status {
                101 => return Ok(Answers { unclear: true, ..answers }),
                100..=199 => {}
                _ if answer.framing == Framing::Close && !self.ended.get() => {
                    return if endless { Ok(answers) } else { Err("an answer without end") };
                }
                _ => answers.whole.push(answer),
            }
        }
        Ok(answers)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(
    mut reader: ReadHalf<DuplexStream>,
    received: Rc<RefCell<Vec<u8>>>,
    ended: Rc<Cell<bool>>,
    moved: Rc<Cell<u64>>,
) {
    let mut piece = Vec::with_capacity(4096);
    while reader.read_buf(&mut piece).await.unwrap_or(0) > 0 {
        received.borrow_mut().append(&mut piece);
        moved.update(|moved| moved + 1);
    }
    ended.set(true);
    moved.update(|moved| moved + 1);
}

/// What the bytes that the partner answers with are.
pub(crate) enum Reading {
    /// An answer, which has one reading only.
    One(Response),
    /// The beginning of one.
    Cut,
    /// No answer, or one to be read in more than one way.
    Unclear,
}

impl Reading {
    pub(crate) fn of(script: &Script, method: &str) -> Self {
        // More than this may be more than is taken.
        const MOST_FIELDS: usize = 64;
        let Some(raw) = &script.raw else { return Self::One(Response::default()) };
        let mut rest = &raw[..];
        loop {
            if !rest.starts_with(b"HTTP/1.1 ") {
                return Self::Unclear;
            }
            match http1::response(rest, method) {
                Read::Whole(answer, length) => match answer.status {
                    // What follows is no answer, or comes to another request.
                    101 | 401 => return Self::Unclear,
                    100..=199 => rest = &rest[length..],
                    _ if answer.framing == Framing::Close && !script.closes() => return Self::Unclear,
                    _ if answer.fields.0.len() > MOST_FIELDS => return Self::Unclear,
                    _ => return Self::One(answer),
                },
                Read::More => return Self::Cut,
                Read::Wrong(_) => return Self::Unclear,
            }
        }
    }

    /// Whether the partner says that nothing may follow on the connection.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self, Self::One(answer) if answer.fields.one("connection") == Some(b"close"))
    }

    /// Whether `answer` is what a client may be given for it.
    fn fits(&self, answer: &Response, shown: &str) {
        if let Some(status) = answer.fields.one("proxy-status")
            && status.starts_with(b"bearerd; ")
        {
            // What is said of the request may have been said before the partner was asked.
            let blames_the_partner = matches!(answer.status, 502 | 504);
            assert!(!blames_the_partner || !matches!(self, Self::One(_)), "a good answer is lost:\n{shown}");
            return;
        }
        match self {
            Self::One(given) => {
                assert_eq!((given.status, &given.body), (answer.status, &answer.body), "{shown}");
                assert_eq!(end_to_end(&given.fields), end_to_end(&answer.fields), "{shown}");
            }
            Self::Cut => panic!("half an answer has become a whole one:\n{shown}"),
            Self::Unclear => {}
        }
    }
}

/// The fields that are not for one hop only, and not a server's own.
fn end_to_end(fields: &Fields) -> Vec<(String, Vec<u8>)> {
    const HOP: [&str; 11] = [
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
        "trailer",
    ];
    let named: Vec<String> = fields
        .all("connection")
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(|name| String::from_utf8_lossy(name.trim_ascii()).to_ascii_lowercase())
        .collect();
    let goes_on = |name: &String| !HOP.contains(&name.as_str()) && !named.contains(name);
    let mut fields: Vec<_> = fields.0.iter().filter(|(name, _)| goes_on(name)).cloned().collect();
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}
