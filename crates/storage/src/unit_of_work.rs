//! One transaction, or one connection pool, and the repositories that share it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fireflow_domain::error::StoreError;
use fireflow_domain::features::Features;
use fireflow_domain::store::{
    AcceptanceReader, AcceptanceWriter, AnswerStore, AuditReader, AuditWriter, FirewallReader,
    FirewallWriter, PolicyReader, PolicyWriter, ReadUnit, RuleReader, RuleWriter, StoreResult,
    Upkeep, WriteUnit,
};
use fireflow_domain::usecase::rule::PolicyLimits;
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DatabaseConnection, DatabaseExecutor, DatabaseTransaction,
    EntityTrait, QueryTrait, Statement,
};

use crate::audit_log;
use crate::chains::Chains;
use crate::error::{commit_error, store_error};
use crate::executor::Executor;
use crate::group::GroupedWrite;
use crate::observe::{self, Observer, Operation};
use crate::postgres::Lease;
use crate::readers::Lent;
use crate::stop::{Stop, StopOnDrop};
use crate::turnstile;

/// The target of a unit's statements.
#[derive(Debug)]
pub(crate) enum Handle {
    /// Each statement on its own, on any connection of the pool.
    Pool(DatabaseConnection),
    /// On a connection to a SQLite file that only reads.
    Reader(Lent),
    /// All in one transaction.
    Transaction(DatabaseTransaction),
    /// All in a savepoint of SQLite's writer.
    Turn(GroupedWrite),
}

/// What a unit of work holds until it has ended.
#[derive(Debug)]
pub(crate) enum Held {
    /// Nothing in addition to its handle.
    Nothing,
    /// A turn to read a SQLite file, and the means to stop a statement in progress.
    File { _stop: Option<StopOnDrop>, _turn: turnstile::Turn },
    /// A connection to PostgreSQL.
    Lease(Lease),
    /// A savepoint of the transaction of a test.
    #[cfg(feature = "testing")]
    Nested { _nested: crate::nested::Nested },
}

impl Held {
    pub(crate) fn of_file(turn: turnstile::Turn, stop: Option<Arc<Stop>>) -> Self {
        Self::File { _stop: stop.map(StopOnDrop), _turn: turn }
    }

    /// Marks the unit as finished: no statement is in progress.
    fn finish(&mut self) {
        match self {
            Self::Nothing | Self::File { .. } => {}
            Self::Lease(lease) => lease.finish(),
            #[cfg(feature = "testing")]
            Self::Nested { .. } => {}
        }
    }
}

/// The repositories over one handle. It implements all of them itself, so that none can be used
/// outside the transaction.
#[derive(Debug)]
pub(crate) struct SeaUnitOfWork {
    pub(crate) handle: Handle,
    /// Dropped after the handle: a statement in progress is then stopped.
    pub(crate) held: Held,
    /// The policy features that it can read.
    pub(crate) features: Features,
    /// The most that a policy may hold.
    pub(crate) limits: PolicyLimits,
    /// See [`crate::filter::MAX_CANDIDATES`].
    pub(crate) max_candidates: u64,
    /// The log lines of the audit trail, written once the transaction is durable.
    pub(crate) events: Vec<audit_log::AuditLine>,
    /// The audit chains that it may continue.
    pub(crate) chains: Chains,
    /// Receives the chains' heads once the transaction is durable.
    pub(crate) heads: Arc<audit_log::Heads>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

/// The timeout for COMMIT: a server that has gone silent never answers, and the task would keep its
/// connection.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

impl SeaUnitOfWork {
    /// The executor for statements.
    pub(crate) fn db(&self) -> Executor<'_> {
        match &self.handle {
            Handle::Pool(pool) => Executor::Orm(DatabaseExecutor::Connection(pool)),
            Handle::Reader(lent) => Executor::Reader(lent),
            Handle::Transaction(transaction) => {
                Executor::Orm(DatabaseExecutor::Transaction(transaction))
            }
            Handle::Turn(turn) => Executor::Orm(DatabaseExecutor::Transaction(turn.transaction())),
        }
    }

    /// The transaction, for savepoints in it.
    pub(crate) fn transaction(&self) -> StoreResult<&DatabaseTransaction> {
        match &self.handle {
            Handle::Pool(_) | Handle::Reader(_) => {
                Err(StoreError::Failed("a write outside a transaction".into()))
            }
            Handle::Transaction(transaction) => Ok(transaction),
            Handle::Turn(turn) => Ok(turn.transaction()),
        }
    }

    /// Inserts rows, a thousand per statement; no statement if there are none.
    pub(crate) async fn insert_all<A>(&self, rows: impl IntoIterator<Item = A>) -> StoreResult<()>
    where
        A: ActiveModelTrait + Send,
    {
        self.insert_each(rows.into_iter().map(Ok)).await
    }

    /// The same for rows that may not exist. While the database carries out one statement, the next
    /// one is made.
    pub(crate) async fn insert_each<A>(
        &self,
        mut rows: impl Iterator<Item = StoreResult<A>>,
    ) -> StoreResult<()>
    where
        A: ActiveModelTrait + Send,
    {
        let backend = self.db().get_database_backend();
        let mut next = || -> StoreResult<Option<Statement>> {
            let chunk = rows.by_ref().take(crate::statement_size::ROWS_PER_INSERT);
            let chunk = chunk.collect::<StoreResult<Vec<A>>>()?;
            Ok((!chunk.is_empty()).then(|| A::Entity::insert_many(chunk).build(backend)))
        };
        let mut statement = next()?;
        while let Some(now) = statement {
            let db = self.db();
            let (written, following) = tokio::join!(db.execute_raw(now), async { next() });
            written.map_err(store_error)?;
            statement = following?;
        }
        Ok(())
    }

    /// Whether the database can lock single rows.
    pub(crate) fn locks_rows(&self) -> bool {
        self.db().get_database_backend() == sea_orm::DbBackend::Postgres
    }
}

#[async_trait]
impl ReadUnit for SeaUnitOfWork {
    fn firewalls(&mut self) -> &mut dyn FirewallReader {
        self
    }

    fn policies(&mut self) -> &mut dyn PolicyReader {
        self
    }

    fn rules(&mut self) -> &mut dyn RuleReader {
        self
    }

    fn acceptances(&mut self) -> &mut dyn AcceptanceReader {
        self
    }

    fn audit(&mut self) -> &mut dyn AuditReader {
        self
    }

    fn known_features(&self) -> Features {
        self.features
    }

    async fn end(self: Box<Self>) -> StoreResult<()> {
        let Self { handle, mut held, observer, .. } = *self;
        let start = Instant::now();
        let ended = match handle {
            Handle::Pool(_) => {
                held.finish();
                return Ok(());
            }
            Handle::Reader(mut lent) => {
                let is_transaction = lent.is_transaction();
                let ended = lent.end().await.map_err(store_error);
                if !is_transaction {
                    return ended;
                }
                ended
            }
            Handle::Transaction(transaction) => {
                match tokio::time::timeout(COMMIT_TIMEOUT, transaction.rollback()).await {
                    Ok(ended) => {
                        held.finish();
                        ended.map_err(store_error)
                    }
                    Err(late) => Err(StoreError::Unavailable(late.into())),
                }
            }
            Handle::Turn(turn) => turn.end(false).await,
        };
        observe::tell(observer.as_ref(), Operation::Commit, start, &ended);
        ended
    }
}

#[async_trait]
impl WriteUnit for SeaUnitOfWork {
    fn firewalls_mut(&mut self) -> &mut dyn FirewallWriter {
        self
    }

    fn policies_mut(&mut self) -> &mut dyn PolicyWriter {
        self
    }

    fn rules_mut(&mut self) -> &mut dyn RuleWriter {
        self
    }

    fn acceptances_mut(&mut self) -> &mut dyn AcceptanceWriter {
        self
    }

    fn audit_mut(&mut self) -> &mut dyn AuditWriter {
        self
    }

    fn policy_limits(&self) -> PolicyLimits {
        self.limits
    }

    fn answers(&mut self) -> &mut dyn AnswerStore {
        self
    }

    fn upkeep(&mut self) -> &mut dyn Upkeep {
        self
    }

    async fn commit(mut self: Box<Self>) -> StoreResult<()> {
        if matches!(self.handle, Handle::Pool(_) | Handle::Reader(_)) {
            self.held.finish();
            return Ok(());
        }
        self.write_heads().await?;
        let Self { handle, mut held, events, observer, chains, heads, .. } = *self;
        let ends = async move {
            match handle {
                Handle::Pool(_) | Handle::Reader(_) => Ok(()),
                Handle::Transaction(transaction) => {
                    match tokio::time::timeout(COMMIT_TIMEOUT, transaction.commit()).await {
                        Ok(committed) => {
                            held.finish();
                            committed.map_err(commit_error)
                        }
                        Err(late) => Err(StoreError::Unsettled(late.into())),
                    }
                }
                Handle::Turn(turn) => turn.end(true).await,
            }?;
            audit_log::write(events);
            heads.note(chains.grown());
            Ok(())
        };
        // COMMIT runs in a separate task: a caller that leaves during COMMIT stops neither it nor
        // the steps that follow it.
        let start = Instant::now();
        let ended = tokio::spawn(ends).await;
        let ended = ended.map_err(|error| StoreError::Unsettled(error.into())).flatten();
        observe::tell(observer.as_ref(), Operation::Commit, start, &ended);
        ended
    }

    async fn rollback(self: Box<Self>) -> StoreResult<()> {
        let Self { handle, mut held, .. } = *self;
        let undone = match handle {
            Handle::Pool(_) | Handle::Reader(_) => Ok(()),
            Handle::Transaction(transaction) => transaction.rollback().await.map_err(store_error),
            Handle::Turn(turn) => turn.end(false).await,
        };
        held.finish();
        undone
    }
}
