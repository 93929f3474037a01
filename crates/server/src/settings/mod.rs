//! Settings: the environment overrides a file, which overrides defaults. One table lists all
//! settings; reading, `--help` and the documentation use it.

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

use fireflow_web::CompilationLimits;
use load::{Values, error, truth};
pub use table::{SETTINGS, SHORT_HELP, Setting, help};

use std::net::SocketAddr;
use std::time::Duration;

use fireflow_auth::KeyFiles;
use fireflow_domain::features::Features;
use fireflow_domain::usecase::rule::PolicyLimits;
use fireflow_storage::DatabaseUrl;

/// The environment that the service runs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// A developer's machine.
    Local,
    /// A rehearsal of production.
    Staging,
    /// Production.
    Production,
}

impl Environment {
    /// The environment's name in the setting.
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
    /// The environment that the service runs in.
    pub environment: Environment,
    /// The address that it listens at.
    pub listen: SocketAddr,
    /// The URL of the database.
    pub database_url: DatabaseUrl,
    /// The URL of the read replica that serves lists, if there is one.
    pub read_url: Option<DatabaseUrl>,
    /// The most connections to the database.
    pub max_connections: u32,
    /// The longest time that a request waits for a connection to the database.
    pub acquire_timeout: Duration,
    /// The most writes that share a transaction of SQLite.
    pub write_group: usize,
    /// Whether to migrate at start.
    pub migrate_on_start: bool,
    /// The keys and rules that tokens are checked with. In `local` the secret may be missing; then
    /// one is generated.
    pub tokens: KeyFiles,
    /// The settings of HTTP.
    pub http: HttpSettings,
    /// The longest time that a page of a list takes in the database.
    pub list_timeout: Duration,
    /// The most rules and entries of a policy.
    pub policy_limits: PolicyLimits,
    /// The features that written rules may use.
    pub allowed_features: Features,
    /// How much memory all requests together may take, in bytes.
    pub work_bytes: u64,
    /// How much memory compiled policies take, in bytes.
    pub inspection_cache: u64,
    /// The limits of compiling one policy.
    pub inspection_limits: CompilationLimits,
    /// How long deleted resources are kept.
    pub keep_deleted: Duration,
    /// Where metrics, traces and error reports go.
    pub telemetry: TelemetrySettings,
    /// What to log, in the filter syntax of `tracing`.
    pub log: String,
    /// The format of log lines.
    pub log_format: LogFormat,
}

/// An error in a setting, with the setting's name and what it accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {why}")]
pub struct SettingError {
    /// The setting's name, as it was set: a variable, or a key of the file.
    pub name: String,
    /// The fault, and what would be right. It never contains the value of a secret.
    pub why: String,
}
