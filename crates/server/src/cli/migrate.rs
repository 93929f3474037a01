//! The database's schema.

use fireflow_storage::{MigrateError, StepState};

use super::{Failure, MigrateStep, open, options_of, print};
use crate::settings::Settings;

/// Changes the schema if asked to, and prints the state of each step.
pub(super) async fn migrate(settings: &Settings, step: MigrateStep) -> Result<(), Failure> {
    let command = match step {
        MigrateStep::Up => "migrate up",
        MigrateStep::Down { .. } => "migrate down",
        MigrateStep::Reset => "migrate reset",
        MigrateStep::Status => "migrate status",
    };
    let database = open(options_of(settings, command)).await?;
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
        let state = match step.state {
            StepState::Applied => "applied",
            StepState::Pending => "pending",
            StepState::Newer => "newer  ",
        };
        print(&format!("{state}  {}", step.name))?;
    }
    Ok(database.close().await?)
}

fn failure(error: MigrateError) -> Failure {
    match error {
        MigrateError::Protected(_) | MigrateError::Newer(_) | MigrateError::Diverged { .. } => {
            Failure::usage(error)
        }
        MigrateError::Open(_) | MigrateError::Failed(_) | MigrateError::Locked(_) => {
            Failure::Other(error.into())
        }
    }
}
