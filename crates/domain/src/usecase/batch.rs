//! Many changes of a policy's rules, all or none.

mod identity;
mod restore;

use std::collections::{HashMap, HashSet};

use crate::actor::{Caller, Role};
use crate::error::{Error, Result, Violation, Violations};
use crate::ids::{FirewallId, MAX_ID, PolicyId, Revision, RuleId};
use crate::mark::CurrentState;
use crate::patch::Patch;
use crate::policy::Policy;
use crate::rule::fingerprint::Fingerprint;
use crate::rule::order::{Place, Placement, make_room};
use crate::rule::{Rule, RuleParts, RulePatch, RuleSpec};
use crate::store::WriteUnit;
use crate::text::Name;
use crate::time::Instant;

use identity::{is_reordered, not_here, told_apart};

use super::expected::why_not;
use super::repeated::RepeatedCheck;
use super::rule::{Duplicates, check_size, restored};
use super::rule_set::{RuleChanges, events};
use super::{Expected, Named, next, policy};

/// The most operations of a batch.
pub const MAX_OPERATIONS: usize = 10_000;

/// The most that placing and moving may cost: operations that do, times the policy's rules. Keeps a
/// batch under a few seconds, in which on SQLite nobody else writes.
pub const MAX_PLACING_COST: u64 = 50_000_000;

/// One of the changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A new rule; its priority counts unless it is placed.
    Create {
        /// What it says.
        spec: Box<RuleSpec>,
        /// Where it is placed.
        placement: Option<Placement>,
    },
    /// A change of a rule.
    Update {
        /// Which.
        rule: RuleId,
        /// What of it.
        patch: Box<RulePatch>,
        /// What its revision must be before the batch.
        if_revision: Option<Revision>,
        /// What its state must be before the batch.
        if_match: Named,
    },
    /// A rule goes.
    Delete {
        /// Which.
        rule: RuleId,
        /// What its revision must be before the batch.
        if_revision: Option<Revision>,
        /// What its state must be before the batch.
        if_match: Named,
    },
    /// Rules move as a block, which keeps its order.
    Move {
        /// Which.
        rules: Vec<RuleId>,
        /// Where to.
        placement: Placement,
    },
    /// A deleted rule comes back, with the priority that it had.
    Restore {
        /// Which.
        rule: RuleId,
        /// Its name from then on, unless it keeps the one that it had.
        name: Patch<Option<Name>>,
        /// Whether it may be equal to another.
        duplicates: Duplicates,
    },
}

/// What became of an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A rule as it is after the whole batch; none where a later operation deleted it.
    Written(RuleId, Option<Box<Rule>>),
    /// The rule that went.
    Deleted(RuleId),
    /// The rules that moved.
    Moved(Vec<RuleId>),
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The policy after it.
    pub policy: Policy,
    /// Of each operation, in order. A new rule that a later operation could not name is never
    /// deleted again.
    pub outcomes: Vec<Outcome>,
}

/// A rule in the making.
#[derive(Debug)]
struct Entry {
    /// As it was before the batch; none if it was not there.
    before: Option<Rule>,
    /// The deleted rule that it is.
    deleted: Option<Rule>,
    spec: RuleSpec,
    /// The operation that last asked for it; none: at most it gave way.
    asked_by: Option<usize>,
    /// Whether it was asked to move: it can, and have its priority again, where others gave way.
    is_moved: bool,
    /// Whether it may be equal to another.
    keeps_duplicate: bool,
}

/// The policy's rules while the operations are applied, in order of evaluation.
struct Working {
    order: Vec<Place>,
    entries: HashMap<RuleId, Entry>,
    deleted: Vec<Rule>,
    /// Rules that were deleted before, and that operations ask for.
    restorable: HashMap<RuleId, Rule>,
    violations: Violations,
    new: i64,
    repeated: RepeatedCheck,
}

/// New rules have no ids yet: while they are in the making they go by numbers that no rule has, and
/// that order them behind all others.
const FIRST_PROVISIONAL: i64 = MAX_ID - MAX_OPERATIONS as i64;

/// Applies all operations, one after the other, or none. Names and contents are judged at the end.
///
/// # Errors
/// Where the role does not suffice, there is no such policy, it has changed meanwhile, it would be
/// too full, or operations are wrong: all that is, with their indices.
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
    check_cost(&operations, stored.len())?;
    let stored_order: Vec<RuleId> = stored.iter().map(|rule| rule.id).collect();
    let restorable = restore::restorable(uow, &policy, &operations).await?;
    let mut working = Working::new(stored, restorable, &operations, caller.now);
    let asked: Vec<Asked> =
        operations.into_iter().enumerate().map(|(index, it)| working.take(index, it)).collect();
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
            Asked::Rule(id) => {
                let rule = written.get(&id).cloned();
                let rule = rule.or_else(|| {
                    let Entry { before, spec, .. } = entries.get(&id)?;
                    let before = before.clone()?;
                    // It may have given way, unless nothing was written at all.
                    let spec = if is_nothing { before.spec } else { spec.clone() };
                    Some(Rule { spec, ..before })
                });
                Outcome::Written(rule.as_ref().map_or(id, |rule| rule.id), rule.map(Box::new))
            }
            Asked::Deletion(id) => Outcome::Deleted(id),
            Asked::Move(ids) => Outcome::Moved(ids),
        })
        .collect();
    Ok(Batch { policy: after, outcomes })
}

/// A place is found by looking at all rules.
fn check_cost(operations: &[Operation], rules: usize) -> Result<()> {
    let places = operations.iter().filter(|operation| match operation {
        Operation::Create { placement, .. } => placement.is_some(),
        Operation::Move { .. } => true,
        Operation::Update { .. } | Operation::Delete { .. } | Operation::Restore { .. } => false,
    });
    let cost = places.count().saturating_mul(rules);
    if u64::try_from(cost).unwrap_or(u64::MAX) > MAX_PLACING_COST {
        return Err(Error::TooLarge {
            what: "the number of placed and moved rules of a batch, times the policy's rules,",
            limit: MAX_PLACING_COST,
            hint: "send several batches, move blocks, or replace the whole set".into(),
        });
    }
    Ok(())
}

/// What an operation asked for, until it is known what became of it.
enum Asked {
    Rule(RuleId),
    Deletion(RuleId),
    Move(Vec<RuleId>),
}

impl Working {
    fn new(
        stored: Vec<Rule>,
        restorable: HashMap<RuleId, Rule>,
        operations: &[Operation],
        now: Instant,
    ) -> Self {
        let order: Vec<Place> = stored.iter().map(|rule| (rule.id, rule.spec.priority)).collect();
        let repeated = RepeatedCheck::new(operations, &order, now);
        let entry = |rule: Rule| {
            let (id, spec) = (rule.id, rule.spec.clone());
            let entry = Entry {
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
            violations: Violations::new(),
            new: FIRST_PROVISIONAL,
            repeated,
        }
    }

    fn fault(&mut self, index: usize, member: &str, detail: impl Into<String>) {
        let pointer = format!("/operations/{index}{member}");
        self.violations.push(Violation::body(pointer, detail));
    }

    fn take(&mut self, index: usize, operation: Operation) -> Asked {
        match operation {
            Operation::Create { spec, placement } => self.create(index, *spec, placement),
            Operation::Update { rule, patch, if_revision, if_match } => {
                if self.is_there(index, rule, if_revision, &if_match) {
                    self.update(index, rule, *patch);
                }
                Asked::Rule(rule)
            }
            Operation::Delete { rule, if_revision, if_match } => {
                if self.is_there(index, rule, if_revision, &if_match)
                    && let Some(at) = self.position(rule)
                {
                    self.order.remove(at);
                    self.remove(rule);
                }
                Asked::Deletion(rule)
            }
            Operation::Move { rules, placement } => {
                self.move_block(index, &rules, placement);
                Asked::Move(rules)
            }
            Operation::Restore { rule, name, duplicates } => {
                self.restore(index, rule, name, duplicates)
            }
        }
    }

    /// Whether a rule is there, at the revision and in the state that are asked for.
    fn is_there(
        &mut self,
        index: usize,
        rule: RuleId,
        revision: Option<Revision>,
        state: &Named,
    ) -> bool {
        let Some(entry) = self.entries.get(&rule) else {
            self.fault(index, "/rule_id", not_here(rule));
            return false;
        };
        let Some(before) = entry.before.as_ref().map(CurrentState::from) else { return true };
        let current = before.revision;
        let is_meant = revision.is_none_or(|wanted| wanted == current);
        if !is_meant {
            let detail = format!(
                "the rule has changed since you read it: its revision is now \
                                  {current}"
            );
            self.fault(index, "/if_revision", detail);
        }
        match state.check(before) {
            Ok(()) => is_meant,
            Err(error) => {
                self.fault(index, "/if_match", why_not(&error));
                false
            }
        }
    }

    /// Where a rule stands: the order is sorted by priority and id.
    fn position(&self, rule: RuleId) -> Option<usize> {
        let priority = self.entries.get(&rule)?.spec.priority;
        self.order.binary_search_by_key(&(priority, rule), |(id, priority)| (*priority, *id)).ok()
    }

    fn insert(&mut self, rule: RuleId, priority: i32) {
        let at = self.order.partition_point(|(id, other)| (*other, *id) < (priority, rule));
        self.order.insert(at, (rule, priority));
    }

    fn create(&mut self, index: usize, spec: RuleSpec, placement: Option<Placement>) -> Asked {
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
            let entry = Entry {
                before: None,
                deleted: None,
                spec,
                asked_by: Some(index),
                is_moved: false,
                keeps_duplicate: false,
            };
            self.entries.insert(id, entry);
        }
        Asked::Rule(id)
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

    /// Gives a rule new content, and its place by it.
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

    /// Gives a rule another priority without asking for it.
    fn renumber(&mut self, rule: RuleId, priority: i32) {
        let Some(entry) = self.entries.get_mut(&rule) else { return };
        let parts = RuleParts { priority, ..entry.spec.clone().into_parts() };
        // Its content was good, and a priority changes nothing of that.
        if let Ok(spec) = RuleSpec::new(parts) {
            entry.spec = spec;
        }
    }

    /// Priorities for so many rules at a place; others give way where they must.
    fn room(&mut self, index: usize, placement: Placement, count: usize) -> Option<Vec<i32>> {
        let Some(at) = self.index_of(placement) else {
            let (member, rule) = match placement {
                Placement::Before(rule) => ("/before", rule),
                Placement::After(rule) => ("/after", rule),
                Placement::First | Placement::Last => return None,
            };
            self.fault(index, member, not_here(rule));
            return None;
        };
        let plan = make_room(&self.order, at, count)?;
        // Found first, then written: in between the order is not sorted.
        let given_way: Vec<(Option<usize>, Place)> =
            plan.renumbered.iter().map(|place| (self.position(place.0), *place)).collect();
        for (at, (rule, priority)) in given_way {
            if let Some(place) = at.and_then(|at| self.order.get_mut(at)) {
                place.1 = priority;
            }
            self.renumber(rule, priority);
        }
        Some(plan.placed)
    }

    fn index_of(&self, placement: Placement) -> Option<usize> {
        match placement {
            Placement::First => Some(0),
            Placement::Last => Some(self.order.len()),
            Placement::Before(rule) => self.position(rule),
            Placement::After(rule) => self.position(rule)?.checked_add(1),
        }
    }

    fn move_block(&mut self, index: usize, rules: &[RuleId], placement: Placement) {
        let wanted: HashSet<RuleId> = rules.iter().copied().collect();
        let mut is_good = true;
        for (number, rule) in rules.iter().enumerate() {
            if !self.entries.contains_key(rule) {
                self.fault(index, &format!("/rule_ids/{number}"), not_here(*rule));
                is_good = false;
            }
        }
        let beside = match placement {
            Placement::Before(rule) | Placement::After(rule) => wanted.contains(&rule),
            Placement::First | Placement::Last => false,
        };
        if beside || wanted.len() != rules.len() || rules.is_empty() {
            let detail = "must name each rule once, and not the rule that they move to";
            self.fault(index, "/rule_ids", detail);
            is_good = false;
        }
        if !is_good {
            return;
        }
        let whole = self.order.clone();
        let (block, rest): (Vec<Place>, Vec<Place>) =
            whole.iter().partition(|(id, _)| wanted.contains(id));
        self.order = rest;
        let at = self.index_of(placement);
        let stays = at.and_then(|at| whole.get(at..)).is_some_and(|it| it.starts_with(&block));
        if stays {
            self.order = whole;
            return;
        }
        let Some(priorities) = self.room(index, placement, block.len()) else {
            self.order = whole;
            return;
        };
        for ((rule, _), priority) in block.iter().zip(priorities) {
            self.renumber(*rule, priority);
            self.insert(*rule, priority);
            if let Some(entry) = self.entries.get_mut(rule) {
                entry.asked_by = Some(index);
                entry.is_moved = true;
            }
        }
    }

    /// Judges the end state: no name twice, and no content unless duplicates are kept. Whether some
    /// are there: those that were equal before stay so until somebody asks otherwise.
    fn judge(&mut self, duplicates: Duplicates) -> Duplicates {
        let mut names: HashMap<&str, RuleId> = HashMap::new();
        let mut contents: HashMap<Fingerprint, RuleId> = HashMap::new();
        let mut clashes: Vec<(usize, String)> = Vec::new();
        let mut found = duplicates;
        for (id, entry) in
            self.order.iter().filter_map(|(id, _)| Some((*id, self.entries.get(id)?)))
        {
            if let Some(name) = &entry.spec.name
                && let Some(other) = names.insert(name.as_str(), id)
            {
                clashes.extend(self.clash(other, id, "has the same name as", Entry::has_new_name));
            }
            if let Some(other) = contents.insert(Fingerprint::of(&entry.spec), id) {
                found = Duplicates::Keep;
                let is_kept =
                    |id: RuleId| self.entries.get(&id).is_some_and(|it| it.keeps_duplicate);
                if duplicates == Duplicates::Refuse && !is_kept(id) && !is_kept(other) {
                    clashes.extend(self.clash(
                        other,
                        id,
                        "is equivalent to",
                        Entry::has_new_content,
                    ));
                }
            }
        }
        clashes.sort();
        for (index, detail) in clashes {
            self.fault(index, "", detail);
        }
        found
    }

    /// Which operation is to blame that two rules are alike: the later of those that made them so.
    fn clash(
        &self,
        one: RuleId,
        other: RuleId,
        what: &str,
        is_new: impl Fn(&Entry) -> bool,
    ) -> Option<(usize, String)> {
        let blame = |id: RuleId| {
            let entry = self.entries.get(&id)?;
            entry.asked_by.filter(|_| is_new(entry))
        };
        let (index, with) = match (blame(one), blame(other)) {
            (None, None) => return None,
            (Some(first), Some(second)) if first > second => (first, other),
            (Some(first), None) => (first, other),
            (_, Some(second)) => (second, one),
        };
        let with = match blame(with).filter(|_| with.get() >= FIRST_PROVISIONAL) {
            Some(operation) => format!("that of #/operations/{operation}"),
            None => format!("the one with id={with}"),
        };
        Some((index, format!("the rule {what} {with}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_hold_up_others_is_refused() {
        let rule = RuleId::new(1).unwrap();
        let moves = vec![Operation::Move { rules: vec![rule], placement: Placement::First }; 1_000];
        assert!(check_cost(&moves, 50_000).is_ok());
        assert!(matches!(check_cost(&moves, 50_001), Err(Error::TooLarge { .. })));
        let delete = Operation::Delete { rule, if_revision: None, if_match: Named::Nothing };
        let deletions = vec![delete; 10_000];
        assert!(check_cost(&deletions, 200_000).is_ok());
    }
}
