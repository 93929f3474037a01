//! The steps of the schema, and which of them a database has.

use std::collections::BTreeSet;

use fireflow_migration::Migrator;
use sea_orm::{DatabaseConnection, DbErr, EntityName, EntityTrait};
use sea_orm_migration::{MigratorTrait, SchemaManager, seaql_migrations};

/// One step of the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: StepState,
}

/// The state of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepState {
    /// The database has it.
    Applied,
    /// The database lacks it.
    Pending,
    /// The database has it, but this program does not know it: a newer version applied it.
    Newer,
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
