//! Migrations, one process at a time, and the environment that a database was made in.

use std::collections::BTreeSet;
use std::time::Duration;

use fireflow_migration::Migrator;
use sea_orm::sea_query::OnConflict;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityName, EntityTrait, Set, Statement,
};
use sea_orm_migration::{MigratorTrait, SchemaManager, seaql_migrations};

use crate::connect::{self, OpenError};
use crate::database_url::DatabaseKind;
use crate::entity::meta;
use crate::error::is_locked_out;
use crate::store::Database;

/// One step of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: StepState,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// The database has it.
    Applied,
    /// The database lacks it.
    Pending,
    /// The database has it, but this program does not know it: a newer version applied it.
    Newer,
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
    /// A newer version changed the schema, and not all that this one needs is there.
    #[error(
        "a newer version has applied {newer}, but {pending} of this one is not applied: use the \
         newer version"
    )]
    Diverged {
        /// What this program does not know.
        newer: String,
        /// What it needs.
        pending: String,
    },
    /// Only who knows a step can undo it.
    #[error("a newer version has applied {0}: undo it with that version")]
    Newer(String),
    /// The database was made in an environment where nothing may be dropped.
    #[error(
        "the database was made in the environment `{0}`; only one made in `local` may be undone"
    )]
    Protected(String),
}

/// How long to wait for another process that migrates.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// How long a step waits for a table, how long it then lets others in, and for how long in all: longer
/// than an export may take.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_secs(2);
const ALL_PATIENCE: Duration = Duration::from_secs(900);

/// The only environment whose databases may be undone.
const LOCAL: &str = "local";

impl Database {
    /// Applies all pending steps, and notes the environment if this database has none yet. Safe
    /// when several processes do it at once: one does, the others wait and find nothing to do.
    /// Where a newer version was here first there is nothing to do either: it only adds what this
    /// one does not mind, so that both serve side by side while a deployment rolls.
    ///
    /// # Errors
    /// Where a step fails: it is undone as a whole.
    pub async fn migrate_up(&self, environment: &str) -> Result<(), MigrateError> {
        let session = Session::open(self).await?;
        let result = up(&session.connection, environment).await;
        session.close().await?;
        if result.is_ok() {
            self.note_migrated(true);
        }
        result
    }

    /// Undoes the last steps; all of them without a number.
    ///
    /// # Errors
    /// Where the database was not made in `local`, or a step fails: it is undone as a whole.
    pub async fn migrate_down(&self, steps: Option<u32>) -> Result<(), MigrateError> {
        let session = Session::open(self).await?;
        let result = down(&session.connection, steps).await;
        session.close().await?;
        self.note_migrated(false);
        result
    }

    /// The environment that the database was made in; none if no step is applied, and `unknown` if
    /// it does not say. Three statements.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn environment(&self) -> Result<Option<String>, MigrateError> {
        let connection = self.connections().upkeep();
        if first(&steps(connection).await?, StepState::Applied).is_none() {
            return Ok(None);
        }
        Ok(Some(environment(connection).await?))
    }

    /// Every step of this program, oldest first, and where it stands; then those of a newer one.
    ///
    /// # Errors
    /// Where the database does not answer.
    pub async fn migration_status(&self) -> Result<Vec<Step>, MigrateError> {
        Ok(steps(self.connections().upkeep()).await?)
    }
}

/// The steps of this program and of the database. Two statements; writes nothing.
pub(crate) async fn steps(connection: &DatabaseConnection) -> Result<Vec<Step>, DbErr> {
    let table = seaql_migrations::Entity.table_name();
    let mut applied = BTreeSet::new();
    if SchemaManager::new(connection).has_table(table).await? {
        let rows = seaql_migrations::Entity::find().all(connection).await?;
        applied.extend(rows.into_iter().map(|row| row.version));
    }
    let mut steps: Vec<Step> = Migrator::migrations()
        .iter()
        .map(|step| {
            let is_applied = applied.remove(step.name());
            let state = if is_applied { StepState::Applied } else { StepState::Pending };
            Step { name: step.name().to_owned(), state }
        })
        .collect();
    steps.extend(applied.into_iter().map(|name| Step { name, state: StepState::Newer }));
    Ok(steps)
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
        // Nothing is written: the database may be read-only by now, and complete.
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

/// Applies the steps. On PostgreSQL a step that waits for a table keeps all others out that come after
/// it, readers too, and may wait for as long as somebody reads (an export). So it waits for moments
/// only, and comes again.
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
                tracing::warn!("a migration waits for what others hold; it is tried again");
                tokio::time::sleep(PAUSE).await;
                waited += LOCK_PATIENCE + PAUSE;
            }
            result => return result,
        }
    }
}

async fn down(connection: &DatabaseConnection, steps: Option<u32>) -> Result<(), MigrateError> {
    let known = self::steps(connection).await?;
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

/// The environment that a database with a schema was made in.
async fn environment(connection: &DatabaseConnection) -> Result<String, DbErr> {
    let row = meta::Entity::find_by_id(meta::ENVIRONMENT).one(connection).await?;
    Ok(row.map_or_else(|| "unknown".to_owned(), |row| row.value))
}

/// One connection that holds the lock against other migrations. On SQLite that is the lock which
/// the database holds anyway.
struct Session {
    connection: DatabaseConnection,
}

impl Session {
    async fn open(database: &Database) -> Result<Self, MigrateError> {
        let (options, connections) = (database.options(), database.connections());
        let connection = connect::session(options, connections, database.file()).await?;
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
