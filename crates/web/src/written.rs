//! A cache of rules as serialized in inspections. Most traffic matches few rules, and serializing a
//! rule takes longer than finding it.

use std::sync::Arc;

use fireflow_domain::engine::compact::CompactRule;
use fireflow_domain::firewall::FirewallRef;
use fireflow_domain::ids::RuleId;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::inspect::InspectedPolicy;
use fireflow_formats::views::RuleView;
use fireflow_service::inspections::PolicyState;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde_json::value::RawValue;

use crate::app::Context;
use crate::problem::Problem;

/// The most bytes of text in the cache, and the number of rules that it is sized for.
const CAPACITY: u64 = 16 * 1024 * 1024;
const RULES: usize = 16_000;
/// Roughly the memory of a rule in addition to its text, in bytes.
const BESIDE: u64 = 200;

/// A rule in a state of its policy. The text of a rule with a time limit also depends on the time,
/// so it is not cached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    policy: PolicyState,
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
    /// Returns a rule of a policy as serialized at an instant; none if it has changed since the
    /// policy was read.
    ///
    /// # Errors
    /// Returns the errors of reading the rule's texts.
    pub async fn text(
        &self,
        ctx: &Context,
        inspected: &InspectedPolicy,
        rule: &CompactRule,
        at: Instant,
    ) -> Result<Option<Arc<RawValue>>, Problem> {
        let (key, firewall) = (key(inspected, rule), &inspected.policy.firewall);
        let written = key.as_ref().and_then(|key| self.0.get(key));
        if let Some(written) = written.filter(|it| *it.firewall == *firewall) {
            return Ok(Some(written.text));
        }
        let Some(whole) = ctx.app.inspections.rule(ctx, inspected, rule).await? else {
            return Ok(None);
        };
        // The parents may have changed since the rule was read, so the current ones are shown.
        let view = RuleView::of(&whole, (&*inspected.policy).into(), at);
        let text = serde_json::value::to_raw_value(&view).map_err(Problem::internal)?;
        let text: Arc<RawValue> = text.into();
        if let Some(key) = key {
            let firewall = Arc::new(firewall.clone());
            self.0.insert(key, Written { firewall, text: Arc::clone(&text) });
        }
        Ok(Some(text))
    }
}

/// The key of a rule in a state of its policy; none if its text also depends on the time, or the
/// state could not be recognized.
fn key(inspected: &InspectedPolicy, rule: &CompactRule) -> Option<Key> {
    let policy = PolicyState::of(&inspected.policy);
    (policy.is_marked() && rule.is_timeless()).then(|| Key { policy, rule: rule.id() })
}
