//! A whole list of rules, read in steps. The cost of a step does not depend on its place in the
//! list.

use super::policy;
use crate::actor::{Caller, Role};
use crate::error::Result;
use crate::ids::{FirewallId, PolicyId};
use crate::policy::Policy;
use crate::rule::Rule;
use crate::rule::order::RulePlace;
use crate::store::{ReadUnit, RuleFilter, Turns};

/// The most rules of a step.
pub const STEP: u32 = 500;

/// A list that is read step by step in one unit of work, so that it shows one state.
#[derive(Debug)]
pub struct Export {
    parent: Option<(FirewallId, PolicyId)>,
    filter: RuleFilter,
    after: Option<RulePlace>,
    is_at_end: bool,
}

impl Export {
    /// Starts a list of the rules of a policy in order of evaluation, and reads the policy. Costs
    /// one statement.
    ///
    /// # Errors
    /// Returns an error if the caller lacks the role, the policy does not exist, or this version
    /// cannot read its rules.
    pub async fn of_policy(
        uow: &mut dyn ReadUnit,
        caller: &Caller,
        parent: (FirewallId, PolicyId),
        filter: RuleFilter,
    ) -> Result<(Policy, Self)> {
        let policy = policy::get_known(uow, caller, parent.0, parent.1).await?;
        Ok((policy, Self { parent: Some(parent), filter, after: None, is_at_end: false }))
    }

    /// When rules of the policy last started or expired. These instants and the policy's state
    /// determine all that the list shows. Costs one statement.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn last_turns(
        uow: &mut dyn ReadUnit,
        caller: &Caller,
        policy: &Policy,
    ) -> Result<Turns> {
        Ok(uow.rules().last_turns(policy.id, caller.now).await?)
    }

    /// Starts a list of the rules of all policies, by id. Costs no statement.
    ///
    /// # Errors
    /// Returns an error if the caller lacks the role.
    pub fn of_all(caller: &Caller, filter: RuleFilter) -> Result<Self> {
        caller.require(Role::Viewer)?;
        Ok(Self { parent: None, filter, after: None, is_at_end: false })
    }

    /// The next rules, at most `most` and at most [`STEP`]; none at the end. Costs one statement.
    ///
    /// # Errors
    /// Returns the store's error.
    pub async fn next(
        &mut self,
        uow: &mut dyn ReadUnit,
        caller: &Caller,
        most: u32,
    ) -> Result<Vec<Rule>> {
        let most = most.clamp(1, STEP);
        if self.is_at_end {
            return Ok(Vec::new());
        }
        let who = &caller.actor.visibility;
        let rules = uow.rules().following(who, self.parent, &self.filter, self.after, most).await?;
        // A step that is not full is the last one.
        self.is_at_end = rules.len() < most as usize;
        self.after = rules.last().map(|last| (last.id, last.spec.priority)).or(self.after);
        Ok(rules)
    }
}
