//! Metrics for Prometheus. The registry belongs to the service and is not global.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fireflow_auth::KeyFileStatus;
use fireflow_domain::rule::Action;
use fireflow_service::inspections::InspectionCacheState;
use fireflow_storage::{Observed, Operation, PoolState};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::process;

/// Upper bounds of the buckets of all durations, in seconds.
const BUCKETS: [f64; 15] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

#[derive(Debug, Clone)]
struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        Histogram::new(BUCKETS)
    }
}

macro_rules! labels {
    ($($name:ident { $($label:ident: $type:ty),+ })+) => {
        $(
            #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
            struct $name { $($label: $type),+ }
        )+
    };
}

labels! {
    OfRequest { method: &'static str, route: Arc<str>, status: u16 }
    OfRoute { method: &'static str, route: Arc<str> }
    OfReason { reason: &'static str }
    OfResult { result: &'static str }
    OfKeyFile { file: &'static str }
    OfOperation { operation: &'static str }
    OfPool { pool: &'static str }
    OfPoolState { pool: &'static str, state: &'static str }
    OfAction { action: &'static str }
    OfExport { signal: &'static str, result: &'static str }
    OfUse { purpose: &'static str }
    OfBuild { version: &'static str, database: &'static str }
}

/// The format of a page of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0, which Prometheus asks for.
    OpenMetrics,
    /// Prometheus' own text, 0.0.4.
    Prometheus,
}

impl Exposition {
    /// The format that an `Accept` header asks for.
    #[must_use]
    pub fn asked_for(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    /// The format's media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Values that are looked up when a page of metrics is requested.
#[derive(Debug, Clone)]
pub struct Sampled {
    /// Whether requests can be served.
    pub is_ready: bool,
    /// `sqlite` or `postgres`.
    pub database: &'static str,
    /// The pools of connections.
    pub pools: Vec<(&'static str, PoolState)>,
    /// How many tokens were found in the cache of verified tokens, and how many were not.
    pub token_lookups: (u64, u64),
    /// The state of the files of secrets, public keys and revocations.
    pub key_files: Vec<KeyFileStatus>,
    /// The cache of policies that are compiled for inspections.
    pub compiled: InspectionCacheState,
    /// Packet streams that are being inspected.
    pub streams: u64,
    /// The memory that requests have borrowed.
    pub budget: MemoryState,
    /// When the process started, in seconds since 1970.
    pub started_at: f64,
}

/// The memory that requests borrow.
#[derive(Debug, Clone)]
pub struct MemoryState {
    /// The whole budget, in bytes.
    pub capacity: u64,
    /// The borrowed memory, by purpose.
    pub uses: Vec<MemoryUse>,
    /// How many requests wait for memory.
    pub waiting: u64,
}

/// The memory that is borrowed for one purpose.
#[derive(Debug, Clone, Copy)]
pub struct MemoryUse {
    /// The purpose's name.
    pub purpose: &'static str,
    /// How much is borrowed, in bytes.
    pub used: u64,
    /// How many requests were refused since the start.
    pub refused: u64,
}

/// Counts the spans that were handed to the collector.
#[derive(Debug, Clone)]
pub struct Exports {
    sent: Counter,
    failed: Counter,
}

impl Exports {
    /// Counts spans that the collector accepted or rejected.
    pub fn count(&self, spans: u64, were_taken: bool) {
        let counter = if were_taken { &self.sent } else { &self.failed };
        counter.inc_by(spans);
    }
}

/// All numbers.
pub struct Metrics {
    registry: Registry,
    requests: Family<OfRequest, Counter>,
    durations: Family<OfRoute, Histogram, Durations>,
    /// Requests that are being served.
    pub in_flight: Gauge,
    /// Open connections.
    pub connections: Gauge,
    authentication_failures: Family<OfReason, Counter>,
    token_lookups: Family<OfResult, Counter>,
    key_files_ok: Family<OfKeyFile, Gauge>,
    key_file_entries: Family<OfKeyFile, Gauge>,
    key_file_failures: Family<OfKeyFile, Counter>,
    statements: [(Histogram, Counter); Operation::ALL.len()],
    pools: Family<OfPoolState, Gauge>,
    pool_limits: Family<OfPool, Gauge>,
    inspections: [Counter; Action::ALL.len()],
    inspection_durations: Histogram,
    streams: Gauge,
    answered_streams: Counter,
    cut_off_streams: Counter,
    work_memory: Family<OfUse, Gauge>,
    work_memory_max: Gauge,
    work_refusals: Family<OfUse, Counter>,
    work_waiting: Gauge,
    compilations: Family<OfResult, Counter>,
    compile_durations: Histogram,
    compiled_lookups: Family<OfResult, Counter>,
    compiled_policies: Gauge,
    compiled_bytes: Gauge,
    /// Panics anywhere in the process.
    pub panics: Counter,
    /// Spans that were exported, or failed to be.
    pub exports: Exports,
    /// Error events that were handed to the error tracker.
    pub error_events: Counter,
    ready: Gauge,
    build: Family<OfBuild, Gauge>,
    cpu: Counter<f64, AtomicU64>,
    memory: Gauge,
    files: Gauge,
    started_at: Gauge<f64, AtomicU64>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers all metrics. Those with few label values exist from the beginning, at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix("fireflow");
        macro_rules! register {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                ours.register($name, $help, metric.clone());
                metric
            }};
            ($name:literal, $unit:expr, $help:literal, $metric:expr) => {{
                let metric = $metric;
                ours.register_with_unit($name, $help, $unit, metric.clone());
                metric
            }};
        }
        let statements = register!(
            "database_statement_duration",
            Unit::Seconds,
            "Duration of database statements, by operation; begin includes the wait for a \
             connection",
            Family::<OfOperation, Histogram, Durations>::new_with_constructor(Durations)
        );
        let statement_failures = register!(
            "database_statement_failures",
            "Failed database statements, including refused duplicates",
            Family::<OfOperation, Counter>::default()
        );
        let inspections = register!(
            "inspections",
            "Inspected packets, by action",
            Family::<OfAction, Counter>::default()
        );
        let ended_streams = register!(
            "inspection_streams_ended",
            "Packet streams that were answered completely, or were cut off",
            Family::<OfResult, Counter>::default()
        );
        let ended_streams = |result| ended_streams.get_or_create_owned(&OfResult { result });
        let exports = register!(
            "telemetry_exports",
            "Spans that the collector accepted, and those that it did not accept",
            Family::<OfExport, Counter>::default()
        );
        let of_operation = |operation: Operation| OfOperation { operation: operation.as_str() };
        let metrics = Self {
            requests: register!("http_requests", "Finished requests", Family::default()),
            durations: register!(
                "http_request_duration",
                Unit::Seconds,
                "Time until the response headers",
                Family::new_with_constructor(Durations)
            ),
            in_flight: register!(
                "http_requests_in_flight",
                "Requests in progress",
                Gauge::default()
            ),
            connections: register!("http_connections", "Open connections", Gauge::default()),
            authentication_failures: register!(
                "authentication_failures",
                "Requests whose token was refused, by reason",
                Family::default()
            ),
            token_lookups: register!(
                "token_cache_lookups",
                "Lookups in the cache of verified tokens",
                Family::default()
            ),
            key_files_ok: register!(
                "key_file_ok",
                "Whether a whole file of secrets, public keys or revocations is in use",
                Family::default()
            ),
            key_file_entries: register!(
                "key_file_entries",
                "Secrets, public keys or revocations of a file that are in use",
                Family::default()
            ),
            key_file_failures: register!(
                "key_file_failures",
                "Reads of a file of secrets, public keys or revocations that found a fault",
                Family::default()
            ),
            statements: Operation::ALL.map(|operation| {
                (
                    statements.get_or_create_owned(&of_operation(operation)),
                    statement_failures.get_or_create_owned(&of_operation(operation)),
                )
            }),
            pools: register!(
                "database_connections",
                "Connections to the database, by pool and state",
                Family::default()
            ),
            pool_limits: register!(
                "database_connections_max",
                "The maximum number of connections of a pool",
                Family::default()
            ),
            inspections: Action::ALL.map(|action| {
                inspections.get_or_create_owned(&OfAction { action: action.as_str() })
            }),
            inspection_durations: register!(
                "inspection_duration",
                Unit::Seconds,
                "Duration of inspection requests, including reading the rules",
                Histogram::new(BUCKETS)
            ),
            streams: register!(
                "inspection_streams",
                "Packet streams that are being inspected",
                Gauge::default()
            ),
            answered_streams: ended_streams("answered"),
            cut_off_streams: ended_streams("cut_off"),
            work_memory: register!(
                "work_memory",
                Unit::Bytes,
                "Memory that requests have borrowed, by purpose",
                Family::default()
            ),
            work_memory_max: register!(
                "work_memory_max",
                Unit::Bytes,
                "The maximum memory that requests may borrow",
                Gauge::default()
            ),
            work_refusals: register!(
                "work_memory_refusals",
                "Requests that were refused because no memory was free, by purpose",
                Family::default()
            ),
            work_waiting: register!(
                "work_memory_waiting",
                "Requests that are waiting for memory",
                Gauge::default()
            ),
            compilations: register!(
                "classifier_compilations",
                "Policies that were compiled, updated with the changed rules, or over their budget",
                Family::default()
            ),
            compile_durations: register!(
                "classifier_compile_duration",
                Unit::Seconds,
                "Duration of compilations",
                Histogram::new(BUCKETS)
            ),
            compiled_lookups: register!(
                "classifier_cache_lookups",
                "Inspections, by whether the cache contained their compiled policy",
                Family::default()
            ),
            compiled_policies: register!(
                "classifier_cache_policies",
                "Compiled policies in the cache",
                Gauge::default()
            ),
            compiled_bytes: register!(
                "classifier_cache",
                Unit::Bytes,
                "Approximate memory of compiled policies in the cache",
                Gauge::default()
            ),
            panics: register!("panics", "Panics", Counter::default()),
            exports: {
                let of =
                    |result| exports.get_or_create_owned(&OfExport { signal: "traces", result });
                Exports { sent: of("sent"), failed: of("failed") }
            },
            error_events: register!(
                "error_events",
                "Error events that were handed to the error tracker",
                Counter::default()
            ),
            ready: register!("ready", "Whether requests can be served", Gauge::default()),
            build: register!(
                "build_info",
                "The version of FireFlow, and the kind of its database",
                Family::default()
            ),
            cpu: Counter::default(),
            memory: Gauge::default(),
            files: Gauge::default(),
            started_at: Gauge::default(),
            registry: Registry::default(),
        };
        let process = registry.sub_registry_with_prefix("process");
        process.register_with_unit("cpu", "CPU time used", Unit::Seconds, metrics.cpu.clone());
        process.register_with_unit(
            "resident_memory",
            "Resident memory",
            Unit::Bytes,
            metrics.memory.clone(),
        );
        process.register("open_fds", "Open file descriptors", metrics.files.clone());
        process.register_with_unit(
            "start_time",
            "Start time of the process, since 1970",
            Unit::Seconds,
            metrics.started_at.clone(),
        );
        Self { registry, ..metrics }
    }

    /// Counts a request that was answered.
    pub fn request(&self, method: &'static str, route: &Arc<str>, status: u16, took: Duration) {
        let of_route = OfRoute { method, route: Arc::clone(route) };
        self.durations.get_or_create(&of_route).observe(took.as_secs_f64());
        let OfRoute { method, route } = of_route;
        self.requests.get_or_create(&OfRequest { method, route, status }).inc();
    }

    /// Counts a policy that was `compiled` or `updated`, or was `over_budget`.
    pub fn compiled(&self, took: Duration, result: &'static str) {
        self.compilations.get_or_create(&OfResult { result }).inc();
        self.compile_durations.observe(took.as_secs_f64());
    }

    /// Counts a token that was refused.
    pub fn authentication_failure(&self, reason: &'static str) {
        self.authentication_failures.get_or_create(&OfReason { reason }).inc();
    }

    /// Counts an operation at the database.
    pub fn statement(&self, it: &Observed<'_>) {
        let at = Operation::ALL.iter().position(|operation| *operation == it.operation);
        if let Some((duration, failures)) = at.and_then(|at| self.statements.get(at)) {
            duration.observe(it.elapsed.as_secs_f64());
            if it.failed {
                failures.inc();
            }
        }
    }

    /// Counts a request for inspections, and its packets by their action.
    pub fn inspected<'a>(&self, actions: impl IntoIterator<Item = &'a str>, took: Duration) {
        let mut counts = [0_u64; Action::ALL.len()];
        for action in actions {
            let at = Action::ALL.iter().position(|it| it.as_str() == action);
            if let Some(count) = at.and_then(|at| counts.get_mut(at)) {
                *count += 1;
            }
        }
        self.inspected_in_stream(counts);
        self.inspection_durations.observe(took.as_secs_f64());
    }

    /// Counts the packets of a stream by their action, in the order of [`Action::ALL`].
    pub fn inspected_in_stream(&self, counts: [u64; Action::ALL.len()]) {
        for (counter, count) in self.inspections.iter().zip(counts) {
            counter.inc_by(count);
        }
    }

    /// Counts a stream of packets that was answered completely, or was cut off.
    pub fn stream_ended(&self, is_whole: bool) {
        let counter = if is_whole { &self.answered_streams } else { &self.cut_off_streams };
        counter.inc();
    }

    /// All metrics as text. Reads files of the system, so do not call it on the threads that serve
    /// requests.
    #[must_use]
    pub fn page(&self, sampled: &Sampled, exposition: Exposition) -> String {
        self.set(sampled);
        let mut page = String::with_capacity(32 * 1024);
        let written = match exposition {
            Exposition::OpenMetrics => text::encode(&mut page, &self.registry),
            Exposition::Prometheus => prometheus_text::encode(&mut page, &self.registry),
        };
        // Writing to a string cannot fail.
        if written.is_err() {
            tracing::error!("the metrics were not written");
        }
        page
    }

    fn set(&self, sampled: &Sampled) {
        self.ready.set(i64::from(sampled.is_ready));
        let build = OfBuild { version: env!("CARGO_PKG_VERSION"), database: sampled.database };
        self.build.get_or_create(&build).set(1);
        let compiled = &sampled.compiled;
        for (family, (hits, misses)) in [
            (&self.token_lookups, sampled.token_lookups),
            (&self.compiled_lookups, (compiled.hits, compiled.misses)),
        ] {
            for (result, count) in [("hit", hits), ("miss", misses)] {
                let counter = family.get_or_create_owned(&OfResult { result });
                counter.inner().store(count, Ordering::Relaxed);
            }
        }
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for status in &sampled.key_files {
            let file = OfKeyFile { file: status.file.as_str() };
            let entries = i64::try_from(status.entries).unwrap_or(i64::MAX);
            self.key_files_ok.get_or_create(&file).set(i64::from(status.fault.is_none()));
            self.key_file_entries.get_or_create(&file).set(entries);
            let failures = self.key_file_failures.get_or_create_owned(&file);
            failures.inner().store(status.failures, Ordering::Relaxed);
        }
        self.compiled_policies.set(gauge(compiled.policies));
        self.compiled_bytes.set(gauge(compiled.bytes));
        self.streams.set(gauge(sampled.streams));
        let MemoryState { capacity, uses, waiting } = &sampled.budget;
        for MemoryUse { purpose, used, refused } in uses {
            let purpose = OfUse { purpose };
            self.work_memory.get_or_create(&purpose).set(gauge(*used));
            let refusals = self.work_refusals.get_or_create_owned(&purpose);
            refusals.inner().store(*refused, Ordering::Relaxed);
        }
        self.work_memory_max.set(gauge(*capacity));
        self.work_waiting.set(gauge(*waiting));
        for (pool, state) in &sampled.pools {
            let counts = [("idle", state.idle), ("in_use", state.in_use)];
            for (state, count) in counts {
                self.pools.get_or_create(&OfPoolState { pool, state }).set(count.into());
            }
            self.pool_limits.get_or_create(&OfPool { pool }).set(state.max.into());
        }
        self.started_at.set(sampled.started_at);
        if let Some(usage) = process::usage() {
            self.cpu.inner().store(usage.cpu_s.to_bits(), Ordering::Relaxed);
            self.memory.set(usage.resident_bytes);
            self.files.set(usage.open_files);
        }
    }
}
