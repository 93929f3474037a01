//! Filtering policies in bodies.

use fireflow_domain::error::Violations;
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::policy::{PolicyPatch, PolicySpec};
use fireflow_domain::read_only::{POLICY, ReadOnlyMember};
use fireflow_domain::text::{Description, Name};
use serde_json::Value;

use crate::members::Members;
use crate::read_only::ReadOnly;
use crate::rule::action;

/// Reads a policy to be created.
pub fn new_policy(
    value: Value,
    read_only: ReadOnly,
    violations: &mut Violations,
) -> Option<PolicySpec> {
    let mut members = Members::open(value, "", violations)?;
    let name = members.text("name", Name::parse);
    let name = members.required("name", name);
    let default_action = members.text("default_action", action);
    let default_action = members.required("default_action", default_action);
    let description = members.text("description", Description::parse);
    let description = members.or("description", description, Description::default());
    let labels = members.labels();
    members.not_read_only(POLICY, read_only);
    members.finish();
    Some(PolicySpec { name: name?, description, labels, default_action: default_action? })
}

/// Reads a change of a policy.
pub fn policy_patch(
    value: Value,
    firewall: FirewallId,
    id: PolicyId,
    violations: &mut Violations,
) -> Option<PolicyPatch> {
    let mut members = Members::open(value, "", violations)?;
    let name = members.text("name", Name::parse);
    let name = members.patch("name", name);
    let default_action = members.text("default_action", action);
    let default_action = members.patch("default_action", default_action);
    let description = members.text("description", Description::parse);
    let description = description.patch_or(Description::default());
    let labels = members.labels_patch();
    members.same_id(id.get());
    members.same_parent(ReadOnlyMember::Firewall, firewall.get());
    let repeated = members.repeated(POLICY);
    members.finish();
    Some(PolicyPatch { name, description, labels, default_action, repeated })
}
