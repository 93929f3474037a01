//! A pool of one connection to a PostgreSQL server, so that the connection's backend is known.

use std::fmt;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fireflow_domain::error::ErrorChain;
use sea_orm::sqlx::{Connection, PgConnection, PgPool};
use sea_orm::{ConnectOptions, DatabaseConnection, DbErr, SqlxError};

use crate::database_url::{DatabaseUrl, named};
use crate::observe::Observer;
use crate::open_error::OpenError;
use crate::options::DatabaseOptions;
use crate::pool::open;
use crate::session::Session;

/// How long to wait for a sign of life from a server.
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// How long a connection that has just been used counts as healthy.
const TRUSTED: Duration = Duration::from_secs(1);
/// The maximum age of a connection: the server of a host name may change.
const MAX_AGE: Duration = Duration::from_secs(1_800);
/// How long a connection that was given back may take to answer before it is closed.
pub(crate) const BEFORE_GIVING_UP: Duration = Duration::from_secs(4);
/// The interval of checks whether a connection is in use.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// A pool of one connection, which may be closed.
pub(crate) struct SingleConnection {
    pool: Mutex<DatabaseConnection>,
    /// How to open the pool again.
    options: ConnectOptions,
    url: DatabaseUrl,
    observer: Option<Arc<dyn Observer>>,
    hooks: Hooks,
}

impl SingleConnection {
    /// Opens the connection, or creates only its pool if `lazy`. The connection is opened again for
    /// its next use when the `generation` changes.
    pub(crate) async fn open(
        options: &DatabaseOptions,
        url: &DatabaseUrl,
        session: Session,
        generation: Arc<AtomicU64>,
        lazy: bool,
    ) -> Result<Self, OpenError> {
        let hooks = Hooks {
            session,
            generation,
            opened_in: Arc::default(),
            backend: Arc::default(),
            tested_at: Arc::default(),
        };
        let (connect, observer) = (connect_options(options, url, &hooks), options.observer.clone());
        let first = connect.clone().connect_lazy(lazy).to_owned();
        let pool = Mutex::new(open(first, url, observer.as_ref()).await?);
        Ok(Self { pool, options: connect, url: url.clone(), observer, hooks })
    }

    /// The connection. If the last one is lost, this is another one.
    pub(crate) async fn connection(&self) -> DatabaseConnection {
        self.replace_if_lost().await;
        self.present()
    }

    /// Replaces the connection if it is lost, and returns whether it was.
    pub(crate) async fn replace_if_lost(&self) -> bool {
        if !self.is_lost() {
            return false;
        }
        // A connection that another caller has just taken looks lost until its hook has run.
        tokio::time::sleep(LOOK).await;
        let opened = open(self.options.clone(), &self.url, self.observer.as_ref()).await;
        // Another caller may have replaced it by now.
        if !self.is_lost() {
            return false;
        }
        match opened {
            Ok(pool) => {
                *self.hooks.tested_at() = None;
                *self.current() = pool;
                true
            }
            Err(error) => {
                tracing::warn!(cause = %ErrorChain(&error), "a connection was not replaced");
                false
            }
        }
    }

    /// The connection, which may be lost.
    pub(crate) fn present(&self) -> DatabaseConnection {
        self.current().clone()
    }

    pub(crate) fn pool(&self) -> PgPool {
        self.current().get_postgres_connection_pool().clone()
    }

    /// The backend at the other end; 0 until the first connection.
    pub(crate) fn backend(&self) -> i32 {
        self.hooks.backend.load(Ordering::Relaxed)
    }

    /// Whether it is connected and unused.
    pub(crate) fn is_idle(&self) -> bool {
        self.current().get_postgres_connection_pool().num_idle() > 0
    }

    /// Whether nothing runs on it: it is idle or closed.
    fn is_settled(&self) -> bool {
        self.is_idle() || self.current().get_postgres_connection_pool().size() == 0
    }

    /// Whether the connection will not come back. The driver tests each connection that is given back
    /// by itself, after FireFlow has, and waits for the answer as long as the system does: hours, if
    /// the server falls silent between the two tests.
    fn is_lost(&self) -> bool {
        let is_late = |at: Instant| at.elapsed() > BEFORE_GIVING_UP;
        self.hooks.tested_at().is_some_and(is_late) && !self.is_settled()
    }

    pub(crate) async fn settles_within(&self, limit: Duration) -> bool {
        let start = Instant::now();
        while !self.is_settled() {
            if start.elapsed() >= limit {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }

    /// Closes it. Does not wait for a lost connection.
    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        let closed = tokio::time::timeout(BEFORE_GIVING_UP, self.present().close()).await;
        closed.unwrap_or(Ok(()))
    }

    fn current(&self) -> MutexGuard<'_, DatabaseConnection> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SingleConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleConnection").finish_non_exhaustive()
    }
}

/// The actions when a connection is opened, taken and given back.
#[derive(Clone)]
struct Hooks {
    session: Session,
    /// The current generation of connections, and the generation of this one.
    generation: Arc<AtomicU64>,
    opened_in: Arc<AtomicU64>,
    backend: Arc<AtomicI32>,
    /// When the connection was last found to be well while it was given back; `None` while it is
    /// used.
    tested_at: Arc<Mutex<Option<Instant>>>,
}

impl Hooks {
    async fn opened(&self, connection: &mut PgConnection) -> Result<(), SqlxError> {
        *self.tested_at() = None;
        let generation = self.generation.load(Ordering::Relaxed);
        let backend = self.session.begin(connection).await?;
        self.backend.store(backend, Ordering::Relaxed);
        self.opened_in.store(generation, Ordering::Relaxed);
        Ok(())
    }

    /// Whether the connection can be used. Otherwise it is closed politely, or dropped at once if
    /// the server is silent.
    async fn taken(
        &self,
        connection: &mut PgConnection,
        age: Duration,
        idle_for: Duration,
    ) -> Result<bool, SqlxError> {
        *self.tested_at() = None;
        let is_current =
            self.opened_in.load(Ordering::Relaxed) == self.generation.load(Ordering::Relaxed);
        if !is_current || age > MAX_AGE {
            return Ok(false);
        }
        if idle_for < TRUSTED || is_well(connection, SIGN_OF_LIFE).await {
            Ok(true)
        } else {
            Err(silent())
        }
    }

    /// Whether the connection can be used again. Otherwise it is dropped at once.
    async fn given_back(&self, connection: &mut PgConnection) -> Result<bool, SqlxError> {
        if is_well(connection, BEFORE_GIVING_UP).await {
            *self.tested_at() = Some(Instant::now());
            Ok(true)
        } else {
            Err(silent())
        }
    }

    fn tested_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.tested_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The options of a pool of one connection, which is opened on first use.
fn connect_options(options: &DatabaseOptions, url: &DatabaseUrl, hooks: &Hooks) -> ConnectOptions {
    let hooks = hooks.clone();
    let mut connect = url.connect_options();
    connect
        .max_connections(1)
        .min_connections(0)
        .acquire_timeout(options.acquire_timeout)
        .connect_timeout(options.acquire_timeout)
        // The driver would close a connection that is too old even while it is in use.
        .max_lifetime(None)
        .connect_lazy(true)
        .map_sqlx_postgres_opts(named)
        .map_sqlx_postgres_pool_opts(move |pool| {
            let [opened, taken, given_back] = [(); 3].map(|()| hooks.clone());
            pool.after_connect(move |connection, _| {
                let hooks = opened.clone();
                Box::pin(async move { hooks.opened(connection).await })
            })
            .before_acquire(move |connection, meta| {
                let hooks = taken.clone();
                Box::pin(async move { hooks.taken(connection, meta.age, meta.idle_for).await })
            })
            // In the meantime a statement in progress is ended, see `Server::reclaim`.
            .after_release(move |connection, _| {
                let hooks = given_back.clone();
                Box::pin(async move { hooks.given_back(connection).await })
            })
        });
    connect
}

/// Whether the server at the connection's other end answers in time. A late error of a cancelled
/// statement is neither an answer nor a fault.
async fn is_well(connection: &mut PgConnection, limit: Duration) -> bool {
    let answers = async {
        loop {
            match connection.ping().await {
                Ok(()) => return true,
                Err(SqlxError::Database(error)) if error.code().as_deref() == Some(CANCELED) => {}
                Err(_) => return false,
            }
        }
    };
    tokio::time::timeout(limit, answers).await.unwrap_or(false)
}

/// PostgreSQL's query_canceled.
const CANCELED: &str = "57014";

/// An error that makes the pool drop a connection at once, without a farewell message.
fn silent() -> SqlxError {
    SqlxError::Io(std::io::ErrorKind::TimedOut.into())
}
