//! The destinations of a service as a tree, with the ways to them.

use super::bounds::DESTINATION;
use super::budget::Meter;
use super::cell::Cell;
use super::context::Context;
use super::intern::as_u32;
use super::report::Obstacle;
use super::ways_in::{Mode, Way, Ways};

/// What the nodes below a node can change.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Below {
    pub(super) has_any: bool,
    pub(super) has_wide: bool,
    /// The most addresses of rules with few sources on a path.
    pub(super) narrow: u128,
}

/// Destinations as a tree. The node `n` has the nodes `2 n` and `2 n + 1` below it.
pub(super) struct Tree {
    /// The ends of the leaves that have a destination.
    pub(super) ends: Vec<u32>,
    /// How many leaves there are: a power of two.
    pub(super) leaves: usize,
    /// The index at which the ways of each node begin.
    from: Vec<u32>,
    /// The numbers of the ways of all nodes, in order of evaluation.
    ways: Vec<u32>,
    pub(super) below: Vec<Below>,
}

impl Tree {
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn new(
        context: &Context<'_>,
        cell: &Cell,
        ways: &Ways,
        meter: &mut Meter<'_>,
    ) -> Result<Self, Obstacle> {
        let sets = &context.space.sets;
        let of = |way: &Way| sets.get(way.destinations);
        let all = ways.ways.iter().flat_map(of).chain(cell.set(DESTINATION));
        let mut ends: Vec<u32> = all.flat_map(|range| [range.0, range.1]).collect();
        meter.steps += ends.len() as u64;
        meter.check()?;
        ends.sort_unstable();
        ends.dedup();
        let leaves = ends.len().saturating_sub(1).next_power_of_two();
        let place = |rank: u32| ends.partition_point(|end| *end < rank);
        let nodes = |way: &Way, visit: &mut dyn FnMut(usize)| {
            for range in of(way) {
                let (mut from, mut to) = (place(range.0) + leaves, place(range.1) + leaves);
                while from < to {
                    if from & 1 == 1 {
                        visit(from);
                        from += 1;
                    }
                    if to & 1 == 1 {
                        to -= 1;
                        visit(to);
                    }
                    (from, to) = (from / 2, to / 2);
                }
            }
        };
        let mut from = vec![0_u32; 2 * leaves + 1];
        meter.take(leaves * 2 * (4 + size_of::<Below>()))?;
        for way in &ways.ways {
            nodes(way, &mut |node| {
                if let Some(count) = from.get_mut(node + 1) {
                    *count += 1;
                }
            });
        }
        let mut sum = 0;
        for count in &mut from {
            sum += *count;
            *count = sum;
        }
        meter.take(sum as usize * 4)?;
        meter.steps += u64::from(sum);
        meter.check()?;
        let mut next = from.clone();
        let mut listed = vec![0_u32; sum as usize];
        for (number, way) in ways.ways.iter().enumerate() {
            nodes(way, &mut |node| {
                if let Some(next) = next.get_mut(node) {
                    if let Some(place) = listed.get_mut(*next as usize) {
                        *place = as_u32(number);
                    }
                    *next += 1;
                }
            });
        }
        let below = vec![Below::default(); 2 * leaves];
        let mut tree = Self { ends, leaves, from, ways: listed, below };
        for node in (1..leaves).rev() {
            let (left, right) = (tree.with(2 * node, ways), tree.with(2 * node + 1, ways));
            if let Some(below) = tree.below.get_mut(node) {
                *below = Below {
                    has_any: left.has_any || right.has_any,
                    has_wide: left.has_wide || right.has_wide,
                    narrow: left.narrow.max(right.narrow),
                };
            }
        }
        Ok(tree)
    }

    /// The ways of a node and those below it.
    fn with(&self, node: usize, ways: &Ways) -> Below {
        let mut all = self.below.get(node).copied().unwrap_or_default();
        for way in self.of(node, ways) {
            all.has_any = true;
            match way.1.mode {
                Mode::Wide(_) | Mode::Odd => all.has_wide = true,
                Mode::Narrow => all.narrow += way.1.size,
            }
        }
        all
    }

    /// The ways of a node.
    pub(super) fn of<'a>(
        &'a self,
        node: usize,
        ways: &'a Ways,
    ) -> impl Iterator<Item = (u32, &'a Way)> {
        let at = |node: usize| self.from.get(node).map_or(0, |it| *it as usize);
        let own = self.ways.get(at(node)..at(node + 1)).unwrap_or_default().iter();
        own.filter_map(|number| ways.ways.get(*number as usize).map(|way| (*number, way)))
    }
}
