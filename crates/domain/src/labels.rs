//! Labels: small key-value pairs that users attach to resources.

use std::collections::BTreeMap;

use crate::error::{Violation, Violations};
use crate::invisible::first_invisible;
use crate::text::excerpt;

/// The most labels of one resource.
pub const MAX_LABELS: usize = 64;
/// The longest key, in characters.
pub const MAX_LABEL_KEY_CHARS: usize = 63;
/// The longest value, in characters.
pub const MAX_LABEL_VALUE_CHARS: usize = 255;

/// At most 64 labels, keys `[a-z0-9]([a-z0-9._/-]{0,61}[a-z0-9])?`, ordered by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Checks all keys and values of labels from a request.
    ///
    /// # Errors
    /// Returns all violations, with pointers below the labels (`/site`).
    pub fn new(map: BTreeMap<String, String>) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        for (key, value) in &map {
            check_visible(key, value, &mut violations);
        }
        Self::checked(map, violations)
    }

    /// Reads stored labels. They were checked when they were written, but earlier versions accepted
    /// invisible characters.
    ///
    /// # Errors
    /// Like [`Self::new`], except for invisible characters.
    pub fn stored(map: BTreeMap<String, String>) -> Result<Self, Violations> {
        Self::checked(map, Violations::new())
    }

    fn checked(
        map: BTreeMap<String, String>,
        mut violations: Violations,
    ) -> Result<Self, Violations> {
        if map.len() > MAX_LABELS {
            violations.push(Violation::body(
                "",
                format!("has {} labels; at most {MAX_LABELS} are allowed", map.len()),
            ));
        }
        for (key, value) in &map {
            let pointer = format!("/{}", escape_pointer(key));
            if !is_key(key) {
                let unseen = first_invisible(key).map(|(character, position)| {
                    format!("; {character} at character {position} is invisible")
                });
                violations.push(Violation::body(
                    &pointer,
                    format!(
                        "`{}` is not a label key: 1 to 63 of a-z, 0-9, `.`, `_`, `/`, `-`, with a \
                         letter or digit at both ends{}",
                        excerpt(key),
                        unseen.unwrap_or_default()
                    ),
                ));
            }
            let chars = value.chars().count();
            if chars > MAX_LABEL_VALUE_CHARS {
                violations.push(Violation::body(
                    &pointer,
                    format!("has {chars} characters; at most {MAX_LABEL_VALUE_CHARS} are allowed"),
                ));
            }
            if value.chars().any(char::is_control) {
                violations.push(Violation::body(
                    &pointer,
                    "contains a control character; remove \
                                                           it",
                ));
            }
        }
        violations.into_result(|| Self(map))
    }

    /// The labels, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The labels as a map.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

/// A change of labels: each named key is set or removed. An empty map changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelsPatch {
    /// Some keys are set or removed.
    Merge(BTreeMap<String, Option<String>>),
    /// All labels are removed.
    Clear,
}

impl Default for LabelsPatch {
    fn default() -> Self {
        Self::Merge(BTreeMap::new())
    }
}

impl LabelsPatch {
    /// The labels after the change.
    ///
    /// # Errors
    /// Like [`Labels::new`], but invisible characters are only refused in changed values.
    pub fn apply(self, labels: Labels) -> Result<Labels, Violations> {
        match self {
            Self::Clear => Ok(Labels::default()),
            Self::Merge(changes) => {
                let mut map = labels.0;
                let mut violations = Violations::new();
                for (key, value) in changes {
                    match value {
                        Some(value) => {
                            check_visible(&key, &value, &mut violations);
                            map.insert(key, value);
                        }
                        None => drop(map.remove(&key)),
                    }
                }
                // Unchanged values may have invisible characters: earlier versions accepted them.
                Labels::checked(map, violations)
            }
        }
    }

    /// The labels after the change.
    ///
    /// # Errors
    /// Like [`Self::apply`], with pointers below `/labels`.
    pub fn apply_below(self, labels: Labels) -> Result<Labels, Violations> {
        self.apply(labels).map_err(|violations| {
            let mut below = Violations::new();
            below.extend_below("/labels", violations);
            below
        })
    }
}

fn check_visible(key: &str, value: &str, violations: &mut Violations) {
    if let Some((character, position)) = first_invisible(value) {
        let detail =
            format!("contains the invisible {character} at character {position}; remove it");
        violations.push(Violation::body(format!("/{}", escape_pointer(key)), detail));
    }
}

/// Whether a text is a label key.
#[must_use]
pub fn is_key(key: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = key.as_bytes();
    bytes.len() <= MAX_LABEL_KEY_CHARS
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || b"._/-".contains(byte))
}

/// Escapes one step of a JSON pointer (RFC 6901).
#[must_use]
pub fn escape_pointer(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_hold_nothing_invisible_but_those_that_are_there_stay() {
        let map = |value: &str| BTreeMap::from([("site".to_owned(), value.to_owned())]);
        let faults = Labels::new(map("fra\u{200B}")).unwrap_err();
        assert_eq!(
            faults.items()[0].to_string().split(',').next(),
            Some(
                "#/site: contains the invisible U+200B ZERO WIDTH SPACE at character 4; remove it"
            )
        );
        let keys = BTreeMap::from([("site\u{200B}".to_owned(), String::new())]);
        let faults = Labels::new(keys).unwrap_err();
        assert!(faults.items()[0].detail.contains("U+200B ZERO WIDTH SPACE at character 5"));
        let old = Labels::stored(map("fra\u{200B}")).unwrap();
        let patch = |key: &str, value: &str| {
            LabelsPatch::Merge([(key.to_owned(), Some(value.to_owned()))].into())
        };
        assert!(patch("env", "prod").apply(old.clone()).is_ok());
        assert!(patch("env", "prod\u{AD}").apply(old.clone()).is_err());
        assert!(patch("site", "fra").apply(old).is_ok());
    }

    #[test]
    fn keys_follow_their_pattern() {
        for good in ["a", "0", "a.b", "team/net-ops_1", &"a".repeat(63)] {
            assert!(is_key(good), "{good}");
        }
        for bad in ["", "A", "-a", "a-", "a b", "ä", &"a".repeat(64), "a\n"] {
            assert!(!is_key(bad), "{bad}");
        }
    }
}
