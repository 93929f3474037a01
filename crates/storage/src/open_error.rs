//! Why a database could not be opened.

use std::io;
use std::path::PathBuf;

use sea_orm::DbErr;

/// The fewest connections that PostgreSQL is served with: one for each class of work, and one to
/// cancel statements with.
pub const MIN_CONNECTIONS: u32 = 6;

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
