//! What all requests share, and what one request does with it.

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
use crate::problem::Problem;
use crate::written::WrittenRules;

/// What all requests share.
pub struct App {
    /// What units of work share: the storage, memory, turns on a processor.
    pub backend: Arc<Backend>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who asks.
    pub authenticator: Authenticator,
    /// What is decided by where a request comes from.
    pub gate: Gate,
    /// The prefix of every path, without a slash at its end: empty, or `/fireflow`.
    pub base_path: String,
    /// What `/health/` tells beside readiness.
    pub about: About,
    /// Where the service tells of itself.
    pub telemetry: Arc<Telemetry>,
    /// The database's pools of connections.
    pub pools: Vec<Pool>,
    /// What was compiled for inspections.
    pub inspections: Inspections,
    /// Rules as inspections show them.
    pub written: WrittenRules,
    /// The streams of packets that are inspected.
    pub streams: Streams,
    /// Whether the process is shutting down: then it is not ready.
    pub is_stopping: AtomicBool,
    /// Whether the database was well a moment ago: anybody may ask, so that it is not asked each
    /// time.
    pub readiness: Readiness,
}

/// How long the page of metrics waits for an answer on the database's health.
const METRICS_PATIENCE: Duration = Duration::from_secs(1);

impl App {
    /// Whether the database answers, all migrations are applied, and the process does not stop. One
    /// that asks while another does waits for that one's answer.
    pub async fn is_ready(&self) -> bool {
        if self.is_stopping.load(Ordering::Relaxed) {
            return false;
        }
        self.readiness.check(&*self.backend.storage).await
    }

    /// The page of metrics.
    ///
    /// # Errors
    /// Where it cannot be made: a defect.
    pub async fn metrics(&self, exposition: Exposition) -> Result<String, Problem> {
        // A database that does not answer must not keep from looking.
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

/// The state of the budget as metrics show it.
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

/// What is known of the process when it starts.
#[derive(Debug, Clone)]
pub struct About {
    /// `sqlite` or `postgres`.
    pub database: &'static str,
    /// The most connections of the pool.
    pub max_connections: u32,
    /// When the process started.
    pub started_at: Instant,
    /// The same by a clock that is never set: how long it has run is counted from here.
    pub running_since: std::time::Instant,
}

/// One request of a caller who holds the role that the operation needs.
#[derive(Debug, Clone)]
pub struct Context {
    /// What all requests share.
    pub app: Arc<App>,
    /// Who asks, and what is done for them below HTTP.
    pub session: Session,
    /// When the caller's token ends.
    pub expires_at: Instant,
}

impl Deref for Context {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Context {
    /// A policy as it is now, to be asked about packets.
    ///
    /// # Errors
    /// Returns the use case's errors, or 503 if there is no memory to compile it.
    pub async fn compiled_policy(
        &self,
        firewall: FirewallId,
        policy: PolicyId,
    ) -> Result<InspectedPolicy, Problem> {
        Ok(self.app.inspections.get(&self.session, firewall, policy).await?)
    }

    /// A path of the API below the base path, for `Location`.
    #[must_use]
    pub fn path(&self, path: fmt::Arguments<'_>) -> String {
        format!("{}{path}", self.app.base_path)
    }
}
