//! What is remembered of an exchange, for metrics, the access log and traces.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::tunnel::Tunnel;
use crate::http1::Head;
use crate::metrics::ExchangeMetrics;
use crate::telemetry::{self, AccessLine, ExchangeSpan};
use crate::upstream::{AnswerBody, Progress, StreamError};

/// Counts the exchanges under way in all runtimes.
#[derive(Debug)]
pub(super) struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    /// One more, unless there are `limit` already.
    pub(super) fn enter(count: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let guard = Self(Arc::clone(count));
        (count.fetch_add(1, Ordering::Relaxed) < limit).then_some(guard)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One exchange, from the header of the request to the last byte of its answer. Counted, and
/// written to the log if that is asked for, when dropped.
pub(super) struct Exchange {
    /// The head of the request.
    pub(super) head: Head<Parts>,
    pub(super) record: Record,
    pub(super) progress: Cell<Progress>,
}

/// What becomes of an exchange.
pub(super) struct Record {
    pub(super) started: Instant,
    /// When the head of the answer must be there.
    pub(super) deadline: Instant,
    pub(super) metrics: Rc<ExchangeMetricsOf>,
    /// The status of the answer; 0 as long as there is none.
    pub(super) status: u16,
    pub(super) problem: Option<&'static str>,
    pub(super) resends: u32,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) upstream: Option<Duration>,
    pub(super) span: Option<Box<ExchangeSpan>>,
    /// The answer went out to its end.
    pub(super) complete: bool,
    pub(super) in_flight: Option<InFlight>,
}

/// One runtime's counters for a partner, and the name that they are under.
#[derive(Debug)]
pub(super) struct ExchangeMetricsOf {
    pub(super) partner: Box<str>,
    pub(super) counters: Arc<ExchangeMetrics>,
}

impl Record {
    pub(super) fn new(started: Instant, deadline: Instant, metrics: Rc<ExchangeMetricsOf>) -> Self {
        Self {
            started,
            deadline,
            metrics,
            status: 0,
            problem: None,
            resends: 0,
            bytes_in: 0,
            bytes_out: 0,
            upstream: None,
            span: None,
            complete: false,
            in_flight: None,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Self { head, record, .. } = self;
        let duration = record.started.elapsed();
        record.metrics.counters.server(record.status, duration);
        let span = record.span.take();
        // What broke off counts as an error, whatever its status.
        if telemetry::access().wants(if record.complete { record.status } else { 0 }) {
            let passed_on = || telemetry::trace_id_of(&head.headers);
            telemetry::access_line(&AccessLine {
                method: head.method.as_str(),
                path: head.uri.path(),
                status: record.status,
                partner: &record.metrics.partner,
                bytes_in: record.bytes_in,
                bytes_out: record.bytes_out,
                duration,
                upstream_duration: record.upstream,
                resend_count: record.resends,
                trace_id: span.as_ref().map(|span| span.trace_id()).or_else(passed_on),
                problem: record.problem.or_else(|| (!record.complete).then_some("broken_off")),
            });
        }
        if let Some(span) = span {
            span.end(&head.method, record.status, &record.metrics.partner, record.resends);
        }
    }
}

/// The body of the answer to the application, and with it the exchange.
pub struct ResponseBody {
    source: Source,
    exchange: Option<Box<Exchange>>,
}

enum Source {
    Whole(Option<Bytes>),
    Answer(AnswerBody),
    /// Of a 101: there is no body, and this is what follows.
    Tunnel(Box<Tunnel>),
}

impl ResponseBody {
    pub(super) fn whole(data: Bytes, exchange: Box<Exchange>) -> Self {
        Self { source: Source::Whole((!data.is_empty()).then_some(data)), exchange: Some(exchange) }.begun()
    }

    pub(super) fn answer(answer: AnswerBody, exchange: Box<Exchange>) -> Self {
        Self { source: Source::Answer(answer), exchange: Some(exchange) }.begun()
    }

    pub(super) fn tunnel(tunnel: Box<Tunnel>, exchange: Box<Exchange>) -> Self {
        Self { source: Source::Tunnel(tunnel), exchange: Some(exchange) }.begun()
    }

    /// There is none, and its exchange has ended.
    pub(super) fn none() -> Self {
        Self { source: Source::Whole(None), exchange: None }
    }

    /// Whether it is an answer of bearerd's own, so that nobody wants the request any more.
    pub fn is_own(&self) -> bool {
        matches!(self.source, Source::Whole(_))
    }

    /// What follows a 101, to be carried on the client's connection.
    pub fn into_tunnel(self) -> Option<Box<Tunnel>> {
        match self.source {
            Source::Tunnel(tunnel) => Some(tunnel),
            Source::Whole(_) | Source::Answer(_) => None,
        }
    }

    /// All of it, if it has come, which ends it. Most answers are so short that they have, and are
    /// had in this way without a frame.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let data = match &mut self.source {
            Source::Whole(data) => data.take(),
            Source::Answer(answer) => answer.take_whole(),
            Source::Tunnel(_) => None,
        }?;
        self.passed_on(data.len());
        self.finish();
        Some(data)
    }

    fn passed_on(&mut self, bytes: usize) {
        if let Some(exchange) = &mut self.exchange {
            exchange.record.bytes_out += bytes as u64;
        }
    }

    /// A body that is empty has ended as soon as its head is out.
    fn begun(mut self) -> Self {
        if self.is_end_stream() {
            self.finish();
        } else {
            self.look_whether_whole();
        }
        self
    }

    /// Whoever knows how long the answer is may not ask for its end.
    fn look_whether_whole(&mut self) {
        if let (Source::Answer(answer), Some(exchange)) = (&self.source, &mut self.exchange) {
            exchange.record.complete = answer.is_whole();
        }
    }

    fn finish(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.record.complete = true;
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        let frame = match &mut self.source {
            Source::Whole(data) => data.take().map(|data| Ok(Frame::data(data))),
            Source::Answer(answer) => ready!(Pin::new(answer).poll_frame(cx)),
            Source::Tunnel(_) => None,
        };
        if let Some(Ok(frame)) = &frame {
            self.passed_on(frame.data_ref().map_or(0, Bytes::len));
        }
        match &frame {
            None => self.finish(),
            Some(Ok(frame)) if frame.is_trailers() || self.is_end_stream() => self.finish(),
            Some(Ok(_)) => self.look_whether_whole(),
            Some(Err(_)) => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.record.complete = false;
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(data) => data.is_none(),
            Source::Answer(answer) => answer.is_end_stream(),
            Source::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(data) => SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64)),
            Source::Answer(answer) => answer.size_hint(),
            Source::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
