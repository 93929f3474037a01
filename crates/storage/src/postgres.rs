//! The connections to one PostgreSQL server, and who uses which.
//!
//! Each connection is a pool of one, so that it is known which backend serves it: a statement that
//! nobody waits for any more is cancelled there, over a connection that is kept for that, and the
//! place of a connection is free again only when its backend is.

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

/// How long a server has for a sign of life.
pub(crate) const SIGN_OF_LIFE: Duration = Duration::from_secs(2);
/// How long a connection that has just been in use is taken to be well.
const TRUSTED: Duration = Duration::from_secs(1);
/// How old a connection may become: a server that is behind a name may move.
const MAX_AGE: Duration = Duration::from_secs(1_800);

/// How long a statement that nobody waits for has to end by itself before it is cancelled, then
/// before its backend is ended, and then before its connection is given up.
const BEFORE_CANCEL: Duration = Duration::from_millis(50);
const BEFORE_END: Duration = Duration::from_secs(1);
const BEFORE_GIVING_UP: Duration = Duration::from_secs(4);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The connections of a role to one server.
#[derive(Debug)]
pub(crate) struct Server {
    slots: Vec<Slot>,
    /// The slots that nobody uses. There are as many as there are turns.
    free: Mutex<Vec<usize>>,
    turnstile: Turnstile,
    control: Arc<Control>,
}

/// A connection, or the place of one.
#[derive(Debug)]
struct Slot {
    connection: DatabaseConnection,
    /// The backend at its other end; 0 before the first.
    backend: Arc<AtomicI32>,
}

impl Slot {
    fn pool(&self) -> &PgPool {
        self.connection.get_postgres_connection_pool()
    }

    /// Whether it is connected, and nobody uses it.
    fn is_idle(&self) -> bool {
        self.pool().num_idle() > 0
    }

    /// Whether nothing of it is under way: it is idle, or closed.
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

/// A slot in use, and the turn to use it. Given back when it is dropped; if what used it did not
/// come to its end, only after its statement has been stopped.
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

    /// What used it has come to its end: no statement is under way.
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
    /// Makes the places of so many connections; they are opened when they are needed.
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

    /// A connection for a turn: one that is open, if there is one.
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

    /// Stops whatever a connection does, and gives it back when its backend is free or gone.
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

/// The connection that is kept for what must not wait: ending the statements of others, and asking
/// for the server's health.
#[derive(Debug)]
pub(crate) struct Control {
    url: DatabaseUrl,
    connection: DatabaseConnection,
    session: Session,
    generation: Arc<AtomicU64>,
}

impl Control {
    /// Opens it, or makes its place only: a replica that is away keeps no service from starting.
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

    /// Has every connection closed before it is used again: another server may be meant by now.
    fn renew(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the server takes writes, and its sessions are what FireFlow made them.
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
            // Another server may be behind its name by now.
            self.renew();
        }
        Ok(takes_writes)
    }

    async fn cancel(&self, backend: i32) {
        self.signal("SELECT pg_cancel_backend($1)", backend).await;
    }

    async fn end(&self, backend: i32) {
        self.signal("SELECT pg_terminate_backend($1)", backend).await;
    }

    async fn signal(&self, sql: &str, backend: i32) {
        if let Err(error) = self.ask(sql, backend).await {
            let cause = error.map(|it| fireflow_domain::error::ErrorChain(&it).to_string());
            tracing::debug!(?cause, "a statement that nobody waits for was not ended");
        }
    }

    /// Waits until a backend is gone; not for ever, and not if the server does not answer.
    async fn wait_until_gone(&self, backend: i32) {
        let start = Instant::now();
        let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
        while start.elapsed() < BEFORE_GIVING_UP && matches!(self.ask(sql, backend).await, Ok(true))
        {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// One answer about a backend; no error if there was none in time.
    async fn ask(&self, sql: &str, backend: i32) -> Result<bool, Option<DbErr>> {
        let values = [backend.into()];
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        let asked = self.connection.query_one_raw(statement);
        let row = tokio::time::timeout(SIGN_OF_LIFE, asked).await.map_err(|_| None)??;
        Ok(row.map_or(Ok(false), |row| row.try_get_by_index(0))?)
    }
}

/// What is done when a connection is opened, taken and given back.
#[derive(Clone)]
struct Hooks {
    session: Session,
    backend: Arc<AtomicI32>,
    /// The generation of connections that is in use, and that of this one.
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

    /// Whether it can be used: else it is closed politely, or at once where the server is silent.
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

/// As the server's administrator sees it. What poolers do not know they refuse.
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
        // The driver would close a connection that is too old even while it works.
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
            // The driver asks too, but waits for its answer for as long as the system does: a
            // server that falls silent would keep every connection that was in use. A statement
            // under way is ended meanwhile; see `Server::reclaim`.
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

/// Whether the server at a connection's other end answers in time. What a cancelled statement
/// still has to say is no answer, and no fault.
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

/// What makes the pool give a connection up at once, without saying goodbye.
fn silent() -> SqlxError {
    SqlxError::Io(std::io::ErrorKind::TimedOut.into())
}
