//! Tests that comparisons, searches and partitions are what enumerating every packet of a small world
//! shows.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test reports a failure by panicking"
)]

#[path = "support/small_world.rs"]
mod small_world;

use std::net::IpAddr;

use fireflow_domain::analysis::{
    AnalysedPolicy, AnalysisLimits, ComparisonOptions, Outcome, PacketSet, SearchRequest, compare,
    partition, search,
};
use fireflow_domain::engine::naive;
use fireflow_domain::net::{AddressRange, Family, PortRange, Protocol};
use fireflow_domain::packet::{Packet, Payload};
use fireflow_domain::rule::{Action, RuleParts, RuleSpec};
use fireflow_domain::testing::random::{Random, cases, seed};
use fireflow_domain::time::Instant;

use self::small_world::{World, analysed, hour, noon};

/// Whether a set has a packet, by its description.
fn has(set: &PacketSet, packet: &Packet) -> bool {
    let address = |listed: &[AddressRange], address: IpAddr| {
        listed.is_empty() || listed.iter().any(|range| range.contains(address))
    };
    let port = |listed: &[PortRange], port: Option<u16>| {
        listed.is_empty()
            || port.is_some_and(|port| listed.iter().any(|range| range.contains(port)))
    };
    let (icmp_type, icmp_code) = match packet.payload() {
        Payload::Icmp { icmp_type, icmp_code } => (Some(icmp_type), Some(icmp_code)),
        Payload::Ports { .. } | Payload::Opaque => (None, None),
    };
    let byte = |listed: &[fireflow_domain::analysis::ByteRange], byte: Option<u8>| {
        listed.is_empty()
            || byte.is_some_and(|byte| listed.iter().any(|range| range.contains(byte)))
    };
    let family = if packet.source().is_ipv4() { Family::V4 } else { Family::V6 };
    set.family.is_none_or(|it| it == family)
        && (set.protocols.is_empty() || set.protocols.contains(&packet.protocol()))
        && address(&set.sources, packet.source())
        && address(&set.destinations, packet.destination())
        && port(&set.source_ports, packet.source_port())
        && port(&set.destination_ports, packet.destination_port())
        && byte(&set.icmp_types, icmp_type)
        && byte(&set.icmp_codes, icmp_code)
}

fn first(rules: &[RuleSpec], packet: &Packet) -> Option<usize> {
    rules.iter().position(|rule| naive::matches(rule, packet))
}

fn action(rules: &[RuleSpec], default: Action, packet: &Packet) -> Action {
    first(rules, packet).map_or(default, |rule| rules[rule].action)
}

/// A few changes of a list of rules.
fn changed(world: &World, rules: &[RuleSpec], random: &mut Random) -> Vec<RuleSpec> {
    let mut rules = rules.to_vec();
    for _ in 0..=random.below(4) {
        let count = u32::try_from(rules.len()).unwrap();
        let at = random.below(count + 1) as usize;
        match random.below(5) {
            0 if at < rules.len() => {
                rules.remove(at);
            }
            1 => rules.insert(at, world.rule(random)),
            2 if at < rules.len() => rules[at] = world.rule(random),
            3 if at < rules.len() => {
                let rule = rules.remove(at);
                rules.insert(random.below(count) as usize, rule);
            }
            4 if at < rules.len() => {
                let action = world.action(random);
                let parts = RuleParts { action, ..rules[at].clone().into_parts() };
                rules[at] = RuleSpec::new(parts).unwrap();
            }
            _ => {}
        }
    }
    rules
}

/// Every instant of an interval that can matter.
fn instants(from: i64, until: i64) -> Vec<Instant> {
    (from..=until).map(hour).collect()
}

#[test]
fn a_comparison_has_each_packet_that_changes_its_verdict_exactly_once() {
    let mut random = Random::new(seed());
    let (mut parts, mut packets_changed) = (0, 0);
    for _ in 0..cases(400) {
        let world = World::draw(&mut random);
        let left = world.rules(&mut random, 16);
        let right = if random.happens(80) {
            changed(&world, &left, &mut random)
        } else {
            world.rules(&mut random, 8)
        };
        let defaults = [world.action(&mut random), world.action(&mut random)];
        let defaults = if random.happens(70) { [defaults[0]; 2] } else { defaults };
        let (listed_left, listed_right) = (analysed(&left), analysed(&right));
        let left_policy = AnalysedPolicy { rules: &listed_left, default_action: defaults[0] };
        let right_policy = AnalysedPolicy { rules: &listed_right, default_action: defaults[1] };
        let (from, until) = if random.happens(30) { (-1, 2) } else { (0, 0) };
        let options = ComparisonOptions { from: hour(from), until: hour(until) };
        let limits = AnalysisLimits { parts: 100_000, ..AnalysisLimits::usual(&|| true) };
        let answer = compare(&left_policy, &right_policy, &options, &limits);
        assert_eq!((&answer.incomplete[..], answer.more), (&[][..], false));
        parts += answer.differences.len();
        for difference in &answer.differences {
            let witness = &difference.witness;
            assert!(has(&difference.packets, witness), "{difference:?}");
            assert_eq!(action(&left, defaults[0], witness), difference.from);
            assert_eq!(action(&right, defaults[1], witness), difference.to);
            assert_ne!(difference.from, difference.to);
            assert_eq!(first(&left, witness), difference.left_rule);
            assert_eq!(first(&right, witness), difference.right_rule);
        }
        for packet in &world.packets {
            let at_instants = instants(from, until).into_iter().map(|at| at_instant(packet, at));
            let changes: Vec<(Packet, [Action; 2])> = at_instants
                .map(|it| (it, [action(&left, defaults[0], &it), action(&right, defaults[1], &it)]))
                .filter(|(_, actions)| actions[0] != actions[1])
                .collect();
            let hits: Vec<_> =
                answer.differences.iter().filter(|it| has(&it.packets, packet)).collect();
            assert_eq!(hits.len(), usize::from(!changes.is_empty()), "{packet:?} {answer:#?}");
            let Some((packet, actions)) = changes.first() else { continue };
            packets_changed += 1;
            assert_eq!([hits[0].from, hits[0].to], *actions);
            let rules = [first(&left, packet), first(&right, packet)];
            assert!(rules[0].is_none_or(|rule| hits[0].left_rules.contains(&rule)));
            assert!(rules[1].is_none_or(|rule| hits[0].right_rules.contains(&rule)));
        }
        if from == until {
            // Each rule that a part names decides one of its packets.
            for difference in &answer.differences {
                let inside: Vec<&Packet> =
                    world.packets.iter().filter(|it| has(&difference.packets, it)).collect();
                let decides = |rules: &[RuleSpec], rule: usize| {
                    inside.iter().any(|packet| first(rules, packet) == Some(rule))
                };
                assert!(difference.left_rules.iter().all(|rule| decides(&left, *rule)));
                assert!(difference.right_rules.iter().all(|rule| decides(&right, *rule)));
            }
        }
        let same = compare(&left_policy, &left_policy, &options, &limits);
        assert!(same.is_proven_equal());
    }
    println!("{parts} parts, {packets_changed} packets");
    assert!(parts > 200 && packets_changed > 1_000);
}

fn at_instant(packet: &Packet, at: Instant) -> Packet {
    let mut parts = fireflow_domain::packet::PacketParts {
        source_address: packet.source(),
        destination_address: packet.destination(),
        protocol: packet.protocol(),
        source_port: packet.source_port(),
        destination_port: packet.destination_port(),
        icmp_type: None,
        icmp_code: None,
        at,
    };
    if let Payload::Icmp { icmp_type, icmp_code } = packet.payload() {
        (parts.icmp_type, parts.icmp_code) = (Some(icmp_type), Some(icmp_code));
    }
    Packet::new(parts).unwrap()
}

/// A set of packets that ends where rules do.
fn set(world: &World, random: &mut Random) -> PacketSet {
    let rule = world.rule(random);
    let addresses = |entries: &[fireflow_domain::rule::Endpoint]| {
        entries.iter().map(|entry| entry.address).collect::<Vec<AddressRange>>()
    };
    let ports = |entries: &[fireflow_domain::rule::Endpoint]| {
        entries.iter().filter_map(|entry| entry.port).collect::<Vec<PortRange>>()
    };
    let protocols: Vec<Protocol> = rule.protocols.to_vec();
    PacketSet {
        family: [None, None, Some(Family::V4), Some(Family::V6)][random.below(4) as usize],
        protocols,
        sources: if random.happens(50) { addresses(&rule.sources) } else { Vec::new() },
        source_ports: ports(&rule.sources),
        destinations: addresses(&rule.destinations),
        destination_ports: rule.ports.clone(),
        ..PacketSet::everything()
    }
}

#[test]
fn a_search_has_each_packet_of_the_set_with_the_outcome_exactly_once() {
    let mut random = Random::new(seed());
    let (mut found, mut none) = (0, 0);
    for _ in 0..cases(400) {
        let world = World::draw(&mut random);
        let rules = world.rules(&mut random, 12);
        let default = world.action(&mut random);
        let listed = analysed(&rules);
        let policy = AnalysedPolicy { rules: &listed, default_action: default };
        let packets = set(&world, &mut random);
        let rule = random.below(12) as usize;
        let outcome = match random.below(4) {
            0 => Outcome::Action(world.action(&mut random)),
            1 => Outcome::Blocked,
            2 => Outcome::Rule(rule),
            _ => Outcome::Default,
        };
        let (from, until) = if random.happens(30) { (-2, 1) } else { (0, 0) };
        let request = SearchRequest {
            packets: packets.clone(),
            outcome,
            from: hour(from),
            until: hour(until),
        };
        let limits = AnalysisLimits { parts: 100_000, ..AnalysisLimits::usual(&|| true) };
        let answer = search(&policy, &request, &limits);
        assert_eq!((&answer.incomplete[..], answer.more), (&[][..], false));
        let has_outcome = |packet: &Packet| {
            let first = first(&rules, packet);
            let action = first.map_or(default, |rule| rules[rule].action);
            match outcome {
                Outcome::Action(wanted) => action == wanted,
                Outcome::Blocked => action != Action::Allow,
                Outcome::Rule(rule) => first == Some(rule),
                Outcome::Default => first.is_none(),
            }
        };
        for part in &answer.found {
            assert!(has_outcome(&part.witness), "{part:?}");
            assert!(has(&packets, &part.witness) && has(&part.packets, &part.witness), "{part:?}");
            assert_eq!(part.rule, first(&rules, &part.witness));
            assert!(part.rule.is_none_or(|rule| part.rules.contains(&rule)));
        }
        for packet in &world.packets {
            let is_expected = has(&packets, packet)
                && instants(from, until).iter().any(|at| has_outcome(&at_instant(packet, *at)));
            let hits = answer.found.iter().filter(|part| has(&part.packets, packet)).count();
            assert_eq!(hits, usize::from(is_expected), "{packet:?} {answer:#?} {outcome:?}");
            found += hits;
        }
        none += usize::from(answer.is_none());
    }
    println!("{found} packets, {none} proofs that there is none");
    assert!(found > 1_000 && none > 5);
}

#[test]
fn a_partition_has_each_packet_of_the_set_exactly_once_with_the_rule_that_decides_it() {
    let mut random = Random::new(seed());
    let mut parts = 0;
    for _ in 0..cases(400) {
        let world = World::draw(&mut random);
        let rules = world.rules(&mut random, 12);
        let listed = analysed(&rules);
        let policy = AnalysedPolicy { rules: &listed, default_action: Action::Deny };
        let packets = set(&world, &mut random);
        let limits = AnalysisLimits { parts: 100_000, ..AnalysisLimits::usual(&|| true) };
        let answer = partition(&policy, &packets, noon(), &limits);
        assert_eq!((&answer.incomplete[..], answer.more), (&[][..], false));
        parts += answer.parts.len();
        for packet in &world.packets {
            let hits: Vec<_> =
                answer.parts.iter().filter(|part| has(&part.packets, packet)).collect();
            assert_eq!(hits.len(), usize::from(has(&packets, packet)), "{packet:?} {answer:#?}");
            for part in hits {
                assert_eq!(part.rule, first(&rules, packet));
                assert_eq!(part.action, action(&rules, Action::Deny, packet));
            }
        }
        assert!(answer.parts.iter().all(|part| part.size >= 1.0));
    }
    let everything = PacketSet { family: Some(Family::V4), ..PacketSet::everything() };
    let policy = AnalysedPolicy { rules: &[], default_action: Action::Deny };
    let limits = AnalysisLimits::usual(&|| true);
    let answer = partition(&policy, &everything, noon(), &limits);
    assert_eq!(answer.parts.len(), 1);
    assert_eq!(answer.parts[0].packets, everything);
    // Five protocols with ports, ICMP, and 249 others.
    let payloads = 5.0 * 2_f64.powi(32) + 65_536.0 + 249.0;
    assert_eq!(answer.parts[0].size, 2_f64.powi(64) * payloads);
    assert!(parts > 200);
}
