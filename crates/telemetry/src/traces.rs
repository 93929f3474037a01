//! Traces for an OpenTelemetry collector, over OTLP by gRPC or HTTP; W3C trace context in and out.
//!
//! Spans are created with the OpenTelemetry API itself, and only for sampled requests: a request
//! that is not sampled costs hardly anything. They wait in a queue of fixed length for a dedicated
//! thread. A span that does not fit in, or that the collector rejects, is dropped.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use fireflow_auth::Secret;
use fireflow_storage::Observed;
use http::{HeaderMap, HeaderValue};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Span, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    Protocol, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, SpanData};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

use super::metrics::Exports;
use super::request::RequestRecord;

/// The timeout for sending a batch of spans to the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest text of a statement in a span, in bytes. A statement for a thousand rows has
/// thousands of placeholders, which nobody reads, in each span of a batch.
const MAX_QUERY_TEXT: usize = 2_000;
/// The response header with the request's trace (W3C Trace Context Level 2, 4.1).
pub const TRACE_RESPONSE: http::HeaderName = http::HeaderName::from_static("traceresponse");

/// The collector of traces.
#[derive(Debug, Clone)]
pub struct OtlpSettings {
    /// The collector's URL.
    pub endpoint: String,
    /// The protocol of the collector.
    pub protocol: OtlpProtocol,
    /// The fraction of requests that is traced, from 0 to 1.
    pub sample_ratio: f64,
    /// Headers for the collector, such as its key.
    pub headers: Vec<(String, Secret)>,
}

/// The protocol of a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtlpProtocol {
    /// gRPC.
    Grpc,
    /// Protobuf over HTTP.
    Http,
}

/// Creates spans and sends them to a collector.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    database: &'static str,
    /// How many of 2⁶⁴ requests are recorded.
    sampled: u64,
}

/// The trace that a request is part of.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Its ids; `None` if nobody traces the request.
    context: Option<SpanContext>,
    /// The request's own span, if it is recorded.
    recorded: Option<Context>,
}

impl Trace {
    /// The trace that a client's headers name for its request (W3C Trace Context), if any.
    #[must_use]
    pub fn told(headers: &HeaderMap) -> Self {
        Self { context: told(headers).map(|it| it.span().span_context().clone()), recorded: None }
    }

    /// Its id, in 32 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.context.as_ref().map(|context| context.trace_id().to_string())
    }

    /// The request's own span, if it is recorded.
    #[must_use]
    pub const fn recorded(&self) -> Option<&Context> {
        self.recorded.as_ref()
    }
}

/// A ratio from 0 to 1 as a fraction of 2⁶⁴.
fn part_of_all(ratio: f64) -> u64 {
    // Saturates at either end; the rounding error between them is negligible.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as it says")]
    let part = (ratio * 2_f64.powi(64)) as u64;
    part
}

/// The context in a client's `traceparent` and `tracestate`.
fn told(headers: &HeaderMap) -> Option<Context> {
    if !headers.contains_key("traceparent") {
        return None;
    }
    let context = TraceContextPropagator::new().extract(&Headers(headers));
    context.span().span_context().is_valid().then_some(context)
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

impl Traces {
    /// Sends to a collector, which need not be reachable yet. Must be called within a Tokio
    /// runtime.
    ///
    /// # Errors
    /// Returns an error if the endpoint or a header is invalid.
    pub fn new(
        settings: &OtlpSettings,
        environment: &str,
        database: &'static str,
        exports: Exports,
    ) -> anyhow::Result<Self> {
        let exporter =
            Counting { exporter: exporter(settings)?, exports, is_failing: AtomicBool::new(false) };
        let resource = Resource::builder()
            .with_service_name("fireflow")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("deployment.environment.name", environment.to_owned()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            // Only a recorded request gets a span: see `begin`.
            .with_sampler(Sampler::AlwaysOn)
            .with_batch_exporter(exporter)
            .build();
        let tracer = provider.tracer("fireflow");
        Ok(Self { provider, tracer, database, sampled: part_of_all(settings.sample_ratio) })
    }

    /// Finds the trace that a request is part of, and begins its span if it is to be recorded. The
    /// client's decision counts; without one, `chance` decides, which is a random number. A request
    /// that is not recorded costs nothing.
    #[must_use]
    pub fn begin(
        &self,
        headers: &HeaderMap,
        method: &'static str,
        route: Option<&str>,
        chance: u64,
    ) -> Trace {
        let told = Trace::told(headers);
        let is_recorded = match &told.context {
            Some(context) => context.is_sampled(),
            None => chance < self.sampled || self.sampled == u64::MAX,
        };
        if !is_recorded {
            return told;
        }
        let parent = told
            .context
            .map_or_else(Context::new, |context| Context::new().with_remote_span_context(context));
        let name = match route {
            Some(route) => Cow::Owned(format!("{method} {route}")),
            None => Cow::Borrowed(method),
        };
        let builder = SpanBuilder::from_name(name).with_kind(SpanKind::Server);
        let mut span = self.tracer.build_with_context(builder, &parent);
        let context = Some(span.span_context().clone());
        span.set_attribute(KeyValue::new("http.request.method", method));
        if let Some(route) = route {
            span.set_attribute(KeyValue::new("http.route", route.to_owned()));
        }
        Trace { context, recorded: Some(parent.with_span(span)) }
    }

    /// Ends a request's span.
    pub fn end_request(&self, request: &RequestRecord, status: u16) {
        let Some(context) = request.trace.recorded() else { return };
        let span = context.span();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        span.set_attribute(KeyValue::new("fireflow.request_id", request.id.clone()));
        if status >= 500 {
            span.set_status(Status::error(""));
        }
        span.end();
    }

    /// Begins the span of a use case, named after its operation.
    pub(super) fn use_case(&self, parent: &Context, operation: &str) -> Context {
        let builder = SpanBuilder::from_name(operation.to_owned()).with_kind(SpanKind::Internal);
        parent.with_span(self.tracer.build_with_context(builder, parent))
    }

    /// Records the span of a database operation that has just ended.
    pub(super) fn statement(&self, parent: &Context, it: &Observed<'_>) {
        #[expect(clippy::disallowed_methods, reason = "spans use the system's time")]
        let end = SystemTime::now();
        let operation = it.operation.as_str().to_ascii_uppercase();
        let table = it.table();
        let name = match table {
            Some(table) => format!("{operation} {table}"),
            None => operation.clone(),
        };
        let mut attributes = vec![
            KeyValue::new("db.system.name", self.database),
            KeyValue::new("db.operation.name", operation),
        ];
        if let Some(table) = table {
            attributes.push(KeyValue::new("db.collection.name", table.to_owned()));
        }
        if !it.sql.is_empty() {
            attributes.push(KeyValue::new("db.query.text", shortened(it.sql)));
        }
        let builder = SpanBuilder::from_name(name)
            .with_kind(SpanKind::Client)
            .with_start_time(end.checked_sub(it.elapsed).unwrap_or(end))
            .with_attributes(attributes);
        let mut span = self.tracer.build_with_context(builder, parent);
        if it.failed {
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(end);
    }

    /// Sends the queued spans, within a time limit.
    pub(super) fn end(&self, limit: Duration) {
        if let Err(error) = self.provider.shutdown_with_timeout(limit) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// A statement's text, with `…` for what exceeds the limit.
fn shortened(sql: &str) -> String {
    match sql.split_at_checked(sql.floor_char_boundary(MAX_QUERY_TEXT)) {
        Some((told, left)) if !left.is_empty() => format!("{told}…"),
        Some(_) | None => sql.to_owned(),
    }
}

impl Trace {
    /// The trace in the form of the response header, if it is recorded.
    #[must_use]
    pub fn response_header(&self) -> Option<HeaderValue> {
        let context = self.context.as_ref().filter(|_| self.recorded.is_some())?;
        let (trace, span) = (context.trace_id(), context.span_id());
        HeaderValue::from_str(&format!("00-{trace}-{span}-{:02x}", context.trace_flags())).ok()
    }
}

fn exporter(settings: &OtlpSettings) -> anyhow::Result<SpanExporter> {
    let headers = settings.headers.iter().map(|(name, value)| (name.clone(), value.clone()));
    match settings.protocol {
        OtlpProtocol::Grpc => {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                let mut value = HeaderValue::from_bytes(value.reveal())?;
                value.set_sensitive(true);
                map.insert(name.parse::<http::HeaderName>()?, value);
            }
            Ok(SpanExporter::builder()
                .with_tonic()
                .with_channel(channel(&settings.endpoint)?)
                .with_timeout(EXPORT_TIMEOUT)
                .with_metadata(MetadataMap::from_headers(map))
                .build()?)
        }
        OtlpProtocol::Http => {
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            let headers = headers.map(|(name, value)| (name, text(value.reveal()))).collect();
            Ok(SpanExporter::builder()
                .with_http()
                .with_endpoint(traces_url(&settings.endpoint))
                .with_protocol(Protocol::HttpBinary)
                .with_timeout(EXPORT_TIMEOUT)
                .with_headers(headers)
                .with_http_client(Client::new())
                .build()?)
        }
    }
}

/// A connection that is opened on demand, and reopened when it is lost.
fn channel(endpoint: &str) -> anyhow::Result<Channel> {
    let mut channel = Endpoint::from_shared(endpoint.to_owned())?
        .timeout(EXPORT_TIMEOUT)
        .connect_timeout(EXPORT_TIMEOUT)
        // Without keep-alive, a collector that stops answering would block the connection for as
        // long as the system keeps it.
        .http2_keep_alive_interval(EXPORT_TIMEOUT)
        .keep_alive_timeout(EXPORT_TIMEOUT)
        .keep_alive_while_idle(true);
    if endpoint.starts_with("https:") {
        channel = channel.tls_config(ClientTlsConfig::new().with_enabled_roots())?;
    }
    Ok(channel.connect_lazy())
}

/// The URL for traces under a collector's base URL (OTLP 1.x, "OTLP/HTTP request").
fn traces_url(endpoint: &str) -> String {
    let bare = endpoint.trim_end_matches('/');
    if bare.ends_with("/v1/traces") { bare.to_owned() } else { format!("{bare}/v1/traces") }
}

/// A blocking HTTP client: it runs in a thread of its own.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(EXPORT_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .build();
        Self(config.new_agent())
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let answer = self.0.run(http::Request::from_parts(parts, body.to_vec()))?;
        let (parts, mut body) = answer.into_parts();
        Ok(http::Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}

/// An exporter that counts the accepted spans, and logs when the collector stops or resumes
/// accepting them.
#[derive(Debug)]
struct Counting {
    exporter: SpanExporter,
    exports: Exports,
    is_failing: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Counting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let result = self.exporter.export(batch).await;
        self.exports.count(spans, result.is_ok());
        let was_failing = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !was_failing => {
                tracing::warn!(%error, "the collector accepts no traces; requests are not \
                                        affected");
            }
            Ok(()) if was_failing => tracing::info!("the collector accepts traces again"),
            Ok(()) | Err(_) => {}
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

    #[test]
    fn a_clients_trace_is_read_and_nothing_else_is() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", text.parse().unwrap());
            Trace::told(&headers).id()
        };
        let id = "0af7651916cd43dd8448eb211c80319c";
        assert_eq!(of(&format!("00-{id}-b7ad6b7169203331-01")).as_deref(), Some(id));
        for bad in [
            "",
            "x",
            id,
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(Trace::told(&HeaderMap::new()).id(), None);
    }

    #[test]
    fn ratios_are_parts_of_all() {
        assert_eq!((part_of_all(0.0), part_of_all(1.0)), (0, u64::MAX));
        assert_eq!(part_of_all(0.5), 1 << 63);
    }

    #[test]
    fn traces_have_a_path_of_their_own() {
        for endpoint in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
            assert_eq!(traces_url(endpoint), "http://c:4318/v1/traces");
        }
    }

    #[test]
    fn a_long_statement_is_told_in_part() {
        let whole = "?".repeat(MAX_QUERY_TEXT);
        assert_eq!(shortened(&whole), whole);
        assert_eq!(shortened(&format!("{whole}?")), format!("{whole}…"));
        // Never cuts within a character.
        let odd = format!("?{}", "ä".repeat(MAX_QUERY_TEXT));
        assert_eq!(shortened(&odd), format!("?{}…", "ä".repeat(MAX_QUERY_TEXT / 2 - 1)));
        assert_eq!(shortened(""), "");
    }
}
