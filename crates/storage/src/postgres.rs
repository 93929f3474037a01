//! The connections to one PostgreSQL server, and their assignment.
//!
//! Each connection is a pool of one, so that its backend is known. A statement that nobody waits
//! for any more is cancelled at that backend, over a dedicated connection. A connection's slot is
//! free again only when its backend is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fireflow_domain::error::ErrorChain;
use sea_orm::sqlx::PgPool;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, QueryResult, Statement, Value,
};

use crate::database_url::{DatabaseUrl, named};
use crate::open_error::OpenError;
use crate::options::DatabaseOptions;
use crate::pool::{one, open};
use crate::session::{Role, Session};
use crate::single_connection::{BEFORE_GIVING_UP, LOOK, SIGN_OF_LIFE, SingleConnection};
use crate::turnstile::{Plan, Turn, Turnstile};

/// How long an abandoned statement may take to end by itself before it is cancelled, and then
/// before its backend is ended.
const BEFORE_CANCEL: Duration = Duration::from_millis(50);
const BEFORE_END: Duration = Duration::from_secs(1);

/// The connections of a role to one server.
#[derive(Debug)]
pub(crate) struct Server {
    slots: Vec<SingleConnection>,
    /// The free slots. There are as many as turns.
    free: Mutex<Vec<usize>>,
    turnstile: Turnstile,
    control: Arc<Control>,
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
            let generation = Arc::clone(&control.generation);
            let (url, session) = (&control.url, session.clone());
            slots.push(SingleConnection::open(options, url, session, generation, true).await?);
        }
        let free = Mutex::new((0..count).rev().collect());
        Ok(Arc::new(Self { slots, free, turnstile: Turnstile::new(plan), control }))
    }

    pub(crate) const fn turnstile(&self) -> &Turnstile {
        &self.turnstile
    }

    /// A connection for a turn, preferably an open one.
    pub(crate) async fn lease(self: &Arc<Self>, turn: Turn) -> Option<Lease> {
        let index = self.free_slot()?;
        let slot = self.slots.get(index)?;
        let (server, connection) = (Arc::clone(self), slot.present());
        let mut lease = Lease { server, connection, index, turn: Some(turn), is_finished: false };
        // From here on the slot is given back even if the caller leaves.
        if slot.replace_if_lost().await {
            lease.connection = slot.present();
        }
        Some(lease)
    }

    fn free_slot(&self) -> Option<usize> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |index: &usize| self.slots.get(*index).is_some_and(SingleConnection::is_idle);
        match free.iter().rposition(is_idle) {
            Some(at) => Some(free.swap_remove(at)),
            None => free.pop(),
        }
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
            let backend = slot.backend();
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
        self.slots.iter().map(SingleConnection::pool)
    }

    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        for slot in &self.slots {
            slot.close().await?;
        }
        Ok(())
    }
}

const CANCEL: &str = "SELECT pg_cancel_backend($1)";
const TERMINATE: &str = "SELECT pg_terminate_backend($1)";
const EXISTS: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
const MODE: &str = "SELECT NOT pg_is_in_recovery(), current_setting('fireflow.session', true)";

/// The statements about the server and other connections. They run at any moment, in addition to the
/// statements of operations.
#[cfg(feature = "testing")]
pub(crate) const OF_CONTROL: [&str; 4] = [CANCEL, TERMINATE, EXISTS, MODE];

/// The dedicated connection for work that must not wait: ending other connections' statements, and
/// checking the server's health.
#[derive(Debug)]
pub(crate) struct Control {
    url: DatabaseUrl,
    single: SingleConnection,
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
        let shared = Arc::clone(&generation);
        let single = SingleConnection::open(options, url, session.clone(), shared, lazy).await?;
        Ok(Arc::new(Self { url: url.clone(), single, session, generation }))
    }

    pub(crate) const fn single(&self) -> &SingleConnection {
        &self.single
    }

    pub(crate) async fn connection(&self) -> DatabaseConnection {
        self.single.connection().await
    }

    /// Has every connection closed before its next use: the host name may lead to another server by
    /// now.
    fn renew(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the server takes writes, and its sessions have FireFlow's settings.
    ///
    /// # Errors
    /// Returns an error if the server does not respond in time.
    pub(crate) async fn takes_writes(&self) -> Result<bool, DbErr> {
        let Some(row) = self.query(MODE, []).await? else { return Ok(false) };
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
            let cause = ErrorChain(&error).to_string();
            tracing::debug!(cause, "an abandoned statement could not be ended");
        }
    }

    /// Waits until a backend is gone, for a limited time. Stops if the server does not respond.
    async fn wait_until_gone(&self, backend: i32) {
        let start = Instant::now();
        while start.elapsed() < BEFORE_GIVING_UP
            && matches!(self.ask(EXISTS, backend).await, Ok(true))
        {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks for one value about a backend.
    async fn ask(&self, sql: &str, backend: i32) -> Result<bool, DbErr> {
        let row = self.query(sql, [backend.into()]).await?;
        row.map_or(Ok(false), |row| row.try_get_by_index(0))
    }

    /// The first row of a statement. A server that says nothing for a while is an error.
    async fn query<const N: usize>(
        &self,
        sql: &str,
        values: [Value; N],
    ) -> Result<Option<QueryResult>, DbErr> {
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        let connection = self.connection().await;
        let answer = tokio::time::timeout(SIGN_OF_LIFE, connection.query_one_raw(statement)).await;
        answer.unwrap_or_else(|_| Err(DbErr::Custom("the server does not respond".to_owned())))
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
    open(connect, &options.url, options.observer.as_ref()).await
}
