//! Findings about rules that permit much, and which addresses are public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::context::Context;
use super::findings::Outcome;
use super::ranges::{Range, has, normalized};
use super::report::{Evidence, Finding, FindingKind, RuleIndex, Severity};
use super::request::AnalysisOptions;
use super::space::Slot;
use crate::net::{AddressRange, Family, Protocol};

/// Adds the findings about ALLOW rules for any service, any destination, or a large share of all
/// addresses.
pub(super) fn permissive(
    context: &Context<'_>,
    options: &AnalysisOptions,
    is_asked: &dyn Fn(RuleIndex) -> bool,
    outcome: &mut Outcome,
) {
    for slot in context.active().filter(|it| is_asked(context.index(*it))) {
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
                let is_any_to_any = permits.is_any_service_everywhere && permits.any_destination;
                let is_serious = is_large || is_any_to_any;
                let severity = if is_serious { Severity::Warning } else { Severity::Info };
                let finding = Finding::new(FindingKind::Permissive, severity, context.index(slot));
                let evidence = Evidence::Permits {
                    family,
                    addresses: permits.addresses,
                    any_service: permits.any_service,
                    any_destination: permits.any_destination,
                    is_any_service_everywhere: permits.is_any_service_everywhere,
                };
                outcome.findings.push(Finding { evidence, ..finding });
            }
        }
    }
}

#[derive(Default)]
struct Permits {
    addresses: f64,
    any_service: bool,
    any_destination: bool,
    /// Whether it permits every service to every one of its destinations.
    is_any_service_everywhere: bool,
}

/// How much a rule permits in a family; none if it has no packet of it.
fn permits(context: &Context<'_>, slot: Slot, family: Family) -> Option<Permits> {
    let space = &context.space;
    let family_space = space.family(family);
    let (all_ports, all_addresses) =
        (space.sets.get(space.ports), space.sets.get(family_space.addresses));
    let [tcp, udp] = [Protocol::TCP, Protocol::UDP].map(|it| u32::from(it.0));
    let mut permits = Permits::default();
    let parts = space.parts(slot, family);
    for part in parts {
        let protocols = space.sets.get(part.protocols);
        let has_both = has(protocols, tcp) && has(protocols, udp);
        // The groups of a side are disjoint, and the sides are independent.
        let addresses = |side, is_asked: &dyn Fn(&[Range]) -> bool| {
            let groups = space.sides.groups(side).iter();
            let asked = groups.filter(|it| is_asked(space.sets.get(it.field)));
            let ranges = asked.flat_map(|it| space.sets.get(it.addresses).iter().copied());
            normalized(ranges.collect())
        };
        let takes_all = |field: &[Range]| field == all_ports;
        let share = |set: &[Range]| family_space.ranks.size(set) / family_space.ranks.all();
        let (sources, destinations) =
            (addresses(part.source, &|_| true), addresses(part.destination, &|_| true));
        let from_all = !addresses(part.source, &takes_all).is_empty();
        let open = addresses(part.destination, &takes_all);
        // Different parts are about different protocols; TCP and UDP are always in the same one.
        permits.addresses = permits.addresses.max(share(&sources) * share(&destinations));
        permits.any_destination |= destinations == all_addresses;
        if has_both && from_all && !open.is_empty() {
            permits.any_service = true;
            permits.is_any_service_everywhere |= open == destinations;
        }
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
pub(super) fn public(context: &Context<'_>, family: Family) -> Vec<Range> {
    let space = context.space.family(family);
    let (public, private) = registries(family);
    let ranks = |(first, last)| space.ranks.range(first, last);
    let all = context.space.sets.get(space.addresses);
    let all = public.map_or_else(|| all.to_vec(), |range| vec![ranks(range)]);
    super::ranges::difference(&all, &normalized(private.into_iter().map(ranks).collect()))
}
