//! Findings as SARIF 2.1.0 (OASIS), which code hosts show next to the lines of a file.

use fireflow_domain::acceptance::Acceptance;
use fireflow_domain::analysis::{Analysis, Finding, Incomplete, RuleIndex, Severity, Task};
use serde_json::{Map, Value, json};

use super::sentences::{KINDS, detail};
use super::{Subject, counted};

/// The schema of the format.
const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// How many rules of a proof a result names.
const RELATED: usize = 20;

/// A log with the findings of one run, without those that are only searched on request: they are no
/// faults. `version` is that of the program.
#[must_use]
pub fn sarif<'f>(
    analysis: &Analysis,
    findings: impl IntoIterator<Item = &'f Finding>,
    subject: &Subject<'_>,
    version: &str,
) -> Value {
    let rules: Vec<Value> = KINDS
        .iter()
        .filter(|kind| !kind.kind.is_on_request())
        .map(|kind| {
            json!({
                "id": kind.kind.as_str(),
                "shortDescription": {"text": kind.title},
                "fullDescription": {"text": kind.meaning},
            })
        })
        .collect();
    let results: Vec<Value> = findings
        .into_iter()
        .filter(|finding| !finding.kind.is_on_request())
        .map(|finding| result(finding, subject))
        .collect();
    let notifications: Vec<Value> = analysis.incomplete.iter().map(notification).collect();
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "FireFlow", "version": version, "rules": rules}},
            "invocations": [{
                "executionSuccessful": analysis.is_complete(),
                "toolExecutionNotifications": notifications,
            }],
            "results": results,
        }],
    })
}

fn result(finding: &Finding, subject: &Subject<'_>) -> Value {
    let level = match finding.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    };
    let proof = finding.because.iter().map(|cover| cover.rule);
    let conflict = finding.conflicts_with.map(|conflict| conflict.rule);
    let mut named: Vec<RuleIndex> = conflict.into_iter().chain(proof).collect();
    let mut seen = std::collections::HashSet::new();
    named.retain(|rule| seen.insert(*rule));
    let related: Vec<Value> = named
        .into_iter()
        .take(RELATED)
        .zip(1_u32..)
        .map(|(rule, id)| {
            let mut location = location(rule, subject);
            location.insert("id".to_owned(), id.into());
            location.insert("message".to_owned(), json!({"text": subject.titled(rule)}));
            Value::Object(location)
        })
        .collect();
    // A viewer does not count a result that has suppressions.
    let accepted = |one: &Acceptance| json!({"kind": "external", "status": "accepted", "justification": one.spec.reason.as_str()});
    let suppressions: Vec<Value> = subject.acceptance(finding).map(accepted).into_iter().collect();
    json!({
        "ruleId": finding.kind.as_str(),
        "level": level,
        "message": {"text": detail(finding, subject)},
        "locations": [location(finding.rule, subject)],
        "relatedLocations": related,
        "suppressions": suppressions,
        "partialFingerprints": {
            "findingId/v1": finding.id.to_string(),
            "proof/v1": finding.proof.to_string(),
        },
    })
}

fn location(rule: RuleIndex, subject: &Subject<'_>) -> Map<String, Value> {
    let line = subject.line(rule);
    let uri = match subject.label(rule).and_then(|label| label.id) {
        // In the API, a rule has an address of its own.
        Some(id) if line.is_none() => format!("{}rules/{id}/", subject.source),
        _ => uri_of(subject.source),
    };
    let mut physical = json!({"artifactLocation": {"uri": uri}});
    if let (Some(line), Some(physical)) = (line, physical.as_object_mut()) {
        physical.insert("region".to_owned(), json!({"startLine": line}));
    }
    let mut full_name = subject.named(rule).to_string();
    if !subject.is_default(rule) {
        full_name.insert_str(0, "rule ");
    }
    let mut logical = json!({"fullyQualifiedName": full_name});
    if let Some(name) = subject.name(rule)
        && let Some(logical) = logical.as_object_mut()
    {
        logical.insert("name".to_owned(), name.into());
    }
    let members = [
        ("physicalLocation".to_owned(), physical),
        ("logicalLocations".to_owned(), json!([logical])),
    ];
    members.into_iter().collect()
}

/// A path as a relative reference (RFC 3986).
fn uri_of(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                uri.push(char::from(byte));
            }
            b'\\' => uri.push('/'),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

fn notification(incomplete: &Incomplete) -> Value {
    let rules = match incomplete.rules.len() {
        0 => String::new(),
        count => format!(" for {}", counted(count, "rule")),
    };
    let (what, why) = (incomplete.what.as_str(), incomplete.why.as_str());
    // A proof that may be longer than necessary takes nothing away from the findings.
    let level = if incomplete.what == Task::Minimal { "note" } else { "error" };
    json!({
        "level": level,
        "message": {"text": format!("Undecided{rules}: {what}. Limit reached: {why}.")},
    })
}
