use fireflow_domain::acceptance::{Acceptance, AcceptanceSpec};
use fireflow_domain::analysis::{FindingId, Severity};
use fireflow_domain::ids::PolicyId;
use fireflow_domain::text::Reason;
use sea_orm::Set;

use super::Row;
use crate::entity::acceptance::{ActiveModel, Model};
use crate::error::Corrupt;

/// An accepted finding of a policy as a row.
pub(crate) fn acceptance_row(policy: PolicyId, acceptance: &Acceptance) -> ActiveModel {
    // No `..`: the compiler demands a decision here for each new member.
    let Acceptance { finding, proof, severity, spec, accepted_at, accepted_by } = acceptance;
    let AcceptanceSpec { reason, until } = spec;
    ActiveModel {
        policy_id: Set(policy.get()),
        finding: Set(finding.to_string()),
        proof: Set(proof.to_string()),
        severity: Set(severity.as_str().to_owned()),
        reason: Set(reason.as_str().to_owned()),
        until: Set(until.map(|until| until.micros())),
        accepted_at: Set(accepted_at.micros()),
        accepted_by: Set(accepted_by.clone()),
    }
}

/// A row as the domain's value.
pub(crate) fn acceptance(model: Model) -> Result<Acceptance, Corrupt> {
    let row = Row { table: "acceptance", id: model.policy_id };
    let reason = row.read("reason", Reason::stored(&model.reason))?;
    let until = row.optional_instant("until", model.until)?;
    Ok(Acceptance {
        finding: row.known("finding", FindingId::parse(&model.finding))?,
        proof: row.known("proof", FindingId::parse(&model.proof))?,
        severity: row.known("severity", Severity::parse(&model.severity))?,
        spec: AcceptanceSpec { reason, until },
        accepted_at: row.instant("accepted_at", model.accepted_at)?,
        accepted_by: model.accepted_by,
    })
}
