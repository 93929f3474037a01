//! How to open a database, and why it could not be opened.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fireflow_domain::features::Features;
use fireflow_domain::usecase::rule::PolicyLimits;
use sea_orm::DbErr;

use crate::database_url::DatabaseUrl;
use crate::file::Purpose;
use crate::observe::Observer;

/// How to connect.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// The database.
    pub url: DatabaseUrl,
    /// A read replica of it, for lists; only with PostgreSQL.
    pub read_url: Option<DatabaseUrl>,
    /// The most connections to a PostgreSQL server, at least [`MIN_CONNECTIONS`]. On SQLite, the
    /// most readers of single resources.
    pub max_connections: u32,
    /// How long a page of a list may take in the database.
    pub list_timeout: Duration,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// The longest useful time of a statement, and of the wait for the turn to write on SQLite: the
    /// time of a request.
    pub turn_timeout: Duration,
    /// The most units of work that share a transaction, on SQLite.
    pub write_group: usize,
    /// Receives every statement.
    pub observer: Option<Arc<dyn Observer>>,
    /// The policy features that this process can read.
    pub features: Features,
    /// The most that a policy may hold.
    pub policy_limits: PolicyLimits,
    /// The purpose of opening it: it decides whether others wait for a SQLite file.
    pub purpose: Purpose,
}

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is invalid. The text explains what is right, without repeating the URL.
    #[error("{0}")]
    BadUrl(String),
    /// A second process requests a SQLite database.
    #[error(
        "{} is in use by {holder}; a SQLite database serves one process; for more, use PostgreSQL",
        path.display()
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// The process that holds it.
        holder: String,
    },
    /// A SQLite file cannot be used, or using it could lose writes.
    #[error("cannot use the SQLite database {}: {why}", path.display())]
    Refused {
        /// The database.
        path: PathBuf,
        /// The reason, and the remedy.
        why: String,
    },
    /// The lock file cannot be used.
    #[error("cannot use the lock file {}: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Too few connections for PostgreSQL: each class of work has one of its own.
    #[error(
        "PostgreSQL needs at least {MIN_CONNECTIONS} connections, not {0}: each class of work has \
         its own (single reads, lists, compilations, writes, large sets), and one is reserved for \
         canceling statements"
    )]
    TooFewConnections(u32),
    /// The database cannot hold every text.
    #[error(
        "the database `{database}` stores text as {encoding}, but FireFlow needs UTF8: create one \
         with `CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0`"
    )]
    Encoding {
        /// Its name.
        database: String,
        /// Its encoding.
        encoding: String,
    },
    /// There is no schema to create tables in.
    #[error(
        "the search path `{search_path}` names no schema that exists and may be used: set one with \
         `ALTER ROLE … SET search_path = public`, or with `?options=-c%20search_path%3Dpublic` in \
         the URL"
    )]
    NoSchema {
        /// The search path.
        search_path: String,
    },
    /// A pooler that does not keep sessions apart.
    #[error(
        "the database is reached through a pooler that does not keep one session for each \
         connection (PgBouncer with `pool_mode = transaction` or `statement`): set `pool_mode = \
         session` for FireFlow's database or user there, or connect to PostgreSQL directly"
    )]
    Pooler,
    /// A pooler that refuses a parameter of the URL.
    #[error(
        "the pooler in front of the database refuses a parameter of the URL ({0}): remove it there \
         and set it for the role (`ALTER ROLE … SET …`), or name it in the pooler's \
         `ignore_startup_parameters`"
    )]
    PoolerParameter(String),
    /// No connection could be opened.
    #[error("cannot open the database {place}")]
    Connect {
        /// The database's location, without secrets.
        place: String,
        /// The reason.
        #[source]
        source: DbErr,
    },
}

/// The fewest connections that PostgreSQL is served with: one for each class of work, and one to
/// cancel statements with.
pub const MIN_CONNECTIONS: u32 = 6;

/// The error for a database that could not be reached, without secrets.
pub(crate) fn failed(url: &DatabaseUrl, source: DbErr) -> OpenError {
    OpenError::Connect { place: url.place(), source }
}
