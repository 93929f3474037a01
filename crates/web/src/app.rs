//! The state that all requests share, and how one request reads and writes.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fireflow_auth::Authenticator;
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::time::{Clock, Instant, MICROS_PER_SECOND};
use fireflow_domain::usecase::inspect::InspectedPolicy;
use fireflow_service::backend::Backend;
use fireflow_service::budget::{BudgetState, Use};
use fireflow_service::inspections::Inspections;
use fireflow_service::readiness::Readiness;
use fireflow_service::session::Session;
use fireflow_service::streams::Streams;
use fireflow_storage::Pool;
use fireflow_telemetry::Telemetry;
use fireflow_telemetry::metrics::{Exposition, MemoryState, MemoryUse, Sampled};

use crate::middleware::Gate;
use crate::operation::Operation;
use crate::problem::Problem;
use crate::written::WrittenRules;

/// The state that all requests share.
pub struct App {
    /// The parts that units of work share: the storage, memory, turns on a processor.
    pub backend: Arc<Backend>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Authenticates clients.
    pub authenticator: Authenticator,
    /// Checks and settings that depend on where a request comes from.
    pub gate: Gate,
    /// The prefix of every path, without a trailing slash: empty, or `/fireflow`.
    pub base_path: String,
    /// What `/health/` reports in addition to readiness.
    pub about: About,
    /// Logs, metrics and traces.
    pub telemetry: Arc<Telemetry>,
    /// The connection pools of the database.
    pub pools: Vec<Pool>,
    /// Policies that are compiled for inspections.
    pub inspections: Inspections,
    /// Rules as inspections show them.
    pub written: WrittenRules,
    /// The streams of packets that are being inspected.
    pub streams: Streams,
    /// Whether the process is shutting down. It is then not ready.
    pub is_stopping: AtomicBool,
    /// The last known state of the database. The readiness is public, so not every request for it
    /// may reach the database.
    pub readiness: Readiness,
}

/// How long the page of metrics waits for the database's health check.
const METRICS_PATIENCE: Duration = Duration::from_secs(1);

impl App {
    /// Whether the database answers, all migrations are applied, and the process is not shutting
    /// down. Concurrent calls share one health check.
    pub async fn is_ready(&self) -> bool {
        if self.is_stopping.load(Ordering::Relaxed) {
            return false;
        }
        self.readiness.check(&*self.backend.storage).await
    }

    /// The page of metrics.
    ///
    /// # Errors
    /// Returns `Code::Internal` if the page cannot be made, which is a defect.
    pub async fn metrics(&self, exposition: Exposition) -> Result<String, Problem> {
        // Metrics matter most when the database does not answer, so they wait for it only briefly.
        let is_ready = tokio::time::timeout(METRICS_PATIENCE, self.is_ready()).await;
        let sampled = Sampled {
            is_ready: is_ready.unwrap_or(false),
            database: self.about.database,
            pools: self.pools.iter().map(|pool| (pool.name, pool.state())).collect(),
            token_lookups: self.authenticator.lookups(),
            key_files: self.authenticator.key_files(),
            compiled: self.inspections.state(),
            streams: self.streams.under_way(),
            budget: memory(&self.backend.budget.state()),
            started_at: self.about.started_at.micros() as f64 / MICROS_PER_SECOND as f64,
        };
        let telemetry = Arc::clone(&self.telemetry);
        let page = move || telemetry.metrics.page(&sampled, exposition);
        tokio::task::spawn_blocking(page).await.map_err(Problem::internal)
    }
}

/// The state of the budget, converted for the metrics.
fn memory(state: &BudgetState) -> MemoryState {
    let BudgetState { capacity, used, refused, waiting } = *state;
    let uses = Use::ALL.into_iter().zip(used).zip(refused);
    let uses = uses.map(|((purpose, used), refused)| MemoryUse {
        purpose: purpose.as_str(),
        used,
        refused,
    });
    MemoryState { capacity, uses: uses.collect(), waiting }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("base_path", &self.base_path).finish_non_exhaustive()
    }
}

/// The facts about the process that are known when it starts.
#[derive(Debug, Clone)]
pub struct About {
    /// `sqlite` or `postgres`.
    pub database: &'static str,
    /// The maximum number of database connections.
    pub max_connections: u32,
    /// When the process started.
    pub started_at: Instant,
    /// The same instant on a monotonic clock, from which the uptime is counted.
    pub running_since: std::time::Instant,
}

/// One request of a caller that has the role required by the operation.
#[derive(Debug, Clone)]
pub struct Context {
    /// The state that all requests share.
    pub app: Arc<App>,
    /// The caller, and the units of work and resources of the request.
    pub session: Session,
    /// When the caller's token expires.
    pub expires_at: Instant,
    /// The requested operation, if the API has the path with this method.
    pub operation: Option<&'static Operation>,
}

impl Deref for Context {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Context {
    /// Returns the current policy, ready to inspect packets.
    ///
    /// # Errors
    /// Returns the errors of the use case, or 503 if there is no memory to compile the policy.
    pub async fn compiled_policy(
        &self,
        firewall: FirewallId,
        policy: PolicyId,
    ) -> Result<InspectedPolicy, Problem> {
        Ok(self.app.inspections.get(&self.session, firewall, policy).await?)
    }

    /// A path of the API including the base path, for `Location`.
    #[must_use]
    pub fn path(&self, path: fmt::Arguments<'_>) -> String {
        format!("{}{path}", self.app.base_path)
    }
}
