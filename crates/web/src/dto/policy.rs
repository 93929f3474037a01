//! Bodies of filtering policies.

use std::collections::BTreeMap;

use fireflow_domain::error::Violations;
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::policy::{PolicyPatch, PolicySpec};
use fireflow_domain::rule::Action;
use fireflow_domain::text::{Description, Name};
use poem_openapi::Object;
use serde_json::Value;

use super::read::Members;
use super::rule::{ActionWord, action};

const READ_ONLY: &[&str] = &[
    "rule_count",
    "rules",
    "revision",
    "created_at",
    "created_by",
    "updated_at",
    "updated_by",
    "deleted_at",
    "deleted_by",
];

/// A filtering policy to be created.
#[derive(Debug, Object)]
#[oai(rename = "NewFilteringPolicy", example, skip_serializing_if_is_none)]
pub struct PolicyBody {
    /// Unique among the live policies of its firewall; trimmed, 1 to 255 characters.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: String,
    /// What becomes of packets that no rule matches.
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

/// A change of a filtering policy (RFC 7396): what is left out stays; a label set to null goes.
#[derive(Debug, Object)]
#[oai(rename = "FilteringPolicyPatch", example, skip_serializing_if_is_none)]
pub struct PolicyPatchBody {
    /// Unique among the live policies of its firewall; trimmed, 1 to 255 characters.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
    /// What becomes of packets that no rule matches.
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
            default_action: Some(ActionWord::Reject),
            description: None,
            labels: None,
        }
    }
}

/// Reads a policy to be created.
pub fn new_policy(
    value: Value,
    firewall: FirewallId,
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
    members.same_id("id", None);
    members.same_parent("firewall", firewall.get());
    members.read_only(READ_ONLY);
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
    let description = members.patch("description", description);
    let labels = members.labels_patch();
    members.same_id("id", Some(id.get()));
    members.same_parent("firewall", firewall.get());
    members.read_only(READ_ONLY);
    members.finish();
    Some(PolicyPatch { name, description, labels, default_action })
}
