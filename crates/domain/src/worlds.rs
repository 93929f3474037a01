//! The worlds of packets, and which parts of a rule exist in each of them.
//!
//! A packet has one of two families, and it carries ports, ICMP fields or neither. This makes six
//! worlds, which are disjoint and together hold every packet. In each world, a rule is exactly a
//! product of sources, destinations and protocols. The engines that turn rules into such products
//! ask this module which entries and protocols take part; `engine::naive` is the definition that
//! their tests compare them with.

use crate::net::{AddressRange, Family, PortRange, Protocol};
#[cfg(test)]
use crate::packet::{Packet, Payload, family_of};
use crate::rule::{Criteria, Endpoint};

/// An inclusive range.
pub(crate) type Range<A> = (A, A);

/// Every port. Also represents every ICMP type and every ICMP code.
pub(crate) const ALL_FIELDS: Range<u16> = (0, u16::MAX);

/// What a packet carries after its addresses and its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Two ports.
    Ports,
    /// An ICMP type and code.
    Icmp,
    /// Nothing that rules examine.
    Opaque,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 3] = [Self::Ports, Self::Icmp, Self::Opaque];

    /// The kind of all packets of a protocol.
    pub(crate) const fn of(protocol: Protocol) -> Self {
        if protocol.has_ports() {
            Self::Ports
        } else if protocol.is_icmp() {
            Self::Icmp
        } else {
            Self::Opaque
        }
    }
}

/// One of the six worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) family: Family,
    pub(crate) kind: Kind,
}

impl World {
    /// Every world.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let kinds = |family| Kind::ALL.into_iter().map(move |kind| Self { family, kind });
        Family::ALL.into_iter().flat_map(kinds)
    }

    /// The world of a packet.
    #[cfg(test)]
    pub(crate) const fn of(packet: &Packet) -> Self {
        let kind = match packet.payload() {
            Payload::Ports { .. } => Kind::Ports,
            Payload::Icmp { .. } => Kind::Icmp,
            Payload::Opaque => Kind::Opaque,
        };
        Self { family: family_of(packet.source()), kind }
    }

    /// The protocols of its packets, in order of their numbers.
    pub(crate) fn protocols(self) -> impl Iterator<Item = Protocol> {
        (0..=u8::MAX)
            .map(Protocol)
            .filter(move |it| it.exists_in(self.family) && Kind::of(*it) == self.kind)
    }
}

/// A rule, prepared for the question what it is in each world.
#[derive(Debug, Clone)]
pub(crate) struct RuleProduct<'a> {
    /// In order of their numbers; none: any.
    protocols: Option<Vec<Protocol>>,
    sources: &'a [Endpoint],
    destinations: &'a [Endpoint],
    /// The ports of destinations that name none, in as few ranges as possible; none: every port.
    ports: Vec<Range<u16>>,
    icmp_type: Option<Range<u16>>,
    icmp_code: Option<Range<u16>>,
}

impl<'a> RuleProduct<'a> {
    /// What a rule compares with packets. Costs a sort of its ports.
    pub(crate) fn new(criteria: Criteria<'a>) -> Self {
        // No `..`: the compiler demands a decision here for each new member.
        let Criteria { protocols, icmp_type, icmp_code, sources, destinations, ports } = criteria;
        let field = |field: u8| (u16::from(field), u16::from(field));
        let listed = (!protocols.is_empty()).then(|| {
            let mut listed = protocols.to_vec();
            listed.sort_unstable();
            listed.dedup();
            listed
        });
        Self {
            protocols: listed,
            sources,
            destinations,
            ports: merged(ports),
            icmp_type: icmp_type.map(field),
            icmp_code: icmp_code.map(field),
        }
    }

    /// The listed protocols, in order of their numbers; none if the rule takes any protocol.
    pub(crate) fn listed_protocols(&self) -> Option<&[Protocol]> {
        self.protocols.as_deref()
    }

    /// The protocols of the rule that exist in a world, in order of their numbers.
    #[cfg(test)]
    pub(crate) fn protocols(&self, world: World) -> impl Iterator<Item = Protocol> + '_ {
        let is_listed = |it: &Protocol| {
            self.protocols.as_ref().is_none_or(|listed| listed.binary_search(it).is_ok())
        };
        world.protocols().filter(is_listed)
    }

    /// All sources, in the order of the rule.
    pub(crate) const fn sources(&self) -> &'a [Endpoint] {
        self.sources
    }

    /// All destinations, in the order of the rule.
    pub(crate) const fn destinations(&self) -> &'a [Endpoint] {
        self.destinations
    }

    /// The source ports, or the ICMP types, of a source in packets of a kind; none if no packet of
    /// the kind meets the entry.
    pub(crate) fn source_field(&self, kind: Kind, entry: &Endpoint) -> Option<Range<u16>> {
        match (kind, entry.port) {
            (Kind::Ports, port) => self.without_icmp(port.map_or(ALL_FIELDS, pair)),
            // What restricts ports does not match a packet that has none.
            (Kind::Icmp | Kind::Opaque, Some(_)) => None,
            (Kind::Icmp, None) => Some(self.icmp_type.unwrap_or(ALL_FIELDS)),
            (Kind::Opaque, None) => self.without_icmp(ALL_FIELDS),
        }
    }

    /// The destination ports, or the ICMP codes, of a destination in packets of a kind, in as few
    /// ranges as possible; empty if no packet of the kind meets the entry.
    pub(crate) fn destination_fields(&self, kind: Kind, entry: &Endpoint) -> Fields<'_> {
        let restricts = entry.port.is_some() || !self.ports.is_empty();
        match kind {
            Kind::Ports | Kind::Opaque if self.without_icmp(ALL_FIELDS).is_none() => Fields::None,
            Kind::Ports => match entry.port {
                Some(port) => Fields::One(pair(port)),
                None if self.ports.is_empty() => Fields::One(ALL_FIELDS),
                None => Fields::Many(&self.ports),
            },
            Kind::Icmp | Kind::Opaque if restricts => Fields::None,
            Kind::Icmp => Fields::One(self.icmp_code.unwrap_or(ALL_FIELDS)),
            Kind::Opaque => Fields::One(ALL_FIELDS),
        }
    }

    /// A rule with ICMP fields matches no packet without them.
    fn without_icmp(&self, range: Range<u16>) -> Option<Range<u16>> {
        (self.icmp_type.is_none() && self.icmp_code.is_none()).then_some(range)
    }
}

/// The ranges of one field that an entry takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fields<'a> {
    /// No packet of this kind meets the entry.
    None,
    /// One range.
    One(Range<u16>),
    /// Several, in order and apart.
    Many(&'a [Range<u16>]),
}

impl Fields<'_> {
    /// The ranges, in order.
    pub(crate) const fn as_slice(&self) -> &[Range<u16>] {
        match self {
            Fields::None => &[],
            Fields::One(range) => std::slice::from_ref(range),
            Fields::Many(ranges) => ranges,
        }
    }
}

/// The IPv4 addresses of an entry.
pub(crate) const fn v4(entry: &Endpoint) -> Option<Range<u32>> {
    match entry.address {
        AddressRange::Any => Some((0, u32::MAX)),
        AddressRange::V4 { first, last } => Some((first, last)),
        AddressRange::V6 { .. } => None,
    }
}

/// The IPv6 addresses of an entry. They include `::ffff:0:0/96`, which no packet has.
pub(crate) const fn v6(entry: &Endpoint) -> Option<Range<u128>> {
    match entry.address {
        AddressRange::Any => Some((0, u128::MAX)),
        AddressRange::V6 { first, last } => Some((first, last)),
        AddressRange::V4 { .. } => None,
    }
}

/// The addresses of an entry that packets of a family can have, as numbers: at most two ranges,
/// because no packet has an address in `::ffff:0:0/96`.
pub(crate) fn addresses(
    family: Family,
    entry: &Endpoint,
) -> impl Iterator<Item = Range<u128>> + use<> {
    let (first, second) = match family {
        Family::V4 => (v4(entry).map(|(first, last)| (first.into(), last.into())), None),
        Family::V6 => v6(entry).map_or((None, None), |(first, last)| {
            let below = (first, last.min(MAPPED.0 - 1));
            let above = (first.max(MAPPED.1 + 1), last);
            (Some(below).filter(is_range), Some(above).filter(is_range))
        }),
    };
    first.into_iter().chain(second)
}

const fn is_range(range: &Range<u128>) -> bool {
    range.0 <= range.1
}

/// `::ffff:0:0/96`, where IPv6 maps IPv4. A packet has no such address: it is an IPv4 packet.
pub(crate) const MAPPED: Range<u128> = (0xffff_0000_0000, 0xffff_ffff_ffff);

const fn pair(range: PortRange) -> Range<u16> {
    (range.first(), range.last())
}

/// The same ports in as few ranges as possible.
fn merged(ports: &[PortRange]) -> Vec<Range<u16>> {
    let mut ranges: Vec<Range<u16>> = ports.iter().copied().map(pair).collect();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::naive;
    use crate::packet::PacketParts;
    use crate::rule::{RuleParts, RuleSpec};
    use crate::testing::rules::everything;
    use crate::time::Instant;

    fn entry(address: &str, port: Option<&str>) -> Endpoint {
        Endpoint {
            address: AddressRange::parse(address).unwrap(),
            port: port.map(|text| PortRange::parse(text).unwrap()),
        }
    }

    /// Whether a rule matches a packet, by what this module knows.
    fn matches(rule: &RuleSpec, packet: &Packet) -> bool {
        let product = RuleProduct::new(Criteria::of(rule));
        let world = World::of(packet);
        let (first, second) = match packet.payload() {
            Payload::Ports { source, destination } => (source, destination),
            Payload::Icmp { icmp_type, icmp_code } => (icmp_type.into(), icmp_code.into()),
            Payload::Opaque => (0, 0),
        };
        let has_address = |entry: &Endpoint, address: std::net::IpAddr| {
            let number = match address {
                std::net::IpAddr::V4(v4) => v4.to_bits().into(),
                std::net::IpAddr::V6(v6) => v6.to_bits(),
            };
            addresses(world.family, entry).any(|range| (range.0..=range.1).contains(&number))
        };
        let source = product.sources().iter().any(|entry| {
            has_address(entry, packet.source())
                && product
                    .source_field(world.kind, entry)
                    .is_some_and(|range| (range.0..=range.1).contains(&first))
        });
        let destination = product.destinations().iter().any(|entry| {
            has_address(entry, packet.destination())
                && product
                    .destination_fields(world.kind, entry)
                    .as_slice()
                    .iter()
                    .any(|range| (range.0..=range.1).contains(&second))
        });
        source && destination && product.protocols(world).any(|it| it == packet.protocol())
    }

    #[test]
    fn a_rule_is_a_product_in_each_world_as_the_definition_says() {
        let addresses = ["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"];
        let protocols = [1, 6, 17, 47, 58, 132].map(Protocol);
        let mut packets = Vec::new();
        for (source, destination) in [(0, 0), (0, 1), (1, 0), (2, 2), (2, 3), (3, 2)] {
            for protocol in protocols {
                for (first, second) in [(21, 22), (22, 21), (22, 80), (8, 0), (5, 1)] {
                    let of = |is: bool, value: u16| is.then_some(value);
                    let icmp = |value: u16| u8::try_from(value).ok().filter(|_| protocol.is_icmp());
                    packets.extend(Packet::new(PacketParts {
                        source_address: addresses[source].parse().unwrap(),
                        destination_address: addresses[destination].parse().unwrap(),
                        protocol,
                        source_port: of(protocol.has_ports(), first),
                        destination_port: of(protocol.has_ports(), second),
                        icmp_type: icmp(first),
                        icmp_code: icmp(second),
                        at: Instant::EPOCH,
                    }));
                }
            }
        }
        let entries = [
            entry("any", None),
            entry("10.0.0.1", None),
            entry("2001:db8::1", Some("21-22")),
            entry("10.0.0.0/31", Some("22")),
            entry("::/0", None),
        ];
        let listed: [&[u8]; 6] = [&[], &[6], &[17, 47], &[1], &[58], &[1, 58, 132]];
        let mut checked = 0;
        for sources in entries.chunks(2).chain(entries.windows(2)) {
            for destinations in entries.chunks(2).chain(entries.windows(1)) {
                for protocols in listed {
                    for ports in [&[][..], &["22"], &["22", "21", "0-65535"]] {
                        for icmp in [(None, None), (Some(8), None), (Some(5), Some(1))] {
                            let Ok(rule) = RuleSpec::new(RuleParts {
                                sources: sources.to_vec(),
                                destinations: destinations.to_vec(),
                                protocols: protocols.iter().copied().map(Protocol).collect(),
                                ports: ports
                                    .iter()
                                    .map(|it| PortRange::parse(it).unwrap())
                                    .collect(),
                                icmp_type: icmp.0,
                                icmp_code: icmp.1,
                                ..everything()
                            }) else {
                                continue;
                            };
                            for packet in &packets {
                                let expected = naive::matches(&rule, packet);
                                assert_eq!(matches(&rule, packet), expected, "{rule:?} {packet:?}");
                                checked += usize::from(expected);
                            }
                        }
                    }
                }
            }
        }
        assert!(checked > 1_000, "{checked}");
    }

    #[test]
    fn every_packet_is_in_one_world_and_no_packet_has_a_mapped_address() {
        assert_eq!(World::all().count(), 6);
        for family in Family::ALL {
            let worlds = World::all().filter(|world| world.family == family);
            let mut all: Vec<Protocol> = worlds.flat_map(World::protocols).collect();
            all.sort_unstable();
            let exists = (0..=255).map(Protocol).filter(|it| it.exists_in(family));
            assert!(exists.eq(all.iter().copied()));
        }
        let of = |text| addresses(Family::V6, &entry(text, None)).collect::<Vec<_>>();
        assert_eq!(of("::ffff:0:0/96"), []);
        assert_eq!(of("any"), [(0, MAPPED.0 - 1), (MAPPED.1 + 1, u128::MAX)]);
        assert_eq!(of("::-::fffe:ffff:ffff"), [(0, 0xfffe_ffff_ffff)]);
        assert_eq!(of("2001:db8::/32").len(), 1);
        assert_eq!(of("10.0.0.0/8"), []);
    }
}
