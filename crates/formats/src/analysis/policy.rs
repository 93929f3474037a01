//! The policies that are compared or searched: stored ones, those of files, and those of requests.

use fireflow_domain::acceptance::Acceptances;
use fireflow_domain::analysis::{AnalysedPolicy, AnalysedRule, RuleIndex};
use fireflow_domain::ids::RuleId;
use fireflow_domain::rule::{Action, RuleSpec};
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::inspect::InspectedPolicy;

use super::{RuleLabel, Subject};

/// A rule that was read from a file or from a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRule {
    /// Its content.
    pub spec: RuleSpec,
    /// Its id, if it has one.
    pub id: Option<RuleId>,
    /// The line in which it begins, if it was read from a file.
    pub line: Option<u64>,
    /// When it was last changed, if that is known.
    pub updated_at: Option<Instant>,
}

impl ReadRule {
    fn analysed(&self) -> AnalysedRule<'_> {
        AnalysedRule { updated_at: self.updated_at, ..AnalysedRule::of(&self.spec) }
    }

    fn label(&self) -> RuleLabel<'_> {
        RuleLabel::new(&self.spec, self.id.map(RuleId::get), self.line)
    }
}

/// A policy, with what answers need to refer to its rules.
#[derive(Debug, Clone)]
pub enum LabeledPolicy {
    /// A stored one.
    Stored(Box<InspectedPolicy>),
    /// One that is not stored.
    Read {
        /// The name of its file; empty if there is none.
        source: String,
        /// Its rules, in order of evaluation.
        rules: Vec<ReadRule>,
        /// What is done with packets that none of them matches.
        default_action: Action,
    },
}

impl LabeledPolicy {
    /// How many rules it has.
    #[must_use]
    pub fn rule_count(&self) -> u64 {
        match self {
            Self::Stored(inspected) => inspected.policy.rule_count,
            Self::Read { rules, .. } => u64::try_from(rules.len()).unwrap_or(u64::MAX),
        }
    }

    /// How many entries these rules have.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        match self {
            Self::Stored(inspected) => inspected.policy.entry_count,
            Self::Read { rules, .. } => rules.iter().map(|rule| rule.spec.entry_count()).sum(),
        }
    }

    /// The index of a rule in the order of evaluation.
    #[must_use]
    pub fn index_of(&self, id: RuleId) -> Option<RuleIndex> {
        match self {
            Self::Stored(inspected) => inspected.compiled.iter().position(|rule| rule.id() == id),
            Self::Read { rules, .. } => rules.iter().position(|rule| rule.id == Some(id)),
        }
    }

    /// Calls `ask` with the policy, and with what answers need to refer to its rules. Costs O(entries).
    pub fn ask<T>(&self, ask: impl FnOnce(&AnalysedPolicy<'_>, &Subject<'_>) -> T) -> T {
        match self {
            Self::Stored(inspected) => {
                let specs = inspected.named_specs();
                let rules: Vec<AnalysedRule<'_>> = specs.iter().map(AnalysedRule::of).collect();
                let default_action = inspected.policy.spec.default_action;
                let policy = AnalysedPolicy { rules: &rules, default_action };
                with_subject(inspected, None, |subject| ask(&policy, subject))
            }
            Self::Read { source, rules: read, default_action } => {
                let rules: Vec<_> = read.iter().map(ReadRule::analysed).collect();
                let labels: Vec<_> = read.iter().map(ReadRule::label).collect();
                let policy = AnalysedPolicy { rules: &rules, default_action: *default_action };
                ask(&policy, &Subject { labels: &labels, source, acceptances: None })
            }
        }
    }
}

/// Calls `ask` with what answers need to refer to the rules of a stored policy. Costs O(rules).
pub(super) fn with_subject<T>(
    inspected: &InspectedPolicy,
    acceptances: Option<&Acceptances>,
    ask: impl FnOnce(&Subject<'_>) -> T,
) -> T {
    let labels: Vec<_> = inspected.compiled.iter().map(|rule| RuleLabel::stored(rule)).collect();
    let (firewall, policy) = (inspected.policy.firewall.id, inspected.policy.id);
    let source = format!("firewalls/{firewall}/filtering-policies/{policy}/");
    ask(&Subject { labels: &labels, source: &source, acceptances })
}
