//! Opens connections as the options describe.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, DatabaseConnection, DbErr, RuntimeErr, SqlxError};

use crate::database_url::DatabaseKind;
use crate::file::{DatabaseFile, is_the_same};
use crate::observe::Pool;
use crate::open_error::{MIN_CONNECTIONS, OpenError};
use crate::options::DatabaseOptions;
use crate::pool::{one, open};
use crate::postgres::{Control, Server};
use crate::readers::Readers;
use crate::replica::Replica;
use crate::session::{Role, Session};
use crate::turnstile::{Class, Plan, Turnstile};

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
    pub(crate) read: Arc<Readers>,
    /// For all other reads; cannot write.
    pub(crate) list: Arc<Readers>,
    /// For statements outside a unit of work; cannot write.
    pub(crate) upkeep: DatabaseConnection,
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
            Self::Sqlite(SqlitePools { write, read, list, .. }) => vec![
                Pool::of_sqlite("write", write),
                Pool::of_readers("read", read),
                Pool::of_readers("list", list),
            ],
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
            Self::Sqlite(pools) => pools.upkeep.clone(),
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
            Self::Sqlite(SqlitePools { write, read, list, upkeep, turnstile: _ }) => {
                let (list, read) = (list.close().await, read.close().await);
                let upkeep = upkeep.close_by_ref().await;
                list.and(read).and(upkeep).and(write.close_by_ref().await)
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
    let mut few = options.url.connect_options();
    few.max_connections(1).min_connections(0).connect_lazy(true);
    let upkeep = file_pool(options, file, few, Opening::READS).await?;
    let read = file_readers(options, file, readers).await?;
    let long = [Class::Lists, Class::Exports, Class::Compilations];
    let long = long.map(|class| turnstile.most(class)).iter().sum();
    let list = file_readers(options, file, long).await?;
    Ok(SqlitePools { write, read, list, upkeep, turnstile })
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
}

impl Opening {
    const CREATES: Self = Self { creates: true, only_reads: false };
    const EXISTING: Self = Self { creates: false, only_reads: false };
    const READS: Self = Self { creates: false, only_reads: true };

    fn apply(self, sqlite: SqliteConnectOptions, path: Option<&Path>) -> SqliteConnectOptions {
        // Links may later lead elsewhere, so the resolved path is used.
        let sqlite = match path {
            Some(path) => sqlite.filename(path),
            None => sqlite,
        };
        let sqlite = sqlite
            .create_if_missing(self.creates)
            .journal_mode(SqliteJournalMode::Wal)
            // In WAL only FULL keeps an acknowledged commit through a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        // The connection is not opened read-only: as the first connection, such a one cannot
        // create the journal's index.
        if self.only_reads { sqlite.pragma("query_only", "ON") } else { sqlite }
    }
}

/// Connections to a file that only read.
async fn file_readers(
    options: &DatabaseOptions,
    file: Option<&Arc<DatabaseFile>>,
    most: u32,
) -> Result<Arc<Readers>, OpenError> {
    let url = options.url.connect_options();
    let sqlite: SqliteConnectOptions = url.get_url().parse().map_err(|error: SqlxError| {
        options.url.connect_error(DbErr::Conn(RuntimeErr::SqlxError(error.into())))
    })?;
    let sqlite = Opening::READS.apply(sqlite, file.map(|file| file.path()));
    let sqlite = sqlite.disable_statement_logging();
    let (observer, patience) = (options.observer.as_ref(), options.acquire_timeout);
    let readers = Readers::new(sqlite, file, observer, patience, most);
    readers.open_one().await.map_err(|error| options.url.connect_error(error))?;
    Ok(readers)
}

async fn file_pool(
    options: &DatabaseOptions,
    file: Option<&Arc<DatabaseFile>>,
    mut connect: ConnectOptions,
    opening: Opening,
) -> Result<DatabaseConnection, OpenError> {
    let path = file.map(|file| file.path().to_owned());
    let weak = file.map_or_else(Weak::new, Arc::downgrade);
    connect
        .acquire_timeout(options.acquire_timeout)
        .connect_timeout(options.acquire_timeout)
        .map_sqlx_sqlite_opts(move |sqlite| opening.apply(sqlite, path.as_deref()))
        .map_sqlx_sqlite_pool_opts(move |pool| {
            let file = Weak::clone(&weak);
            pool.after_connect(move |_, _| {
                let is_the_same = is_the_same(&file);
                Box::pin(async move { is_the_same })
            })
        });
    open(connect, &options.url, options.observer.as_ref()).await
}
