//! Serves the API until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use fireflow_domain::error::StoreError;
use fireflow_domain::store::{Mode, Storage, StoreResult, UnitOfWork};
use fireflow_domain::time::{Clock, Instant};
use fireflow_storage::{Database, DatabaseKind};
use poem::Server;
use poem::listener::{Acceptor, Listener, TcpListener};
use tokio::sync::Semaphore;

use super::{Failure, authenticator, clock, open, print};
use crate::app::{About, App};
use crate::auth::{Authenticator, TokenRules};
use crate::middleware::limits::Limits;
use crate::server;
use crate::settings::{Environment, Settings};

/// How long requests under way may take to their end after a signal.
const GRACE: Duration = Duration::from_secs(10);
/// How long a connection may be silent, half a request included.
const IDLE: Duration = Duration::from_secs(60);

/// Serves.
pub(super) async fn serve(settings: &Settings) -> Result<(), Failure> {
    if settings.environment == Environment::Local && !settings.listen.ip().is_loopback() {
        tracing::warn!(
            "FIREFLOW_ENVIRONMENT is local, but {} can be reached from other machines",
            settings.listen
        );
    }
    // Before the database is touched: what stops a start should stop it early.
    let authenticator = authenticator(settings)?;
    let database = open(settings).await?;
    if settings.migrate_on_start {
        database.migrate_up(settings.environment.as_str()).await?;
    } else if !database.is_ready().await? {
        tracing::warn!("migrations are pending; not ready until `fireflow migrate up` has run");
    }
    let (app, limits) = service(settings, &database, authenticator);
    let endpoint = server::endpoint(&app, &limits)?;
    let acceptor = TcpListener::bind(settings.listen).into_acceptor().await.map_err(|error| {
        Failure::usage(anyhow::anyhow!("FIREFLOW_LISTEN: {}: {error}", settings.listen))
    })?;
    let address = acceptor.local_addr().first().map(ToString::to_string).unwrap_or_default();
    let address = address.trim_start_matches("socket://").to_owned();
    announce(settings, &address);

    let stopping = Arc::clone(&app);
    let stop = async move {
        signal().await;
        stopping.is_stopping.store(true, Ordering::Relaxed);
        tracing::info!("stopping: requests under way come to their end");
    };
    Server::new_with_acceptor(acceptor)
        .idle_timeout(IDLE)
        .run_with_graceful_shutdown(endpoint, stop, Some(GRACE))
        .await?;
    database.close().await?;
    Ok(())
}

/// What requests share, and what bounds them.
pub(super) fn service(
    settings: &Settings,
    database: &Database,
    authenticator: Authenticator,
) -> (Arc<App>, Limits) {
    let kind = match database.kind() {
        DatabaseKind::Sqlite => "sqlite",
        DatabaseKind::Postgres => "postgres",
    };
    let app = Arc::new(App {
        about: About {
            database: kind,
            max_connections: database.max_connections(),
            started_at: clock().now(),
        },
        storage: Arc::new(database.clone()),
        clock: Arc::new(clock()),
        authenticator,
        base_path: settings.base_path.clone(),
        // A quarter of the pool, so that slow readers cannot starve the rest.
        exports: Arc::new(Semaphore::new(connections_for_exports(database.max_connections()))),
        is_stopping: AtomicBool::new(false),
    });
    let limits = Limits {
        max_body_bytes: settings.max_body_bytes,
        max_rule_set_bytes: settings.max_rule_set_bytes,
        request_timeout: settings.request_timeout,
        in_flight: Arc::new(Semaphore::new(settings.max_in_flight)),
    };
    (app, limits)
}

fn connections_for_exports(pool: u32) -> usize {
    usize::try_from(pool / 4).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS)
}

/// Tells people where it is. That nobody listens is no reason not to serve.
fn announce(settings: &Settings, address: &str) {
    let base = &settings.base_path;
    let mut text = format!(
        "FireFlow {} serves on http://{address}{base}\n  Swagger UI: \
         http://{address}{base}/docs/swagger-ui",
        env!("CARGO_PKG_VERSION")
    );
    if settings.environment == Environment::Local {
        text.push_str("\n  a token:    cargo xtask jwt   (or: fireflow jwt)");
    }
    if print(&text).is_err() {
        tracing::info!(address, "serving");
    }
}

/// Waits for Ctrl-C, or for what service managers send.
async fn signal() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without handlers the process ends the hard way: nothing to wait for here.
    if interrupt.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The description of the API, without a service.
pub(super) fn description() -> anyhow::Result<String> {
    let app = Arc::new(App {
        storage: Arc::new(Nowhere),
        clock: Arc::new(clock()),
        authenticator: Authenticator::new(Vec::new(), TokenRules::default()),
        base_path: String::new(),
        exports: Arc::new(Semaphore::new(0)),
        about: About { database: "none", max_connections: 0, started_at: Instant::EPOCH },
        is_stopping: AtomicBool::new(false),
    });
    Ok(serde_json::to_string_pretty(&server::description(&app)?)?)
}

/// A storage that keeps nothing.
struct Nowhere;

#[async_trait]
impl Storage for Nowhere {
    async fn begin(&self, _mode: Mode) -> StoreResult<Box<dyn UnitOfWork>> {
        Err(StoreError::Failed("there is no storage".into()))
    }

    async fn is_ready(&self) -> StoreResult<bool> {
        Ok(false)
    }
}
