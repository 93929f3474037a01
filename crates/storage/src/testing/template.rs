//! Migrated databases that tests share: a SQLite file that is copied, and schemas on PostgreSQL that
//! one test at a time uses.
//!
//! The first test that needs one makes it, and makes it anew after the test program was built
//! again.

#![expect(clippy::expect_used, reason = "a failed setup must name its cause")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};

use super::{in_schema, options, postgres_url};
use crate::database_url::DatabaseUrl;
use crate::pool::one;
use crate::store::Database;

/// The program of this test, and when it was built.
fn program() -> (PathBuf, SystemTime) {
    let path = std::env::current_exe().expect("the path of the test program");
    let built = changed_at(&path).expect("when the test program was built");
    (path, built)
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|it| it.modified()).ok()
}

async fn migrate(url: &str) {
    let database = Database::open(options(url)).await.expect("the template opens");
    database.migrate_up("local").await.expect("the migrations apply");
    database.close().await.expect("the template closes");
}

/// Copies a migrated SQLite database. Its template is next to the test program.
pub(super) async fn copy_file(to: &Path) {
    let (program, built) = program();
    let template = program.with_extension("template.db");
    if changed_at(&template).is_none_or(|made| made < built) {
        let beside = program.parent().expect("the folder of the test program");
        // Tests of other processes may be making it too: each moves a whole one there.
        let folder = tempfile::tempdir_in(beside).expect("a folder for the template");
        let file = folder.path().join("test.db");
        migrate(&format!("sqlite://{}", file.display())).await;
        std::fs::rename(&file, &template).expect("the template is moved to its place");
    }
    std::fs::copy(&template, to).expect("the template is copied");
}

/// A migrated schema on the test server, which belongs to one test until this is dropped.
#[derive(Debug)]
pub(super) struct SharedSchema {
    pub(super) url: String,
    /// The session with the lock.
    _lock: DatabaseConnection,
}

impl SharedSchema {
    /// Takes the first schema that no other test has.
    pub(super) async fn take() -> Self {
        let base = postgres_url();
        let (program, built) = program();
        let mut hasher = DefaultHasher::new();
        program.hash(&mut hasher);
        let prefix = format!("shared_{:016x}", hasher.finish());
        let stamp = format!("{built:?}");
        let connect = one(&DatabaseUrl::parse(&base).expect("a database URL"));
        let server = sea_orm::Database::connect(connect).await.expect("the test server answers");
        let mut number = 0_u32;
        loop {
            let schema = format!("{prefix}_{number}");
            let url = in_schema(&base, &schema);
            let lock = format!("SELECT pg_try_advisory_lock(hashtextextended('{schema}', 0))");
            if value::<bool>(&server, lock).await == Some(true) {
                let read = format!(
                    "SELECT obj_description(to_regnamespace('{schema}')::oid, 'pg_namespace')"
                );
                if value::<String>(&server, read).await.as_deref() != Some(stamp.as_str()) {
                    run(&server, format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await;
                    run(&server, format!("CREATE SCHEMA {schema}")).await;
                    migrate(&url).await;
                    // Last, so that a schema that was left unfinished is made anew.
                    run(&server, format!("COMMENT ON SCHEMA {schema} IS '{stamp}'")).await;
                }
                return Self { url, _lock: server };
            }
            number += 1;
        }
    }
}

async fn run(server: &DatabaseConnection, sql: String) {
    server.execute_unprepared(&sql).await.expect("the statement runs");
}

async fn value<T: sea_orm::TryGetable>(server: &DatabaseConnection, sql: String) -> Option<T> {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let row = server.query_one_raw(statement).await.expect("the query runs")?;
    row.try_get_by_index::<Option<T>>(0).expect("a value of this type")
}
