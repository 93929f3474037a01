use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fireflow_auth::{file_text, piped_text};
use fireflow_domain::engine::classifier::Budget;
use fireflow_domain::features::{FEATURES, FEATURES_BEFORE, Features};
use fireflow_domain::spelling::nearest;
use fireflow_domain::text::excerpt;
use fireflow_domain::usecase::rule::PolicyLimits;
use fireflow_storage::{DatabaseKind, DatabaseUrl, MIN_CONNECTIONS, OpenError};
use fireflow_web::CompilationLimits;

use super::table::{SETTINGS, Setting};
use super::{Environment, LogFormat, SettingError, Settings, parse_duration};

const MAX_CONNECTIONS: &str = "database.max_connections";

/// The default memory of compiled policies: 256 MiB.
const INSPECTION_CACHE: u32 = 256 * 1024 * 1024;

/// The largest number of database connections that can be set: a pool allocates room for all of
/// them.
const MAX_DATABASE_CONNECTIONS: u32 = 10_000;
/// The default memory of requests: 256 MiB.
const WORK_BYTES: u64 = 256 * 1024 * 1024;
/// The smallest memory of requests that can be set. A subject may take half of it, and a body of
/// 10 MiB must fit into that half.
const MIN_WORK_BYTES: u64 = 32 * 1024 * 1024;

fn work_bytes(text: &str) -> Result<u64, String> {
    text.parse::<u64>().ok().filter(|bytes| (MIN_WORK_BYTES..=1 << 40).contains(bytes)).ok_or_else(
        || format!("must be a number of bytes from {MIN_WORK_BYTES} to {}", 1_u64 << 40),
    )
}

/// The sources of the settings.
#[derive(Debug, Default)]
pub struct Sources {
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// The file's name and text, if there is a file.
    pub file: Option<(String, String)>,
    /// Whether the output is a terminal.
    pub is_terminal: bool,
    /// How many processors there are.
    pub processors: u32,
}

/// Settings, and warnings about their sources.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// One line each, for the log.
    pub warnings: Vec<String>,
}

/// Selects the service's variables from the whole environment.
///
/// # Errors
/// Returns an error that names the variable if a name or value is not UTF-8. If such a variable
/// were left out, its default would apply unnoticed.
pub fn environment(
    all: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, SettingError> {
    let mut ours = Vec::new();
    for (name, value) in all {
        let shown = name.to_string_lossy();
        if !shown.starts_with(PREFIX) || is_foreign(&shown) {
            continue;
        }
        let not_text = |what: &str| error(shown.as_ref(), format!("{what} is not text in UTF-8"));
        let text = value.into_string().map_err(|_| not_text("the value"))?;
        ours.push((name.to_str().ok_or_else(|| not_text("the name"))?.to_owned(), text));
    }
    Ok(ours)
}

/// The prefix of settings in the environment.
const PREFIX: &str = "FIREFLOW_";

/// Whether a variable belongs to Kubernetes, which adds some for each service, or to the tests.
fn is_foreign(name: &str) -> bool {
    ["FIREFLOW_SERVICE_", "FIREFLOW_PORT", "FIREFLOW_TEST_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Whether a setting protects something or locates the data. If such a setting is empty, it must
/// not silently fall back to its default. Other empty settings count as not set, because Compose's
/// `${VARIABLE:-}` passes unset variables on as empty ones.
fn must_not_be_empty(key: &str) -> bool {
    key == "environment"
        || ["database.url", "database.read_url"].contains(&key)
        || ["jwt.", "tls."].iter().any(|prefix| key.starts_with(prefix))
}

/// A value, with the name that it was set under.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) name: String,
    pub(super) text: String,
    /// The file that the name's `…_FILE` form names.
    pub(super) file: Option<PathBuf>,
}

/// Reads and checks all settings.
///
/// # Errors
/// Returns the first setting that is wrong, as one line.
pub fn load(sources: &Sources) -> Result<Loaded, SettingError> {
    let mut warnings = Vec::new();
    let mut values = match &sources.file {
        Some((name, text)) => from_file(name, text)?,
        None => BTreeMap::new(),
    };
    values.extend(from_environment(&sources.environment, &mut warnings)?);
    for (key, value) in &values {
        if value.text.trim().is_empty() && must_not_be_empty(key) {
            return Err(error(&value.name, "is empty: give it a value, or leave it out"));
        }
    }
    let settings = check(&Values { values }, sources, &mut warnings)?;
    Ok(Loaded { settings, warnings })
}

pub(super) fn error(name: impl Into<String>, why: impl Into<String>) -> SettingError {
    SettingError { name: name.into(), why: why.into() }
}

fn from_file(name: &str, text: &str) -> Result<BTreeMap<&'static str, Value>, SettingError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let table: toml::Table =
        text.parse().map_err(|fault: toml::de::Error| not_toml(name, text, &fault))?;
    let mut flat = BTreeMap::new();
    flatten(&table, "", &mut flat);
    let mut values = BTreeMap::new();
    for (key, value) in flat {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            let hint = match nearest(&key, SETTINGS.iter().map(|setting| setting.key)) {
                Some(meant) => format!("; did you mean `{meant}`?"),
                None => String::new(),
            };
            return Err(error(format!("{name}: {key}"), format!("is not a setting{hint}")));
        };
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            toml::Value::Table(groups) if key == ROLE_MAP => serde_json::to_string(&groups)
                .map_err(|fault| error(format!("{name}: {key}"), fault.to_string()))?,
            _ => {
                return Err(error(format!("{name}: {key}"), "must be a string, number or boolean"));
            }
        };
        let name = format!("{name}: {key}");
        values.insert(setting.key, Value { name, text, file: None });
    }
    Ok(values)
}

/// The error for a file that is not TOML, with the line and its key. The rest of the line is not
/// shown, because its value may be a secret.
fn not_toml(name: &str, text: &str, fault: &toml::de::Error) -> SettingError {
    let Some(before) = fault.span().and_then(|span| text.get(..span.start)) else {
        return error(name, fault.message());
    };
    let number = before.matches('\n').count().saturating_add(1);
    let line = text.lines().nth(number.saturating_sub(1)).unwrap_or_default();
    let key = line.split_once('=').map(|(key, _)| key.trim()).filter(|key| !key.is_empty());
    let key = key.map(|key| format!(": {}", excerpt(key))).unwrap_or_default();
    error(format!("{name}: line {number}{key}"), format!("is not TOML: {}", fault.message()))
}

/// Checks a filter of `tracing`. A single word that is no level would be taken for a target, and
/// nothing would be logged. Such a word is probably a misspelt level, so it is refused.
fn log_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',').map(str::trim) {
        let is_word = directive.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive));
        // A single word may be one of our own targets, of which everything is then logged.
        let is_ours = directive.starts_with("fireflow");
        if is_word && !directive.is_empty() && !is_level && !is_ours {
            let hint = match nearest(directive, LEVELS.into_iter()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("levels are {}", LEVELS.join(", ")),
            };
            let word = excerpt(directive);
            return Err(format!(
                "`{word}` is not a level; {hint} (A target has a level of its own: `{word}=debug`.)"
            ));
        }
    }
    tracing_subscriber::EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|fault| format!("is not a filter of tracing: {fault}"))
}

/// The one setting that is a table in the file.
const ROLE_MAP: &str = "jwt.role_map";

fn flatten(table: &toml::Table, prefix: &str, flat: &mut BTreeMap<String, toml::Value>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            // The keys of this table are names of groups, not of settings.
            toml::Value::Table(_) if key == ROLE_MAP => drop(flat.insert(key, value.clone())),
            toml::Value::Table(inner) => flatten(inner, &key, flat),
            other => drop(flat.insert(key, other.clone())),
        }
    }
}

fn from_environment(
    environment: &[(String, String)],
    warnings: &mut Vec<String>,
) -> Result<BTreeMap<&'static str, Value>, SettingError> {
    let mut values: BTreeMap<&'static str, Value> = BTreeMap::new();
    for (name, path) in environment {
        let text = path;
        if !name.starts_with(PREFIX) || is_foreign(name) {
            continue;
        }
        let Some((setting, is_from_file)) = find(name) else {
            let hint = match nearest(&name.to_lowercase(), lower_names().iter().map(String::as_str))
            {
                Some(meant) => format!("; did you mean {}?", meant.to_uppercase()),
                None => String::new(),
            };
            warnings.push(format!("{name} is not a setting{hint}"));
            continue;
        };
        let text = if is_from_file { read(setting, name, path)? } else { text.clone() };
        let file = is_from_file.then(|| PathBuf::from(path));
        let value = Value { name: name.clone(), text, file };
        if let Some(other) = values.insert(setting.key, value) {
            return Err(error(name, format!("cannot be combined with {}", other.name)));
        }
    }
    Ok(values)
}

fn find(name: &str) -> Option<(&'static Setting, bool)> {
    let is =
        |setting: &Setting, name: &str| setting.variable == name || setting.aliases.contains(&name);
    let bare = name.strip_suffix("_FILE");
    SETTINGS.iter().find_map(|setting| {
        if is(setting, name) {
            Some((setting, false))
        } else if setting.is_secret && bare.is_some_and(|bare| is(setting, bare)) {
            Some((setting, true))
        } else {
            None
        }
    })
}

fn lower_names() -> Vec<String> {
    SETTINGS.iter().map(|setting| setting.variable.to_lowercase()).collect()
}

fn read(setting: &Setting, name: &str, path: &str) -> Result<String, SettingError> {
    let path = Path::new(path);
    // The file of token secrets is reloaded, so it must be a regular file. Other secrets may come
    // through a pipe.
    let text = if setting.key == "jwt.secret" { file_text(path) } else { piped_text(path) };
    text.map_err(|why| error(name, why))
}

pub(super) struct Values {
    values: BTreeMap<&'static str, Value>,
}

impl Values {
    /// The value of a setting, if it is set and not empty.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.text.trim().is_empty())
    }

    pub(super) fn read<T>(
        &self,
        key: &str,
        default: impl FnOnce() -> T,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, SettingError> {
        match self.get(key) {
            None => Ok(default()),
            Some(value) => read(value.text.trim()).map_err(|why| error(&value.name, why)),
        }
    }

    pub(super) fn number(&self, key: &str, default: u32) -> Result<u32, SettingError> {
        self.number_up_to(1_000_000_000, key, default)
    }

    pub(super) fn number_up_to(
        &self,
        most: u32,
        key: &str,
        default: u32,
    ) -> Result<u32, SettingError> {
        self.read(
            key,
            || default,
            |text| {
                text.parse::<u32>()
                    .ok()
                    .filter(|number| (1..=most).contains(number))
                    .ok_or_else(|| format!("must be a number from 1 to {most}"))
            },
        )
    }

    pub(super) fn size(&self, key: &str, default: u32) -> Result<usize, SettingError> {
        Ok(usize::try_from(self.number(key, default)?).unwrap_or(usize::MAX))
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        self.get(key).map(|value| value.text.trim().to_owned())
    }
}

/// `true` or `false`.
pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be `true` or `false`".to_owned()),
    }
}

fn check(
    values: &Values,
    sources: &Sources,
    warnings: &mut Vec<String>,
) -> Result<Settings, SettingError> {
    let environment = values.read(
        "environment",
        || Environment::Local,
        |text| match text {
            "local" => Ok(Environment::Local),
            "staging" => Ok(Environment::Staging),
            "production" => Ok(Environment::Production),
            _ => Err("must be `local`, `staging` or `production`".to_owned()),
        },
    )?;
    let is_local = environment == Environment::Local;
    let default_listen = SocketAddr::from(([127, 0, 0, 1], 8080));
    let listen = values.read(
        "listen",
        || default_listen,
        |text| {
            text.parse().map_err(|_| {
                "must be an address and a port: `127.0.0.1:8080`, `[::]:8080`".to_owned()
            })
        },
    )?;
    let database = values.get("database.url");
    let url = database.map_or("sqlite://fireflow.db", |value| value.text.trim());
    let database_url = DatabaseUrl::parse(url).map_err(|fault| {
        let name = database.map_or("FIREFLOW_DATABASE_URL", |value| value.name.as_str());
        error(name, fault.to_string())
    })?;
    let read_url = read_url(values, &database_url)?;
    let max_connections = max_connections(values, sources.processors, database_url.kind())?;
    let duration = |text: &str| parse_duration(text);
    Ok(Settings {
        environment,
        listen,
        database_url,
        read_url,
        max_connections,
        acquire_timeout: values.read(
            "database.acquire_timeout",
            || Duration::from_secs(5),
            duration,
        )?,
        write_group: values.size(
            "database.write_group",
            u32::try_from(fireflow_storage::WRITE_GROUP).unwrap_or(u32::MAX),
        )?,
        migrate_on_start: values.read("migrate_on_start", || is_local, truth)?,
        tokens: super::tokens::read(values, environment, warnings)?,
        http: super::http::read(values, environment)?,
        list_timeout: values.read("http.list_timeout", || Duration::from_secs(5), duration)?,
        policy_limits: policy_limits(values)?,
        allowed_features: values.read("features.allow", || FEATURES_BEFORE, features)?,
        work_bytes: values.read("memory.work_bytes", || WORK_BYTES, work_bytes)?,
        inspection_cache: values.number("inspection.cache_bytes", INSPECTION_CACHE)?.into(),
        inspection_limits: CompilationLimits {
            budget: Budget {
                boxes: values.size("inspection.max_boxes", 4_000_000)?,
                bytes: values.size("inspection.max_bytes", 128 * 1024 * 1024)?,
            },
            time: values.read("inspection.max_time", || Duration::from_secs(5), duration)?,
        },
        keep_deleted: values.read(
            "retention.deleted",
            || Duration::from_secs(90 * 86_400),
            duration,
        )?,
        telemetry: super::telemetry::read(values)?,
        log: values.read("log", || "info".to_owned(), log_filter)?,
        log_format: values.read(
            "log_format",
            || if sources.is_terminal { LogFormat::Pretty } else { LogFormat::Json },
            |text| match text {
                "pretty" => Ok(LogFormat::Pretty),
                "json" => Ok(LogFormat::Json),
                _ => Err("must be `pretty` or `json`".to_owned()),
            },
        )?,
    })
}

fn policy_limits(values: &Values) -> Result<PolicyLimits, SettingError> {
    let PolicyLimits { rules, entries } = PolicyLimits::default();
    let number = |most: u32, key: &str, default: u64| {
        let default = u32::try_from(default).unwrap_or(u32::MAX);
        values.number_up_to(most, key, default).map(u64::from)
    };
    Ok(PolicyLimits {
        rules: number(10_000_000, "limits.max_rules", rules)?,
        entries: number(100_000_000, "limits.max_entries", entries)?,
    })
}

/// Reads names of features, separated by commas.
fn features(text: &str) -> Result<Features, String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).try_fold(
        Features::NONE,
        |set, name| match Features::named(name) {
            Some(feature) => Ok(set.union(feature)),
            None => {
                let names: Vec<&str> = FEATURES.iter().map(|feature| feature.name).collect();
                let known = match names.as_slice() {
                    [] => "it has none yet".to_owned(),
                    names => format!("it has {}", names.join(", ")),
                };
                Err(format!("`{}` is no feature of this version: {known}", excerpt(name)))
            }
        },
    )
}

/// Reads the number of database connections. PostgreSQL needs enough for each class of work.
fn max_connections(
    values: &Values,
    processors: u32,
    kind: DatabaseKind,
) -> Result<u32, SettingError> {
    let (least, usual) = match kind {
        DatabaseKind::Sqlite => (1, 4),
        DatabaseKind::Postgres => (MIN_CONNECTIONS, 16),
    };
    let default = processors.saturating_mul(4).clamp(usual, MAX_DATABASE_CONNECTIONS);
    let given = values.number_up_to(MAX_DATABASE_CONNECTIONS, MAX_CONNECTIONS, default)?;
    if given < least {
        let name = values.get(MAX_CONNECTIONS).map_or("", |value| value.name.as_str());
        let why = OpenError::TooFewConnections(given).to_string();
        return Err(error(name, why));
    }
    Ok(given)
}

/// Reads the URL of the read replica, which requires PostgreSQL.
fn read_url(values: &Values, primary: &DatabaseUrl) -> Result<Option<DatabaseUrl>, SettingError> {
    let Some(value) = values.get("database.read_url") else { return Ok(None) };
    let url = DatabaseUrl::parse(value.text.trim())
        .map_err(|fault| error(&value.name, fault.to_string()))?;
    if [primary.kind(), url.kind()] != [DatabaseKind::Postgres; 2] {
        let why = "must be a `postgres://` URL, and requires FIREFLOW_DATABASE_URL of PostgreSQL";
        return Err(error(&value.name, why));
    }
    Ok(Some(url))
}

#[cfg(test)]
mod tests;
