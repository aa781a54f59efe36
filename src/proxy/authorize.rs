//! Attach the token; on a 401 get a newer one and send the request again, once.
//!
//! Both are one piece, because a retry must know which generation it sent. A 401 is evidence
//! against that generation only: if a newer one is in use by now, the request is sent again with
//! that, and no refresh is asked for.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::exchange::Record;
use super::replay::Replay;
use super::respond::Problem;
use crate::clock::{Clock, turn};
use crate::credential::{Charge, NoToken, PassOn, RefreshHandle, Refusal, Token, TokenReader};
use crate::descriptors;
use crate::metrics::ReplayResult;
use crate::partner::ConnectError;
use crate::token::Generation;
use crate::upstream::{Answer, AnswerBody, Outgoing, Progress, SendError, Upstream};

/// How much of a 401 that nobody will see is read, so that its connection can be used again.
const DRAIN: (usize, Duration) = (64 * 1024, Duration::from_secs(5));

/// How often a request is sent again that the partner did not process, for each token it is sent
/// with: if it happens once more, the partner takes no requests.
const RESENDS: u32 = 2;

/// How one runtime reaches one partner with its token.
pub(super) struct Authorizer {
    pub(super) credential: Arc<RefreshHandle>,
    pub(super) reader: RefCell<TokenReader>,
    pub(super) upstream: Rc<Upstream>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) token_timeout: Duration,
}

/// A token to send with.
struct Attached {
    generation: Generation,
    header: HeaderValue,
    /// This very request waited for it: a 401 to it is the partner's answer, as long as it is in use.
    waited_for: bool,
}

impl Attached {
    fn waited_for(token: &Token) -> Self {
        Self { generation: token.generation, header: token.access.header().clone(), waited_for: true }
    }
}

impl Authorizer {
    /// Carries one request for `path`: the answer is the partner's last word on it.
    pub(super) async fn carry(
        &self,
        request: &Outgoing<'_>,
        path: &str,
        body: &mut Replay,
        exchange: &mut Record,
    ) -> Result<Answer<AnswerBody>, Problem> {
        body.collect().await.map_err(|_| Problem::BrokenBody)?;
        request.progress.set(Progress::Waiting);
        let token = match self.in_use() {
            Some(token) if !self.is_a_risk(&token, body) => token,
            // In a box, because it is rare and would make every exchange's state larger.
            poor => Box::pin(self.better(poor, exchange)).await?,
        };
        let first = self.send(request, &token.header, body, exchange).await;
        exchange.bytes_in = body.taken();
        let answer = first?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            self.credential.accepted(path, token.generation);
            return Ok(answer);
        }
        // As above.
        Box::pin(self.refused(request, path, body, exchange, token, answer)).await
    }

    /// After a 401 to `token`: sends the request again, if that can help.
    async fn refused(
        &self,
        request: &Outgoing<'_>,
        path: &str,
        body: &mut Replay,
        exchange: &mut Record,
        token: Attached,
        answer: Answer<AnswerBody>,
    ) -> Result<Answer<AnswerBody>, Problem> {
        request.progress.set(Progress::Waiting);
        body.stop();
        // Unless it has been replaced or has expired since, which is a reason of its own.
        if token.waited_for && self.in_use().is_some_and(|now| now.generation == token.generation) {
            return Ok(pass_on(answer, ReplayResult::Fresh, exchange));
        }
        let (newer, charge) = match self.credential.refused(path, token.generation) {
            Refusal::PassOn(PassOn::Held) => return Ok(pass_on(answer, ReplayResult::Held, exchange)),
            Refusal::PassOn(PassOn::Budget) => return Ok(pass_on(answer, ReplayResult::Budget, exchange)),
            // Without the body there is no second attempt; the refresh that was asked for goes on.
            _ if let Some(why) = body.lost() => return Ok(pass_on(answer, why, exchange)),
            Refusal::Newer(token) => {
                drain(answer).await;
                (token, None)
            }
            Refusal::Asked(mut charge) => {
                drain(answer).await;
                let mut unfinished = Unfinished { exchange, settled: false };
                let waited = charge.newer(self.token_deadline(exchange)).await;
                unfinished.settled = true;
                let token = waited.map_err(|no_token| {
                    exchange.metrics.counters.replay(ReplayResult::NoToken);
                    problem(no_token)
                })?;
                (token, Some(charge))
            }
        };
        exchange.resends += 1;
        // The deadline is looked at here as well: what passes it says nothing of the path.
        let deadline = exchange.deadline;
        let second = self.send(request, newer.access.header(), body, exchange);
        let second = timeout_at(deadline, second).await.unwrap_or(Err(Problem::Deadline));
        exchange.bytes_in = body.taken();
        self.conclude(second, newer.generation, charge, path, exchange)
    }

    /// What the second attempt says: of the request, of the refresh, and of the path.
    fn conclude(
        &self,
        second: Result<Answer<AnswerBody>, Problem>,
        generation: Generation,
        charge: Option<Charge>,
        path: &str,
        exchange: &Record,
    ) -> Result<Answer<AnswerBody>, Problem> {
        let (accepted, result) = match &second {
            Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
                (Some(false), ReplayResult::RefusedAgain)
            }
            Ok(_) => (Some(true), ReplayResult::Accepted),
            Err(_) => (None, ReplayResult::Failed),
        };
        exchange.metrics.counters.replay(result);
        match (charge, accepted) {
            (Some(charge), Some(accepted)) => charge.settle(generation, accepted),
            (Some(charge), None) => charge.forget(),
            (None, Some(true)) => self.credential.accepted(path, generation),
            (None, _) => {}
        }
        second
    }

    /// The token in use, unless it has expired.
    fn in_use(&self) -> Option<Attached> {
        let (generation, header) = self.reader.borrow_mut().usable(self.clock.now())?;
        Some(Attached { generation, header, waited_for: false })
    }

    /// Whether `token` is too doubtful to begin with: a 401 could not be mended by sending again.
    fn is_a_risk(&self, token: &Attached, body: &Replay) -> bool {
        body.is_uncertain() && self.credential.is_doubtful(token.generation)
    }

    /// Waits for a token to begin with, because there is none or `poor` is a risk.
    async fn better(&self, poor: Option<Attached>, exchange: &Record) -> Result<Attached, Problem> {
        let deadline = self.token_deadline(exchange);
        let poor = poor.map(|poor| poor.generation);
        let better = match poor {
            None => self.credential.usable(deadline).await,
            Some(poor) => self.credential.fresh(poor, deadline).await,
        };
        let no_token = match better {
            Ok(token) => return Ok(Attached::waited_for(&token)),
            Err(no_token) => no_token,
        };
        // A doubtful one is still better than none; or the better one has come in this moment.
        let last = self.in_use().ok_or_else(|| problem(no_token))?;
        Ok(Attached { waited_for: poor != Some(last.generation), ..last })
    }

    /// Sends the request with `token`, and once more if it was certainly not processed.
    async fn send(
        &self,
        request: &Outgoing<'_>,
        token: &HeaderValue,
        body: &mut Replay,
        exchange: &mut Record,
    ) -> Result<Answer<AnswerBody>, Problem> {
        let mut left = RESENDS;
        let error = loop {
            let data = body.attempt().map_err(|_| Problem::BrokenBody)?;
            let sent_at = Instant::now();
            let result = self.upstream.send(request, token, data).await;
            let took = turn::now().duration_since(sent_at);
            let status = result.as_ref().map_or(0, |answer| answer.status().as_u16());
            exchange.metrics.counters.client(status, took);
            exchange.upstream = Some(exchange.upstream.unwrap_or_default() + took);
            match result {
                Ok(answer) => return Ok(answer),
                // What may have been processed never is: see `upstream/http2.rs`.
                Err(SendError::Unprocessed(_)) if left > 0 && body.is_repeatable() => {
                    request.progress.set(Progress::Waiting);
                    left -= 1;
                    exchange.resends += 1;
                }
                Err(error) => break error,
            }
        };
        debug!(partner = &*exchange.metrics.partner, error = &error as &dyn std::error::Error, "no answer");
        Err(match error {
            _ if body.is_broken() => Problem::BrokenBody,
            SendError::TooMany => Problem::Overloaded,
            SendError::Connect(error) => match &*error {
                // Not the partner's fault.
                ConnectError::Tcp(error) if descriptors::ran_out(error) => Problem::Overloaded,
                error => Problem::Unreachable { error: proxy_status(error) },
            },
            SendError::Closed(_) => Problem::Unreachable { error: "connection_terminated" },
            SendError::Unprocessed(_) => Problem::Unprocessed,
            SendError::Exchange(_) => Problem::NoAnswer,
        })
    }

    /// Not beyond the request's own, because a request that has no token by then is told so.
    fn token_deadline(&self, exchange: &Record) -> Instant {
        exchange.deadline.min(turn::now() + self.token_timeout)
    }
}

/// Counts a request whose client went away while it waited for a newer token.
struct Unfinished<'a> {
    exchange: &'a Record,
    settled: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.exchange.metrics.counters.replay(ReplayResult::Unfinished);
        }
    }
}

fn pass_on(answer: Answer<AnswerBody>, why: ReplayResult, exchange: &Record) -> Answer<AnswerBody> {
    exchange.metrics.counters.replay(why);
    answer
}

fn problem(NoToken { retry_after }: NoToken) -> Problem {
    Problem::NoToken { retry_after }
}

/// Reads an answer that nobody will see, within reason, so that its connection can be used again. What
/// has not come yet is waited for in a task of its own: mostly the body has come with its head, and that
/// costs none.
async fn drain(answer: Answer<AnswerBody>) {
    let (limit, time) = DRAIN;
    let mut body = answer.body;
    let all = async move {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, bytes::Bytes::len);
            if read > limit {
                return;
            }
        }
    };
    let mut all = Box::pin(all);
    if poll_fn(|cx| Poll::Ready(all.as_mut().poll(cx))).await.is_pending() {
        // Whether it ends or not, the answer knows what its connection is good for.
        tokio::task::spawn_local(async move { drop(tokio::time::timeout(time, all).await) });
    }
}

/// The word of RFC 9209 section 2.3 for what went wrong in connecting.
fn proxy_status(error: &ConnectError) -> &'static str {
    match error.reason() {
        "dns" => "dns_error",
        "connect_timeout" => "connection_timeout",
        reason if reason.starts_with("tls_") => "tls_certificate_error",
        "tls" => "tls_protocol_error",
        _ => "connection_refused",
    }
}
