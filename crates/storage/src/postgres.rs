//! The connections to one PostgreSQL server, and their assignment.
//!
//! Each connection is a pool of one, so that its backend is known. A statement that nobody waits
//! for any more is cancelled at that backend, over a dedicated connection. A connection's slot is
//! free again only when its backend is.

use std::fmt;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::{Connection, PgConnection, PgPool};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, SqlxError, Statement};

use crate::connect::{DatabaseOptions, OpenError, one, open};
use crate::database_url::DatabaseUrl;
use crate::session::{Role, Session};
use crate::turnstile::{Plan, Turn, Turnstile};

/// How long to wait for a sign of life from a server.
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// How long a connection that has just been used counts as healthy.
const TRUSTED: Duration = Duration::from_secs(1);
/// The maximum age of a connection: the server of a host name may change.
const MAX_AGE: Duration = Duration::from_secs(1_800);

/// How long an abandoned statement may take to end by itself before it is cancelled. The further
/// limits apply before its backend is ended, and before its connection is given up.
const BEFORE_CANCEL: Duration = Duration::from_millis(50);
const BEFORE_END: Duration = Duration::from_secs(1);
const BEFORE_GIVING_UP: Duration = Duration::from_secs(4);
/// The interval of these checks.
const LOOK: Duration = Duration::from_millis(5);

/// The connections of a role to one server.
#[derive(Debug)]
pub(crate) struct Server {
    slots: Vec<Slot>,
    /// The free slots. There are as many as turns.
    free: Mutex<Vec<usize>>,
    turnstile: Turnstile,
    control: Arc<Control>,
}

/// A slot for one connection, which may be closed.
#[derive(Debug)]
struct Slot {
    connection: DatabaseConnection,
    /// The backend at its other end; 0 until the first connection.
    backend: Arc<AtomicI32>,
}

impl Slot {
    fn pool(&self) -> &PgPool {
        self.connection.get_postgres_connection_pool()
    }

    /// Whether it is connected and unused.
    fn is_idle(&self) -> bool {
        self.pool().num_idle() > 0
    }

    /// Whether nothing runs on it: it is idle or closed.
    fn is_settled(&self) -> bool {
        self.is_idle() || self.pool().size() == 0
    }

    async fn settles_within(&self, limit: Duration) -> bool {
        let start = Instant::now();
        while !self.is_settled() {
            if start.elapsed() >= limit {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
        true
    }
}

/// A slot in use, and the turn to use it. Both are given back when this is dropped. If the work on
/// it was not finished, its statement is stopped first.
#[derive(Debug)]
pub(crate) struct Lease {
    server: Arc<Server>,
    connection: DatabaseConnection,
    index: usize,
    turn: Option<Turn>,
    is_finished: bool,
}

impl Lease {
    /// The connection.
    pub(crate) const fn connection(&self) -> &DatabaseConnection {
        &self.connection
    }

    /// Marks the work as finished: no statement is in progress.
    pub(crate) const fn finish(&mut self) {
        self.is_finished = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let (server, index) = (Arc::clone(&self.server), self.index);
        if self.is_finished {
            server.give_back(index, turn);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { server.reclaim(index, turn).await });
        }
    }
}

impl Server {
    /// Creates slots for this many connections; each is opened on first use.
    pub(crate) async fn new(
        options: &DatabaseOptions,
        session: &Session,
        plan: Plan,
        control: Arc<Control>,
    ) -> Result<Arc<Self>, OpenError> {
        let count = plan.total.unwrap_or(0) as usize;
        let mut slots = Vec::with_capacity(count);
        for _ in 0..count {
            let backend = Arc::new(AtomicI32::new(0));
            let hooks = Hooks {
                session: session.clone(),
                backend: Arc::clone(&backend),
                generation: Arc::clone(&control.generation),
                opened_in: Arc::default(),
            };
            let connection = open_one(options, &control.url, hooks, true).await?;
            slots.push(Slot { connection, backend });
        }
        let free = Mutex::new((0..count).rev().collect());
        Ok(Arc::new(Self { slots, free, turnstile: Turnstile::new(plan), control }))
    }

    pub(crate) const fn turnstile(&self) -> &Turnstile {
        &self.turnstile
    }

    /// A connection for a turn, preferably an open one.
    pub(crate) fn lease(self: &Arc<Self>, turn: Turn) -> Option<Lease> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |index: &usize| self.slots.get(*index).is_some_and(Slot::is_idle);
        let index = match free.iter().rposition(is_idle) {
            Some(at) => free.swap_remove(at),
            None => free.pop()?,
        };
        let connection = self.slots.get(index)?.connection.clone();
        let server = Arc::clone(self);
        Some(Lease { server, connection, index, turn: Some(turn), is_finished: false })
    }

    fn give_back(&self, index: usize, turn: Turn) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(index);
        drop(turn);
    }

    /// Stops the statement on a connection, and gives the slot back when its backend is free or
    /// gone.
    async fn reclaim(&self, index: usize, turn: Turn) {
        if let Some(slot) = self.slots.get(index)
            && !slot.settles_within(BEFORE_CANCEL).await
        {
            let backend = slot.backend.load(Ordering::Relaxed);
            self.control.cancel(backend).await;
            if !slot.settles_within(BEFORE_END).await {
                self.control.end(backend).await;
                slot.settles_within(BEFORE_GIVING_UP).await;
            }
            if !slot.is_idle() {
                self.control.wait_until_gone(backend).await;
            }
        }
        self.give_back(index, turn);
    }

    pub(crate) fn pools(&self) -> impl Iterator<Item = PgPool> {
        self.slots.iter().map(|slot| slot.pool().clone())
    }

    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        for slot in &self.slots {
            slot.connection.close_by_ref().await?;
        }
        Ok(())
    }
}

const CANCEL: &str = "SELECT pg_cancel_backend($1)";
const TERMINATE: &str = "SELECT pg_terminate_backend($1)";
const EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";

/// The statements about other connections. If the server is slow, they run at any moment, in addition
/// to the statements of operations.
#[cfg(feature = "testing")]
pub(crate) const ABOUT_BACKENDS: [&str; 3] = [CANCEL, TERMINATE, EXISTS];

/// The dedicated connection for work that must not wait: ending other connections' statements, and
/// checking the server's health.
#[derive(Debug)]
pub(crate) struct Control {
    url: DatabaseUrl,
    connection: DatabaseConnection,
    session: Session,
    generation: Arc<AtomicU64>,
}

impl Control {
    /// Opens it, or creates only its slot: a replica that is down must not keep the service from
    /// starting.
    pub(crate) async fn new(
        options: &DatabaseOptions,
        url: &DatabaseUrl,
        session: &Session,
        lazy: bool,
    ) -> Result<Arc<Self>, OpenError> {
        let generation = Arc::<AtomicU64>::default();
        let session = session.with_role(Role::Control);
        let hooks = Hooks {
            session: session.clone(),
            backend: Arc::default(),
            generation: Arc::clone(&generation),
            opened_in: Arc::default(),
        };
        let connection = open_one(options, url, hooks, lazy).await?;
        Ok(Arc::new(Self { url: url.clone(), connection, session, generation }))
    }

    pub(crate) const fn connection(&self) -> &DatabaseConnection {
        &self.connection
    }

    /// Has every connection closed before its next use: the host name may lead to another server by
    /// now.
    fn renew(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the server takes writes, and its sessions have FireFlow's settings.
    pub(crate) async fn takes_writes(&self) -> Result<bool, DbErr> {
        let sql = "SELECT NOT pg_is_in_recovery(), current_setting('fireflow.session', true)";
        let statement = Statement::from_string(DbBackend::Postgres, sql);
        let Some(row) = self.connection.query_one_raw(statement).await? else { return Ok(false) };
        let (takes_writes, session): (bool, Option<String>) =
            (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
        if session.as_deref() != Some(self.session.name()) {
            tracing::error!("{}", OpenError::Pooler);
            self.renew();
            return Ok(false);
        }
        if !takes_writes {
            // The host name may lead to another server by now.
            self.renew();
        }
        Ok(takes_writes)
    }

    async fn cancel(&self, backend: i32) {
        self.signal(CANCEL, backend).await;
    }

    async fn end(&self, backend: i32) {
        self.signal(TERMINATE, backend).await;
    }

    async fn signal(&self, sql: &str, backend: i32) {
        if let Err(error) = self.ask(sql, backend).await {
            let cause = error.map(|it| fireflow_domain::error::ErrorChain(&it).to_string());
            tracing::debug!(?cause, "a statement that nobody waits for was not ended");
        }
    }

    /// Waits until a backend is gone, for a limited time. Stops if the server does not answer.
    async fn wait_until_gone(&self, backend: i32) {
        let start = Instant::now();
        while start.elapsed() < BEFORE_GIVING_UP
            && matches!(self.ask(EXISTS, backend).await, Ok(true))
        {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks for one value about a backend. The error is empty if there was no answer in time.
    async fn ask(&self, sql: &str, backend: i32) -> Result<bool, Option<DbErr>> {
        let values = [backend.into()];
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        let asked = self.connection.query_one_raw(statement);
        let row = tokio::time::timeout(SIGN_OF_LIFE, asked).await.map_err(|_| None)??;
        Ok(row.map_or(Ok(false), |row| row.try_get_by_index(0))?)
    }
}

/// The actions when a connection is opened, taken and given back.
#[derive(Clone)]
struct Hooks {
    session: Session,
    backend: Arc<AtomicI32>,
    /// The current generation of connections, and the generation of this one.
    generation: Arc<AtomicU64>,
    opened_in: Arc<AtomicU64>,
}

impl Hooks {
    async fn opened(&self, connection: &mut PgConnection) -> Result<(), SqlxError> {
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
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

/// One connection for a migration, which lives until it is closed.
pub(crate) async fn open_session(
    options: &DatabaseOptions,
    session: &Session,
) -> Result<DatabaseConnection, OpenError> {
    let mut connect = one(&options.url);
    let session = session.clone();
    connect
        .acquire_timeout(options.acquire_timeout)
        .map_sqlx_postgres_opts(named)
        .map_sqlx_postgres_pool_opts(move |pool| {
            let session = session.clone();
            pool.after_connect(move |connection, _| {
                let session = session.clone();
                Box::pin(async move { session.begin(connection).await.map(drop) })
            })
        });
    open(connect, &options.url, options).await
}

/// Sets the name that the server's administrator sees. Omits a parameter that poolers would refuse.
pub(crate) fn named(options: PgConnectOptions) -> PgConnectOptions {
    let options = options.extra_float_digits(None);
    if options.get_application_name().is_some() {
        options
    } else {
        options.application_name("fireflow")
    }
}

/// A pool of one connection.
async fn open_one(
    options: &DatabaseOptions,
    url: &DatabaseUrl,
    hooks: Hooks,
    lazy: bool,
) -> Result<DatabaseConnection, OpenError> {
    let mut connect = url.connect_options();
    connect
        .max_connections(1)
        .min_connections(0)
        .acquire_timeout(options.acquire_timeout)
        .connect_timeout(options.acquire_timeout)
        // The driver would close a connection that is too old even while it is in use.
        .max_lifetime(None)
        .connect_lazy(lazy)
        .map_sqlx_postgres_opts(named)
        .map_sqlx_postgres_pool_opts(move |pool| {
            let (opened, taken) = (hooks.clone(), hooks.clone());
            pool.after_connect(move |connection, _| {
                let hooks = opened.clone();
                Box::pin(async move { hooks.opened(connection).await })
            })
            .before_acquire(move |connection, meta| {
                let hooks = taken.clone();
                Box::pin(async move { hooks.taken(connection, meta.age, meta.idle_for).await })
            })
            // The driver tests the connection too, but waits for the answer as long as the system
            // does. A silent server would thus keep every connection that was in use. In the
            // meantime a statement in progress is ended; see `Server::reclaim`.
            .after_release(|connection, _| {
                Box::pin(async move {
                    if is_well(connection, BEFORE_GIVING_UP).await {
                        Ok(true)
                    } else {
                        Err(silent())
                    }
                })
            })
        });
    open(connect, url, options).await
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
