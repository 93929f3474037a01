use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fireflow_domain::engine::classifier::Budget;
use fireflow_domain::spelling::nearest;
use fireflow_storage::{DatabaseKind, DatabaseUrl};

use super::table::{SETTINGS, Setting};
use super::{Environment, LogFormat, SettingError, Settings, parse_duration};
use crate::inspected::CompilationLimits;

/// How much memory compiled policies take, unless it is set: 256 MiB.
const INSPECTION_CACHE: u32 = 256 * 1024 * 1024;

/// How much memory requests take, unless it is set: 256 MiB.
const WORK_BYTES: u64 = 256 * 1024 * 1024;
/// The least that it can be set to: a subject has half, in which a body of 10 MiB has to fit.
const MIN_WORK_BYTES: u64 = 32 * 1024 * 1024;

fn work_bytes(text: &str) -> Result<u64, String> {
    text.parse::<u64>()
        .ok()
        .filter(|bytes| (MIN_WORK_BYTES..=1 << 40).contains(bytes))
        .ok_or_else(|| format!("takes a number of bytes from {MIN_WORK_BYTES} to {}", 1_u64 << 40))
}

/// What the settings are read from.
#[derive(Debug, Default)]
pub struct Sources {
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// The file's name and text, where there is one.
    pub file: Option<(String, String)>,
    /// Whether the output is a terminal.
    pub is_terminal: bool,
    /// How many processors there are.
    pub processors: u32,
}

/// Settings, and what is odd about their sources.
#[derive(Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// One line each, for the log.
    pub warnings: Vec<String>,
}

/// A value with the name that it was given under.
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
/// The first that is wrong: one clear line.
pub fn load(sources: &Sources) -> Result<Loaded, SettingError> {
    let mut warnings = Vec::new();
    let mut values = match &sources.file {
        Some((name, text)) => from_file(name, text)?,
        None => BTreeMap::new(),
    };
    values.extend(from_environment(&sources.environment, &mut warnings)?);
    let settings = check(&Values { values }, sources)?;
    Ok(Loaded { settings, warnings })
}

pub(super) fn error(name: impl Into<String>, why: impl Into<String>) -> SettingError {
    SettingError { name: name.into(), why: why.into() }
}

fn from_file(name: &str, text: &str) -> Result<BTreeMap<&'static str, Value>, SettingError> {
    let table: toml::Table =
        text.parse().map_err(|fault: toml::de::Error| error(name, fault.message()))?;
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
            _ => return Err(error(format!("{name}: {key}"), "takes a string, number or boolean")),
        };
        let name = format!("{name}: {key}");
        values.insert(setting.key, Value { name, text, file: None });
    }
    Ok(values)
}

fn flatten(table: &toml::Table, prefix: &str, flat: &mut BTreeMap<String, toml::Value>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
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
        // Kubernetes names services so, and the tests have their own.
        let is_foreign = ["FIREFLOW_SERVICE_", "FIREFLOW_PORT", "FIREFLOW_TEST_"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if !name.starts_with("FIREFLOW_") || is_foreign {
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
        let text = if is_from_file { read(name, Path::new(text))? } else { text.clone() };
        let file = is_from_file.then(|| PathBuf::from(path));
        let value = Value { name: name.clone(), text, file };
        if let Some(other) = values.insert(setting.key, value) {
            return Err(error(name, format!("is given beside {}; use one of them", other.name)));
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

fn read(name: &str, path: &Path) -> Result<String, SettingError> {
    std::fs::read_to_string(path)
        .map_err(|fault| error(name, format!("{} cannot be read: {fault}", path.display())))
}

pub(super) struct Values {
    values: BTreeMap<&'static str, Value>,
}

impl Values {
    /// The value of a setting that is given and not empty.
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
        self.read(
            key,
            || default,
            |text| {
                text.parse::<u32>()
                    .ok()
                    .filter(|number| (1..=1_000_000_000).contains(number))
                    .ok_or_else(|| "takes a number from 1 to 1000000000".to_owned())
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

fn check(values: &Values, sources: &Sources) -> Result<Settings, SettingError> {
    let environment = values.read(
        "environment",
        || Environment::Local,
        |text| match text {
            "local" => Ok(Environment::Local),
            "staging" => Ok(Environment::Staging),
            "production" => Ok(Environment::Production),
            _ => Err("takes `local`, `staging` or `production`".to_owned()),
        },
    )?;
    let is_local = environment == Environment::Local;
    let default_listen = SocketAddr::from(([127, 0, 0, 1], 8080));
    let listen = values.read(
        "listen",
        || default_listen,
        |text| {
            text.parse().map_err(|_| {
                "takes an address and a port: `127.0.0.1:8080`, `[::]:8080`".to_owned()
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
    let truth = |text: &str| match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("takes `true` or `false`".to_owned()),
    };
    let duration = |text: &str| parse_duration(text);
    Ok(Settings {
        environment,
        listen,
        database_url,
        read_url,
        max_connections: values
            .number("database.max_connections", sources.processors.saturating_mul(4).max(4))?,
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
        tokens: super::tokens::read(values, environment)?,
        http: super::http::read(values, environment)?,
        list_timeout: values.read("http.list_timeout", || Duration::from_secs(5), duration)?,
        work_bytes: values.read("memory.work_bytes", || WORK_BYTES, work_bytes)?,
        inspection_cache: values.number("inspection.cache_bytes", INSPECTION_CACHE)?.into(),
        inspection_limits: CompilationLimits {
            budget: Budget {
                boxes: values.size("inspection.max_boxes", 4_000_000)?,
                bytes: values.size("inspection.max_bytes", 512 * 1024 * 1024)?,
            },
            time: values.read("inspection.max_time", || Duration::from_secs(5), duration)?,
        },
        keep_deleted: values.read(
            "retention.deleted",
            || Duration::from_secs(90 * 86_400),
            duration,
        )?,
        telemetry: super::telemetry::read(values)?,
        log: values.read(
            "log",
            || "info".to_owned(),
            |text| {
                tracing_subscriber::EnvFilter::try_new(text)
                    .map(|_| text.to_owned())
                    .map_err(|fault| format!("is not a filter of tracing: {fault}"))
            },
        )?,
        log_format: values.read(
            "log_format",
            || if sources.is_terminal { LogFormat::Pretty } else { LogFormat::Json },
            |text| match text {
                "pretty" => Ok(LogFormat::Pretty),
                "json" => Ok(LogFormat::Json),
                _ => Err("takes `pretty` or `json`".to_owned()),
            },
        )?,
    })
}

/// A replica is one of PostgreSQL's.
fn read_url(values: &Values, primary: &DatabaseUrl) -> Result<Option<DatabaseUrl>, SettingError> {
    let Some(value) = values.get("database.read_url") else { return Ok(None) };
    let url = DatabaseUrl::parse(value.text.trim())
        .map_err(|fault| error(&value.name, fault.to_string()))?;
    if [primary.kind(), url.kind()] != [DatabaseKind::Postgres; 2] {
        let why = "takes a `postgres://` URL, and goes with FIREFLOW_DATABASE_URL of PostgreSQL";
        return Err(error(&value.name, why));
    }
    Ok(Some(url))
}

#[cfg(test)]
mod tests {
    use super::super::Secret;
    use super::*;

    fn sources(pairs: &[(&str, &str)], file: Option<&str>) -> Sources {
        Sources {
            environment: pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            file: file.map(|text| ("fireflow.toml".to_owned(), text.to_owned())),
            is_terminal: false,
            processors: 2,
        }
    }

    fn fault(pairs: &[(&str, &str)], file: Option<&str>) -> String {
        load(&sources(pairs, file)).unwrap_err().to_string()
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn nothing_has_to_be_set_for_a_local_service() {
        let Loaded { settings, warnings } = load(&sources(&[], None)).unwrap();
        assert_eq!(settings.environment, Environment::Local);
        assert_eq!(settings.listen.to_string(), "127.0.0.1:8080");
        assert!(settings.migrate_on_start && settings.tokens.secrets.is_empty());
        assert_eq!(settings.max_connections, 8);
        assert!(warnings.is_empty());
    }

    #[test]
    fn the_environment_comes_before_the_file() {
        let file = "listen = \"127.0.0.1:1\"\n[http]\nbase_path = \"/ff/\"\nmax_in_flight = 7\n";
        let pairs = [("FIREFLOW_LISTEN", "127.0.0.1:2"), ("FIREFLOW_JWT__SECRET", "short")];
        let settings = load(&sources(&pairs, Some(file))).unwrap().settings;
        assert_eq!(settings.listen.port(), 2);
        assert_eq!(settings.http.base_path, "/ff");
        assert_eq!(settings.http.max_in_flight, 7);
        assert_eq!(settings.tokens.secrets, [Secret::new("short")]);
    }

    #[test]
    fn outside_local_what_protects_must_be_set() {
        let mut pairs = vec![("FIREFLOW_ENVIRONMENT", "production")];
        assert!(fault(&pairs, None).contains("FIREFLOW_JWT_SECRET"));
        pairs.push(("FIREFLOW_JWT_SECRET", "short"));
        assert!(fault(&pairs, None).contains("too short"));
        pairs.pop();
        pairs.push(("FIREFLOW_JWT_SECRET", SECRET));
        assert!(fault(&pairs, None).contains("FIREFLOW_JWT__ISSUER"));
        pairs.push(("FIREFLOW_JWT__ISSUER", "idp"));
        assert!(fault(&pairs, None).contains("FIREFLOW_JWT__AUDIENCE"));
        pairs.push(("FIREFLOW_JWT__AUDIENCE", "fireflow"));
        let settings = load(&sources(&pairs, None)).unwrap().settings;
        assert_eq!(settings.tokens.rules.max_lifetime_s, Some(86_400));
        assert!(!settings.migrate_on_start);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_right() {
        for (name, value) in [
            ("FIREFLOW_ENVIRONMENT", "prod"),
            ("FIREFLOW_LISTEN", "8080"),
            ("FIREFLOW_DATABASE_URL", "mysql://x"),
            ("FIREFLOW_DATABASE__MAX_CONNECTIONS", "0"),
            ("FIREFLOW_DATABASE__READ_URL", "postgres://replica/fireflow"),
            ("FIREFLOW_MIGRATE_ON_START", "yes"),
            ("FIREFLOW_JWT__MAX_LIFETIME", "1"),
            ("FIREFLOW_HTTP__LIST_TIMEOUT", "soon"),
            ("FIREFLOW_HTTP__BASE_PATH", "fireflow"),
            ("FIREFLOW_HTTP__RATE_LIMIT", "many"),
            ("FIREFLOW_HTTP__TRUSTED_PROXIES", "any"),
            ("FIREFLOW_HTTP__FORWARDED_HEADER", "x-real-ip"),
            ("FIREFLOW_HTTP__CORS_ORIGINS", "*"),
            ("FIREFLOW_HTTP__MAX_HEAD_BYTES", "100"),
            ("FIREFLOW_MEMORY__WORK_BYTES", "1000000"),
            ("FIREFLOW_HTTP__IDLE_TIMEOUT", "30s"),
            ("FIREFLOW_JWT__LEEWAY", "1h"),
            ("FIREFLOW_JWT__ROLE_MAP", "a=root"),
            ("FIREFLOW_TLS__KEY", "key.pem"),
            ("FIREFLOW_RETENTION__DELETED", "never"),
            ("FIREFLOW_LOG", "=="),
            ("FIREFLOW_LOG_FORMAT", "xml"),
            ("FIREFLOW_JWT_SECRET_FILE", "/does/not/exist"),
        ] {
            let fault = fault(&[(name, value)], None);
            assert!(fault.starts_with(&format!("{name}: ")), "{fault}");
        }
        assert!(fault(&[], Some("lisen = \"x\"")).contains("did you mean `listen`?"));
        assert!(fault(&[], Some("listen = [1]")).contains("takes a string"));
        assert!(fault(&[], Some("= 1")).starts_with("fireflow.toml: "));
        let twice = [("FIREFLOW_JWT_SECRET", "a"), ("FIREFLOW_JWT__SECRET", "b")];
        assert!(fault(&twice, None).contains("use one of them"));
    }

    #[test]
    fn unknown_variables_warn_but_kubernetes_own_do_not() {
        let pairs = [
            ("FIREFLOW_LISEN", "x"),
            ("FIREFLOW_SERVICE_HOST", "10.0.0.1"),
            ("FIREFLOW_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
            ("FIREFLOW_TEST_POSTGRES_URL", "postgres://x"),
            ("HOME", "/root"),
        ];
        let warnings = load(&sources(&pairs, None)).unwrap().warnings;
        assert_eq!(warnings, ["FIREFLOW_LISEN is not a setting; did you mean FIREFLOW_LISTEN?"]);
    }

    #[test]
    fn secrets_come_from_files_and_are_shown_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, format!("{SECRET}\n\nold-{SECRET}\n")).unwrap();
        let name = path.to_str().unwrap();
        let url = "postgres://me:hunter2@db/fireflow";
        let pairs = [("FIREFLOW_JWT_SECRET_FILE", name), ("FIREFLOW_DATABASE_URL", url)];
        let mut pairs = pairs.to_vec();
        let read_url = "postgres://me:hunter2@replica/fireflow";
        pairs.push(("FIREFLOW_DATABASE__READ_URL", read_url));
        let settings = load(&sources(&pairs, None)).unwrap().settings;
        assert_eq!(settings.tokens.secrets.len(), 2);
        assert!(settings.read_url.is_some());
        let shown = format!("{settings:?}");
        assert!(!shown.contains(SECRET) && !shown.contains("hunter2"), "{shown}");
    }
}
