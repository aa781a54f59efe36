//! From the environment to a running exporter.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter as Exporter};

/// What the environment asks for, as far as it is not read by the library itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Settings {
    /// Where spans go, path included.
    pub(super) endpoint: String,
}

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Unsupported {
    /// The variable asks for something other than OTLP over HTTP with protobuf.
    #[error("{0}: only http/protobuf is supported")]
    Protocol(&'static str),
    /// The exporter's client has no TLS.
    #[error("{0}: expected a URL that begins with http://, of a collector nearby")]
    Endpoint(&'static str),
}

impl Settings {
    /// Decides by the variables of the environment; an empty one counts as not set.
    pub(super) fn from(var: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, Unsupported> {
        const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        let var = |name| var(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());

        let disabled = var("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if disabled || var("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none") {
            return Ok(None);
        }
        // The one for traces is taken as it is, the one for everything gets the path of the signal.
        let (name, endpoint) = match (var(TRACES_ENDPOINT), var(ENDPOINT)) {
            (Some(endpoint), _) => (TRACES_ENDPOINT, endpoint),
            (None, Some(base)) => (ENDPOINT, format!("{}/v1/traces", base.trim_end_matches('/'))),
            (None, None) => return Ok(None),
        };
        if !endpoint.starts_with("http://") {
            return Err(Unsupported::Endpoint(name));
        }
        let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        let protocol = protocols.into_iter().find_map(|name| Some((name, var(name)?)));
        if let Some((name, _)) = protocol.filter(|(_, value)| value != "http/protobuf") {
            return Err(Unsupported::Protocol(name));
        }
        Ok(Some(Self { endpoint }))
    }
}

/// Starts the exporter on the current runtime.
pub(super) fn provider(settings: &Settings) -> Result<SdkTracerProvider, ExporterBuildError> {
    let exporter = SpanExporter::builder().with_http().with_endpoint(&settings.endpoint).build()?;
    let exporter = Reporting { exporter, failing: AtomicBool::new(false) };
    let batches = BatchSpanProcessor::builder(exporter, Tokio).build();
    Ok(SdkTracerProvider::builder().with_resource(resource()).with_span_processor(batches).build())
}

/// Who exports: what `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say, and our own name if
/// they do not give one.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let given = Resource::builder().build().get(&Key::from_static_str("service.name"));
    let builder = Resource::builder();
    let builder = match given {
        Some(name) if !name.as_str().starts_with("unknown_service") => builder,
        _ => builder.with_service_name("bearerd"),
    };
    builder.with_attribute(version).build()
}

/// Says in the log when the export begins to fail and when it works again. The library itself would
/// fail in silence.
#[derive(Debug)]
struct Reporting<E> {
    exporter: E,
    failing: AtomicBool,
}

impl<E: Exporter> Exporter for Reporting<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        let failed = self.failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !failed => tracing::warn!(%error, "spans cannot be exported and are lost"),
            Ok(()) if failed => tracing::info!("spans are exported again"),
            _ => (),
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(vars: &[(&str, &str)]) -> Result<Option<String>, Unsupported> {
        let var = |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Settings::from(var).map(|settings| settings.map(|settings| settings.endpoint))
    }

    #[test]
    fn export_is_off_unless_a_collector_is_named() {
        assert_eq!(from(&[]), Ok(None));
        assert_eq!(from(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]), Ok(None));
        assert_eq!(from(&[("OTEL_SERVICE_NAME", "x")]), Ok(None));
    }

    #[test]
    fn the_path_is_added_to_the_common_endpoint_only() {
        let common = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/own");
        assert_eq!(from(&[common]), Ok(Some("http://127.0.0.1:4318/v1/traces".into())));
        assert_eq!(from(&[common, traces]), Ok(Some("http://127.0.0.1:9/own".into())));
    }

    #[test]
    fn export_can_be_switched_off_with_a_collector_named() {
        let common = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        assert_eq!(from(&[common, ("OTEL_SDK_DISABLED", "TRUE")]), Ok(None));
        assert_eq!(from(&[common, ("OTEL_TRACES_EXPORTER", "none")]), Ok(None));
        assert!(from(&[common, ("OTEL_SDK_DISABLED", "false")]).unwrap().is_some());
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let common = "OTEL_EXPORTER_OTLP_ENDPOINT";
        assert_eq!(from(&[(common, "https://127.0.0.1:4318")]), Err(Unsupported::Endpoint(common)));
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert_eq!(from(&[(common, "http://127.0.0.1:4317"), grpc]), Err(Unsupported::Protocol(grpc.0)));
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf");
        assert!(from(&[(common, "http://127.0.0.1:4318"), grpc, traces]).unwrap().is_some());
    }
}
