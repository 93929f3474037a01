//! Inspection: what happens to a packet?

use std::sync::Arc;

use crate::actor::{Caller, Role};
use crate::audit_chain::Head;
use crate::engine::compact::{ChangedRule, CompactRule};
use crate::engine::compiled::CompiledRules;
use crate::engine::naive::Explanation;
use crate::engine::port_map::PortAnswer;
use crate::error::Result;
use crate::ids::{Revision, RuleId};
use crate::packet::{GivenPacket, Packet};
use crate::policy::Policy;
use crate::rule::{Action, Rule, RuleSpec};
use crate::store::{ReadUnit, RuleInState, RuleUpkeep};

use super::policy::require_known;

/// A policy as it is now, with its compiled rules.
#[derive(Debug, Clone)]
pub struct InspectedPolicy {
    /// The policy. Its fields may be newer than the compiled rules, but the rules themselves have
    /// not changed.
    pub policy: Arc<Policy>,
    /// The compiled rules, which decide on packets.
    pub compiled: Arc<CompiledRules>,
    /// A number for the rules that were read together, and their changes since.
    pub lineage: u64,
}

/// The verdict on a packet.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// The action on the packet.
    pub action: Action,
    /// The rule that decides; none if the policy's default does.
    pub rule: Option<&'a Arc<CompactRule>>,
}

/// The verdict on a packet whose source port may be unknown.
#[derive(Debug, Clone)]
pub struct GivenVerdict<'a> {
    /// The verdict. If it depends on the unknown source port, it is the strictest one.
    pub verdict: Verdict<'a>,
    /// The packet that the verdict and its explanation are about: the given one, or if its source
    /// port is unknown, the one with the port that the answer is about.
    pub packet: Packet,
    /// The verdicts at all assumed ports; none if the source port is known.
    pub assumed: Option<PortAnswer<Verdict<'a>>>,
}

/// All live rules of a policy that was read in the same snapshot, in order of evaluation, without
/// their texts. Costs one statement.
///
/// # Errors
/// Returns an error if the caller lacks the role, this version cannot read the rules, or the
/// storage fails.
pub async fn all_compact(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
) -> Result<Vec<Arc<CompactRule>>> {
    caller.require(Role::Viewer)?;
    require_known(uow, policy)?;
    Ok(uow.rules().all_compact(policy.id, policy.revision).await?)
}

/// What analyses need to know about all live rules of a policy besides what decides packets, in order
/// of evaluation. Costs one statement.
///
/// # Errors
/// Returns an error if the caller lacks the role, this version cannot read the rules, or the
/// storage fails.
pub async fn upkeep(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
) -> Result<Vec<RuleUpkeep>> {
    caller.require(Role::Viewer)?;
    require_known(uow, policy)?;
    Ok(uow.rules().upkeep(policy.id).await?)
}

/// The rules that changed after a revision of a policy, without their texts; otherwise like
/// [`changed_rules`]. Costs one statement.
///
/// # Errors
/// Returns an error if the caller lacks the role, this version cannot read the rules, or the
/// storage fails.
pub async fn changed_compact(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
    since: Revision,
    at_most: usize,
) -> Result<Option<Vec<ChangedRule>>> {
    caller.require(Role::Viewer)?;
    require_known(uow, policy)?;
    let limit = at_most.saturating_add(1);
    let changed = uow.rules().changed_compact(policy.id, since, policy.revision, limit).await?;
    Ok((changed.len() <= at_most).then_some(changed))
}

/// Whether an event is in the audit chain of a policy that was read in the same snapshot. Then the
/// policy's current state descends from the state that had this event as its head. Costs one
/// statement.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the storage fails.
pub async fn has_event(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
    head: Head,
) -> Result<bool> {
    caller.require(Role::Viewer)?;
    Ok(uow.audit().is_in_chain(policy.id, head).await?)
}

/// One rule of a policy with all its texts, and the state in which it was read; none if there is no
/// such rule any more. Costs one statement.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the storage fails.
pub async fn rule_in_state(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
    id: RuleId,
) -> Result<Option<RuleInState>> {
    caller.require(Role::Viewer)?;
    let (firewall, who) = (policy.firewall.id, &caller.actor.visibility);
    Ok(uow.rules().get_in_state(who, firewall, policy.id, id).await?)
}

/// All live rules of a policy that was read in the same snapshot, in order of evaluation. Costs one
/// statement.
///
/// # Errors
/// Returns an error if the caller lacks the role, this version cannot read the rules, or the
/// storage fails.
pub async fn all_rules(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
) -> Result<Vec<Rule>> {
    caller.require(Role::Viewer)?;
    require_known(uow, policy)?;
    Ok(uow.rules().all(&policy.reference()).await?)
}

/// The rules that changed after a revision of a policy that was read in the same snapshot. Deleted
/// rules are included, except those that are purged. Returns none if there are more than `at_most`.
/// Costs one statement.
///
/// # Errors
/// Returns an error if the caller lacks the role, this version cannot read the rules, or the
/// storage fails.
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
    /// The contents of the rules in order of evaluation, with names and without other texts.
    #[must_use]
    pub fn named_specs(&self) -> Vec<RuleSpec> {
        self.compiled.iter().map(|rule| rule.to_named_spec()).collect()
    }

    /// The verdict on one packet.
    #[must_use]
    pub fn verdict(&self, packet: &Packet) -> Verdict<'_> {
        let rule = self.compiled.first_match(packet);
        let action = rule.map_or(self.policy.spec.default_action, |rule| rule.action());
        Verdict { action, rule }
    }

    /// The verdict on one packet whose source port may be unknown. It is then evaluated for all
    /// [ephemeral ports](crate::net::PortRange::EPHEMERAL).
    #[must_use]
    pub fn given_verdict(&self, given: &GivenPacket) -> GivenVerdict<'_> {
        let packet = *given.packet();
        let Some(ports) = given.assumed_ports() else {
            return GivenVerdict { verdict: self.verdict(&packet), packet, assumed: None };
        };
        let default = self.policy.spec.default_action;
        let action = |rule: Option<&Arc<CompactRule>>| rule.map_or(default, |it| it.action());
        let map = self.compiled.first_match_by_port(&packet, ports);
        let answer = PortAnswer::new(ports, &map, |rule| Some(action(rule.map(|it| it.0))));
        let answer = answer.map(|rule| {
            let rule = rule.map(|it| it.0);
            Verdict { action: action(rule), rule }
        });
        let packet = packet.with_source_port(answer.port);
        GivenVerdict { verdict: answer.decided, packet, assumed: Some(answer) }
    }

    /// Explains the verdict on a packet. The explanation refers to rules by their index in the
    /// returned list, which has all rules in order of evaluation.
    #[must_use]
    pub fn explain(&self, packet: &Packet) -> (Explanation, Vec<&Arc<CompactRule>>) {
        self.compiled.explain(packet)
    }
}
