//! Inspection: what happens to a packet?

use crate::actor::{Caller, Role};
use crate::engine::naive::{self, Entry, Explanation};
use crate::error::Result;
use crate::ids::{FirewallId, PolicyId};
use crate::packet::Packet;
use crate::policy::Policy;
use crate::rule::{Action, Rule};
use crate::store::UnitOfWork;

/// A policy with all its live rules in order of evaluation, read at one state.
#[derive(Debug, Clone)]
pub struct InspectedPolicy {
    /// The policy.
    pub policy: Policy,
    /// Its rules in order of evaluation.
    pub rules: Vec<Rule>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// What is done with it.
    pub action: Action,
    /// The rule that decides; none where the default does.
    pub rule: Option<&'a Rule>,
}

/// Reads a policy for inspection: two statements, of one snapshot.
///
/// # Errors
/// Where the role does not suffice, or there is no such policy.
pub async fn load(
    uow: &mut dyn UnitOfWork,
    caller: &Caller,
    firewall: FirewallId,
    policy: PolicyId,
) -> Result<InspectedPolicy> {
    caller.require(Role::Viewer)?;
    let policy = super::policy::get(uow, caller, firewall, policy).await?;
    let rules = uow.rules().all(&policy.reference()).await?;
    Ok(InspectedPolicy { policy, rules })
}

impl InspectedPolicy {
    fn entries(&self) -> Vec<Entry<'_>> {
        self.rules.iter().map(|rule| Entry { id: rule.id, spec: &rule.spec }).collect()
    }

    /// The verdict on one packet.
    #[must_use]
    pub fn verdict(&self, packet: &Packet) -> Verdict<'_> {
        let rule = self.rules.iter().find(|rule| naive::matches(&rule.spec, packet));
        let action = rule.map_or(self.policy.spec.default_action, |rule| rule.spec.action);
        Verdict { action, rule }
    }

    /// Why a packet meets its verdict; indices are those of `rules`.
    #[must_use]
    pub fn explain(&self, packet: &Packet) -> Explanation {
        naive::explain(&self.entries(), packet)
    }
}
