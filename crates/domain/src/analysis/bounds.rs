//! Bounds of products: one range in each dimension.

use super::intern::{Interned, ListId};
use super::ranges::{Range, hull};

/// The dimensions: source addresses, destination addresses, source ports (or ICMP types),
/// destination ports (or ICMP codes), protocols.
pub(super) const DIMENSIONS: usize = 5;

/// Source addresses.
pub(super) const SOURCE: usize = 0;
/// Destination addresses.
pub(super) const DESTINATION: usize = 1;
/// Source ports or ICMP types.
pub(super) const FIRST_FIELD: usize = 2;
/// Destination ports or ICMP codes.
pub(super) const SECOND_FIELD: usize = 3;
/// Protocols.
pub(super) const PROTOCOL: usize = 4;

/// A packet in ranks and numbers, dimension by dimension.
pub(super) type Point = [u32; DIMENSIONS];

/// A range in each dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) first: Point,
    pub(super) end: Point,
}

impl Bounds {
    /// The bounds of a product of sets.
    pub(super) fn of_sets(sets: &Interned<Range>, of: &[ListId; DIMENSIONS]) -> Self {
        let hulls = of.map(|set| hull(sets.get(set)));
        Self { first: hulls.map(|range| range.0), end: hulls.map(|range| range.1) }
    }

    /// The bounds of one packet.
    pub(super) fn of_point(point: &Point) -> Self {
        Self { first: *point, end: point.map(|it| it + 1) }
    }

    fn ranges(&self) -> impl Iterator<Item = Range> {
        self.first.into_iter().zip(self.end)
    }

    /// Whether two bounds have a packet in common.
    #[inline]
    pub(super) fn meets(&self, other: &Self) -> bool {
        // No branch: which dimension decides cannot be predicted.
        self.ranges().zip(other.ranges()).fold(true, |all, (a, b)| all & (a.0 < b.1) & (b.0 < a.1))
    }

    /// Whether it contains other bounds.
    #[inline]
    pub(super) fn contains(&self, other: &Self) -> bool {
        self.ranges()
            .zip(other.ranges())
            .fold(true, |all, (a, b)| all & (a.0 <= b.0) & (b.1 <= a.1))
    }

    /// Whether it contains other bounds in all dimensions but protocols.
    #[inline]
    pub(super) fn contains_sides(&self, other: &Self) -> bool {
        self.ranges()
            .zip(other.ranges())
            .take(PROTOCOL)
            .fold(true, |all, (a, b)| all & (a.0 <= b.0) & (b.1 <= a.1))
    }

    /// Whether it contains a packet.
    #[inline]
    pub(super) fn has(&self, point: &Point) -> bool {
        self.ranges().zip(point).fold(true, |all, (a, b)| all & (a.0 <= *b) & (*b < a.1))
    }

    /// What two bounds have in common; none if that is nothing.
    pub(super) fn intersection(&self, other: &Self) -> Option<Self> {
        let mut both = *self;
        for (own, its) in both.first.iter_mut().zip(other.first) {
            *own = its.max(*own);
        }
        for (own, its) in both.end.iter_mut().zip(other.end) {
            *own = its.min(*own);
        }
        both.ranges().all(|range| range.0 < range.1).then_some(both)
    }

    /// The smallest bounds around both.
    pub(super) fn around(&self, other: &Self) -> Self {
        let mut all = *self;
        for (own, its) in all.first.iter_mut().zip(other.first) {
            *own = its.min(*own);
        }
        for (own, its) in all.end.iter_mut().zip(other.end) {
            *own = its.max(*own);
        }
        all
    }
}
