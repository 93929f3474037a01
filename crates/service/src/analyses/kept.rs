//! Finished analyses, in bounded memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant as Moment};

use fireflow_domain::analysis::{Analysis, AnalysisOptions, FindingKinds, Grounds};
use fireflow_domain::engine::compact::CompactRule;
use fireflow_domain::ids::{PolicyId, Revision, RuleId};
use fireflow_domain::rule::Action;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::inspect::InspectedPolicy;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::inspections::PolicyState;

/// The memory of all kept analyses, in bytes. Findings of 100,000 rules take roughly 10 MB, and as
/// much again is kept so that the analysis after a change can continue.
const CAPACITY: u64 = 64 * 1024 * 1024;
/// The number of policies that the cache is sized for.
const POLICIES: usize = 1_000;
/// How long an incomplete analysis is kept. The machine may be less busy afterwards.
pub(super) const INCOMPLETE: Duration = Duration::from_secs(60);

/// What an analysis was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AnalysisQuestion {
    /// The state of the policy.
    pub state: PolicyState,
    /// The kinds of findings.
    pub kinds: FindingKinds,
    /// The instant at which findings hold; none: now.
    pub at: Option<Instant>,
}

/// The findings of a policy in one state.
#[derive(Debug)]
pub struct KeptAnalysis {
    /// The findings.
    pub analysis: Analysis,
    /// The first instant at which the clock alone can change them.
    pub until: Option<Instant>,
    /// From what the analysis of a later state can continue.
    pub(super) basis: Basis,
}

impl KeptAnalysis {
    /// Whether its findings are those of a time.
    pub(super) fn holds_at(&self, time: Instant) -> bool {
        self.analysis.at <= time && self.until.is_none_or(|until| time < until)
    }
}

/// From what the analysis of a later state of a policy can continue.
#[derive(Debug)]
pub(super) struct Basis {
    /// What the findings rest on.
    pub(super) grounds: Grounds,
    /// What was asked.
    pub(super) options: AnalysisOptions,
    /// The default action of the policy.
    pub(super) default_action: Action,
    /// The rules of a policy that were read together, and their changes.
    pub(super) lineage: u64,
    /// The rules in order of evaluation. Within a lineage, these numbers identify their contents.
    pub(super) rules: Vec<(RuleId, Revision)>,
}

impl Basis {
    fn memory_bytes(&self) -> usize {
        self.grounds.memory_bytes() + size_of_val(self.rules.as_slice())
    }

    /// For each rule, the index of the same rule in a later state of the policy; none if no rule can be
    /// the same.
    pub(super) fn same(&self, later: &InspectedPolicy) -> Option<Vec<Option<usize>>> {
        if later.lineage != self.lineage {
            return None;
        }
        let now: HashMap<(RuleId, Revision), usize> =
            later.compiled.iter().zip(0..).map(|(rule, index)| (identity(rule), index)).collect();
        Some(self.rules.iter().map(|rule| now.get(rule).copied()).collect())
    }
}

/// What identifies the content of a rule within its lineage.
pub(super) fn identity(rule: &CompactRule) -> (RuleId, Revision) {
    (rule.id(), rule.since())
}

#[derive(Debug, Clone)]
struct Entry {
    analysis: Arc<KeptAnalysis>,
    /// When an incomplete analysis is forgotten.
    again_at: Option<Moment>,
}

#[derive(Debug, Clone, Copy)]
struct ByBytes;

impl Weighter<AnalysisQuestion, Entry> for ByBytes {
    fn weight(&self, _question: &AnalysisQuestion, entry: &Entry) -> u64 {
        let KeptAnalysis { analysis, until: _, basis } = &*entry.analysis;
        let bytes = size_of::<KeptAnalysis>() + analysis.memory_bytes() + basis.memory_bytes();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// The analyses that were finished last.
#[derive(Debug)]
pub(super) struct Kept {
    analyses: Cache<AnalysisQuestion, Entry, ByBytes>,
    /// The state of each policy whose analysis was kept last, of those that a later one can continue.
    last: Cache<PolicyId, AnalysisQuestion>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            analyses: Cache::with_weighter(POLICIES, CAPACITY, ByBytes),
            last: Cache::new(POLICIES),
        }
    }
}

impl Kept {
    /// The answer to a question, if it is known and still holds.
    pub(super) fn get(
        &self,
        question: &AnalysisQuestion,
        now: Instant,
    ) -> Option<Arc<KeptAnalysis>> {
        let Entry { analysis, again_at } = self.analyses.get(question)?;
        let holds = question.at.is_some() || analysis.holds_at(now);
        let is_due = again_at.is_some_and(|at| at <= Moment::now());
        (holds && !is_due).then_some(analysis)
    }

    /// Keeps the answer to a question.
    pub(super) fn insert(&self, question: AnalysisQuestion, analysis: Arc<KeptAnalysis>) {
        let is_incomplete = !analysis.analysis.is_complete();
        let again_at = is_incomplete.then(|| Moment::now() + INCOMPLETE);
        if question.at.is_none() && !is_incomplete {
            self.last.insert(question.state.policy(), question);
        }
        self.analyses.insert(question, Entry { analysis, again_at });
    }

    /// An analysis of a former state of the policy, from which one of the present state can continue.
    pub(super) fn former(&self, question: &AnalysisQuestion) -> Option<Arc<KeptAnalysis>> {
        let last = self.last.get(&question.state.policy())?;
        let is_alike = question.at.is_none() && last.kinds == question.kinds;
        self.analyses.get(&last).filter(|_| is_alike).map(|entry| entry.analysis)
    }
}
