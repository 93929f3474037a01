//! Findings about rules that permit much, and about services that anybody can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::bounds::{DESTINATION, SECOND_FIELD, SOURCE};
use super::budget::Meter;
use super::cell::Cell;
use super::collect::Piece;
use super::context::Context;
use super::explore::decided_by;
use super::findings::Outcome;
use super::packets::PacketSet;
use super::ranges::{Range, intersection, normalized};
use super::report::{Cover, Evidence, Finding, FindingKind, Obstacle, Severity, Task};
use super::request::{AnalysisOptions, ExposedService};
use super::space::{Part, Slot};
use super::spell::{cells, packet_set};
use crate::net::{AddressRange, Family, Protocol};
use crate::worlds::Kind;

/// Adds the findings about ALLOW rules for any service, any destination, or a large share of all
/// addresses.
pub(super) fn permissive(context: &Context<'_>, options: &AnalysisOptions, outcome: &mut Outcome) {
    for slot in context.active() {
        if !context.action(Some(slot)).permits() {
            continue;
        }
        for family in Family::ALL {
            if let Some(permits) = permits(context, slot, family) {
                let threshold = match family {
                    Family::V4 => options.thresholds.permissive_v4,
                    Family::V6 => options.thresholds.permissive_v6,
                };
                let is_large = permits.addresses >= threshold;
                if !(is_large || permits.any_service || permits.any_destination) {
                    continue;
                }
                let is_serious = is_large || permits.any_service && permits.any_destination;
                let severity = if is_serious { Severity::Warning } else { Severity::Info };
                let finding = Finding::new(FindingKind::Permissive, severity, context.index(slot));
                let evidence = Evidence::Permits {
                    family,
                    addresses: permits.addresses,
                    any_service: permits.any_service,
                    any_destination: permits.any_destination,
                };
                outcome.findings.push(Finding { evidence, ..finding });
            }
        }
    }
}

struct Permits {
    addresses: f64,
    any_service: bool,
    any_destination: bool,
}

/// How much a rule permits in a family; none if it has no packet of it.
fn permits(context: &Context<'_>, slot: Slot, family: Family) -> Option<Permits> {
    let space = &context.space;
    let family_space = space.family(family);
    let (all_ports, all_addresses) =
        (space.sets.get(space.ports), space.sets.get(family_space.addresses));
    let of_kind = |kind: Kind| family_space.kinds().get(kind as usize).copied().unwrap_or(0);
    let with_ports = space.sets.get(of_kind(Kind::Ports));
    let mut permits = Permits { addresses: 0.0, any_service: false, any_destination: false };
    let parts = space.parts(slot, family);
    for part in parts {
        let protocols = space.sets.get(part.protocols);
        let has_ports = !intersection(protocols, with_ports).is_empty();
        // The groups of a side are disjoint, and the sides are independent.
        let side = |side| {
            let groups = space.sides.groups(side);
            let addresses = groups.iter().map(|it| space.sets.get(it.addresses));
            let size: f64 = addresses.map(|set| family_space.ranks.size(set)).sum();
            let takes_all = groups.iter().any(|it| space.sets.get(it.field) == all_ports);
            (size / family_space.ranks.all(), takes_all)
        };
        let ((sources, from_all), (destinations, to_all)) =
            (side(part.source), side(part.destination));
        // Different parts are about different protocols.
        permits.addresses = permits.addresses.max(sources * destinations);
        permits.any_service |= has_ports && from_all && to_all;
        let mut groups = space.sides.groups(part.destination).iter();
        permits.any_destination |= groups.any(|it| space.sets.get(it.addresses) == all_addresses);
    }
    (!parts.is_empty()).then_some(permits)
}

/// Addresses that are not public (IANA special-purpose address registries, RFC 6890, and multicast).
const PRIVATE_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];
/// Global unicast addresses of IPv6.
const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// The blocks of it that are not public.
const PRIVATE_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0x0db8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// The first and the last address of a range.
type Span = (u128, u128);

fn block(address: IpAddr, prefix: u8) -> Span {
    match AddressRange::block(address, prefix) {
        AddressRange::V4 { first, last } => (first.into(), last.into()),
        AddressRange::V6 { first, last } => (first, last),
        AddressRange::Any => (0, u128::MAX),
    }
}

/// The ranges that are not public, and for IPv6 the public block that they are in.
fn registries(family: Family) -> (Option<Span>, Vec<Span>) {
    match family {
        Family::V4 => (None, PRIVATE_V4.iter().map(|it| block(it.0.into(), it.1)).collect()),
        Family::V6 => (
            Some(block(PUBLIC_V6.0.into(), PUBLIC_V6.1)),
            PRIVATE_V6.iter().map(|it| block(it.0.into(), it.1)).collect(),
        ),
    }
}

/// The ranges of addresses that the search for exposed services needs ranks of.
pub(super) fn public_ends(family: Family) -> impl Iterator<Item = Span> {
    let (public, private) = registries(family);
    public.into_iter().chain(private)
}

/// All public addresses of a family.
fn public(context: &Context<'_>, family: Family) -> Vec<Range> {
    let space = context.space.family(family);
    let (public, private) = registries(family);
    let ranks = |(first, last)| space.ranks.range(first, last);
    let all = context.space.sets.get(space.addresses);
    let all = public.map_or_else(|| all.to_vec(), |range| vec![ranks(range)]);
    super::ranges::difference(&all, &normalized(private.into_iter().map(ranks).collect()))
}

/// Adds the findings about services that anybody can reach. One rule for a partner is not meant: only
/// rules count whose sources are most public addresses.
pub(super) fn exposed(context: &Context<'_>, options: &AnalysisOptions, outcome: &mut Outcome) {
    for family in Family::ALL {
        let public = public(context, family);
        let space = &context.space;
        let ranks = &space.family(family).ranks;
        let anybody = ranks.size(&public) * options.thresholds.exposed_sources;
        let is_open = |part: &&Part| {
            let sources = space.sides.groups(part.source).iter();
            let sources = sources.map(|it| intersection(space.sets.get(it.addresses), &public));
            let sizes: f64 = sources.map(|set| ranks.size(&set)).sum();
            sizes >= anybody
        };
        let open: Vec<Slot> = context
            .active()
            .filter(|slot| context.action(Some(*slot)).permits())
            .filter(|slot| space.parts(*slot, family).iter().any(|it| is_open(&it)))
            .collect();
        let mut protocols: Vec<Protocol> = options.services.iter().map(|it| it.protocol).collect();
        protocols.sort_unstable();
        protocols.dedup();
        for protocol in protocols {
            let services: Vec<ExposedService> =
                options.services.iter().filter(|it| it.protocol == protocol).cloned().collect();
            expose(context, protocol, &services, family, &public, &open, outcome);
        }
    }
}

/// Adds the findings about services of one protocol in a family. All services are searched at once.
fn expose(
    context: &Context<'_>,
    protocol: Protocol,
    services: &[ExposedService],
    family: Family,
    public: &[Range],
    open: &[Slot],
    outcome: &mut Outcome,
) {
    let asked = PacketSet {
        family: Some(family),
        protocols: vec![protocol],
        destination_ports: services.iter().map(|it| it.ports).collect(),
        ..PacketSet::everything()
    };
    let Some((_, kind, cell)) = cells(&context.space, &asked).into_iter().next() else { return };
    let cell = cell.with(SOURCE, public.to_vec());
    let mut exposures: Vec<Exposure> = services.iter().map(|_| Exposure::default()).collect();
    for slot in open.iter().copied().filter(|it| meets(context, *it, family, &cell)) {
        let mut meter = context.budget.meter(context.limits().steps);
        let mut pieces = Vec::new();
        if let Err(obstacle) = decided(context, slot, family, &cell, &mut meter, &mut pieces) {
            outcome.undecided(Task::Exposed, obstacle, slot);
        }
        // The pieces of one rule can be many, so they are summed up before the next rule.
        for (service, exposure) in services.iter().zip(&mut exposures) {
            exposure.add(slot, service, &pieces, context.limits().packets);
        }
    }
    for (service, exposure) in services.iter().zip(exposures) {
        match exposure.finding(context, service, family, kind) {
            Some(Ok(finding)) => outcome.findings.push(finding),
            Some(Err(slot)) => outcome.undecided(Task::Witness, Obstacle::Defect, slot),
            None => {}
        }
    }
}

/// What is known about a service that anybody can reach.
#[derive(Default)]
struct Exposure {
    /// The rules that let packets in, in order.
    rules: Vec<Slot>,
    destinations: Vec<Range>,
    /// The first packets, and how many sets of them there are.
    cells: Vec<Cell>,
    count: usize,
}

impl Exposure {
    /// Adds the packets that a rule decides, as far as they are of a service.
    fn add(&mut self, slot: Slot, service: &ExposedService, pieces: &[Piece], most: usize) {
        let ports = (service.ports.first().into(), u32::from(service.ports.last()) + 1);
        let before = self.count;
        for piece in pieces {
            let ports = intersection(piece.cell.set(SECOND_FIELD), &[ports]);
            if ports.is_empty() {
                continue;
            }
            self.count += 1;
            self.destinations.extend_from_slice(piece.cell.set(DESTINATION));
            if self.cells.len() < most.max(1) {
                self.cells.push(piece.cell.with(SECOND_FIELD, ports));
            }
        }
        if self.count > before {
            self.rules.push(slot);
            self.destinations = normalized(std::mem::take(&mut self.destinations));
        }
    }

    /// The finding; none if nobody can reach the service, and an error with the rule if its witness is
    /// refuted.
    fn finding(
        self,
        context: &Context<'_>,
        service: &ExposedService,
        family: Family,
        kind: Kind,
    ) -> Option<Result<Finding, Slot>> {
        let (first, cell) = (self.rules.first().copied()?, self.cells.first()?);
        let index = context.index(first);
        let witness = super::witness::packet(&context.space, family, cell, context.at);
        if !witness.is_some_and(|packet| context.verifies(Some(index), Some(first), &packet)) {
            return Some(Err(first));
        }
        let destinations = context.space.family(family).ranks.size(&self.destinations);
        let most = context.limits().packets;
        let sets = self.cells.iter().take(most);
        let because =
            self.rules.iter().map(|slot| Cover { rule: context.index(*slot), share: 1.0 });
        Some(Ok(Finding {
            because: because.collect(),
            witness,
            packets: sets.map(|it| packet_set(&context.space, family, kind, it)).collect(),
            is_packets_complete: self.count <= most,
            evidence: Evidence::Service { service: service.clone(), family, destinations },
            ..Finding::new(FindingKind::Exposed, Severity::Error, index)
        }))
    }
}

fn meets(context: &Context<'_>, slot: Slot, family: Family, cell: &Cell) -> bool {
    let bounds = cell.bounds();
    context.space.parts(slot, family).iter().any(|part| part.bounds.meets(&bounds))
}

/// Adds the packets of a cell that a rule decides.
fn decided(
    context: &Context<'_>,
    slot: Slot,
    family: Family,
    cell: &Cell,
    meter: &mut Meter<'_>,
    pieces: &mut Vec<Piece>,
) -> Result<(), Obstacle> {
    let space = &context.space;
    let most = pieces.len().saturating_add(context.limits().parts);
    decided_by(context, slot, most, |exploration| {
        for part in space.parts(slot, family) {
            for product in super::cell::Product::of_part(space, part, &cell.bounds()) {
                let inside = cell.intersection(&space.sets, &product.sets);
                if !inside.is_empty() && !exploration.run(family, &inside, meter, pieces)? {
                    return Err(Obstacle::Steps);
                }
            }
        }
        Ok(())
    })
}
