//! The checks of a file that is to replace the database: it must be sound, and FireFlow's in every
//! part.
//!
//! Its tables, indexes, triggers and views are compared with those that this program's own
//! migrations create, up to the step that the file has.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use fireflow_migration::Migrator;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, Statement,
    TryGetable,
};
use sea_orm_migration::MigratorTrait;

use super::{BackupError, Contents};
use crate::steps::{Step, StepState, steps};

/// Reads the whole copy (pages, indexes, references, the schema) and counts its contents. Errors
/// name `file`, which is the copy's source or destination.
pub(super) async fn check(copy: &Path, file: &Path) -> Result<Contents, BackupError> {
    // A file that is not a database is refused here.
    let connection = read_only(copy).await.map_err(|error| unsound(file, &error))?;
    let checked = examine(&connection, file).await;
    connection.close().await?;
    checked
}

pub(super) fn unsound(file: &Path, why: &dyn ToString) -> BackupError {
    BackupError::Unsound { path: file.to_owned(), why: why.to_string() }
}

async fn examine(connection: &DatabaseConnection, file: &Path) -> Result<Contents, BackupError> {
    let found = one::<String>(connection, "PRAGMA integrity_check(1)").await;
    match found.map_err(|error| unsound(file, &error))?.as_deref() {
        Some("ok") => {}
        other => return Err(unsound(file, &other.unwrap_or("nothing can be read"))),
    }
    let lost = "SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1";
    if one::<String>(connection, lost).await?.is_some() {
        return Err(unsound(file, &"a row refers to another that does not exist"));
    }
    let steps = steps(connection).await.map_err(|error| unsound(file, &error))?;
    if let Some(why) = foreign(connection, &steps).await? {
        return Err(unsound(file, &why));
    }
    Ok(Contents {
        firewalls: count(connection, "firewall").await?,
        policies: count(connection, "policy").await?,
        rules: count(connection, "rule").await?,
    })
}

/// A single read-only connection to a SQLite file.
pub(crate) async fn read_only(file: &Path) -> Result<DatabaseConnection, DbErr> {
    let mut connect = ConnectOptions::new("sqlite://");
    connect.max_connections(1).sqlx_logging(false);
    let name = file.to_owned();
    connect.map_sqlx_sqlite_opts(move |_| {
        SqliteConnectOptions::new().filename(&name).read_only(true).create_if_missing(false)
    });
    Database::connect(connect).await
}

async fn one<T: TryGetable>(
    connection: &DatabaseConnection,
    sql: &str,
) -> Result<Option<T>, DbErr> {
    let row = connection.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    row.map(|row| row.try_get_by_index(0)).transpose()
}

/// Counts the rows that are not deleted themselves; their parents may be.
async fn count(connection: &DatabaseConnection, table: &str) -> Result<i64, DbErr> {
    let sql = format!("SELECT count(*) FROM \"{table}\" WHERE deleted_at IS NULL");
    Ok(one(connection, &sql).await?.unwrap_or(0))
}

/// The first sign that another program has created or changed the file.
async fn foreign(connection: &DatabaseConnection, steps: &[Step]) -> Result<Option<String>, DbErr> {
    let count = |state| steps.iter().filter(|step| step.state == state).count();
    let applied = count(StepState::Applied);
    if applied == 0 {
        return Ok(Some("it has none of FireFlow's tables".to_owned()));
    }
    // The marks that SQLite offers to programs: FireFlow sets none.
    for mark in ["application_id", "user_version"] {
        let found = one::<i32>(connection, &format!("PRAGMA {mark}")).await?.unwrap_or(0);
        if found != 0 {
            return Ok(Some(format!("its {mark} is {found}, but FireFlow sets none")));
        }
    }
    let encoding = one::<String>(connection, "PRAGMA encoding").await?.unwrap_or_default();
    if encoding != "UTF-8" {
        return Ok(Some(format!("its text is {encoding}, but FireFlow's is UTF-8")));
    }
    let pending = steps.iter().position(|step| step.state == StepState::Pending);
    let last = steps.iter().rposition(|step| step.state == StepState::Applied);
    if let (Some(pending), Some(last)) = (pending, last)
        && pending < last
        && let (Some(pending), Some(last)) = (steps.get(pending), steps.get(last))
    {
        let (pending, last) = (&pending.name, &last.name);
        return Ok(Some(format!("its step {last} is applied, but not the earlier {pending}")));
    }
    let is_newer = count(StepState::Newer) > 0;
    if is_newer && pending.is_some() {
        let why = "a newer version has changed it, and it lacks parts that this version needs";
        return Ok(Some(why.to_owned()));
    }
    let found = Schema::read(connection).await?;
    Ok(Schema::made(applied).await?.difference(&found, is_newer))
}

/// The objects of a database: their kinds and names, with the statements that create them.
type Objects = BTreeMap<(String, String), String>;

/// The first of these objects that the others lack. A missing table comes first, since its indexes
/// and triggers are then missing too.
fn first_lacking<'a>(these: &'a Objects, others: &Objects) -> Option<&'a (String, String)> {
    let lacking = these.keys().filter(|key| !others.contains_key(*key));
    lacking.min_by_key(|(kind, _)| kind != "table")
}

/// A database's schema, and the columns of its tables.
#[derive(Debug, Default)]
struct Schema {
    objects: Objects,
    columns: BTreeSet<(String, String)>,
}

impl Schema {
    /// The schema of a new database after this many steps.
    async fn made(steps: usize) -> Result<Self, DbErr> {
        let mut connect = ConnectOptions::new("sqlite::memory:");
        connect.max_connections(1).sqlx_logging(false);
        let connection = Database::connect(connect).await?;
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let schema = match Migrator::up(&connection, Some(steps)).await {
            Ok(()) => Self::read(&connection).await,
            Err(error) => Err(error),
        };
        connection.close().await?;
        schema
    }

    /// The schema of a database, without SQLite's internal objects: no other program can create an
    /// object with their prefix.
    async fn read(connection: &DatabaseConnection) -> Result<Self, DbErr> {
        let objects = "SELECT type, name, coalesce(sql, '') FROM sqlite_schema \
                       WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        let columns = "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_xinfo(t.name) c \
                       WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        let mut schema = Self::default();
        for row in connection.query_all_raw(statement(objects)).await? {
            let sql: String = row.try_get_by_index(2)?;
            // Spaces between words mean nothing; FireFlow's statements have none within quotes.
            let sql = sql.split_whitespace().collect::<Vec<_>>().join(" ");
            schema.objects.insert((row.try_get_by_index(0)?, row.try_get_by_index(1)?), sql);
        }
        for row in connection.query_all_raw(statement(columns)).await? {
            schema.columns.insert((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
        }
        Ok(schema)
    }

    /// The first difference from a found schema, if there is one. A newer version may have added
    /// objects, and changed what it added to.
    fn difference(&self, found: &Self, is_newer: bool) -> Option<String> {
        let missing = first_lacking(&self.objects, &found.objects);
        if let Some((kind, name)) = missing {
            return Some(format!("its {kind} `{name}` is missing"));
        }
        if let Some((table, column)) = self.columns.difference(&found.columns).next() {
            return Some(format!("the column `{column}` of its table `{table}` is missing"));
        }
        if is_newer {
            return None;
        }
        let added = first_lacking(&found.objects, &self.objects);
        if let Some((kind, name)) = added {
            return Some(format!("its {kind} `{name}` is not FireFlow's"));
        }
        if let Some((table, column)) = found.columns.difference(&self.columns).next() {
            return Some(format!("the column `{column}` of its table `{table}` is not FireFlow's"));
        }
        let changed = self.objects.iter().find(|(key, sql)| found.objects.get(*key) != Some(*sql));
        changed.map(|((kind, name), _)| format!("its {kind} `{name}` differs from FireFlow's"))
    }
}

fn statement(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Sqlite, sql)
}
