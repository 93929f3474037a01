//! Serves the API until a stop signal.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use fireflow_auth::{Authenticator, KeyFiles, Revocations, TokenRules, Trust};
use fireflow_domain::error::StoreError;
use fireflow_domain::store::{
    ReadKind, ReadUnit, Storage, StoreResult, Terms, WriteKind, WriteUnit,
};
use fireflow_domain::time::{Clock, Instant};
use fireflow_service::analyses::{Analyses, AnalysisSettings};
use fireflow_service::backend::Backend;
use fireflow_service::budget::Budget;
use fireflow_service::inspections::{CompilationLimits, Inspections};
use fireflow_service::monitor::NoMonitor;
use fireflow_service::rates::Rates;
use fireflow_service::readiness::Readiness;
use fireflow_service::streams::Streams;
use fireflow_service::work::Limits;
use fireflow_storage::{Database, DatabaseKind, DatabaseOptions, Observer, Purpose};
use fireflow_telemetry::Telemetry;
use fireflow_telemetry::errors::Errors;
use fireflow_telemetry::metrics::Metrics;
use fireflow_telemetry::traces::Traces;
use fireflow_web::{About, App, Cors, Gate, Proxies, WrittenRules};
use poem::{Endpoint, Response};
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::purge::purge_regularly;
use super::stop::{Signals, Stop, StopTimes, heed};
use super::{
    Failure, authenticator, clock, database_options, files, idle_memory, key_files, local_secret,
    open, print,
};
use crate::listener::{self, Certificate, ConnectionLimits};
use crate::settings::{Environment, Settings};

/// How often the files of keys and certificates are checked for changes.
const RELOAD: Duration = Duration::from_secs(2);

/// Serves until a stop signal. The whole stop takes no longer than [`StopTimes`] permits.
pub(super) async fn serve(settings: &Settings) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let open_files = files::raise_limit();
    let started = tokio::select! {
        started = Box::pin(start(settings)) => started?,
        // Container engines stop containers that do not come up. No client depends on this one yet.
        () = signals.stop() => {
            tracing::info!("stopped before it served requests");
            return Ok(());
        }
    };
    let Started { database, app, endpoint, listener, certificate, keys, authenticator } = started;
    let others = settings.telemetry.metrics_listen.map_or(0, |_| MAX_METRICS_CONNECTIONS);
    let max_connections = files::max_connections(settings, &database, others, open_files)?;
    let mut reload = vec![authenticator.reload_handle()];
    reload.extend(certificate.as_ref().map(Certificate::reload_handle));
    let mut watchers = vec![tokio::spawn(fireflow_auth::watch(keys, authenticator, RELOAD))];
    let purges = purge_regularly(Arc::clone(&app.backend.storage), settings.keep_deleted);
    watchers.push(tokio::spawn(purges));
    watchers.push(tokio::spawn(log_audit_heads(database.clone())));
    watchers.push(tokio::spawn(idle_memory::forget(app.pools.clone())));
    watchers.extend(serve_metrics(settings, &app).await?);
    watchers.extend(certificate.clone().map(|it| tokio::spawn(it.watch(RELOAD))));
    announce(settings, listener.local_addr()?);

    let (http, stopping) = (&settings.http, Arc::clone(&app));
    let times = StopTimes { drain_delay: http.drain_delay, stop_timeout: http.stop_timeout };
    let (tell, told) = oneshot::channel();
    tokio::spawn(heed(signals, times, reload, tell));
    let stop = Arc::new(OnceLock::new());
    let noted = Arc::clone(&stop);
    let drained = async move {
        let Ok(stop) = told.await else { return std::future::pending().await };
        stop.enforce();
        let _first = noted.set(stop).is_ok();
        stopping.is_stopping.store(true, Ordering::Relaxed);
        let StopTimes { drain_delay, stop_timeout } = times;
        tracing::info!(
            ?drain_delay,
            ?stop_timeout,
            "stopping: no longer ready, but still serving requests"
        );
        // Gives load balancers time to notice that the service is no longer ready.
        tokio::time::sleep(stop.drains_for()).await;
        tracing::info!("stopping: finishing the requests in progress");
    };
    let open = app.telemetry.metrics.connections.clone();
    let limits = ConnectionLimits { max_connections, ..connection_limits(settings) };
    let grace = times.of_requests();
    listener::serve(listener, endpoint, limits, certificate, open, drained, grace).await;
    for watcher in watchers {
        watcher.abort();
    }
    let left = stop.get().copied().map_or(Duration::ZERO, Stop::left);
    let telemetry = Arc::clone(&app.telemetry);
    // `end` blocks until the receivers have taken what is left, or the time is over.
    let told = tokio::task::spawn_blocking(move || telemetry.end(left));
    // Requests that were cut off may still hold database connections.
    let (closed, told) = tokio::join!(tokio::time::timeout(left, database.close()), told);
    told?;
    match closed {
        Ok(closed) => Ok(closed?),
        Err(_) => {
            tracing::warn!("not all connections to the database were returned");
            Ok(())
        }
    }
}

/// A service that can answer requests.
struct Started<E> {
    database: Database,
    app: Arc<App>,
    endpoint: E,
    listener: TcpListener,
    certificate: Option<Certificate>,
    keys: KeyFiles,
    authenticator: Authenticator,
}

/// Reads the files that the settings name, opens the database and listens.
async fn start(
    settings: &Settings,
) -> Result<Started<impl Endpoint<Output = Response> + use<>>, Failure> {
    if settings.environment == Environment::Local && !settings.listen.ip().is_loopback() {
        tracing::warn!(
            "FIREFLOW_ENVIRONMENT is local, but {} is reachable from other machines",
            settings.listen
        );
    }
    // Before the database is touched: what stops a start should stop it early.
    let local = local_secret(settings)?;
    let keys = key_files(settings, local.as_ref());
    let authenticator = authenticator(settings, local.as_ref())?;
    let certificate = settings.tls.clone().map(Certificate::read).transpose();
    let certificate = certificate.map_err(Failure::usage)?;
    let telemetry = Arc::new(telemetry(settings)?);
    fireflow_telemetry::install_panic_hook(Arc::clone(&telemetry));
    let observer: Arc<dyn Observer> = telemetry.clone();
    let options = DatabaseOptions {
        observer: Some(observer),
        purpose: Purpose::Serve,
        ..database_options(settings)
    };
    let database = open(options).await?;
    if settings.migrate_on_start {
        database.migrate_up(settings.environment.as_str()).await?;
    } else if !database.is_ready().await? {
        tracing::warn!("migrations are pending; not ready until `fireflow migrate up` has run");
    }
    let (app, limits) = service(settings, &database, authenticator.clone(), telemetry);
    let endpoint = fireflow_web::endpoint(&app, &limits)?;
    let listener = listener::listen(settings.listen).map_err(|error| {
        Failure::usage(anyhow::anyhow!("FIREFLOW_LISTEN: {}: {error}", settings.listen))
    })?;
    Ok(Started { database, app, endpoint, listener, certificate, keys, authenticator })
}

/// How often the heads of the audit trail's chains are written to the log.
const AUDIT_HEADS: Duration = Duration::from_secs(60);

/// Logs the heads of the chains that have grown, for as long as the service runs. The last heads
/// are logged when the database is closed.
async fn log_audit_heads(database: Database) {
    loop {
        tokio::time::sleep(AUDIT_HEADS).await;
        database.log_audit_heads();
    }
}

/// Metrics, traces and error reports, as the settings configure them.
fn telemetry(settings: &Settings) -> Result<Telemetry, Failure> {
    let metrics = Metrics::new();
    let database = match settings.database_url.kind() {
        DatabaseKind::Sqlite => "sqlite",
        DatabaseKind::Postgres => "postgresql",
    };
    let traces = settings.telemetry.otlp().map(|otlp| {
        Traces::new(&otlp, settings.environment.as_str(), database, metrics.exports.clone())
            .map_err(|error| Failure::usage(error.context("FIREFLOW_OTLP_ENDPOINT")))
    });
    let errors =
        settings.telemetry.sentry.clone().map(|dsn| {
            Errors::new(dsn, settings.environment.as_str(), metrics.error_events.clone())
        });
    Ok(Telemetry { traces: traces.transpose()?, errors, metrics })
}

/// The most connections to the metrics listener.
const MAX_METRICS_CONNECTIONS: usize = 32;

/// The longest time for the head of a metrics request.
const METRICS_HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// If the settings ask for it, serves metrics without a token until the task is aborted.
async fn serve_metrics(
    settings: &Settings,
    app: &Arc<App>,
) -> Result<Option<JoinHandle<()>>, Failure> {
    let Some(address) = settings.telemetry.metrics_listen else { return Ok(None) };
    let listener = listener::listen(address).map_err(|error| {
        Failure::usage(anyhow::anyhow!("FIREFLOW_METRICS_LISTEN: {address}: {error}"))
    })?;
    tracing::info!(address = %listener.local_addr()?, "serving metrics");
    let limits = connection_limits(settings);
    let limits = ConnectionLimits {
        max_connections: MAX_METRICS_CONNECTIONS,
        // An unfinished request occupies one of the few connections.
        head_timeout: limits.head_timeout.min(METRICS_HEAD_TIMEOUT),
        ..limits
    };
    let endpoint = fireflow_web::metrics_endpoint(app);
    let (open, stop) = (Gauge::default(), std::future::pending());
    let served = listener::serve(listener, endpoint, limits, None, open, stop, Duration::ZERO);
    Ok(Some(tokio::spawn(served)))
}

fn connection_limits(settings: &Settings) -> ConnectionLimits {
    let http = &settings.http;
    ConnectionLimits {
        max_connections: http.max_connections,
        max_head_bytes: http.max_head_bytes,
        head_timeout: http.head_timeout,
        idle_timeout: http.idle_timeout,
        answer_timeout: listener::ANSWER_TIMEOUT,
    }
}

/// The state that requests share, and their limits.
pub(super) fn service(
    settings: &Settings,
    database: &Database,
    authenticator: Authenticator,
    telemetry: Arc<Telemetry>,
) -> (Arc<App>, Limits) {
    let (http, memory) = (&settings.http, &settings.memory);
    let kind = match database.kind() {
        DatabaseKind::Sqlite => "sqlite",
        DatabaseKind::Postgres => "postgres",
    };
    let app = Arc::new(App {
        about: About {
            database: kind,
            max_connections: database.max_connections(),
            started_at: clock().now(),
            running_since: std::time::Instant::now(),
        },
        backend: Arc::new(Backend {
            storage: Arc::new(database.clone()),
            monitor: Arc::<Telemetry>::clone(&telemetry),
            budget: Budget::bytes(memory.work_bytes),
            turns: Budget::turns(std::thread::available_parallelism().map_or(1, NonZeroUsize::get)),
            request_timeout: http.request_timeout,
        }),
        telemetry,
        inspections: Inspections::new(memory.cache_bytes, memory.compilation_limits()),
        analyses: Analyses::new(settings.analysis.clone().into()),
        written: WrittenRules::default(),
        pools: database.pools(),
        clock: Arc::new(clock()),
        authenticator,
        gate: Gate {
            proxies: Proxies::new(http.trusted_proxies.clone(), http.forwarded_header),
            rates: Rates::new(http.address_rate_limit, http.rate_limit),
            cors: Cors::new(http.cors_origins.clone()),
            is_tls: settings.tls.is_some(),
        },
        base_path: http.base_path.clone(),
        streams: Streams::new(settings.http.idle_timeout),
        is_stopping: AtomicBool::new(false),
        readiness: Readiness::default(),
    });
    let limits = Limits {
        max_body_bytes: http.max_body_bytes,
        max_rule_set_bytes: http.max_rule_set_bytes,
        // A client that can send a head within this time can also continue a body within it.
        body_stall: http.head_timeout,
        request_timeout: http.request_timeout,
        in_flight: Arc::new(Semaphore::new(http.max_in_flight.min(Semaphore::MAX_PERMITS))),
    };
    (app, limits)
}

/// Prints the service's address. If that fails, the address is logged and the service still runs.
fn announce(settings: &Settings, address: SocketAddr) {
    let base = &settings.http.base_path;
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let mut text = format!(
        "FireFlow {} serves on {scheme}://{address}{base}\n  Swagger UI: \
         {scheme}://{address}{base}/docs/swagger-ui",
        env!("CARGO_PKG_VERSION")
    );
    if settings.environment == Environment::Local {
        text.push_str("\n  a token:    fireflow jwt   (in a checkout: cargo xtask jwt)");
    }
    if print(&text).is_err() {
        tracing::info!(%address, "serving");
    }
}

/// The OpenAPI description, generated without a running service.
pub(super) fn description() -> anyhow::Result<String> {
    let app = Arc::new(App {
        backend: Arc::new(Backend {
            storage: Arc::new(Nowhere),
            monitor: Arc::new(NoMonitor),
            budget: Budget::bytes(0),
            turns: Budget::turns(1),
            request_timeout: Duration::ZERO,
        }),
        clock: Arc::new(clock()),
        authenticator: Authenticator::new(Trust::new(
            Vec::new(),
            Vec::new(),
            TokenRules::default(),
            Revocations::default(),
        )),
        gate: Gate::default(),
        base_path: String::new(),
        streams: Streams::new(Duration::ZERO),
        about: About {
            database: "none",
            max_connections: 0,
            started_at: Instant::EPOCH,
            running_since: std::time::Instant::now(),
        },
        telemetry: Arc::default(),
        inspections: Inspections::new(0, CompilationLimits::default()),
        analyses: Analyses::new(AnalysisSettings::default()),
        written: WrittenRules::default(),
        pools: Vec::new(),
        is_stopping: AtomicBool::new(false),
        readiness: Readiness::default(),
    });
    Ok(serde_json::to_string_pretty(&fireflow_web::description(&app)?)?)
}

/// A storage that fails every read and write.
struct Nowhere;

#[async_trait]
impl Storage for Nowhere {
    async fn read(&self, _: ReadKind, _: &Terms) -> StoreResult<Box<dyn ReadUnit>> {
        Err(StoreError::Failed("there is no storage".into()))
    }

    async fn write(&self, _: WriteKind, _: &Terms) -> StoreResult<Box<dyn WriteUnit>> {
        Err(StoreError::Failed("there is no storage".into()))
    }

    async fn is_ready(&self) -> StoreResult<bool> {
        Ok(false)
    }
}
