//! Tests that a packet whose source port is unknown gets exactly the verdicts of all packets with
//! the ports that it may have. All 16,384 of them are evaluated one by one, by the definition.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test reports a failure by panicking"
)]

#[path = "support/stored_rules.rs"]
mod stored_rules;

use std::sync::Arc;

use fireflow_domain::engine::classifier::Budget;
use fireflow_domain::engine::compact::{ChangedRule, CompactRule};
use fireflow_domain::engine::compiled::CompiledRules;
use fireflow_domain::engine::naive::{self, RuleRef};
use fireflow_domain::engine::port_map::{MAX_ALTERNATIVES, PortAnswer, PortMap};
use fireflow_domain::engine::{Evaluator, Limits};
use fireflow_domain::ids::{Revision, RuleId};
use fireflow_domain::net::{AddressRange, PortRange, Protocol, Protocols};
use fireflow_domain::packet::{GivenPacket, PacketParts};
use fireflow_domain::rule::{Action, Endpoint, Rule, RuleParts, RuleSpec};
use fireflow_domain::testing::random::cases;
use fireflow_domain::testing::rules::everything;
use fireflow_domain::time::Instant;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use self::stored_rules::stored;

fn noon() -> Instant {
    Instant::parse("2026-11-24T12:00:00Z").unwrap()
}

fn addresses(v4: &'static [&str], v6: &'static [&str]) -> impl Strategy<Value = AddressRange> {
    select([v4, v6, &["any"]].concat()).prop_map(|text| AddressRange::parse(text).unwrap())
}

/// Ports around the bounds of the ephemeral ones, and ports that begin or end anywhere.
fn source_ports() -> impl Strategy<Value = PortRange> {
    let named = select(
        &[
            "0-65535",
            "49152-65535",
            "0-49152",
            "0-49151",
            "65535",
            "49152",
            "49153-65534",
            "32768-60999",
            "50000-50010",
            "50005-50020",
            "50011",
            "1024-65535",
            "53",
        ][..],
    )
    .prop_map(|text| PortRange::parse(text).unwrap());
    let any = (any::<u16>(), any::<u16>())
        .prop_map(|(one, other)| PortRange::new(one.min(other), one.max(other)).unwrap());
    prop_oneof![3 => named, 1 => any]
}

fn specs() -> impl Strategy<Value = RuleSpec> {
    let sources = addresses(&["10.0.0.1", "10.0.0.0/8", "11.0.0.0/8"], &["2001:db8::1", "::/0"]);
    let source = (sources, option::weighted(0.7, source_ports()));
    let destinations = addresses(&["10.0.0.2", "0.0.0.0/0"], &["2001:db8::2", "2001:db8:1::/48"]);
    let destination_ports = select(&["443", "1-443", "444"][..]);
    let destination = (destinations, option::weighted(0.3, destination_ports));
    let times = select(&[None, Some("2026-11-24T11:00:00Z"), Some("2026-11-24T13:00:00Z")][..]);
    (
        (select(&Action::ALL[..]), prop::bool::weighted(0.9), times),
        vec(select(&[Protocol::TCP, Protocol::UDP, Protocol(47)][..]), 0..2),
        (vec(source, 1..4), vec(destination, 1..3)),
    )
        .prop_filter_map("it holds together", |((action, enabled, time), protocols, ends)| {
            let port = |text: &str| PortRange::parse(text).unwrap();
            RuleSpec::new(RuleParts {
                action,
                enabled,
                protocols: protocols.into_iter().collect(),
                icmp_type: None,
                icmp_code: None,
                sources: ends
                    .0
                    .into_iter()
                    .map(|(address, port)| Endpoint { address, port })
                    .collect(),
                destinations: ends
                    .1
                    .into_iter()
                    .map(|(address, text)| Endpoint { address, port: text.map(port) })
                    .collect(),
                ports: vec![],
                starts_at: time.map(|it| Instant::parse(it).unwrap()),
                expires_at: None,
                ..everything()
            })
            .ok()
        })
}

/// A packet without its source port.
fn packet(is_v6: bool, protocol: Protocol) -> GivenPacket {
    let (source, destination) =
        if is_v6 { ("2001:db8::1", "2001:db8::2") } else { ("10.0.0.1", "10.0.0.2") };
    GivenPacket::new(PacketParts {
        source_address: source.parse().unwrap(),
        destination_address: destination.parse().unwrap(),
        protocol,
        source_port: None,
        destination_port: Some(443),
        icmp_type: None,
        icmp_code: None,
        at: noon(),
    })
    .unwrap()
}

fn packets() -> impl Strategy<Value = GivenPacket> {
    (any::<bool>(), select(&[Protocol::TCP, Protocol::UDP][..]))
        .prop_map(|(is_v6, protocol)| packet(is_v6, protocol))
}

fn entries(specs: &[RuleSpec]) -> Vec<RuleRef<'_>> {
    let ids = (1..).filter_map(RuleId::new);
    specs.iter().zip(ids).map(|(spec, id)| RuleRef { id, spec }).collect()
}

const LIMITS: Limits<'static> =
    Limits { budget: Budget { cuboids: 4_000_000, bytes: 1 << 29 }, should_continue: &|| true };
const NAIVE: Limits<'static> = Limits { budget: Budget { cuboids: 0, bytes: 1 << 29 }, ..LIMITS };

/// What decides at each of the ports, one by one.
fn one_by_one(specs: &[RuleSpec], given: &GivenPacket) -> Vec<Option<usize>> {
    let entries = entries(specs);
    (49_152..=65_535)
        .map(|port| naive::first_match(&entries, &given.packet().with_source_port(port)))
        .collect()
}

/// The same ports in ranges.
fn port_by_port<T: Copy + PartialEq>(map: &PortMap<T>) -> Vec<T> {
    let ranges: Vec<(PortRange, T)> = map.ranges().collect();
    assert_eq!(ranges[0].0.first(), 49_152);
    assert_eq!(ranges[ranges.len() - 1].0.last(), 65_535);
    for pair in ranges.windows(2) {
        assert_eq!(u32::from(pair[0].0.last()) + 1, u32::from(pair[1].0.first()));
        assert!(pair[0].1 != pair[1].1, "neighbors differ");
    }
    let count = |ports: PortRange| usize::from(ports.last() - ports.first()) + 1;
    ranges.iter().flat_map(|(ports, it)| std::iter::repeat_n(*it, count(*ports))).collect()
}

/// Compares the definition and both kinds of evaluators with all ports one by one.
fn check(specs: &[RuleSpec], given: &GivenPacket) -> Vec<Option<usize>> {
    let expected = one_by_one(specs, given);
    let entries = entries(specs);
    let ports = given.assumed_ports().unwrap();
    let defined = naive::first_match_by_port(&entries, given.packet(), ports);
    assert_eq!(port_by_port(&defined), expected);
    for (limits, name) in [(LIMITS, "classifier"), (NAIVE, "naive")] {
        let evaluator = Evaluator::compile(&entries, limits);
        // Rules without a cuboid are within every budget.
        let has_cuboids = specs.iter().any(|spec| spec.enabled);
        assert_eq!(evaluator.name(), if has_cuboids { name } else { "classifier" });
        let found = evaluator.first_match_by_port(given.packet(), ports, specs, |_| true);
        assert_eq!(found, defined);
        let many =
            evaluator.classify_many_by_port(&[*given.packet(); 20], ports, specs, Clone::clone);
        assert_eq!(many, vec![defined.clone(); 20]);
    }
    expected
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(200)))]

    #[test]
    fn each_port_is_decided_as_a_packet_with_it(
        specs in vec(specs(), 0..30),
        given in packets(),
    ) {
        check(&specs, &given);
    }

    #[test]
    fn the_answer_is_allow_only_if_every_port_is_allowed(
        specs in vec(specs(), 0..12),
        given in packets(),
        default in select(&Action::ALL[..]),
    ) {
        let decided = one_by_one(&specs, &given);
        let action = |rule: Option<usize>| rule.map_or(default, |rule| specs[rule].action);
        let ports = given.assumed_ports().unwrap();
        let map = naive::first_match_by_port(&entries(&specs), given.packet(), ports);
        let answer = PortAnswer::new(ports, &map, |rule| Some(action(rule)));
        let actions: Vec<Action> = decided.iter().map(|rule| action(*rule)).collect();
        let worst = [Action::Deny, Action::Reject, Action::Allow]
            .into_iter()
            .find(|action| actions.contains(action))
            .unwrap();
        prop_assert_eq!(action(answer.decided), worst);
        let port = actions.iter().position(|action| *action == worst).unwrap();
        prop_assert_eq!(usize::from(answer.port), 49_152 + port);
        prop_assert_eq!(answer.decided, decided[port]);
        prop_assert_eq!(answer.is_dependent(), decided.iter().any(|it| *it != decided[0]));
        let listed = if answer.is_dependent() { answer.ranges.min(MAX_ALTERNATIVES) } else { 0 };
        prop_assert_eq!(answer.alternatives.len(), listed);
        for (ports, rule) in answer.alternatives {
            let port = usize::from(ports.first() - 49_152);
            prop_assert_eq!(rule, decided[port]);
        }
    }
}

/// A rule that allows TCP from any source with a port.
fn from_port(port: PortRange) -> RuleSpec {
    RuleSpec::new(RuleParts {
        protocols: Protocols::from_iter([Protocol::TCP]),
        sources: vec![Endpoint { address: AddressRange::Any, port: Some(port) }],
        ports: vec![],
        icmp_type: None,
        icmp_code: None,
        ..everything()
    })
    .unwrap()
}

#[test]
fn rules_that_are_told_apart_by_their_source_ports_are_all_found() {
    let single = |port: u32| from_port(PortRange::single(u16::try_from(port).unwrap()));
    let ephemeral =
        |step: u32| (0..).map(move |nth| 49_152 + nth * step).take_while(|it| *it < 65_536);
    let sparse: Vec<RuleSpec> = ephemeral(37).map(single).collect();
    let dense: Vec<RuleSpec> = (0..600).map(|nth| single(60_000 + nth)).collect();
    // These differ in their lowest bits only, which ephemeral ports share with them.
    let low: Vec<RuleSpec> = (0..256).map(single).collect();
    let ranges = |width: u32| {
        let last = move |first: u32| u16::try_from((first + width).min(65_535)).unwrap();
        ephemeral(211).map(move |first| {
            from_port(PortRange::new(u16::try_from(first).unwrap(), last(first)).unwrap())
        })
    };
    let mixed: Vec<RuleSpec> =
        ranges(5_000).chain(low.clone()).chain(ranges(90)).chain(sparse.clone()).collect();
    for (specs, least) in [(sparse, 400), (dense, 600), (low, 1), (mixed, 55)] {
        for is_v6 in [false, true] {
            let mut found = check(&specs, &packet(is_v6, Protocol::TCP));
            found.sort_unstable();
            found.dedup();
            assert!(found.len() >= least, "{}", found.len());
        }
    }
}

/// A rule as the storage returns it.
fn kept(id: i64, spec: RuleSpec) -> Rule {
    stored(id, spec, noon())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(100)))]

    #[test]
    fn rules_that_change_decide_at_each_port_as_if_compiled_anew(
        specs in vec(specs(), 40..60),
        changed in vec((0..40_usize, specs()), 1..5),
        priorities in vec(0..4_i32, 60),
        given in packets(),
    ) {
        let at = |spec: RuleSpec, priority| {
            RuleSpec::new(RuleParts { priority, ..spec.into_parts() }).unwrap()
        };
        let specs = specs.into_iter().zip(&priorities).map(|(spec, it)| at(spec, *it));
        let mut rules: Vec<Rule> = (1..).zip(specs).map(|(id, spec)| kept(id, spec)).collect();
        rules.sort_by_key(|rule| (rule.spec.priority, rule.id));
        let compact = |rule: &Rule| CompactRule::new(rule.id, &rule.spec, Revision(1));
        let compact = rules.iter().map(|rule| Arc::new(compact(rule))).collect();
        let compiled = CompiledRules::new(compact, LIMITS);
        let mut changes: Vec<Rule> = Vec::new();
        for (nth, spec) in changed {
            rules[nth].spec = at(spec, priorities[nth]);
            changes.retain(|rule| rule.id != rules[nth].id);
            changes.push(rules[nth].clone());
        }
        rules.sort_by_key(|rule| (rule.spec.priority, rule.id));
        let changes: Vec<ChangedRule> =
            changes.iter().map(|rule| ChangedRule::of(rule, Revision(2))).collect();
        let compiled = compiled.changed(&changes, rules.len() as u64).unwrap();
        let specs: Vec<RuleSpec> = rules.iter().map(|rule| rule.spec.clone()).collect();
        let expected = one_by_one(&specs, &given);
        let expected: Vec<_> = expected.into_iter().map(|it| it.map(|it| rules[it].id)).collect();
        // While the changed rules are not compiled, and then.
        for compiled in [compiled.clone(), compiled.compiled(LIMITS)] {
            let map = compiled.first_match_by_port(given.packet(), given.assumed_ports().unwrap());
            let map = map.map(|rule| rule.map(|it| it.0.id()));
            prop_assert_eq!(port_by_port(&map), expected.clone());
        }
    }
}
