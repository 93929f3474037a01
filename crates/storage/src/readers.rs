//! Connections to a SQLite file that only read.
//!
//! The driver's pool hands each connection over to its thread three to four times for one statement:
//! to watch over it, to begin a transaction, to end it, and to test it when it comes back. A hand-over
//! takes as long as a small query. Here a read takes one for each statement, and one more if it ends a
//! transaction.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fireflow_domain::error::ErrorChain;
use futures_util::StreamExt;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteQueryResult, SqliteRow};
use sea_orm::sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr,
    SqlxError, Statement,
};
use sea_query_sqlx::SqlxValues;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::file::{DatabaseFile, is_the_same};
use crate::observe::{Observer, PoolState, tell_statement};
use crate::stop::{Stop, Watched, obey_from_now_on};

/// How many rows the connection's thread may be ahead of the reader: a usual page.
const ROWS_AHEAD: usize = 128;

/// Connections that only read, for one purpose.
#[derive(Debug)]
pub(crate) struct Readers {
    options: SqliteConnectOptions,
    /// The file that belongs to this process; none if another process may hold it.
    file: Weak<DatabaseFile>,
    observer: Option<Arc<dyn Observer>>,
    patience: Duration,
    /// One permit for each connection that there may be.
    permits: Arc<Semaphore>,
    max: u32,
    open: AtomicU32,
    idle: Mutex<Vec<Reader>>,
}

#[derive(Debug)]
struct Reader {
    connection: SqliteConnection,
    watched: Watched,
}

/// How a reader reads several statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Each in the state that there is then.
    EachByItself,
    /// All in one state: that of the first statement.
    OneState,
}

/// Whether the connection is in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    No,
    /// The first statement begins it.
    Wanted,
    Begun,
}

impl Readers {
    pub(crate) fn new(
        options: SqliteConnectOptions,
        file: Option<&Arc<DatabaseFile>>,
        observer: Option<&Arc<dyn Observer>>,
        patience: Duration,
        max: u32,
    ) -> Arc<Self> {
        let max = max.max(1);
        Arc::new(Self {
            options: options.row_buffer_size(ROWS_AHEAD),
            file: file.map_or_else(Weak::new, Arc::downgrade),
            observer: observer.cloned(),
            patience,
            permits: Arc::new(Semaphore::new(max as usize)),
            max,
            open: AtomicU32::new(0),
            idle: Mutex::new(Vec::new()),
        })
    }

    /// Opens a first connection. It stays usable if the file's log is lost later, when no other one may be
    /// opened.
    ///
    /// # Errors
    /// Returns the driver's error.
    pub(crate) async fn open_one(&self) -> Result<(), DbErr> {
        let reader = self
            .connect()
            .await
            .map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(error.into())))?;
        self.give_back(reader);
        Ok(())
    }

    /// Lends a connection. Statements on it are stopped as `stop` says.
    ///
    /// # Errors
    /// Returns an error if none becomes free in time, or the file cannot be opened.
    pub(crate) async fn lend(
        self: &Arc<Self>,
        reads: Reads,
        stop: Option<Arc<Stop>>,
    ) -> Result<Lent, DbErr> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        let permit = match tokio::time::timeout(self.patience, permit).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)),
            Err(_) => return Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)),
        };
        let known = self.idle().pop();
        let reader = match known {
            Some(reader) => reader,
            None => self.connect().await.map_err(failed)?,
        };
        reader.watched.set(stop);
        let transaction = match reads {
            Reads::EachByItself => Transaction::No,
            Reads::OneState => Transaction::Wanted,
        };
        let inner = Inner { reader, transaction, is_busy: false, permit };
        Ok(Lent { readers: Arc::clone(self), inner: tokio::sync::Mutex::new(Some(inner)) })
    }

    async fn connect(&self) -> Result<Reader, SqlxError> {
        let mut connection = SqliteConnection::connect_with(&self.options).await?;
        is_the_same(&self.file)?;
        let watched = obey_from_now_on(&mut connection).await?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Reader { connection, watched })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Reader>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection back on which nothing runs.
    fn give_back(&self, reader: Reader) {
        reader.watched.set(None);
        if self.permits.is_closed() {
            self.drop_reader(reader);
        } else {
            self.idle().push(reader);
        }
    }

    fn drop_reader(&self, reader: Reader) {
        drop(reader);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ends what a connection does, and takes it back.
    async fn settle(&self, mut inner: Inner) -> Result<(), DbErr> {
        let connection = &mut inner.reader.connection;
        // What stops the connection's statement stays until the statement has ended.
        let settled = match inner.transaction {
            Transaction::Begun => {
                sea_orm::sqlx::query("ROLLBACK").execute(connection).await.map(drop)
            }
            Transaction::No | Transaction::Wanted if inner.is_busy => connection.ping().await,
            Transaction::No | Transaction::Wanted => Ok(()),
        };
        match settled {
            Ok(()) => self.give_back(inner.reader),
            Err(_) => self.drop_reader(inner.reader),
        }
        drop(inner.permit);
        settled.map_err(failed)
    }

    /// Frees the memory of idle connections: their prepared statements and cached pages.
    pub(crate) async fn forget(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for mut reader in idle {
            let statements = reader.connection.clear_cached_statements().await;
            let shrink = sea_orm::sqlx::query("PRAGMA shrink_memory");
            let pages = shrink.execute(&mut reader.connection).await.map(drop);
            match statements.and(pages) {
                Ok(()) => self.give_back(reader),
                Err(error) => {
                    tracing::debug!(%error, "a connection did not forget");
                    self.drop_reader(reader);
                }
            }
        }
    }

    /// How many connections there are.
    pub(crate) fn state(&self) -> PoolState {
        let (open, idle) = (self.open.load(Ordering::Relaxed), self.idle().len());
        // The two numbers were read at different times, and may have changed in between.
        let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(open);
        PoolState { idle, in_use: open - idle, max: self.max }
    }

    /// Closes all connections, once they are given back.
    pub(crate) async fn close(&self) -> Result<(), DbErr> {
        let all = self.permits.acquire_many(self.max).await;
        self.permits.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle());
        let mut closed = Ok(());
        for reader in idle {
            self.open.fetch_sub(1, Ordering::Relaxed);
            closed = closed.and(reader.connection.close().await);
        }
        closed.map_err(failed)
    }
}

/// A connection that is lent. Dropped, it is given back once its statement has ended.
#[derive(Debug)]
pub(crate) struct Lent {
    readers: Arc<Readers>,
    inner: tokio::sync::Mutex<Option<Inner>>,
}

#[derive(Debug)]
struct Inner {
    reader: Reader,
    transaction: Transaction,
    /// Whether a statement has begun and not ended.
    is_busy: bool,
    permit: OwnedSemaphorePermit,
}

impl Lent {
    /// Whether all its statements read one state.
    pub(crate) fn is_transaction(&mut self) -> bool {
        self.inner.get_mut().as_ref().is_some_and(|it| it.transaction != Transaction::No)
    }

    /// Ends the transaction, if there is one, and gives the connection back.
    ///
    /// # Errors
    /// Returns the driver's error. The connection is closed then.
    pub(crate) async fn end(mut self) -> Result<(), DbErr> {
        match self.inner.get_mut().take() {
            Some(inner) => self.readers.settle(inner).await,
            None => Ok(()),
        }
    }

    /// Runs a statement. The first one of a transaction begins it.
    async fn run(&self, statement: Statement) -> Result<Vec<SqliteRow>, SqlxError> {
        let mut rows = Vec::new();
        let keep = |row| {
            rows.push(row);
            Ok(())
        };
        self.read::<SqlxError>(statement, keep).await.map(|()| rows)
    }

    /// The same, with each row as soon as it is there.
    ///
    /// # Errors
    /// Returns the driver's error, or the one of `each`.
    pub(crate) async fn for_each<E: From<DbErr>>(
        &self,
        statement: Statement,
        mut each: impl FnMut(QueryResult) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        let refused =
            self.read::<Refused<E>>(statement, |row| each(row.into()).map_err(Refused::Row));
        refused.await.map_err(|error| match error {
            Refused::Row(error) => error,
            Refused::Driver(error) => failed(error).into(),
        })
    }

    async fn read<E: From<SqlxError>>(
        &self,
        statement: Statement,
        mut each: impl FnMut(SqliteRow) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        let mut lent = self.inner.lock().await;
        let Some(inner) = &mut *lent else { return Err(SqlxError::PoolClosed.into()) };
        let sql = match inner.transaction {
            Transaction::Wanted => {
                inner.transaction = Transaction::Begun;
                format!("BEGIN; {}", statement.sql)
            }
            Transaction::No | Transaction::Begun => statement.sql.clone(),
        };
        let start = Instant::now();
        inner.is_busy = true;
        let values = statement.values.clone().unwrap_or(sea_orm::sea_query::Values(Vec::new()));
        let prepared = sea_orm::sqlx::query_with(AssertSqlSafe(sql), SqlxValues(values));
        let mut rows = prepared.fetch(&mut inner.reader.connection);
        let mut done = Ok(());
        while done.is_ok() {
            done = match rows.next().await {
                Some(Ok(row)) => each(row),
                Some(Err(error)) => Err(error.into()),
                None => break,
            };
        }
        drop(rows);
        // The thread may still be at work if the reader refused a row.
        inner.is_busy = done.is_err();
        let observer = self.readers.observer.as_ref();
        tell_statement(observer, &statement, start.elapsed(), done.is_err());
        done
    }
}

/// Why rows were not read to their end.
enum Refused<E> {
    Row(E),
    Driver(SqlxError),
}

impl<E> From<SqlxError> for Refused<E> {
    fn from(error: SqlxError) -> Self {
        Self::Driver(error)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(inner) = self.inner.get_mut().take() else { return };
        let readers = Arc::clone(&self.readers);
        if !inner.is_busy && inner.transaction != Transaction::Begun {
            readers.give_back(inner.reader);
            return;
        }
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                if let Err(error) = readers.settle(inner).await {
                    let cause = ErrorChain(&error).to_string();
                    tracing::debug!(cause, "an abandoned read could not be ended");
                }
            })),
            Err(_) => readers.drop_reader(inner.reader),
        }
    }
}

#[async_trait]
impl ConnectionTrait for Lent {
    fn get_database_backend(&self) -> DbBackend {
        DbBackend::Sqlite
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        // It changes nothing.
        self.run(statement).await.map_err(failed)?;
        Ok(SqliteQueryResult::default().into())
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.execute_raw(Statement::from_string(DbBackend::Sqlite, sql)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        Ok(self.query_all_raw(statement).await?.into_iter().next())
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let rows = self.run(statement).await.map_err(failed)?;
        Ok(rows.into_iter().map(QueryResult::from).collect())
    }
}

fn failed(error: SqlxError) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    fn readers(folder: &std::path::Path, max: u32) -> Arc<Readers> {
        let options = SqliteConnectOptions::new()
            .filename(folder.join("a.db"))
            .create_if_missing(true)
            .journal_mode(sea_orm::sqlx::sqlite::SqliteJournalMode::Wal);
        Readers::new(options, None, None, PATIENCE, max)
    }

    async fn number(lent: &Lent, sql: &str) -> Result<i64, DbErr> {
        let statement = Statement::from_string(DbBackend::Sqlite, sql);
        lent.query_one_raw(statement).await?.unwrap().try_get_by_index(0)
    }

    /// Waits until no connection is in use.
    async fn settled(readers: &Readers) {
        while readers.state().in_use > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn no_more_connections_are_lent_than_there_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(folder.path(), 2);
        let first = readers.lend(Reads::EachByItself, None).await.unwrap();
        let _second = readers.lend(Reads::EachByItself, None).await.unwrap();
        let third = readers.lend(Reads::EachByItself, None).await;
        assert!(matches!(third, Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))));
        assert_eq!(readers.state(), PoolState { idle: 0, in_use: 2, max: 2 });
        drop(first);
        let third = readers.lend(Reads::EachByItself, None).await.unwrap();
        assert_eq!(number(&third, "SELECT 7").await.unwrap(), 7);
        third.end().await.unwrap();
        assert_eq!(readers.state(), PoolState { idle: 1, in_use: 1, max: 2 });
    }

    #[tokio::test]
    async fn a_snapshot_begins_with_its_first_statement_and_ends_when_it_is_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(folder.path(), 2);
        let writer = readers.lend(Reads::EachByItself, None).await.unwrap();
        writer.execute_unprepared("CREATE TABLE a (b)").await.unwrap();
        let snapshot = readers.lend(Reads::OneState, None).await.unwrap();
        writer.execute_unprepared("INSERT INTO a VALUES (1)").await.unwrap();
        let count = "SELECT count(*) FROM a";
        assert_eq!(number(&snapshot, count).await.unwrap(), 1);
        writer.execute_unprepared("INSERT INTO a VALUES (2)").await.unwrap();
        assert_eq!(number(&snapshot, count).await.unwrap(), 1);
        assert_eq!(number(&writer, count).await.unwrap(), 2);
        drop((snapshot, writer));
        settled(&readers).await;
        let fresh = readers.lend(Reads::OneState, None).await.unwrap();
        assert_eq!(number(&fresh, count).await.unwrap(), 2);
        fresh.end().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_statement_that_is_given_up_is_stopped_and_its_connection_lent_again() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(folder.path(), 1);
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                       SELECT count(*) FROM n";
        for reads in [Reads::EachByItself, Reads::OneState] {
            let stop = Stop::new(None);
            let lent = readers.lend(reads, Some(Arc::clone(&stop))).await.unwrap();
            let held = crate::stop::StopOnDrop(stop);
            assert!(tokio::time::timeout(PATIENCE, number(&lent, endless)).await.is_err());
            drop((lent, held));
            settled(&readers).await;
            let next = readers.lend(reads, None).await.unwrap();
            assert_eq!(number(&next, "SELECT 7").await.unwrap(), 7);
            next.end().await.unwrap();
            assert_eq!(readers.state(), PoolState { idle: 1, in_use: 0, max: 1 });
        }
        readers.close().await.unwrap();
        let closed = readers.lend(Reads::EachByItself, None).await;
        assert!(matches!(closed, Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed))));
        assert_eq!(readers.state().idle, 0);
    }
}
