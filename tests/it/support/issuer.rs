//! The partner's tokens: rotation with reuse detection, as a real one would do it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use serde_json::{Value, json};

use super::exchange::Exchange;
use super::gate::Gate;
use super::http::{Answer, Fields};
use super::partner::Script;
use super::secrets::marked;

/// A login or refresh call as the partner saw it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) target: String,
    pub(crate) fields: Fields,
    /// The body as sent.
    pub(crate) body: Vec<u8>,
    /// What the envelope held, if it opened.
    pub(crate) opened: Option<Value>,
}

/// What becomes of one refresh call, in place of the ordinary.
#[derive(Clone, Debug)]
pub(crate) enum Refresh {
    /// Nothing is done, and this is the answer.
    Instead(Answer),
    /// The token is rotated, and this is the answer.
    RotatedBut(Answer),
    /// The token is rotated, and the connection closed without an answer.
    Lost,
    /// Rotated, with these members of the answer replaced, or left out where they are null.
    With(Value),
    /// The token is rotated, and this is done on the connection.
    RotatedThen(Act),
}

/// What is done on a connection in place of an answer. The connection is closed after it.
#[derive(Clone)]
pub(crate) struct Act(Script);

impl Act {
    pub(crate) fn on(&self, x: &mut Exchange<'_>) -> io::Result<()> {
        (self.0)(x)?;
        x.close()
    }
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Act")
    }
}

impl Refresh {
    /// The token is rotated, `act` is done on the connection, and it is closed.
    pub(crate) fn then(act: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::RotatedThen(Act(Arc::new(act)))
    }

    /// The token is rotated, and these bytes are the answer, whatever they are.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::then(move |x| x.raw(&bytes))
    }
}

/// Which tokens live, and what was asked for.
pub(crate) struct Issuer {
    pub(crate) lifetime: Duration,
    pub(crate) delay: Duration,
    pub(crate) gate: Option<Gate>,
    pub(crate) scripts: VecDeque<Refresh>,
    pub(crate) accept_logins: bool,
    /// Whoever gets a pair makes every refresh token before it worthless.
    pub(crate) newest_only: bool,
    pub(crate) refreshes: Vec<Call>,
    pub(crate) logins: Vec<Call>,
    /// How long a spent refresh token is still taken.
    pub(crate) grace: Duration,
    /// How often a spent refresh token was presented and, thanks to the grace, taken.
    pub(crate) graced: usize,
    /// How often a spent refresh token was presented in vain. It must stay zero.
    pub(crate) spent_presented: usize,
    /// How many refresh calls are being answered.
    pub(crate) in_progress: usize,
    refresh: HashSet<String>,
    /// Since when.
    spent: HashMap<String, Instant>,
    access: HashMap<String, Instant>,
    issued: usize,
    salt: String,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        let salt = format!("{:08x}", fastrand::u32(..));
        Self {
            lifetime: Duration::from_secs(3600),
            delay: Duration::ZERO,
            gate: None,
            scripts: VecDeque::new(),
            accept_logins: true,
            newest_only: false,
            refreshes: Vec::new(),
            logins: Vec::new(),
            grace: Duration::ZERO,
            graced: 0,
            spent_presented: 0,
            in_progress: 0,
            refresh: HashSet::from([seed(&salt)]),
            spent: HashMap::new(),
            access: HashMap::new(),
            issued: 0,
            salt,
        }
    }

    /// The refresh token to begin with.
    pub(crate) fn seed(&self) -> String {
        seed(&self.salt)
    }

    /// A refresh token that lives, for an operator to load.
    pub(crate) fn fresh_refresh_token(&mut self) -> String {
        self.issued += 1;
        let token = marked(&format!("refresh.{}.{}", self.salt, self.issued));
        self.refresh.insert(token.clone());
        token
    }

    /// Spends `token` and gives a new pair, or the refusal.
    pub(crate) fn rotate(&mut self, token: &str) -> Result<Value, Answer> {
        if !self.refresh.remove(token) {
            if let Some(since) = self.spent.get(token) {
                if since.elapsed() < self.grace {
                    self.graced += 1;
                    return Ok(self.pair());
                }
                self.spent_presented += 1;
            }
            return Err(Answer::json(400, &json!({"error": "invalid_grant"})));
        }
        self.spent.insert(token.to_owned(), Instant::now());
        Ok(self.pair())
    }

    /// The answer to a refresh call: the new pair, with these members replaced, or left out where
    /// they are null.
    pub(crate) fn renew(&mut self, token: &str, changes: &Value) -> Answer {
        let mut set = match self.rotate(token) {
            Ok(set) => set,
            Err(refusal) => return refusal,
        };
        for (name, value) in changes.as_object().into_iter().flatten() {
            set[name] = value.clone();
        }
        set.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        Answer::json(200, &set)
    }

    /// A new pair.
    pub(crate) fn pair(&mut self) -> Value {
        if self.newest_only {
            self.refresh.clear();
        }
        let refresh = self.fresh_refresh_token();
        let access = marked(&format!("access.{}.{}", self.salt, self.issued));
        self.access.insert(access.clone(), Instant::now() + self.lifetime);
        json!({
            "access_token": access,
            "expires_in": self.lifetime.as_secs(),
            "refresh_token": refresh,
            "refresh_expires_in": 86400,
            "token_type": "Bearer",
        })
    }

    /// An answer with a new access token and no refresh token: `token` stays good.
    pub(crate) fn pair_keeping(&mut self, token: &str) -> Answer {
        let mut set = self.pair();
        set.as_object_mut().unwrap().remove("refresh_token");
        self.refresh.insert(token.to_owned());
        Answer::json(200, &set)
    }

    /// Whether the fields carry an access token that lives, and nothing besides.
    pub(crate) fn authorized(&self, fields: &Fields) -> bool {
        let [value] = fields.all("authorization")[..] else { return false };
        value
            .strip_prefix("Bearer ")
            .and_then(|token| self.access.get(token))
            .is_some_and(|expires| Instant::now() < *expires)
    }

    /// From now on no access token issued so far is taken.
    pub(crate) fn revoke_access(&mut self) {
        self.access.clear();
    }

    /// From now on no refresh token issued so far is taken.
    pub(crate) fn revoke_refresh(&mut self) {
        self.refresh.clear();
    }
}

fn seed(salt: &str) -> String {
    marked(&format!("seed.{salt}"))
}
