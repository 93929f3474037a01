//! What goes wrong in a database, sorted by what a caller can do about it.

use fireflow_domain::error::StoreError;
use sea_orm::{DbErr, RuntimeErr, SqlxError};

/// A stored value that the domain does not accept: somebody else wrote to the database.
#[derive(Debug, thiserror::Error)]
#[error("{table}.{column} of row {row} holds what it must not: {why}")]
pub(crate) struct Corrupt {
    /// The table.
    pub(crate) table: &'static str,
    /// The column.
    pub(crate) column: &'static str,
    /// The row's id.
    pub(crate) row: i64,
    /// What is wrong with it.
    pub(crate) why: String,
}

impl From<Corrupt> for StoreError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Failed(corrupt.into())
    }
}

/// A write that met another number of rows than it must.
#[derive(Debug, thiserror::Error)]
#[error("a write of {what} {id} met {rows} rows, not {expected}")]
pub(crate) struct WrongRowCount {
    /// The table.
    pub(crate) what: &'static str,
    /// The row's id, or that of the rows' parent.
    pub(crate) id: i64,
    /// How many rows it met.
    pub(crate) rows: u64,
    /// How many it had to meet.
    pub(crate) expected: usize,
}

/// Sorts a driver's error: what may go away by itself is `Unavailable`.
pub(crate) fn store_error(error: DbErr) -> StoreError {
    if is_over_time(&error) {
        StoreError::TooExpensive(error.into())
    } else if is_transient(&error) {
        StoreError::Unavailable(error.into())
    } else {
        StoreError::Failed(error.into())
    }
}

/// Sorts an error of COMMIT: after most of them nobody knows whether it lasted.
pub(crate) fn commit_error(error: DbErr) -> StoreError {
    let is_undone = match &error {
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            match &**error {
                SqlxError::Database(error) => error.code().is_some_and(|code| is_undone(&code)),
                _ => false,
            }
        }
        _ => false,
    };
    if is_undone { store_error(error) } else { StoreError::Unsettled(error.into()) }
}

/// Whether a refused COMMIT has certainly undone the transaction: serialization failures,
/// deadlocks and violated constraints of PostgreSQL; a SQLite that is busy, full or refuses a
/// constraint.
fn is_undone(code: &str) -> bool {
    if code.len() == 5 {
        return code.starts_with("40") && code != "40003" || code.starts_with("23");
    }
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 1 | 5 | 6 | 13 | 19))
}

/// Stopped by the limit of lists: SQLite's INTERRUPT, PostgreSQL's query_canceled.
fn is_over_time(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) =
        error
    else {
        return false;
    };
    match &**error {
        SqlxError::Database(error) => matches!(error.code().as_deref(), Some("9" | "57014")),
        _ => false,
    }
}

fn is_transient(error: &DbErr) -> bool {
    match error {
        DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => true,
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            is_transient_in_driver(error)
        }
        _ => false,
    }
}

fn is_transient_in_driver(error: &SqlxError) -> bool {
    match error {
        SqlxError::Io(_)
        | SqlxError::Tls(_)
        | SqlxError::PoolTimedOut
        | SqlxError::PoolClosed
        | SqlxError::WorkerCrashed => true,
        SqlxError::Database(error) => error.code().is_some_and(|code| is_transient_code(&code)),
        _ => false,
    }
}

/// SQLite's primary and extended result codes, and PostgreSQL's SQLSTATEs, for what may work when
/// it is tried again: locked or busy, full disks, I/O errors; serialization failures, deadlocks,
/// cancelled statements, lost connections, servers that shut down or have too many clients.
fn is_transient_code(code: &str) -> bool {
    if code.len() == 5 {
        return matches!(code, "40001" | "40P01" | "55P03" | "25006")
            || ["08", "53", "57P"].iter().any(|class| code.starts_with(class));
    }
    // The low byte of an extended code is the primary one: 5 BUSY, 6 LOCKED, 10 IOERR, 13 FULL.
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13))
}

/// Whether a statement was given up since others held what it waited for: PostgreSQL's
/// lock_not_available and deadlock_detected.
pub(crate) fn is_locked_out(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) =
        error
    else {
        return false;
    };
    match &**error {
        SqlxError::Database(error) => matches!(error.code().as_deref(), Some("55P03" | "40P01")),
        _ => false,
    }
}

/// Whether a unique index refused the write.
pub(crate) fn is_unique_violation(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_work_later_is_told_from_defects() {
        for code in
            ["5", "6", "261", "517", "10", "13", "40001", "40P01", "57P01", "53300", "08006"]
        {
            assert!(is_transient_code(code), "{code}");
        }
        for code in ["1", "19", "2067", "11", "23505", "42703", "22021"] {
            assert!(!is_transient_code(code), "{code}");
        }
    }
}
