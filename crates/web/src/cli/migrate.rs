//! The database's schema.

use fireflow_storage::MigrateError;

use super::{Failure, MigrateStep, open, print};
use crate::settings::Settings;

/// Changes the schema, or shows where it stands.
pub(super) async fn migrate(settings: &Settings, step: MigrateStep) -> Result<(), Failure> {
    let database = open(settings).await?;
    let environment = settings.environment.as_str();
    match step {
        MigrateStep::Up => database.migrate_up(environment).await.map_err(failure)?,
        MigrateStep::Down { steps } => database.migrate_down(Some(steps)).await.map_err(failure)?,
        MigrateStep::Reset => {
            database.migrate_down(None).await.map_err(failure)?;
            database.migrate_up(environment).await.map_err(failure)?;
        }
        MigrateStep::Status => {}
    }
    for step in database.migration_status().await.map_err(failure)? {
        let state = if step.is_applied { "applied" } else { "pending" };
        print(&format!("{state}  {}", step.name))?;
    }
    Ok(database.close().await?)
}

fn failure(error: MigrateError) -> Failure {
    match error {
        MigrateError::Protected(_) => Failure::usage(error),
        MigrateError::Open(_) | MigrateError::Failed(_) | MigrateError::Locked(_) => {
            Failure::Other(error.into())
        }
    }
}
