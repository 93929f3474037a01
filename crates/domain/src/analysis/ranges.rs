//! Sets of numbers as ranges: disjoint, in order, and not adjacent.
//!
//! Ranges are half-open, so that sizes and neighbors need no arithmetic at the ends.

use std::cell::OnceCell;

use super::ranks::Ranks;

/// The first value, and the first after the last.
pub(super) type Range = (u32, u32);

/// Any ranges as a set.
pub(super) fn normalized(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.retain(|range| range.0 < range.1);
    if ranges.len() < 2 {
        return ranges;
    }
    ranges.sort_unstable();
    let mut set: Vec<Range> = Vec::with_capacity(ranges.len());
    for (first, end) in ranges {
        match set.last_mut() {
            Some(last) if first <= last.1 => last.1 = last.1.max(end),
            _ => set.push((first, end)),
        }
    }
    set
}

/// How many values a set has.
pub(super) fn size(set: &[Range]) -> u64 {
    set.iter().map(|range| u64::from(range.1 - range.0)).sum()
}

/// The values of both sets.
pub(super) fn intersection(a: &[Range], b: &[Range]) -> Vec<Range> {
    // The search is worth it if one set is much longer.
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut both = Vec::with_capacity(short.len());
    let mut rest = long;
    for range in short {
        let skipped = rest.partition_point(|it| it.1 <= range.0);
        rest = rest.get(skipped..).unwrap_or_default();
        for it in rest.iter().take_while(|it| it.0 < range.1) {
            both.push((it.0.max(range.0), it.1.min(range.1)));
        }
    }
    both
}

/// The values of the first set that are not in the second.
pub(super) fn difference(a: &[Range], b: &[Range]) -> Vec<Range> {
    let mut left = Vec::with_capacity(a.len() + 1);
    let mut rest = b;
    for range in a {
        let skipped = rest.partition_point(|it| it.1 <= range.0);
        rest = rest.get(skipped..).unwrap_or_default();
        let mut from = range.0;
        for it in rest.iter().take_while(|it| it.0 < range.1) {
            if it.0 > from {
                left.push((from, it.0));
            }
            from = it.1;
        }
        if from < range.1 {
            left.push((from, range.1));
        }
    }
    left
}

/// Whether some value is in both sets.
pub(super) fn meets(a: &[Range], b: &[Range]) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut rest = long;
    short.iter().any(|range| {
        let skipped = rest.partition_point(|it| it.1 <= range.0);
        rest = rest.get(skipped..).unwrap_or_default();
        rest.first().is_some_and(|it| it.0 < range.1)
    })
}

/// Whether the first set contains the second.
pub(super) fn contains(a: &[Range], b: &[Range]) -> bool {
    let mut rest = a;
    b.iter().all(|range| {
        let skipped = rest.partition_point(|it| it.1 <= range.0);
        rest = rest.get(skipped..).unwrap_or_default();
        rest.first().is_some_and(|it| it.0 <= range.0 && range.1 <= it.1)
    })
}

/// Whether a value is in a set.
pub(super) fn has(set: &[Range], value: u32) -> bool {
    let skipped = set.partition_point(|it| it.1 <= value);
    set.get(skipped).is_some_and(|it| it.0 <= value)
}

/// The first value of a set, and the first after its last; an empty range for the empty set.
pub(super) fn hull(set: &[Range]) -> Range {
    let first = set.first().map_or(0, |range| range.0);
    (first, set.last().map_or(first, |range| range.1))
}

/// What a range has in common with a set.
struct Overlap {
    /// The number of the first range of the set that it meets.
    from: usize,
    /// The number after that of the last one.
    to: usize,
    /// The part of the first one before the range; it can be empty.
    before: Range,
    /// The part of the last one after the range.
    behind: Range,
}

/// A set with the sizes up to each range, so that the part of it in a range is counted by search.
#[derive(Debug, Clone, Default)]
pub(super) struct Summed {
    ranges: Vec<Range>,
    /// The size of all ranges before each range, and of all.
    sums: Vec<u64>,
    /// The same in addresses, once it is asked for.
    addresses: OnceCell<Vec<f64>>,
}

impl Summed {
    pub(super) fn new(ranges: Vec<Range>) -> Self {
        let mut sums = Vec::with_capacity(ranges.len() + 1);
        let mut sum = 0;
        sums.push(0);
        for range in &ranges {
            sum += u64::from(range.1 - range.0);
            sums.push(sum);
        }
        Self { ranges, sums, addresses: OnceCell::new() }
    }

    pub(super) fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    pub(super) fn size(&self) -> u64 {
        self.sums.last().copied().unwrap_or(0)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.ranges.capacity() * size_of::<Range>() + self.sums.capacity() * size_of::<u64>()
    }

    /// How many of its values are in another set. Adds the ranges that it looked at to `steps`.
    #[inline]
    pub(super) fn count_in(&self, other: &[Range], steps: &mut u64) -> u64 {
        if let ([own], [its]) = (&*self.ranges, other) {
            return u64::from(own.1.min(its.1).saturating_sub(own.0.max(its.0)));
        }
        if other.len() > 8 * self.ranges.len() {
            return self.count_from_own(other, steps);
        }
        let mut count = 0;
        let sum = |at: usize| self.sums.get(at).copied().unwrap_or(0);
        self.each_overlap(other, steps, |Overlap { from, to, before, behind }| {
            count += sum(to) - sum(from);
            count -= u64::from(before.1 - before.0);
            count -= u64::from(behind.1 - behind.0);
        });
        count
    }

    /// Calls `see` for each range of another set that meets some ranges of this one.
    #[inline]
    fn each_overlap(&self, other: &[Range], steps: &mut u64, mut see: impl FnMut(Overlap)) {
        let mut from = 0;
        for range in other {
            *steps += 1;
            let rest = self.ranges.get(from..).unwrap_or_default();
            from += rest.partition_point(|it| it.1 <= range.0);
            let rest = self.ranges.get(from..).unwrap_or_default();
            let Some(first) = rest.first() else { break };
            let len = rest.partition_point(|it| it.0 < range.1);
            let Some(last) = len.checked_sub(1).and_then(|last| rest.get(last)) else { continue };
            see(Overlap {
                from,
                to: from + len,
                before: (first.0, range.0.max(first.0)),
                behind: (range.1.min(last.1), last.1),
            });
        }
    }

    /// The share of its addresses that are in another set.
    pub(super) fn share_of_addresses(
        &self,
        other: &[Range],
        ranks: &Ranks,
        steps: &mut u64,
    ) -> f64 {
        if let ([own], [its]) = (&*self.ranges, other) {
            return ranks.count((own.0.max(its.0), own.1.min(its.1))) / ranks.count(*own);
        }
        let sums = self.addresses.get_or_init(|| {
            let mut sum = 0.0;
            let sums = self.ranges.iter().map(|range| {
                sum += ranks.count(*range);
                sum
            });
            std::iter::once(0.0).chain(sums).collect()
        });
        let mut count = 0.0;
        let sum = |at: usize| sums.get(at).copied().unwrap_or(0.0);
        self.each_overlap(other, steps, |Overlap { from, to, before, behind }| {
            count += sum(to) - sum(from);
            for range in [before, behind] {
                if range.0 < range.1 {
                    count -= ranks.count(range);
                }
            }
        });
        count / sums.last().copied().unwrap_or(1.0)
    }

    /// [`Self::count_in`] for a set with many more ranges.
    fn count_from_own(&self, other: &[Range], steps: &mut u64) -> u64 {
        let mut count = 0;
        let mut rest = other;
        for own in &self.ranges {
            *steps += 1;
            let skipped = rest.partition_point(|it| it.1 <= own.0);
            rest = rest.get(skipped..).unwrap_or_default();
            for it in rest.iter().take_while(|it| it.0 < own.1) {
                *steps += 1;
                count += u64::from(it.1.min(own.1) - it.0.max(own.0));
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random::Random;

    fn set(random: &mut Random) -> Vec<Range> {
        let ranges = (0..random.below(6)).map(|_| {
            let first = random.below(40);
            (first, first + random.below(9))
        });
        normalized(ranges.collect())
    }

    #[test]
    fn operations_on_ranges_are_those_on_their_values() {
        let mut random = Random::new(1);
        for _ in 0..20_000 {
            let (a, b) = (set(&mut random), set(&mut random));
            let values = |set: &[Range]| (0..60).map(|it| has(set, it)).collect::<Vec<bool>>();
            let (x, y) = (values(&a), values(&b));
            let pairs = || x.iter().copied().zip(y.iter().copied());
            let both: Vec<bool> = pairs().map(|(x, y)| x && y).collect();
            assert_eq!(values(&intersection(&a, &b)), both);
            let left: Vec<bool> = pairs().map(|(x, y)| x && !y).collect();
            assert_eq!(values(&difference(&a, &b)), left);
            let all = normalized([a.clone(), b.clone()].concat());
            assert_eq!(values(&all), pairs().map(|(x, y)| x || y).collect::<Vec<bool>>());
            let is_set = |set: &[Range]| set.windows(2).all(|it| it[0].1 < it[1].0);
            assert!(is_set(&intersection(&a, &b)) && is_set(&difference(&a, &b)) && is_set(&all));
            assert_eq!(meets(&a, &b), both.contains(&true));
            assert_eq!(contains(&a, &b), pairs().all(|(x, y)| x || !y));
            let count = both.iter().filter(|it| **it).count() as u64;
            let summed = Summed::new(a.clone());
            assert_eq!(summed.count_in(&b, &mut 0), count);
            assert_eq!(summed.count_from_own(&b, &mut 0), count);
            assert_eq!(summed.size(), size(&a));
        }
    }
}
