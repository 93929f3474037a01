//! The values that are set, by key, and what defaults depend on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::row::{DefaultValue, Mark, Row};
use super::{Environment, SettingError, error};

/// A value, with the name that it was set under.
pub(super) struct Value {
    pub(super) name: String,
    pub(super) text: String,
    /// The file that the name's `…_FILE` form names.
    pub(super) file: Option<PathBuf>,
}

/// All values that are set.
pub(super) struct Values {
    pub(super) set: BTreeMap<&'static str, Value>,
    /// The environment that the service runs in.
    pub(super) environment: Environment,
    /// How many processors there are.
    pub(super) processors: u32,
    /// Whether the output is a terminal.
    pub(super) is_terminal: bool,
}

impl Values {
    pub(super) fn is_local(&self) -> bool {
        self.environment == Environment::Local
    }

    /// The value of a setting, if it is set and not empty.
    pub(super) fn get<T>(&self, row: &Row<T>) -> Option<&Value> {
        self.set.get(row.setting.key).filter(|value| !value.text.trim().is_empty())
    }

    /// The name that a setting was set under; its variable if it is not set.
    pub(super) fn name<T>(&self, row: &Row<T>) -> &str {
        self.get(row).map_or(row.setting.variable, |value| value.name.as_str())
    }

    /// The value of a setting, or its default.
    pub(super) fn read<T>(&self, row: &Row<T>) -> Result<T, SettingError> {
        let parse = |text: &str| (row.spec.parse)(text).map_err(|why| error(self.name(row), why));
        match (self.get(row), &row.spec.default) {
            (Some(value), _) if row.setting.has(Mark::SecretLines) => parse(&value.text),
            (Some(value), _) => parse(value.text.trim()),
            (None, DefaultValue::Nothing(nothing)) => Ok(nothing()),
            (None, DefaultValue::Words(_, default)) => Ok(default(self)),
            (None, DefaultValue::Text(_) | DefaultValue::Number(_) | DefaultValue::Seconds(_)) => {
                parse(&row.setting.default.to_string())
            }
        }
    }
}
