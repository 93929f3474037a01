//! Open files: how many a process may have, and how they are shared out. Clients' connections and
//! the database both need files, and clients must not take the ones that a write needs.

use anyhow::anyhow;
use fireflow_storage::{Database, DatabaseKind};

use super::Failure;
use crate::settings::Settings;

/// The most files that the process has open in addition to connections: its own output, listening
/// sockets and the runtime's, the lock, connections to receivers, and files of keys during a read.
const OF_ITS_OWN: u64 = 48;
/// The most files that a connection to SQLite has open: the database, its journal, and unnamed
/// files for sorting and for undoing statements.
const PER_SQLITE_CONNECTION: u64 = 5;
/// The least connections with which a service is useful.
const LEAST_CONNECTIONS: u64 = 16;

/// Raises the limit of open files to the most that the system permits, and returns the new limit.
/// Many systems start with 1024 for the sake of programs that use `select`, which FireFlow does
/// not.
pub(super) fn raise_limit() -> Option<u64> {
    #[cfg(unix)]
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) => return Some(files),
        Err(error) => tracing::warn!(%error, "the limit of open files is unknown"),
    }
    None
}

/// How many clients may be connected at once: the setting's value, lowered to the number of files
/// that the database leaves. `others` is the number of connections of another listener.
///
/// # Errors
/// Returns a usage failure if fewer than [`LEAST_CONNECTIONS`] files are left.
pub(super) fn max_connections(
    settings: &Settings,
    database: &Database,
    others: usize,
    files: Option<u64>,
) -> Result<usize, Failure> {
    let wanted = settings.http.max_connections;
    let Some(files) = files else { return Ok(wanted) };
    let of_database: u64 = database.pools().iter().map(|pool| u64::from(pool.state().max)).sum();
    let per_connection = match database.kind() {
        DatabaseKind::Sqlite => PER_SQLITE_CONNECTION,
        DatabaseKind::Postgres => 1,
    };
    let others = u64::try_from(others).unwrap_or(u64::MAX);
    let needed = of_database
        .saturating_mul(per_connection)
        .saturating_add(OF_ITS_OWN)
        .saturating_add(others);
    let left = files.saturating_sub(needed);
    if left < LEAST_CONNECTIONS {
        return Err(Failure::usage(anyhow!(
            "this process may open {files} files, but needs at least {}, of which {needed} are \
             for the database and itself; raise the limit (`ulimit -n`, `LimitNOFILE=`), or lower \
             FIREFLOW_DATABASE__MAX_CONNECTIONS",
            needed.saturating_add(LEAST_CONNECTIONS)
        )));
    }
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    if left < wanted {
        tracing::warn!(
            files,
            needed,
            max_connections = left,
            "FIREFLOW_HTTP__MAX_CONNECTIONS is {wanted}, but the process cannot open so many \
             files: it accepts {left} connections at once; raise the limit (`ulimit -n`, \
             `LimitNOFILE=`)"
        );
    } else {
        tracing::info!(files, needed, max_connections = wanted, "the limit of open files");
    }
    Ok(wanted.min(left))
}
