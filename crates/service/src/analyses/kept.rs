//! Finished analyses, in bounded memory.

use std::sync::Arc;
use std::time::{Duration, Instant as Moment};

use fireflow_domain::analysis::{Analysis, FindingKinds};
use fireflow_domain::time::Instant;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::inspections::PolicyState;

/// The memory of all kept analyses, in bytes. Findings of 100,000 rules take roughly 10 MB.
const CAPACITY: u64 = 64 * 1024 * 1024;
/// The number of policies that the cache is sized for.
const POLICIES: usize = 1_000;
/// How long an incomplete analysis is kept. The machine may be less busy afterwards.
const INCOMPLETE: Duration = Duration::from_secs(60);

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
        let bytes = size_of::<KeptAnalysis>() + entry.analysis.analysis.memory_bytes();
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// The analyses that were finished last.
#[derive(Debug)]
pub(super) struct Kept(Cache<AnalysisQuestion, Entry, ByBytes>);

impl Default for Kept {
    fn default() -> Self {
        Self(Cache::with_weighter(POLICIES, CAPACITY, ByBytes))
    }
}

impl Kept {
    /// The answer to a question, if it is known and still holds.
    pub(super) fn get(
        &self,
        question: &AnalysisQuestion,
        now: Instant,
    ) -> Option<Arc<KeptAnalysis>> {
        let Entry { analysis, again_at } = self.0.get(question)?;
        let is_of_now = question.at.is_none();
        let holds = !is_of_now
            || (analysis.analysis.at <= now && analysis.until.is_none_or(|until| now < until));
        let is_due = again_at.is_some_and(|at| at <= Moment::now());
        (holds && !is_due).then_some(analysis)
    }

    /// Keeps the answer to a question.
    pub(super) fn insert(&self, question: AnalysisQuestion, analysis: Arc<KeptAnalysis>) {
        let is_incomplete = !analysis.analysis.is_complete();
        let again_at = is_incomplete.then(|| Moment::now() + INCOMPLETE);
        self.0.insert(question, Entry { analysis, again_at });
    }
}
