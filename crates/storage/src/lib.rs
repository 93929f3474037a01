//! FireFlow's storage: the domain's repositories on SeaORM, for SQLite and PostgreSQL.
//!
//! To add a repository, find its trait in the domain's `store`. Give its table an entity with a
//! `live` entry point (`entity/`), translate rows in `mapping/`, and implement the trait on the
//! unit of work in `repository/`. Then write contract tests, which run on both databases.

mod audit_log;
mod backup;
mod chains;
mod connect;
mod database_url;
mod entity;
mod error;
mod executor;
mod fair;
mod file;
mod filter;
mod group;
mod index;
mod mapping;
#[cfg(feature = "testing")]
mod nested;
mod observe;
mod open_error;
mod options;
mod pool;
mod postgres;
mod query;
mod readers;
mod replica;
mod repository;
mod schema;
mod session;
mod single_connection;
mod statement_size;
mod steps;
mod stop;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod turnstile;
mod unit_of_work;
mod verify;
mod verify_rows;
mod verify_walk;

pub use backup::{BackupError, Contents, Spool, backup, on_thread, restore};
pub use database_url::{DatabaseKind, DatabaseUrl};
pub use file::Purpose;
pub use group::WRITE_GROUP;
pub use observe::{Observed, Observer, Operation, Pool, PoolState};
pub use open_error::{MIN_CONNECTIONS, OpenError};
pub use options::DatabaseOptions;
pub use schema::MigrateError;
pub use steps::{Step, StepState};
pub use store::Database;
pub use verify::{AuditCounts, AuditFault, AuditFinding, AuditTrail, Report, VerifyError};
pub use verify_rows::{
    PolicyFeatures, RowCounts, RowFault, RowFinding, RowOwner, RowReport, newer_policies,
    repair_rows, verify_rows,
};
