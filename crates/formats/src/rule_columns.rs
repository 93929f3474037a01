//! Rules as CSV records (RFC 4180): the columns with the kind of their cells, and a writer.

use std::fmt::{self, Display, Write as _};

use fireflow_domain::error::BoxError;
use fireflow_domain::rule::{Endpoint, Rule};
use fireflow_domain::time::Instant;

/// The data of one record.
struct RuleRow<'a> {
    rule: &'a Rule,
    /// The rule's position in the order of evaluation, from 1, if the rules are in that order.
    position: Option<u64>,
    now: Instant,
}

/// Writes rules as records in chunks. The first chunk begins with a header.
#[derive(Debug)]
pub struct RuleRecords {
    columns: Vec<&'static Column>,
    now: Instant,
    position: Option<u64>,
    is_header_due: bool,
}

impl RuleRecords {
    /// `has_member` selects the members of a rule whose columns are written. `now` decides `state`
    /// and `warnings`. `position` is the number of rules before the first one, if the rules are in
    /// order of evaluation.
    pub fn new(has_member: impl Fn(&str) -> bool, now: Instant, position: Option<u64>) -> Self {
        let columns = COLUMNS.iter().filter(|column| has_member(column.member)).collect();
        Self { columns, now, position, is_header_due: true }
    }

    /// Writes the next rules.
    ///
    /// # Errors
    /// Returns an error if a rule cannot be written, which is a defect.
    pub fn write(&mut self, rules: &[Rule]) -> Result<Vec<u8>, BoxError> {
        let mut writer =
            csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        if std::mem::take(&mut self.is_header_due) {
            writer.write_record(self.columns.iter().map(|column| column.name))?;
        }
        for rule in rules {
            self.position = self.position.map(|before| before.saturating_add(1));
            let row = RuleRow { rule, position: self.position, now: self.now };
            writer.write_record(self.columns.iter().map(|column| (column.cell)(&row)))?;
        }
        Ok(writer.into_inner()?)
    }
}

/// A column, and the member of the rule that it shows.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) member: &'static str,
    /// What its cells are read as.
    pub(crate) kind: CellKind,
    cell: fn(&RuleRow<'_>) -> String,
}

/// What a cell is read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellKind {
    /// An integer.
    Number,
    /// An integer; null if the cell is empty.
    OptionalNumber,
    /// `true` or `false`.
    Flag,
    /// A word or an instant.
    Word,
    /// A word or an instant; null if the cell is empty.
    OptionalWord,
    /// A text that people write, which may be guarded.
    Text,
    /// Such a text; null if the cell is empty.
    OptionalText,
    /// Several words.
    Words,
    /// Sources or destinations.
    Endpoints,
    /// Ports.
    Ports,
    /// Labels, in JSON.
    Labels,
}

macro_rules! columns {
    ($($name:literal of $member:literal as $kind:ident: $cell:expr;)+) => {
        &[$(Column { name: $name, member: $member, kind: CellKind::$kind, cell: $cell }),+]
    };
}

pub(crate) const COLUMNS: &[Column] = columns! {
    "id" of "id" as Number: |row| row.rule.id.to_string();
    "firewall_id" of "filtering_policy" as Word: |row| row.rule.policy.firewall.id.to_string();
    "firewall" of "filtering_policy" as Word: |row| guarded(row.rule.policy.firewall.name.as_str());
    "filtering_policy_id" of "filtering_policy" as Word: |row| row.rule.policy.id.to_string();
    "filtering_policy" of "filtering_policy" as Word: |row| guarded(row.rule.policy.name.as_str());
    "default_action" of "filtering_policy" as Word: |row| row.rule.policy.default_action.to_string();
    "name" of "name" as OptionalText: |row| row.rule.spec.name.as_ref().map(|name| guarded(name.as_str())).unwrap_or_default();
    "action" of "action" as Word: |row| row.rule.spec.action.to_string();
    "priority" of "priority" as Number: |row| row.rule.spec.priority.to_string();
    "position" of "position" as Number: |row| optional(row.position);
    "protocols" of "protocols" as Words: |row| listed(row.rule.spec.protocols.iter());
    "icmp_type" of "icmp_type" as OptionalNumber: |row| optional(row.rule.spec.icmp_type);
    "icmp_code" of "icmp_code" as OptionalNumber: |row| optional(row.rule.spec.icmp_code);
    "sources" of "sources" as Endpoints: |row| listed(row.rule.spec.sources.iter().map(EndpointCell));
    "destinations" of "destinations" as Endpoints: |row| listed(row.rule.spec.destinations.iter().map(EndpointCell));
    "ports" of "ports" as Ports: |row| listed(row.rule.spec.ports.iter());
    "enabled" of "enabled" as Flag: |row| row.rule.spec.enabled.to_string();
    "log" of "log" as Flag: |row| row.rule.spec.log.to_string();
    "starts_at" of "starts_at" as OptionalWord: |row| optional(row.rule.spec.starts_at);
    "expires_at" of "expires_at" as OptionalWord: |row| optional(row.rule.spec.expires_at);
    "state" of "state" as Word: |row| row.rule.spec.state(row.now).as_str().to_owned();
    "description" of "description" as Text: |row| guarded(row.rule.spec.description.as_str());
    "reference" of "reference" as Text: |row| guarded(row.rule.spec.reference.as_str());
    "labels" of "labels" as Labels: |row| labels(row.rule);
    "warnings" of "warnings" as Words: |row| {
        listed(row.rule.spec.warnings(row.now).iter().map(|warning| warning.code.as_str()))
    };
    "revision" of "revision" as Number: |row| row.rule.revision.to_string();
    "created_at" of "created_at" as Word: |row| row.rule.created_at.to_string();
    "created_by" of "created_by" as Text: |row| guarded(&row.rule.created_by);
    "updated_at" of "updated_at" as Word: |row| row.rule.updated_at.to_string();
    "updated_by" of "updated_by" as Text: |row| guarded(&row.rule.updated_by);
    "deleted_at" of "deleted_at" as Word: |row| optional(row.rule.deleted.as_ref().map(|stamp| stamp.at));
    "deleted_by" of "deleted_by" as Text: |row| {
        row.rule.deleted.as_ref().map(|stamp| guarded(&stamp.by)).unwrap_or_default()
    };
};

/// Prevents a spreadsheet from running a text as a formula (OWASP, "CSV Injection"), by prefixing
/// it with an apostrophe. A text that already looks protected is prefixed too, so that the original
/// can be recovered.
pub(crate) fn guarded(text: &str) -> String {
    if is_formula(text.trim_start_matches('\'')) { format!("'{text}") } else { text.to_owned() }
}

fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'])
}

/// Recovers the original text of a cell that [`guarded`] wrote.
pub(crate) fn unguarded(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(text) if is_formula(text.trim_start_matches('\'')) => text,
        _ => cell,
    }
}

fn optional(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Writes several items into one cell.
fn listed<T: Display>(items: impl Iterator<Item = T>) -> String {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push_str("; ");
        }
        // Writing to a string cannot fail.
        let _written = write!(text, "{item}");
    }
    text
}

/// An endpoint in a cell: `10.0.0.0/8`, or `10.0.0.0/8 443`.
struct EndpointCell<'a>(&'a Endpoint);

impl Display for EndpointCell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Endpoint { address, port } = self.0;
        match port {
            Some(port) => write!(f, "{address} {port}"),
            None => write!(f, "{address}"),
        }
    }
}

fn labels(rule: &Rule) -> String {
    let labels = rule.spec.labels.as_map();
    if labels.is_empty() {
        return String::new();
    }
    // Serializing a map of strings cannot fail.
    serde_json::to_string(labels).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::RuleView;

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
