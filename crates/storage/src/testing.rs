//! Databases for tests: each test has one of its own, so that tests run in parallel and commit.
//!
//! SQLite in a temporary folder; PostgreSQL in a schema of its own on the server that
//! `FIREFLOW_TEST_POSTGRES_URL` names. A missing server is a failure, never a skip.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot begin must say why")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection};
use tempfile::TempDir;

use crate::connect::{DatabaseKind, DatabaseOptions, DatabaseUrl};
use crate::store::Database;

/// A migrated database of one test's own; it goes when this is dropped or with the server.
#[derive(Debug)]
pub struct TestDatabase {
    /// The database.
    pub database: Database,
    /// Its URL, for what opens it anew.
    pub url: String,
    statements: Arc<AtomicU64>,
    _folder: Option<TempDir>,
}

impl TestDatabase {
    /// A new database of a kind.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub async fn new(kind: DatabaseKind) -> Self {
        let mut test = Self::empty(kind).await;
        test.database.migrate_up("local").await.expect("the migrations apply");
        test.count_statements();
        test
    }

    /// A new database without its schema.
    ///
    /// # Panics
    /// Where it cannot be made.
    pub async fn empty(kind: DatabaseKind) -> Self {
        let (url, folder) = match kind {
            DatabaseKind::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                (format!("sqlite://{}/test.db", folder.path().display()), Some(folder))
            }
            DatabaseKind::Postgres => (postgres_schema().await, None),
        };
        let database = Database::open(options(&url)).await.expect("the test database opens");
        Self { database, url, statements: Arc::default(), _folder: folder }
    }

    /// How many statements have run so far, without BEGIN and COMMIT.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.statements.load(Ordering::SeqCst)
    }

    fn count_statements(&mut self) {
        let connections = self.database.connections_mut();
        for connection in [&mut connections.write, &mut connections.read] {
            count(connection, Arc::clone(&self.statements));
        }
    }

    /// Runs SQL past the repositories, to look at what they wrote.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.expect("the statement runs");
    }

    /// Runs SQL past the repositories; the message where it is refused.
    ///
    /// # Errors
    /// The database's.
    pub async fn try_execute(&self, sql: &str) -> Result<(), String> {
        let connection = &self.database.connections().write;
        connection.execute_unprepared(sql).await.map(drop).map_err(|error| error.to_string())
    }

    /// The first column of what a query finds, as integers.
    ///
    /// # Panics
    /// Where it is refused.
    pub async fn integers(&self, sql: &str) -> Vec<i64> {
        let connection = &self.database.connections().write;
        let statement = sea_orm::Statement::from_string(connection.get_database_backend(), sql);
        let rows = connection.query_all_raw(statement).await.expect("the query runs");
        rows.iter().map(|row| row.try_get_by_index(0).expect("an integer")).collect()
    }
}

fn count(connection: &mut DatabaseConnection, statements: Arc<AtomicU64>) {
    connection.set_metric_callback(move |_| {
        statements.fetch_add(1, Ordering::SeqCst);
    });
}

/// Options for a test.
///
/// # Panics
/// Where the URL is wrong.
#[must_use]
pub fn options(url: &str) -> DatabaseOptions {
    DatabaseOptions {
        url: DatabaseUrl::parse(url).expect("a database URL"),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(60),
    }
}

/// The server for tests.
///
/// # Panics
/// Where none is named.
#[must_use]
pub fn postgres_url() -> String {
    std::env::var("FIREFLOW_TEST_POSTGRES_URL").unwrap_or_else(|_| {
        panic!("FIREFLOW_TEST_POSTGRES_URL names no server; `cargo xtask test` starts one")
    })
}

async fn postgres_schema() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let base = postgres_url();
    let schema = format!("t{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
    let server = sea_orm::Database::connect(base.as_str()).await.expect("the test server answers");
    server
        .execute_unprepared(&format!(
            "DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}"
        ))
        .await
        .expect("a schema");
    server.close().await.expect("the connection closes");
    let separator = if base.contains('?') { '&' } else { '?' };
    format!("{base}{separator}options=-c%20search_path%3D{schema}")
}

/// Makes a test of an async function for each database: `name::sqlite` and `name::postgres`.
///
/// ```ignore
/// db_test!(a_deleted_name_can_be_used_again, |db| { … });
/// ```
#[macro_export]
macro_rules! db_test {
    ($(#[$attribute:meta])* async fn $name:ident($db:ident: $ty:ty) $body:block) => {
        mod $name {
            #[allow(unused_imports, clippy::allow_attributes, reason = "what the test needs")]
            use super::*;

            async fn run($db: $ty) $body

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                run(<$ty>::new($crate::DatabaseKind::Sqlite).await).await;
            }

            $(#[$attribute])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                run(<$ty>::new($crate::DatabaseKind::Postgres).await).await;
            }
        }
    };
}
