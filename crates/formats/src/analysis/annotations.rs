//! Findings as workflow commands of GitHub Actions, which become annotations of lines.

use fireflow_domain::analysis::{Finding, Severity};

use super::Subject;
use super::sentences::{KINDS, detail};

/// One line for each finding, without those that are only searched on request.
#[must_use]
pub fn annotations<'f>(
    findings: impl IntoIterator<Item = &'f Finding>,
    subject: &Subject<'_>,
) -> String {
    let mut text = String::new();
    for finding in findings.into_iter().filter(|finding| !finding.kind.is_on_request()) {
        let command = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "notice",
        };
        let title = KINDS.iter().find(|kind| kind.kind == finding.kind).map_or("", |it| it.title);
        text.push_str(&format!("::{command} file={}", property(subject.source)));
        if let Some(line) = subject.line(finding.rule) {
            text.push_str(&format!(",line={line}"));
        }
        text.push_str(&format!(
            ",title={}::{}\n",
            property(title),
            message(&detail(finding, subject))
        ));
    }
    text
}

/// Escapes the text of a command, as the runner's toolkit does.
fn message(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property of a command.
fn property(text: &str) -> String {
    message(text).replace(':', "%3A").replace(',', "%2C")
}
