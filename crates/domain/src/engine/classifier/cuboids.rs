//! The conversion of rules to cuboids.

use super::cuboid::{ALL_PORTS, Cuboid, CuboidParts, Range, kind};
use super::{Budget, least_bytes};
use crate::engine::naive::Entry;
use crate::net::{AddressRange, Family, PortRange, Protocol};
use crate::rule::{Criteria, Endpoint, RuleSpec, Schedule};

/// The cuboids of both families, in order of their rules.
#[derive(Debug, Default)]
pub(super) struct Cuboids {
    pub(super) v4: Vec<Cuboid<u32>>,
    pub(super) v6: Vec<Cuboid<u128>>,
}

/// The most cuboids of each family that rules can have; none if they exceed the budget or `should_continue`
/// returns false. `should_continue` is called at every rule. Disabled rules have no cuboids.
pub(super) fn count_all(
    rules: &[Entry<'_>],
    budget: Budget,
    should_continue: &dyn Fn() -> bool,
) -> Option<(usize, usize)> {
    let (mut v4, mut v6) = (0_usize, 0_usize);
    for rule in rules.iter().filter(|rule| rule.spec.enabled) {
        let parts = Parts::of(rule.spec);
        v4 = v4.checked_add(parts.count(Family::V4)?)?;
        v6 = v6.checked_add(parts.count(Family::V6)?)?;
        let bytes = least_bytes::<u32>(v4).checked_add(least_bytes::<u128>(v6))?;
        if v4.checked_add(v6)? > budget.cuboids || bytes > budget.bytes || !should_continue() {
            return None;
        }
    }
    Some((v4, v6))
}

/// All cuboids of rules that are in order of evaluation; none if they exceed the budget or `should_continue`
/// returns false. `should_continue` is called at every rule.
pub(super) fn of(
    rules: &[Entry<'_>],
    budget: Budget,
    should_continue: &dyn Fn() -> bool,
) -> Option<Cuboids> {
    // All cuboids are counted before any is made. One rule can have a thousand million cuboids, and
    // fifty rules together can exceed the budget although each of them fits.
    let (v4, v6) = count_all(rules, budget, should_continue)?;
    // Fewer cuboids may be made than were counted: cuboids that can hold no packet are left out.
    let mut cuboids = Cuboids { v4: Vec::with_capacity(v4), v6: Vec::with_capacity(v6) };
    for (rule, order) in rules.iter().zip(0_u32..).filter(|(rule, _)| rule.spec.enabled) {
        Parts::of(rule.spec).add_to(&mut cuboids, order);
        if !should_continue() {
            return None;
        }
    }
    Some(cuboids)
}

/// A protocol and the kinds of payload of its packets.
#[derive(Debug, Clone, Copy)]
struct Shape {
    protocol: Option<Protocol>,
    kinds: u8,
}

/// A rule, prepared for its conversion.
struct Parts<'a> {
    shapes: Vec<Shape>,
    sources: &'a [Endpoint],
    destinations: &'a [Endpoint],
    /// The ports of destinations that name none.
    ports: Vec<Range<u16>>,
    icmp_type: Range<u16>,
    icmp_code: Range<u16>,
    is_timed: bool,
}

impl<'a> Parts<'a> {
    fn of(rule: &'a RuleSpec) -> Self {
        let Criteria { protocols, icmp_type, icmp_code, sources, destinations, ports } =
            Criteria::of(rule);
        // The classifier is asked about enabled rules only.
        let Schedule { enabled: _, starts_at, expires_at } = Schedule::of(rule);
        // All values, if the rule names none.
        let icmp = |field: Option<u8>| {
            field.map_or(ALL_PORTS, |field| (u16::from(field), u16::from(field)))
        };
        Self {
            shapes: shapes(protocols),
            sources,
            destinations,
            ports: merged(ports),
            icmp_type: icmp(icmp_type),
            icmp_code: icmp(icmp_code),
            is_timed: starts_at.is_some() || expires_at.is_some(),
        }
    }

    /// The most cuboids of a family that the rule can have; none if the number overflows.
    fn count(&self, family: Family) -> Option<usize> {
        let has = |entry: &&Endpoint| match family {
            Family::V4 => v4(entry).is_some(),
            Family::V6 => v6(entry).is_some(),
        };
        let shapes = self.shapes.iter().filter(|shape| exists_in(**shape, family)).count();
        let sources = self.sources.iter().filter(has).count();
        let ports =
            |entry: &Endpoint| if entry.port.is_some() { 1 } else { self.ports.len().max(1) };
        let mut destinations = self.destinations.iter().filter(has).map(ports);
        let destinations = destinations.try_fold(0_usize, usize::checked_add)?;
        shapes.checked_mul(sources)?.checked_mul(destinations)
    }

    fn add_to(&self, cuboids: &mut Cuboids, order: u32) {
        let Self { shapes, sources, destinations, ports: fallback, icmp_type, icmp_code, is_timed } =
            self;
        for shape in shapes {
            for source in *sources {
                for destination in *destinations {
                    let own = destination.port.map(|port| (port.first(), port.last()));
                    let ports: &[Range<u16>] = match &own {
                        Some(own) => std::slice::from_ref(own),
                        None => fallback,
                    };
                    let restricts = source.port.is_some() || !ports.is_empty();
                    // A rule that restricts ports matches no packet without ports.
                    let kinds = if restricts { shape.kinds & kind::PORTS } else { shape.kinds };
                    if kinds == 0 {
                        continue;
                    }
                    let first = source.port.map_or(*icmp_type, |port| (port.first(), port.last()));
                    let seconds =
                        if ports.is_empty() { std::slice::from_ref(icmp_code) } else { ports };
                    for second in seconds {
                        let shared = Shared {
                            first,
                            second: *second,
                            protocol: shape.protocol.map(|protocol| protocol.0),
                            kinds,
                            is_timed: *is_timed,
                            order,
                        };
                        shared.add_to(cuboids, *shape, source, destination);
                    }
                }
            }
        }
    }
}

fn shapes(protocols: &[Protocol]) -> Vec<Shape> {
    if protocols.is_empty() {
        return vec![Shape { protocol: None, kinds: kind::ALL }];
    }
    let shape = |protocol: &Protocol| {
        let kinds = if protocol.has_ports() {
            kind::PORTS
        } else if protocol.is_icmp() {
            kind::ICMP
        } else {
            kind::OPAQUE
        };
        Shape { protocol: Some(*protocol), kinds }
    };
    let mut shapes: Vec<Shape> = protocols.iter().map(shape).collect();
    shapes.sort_unstable_by_key(|shape| shape.protocol);
    shapes
}

fn exists_in(shape: Shape, family: Family) -> bool {
    shape.protocol.is_none_or(|protocol| protocol.exists_in(family))
}

/// The parts that the cuboids of both families have in common.
struct Shared {
    first: Range<u16>,
    second: Range<u16>,
    protocol: Option<u8>,
    kinds: u8,
    is_timed: bool,
    order: u32,
}

impl Shared {
    fn add_to(
        &self,
        cuboids: &mut Cuboids,
        shape: Shape,
        source: &Endpoint,
        destination: &Endpoint,
    ) {
        if exists_in(shape, Family::V4)
            && let (Some(source), Some(destination)) = (v4(source), v4(destination))
        {
            cuboids.v4.push(self.cuboid(source, destination));
        }
        if exists_in(shape, Family::V6)
            && let (Some(source), Some(destination)) = (v6(source), v6(destination))
        {
            cuboids.v6.push(self.cuboid(source, destination));
        }
    }

    fn cuboid<A: super::Address>(&self, source: Range<A>, destination: Range<A>) -> Cuboid<A> {
        let Self { first, second, protocol, kinds, is_timed, order } = *self;
        let parts =
            CuboidParts { source, destination, first, second, protocol, kinds, is_timed, order };
        Cuboid::new(&parts)
    }
}

const fn v4(entry: &Endpoint) -> Option<Range<u32>> {
    match entry.address {
        AddressRange::Any => Some((0, u32::MAX)),
        AddressRange::V4 { first, last } => Some((first, last)),
        AddressRange::V6 { .. } => None,
    }
}

const fn v6(entry: &Endpoint) -> Option<Range<u128>> {
    match entry.address {
        AddressRange::Any => Some((0, u128::MAX)),
        AddressRange::V6 { first, last } => Some((first, last)),
        AddressRange::V4 { .. } => None,
    }
}

/// The same ports in as few ranges as possible.
fn merged(ports: &[PortRange]) -> Vec<Range<u16>> {
    let mut ranges: Vec<Range<u16>> =
        ports.iter().map(|range| (range.first(), range.last())).collect();
    ranges.sort_unstable();
    let mut merged: Vec<Range<u16>> = Vec::new();
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if u32::from(first) <= u32::from(before.1) + 1 => {
                before.1 = before.1.max(last);
            }
            _ => merged.push((first, last)),
        }
    }
    merged
}
