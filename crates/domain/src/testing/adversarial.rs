//! Rule sets on which classifiers become slow: many rules that one packet can meet, or whose
//! products are far larger than their lists. [`Family::Plain`] is the ordinary set of the same size
//! that the others are compared with.

use std::net::IpAddr;

use super::random::Random;
use super::rules::everything;
use crate::net::{AddressRange, PortRange, Protocol, Protocols};
use crate::packet::{Packet, PacketParts};
use crate::rule::{Action, Endpoint, RuleParts, RuleSpec};
use crate::time::{Instant, MICROS_PER_SECOND};

/// A family of rule sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Access lists: networks may reach a service of a host.
    Plain,
    /// The same in IPv6.
    PlainV6,
    /// Prefixes of all lengths around one source and one destination, the longest first.
    LadderV4,
    /// The same in IPv6.
    LadderV6,
    /// Wide rules of many protocols over the traffic of few rules for TCP.
    OtherProtocols,
    /// Ranges that begin and end anywhere, in every dimension.
    Wide,
    /// The same in IPv6.
    WideV6,
    /// Rules over the same traffic that are over, and one last rule.
    Expired,
    /// Rules over the same traffic that are not yet in force, and one last rule.
    Scheduled,
    /// An access list in which one rule in a hundred has 100 to 680 sources and destinations.
    Groups,
    /// Rules of 1,000 sources, 1,000 destinations and several ports: one rule for 1,000 rules.
    Thousands,
    /// The same in IPv6.
    ThousandsV6,
}

impl Family {
    /// Every family, the plain ones first.
    pub const ALL: [Self; 12] = [
        Self::Plain,
        Self::PlainV6,
        Self::LadderV4,
        Self::LadderV6,
        Self::OtherProtocols,
        Self::Wide,
        Self::WideV6,
        Self::Expired,
        Self::Scheduled,
        Self::Groups,
        Self::Thousands,
        Self::ThousandsV6,
    ];

    /// The words for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain IPv4",
            Self::PlainV6 => "plain IPv6",
            Self::LadderV4 => "prefix ladder IPv4",
            Self::LadderV6 => "prefix ladder IPv6",
            Self::OtherProtocols => "other protocols",
            Self::Wide => "wide IPv4",
            Self::WideV6 => "wide IPv6",
            Self::Expired => "expired",
            Self::Scheduled => "scheduled",
            Self::Groups => "groups",
            Self::Thousands => "thousands IPv4",
            Self::ThousandsV6 => "thousands IPv6",
        }
    }

    /// Whether its addresses are of IPv6.
    #[must_use]
    pub const fn is_v6(self) -> bool {
        matches!(self, Self::PlainV6 | Self::LadderV6 | Self::WideV6 | Self::ThousandsV6)
    }

    /// The plain family to compare it with.
    #[must_use]
    pub const fn plain(self) -> Self {
        if self.is_v6() { Self::PlainV6 } else { Self::Plain }
    }
}

const SERVICES: [u16; 12] = [80, 443, 22, 53, 25, 123, 161, 389, 1433, 3306, 5432, 8080];
/// The bits of a network of IPv4 are those of an IPv6 address from this one on.
const NETWORK_SHIFT: u32 = 64;
const V6_NETWORK: u128 = 0x2001_0db8 << 96;

struct Maker {
    random: Random,
    is_v6: bool,
    now: Instant,
}

/// The rules of a family, in order of evaluation. `size` is the number of rules, except for
/// [`Family::Thousands`]. Rules expire and start around `now`.
#[must_use]
pub fn rules(family: Family, size: u32, seed: u64, now: Instant) -> Vec<RuleSpec> {
    let mut maker = Maker { random: Random::new(seed), is_v6: family.is_v6(), now };
    let count = match family {
        Family::Thousands | Family::ThousandsV6 => size.div_ceil(1_000),
        _ => size,
    };
    let mut made: Vec<RuleSpec> = (0..count)
        .filter_map(|nth| {
            let parts = match family {
                Family::Plain | Family::PlainV6 => maker.plain(),
                Family::LadderV4 | Family::LadderV6 => maker.ladder(nth),
                Family::OtherProtocols => maker.other_protocol(),
                Family::Wide | Family::WideV6 => maker.wide(),
                Family::Expired | Family::Scheduled => maker.timed(family == Family::Expired),
                Family::Groups => maker.groups(nth),
                Family::Thousands | Family::ThousandsV6 => maker.thousands(nth),
            };
            let priority = i32::try_from(nth).unwrap_or(i32::MAX);
            RuleSpec::new(RuleParts { priority, ..parts }).ok()
        })
        .collect();
    // The rule that decides the rest.
    let last = RuleParts { action: Action::Deny, priority: i32::MAX, ..everything() };
    made.extend(RuleSpec::new(last).ok());
    made
}

fn entry(address: AddressRange) -> Endpoint {
    Endpoint { address, port: None }
}

impl Maker {
    fn block(&self, address: u32, prefix: u8) -> AddressRange {
        let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let first = address & !hosts;
        if self.is_v6 {
            let prefix = if prefix == 32 { 128 } else { 32 + prefix };
            let address = V6_NETWORK | u128::from(first) << NETWORK_SHIFT;
            return AddressRange::block(IpAddr::V6(address.into()), prefix);
        }
        AddressRange::block(IpAddr::V4(first.into()), prefix)
    }

    /// A network address in one of a few hundred sites, some of which are far more frequent.
    fn address(&mut self) -> u32 {
        let cluster = self.random.below(16).min(self.random.below(16));
        let site = self.random.below(256).min(self.random.below(256));
        (10 + cluster) << 24 | site << 16 | self.random.below(65_536)
    }

    fn prefix(&mut self) -> u8 {
        self.random.pick(&[32, 32, 32, 32, 31, 30, 28, 24, 24, 16]).copied().unwrap_or(32)
    }

    fn service(&mut self) -> PortRange {
        PortRange::single(self.random.pick(&SERVICES).copied().unwrap_or(80))
    }

    fn plain(&mut self) -> RuleParts {
        let (source, prefix) = (self.address(), self.prefix());
        let destination = self.address() & 0xffff_0fff;
        RuleParts {
            protocols: Protocols::from_iter([if self.random.happens(70) {
                Protocol::TCP
            } else {
                Protocol::UDP
            }]),
            sources: vec![entry(self.block(source, prefix))],
            destinations: vec![entry(self.block(destination, 32))],
            ports: vec![self.service()],
            ..everything()
        }
    }

    /// All pairs of prefix lengths with one service, then all of them with the next.
    fn ladder(&mut self, nth: u32) -> RuleParts {
        let width: u32 = if self.is_v6 { 128 } else { 32 };
        let steps = width + 1;
        let at = |host: u128, prefix: u32| {
            if self.is_v6 {
                AddressRange::block(
                    IpAddr::V6((host & !u128::MAX.checked_shr(prefix).unwrap_or(0)).into()),
                    u8::try_from(prefix).unwrap_or(128),
                )
            } else {
                let host = u32::try_from(host).unwrap_or(u32::MAX);
                let first = host & !u32::MAX.checked_shr(prefix).unwrap_or(0);
                AddressRange::block(IpAddr::V4(first.into()), u8::try_from(prefix).unwrap_or(32))
            }
        };
        let hosts = if self.is_v6 {
            (V6_NETWORK | 0x1234_5678_9abc_def0, V6_NETWORK | 0x0bad_cafe_0bad_cafe << 32)
        } else {
            (0x0a12_3456, 0xac15_4321)
        };
        let service = nth / (steps * steps);
        let (long, short) = (nth / steps % steps, nth % steps);
        RuleParts {
            protocols: Protocols::from_iter([Protocol::TCP]),
            sources: vec![entry(at(hosts.0, width - long))],
            destinations: vec![entry(at(hosts.1, width - short))],
            ports: vec![PortRange::single(u16::try_from(1_000 + service).unwrap_or(u16::MAX))],
            ..everything()
        }
    }

    fn other_protocol(&mut self) -> RuleParts {
        let (source, destination) = (self.address(), self.address());
        // Protocols without ports and ICMP fields.
        let protocols = [2, 4, 41, 46, 47, 50, 51, 88, 89, 94, 97, 103, 108, 112, 115, 137];
        let protocol = Protocol(self.random.pick(&protocols).copied().unwrap_or(47));
        if self.random.happens(1) {
            let prefix = self.prefix();
            return RuleParts { sources: vec![entry(self.block(source, prefix))], ..self.plain() };
        }
        let (one, other) = (self.random.below(9), self.random.below(17));
        let wide = |prefix: u32| u8::try_from(prefix).unwrap_or(8);
        RuleParts {
            protocols: Protocols::from_iter([protocol]),
            sources: vec![entry(self.block(source, wide(one)))],
            destinations: vec![entry(self.block(destination, wide(other)))],
            ..everything()
        }
    }

    fn wide(&mut self) -> RuleParts {
        let range = |it: &mut Self| {
            let (one, other) = (it.random.next(), it.random.next());
            if it.is_v6 {
                let (one, other) = (u128::from(one) << 64 | 5, u128::from(other) << 64 | 9);
                return AddressRange::V6 { first: one.min(other), last: one.max(other) };
            }
            let high = |it: u64| u32::try_from(it >> 32).unwrap_or(0);
            let (one, other) = (high(one), high(other));
            AddressRange::V4 { first: one.min(other), last: one.max(other) }
        };
        let ports = |it: &mut Self| {
            let some = |it: &mut Self| u16::try_from(it.random.below(65_536)).unwrap_or(0);
            let (one, other) = (some(it), some(it));
            PortRange::new(one.min(other), one.max(other)).unwrap_or(PortRange::ALL)
        };
        let source = Endpoint { address: range(self), port: Some(ports(self)) };
        RuleParts {
            protocols: Protocols::from_iter([if self.random.happens(50) {
                Protocol::TCP
            } else {
                Protocol::UDP
            }]),
            sources: vec![source],
            destinations: vec![entry(range(self))],
            ports: vec![ports(self)],
            ..everything()
        }
    }

    /// A rule over the traffic of all others, at some time in the last or the next year.
    fn timed(&mut self, is_over: bool) -> RuleParts {
        let year = 365 * 86_400 * MICROS_PER_SECOND;
        let away = i64::from(self.random.below(1 << 30)) * (year >> 30) + MICROS_PER_SECOND;
        let destination = self.random.below(4);
        let parts = RuleParts {
            destinations: vec![entry(
                self.block(0x0a00_0000, 8 + u8::try_from(destination).unwrap_or(0)),
            )],
            ports: vec![self.service()],
            protocols: Protocols::from_iter([Protocol::TCP]),
            ..everything()
        };
        if is_over {
            RuleParts { expires_at: Some(self.now.plus_micros(-away)), ..parts }
        } else {
            RuleParts { starts_at: Some(self.now.plus_micros(away)), ..parts }
        }
    }

    fn groups(&mut self, nth: u32) -> RuleParts {
        let parts = self.plain();
        if nth % 100 != 50 {
            return parts;
        }
        let group = |it: &mut Self| -> Vec<Endpoint> {
            let members = 100 + it.random.below(581);
            (0..members)
                .map(|_| {
                    let (address, prefix) = (it.address(), it.prefix());
                    entry(it.block(address, prefix))
                })
                .collect()
        };
        RuleParts { sources: group(self), destinations: group(self), ..parts }
    }

    /// Rules whose lists overlap those of their neighbors.
    fn thousands(&mut self, nth: u32) -> RuleParts {
        let group = |it: &Self, first: u32| -> Vec<Endpoint> {
            (0..1_000).map(|host| entry(it.block(first + 2 * host, 32))).collect()
        };
        RuleParts {
            protocols: Protocols::from_iter([Protocol::TCP]),
            sources: group(self, 0x0a00_0000 + nth * 700),
            destinations: group(self, 0x0b00_0000 + nth * 500),
            ports: vec![self.service(), PortRange::single(9_999)],
            ..everything()
        }
    }
}

/// Packets at random ends of the entries of random rules, all at one time.
#[must_use]
pub fn packets(rules: &[RuleSpec], count: usize, seed: u64, at: Instant) -> Vec<Packet> {
    let mut random = Random::new(seed);
    let is_v6 = rules.iter().flat_map(|rule| &rule.sources).any(is_of_v6);
    let mut packets = Vec::with_capacity(count);
    for _ in 0..count.saturating_mul(4) {
        if packets.len() == count {
            break;
        }
        packets.extend(packet(rules, &mut random, is_v6, at));
    }
    packets
}

const fn is_of_v6(entry: &Endpoint) -> bool {
    matches!(entry.address, AddressRange::V6 { .. })
}

fn packet(rules: &[RuleSpec], random: &mut Random, is_v6: bool, at: Instant) -> Option<Packet> {
    let rule = random.pick(rules)?;
    let source = random.pick(&rule.sources)?;
    let destination = random.pick(&rule.destinations)?;
    let mut address = |range: AddressRange| -> IpAddr {
        let is_first = random.happens(50);
        match range {
            AddressRange::V4 { first, last } => {
                IpAddr::V4((if is_first { first } else { last }).into())
            }
            AddressRange::V6 { first, last } => {
                IpAddr::V6((if is_first { first } else { last }).into())
            }
            AddressRange::Any if is_v6 => IpAddr::V6((V6_NETWORK | 7).into()),
            AddressRange::Any => IpAddr::V4([10, 0, 0, 7].into()),
        }
    };
    let (source_address, destination_address) =
        (address(source.address), address(destination.address));
    let protocol = random.pick(&rule.protocols).copied().unwrap_or(Protocol::TCP);
    let mut port = |range: Option<&PortRange>| {
        let first = random.happens(50);
        range.map_or(40_000, |it| if first { it.first() } else { it.last() })
    };
    let source_port = port(source.port.as_ref());
    let destination_port = port(destination.port.as_ref().or(rule.ports.last()));
    Packet::new(PacketParts {
        source_address,
        destination_address,
        protocol,
        source_port: protocol.has_ports().then_some(source_port),
        destination_port: protocol.has_ports().then_some(destination_port),
        icmp_type: None,
        icmp_code: None,
        at,
    })
    .ok()
}
