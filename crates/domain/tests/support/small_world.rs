//! Worlds with so few packets that all of them can be enumerated, and rules that meet often in them.
//!
//! The values of a world are few but lie at the ends of real ones: the first and the last address,
//! port 0 and 65535, ICMP types 0 and 255. Rules only use ranges that end at these values, so that
//! each real packet is decided as one of the world is.

use std::net::IpAddr;

use fireflow_domain::analysis::AnalysedRule;
use fireflow_domain::net::{AddressRange, PortRange, Protocol};
use fireflow_domain::packet::{Packet, PacketParts};
use fireflow_domain::rule::{Action, Endpoint, RuleParts, RuleSpec};
use fireflow_domain::testing::random::Random;
use fireflow_domain::testing::rules::everything;
use fireflow_domain::time::{Instant, MICROS_PER_SECOND};

/// The instant of the analyses.
pub(crate) fn noon() -> Instant {
    Instant::parse("2026-11-24T12:00:00Z").unwrap()
}

/// Noon, and some hours before or after.
pub(crate) fn hour(hours: i64) -> Instant {
    noon().plus_micros(hours * 3_600 * MICROS_PER_SECOND)
}

/// Rules as an analysis takes them.
pub(crate) fn analysed(rules: &[RuleSpec]) -> Vec<AnalysedRule<'_>> {
    rules.iter().map(AnalysedRule::of).collect()
}

/// The values at which the ranges of rules begin: each range goes from one of these values to before another one,
/// or to the end.
const V4: [[u32; 4]; 2] =
    [[0, 0x0a00_0000, 0x0a00_0001, 0xffff_ffff], [0, 0x5000_0000, 0xa000_0000, 0xffff_ffff]];
/// The first address after `::ffff:0:0/96`, and halves of the public addresses.
const V6: [[u128; 4]; 2] = [
    [0, 0x1_0000_0000_0000, 0x2001_0db8 << 96, u128::MAX],
    [0, 0x2800 << 112, 0x3400 << 112, u128::MAX],
];
pub(crate) const PORTS: [u16; 4] = [0, 22, 23, 65_535];
const TYPES: [u8; 3] = [0, 8, 255];
const CODES: [u8; 2] = [0, 1];
const PROTOCOLS: [Protocol; 6] =
    [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::ICMPV6, Protocol(47), Protocol(0)];

/// A small world.
#[derive(Debug)]
pub(crate) struct World {
    /// The first addresses of its ranges.
    v4: Vec<u32>,
    v6: Vec<u128>,
    /// How many of [`PORTS`] it has.
    pub(crate) ports: usize,
    pub(crate) protocols: Vec<Protocol>,
    has_times: bool,
    /// How often an entry is a wide one, in percent.
    wide: u32,
    /// How often an entry names a port, in percent.
    with_port: u32,
    /// Every packet that rules can distinguish, at noon.
    pub(crate) packets: Vec<Packet>,
}

fn below(random: &mut Random, bound: usize) -> usize {
    random.below(u32::try_from(bound).unwrap()) as usize
}

impl World {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let mut size = |most: usize| 1 + below(random, most);
        let (v4, v6, ports) = (size(4), size(4), size(PORTS.len()));
        let count = size(4);
        let (set_v4, set_v6) = (V4[below(random, 2)], V6[below(random, 2)]);
        let protocols = (0..count).map(|_| PROTOCOLS[below(random, PROTOCOLS.len())]).collect();
        let mut world = Self {
            v4: if random.happens(25) { Vec::new() } else { set_v4[..v4].to_vec() },
            v6: if random.happens(40) { Vec::new() } else { set_v6[..v6].to_vec() },
            ports,
            protocols,
            has_times: random.happens(30),
            wide: [5, 30, 60][below(random, 3)],
            with_port: [0, 25, 60][below(random, 3)],
            packets: Vec::new(),
        };
        if world.v4.is_empty() && world.v6.is_empty() {
            world.v4 = set_v4.to_vec();
        }
        world.packets = world.packets_at(noon());
        world
    }

    pub(crate) fn action(&self, random: &mut Random) -> Action {
        Action::ALL[[0, 1, 0, 1, 2][below(random, 5)]]
    }

    /// Every packet that rules can distinguish, at an instant. Protocols that no rule names are there
    /// by one example of each kind.
    pub(crate) fn packets_at(&self, at: Instant) -> Vec<Packet> {
        let [v4, v6] = self.addresses();
        let mut protocols = self.protocols.clone();
        protocols.extend([132, 1, 58, 200].map(Protocol));
        protocols.sort();
        protocols.dedup();
        let mut packets = Vec::new();
        for addresses in [v4, v6] {
            for source_address in &addresses {
                for destination_address in &addresses {
                    for protocol in &protocols {
                        let parts = PacketParts {
                            source_address: *source_address,
                            destination_address: *destination_address,
                            protocol: *protocol,
                            source_port: None,
                            destination_port: None,
                            icmp_type: None,
                            icmp_code: None,
                            at,
                        };
                        self.add_packets(parts, &mut packets);
                    }
                }
            }
        }
        packets
    }

    /// The first address of each range of each family. Between two of them, all addresses are alike.
    pub(crate) fn addresses(&self) -> [Vec<IpAddr>; 2] {
        let v4 = if self.v4.is_empty() { &[0] } else { &self.v4[..] };
        let v6 = if self.v6.is_empty() { &[0] } else { &self.v6[..] };
        [
            v4.iter().map(|it| IpAddr::from(it.to_be_bytes())).collect(),
            v6.iter().map(|it| IpAddr::from(it.to_be_bytes())).collect(),
        ]
    }

    fn add_packets(&self, parts: PacketParts, packets: &mut Vec<Packet>) {
        if parts.protocol.has_ports() {
            for source in &PORTS[..self.ports] {
                for destination in &PORTS[..self.ports] {
                    let ports = PacketParts {
                        source_port: Some(*source),
                        destination_port: Some(*destination),
                        ..parts
                    };
                    packets.extend(Packet::new(ports));
                }
            }
        } else if parts.protocol.is_icmp() {
            // 7 and 2 represent the values that no rule names.
            for icmp_type in TYPES.into_iter().chain([7]) {
                for icmp_code in CODES.into_iter().chain([2]) {
                    let icmp = PacketParts {
                        icmp_type: Some(icmp_type),
                        icmp_code: Some(icmp_code),
                        ..parts
                    };
                    packets.extend(Packet::new(icmp));
                }
            }
        } else {
            packets.extend(Packet::new(parts));
        }
    }

    fn address(&self, random: &mut Random) -> AddressRange {
        if random.happens(self.wide / 2) {
            return AddressRange::Any;
        }
        let is_v6 = self.v4.is_empty() || !self.v6.is_empty() && random.happens(40);
        if is_v6 && random.happens(3) {
            return AddressRange::MAPPED;
        }
        let count = if is_v6 { self.v6.len() } else { self.v4.len() };
        let (mut from, mut to) = (below(random, count), below(random, count));
        if from > to {
            (from, to) = (to, from);
        }
        if random.happens(self.wide) {
            (from, to) = (0, count - 1);
        }
        if is_v6 {
            let last = self.v6.get(to + 1).map_or(u128::MAX, |next| next - 1);
            AddressRange::V6 { first: self.v6[from], last }
        } else {
            let last = self.v4.get(to + 1).map_or(u32::MAX, |next| next - 1);
            AddressRange::V4 { first: self.v4[from], last }
        }
    }

    fn port_range(&self, random: &mut Random) -> PortRange {
        let (from, to) = (below(random, self.ports), below(random, self.ports));
        let (from, to) = (from.min(to), from.max(to));
        let last = PORTS[..self.ports].get(to + 1).map_or(u16::MAX, |next| next - 1);
        PortRange::new(PORTS[from], last).unwrap()
    }

    fn entries(&self, random: &mut Random) -> Vec<Endpoint> {
        (0..=below(random, 3))
            .map(|_| Endpoint {
                address: self.address(random),
                port: random.happens(self.with_port).then(|| self.port_range(random)),
            })
            .collect()
    }

    /// Up to so many rules, in order of evaluation.
    pub(crate) fn rules(&self, random: &mut Random, most: usize) -> Vec<RuleSpec> {
        let count = below(random, most + 1);
        (0..count).map(|_| self.rule(random)).collect()
    }

    pub(crate) fn rule(&self, random: &mut Random) -> RuleSpec {
        loop {
            let mut protocols = Vec::new();
            if random.happens(60) {
                for _ in 0..=below(random, 2) {
                    protocols.push(self.protocols[below(random, self.protocols.len())]);
                }
            }
            let is_icmp = matches!(protocols[..], [only] if only.is_icmp());
            let icmp_type =
                (is_icmp && random.happens(60)).then(|| TYPES[below(random, TYPES.len())]);
            let icmp_code =
                icmp_type.filter(|_| random.happens(50)).map(|_| CODES[below(random, CODES.len())]);
            let ports = if random.happens(self.with_port) {
                (0..=below(random, 2)).map(|_| self.port_range(random)).collect()
            } else {
                Vec::new()
            };
            let time = |random: &mut Random| {
                (self.has_times && random.happens(30)).then(|| hour(below(random, 7) as i64 - 3))
            };
            let (starts_at, expires_at) = (time(random), time(random));
            let rule = RuleSpec::new(RuleParts {
                action: self.action(random),
                protocols: protocols.into_iter().collect(),
                icmp_type,
                icmp_code,
                sources: self.entries(random),
                destinations: self.entries(random),
                ports,
                enabled: !random.happens(5),
                log: random.happens(10),
                starts_at,
                expires_at,
                ..everything()
            });
            if let Ok(rule) = rule {
                return rule;
            }
        }
    }
}
