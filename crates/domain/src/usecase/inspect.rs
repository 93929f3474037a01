//! Inspection: what happens to a packet?

use std::sync::Arc;

use crate::actor::{Caller, Role};
use crate::engine::compiled::CompiledRules;
use crate::engine::naive::Explanation;
use crate::error::Result;
use crate::ids::Revision;
use crate::packet::Packet;
use crate::policy::Policy;
use crate::rule::{Action, Rule};
use crate::store::ReadUnit;

use super::policy::require_known;

/// A policy as it is now, with what was compiled of its rules.
#[derive(Debug, Clone)]
pub struct InspectedPolicy {
    /// The policy: its rules are as they were compiled, what is beside them may be newer.
    pub policy: Arc<Policy>,
    /// What answers.
    pub compiled: Arc<CompiledRules>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// What is done with it.
    pub action: Action,
    /// The rule that decides; none where the default does.
    pub rule: Option<&'a Rule>,
}

/// All live rules of a policy that was read in the same snapshot, in order of evaluation: one
/// statement.
///
/// # Errors
/// Where the role does not suffice, or the storage fails.
pub async fn all_rules(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
) -> Result<Vec<Rule>> {
    caller.require(Role::Viewer)?;
    require_known(uow, policy)?;
    Ok(uow.rules().all(&policy.reference()).await?)
}

/// The rules that changed behind a revision of a policy that was read in the same snapshot, deleted
/// ones too, but for those that are purged: one statement. None where they are more than `at_most`.
///
/// # Errors
/// Where the role does not suffice, or the storage fails.
pub async fn changed_rules(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
    since: Revision,
    at_most: usize,
) -> Result<Option<Vec<Rule>>> {
    caller.require(Role::Viewer)?;
    require_known(uow, policy)?;
    let limit = at_most.saturating_add(1);
    let changed = uow.rules().changed_since(&policy.reference(), since, limit).await?;
    Ok((changed.len() <= at_most).then_some(changed))
}

impl InspectedPolicy {
    /// The verdict on one packet.
    #[must_use]
    pub fn verdict(&self, packet: &Packet) -> Verdict<'_> {
        let rule = self.compiled.first_match(packet);
        let action = rule.map_or(self.policy.spec.default_action, |rule| rule.spec.action);
        Verdict { action, rule }
    }

    /// Why a packet meets its verdict, with all rules in order of evaluation, which it counts.
    #[must_use]
    pub fn explain(&self, packet: &Packet) -> (Explanation, Vec<&Rule>) {
        self.compiled.explain(packet)
    }
}
