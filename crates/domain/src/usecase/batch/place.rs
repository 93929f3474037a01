//! Places of rules in a batch: making room, and moving blocks.

use std::collections::HashSet;

use super::Working;
use crate::error::{Error, Result};
use crate::ids::RuleId;
use crate::rule::order::{Placement, RulePlace, make_room};

/// The most that placing and moving may cost, in renumbered rules. This keeps a batch under a few
/// seconds, since SQLite admits no other writer during that time. A batch comes near this limit
/// only if most rules of its policy have consecutive priorities and the next free priority is far
/// away. Then each placement renumbers most of the rules.
const MAX_WORK: usize = 25_000_000;

/// How many places can be shifted in memory in the time that it takes to renumber one rule.
const SHIFTED_AS_ONE: usize = 128;

impl Working {
    /// Checks that placing and moving stayed within [`MAX_WORK`].
    ///
    /// # Errors
    /// Returns [`Error::TooLarge`] if it cost more.
    pub(super) fn check_work(&self) -> Result<()> {
        if self.work <= MAX_WORK {
            return Ok(());
        }
        Err(Error::TooLarge {
            what: "the number of rules that a batch renumbers to place and move others",
            limit: u64::try_from(MAX_WORK).unwrap_or(u64::MAX),
            hint: "send several batches, move blocks, or put the whole set".into(),
        })
    }

    /// Gives a rule another priority, which does not count as a change of the rule.
    fn renumber(&mut self, rule: RuleId, priority: i32) {
        if let Some(entry) = self.entries.get_mut(&rule) {
            entry.spec.set_priority(priority);
        }
    }

    /// Priorities for `count` rules at a place. Renumbers other rules if there is no room.
    pub(super) fn room(
        &mut self,
        index: usize,
        placement: Placement,
        count: usize,
    ) -> Option<Vec<i32>> {
        if self.work > MAX_WORK {
            return None;
        }
        let Some(at) = self.index_of(placement) else {
            let (name, rule) = placement.neighbor()?;
            self.fault_of_absent(index, &format!("/{name}"), rule);
            return None;
        };
        let plan = make_room(&self.order, at, count)?;
        self.work += plan.run.len() + self.order.len() / SHIFTED_AS_ONE;
        let mut renumbered = plan.renumbered.iter().peekable();
        for place in self.order.get_mut(plan.run).into_iter().flatten() {
            if let Some((_, priority)) = renumbered.next_if(|(rule, _)| *rule == place.0) {
                place.1 = *priority;
            }
        }
        for (rule, priority) in plan.renumbered {
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

    pub(super) fn move_block(&mut self, index: usize, rules: &[RuleId], placement: Placement) {
        let wanted: HashSet<RuleId> = rules.iter().copied().collect();
        let mut is_good = true;
        for (number, rule) in rules.iter().enumerate() {
            if !self.entries.contains_key(rule) {
                self.fault_of_absent(index, &format!("/rule_ids/{number}"), *rule);
                is_good = false;
            }
        }
        let beside = placement.neighbor().is_some_and(|(_, rule)| wanted.contains(&rule));
        if beside || wanted.len() != rules.len() || rules.is_empty() {
            let detail = "must name each rule once, and not the rule that they move to";
            self.fault(index, "/rule_ids", detail);
            is_good = false;
        }
        if !is_good || self.work > MAX_WORK {
            return;
        }
        let mut places: Vec<usize> = rules.iter().filter_map(|rule| self.position(*rule)).collect();
        places.sort_unstable();
        let (block, rest) = parted(&self.order, &places);
        self.work += rules.len() + self.order.len() / SHIFTED_AS_ONE;
        let whole = std::mem::replace(&mut self.order, rest);
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
        let moved: Vec<RulePlace> =
            block.iter().zip(priorities).map(|((rule, _), priority)| (*rule, priority)).collect();
        // Their priorities are strictly between those of their neighbors, so they form one run.
        let start = moved.first().map_or(0, |(rule, priority)| self.place_for(*rule, *priority));
        self.order.splice(start..start, moved.iter().copied());
        for (rule, priority) in moved {
            self.renumber(rule, priority);
            if let Some(entry) = self.entries.get_mut(&rule) {
                entry.asked_by = Some(index);
                entry.is_moved = true;
            }
        }
    }
}

/// Splits the order into the places at `indices`, which ascend, and the others. Copies whole runs.
fn parted(order: &[RulePlace], indices: &[usize]) -> (Vec<RulePlace>, Vec<RulePlace>) {
    let mut block = Vec::with_capacity(indices.len());
    let mut rest = Vec::with_capacity(order.len());
    let mut start = 0;
    for index in indices {
        rest.extend_from_slice(order.get(start..*index).unwrap_or_default());
        block.extend(order.get(*index));
        start = index.saturating_add(1);
    }
    rest.extend_from_slice(order.get(start..).unwrap_or_default());
    (block, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::FirewallRef;
    use crate::ids::{FirewallId, PolicyId, Revision};
    use crate::mark::Mark;
    use crate::policy::PolicyRef;
    use crate::rule::{Action, Rule, RuleParts, RuleSpec};
    use crate::testing::rules::everything;
    use crate::text::Name;
    use crate::time::Instant;
    use crate::usecase::absent::AbsentRules;
    use crate::usecase::batch::{ConcernedRules, Operation};
    use std::collections::HashMap;

    const RULES: i64 = 100_000;

    /// A policy with many rules at these priorities.
    fn working(priority: impl Fn(i32) -> i32) -> Working {
        let now = Instant::from_micros(0).unwrap();
        let name = |text: &str| Name::parse(text).unwrap();
        let policy = PolicyRef {
            id: PolicyId::new(1).unwrap(),
            name: name("in"),
            default_action: Action::Deny,
            header_revision: Revision(1),
            firewall: FirewallRef {
                id: FirewallId::new(1).unwrap(),
                name: name("edge"),
                header_revision: Revision(1),
            },
        };
        let stored = (1..=RULES).map(|id| {
            let priority = priority(i32::try_from(id).unwrap());
            Rule {
                id: RuleId::new(id).unwrap(),
                policy: policy.clone(),
                spec: RuleSpec::new(RuleParts { priority, ..everything() }).unwrap(),
                revision: Revision(1),
                mark: Mark::new(1),
                created_at: now,
                created_by: String::new(),
                updated_at: now,
                updated_by: String::new(),
                deleted: None,
            }
        });
        Working::new(stored.collect(), HashMap::new(), AbsentRules::default(), &[], now)
    }

    fn middle() -> RuleId {
        RuleId::new(RULES / 2).unwrap()
    }

    fn place(working: &mut Working, index: usize, placement: Placement) -> ConcernedRules {
        let spec = Box::new(RuleSpec::new(everything()).unwrap());
        working.take(index, Operation::Create { spec, placement: Some(placement) })
    }

    fn is_in_order(working: &Working) -> bool {
        let key = |place: &RulePlace| (place.1, place.0);
        working.order.is_sorted_by_key(key)
            && working.order.iter().all(|(rule, priority)| {
                working.entries.get(rule).is_some_and(|it| it.spec.priority == *priority)
            })
    }

    #[test]
    fn as_many_rules_as_a_batch_has_are_placed_among_as_many_as_a_policy_has() {
        let mut working = working(|number| 10 * number);
        for index in 0..6_000 {
            place(&mut working, index, Placement::Before(middle()));
        }
        for index in 6_000..8_000 {
            let rule = RuleId::new(i64::try_from(index).unwrap()).unwrap();
            let rules = vec![rule];
            working.take(index, Operation::Move { rules, placement: Placement::After(middle()) });
        }
        assert!(working.check_work().is_ok(), "{}", working.work);
        assert!(working.violations.is_empty());
        assert_eq!(working.order.len(), usize::try_from(RULES).unwrap() + 6_000);
        assert!(is_in_order(&working));
        // The rule that was moved last comes directly after it.
        let at = working.position(middle()).unwrap();
        assert_eq!(working.order[at + 1].0, RuleId::new(7_999).unwrap());
    }

    #[test]
    fn what_would_hold_up_others_is_refused() {
        // No priority is free below. Above, only single ones are free, and they come after most of
        // the rules, which are therefore renumbered each time.
        let dense = 90_000;
        let mut working = working(|number| i32::MIN + number + (number - dense).max(0) - 1);
        // Reaching the limit takes hundreds of placements, so the test starts close to it.
        working.work = MAX_WORK - 1_000_000;
        let mut placed = 0;
        while working.check_work().is_ok() && placed < 100 {
            place(&mut working, placed, Placement::After(RuleId::new(1).unwrap()));
            placed += 1;
        }
        assert!((10..15).contains(&placed), "{placed}");
        assert!(matches!(working.check_work(), Err(Error::TooLarge { .. })));
        assert!(is_in_order(&working));
    }
}
