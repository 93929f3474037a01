//! The policies that lists across policies leave out.

use fireflow_domain::policy::PolicyRef;
use fireflow_domain::usecase::policy::LeftOutPolicies;
use schemars::JsonSchema;
use serde::Serialize;

use super::resources::FirewallReferenceView;

/// The code of the problem that a request for such a policy itself gets.
pub const NEWER_POLICY: &str = "newer_policy";

/// The policies that a response leaves out, because a newer version wrote rules in them that this
/// version cannot read.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LeftOut")]
pub struct LeftOutView {
    /// The reason: `newer_policy`, the problem code of a request for the policy itself.
    pub code: String,
    /// The first of these policies, by id.
    pub filtering_policies: Vec<LeftOutPolicyView>,
    /// Whether there are more policies than this list names.
    pub has_more: bool,
}

/// A policy that is left out.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LeftOutPolicy")]
pub struct LeftOutPolicyView {
    /// Identifies the policy.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its firewall.
    pub firewall: FirewallReferenceView,
}

impl From<&PolicyRef> for LeftOutPolicyView {
    fn from(policy: &PolicyRef) -> Self {
        Self {
            id: policy.id.get(),
            name: policy.name.to_string(),
            firewall: (&policy.firewall).into(),
        }
    }
}

/// The forms in which answers show the policies that are left out.
pub trait ShowLeftOut {
    /// As a member of a body; none if nothing is left out.
    fn view(&self) -> Option<LeftOutView>;
    /// As a header, for formats without such a member; none if nothing is left out.
    fn header(&self) -> Option<String>;
}

impl ShowLeftOut for LeftOutPolicies {
    fn view(&self) -> Option<LeftOutView> {
        let Self { policies, has_more } = self;
        (!policies.is_empty()).then(|| LeftOutView {
            code: NEWER_POLICY.to_owned(),
            filtering_policies: policies.iter().map(Into::into).collect(),
            has_more: *has_more,
        })
    }

    fn header(&self) -> Option<String> {
        let Self { policies, has_more } = self;
        let mut ids: Vec<String> = policies.iter().map(|policy| policy.id.to_string()).collect();
        if *has_more {
            ids.push("...".to_owned());
        }
        (!ids.is_empty()).then(|| ids.join(", "))
    }
}
