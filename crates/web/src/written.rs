//! A cache of rules as serialized in inspections. Most traffic matches few rules, and serializing a
//! rule takes longer than finding it.

use std::sync::Arc;

use fireflow_domain::firewall::FirewallRef;
use fireflow_domain::ids::RuleId;
use fireflow_domain::rule::Rule;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::inspect::InspectedPolicy;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::value::RawValue;

use crate::dto::view::RuleView;
use crate::inspected::State;

/// The most bytes of text in the cache, and the number of rules that it is sized for.
const CAPACITY: u64 = 16 * 1024 * 1024;
const RULES: usize = 16_000;
/// Roughly the memory of a rule in addition to its text, in bytes.
const BESIDE: u64 = 200;

/// A rule in a state of its policy. The text of a rule with a time limit also depends on the time,
/// so it is not cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    policy: State,
    rule: RuleId,
}

/// The text of a rule, and the firewall that it shows. The firewall's name is not part of the
/// policy's state, so it is compared on each use.
#[derive(Debug, Clone)]
struct Written {
    firewall: Arc<FirewallRef>,
    text: Arc<RawValue>,
}

#[derive(Debug, Clone, Copy)]
struct ByLength;

impl Weighter<Key, Written> for ByLength {
    fn weight(&self, _key: &Key, written: &Written) -> u64 {
        BESIDE.saturating_add(written.text.get().len().try_into().unwrap_or(u64::MAX))
    }
}

/// Recently serialized rules.
#[derive(Debug)]
pub struct WrittenRules(Cache<Key, Written, ByLength>);

impl Default for WrittenRules {
    fn default() -> Self {
        Self(Cache::with_weighter(RULES, CAPACITY, ByLength))
    }
}

impl WrittenRules {
    /// Returns a rule of a policy as serialized at an instant.
    ///
    /// # Errors
    /// Returns an error if the rule cannot be serialized, which is a defect.
    pub fn get(
        &self,
        inspected: &InspectedPolicy,
        rule: &Rule,
        at: Instant,
    ) -> serde_json::Result<Arc<RawValue>> {
        // The parents may have changed since the policy was compiled, so the current ones are
        // shown.
        let write = || {
            let view = RuleView::of(rule, (&*inspected.policy).into(), at);
            serde_json::value::to_raw_value(&view).map(Arc::from)
        };
        let policy = State::of(&inspected.policy);
        let is_timeless = rule.spec.starts_at.is_none() && rule.spec.expires_at.is_none();
        if !policy.is_marked() || !is_timeless {
            return write();
        }
        let (key, firewall) = (Key { policy, rule: rule.id }, &inspected.policy.firewall);
        if let Some(written) = self.0.get(&key).filter(|it| *it.firewall == *firewall) {
            return Ok(written.text);
        }
        let text: Arc<RawValue> = write()?;
        let firewall = Arc::new(firewall.clone());
        self.0.insert(key, Written { firewall, text: Arc::clone(&text) });
        Ok(text)
    }
}
