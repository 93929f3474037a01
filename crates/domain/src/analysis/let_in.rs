//! What rules let in of a service, as far as it is shown.

use std::collections::BTreeMap;

use super::bounds::SECOND_FIELD;
use super::cell::Cell;
use super::collect::Piece;
use super::ranges::{Range, intersection, meets};
use super::request::ExposedService;
use super::space::Slot;
use super::ways_in::ports;

/// Packets of a service that a rule lets in.
#[derive(Clone)]
pub(super) struct LetIn {
    pub(super) rule: Slot,
    pub(super) cell: Cell,
}

/// What is known about a service.
#[derive(Default)]
pub(super) struct Exposure {
    /// The destinations that anybody can reach.
    pub(super) destinations: Vec<Range>,
    /// The rules that let anybody in, alone or with others, and how many addresses each lets in.
    pub(super) rules: BTreeMap<Slot, f64>,
    /// The first packets that they let in.
    pub(super) shown: Vec<LetIn>,
    /// Whether there are more of them.
    pub(super) has_more: bool,
    /// The first packets of the first rule.
    pub(super) first: Option<LetIn>,
}

/// The packets of a service among pieces that a rule lets in.
pub(super) fn let_in(rule: Slot, service: &ExposedService, pieces: &[Piece]) -> Vec<LetIn> {
    let own = |piece: &Piece| {
        let ports = intersection(piece.cell.set(SECOND_FIELD), &[ports(service)]);
        (!ports.is_empty()).then(|| LetIn { rule, cell: piece.cell.with(SECOND_FIELD, ports) })
    };
    pieces.iter().filter_map(own).collect()
}

/// The numbers of the pieces that have packets of a service.
pub(super) fn numbers(service: &ExposedService, pieces: &[Piece]) -> Vec<usize> {
    let ports = [ports(service)];
    let own = |it: &(usize, &Piece)| meets(it.1.cell.set(SECOND_FIELD), &ports);
    pieces.iter().enumerate().filter(own).map(|it| it.0).collect()
}

impl Exposure {
    /// Adds packets that a rule lets in, which may be all or not. Rules come in order.
    pub(super) fn add(&mut self, own: Vec<LetIn>, is_whole: bool, most: usize) {
        self.has_more |= !is_whole;
        for it in own {
            if self.first.is_none() {
                self.first = Some(it.clone());
            }
            if self.shown.len() < most {
                self.shown.push(it);
            } else {
                self.has_more = true;
                break;
            }
        }
    }
}
