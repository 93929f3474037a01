//! Findings as CSV records (RFC 4180).

use fireflow_domain::analysis::Finding;
use fireflow_domain::error::BoxError;

use super::packets::packet_in_words;
use super::sentences::detail;
use super::{RuleNameView, Subject};
use crate::rule_columns::guarded;

const COLUMNS: [&str; 17] = [
    "id",
    "proof",
    "severity",
    "kind",
    "position",
    "rule_id",
    "rule",
    "action",
    "line",
    "detail",
    "because",
    "conflicts_with",
    "effect",
    "witness",
    "until",
    "together",
    "accepted",
];

/// Findings as records, after a header. Other rules are named by their positions.
///
/// # Errors
/// Returns an error if a record cannot be written, which is a defect.
pub fn finding_records<'f>(
    findings: impl IntoIterator<Item = &'f Finding>,
    subject: &Subject<'_>,
) -> Result<Vec<u8>, BoxError> {
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for finding in findings {
        writer.write_record(record(finding, subject))?;
    }
    Ok(writer.into_inner()?)
}

fn record(finding: &Finding, subject: &Subject<'_>) -> [String; COLUMNS.len()] {
    let RuleNameView { id, name, action, position, line } = subject.rule(finding.rule);
    let positions = |rules: &mut dyn Iterator<Item = usize>| {
        let all: Vec<String> = rules.map(|rule| rule.saturating_add(1).to_string()).collect();
        all.join("; ")
    };
    let optional = |number: Option<String>| number.unwrap_or_default();
    [
        finding.id.to_string(),
        finding.proof.to_string(),
        finding.severity.as_str().to_owned(),
        finding.kind.as_str().to_owned(),
        position.to_string(),
        optional(id.map(|id| id.to_string())),
        name.map(|name| guarded(&name)).unwrap_or_default(),
        action.to_owned(),
        optional(line.map(|line| line.to_string())),
        detail(finding, subject),
        positions(&mut finding.because.iter().map(|cover| cover.rule)),
        positions(&mut finding.conflicts_with.iter().map(|conflict| conflict.rule)),
        optional(finding.effect.map(|effect| effect.as_str().to_owned())),
        optional(finding.witness.as_ref().map(packet_in_words)),
        optional(finding.until.map(|until| until.to_string())),
        positions(&mut finding.together.iter().copied()),
        optional(subject.acceptance(finding).map(|it| guarded(it.spec.reason.as_str()))),
    ]
}
