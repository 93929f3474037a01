//! Firewalls and policies as JSON.

use std::collections::BTreeMap;

use fireflow_domain::firewall::{Firewall, FirewallRef};
use fireflow_domain::policy::{Policy, PolicyRef};
use schemars::JsonSchema;
use serde::Serialize;

use super::left_out::LeftOutView;
use super::rule::RuleView;

with_members! {
    /// A firewall: a group of filtering policies.
    #[derive(Debug, Serialize, JsonSchema)]
    #[schemars(rename = "Firewall")]
    pub struct FirewallView {
        /// Identifies the firewall.
        pub id: i64,
        /// Unique among the live firewalls of a tenant.
        pub name: String,
        /// The tenant that owns it; empty: none.
        pub tenant: String,
        /// Free text.
        pub description: String,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// How many live policies it has.
        pub policy_count: u64,
        /// Its policies; with `expand=filtering_policies`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub filtering_policies: Option<Vec<PolicyView>>,
        /// The policies that are missing from `filtering_policies`, if there are any; with
        /// `expand=filtering_policies.rules` on a single firewall.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub left_out: Option<LeftOutView>,
        /// Increases when its own fields change, and when policies are added or removed.
        pub revision: i64,
        /// When it was created: RFC 3339, UTC, microseconds.
        pub created_at: String,
        /// Who created it.
        pub created_by: String,
        /// When its own fields were last changed.
        pub updated_at: String,
        /// Who last changed them.
        pub updated_by: String,
        /// When it was deleted; in lists with `deleted=true`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub deleted_at: Option<String>,
        /// Who deleted it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub deleted_by: Option<String>,
    }
}

impl From<&Firewall> for FirewallView {
    fn from(firewall: &Firewall) -> Self {
        Self {
            id: firewall.id.get(),
            name: firewall.spec.name.to_string(),
            tenant: firewall.spec.tenant.to_string(),
            description: firewall.spec.description.to_string(),
            labels: firewall.spec.labels.as_map().clone(),
            policy_count: firewall.policy_count,
            filtering_policies: None,
            left_out: None,
            revision: firewall.revision.0,
            created_at: firewall.created_at.to_string(),
            created_by: firewall.created_by.clone(),
            updated_at: firewall.updated_at.to_string(),
            updated_by: firewall.updated_by.clone(),
            deleted_at: firewall.deleted.as_ref().map(|stamp| stamp.at.to_string()),
            deleted_by: firewall.deleted.as_ref().map(|stamp| stamp.by.clone()),
        }
    }
}

/// A firewall as embedded in its policies and rules.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "FirewallReference")]
pub struct FirewallReferenceView {
    /// Identifies the firewall.
    pub id: i64,
    /// Its name.
    pub name: String,
}

impl From<&FirewallRef> for FirewallReferenceView {
    fn from(firewall: &FirewallRef) -> Self {
        Self { id: firewall.id.get(), name: firewall.name.to_string() }
    }
}

with_members! {
    /// A filtering policy: an ordered list of rules with a default action.
    #[derive(Debug, Serialize, JsonSchema)]
    #[schemars(rename = "FilteringPolicy")]
    pub struct PolicyView {
        /// Identifies the policy.
        pub id: i64,
        /// Its firewall.
        pub firewall: FirewallReferenceView,
        /// Unique among the live policies of its firewall.
        pub name: String,
        /// Free text.
        pub description: String,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// What is done with packets that no rule matches.
        pub default_action: String,
        /// How many live rules it has.
        pub rule_count: u64,
        /// Its rules in order of evaluation; with `expand=rules`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub rules: Option<Vec<RuleView>>,
        /// Increases with each change of the policy or of any of its rules.
        pub revision: i64,
        /// When it was created: RFC 3339, UTC, microseconds.
        pub created_at: String,
        /// Who created it.
        pub created_by: String,
        /// When its own fields were last changed.
        pub updated_at: String,
        /// Who last changed them.
        pub updated_by: String,
        /// When it was deleted; in lists with `deleted=true`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub deleted_at: Option<String>,
        /// Who deleted it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub deleted_by: Option<String>,
    }
}

impl From<&Policy> for PolicyView {
    fn from(policy: &Policy) -> Self {
        Self {
            id: policy.id.get(),
            firewall: (&policy.firewall).into(),
            name: policy.spec.name.to_string(),
            description: policy.spec.description.to_string(),
            labels: policy.spec.labels.as_map().clone(),
            default_action: policy.spec.default_action.to_string(),
            rule_count: policy.rule_count,
            rules: None,
            revision: policy.revision.0,
            created_at: policy.created_at.to_string(),
            created_by: policy.created_by.clone(),
            updated_at: policy.updated_at.to_string(),
            updated_by: policy.updated_by.clone(),
            deleted_at: policy.deleted.as_ref().map(|stamp| stamp.at.to_string()),
            deleted_by: policy.deleted.as_ref().map(|stamp| stamp.by.clone()),
        }
    }
}

/// A policy as embedded in its rules.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "FilteringPolicyReference")]
pub struct PolicyReferenceView {
    /// Identifies the policy.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What is done with packets that no rule matches.
    pub default_action: String,
    /// Its firewall.
    pub firewall: FirewallReferenceView,
}

impl From<&Policy> for PolicyReferenceView {
    fn from(policy: &Policy) -> Self {
        Self::from(&policy.reference())
    }
}

impl From<&PolicyRef> for PolicyReferenceView {
    fn from(policy: &PolicyRef) -> Self {
        Self {
            id: policy.id.get(),
            name: policy.name.to_string(),
            default_action: policy.default_action.to_string(),
            firewall: (&policy.firewall).into(),
        }
    }
}
