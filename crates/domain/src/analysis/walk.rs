//! The walk over two ordered lists of rules: comparison, redundancy, search and partition.
//!
//! A cell is compared with all rules that can meet it, in order. A rule that contains the whole cell
//! decides for its side what the rules before it leave. Once all that can decide on each side has one
//! label, the cell is done; else it is divided, and so on.

use super::bounds::{Bounds, DIMENSIONS};
use super::budget::Meter;
use super::cell::{Cell, Product, Relation, Scale};
use super::cover::find_hole;
use super::intern::as_u32;
use super::ranges::{Range, intersection};
use super::report::Obstacle;
use super::space::Slot;

/// On which sides of a comparison a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OnSides(u8);

impl OnSides {
    /// The cells of the product are done already, so that nothing in them counts.
    pub(super) const DONE: Self = Self(0);
    pub(super) const LEFT: Self = Self(1);
    pub(super) const RIGHT: Self = Self(2);
    pub(super) const BOTH: Self = Self(3);

    const fn has(self, side: usize) -> bool {
        self.0 >> side & 1 == 1
    }
}

/// What a side does with a packet: the number of an action, or of a rule. Two sides with the same
/// label agree.
pub(super) type Label = u32;

/// The label of a side that is not compared: it differs from every other one.
pub(super) const NO_LABEL: Label = Label::MAX;

/// A product in the list of a walk, in order of evaluation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) product: u32,
    pub(super) sides: OnSides,
    pub(super) label: Label,
}

/// What decides on a side if no rule before it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) label: Label,
    /// None: the default action.
    pub(super) rule: Option<Slot>,
}

/// A cell in which each side has one label.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) cell: Cell,
    pub(super) labels: [Label; 2],
    /// The rules that can decide on each side, in order; the last one contains the cell or is the
    /// default. Each decides some packet of the cell.
    pub(super) rules: [Vec<Option<Slot>>; 2],
}

/// A walk through some cells.
pub(super) struct Walk<'a> {
    pub(super) scale: Scale<'a>,
    pub(super) products: &'a [Product],
    /// Whether cells with these labels matter. A cell without any such pair is left.
    pub(super) wants: &'a dyn Fn(Label) -> bool,
    /// Whether the rules that decide are to be named, which takes further questions.
    pub(super) names_rules: bool,
    /// Called with each cell that is found; the walk ends once it returns false.
    pub(super) found: &'a mut dyn FnMut(Found) -> bool,
}

/// With so many products, a cell is cut in two halves; with fewer, at a product.
const MANY: usize = 32;

struct Task {
    cell: Cell,
    last: [Last; 2],
    from: usize,
    to: usize,
    bytes: usize,
}

/// What becomes of a cell.
enum Step {
    /// Nothing in it matters.
    Nothing,
    /// Each side has one label.
    Done([Label; 2]),
    /// It is to be divided at the product at this place of the list.
    Divide(usize),
}

/// The labels that can decide on a side.
#[derive(Clone, Copy, Default)]
struct Labels {
    first: Option<Label>,
    is_mixed: bool,
    is_wanted: bool,
}

impl Walk<'_> {
    /// Walks through a cell. Returns whether the walk may go on to the next cell.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn run(
        &mut self,
        cell: Cell,
        list: Vec<Entry>,
        last: [Last; 2],
        meter: &mut Meter<'_>,
    ) -> Result<bool, Obstacle> {
        let before = meter.bytes();
        let goes_on = self.search(cell, list, last, meter);
        meter.give_back(meter.bytes().saturating_sub(before));
        goes_on
    }

    fn search(
        &mut self,
        cell: Cell,
        list: Vec<Entry>,
        last: [Last; 2],
        meter: &mut Meter<'_>,
    ) -> Result<bool, Obstacle> {
        let mut arena = list;
        let mut tasks = vec![Task { cell, last, from: 0, to: arena.len(), bytes: 0 }];
        while let Some(task) = tasks.pop() {
            meter.give_back(task.bytes);
            let Task { mut cell, mut last, from, to, bytes: _ } = task;
            // Tasks above this one are done, and so are their lists.
            arena.truncate(to);
            let start = arena.len();
            arena.extend_from_within(from..to);
            let place = match self.reduce(&mut cell, &mut last, &mut arena, start, meter)? {
                Step::Nothing => continue,
                Step::Done(labels) => {
                    let list = arena.get(start..).unwrap_or_default();
                    let rules = [0, 1].map(|side| self.deciding(&cell, list, &last, side, meter));
                    let [left, right] = rules;
                    if !(self.found)(Found { cell, labels, rules: [left?, right?] }) {
                        return Ok(false);
                    }
                    continue;
                }
                Step::Divide(place) => place,
            };
            let to = arena.len();
            let list = arena.get(start..).unwrap_or_default();
            let cells = self.divided(&cell, list, place, meter);
            for cell in cells.into_iter().rev().filter(|cell| !cell.is_empty()) {
                let bytes = cell.bytes();
                meter.take(bytes)?;
                tasks.push(Task { cell, last, from: start, to, bytes });
            }
        }
        Ok(true)
    }

    /// Holds all products of the list against the cell, and takes away slabs in which nothing
    /// matters.
    fn reduce(
        &self,
        cell: &mut Cell,
        last: &mut [Last; 2],
        arena: &mut Vec<Entry>,
        start: usize,
        meter: &mut Meter<'_>,
    ) -> Result<Step, Obstacle> {
        loop {
            if cell.is_empty() {
                return Ok(Step::Nothing);
            }
            let bounds = cell.bounds();
            let mut open = OnSides::BOTH;
            let mut is_changed = false;
            let mut labels = [Labels::default(); 2];
            let mut best = (-1.0, 0);
            let mut slabs: [Vec<Range>; DIMENSIONS] = Default::default();
            let mut has_slabs = false;
            let mut kept = start;
            for at in start..arena.len() {
                meter.check()?;
                let Some(entry) = arena.get(at).copied() else { break };
                let sides = OnSides(entry.sides.0 & open.0);
                let is_done = entry.sides == OnSides::DONE;
                if sides == OnSides::DONE && !is_done {
                    continue;
                }
                let Some(product) = self.products.get(entry.product as usize) else { continue };
                // A rule of both sides decides alike on both, unless a rule before it is on one only.
                let is_neutral = is_done || sides == OnSides::BOTH && !is_changed;
                match cell.relation(self.scale, product, &bounds, &mut meter.steps) {
                    Relation::Apart => continue,
                    Relation::Whole => {
                        if is_neutral {
                            return Ok(Step::Nothing);
                        }
                        for (side, last) in last.iter_mut().enumerate() {
                            if sides.has(side) {
                                *last = Last { label: entry.label, rule: Some(product.rule) };
                            }
                        }
                        open = OnSides(open.0 & !sides.0);
                        if open == OnSides::DONE {
                            break;
                        }
                        continue;
                    }
                    Relation::Slab(dimension) if is_neutral => {
                        has_slabs = true;
                        if let (Some(slabs), Some(set)) =
                            (slabs.get_mut(dimension), product.sets.get(dimension))
                        {
                            slabs.extend_from_slice(self.scale.sets.get(*set));
                        }
                        continue;
                    }
                    Relation::Slab(_) => {
                        if best.0 < 0.5 {
                            best = (0.5, kept - start);
                        }
                    }
                    Relation::Partial(share) => {
                        if share > best.0 {
                            best = (share, kept - start);
                        }
                    }
                }
                if !is_done {
                    for (side, labels) in labels.iter_mut().enumerate() {
                        if sides.has(side) {
                            labels.add(entry.label, self.wants);
                        }
                    }
                    is_changed |= sides != OnSides::BOTH;
                }
                if let Some(place) = arena.get_mut(kept) {
                    *place = Entry { sides, ..entry };
                }
                kept += 1;
            }
            arena.truncate(kept);
            if !is_changed && last[0].label == last[1].label {
                return Ok(Step::Nothing);
            }
            for (labels, last) in labels.iter_mut().zip(last.iter()) {
                labels.add(last.label, self.wants);
            }
            if !labels.iter().any(|labels| labels.is_wanted) {
                return Ok(Step::Nothing);
            }
            if has_slabs {
                *cell = cell.without(slabs, &mut meter.steps);
                continue;
            }
            if let [Some(left), Some(right)] = labels.map(Labels::only) {
                if left == right {
                    return Ok(Step::Nothing);
                }
                let list = arena.get(start..).unwrap_or_default();
                let done = list.iter().position(|entry| entry.sides == OnSides::DONE);
                return Ok(done.map_or(Step::Done([left, right]), Step::Divide));
            }
            return Ok(Step::Divide(best.1));
        }
    }

    /// Divides a cell: in two halves if there are many products, else at a product of the list. The
    /// inside of a product in which nothing matters is left out.
    fn divided(
        &self,
        cell: &Cell,
        list: &[Entry],
        place: usize,
        meter: &mut Meter<'_>,
    ) -> Vec<Cell> {
        if list.len() > MANY
            && let Some(halves) = self.halves(cell, list, meter)
        {
            return halves.into();
        }
        let Some(entry) = list.get(place) else { return Vec::new() };
        let Some(product) = self.products.get(entry.product as usize) else { return Vec::new() };
        let is_neutral = entry.sides == OnSides::DONE
            || entry.sides == OnSides::BOTH
                && list
                    .iter()
                    .take(place)
                    .all(|it| it.sides == OnSides::BOTH || it.sides == OnSides::DONE);
        let (outside, inside) = cell.divided(self.scale, product, &mut meter.steps);
        let inside = (!is_neutral).then_some(inside);
        inside.into_iter().chain(outside).collect()
    }

    /// Cuts a cell in two, so that about as many products are on both sides, and few of them on both.
    fn halves(&self, cell: &Cell, list: &[Entry], meter: &mut Meter<'_>) -> Option<[Cell; 2]> {
        let bounds = cell.bounds();
        let products = || list.iter().filter_map(|it| self.products.get(it.product as usize));
        let all = as_f64(list.len());
        let mut best: Option<(f64, usize, u32)> = None;
        let mut ends: Vec<u32> = Vec::with_capacity(list.len() * 2);
        meter.steps += list.len() as u64 * 4;
        for dimension in 0..DIMENSIONS {
            let of = |bounds: &Bounds| {
                let first = bounds.first.get(dimension).copied().unwrap_or(0);
                (first, bounds.end.get(dimension).copied().unwrap_or(first))
            };
            let (first, end) = of(&bounds);
            ends.clear();
            for product in products() {
                let (from, to) = of(&product.bounds);
                ends.extend([from, to].into_iter().filter(|it| first < *it && *it < end));
            }
            if ends.is_empty() {
                continue;
            }
            let middle = ends.len() / 2;
            let at = *ends.select_nth_unstable(middle).1;
            let count = |is_there: &dyn Fn(Range) -> bool| {
                as_f64(products().filter(|it| is_there(of(&it.bounds))).count()) / all
            };
            let (low, high) = (count(&|it| it.0 < at), count(&|it| it.1 > at));
            let larger = low.max(high);
            let cost = larger + (low + high - 1.0);
            if larger < 0.9 && best.is_none_or(|best| cost < best.0) {
                best = Some((cost, dimension, at));
            }
        }
        let (_, dimension, at) = best?;
        let half = |range: Range| cell.with(dimension, intersection(cell.set(dimension), &[range]));
        Some([half((0, at)), half((at, u32::MAX))])
    }

    /// Whether some packet of a cell is in none of the products. Tries a corner before it searches.
    fn is_open(
        &self,
        cell: Cell,
        products: &[Product],
        meter: &mut Meter<'_>,
    ) -> Result<bool, Obstacle> {
        let bounds = cell.bounds();
        let corners = [bounds.first, bounds.end.map(|end| end.saturating_sub(1))];
        for corner in corners {
            meter.steps += products.len() as u64;
            if !products.iter().any(|product| product.has(self.scale.sets, &corner)) {
                return Ok(true);
            }
        }
        Ok(find_hole(self.scale, cell, products, meter, &mut Vec::new())?.is_some())
    }

    /// The rules of a side that decide some packet of a cell, in order.
    fn deciding(
        &self,
        cell: &Cell,
        list: &[Entry],
        last: &[Last; 2],
        side: usize,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<Option<Slot>>, Obstacle> {
        if !self.names_rules {
            return Ok(Vec::new());
        }
        let own: Vec<Product> = list
            .iter()
            .filter(|entry| entry.sides.has(side))
            .filter_map(|entry| self.products.get(entry.product as usize).copied())
            .collect();
        let mut rules: Vec<Option<Slot>> = Vec::new();
        for (place, product) in own.iter().enumerate() {
            if rules.contains(&Some(product.rule)) {
                continue;
            }
            let before = own.get(..place).unwrap_or_default();
            let inside = cell.intersection(self.scale.sets, &product.sets);
            if !inside.is_empty() && self.is_open(inside, before, meter)? {
                rules.push(Some(product.rule));
            }
        }
        let is_last = self.is_open(cell.clone(), &own, meter)?;
        if let Some(last) = last.get(side)
            && is_last
            && last.label != NO_LABEL
            && !rules.contains(&last.rule)
        {
            rules.push(last.rule);
        }
        Ok(rules)
    }
}

impl Labels {
    fn add(&mut self, label: Label, wants: &dyn Fn(Label) -> bool) {
        match self.first {
            None => {
                self.first = Some(label);
                self.is_wanted |= label != NO_LABEL && wants(label);
            }
            Some(first) if first == label => {}
            Some(_) => {
                self.is_mixed = true;
                self.is_wanted |= wants(label);
            }
        }
    }

    /// The only label, if there is only one.
    fn only(self) -> Option<Label> {
        self.first.filter(|_| !self.is_mixed)
    }
}

/// A list of entries in order of their products: all products of some rules, with the sides and the
/// label of each rule.
pub(super) fn entries<'a>(
    products: &'a [Product],
    of: impl Fn(Slot) -> (OnSides, Label) + 'a,
) -> impl Iterator<Item = Entry> + 'a {
    products.iter().enumerate().map(move |(number, product)| {
        let (sides, label) = of(product.rule);
        Entry { product: as_u32(number), sides, label }
    })
}

#[expect(clippy::cast_precision_loss, reason = "shares only choose where to cut")]
const fn as_f64(count: usize) -> f64 {
    count as f64
}
