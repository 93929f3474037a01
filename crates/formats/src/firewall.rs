//! Firewalls in bodies.

use fireflow_domain::error::Violations;
use fireflow_domain::firewall::FirewallPatch;
use fireflow_domain::ids::FirewallId;
use fireflow_domain::read_only::FIREWALL;
use fireflow_domain::text::{Description, Name, Tenant};
use fireflow_domain::usecase::firewall::NewFirewall;
use serde_json::Value;

use crate::members::Members;
use crate::read_only::ReadOnly;

/// Reads a firewall to be created.
pub fn new_firewall(
    value: Value,
    read_only: ReadOnly,
    violations: &mut Violations,
) -> Option<NewFirewall> {
    let mut members = Members::open(value, "", violations)?;
    let name = members.text("name", Name::parse);
    let name = members.required("name", name);
    let tenant = members.text("tenant", Tenant::parse).map(Some);
    let tenant = members.or("tenant", tenant, None);
    let description = members.text("description", Description::parse);
    let description = members.or("description", description, Description::default());
    let labels = members.labels();
    members.not_read_only(FIREWALL, read_only);
    members.finish();
    Some(NewFirewall { name: name?, tenant, description, labels })
}

/// Reads a change of a firewall.
pub fn firewall_patch(
    value: Value,
    id: FirewallId,
    violations: &mut Violations,
) -> Option<FirewallPatch> {
    let mut members = Members::open(value, "", violations)?;
    let name = members.text("name", Name::parse);
    let name = members.patch("name", name);
    let tenant = members.text("tenant", Tenant::parse);
    let tenant = members.patch("tenant", tenant);
    let description = members.text("description", Description::parse);
    let description = description.patch_or(Description::default());
    let labels = members.labels_patch();
    members.same_id(id.get());
    let repeated = members.repeated(FIREWALL);
    members.finish();
    Some(FirewallPatch { name, tenant, description, labels, repeated })
}
