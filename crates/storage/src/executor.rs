//! What the statements of a unit of work run on.

use async_trait::async_trait;
use futures_util::StreamExt;
use sea_orm::sea_query::Value;
use sea_orm::{
    ConnectionTrait, DatabaseExecutor, DbBackend, DbErr, ExecResult, QueryResult, Statement,
    StreamTrait,
};

use crate::readers::Lent;

/// Runs statements, with limits written into their text on SQLite.
///
/// SQLite uses the value of a limit when it plans. So it prepares a statement again each time that a
/// limit is bound, which takes longer than most pages.
#[derive(Debug)]
pub(crate) enum Executor<'a> {
    /// A connection or transaction of the mapper.
    Orm(DatabaseExecutor<'a>),
    /// A connection to a SQLite file that only reads.
    Reader(&'a Lent),
}

const BOUND: &str = "LIMIT ?";

/// Writes the limits of a statement for SQLite as numbers.
fn with_limits(mut statement: Statement) -> Statement {
    if statement.db_backend != DbBackend::Sqlite || !statement.sql.contains(BOUND) {
        return statement;
    }
    let Some(values) = &mut statement.values else { return statement };
    // A question mark elsewhere, such as in a text, would shift the numbers of the values.
    if statement.sql.matches('?').count() != values.0.len() {
        return statement;
    }
    let mut sql = String::with_capacity(statement.sql.len());
    let mut left = std::mem::take(&mut values.0).into_iter();
    let mut pieces = statement.sql.split('?');
    if let Some(first) = pieces.next() {
        sql.push_str(first);
    }
    for (piece, value) in pieces.zip(&mut left) {
        match limit(&sql, &value) {
            Some(number) => sql.push_str(&number.to_string()),
            None => {
                sql.push('?');
                values.0.push(value);
            }
        }
        sql.push_str(piece);
    }
    statement.sql = sql;
    statement
}

/// The number of a limit that ends a text.
fn limit(before: &str, value: &Value) -> Option<u64> {
    let Value::BigUnsigned(Some(number)) = value else { return None };
    let is_sqlite_number = i64::try_from(*number).is_ok();
    (is_sqlite_number && before.ends_with("LIMIT ")).then_some(*number)
}

impl Executor<'_> {
    /// Reads the rows of a statement one by one, so that at no time all of them are in memory in the
    /// form of the driver. While one is read, the connection's thread makes the next.
    ///
    /// # Errors
    /// Returns the driver's error, or the one of `each`.
    pub(crate) async fn for_each<E: From<DbErr>>(
        &self,
        statement: Statement,
        mut each: impl FnMut(QueryResult) -> Result<(), E> + Send,
    ) -> Result<(), E> {
        let statement = with_limits(statement);
        let transaction = match self {
            Self::Reader(it) => return it.for_each(statement, each).await,
            Self::Orm(DatabaseExecutor::Transaction(it)) => *it,
            Self::Orm(DatabaseExecutor::OwnedTransaction(it)) => it,
            // A pool is for single rows.
            Self::Orm(DatabaseExecutor::Connection(it)) => {
                return it.query_all_raw(statement).await?.into_iter().try_for_each(each);
            }
        };
        let mut rows = transaction.stream_raw(statement).await?;
        while let Some(row) = rows.next().await {
            each(row?)?;
        }
        Ok(())
    }
}

#[async_trait]
impl ConnectionTrait for Executor<'_> {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Orm(it) => it.get_database_backend(),
            Self::Reader(it) => it.get_database_backend(),
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Orm(it) => it.execute_raw(with_limits(statement)).await,
            Self::Reader(it) => it.execute_raw(with_limits(statement)).await,
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Orm(it) => it.execute_unprepared(sql).await,
            Self::Reader(it) => it.execute_unprepared(sql).await,
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Orm(it) => it.query_one_raw(with_limits(statement)).await,
            Self::Reader(it) => it.query_one_raw(with_limits(statement)).await,
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Orm(it) => it.query_all_raw(with_limits(statement)).await,
            Self::Reader(it) => it.query_all_raw(with_limits(statement)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(backend: DbBackend, sql: &str, values: Vec<Value>) -> (String, Vec<Value>) {
        let statement = with_limits(Statement::from_sql_and_values(backend, sql, values));
        (statement.sql, statement.values.map(|it| it.0).unwrap_or_default())
    }

    #[test]
    fn limits_are_written_and_other_values_bound() {
        let sql = "SELECT (SELECT 1 FROM b LIMIT ?) FROM a WHERE c = ? LIMIT ? OFFSET ?";
        let values = || vec![7_u64.into(), 8_u64.into(), 9_u64.into(), 10_u64.into()];
        let (text, left) = rewritten(DbBackend::Sqlite, sql, values());
        assert_eq!(text, "SELECT (SELECT 1 FROM b LIMIT 7) FROM a WHERE c = ? LIMIT 9 OFFSET ?");
        assert_eq!(left, [8_u64.into(), 10_u64.into()]);
        assert_eq!(rewritten(DbBackend::Postgres, sql, values()), (sql.to_owned(), values()));
    }

    #[test]
    fn a_statement_stays_as_it_is_if_its_values_cannot_be_told_apart() {
        let sql = "SELECT '?' FROM a LIMIT ?";
        let values = vec![7_u64.into()];
        assert_eq!(rewritten(DbBackend::Sqlite, sql, values.clone()), (sql.to_owned(), values));
        let huge = vec![Value::from(u64::MAX)];
        let sql = "SELECT 1 FROM a LIMIT ?";
        assert_eq!(rewritten(DbBackend::Sqlite, sql, huge.clone()), (sql.to_owned(), huge));
    }
}
