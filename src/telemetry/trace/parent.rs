//! The trace that a request came with (W3C Trace Context).

use http::{HeaderMap, HeaderName};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

/// The header that names the caller's span.
pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// What vendors add to it.
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The id of the trace that a request belongs to, 32 hex digits, if it names one properly. For the
/// access log where no spans are made.
pub fn trace_id_of(headers: &HeaderMap) -> Option<&str> {
    TraceParent::of(headers).map(|parent| parent.trace_id)
}

/// A valid `traceparent`: `00-<32 hex digits>-<16 hex digits>-<2 hex digits>`, in lower case,
/// neither id all zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct TraceParent<'a> {
    trace_id: &'a str,
    span_id: &'a str,
    flags: &'a str,
}

impl<'a> TraceParent<'a> {
    /// The one that `headers` hold. Two of them are as good as none.
    pub(super) fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        let value = value.to_str().ok().filter(|value| value.len() == 55)?;
        let mut fields = value.split('-');
        let mut field = |digits: usize| {
            let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
            fields.next().filter(|field| field.len() == digits && field.bytes().all(is_hex))
        };
        let (version, trace_id, span_id, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        let is_zero = |id: &str| id.bytes().all(|b| b == b'0');
        let valid = version != "ff" && !is_zero(trace_id) && !is_zero(span_id);
        valid.then_some(Self { trace_id, span_id, flags })
    }

    /// The same as the library's type, with what `headers` hold of `tracestate`.
    pub(super) fn span_context(&self, headers: &HeaderMap) -> SpanContext {
        let flags = u8::from_str_radix(self.flags, 16).unwrap_or_default();
        let state = headers.get(TRACESTATE).and_then(|value| value.to_str().ok());
        SpanContext::new(
            TraceId::from_hex(self.trace_id).unwrap_or(TraceId::INVALID),
            SpanId::from_hex(self.span_id).unwrap_or(SpanId::INVALID),
            TraceFlags::new(flags) & TraceFlags::SAMPLED,
            true,
            state.and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn id_of(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().unwrap());
        }
        trace_id_of(&headers).map(str::to_owned)
    }

    #[test]
    fn a_proper_traceparent_names_its_trace() {
        assert_eq!(id_of(&[&format!("00-{TRACE}-b7ad6b7169203331-01")]).as_deref(), Some(TRACE));
        assert_eq!(id_of(&[&format!("00-{TRACE}-b7ad6b7169203331-00")]).as_deref(), Some(TRACE));
    }

    #[test]
    fn anything_else_names_none() {
        let good = format!("00-{TRACE}-b7ad6b7169203331-01");
        for bad in [
            "",
            &good[..54],
            &format!("{good}-x"),
            &good.to_uppercase(),
            &good.replace('-', "_"),
            &format!("ff-{TRACE}-b7ad6b7169203331-01"),
            &format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            &format!("00-{TRACE}-{}-01", "0".repeat(16)),
            &format!("00-{TRACE}-b7ad6b716920333g-01"),
            &format!("00-{TRACE}b-7ad6b7169203331-01"),
            &format!("0-0{TRACE}-b7ad6b7169203331-01"),
        ] {
            assert_eq!(id_of(&[bad]), None, "{bad}");
        }
        assert_eq!(id_of(&[]), None);
        assert_eq!(id_of(&[&good, &good]), None);
    }
}
