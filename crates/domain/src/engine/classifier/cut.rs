//! The ways to cut a node, and what they cost.

use super::address::Address;
use super::cuboid::{Dimension, Range, Region};

/// The most bits along which a node is cut.
const MAX_BITS: u32 = 8;
/// A cuboid stays with the node if it spans more than one in this many children.
const SPREAD: usize = 4;
/// The cost of a cuboid that stays with a node, in bits of the expected number of cuboids.
const STAY_COST: f64 = 0.05;
/// How many ranges are counted before `should_continue` is called again.
const RANGES_AT_ONCE: usize = 1 << 14;

/// A way to cut a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) dimension: Dimension,
    pub(super) shift: u32,
    pub(super) bits: u32,
    pub(super) cost: f64,
}

impl Cut {
    pub(super) fn children(self) -> usize {
        1 << self.bits
    }

    /// The children that overlap a range; all of them if the range differs above the window.
    pub(super) fn span<A: Address>(self, (first, last): Range<A>) -> (usize, usize) {
        let top = self.shift + self.bits;
        let mask = self.children() - 1;
        if first.above(top) == last.above(top) {
            let child = |address: A| address.above(self.shift).window(0) as usize & mask;
            (child(first), child(last))
        } else {
            (0, mask)
        }
    }

    /// Whether a cuboid that is in these children stays with the node.
    pub(super) fn stays(self, (first, last): (usize, usize)) -> bool {
        last - first + 1 > (self.children() / SPREAD).max(1)
    }
}

/// The part of a range that lies in another range. The two must overlap.
pub(super) fn clipped<A: Address>((first, last): Range<A>, region: Range<A>) -> Range<A> {
    (first.max(region.0), last.min(region.1))
}

/// The possible cuts along a dimension, without their costs.
pub(super) fn cuts<A: Address>(
    dimension: Dimension,
    ranges: &[Range<A>],
    limits: Range<A>,
) -> impl Iterator<Item = Cut> + use<A> {
    let half = limits.1.wrapping_sub(limits.0).above(1);
    let is_narrow = |range: &&Range<A>| range.1.wrapping_sub(range.0) <= half;
    let mut narrow = ranges.iter().filter(is_narrow);
    let (mut differing, mut count) = (A::ZERO, 1_usize);
    // Without a narrow range there is no cut.
    if let Some((origin, _)) = narrow.next() {
        for (first, last) in ranges.iter().filter(is_narrow) {
            differing = differing | (*first ^ *origin) | (*last ^ *origin);
            count += 1;
        }
    }
    let top = differing.width();
    (1..=MAX_BITS.min(top)).take_while(move |bits| 1 << bits <= count + 2).map(move |bits| Cut {
        dimension,
        shift: top - bits,
        bits,
        cost: 0.0,
    })
}

/// The cost of a cut; none if `should_continue` returns false.
pub(super) fn cost<A: Address>(
    cut: Cut,
    ranges: &[Range<A>],
    should_continue: &dyn Fn() -> bool,
) -> Option<f64> {
    let mut per_child = [0_u32; 1 << MAX_BITS];
    let (mut placed, mut staying) = (0_usize, 0_usize);
    for (nth, some) in ranges.chunks(RANGES_AT_ONCE).enumerate() {
        if nth > 0 && !should_continue() {
            return None;
        }
        for range in some {
            let (first, last) = cut.span(*range);
            if cut.stays((first, last)) {
                staying += 1;
            } else {
                placed += last - first + 1;
                let children = per_child.get_mut(first..=last).into_iter().flatten();
                children.for_each(|count| *count += 1);
            }
        }
    }
    let squares: f64 = per_child.iter().map(|count| f64::from(*count).powi(2)).sum();
    let expected = if placed == 0 { 1.0 } else { (squares / placed as f64).max(1.0) };
    let copies = (placed + staying) as f64 / ranges.len() as f64 - 1.0;
    Some(expected.log2() + staying.min(1_000) as f64 * STAY_COST + copies)
}

pub(super) fn bits_of(count: usize) -> f64 {
    (count as f64).log2()
}

/// The region of a child. It is narrower only if the whole region agrees on the bits above the
/// window.
pub(super) fn child_region<A: Address>(region: &Region<A>, cut: Cut, child: u32) -> Region<A> {
    let mut part = *region;
    let top = cut.shift + cut.bits;
    if let Some(limits) = part.get_mut(cut.dimension as usize)
        && limits.0.above(top) == limits.1.above(top)
    {
        let above = limits.0 ^ (limits.0 & A::ones(top));
        let first = above | A::placed(child, cut.shift);
        *limits = clipped((first, first | A::ones(cut.shift)), *limits);
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_node_is_given_up_while_it_is_counted() {
        let cut = Cut { dimension: Dimension::Source, shift: 0, bits: 8, cost: 0.0 };
        let ranges: Vec<Range<u128>> = (0..).map(|it| (it, it)).take(3 * RANGES_AT_ONCE).collect();
        let asked = std::cell::Cell::new(0);
        let should_continue = || asked.replace(asked.get() + 1) < 1;
        assert!(cost(cut, &ranges, &should_continue).is_none());
        assert_eq!(asked.get(), 2);
        assert!(cost(cut, &ranges, &|| true).is_some());
    }
}
