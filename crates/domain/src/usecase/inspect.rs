//! Inspection: what happens to a packet?

use std::sync::Arc;

use crate::actor::{Caller, Role};
use crate::engine::classifier::{Budget, Classifier};
use crate::engine::naive::{self, Entry, Explanation};
use crate::error::Result;
use crate::ids::{FirewallId, PolicyId};
use crate::net::PortRange;
use crate::packet::Packet;
use crate::policy::Policy;
use crate::rule::{Action, Endpoint, Rule};
use crate::store::UnitOfWork;

/// A policy with all its live rules in order of evaluation, read at one state, and what answers by
/// them.
#[derive(Debug)]
pub struct CompiledPolicy {
    /// The policy.
    pub policy: Policy,
    /// Its rules in order of evaluation.
    pub rules: Vec<Rule>,
    /// What answers; none where the rules need more than the budget: then the definition does.
    classifier: Option<Classifier>,
}

/// A policy as it is now, with what was compiled of it.
#[derive(Debug, Clone)]
pub struct InspectedPolicy {
    /// The policy: its rules are as they were compiled, what is beside them may be newer.
    pub policy: Policy,
    /// What answers.
    pub compiled: Arc<CompiledPolicy>,
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
) -> Result<(Policy, Vec<Rule>)> {
    caller.require(Role::Viewer)?;
    let policy = super::policy::get(uow, caller, firewall, policy).await?;
    let rules = uow.rules().all(&policy.reference()).await?;
    Ok((policy, rules))
}

impl CompiledPolicy {
    /// Compiles a policy. Takes up to some seconds within the default budget: not for a thread that
    /// serves.
    #[must_use]
    pub fn new(policy: Policy, rules: Vec<Rule>, budget: Budget) -> Self {
        let classifier = Classifier::compile(&entries(&rules), budget).ok();
        Self { policy, rules, classifier }
    }

    /// Whether it needed more than its budget: each packet then costs a look at each rule.
    #[must_use]
    pub const fn is_over_budget(&self) -> bool {
        self.classifier.is_none()
    }

    /// How much memory it takes, in bytes, about: its rules, and what answers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of_rule = |rule: &Rule| {
            let entries = rule.spec.sources.len() + rule.spec.destinations.len();
            size_of::<Rule>()
                + entries * size_of::<Endpoint>()
                + rule.spec.ports.len() * size_of::<PortRange>()
                + rule.spec.description.as_str().len()
                + BESIDE
        };
        let rules: usize = self.rules.iter().map(of_rule).sum();
        rules + self.classifier.as_ref().map_or(0, Classifier::bytes)
    }

    fn first_match(&self, packet: &Packet) -> Option<&Rule> {
        match &self.classifier {
            Some(classifier) => classifier.first_match(packet).and_then(|it| self.rules.get(it)),
            None => self.rules.iter().find(|rule| naive::matches(&rule.spec, packet)),
        }
    }
}

/// What names, labels and users of a rule take beside it, about.
const BESIDE: usize = 200;

fn entries(rules: &[Rule]) -> Vec<Entry<'_>> {
    rules.iter().map(|rule| Entry { id: rule.id, spec: &rule.spec }).collect()
}

impl InspectedPolicy {
    /// The verdict on one packet.
    #[must_use]
    pub fn verdict(&self, packet: &Packet) -> Verdict<'_> {
        let rule = self.compiled.first_match(packet);
        let action = rule.map_or(self.policy.spec.default_action, |rule| rule.spec.action);
        Verdict { action, rule }
    }

    /// Why a packet meets its verdict; indices are those of the compiled rules.
    #[must_use]
    pub fn explain(&self, packet: &Packet) -> Explanation {
        naive::explain(&entries(&self.compiled.rules), packet)
    }
}
