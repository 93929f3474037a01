//! Reads the sources of settings: the environment and a file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use fireflow_auth::{file_text, piped_text};
use fireflow_domain::spelling::nearest;
use fireflow_domain::text::excerpt;

use super::row::{Mark, PREFIX};
use super::start::START;
use super::values::{Value, Values};
use super::{Environment, SETTINGS, Setting, SettingError, Settings, error};

/// The sources of the settings.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// The environment.
    pub(crate) environment: Vec<(String, String)>,
    /// The file's name and text, if there is a file.
    pub(crate) file: Option<(String, String)>,
    /// Whether the output is a terminal.
    pub(crate) is_terminal: bool,
    /// How many processors there are.
    pub(crate) processors: u32,
}

/// Settings, and warnings about their sources.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The settings.
    pub(crate) settings: Settings,
    /// One line each, for the log.
    pub(crate) warnings: Vec<String>,
}

/// Selects the service's variables from the whole environment.
///
/// # Errors
/// Returns an error that names the variable if a name or value is not UTF-8. If such a variable
/// were left out, its default would apply unnoticed.
pub(crate) fn environment(
    all: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>, SettingError> {
    let mut ours = Vec::new();
    for (name, value) in all {
        let shown = name.to_string_lossy();
        if !shown.starts_with(PREFIX) || is_foreign(&shown) {
            continue;
        }
        let not_text = |what: &str| error(shown.as_ref(), format!("{what} is not valid UTF-8"));
        let text = value.into_string().map_err(|_| not_text("the value"))?;
        ours.push((name.to_str().ok_or_else(|| not_text("the name"))?.to_owned(), text));
    }
    Ok(ours)
}

/// Whether a variable belongs to Kubernetes, which adds some for each service, or to the tests.
fn is_foreign(name: &str) -> bool {
    ["FIREFLOW_SERVICE_", "FIREFLOW_PORT", "FIREFLOW_TEST_"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Reads and checks all settings.
///
/// # Errors
/// Returns the first setting that is wrong, as one line.
pub(crate) fn load(sources: &Sources) -> Result<Loaded, SettingError> {
    let mut warnings = Vec::new();
    let mut values = match &sources.file {
        Some((name, text)) => from_file(name, text)?,
        None => BTreeMap::new(),
    };
    values.extend(from_environment(&sources.environment, &mut warnings)?);
    for (key, value) in &values {
        if value.text.trim().is_empty() && has(key, Mark::Protects) {
            return Err(error(&value.name, "is empty: set it, or leave it out"));
        }
    }
    let Sources { processors, is_terminal, .. } = *sources;
    let environment = Environment::Local;
    let mut values = Values { set: values, environment, processors, is_terminal };
    // Defaults of other settings depend on it.
    values.environment = values.read(&START.environment)?;
    let settings = Settings::read(&values, &mut warnings)?;
    Ok(Loaded { settings, warnings })
}

fn from_file(name: &str, text: &str) -> Result<BTreeMap<&'static str, Value>, SettingError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let table: toml::Table =
        text.parse().map_err(|fault: toml::de::Error| not_toml(name, text, &fault))?;
    let mut flat = BTreeMap::new();
    flatten(&table, "", &mut flat);
    let mut values = BTreeMap::new();
    for (key, value) in flat {
        let Some(setting) = SETTINGS.into_iter().find(|setting| setting.key == key) else {
            let hint = match nearest(&key, SETTINGS.into_iter().map(|setting| setting.key)) {
                Some(meant) => format!("; did you mean `{meant}`?"),
                None => String::new(),
            };
            return Err(error(format!("{name}: {key}"), format!("is not a setting{hint}")));
        };
        let text = match value {
            toml::Value::String(text) => text,
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(truth) => truth.to_string(),
            toml::Value::Table(groups) if setting.has(Mark::Table) => {
                serde_json::to_string(&groups)
                    .map_err(|fault| error(format!("{name}: {key}"), fault.to_string()))?
            }
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
    error(format!("{name}: line {number}{key}"), format!("is not valid TOML: {}", fault.message()))
}

fn flatten(table: &toml::Table, prefix: &str, flat: &mut BTreeMap<String, toml::Value>) {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            // The keys of such a table are not names of settings.
            toml::Value::Table(_) if has(&key, Mark::Table) => {
                drop(flat.insert(key, value.clone()))
            }
            toml::Value::Table(inner) => flatten(inner, &key, flat),
            other => drop(flat.insert(key, other.clone())),
        }
    }
}

/// Whether the key is that of a setting with this mark.
fn has(key: &str, mark: Mark) -> bool {
    SETTINGS.into_iter().any(|setting| setting.key == key && setting.has(mark))
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
        |setting: &Setting, name: &str| setting.variable == name || setting.alias == Some(name);
    let bare = name.strip_suffix("_FILE");
    SETTINGS.into_iter().find_map(|setting| {
        if is(setting, name) {
            Some((setting, false))
        } else if setting.is_secret() && bare.is_some_and(|bare| is(setting, bare)) {
            Some((setting, true))
        } else {
            None
        }
    })
}

fn lower_names() -> Vec<String> {
    SETTINGS.into_iter().map(|setting| setting.variable.to_lowercase()).collect()
}

fn read(setting: &Setting, name: &str, path: &str) -> Result<String, SettingError> {
    let path = Path::new(path);
    // A file that is reloaded must be a regular file. Other secrets may come through a pipe.
    let is_reloaded = setting.has(Mark::SecretLines);
    let text = if is_reloaded { file_text(path) } else { piped_text(path) };
    text.map_err(|why| error(name, why))
}

#[cfg(test)]
mod tests;
