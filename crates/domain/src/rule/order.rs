//! Making room in an order: the priorities of rules that are placed between others.
//!
//! Priorities are 32-bit integers, and rules of equal priority are ordered by id. Placed rules get
//! priorities of their own, strictly between those of their neighbors. If there is no room, the
//! shortest run of neighbors that makes room is renumbered. Rules with different priorities never
//! get equal ones, and the order of the other rules stays.

use std::ops::Range;

use crate::ids::RuleId;

/// The step between new priorities, if there is room for it.
const STEP: i64 = 10;
/// One below the smallest priority: the lower bound before the first rule.
const BEFORE_ALL: i64 = i32::MIN as i64 - 1;
/// One above the largest priority: the upper bound after the last rule.
const AFTER_ALL: i64 = i32::MAX as i64 + 1;

/// A rule's place: its id and its priority.
pub type RulePlace = (RuleId, i32);

/// The priorities after rules are placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The priorities of the placed rules, in their order.
    pub placed: Vec<i32>,
    /// The neighbors that get other priorities, in order.
    pub renumbered: Vec<RulePlace>,
    /// The indices of the run of rules that contains the renumbered ones.
    pub run: Range<usize>,
}

/// A place among the other rules of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Before all others.
    First,
    /// After all others.
    Last,
    /// Before a rule.
    Before(RuleId),
    /// After a rule.
    After(RuleId),
}

impl Placement {
    /// The index of the place among rules in order of evaluation; none if its rule is not among
    /// them.
    #[must_use]
    pub fn index(self, rules: &[RulePlace]) -> Option<usize> {
        let position = |wanted: RuleId| rules.iter().position(|(id, _)| *id == wanted);
        match self {
            Self::First => Some(0),
            Self::Last => Some(rules.len()),
            Self::Before(rule) => position(rule),
            Self::After(rule) => position(rule)?.checked_add(1),
        }
    }

    /// The rule next to the place, if the place has one, and the word for the side on which it is.
    #[must_use]
    pub const fn neighbor(self) -> Option<(&'static str, RuleId)> {
        match self {
            Self::Before(rule) => Some(("before", rule)),
            Self::After(rule) => Some(("after", rule)),
            Self::First | Self::Last => None,
        }
    }
}

/// Places `count` items before the rule with index `at` of rules in order of evaluation, or after
/// all rules if `at` is their number. Costs O(1) if there is room, else O(length of the run that is
/// renumbered).
///
/// Returns none if all priorities together leave no room. No policy's limit comes near that.
#[must_use]
pub fn make_room(rules: &[RulePlace], at: usize, count: usize) -> Option<Plan> {
    if count == 0 {
        return Some(Plan { placed: Vec::new(), renumbered: Vec::new(), run: at..at });
    }
    let at = at.min(rules.len());
    let (first, end) = shortest_run(rules, at, count)?;
    let total = end.checked_sub(first)?.checked_add(count)?;
    let priorities = spread(bound_before(rules, first), bound_after(rules, end), total)?;
    let (ahead, rest) = priorities.split_at_checked(at.checked_sub(first)?)?;
    let (placed, behind) = rest.split_at_checked(count)?;
    let run = rules.get(first..end)?;
    let renumbered = run
        .iter()
        .zip(ahead.iter().chain(behind))
        .filter(|((_, old), new)| old != *new)
        .map(|((id, _), new)| (*id, *new))
        .collect();
    Some(Plan { placed: placed.to_vec(), renumbered, run: first..end })
}

/// The lower bound at an index: the priority of the rule before it.
fn bound_before(rules: &[RulePlace], index: usize) -> i64 {
    let before = index.checked_sub(1).and_then(|before| rules.get(before));
    before.map_or(BEFORE_ALL, |(_, priority)| i64::from(*priority))
}

/// The upper bound at an index: the priority of the rule there.
fn bound_after(rules: &[RulePlace], index: usize) -> i64 {
    rules.get(index).map_or(AFTER_ALL, |(_, priority)| i64::from(*priority))
}

/// Spreads `total` priorities strictly between two bounds, in steps of at most [`STEP`].
fn spread(low: i64, high: i64, total: usize) -> Option<Vec<i32>> {
    let total = i64::try_from(total).ok()?;
    let step = STEP.min((high - low) / (total + 1));
    let origin = match (low, high) {
        (BEFORE_ALL, AFTER_ALL) => 0,
        // Before the first rule, close to it.
        (BEFORE_ALL, high) => high - step * (total + 1),
        (low, _) => low,
    };
    (1..=total)
        .map(|index| origin + step * index)
        .map(|priority| i32::try_from(priority).ok().filter(|_| low < priority && priority < high))
        .collect()
}

/// The shortest run of rules around an index whose surroundings leave room for all of it and
/// `count` more. Between the rules before `i` and from `j` on there is room when
/// `priority(j) - j` exceeds `priority(i - 1) - i` by more than `count`.
fn shortest_run(rules: &[RulePlace], at: usize, count: usize) -> Option<(usize, usize)> {
    let mut reach = FIRST_REACH;
    loop {
        let window = at.saturating_sub(reach)..at.saturating_add(reach).min(rules.len());
        let is_all = window == (0..rules.len());
        match shortest_run_within(rules, at, count, window) {
            // A run that is not within the window is longer than the window's reach.
            Some((first, end)) if is_all || end.saturating_sub(first) <= reach => {
                return Some((first, end));
            }
            None if is_all => return None,
            Some(_) | None => reach = reach.saturating_mul(2),
        }
    }
}

/// The reach of the first search for room around a place, in rules.
const FIRST_REACH: usize = 16;

/// Like [`shortest_run`], but only among the runs within a window around the index.
fn shortest_run_within(
    rules: &[RulePlace],
    at: usize,
    count: usize,
    window: Range<usize>,
) -> Option<(usize, usize)> {
    let index = |index: usize| i64::try_from(index).unwrap_or(i64::MAX);
    let low = |first: usize| bound_before(rules, first) - index(first);
    let high = |end: usize| bound_after(rules, end) - index(end);
    let needed = index(count).checked_add(1)?;
    if high(at) - low(at) >= needed {
        return Some((at, at));
    }
    let mut best: Option<(usize, usize)> = None;
    // From the place outwards: an end is a candidate only if it leaves more room than the ends
    // before it; the same holds for beginnings. The further the beginning, the nearer the end may
    // be.
    let mut ends: Vec<(i64, usize)> = Vec::new();
    for end in at..=window.end {
        if ends.last().is_none_or(|(most, _)| high(end) > *most) {
            ends.push((high(end), end));
        }
    }
    let mut least = i64::MAX;
    for first in (window.start..=at).rev() {
        if low(first) >= least {
            continue;
        }
        least = low(first);
        let nearest = ends.partition_point(|(most, _)| *most < least + needed);
        if let Some((_, end)) = ends.get(nearest)
            && best.is_none_or(|(begin, last)| end - first < last - begin)
        {
            best = Some((first, *end));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places(priorities: &[i32]) -> Vec<RulePlace> {
        (1..).map(|id| RuleId::new(id).unwrap()).zip(priorities.iter().copied()).collect()
    }

    fn plan(priorities: &[i32], at: usize, count: usize) -> (Vec<i32>, Vec<(i64, i32)>) {
        let plan = make_room(&places(priorities), at, count).unwrap();
        (plan.placed, plan.renumbered.iter().map(|(id, new)| (id.get(), *new)).collect())
    }

    #[test]
    fn there_is_room_in_gaps_and_at_the_ends() {
        assert_eq!(plan(&[], 0, 3), (vec![10, 20, 30], vec![]));
        assert_eq!(plan(&[10, 20], 1, 1), (vec![15], vec![]));
        assert_eq!(plan(&[10, 20], 2, 2), (vec![30, 40], vec![]));
        assert_eq!(plan(&[10, 20], 0, 2), (vec![-10, 0], vec![]));
        assert_eq!(plan(&[100, 9_000], 1, 2), (vec![110, 120], vec![]));
        assert_eq!(plan(&[i32::MAX - 1], 1, 1), (vec![i32::MAX], vec![]));
        assert_eq!(plan(&[i32::MIN + 1], 0, 1), (vec![i32::MIN], vec![]));
    }

    #[test]
    fn the_fewest_neighbors_give_way() {
        assert_eq!(plan(&[10, 11, 30], 1, 1), (vec![16], vec![(2, 22)]));
        assert_eq!(plan(&[1, 10, 11, 12, 13, 90], 2, 1), (vec![7], vec![(2, 4)]));
        assert_eq!(plan(&[i32::MAX - 1, i32::MAX], 2, 1).1.len(), 2);
        assert_eq!(plan(&[i32::MIN], 0, 1), (vec![10], vec![(1, 20)]));
    }

    #[test]
    fn equal_priorities_are_parted_where_something_comes_between() {
        assert_eq!(plan(&[10, 10, 20], 1, 1), (vec![13], vec![(2, 16)]));
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_a_plain_list(
            mut priorities in prop::collection::vec(prop_oneof![0..40_i32, any::<i32>(), Just(i32::MAX), Just(i32::MIN)], 0..40),
            at in 0..41_usize,
            count in 0..30_usize,
        ) {
            priorities.sort_unstable();
            let rules = places(&priorities);
            let at = at.min(rules.len());
            let plan = make_room(&rules, at, count).unwrap();
            prop_assert_eq!(plan.placed.len(), count);
            // A plain list: old rules with their new priorities, and the placed items among them.
            let new = |id: RuleId, old: i32| {
                plan.renumbered.iter().find(|(other, _)| *other == id).map_or(old, |(_, new)| *new)
            };
            let mut list: Vec<(Option<RuleId>, i32)> =
                rules.iter().map(|(id, old)| (Some(*id), new(*id, *old))).collect();
            list.splice(at..at, plan.placed.iter().map(|priority| (None, *priority)));
            for pair in list.windows(2) {
                let ((left, low), (right, high)) = (pair[0], pair[1]);
                prop_assert!(low <= high, "{list:?}");
                if low == high {
                    // Priorities are equal only if they were before, and ids still order them.
                    let old = |id: RuleId| rules.iter().find(|(other, _)| *other == id).unwrap().1;
                    prop_assert!(left.unwrap() < right.unwrap());
                    prop_assert_eq!(old(left.unwrap()), old(right.unwrap()));
                }
            }
            // No run that has room is shorter than the renumbered one.
            let given_way = plan.renumbered.len();
            for first in 0..=at {
                for end in at..=rules.len() {
                    let room = bound_after(&rules, end) - bound_before(&rules, first) - 1;
                    if room >= i64::try_from(end - first + count).unwrap() {
                        prop_assert!(given_way <= end - first);
                    }
                }
            }
        }
    }
}
