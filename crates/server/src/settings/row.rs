//! One setting: a typed row that declares its key, type, parser, default and documentation.

use std::fmt;

use super::values::Values;

/// A setting, as the documentation shows it.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its key in the file; a dot separates a table from its key.
    pub key: &'static str,
    /// Its name in the environment.
    pub variable: &'static str,
    /// Another name for it in the environment.
    pub alias: Option<&'static str>,
    /// Its default.
    pub default: DefaultText,
    /// What it does.
    pub about: &'static str,
    marks: &'static [Mark],
}

impl Setting {
    /// Whether its value must never be shown. Such a setting can also come from a file: `…_FILE`.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.has(Mark::Secret) || self.has(Mark::SecretLines)
    }

    pub(super) fn has(&self, mark: Mark) -> bool {
        self.marks.contains(&mark)
    }
}

/// A default, as the documentation shows it.
#[derive(Debug, Clone, Copy)]
pub enum DefaultText {
    /// There is none.
    Nothing,
    /// A value, as users write it.
    Text(&'static str),
    /// A number.
    Number(u64),
    /// A duration in seconds.
    Seconds(u64),
    /// An explanation, because the default depends on something.
    Words(&'static str),
}

impl fmt::Display for DefaultText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Text(text) | Self::Words(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Seconds(seconds) => write!(f, "{seconds}s"),
        }
    }
}

/// What is special about a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// Its value must never be shown, and can also come from a file: `…_FILE`.
    Secret,
    /// The same, but the file has several lines and is reloaded. It must be a regular file, and no
    /// space at the end of the value is cut off.
    SecretLines,
    /// It protects something or locates the data. If it is empty, it must not silently fall back
    /// to its default. Other empty settings count as not set, because Compose's `${VARIABLE:-}`
    /// passes unset variables on as empty ones.
    Protects,
    /// It can be a table in the file.
    Table,
    /// Its name in the environment, if it is not the one that follows from its key. The name that
    /// follows is then an alias.
    Short(&'static str),
}

/// The default of a setting. The text for people and the value in code are both made from it.
pub(super) enum DefaultValue<T> {
    /// A value, as users write it. The row's own parser reads it.
    Text(&'static str),
    /// A number, which the row's own parser reads.
    Number(u64),
    /// A duration in seconds, which the row's own parser reads.
    Seconds(u64),
    /// What applies if the setting is not set; people are shown no default.
    Nothing(fn() -> T),
    /// A default that depends on something: an explanation for people, and the value.
    Words(&'static str, fn(&Values) -> T),
}

impl<T> DefaultValue<T> {
    const fn text(&self) -> DefaultText {
        match self {
            Self::Nothing(_) => DefaultText::Nothing,
            Self::Text(text) => DefaultText::Text(text),
            Self::Number(number) => DefaultText::Number(*number),
            Self::Seconds(seconds) => DefaultText::Seconds(*seconds),
            Self::Words(words, _) => DefaultText::Words(words),
        }
    }
}

/// The part of a row that is written between its braces.
pub(super) struct Spec<T> {
    /// Reads a value that is not empty, without spaces around it. Its error names a valid
    /// form, and never repeats a secret.
    pub(super) parse: fn(&str) -> Result<T, String>,
    /// The default.
    pub(super) default: DefaultValue<T>,
}

/// A setting whose value is a `T`.
pub(super) struct Row<T> {
    pub(super) setting: Setting,
    pub(super) spec: Spec<T>,
}

/// Makes a row. `derived` is the variable that follows from the key.
pub(super) const fn row<T>(
    key: &'static str,
    derived: &'static str,
    about: &'static str,
    marks: &'static [Mark],
    spec: Spec<T>,
) -> Row<T> {
    let (variable, alias) = match short_name(marks) {
        Some(short) => (short, Some(derived)),
        None => (derived, None),
    };
    let (default, about) = (spec.default.text(), about.trim_ascii());
    Row { setting: Setting { key, variable, alias, default, about, marks }, spec }
}

const fn short_name(mut marks: &'static [Mark]) -> Option<&'static str> {
    while let Some((mark, rest)) = marks.split_first() {
        if let Mark::Short(name) = mark {
            return Some(name);
        }
        marks = rest;
    }
    None
}

/// The prefix of settings in the environment.
pub(super) const PREFIX: &str = "FIREFLOW_";

/// The length of the variable that follows from a key: a dot becomes two underscores.
pub(super) const fn variable_len(key: &str) -> usize {
    let mut len = PREFIX.len() + key.len();
    let mut rest = key.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'.' {
            len += 1;
        }
        rest = after;
    }
    len
}

/// The variable that follows from a key: `http.base_path` is `FIREFLOW_HTTP__BASE_PATH`.
pub(super) const fn variable<const LEN: usize>(key: &str) -> [u8; LEN] {
    let mut name = [b'_'; LEN];
    let mut to: &mut [u8] = &mut name;
    let (mut prefix, mut key) = (PREFIX.as_bytes(), key.as_bytes());
    let mut was_dot = false;
    while let Some((slot, after)) = to.split_first_mut() {
        to = after;
        if was_dot {
            // The second of two underscores is already there, as the first one was.
            was_dot = false;
        } else if let Some((byte, rest)) = prefix.split_first() {
            *slot = *byte;
            prefix = rest;
        } else if let Some((byte, rest)) = key.split_first() {
            was_dot = *byte == b'.';
            if !was_dot {
                *slot = byte.to_ascii_uppercase();
            }
            key = rest;
        }
    }
    name
}

/// The name as a text. It is ASCII as long as the key is.
pub(super) const fn name(bytes: &'static [u8]) -> &'static str {
    match std::str::from_utf8(bytes) {
        Ok(name) => name,
        Err(_) => "",
    }
}

/// Declares settings, each exactly once, and the struct that they fill.
///
/// ```text
/// settings! {
///     /// The settings of HTTP.
///     pub(crate) struct HttpSettings, rows HTTP: HttpRows;
///
///     REQUESTS {
///         /// the maximum number of concurrent requests; more are refused with 503 and `Retry-After`
///         max_in_flight: usize = "http.max_in_flight" [Protects] {
///             parse: number,
///             default: Number(1_024),
///         }
///     }
/// }
/// ```
///
/// A row is a field with its type, the key in the file, marks (if any), and the fields of [`Spec`].
/// Its doc comment is what help and documentation say about it. The name of the variable follows
/// from the key.
///
/// - `HttpSettings` is the struct with the values. Instead of `struct NAME`, `fills NAME` fills a
///   struct that exists already. A field that nothing reads is dead code.
/// - `HTTP` has the rows: `HTTP.read(values)` reads all, `HTTP.max_in_flight` is one.
/// - `REQUESTS` is a section of the documentation, which `table.rs` puts in its place.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $vis:vis struct $target:ident, rows $rows:ident: $Rows:ident;
        $($section:ident {
            $($(#[doc = $about:literal])+
            $field:ident: $type:ty = $key:literal $([$($mark:expr),+])? { $($spec:tt)+ })+
        })+
    ) => {
        $(#[$meta])*
        $vis struct $target {
            $($($(#[doc = $about])+ $vis $field: $type,)+)+
        }

        $crate::settings::row::settings! {
            $vis fills $target, rows $rows: $Rows;
            $($section {
                $($(#[doc = $about])+
                $field: $type = $key $([$($mark),+])? { $($spec)+ })+
            })+
        }
    };
    (
        $vis:vis fills $target:ident, rows $rows:ident: $Rows:ident;
        $($section:ident {
            $($(#[doc = $about:literal])+
            $field:ident: $type:ty = $key:literal $([$($mark:expr),+])? { $($spec:tt)+ })+
        })+
    ) => {
        pub(super) struct $Rows {
            $($(pub(super) $field: $crate::settings::row::Row<$type>,)+)+
        }

        pub(super) const $rows: $Rows = $Rows {
            $($($field: {
                use $crate::settings::row;
                const NAME: [u8; row::variable_len($key)] = row::variable($key);
                row::row(
                    $key,
                    row::name(&NAME),
                    concat!($($about),+),
                    &[$($($mark),+)?],
                    row::Spec::<$type> { $($spec)+ },
                )
            },)+)+
        };

        $(pub(super) const $section: &[$crate::settings::Setting] =
            &[$($rows.$field.setting),+];)+

        impl $Rows {
            $vis fn read(
                &self,
                values: &$crate::settings::values::Values,
            ) -> Result<$target, $crate::settings::SettingError> {
                Ok($target { $($($field: values.read(&self.$field)?,)+)+ })
            }
        }
    };
}
pub(super) use settings;

#[cfg(test)]
mod tests {
    use super::super::SETTINGS;
    use super::*;

    #[test]
    fn names_in_the_environment_follow_from_keys() {
        let follows = |key: &str| format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"));
        for setting in SETTINGS {
            let derived = setting.alias.unwrap_or(setting.variable);
            assert_eq!(derived, follows(setting.key));
        }
        let short: Vec<_> = SETTINGS.into_iter().filter(|it| it.alias.is_some()).collect();
        let names: Vec<_> = short.iter().map(|setting| setting.variable).collect();
        assert_eq!(
            names,
            ["FIREFLOW_DATABASE_URL", "FIREFLOW_JWT_SECRET", "FIREFLOW_OTLP_ENDPOINT"]
        );
    }

    #[test]
    fn every_setting_of_tokens_and_tls_protects() {
        for setting in SETTINGS {
            let is_guard = ["jwt.", "tls."].iter().any(|part| setting.key.starts_with(part));
            assert!(!is_guard || setting.has(Mark::Protects), "{}", setting.key);
        }
    }

    #[test]
    fn no_name_is_used_twice() {
        let mut names = std::collections::BTreeSet::new();
        for setting in SETTINGS {
            assert!(names.insert(setting.key), "{}", setting.key);
            assert!(names.insert(setting.variable), "{}", setting.variable);
            assert!(setting.alias.is_none_or(|alias| names.insert(alias)), "{}", setting.key);
            assert!(!setting.about.is_empty() && !setting.about.ends_with('.'), "{}", setting.key);
        }
    }
}
