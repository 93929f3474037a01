//! Children embedded in their parents. They are read together with them, and converted to views
//! afterwards, outside the threads that serve requests.

use std::collections::{HashMap, HashSet};

use fireflow_domain::firewall::Firewall;
use fireflow_domain::ids::PolicyId;
use fireflow_domain::policy::Policy;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::expand::{EmbeddedPolicies, EmbeddedRules};

use super::resources::{FirewallView, PolicyView};
use super::rule::RuleView;

/// How many rows an answer counts as before its embedded children are known. There can be 10,000
/// rules, but usually there are far fewer.
#[must_use]
pub const fn rows(size: u32, expands: bool) -> u32 {
    if expands { size.saturating_add(2_000) } else { size }
}

/// How many rows an answer counts as when it is written. An answer with embedded children always
/// counts as one with many rows.
#[must_use]
pub fn weight(size: u32, expands: bool) -> usize {
    if expands { usize::MAX } else { usize::try_from(size).unwrap_or(usize::MAX) }
}

/// The views of policies, without those whose rules cannot be read. Costs O(rules).
#[must_use]
pub fn policy_views(
    policies: &[Policy],
    EmbeddedRules { rules, newer }: EmbeddedRules,
    now: Instant,
) -> Vec<PolicyView> {
    let Some(rules) = rules else {
        return policies.iter().map(PolicyView::from).collect();
    };
    let mut of: HashMap<i64, Vec<RuleView>> = HashMap::new();
    for rule in rules {
        of.entry(rule.policy.id.get()).or_default().push(RuleView::at(&rule, now));
    }
    let view = |policy: &Policy| {
        let rules = of.remove(&policy.id.get()).unwrap_or_default();
        PolicyView { rules: Some(rules), ..PolicyView::from(policy) }
    };
    let newer: HashSet<PolicyId> = newer.iter().map(|policy| policy.id).collect();
    policies.iter().filter(|policy| !newer.contains(&policy.id)).map(view).collect()
}

/// The views of firewalls. Costs O(policies + rules).
#[must_use]
pub fn firewall_views(
    firewalls: &[Firewall],
    EmbeddedPolicies(policies): EmbeddedPolicies,
    now: Instant,
) -> Vec<FirewallView> {
    let Some((policies, rules)) = policies else {
        return firewalls.iter().map(FirewallView::from).collect();
    };
    let mut of: HashMap<i64, Vec<PolicyView>> = HashMap::new();
    for view in policy_views(&policies, rules, now) {
        of.entry(view.firewall.id).or_default().push(view);
    }
    let view = |firewall: &Firewall| {
        let policies = of.remove(&firewall.id.get()).unwrap_or_default();
        FirewallView { filtering_policies: Some(policies), ..FirewallView::from(firewall) }
    };
    firewalls.iter().map(view).collect()
}
