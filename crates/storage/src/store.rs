//! The open database: units of work, readiness.

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
use crate::connect::{
    self, Connections, DatabaseOptions, OpenError, PostgresPools, STOP, SqlitePools, Stop,
};
use crate::database_url::DatabaseKind;
use crate::error::store_error;
use crate::file::{self, DatabaseFile};
use crate::filter::MAX_CANDIDATES;
use crate::group::Writer;
use crate::observe::{self, Operation, Pool};
use crate::postgres::{Lease, Server};
use crate::replica::read_only;
use crate::schema::{self, StepState};
use crate::turnstile::Class;
use crate::unit_of_work::{Handle, Held, SeaUnitOfWork};

/// An open database. Cheap to clone: all clones share the connections and the lock.
#[derive(Debug, Clone)]
pub struct Database {
    options: DatabaseOptions,
    connections: Connections,
    /// SQLite's, where units of work share transactions.
    writer: Option<Writer>,
    max_candidates: u64,
    /// Whether all migrations are applied, as far as is known.
    is_migrated: Arc<AtomicBool>,
    /// When the SQLite file was last found to take writes.
    wrote_at: Arc<Mutex<Option<Instant>>>,
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

/// How often a server or a file is asked whether it takes writes, at most.
const WATCH: Duration = Duration::from_secs(5);
/// How long that may take on a file: others may write just then.
const PATIENCE: Duration = Duration::from_secs(1);

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
        };
        // One that does not answer now is asked again.
        if let Err(error) = database.look_at_schema().await {
            tracing::debug!(%error, "the schema is not known yet");
        }
        database.watch_server();
        Ok(database)
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
    /// Returns what the driver does.
    pub async fn close(self) -> StoreResult<()> {
        self.log_audit_heads();
        // With its last connection SQLite removes the log: that is nobody's attack.
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

    /// Bounds the statements of a page of a list, on PostgreSQL.
    async fn bound(&self, transaction: &DatabaseTransaction, terms: &Terms) -> Result<(), DbErr> {
        let left = terms.deadline.map(|it| it.saturating_duration_since(Instant::now()));
        let limit = left.map_or(self.options.list_timeout, |it| it.min(self.options.list_timeout));
        // A number of ours: SET takes no parameters. A generic plan is blind to how selective a
        // value of a filter is.
        let limit = limit.as_millis().clamp(1, i32::MAX as u128);
        let settings = format!("SET LOCAL statement_timeout = {limit}; {CUSTOM_PLANS}");
        transaction.execute_unprepared(&settings).await?;
        Ok(())
    }

    /// Whether all migrations are applied. Two statements.
    async fn look_at_schema(&self) -> StoreResult<bool> {
        let steps = schema::steps(self.connections.upkeep()).await.map_err(store_error)?;
        let is_migrated = steps.iter().all(|step| step.state != StepState::Pending);
        self.is_migrated.store(is_migrated, Ordering::Relaxed);
        Ok(is_migrated)
    }

    /// Serves nobody before all migrations are applied.
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

    /// Notices when the server takes no writes any more: connections to it are then made anew,
    /// since another server may be behind its name.
    fn watch_server(&self) {
        let Connections::Postgres(pools) = &self.connections else { return };
        let control = Arc::downgrade(&pools.control);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(WATCH).await;
                let Some(control) = control.upgrade() else { return };
                // What it finds it notes itself; a server that is away is no news here.
                drop(control.takes_writes().await);
            }
        });
    }

    /// Whether the SQLite file takes writes. Where it just has, or is busy with one, it is not tried
    /// again.
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
                tracing::warn!(cause, "the database takes no writes");
                false
            }
            // Others write.
            Err(_) => last.is_some(),
        };
        *wrote_at() = takes_writes.then(Instant::now);
        takes_writes
    }

    /// Writes the heads of the audit chains that have grown since the last time to the log, so that
    /// whoever keeps the log has evidence outside the database. Costs a line for each, no statement.
    pub fn log_audit_heads(&self) {
        self.heads.log();
    }

    fn unit(&self, handle: Handle, held: Held) -> SeaUnitOfWork {
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

    /// A unit that writes, as itself, for upkeep that is no use case.
    pub(crate) async fn writing_unit(&self) -> StoreResult<SeaUnitOfWork> {
        let (handle, held) = self.writing(WriteKind::Many, &Terms::default()).await?;
        Ok(self.unit(handle, held))
    }

    /// A unit that reads, as itself.
    #[cfg(feature = "testing")]
    pub(crate) async fn reading_unit(
        &self,
        kind: ReadKind,
        terms: &Terms,
    ) -> StoreResult<SeaUnitOfWork> {
        let (handle, held) = self.reader(kind, terms).await?;
        Ok(self.unit(handle, held))
    }

    /// Gathers PostgreSQL's statistics; SQLite is not asked for any.
    ///
    /// # Errors
    /// Where the database does not answer.
    #[cfg(feature = "testing")]
    pub async fn analyze(&self) -> StoreResult<()> {
        if self.kind() == DatabaseKind::Postgres {
            let analyzed = self.connections.any().execute_unprepared("ANALYZE").await;
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

    /// What this process can read of what policies use; for tests of an older version.
    #[cfg(feature = "testing")]
    pub const fn set_features(&mut self, known: fireflow_domain::features::Features) {
        self.options.features = known;
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
        self.connections.pools()
    }

    /// How many transactions SQLite's writer has begun.
    #[must_use]
    pub fn write_groups(&self) -> u64 {
        self.writer.as_ref().map_or(0, Writer::groups)
    }

    /// What a unit that reads runs on, and what it holds meanwhile.
    async fn reader(&self, kind: ReadKind, terms: &Terms) -> StoreResult<(Handle, Held)> {
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
            return Ok((Handle::Pool(pools.read.clone()), Held::of_file(turn, None)));
        }
        let list_end = Instant::now() + self.options.list_timeout;
        let end = match kind {
            ReadKind::Page | ReadKind::FreshPage => {
                Some(terms.deadline.map_or(list_end, |it| it.min(list_end)))
            }
            // As long as its reader takes; it is stopped when that one leaves.
            ReadKind::Export | ReadKind::FreshExport => None,
            ReadKind::Single | ReadKind::Snapshot | ReadKind::Compilation => terms.deadline,
        };
        let stop = Stop::new(end);
        // The first read takes the snapshot.
        let begun = STOP.scope(Arc::clone(&stop), pools.list.begin()).await.map_err(store_error)?;
        Ok((Handle::Transaction(begun), Held::of_file(turn, Some(stop))))
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

    /// What a transaction that reads is told before its first statement.
    async fn prepare(
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
        server.lease(turn).ok_or_else(|| StoreError::Failed("more turns than connections".into()))
    }

    /// What a unit that writes runs on, and what it holds meanwhile.
    async fn writing(&self, kind: WriteKind, terms: &Terms) -> StoreResult<(Handle, Held)> {
        match (&self.connections, &self.writer) {
            (Connections::Postgres(pools), _) => {
                let class = match kind {
                    WriteKind::Few => Class::Writes,
                    WriteKind::Many => Class::LargeSets,
                };
                let lease = self.lease(&pools.writers, class, terms).await?;
                // Read committed: who waited for a lock must see what its holder wrote.
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

/// Whose turns a unit of work takes.
const fn class(kind: ReadKind) -> Class {
    match kind {
        ReadKind::Single => Class::Reads,
        ReadKind::Snapshot | ReadKind::Page | ReadKind::FreshPage => Class::Lists,
        ReadKind::Export | ReadKind::FreshExport => Class::Exports,
        ReadKind::Compilation => Class::Compilations,
    }
}

/// Watches a SQLite file, all of whose connections but one are open.
async fn guard(options: &DatabaseOptions, file: Arc<DatabaseFile>) -> Result<Guard, OpenError> {
    let keeper = connect::file_session(options, Some(&file)).await?;
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
    async fn read(&self, kind: ReadKind, terms: &Terms) -> StoreResult<Box<dyn ReadUnit>> {
        let start = Instant::now();
        self.check_schema().await?;
        let begun = self.reader(kind, terms).await;
        // Of statements on their own each begins and ends by itself.
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
