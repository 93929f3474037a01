//! Bodies of filtering policies.

use std::collections::BTreeMap;

use fireflow_domain::error::Violations;
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::policy::{PolicyPatch, PolicySpec};
use fireflow_domain::read_only::{POLICY, ReadOnlyMember};
use fireflow_domain::rule::Action;
use fireflow_domain::text::{Description, Name};
use fireflow_formats::members::Members;
use fireflow_formats::read_only::ReadOnly;
use fireflow_formats::rule::action;
use poem_openapi::Object;
use serde_json::Value;

use super::rule::ActionWord;

/// A filtering policy to create.
#[derive(Debug, Object)]
#[oai(rename = "NewFilteringPolicy", example, skip_serializing_if_is_none)]
pub struct PolicyBody {
    /// Unique among the live policies of its firewall; trimmed, 1 to 255 characters.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: String,
    /// What is done with packets that no rule matches.
    pub default_action: ActionWord,
    /// Free text.
    #[oai(validator(max_length = 4096))]
    pub description: Option<String>,
    /// Labels: keys of a-z, 0-9, `.`, `_`, `/`, `-`.
    #[oai(validator(max_properties = 64))]
    pub labels: Option<BTreeMap<String, String>>,
}

impl poem_openapi::types::Example for PolicyBody {
    fn example() -> Self {
        Self {
            name: "inbound".into(),
            default_action: ActionWord::Deny,
            description: None,
            labels: None,
        }
    }
}

/// A change of a filtering policy (RFC 7396): omitted members keep their values; null removes a
/// label.
#[derive(Debug, Object)]
#[oai(rename = "FilteringPolicyPatch", example, skip_serializing_if_is_none)]
pub struct PolicyPatchBody {
    /// Unique among the live policies of its firewall; trimmed, 1 to 255 characters.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
    /// What is done with packets that no rule matches.
    pub default_action: Option<ActionWord>,
    /// Free text.
    #[oai(validator(max_length = 4096))]
    pub description: Option<String>,
    /// Labels: keys of a-z, 0-9, `.`, `_`, `/`, `-`.
    pub labels: Option<BTreeMap<String, Option<String>>>,
}

impl poem_openapi::types::Example for PolicyPatchBody {
    fn example() -> Self {
        Self {
            name: None,
            default_action: None,
            description: None,
            // If a reader sends the example unchanged, it only adds a label.
            labels: Some([("reviewed".to_owned(), Some("2026-11".to_owned()))].into()),
        }
    }
}

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
    let default_action: Option<Action> = members.required("default_action", default_action);
    let description = members.text("description", Description::parse);
    let description = members.or("description", description, Description::default());
    let labels = members.labels();
    members.not_read_only(&POLICY, read_only);
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
    let repeated = members.repeated(&POLICY);
    members.finish();
    Some(PolicyPatch { name, description, labels, default_action, repeated })
}
