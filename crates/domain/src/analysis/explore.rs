//! Walks through cells of a space, and collects what they find.

use super::budget::Meter;
use super::cell::{Cell, Product, Scale};
use super::collect::Piece;
use super::context::Context;
use super::intern::as_u32;
use super::near::Touched;
use super::question::{MAX_PRODUCTS, products};
use super::report::Obstacle;
use super::space::{Part, Slot, Space};
use super::spell::by_kind;
use super::walk::{Entry, Found, Label, Last, NO_LABEL, OnSides, Walk};
use crate::net::Family;
use crate::time::Instant;

/// A walk over the rules that are active at an instant.
pub(super) struct Exploration<'a> {
    pub(super) space: &'a Space,
    pub(super) at: Instant,
    /// What decides on each side after all rules.
    pub(super) last: [Last; 2],
    /// The sides and the label of each rule; none if it takes no part.
    pub(super) of: &'a dyn Fn(Slot) -> Option<(OnSides, Label)>,
    /// Rules whose packets are done already.
    pub(super) is_done: &'a dyn Fn(Slot) -> bool,
    /// Cells that are done already.
    pub(super) done: &'a [(Family, Product)],
    /// See [`Walk::wants`].
    pub(super) wants: &'a dyn Fn(Label) -> bool,
    /// See [`Walk::names_rules`].
    pub(super) names_rules: bool,
    /// The most pieces.
    pub(super) most: usize,
}

/// Calls `explore` with the walk that finds the packets that one rule decides.
pub(super) fn decided_by<T>(
    context: &Context<'_>,
    rule: Slot,
    most: usize,
    explore: impl FnOnce(&Exploration<'_>) -> T,
) -> T {
    // 1 is the label of the rule. What earlier rules match is not its business, and later rules do not
    // matter.
    let of = |it: Slot| (it == rule).then_some((OnSides::LEFT, 1));
    explore(&Exploration {
        space: &context.space,
        at: context.at,
        last: [Last { label: 0, rule: None }, Last { label: NO_LABEL, rule: None }],
        of: &of,
        is_done: &|it| it < rule,
        done: &[],
        wants: &|label| label == 1,
        names_rules: false,
        most,
    })
}

impl Exploration<'_> {
    /// Walks through a cell. Returns false if there are as many pieces as there may be.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn run(
        &self,
        family: Family,
        cell: &Cell,
        meter: &mut Meter<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<bool, Obstacle> {
        for (kind, cell) in by_kind(self.space, family, cell) {
            let bounds = cell.bounds();
            let space = self.space.family(family);
            let mut near: Vec<&Part> = Vec::new();
            meter.pass(space.parts.len() as u64 / 64);
            space.near.each(&bounds, Touched::default(), 0..as_u32(space.parts.len()), |number| {
                meter.pass(1);
                let part = space.parts.get(number as usize);
                near.extend(part.filter(|it| self.space.is_active(it.rule, self.at)));
                true
            });
            let mut all: Vec<Product> = Vec::new();
            let mut list: Vec<Entry> = Vec::new();
            let done =
                |product: usize| Entry { product: as_u32(product), sides: OnSides::DONE, label: 0 };
            for (_, product) in self.done.iter().filter(|it| it.0 == family) {
                list.push(done(all.len()));
                all.push(*product);
            }
            let walked = near.iter().copied().filter(|it| (self.is_done)(it.rule));
            for product in products(self.space, walked, &bounds, meter)? {
                list.push(done(all.len()));
                all.push(product);
            }
            let others = near.into_iter().filter(|it| (self.of)(it.rule).is_some());
            for product in products(self.space, others, &bounds, meter)? {
                if let Some((sides, label)) = (self.of)(product.rule) {
                    list.push(Entry { product: as_u32(all.len()), sides, label });
                    all.push(product);
                }
            }
            let (at, most) = (self.at, self.most);
            let mut walk = Walk {
                scale: Scale::of(self.space, space),
                products: &all,
                wants: self.wants,
                names_rules: self.names_rules,
                found: &mut |found: Found| {
                    let Found { cell, labels, rules } = found;
                    pieces.push(Piece { family, kind, cell, labels, rules, at });
                    pieces.len() < most
                },
            };
            if !walk.run(cell, list, self.last, meter)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Walks through everything that two rules match.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn run_common(
        &self,
        (a, b): (Slot, Slot),
        meter: &mut Meter<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<bool, Obstacle> {
        for family in Family::ALL {
            for part in self.space.parts(a, family) {
                let both = self.space.parts(b, family).iter();
                let both = both.filter(|it| it.bounds.meets(&part.bounds));
                let its = products(self.space, both, &part.bounds, meter)?;
                for own in products(self.space, std::iter::once(part), &part.bounds, meter)? {
                    let cell = Cell::of_product(&self.space.sets, &own);
                    for its in its.iter().filter(|it| it.bounds.meets(&own.bounds)) {
                        let cell = cell.intersection(&self.space.sets, &its.sets);
                        if !cell.is_empty() && !self.run(family, &cell, meter, pieces)? {
                            return Ok(false);
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    /// Walks through everything that a rule matches.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn run_rule(
        &self,
        slot: Slot,
        meter: &mut Meter<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<bool, Obstacle> {
        for family in Family::ALL {
            for part in self.space.parts(slot, family) {
                if Product::count(self.space, part) > MAX_PRODUCTS {
                    return Err(Obstacle::Steps);
                }
                for product in Product::of_part(self.space, part, &part.bounds) {
                    let cell = Cell::of_product(&self.space.sets, &product);
                    if !self.run(family, &cell, meter, pieces)? {
                        return Ok(false);
                    }
                }
            }
        }
        Ok(true)
    }

    /// Walks through all packets.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn run_all(
        &self,
        meter: &mut Meter<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<bool, Obstacle> {
        for family in Family::ALL {
            let cell = self.space.everything(family);
            if !self.run(family, &cell, meter, pieces)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The pieces that were found as products, so that they are not found again.
pub(super) fn as_done(space: &mut Space, pieces: &[Piece]) -> Vec<(Family, Product)> {
    let done = pieces.iter().map(|piece| {
        let sets = [0, 1, 2, 3, 4].map(|it| space.sets.id(piece.cell.set(it)));
        (piece.family, Product { rule: Slot::MAX, sets, bounds: piece.cell.bounds() })
    });
    done.collect()
}
