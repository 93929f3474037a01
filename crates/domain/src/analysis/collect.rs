//! What a walk has found, put together as answers show it.

use super::bounds::{DESTINATION, FIRST_FIELD, PROTOCOL, SECOND_FIELD, SOURCE};
use super::cell::Cell;
use super::intern::FxHashMap;
use super::packets::PacketSet;
use super::ranges::{Range, normalized};
use super::space::{Slot, Space};
use super::spell::{packet_set, packet_sets, size_of, values};
use super::walk::Label;
use super::witness::packet;
use crate::net::Family;
use crate::packet::Packet;
use crate::time::Instant;
use crate::worlds::Kind;

/// A cell of packets of one kind that a walk has found.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) family: Family,
    pub(super) kind: Kind,
    pub(super) cell: Cell,
    pub(super) labels: [Label; 2],
    pub(super) rules: [Vec<Option<Slot>>; 2],
    /// An instant at which it was found.
    pub(super) at: Instant,
}

/// Pieces with the same addresses and labels that take all values of their fields: one set.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) family: Family,
    pub(super) packets: PacketSet,
    pub(super) labels: [Label; 2],
    pub(super) rules: [Vec<Option<Slot>>; 2],
    pub(super) witness: Option<Packet>,
    /// The addresses of the witness are in this cell.
    pub(super) cell: Cell,
    /// How many packets it has.
    pub(super) size: f64,
}

/// Joins pieces that differ only in what their packets carry after the addresses: an answer "any
/// protocol" instead of one for protocols with ports, one for ICMP and one for the others.
pub(super) fn joined(space: &Space, pieces: Vec<Piece>) -> Vec<Joined> {
    type Key = (Family, [Label; 2], Instant, [Vec<Range>; 2]);
    let mut places: FxHashMap<Key, usize> = FxHashMap::default();
    let mut joined: Vec<Joined> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let whole = [values(piece.kind)];
        let cell = piece.cell;
        let is_whole = cell.set(FIRST_FIELD) == whole && cell.set(SECOND_FIELD) == whole;
        let key = is_whole.then(|| {
            let addresses = [cell.set(SOURCE).to_vec(), cell.set(DESTINATION).to_vec()];
            (piece.family, piece.labels, piece.at, addresses)
        });
        let known = key.as_ref().and_then(|key| places.get(key)).and_then(|at| joined.get_mut(*at));
        if let Some(other) = known {
            let all = [other.cell.set(PROTOCOL), cell.set(PROTOCOL)].concat();
            other.size += size_of(space, piece.family, &cell);
            other.cell = other.cell.with(PROTOCOL, normalized(all));
            for (own, its) in other.rules.iter_mut().zip(piece.rules) {
                own.extend(its);
                // The default comes last.
                own.sort_unstable_by_key(|it| it.unwrap_or(Slot::MAX));
                own.dedup();
            }
            continue;
        }
        if let Some(key) = key {
            places.insert(key, joined.len());
        }
        joined.push(Joined {
            family: piece.family,
            packets: packet_set(space, piece.family, piece.kind, &cell),
            labels: piece.labels,
            rules: piece.rules,
            witness: packet(space, piece.family, &cell, piece.at),
            size: size_of(space, piece.family, &cell),
            cell,
        });
    }
    // The sets of those that were joined.
    for at in places.into_values() {
        if let Some(joined) = joined.get_mut(at) {
            let all = space.sets.get(space.ports).to_vec();
            let cell = joined.cell.with(FIRST_FIELD, all.clone()).with(SECOND_FIELD, all);
            if let Some(packets) = packet_sets(space, joined.family, &cell).pop() {
                joined.packets = packets;
            }
        }
    }
    joined
}
