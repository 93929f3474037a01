use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fireflow_domain::engine::classifier::Budget;
use fireflow_domain::spelling::nearest;
use fireflow_storage::{DatabaseKind, DatabaseUrl};

use super::table::{SETTINGS, Setting};
use super::{Environment, LogFormat, SettingError, Settings, parse_duration};
use crate::auth::{file_text, piped_text};
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

/// The service's variables among all of the environment.
///
/// # Errors
/// Returns an error that names a variable whose name or value is not UTF-8: left out, it would be as
/// if it were not set.
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

/// How the names of settings in the environment begin.
const PREFIX: &str = "FIREFLOW_";

/// Kubernetes names services so, and the tests have their own.
fn is_foreign(name: &str) -> bool {
    ["FIREFLOW_SERVICE_", "FIREFLOW_PORT", "FIREFLOW_TEST_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Whether a setting protects, or says where the data is: given as nothing it must not fall back to a
/// default in silence. Others that are empty count as not given, as Compose's `${VARIABLE:-}` has it.
fn must_not_be_empty(key: &str) -> bool {
    key == "environment"
        || ["database.url", "database.read_url"].contains(&key)
        || ["jwt.", "tls."].iter().any(|prefix| key.starts_with(prefix))
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
            toml::Value::Table(groups) if key == ROLE_MAP => serde_json::to_string(&groups)
                .map_err(|fault| error(format!("{name}: {key}"), fault.to_string()))?,
            _ => return Err(error(format!("{name}: {key}"), "takes a string, number or boolean")),
        };
        let name = format!("{name}: {key}");
        values.insert(setting.key, Value { name, text, file: None });
    }
    Ok(values)
}

/// The one setting that is a table in the file.
const ROLE_MAP: &str = "jwt.role_map";

fn flatten(table: &toml::Table, prefix: &str, flat: &mut BTreeMap<String, toml::Value>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            // Its keys are names of groups.
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

fn read(setting: &Setting, name: &str, path: &str) -> Result<String, SettingError> {
    let path = Path::new(path);
    // What is read again and again has to be a file; other secrets may come through a pipe.
    let text = if setting.key == "jwt.secret" { file_text(path) } else { piped_text(path) };
    text.map_err(|why| error(name, why))
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

/// `true` or `false`.
pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("takes `true` or `false`".to_owned()),
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
        tokens: super::tokens::read(values, environment, warnings)?,
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

    const SECRET: &str = "6f1c0f4b9a52e7d83c41b7a0f95e26d8c3b47a19e05f82d6417c9be8a3d05f72";

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
            ("FIREFLOW_JWT__ROLE_MAP", ","),
            ("FIREFLOW_JWT__REQUIRE_TENANTS", "yes"),
            ("FIREFLOW_JWT_SECRET_FILE", "/dev/null"),
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
    fn what_protects_is_never_empty() {
        for name in [
            "FIREFLOW_ENVIRONMENT",
            "FIREFLOW_DATABASE_URL",
            "FIREFLOW_DATABASE__READ_URL",
            "FIREFLOW_JWT_SECRET",
            "FIREFLOW_JWT__SECRET",
            "FIREFLOW_JWT__PUBLIC_KEYS",
            "FIREFLOW_JWT__ISSUER",
            "FIREFLOW_JWT__AUDIENCE",
            "FIREFLOW_JWT__MAX_LIFETIME",
            "FIREFLOW_JWT__ROLES_CLAIM",
            "FIREFLOW_JWT__ROLE_MAP",
            "FIREFLOW_JWT__REQUIRE_TENANTS",
            "FIREFLOW_JWT__REVOKED_FILE",
            "FIREFLOW_TLS__CERTIFICATE",
            "FIREFLOW_TLS__KEY",
        ] {
            for value in ["", "  "] {
                let fault = fault(&[(name, value)], None);
                assert_eq!(fault, format!("{name}: is empty: give it a value, or leave it out"));
            }
        }
        assert!(fault(&[], Some("environment = \"\"")).contains("environment: is empty"));
        // A file of secrets that is empty is one that is set, with or without public keys.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "# none\n").unwrap();
        let pairs = [
            ("FIREFLOW_JWT_SECRET_FILE", path.to_str().unwrap()),
            ("FIREFLOW_JWT__PUBLIC_KEYS", "/keys"),
        ];
        assert_eq!(fault(&pairs, None), "FIREFLOW_JWT_SECRET_FILE: holds no secret");
        std::fs::write(&path, "\n").unwrap();
        assert!(fault(&pairs, None).starts_with("FIREFLOW_JWT_SECRET_FILE: is empty"));
        // Others have defaults, and Compose hands on what is not set as nothing.
        let pairs = [("FIREFLOW_LISTEN", ""), ("FIREFLOW_LOG", ""), ("FIREFLOW_OTLP_ENDPOINT", "")];
        assert!(load(&sources(&pairs, None)).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn variables_that_are_not_text_are_named_and_never_left_out() {
        use std::os::unix::ffi::OsStringExt;
        let ask = |name: &[u8], value: &[u8]| {
            let pair = [name, value].map(|bytes| OsString::from_vec(bytes.to_vec()));
            environment([pair.into()])
        };
        let fault = |name: &[u8], value: &[u8]| ask(name, value).unwrap_err().to_string();
        assert_eq!(
            fault(b"FIREFLOW_ENVIRONMENT", b"production\xff"),
            "FIREFLOW_ENVIRONMENT: the value is not text in UTF-8"
        );
        for name in ["FIREFLOW_JWT__REVOKED_FILE", "FIREFLOW_JWT_SECRET_FILE", "FIREFLOW_MADE_UP"] {
            assert!(
                fault(name.as_bytes(), b"/etc/\xe9").starts_with(&format!("{name}: the value"))
            );
        }
        assert!(fault(b"FIREFLOW_LISTEN\xff", b"x").contains("the name is not text"));
        // What is not ours may be anything.
        for name in [b"PATH".as_slice(), b"FIREFLOW_PORT_80", b"FIREFLOW_TEST_X", b"\xff"] {
            assert_eq!(ask(name, b"\xff").unwrap(), []);
        }
        let pair = ("FIREFLOW_LOG".to_owned(), "d\u{e9}bug".to_owned());
        assert_eq!(ask(b"FIREFLOW_LOG", "d\u{e9}bug".as_bytes()).unwrap(), [pair]);
    }

    #[test]
    fn the_role_map_is_a_table_in_the_file() {
        use fireflow_domain::actor::Role;
        let file = "[jwt]\nroles_claim = \"groups\"\n[jwt.role_map]\n\
                    \"CN=fw, admins,DC=x\" = \"admin\"\nops = [\"editor\", \"health_check\"]\n\
                    \"a.b\" = \"viewer\"\n";
        for text in [file.to_owned(), format!("\u{feff}{file}")] {
            let rules = load(&sources(&[], Some(&text))).unwrap().settings.tokens.rules;
            let map = rules.role_map.unwrap();
            assert_eq!(map.roles_of("CN=fw, admins,DC=x"), [Role::Admin]);
            assert_eq!(map.roles_of("ops"), [Role::Editor, Role::HealthCheck]);
            assert_eq!(map.roles_of("a.b"), [Role::Viewer]);
            assert_eq!(rules.roles_claim, "groups");
        }
        // The environment replaces it as a whole.
        let pairs = [("FIREFLOW_JWT__ROLE_MAP", r#"{"CN=x, y": "viewer"}"#)];
        let rules = load(&sources(&pairs, Some(file))).unwrap().settings.tokens.rules;
        let map = rules.role_map.unwrap();
        assert_eq!(map.roles_of("CN=x, y"), [Role::Viewer]);
        assert!(map.roles_of("ops").is_empty());
        for (bad, word) in [
            ("[jwt.role_map]\n", "names no group"),
            ("[jwt.role_map]\na = \"root\"\n", "`root` is not a role"),
            ("[jwt.role_map]\na = 1\n", "a role is a text"),
            ("[jwt.role_map.a]\nb = \"admin\"\n", "a role is a text"),
            ("[jwt]\nrole_map = [\"a=admin\"]\n", "takes a string"),
        ] {
            let fault = fault(&[], Some(bad));
            assert!(fault.starts_with("fireflow.toml: jwt.role_map: "), "{fault}");
            assert!(fault.contains(word), "{fault}");
        }
        let old = "[jwt]\nrole_map = \"ops=editor\"\n";
        assert!(load(&sources(&[], Some(old))).is_ok(), "a text is taken too");
    }

    #[test]
    fn weak_secrets_of_a_local_service_are_taken_with_a_warning() {
        let pairs = [("FIREFLOW_JWT_SECRET", "short")];
        let warnings = load(&sources(&pairs, None)).unwrap().warnings;
        assert!(warnings[0].starts_with("FIREFLOW_JWT_SECRET is too short"), "{warnings:?}");
        let pairs = [("FIREFLOW_JWT_SECRET", SECRET)];
        assert!(load(&sources(&pairs, None)).unwrap().warnings.is_empty());
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
        std::fs::write(&path, format!("# new\n{SECRET}\n\nold-{SECRET}\n")).unwrap();
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
