//! A read replica: asked for what may be a little old, and left alone for a while when it fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::{
    AccessMode, DatabaseConnection, DatabaseTransaction, DbErr, IsolationLevel, TransactionOptions,
    TransactionTrait,
};

use crate::observe::Pool;
use crate::schema::{self, StepState};

/// How long one that failed is left alone: each try may cost a request what a connection may take.
const PAUSE: Duration = Duration::from_secs(10);

/// A pool of connections to a replica, and when it last failed.
#[derive(Debug)]
pub(crate) struct Replica {
    pool: DatabaseConnection,
    /// Whether it has the schema. One that lags does not have it yet when the primary has; once it
    /// does, it does.
    has_schema: AtomicBool,
    failed_at: Mutex<Option<Instant>>,
}

impl Replica {
    pub(crate) fn new(pool: DatabaseConnection) -> Self {
        Self { pool, has_schema: AtomicBool::new(false), failed_at: Mutex::new(None) }
    }

    /// A snapshot of the replica; nothing where it is away: the primary has the same, and newer.
    pub(crate) async fn snapshot(&self) -> Option<DatabaseTransaction> {
        if self.failed_at().is_some_and(|at| at.elapsed() < PAUSE) {
            return None;
        }
        let begun = self.begin().await;
        let is_new = self.note(begun.is_err().then(Instant::now));
        match begun {
            Ok(transaction) => Some(transaction),
            Err(error) => {
                if is_new {
                    let cause = fireflow_domain::error::ErrorChain(&error);
                    tracing::warn!(%cause, "the read replica fails; lists read the primary");
                }
                None
            }
        }
    }

    async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        if !self.has_schema.load(Ordering::Relaxed) {
            let steps = schema::steps(&self.pool).await?;
            if steps.iter().any(|step| step.state == StepState::Pending) {
                return Err(DbErr::Custom("it does not have the schema yet".to_owned()));
            }
            self.has_schema.store(true, Ordering::Relaxed);
        }
        self.pool.begin_with_options(read_only()).await
    }

    pub(crate) fn pool(&self) -> Pool {
        Pool::of_postgres("replica", &self.pool)
    }

    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        self.pool.close_by_ref().await
    }

    fn failed_at(&self) -> Option<Instant> {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how a try ended; whether that is news.
    fn note(&self, failed_at: Option<Instant>) -> bool {
        let mut noted = self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = noted.is_some() != failed_at.is_some();
        *noted = failed_at;
        is_new
    }
}

/// How PostgreSQL reads several statements of one state.
pub(crate) fn read_only() -> TransactionOptions {
    TransactionOptions {
        isolation_level: Some(IsolationLevel::RepeatableRead),
        access_mode: Some(AccessMode::ReadOnly),
        ..TransactionOptions::default()
    }
}
