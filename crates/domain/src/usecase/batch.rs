//! Many changes of a policy's rules, all or none.

mod identity;
mod judge;
mod place;
mod restore;

use std::collections::{HashMap, HashSet};

use crate::actor::{Caller, Role};
use crate::error::{Result, Violation, ViolationCode, Violations};
use crate::ids::{FirewallId, MAX_ID, PolicyId, Revision, RuleId};
use crate::mark::CurrentState;
use crate::patch::Patch;
use crate::policy::Policy;
use crate::rule::order::{Placement, RulePlace};
use crate::rule::{Duplicates, Rule, RuleChanges, RuleParts, RulePatch, RuleSpec};
use crate::store::WriteUnit;
use crate::text::Name;
use crate::time::Instant;

use identity::{is_reordered, told_apart};

use super::absent::AbsentRules;
use super::expected::why_not;
use super::repeated::RepeatedCheck;
use super::rule::{check_size, restored};
use super::rule_set::events;
use super::{Expected, Named, next, policy};

/// The most operations of a batch.
pub const MAX_OPERATIONS: usize = 10_000;

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Creates a rule.
    Create {
        /// Its content. The priority is ignored if there is a placement.
        spec: Box<RuleSpec>,
        /// Where among the other rules it goes.
        placement: Option<Placement>,
    },
    /// Changes a rule.
    Update {
        /// The rule's id.
        rule: RuleId,
        /// The change.
        patch: Box<RulePatch>,
        /// What its revision must be before the batch.
        if_revision: Option<Revision>,
        /// What its state must be before the batch.
        if_match: Named,
    },
    /// Deletes a rule.
    Delete {
        /// The rule's id.
        rule: RuleId,
        /// What its revision must be before the batch.
        if_revision: Option<Revision>,
        /// What its state must be before the batch.
        if_match: Named,
    },
    /// Moves rules as a block, which keeps its order.
    Move {
        /// The ids of the rules.
        rules: Vec<RuleId>,
        /// Where among the other rules the block goes.
        placement: Placement,
    },
    /// Restores a deleted rule, with its old priority.
    Restore {
        /// The rule's id.
        rule: RuleId,
        /// Its new name, unless it keeps the old one.
        name: Patch<Option<Name>>,
        /// Whether it may be equivalent to another rule.
        duplicates: Duplicates,
    },
}

impl Operation {
    /// The rules that it names.
    fn named(&self) -> impl Iterator<Item = RuleId> {
        let (rules, placement): (&[RuleId], _) = match self {
            Self::Create { placement, .. } => (&[], *placement),
            Self::Update { rule, .. } | Self::Delete { rule, .. } | Self::Restore { rule, .. } => {
                (std::slice::from_ref(rule), None)
            }
            Self::Move { rules, placement } => (rules, Some(*placement)),
        };
        let neighbor = placement.and_then(Placement::neighbor).map(|(_, rule)| rule);
        rules.iter().copied().chain(neighbor)
    }
}

/// The result of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A rule as it is after the whole batch; none if a later operation deleted it.
    Written(RuleId, Option<Box<Rule>>),
    /// The deleted rule.
    Deleted(RuleId),
    /// The moved rules.
    Moved(Vec<RuleId>),
}

/// The result of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The policy after the batch.
    pub policy: Policy,
    /// The outcome of each operation, in order. No later operation deletes a new rule, since none
    /// can name it.
    pub outcomes: Vec<Outcome>,
}

/// A rule while the operations are applied.
#[derive(Debug)]
struct WorkingRule {
    /// The rule before the batch; none if it did not exist or was deleted.
    before: Option<Rule>,
    /// The deleted rule, if the batch restores one.
    deleted: Option<Rule>,
    spec: RuleSpec,
    /// The last operation that changed the rule; none if it was at most renumbered for others.
    asked_by: Option<usize>,
    /// Whether an operation moved the rule. It can move and still end up with its old priority, if
    /// other rules were renumbered.
    is_moved: bool,
    /// Whether it may be equivalent to another rule.
    keeps_duplicate: bool,
}

/// The policy's rules while the operations are applied, in order of evaluation.
struct Working {
    order: Vec<RulePlace>,
    entries: HashMap<RuleId, WorkingRule>,
    deleted: Vec<Rule>,
    /// The rules that were deleted before the batch, and that operations restore.
    restorable: HashMap<RuleId, Rule>,
    /// The rules that operations name and that were not in the policy before the batch.
    absent: AbsentRules,
    violations: Violations,
    new: i64,
    repeated: RepeatedCheck,
    /// The cost of placing and moving so far, in renumbered rules.
    work: usize,
}

/// The first provisional id. New rules get provisional ids, which no stored rule has and which sort
/// after all others, until the storage assigns the real ids.
const FIRST_PROVISIONAL: i64 = MAX_ID - MAX_OPERATIONS as i64;

/// Applies all operations, one after the other, or none. Duplicate names and contents are checked
/// at the end.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the policy does not exist, is not in the
/// expected state or would be too large. If operations are not valid, the error lists all their
/// faults with the operations' indices.
pub async fn apply(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    parent: (FirewallId, PolicyId),
    expected: &Expected,
    operations: Vec<Operation>,
    duplicates: Duplicates,
) -> Result<Batch> {
    caller.require(Role::Editor)?;
    let policy = policy::lock(uow, caller, parent.0, parent.1).await?;
    expected.check(&policy)?;
    let stored = uow.rules().all(&policy.reference()).await?;
    let stored_order: Vec<RuleId> = stored.iter().map(|rule| rule.id).collect();
    let restorable = restore::restorable(uow, &policy, &operations).await?;
    let known: HashSet<RuleId> = stored_order.iter().chain(restorable.keys()).copied().collect();
    let absent = operations.iter().flat_map(Operation::named).filter(|id| !known.contains(id));
    let absent = AbsentRules::find(uow, caller, policy.id, absent).await?;
    let mut working = Working::new(stored, restorable, absent, &operations, caller.now);
    let asked: Vec<ConcernedRules> =
        operations.into_iter().enumerate().map(|(index, it)| working.take(index, it)).collect();
    working.check_work()?;
    let duplicates = working.judge(duplicates);
    let Working { order, entries, deleted, violations, repeated, .. } = working;
    repeated.finish()?;
    violations.into_result(|| ())?;

    let count = u64::try_from(order.len()).unwrap_or(u64::MAX);
    let entry_count = entries.values().map(|entry| entry.spec.entry_count()).sum();
    check_size(uow.policy_limits(), count, entry_count)?;
    let revision = next(policy.revision);
    let stamp = caller.stamp();
    let is_reordered = is_reordered(&stored_order, &order, &entries);
    let mut changes = RuleChanges { deleted, ..RuleChanges::default() };
    let mut gave_way = Vec::new();
    let mut new = Vec::new();
    for (id, _) in &order {
        let Some(entry) = entries.get(id) else { continue };
        match &entry.before {
            None => match &entry.deleted {
                Some(deleted) => {
                    let spec = entry.spec.clone();
                    changes.restored.push(restored(deleted.clone(), spec, revision, &stamp));
                }
                None => {
                    new.push(*id);
                    changes.created.push(entry.spec.clone());
                }
            },
            Some(before) if before.spec == entry.spec && !(entry.is_moved && is_reordered) => {}
            Some(_) if entry.asked_by.is_none() => gave_way.push((*id, entry.spec.priority)),
            Some(before) => {
                let after = Rule {
                    spec: entry.spec.clone(),
                    revision,
                    updated_at: stamp.at,
                    updated_by: stamp.by.clone(),
                    ..before.clone()
                };
                changes.updated.push((before.clone(), after));
            }
        }
    }
    let is_nothing = changes.is_empty();
    let mut after = if is_nothing {
        policy.clone()
    } else {
        Policy { rule_count: count, entry_count, revision, ..policy.clone() }
    };
    let mut written: HashMap<RuleId, Rule> = HashMap::new();
    if !is_nothing {
        uow.rules_mut().renumber(policy.id, &gave_way, revision).await?;
        let reference = after.reference();
        let made =
            uow.rules_mut().apply(&reference, &mut changes, revision, duplicates, &stamp).await?;
        written.extend(changes.updated.iter().map(|(_, after)| (after.id, after.clone())));
        written.extend(changes.restored.iter().map(|rule| (rule.id, rule.clone())));
        let ids = told_apart(&new, &entries, &made);
        uow.audit_mut().append_all(&events(caller, changes, made.clone())).await?;
        after = uow.policies_mut().update(&policy, after).await?;
        for (provisional, rule) in ids.into_iter().zip(made) {
            written.insert(provisional, rule);
        }
    }
    let outcomes = asked
        .into_iter()
        .map(|asked| match asked {
            ConcernedRules::Rule(id) => {
                let rule = written.get(&id).cloned();
                let rule = rule.or_else(|| {
                    let WorkingRule { before, spec, .. } = entries.get(&id)?;
                    let before = before.clone()?;
                    // The rule may have been renumbered, unless nothing was written at all.
                    let spec = if is_nothing { before.spec } else { spec.clone() };
                    Some(Rule { spec, ..before })
                });
                Outcome::Written(rule.as_ref().map_or(id, |rule| rule.id), rule.map(Box::new))
            }
            ConcernedRules::Deletion(id) => Outcome::Deleted(id),
            ConcernedRules::Move(ids) => Outcome::Moved(ids),
        })
        .collect();
    Ok(Batch { policy: after, outcomes })
}

/// The rules that an operation concerns, until its outcome is known.
enum ConcernedRules {
    Rule(RuleId),
    Deletion(RuleId),
    Move(Vec<RuleId>),
}

impl Working {
    fn new(
        stored: Vec<Rule>,
        restorable: HashMap<RuleId, Rule>,
        absent: AbsentRules,
        operations: &[Operation],
        now: Instant,
    ) -> Self {
        let order: Vec<RulePlace> =
            stored.iter().map(|rule| (rule.id, rule.spec.priority)).collect();
        let repeated = RepeatedCheck::new(operations, &order, now);
        let entry = |rule: Rule| {
            let (id, spec) = (rule.id, rule.spec.clone());
            let entry = WorkingRule {
                before: Some(rule),
                deleted: None,
                spec,
                asked_by: None,
                is_moved: false,
                keeps_duplicate: false,
            };
            (id, entry)
        };
        Self {
            order,
            entries: stored.into_iter().map(entry).collect(),
            deleted: Vec::new(),
            restorable,
            absent,
            violations: Violations::new(),
            new: FIRST_PROVISIONAL,
            repeated,
            work: 0,
        }
    }

    fn fault(&mut self, index: usize, member: &str, detail: impl Into<String>) {
        self.fault_of(None, index, member, detail);
    }

    fn fault_of(
        &mut self,
        code: impl Into<Option<ViolationCode>>,
        index: usize,
        member: &str,
        detail: impl Into<String>,
    ) {
        let pointer = format!("/operations/{index}{member}");
        let code = code.into();
        self.violations.push(Violation { code, ..Violation::body(pointer, detail) });
    }

    /// Notes that a rule is not, or no longer, in the policy.
    fn fault_of_absent(&mut self, index: usize, member: &str, rule: RuleId) {
        let detail = if self.deleted.iter().any(|deleted| deleted.id == rule) {
            format!("the rule with id={rule} is deleted by an earlier operation")
        } else {
            self.absent.reason(rule)
        };
        self.fault_of(ViolationCode::NotFound, index, member, detail);
    }

    fn take(&mut self, index: usize, operation: Operation) -> ConcernedRules {
        match operation {
            Operation::Create { spec, placement } => self.create(index, *spec, placement),
            Operation::Update { rule, patch, if_revision, if_match } => {
                if self.is_there(index, rule, if_revision, &if_match) {
                    self.update(index, rule, *patch);
                }
                ConcernedRules::Rule(rule)
            }
            Operation::Delete { rule, if_revision, if_match } => {
                if self.is_there(index, rule, if_revision, &if_match)
                    && let Some(at) = self.position(rule)
                {
                    self.order.remove(at);
                    self.remove(rule);
                }
                ConcernedRules::Deletion(rule)
            }
            Operation::Move { rules, placement } => {
                self.move_block(index, &rules, placement);
                ConcernedRules::Move(rules)
            }
            Operation::Restore { rule, name, duplicates } => {
                self.restore(index, rule, name, duplicates)
            }
        }
    }

    /// Whether a rule exists, and had the expected revision and state before the batch.
    fn is_there(
        &mut self,
        index: usize,
        rule: RuleId,
        revision: Option<Revision>,
        state: &Named,
    ) -> bool {
        let Some(entry) = self.entries.get(&rule) else {
            self.fault_of_absent(index, "/rule_id", rule);
            return false;
        };
        let Some(before) = entry.before.as_ref().map(CurrentState::from) else { return true };
        let current = before.revision;
        let is_meant = revision.is_none_or(|wanted| wanted == current);
        if !is_meant {
            let detail =
                format!("the rule has changed since you read it: its revision is now {current}");
            self.fault_of(ViolationCode::RevisionMismatch, index, "/if_revision", detail);
        }
        match state.check(before) {
            Ok(()) => is_meant,
            Err(error) => {
                let (code, detail) = why_not(&error);
                self.fault_of(code, index, "/if_match", detail);
                false
            }
        }
    }

    /// The index of a rule in the order, which is sorted by priority and id.
    fn position(&self, rule: RuleId) -> Option<usize> {
        let priority = self.entries.get(&rule)?.spec.priority;
        self.order.binary_search_by_key(&(priority, rule), |(id, priority)| (*priority, *id)).ok()
    }

    /// The index at which a rule with a priority belongs.
    fn place_for(&self, rule: RuleId, priority: i32) -> usize {
        self.order.partition_point(|(id, other)| (*other, *id) < (priority, rule))
    }

    fn insert(&mut self, rule: RuleId, priority: i32) {
        let at = self.place_for(rule, priority);
        self.order.insert(at, (rule, priority));
    }

    fn create(
        &mut self,
        index: usize,
        spec: RuleSpec,
        placement: Option<Placement>,
    ) -> ConcernedRules {
        // There are no more operations than provisional ids.
        let id = RuleId::new(self.new).unwrap_or(RuleId::LAST);
        self.new += 1;
        let spec = match placement {
            None => Some(spec),
            Some(placement) => self
                .room(index, placement, 1)
                .and_then(|priorities| priorities.first().copied())
                .and_then(|priority| self.with_priority(index, spec, priority)),
        };
        if let Some(spec) = spec {
            self.insert(id, spec.priority);
            let entry = WorkingRule {
                before: None,
                deleted: None,
                spec,
                asked_by: Some(index),
                is_moved: false,
                keeps_duplicate: false,
            };
            self.entries.insert(id, entry);
        }
        ConcernedRules::Rule(id)
    }

    fn with_priority(&mut self, index: usize, spec: RuleSpec, priority: i32) -> Option<RuleSpec> {
        match RuleSpec::new(RuleParts { priority, ..spec.into_parts() }) {
            Ok(spec) => Some(spec),
            Err(faults) => {
                let at = format!("/operations/{index}/rule");
                self.violations.extend_below(&at, faults);
                None
            }
        }
    }

    fn update(&mut self, index: usize, rule: RuleId, patch: RulePatch) {
        let Some(entry) = self.entries.get(&rule) else { return };
        if let Some(before) = &entry.before {
            self.repeated.check(index, before, &patch.repeated, &mut self.violations);
        }
        let old = entry.spec.clone();
        match patch.apply(old.clone()) {
            Ok(spec) if spec == old => {}
            Ok(spec) => self.write(index, rule, &old, spec),
            Err(faults) => {
                let at = format!("/operations/{index}/patch");
                self.violations.extend_below(&at, faults);
            }
        }
    }

    /// Gives a rule new content, and moves it to the place of its new priority.
    fn write(&mut self, index: usize, rule: RuleId, old: &RuleSpec, spec: RuleSpec) {
        if old.priority != spec.priority
            && let Some(at) = self.position(rule)
        {
            self.order.remove(at);
            self.insert(rule, spec.priority);
        }
        if let Some(entry) = self.entries.get_mut(&rule) {
            entry.spec = spec;
            entry.asked_by = Some(index);
        }
    }
}
