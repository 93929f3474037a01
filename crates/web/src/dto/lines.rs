//! Rules as lines of text: CSV (RFC 4180) and NDJSON.

use std::fmt::Write as _;

use fireflow_domain::error::BoxError;
use fireflow_domain::rule::Rule;
use fireflow_domain::time::Instant;

use super::fields::Fields;
use super::view::{EndpointView, PortEntryView, PortValue, RuleView};

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
pub struct RuleLines {
    /// CSV or NDJSON.
    pub format: LineFormat,
    fields: Option<Fields>,
    now: Instant,
    position: Option<u64>,
    is_header_due: bool,
}

impl RuleLines {
    /// `now` decides `state` and `warnings`. `position` is the number of rules before the first
    /// one, if the rules are in order of evaluation.
    #[must_use]
    pub const fn new(
        format: LineFormat,
        fields: Option<Fields>,
        now: Instant,
        position: Option<u64>,
    ) -> Self {
        Self { format, fields, now, position, is_header_due: true }
    }

    /// Writes the next rules.
    ///
    /// # Errors
    /// Returns an error if a rule cannot be written, which is a defect.
    pub fn write(&mut self, rules: &[Rule]) -> Result<Vec<u8>, BoxError> {
        let mut view = RuleView::numbering(self.now, self.position);
        let views = rules.iter().map(&mut view);
        let text = match self.format {
            LineFormat::Ndjson => ndjson(views, self.fields.as_ref())?,
            LineFormat::Csv => csv(views, self.fields.as_ref(), self.is_header_due)?,
        };
        self.position = self.position.map(|before| before.saturating_add(rules.len() as u64));
        self.is_header_due = false;
        Ok(text)
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

fn csv(
    rules: impl Iterator<Item = RuleView>,
    fields: Option<&Fields>,
    with_header: bool,
) -> Result<Vec<u8>, BoxError> {
    let columns: Vec<&Column> = COLUMNS
        .iter()
        .filter(|column| fields.is_none_or(|fields| fields.has(column.member)))
        .collect();
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    if with_header {
        writer.write_record(columns.iter().map(|column| column.name))?;
    }
    for rule in rules {
        writer.write_record(columns.iter().map(|column| (column.cell)(&rule)))?;
    }
    Ok(writer.into_inner()?)
}

/// A column, and the member of the rule that it shows.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) member: &'static str,
    cell: fn(&RuleView) -> String,
}

macro_rules! columns {
    ($($name:literal of $member:literal: $cell:expr;)+) => {
        &[$(Column { name: $name, member: $member, cell: $cell }),+]
    };
}

pub(super) const COLUMNS: &[Column] = columns! {
    "id" of "id": |rule| rule.id.to_string();
    "firewall_id" of "filtering_policy": |rule| rule.filtering_policy.firewall.id.to_string();
    "firewall" of "filtering_policy": |rule| guarded(&rule.filtering_policy.firewall.name);
    "filtering_policy_id" of "filtering_policy": |rule| rule.filtering_policy.id.to_string();
    "filtering_policy" of "filtering_policy": |rule| guarded(&rule.filtering_policy.name);
    "default_action" of "filtering_policy": |rule| rule.filtering_policy.default_action.clone();
    "name" of "name": |rule| rule.name.as_deref().map(guarded).unwrap_or_default();
    "action" of "action": |rule| rule.action.clone();
    "priority" of "priority": |rule| rule.priority.to_string();
    "position" of "position": |rule| optional(rule.position);
    "protocols" of "protocols": |rule| listed(&rule.protocols, |text, it| text.push_str(it));
    "icmp_type" of "icmp_type": |rule| optional(rule.icmp_type);
    "icmp_code" of "icmp_code": |rule| optional(rule.icmp_code);
    "sources" of "sources": |rule| listed(&rule.sources, endpoint);
    "destinations" of "destinations": |rule| listed(&rule.destinations, endpoint);
    "ports" of "ports": |rule| listed(&rule.ports, port);
    "enabled" of "enabled": |rule| rule.enabled.to_string();
    "log" of "log": |rule| rule.log.to_string();
    "starts_at" of "starts_at": |rule| rule.starts_at.clone().unwrap_or_default();
    "expires_at" of "expires_at": |rule| rule.expires_at.clone().unwrap_or_default();
    "state" of "state": |rule| rule.state.clone();
    "description" of "description": |rule| guarded(&rule.description);
    "reference" of "reference": |rule| guarded(&rule.reference);
    "labels" of "labels": |rule| labels(rule);
    "warnings" of "warnings": |rule| listed(&rule.warnings, |text, it| text.push_str(&it.code));
    "revision" of "revision": |rule| rule.revision.to_string();
    "created_at" of "created_at": |rule| rule.created_at.clone();
    "created_by" of "created_by": |rule| guarded(&rule.created_by);
    "updated_at" of "updated_at": |rule| rule.updated_at.clone();
    "updated_by" of "updated_by": |rule| guarded(&rule.updated_by);
    "deleted_at" of "deleted_at": |rule| rule.deleted_at.clone().unwrap_or_default();
    "deleted_by" of "deleted_by": |rule| rule.deleted_by.as_deref().map(guarded).unwrap_or_default();
};

/// Protects a text from being run as a formula by a spreadsheet (OWASP, "CSV Injection"): puts an
/// apostrophe in front of a formula, and of a text that looks protected already, so that the
/// original can be recovered.
fn guarded(text: &str) -> String {
    if is_formula(text.trim_start_matches('\'')) { format!("'{text}") } else { text.to_owned() }
}

fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'])
}

/// Recovers the original text of a cell that [`guarded`] wrote.
pub(super) fn unguarded(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(text) if is_formula(text.trim_start_matches('\'')) => text,
        _ => cell,
    }
}

fn optional(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Several items in one cell.
fn listed<T>(items: &[T], mut write: impl FnMut(&mut String, &T)) -> String {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push_str("; ");
        }
        write(&mut text, item);
    }
    text
}

fn endpoint(text: &mut String, endpoint: &EndpointView) {
    text.push_str(&endpoint.address);
    // Writing to a string cannot fail.
    let _written = match &endpoint.port {
        Some(PortValue::Number(port)) => write!(text, " {port}"),
        Some(PortValue::Range(ports)) => write!(text, " {ports}"),
        None => Ok(()),
    };
}

fn port(text: &mut String, port: &PortEntryView) {
    // Writing to a string cannot fail.
    let _written = match (port.number, port.from, port.to) {
        (Some(number), ..) => write!(text, "{number}"),
        (None, Some(from), Some(to)) => write!(text, "{from}-{to}"),
        _ => Ok(()),
    };
}

fn labels(rule: &RuleView) -> String {
    if rule.labels.is_empty() {
        return String::new();
    }
    // A map of strings: serializing it cannot fail.
    serde_json::to_string(&rule.labels).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_has_a_column_in_the_same_order() {
        let mut members: Vec<&str> = COLUMNS.iter().map(|column| column.member).collect();
        members.dedup();
        assert_eq!(members, RuleView::MEMBERS);
    }

    #[test]
    fn what_a_spreadsheet_would_run_is_guarded() {
        for (text, cell) in [
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("'=1", "''=1"),
            ("''", "''"),
            ("'quoted'", "'quoted'"),
            ("web = 1", "web = 1"),
            ("", ""),
        ] {
            assert_eq!(guarded(text), cell);
            assert_eq!(unguarded(cell), text);
        }
    }
}
