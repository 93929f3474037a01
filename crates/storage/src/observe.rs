//! Reports each database operation to an observer.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fireflow_domain::store::StoreResult;
use sea_orm::sqlx::{Connection, Executor, PgPool, SqlitePool};
use sea_orm::{DatabaseConnection, Statement};

use crate::readers::Readers;

/// A kind of database operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reads rows.
    Select,
    /// Adds rows.
    Insert,
    /// Changes rows.
    Update,
    /// Removes rows.
    Delete,
    /// Begins a transaction: waits for a connection, or on SQLite for the turn to write.
    Begin,
    /// Commits a transaction; on SQLite, the one that several units share.
    Commit,
    /// Anything else.
    Other,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 7] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Begin,
        Self::Commit,
        Self::Other,
    ];

    /// The operation's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Begin => "begin",
            Self::Commit => "commit",
            Self::Other => "other",
        }
    }

    /// Whether it is a statement, as opposed to the beginning or end of a transaction.
    #[must_use]
    pub const fn is_statement(self) -> bool {
        !matches!(self, Self::Begin | Self::Commit)
    }

    fn of(sql: &str) -> Self {
        let word = sql.split(|it: char| !it.is_ascii_alphabetic()).next().unwrap_or_default();
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
        if is("select") || is("with") {
            Self::Select
        } else if is("insert") {
            Self::Insert
        } else if is("update") {
            Self::Update
        } else if is("delete") {
            Self::Delete
        } else {
            Self::Other
        }
    }
}

/// A database operation that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The operation.
    pub operation: Operation,
    /// The SQL, with placeholders for bound values. A statement without bound values may contain
    /// row numbers in its text, so only its verb and table are kept: `UPDATE rule …`. The text
    /// therefore never contains a user's value. Empty at begin and commit.
    pub sql: &'a str,
    /// How long it took.
    pub elapsed: Duration,
    /// Whether it failed.
    pub failed: bool,
}

impl Observed<'_> {
    /// The first table that the statement names, if any.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        about(self.sql).map(|(_, table)| table)
    }
}

/// The table that a statement names first, and the keyword ahead of it.
fn about(sql: &str) -> Option<(&str, &str)> {
    let mut words = sql.split_ascii_whitespace();
    let is_before = |word: &str| {
        ["from", "into", "update"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
    };
    let keyword = words.find(|word| is_before(word))?;
    // The name ends at attached punctuation, as in `rule(id)`.
    let name = words.next()?.split(['(', ')', ',', ';']).next()?.trim_matches('"');
    // A number or a text is not a table: `extract(epoch from 1)`.
    let is_name = name.starts_with(|it: char| it.is_ascii_alphabetic() || it == '_');
    is_name.then_some((keyword, name))
}

/// A statement's verb and table, without the rest of its text.
fn outline(sql: &str) -> String {
    let verb = sql.split(|it: char| !it.is_ascii_alphabetic()).next().unwrap_or_default();
    match about(sql) {
        Some((keyword, table)) if keyword.eq_ignore_ascii_case(verb) => format!("{verb} {table} …"),
        Some((keyword, table)) => format!("{verb} {keyword} {table} …"),
        None => format!("{verb} …"),
    }
}

/// Receives every database operation, in the task that waited for it. It must be quick: requests
/// wait.
pub trait Observer: fmt::Debug + Send + Sync {
    /// Called after an operation has ended.
    fn observed(&self, it: &Observed<'_>);
}

/// Makes a connection pool report its statements.
pub(crate) fn watch(connection: &mut DatabaseConnection, observer: Option<&Arc<dyn Observer>>) {
    let Some(observer) = observer.cloned() else { return };
    connection.set_metric_callback(move |info| {
        tell_statement(Some(&observer), info.statement, info.elapsed, info.failed);
    });
}

/// Reports a statement that has ended.
pub(crate) fn tell_statement(
    observer: Option<&Arc<dyn Observer>>,
    statement: &Statement,
    elapsed: Duration,
    failed: bool,
) {
    let Some(observer) = observer else { return };
    let whole = statement.sql.as_str();
    // The text of a statement without bound values may contain values itself.
    let sql = match statement.values {
        Some(_) => Cow::Borrowed(whole),
        None => Cow::Owned(outline(whole)),
    };
    let sql = &*sql;
    observer.observed(&Observed { operation: Operation::of(sql), sql, elapsed, failed });
}

/// Reports the beginning or the end of a transaction, which took from `start` until now.
pub(crate) fn tell<T>(
    observer: Option<&Arc<dyn Observer>>,
    operation: Operation,
    start: Instant,
    result: &StoreResult<T>,
) {
    if let Some(observer) = observer {
        let (elapsed, failed) = (start.elapsed(), result.is_err());
        observer.observed(&Observed { operation, sql: "", elapsed, failed });
    }
}

/// A pool of connections, to be asked for its state.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its purpose: `write`, `read` and `list` on SQLite, `primary` and `replica` on PostgreSQL.
    pub name: &'static str,
    driver: Driver,
}

#[derive(Debug, Clone)]
enum Driver {
    Sqlite(SqlitePool),
    Readers(Arc<Readers>),
    /// Pools of one connection each.
    Postgres(Vec<PgPool>),
}

/// The number of connections in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolState {
    /// Connections that nobody uses.
    pub idle: u32,
    /// Connections in use.
    pub in_use: u32,
    /// The most connections that there can be.
    pub max: u32,
}

impl Pool {
    pub(crate) fn of_sqlite(name: &'static str, connection: &DatabaseConnection) -> Self {
        Self { name, driver: Driver::Sqlite(connection.get_sqlite_connection_pool().clone()) }
    }

    pub(crate) fn of_readers(name: &'static str, readers: &Arc<Readers>) -> Self {
        Self { name, driver: Driver::Readers(Arc::clone(readers)) }
    }

    pub(crate) const fn of_postgres(name: &'static str, pools: Vec<PgPool>) -> Self {
        Self { name, driver: Driver::Postgres(pools) }
    }

    /// Frees the memory of idle connections to a file: their prepared statements and cached pages.
    /// In the meantime each connection is in use for a moment. On PostgreSQL the server keeps these
    /// in its own memory.
    pub async fn forget(&self) {
        let pool = match &self.driver {
            Driver::Sqlite(pool) => pool,
            Driver::Readers(readers) => return readers.forget().await,
            Driver::Postgres(_) => return,
        };
        let idle: Vec<_> = std::iter::from_fn(|| pool.try_acquire()).collect();
        for mut connection in idle {
            let statements = connection.clear_cached_statements().await;
            let pages = (&mut *connection).execute("PRAGMA shrink_memory").await.map(drop);
            if let Err(error) = statements.and(pages) {
                // The next user of the connection reports a real fault.
                tracing::debug!(%error, pool = self.name, "a connection did not forget");
            }
        }
    }

    /// The current state of the pool.
    #[must_use]
    pub fn state(&self) -> PoolState {
        let (size, idle, max) = match &self.driver {
            Driver::Sqlite(pool) => {
                (pool.size(), pool.num_idle(), pool.options().get_max_connections())
            }
            Driver::Readers(readers) => return readers.state(),
            Driver::Postgres(pools) => {
                let most = u32::try_from(pools.len()).unwrap_or(u32::MAX);
                let size = pools.iter().map(PgPool::size).sum();
                (size, pools.iter().map(PgPool::num_idle).sum(), most)
            }
        };
        // The two numbers were read at different times, and may have changed in between.
        let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(size);
        PoolState { idle, in_use: size - idle, max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sql_says_what_it_does_and_to_which_table() {
        let of = |sql| {
            let operation = Operation::of(sql);
            let observed = Observed { operation, sql, elapsed: Duration::ZERO, failed: false };
            (operation, observed.table().map(str::to_owned))
        };
        for (sql, operation, table) in [
            (r#"SELECT "rule"."id" FROM "rule" WHERE 1"#, Operation::Select, Some("rule")),
            (
                r#"INSERT INTO "audit_event" ("at") VALUES (?)"#,
                Operation::Insert,
                Some("audit_event"),
            ),
            (r#"update "policy" SET a = $1"#, Operation::Update, Some("policy")),
            ("DELETE FROM rule_port WHERE 1", Operation::Delete, Some("rule_port")),
            ("WITH x AS (SELECT 1) SELECT 2", Operation::Select, None),
            ("SELECT count(*) FROM (SELECT 1) AS a", Operation::Select, None),
            ("SET LOCAL x = 1", Operation::Other, None),
            ("", Operation::Other, None),
            ("SELECT 1 FROM", Operation::Select, None),
            ("SELECT extract(epoch from 17)", Operation::Select, None),
            ("INSERT INTO rule(id)VALUES(17)", Operation::Insert, Some("rule")),
        ] {
            assert_eq!(of(sql), (operation, table.map(str::to_owned)), "{sql}");
        }
    }

    #[test]
    fn of_a_statement_that_holds_its_values_only_the_outline_is_told() {
        for (sql, told) in [
            (
                "UPDATE rule SET priority = given.column2 FROM (VALUES (17,1)) AS given \
                 WHERE rule.id = given.column1",
                "UPDATE rule …",
            ),
            ("INSERT INTO \"rule\"(id)VALUES(17)", "INSERT INTO rule …"),
            ("DELETE FROM rule WHERE id = 17", "DELETE FROM rule …"),
            ("SELECT 17, 'ann' FROM \"rule\"", "SELECT FROM rule …"),
            ("SELECT extract(epoch from 17)", "SELECT …"),
            ("SELECT pg_advisory_xact_lock(17)", "SELECT …"),
        ] {
            assert_eq!(outline(sql), told);
            // The shortened text keeps the operation that is counted and names spans.
            assert_eq!(Operation::of(told), Operation::of(sql));
            let observed = |sql| {
                let operation = Operation::of(sql);
                Observed { operation, sql, elapsed: Duration::ZERO, failed: false }
            };
            assert_eq!(observed(told).table(), observed(sql).table());
        }
    }
}
