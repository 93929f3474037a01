//! Settings: the environment overrides a file, which overrides defaults.
//!
//! Each setting is declared once, as a typed row in the module of its subject: see the macro in
//! `row.rs`. The row fills the struct of that module, and help and documentation are made from it.

mod analysis;
mod database;
mod http;
mod load;
mod memory;
mod parse;
mod policies;
mod row;
mod start;
mod table;
mod telemetry;
mod tls;
mod tokens;
mod values;

pub(crate) use load::{Loaded, Sources, environment, load};
pub(crate) use parse::parse_duration;
pub use row::{DefaultText, Setting};
pub(crate) use start::Environment;
pub use table::{SETTINGS, Table};
pub(crate) use table::{SHORT_HELP, help};
pub(crate) use telemetry::LogFormat;

use std::net::SocketAddr;
use std::time::Duration;

use fireflow_auth::KeyFiles;
use fireflow_domain::features::Features;
use fireflow_domain::usecase::rule::PolicyLimits;
use fireflow_storage::DatabaseUrl;

use self::analysis::AnalysisSettings;
use self::database::{DatabaseChoice, DatabaseSettings};
use self::http::HttpSettings;
use self::memory::MemorySettings;
use self::policies::PolicySettings;
use self::start::Start;
use self::telemetry::TelemetrySettings;
use self::values::Values;
use crate::listener::TlsFiles;

/// All settings, read and checked.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The environment that the service runs in.
    pub(crate) environment: Environment,
    /// The address that it listens at.
    pub(crate) listen: SocketAddr,
    /// The URL of the database.
    pub(crate) database_url: DatabaseUrl,
    /// The URL of the read replica that serves lists, if there is one.
    pub(crate) read_url: Option<DatabaseUrl>,
    /// The most connections to the database.
    pub(crate) max_connections: u32,
    /// Whether to migrate at start.
    pub(crate) migrate_on_start: bool,
    /// How the database is used.
    pub(crate) database: DatabaseSettings,
    /// The keys and rules that tokens are checked with. In `local` the secret may be missing; then
    /// one is generated.
    pub(crate) tokens: KeyFiles,
    /// The settings of HTTP.
    pub(crate) http: HttpSettings,
    /// The files of the certificate, if the service terminates TLS.
    pub(crate) tls: Option<TlsFiles>,
    /// The most rules and entries of a policy.
    pub(crate) policy_limits: PolicyLimits,
    /// The features that written rules may use.
    #[cfg_attr(not(test), expect(dead_code, reason = "this version has no features yet"))]
    pub(crate) allowed_features: Features,
    /// How long deleted resources are kept.
    pub(crate) keep_deleted: Duration,
    /// How much memory requests and compiled policies may take.
    pub(crate) memory: MemorySettings,
    /// What analyses may take, and what counts as a finding.
    pub(crate) analysis: AnalysisSettings,
    /// Where metrics, traces, error reports and the log go.
    pub(crate) telemetry: TelemetrySettings,
}

impl Settings {
    fn read(values: &Values, warnings: &mut Vec<String>) -> Result<Self, SettingError> {
        let Start { environment, listen } = start::START.read(values)?;
        let DatabaseChoice { url, read_url, max_connections, migrate_on_start } =
            database::read(values)?;
        let database = database::DATABASE.read(values)?;
        let tokens = tokens::read(values, warnings)?;
        let http = http::read(values)?;
        let tls = tls::read(values)?;
        let policy_limits = policies::LIMITS.read(values)?.into();
        let PolicySettings { allowed_features, keep_deleted } = policies::POLICIES.read(values)?;
        Ok(Self {
            environment,
            listen,
            database_url: url,
            read_url,
            max_connections,
            migrate_on_start,
            database,
            tokens,
            http,
            tls,
            policy_limits,
            allowed_features,
            keep_deleted,
            memory: memory::MEMORY.read(values)?,
            analysis: analysis::ANALYSIS.read(values)?,
            telemetry: telemetry::TELEMETRY.read(values)?,
        })
    }
}

/// An error in a setting, with the setting's name and what it accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {why}")]
pub(crate) struct SettingError {
    /// The setting's name, as it was set: a variable, or a key of the file.
    pub(crate) name: String,
    /// The fault, and what would be right. It never contains the value of a secret.
    pub(crate) why: String,
}

fn error(name: impl Into<String>, why: impl Into<String>) -> SettingError {
    SettingError { name: name.into(), why: why.into() }
}
