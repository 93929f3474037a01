//! Accepted findings in bodies and answers.

use fireflow_domain::acceptance::{Acceptance, AcceptanceSpec};
use fireflow_domain::analysis::{FindingId, Severity};
use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::text::{Reason, excerpt};
use fireflow_domain::time::Instant;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::members::Members;

/// The acceptance of a finding in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenAcceptance {
    /// Why, and for how long.
    pub spec: AcceptanceSpec,
    /// The proof that the client has seen, if it names one.
    pub proof: Option<FindingId>,
}

/// Reads the acceptance of a finding.
pub fn new_acceptance(
    value: Value,
    now: Instant,
    violations: &mut Violations,
) -> Option<GivenAcceptance> {
    let mut members = Members::open(value, "", violations)?;
    let reason = members.text("reason", Reason::parse);
    let reason = members.required("reason", reason);
    let until = members.text("until", |text| {
        let until = Instant::parse(text).map_err(|error| error.to_string())?;
        if until > now { Ok(until) } else { Err("must be in the future".to_owned()) }
    });
    let until = until.nullable();
    let proof = members.text("proof", finding_id).nullable();
    members.finish();
    Some(GivenAcceptance { spec: AcceptanceSpec { reason: reason?, until }, proof })
}

/// Reads the id of a finding, or of its proof.
fn finding_id(text: &str) -> Result<FindingId, String> {
    FindingId::parse(text).ok_or_else(|| {
        format!("must be 32 hexadecimal digits in lower case, not `{}`", excerpt(text))
    })
}

/// All accepted findings of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AcceptanceList")]
pub struct AcceptanceListView {
    /// The acceptances, in the order in which they were made.
    pub items: Vec<AcceptanceView>,
}

/// An accepted finding. It is reported again if its proof changes, if it becomes more severe, or at
/// `until`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Acceptance")]
pub struct AcceptanceView {
    /// Identifies the finding.
    pub finding_id: String,
    /// Its proof when it was accepted.
    pub proof: String,
    /// Its severity when it was accepted.
    pub severity: &'static str,
    /// Why it may stay.
    pub reason: String,
    /// When it is reported again; null: never by time alone.
    pub until: Option<String>,
    /// When it was accepted.
    pub accepted_at: String,
    /// The subject who accepted it.
    pub accepted_by: String,
}

impl From<&Acceptance> for AcceptanceView {
    fn from(acceptance: &Acceptance) -> Self {
        // No `..`: the compiler demands a decision here for each new member.
        let Acceptance { finding, proof, severity, spec, accepted_at, accepted_by } = acceptance;
        let AcceptanceSpec { reason, until } = spec;
        Self {
            finding_id: finding.to_string(),
            proof: proof.to_string(),
            severity: severity.as_str(),
            reason: reason.as_str().to_owned(),
            until: until.map(|until| until.to_string()),
            accepted_at: accepted_at.to_string(),
            accepted_by: accepted_by.clone(),
        }
    }
}

/// Reads accepted findings as answers have them: a list, or an object whose `items` are the list.
pub fn acceptances(
    value: Value,
    now: Instant,
    violations: &mut Violations,
) -> Option<Vec<Acceptance>> {
    let (items, at) = match value {
        Value::Object(mut members) => (members.remove("items").unwrap_or(Value::Null), "/items"),
        other => (other, ""),
    };
    let Value::Array(items) = items else {
        let detail = "must be a list of accepted findings, or an object whose `items` are the list";
        violations.push(Violation::body(at, detail));
        return None;
    };
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| acceptance(item, now, &format!("{at}/{index}"), violations))
        .collect()
}

fn acceptance(
    value: Value,
    now: Instant,
    at: &str,
    violations: &mut Violations,
) -> Option<Acceptance> {
    let mut members = Members::open(value, at, violations)?;
    let finding = members.text("finding_id", finding_id);
    let finding = members.required("finding_id", finding);
    let proof = members.text("proof", finding_id);
    let proof = members.required("proof", proof);
    let severity = members.text("severity", |word| {
        Severity::parse(word).ok_or_else(|| "must be error, warning or info".to_owned())
    });
    let severity = members.required("severity", severity);
    let reason = members.text("reason", Reason::parse);
    let reason = members.required("reason", reason);
    let until = members.text("until", Instant::parse).nullable();
    // A list that people keep themselves need not say when and by whom.
    let accepted_at = members.text("accepted_at", Instant::parse).nullable();
    let accepted_by = members.text("accepted_by", |by| Ok::<_, String>(by.to_owned())).nullable();
    members.finish();
    Some(Acceptance {
        finding: finding?,
        proof: proof?,
        severity: severity?,
        spec: AcceptanceSpec { reason: reason?, until },
        accepted_at: accepted_at.unwrap_or(now),
        accepted_by: accepted_by.unwrap_or_default(),
    })
}
