//! Migrations, one process at a time, and the environment that a database was made in.

use std::time::Duration;

use fireflow_migration::Migrator;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, Set, Statement};
use sea_orm_migration::{MigrationStatus, MigratorTrait};

use crate::connect::{self, DatabaseKind, OpenError};
use crate::entity::meta;
use crate::store::Database;

/// One step of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationState {
    /// Its name.
    pub name: String,
    /// Whether it is applied.
    pub is_applied: bool,
}

/// Why the schema could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// No connection of its own.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A statement failed.
    #[error("the migration failed")]
    Failed(#[from] DbErr),
    /// Another process migrates, and does not come to an end.
    #[error("another process has been migrating this database for {0:?}")]
    Locked(Duration),
    /// The database was made in an environment where nothing may be dropped.
    #[error(
        "the database was made in the environment `{0}`; only one made in `local` may be undone"
    )]
    Protected(String),
}

/// How long to wait for another process that migrates.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// The only environment whose databases may be undone.
const LOCAL: &str = "local";

impl Database {
    /// Applies all pending steps, and notes the environment if this database has none yet. Safe
    /// when several processes do it at once: one does, the others wait and find nothing to do.
    ///
    /// # Errors
    /// Where a step fails: it is undone as a whole.
    pub async fn migrate_up(&self, environment: &str) -> Result<(), MigrateError> {
        let session = Session::open(self).await?;
        let result = up(&session.connection, environment).await;
        session.close().await?;
        Ok(result?)
    }

    /// Undoes the last steps; all of them without a number.
    ///
    /// # Errors
    /// Where the database was not made in `local`, or a step fails: it is undone as a whole.
    pub async fn migrate_down(&self, steps: Option<u32>) -> Result<(), MigrateError> {
        let session = Session::open(self).await?;
        let result = down(&session.connection, steps).await;
        session.close().await?;
        result
    }

    /// Every step, and whether it is applied.
    ///
    /// # Errors
    /// Where the database does not answer, or knows a step that this program does not.
    pub async fn migration_status(&self) -> Result<Vec<MigrationState>, MigrateError> {
        let steps = Migrator::get_migration_with_status_read_only(&self.connections().read).await?;
        Ok(steps
            .iter()
            .map(|step| MigrationState {
                name: step.name().to_owned(),
                is_applied: step.status() == MigrationStatus::Applied,
            })
            .collect())
    }
}

async fn up(connection: &DatabaseConnection, environment: &str) -> Result<(), DbErr> {
    Migrator::up(connection, None).await?;
    let row = meta::ActiveModel {
        key: Set(meta::ENVIRONMENT.to_owned()),
        value: Set(environment.to_owned()),
    };
    meta::Entity::insert(row)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(connection)
        .await?;
    Ok(())
}

async fn down(connection: &DatabaseConnection, steps: Option<u32>) -> Result<(), MigrateError> {
    let applied = Migrator::get_applied_migrations_read_only(connection).await?;
    if applied.is_empty() {
        return Ok(());
    }
    let environment = meta::Entity::find_by_id(meta::ENVIRONMENT).one(connection).await?;
    let environment = environment.map_or_else(|| "unknown".to_owned(), |row| row.value);
    if environment != LOCAL {
        return Err(MigrateError::Protected(environment));
    }
    Ok(Migrator::down(connection, steps).await?)
}

/// One connection that holds the lock against other migrations. On SQLite that is the lock which
/// the database holds anyway.
struct Session {
    connection: DatabaseConnection,
}

impl Session {
    async fn open(database: &Database) -> Result<Self, MigrateError> {
        let connection = connect::session(database.options()).await?;
        if database.options().url.kind() == DatabaseKind::Postgres {
            // Polled: a process that waits inside the lock function would itself be a transaction
            // that blocks steps such as CREATE INDEX CONCURRENTLY.
            let mut waited = Duration::ZERO;
            while !try_lock(&connection).await? {
                if waited >= PATIENCE {
                    return Err(MigrateError::Locked(PATIENCE));
                }
                tokio::time::sleep(POLL).await;
                waited += POLL;
            }
        }
        Ok(Self { connection })
    }

    /// Frees the lock: it ends with the connection.
    async fn close(self) -> Result<(), DbErr> {
        self.connection.close().await
    }
}

async fn try_lock(connection: &DatabaseConnection) -> Result<bool, DbErr> {
    // Per schema, since tests keep theirs apart by schema.
    let statement = Statement::from_string(
        DbBackend::Postgres,
        "SELECT pg_try_advisory_lock(hashtext('fireflow migrations'), hashtext(current_schema()))",
    );
    match connection.query_one_raw(statement).await? {
        Some(row) => row.try_get_by_index(0),
        None => Ok(false),
    }
}
