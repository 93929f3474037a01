//! The open database: units of work, and readiness.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fireflow_domain::error::{ErrorChain, Outage, StoreError};
use fireflow_domain::store::{
    ReadKind, ReadUnit, Storage, StoreResult, Terms, WriteKind, WriteUnit,
};
use fireflow_domain::usecase::rule::PolicyLimits;
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, TransactionTrait};
use tokio::task::JoinHandle;

use crate::audit_log;
use crate::chains::Chains;
use crate::connect::{self, Connections, PostgresPools, SqlitePools};
use crate::database_url::DatabaseKind;
use crate::error::store_error;
use crate::file::{self, DatabaseFile};
use crate::filter::MAX_CANDIDATES;
use crate::group::Writer;
use crate::observe::{self, Operation, Pool};
use crate::open_error::OpenError;
use crate::options::DatabaseOptions;
use crate::postgres::{Lease, Server};
use crate::readers::Reads;
use crate::replica::read_only;
use crate::steps::{StepState, steps};
use crate::stop::Stop;
use crate::turnstile::Class;
use crate::unit_of_work::{Handle, Held, SeaUnitOfWork};

/// An open database. Cheap to clone: all clones share the connections and the lock.
#[derive(Debug, Clone)]
pub struct Database {
    pub(crate) options: DatabaseOptions,
    connections: Connections,
    /// The writer of SQLite, where units of work share transactions.
    pub(crate) writer: Option<Writer>,
    pub(crate) max_candidates: u64,
    /// Whether all migrations are applied, as far as is known.
    is_migrated: Arc<AtomicBool>,
    /// When the SQLite file was last found to take writes.
    wrote_at: Arc<Mutex<Option<Instant>>>,
    /// The heads of audit chains that are not in the log yet.
    heads: Arc<audit_log::Heads>,
    /// The transaction of a test, in whose savepoints all units of work run.
    #[cfg(feature = "testing")]
    pub(crate) outer: Option<Arc<crate::nested::Outer>>,
    /// The guard of a SQLite file. It is the last field, so that the file's locks are released
    /// after the connections.
    guard: Option<Arc<Guard>>,
}

/// A SQLite file that belongs to this process, and the task that watches it.
#[derive(Debug)]
struct Guard {
    /// Never used: while it is open, SQLite keeps the write-ahead log even if other connections
    /// close. A different log therefore means that somebody removed it.
    keeper: DatabaseConnection,
    watch: JoinHandle<()>,
    file: Arc<DatabaseFile>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// The least interval for checking whether a server or a file takes writes.
const WATCH: Duration = Duration::from_secs(5);
/// The timeout of that check on a file: others may be writing.
const PATIENCE: Duration = Duration::from_secs(1);

/// The planning of filtered queries on PostgreSQL: for their actual values.
const CUSTOM_PLANS: &str = "SET LOCAL plan_cache_mode = force_custom_plan";

impl Database {
    /// Opens a database. A missing SQLite file is created, and the file is taken for this process
    /// alone.
    ///
    /// # Errors
    /// Returns an error if it cannot be reached, or another process has the SQLite file. A process
    /// that runs a command is waited for, at most two minutes; a service is not.
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
        let writer = match (&connections, &guard) {
            (Connections::Sqlite(pools), Some(guard)) => {
                let (connection, file) = (pools.write.clone(), Arc::clone(&guard.file));
                Some(Writer::start(connection, file, options.turn_timeout, options.write_group))
            }
            (Connections::Sqlite(_) | Connections::Postgres(_), _) => None,
        };
        let (is_migrated, wrote_at) = (Arc::default(), Arc::default());
        let (max_candidates, heads) = (MAX_CANDIDATES, Arc::default());
        let database = Self {
            options,
            connections,
            writer,
            max_candidates,
            is_migrated,
            wrote_at,
            heads,
            guard,
            #[cfg(feature = "testing")]
            outer: None,
        };
        // A database that does not answer now is asked again later.
        if let Err(error) = database.look_at_schema().await {
            tracing::debug!(%error, "the schema is not known yet");
        }
        database.watch_server();
        Ok(database)
    }

    /// The kind of database.
    #[must_use]
    pub const fn kind(&self) -> DatabaseKind {
        self.options.url.kind()
    }

    /// The most connections of writers and readers together, in use or idle.
    #[must_use]
    pub const fn max_connections(&self) -> u32 {
        self.options.max_connections
    }

    /// Closes all connections, after the statements in progress have ended.
    ///
    /// # Errors
    /// Returns the driver's error.
    pub async fn close(self) -> StoreResult<()> {
        self.log_audit_heads();
        // SQLite removes the log when its last connection closes, so the watcher stops first.
        if let Some(guard) = &self.guard {
            guard.watch.abort();
        }
        let closed = self.connections.close().await;
        let keeper = match &self.guard {
            Some(guard) => guard.keeper.close_by_ref().await,
            None => Ok(()),
        };
        closed.and(keeper).map_err(store_error)
    }

    /// Limits the statements of a list page, on PostgreSQL.
    async fn bound(&self, transaction: &DatabaseTransaction, terms: &Terms) -> Result<(), DbErr> {
        let left = terms.deadline.map(|it| it.saturating_duration_since(Instant::now()));
        let limit = left.map_or(self.options.list_timeout, |it| it.min(self.options.list_timeout));
        // This is our own number: SET takes no parameters. A generic plan would ignore how
        // selective a filter's value is.
        let limit = limit.as_millis().clamp(1, i32::MAX as u128);
        let settings = format!("SET LOCAL statement_timeout = {limit}; {CUSTOM_PLANS}");
        transaction.execute_unprepared(&settings).await?;
        Ok(())
    }

    /// Checks whether all migrations are applied. Two statements.
    async fn look_at_schema(&self) -> StoreResult<bool> {
        let steps = steps(&self.connections.upkeep().await).await.map_err(store_error)?;
        let is_migrated = steps.iter().all(|step| step.state != StepState::Pending);
        self.is_migrated.store(is_migrated, Ordering::Relaxed);
        Ok(is_migrated)
    }

    /// Refuses to serve until all migrations are applied.
    async fn check_schema(&self) -> StoreResult<()> {
        if self.is_migrated.load(Ordering::Relaxed) || self.look_at_schema().await? {
            return Ok(());
        }
        let why = "migrations are pending; run `fireflow migrate up`";
        Err(StoreError::Refused(Outage::NotMigrated, why.into()))
    }

    pub(crate) fn note_migrated(&self, is_migrated: bool) {
        self.is_migrated.store(is_migrated, Ordering::Relaxed);
    }

    /// Detects that the server takes no writes any more. Connections to it are then reopened, since
    /// its host name may lead to another server.
    fn watch_server(&self) {
        let Connections::Postgres(pools) = &self.connections else { return };
        let control = Arc::downgrade(&pools.control);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(WATCH).await;
                let Some(control) = control.upgrade() else { return };
                // The check records its own findings; an unreachable server is not reported here.
                drop(control.takes_writes().await);
            }
        });
    }

    /// Whether the SQLite file takes writes. If it has just taken one, or is busy with one, it is
    /// not tested again.
    async fn file_takes_writes(&self, writer: &Writer) -> bool {
        let wrote_at = || self.wrote_at.lock().unwrap_or_else(PoisonError::into_inner);
        let last = *wrote_at();
        if last.is_some_and(|at| at.elapsed() < WATCH) {
            return true;
        }
        let tried = tokio::time::timeout(PATIENCE, writer.try_to_write()).await;
        let takes_writes = match tried {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                let cause = ErrorChain(&error).to_string();
                tracing::warn!(cause, "the database accepts no writes");
                false
            }
            // Others are writing.
            Err(_) => last.is_some(),
        };
        *wrote_at() = takes_writes.then(Instant::now);
        takes_writes
    }

    /// Logs the heads of the audit chains that have grown since the last time, so that the log is
    /// evidence outside the database. Costs one line for each chain, and no statement.
    pub fn log_audit_heads(&self) {
        self.heads.log();
    }

    pub(crate) fn unit(&self, handle: Handle, held: Held) -> SeaUnitOfWork {
        SeaUnitOfWork {
            handle,
            held,
            features: self.options.features,
            limits: self.options.policy_limits,
            max_candidates: self.max_candidates,
            events: Vec::new(),
            chains: Chains::default(),
            heads: Arc::clone(&self.heads),
            observer: self.options.observer.clone(),
        }
    }

    /// A writing unit of the concrete type, for upkeep outside a use case.
    pub(crate) async fn writing_unit(&self) -> StoreResult<SeaUnitOfWork> {
        let (handle, held) = self.writing(WriteKind::Many, &Terms::default()).await?;
        Ok(self.unit(handle, held))
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

    /// The pools of connections, by their purpose.
    #[must_use]
    pub fn pools(&self) -> Vec<Pool> {
        self.connections.pools()
    }

    /// How many transactions SQLite's writer has begun.
    #[must_use]
    pub fn write_groups(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::groups)
    }

    /// The handle that a reading unit runs on, and what it holds until it ends.
    pub(crate) async fn reader(
        &self,
        kind: ReadKind,
        terms: &Terms,
    ) -> StoreResult<(Handle, Held)> {
        #[cfg(feature = "testing")]
        if let Some(nested) = self.nested(Some((kind, terms))).await {
            return nested;
        }
        match &self.connections {
            Connections::Sqlite(pools) => self.reader_of_file(pools, kind, terms).await,
            Connections::Postgres(pools) => self.reader_of_server(pools, kind, terms).await,
        }
    }

    async fn reader_of_file(
        &self,
        pools: &SqlitePools,
        kind: ReadKind,
        terms: &Terms,
    ) -> StoreResult<(Handle, Held)> {
        if let Some(file) = self.file() {
            file.is_readable().map_err(|lost| StoreError::Unavailable(lost.into()))?;
        }
        let patience = self.options.acquire_timeout;
        let class = class(kind);
        let turn = pools.turnstile.enter(class, terms.party, terms.deadline, patience).await?;
        if class == Class::Reads {
            let lent = pools.read.lend(Reads::EachByItself, None).await.map_err(store_error)?;
            return Ok((Handle::Reader(lent), Held::of_file(turn, None)));
        }
        let list_end = Instant::now() + self.options.list_timeout;
        let end = match kind {
            ReadKind::Page | ReadKind::FreshPage => {
                Some(terms.deadline.map_or(list_end, |it| it.min(list_end)))
            }
            // An export takes as long as its reader, and is stopped when the reader leaves.
            ReadKind::Export | ReadKind::FreshExport => None,
            ReadKind::Single | ReadKind::Snapshot | ReadKind::Compilation => terms.deadline,
        };
        let stop = Stop::new(end);
        let lent = pools.list.lend(Reads::OneState, Some(Arc::clone(&stop))).await;
        Ok((Handle::Reader(lent.map_err(store_error)?), Held::of_file(turn, Some(stop))))
    }

    async fn reader_of_server(
        &self,
        pools: &PostgresPools,
        kind: ReadKind,
        terms: &Terms,
    ) -> StoreResult<(Handle, Held)> {
        let class = class(kind);
        if let (ReadKind::Page | ReadKind::Export, Some(replica)) = (kind, &pools.replica)
            && let Some((transaction, lease)) = replica.snapshot(class, terms).await?
            && self.prepare(&transaction, kind, terms).await.is_ok()
        {
            return Ok((Handle::Transaction(transaction), Held::Lease(lease)));
        }
        let lease = self.lease(&pools.readers, class, terms).await?;
        if class == Class::Reads {
            return Ok((Handle::Pool(lease.connection().clone()), Held::Lease(lease)));
        }
        let begun = lease.connection().begin_with_options(read_only()).await;
        let transaction = begun.map_err(store_error)?;
        self.prepare(&transaction, kind, terms).await.map_err(store_error)?;
        Ok((Handle::Transaction(transaction), Held::Lease(lease)))
    }

    /// The settings of a reading transaction, which precede its first statement.
    pub(crate) async fn prepare(
        &self,
        transaction: &DatabaseTransaction,
        kind: ReadKind,
        terms: &Terms,
    ) -> Result<(), DbErr> {
        match kind {
            ReadKind::Page | ReadKind::FreshPage => self.bound(transaction, terms).await,
            ReadKind::Export | ReadKind::FreshExport => {
                transaction.execute_unprepared(CUSTOM_PLANS).await.map(drop)
            }
            ReadKind::Single | ReadKind::Snapshot | ReadKind::Compilation => Ok(()),
        }
    }

    async fn lease(&self, server: &Arc<Server>, class: Class, terms: &Terms) -> StoreResult<Lease> {
        let patience = self.options.acquire_timeout;
        let turn = server.turnstile().enter(class, terms.party, terms.deadline, patience).await?;
        let lease = server.lease(turn).await;
        lease.ok_or_else(|| StoreError::Failed("more turns than connections".into()))
    }

    /// The handle that a writing unit runs on, and what it holds until it ends.
    async fn writing(&self, kind: WriteKind, terms: &Terms) -> StoreResult<(Handle, Held)> {
        #[cfg(feature = "testing")]
        if let Some(nested) = self.nested(None).await {
            return nested;
        }
        match (&self.connections, &self.writer) {
            (Connections::Postgres(pools), _) => {
                let class = match kind {
                    WriteKind::Few => Class::Writes,
                    WriteKind::Many => Class::LargeSets,
                };
                let lease = self.lease(&pools.writers, class, terms).await?;
                // Read committed: a writer that waited for a lock must see what the lock's holder
                // wrote.
                let begun = lease.connection().begin().await.map_err(store_error)?;
                Ok((Handle::Transaction(begun), Held::Lease(lease)))
            }
            (Connections::Sqlite(_), Some(writer)) => {
                let turn = writer.begin(kind == WriteKind::Many, terms).await?;
                Ok((Handle::Turn(turn), Held::Nothing))
            }
            (Connections::Sqlite(_), None) => {
                Err(StoreError::Failed("a file without its writer".into()))
            }
        }
    }
}

/// The class whose turns a unit of work takes.
const fn class(kind: ReadKind) -> Class {
    match kind {
        ReadKind::Single => Class::Reads,
        ReadKind::Snapshot | ReadKind::Page | ReadKind::FreshPage => Class::Lists,
        ReadKind::Export | ReadKind::FreshExport => Class::Exports,
        ReadKind::Compilation => Class::Compilations,
    }
}

/// Watches a SQLite file; all connections to it except one are open.
async fn guard(options: &DatabaseOptions, file: Arc<DatabaseFile>) -> Result<Guard, OpenError> {
    let keeper = connect::file_session(options, Some(&file)).await?;
    // The first statement that reads creates the log.
    keeper
        .execute_unprepared("SELECT count(*) FROM sqlite_master")
        .await
        .map_err(|source| options.url.connect_error(source))?;
    file.note_logs()?;
    let watch = file::watch(&file, keeper.clone());
    Ok(Guard { keeper, watch, file })
}

#[async_trait]
impl Storage for Database {
    async fn read(&self, kind: ReadKind, terms: &Terms) -> StoreResult<Box<dyn ReadUnit>> {
        let start = Instant::now();
        self.check_schema().await?;
        let begun = self.reader(kind, terms).await;
        // Statements outside a transaction have no common beginning to report.
        if kind != ReadKind::Single {
            observe::tell(self.options.observer.as_ref(), Operation::Begin, start, &begun);
        }
        let (handle, held) = begun?;
        Ok(Box::new(self.unit(handle, held)))
    }

    async fn write(&self, kind: WriteKind, terms: &Terms) -> StoreResult<Box<dyn WriteUnit>> {
        let start = Instant::now();
        self.check_schema().await?;
        let begun = self.writing(kind, terms).await;
        observe::tell(self.options.observer.as_ref(), Operation::Begin, start, &begun);
        let (handle, held) = begun?;
        Ok(Box::new(self.unit(handle, held)))
    }

    fn policy_limits(&self) -> PolicyLimits {
        self.options.policy_limits
    }

    /// Known on SQLite, whose file belongs to one process with one writer.
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
        if !self.look_at_schema().await? {
            return Ok(false);
        }
        match (&self.connections, &self.writer) {
            (Connections::Postgres(pools), _) => {
                pools.control.takes_writes().await.map_err(store_error)
            }
            (Connections::Sqlite(_), Some(writer)) => Ok(self.file_takes_writes(writer).await),
            (Connections::Sqlite(_), None) => Ok(false),
        }
    }
}
