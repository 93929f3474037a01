//! Cells as sets of packets in the syntax of rules, and back.

use super::bounds::{DESTINATION, FIRST_FIELD, PROTOCOL, SECOND_FIELD, SOURCE};
use super::cell::Cell;
use super::measure::to_f64;
use super::packets::{ByteRange, PacketSet};
use super::ranges::{Range, intersection, normalized, size};
use super::ranks::Ranks;
use super::space::{PORTS_END, Space, protocol_ranges, protocols_of};
use crate::net::{AddressRange, Family, PortRange, Protocol};
use crate::rule::Endpoint;
use crate::worlds::{Kind, addresses};

/// The ranges of addresses of a set that need ranks of their own.
pub(super) fn ends_of(set: &PacketSet, family: Family) -> impl Iterator<Item = (u128, u128)> + '_ {
    let all = set.sources.iter().chain(&set.destinations);
    all.flat_map(move |address| addresses(family, &Endpoint { address: *address, port: None }))
}

/// The values that the fields of packets of a kind really have. Packets without ports all have the
/// values 0, so that each of them is in one cell.
pub(super) fn values(kind: Kind) -> Range {
    match kind {
        Kind::Ports => (0, PORTS_END),
        Kind::Icmp => (0, 256),
        Kind::Opaque => (0, 1),
    }
}

/// A cell as disjoint cells, one for each kind of packets that it has. Only values that packets
/// really have are left, so that a cell is exactly its packets.
pub(super) fn by_kind(space: &Space, family: Family, cell: &Cell) -> Vec<(Kind, Cell)> {
    let kinds = space.family(family).kinds();
    let mut cells = Vec::with_capacity(kinds.len());
    for (kind, protocols) in Kind::ALL.into_iter().zip(kinds) {
        let protocols = intersection(cell.set(PROTOCOL), space.sets.get(protocols));
        let values = [values(kind)];
        let part = cell
            .with(PROTOCOL, protocols)
            .with(FIRST_FIELD, intersection(cell.set(FIRST_FIELD), &values))
            .with(SECOND_FIELD, intersection(cell.set(SECOND_FIELD), &values));
        if !part.is_empty() {
            cells.push((kind, part));
        }
    }
    cells
}

/// A set of packets as disjoint cells of one kind each.
pub(super) fn cells(space: &Space, set: &PacketSet) -> Vec<(Family, Kind, Cell)> {
    // No `..`: the compiler demands a decision here for each new member.
    let PacketSet {
        family: own_family,
        protocols,
        sources,
        source_ports,
        destinations,
        destination_ports,
        icmp_types,
        icmp_codes,
    } = set;
    let names_ports = !source_ports.is_empty() || !destination_ports.is_empty();
    let names_icmp = !icmp_types.is_empty() || !icmp_codes.is_empty();
    let mut cells = Vec::new();
    for family in Family::ALL {
        if own_family.is_some_and(|it| it != family) {
            continue;
        }
        let family_space = space.family(family);
        let side = |listed: &[AddressRange]| {
            if listed.is_empty() {
                return space.sets.get(family_space.addresses).to_vec();
            }
            let entries = listed.iter().map(|it| Endpoint { address: *it, port: None });
            let ranges = entries.flat_map(|entry| {
                let ranges: Vec<(u128, u128)> = addresses(family, &entry).collect();
                ranges
            });
            normalized(ranges.map(|(a, b)| family_space.ranks.range(a, b)).collect())
        };
        let (source, destination) = (side(sources), side(destinations));
        for (kind, all) in Kind::ALL.into_iter().zip(family_space.kinds()) {
            if names_ports && kind != Kind::Ports || names_icmp && kind != Kind::Icmp {
                continue;
            }
            let listed = protocol_ranges(family, protocols.iter().copied());
            let own = space.sets.get(all);
            let protocols =
                if protocols.is_empty() { own.to_vec() } else { intersection(&listed, own) };
            let field = |ports: &[PortRange], bytes: &[ByteRange]| {
                let ports = ports.iter().map(|it| (it.first().into(), u32::from(it.last()) + 1));
                let bytes = bytes.iter().map(|it| (it.first.into(), u32::from(it.last) + 1));
                let named = normalized(ports.chain(bytes).collect());
                if named.is_empty() { vec![values(kind)] } else { named }
            };
            let cell = Cell::of_ranges([
                source.clone(),
                destination.clone(),
                field(source_ports, icmp_types),
                field(destination_ports, icmp_codes),
                protocols,
            ]);
            if !cell.is_empty() {
                cells.push((family, kind, cell));
            }
        }
    }
    cells
}

/// A cell as sets of packets, one for each kind that needs one.
pub(super) fn packet_sets(space: &Space, family: Family, cell: &Cell) -> Vec<PacketSet> {
    let all = space.sets.get(space.ports);
    let takes_all = [FIRST_FIELD, SECOND_FIELD].into_iter().all(|field| cell.set(field) == all);
    if takes_all && !cell.is_empty() {
        // Whatever the packets carry.
        let protocols = named_protocols(space, family, cell.set(PROTOCOL));
        return vec![PacketSet { protocols, ..of_addresses(space, family, cell) }];
    }
    let cells = by_kind(space, family, cell);
    cells.into_iter().map(|(kind, cell)| packet_set(space, family, kind, &cell)).collect()
}

/// A cell of one kind, with only values that packets really have, as a set of packets.
pub(super) fn packet_set(space: &Space, family: Family, kind: Kind, cell: &Cell) -> PacketSet {
    let kinds = space.family(family).kinds();
    let all = kinds.get(kind as usize).copied();
    let (first, second) = (cell.set(FIRST_FIELD), cell.set(SECOND_FIELD));
    let whole = [values(kind)];
    let restricts = first != whole || second != whole;
    let named = |set: &[Range]| if set == whole { Vec::new() } else { set.to_vec() };
    let mut packets = of_addresses(space, family, cell);
    let protocols = cell.set(PROTOCOL);
    let is_all = all.is_some_and(|all| space.sets.get(all) == protocols);
    // A set that names ports or ICMP fields has only protocols that carry them.
    if !(restricts && is_all && kind != Kind::Opaque) {
        packets.protocols = protocols_of(family, protocols).collect();
    }
    match kind {
        Kind::Ports => {
            packets.source_ports = named(first).into_iter().filter_map(ports).collect();
            packets.destination_ports = named(second).into_iter().filter_map(ports).collect();
        }
        Kind::Icmp => {
            packets.icmp_types = named(first).into_iter().filter_map(bytes).collect();
            packets.icmp_codes = named(second).into_iter().filter_map(bytes).collect();
        }
        Kind::Opaque => {}
    }
    packets
}

fn of_addresses(space: &Space, family: Family, cell: &Cell) -> PacketSet {
    let family_space = space.family(family);
    let all = space.sets.get(family_space.addresses);
    let side = |dimension: usize| {
        let set = cell.set(dimension);
        if set == all { Vec::new() } else { address_ranges(family, &family_space.ranks, set) }
    };
    PacketSet {
        family: Some(family),
        sources: side(SOURCE),
        destinations: side(DESTINATION),
        ..PacketSet::everything()
    }
}

/// Ranks as ranges of addresses.
fn address_ranges(family: Family, ranks: &Ranks, set: &[Range]) -> Vec<AddressRange> {
    let range = |range: &Range| {
        let (first, last) = (ranks.first(range.0), ranks.last_before(range.1));
        match family {
            Family::V4 => {
                let end = |address: u128| u32::try_from(address).unwrap_or(u32::MAX);
                AddressRange::V4 { first: end(first), last: end(last) }
            }
            Family::V6 => AddressRange::V6 { first, last },
        }
    };
    set.iter().map(range).collect()
}

fn named_protocols(space: &Space, family: Family, set: &[Range]) -> Vec<Protocol> {
    let all = space.sets.get(space.family(family).protocols);
    if set == all { Vec::new() } else { protocols_of(family, set).collect() }
}

fn ports(range: Range) -> Option<PortRange> {
    let first = u16::try_from(range.0).ok()?;
    let last = u16::try_from(range.1.checked_sub(1)?).ok()?;
    PortRange::new(first, last).ok()
}

fn bytes(range: Range) -> Option<ByteRange> {
    let first = u8::try_from(range.0).ok()?;
    ByteRange::new(first, u8::try_from(range.1.checked_sub(1)?).ok()?)
}

/// How many packets a cell of one kind has.
pub(super) fn size_of(space: &Space, family: Family, cell: &Cell) -> f64 {
    let ranks = &space.family(family).ranks;
    let count = |dimension: usize| to_f64(size(cell.set(dimension)));
    let protocols = protocols_of(family, cell.set(PROTOCOL)).count() as u64;
    ranks.size(cell.set(SOURCE))
        * ranks.size(cell.set(DESTINATION))
        * count(FIRST_FIELD)
        * count(SECOND_FIELD)
        * to_f64(protocols)
}
