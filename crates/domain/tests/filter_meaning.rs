//! Tests the meaning of `traffic`: a rule is found exactly when it matches a packet of the set.
//! Every packet is tried with the evaluator of packets.

#![expect(clippy::unwrap_used, reason = "a test reports a failure by panicking")]

#[path = "support/rule_strategies.rs"]
mod rule_strategies;

use std::net::IpAddr;

use fireflow_domain::engine::naive;
use fireflow_domain::features::Features;
use fireflow_domain::filter::eval::Subject;
use fireflow_domain::filter::tree::{Logic, Test, Traffic};
use fireflow_domain::filter::{Filter, Level};
use fireflow_domain::firewall::{Firewall, FirewallSpec};
use fireflow_domain::ids::{FirewallId, PolicyId, Revision, RuleId};
use fireflow_domain::labels::Labels;
use fireflow_domain::mark::Mark;
use fireflow_domain::net::{AddressRange, Family, PortRange, Protocol};
use fireflow_domain::packet::{Packet, PacketParts};
use fireflow_domain::policy::{Policy, PolicySpec, States};
use fireflow_domain::rule::{Action, Rule, RuleSpec};
use fireflow_domain::testing::random::cases;
use fireflow_domain::text::{Description, Name, Tenant};
use fireflow_domain::time::Instant;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use rule_strategies::World;

/// A small world: if two ranges of it overlap, one of these numbers is in both.
const ADDRESSES: [&str; 6] =
    ["10.0.0.0", "10.0.0.1", "10.0.0.2", "2001:db8::", "2001:db8::1", "2001:db8::2"];
const PORTS: [u16; 4] = [0, 21, 22, 65_535];
const PROTOCOLS: [Protocol; 5] =
    [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::ICMPV6, Protocol(47)];
const ICMP: [u8; 2] = [0, 8];

fn addresses() -> impl Strategy<Value = AddressRange> + Clone {
    select(
        &[
            "any",
            "0.0.0.0/0",
            "::/0",
            "10.0.0.0",
            "10.0.0.1",
            "10.0.0.0/31",
            "10.0.0.1-10.0.0.2",
            "2001:db8::",
            "2001:db8::1",
            "2001:db8::/127",
            "2001:db8::1-2001:db8::2",
        ][..],
    )
    .prop_map(|text| AddressRange::parse(text).unwrap())
}

fn ports() -> impl Strategy<Value = PortRange> + Clone {
    select(&["0-65535", "21", "22", "21-22", "0", "22-65535"][..])
        .prop_map(|text| PortRange::parse(text).unwrap())
}

/// `traffic` does not ask whether a rule is active, so every rule is.
fn specs() -> impl Strategy<Value = RuleSpec> {
    rule_strategies::specs(World {
        addresses: addresses().boxed(),
        ports: ports().boxed(),
        protocols: &PROTOCOLS,
        icmp: &ICMP,
        priorities: 0..4,
        instants: None,
    })
}

fn traffic() -> impl Strategy<Value = Traffic> {
    (
        option::of(select(&Family::ALL[..])),
        (option::of(addresses()), option::of(ports())),
        (option::of(addresses()), option::of(ports())),
        option::of(select(&PROTOCOLS[..])),
        option::weighted(0.2, select(&ICMP[..])),
        option::weighted(0.2, select(&ICMP[..])),
    )
        .prop_map(|(family, source, destination, protocol, icmp_type, icmp_code)| Traffic {
            family,
            source: source.0,
            source_port: source.1,
            destination: destination.0,
            destination_port: destination.1,
            protocol,
            icmp_type,
            icmp_code,
        })
}

/// Every packet of the small world.
fn packets(at: Instant) -> Vec<Packet> {
    let mut packets = Vec::new();
    let addresses = ADDRESSES.map(|text| text.parse::<IpAddr>().unwrap());
    let ports: Vec<Option<u16>> = PORTS.into_iter().map(Some).chain([None]).collect();
    let icmp: Vec<Option<u8>> = ICMP.into_iter().map(Some).chain([None]).collect();
    for source_address in addresses {
        for destination_address in addresses {
            for protocol in PROTOCOLS {
                for (source_port, destination_port) in
                    ports.iter().flat_map(|one| ports.iter().map(move |other| (*one, *other)))
                {
                    for (icmp_type, icmp_code) in
                        icmp.iter().flat_map(|one| icmp.iter().map(move |other| (*one, *other)))
                    {
                        // Absent fields would mean an echo request, which is also generated
                        // explicitly.
                        if protocol.is_icmp() != (icmp_type.is_some() && icmp_code.is_some()) {
                            continue;
                        }
                        packets.extend(
                            Packet::new(PacketParts {
                                source_address,
                                destination_address,
                                protocol,
                                source_port,
                                destination_port,
                                icmp_type,
                                icmp_code,
                                at,
                            })
                            .ok(),
                        );
                    }
                }
            }
        }
    }
    packets
}

fn is_of(traffic: &Traffic, packet: &Packet) -> bool {
    let icmp = match packet.payload() {
        fireflow_domain::packet::Payload::Icmp { icmp_type, icmp_code } => {
            Some((icmp_type, icmp_code))
        }
        _ => None,
    };
    let port = |asked: Option<PortRange>, port: Option<u16>| {
        asked.is_none_or(|asked| port.is_some_and(|port| asked.contains(port)))
    };
    let family = if packet.source().is_ipv4() { Family::V4 } else { Family::V6 };
    traffic.family.is_none_or(|asked| asked == family)
        && traffic.source.is_none_or(|asked| asked.contains(packet.source()))
        && traffic.destination.is_none_or(|asked| asked.contains(packet.destination()))
        && traffic.protocol.is_none_or(|asked| asked == packet.protocol())
        && port(traffic.source_port, packet.source_port())
        && port(traffic.destination_port, packet.destination_port())
        && traffic.icmp_type.is_none_or(|asked| icmp.is_some_and(|(found, _)| found == asked))
        && traffic.icmp_code.is_none_or(|asked| icmp.is_some_and(|(_, found)| found == asked))
}

fn rule(spec: RuleSpec, now: Instant) -> (Firewall, Policy, Rule) {
    let firewall = Firewall {
        id: FirewallId::new(1).unwrap(),
        spec: FirewallSpec {
            name: Name::parse("edge").unwrap(),
            tenant: Tenant::parse("").unwrap(),
            description: Description::default(),
            labels: Labels::default(),
        },
        policy_count: 1,
        revision: Revision::FIRST,
        header_revision: Revision::FIRST,
        mark: Mark::NONE,
        created_at: now,
        created_by: String::new(),
        updated_at: now,
        updated_by: String::new(),
        deleted: None,
    };
    let policy = Policy {
        id: PolicyId::new(1).unwrap(),
        firewall: firewall.reference(),
        spec: PolicySpec {
            name: Name::parse("in").unwrap(),
            description: Description::default(),
            labels: Labels::default(),
            default_action: Action::Deny,
        },
        rule_count: 1,
        entry_count: 2,
        features: Features::NONE,
        revision: Revision::FIRST,
        header_revision: Revision::FIRST,
        states: States::default(),
        audit_head: None,
        created_at: now,
        created_by: String::new(),
        updated_at: now,
        updated_by: String::new(),
        deleted: None,
    };
    let rule = Rule {
        id: RuleId::new(1).unwrap(),
        policy: policy.reference(),
        spec,
        revision: Revision::FIRST,
        mark: Mark::NONE,
        created_at: now,
        created_by: String::new(),
        updated_at: now,
        updated_by: String::new(),
        deleted: None,
    };
    (firewall, policy, rule)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(2_000)))]

    #[test]
    fn traffic_finds_a_rule_exactly_when_it_matches_some_packet_of_the_set(
        spec in specs(),
        traffic in traffic(),
    ) {
        let now = Instant::parse("2026-11-24T12:00:00Z").unwrap();
        thread_local! {
            static PACKETS: Vec<Packet> = packets(Instant::parse("2026-11-24T12:00:00Z").unwrap());
        }
        let expected = PACKETS.with(|packets| {
            packets.iter().any(|packet| is_of(&traffic, packet) && naive::matches(&spec, packet))
        });
        let (firewall, policy, rule) = rule(spec, now);
        let filter =
            Filter { level: Level::Rule, condition: Logic::Is(Test::Traffic(Box::new(traffic))) };
        let subject = Subject::Rule(&firewall, &policy, &rule);
        prop_assert_eq!(filter.fits(subject, now), expected, "{}", filter);
    }
}
