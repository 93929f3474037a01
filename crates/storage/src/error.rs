//! Database errors, classified by what a caller can do about them.

use fireflow_domain::error::{Outage, StoreError};
use sea_orm::{DbErr, RuntimeErr, SqlxError};

/// A stored value that the domain rejects: another program has written to the database.
#[derive(Debug, thiserror::Error)]
#[error("{table}.{column} of row {row} has an invalid value: {why}")]
pub(crate) struct Corrupt {
    /// The table.
    pub(crate) table: &'static str,
    /// The column.
    pub(crate) column: &'static str,
    /// The row's id.
    pub(crate) row: i64,
    /// The reason why it is rejected.
    pub(crate) why: String,
}

impl From<Corrupt> for StoreError {
    fn from(corrupt: Corrupt) -> Self {
        Self::Failed(corrupt.into())
    }
}

/// A write that affected another number of rows than it must.
#[derive(Debug, thiserror::Error)]
#[error("a write of {what} {id} affected {rows} rows, not {expected}")]
pub(crate) struct WrongRowCount {
    /// The table.
    pub(crate) what: &'static str,
    /// The row's id, or that of the rows' parent.
    pub(crate) id: i64,
    /// How many rows it affected.
    pub(crate) rows: u64,
    /// How many it must affect.
    pub(crate) expected: usize,
}

/// Classifies a driver's error by what can be done about it. A stopped statement took too long; the
/// caller knows whether it was a list.
pub(crate) fn store_error(error: DbErr) -> StoreError {
    match sort(&error) {
        Sort::Stopped => StoreError::TooExpensive(error.into()),
        Sort::Away => StoreError::Unavailable(error.into()),
        Sort::Refused(outage) => StoreError::Refused(outage, error.into()),
        Sort::Defect => StoreError::Failed(error.into()),
    }
}

/// The same for work that is not a list: the client cannot narrow a filter to make it cheaper.
pub(crate) fn unless_list(error: StoreError) -> StoreError {
    match error {
        StoreError::TooExpensive(source) => StoreError::Unavailable(source),
        other => other,
    }
}

/// Classifies an error of COMMIT: after most of them it is unknown whether the transaction lasted.
pub(crate) fn commit_error(error: DbErr) -> StoreError {
    let is_undone = match driver_error(&error) {
        Some(SqlxError::Database(error)) => error.code().is_some_and(|code| is_undone(&code)),
        _ => false,
    };
    if is_undone { unless_list(store_error(error)) } else { StoreError::Unsettled(error.into()) }
}

fn driver_error(error: &DbErr) -> Option<&SqlxError> {
    match error {
        DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error))
        | DbErr::Conn(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

/// Whether a refused COMMIT has certainly rolled back the transaction. On PostgreSQL that is a
/// serialization failure, a deadlock, a violated constraint, a full disk or a read-only server. On
/// SQLite it is a database that is busy, full, read-only or refuses a constraint.
fn is_undone(code: &str) -> bool {
    if code.len() == 5 {
        return code.starts_with("40") && code != "40003"
            || ["23", "25", "53"].iter().any(|class| code.starts_with(class));
    }
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 1 | 5 | 6 | 8 | 13 | 19))
}

/// The class of an error.
#[derive(Debug, PartialEq, Eq)]
enum Sort {
    /// It was stopped: it took too long, or nobody waited for it.
    Stopped,
    /// The database is unreachable or overloaded.
    Away,
    /// An operator must fix the database.
    Refused(Outage),
    /// FireFlow sent an invalid statement, or found an invalid value.
    Defect,
}

fn sort(error: &DbErr) -> Sort {
    if matches!(error, DbErr::ConnectionAcquire(_)) {
        return Sort::Away;
    }
    match driver_error(error) {
        Some(
            SqlxError::Io(_)
            | SqlxError::Tls(_)
            | SqlxError::PoolTimedOut
            | SqlxError::PoolClosed
            | SqlxError::WorkerCrashed
            | SqlxError::BeginFailed,
        ) => Sort::Away,
        Some(SqlxError::Database(error)) => {
            error.code().map_or(Sort::Defect, |code| sort_code(&code, error.message()))
        }
        // An error before a statement is sent.
        _ if matches!(error, DbErr::Conn(_)) => Sort::Away,
        _ => Sort::Defect,
    }
}

/// SQLite's primary and extended result codes, and PostgreSQL's SQLSTATEs.
fn sort_code(code: &str, message: &str) -> Sort {
    if code.len() == 5 {
        return sort_sqlstate(code);
    }
    let Ok(code) = code.parse::<u32>() else { return Sort::Defect };
    // The low byte of an extended code is the primary one.
    match code & 0xff {
        9 => Sort::Stopped,
        // BUSY, LOCKED, NOMEM, IOERR, CANTOPEN, PROTOCOL, SCHEMA: in use, or unreachable.
        5 | 6 | 7 | 10 | 14 | 15 | 17 => Sort::Away,
        8 => Sort::Refused(Outage::ReadOnly),
        13 => Sort::Refused(Outage::Full),
        // CORRUPT, NOTADB.
        11 | 26 => Sort::Refused(Outage::Damaged),
        // PERM, AUTH.
        3 | 23 => Sort::Refused(Outage::Denied),
        1 if message.starts_with("no such table") || message.starts_with("no such column") => {
            Sort::Refused(Outage::NotMigrated)
        }
        _ => Sort::Defect,
    }
}

fn sort_sqlstate(code: &str) -> Sort {
    match code {
        "57014" => Sort::Stopped,
        "25006" => Sort::Refused(Outage::ReadOnly),
        "53100" => Sort::Refused(Outage::Full),
        // A missing table, column or schema.
        "42P01" | "42703" | "3F000" => Sort::Refused(Outage::NotMigrated),
        // Insufficient privilege; a role that may not log in, or gave a wrong password.
        "42501" | "28000" | "28P01" => Sort::Refused(Outage::Denied),
        "XX001" | "XX002" => Sort::Refused(Outage::Damaged),
        // Serialization failures and deadlocks; a transaction that waited for too long; a missing
        // database.
        "40001" | "40P01" | "25P03" | "25P04" | "3D000" => Sort::Away,
        // Connections, resources, states of objects (locks), operators (shutdowns), the system.
        _ if ["08", "53", "55", "57", "58"].iter().any(|class| code.starts_with(class)) => {
            Sort::Away
        }
        _ => Sort::Defect,
    }
}

/// Whether a statement was given up because others held what it waited for: PostgreSQL's
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
    fn errors_are_sorted_by_what_can_be_done_about_them() {
        use Outage::{Damaged, Denied, Full, NotMigrated, ReadOnly};
        for (sort, codes) in [
            (Sort::Stopped, &["9", "57014"][..]),
            (
                Sort::Away,
                &[
                    "5", "6", "261", "517", "7", "10", "266", "14", "270", "40001", "40P01",
                    "57P01", "57P03", "53300", "53200", "55P03", "55006", "58030", "58P01",
                    "08006", "25P03",
                ][..],
            ),
            (Sort::Refused(ReadOnly), &["8", "1032", "25006"][..]),
            (Sort::Refused(Full), &["13", "53100"][..]),
            (Sort::Refused(Damaged), &["11", "267", "26", "XX001", "XX002"][..]),
            (Sort::Refused(Denied), &["3", "23", "42501", "28P01"][..]),
            (Sort::Refused(NotMigrated), &["42P01", "42703", "3F000"][..]),
            (Sort::Defect, &["1", "19", "2067", "23505", "22021", "42601", "25P02"][..]),
        ] {
            for code in codes {
                assert_eq!(sort_code(code, "a message"), sort, "{code}");
            }
        }
        let missing = sort_code("1", "no such table: rule");
        assert_eq!(missing, Sort::Refused(Outage::NotMigrated));
    }
}
