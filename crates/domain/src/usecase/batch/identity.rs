//! The identity of rules across a batch: before it, while it is applied, and after it.

use std::collections::HashMap;

use super::WorkingRule;
use crate::ids::RuleId;
use crate::rule::Rule;
use crate::rule::fingerprint::Fingerprint;
use crate::rule::order::RulePlace;

/// Whether the order of the rules that existed before the batch and still exist has changed.
pub(super) fn is_reordered(
    stored: &[RuleId],
    order: &[RulePlace],
    entries: &HashMap<RuleId, WorkingRule>,
) -> bool {
    let was_there = |id: &RuleId| entries.get(id).is_some_and(|entry| entry.before.is_some());
    let before = stored.iter().filter(|id| was_there(id));
    !before.eq(order.iter().map(|(id, _)| id).filter(|id| was_there(id)))
}

/// Returns the provisional id of each stored new rule. Rules with the same fingerprint can still
/// differ in their other fields, so those are compared too.
pub(super) fn told_apart(
    new: &[RuleId],
    entries: &HashMap<RuleId, WorkingRule>,
    made: &[Rule],
) -> Vec<RuleId> {
    let mut waiting: HashMap<Fingerprint, Vec<RuleId>> = HashMap::new();
    for id in new {
        if let Some(entry) = entries.get(id) {
            waiting.entry(Fingerprint::of(&entry.spec)).or_default().push(*id);
        }
    }
    made.iter()
        .map(|rule| {
            let alike = waiting.get_mut(&Fingerprint::of(&rule.spec));
            alike
                .and_then(|alike| {
                    let is_it =
                        |id: &RuleId| entries.get(id).is_some_and(|entry| entry.spec == rule.spec);
                    let at = alike.iter().position(is_it)?;
                    Some(alike.swap_remove(at))
                })
                .unwrap_or(rule.id)
        })
        .collect()
}

impl WorkingRule {
    pub(super) fn has_new_name(&self) -> bool {
        self.before.as_ref().is_none_or(|before| before.spec.name != self.spec.name)
    }

    pub(super) fn has_new_content(&self) -> bool {
        let is_other = |before: &Rule| Fingerprint::of(&before.spec) != Fingerprint::of(&self.spec);
        self.before.as_ref().is_none_or(is_other)
    }
}
