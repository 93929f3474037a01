//! Children embedded in their parents.

use std::collections::HashMap;

use fireflow_domain::error::Error;
use fireflow_domain::firewall::Firewall;
use fireflow_domain::ids::FirewallId;
use fireflow_domain::policy::Policy;
use fireflow_domain::store::ReadUnit;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::expand;

use super::view::{FirewallView, PolicyView, RuleView};

/// How far the children of firewalls are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Their policies.
    Policies,
    /// Their policies and these's rules.
    Rules,
}

/// How many rows an answer is counted as before it is known what is embedded in it: there can be
/// 10,000 rules, and mostly are far fewer.
#[must_use]
pub const fn rows(size: u32, expands: bool) -> u32 {
    if expands { size.saturating_add(2_000) } else { size }
}

/// How many rows an answer counts as when it is written: with something embedded, many.
#[must_use]
pub fn weight(size: u32, expands: bool) -> usize {
    if expands { usize::MAX } else { usize::try_from(size).unwrap_or(usize::MAX) }
}

/// Policies with their rules.
///
/// # Errors
/// Where there are too many, or the storage fails.
pub async fn policies(
    uow: &mut dyn ReadUnit,
    policies: &[Policy],
    now: Instant,
) -> Result<Vec<PolicyView>, Error> {
    let mut of: HashMap<i64, Vec<RuleView>> = HashMap::new();
    for rule in expand::rules(uow, policies).await? {
        of.entry(rule.policy.id.get()).or_default().push(RuleView::at(&rule, now));
    }
    let view = |policy: &Policy| {
        let rules = of.remove(&policy.id.get()).unwrap_or_default();
        PolicyView { rules: Some(rules), ..PolicyView::from(policy) }
    };
    Ok(policies.iter().map(view).collect())
}

/// Firewalls with their policies, and perhaps these with their rules.
///
/// # Errors
/// Where there are too many, or the storage fails.
pub async fn firewalls(
    uow: &mut dyn ReadUnit,
    firewalls: &[Firewall],
    depth: Depth,
    now: Instant,
) -> Result<Vec<FirewallView>, Error> {
    let ids: Vec<FirewallId> = firewalls.iter().map(|firewall| firewall.id).collect();
    let count = firewalls.iter().map(|firewall| firewall.policy_count).sum();
    let found = expand::policies(uow, &ids, count).await?;
    let views = match depth {
        Depth::Policies => found.iter().map(PolicyView::from).collect(),
        Depth::Rules => policies(uow, &found, now).await?,
    };
    let mut of: HashMap<i64, Vec<PolicyView>> = HashMap::new();
    for view in views {
        of.entry(view.firewall.id).or_default().push(view);
    }
    let view = |firewall: &Firewall| {
        let policies = of.remove(&firewall.id.get()).unwrap_or_default();
        FirewallView { filtering_policies: Some(policies), ..FirewallView::from(firewall) }
    };
    Ok(firewalls.iter().map(view).collect())
}
