//! Tests that the classifier gives the same answers as the definition for rules that it keeps in other
//! forms than cuboids in trees: large products as hulls, long lists with tables, and rules with
//! limits in time. Packets come from before, between and after all limits.

#![expect(clippy::unwrap_used, reason = "a test reports a failure by panicking")]

use std::net::IpAddr;

use fireflow_domain::engine::classifier::{Budget, Classifier};
use fireflow_domain::engine::naive::{self, RuleRef};
use fireflow_domain::engine::{Evaluator, Limits};
use fireflow_domain::ids::RuleId;
use fireflow_domain::net::{AddressRange, PortRange, Protocol, Protocols};
use fireflow_domain::packet::{Packet, PacketParts};
use fireflow_domain::rule::{Endpoint, RuleParts, RuleSpec};
use fireflow_domain::testing::adversarial::{self, Family};
use fireflow_domain::testing::random::{Random, cases};
use fireflow_domain::testing::rules::everything;
use fireflow_domain::time::{Instant, MICROS_PER_SECOND};
use proptest::prelude::*;

const PROTOCOLS: [u8; 12] = [0, 1, 5, 6, 7, 17, 33, 47, 58, 132, 136, 255];
/// The addresses of the small world, at both ends of each family.
const ADDRESSES: u32 = 24;

fn noon() -> Instant {
    Instant::parse("2026-11-24T12:00:00Z").unwrap()
}

/// An instant so many hours after noon; negative: before.
fn hour(hours: i64) -> Instant {
    noon().plus_micros(hours * 3_600 * MICROS_PER_SECOND)
}

fn entries(specs: &[RuleSpec]) -> Vec<RuleRef<'_>> {
    let ids = (1..).filter_map(RuleId::new);
    specs.iter().zip(ids).map(|(spec, id)| RuleRef { id, spec }).collect()
}

/// Rules and packets of a small world, from a seed.
struct Maker(Random);

impl Maker {
    fn number(&mut self, below: u32) -> u32 {
        self.0.below(below)
    }

    fn address(&mut self, is_v6: bool, place: u32) -> IpAddr {
        // A few at the lowest end, a few at the highest, and the others in between.
        let v4 = match place {
            0..4 => place,
            4..8 => u32::MAX - (7 - place),
            _ => 0x0a00_0000 + place,
        };
        if !is_v6 {
            return IpAddr::V4(v4.into());
        }
        let v6 = match place {
            0..4 => u128::from(place),
            4..8 => u128::MAX - u128::from(7 - place),
            _ => 0x2001_0db8_u128 << 96 | u128::from(place) << 30,
        };
        IpAddr::V6(v6.into())
    }

    fn range(&mut self, is_v6: bool) -> AddressRange {
        if self.0.happens(3) {
            return AddressRange::Any;
        }
        let (one, other) = (self.number(ADDRESSES), self.number(ADDRESSES));
        let other = if self.0.happens(60) { one } else { other };
        let (one, other) = (self.address(is_v6, one), self.address(is_v6, other));
        let (first, last) = (one.min(other), one.max(other));
        AddressRange::parse(&format!("{first}-{last}")).unwrap()
    }

    fn ports(&mut self) -> PortRange {
        let some = [0, 21, 22, 23, 80, 443, 49_152, 50_000, 65_534, 65_535];
        let (one, other) = (*self.0.pick(&some).unwrap(), *self.0.pick(&some).unwrap());
        let other = if self.0.happens(50) { one } else { other };
        PortRange::new(one.min(other), one.max(other)).unwrap()
    }

    fn side(&mut self, most: u32, own_ports: u32) -> Vec<Endpoint> {
        (0..=self.number(most))
            .map(|_| {
                let is_v6 = self.0.happens(40);
                let port = self.0.happens(own_ports).then(|| self.ports());
                Endpoint { address: self.range(is_v6), port }
            })
            .collect()
    }

    /// A rule with many entries; few combinations are refused.
    fn rule(&mut self) -> Option<RuleSpec> {
        let own_ports = *self.0.pick(&[0, 0, 30, 90]).unwrap();
        let protocols = (0..self.number(12)).map(|_| Protocol(*self.0.pick(&PROTOCOLS).unwrap()));
        let protocols: Protocols = protocols.collect::<Vec<_>>().into_iter().collect();
        let is_icmp = self.0.happens(15);
        let icmp = if self.0.happens(50) { Protocol::ICMP } else { Protocol::ICMPV6 };
        let ports = if self.0.happens(50) { 0 } else { self.number(12) };
        let hours = |it: &mut Self| i64::from(it.number(9)) - 4;
        let starts_at = self.0.happens(20).then(|| hour(hours(self)));
        let expires_at = self.0.happens(20).then(|| hour(hours(self)));
        RuleSpec::new(RuleParts {
            protocols: if is_icmp { Protocols::from_iter([icmp]) } else { protocols },
            icmp_type: is_icmp.then_some(8),
            icmp_code: (is_icmp && self.0.happens(50)).then_some(0),
            sources: self.side(40, own_ports),
            destinations: self.side(40, own_ports),
            ports: if is_icmp { Vec::new() } else { (0..ports).map(|_| self.ports()).collect() },
            enabled: !self.0.happens(5),
            starts_at,
            expires_at,
            ..everything()
        })
        .ok()
    }

    fn packet(&mut self) -> Option<Packet> {
        let is_v6 = self.0.happens(40);
        let (one, other) = (self.number(ADDRESSES), self.number(ADDRESSES));
        let protocol = Protocol(*self.0.pick(&PROTOCOLS).unwrap());
        let ports = (self.ports(), self.ports());
        let has_ports = protocol.has_ports();
        Packet::new(PacketParts {
            source_address: self.address(is_v6, one),
            destination_address: self.address(is_v6, other),
            protocol,
            source_port: has_ports.then(|| ports.0.first()),
            destination_port: has_ports.then(|| ports.1.last()),
            icmp_type: protocol.is_icmp().then(|| if self.0.happens(70) { 8 } else { 9 }),
            icmp_code: protocol.is_icmp().then(|| if self.0.happens(70) { 0 } else { 1 }),
            at: hour(i64::from(self.number(11)) - 5),
        })
        .ok()
    }
}

/// Compares all ways to ask a classifier with the definition.
fn check(specs: &[RuleSpec], budget: Budget, packets: &[Packet]) {
    let entries = entries(specs);
    let evaluator = Evaluator::compile(&entries, Limits { budget, should_continue: &|| true });
    assert_eq!(evaluator.name(), "classifier");
    // Every third rule that can be left out is left out.
    let is_taken = |place: u32| !place.is_multiple_of(3) || !evaluator.can_pass_over(place);
    for packet in packets {
        let expected = naive::first_match(&entries, packet);
        assert_eq!(evaluator.first_match(packet, specs), expected, "{packet:?}");
        let among = specs.iter().zip(0_u32..);
        let expected = among
            .filter(|(spec, place)| is_taken(*place) && naive::matches(spec, packet))
            .map(|(_, place)| place as usize)
            .next();
        assert_eq!(evaluator.first_match_among(packet, specs, is_taken), expected, "{packet:?}");
        if packet.protocol().has_ports() {
            for ports in [PortRange::EPHEMERAL, PortRange::ALL] {
                let expected = naive::first_match_by_port(&entries, packet, ports);
                let found = evaluator.first_match_by_port(packet, ports, specs, |_| true);
                assert_eq!(found, expected, "{packet:?}");
            }
        }
    }
}

const BUDGET: Budget = Budget { cuboids: 4_000_000, bytes: 512 << 20 };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(150)))]

    /// The smaller budgets make hulls of fewer pieces, and hulls of smaller products.
    #[test]
    fn rules_with_many_entries_are_answered_as_the_definition_says(seed in any::<u64>()) {
        let mut maker = Maker(Random::new(seed));
        let specs: Vec<RuleSpec> = (0..13).filter_map(|_| maker.rule()).collect();
        let packets: Vec<Packet> = (0..250).filter_map(|_| maker.packet()).collect();
        // At most three worlds of each family for each rule.
        for cuboids in [BUDGET.cuboids, 600, 13 * 6] {
            check(&specs, Budget { cuboids, ..BUDGET }, &packets);
        }
    }
}

/// Packets at the edges of rules, at several times.
fn packets_around(specs: &[RuleSpec], count: usize, seed: u64) -> Vec<Packet> {
    let year = 365 * 24;
    [-2 * year, -year / 2, -1_000, 0, 1_000, year / 2, 2 * year]
        .into_iter()
        .zip(seed..)
        .flat_map(|(hours, seed)| adversarial::packets(specs, count / 7, seed, hour(hours)))
        .collect()
}

#[test]
fn adversarial_families_are_answered_as_the_definition_says() {
    for family in Family::ALL {
        let specs = adversarial::rules(family, 3_000, 5, noon());
        let packets = packets_around(&specs, 280, 6);
        assert!(packets.len() > 200, "{family:?}: {}", packets.len());
        check(&specs, BUDGET, &packets);
    }
}

#[test]
fn families_together_are_answered_as_the_definition_says() {
    // Rules of one family hide, overlap and interrupt those of the others.
    let families = Family::ALL.map(|family| adversarial::rules(family, 250, 7, noon()));
    let last = families[0].last().cloned();
    let longest = families.iter().map(Vec::len).max().unwrap();
    let mut specs: Vec<RuleSpec> = (0..longest)
        .flat_map(|nth| families.iter().filter_map(move |rules| rules.get(nth)))
        // The last rule of each family would hide all others.
        .filter(|rule| rule.priority != i32::MAX)
        .cloned()
        .collect();
    specs.extend(last);
    let packets = packets_around(&specs, 1_400, 8);
    assert!(packets.len() > 1_000);
    check(&specs, BUDGET, &packets);
    // Fewer rules with limits in time than would pay for trees of their own.
    let plain = adversarial::rules(Family::Plain, 2_000, 9, noon());
    let timed = adversarial::rules(Family::Expired, 150, 9, noon());
    let few: Vec<RuleSpec> = timed.iter().take(150).chain(&plain).cloned().collect();
    check(&few, BUDGET, &packets_around(&few, 700, 9));
}

#[test]
fn a_packet_meets_rules_that_were_in_force_at_its_time() {
    // Each hour another rule ends, and another one begins.
    let timed = |nth: i64| {
        let parts = RuleParts {
            destinations: vec![Endpoint {
                address: AddressRange::parse("10.0.0.0/8").unwrap(),
                port: None,
            }],
            ..everything()
        };
        let ending = RuleParts { expires_at: Some(hour(nth - 150)), ..parts.clone() };
        let beginning = RuleParts { starts_at: Some(hour(150 - nth)), ..parts };
        [ending, beginning].map(|parts| RuleSpec::new(parts).unwrap())
    };
    let specs: Vec<RuleSpec> = (0..300).flat_map(timed).collect();
    let entries = entries(&specs);
    let classifier = Classifier::compile(&entries, BUDGET).unwrap();
    let mut deciding = Vec::new();
    for hours in -200..200 {
        let packet = Packet::new(PacketParts {
            source_address: "192.0.2.1".parse().unwrap(),
            destination_address: "10.1.2.3".parse().unwrap(),
            protocol: Protocol::TCP,
            source_port: Some(40_000),
            destination_port: Some(443),
            icmp_type: None,
            icmp_code: None,
            at: hour(hours),
        })
        .unwrap();
        let expected = naive::first_match(&entries, &packet);
        assert_eq!(classifier.first_match(&packet), expected, "{hours}");
        deciding.extend(expected);
    }
    deciding.sort_unstable();
    deciding.dedup();
    assert!(deciding.len() > 100, "{}", deciding.len());
}
