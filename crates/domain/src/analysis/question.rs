//! Questions about whole rules: is what a rule matches covered by others?

use super::bounds::Bounds;
use super::budget::Meter;
use super::cell::{Cell, Product, Scale};
use super::cover::find_hole;
use super::near::TouchedBuffer;
use super::report::Obstacle;
use super::space::{Part, Slot, Space};
use crate::net::Family;

/// The most products of one question. Beyond it, the question takes bitmaps instead.
pub(super) const MAX_PRODUCTS: usize = 1 << 17;
/// The most products of a rule that are asked about one by one.
pub(super) const MAX_CELLS: usize = 1 << 10;

/// A packet or more, in one family.
#[derive(Debug, Clone)]
pub(super) struct Hole {
    pub(super) family: Family,
    pub(super) cell: Cell,
    /// Whether only the first packet of the cell was looked at. The others are alike to all rules, but
    /// which ones these are depends on rules that do not matter.
    pub(super) is_point: bool,
}

/// The parts that meet a part of a rule, by number.
#[derive(Debug)]
pub(super) struct PartNeighbors {
    pub(super) family: Family,
    /// The number of the part of the rule.
    pub(super) part: u32,
    /// The parts that meet it, in order.
    pub(super) others: Vec<u32>,
    /// The first rule of the list that contains the part, if the list ends with it.
    pub(super) container: Option<Slot>,
}

/// The parts of other rules that meet the parts of a rule.
#[derive(Debug, Default)]
pub(super) struct Neighbors(pub(super) Vec<PartNeighbors>);

/// Which rules a list of neighbors has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The rules before the rule.
    Earlier,
    /// The rules after it, up to the first one that contains a part.
    Later,
}

impl Neighbors {
    /// The rules on one side of a rule that meet it, if they are included.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn of(
        space: &Space,
        slot: Slot,
        side: Side,
        is_there: &dyn Fn(Slot) -> bool,
        meter: &mut Meter<'_>,
    ) -> Result<Self, Obstacle> {
        Self::up_to(space, slot, side, is_there, &|_| true, meter)
    }

    /// The rules on one side of a rule that meet it, whenever they are active. The list of later
    /// rules goes up to a rule that contains the rule and that always is active.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn of_any_time(
        space: &Space,
        slot: Slot,
        side: Side,
        lasts: &dyn Fn(Slot) -> bool,
        meter: &mut Meter<'_>,
    ) -> Result<Self, Obstacle> {
        Self::up_to(space, slot, side, &|_| true, lasts, meter)
    }

    /// All rules after a rule that meet it, among those that are included, whatever contains it.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn all_later(
        space: &Space,
        slot: Slot,
        is_there: &dyn Fn(Slot) -> bool,
        meter: &mut Meter<'_>,
    ) -> Result<Self, Obstacle> {
        Self::up_to(space, slot, Side::Later, is_there, &|_| false, meter)
    }

    fn up_to(
        space: &Space,
        slot: Slot,
        side: Side,
        is_there: &dyn Fn(Slot) -> bool,
        ends: &dyn Fn(Slot) -> bool,
        meter: &mut Meter<'_>,
    ) -> Result<Self, Obstacle> {
        let mut neighbors = Vec::new();
        let mut buffer = TouchedBuffer::default();
        for family in Family::ALL {
            let family_space = space.family(family);
            let own = space.part_numbers(slot, family);
            let numbers = match side {
                Side::Earlier => 0..own.start,
                Side::Later => own.end..super::intern::as_u32(family_space.parts.len()),
            };
            for (part, number) in space.parts(slot, family).iter().zip(own) {
                let mut others = Vec::new();
                let mut container = None;
                let mut obstacle = None;
                let touched = family_space.near.touched(part, &space.sides, &mut buffer);
                meter.pass(family_space.parts.len() as u64 / 64);
                family_space.near.each(&part.bounds, touched, numbers.clone(), |number| {
                    obstacle = meter.check().err();
                    let other = family_space.parts.get(number as usize);
                    let Some(other) = other.filter(|it| is_there(it.rule)) else {
                        return obstacle.is_none();
                    };
                    let mut steps = 0;
                    let meets = space.meet(part, other, &mut steps);
                    if !meets {
                        meter.pass(steps);
                        return obstacle.is_none();
                    }
                    meter.steps += steps;
                    others.push(number);
                    let ends_list = side == Side::Later
                        && ends(other.rule)
                        && space.contains_part(other.rule, part, family, &mut meter.steps);
                    if ends_list {
                        container = Some(other.rule);
                    }
                    obstacle.is_none() && container.is_none()
                });
                if let Some(obstacle) = obstacle {
                    return Err(obstacle);
                }
                // The other parts of the rule that ended the list belong to it.
                if let Some(last) = container {
                    let numbers = space.part_numbers(last, family);
                    let next = others.last().map_or(numbers.end, |last| last + 1);
                    others.extend(next..numbers.end);
                }
                neighbors.push(PartNeighbors { family, part: number, others, container });
            }
        }
        Ok(Self(neighbors))
    }

    /// The rules of the list, in order.
    pub(super) fn rules(&self, space: &Space) -> Vec<Slot> {
        let mut rules: Vec<Slot> = Vec::new();
        for own in &self.0 {
            let parts = &space.family(own.family).parts;
            let found = own.others.iter().filter_map(|number| parts.get(*number as usize));
            rules.extend(found.map(|part| part.rule));
        }
        rules.sort_unstable();
        rules.dedup();
        rules
    }

    /// The number of parts in all lists.
    pub(super) fn len(&self) -> usize {
        self.0.iter().map(|own| own.others.len()).sum()
    }
}

/// The products of some parts that can meet some bounds.
///
/// # Errors
/// Returns [`Obstacle::Steps`] if there are too many for one question.
pub(super) fn products<'a>(
    space: &Space,
    parts: impl Iterator<Item = &'a Part>,
    bounds: &Bounds,
    meter: &mut Meter<'_>,
) -> Result<Vec<Product>, Obstacle> {
    let mut products = Vec::new();
    for part in parts {
        if !part.bounds.meets(bounds) {
            meter.pass(1);
            continue;
        }
        meter.steps += 1;
        meter.steps += Product::count(space, part) as u64 / 2;
        meter.check()?;
        products.extend(Product::of_part(space, part, bounds).take(MAX_PRODUCTS + 1));
        if products.len() > MAX_PRODUCTS {
            return Err(Obstacle::Steps);
        }
    }
    Ok(products)
}

/// What is asked about a rule.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) space: &'a Space,
    /// The rules that may cover it, by the part that they meet.
    pub(super) neighbors: &'a Neighbors,
    /// Only what this rule contains as well.
    pub(super) within: Option<Slot>,
    /// Which of the rules may cover it.
    pub(super) takes: &'a dyn Fn(Slot) -> bool,
}

impl Question<'_> {
    /// Whether the rules cover what is asked about: none if they do, else a part that none of them
    /// matches. Adds the rules that prove it to `used`.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up, or there are too many products.
    pub(super) fn find_hole(
        &self,
        meter: &mut Meter<'_>,
        used: &mut Vec<Slot>,
    ) -> Result<Option<Hole>, Obstacle> {
        for own in &self.neighbors.0 {
            let family = own.family;
            let Some(part) = self.space.family(family).parts.get(own.part as usize) else {
                continue;
            };
            for cell in self.cells(family, part, meter)? {
                let parts = &self.space.family(family).parts;
                let others = own.others.iter().filter_map(|number| parts.get(*number as usize));
                let others = others.filter(|other| (self.takes)(other.rule));
                let products = products(self.space, others, &cell.bounds(), meter)?;
                let mut proof = Vec::new();
                let hole = find_hole(
                    Scale::of(self.space, self.space.family(family)),
                    cell,
                    &products,
                    meter,
                    &mut proof,
                )?;
                if let Some(cell) = hole {
                    return Ok(Some(Hole { family, cell, is_point: false }));
                }
                let rules = proof.iter().filter_map(|number| products.get(*number as usize));
                used.extend(rules.map(|product| product.rule));
            }
        }
        used.sort_unstable();
        used.dedup();
        Ok(None)
    }

    /// The packets in question, in a part of the rule, as disjoint cells.
    fn cells(
        &self,
        family: Family,
        part: &Part,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<Cell>, Obstacle> {
        if Product::count(self.space, part) > MAX_CELLS {
            return Err(Obstacle::Steps);
        }
        let sets = &self.space.sets;
        let own = Product::of_part(self.space, part, &part.bounds);
        let Some(within) = self.within else {
            return Ok(own.map(|product| Cell::of_product(sets, &product)).collect());
        };
        let its =
            products(self.space, self.space.parts(within, family).iter(), &part.bounds, meter)?;
        let mut cells = Vec::new();
        for product in own {
            let whole = Cell::of_product(sets, &product);
            for its in its.iter().filter(|its| its.bounds.meets(&product.bounds)) {
                meter.steps += 5;
                let cell = whole.intersection(sets, &its.sets);
                if !cell.is_empty() {
                    cells.push(cell);
                }
            }
            if cells.len() > MAX_PRODUCTS {
                return Err(Obstacle::Steps);
            }
        }
        Ok(cells)
    }
}
