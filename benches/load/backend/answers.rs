//! What it answers, and when.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bearerd::partner::REFRESH_PATH;

use super::{Behaviour, Seen, Storm, lock};
use crate::machine::now;
use crate::wire::Message;

/// What every answer but those to bearerd's own calls holds.
const ANSWER: &str = r#"{"id":"0b5f6a7c-3f0e-4b9e-9d55-1d6a3f1f6a11","status":"active"}"#;
const WRONG: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
const REFUSED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

/// The path on which it is looked whether the request carries what a gateway must set.
pub(crate) const CHECK_PATH: &str = "/check";
/// The value of `Partner-Code`.
pub(crate) const PARTNER_CODE: &str = "BENCH";

/// What all access tokens begin with; the number of the token follows.
const TOKEN: &str = "bench-access-token_";
const TOKEN_LEN: usize = 1024;
/// The longest that is waited for something to happen.
const IDLE: Duration = Duration::from_millis(100);
/// How many are refused before it is looked again what has come: as from a partner with more than
/// one thread, the refresh call is not held up by them.
const AT_ONCE: usize = 64;

/// An access token: 1 KiB. The first is the number 1; who has no refresh carries the number 0.
pub(crate) fn access_token(number: u32) -> String {
    format!("{TOKEN}{number:0width$}", width = TOKEN_LEN - TOKEN.len())
}

pub(super) enum Reply<'a> {
    Now(&'a [u8]),
    /// One of those that will be [`due`](Answers::due).
    Later,
}

pub(super) struct Answers {
    ok: Vec<u8>,
    lifetime: Duration,
    /// How many tokens have been given.
    tokens: u32,
    token_set: Vec<u8>,
    seen: Arc<Mutex<Seen>>,
    storm: Option<Gathering>,
}

/// A storm, and the connections whose answer is held back.
struct Gathering {
    storm: Storm,
    waiting: Vec<usize>,
    /// All have come, and those that still wait are being refused.
    breaks: bool,
    refresh: Option<(Instant, usize)>,
}

impl Answers {
    pub(super) fn new(behaviour: &Behaviour, seen: Arc<Mutex<Seen>>) -> Self {
        let gather = |storm: Storm| Gathering { storm, waiting: Vec::new(), breaks: false, refresh: None };
        Self {
            ok: json(ANSWER),
            lifetime: behaviour.lifetime,
            tokens: 0,
            token_set: Vec::new(),
            seen,
            storm: behaviour.storm.map(gather),
        }
    }

    /// A connection has been made.
    pub(super) fn connected(&self) {
        lock(&self.seen).connections += 1;
    }

    /// The answer to the request that has come on the connection `at`.
    pub(super) fn to(&mut self, request: &Message, at: usize) -> Reply<'_> {
        let head = request.head();
        let path = head.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
        if path == REFRESH_PATH.as_bytes() {
            return self.refresh(at);
        }
        if path == CHECK_PATH.as_bytes() {
            return Reply::Now(if token_in(head).is_some() { &self.ok } else { WRONG });
        }
        if request.body_len() > 0 {
            lock(&self.seen).body += request.body_len();
        }
        if let Some(gathering) = &mut self.storm
            && token_in(head) == Some(1)
        {
            gathering.waiting.push(at);
            if gathering.waiting.len() == gathering.storm.requests {
                gathering.breaks = true;
                let now = now();
                lock(&self.seen).refused = Some((now, now));
            }
            return Reply::Later;
        }
        Reply::Now(&self.ok)
    }

    /// How long nothing is due.
    pub(super) fn wait(&self) -> Duration {
        let Some(gathering) = &self.storm else { return IDLE };
        match gathering.refresh {
            _ if gathering.breaks && !gathering.waiting.is_empty() => Duration::ZERO,
            Some((due, _)) => due.saturating_duration_since(now()).min(IDLE),
            None => IDLE,
        }
    }

    /// The answers that were held back until now, each with its connection.
    pub(super) fn due(&mut self) -> Vec<(usize, Vec<u8>)> {
        let Some(gathering) = &mut self.storm else { return Vec::new() };
        let mut all = Vec::new();
        if gathering.breaks && !gathering.waiting.is_empty() {
            let rest = gathering.waiting.len().saturating_sub(AT_ONCE);
            all.extend(gathering.waiting.drain(rest..).map(|at| (at, REFUSED.to_vec())));
            if let Some((_, last)) = &mut lock(&self.seen).refused {
                *last = now();
            }
        }
        if let Some((_, at)) = self.storm.as_mut().and_then(|g| g.refresh.take_if(|(due, _)| *due <= now())) {
            all.push((at, self.token_set.clone()));
            lock(&self.seen).refreshed = Some(now());
        }
        all
    }

    fn refresh(&mut self, at: usize) -> Reply<'_> {
        let now = now();
        lock(&self.seen).refreshes.push(now);
        self.tokens += 1;
        let (number, token, life) = (self.tokens, access_token(self.tokens), self.lifetime.as_secs());
        self.token_set = json(&format!(
            r#"{{"access_token":"{token}","refresh_token":"r{number}","token_type":"Bearer","expires_in":{life}}}"#
        ));
        match &mut self.storm {
            Some(gathering) if gathering.breaks => {
                gathering.refresh = Some((now + gathering.storm.refresh, at));
                Reply::Later
            }
            _ => Reply::Now(&self.token_set),
        }
    }
}

fn json(body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into()
}

/// The number of the token that the request carries, if it carries one token and the partner code,
/// and no other value beside them.
fn token_in(head: &[u8]) -> Option<u32> {
    let head = str::from_utf8(head).ok()?;
    let token = only(head, "authorization")?.strip_prefix("Bearer ")?;
    let code = only(head, "partner-code")?;
    if code != PARTNER_CODE || token.len() != TOKEN_LEN {
        return None;
    }
    token.strip_prefix(TOKEN)?.parse().ok()
}

/// The value of a field that is there once.
fn only<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head.lines().filter_map(|line| {
        let (given, value) = line.split_once(':')?;
        given.eq_ignore_ascii_case(name).then(|| value.trim())
    });
    values.next().filter(|_| values.next().is_none())
}
