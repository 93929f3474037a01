//! Rules as inspections show them, written: most traffic meets few rules, and writing one takes
//! longer than finding it.

use std::sync::Arc;

use fireflow_domain::firewall::FirewallRef;
use fireflow_domain::ids::RuleId;
use fireflow_domain::rule::Rule;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::inspect::InspectedPolicy;
use fireflow_service::inspections::PolicyState;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::value::RawValue;

use crate::dto::view::RuleView;

/// How many bytes of text are kept, and how many rules the cache is laid out for.
const CAPACITY: u64 = 16 * 1024 * 1024;
const RULES: usize = 16_000;
/// What a rule takes beside its text, in bytes, about.
const BESIDE: u64 = 200;

/// A rule in a state of its policy. What is written of one with limits in time also depends on the
/// time, and is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    policy: PolicyState,
    rule: RuleId,
}

/// A rule's text, and what it shows of its firewall: that is no part of the policy's state, and is
/// compared as it is shown.
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

/// What was written lately.
#[derive(Debug)]
pub struct WrittenRules(Cache<Key, Written, ByLength>);

impl Default for WrittenRules {
    fn default() -> Self {
        Self(Cache::with_weighter(RULES, CAPACITY, ByLength))
    }
}

impl WrittenRules {
    /// A rule of a policy as it shows at an instant.
    ///
    /// # Errors
    /// Where it cannot be written: a defect.
    pub fn get(
        &self,
        inspected: &InspectedPolicy,
        rule: &Rule,
        at: Instant,
    ) -> serde_json::Result<Arc<RawValue>> {
        // What it shows of its parents may have changed since it was compiled.
        let write = || {
            let view = RuleView::of(rule, (&*inspected.policy).into(), at);
            serde_json::value::to_raw_value(&view).map(Arc::from)
        };
        let policy = PolicyState::of(&inspected.policy);
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
