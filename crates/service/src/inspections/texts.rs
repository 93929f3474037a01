//! The rules that decided lately, with all their texts. Compiled rules have no texts, so that long
//! descriptions do not fill the cache; answers show the whole rule.

use std::sync::Arc;

use fireflow_domain::engine::compact::CompactRule;
use fireflow_domain::ids::{Revision, RuleId};
use fireflow_domain::rule::Rule;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// The number of rules that the cache is sized for. Its actual bound is in bytes.
const RULES: usize = 10_000;

/// A rule with one content. Within the rules that were read together and their changes since, a
/// revision and an id identify it: the rule was read at that revision, and has not changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    lineage: u64,
    rule: RuleId,
    since: Revision,
}

#[derive(Debug, Clone, Copy)]
struct ByBytes;

impl Weighter<Key, Arc<Rule>> for ByBytes {
    fn weight(&self, _key: &Key, rule: &Arc<Rule>) -> u64 {
        u64::try_from(rule.memory_bytes()).unwrap_or(u64::MAX)
    }
}

/// Rules with their texts, up to a number of bytes.
#[derive(Debug)]
pub(super) struct RuleTexts(Cache<Key, Arc<Rule>, ByBytes>);

impl RuleTexts {
    pub(super) fn new(capacity: u64) -> Self {
        Self(Cache::with_weighter(RULES, capacity, ByBytes))
    }

    /// The rule with its texts, if it is here.
    pub(super) fn get(&self, lineage: u64, rule: &CompactRule) -> Option<Arc<Rule>> {
        self.0.get(&Key { lineage, rule: rule.id(), since: rule.since() })
    }

    /// Keeps a rule that was read at a revision of its policy.
    pub(super) fn insert(&self, lineage: u64, since: Revision, rule: Arc<Rule>) {
        self.0.insert(Key { lineage, rule: rule.id, since }, rule);
    }
}
