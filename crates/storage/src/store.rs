//! The open database: units of work, readiness.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use fireflow_domain::error::StoreError;
use fireflow_domain::store::{
    ReadKind, ReadUnit, Storage, StoreResult, Terms, WriteKind, WriteUnit,
};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, TransactionOptions,
    TransactionTrait,
};
use tokio::task::JoinHandle;

use crate::audit_log;
use crate::chains::Chains;
use crate::connect::{self, Connections, DatabaseKind, DatabaseOptions, OpenError};
use crate::error::store_error;
use crate::file::{self, DatabaseFile};
use crate::filter::MAX_CANDIDATES;
use crate::group::Writer;
use crate::observe::{self, Operation, Pool};
use crate::replica::read_only;
use crate::schema::{self, StepState};
use crate::unit_of_work::{Handle, SeaUnitOfWork};

/// An open database. Cheap to clone: all clones share the connections and the lock.
#[derive(Debug, Clone)]
pub struct Database {
    options: DatabaseOptions,
    connections: Connections,
    /// SQLite's, where units of work share transactions.
    writer: Option<Writer>,
    max_candidates: u64,
    /// The heads of audit chains that the log has not yet.
    heads: Arc<audit_log::Heads>,
    /// SQLite's. The last field: the file's locks go after the connections.
    guard: Option<Arc<Guard>>,
}

/// A SQLite file that belongs to this process, and the task that watches it.
#[derive(Debug)]
struct Guard {
    /// Never used: as long as it is open, SQLite keeps the write-ahead log, whatever connections
    /// come and go, so that another log is a sign that somebody removed it.
    keeper: DatabaseConnection,
    watch: JoinHandle<()>,
    file: Arc<DatabaseFile>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// How PostgreSQL plans what has filters: for the values that it is asked with.
const CUSTOM_PLANS: &str = "SET LOCAL plan_cache_mode = force_custom_plan";

impl Database {
    /// Opens it: a SQLite file is created where it is missing, and taken for this process alone.
    ///
    /// # Errors
    /// Where it cannot be reached, or another process has the SQLite file. A process that runs a
    /// command is waited for, two minutes at most; a service is not.
    pub async fn open(options: DatabaseOptions) -> Result<Self, OpenError> {
        let file = match options.url.file() {
            Some(path) => Some(Arc::new(DatabaseFile::take(&path, options.purpose).await?)),
            None => None,
        };
        let connections = connect::connect(&options, file.as_ref()).await?;
        let guard = match file {
            Some(file) => Some(Arc::new(guard(&options, file).await?)),
            None => None,
        };
        let writer = guard.as_ref().map(|guard| {
            let (connection, file) = (connections.write.clone(), Arc::clone(&guard.file));
            Writer::start(connection, file, options.turn_timeout, options.write_group)
        });
        let (max_candidates, heads) = (MAX_CANDIDATES, Arc::default());
        Ok(Self { options, connections, writer, max_candidates, heads, guard })
    }

    /// Which database it is.
    #[must_use]
    pub const fn kind(&self) -> DatabaseKind {
        self.options.url.kind()
    }

    /// Connections in use and idle, of writers and readers together.
    #[must_use]
    pub const fn max_connections(&self) -> u32 {
        self.options.max_connections
    }

    /// Closes all connections; statements under way come to their end first.
    ///
    /// # Errors
    /// Where the driver does.
    pub async fn close(self) -> StoreResult<()> {
        self.log_audit_heads();
        let Connections { write, read, list, replica, .. } = self.connections;
        let replica = match replica {
            Some(replica) => replica.close().await,
            None => Ok(()),
        };
        let (list, read, write) = (list.close().await, read.close().await, write.close().await);
        let keeper = match &self.guard {
            Some(guard) => guard.keeper.close_by_ref().await,
            None => Ok(()),
        };
        replica.and(list).and(read).and(write).and(keeper).map_err(store_error)
    }

    /// Bounds the statements of a transaction of PostgreSQL.
    async fn bound(&self, transaction: &DatabaseTransaction) -> Result<(), DbErr> {
        // A number of ours: SET takes no parameters. A generic plan is blind to how selective a
        // value of a filter is.
        let limit = self.options.list_timeout.as_millis().clamp(1, i32::MAX as u128);
        let settings = format!("SET LOCAL statement_timeout = {limit}; {CUSTOM_PLANS}");
        transaction.execute_unprepared(&settings).await?;
        Ok(())
    }

    /// Writes the heads of the audit chains that have grown since the last time to the log, so that
    /// whoever keeps the log has evidence outside the database. Costs a line for each, no statement.
    pub fn log_audit_heads(&self) {
        self.heads.log();
    }

    fn unit(&self, handle: Handle) -> SeaUnitOfWork {
        let observer = self.options.observer.clone();
        SeaUnitOfWork {
            handle,
            max_candidates: self.max_candidates,
            events: Vec::new(),
            chains: Chains::default(),
            heads: Arc::clone(&self.heads),
            observer,
        }
    }

    /// Gathers PostgreSQL's statistics; SQLite is not asked for any.
    ///
    /// # Errors
    /// Where the database does not answer.
    #[cfg(feature = "testing")]
    pub async fn analyze(&self) -> StoreResult<()> {
        if self.kind() == DatabaseKind::Postgres {
            let analyzed = self.connections.write.execute_unprepared("ANALYZE").await;
            analyzed.map_err(store_error)?;
        }
        Ok(())
    }

    /// How many rules an index may name before a filtered list is walked instead; for tests of both
    /// ways.
    #[cfg(feature = "testing")]
    pub const fn set_max_candidates(&mut self, most: u64) {
        self.max_candidates = most;
    }

    pub(crate) const fn options(&self) -> &DatabaseOptions {
        &self.options
    }

    pub(crate) const fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The file, if it is SQLite.
    pub(crate) fn file(&self) -> Option<&Arc<DatabaseFile>> {
        self.guard.as_ref().map(|guard| &guard.file)
    }

    /// How many units of work wait for their turn to write, on SQLite.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn waiting_writers(&self) -> usize {
        self.writer.as_ref().map_or(0, Writer::waiting)
    }

    /// The pools of connections, by what they are for.
    #[must_use]
    pub fn pools(&self) -> Vec<Pool> {
        self.connections.pools(self.kind())
    }

    /// How many transactions SQLite's writer has begun.
    #[must_use]
    pub fn write_groups(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::groups)
    }

    /// What a unit that reads runs on.
    async fn reader(&self, kind: ReadKind) -> StoreResult<Handle> {
        if let Some(file) = self.file() {
            file.is_readable().map_err(|lost| StoreError::Unavailable(lost.into()))?;
        }
        let Connections { read, list, replica, .. } = &self.connections;
        let is_bounded = matches!(kind, ReadKind::Page | ReadKind::FreshPage);
        if let (ReadKind::Page | ReadKind::Export, Some(replica)) = (kind, replica)
            && let Some(transaction) = replica.snapshot().await
            && (!is_bounded || self.bound(&transaction).await.is_ok())
        {
            return Ok(Handle::Transaction(transaction));
        }
        let plain = TransactionOptions::default();
        let handle = match (kind, self.kind()) {
            (ReadKind::Single, _) => Ok(Handle::Pool(read.clone())),
            // SQLite: the first read takes the snapshot.
            (
                ReadKind::Snapshot
                | ReadKind::Export
                | ReadKind::FreshExport
                | ReadKind::Compilation,
                DatabaseKind::Sqlite,
            ) => self.transaction(read, plain).await,
            (ReadKind::Page | ReadKind::FreshPage, DatabaseKind::Sqlite) => {
                self.transaction(list, plain).await
            }
            (ReadKind::Snapshot | ReadKind::Compilation, DatabaseKind::Postgres) => {
                self.transaction(read, read_only()).await
            }
            (ReadKind::Export | ReadKind::FreshExport, DatabaseKind::Postgres) => {
                match read.begin_with_options(read_only()).await {
                    Ok(transaction) => {
                        let planned = transaction.execute_unprepared(CUSTOM_PLANS).await;
                        planned.map(|_| Handle::Transaction(transaction))
                    }
                    Err(error) => Err(error),
                }
            }
            (ReadKind::Page | ReadKind::FreshPage, DatabaseKind::Postgres) => {
                match list.begin_with_options(read_only()).await {
                    Ok(transaction) => {
                        self.bound(&transaction).await.map(|()| Handle::Transaction(transaction))
                    }
                    Err(error) => Err(error),
                }
            }
        };
        handle.map_err(store_error)
    }

    /// What a unit that writes runs on.
    async fn writing(&self, kind: WriteKind) -> StoreResult<Handle> {
        if let Some(writer) = &self.writer {
            return writer.begin(kind == WriteKind::Many).await.map(Handle::Turn);
        }
        // Read committed: who waited for a lock must see what its holder wrote.
        let plain = TransactionOptions::default();
        self.transaction(&self.connections.write, plain).await.map_err(store_error)
    }

    async fn transaction(
        &self,
        pool: &DatabaseConnection,
        options: TransactionOptions,
    ) -> Result<Handle, DbErr> {
        pool.begin_with_options(options).await.map(Handle::Transaction)
    }
}

/// Watches a SQLite file, all of whose connections but one are open.
async fn guard(options: &DatabaseOptions, file: Arc<DatabaseFile>) -> Result<Guard, OpenError> {
    let keeper = connect::session(options, Some(&file)).await?;
    // The first statement that reads makes the log.
    keeper
        .execute_unprepared("SELECT count(*) FROM sqlite_master")
        .await
        .map_err(|source| connect::failed(&options.url, source))?;
    file.note_logs()?;
    let watch = file::watch(&file, keeper.clone());
    Ok(Guard { keeper, watch, file })
}

#[async_trait]
impl Storage for Database {
    async fn read(&self, kind: ReadKind, _terms: &Terms) -> StoreResult<Box<dyn ReadUnit>> {
        let start = Instant::now();
        let handle = self.reader(kind).await;
        // Of statements on their own each begins and ends by itself.
        if kind != ReadKind::Single {
            observe::tell(self.options.observer.as_ref(), Operation::Begin, start, &handle);
        }
        Ok(Box::new(self.unit(handle?)))
    }

    async fn write(&self, kind: WriteKind, _terms: &Terms) -> StoreResult<Box<dyn WriteUnit>> {
        let start = Instant::now();
        let handle = self.writing(kind).await;
        observe::tell(self.options.observer.as_ref(), Operation::Begin, start, &handle);
        Ok(Box::new(self.unit(handle?)))
    }

    /// Known of SQLite, whose file belongs to one process, and in it to one writer.
    fn commits(&self) -> Option<u64> {
        if self.file().is_some_and(|file| file.is_readable().is_err()) {
            return None;
        }
        self.writer.as_ref().and_then(Writer::commits)
    }

    async fn is_ready(&self) -> StoreResult<bool> {
        if self.file().is_some_and(|file| file.verify().is_err()) {
            return Ok(false);
        }
        let steps = schema::steps(&self.connections.read).await.map_err(store_error)?;
        Ok(steps.iter().all(|step| step.state != StepState::Pending))
    }
}
