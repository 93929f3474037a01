//! Rules as lines of text: CSV (RFC 4180) and NDJSON.

use fireflow_domain::error::BoxError;
use fireflow_domain::rule::Rule;
use fireflow_domain::time::Instant;

use crate::rule_columns::RuleRecords;
use crate::selected::Fields;
use crate::views::RuleView;

/// A line format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// Comma-separated values, with a header line.
    Csv,
    /// One JSON object per line.
    Ndjson,
}

impl LineFormat {
    /// Its media type.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// The value of `Content-Type` in an answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// Writes rules in chunks. In CSV, the first chunk begins with a header.
#[derive(Debug)]
pub enum RuleLines {
    /// CSV records.
    Csv(RuleRecords),
    /// JSON objects.
    Ndjson {
        /// The members that are shown; none: all.
        fields: Option<Fields>,
        /// Decides `state` and `warnings`.
        now: Instant,
        /// The position of the rule before the next one.
        position: Option<u64>,
    },
}

impl RuleLines {
    /// `now` decides `state` and `warnings`. `position` is the number of rules before the first
    /// one, if the rules are in order of evaluation.
    #[must_use]
    pub fn new(
        format: LineFormat,
        fields: Option<Fields>,
        now: Instant,
        position: Option<u64>,
    ) -> Self {
        match format {
            LineFormat::Csv => {
                let has = |member: &str| fields.as_ref().is_none_or(|fields| fields.has(member));
                Self::Csv(RuleRecords::new(has, now, position))
            }
            LineFormat::Ndjson => Self::Ndjson { fields, now, position },
        }
    }

    /// Writes the next rules.
    ///
    /// # Errors
    /// Returns an error if a rule cannot be written, which is a defect.
    pub fn write(&mut self, rules: &[Rule]) -> Result<Vec<u8>, BoxError> {
        match self {
            Self::Csv(records) => records.write(rules),
            Self::Ndjson { fields, now, position } => {
                let mut view = RuleView::numbering(*now, *position);
                let text = ndjson(rules.iter().map(&mut view), fields.as_ref())?;
                *position = position.map(|before| before.saturating_add(rules.len() as u64));
                Ok(text)
            }
        }
    }
}

fn ndjson(
    rules: impl Iterator<Item = RuleView>,
    fields: Option<&Fields>,
) -> Result<Vec<u8>, BoxError> {
    let mut text = Vec::new();
    for rule in rules {
        match fields {
            None => serde_json::to_writer(&mut text, &rule)?,
            Some(fields) => {
                let mut value = serde_json::to_value(&rule)?;
                fields.keep(&mut value);
                serde_json::to_writer(&mut text, &value)?;
            }
        }
        text.push(b'\n');
    }
    Ok(text)
}
