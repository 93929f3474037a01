//! Cells: products of five sets, of which a question is made.

use std::rc::Rc;

use super::bounds::{Bounds, DESTINATION, DIMENSIONS, Point, SOURCE};
use super::intern::{Interned, ListId};
use super::ranges::{Range, Summed, difference, has, hull, intersection, normalized};
use super::ranks::Ranks;
use super::space::{FamilySpace, Part, Slot, Space};

/// What sizes of sets are measured with.
#[derive(Clone, Copy)]
pub(super) struct Scale<'a> {
    pub(super) sets: &'a Interned<Range>,
    pub(super) ranks: &'a Ranks,
}

impl<'a> Scale<'a> {
    pub(super) const fn of(space: &'a Space, family: &'a FamilySpace) -> Self {
        Self { sets: &space.sets, ranks: &family.ranks }
    }
}

/// A product of five sets of a rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    pub(super) rule: Slot,
    pub(super) sets: [ListId; DIMENSIONS],
    pub(super) bounds: Bounds,
}

impl Product {
    /// The products of a part that can meet some bounds. There is one for each pair of groups of its
    /// sides, and most parts have one group on each side.
    pub(super) fn of_part<'a>(
        space: &'a Space,
        part: &'a Part,
        within: &'a Bounds,
    ) -> impl Iterator<Item = Self> + 'a {
        space.sides.groups(part.source).iter().flat_map(move |source| {
            let groups = space.sides.groups(part.destination).iter();
            groups.filter_map(move |destination| {
                let sets = [
                    source.addresses,
                    destination.addresses,
                    source.field,
                    destination.field,
                    part.protocols,
                ];
                let bounds = Bounds::of_sets(&space.sets, &sets);
                bounds.meets(within).then_some(Self { rule: part.rule, sets, bounds })
            })
        })
    }

    /// Whether it has a packet.
    pub(super) fn has(&self, sets: &Interned<Range>, point: &Point) -> bool {
        self.bounds.has(point)
            && self.sets.iter().zip(point).all(|(set, value)| has(sets.get(*set), *value))
    }

    /// The most products that a part can have.
    pub(super) fn count(space: &Space, part: &Part) -> usize {
        let groups = |side| space.sides.groups(side).len();
        groups(part.source).saturating_mul(groups(part.destination))
    }
}

/// A product of five sets. Cheap to copy: only sets that change are copied.
#[derive(Debug, Clone)]
pub(super) struct Cell(pub(super) [Rc<Summed>; DIMENSIONS]);

/// How a product and a cell are related.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Relation {
    /// They have no packet in common.
    Apart,
    /// The product contains the cell.
    Whole,
    /// The product leaves out a part of the cell in this dimension only.
    Slab(usize),
    /// It leaves out parts in several dimensions. Carries the share of the cell that it contains.
    Partial(f64),
}

impl Cell {
    pub(super) fn of_ranges(ranges: [Vec<Range>; DIMENSIONS]) -> Self {
        Self(ranges.map(|set| Rc::new(Summed::new(set))))
    }

    pub(super) fn of_product(sets: &Interned<Range>, product: &Product) -> Self {
        Self::of_ranges(product.sets.map(|set| sets.get(set).to_vec()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().any(|set| set.is_empty())
    }

    pub(super) fn bounds(&self) -> Bounds {
        let hulls = self.0.each_ref().map(|set| hull(set.ranges()));
        Bounds { first: hulls.map(|range| range.0), end: hulls.map(|range| range.1) }
    }

    pub(super) fn set(&self, dimension: usize) -> &[Range] {
        self.0.get(dimension).map_or(&[], |set| set.ranges())
    }

    /// The cell with another set in one dimension.
    pub(super) fn with(&self, dimension: usize, set: Vec<Range>) -> Self {
        let mut cell = self.clone();
        if let Some(own) = cell.0.get_mut(dimension) {
            *own = Rc::new(Summed::new(set));
        }
        cell
    }

    /// Takes slabs away: in each dimension, some of its values. Adds to `steps` what it looked at.
    pub(super) fn without(&self, slabs: [Vec<Range>; DIMENSIONS], steps: &mut u64) -> Self {
        let mut cell = self.clone();
        for (dimension, slabs) in slabs.into_iter().enumerate() {
            if !slabs.is_empty() {
                let own = self.set(dimension);
                *steps += slabs.len() as u64 + own.len() as u64 / 4;
                cell = cell.with(dimension, difference(own, &normalized(slabs)));
            }
        }
        cell
    }

    /// What a cell and a product of sets have in common.
    pub(super) fn intersection(&self, sets: &Interned<Range>, of: &[ListId; DIMENSIONS]) -> Self {
        let mut cell = self.clone();
        for (own, its) in cell.0.iter_mut().zip(of) {
            let both = intersection(own.ranges(), sets.get(*its));
            if both != own.ranges() {
                *own = Rc::new(Summed::new(both));
            }
        }
        cell
    }

    /// How a product and the cell are related. `bounds` are the cell's.
    #[inline]
    pub(super) fn relation(
        &self,
        scale: Scale<'_>,
        product: &Product,
        bounds: &Bounds,
        steps: &mut u64,
    ) -> Relation {
        *steps += 1;
        if !product.bounds.meets(bounds) {
            return Relation::Apart;
        }
        let mut slab = 0;
        let mut partial = 0;
        let mut counts = [(0, 0); DIMENSIONS];
        let dimensions = self.0.iter().zip(product.sets).zip(&mut counts).enumerate();
        for (dimension, ((own, its), counts)) in dimensions {
            // Counts are exact, so that "all" is certain; shares only choose where to cut.
            let all = own.size();
            let count = own.count_in(scale.sets.get(its), steps);
            if count == 0 {
                return Relation::Apart;
            }
            if count < all {
                partial += 1;
                slab = dimension;
            }
            *counts = (count, all);
        }
        match partial {
            0 => Relation::Whole,
            1 => Relation::Slab(slab),
            _ => Relation::Partial(self.share(scale, product, &counts, steps)),
        }
    }

    /// The share of the cell that a product contains. `counts` are the numbers of values that both have,
    /// and of all values, in each dimension.
    ///
    /// Addresses count, and not ranks, whose number depends on rules that do not matter here: what a
    /// search finds depends only on the rules that it looks at.
    fn share(
        &self,
        scale: Scale<'_>,
        product: &Product,
        counts: &[(u64, u64); DIMENSIONS],
        steps: &mut u64,
    ) -> f64 {
        let mut share = 1.0;
        let dimensions = self.0.iter().zip(product.sets).zip(counts).enumerate();
        for (dimension, ((own, its), (count, all))) in dimensions {
            if count == all {
                continue;
            }
            share *= if dimension == SOURCE || dimension == DESTINATION {
                own.share_of_addresses(scale.sets.get(its), scale.ranks, steps)
            } else {
                ratio(*count, *all)
            };
        }
        share
    }

    /// Divides the cell: the disjoint parts outside of a product, the largest last, and the part
    /// inside.
    pub(super) fn divided(
        &self,
        scale: Scale<'_>,
        product: &Product,
        steps: &mut u64,
    ) -> (Vec<Self>, Self) {
        let mut shares: Vec<(f64, usize, ListId)> = Vec::with_capacity(DIMENSIONS);
        for (dimension, (own, its)) in self.0.iter().zip(product.sets).enumerate() {
            let (count, all) = (own.count_in(scale.sets.get(its), steps), own.size());
            if count < all {
                let share = if dimension == SOURCE || dimension == DESTINATION {
                    own.share_of_addresses(scale.sets.get(its), scale.ranks, steps)
                } else {
                    ratio(count, all)
                };
                shares.push((share, dimension, its));
            }
        }
        shares.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut outside = Vec::with_capacity(shares.len());
        let mut inside = self.clone();
        for (_, dimension, its) in shares {
            let own = inside.set(dimension);
            *steps += own.len() as u64 / 4 + 1;
            let its = scale.sets.get(its);
            let (out, both) = (difference(own, its), intersection(own, its));
            if !out.is_empty() {
                outside.push(inside.with(dimension, out));
            }
            inside = inside.with(dimension, both);
        }
        (outside, inside)
    }

    /// The memory of a cell's own sets, in bytes. Sets that are shared count each time.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|set| set.bytes()).sum()
    }
}

/// One count as a share of another.
#[expect(clippy::cast_precision_loss, reason = "shares only choose where to cut")]
fn ratio(count: u64, all: u64) -> f64 {
    count as f64 / all as f64
}
