use fireflow_domain::firewall::{Firewall, FirewallRef, FirewallSpec};
use fireflow_domain::ids::{FirewallId, Revision};
use fireflow_domain::text::{Description, Name, Tenant, fold};
use sea_orm::Set;

use super::{Row, labels_json, mark};
use crate::entity::firewall::{ActiveModel, Model};
use crate::error::Corrupt;

/// Converts a row to a firewall.
pub(crate) fn firewall(model: Model) -> Result<Firewall, Corrupt> {
    let row = Row { table: "firewall", id: model.id };
    Ok(Firewall {
        id: row.known("id", FirewallId::new(model.id))?,
        spec: FirewallSpec {
            name: row.read("name", Name::stored(&model.name))?,
            tenant: row.read("tenant", Tenant::stored(&model.tenant))?,
            description: row.read("description", Description::stored(&model.description))?,
            labels: row.labels(&model.labels)?,
        },
        policy_count: row.count("policy_count", model.policy_count)?,
        revision: Revision(model.revision),
        header_revision: Revision(model.header_revision),
        mark: mark(model.mark),
        created_at: row.instant("created_at", model.created_at)?,
        created_by: model.created_by,
        updated_at: row.instant("updated_at", model.updated_at)?,
        updated_by: model.updated_by,
        deleted: row.deleted(model.deleted_at, model.deleted_by)?,
    })
}

/// The reference that children show of their firewall, from the columns that were read with them.
pub(crate) fn firewall_reference(
    id: i64,
    name: &str,
    header_revision: i64,
) -> Result<FirewallRef, Corrupt> {
    let row = Row { table: "firewall", id };
    Ok(FirewallRef {
        id: row.known("id", FirewallId::new(id))?,
        name: row.read("name", Name::stored(name))?,
        header_revision: Revision(header_revision),
    })
}

/// The columns that a user writes.
pub(crate) fn firewall_content(spec: &FirewallSpec) -> ActiveModel {
    ActiveModel {
        name: Set(spec.name.as_str().to_owned()),
        name_folded: Set(fold(spec.name.as_str())),
        tenant: Set(spec.tenant.as_str().to_owned()),
        description: Set(spec.description.as_str().to_owned()),
        description_folded: Set(fold(spec.description.as_str())),
        labels: Set(labels_json(&spec.labels)),
        ..ActiveModel::default()
    }
}
