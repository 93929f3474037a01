//! Packets that show something: usual ones if there is a choice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bounds::{DESTINATION, FIRST_FIELD, PROTOCOL, Point, SECOND_FIELD, SOURCE};
use super::cell::Cell;
use super::ranges::{Range, has, intersection};
use super::ranks::Ranks;
use super::space::{Space, protocols_of};
use crate::net::{Family, PortRange, Protocol};
use crate::packet::{Packet, PacketParts};
use crate::time::Instant;
use crate::worlds::MAPPED;

/// Protocols that people know, the best known first.
const PROTOCOLS: [Protocol; 5] =
    [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::ICMPV6, Protocol(47)];
/// Destination ports that people know.
const SERVICES: [u32; 8] = [443, 80, 22, 53, 25, 3_389, 8_080, 123];
/// Addresses that people know from examples, for sets that contain nearly everything.
const V4: [u128; 4] = [0xc633_6401, 0xc000_0201, 0x0a00_0001, 0xcb00_7101];
/// The same in IPv6: 2001:db8::1.
const V6: [u128; 1] = [0x2001_0db8_0000_0000_0000_0000_0000_0001];
/// Echo requests, in IPv4 and IPv6, then other values.
const ICMP_TYPES: [u32; 3] = [8, 128, 0];

/// A packet of a cell that is not empty.
pub(super) fn packet(space: &Space, family: Family, cell: &Cell, at: Instant) -> Option<Packet> {
    let protocols = cell.set(PROTOCOL);
    let is_there = |it: &Protocol| it.exists_in(family) && has(protocols, it.0.into());
    let known = PROTOCOLS.into_iter().find(is_there);
    let first = || protocols_of(family, protocols).next();
    let protocol = known.or_else(first)?;
    let ranks = &space.family(family).ranks;
    let source = address(ranks, family, cell.set(SOURCE), false)?;
    let destination = address(ranks, family, cell.set(DESTINATION), true)?;
    let (first, second) = if protocol.is_icmp() {
        (usual(cell.set(FIRST_FIELD), &ICMP_TYPES)?, usual(cell.set(SECOND_FIELD), &[])?)
    } else {
        let first = cell.set(FIRST_FIELD);
        let ephemeral = (u32::from(PortRange::EPHEMERAL.first()), 65_536);
        let chosen = intersection(first, &[ephemeral]).first().map(|range| range.0);
        let first = chosen.or_else(|| first.first().map(|range| range.0))?;
        (first, usual(cell.set(SECOND_FIELD), &SERVICES)?)
    };
    made(family, source, destination, first, second, protocol, at)
}

/// The packet of a point, with so many added to its addresses.
pub(super) fn at_point(
    space: &Space,
    family: Family,
    point: &Point,
    offset: u128,
    at: Instant,
) -> Option<Packet> {
    let [source, destination, first, second, protocol] = *point;
    let ranks = &space.family(family).ranks;
    let protocol = Protocol(u8::try_from(protocol).ok()?);
    // A protocol that the family does not have is replaced by the one before it.
    let protocol = if protocol.exists_in(family) { protocol } else { Protocol(protocol.0 - 1) };
    let [source, destination] =
        [source, destination].map(|rank| ranks.first(rank).checked_add(offset));
    let (source, destination) = (source?, destination?);
    made(family, source, destination, first, second, protocol, at)
}

pub(super) fn made(
    family: Family,
    source: u128,
    destination: u128,
    first: u32,
    second: u32,
    protocol: Protocol,
    at: Instant,
) -> Option<Packet> {
    let ip = |bits: u128| -> Option<IpAddr> {
        Some(match family {
            Family::V4 => Ipv4Addr::from_bits(u32::try_from(bits).ok()?).into(),
            Family::V6 => Ipv6Addr::from_bits(bits).into(),
        })
    };
    let port = |value: u32| u16::try_from(value).ok().filter(|_| protocol.has_ports());
    // All numbers from 255 on mean 255.
    let icmp = |value: u32| u8::try_from(value.min(255)).ok().filter(|_| protocol.is_icmp());
    Packet::new(PacketParts {
        source_address: ip(source)?,
        destination_address: ip(destination)?,
        protocol,
        source_port: port(first),
        destination_port: port(second),
        icmp_type: icmp(first),
        icmp_code: icmp(second),
        at,
    })
    .ok()
}

fn usual(set: &[Range], known: &[u32]) -> Option<u32> {
    let found = known.iter().copied().find(|value| has(set, *value));
    found.or_else(|| set.first().map(|range| range.0))
}

/// A usual address of a set; for a destination, another one than for the source.
fn address(ranks: &Ranks, family: Family, set: &[Range], is_destination: bool) -> Option<u128> {
    let known: &[u128] = match family {
        Family::V4 => &V4,
        Family::V6 => &V6,
    };
    // Only sets that are mostly everything need an example; others have addresses of their own.
    if ranks.size(set) > ranks.all() / 2.0 {
        let mut found = known.iter().copied().filter(|address| has(set, ranks.rank(*address)));
        let first = found.next();
        let second = if is_destination { found.next() } else { None };
        if let Some(address) = second.or(first) {
            return Some(address);
        }
    }
    let range = set.first()?;
    let (first, last) = (ranks.first(range.0), ranks.last_before(range.1));
    // The first address of a block is often no host.
    Some(if last - first > 1 && first + 1 != MAPPED.0 { first + 1 } else { first })
}
