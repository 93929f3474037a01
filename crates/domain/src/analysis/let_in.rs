//! What rules let in of a service, and the destinations that anybody can reach by it.

use std::collections::BTreeMap;

use super::bounds::{DESTINATION, SECOND_FIELD, SOURCE};
use super::budget::Meter;
use super::cell::Cell;
use super::collect::Piece;
use super::exposure::together;
use super::ranges::{Range, difference, intersection, normalized};
use super::ranks::Ranks;
use super::report::Obstacle;
use super::request::ExposedService;
use super::space::Slot;

/// Packets of a service that a rule lets in.
#[derive(Clone)]
pub(super) struct LetIn {
    pub(super) rule: Slot,
    pub(super) cell: Cell,
}

/// Whether these packets are of the same rules, from the same addresses and to the same ones, in the
/// same order.
pub(super) fn are_alike(some: &[LetIn], others: &[LetIn]) -> bool {
    some.len() == others.len()
        && some.iter().zip(others).all(|(one, other)| {
            one.rule == other.rule
                && one.cell.set(SOURCE) == other.cell.set(SOURCE)
                && one.cell.set(DESTINATION) == other.cell.set(DESTINATION)
        })
}

/// What is known about a service.
#[derive(Default)]
pub(super) struct Exposure {
    /// The destinations that anybody can reach.
    pub(super) destinations: Vec<Range>,
    /// The rules that let anybody in, alone or with others, and the sources that each lets in.
    pub(super) rules: BTreeMap<Slot, Vec<Range>>,
    /// The first packets that they let in, and how many sets of them there are.
    pub(super) shown: Vec<LetIn>,
    pub(super) count: usize,
    /// The first packets of the first rule.
    pub(super) first: Option<LetIn>,
    /// Packets to other destinations, from too few addresses for anybody.
    pub(super) few: Vec<LetIn>,
}

/// The packets of a service among pieces that a rule lets in.
pub(super) fn let_in(rule: Slot, service: &ExposedService, pieces: &[Piece]) -> Vec<LetIn> {
    let ports = (service.ports.first().into(), u32::from(service.ports.last()) + 1);
    let mut own = Vec::new();
    for piece in pieces {
        let ports = intersection(piece.cell.set(SECOND_FIELD), &[ports]);
        if !ports.is_empty() {
            own.push(LetIn { rule, cell: piece.cell.with(SECOND_FIELD, ports) });
        }
    }
    own
}

impl Exposure {
    /// The rules that let anybody in, in order.
    pub(super) fn named(&self) -> Vec<Slot> {
        self.rules.keys().copied().collect()
    }

    /// Adds what one rule lets in. The destinations to which it lets anybody in alone are settled.
    pub(super) fn add_alone(
        &mut self,
        own: Vec<LetIn>,
        anybody: f64,
        ranks: &Ranks,
        most: usize,
        meter: &mut Meter<'_>,
    ) -> Result<(), Obstacle> {
        let is_wide = |it: &LetIn| ranks.size(it.cell.set(SOURCE)) >= anybody;
        let (wide, few): (Vec<LetIn>, Vec<LetIn>) = own.into_iter().partition(is_wide);
        let reached = wide.iter().flat_map(|it| it.cell.set(DESTINATION).to_vec()).collect();
        let reached = normalized(reached);
        let all: Vec<Range> = few.iter().flat_map(|it| it.cell.set(DESTINATION).to_vec()).collect();
        let left = difference(&normalized(all), &reached);
        let shares = together(&few, &left, anybody, ranks, meter)?;
        let of_wide: Vec<Vec<Range>> =
            wide.iter().map(|it| it.cell.set(DESTINATION).to_vec()).collect();
        self.add(wide, of_wide, most);
        self.few.extend(few.iter().cloned());
        self.add(few, shares, most);
        Ok(())
    }

    /// Adds packets that let anybody in, each to some of its destinations.
    pub(super) fn add(&mut self, all: Vec<LetIn>, destinations: Vec<Vec<Range>>, most: usize) {
        let mut settled = std::mem::take(&mut self.destinations);
        for (it, destinations) in all.into_iter().zip(destinations) {
            if destinations.is_empty() {
                continue;
            }
            let sources = self.rules.entry(it.rule).or_default();
            let both = [sources.as_slice(), it.cell.set(SOURCE)].concat();
            *sources = normalized(both);
            settled.extend_from_slice(&destinations);
            let shown = LetIn { rule: it.rule, cell: it.cell.with(DESTINATION, destinations) };
            if self.first.as_ref().is_none_or(|first| shown.rule < first.rule) {
                self.first = Some(shown.clone());
            }
            self.count += 1;
            if self.shown.len() < most {
                self.shown.push(shown);
            }
        }
        self.destinations = normalized(settled);
    }
}
