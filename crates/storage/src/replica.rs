//! A read replica: it serves reads that may be slightly stale, and is not used for a while after it
//! fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fireflow_domain::store::{StoreResult, Terms};
use sea_orm::{
    AccessMode, DatabaseTransaction, DbErr, IsolationLevel, TransactionOptions, TransactionTrait,
};

use crate::observe::Pool;
use crate::postgres::{Control, Lease, Server};
use crate::steps::{StepState, steps};
use crate::turnstile::Class;

/// How long a failed replica is not used: each attempt may cost a request the time to connect.
const PAUSE: Duration = Duration::from_secs(10);

/// The connections to a replica, and when it last failed.
#[derive(Debug)]
pub(crate) struct Replica {
    server: Arc<Server>,
    control: Arc<Control>,
    patience: Duration,
    /// Whether it has the schema. A lagging replica gets it later than the primary, and then keeps
    /// it.
    has_schema: AtomicBool,
    failed_at: Mutex<Option<Instant>>,
}

impl Replica {
    pub(crate) fn new(server: Arc<Server>, control: Arc<Control>, patience: Duration) -> Self {
        let (has_schema, failed_at) = (AtomicBool::new(false), Mutex::new(None));
        Self { server, control, patience, has_schema, failed_at }
    }

    /// A snapshot of the replica; `None` if it is down: the primary has the same data, and newer.
    ///
    /// # Errors
    /// Returns an error if others use all of its connections: the primary must not serve their
    /// lists.
    pub(crate) async fn snapshot(
        &self,
        class: Class,
        terms: &Terms,
    ) -> StoreResult<Option<(DatabaseTransaction, Lease)>> {
        if self.failed_at().is_some_and(|at| at.elapsed() < PAUSE) {
            return Ok(None);
        }
        let turnstile = self.server.turnstile();
        let turn = turnstile.enter(class, terms.party, terms.deadline, self.patience).await?;
        let Some(lease) = self.server.lease(turn).await else { return Ok(None) };
        let begun = self.begin(&lease).await;
        let is_new = self.note(begun.is_err().then(Instant::now));
        match begun {
            Ok(transaction) => Ok(Some((transaction, lease))),
            Err(error) => {
                if is_new {
                    let cause = fireflow_domain::error::ErrorChain(&error);
                    tracing::warn!(%cause, "the read replica fails; lists read the primary");
                }
                Ok(None)
            }
        }
    }

    async fn begin(&self, lease: &Lease) -> Result<DatabaseTransaction, DbErr> {
        if !self.has_schema.load(Ordering::Relaxed) {
            let steps = steps(&self.control.connection().await).await?;
            if steps.iter().any(|step| step.state == StepState::Pending) {
                return Err(DbErr::Custom("it does not have the schema yet".to_owned()));
            }
            self.has_schema.store(true, Ordering::Relaxed);
        }
        lease.connection().begin_with_options(read_only()).await
    }

    pub(crate) fn pool(&self) -> Pool {
        let control = self.control.single().pool();
        Pool::of_postgres("replica", self.server.pools().chain([control]).collect())
    }

    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        let closed = self.server.close().await;
        closed.and(self.control.single().close().await)
    }

    fn failed_at(&self) -> Option<Instant> {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the result of an attempt. Returns whether the state has changed.
    fn note(&self, failed_at: Option<Instant>) -> bool {
        let mut noted = self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = noted.is_some() != failed_at.is_some();
        *noted = failed_at;
        is_new
    }
}

/// The options for reading several statements from one state on PostgreSQL.
pub(crate) fn read_only() -> TransactionOptions {
    TransactionOptions {
        isolation_level: Some(IsolationLevel::RepeatableRead),
        access_mode: Some(AccessMode::ReadOnly),
        ..TransactionOptions::default()
    }
}
