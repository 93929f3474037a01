//! From a URL to connections.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::sqlx::{Connection, PgConnection, SqliteConnection};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr, SqlxError};

use crate::file::{DatabaseFile, Purpose};
use crate::observe::{self, Observer, Pool};
use crate::replica::Replica;

/// Which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseKind {
    /// Embedded, one file.
    Sqlite,
    /// A server.
    Postgres,
}

/// Where the database is. Holds a password, perhaps: neither `Debug` nor any error shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    url: String,
    kind: DatabaseKind,
}

impl DatabaseUrl {
    /// Reads `sqlite://FILE` or `postgres://…`.
    ///
    /// # Errors
    /// Where it is neither, or the driver does not accept it.
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        let bad = |why: &str| OpenError::BadUrl(why.to_owned());
        let kind = if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url)
                .map_err(|_| bad("it is not a SQLite URL such as `sqlite://fireflow.db`"))?;
            let is_memory = url.contains(":memory:") || url.contains("mode=memory");
            if is_memory || options.get_filename().as_os_str().is_empty() {
                return Err(bad(
                    "name a file, such as `sqlite://fireflow.db`: a database in memory \
                                would be lost with the process",
                ));
            }
            DatabaseKind::Sqlite
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            PgConnectOptions::from_str(url).map_err(|_| {
                bad("it is not a PostgreSQL URL such as `postgres://user:password@host/database`")
            })?;
            DatabaseKind::Postgres
        } else {
            return Err(bad("it must begin with `sqlite://` or `postgres://`"));
        };
        Ok(Self { url: url.to_owned(), kind })
    }

    /// Which database it names.
    #[must_use]
    pub const fn kind(&self) -> DatabaseKind {
        self.kind
    }

    /// The file, where it is SQLite.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        match self.kind {
            DatabaseKind::Sqlite => SqliteConnectOptions::from_str(&self.url)
                .ok()
                .map(|options| options.get_filename().to_owned()),
            DatabaseKind::Postgres => None,
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseUrl").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// How to connect.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Where.
    pub url: DatabaseUrl,
    /// A read replica of it, for lists; only with PostgreSQL.
    pub read_url: Option<DatabaseUrl>,
    /// The most connections: on SQLite of readers, beside the one writer.
    pub max_connections: u32,
    /// How long a page of a list may take in the database.
    pub list_timeout: Duration,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// How long a request waits for its turn to write, on SQLite.
    pub turn_timeout: Duration,
    /// The most units of work that share a transaction, on SQLite.
    pub write_group: usize,
    /// Who hears of every statement.
    pub observer: Option<Arc<dyn Observer>>,
    /// What it is opened for: whether others wait for a SQLite file.
    pub purpose: Purpose,
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is wrong; says what is right, without the URL.
    #[error("{0}")]
    BadUrl(String),
    /// A second process asks for a SQLite database.
    #[error(
        "{} is in use by {holder}; a SQLite database serves one process, use PostgreSQL for more",
        path.display()
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// A SQLite file cannot be used, or using it could lose writes.
    #[error("cannot use the SQLite database {}: {why}", path.display())]
    Refused {
        /// The database.
        path: PathBuf,
        /// Why, and what helps.
        why: String,
    },
    /// The lock file cannot be used.
    #[error("cannot use the lock file {}: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No connection.
    #[error("cannot open the database {place}")]
    Connect {
        /// Where, without secrets.
        place: String,
        /// Why.
        #[source]
        source: DbErr,
    },
}

/// How long SQLite waits for another process: backups, the `sqlite3` shell.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection to the read replica is waited for: the primary can answer instead.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections to write and to read with; on PostgreSQL the same pool, and perhaps a replica.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    pub(crate) write: DatabaseConnection,
    pub(crate) read: DatabaseConnection,
    /// For pages of lists: on SQLite a pool of its own, whose statements are stopped when they take
    /// too long; PostgreSQL is told so in the transaction.
    pub(crate) list: DatabaseConnection,
    pub(crate) replica: Option<Arc<Replica>>,
}

impl Connections {
    /// The pools, by what they are for.
    pub(crate) fn pools(&self, kind: DatabaseKind) -> Vec<Pool> {
        match kind {
            DatabaseKind::Sqlite => {
                [("write", &self.write), ("read", &self.read), ("list", &self.list)]
                    .map(|(name, connection)| Pool::of_sqlite(name, connection))
                    .into()
            }
            DatabaseKind::Postgres => {
                let replica = self.replica.as_ref().map(|replica| replica.pool());
                [Pool::of_postgres("primary", &self.write)].into_iter().chain(replica).collect()
            }
        }
    }
}

/// Opens the pools; on SQLite those of a file that belongs to this process.
pub(crate) async fn connect(
    options: &DatabaseOptions,
    file: Option<&Arc<DatabaseFile>>,
) -> Result<Connections, OpenError> {
    match options.url.kind {
        DatabaseKind::Sqlite => {
            // The writer first: it makes the file and its journal.
            let write = pool(options, file, 1, true).await?;
            let read = pool(options, file, options.max_connections.max(1), false).await?;
            let list = bounded_pool(options, file).await?;
            Ok(Connections { write, read, list, replica: None })
        }
        DatabaseKind::Postgres => {
            let connect = settled(options, options.max_connections.max(1));
            let pool = open(connect, &options.url, None, true, options).await?;
            let replica = match &options.read_url {
                Some(url) => Some(Arc::new(Replica::new(replica_pool(options, url).await?))),
                None => None,
            };
            let (write, read) = (pool.clone(), pool.clone());
            Ok(Connections { write, read, list: pool, replica })
        }
    }
}

/// A pool of one connection that lives until it is closed: a session lock on it stays.
pub(crate) async fn session(
    options: &DatabaseOptions,
    file: Option<&Arc<DatabaseFile>>,
) -> Result<DatabaseConnection, OpenError> {
    pool(options, file, 1, true).await
}

/// One connection to what is there already, whoever has it.
pub(crate) async fn existing(options: &DatabaseOptions) -> Result<DatabaseConnection, OpenError> {
    pool(options, None, 1, false).await
}

async fn pool(
    options: &DatabaseOptions,
    file: Option<&Arc<DatabaseFile>>,
    connections: u32,
    creates: bool,
) -> Result<DatabaseConnection, OpenError> {
    let mut connect = settled(options, connections);
    if let Some(file) = file {
        let file = Arc::downgrade(file);
        connect.map_sqlx_sqlite_pool_opts(move |pool| {
            let file = Weak::clone(&file);
            pool.after_connect(move |_, _| {
                let is_the_same = is_the_same(&file);
                Box::pin(async move { is_the_same })
            })
        });
    }
    open(connect, &options.url, file, creates, options).await
}

/// Whether a connection that has just been opened is one to the file that belongs to this process,
/// and not to another that has taken its place.
fn is_the_same(file: &Weak<DatabaseFile>) -> Result<(), SqlxError> {
    // Without the file nobody uses the connection.
    let Some(file) = file.upgrade() else { return Ok(()) };
    file.verify().map_err(|lost| SqlxError::Io(io::Error::other(lost)))
}

fn settled(options: &DatabaseOptions, connections: u32) -> ConnectOptions {
    let mut connect = ConnectOptions::new(options.url.url.clone());
    connect
        .max_connections(connections)
        // SQLite's writer stays open; a pool that keeps a number of connections to a server away
        // holds their places while it tries.
        .min_connections(u32::from(connections == 1 && options.url.kind == DatabaseKind::Sqlite))
        .acquire_timeout(options.acquire_timeout)
        .connect_timeout(options.acquire_timeout);
    if connections == 1 {
        connect.idle_timeout(None).max_lifetime(None);
    }
    connect
}

/// How many steps of SQLite's machine lie between two looks at the clock: about a millisecond.
const STEPS_PER_LOOK: i32 = 20_000;

/// A pool of readers whose connections, from the moment that each is taken, have so long: whoever
/// takes one reads a page of a list, and gives it back.
async fn bounded_pool(
    options: &DatabaseOptions,
    file: Option<&Arc<DatabaseFile>>,
) -> Result<DatabaseConnection, OpenError> {
    let limit = options.list_timeout;
    let weak = file.map_or_else(Weak::new, Arc::downgrade);
    let mut connect = ConnectOptions::new(options.url.url.clone());
    connect
        .max_connections(options.max_connections.max(1))
        .min_connections(0)
        .acquire_timeout(options.acquire_timeout)
        .connect_timeout(options.acquire_timeout)
        .map_sqlx_sqlite_pool_opts(move |pool| {
            // New connections, and those that come back from their last user.
            let file = Weak::clone(&weak);
            pool.after_connect(move |connection, _| {
                let is_the_same = is_the_same(&file);
                Box::pin(async move {
                    is_the_same?;
                    bound(connection, limit).await
                })
            })
            .before_acquire(move |connection, _| {
                Box::pin(async move { bound(connection, limit).await.map(|()| true) })
            })
        });
    open(connect, &options.url, file, false, options).await
}

/// Stops whatever the connection does when the time is over.
async fn bound(connection: &mut SqliteConnection, limit: Duration) -> Result<(), SqlxError> {
    let start = Instant::now();
    connection
        .lock_handle()
        .await?
        .set_progress_handler(STEPS_PER_LOOK, move || start.elapsed() < limit);
    Ok(())
}

/// Lazy: a replica that is away keeps no service from starting.
async fn replica_pool(
    options: &DatabaseOptions,
    url: &DatabaseUrl,
) -> Result<DatabaseConnection, OpenError> {
    let timeout = options.acquire_timeout.min(REPLICA_TIMEOUT);
    let mut connect = ConnectOptions::new(url.url.clone());
    connect
        .max_connections(options.max_connections.max(1))
        .min_connections(0)
        .acquire_timeout(timeout)
        .connect_timeout(timeout)
        .connect_lazy(true);
    open(connect, url, None, false, options).await
}

async fn open(
    mut connect: ConnectOptions,
    url: &DatabaseUrl,
    file: Option<&Arc<DatabaseFile>>,
    creates: bool,
    options: &DatabaseOptions,
) -> Result<DatabaseConnection, OpenError> {
    connect.sqlx_logging(false).record_stmt_in_spans(false);
    // Asking costs as much as a small query. One to a file does not die; of those to a server see
    // `is_well`.
    connect.test_before_acquire(false);
    // Links may come to lead elsewhere.
    let path = file.map(|file| file.path().to_owned());
    match url.kind {
        DatabaseKind::Sqlite => connect.map_sqlx_sqlite_opts(move |sqlite| {
            let sqlite = match &path {
                Some(path) => sqlite.filename(path),
                None => sqlite,
            };
            sqlite
                .create_if_missing(creates)
                .journal_mode(SqliteJournalMode::Wal)
                // In WAL only FULL keeps an acknowledged commit through a power cut.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                .busy_timeout(BUSY_TIMEOUT)
        }),
        DatabaseKind::Postgres => connect
            .map_sqlx_postgres_pool_opts(move |pool| {
                pool.before_acquire(|connection, meta| {
                    let is_fresh = meta.idle_for < TRUSTED;
                    Box::pin(async move {
                        if is_fresh || is_well(connection).await { Ok(true) } else { Err(silent()) }
                    })
                })
                // The driver asks too, but waits for its answer for as long as the system does: a
                // server that falls silent would keep every connection that was in use.
                .after_release(|connection, _| {
                    Box::pin(async move {
                        if is_well(connection).await { Ok(true) } else { Err(silent()) }
                    })
                })
            })
            .map_sqlx_postgres_opts(|postgres| {
                postgres.application_name("fireflow").options([("timezone", "UTC")])
            }),
    };
    let mut connection = Database::connect(connect).await.map_err(|source| failed(url, source))?;
    observe::watch(&mut connection, options.observer.as_ref());
    Ok(connection)
}

/// The error of a database that could not be reached, without secrets.
pub(crate) fn failed(url: &DatabaseUrl, source: DbErr) -> OpenError {
    OpenError::Connect { place: place(url), source }
}

/// How long a connection that has just been in use is taken to be well.
const TRUSTED: Duration = Duration::from_secs(1);
/// How long a server has for a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// Whether the server at a connection's other end answers.
async fn is_well(connection: &mut PgConnection) -> bool {
    matches!(tokio::time::timeout(SIGN_OF_LIFE, connection.ping()).await, Ok(Ok(())))
}

/// What makes the pool give a connection up at once, without saying goodbye.
fn silent() -> SqlxError {
    SqlxError::Io(io::ErrorKind::TimedOut.into())
}

/// Where the database is, for a message: never with a password.
fn place(url: &DatabaseUrl) -> String {
    match url.kind {
        DatabaseKind::Sqlite => {
            url.file().as_deref().map(Path::display).map(|file| file.to_string())
        }
        DatabaseKind::Postgres => PgConnectOptions::from_str(&url.url).ok().map(|options| {
            let database = options.get_database().unwrap_or("postgres").to_owned();
            format!("{database} at {}:{}", options.get_host(), options.get_port())
        }),
    }
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_which_database() {
        let kind = |url| DatabaseUrl::parse(url).map(|url| url.kind()).ok();
        assert_eq!(kind("sqlite://fireflow.db"), Some(DatabaseKind::Sqlite));
        assert_eq!(kind("sqlite:///var/lib/fireflow/fireflow.db"), Some(DatabaseKind::Sqlite));
        assert_eq!(kind("postgres://me:secret@db/fireflow"), Some(DatabaseKind::Postgres));
        for bad in ["", "fireflow.db", "mysql://db", "sqlite::memory:", "sqlite://"] {
            assert_eq!(kind(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let url = DatabaseUrl::parse("postgres://me:hunter2@db:1/fireflow").unwrap();
        assert!(!format!("{url:?} {}", place(&url)).contains("hunter2"));
        let error = DatabaseUrl::parse("postgres://me:hunter2@db:port/fireflow").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }
}
