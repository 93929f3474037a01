//! Migrations, by one process at a time, and the environment that a database was created in.

use std::time::Duration;

use fireflow_migration::Migrator;
use sea_orm::sea_query::OnConflict;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, Set, Statement};
use sea_orm_migration::MigratorTrait;

use crate::connect;
use crate::database_url::DatabaseKind;
use crate::entity::meta;
use crate::error::is_locked_out;
use crate::open_error::OpenError;
use crate::steps::{Step, StepState, steps};
use crate::store::Database;

/// Why the schema could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The migration could not open its own connection.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A statement failed.
    #[error("the migration failed")]
    Failed(#[from] DbErr),
    /// Another process has been migrating for too long.
    #[error("another process has been migrating this database for {0:?}")]
    Locked(Duration),
    /// A newer version changed the schema, and a step that this version needs is missing.
    #[error(
        "a newer version has applied {newer}, but {pending} of this one is not applied: use the \
         newer version"
    )]
    Diverged {
        /// A step that this program does not know.
        newer: String,
        /// A step that this program needs.
        pending: String,
    },
    /// Only a version that knows a step can undo it.
    #[error("a newer version has applied {0}: undo it with that version")]
    Newer(String),
    /// The database was created in an environment where nothing may be dropped.
    #[error(
        "the database was created in `{0}`; migrations are undone only in those created in `local`"
    )]
    Protected(String),
}

/// How long to wait for another process that is migrating.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// How long a step waits for a table, how long it then lets others in, and the total limit, which
/// is longer than an export may take.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(2);
const ALL_PATIENCE: Duration = Duration::from_secs(900);

/// The only environment whose databases may be migrated down.
const LOCAL: &str = "local";

impl Database {
    /// Applies all pending steps, and records the environment if this database has none yet.
    /// Several processes may do this at once: one applies the steps, and the others wait and find
    /// nothing to do. There is also nothing to do if a newer version has already migrated the
    /// database: it only adds what this version tolerates, so that both can serve during a rolling
    /// deployment.
    ///
    /// # Errors
    /// Returns an error if a step fails; the step is then undone as a whole.
    pub async fn migrate_up(&self, environment: &str) -> Result<(), MigrateError> {
        let session = Session::open(self).await?;
        let result = up(&session.connection, environment).await;
        session.close().await?;
        if result.is_ok() {
            self.note_migrated(true);
        }
        result
    }

    /// Undoes the last steps, or all of them if no number is given.
    ///
    /// # Errors
    /// Returns an error if the database was not created in `local`, or a step fails; the step is
    /// then undone as a whole.
    pub async fn migrate_down(&self, steps: Option<u32>) -> Result<(), MigrateError> {
        let session = Session::open(self).await?;
        let result = down(&session.connection, steps).await;
        session.close().await?;
        self.note_migrated(false);
        result
    }

    /// The environment that the database was created in. `None` if no step is applied, and
    /// `unknown` if the database does not record it. Three statements.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn environment(&self) -> Result<Option<String>, MigrateError> {
        let connection = self.connections().upkeep().await;
        if first(&steps(&connection).await?, StepState::Applied).is_none() {
            return Ok(None);
        }
        Ok(Some(environment(&connection).await?))
    }

    /// Every step of this program and its state, oldest first; then those of a newer program.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn migration_status(&self) -> Result<Vec<Step>, MigrateError> {
        Ok(steps(&self.connections().upkeep().await).await?)
    }
}

/// The first step in a state.
fn first(steps: &[Step], state: StepState) -> Option<String> {
    steps.iter().find(|step| step.state == state).map(|step| step.name.clone())
}

async fn up(connection: &DatabaseConnection, environment: &str) -> Result<(), MigrateError> {
    let steps = steps(connection).await?;
    match (first(&steps, StepState::Newer), first(&steps, StepState::Pending)) {
        (None, _) => {}
        (Some(newer), None) => {
            tracing::info!(newer, "the schema is of a newer version; there is nothing to apply");
            return Ok(());
        }
        (Some(newer), Some(pending)) => return Err(MigrateError::Diverged { newer, pending }),
    }
    apply(connection).await?;
    if meta::Entity::find_by_id(meta::ENVIRONMENT).one(connection).await?.is_some() {
        // Nothing is written: the database may be read-only and already complete.
        return Ok(());
    }
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

/// Applies the steps. On PostgreSQL, a step that waits for a table blocks all later statements on
/// it, including reads, and may wait as long as a reader (an export) runs. So each step waits only
/// briefly, and is retried.
async fn apply(connection: &DatabaseConnection) -> Result<(), DbErr> {
    if connection.get_database_backend() != DbBackend::Postgres {
        return Migrator::up(connection, None).await;
    }
    let limit = format!("SET lock_timeout = {}", LOCK_PATIENCE.as_millis());
    connection.execute_unprepared(&limit).await?;
    let mut waited = Duration::ZERO;
    loop {
        match Migrator::up(connection, None).await {
            Err(error) if is_locked_out(&error) && waited < ALL_PATIENCE => {
                tracing::warn!("a migration waits for a lock that others hold; it will retry");
                tokio::time::sleep(PAUSE).await;
                waited += LOCK_PATIENCE + PAUSE;
            }
            result => return result,
        }
    }
}

async fn down(connection: &DatabaseConnection, steps: Option<u32>) -> Result<(), MigrateError> {
    let known = crate::steps::steps(connection).await?;
    if let Some(newer) = first(&known, StepState::Newer) {
        return Err(MigrateError::Newer(newer));
    }
    if first(&known, StepState::Applied).is_none() {
        return Ok(());
    }
    let environment = environment(connection).await?;
    if environment != LOCAL {
        return Err(MigrateError::Protected(environment));
    }
    Ok(Migrator::down(connection, steps).await?)
}

/// The environment that a database with a schema was created in.
async fn environment(connection: &DatabaseConnection) -> Result<String, DbErr> {
    let row = meta::Entity::find_by_id(meta::ENVIRONMENT).one(connection).await?;
    Ok(row.map_or_else(|| "unknown".to_owned(), |row| row.value))
}

/// One connection with the lock against other migrations. On SQLite, the process already holds that
/// lock on the database.
struct Session {
    connection: DatabaseConnection,
}

impl Session {
    async fn open(database: &Database) -> Result<Self, MigrateError> {
        let (options, connections) = (database.options(), database.connections());
        let connection = connect::session(options, connections, database.file()).await?;
        if database.options().url.kind() == DatabaseKind::Postgres {
            // The lock is polled: a process that waits inside the lock function would itself be a
            // transaction that blocks steps such as CREATE INDEX CONCURRENTLY.
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

    /// Releases the lock, which ends with the connection.
    async fn close(self) -> Result<(), DbErr> {
        self.connection.close().await
    }
}

async fn try_lock(connection: &DatabaseConnection) -> Result<bool, DbErr> {
    // The lock is per schema, since tests use separate schemas.
    let statement = Statement::from_string(
        DbBackend::Postgres,
        "SELECT pg_try_advisory_lock(hashtext('fireflow migrations'), hashtext(current_schema()))",
    );
    match connection.query_one_raw(statement).await? {
        Some(row) => row.try_get_by_index(0),
        None => Ok(false),
    }
}
