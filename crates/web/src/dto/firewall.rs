//! Bodies of firewalls.

use std::collections::BTreeMap;

use fireflow_domain::error::Violations;
use fireflow_domain::firewall::FirewallPatch;
use fireflow_domain::ids::FirewallId;
use fireflow_domain::text::{Description, Name, Tenant};
use fireflow_domain::usecase::firewall::NewFirewall;
use poem_openapi::Object;
use serde_json::Value;

use super::read::Members;

const READ_ONLY: &[&str] = &[
    "policy_count",
    "filtering_policies",
    "revision",
    "created_at",
    "created_by",
    "updated_at",
    "updated_by",
    "deleted_at",
    "deleted_by",
];

/// A firewall to be created. Read-only members of an answer are taken and ignored.
#[derive(Debug, Object)]
#[oai(rename = "NewFirewall", example, skip_serializing_if_is_none)]
pub struct FirewallBody {
    /// Unique among the live firewalls of a tenant; trimmed, 1 to 255 characters.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: String,
    /// Whose it is; for admins, others only name a tenant of their token.
    #[oai(validator(max_length = 63))]
    pub tenant: Option<String>,
    /// Free text.
    #[oai(validator(max_length = 4096))]
    pub description: Option<String>,
    /// Labels: keys of a-z, 0-9, `.`, `_`, `/`, `-`.
    #[oai(validator(max_properties = 64))]
    pub labels: Option<BTreeMap<String, String>>,
}

impl poem_openapi::types::Example for FirewallBody {
    fn example() -> Self {
        Self {
            name: "edge-fra".into(),
            tenant: None,
            description: Some("Border of the Frankfurt site".into()),
            labels: Some([("site".to_owned(), "fra".to_owned())].into()),
        }
    }
}

/// A change of a firewall (RFC 7396): what is left out stays; a label set to null goes.
#[derive(Debug, Object)]
#[oai(rename = "FirewallPatch", example, skip_serializing_if_is_none)]
pub struct FirewallPatchBody {
    /// Unique among the live firewalls of a tenant; trimmed, 1 to 255 characters.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
    /// Whose it is; for admins.
    #[oai(validator(max_length = 63))]
    pub tenant: Option<String>,
    /// Free text.
    #[oai(validator(max_length = 4096))]
    pub description: Option<String>,
    /// Labels: keys of a-z, 0-9, `.`, `_`, `/`, `-`.
    pub labels: Option<BTreeMap<String, Option<String>>>,
}

impl poem_openapi::types::Example for FirewallPatchBody {
    fn example() -> Self {
        Self {
            name: None,
            tenant: None,
            description: Some("Border of the Frankfurt site, both uplinks".into()),
            labels: None,
        }
    }
}

/// Reads a firewall to be created.
pub fn new_firewall(value: Value, violations: &mut Violations) -> Option<NewFirewall> {
    let mut members = Members::open(value, "", violations)?;
    let name = members.text("name", Name::parse);
    let name = members.required("name", name);
    let tenant = members.text("tenant", Tenant::parse).map(Some);
    let tenant = members.or("tenant", tenant, None);
    let description = members.text("description", Description::parse);
    let description = members.or("description", description, Description::default());
    let labels = members.labels();
    members.same_id("id", None);
    members.read_only(READ_ONLY);
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
    let description = members.patch("description", description);
    let labels = members.labels_patch();
    members.same_id("id", Some(id.get()));
    members.read_only(READ_ONLY);
    members.finish();
    Some(FirewallPatch { name, tenant, description, labels })
}
