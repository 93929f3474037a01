//! Copies of a SQLite database, and the way back.

use std::path::Path;

use fireflow_storage::{BackupError, Contents, OpenError};

use super::{Failure, database_options, print};
use crate::settings::Settings;

/// Copies the database while it is served.
pub(super) async fn backup(settings: &Settings, file: &Path) -> Result<(), Failure> {
    let options = database_options(settings);
    let contents = fireflow_storage::backup(&options, file).await.map_err(failure)?;
    print(&format!("{} holds {}", file.display(), described(contents)))
}

/// Puts a copy in the database's place.
pub(super) async fn restore(
    settings: &Settings,
    file: &Path,
    replaces: bool,
) -> Result<(), Failure> {
    let options = database_options(settings);
    let contents = fireflow_storage::restore(&options, file, replaces).await.map_err(failure)?;
    print(&format!("restored {}", described(contents)))
}

fn described(contents: Contents) -> String {
    let Contents { firewalls, policies, rules } = contents;
    format!("{firewalls} firewalls, {policies} filtering policies, {rules} rules")
}

fn failure(error: BackupError) -> Failure {
    match error {
        BackupError::NotSqlite
        | BackupError::Exists { .. }
        | BackupError::Missing(_)
        | BackupError::Open(
            OpenError::BadUrl(_) | OpenError::InUse { .. } | OpenError::Lock { .. },
        ) => Failure::usage(error),
        BackupError::Unsound { .. }
        | BackupError::Open(OpenError::Connect { .. })
        | BackupError::Database(_)
        | BackupError::File { .. } => Failure::Other(error.into()),
    }
}
