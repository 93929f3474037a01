//! Two policies as one list of rules, in which rules that both have stand once.

use super::intern::{FxHashMap, FxHasher};
use super::report::RuleIndex;
use super::request::AnalysedRule;
use super::walk::OnSides;
use crate::rule::{Action, Criteria, Endpoint, RuleSpec, Schedule};
use std::hash::{Hash, Hasher};

/// A rule of the merged list.
#[derive(Debug, Clone, Copy)]
pub(super) struct MergedRule<'a> {
    pub(super) spec: &'a RuleSpec,
    pub(super) left: Option<RuleIndex>,
    pub(super) right: Option<RuleIndex>,
}

impl MergedRule<'_> {
    pub(super) const fn sides(&self) -> OnSides {
        match (self.left, self.right) {
            (Some(_), Some(_)) => OnSides::BOTH,
            (Some(_), None) => OnSides::LEFT,
            (None, _) => OnSides::RIGHT,
        }
    }

    pub(super) const fn is_changed(&self) -> bool {
        self.left.is_none() || self.right.is_none()
    }
}

/// Whether two rules do the same with the same packets at all times.
fn is_same(a: &RuleSpec, b: &RuleSpec) -> bool {
    std::ptr::eq(a, b) || key(a) == key(b)
}

type Key<'a> = (Action, [&'a [Endpoint]; 2], ByteKey<'a>, TimeKey);
type ByteKey<'a> =
    (&'a [crate::net::Protocol], Option<u8>, Option<u8>, &'a [crate::net::PortRange]);
type TimeKey = (bool, Option<crate::time::Instant>, Option<crate::time::Instant>);

fn key(spec: &RuleSpec) -> Key<'_> {
    // No `..`: the compiler demands a decision here for each new member.
    let Criteria { protocols, icmp_type, icmp_code, sources, destinations, ports } =
        Criteria::of(spec);
    let Schedule { enabled, starts_at, expires_at } = Schedule::of(spec);
    let bytes = (protocols, icmp_type, icmp_code, ports);
    (spec.action, [sources, destinations], bytes, (enabled, starts_at, expires_at))
}

fn hash(spec: &RuleSpec) -> u64 {
    let mut hasher = FxHasher::default();
    key(spec).hash(&mut hasher);
    hasher.finish()
}

/// For each rule of a list, the rule of another one that is the same, if there is one.
pub(super) fn same_rules(
    before: &[AnalysedRule<'_>],
    after: &[AnalysedRule<'_>],
) -> Vec<Option<RuleIndex>> {
    let mut same = vec![None; before.len()];
    for rule in merge(before, after) {
        let (Some(left), Some(right)) = (rule.left, rule.right) else { continue };
        let logs = |rules: &[AnalysedRule<'_>], at: RuleIndex| rules.get(at).map(|it| it.spec.log);
        if let Some(own) = same.get_mut(left).filter(|_| logs(before, left) == logs(after, right)) {
            *own = Some(right);
        }
    }
    same
}

/// Merges two lists. As many rules as possible are on both sides, and the order of each list is kept.
pub(super) fn merge<'a>(
    left: &[AnalysedRule<'a>],
    right: &[AnalysedRule<'a>],
) -> Vec<MergedRule<'a>> {
    let same = |(a, b): &(&AnalysedRule<'_>, &AnalysedRule<'_>)| is_same(a.spec, b.spec);
    let start = left.iter().zip(right).take_while(same).count();
    let rest = left.len().min(right.len()) - start;
    let end = left.iter().rev().zip(right.iter().rev()).take(rest).take_while(same).count();
    let pairs = matched(left, right, start, end);
    let mut merged = Vec::with_capacity(left.len().max(right.len()));
    let (mut next_left, mut next_right) = (0, 0);
    let mut add_up_to = |merged: &mut Vec<MergedRule<'a>>, (to_left, to_right): (usize, usize)| {
        for index in next_left..to_left {
            let spec = left.get(index).map(|it| it.spec);
            merged.extend(spec.map(|spec| MergedRule { spec, left: Some(index), right: None }));
        }
        for index in next_right..to_right {
            let spec = right.get(index).map(|it| it.spec);
            merged.extend(spec.map(|spec| MergedRule { spec, left: None, right: Some(index) }));
        }
        (next_left, next_right) = (to_left + 1, to_right + 1);
    };
    for (index, other) in pairs {
        add_up_to(&mut merged, (index, other));
        let spec = left.get(index).map(|it| it.spec);
        merged.extend(spec.map(|spec| MergedRule { spec, left: Some(index), right: Some(other) }));
    }
    add_up_to(&mut merged, (left.len(), right.len()));
    merged
}

/// Pairs of equal rules in the same order in both lists. The first `start` and the last `end` rules
/// are equal.
fn matched(
    left: &[AnalysedRule<'_>],
    right: &[AnalysedRule<'_>],
    start: usize,
    end: usize,
) -> Vec<(RuleIndex, RuleIndex)> {
    // The k-th of several equal rules belongs to the k-th of the other list.
    let mut by_hash: FxHashMap<u64, Vec<RuleIndex>> = FxHashMap::default();
    for index in (start..right.len() - end).rev() {
        if let Some(rule) = right.get(index) {
            by_hash.entry(hash(rule.spec)).or_default().push(index);
        }
    }
    let mut candidates: Vec<(RuleIndex, RuleIndex)> = Vec::new();
    for index in start..left.len() - end {
        let Some(rule) = left.get(index) else { continue };
        let Some(others) = by_hash.get_mut(&hash(rule.spec)) else { continue };
        let other = others.last().copied();
        let is_equal =
            |it: &RuleIndex| right.get(*it).is_some_and(|other| is_same(rule.spec, other.spec));
        if let Some(other) = other.filter(is_equal) {
            others.pop();
            candidates.push((index, other));
        }
    }
    let mut pairs: Vec<(RuleIndex, RuleIndex)> = (0..start).map(|it| (it, it)).collect();
    pairs.extend(longest_increasing(&candidates));
    pairs.extend((1..=end).rev().map(|it| (left.len() - it, right.len() - it)));
    pairs
}

/// The longest run of pairs that increases in the second number too.
pub(super) fn longest_increasing(pairs: &[(RuleIndex, RuleIndex)]) -> Vec<(RuleIndex, RuleIndex)> {
    // For each length, the pair with the smallest second number that ends a run of it.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(pairs.len());
    let second = |at: &usize| pairs.get(*at).map_or(0, |pair| pair.1);
    for (at, pair) in pairs.iter().enumerate() {
        let length = ends.partition_point(|end| second(end) < pair.1);
        before.push(length.checked_sub(1).and_then(|it| ends.get(it)).copied());
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut run = Vec::with_capacity(ends.len());
    let mut next = ends.last().copied();
    while let Some(at) = next {
        run.extend(pairs.get(at));
        next = before.get(at).copied().flatten();
    }
    run.reverse();
    run
}
