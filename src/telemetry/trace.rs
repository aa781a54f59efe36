//! Spans for whoever collects them, over OTLP.
//!
//! Export is on if the environment names a collector (`OTEL_EXPORTER_OTLP_ENDPOINT` or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`). Sampling, limits, batching, headers and resource
//! attributes follow the other standard `OTEL_*` variables. If it is off, no code of this file is
//! on the way of a request, and `traceparent` and `tracestate` pass through unchanged.
//!
//! Spans are handed to a task on the control runtime through a bounded queue. If that is full,
//! spans are lost and requests are not delayed.

mod export;
mod parent;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method};
use opentelemetry::trace::{
    Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};

pub use self::parent::trace_id_of;
use self::parent::{TRACEPARENT, TRACESTATE, TraceParent};

/// Makes spans and sees to their export.
#[derive(Debug)]
pub struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    ended: AtomicBool,
}

impl Tracing {
    /// Starts the export if the environment asks for it. What it asks for and cannot be done is
    /// logged as an error, and there is no export then.
    ///
    /// The exporter runs on the runtime that is current, which must be a multi-threaded one that
    /// lives until after [`shutdown`](Self::shutdown).
    pub fn from_env() -> Option<Self> {
        match export::Settings::from(|name| std::env::var(name).ok()) {
            Ok(None) => None,
            Ok(Some(settings)) => match export::provider(&settings) {
                Ok(provider) => Some(Self::new(provider)),
                Err(error) => {
                    tracing::error!(%error, "traces are not exported");
                    None
                }
            },
            Err(error) => {
                tracing::error!(%error, "traces are not exported");
                None
            }
        }
    }

    fn new(provider: SdkTracerProvider) -> Self {
        let tracer = provider.tracer("bearerd");
        Self { provider, tracer, ended: AtomicBool::new(false) }
    }

    /// Begins the span of an exchange, as a child of the one that `headers` name, if they name one.
    pub fn start(&self, headers: &HeaderMap) -> ExchangeSpan {
        let parent = TraceParent::of(headers);
        let context = parent.map_or_else(Context::new, |parent| {
            Context::new().with_remote_span_context(parent.span_context(headers))
        });
        // The method takes the place of this name at the end; an exchange that is given up keeps
        // it.
        let builder = self.tracer.span_builder("HTTP").with_kind(SpanKind::Server);
        let span = builder.start_with_context(&self.tracer, &context);
        let traceparent = traceparent(span.span_context());
        ExchangeSpan { span, traceparent, has_parent: parent.is_some() }
    }

    /// Ends the export once everything queued has been sent, or after `timeout`.
    pub async fn shutdown(&self, timeout: Duration) {
        let (done, ended) = tokio::sync::oneshot::channel();
        self.end(move || {
            let _ = done.send(());
        });
        if tokio::time::timeout(timeout, ended).await.is_err() {
            tracing::warn!("the last spans could not be exported in time");
        }
    }

    /// The library waits for the exporter by blocking, which would stop the very runtime that it
    /// waits for if that has one thread; so this is done on a thread of its own.
    fn end(&self, then: impl FnOnce() + Send + 'static) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return then();
        }
        let provider = self.provider.clone();
        let flush = move || {
            let _ = provider.shutdown();
            then();
        };
        let _ = std::thread::Builder::new().name("trace-flush".into()).spawn(flush);
    }
}

impl Drop for Tracing {
    /// Otherwise the library would flush here, blocking.
    fn drop(&mut self) {
        self.end(|| ());
    }
}

/// The span of one exchange. Dropped without [`end`](Self::end), it ends without a status.
#[derive(Debug)]
pub struct ExchangeSpan {
    span: Span,
    traceparent: String,
    has_parent: bool,
}

impl ExchangeSpan {
    /// Makes this span the parent of whatever the partner does. `tracestate` stays as it came,
    /// unless it came without a valid `traceparent`, when it means nothing (W3C Trace Context
    /// section 3.3.1).
    pub fn inject(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.traceparent) {
            headers.insert(TRACEPARENT, value);
        }
        if !self.has_parent {
            headers.remove(TRACESTATE);
        }
    }

    /// The trace that this span belongs to, in 32 hex digits.
    pub fn trace_id(&self) -> &str {
        &self.traceparent[3..35]
    }

    /// Ends the span of a request that was answered with `status`, or with nothing if that is 0.
    pub fn end(mut self, method: &Method, status: u16, partner: &str, resend_count: u32) {
        if !self.span.is_recording() {
            return;
        }
        let method = known(method);
        self.span.update_name(if method == OTHER { "HTTP" } else { method });
        self.span.set_attribute(KeyValue::new("http.request.method", method));
        if !partner.is_empty() {
            self.span.set_attribute(KeyValue::new("bearerd.partner", partner.to_owned()));
        }
        if resend_count > 0 {
            self.span.set_attribute(KeyValue::new("http.request.resend_count", i64::from(resend_count)));
        }
        if status != 0 {
            self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        }
        if status == 0 || status >= 500 {
            let kind = if status == 0 { "unanswered".to_owned() } else { status.to_string() };
            self.span.set_attribute(KeyValue::new("error.type", kind));
            self.span.set_status(Status::error(""));
        }
        self.span.end();
    }
}

/// What the semantic conventions write for a method that they do not know.
const OTHER: &str = "_OTHER";

/// The method from a closed list, because clients make methods up.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"];
    KNOWN.into_iter().find(|known| method.as_str() == *known).unwrap_or(OTHER)
}

/// `version "-" trace-id "-" parent-id "-" trace-flags` (W3C Trace Context section 3.2)
fn traceparent(span: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), u8::from(span.is_sampled()))
}

#[cfg(test)]
mod tests;
