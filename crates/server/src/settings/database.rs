//! The settings of the database.

use std::time::Duration;

use fireflow_storage::{DatabaseKind, DatabaseUrl, MIN_CONNECTIONS, OpenError, WRITE_GROUP};

use super::parse::{number, number_up_to, parse_duration, truth};
use super::row::DefaultValue::{Nothing, Number, Text, Words};
use super::row::Mark::{Protects, Secret, Short};
use super::row::settings;
use super::values::Values;
use super::{SettingError, error};

/// The largest number of connections that can be set: a pool allocates room for all of them.
const MAX_CONNECTIONS: u32 = 10_000;

settings! {
    /// Which database it is, as it was set. The values depend on each other: see [`read`].
    struct MemberValue, rows WHICH: WhichRows;

    LOCATION {
        /// `sqlite://FILE` or `postgres://USER:PASSWORD@HOST/DATABASE`
        url: DatabaseUrl = "database.url" [Secret, Protects, Short("FIREFLOW_DATABASE_URL")] {
            parse: database_url,
            default: Text("sqlite://fireflow.db"),
        }

        /// a read replica of the PostgreSQL database: lists are read there and may be slightly
        /// stale; if it is unavailable, lists read the primary
        read_url: Option<DatabaseUrl> = "database.read_url" [Secret, Protects] {
            parse: |text| database_url(text).map(Some),
            default: Nothing(|| None),
        }

        /// the maximum number of connections, up to 10000: on PostgreSQL in total, at least 6, and
        /// as many again to a read replica; on SQLite, the connections that read single resources
        max_connections: Option<u32> = "database.max_connections" {
            parse: |text| number_up_to::<MAX_CONNECTIONS, u32>(text).map(Some),
            // It depends on the URL: see `connections`.
            default: Words("4 per CPU, at least 16 on PostgreSQL", |_| None),
        }
    }

    MIGRATION {
        /// whether to apply pending migrations before serving
        migrate_on_start: bool = "migrate_on_start" {
            parse: truth,
            default: Words("true in `local`, else false", Values::is_local),
        }
    }
}

settings! {
    /// How the database is used.
    #[derive(Debug, Clone)]
    pub(crate) struct DatabaseSettings, rows DATABASE: DatabaseRows;

    USE {
        /// the maximum wait for a turn and a connection to the database, and for the database to
        /// respond when a connection is opened; then 503
        acquire_timeout: Duration = "database.acquire_timeout" {
            parse: parse_duration,
            default: Text("5s"),
        }

        /// the maximum number of writes that share a transaction and a disk sync on SQLite; with 1,
        /// each write has its own
        write_group: usize = "database.write_group" {
            parse: number,
            default: Number(WRITE_GROUP as u64),
        }
    }
}

/// Which database it is, checked.
pub(super) struct Which {
    pub(super) url: DatabaseUrl,
    pub(super) read_url: Option<DatabaseUrl>,
    pub(super) max_connections: u32,
    pub(super) migrate_on_start: bool,
}

pub(super) fn read(values: &Values) -> Result<Which, SettingError> {
    let MemberValue { url, read_url, max_connections, migrate_on_start } = WHICH.read(values)?;
    check_replica(values, &url, read_url.as_ref())?;
    let max_connections = connections(values, url.kind(), max_connections)?;
    Ok(Which { url, read_url, max_connections, migrate_on_start })
}

fn database_url(text: &str) -> Result<DatabaseUrl, String> {
    DatabaseUrl::parse(text).map_err(|fault| fault.to_string())
}

/// A read replica requires PostgreSQL.
fn check_replica(
    values: &Values,
    primary: &DatabaseUrl,
    replica: Option<&DatabaseUrl>,
) -> Result<(), SettingError> {
    let Some(replica) = replica else { return Ok(()) };
    if [primary.kind(), replica.kind()] == [DatabaseKind::Postgres; 2] {
        return Ok(());
    }
    let primary = WHICH.url.setting.variable;
    let why = format!("must be a `postgres://` URL, and requires {primary} of PostgreSQL");
    Err(error(values.name(&WHICH.read_url), why))
}

/// The number of connections. PostgreSQL needs enough for each class of work.
fn connections(
    values: &Values,
    kind: DatabaseKind,
    given: Option<u32>,
) -> Result<u32, SettingError> {
    let (least, usual) = match kind {
        DatabaseKind::Sqlite => (1, 4),
        DatabaseKind::Postgres => (MIN_CONNECTIONS, 16),
    };
    let default = || values.processors.saturating_mul(4).clamp(usual, MAX_CONNECTIONS);
    match given.unwrap_or_else(default) {
        few if few < least => {
            let why = OpenError::TooFewConnections(few).to_string();
            Err(error(values.name(&WHICH.max_connections), why))
        }
        enough => Ok(enough),
    }
}
