//! Restorations in a batch.

use std::collections::HashMap;

use super::{ConcernedRules, Operation, Working, WorkingRule};
use crate::error::Result;
use crate::ids::RuleId;
use crate::patch::Patch;
use crate::policy::Policy;
use crate::rule::{Duplicates, Rule, RuleParts, RuleSpec};
use crate::store::WriteUnit;
use crate::text::Name;

/// The deleted rules that operations restore. Costs one statement for each 1,000 rules, and none
/// if no operation restores a rule.
pub(super) async fn restorable(
    uow: &mut dyn WriteUnit,
    policy: &Policy,
    operations: &[Operation],
) -> Result<HashMap<RuleId, Rule>> {
    let ids = operations.iter().filter_map(|operation| match operation {
        Operation::Restore { rule, .. } => Some(*rule),
        Operation::Create { .. }
        | Operation::Update { .. }
        | Operation::Delete { .. }
        | Operation::Move { .. } => None,
    });
    let mut ids: Vec<RuleId> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let deleted = uow.rules_mut().get_all_deleted(&policy.reference(), &ids).await?;
    Ok(deleted.into_iter().map(|rule| (rule.id, rule)).collect())
}

impl Working {
    /// Takes a rule out. A later operation may restore it.
    pub(super) fn remove(&mut self, rule: RuleId) {
        let Some(entry) = self.entries.remove(&rule) else { return };
        match entry.deleted {
            Some(deleted) => {
                self.restorable.insert(rule, deleted);
            }
            None => self.deleted.extend(entry.before),
        }
    }

    /// Restores a rule that was deleted before the batch or by it. A live rule stays as it is.
    pub(super) fn restore(
        &mut self,
        index: usize,
        rule: RuleId,
        name: Patch<Option<Name>>,
        duplicates: Duplicates,
    ) -> ConcernedRules {
        if let Some(entry) = self.entries.get(&rule) {
            let is_other = matches!(&name, Patch::Set(name) if *name != entry.spec.name);
            if is_other {
                self.fault(index, "/name", "the rule is not deleted; use `update`");
            }
            return ConcernedRules::Rule(rule);
        }
        let deleted_here = self.deleted.iter().position(|deleted| deleted.id == rule);
        let (before, deleted) = match deleted_here {
            Some(at) => (Some(self.deleted.remove(at)), None),
            None => (None, self.restorable.remove(&rule)),
        };
        let Some(old) = before.as_ref().or(deleted.as_ref()).map(|rule| rule.spec.clone()) else {
            self.fault_of_absent(index, "/rule_id", rule);
            return ConcernedRules::Rule(rule);
        };
        if let Some(spec) = self.named(index, old, name) {
            self.insert(rule, spec.priority);
            let entry = WorkingRule {
                before,
                deleted,
                spec,
                asked_by: Some(index),
                is_moved: false,
                keeps_duplicate: duplicates == Duplicates::Keep,
            };
            self.entries.insert(rule, entry);
        }
        ConcernedRules::Rule(rule)
    }

    fn named(
        &mut self,
        index: usize,
        spec: RuleSpec,
        name: Patch<Option<Name>>,
    ) -> Option<RuleSpec> {
        let Patch::Set(name) = name else { return Some(spec) };
        match RuleSpec::new(RuleParts { name, ..spec.into_parts() }) {
            Ok(spec) => Some(spec),
            Err(faults) => {
                self.violations.extend_below(&format!("/operations/{index}"), faults);
                None
            }
        }
    }
}
