//! What is remembered of an exchange, for metrics, the access log and traces.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Uri};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::replay::RequestBody;
use crate::metrics::ExchangeMetrics;
use crate::telemetry::{self, AccessLine, ExchangeSpan};
use crate::upstream::{Answer, StreamError};

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
    pub(super) started: Instant,
    /// When the head of the answer must be there.
    pub(super) deadline: Instant,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) metrics: Rc<ExchangeMetricsOf>,
    /// The status of the answer; 0 as long as there is none.
    pub(super) status: u16,
    pub(super) problem: Option<&'static str>,
    pub(super) resends: u32,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) upstream: Option<Duration>,
    pub(super) trace_id: Option<Box<str>>,
    pub(super) span: Option<Box<ExchangeSpan>>,
    /// The answer went out to its end.
    pub(super) complete: bool,
    pub(super) _in_flight: Option<InFlight>,
}

/// One runtime's counters for a partner, and the name that they are under.
#[derive(Debug)]
pub(super) struct ExchangeMetricsOf {
    pub(super) partner: Box<str>,
    pub(super) counters: Arc<ExchangeMetrics>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let duration = self.started.elapsed();
        self.metrics.counters.server(self.status, duration);
        // What broke off counts as an error, whatever its status.
        if telemetry::access().wants(if self.complete { self.status } else { 0 }) {
            telemetry::access_line(&AccessLine {
                method: self.method.as_str(),
                path: self.uri.path(),
                status: self.status,
                partner: &self.metrics.partner,
                bytes_in: self.bytes_in,
                bytes_out: self.bytes_out,
                duration,
                upstream_duration: self.upstream,
                resend_count: self.resends,
                trace_id: self.trace_id.as_deref(),
                problem: self.problem.or_else(|| (!self.complete).then_some("broken_off")),
            });
        }
        if let Some(span) = self.span.take() {
            span.end(&self.method, self.status, &self.metrics.partner, self.resends);
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
    Answer(Answer<RequestBody>),
}

impl ResponseBody {
    pub(super) fn whole(data: Bytes, exchange: Box<Exchange>) -> Self {
        Self { source: Source::Whole((!data.is_empty()).then_some(data)), exchange: Some(exchange) }.begun()
    }

    pub(super) fn answer(answer: Answer<RequestBody>, exchange: Box<Exchange>) -> Self {
        Self { source: Source::Answer(answer), exchange: Some(exchange) }.begun()
    }

    /// A body that is empty has ended as soon as its head is out.
    fn begun(mut self) -> Self {
        if self.is_end_stream() {
            self.finish();
        }
        self
    }

    fn finish(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.complete = true;
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
        };
        if let (Some(Ok(frame)), Some(exchange)) = (&frame, &mut self.exchange) {
            exchange.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        let ended = match &frame {
            None => true,
            Some(Ok(frame)) => frame.is_trailers() || self.is_end_stream(),
            Some(Err(_)) => false,
        };
        if ended {
            self.finish();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole(data) => data.is_none(),
            Source::Answer(answer) => answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole(data) => SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64)),
            Source::Answer(answer) => answer.size_hint(),
        }
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
