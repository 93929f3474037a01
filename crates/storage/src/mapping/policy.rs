use fireflow_domain::audit_chain::{EventHash, Head};
use fireflow_domain::features::Features;
use fireflow_domain::ids::{PolicyId, Revision};
use fireflow_domain::policy::{Policy, PolicySpec, States};
use fireflow_domain::rule::Action;
use fireflow_domain::text::{Description, Name, fold};
use sea_orm::Set;

use super::{Row, firewall_reference, labels_json};
use crate::entity::policy::{ActiveModel, WithParent};
use crate::error::Corrupt;

/// Converts a row to a policy.
pub(crate) fn policy(found: WithParent) -> Result<Policy, Corrupt> {
    let model = found.policy;
    let row = Row { table: "policy", id: model.id };
    Ok(Policy {
        id: row.known("id", PolicyId::new(model.id))?,
        firewall: firewall_reference(
            model.firewall_id,
            &found.firewall_name,
            found.firewall_header_revision,
        )?,
        spec: PolicySpec {
            name: row.read("name", Name::stored(&model.name))?,
            description: row.read("description", Description::stored(&model.description))?,
            labels: row.labels(&model.labels)?,
            default_action: row.known("default_action", Action::parse(&model.default_action))?,
        },
        rule_count: row.count("rule_count", model.rule_count)?,
        entry_count: row.count("entry_count", model.entry_count)?,
        features: Features::from_bits(model.features.cast_unsigned()),
        revision: Revision(model.revision),
        header_revision: Revision(model.header_revision),
        states: States::new(model.states),
        audit_head: head(model.audit_sequence, model.audit_hash.as_deref()),
        created_at: row.instant("created_at", model.created_at)?,
        created_by: model.created_by,
        updated_at: row.instant("updated_at", model.updated_at)?,
        updated_by: model.updated_by,
        deleted: row.deleted(model.deleted_at, model.deleted_by)?,
    })
}

/// The head of a policy's audit chain; none before the first event. A head that cannot be read is
/// none as well: only writers need it, and they refuse it.
fn head(sequence: i64, hash: Option<&[u8]>) -> Option<Head> {
    Some(Head { sequence, hash: EventHash::from_bytes(hash?)? })
}

/// The columns that a user writes.
pub(crate) fn policy_content(spec: &PolicySpec) -> ActiveModel {
    ActiveModel {
        name: Set(spec.name.as_str().to_owned()),
        name_folded: Set(fold(spec.name.as_str())),
        description: Set(spec.description.as_str().to_owned()),
        description_folded: Set(fold(spec.description.as_str())),
        labels: Set(labels_json(&spec.labels)),
        default_action: Set(spec.default_action.as_str().to_owned()),
        ..ActiveModel::default()
    }
}
