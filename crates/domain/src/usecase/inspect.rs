//! Inspection: what happens to a packet?

use std::sync::Arc;

use crate::actor::{Caller, Role};
use crate::engine::compiled::CompiledRules;
use crate::engine::naive::Explanation;
use crate::engine::port_map::PortAnswer;
use crate::error::Result;
use crate::ids::Revision;
use crate::packet::{GivenPacket, Packet};
use crate::policy::Policy;
use crate::rule::{Action, Rule};
use crate::store::ReadUnit;

use super::policy::require_known;

/// A policy as it is now, with its compiled rules.
#[derive(Debug, Clone)]
pub struct InspectedPolicy {
    /// The policy. Its fields may be newer than the compiled rules, but the rules themselves have
    /// not changed.
    pub policy: Arc<Policy>,
    /// The compiled rules, which decide on packets.
    pub compiled: Arc<CompiledRules>,
}

/// The verdict on a packet.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    /// The action on the packet.
    pub action: Action,
    /// The rule that decides; none if the policy's default does.
    pub rule: Option<&'a Rule>,
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
    /// The verdict on one packet.
    #[must_use]
    pub fn verdict(&self, packet: &Packet) -> Verdict<'_> {
        let rule = self.compiled.first_match(packet);
        let action = rule.map_or(self.policy.spec.default_action, |rule| rule.spec.action);
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
        let action = |rule: Option<&Rule>| rule.map_or(default, |rule| rule.spec.action);
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
    pub fn explain(&self, packet: &Packet) -> (Explanation, Vec<&Rule>) {
        self.compiled.explain(packet)
    }
}
