//! Databases for tests, which run in parallel: [`TestDatabase::rolled_back`] is undone at the end,
//! [`TestDatabase::new`] belongs to one test, which may commit.
//!
//! SQLite uses a temporary folder; PostgreSQL uses a schema on the server that
//! `FIREFLOW_TEST_POSTGRES_URL` names. A missing server is a failure, never a skip.

#![expect(clippy::expect_used, clippy::panic, reason = "a failed setup must name its cause")]

mod database;
mod macros;
mod template;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fireflow_domain::actor::Visibility;
use fireflow_domain::features::FEATURES_KNOWN;
use fireflow_domain::filter::{Expression, Level};
use fireflow_domain::store::WriteUnit;
use fireflow_domain::usecase::rule::PolicyLimits;
use sea_orm::{
    ConnectionTrait, DbBackend, QueryFilter, QueryOrder, QueryResult, QuerySelect, QueryTrait,
    Statement, TransactionTrait,
};
use tempfile::TempDir;

use crate::database_url::{DatabaseKind, DatabaseUrl};
pub use crate::entity::tables::{Columns, entity_tables};
use crate::filter::Dialect;
use crate::observe::{Observed, Observer};
use crate::options::DatabaseOptions;
use crate::postgres::OF_CONTROL;
use crate::store::Database;
use crate::unit_of_work::{Handle, Held};

use self::template::SharedSchema;

/// A migrated database for one test. It is removed when this is dropped, or together with the
/// server.
#[derive(Debug)]
pub struct TestDatabase {
    /// The database.
    pub database: Database,
    /// Its URL, for reopening it.
    pub url: String,
    statements: Arc<Counter>,
    place: Place,
}

/// Where a test's database is. It is given back, or removed, when this is dropped.
#[derive(Debug)]
enum Place {
    /// In this temporary folder.
    Folder { _folder: TempDir },
    /// In a schema of its own, which is removed together with the server.
    Schema,
    /// In a schema that other tests use before and after.
    SharedSchema { _schema: SharedSchema },
}

impl TestDatabase {
    /// A new, migrated database of a kind, in which this test may commit.
    ///
    /// # Panics
    /// Panics if it cannot be created.
    pub async fn new(kind: DatabaseKind) -> Self {
        match kind {
            DatabaseKind::Sqlite => {
                let folder = tempfile::tempdir().expect("a temporary folder");
                template::copy_file(&folder.path().join("test.db")).await;
                Self::in_folder(folder).await
            }
            DatabaseKind::Postgres => {
                let test = Self::empty(kind).await;
                test.database.migrate_up("local").await.expect("the migrations apply");
                test
            }
        }
    }

    /// A migrated database of a kind, in one transaction that is never committed. Units of work run
    /// in its savepoints, one after the other: a second one is refused until the first has ended.
    /// The statements of this type run in it too. Constraints and triggers that a COMMIT would run
    /// do not run.
    ///
    /// # Panics
    /// Panics if it cannot be created.
    pub async fn rolled_back(kind: DatabaseKind) -> Self {
        let mut test = match kind {
            DatabaseKind::Sqlite => Self::new(kind).await,
            DatabaseKind::Postgres => {
                let schema = SharedSchema::take().await;
                Self::open(schema.url.clone(), Place::SharedSchema { _schema: schema }).await
            }
        };
        test.database.roll_back_at_the_end().await;
        test
    }

    /// A new database without its schema.
    ///
    /// # Panics
    /// Panics if it cannot be created.
    pub async fn empty(kind: DatabaseKind) -> Self {
        match kind {
            DatabaseKind::Sqlite => {
                Self::in_folder(tempfile::tempdir().expect("a temporary folder")).await
            }
            DatabaseKind::Postgres => Self::open(postgres_schema().await, Place::Schema).await,
        }
    }

    async fn in_folder(folder: TempDir) -> Self {
        let url = format!("sqlite://{}/test.db", folder.path().display());
        Self::open(url, Place::Folder { _folder: folder }).await
    }

    async fn open(url: String, place: Place) -> Self {
        let statements = Arc::new(Counter::default());
        let options = DatabaseOptions { observer: Some(statements.clone()), ..options(&url) };
        let database = Database::open(options).await.expect("the test database opens");
        Self { database, url, statements, place }
    }

    /// The same database, reopened with other options.
    ///
    /// # Panics
    /// Panics if it cannot be opened.
    pub async fn reopened(self, change: impl FnOnce(&mut DatabaseOptions)) -> Self {
        let Self { database, url, statements, place } = self;
        assert!(database.outer.is_none(), "a test that is rolled back cannot open it again");
        // Closing releases its lock.
        database.close().await.expect("the test database closes");
        let mut options = DatabaseOptions { observer: Some(statements.clone()), ..options(&url) };
        change(&mut options);
        let database = Database::open(options).await.expect("the test database opens");
        Self { database, url, statements, place }
    }

    /// The database's plans for a filter on rules: for the candidates of each seed, and for walking
    /// all rules in the order of ids.
    ///
    /// # Panics
    /// Panics if the database returns no plan.
    pub async fn plans(&self, expression: &Expression) -> (Vec<String>, String) {
        let backend = self.database.connections().upkeep().await.get_database_backend();
        let dialect = Dialect::of(backend, expression);
        let mut seeds = Vec::new();
        for seed in crate::filter::seeds(dialect, &expression.filter) {
            seeds.push(self.explain(backend.build(&seed)).await);
        }
        if expression.filter.level != Level::Rule {
            return (seeds, String::new());
        }
        let walk = crate::entity::rule::live(&Visibility::All)
            .filter(crate::filter::condition(dialect, &expression.filter))
            .order_by_asc(crate::entity::rule::Column::Id)
            .limit(10);
        (seeds, self.explain(walk.build(backend)).await)
    }

    async fn explain(&self, statement: Statement) -> String {
        let connection = self.database.connections().upkeep().await;
        let transaction = connection.begin().await.expect("a transaction");
        let word = match statement.db_backend {
            DbBackend::Postgres => {
                // Small tables are read as a whole, but the plan for a large table is needed.
                let setting = "SET LOCAL enable_seqscan = off";
                transaction.execute_unprepared(setting).await.expect("a setting");
                "EXPLAIN"
            }
            _ => "EXPLAIN QUERY PLAN",
        };
        let explain = Statement { sql: format!("{word} {}", statement.sql), ..statement };
        let rows = transaction.query_all_raw(explain).await.expect("a plan");
        let column = match connection.get_database_backend() {
            DbBackend::Postgres => "QUERY PLAN",
            _ => "detail",
        };
        let lines: Vec<String> =
            rows.iter().map(|row| row.try_get("", column).expect("a line of the plan")).collect();
        lines.join("\n")
    }

    /// How many statements have run so far, without BEGIN and COMMIT.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.statements.0.load(Ordering::SeqCst)
    }

    /// Runs SQL without the repositories, to inspect or change what they wrote.
    ///
    /// # Panics
    /// Panics if the database refuses it.
    pub async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.expect("the statement runs");
    }

    /// Runs SQL without the repositories.
    ///
    /// # Errors
    /// Returns the database's message.
    pub async fn try_execute(&self, sql: &str) -> Result<(), String> {
        if let Some(begun) = self.database.nested(None).await {
            let (handle, held) = begun.expect("a savepoint");
            let unit = self.database.unit(handle, held);
            // An error undoes the savepoint, so that the test can continue.
            let run = unit.db().execute_unprepared(sql).await;
            let unit: Box<dyn WriteUnit> = Box::new(unit);
            let ended = if run.is_ok() { unit.commit().await } else { unit.rollback().await };
            ended.expect("the savepoint ends");
            return run.map(drop).map_err(|error| error.to_string());
        }
        let connection = self.database.connections().any().await;
        connection.execute_unprepared(sql).await.map(drop).map_err(|error| error.to_string())
    }

    /// The first column of a query's result, as integers.
    ///
    /// # Panics
    /// Panics if the database refuses it.
    pub async fn integers(&self, sql: &str) -> Vec<i64> {
        let rows = self.rows(sql).await;
        rows.iter().map(|row| row.try_get_by_index(0).expect("an integer")).collect()
    }

    async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        let unit = match self.database.nested(None).await {
            Some(begun) => begun.map(|(handle, held)| self.database.unit(handle, held)),
            None => {
                let handle = Handle::Pool(self.database.connections().any().await);
                Ok(self.database.unit(handle, Held::Nothing))
            }
        };
        let unit = unit.expect("a savepoint");
        let statement = Statement::from_string(unit.db().get_database_backend(), sql);
        let rows = unit.db().query_all_raw(statement).await.expect("the query runs");
        let unit: Box<dyn WriteUnit> = Box::new(unit);
        unit.rollback().await.expect("the savepoint ends");
        rows
    }
}

impl TestDatabase {
    /// The tables as the migrated database defines them.
    ///
    /// # Panics
    /// Panics if the database does not answer.
    pub async fn tables(&self) -> BTreeMap<String, Columns> {
        let sql = match self.database.kind() {
            DatabaseKind::Sqlite => {
                "SELECT m.name, c.name, c.\"notnull\" = 0 AND c.pk = 0 FROM sqlite_master m, \
                 pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'"
            }
            DatabaseKind::Postgres => {
                "SELECT table_name::text, column_name::text, is_nullable = 'YES' \
                 FROM information_schema.columns WHERE table_schema = current_schema()"
            }
        };
        let mut tables: BTreeMap<String, Columns> = BTreeMap::new();
        for row in self.rows(sql).await {
            let text = |index| row.try_get_by_index::<String>(index).expect("a name");
            let is_nullable = row.try_get_by_index(2).expect("a boolean");
            tables.entry(text(0)).or_default().insert(text(1), is_nullable);
        }
        tables.remove("seaql_migrations");
        tables
    }
}

/// Counts statements.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Observer for Counter {
    fn observed(&self, it: &Observed<'_>) {
        if it.operation.is_statement() && !OF_CONTROL.contains(&it.sql) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Options for a test.
///
/// # Panics
/// Panics if the URL is invalid.
#[must_use]
pub fn options(url: &str) -> DatabaseOptions {
    DatabaseOptions {
        url: DatabaseUrl::parse(url).expect("a database URL"),
        read_url: None,
        list_timeout: Duration::from_secs(300),
        max_connections: 8,
        acquire_timeout: Duration::from_secs(300),
        turn_timeout: Duration::from_secs(300),
        write_group: crate::WRITE_GROUP,
        observer: None,
        features: FEATURES_KNOWN,
        policy_limits: PolicyLimits::default(),
        purpose: crate::Purpose::Serve,
    }
}

/// The URL of the server for tests.
///
/// # Panics
/// Panics if the variable is not set.
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
    in_schema(&base, &schema)
}

/// The URL of a server, with a schema of it.
fn in_schema(base: &str, schema: &str) -> String {
    let separator = if base.contains('?') { '&' } else { '?' };
    format!("{base}{separator}options=-c%20search_path%3D{schema}")
}
