//! Opens connections as the options describe.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use fireflow_domain::features::Features;
use fireflow_domain::usecase::rule::PolicyLimits;
use sea_orm::sqlx::SqliteConnection;
use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr, SqlxError};

use crate::database_url::{DatabaseKind, DatabaseUrl};
use crate::file::{DatabaseFile, Purpose};
use crate::observe::{self, Observer, Pool};
use crate::postgres::{Control, Server};
use crate::replica::Replica;
use crate::session::{Role, Session};
use crate::turnstile::{Class, Plan, Turnstile};

/// How to connect.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// The database.
    pub url: DatabaseUrl,
    /// A read replica of it, for lists; only with PostgreSQL.
    pub read_url: Option<DatabaseUrl>,
    /// The most connections to a PostgreSQL server, at least [`MIN_CONNECTIONS`]. On SQLite, the
    /// most readers of single resources.
    pub max_connections: u32,
    /// How long a page of a list may take in the database.
    pub list_timeout: Duration,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// The longest useful time of a statement, and of the wait for the turn to write on SQLite: the
    /// time of a request.
    pub turn_timeout: Duration,
    /// The most units of work that share a transaction, on SQLite.
    pub write_group: usize,
    /// Receives every statement.
    pub observer: Option<Arc<dyn Observer>>,
    /// The policy features that this process can read.
    pub features: Features,
    /// The most that a policy may hold.
    pub policy_limits: PolicyLimits,
    /// The purpose of opening it: it decides whether others wait for a SQLite file.
    pub purpose: Purpose,
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is invalid. The text explains what is right, without repeating the URL.
    #[error("{0}")]
    BadUrl(String),
    /// A second process requests a SQLite database.
    #[error(
        "{} is in use by {holder}; a SQLite database serves one process, use PostgreSQL for more",
        path.display()
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// The process that holds it.
        holder: String,
    },
    /// A SQLite file cannot be used, or using it could lose writes.
    #[error("cannot use the SQLite database {}: {why}", path.display())]
    Refused {
        /// The database.
        path: PathBuf,
        /// The reason, and the remedy.
        why: String,
    },
    /// The lock file cannot be used.
    #[error("cannot use the lock file {}: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Too few connections for PostgreSQL: each class of work has one of its own.
    #[error(
        "PostgreSQL needs at least {MIN_CONNECTIONS} connections, not {0}: each class of work has \
         one of its own (single reads, lists, compilations, writes, large sets), and one is kept to \
         cancel statements"
    )]
    TooFewConnections(u32),
    /// The database cannot hold every text.
    #[error(
        "the database `{database}` stores text as {encoding}, but FireFlow needs UTF8: create one \
         with `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`"
    )]
    Encoding {
        /// Its name.
        database: String,
        /// Its encoding.
        encoding: String,
    },
    /// There is no schema to create tables in.
    #[error(
        "the search path `{search_path}` names no schema that exists and may be used: set one with \
         `ALTER ROLE … SET search_path = public`, or with `?options=-c%20search_path%3Dpublic` in \
         the URL"
    )]
    NoSchema {
        /// The search path.
        search_path: String,
    },
    /// A pooler that does not keep sessions apart.
    #[error(
        "the database is reached through a pooler that does not keep one session for each \
         connection (PgBouncer with `pool_mode = transaction` or `statement`): set `pool_mode = \
         session` for FireFlow's database or user there, or connect to PostgreSQL directly"
    )]
    Pooler,
    /// A pooler that refuses a parameter of the URL.
    #[error(
        "the pooler in front of the database refuses a parameter of the URL ({0}): remove it there \
         and set it for the role (`ALTER ROLE … SET …`), or name it in the pooler's \
         `ignore_startup_parameters`"
    )]
    PoolerParameter(String),
    /// No connection could be opened.
    #[error("cannot open the database {place}")]
    Connect {
        /// The database's location, without secrets.
        place: String,
        /// The reason.
        #[source]
        source: DbErr,
    },
}

/// The fewest connections that PostgreSQL is served with: one for each class of work, and one to
/// cancel statements with.
pub const MIN_CONNECTIONS: u32 = 6;

/// How long SQLite waits for another process: backups, the `sqlite3` shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for a connection to the read replica: the primary can answer instead.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections, by their purpose.
#[derive(Debug, Clone)]
pub(crate) enum Connections {
    /// To a file.
    Sqlite(SqlitePools),
    /// To a server.
    Postgres(PostgresPools),
}

/// Connections to a SQLite file.
#[derive(Debug, Clone)]
pub(crate) struct SqlitePools {
    /// The one writer.
    pub(crate) write: DatabaseConnection,
    /// For single resources; cannot write.
    pub(crate) read: DatabaseConnection,
    /// For all other reads, whose statements can be stopped; cannot write.
    pub(crate) list: DatabaseConnection,
    /// Decides which reader goes next.
    pub(crate) turnstile: Turnstile,
}

/// Connections to a PostgreSQL server, and to its replica if there is one.
#[derive(Debug, Clone)]
pub(crate) struct PostgresPools {
    /// The readers, which cannot write.
    pub(crate) readers: Arc<Server>,
    pub(crate) writers: Arc<Server>,
    pub(crate) control: Arc<Control>,
    pub(crate) replica: Option<Arc<Replica>>,
    pub(crate) session: Session,
}

impl Connections {
    /// The pools, by their purpose.
    pub(crate) fn pools(&self) -> Vec<Pool> {
        match self {
            Self::Sqlite(SqlitePools { write, read, list, .. }) => {
                [("write", write), ("read", read), ("list", list)]
                    .map(|(name, connection)| Pool::of_sqlite(name, connection))
                    .into()
            }
            Self::Postgres(pools) => {
                let control = pools.control.single().pool();
                let all = pools.readers.pools().chain(pools.writers.pools()).chain([control]);
                let primary = Pool::of_postgres("primary", all.collect());
                let replica = pools.replica.as_ref().map(|replica| replica.pool());
                [primary].into_iter().chain(replica).collect()
            }
        }
    }

    /// A connection for statements outside a unit of work, such as a check of the schema.
    pub(crate) async fn upkeep(&self) -> DatabaseConnection {
        match self {
            Self::Sqlite(pools) => pools.read.clone(),
            Self::Postgres(pools) => pools.control.connection().await,
        }
    }

    /// A connection that can write, for tests.
    #[cfg(feature = "testing")]
    pub(crate) async fn any(&self) -> DatabaseConnection {
        match self {
            Self::Sqlite(pools) => pools.write.clone(),
            Self::Postgres(pools) => pools.control.connection().await,
        }
    }

    /// Closes all connections.
    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        match self {
            Self::Sqlite(SqlitePools { write, read, list, .. }) => {
                let list = list.close_by_ref().await;
                list.and(read.close_by_ref().await).and(write.close_by_ref().await)
            }
            Self::Postgres(pools) => {
                let replica = match &pools.replica {
                    Some(replica) => replica.close().await,
                    None => Ok(()),
                };
                let (readers, writers) = (pools.readers.close().await, pools.writers.close().await);
                let control = pools.control.single().close().await;
                replica.and(readers).and(writers).and(control)
            }
        }
    }
}

/// Opens the pools; on SQLite, those of a file that belongs to this process.
pub(crate) async fn connect(
    options: &DatabaseOptions,
    file: Option<&Arc<DatabaseFile>>,
) -> Result<Connections, OpenError> {
    match options.url.kind() {
        DatabaseKind::Sqlite => Ok(Connections::Sqlite(open_file(options, file).await?)),
        DatabaseKind::Postgres => Ok(Connections::Postgres(open_server(options).await?)),
    }
}

async fn open_file(
    options: &DatabaseOptions,
    file: Option<&Arc<DatabaseFile>>,
) -> Result<SqlitePools, OpenError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let processors = u32::try_from(processors).unwrap_or(u32::MAX);
    let readers = options.max_connections.max(1);
    let turnstile = Turnstile::new(Plan::of_file(readers, processors));
    // The writer comes first: it creates the file and its journal.
    let write = file_pool(options, file, one(&options.url), Opening::CREATES).await?;
    let read = several(options, readers);
    let read = file_pool(options, file, read, Opening::READS).await?;
    let stoppable = [Class::Lists, Class::Exports, Class::Compilations];
    let list = several(options, stoppable.map(|class| turnstile.most(class)).iter().sum());
    let list = file_pool(options, file, list, Opening::LISTS).await?;
    Ok(SqlitePools { write, read, list, turnstile })
}

async fn open_server(options: &DatabaseOptions) -> Result<PostgresPools, OpenError> {
    let most = options.max_connections;
    if most < MIN_CONNECTIONS {
        return Err(OpenError::TooFewConnections(most));
    }
    let session = Session::check(options).await?;
    let control = Control::new(options, &options.url, &session, false).await?;
    let writers = (most - 1) / 2;
    let readers = most - 1 - writers;
    let server = async |role, plan| {
        Server::new(options, &session.with_role(role), plan, Arc::clone(&control)).await
    };
    let readers = server(Role::Reader, Plan::of_readers(readers)).await?;
    let writers = server(Role::Writer, Plan::of_writers(writers)).await?;
    let replica = match &options.read_url {
        Some(url) => {
            let patience = options.acquire_timeout;
            let timeout = patience.min(REPLICA_TIMEOUT);
            let options = DatabaseOptions { acquire_timeout: timeout, ..options.clone() };
            let session = session.elsewhere();
            let control = Control::new(&options, url, &session, true).await?;
            let (plan, session) = (Plan::of_replica(most - 1), session.with_role(Role::Reader));
            let server = Server::new(&options, &session, plan, Arc::clone(&control)).await?;
            Some(Arc::new(Replica::new(server, control, patience)))
        }
        None => None,
    };
    Ok(PostgresPools { readers, writers, control, replica, session })
}

/// A pool of one connection that lives until it is closed, so that a session lock on it stays. A
/// step on it may take long.
pub(crate) async fn session(
    options: &DatabaseOptions,
    connections: &Connections,
    file: Option<&Arc<DatabaseFile>>,
) -> Result<DatabaseConnection, OpenError> {
    match connections {
        Connections::Sqlite(_) => file_session(options, file).await,
        Connections::Postgres(pools) => {
            let session = pools.session.with_role(Role::Migration);
            crate::postgres::open_session(options, &session).await
        }
    }
}

/// Opens such a session to a SQLite file.
pub(crate) async fn file_session(
    options: &DatabaseOptions,
    file: Option<&Arc<DatabaseFile>>,
) -> Result<DatabaseConnection, OpenError> {
    file_pool(options, file, one(&options.url), Opening::CREATES).await
}

/// One connection to an existing database, even if another process holds it.
pub(crate) async fn existing(options: &DatabaseOptions) -> Result<DatabaseConnection, OpenError> {
    match options.url.kind() {
        DatabaseKind::Sqlite => {
            file_pool(options, None, one(&options.url), Opening::EXISTING).await
        }
        DatabaseKind::Postgres => {
            let session = Session::check(options).await?.with_role(Role::Migration);
            crate::postgres::open_session(options, &session).await
        }
    }
}

/// How connections to a file are opened.
#[derive(Debug, Clone, Copy)]
struct Opening {
    creates: bool,
    only_reads: bool,
    /// Whether the connection's statements can be stopped.
    stops: bool,
}

impl Opening {
    const CREATES: Self = Self { creates: true, only_reads: false, stops: false };
    const EXISTING: Self = Self { creates: false, only_reads: false, stops: false };
    const READS: Self = Self { creates: false, only_reads: true, stops: false };
    const LISTS: Self = Self { creates: false, only_reads: true, stops: true };
}

/// Whether a new connection is to the file that belongs to this process, and not to another file
/// that has taken its place.
fn is_the_same(file: &Weak<DatabaseFile>) -> Result<(), SqlxError> {
    // Without the file, nothing uses the connection.
    let Some(file) = file.upgrade() else { return Ok(()) };
    file.verify().map_err(|lost| SqlxError::Io(io::Error::other(lost)))
}

/// Options for a single connection that stays open.
pub(crate) fn one(url: &DatabaseUrl) -> ConnectOptions {
    let mut connect = url.connect_options();
    connect.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
    connect
}

fn several(options: &DatabaseOptions, most: u32) -> ConnectOptions {
    let mut connect = options.url.connect_options();
    connect.max_connections(most.max(1)).min_connections(0);
    connect
}

async fn file_pool(
    options: &DatabaseOptions,
    file: Option<&Arc<DatabaseFile>>,
    mut connect: ConnectOptions,
    Opening { creates, only_reads, stops }: Opening,
) -> Result<DatabaseConnection, OpenError> {
    // Links may later lead elsewhere, so the resolved path is used.
    let path = file.map(|file| file.path().to_owned());
    let weak = file.map_or_else(Weak::new, Arc::downgrade);
    connect
        .acquire_timeout(options.acquire_timeout)
        .connect_timeout(options.acquire_timeout)
        .map_sqlx_sqlite_opts(move |sqlite| {
            let sqlite = match &path {
                Some(path) => sqlite.filename(path),
                None => sqlite,
            };
            let sqlite = sqlite
                .create_if_missing(creates)
                .journal_mode(SqliteJournalMode::Wal)
                // In WAL only FULL keeps an acknowledged commit through a power cut.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(BUSY_TIMEOUT);
            // The connection is not opened read-only: as the first connection, such a one cannot
            // create the journal's index.
            if only_reads { sqlite.pragma("query_only", "ON") } else { sqlite }
        })
        .map_sqlx_sqlite_pool_opts(move |pool| {
            let file = Weak::clone(&weak);
            let pool = pool.after_connect(move |connection, _| {
                let is_the_same = is_the_same(&file);
                Box::pin(async move {
                    is_the_same?;
                    if stops { obey(connection).await } else { Ok(()) }
                })
            });
            if !stops {
                return pool;
            }
            // A connection that comes back to the pool obeys its next user.
            pool.before_acquire(|connection, _| {
                Box::pin(async move { obey(connection).await.map(|()| true) })
            })
        });
    open(connect, &options.url, options.observer.as_ref()).await
}

/// How many steps of SQLite's virtual machine run between two checks: about a millisecond.
const STEPS_PER_LOOK: i32 = 20_000;

tokio::task_local! {
    /// Stops the statements of a connection that is being taken from the pool of lists.
    pub(crate) static STOP: Arc<Stop>;
}

/// Stops a SQLite statement: at a deadline, or when nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct Stop {
    at: Option<Instant>,
    is_stopped: AtomicBool,
}

impl Stop {
    pub(crate) fn new(at: Option<Instant>) -> Arc<Self> {
        Arc::new(Self { at, is_stopped: AtomicBool::new(false) })
    }

    fn should_continue(&self) -> bool {
        !self.is_stopped.load(Ordering::Relaxed) && self.at.is_none_or(|at| Instant::now() < at)
    }
}

/// Stops the statement when it is dropped.
#[derive(Debug)]
pub(crate) struct StopOnDrop(pub(crate) Arc<Stop>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// Makes a connection's statements stop when its current user requests it.
async fn obey(connection: &mut SqliteConnection) -> Result<(), SqlxError> {
    let mut handle = connection.lock_handle().await?;
    match STOP.try_with(Arc::clone) {
        Ok(stop) => handle.set_progress_handler(STEPS_PER_LOOK, move || stop.should_continue()),
        Err(_) => handle.remove_progress_handler(),
    }
    Ok(())
}

/// Opens a pool whose statements are observed.
pub(crate) async fn open(
    mut connect: ConnectOptions,
    url: &DatabaseUrl,
    observer: Option<&Arc<dyn Observer>>,
) -> Result<DatabaseConnection, OpenError> {
    connect.sqlx_logging(false).record_stmt_in_spans(false);
    // Testing a connection costs as much as a small query. A connection to a file does not die; for
    // connections to a server, see `postgres`.
    connect.test_before_acquire(false);
    let mut connection = Database::connect(connect).await.map_err(|source| failed(url, source))?;
    observe::watch(&mut connection, observer);
    Ok(connection)
}

/// The error for a database that could not be reached, without secrets.
pub(crate) fn failed(url: &DatabaseUrl, source: DbErr) -> OpenError {
    OpenError::Connect { place: url.place(), source }
}
