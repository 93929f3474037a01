//! Children embedded in their parents: one statement for each level. Limits are checked first, by
//! the counters and, if there are many rules, by one more statement.

use crate::error::{Error, Result};
use crate::firewall::Firewall;
use crate::ids::{FirewallId, PolicyId};
use crate::policy::{Policy, PolicyRef};
use crate::rule::Rule;
use crate::store::ReadUnit;
use crate::usecase::policy::{LeftOutPolicies, require_known};
use crate::usecase::rule::{MAX_ANSWERED_ENTRIES, MAX_ANSWERED_TEXT};

/// The most policies of an expansion.
pub const MAX_POLICIES: u64 = 10_000;
/// The most rules of an expansion.
pub const MAX_RULES: u64 = 10_000;

/// Up to this number of rules, the amount of their text is not checked first: it is no more than
/// that of a page.
const FEW_RULES: u64 = 1_000;

const HINT: &str = "use a smaller page_size, or the lists of the children, which have pages";

fn check(what: &'static str, count: u64, limit: u64) -> Result<()> {
    if count > limit { Err(Error::TooLarge { what, limit, hint: HINT.into() }) } else { Ok(()) }
}

/// How deeply the children of firewalls are embedded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Their policies.
    Policies,
    /// Their policies and the rules of these policies.
    Rules,
}

/// The rules to be embedded in some policies.
#[derive(Debug, Default)]
pub struct EmbeddedRules {
    /// By policy and in order of evaluation; none if they are not embedded.
    pub rules: Option<Vec<Rule>>,
    /// The policies whose rules this version cannot read. They are left out of the answer.
    pub newer: Vec<PolicyRef>,
}

impl EmbeddedRules {
    /// Reads the rules of policies, if they are to be embedded.
    ///
    /// # Errors
    /// Returns [`Error::TooLarge`] if there are too many rules or they are too large, or the error
    /// of the storage.
    pub async fn read(uow: &mut dyn ReadUnit, policies: &[Policy], expands: bool) -> Result<Self> {
        if !expands {
            return Ok(Self::default());
        }
        let newer = newer(&*uow, policies);
        Ok(Self { rules: Some(rules(uow, policies).await?), newer })
    }

    /// The policies that the answer leaves out.
    #[must_use]
    pub fn left_out(&self) -> LeftOutPolicies {
        LeftOutPolicies::of(self.newer.clone())
    }
}

/// The policies to be embedded in some firewalls, by firewall and id, with their rules; none if
/// they are not embedded.
#[derive(Debug, Default)]
pub struct EmbeddedPolicies(pub Option<(Vec<Policy>, EmbeddedRules)>);

impl EmbeddedPolicies {
    /// Reads the children to be embedded in firewalls.
    ///
    /// # Errors
    /// Returns [`Error::TooLarge`] if there are too many children, or the error of the storage.
    pub async fn read(
        uow: &mut dyn ReadUnit,
        firewalls: &[Firewall],
        depth: Option<Depth>,
    ) -> Result<Self> {
        let Some(depth) = depth else { return Ok(Self(None)) };
        let ids: Vec<FirewallId> = firewalls.iter().map(|firewall| firewall.id).collect();
        let count = firewalls.iter().map(|firewall| firewall.policy_count).sum();
        let policies = policies(uow, &ids, count).await?;
        let rules = EmbeddedRules::read(uow, &policies, depth == Depth::Rules).await?;
        Ok(Self(Some((policies, rules))))
    }

    /// The policies that the answer leaves out.
    #[must_use]
    pub fn left_out(&self) -> LeftOutPolicies {
        self.0.as_ref().map_or_else(LeftOutPolicies::default, |(_, rules)| rules.left_out())
    }
}

/// The policies of firewalls, by firewall and id; `count` is the sum of the firewalls' counters.
///
/// # Errors
/// Returns [`Error::TooLarge`] if there are too many.
async fn policies(
    uow: &mut dyn ReadUnit,
    firewalls: &[FirewallId],
    count: u64,
) -> Result<Vec<Policy>> {
    check("the number of filtering policies of an expansion", count, MAX_POLICIES)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    Ok(uow.policies().of_firewalls(firewalls).await?)
}

/// The policies whose rules this version cannot read: an expansion leaves them out.
fn newer(uow: &dyn ReadUnit, policies: &[Policy]) -> Vec<PolicyRef> {
    let newer = policies.iter().filter(|policy| require_known(uow, policy).is_err());
    newer.map(Policy::reference).collect()
}

/// The rules of policies, by policy and in order of evaluation; without those of [`newer`]
/// policies.
///
/// # Errors
/// Returns [`Error::TooLarge`] if there are too many, or they are too large.
async fn rules(uow: &mut dyn ReadUnit, policies: &[Policy]) -> Result<Vec<Rule>> {
    let policies: Vec<&Policy> =
        policies.iter().filter(|policy| require_known(&*uow, policy).is_ok()).collect();
    let rules = policies.iter().map(|policy| policy.rule_count).sum();
    let entries = policies.iter().map(|policy| policy.entry_count).sum();
    check("the number of rules of an expansion", rules, MAX_RULES)?;
    check(
        "the number of source, destination and port entries of an expansion",
        entries,
        MAX_ANSWERED_ENTRIES,
    )?;
    let ids: Vec<PolicyId> =
        policies.iter().filter(|policy| policy.rule_count > 0).map(|policy| policy.id).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    if rules > FEW_RULES {
        let text = uow.rules().text_of_policies(&ids).await?;
        let what = "the number of characters in descriptions and labels of an expansion";
        check(what, text, MAX_ANSWERED_TEXT)?;
    }
    Ok(uow.rules().of_policies(&ids).await?)
}
