//! Children embedded in their parents. They are read together with them, and converted to views
//! afterwards, outside the threads that serve requests.

use std::collections::{HashMap, HashSet};

use fireflow_domain::error::Error;
use fireflow_domain::firewall::Firewall;
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::policy::{Policy, PolicyRef};
use fireflow_domain::rule::Rule;
use fireflow_domain::store::ReadUnit;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::expand;
use fireflow_domain::usecase::policy::LeftOutPolicies;

use super::view::{FirewallView, PolicyView, RuleView};

/// How deeply the children of firewalls are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Their policies.
    Policies,
    /// Their policies and the rules of these policies.
    Rules,
}

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

/// The rules of some policies, as read.
#[derive(Debug, Default)]
pub struct RulesOf {
    /// None if they are not embedded.
    rules: Option<Vec<Rule>>,
    /// The policies whose rules this version cannot read.
    newer: Vec<PolicyRef>,
}

impl RulesOf {
    /// Reads the rules of policies, if they are to be embedded.
    ///
    /// # Errors
    /// Returns `Error::TooLarge` if there are too many rules, or the error of the storage.
    pub async fn read(
        uow: &mut dyn ReadUnit,
        policies: &[Policy],
        expands: bool,
    ) -> Result<Self, Error> {
        if !expands {
            return Ok(Self::default());
        }
        let newer = expand::newer(&*uow, policies);
        Ok(Self { rules: Some(expand::rules(uow, policies).await?), newer })
    }

    /// The policies that the answer omits.
    #[must_use]
    pub fn left_out(&self) -> LeftOutPolicies {
        LeftOutPolicies::of(self.newer.clone())
    }

    /// The views of the policies, without those whose rules cannot be read. Costs O(rules).
    #[must_use]
    pub fn views(self, policies: &[Policy], now: Instant) -> Vec<PolicyView> {
        let Some(rules) = self.rules else {
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
        let newer: HashSet<PolicyId> = self.newer.iter().map(|policy| policy.id).collect();
        policies.iter().filter(|policy| !newer.contains(&policy.id)).map(view).collect()
    }
}

/// The policies of some firewalls, optionally with their rules, as read.
#[derive(Debug, Default)]
pub struct PoliciesOf(Option<(Vec<Policy>, RulesOf)>);

impl PoliciesOf {
    /// Reads the children to be embedded in firewalls.
    ///
    /// # Errors
    /// Returns `Error::TooLarge` if there are too many children, or the error of the storage.
    pub async fn read(
        uow: &mut dyn ReadUnit,
        firewalls: &[Firewall],
        depth: Option<Depth>,
    ) -> Result<Self, Error> {
        let Some(depth) = depth else { return Ok(Self(None)) };
        let ids: Vec<FirewallId> = firewalls.iter().map(|firewall| firewall.id).collect();
        let count = firewalls.iter().map(|firewall| firewall.policy_count).sum();
        let policies = expand::policies(uow, &ids, count).await?;
        let rules = RulesOf::read(uow, &policies, depth == Depth::Rules).await?;
        Ok(Self(Some((policies, rules))))
    }

    /// The policies that the answer omits.
    #[must_use]
    pub fn left_out(&self) -> LeftOutPolicies {
        self.0.as_ref().map_or_else(LeftOutPolicies::default, |(_, rules)| rules.left_out())
    }

    /// The views of the firewalls. Costs O(policies + rules).
    #[must_use]
    pub fn views(self, firewalls: &[Firewall], now: Instant) -> Vec<FirewallView> {
        let Some((policies, rules)) = self.0 else {
            return firewalls.iter().map(FirewallView::from).collect();
        };
        let mut of: HashMap<i64, Vec<PolicyView>> = HashMap::new();
        for view in rules.views(&policies, now) {
            of.entry(view.firewall.id).or_default().push(view);
        }
        let view = |firewall: &Firewall| {
            let policies = of.remove(&firewall.id.get()).unwrap_or_default();
            FirewallView { filtering_policies: Some(policies), ..FirewallView::from(firewall) }
        };
        firewalls.iter().map(view).collect()
    }
}
