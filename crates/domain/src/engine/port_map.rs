//! Verdicts on packets whose source port is unknown: what decides at each port that they may have.
//!
//! The verdict as a function of the port is constant between the bounds of the rules' ports, so a
//! few ranges describe it exactly, and no port is sampled.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::net::PortRange;
use crate::rule::Action;

/// The most ranges of ports that an answer lists.
pub const MAX_ALTERNATIVES: usize = 8;

/// A value for each port of a range: consecutive ranges, each with its value. Neighboring ranges
/// have different values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortMap<T> {
    first: (PortRange, T),
    others: Vec<(PortRange, T)>,
}

impl<T: Copy + PartialEq> PortMap<T> {
    /// One value for all ports of a range.
    #[must_use]
    pub const fn constant(ports: PortRange, value: T) -> Self {
        Self { first: (ports, value), others: Vec::new() }
    }

    /// Appends ports that follow the last one.
    fn push(&mut self, ports: PortRange, value: T) {
        let last = self.others.last_mut().unwrap_or(&mut self.first);
        if last.1 != value {
            self.others.push((ports, value));
        } else if let Ok(joined) = PortRange::new(last.0.first(), ports.last()) {
            last.0 = joined;
        }
    }

    /// The ranges with their values, in order of ports.
    pub fn ranges(&self) -> impl Iterator<Item = (PortRange, T)> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    /// The value at a port; none if the port is outside the range.
    #[must_use]
    pub fn get(&self, port: u16) -> Option<T> {
        self.ranges().find(|(ports, _)| ports.contains(port)).map(|(_, value)| value)
    }

    /// Whether all ports have the same value.
    #[must_use]
    pub const fn is_constant(&self) -> bool {
        self.others.is_empty()
    }

    /// Changes each value. Neighbors that become equal are joined.
    #[must_use]
    pub fn map<U: Copy + PartialEq>(&self, change: impl Fn(T) -> U) -> PortMap<U> {
        let (ports, value) = self.first;
        let mut changed = PortMap::constant(ports, change(value));
        for (ports, value) in &self.others {
            changed.push(*ports, change(*value));
        }
        changed
    }

    /// Combines the values of two maps at each port that both have; none if they have no port in
    /// common.
    #[must_use]
    pub fn zip<U: Copy + PartialEq, V: Copy + PartialEq>(
        &self,
        other: &PortMap<U>,
        combine: impl Fn(T, U) -> V,
    ) -> Option<PortMap<V>> {
        let mut zipped: Option<PortMap<V>> = None;
        let (mut ours, mut theirs) = (self.ranges().peekable(), other.ranges().peekable());
        while let (Some((one, value)), Some((another, with))) = (ours.peek(), theirs.peek()) {
            if let Some(common) = one.intersection(*another) {
                let value = combine(*value, *with);
                match &mut zipped {
                    Some(zipped) => zipped.push(common, value),
                    None => zipped = Some(PortMap::constant(common, value)),
                }
            }
            if one.last() <= another.last() {
                ours.next();
            } else {
                theirs.next();
            }
        }
        zipped
    }
}

/// Ports that rules match at, collected in any order. The lowest rule gets a port.
#[derive(Debug)]
pub(super) struct Claims {
    ports: PortRange,
    all: Vec<(usize, PortRange)>,
    /// The lowest rule that matches at every port: later rules decide at none.
    best: usize,
}

impl Claims {
    pub(super) const fn new(ports: PortRange) -> Self {
        Self { ports, all: Vec::new(), best: usize::MAX }
    }

    /// The lowest rule so far that matches at every port; the highest number if there is none.
    pub(super) const fn best(&self) -> usize {
        self.best
    }

    /// A rule matches at some of the ports.
    pub(super) fn add(&mut self, rule: usize, ports: PortRange) {
        let Some(ports) = ports.intersection(self.ports) else { return };
        if ports == self.ports {
            self.best = self.best.min(rule);
        } else if rule < self.best {
            self.all.push((rule, ports));
        }
    }

    /// The lowest rule at each port; none if no rule matches there. Costs O(claims × log claims).
    pub(super) fn into_map(self) -> PortMap<Option<usize>> {
        let Self { ports, mut all, best } = self;
        let everywhere = (best != usize::MAX).then_some(best);
        all.retain(|(rule, _)| *rule < best);
        all.sort_unstable_by_key(|(_, ports)| ports.first());
        // The ports at which another rule can begin to decide. A number beyond the last port ends
        // the last range.
        let after = |last: u16| u32::from(last) + 1;
        let mut bounds = vec![u32::from(ports.first()), after(ports.last())];
        bounds.extend(all.iter().map(|(_, it)| u32::from(it.first())));
        bounds.extend(all.iter().map(|(_, it)| after(it.last())));
        bounds.sort_unstable();
        bounds.dedup();
        let mut map: Option<PortMap<Option<usize>>> = None;
        let mut next = all.into_iter().peekable();
        // The rules that match at the current port, and perhaps some that no longer do.
        let mut open = BinaryHeap::new();
        for (start, end) in bounds.iter().zip(bounds.iter().skip(1)) {
            while let Some((rule, ports)) = next.next_if(|it| u32::from(it.1.first()) <= *start) {
                open.push(Reverse((rule, ports.last())));
            }
            while open.peek().is_some_and(|Reverse((_, last))| u32::from(*last) < *start) {
                open.pop();
            }
            let rule = open.peek().map(|Reverse((rule, _))| *rule).or(everywhere);
            let (Ok(first), Ok(last)) = (u16::try_from(*start), u16::try_from(end - 1)) else {
                continue;
            };
            let Ok(range) = PortRange::new(first, last) else { continue };
            match &mut map {
                Some(map) => map.push(range, rule),
                None => map = Some(PortMap::constant(range, rule)),
            }
        }
        map.unwrap_or_else(|| PortMap::constant(ports, everywhere))
    }
}

/// The answer for a packet whose source port is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortAnswer<T> {
    /// The source ports that the packet may have.
    pub ports: PortRange,
    /// What decides: at all of the ports, or else at `port`.
    pub decided: T,
    /// The port whose verdict is the answer.
    pub port: u16,
    /// The number of ranges of ports. If it is one, the verdict does not depend on the port.
    pub ranges: usize,
    /// What decides at each range of ports, in order, at most the first [`MAX_ALTERNATIVES`]. Empty
    /// if the verdict does not depend on the port.
    pub alternatives: Vec<(PortRange, T)>,
}

impl<T: Copy + PartialEq> PortAnswer<T> {
    /// The answer for ports with these decisions. If they differ, it is the decision with the
    /// [strictest](Action::strictness) action, and of several such decisions the one at the lowest
    /// port. So the answer is ALLOW only if each port is allowed.
    #[must_use]
    pub fn new(ports: PortRange, map: &PortMap<T>, action: impl Fn(T) -> Option<Action>) -> Self {
        let strictness = |value: T| action(value).map_or(0, Action::strictness);
        let mut strictest = map.first;
        for (range, value) in &map.others {
            if strictness(*value) > strictness(strictest.1) {
                strictest = (*range, *value);
            }
        }
        let alternatives = if map.is_constant() {
            Vec::new()
        } else {
            map.ranges().take(MAX_ALTERNATIVES).collect()
        };
        let (range, decided) = strictest;
        let count = map.others.len() + 1;
        Self { ports, decided, port: range.first(), ranges: count, alternatives }
    }

    /// Whether the verdict depends on the source port.
    #[must_use]
    pub const fn is_dependent(&self) -> bool {
        self.ranges > 1
    }

    /// Changes what decides.
    #[must_use]
    pub fn map<U>(self, change: impl Fn(T) -> U) -> PortAnswer<U> {
        let Self { ports, decided, port, ranges, alternatives } = self;
        let alternatives = alternatives.into_iter().map(|(ports, it)| (ports, change(it)));
        PortAnswer {
            ports,
            decided: change(decided),
            port,
            ranges,
            alternatives: alternatives.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> PortRange {
        PortRange::new(first, last).unwrap()
    }

    #[test]
    fn the_lowest_rule_gets_each_port() {
        let ports = range(49_152, 65_535);
        let mut claims = Claims::new(ports);
        claims.add(5, range(0, 65_535));
        claims.add(9, range(50_000, 50_001));
        claims.add(3, range(65_535, 65_535));
        claims.add(2, range(0, 49_152));
        claims.add(4, range(50_000, 51_000));
        claims.add(1, range(50_500, 50_600));
        claims.add(0, range(0, 49_151));
        assert_eq!(claims.best(), 5);
        let map = claims.into_map();
        let found: Vec<_> = map.ranges().collect();
        assert_eq!(
            found,
            [
                (range(49_152, 49_152), Some(2)),
                (range(49_153, 49_999), Some(5)),
                (range(50_000, 50_499), Some(4)),
                (range(50_500, 50_600), Some(1)),
                (range(50_601, 51_000), Some(4)),
                (range(51_001, 65_534), Some(5)),
                (range(65_535, 65_535), Some(3)),
            ]
        );
        assert_eq!((map.get(50_600), map.get(49_151)), (Some(Some(1)), None));
        let joined = map.map(|rule| rule == Some(5));
        assert_eq!(joined.ranges().count(), 5);
        let none = Claims::new(ports).into_map();
        assert_eq!(none, PortMap::constant(ports, None));
    }

    #[test]
    fn maps_are_combined_at_each_port() {
        let ports = range(1, 10);
        let of = |first, last| {
            let mut claims = Claims::new(ports);
            claims.add(0, range(first, last));
            claims.into_map()
        };
        let both = of(2, 5).zip(&of(4, 10), |a, b| (a.is_some(), b.is_some())).unwrap();
        let expected = [(1, 1, (false, false)), (2, 3, (true, false)), (4, 5, (true, true))];
        let expected = expected.into_iter().chain([(6, 10, (false, true))]);
        assert!(both.ranges().eq(expected.map(|(first, last, it)| (range(first, last), it))));
        let elsewhere = PortMap::constant(range(11, 12), 0);
        assert_eq!(of(2, 5).zip(&elsewhere, |_, _| 0), None);
    }

    #[test]
    fn the_strictest_action_is_answered_and_of_equals_the_lowest_port() {
        let mut claims = Claims::new(range(1, 10));
        claims.add(0, range(3, 4));
        claims.add(1, range(6, 7));
        claims.add(2, range(9, 9));
        let map = claims.into_map();
        let answer = |none: Action, rules: [Action; 3]| {
            let action = |rule: Option<usize>| rule.map_or(Some(none), |it| rules.get(it).copied());
            let answer = PortAnswer::new(range(1, 10), &map, action);
            assert_eq!((answer.ranges, answer.alternatives.len()), (7, 7));
            (answer.decided, answer.port)
        };
        let (allow, deny, reject) = (Action::Allow, Action::Deny, Action::Reject);
        assert_eq!(answer(allow, [allow; 3]), (None, 1));
        assert_eq!(answer(allow, [allow, reject, deny]), (Some(2), 9));
        assert_eq!(answer(allow, [allow, reject, reject]), (Some(1), 6));
        assert_eq!(answer(deny, [deny; 3]), (None, 1));
        assert_eq!(answer(reject, [allow, deny, deny]), (Some(1), 6));
    }
}
