//! Settings: the environment over a file over defaults. One table says what there is: it drives
//! reading, `--help` and the documentation.

mod duration;
mod http;
mod load;
mod table;
mod telemetry;
mod tokens;

pub use duration::parse_duration;
pub use http::HttpSettings;
pub use load::{Loaded, Sources, environment, load};
pub use telemetry::TelemetrySettings;

use fireflow_service::inspections::CompilationLimits;
use load::{Values, error, truth};
pub use table::{SETTINGS, Setting, help};

use std::net::SocketAddr;
use std::time::Duration;

use fireflow_auth::KeyFiles;
use fireflow_domain::features::Features;
use fireflow_domain::usecase::rule::PolicyLimits;
use fireflow_storage::DatabaseUrl;

/// Where the service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Somebody's machine.
    Local,
    /// Rehearsals.
    Staging,
    /// The real thing.
    Production,
}

impl Environment {
    /// The word of the setting.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

/// All settings, read and checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the service runs.
    pub environment: Environment,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the database is.
    pub database_url: DatabaseUrl,
    /// Where lists are read, if not there.
    pub read_url: Option<DatabaseUrl>,
    /// The most connections to it.
    pub max_connections: u32,
    /// The longest time that a request waits for a connection to it.
    pub acquire_timeout: Duration,
    /// The most writes that share a transaction of SQLite.
    pub write_group: usize,
    /// Whether to migrate at start.
    pub migrate_on_start: bool,
    /// What tokens are checked by. No secret in `local`: one is made.
    pub tokens: KeyFiles,
    /// What is taken over HTTP.
    pub http: HttpSettings,
    /// The longest time that a page of a list takes in the database.
    pub list_timeout: Duration,
    /// The most that a policy may hold.
    pub policy_limits: PolicyLimits,
    /// Which features rules may be written with.
    pub allowed_features: Features,
    /// How much memory all requests together may take, in bytes.
    pub work_bytes: u64,
    /// How much memory compiled policies take, in bytes.
    pub inspection_cache: u64,
    /// What compiling one may take.
    pub inspection_limits: CompilationLimits,
    /// How long deleted rows stay.
    pub keep_deleted: Duration,
    /// Where the service tells of itself.
    pub telemetry: TelemetrySettings,
    /// What to log, in tracing's syntax.
    pub log: String,
    /// How to write it.
    pub log_format: LogFormat,
}

/// A setting that is wrong: names it, and what it takes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {why}")]
pub struct SettingError {
    /// The setting, as it was given.
    pub name: String,
    /// What is wrong, and what would be right; without the value of a secret.
    pub why: String,
}
