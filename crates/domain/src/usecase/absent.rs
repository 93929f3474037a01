//! Why a rule that a request names is not among the rules of its policy: it is in another policy, it
//! is deleted, or there is no such rule.

use std::collections::HashMap;

use crate::actor::Caller;
use crate::error::{MAX_VIOLATIONS, Result};
use crate::ids::{PolicyId, RuleId};
use crate::store::WriteUnit;

/// Rules that are not in a policy.
#[derive(Debug, Default)]
pub(super) struct AbsentRules {
    /// The rules that exist in other policies, as far as the caller may see these.
    elsewhere: HashMap<RuleId, PolicyId>,
    /// The deleted rules of the policy.
    deleted: Vec<RuleId>,
}

impl AbsentRules {
    /// Looks for rules that a policy does not have. Costs one statement if there are any, and otherwise
    /// none.
    pub(super) async fn find(
        uow: &mut dyn WriteUnit,
        caller: &Caller,
        policy: PolicyId,
        absent: impl IntoIterator<Item = RuleId>,
    ) -> Result<Self> {
        // An answer does not show more.
        let absent: Vec<RuleId> = absent.into_iter().take(MAX_VIOLATIONS).collect();
        let mut rules = Self::default();
        if absent.is_empty() {
            return Ok(rules);
        }
        for (rule, its_policy) in uow.rules().policies_of(&caller.actor.visibility, &absent).await?
        {
            if its_policy == policy {
                rules.deleted.push(rule);
            } else {
                rules.elsewhere.insert(rule, its_policy);
            }
        }
        Ok(rules)
    }

    /// Why a rule is not in the policy, in words.
    pub(super) fn reason(&self, rule: RuleId) -> String {
        if let Some(policy) = self.elsewhere.get(&rule) {
            format!("the rule with id={rule} is in another policy, with id={policy}")
        } else if self.deleted.contains(&rule) {
            format!("the rule with id={rule} is deleted")
        } else {
            format!("there is no rule with id={rule}")
        }
    }
}
