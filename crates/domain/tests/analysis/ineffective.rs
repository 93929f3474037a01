//! Tests of warnings about parts of rules that can have no effect.

use fireflow_domain::engine::naive;
use fireflow_domain::packet::Packet;
use fireflow_domain::rule::{Endpoint, RuleParts, RuleSpec, WarningCode};
use fireflow_domain::testing::random::{Random, cases, seed};

use super::ENOUGH_CASES;
use super::small_world::{World, noon};

/// The parts that no packet of the rule meets; none if no packet matches the rule at all.
fn expected(rule: &RuleSpec, packets: &[Packet]) -> Vec<(WarningCode, String)> {
    let parts = || (**rule).clone();
    let matches_some = |parts: RuleParts| {
        RuleSpec::new(parts)
            .is_ok_and(|rule| packets.iter().any(|packet| naive::matches(&rule, packet)))
    };
    let mut expected = Vec::new();
    if !matches_some(parts()) {
        return expected;
    }
    for (index, protocol) in rule.protocols.iter().enumerate() {
        let is_met =
            packets.iter().any(|it| it.protocol() == *protocol && naive::matches(rule, it));
        if !is_met {
            expected.push((WarningCode::ProtocolWithoutEffect, format!("/protocols/{index}")));
        }
    }
    for (index, entry) in rule.sources.iter().enumerate() {
        if !matches_some(RuleParts { sources: vec![*entry], ..parts() }) {
            expected.push((WarningCode::EntryWithoutEffect, format!("/sources/{index}")));
        }
    }
    for (index, entry) in rule.destinations.iter().enumerate() {
        if !matches_some(RuleParts { destinations: vec![*entry], ..parts() }) {
            expected.push((WarningCode::EntryWithoutEffect, format!("/destinations/{index}")));
        }
    }
    let bare: Vec<Endpoint> =
        rule.destinations.iter().copied().filter(|entry| entry.port.is_none()).collect();
    if !rule.ports.is_empty() && !matches_some(RuleParts { destinations: bare, ..parts() }) {
        expected.push((WarningCode::PortsWithoutEffect, "/ports".to_owned()));
    }
    expected
}

#[test]
fn warnings_are_about_exactly_the_parts_that_no_packet_meets() {
    let mut seen = [0_u64; 4];
    let mut random = Random::new(seed());
    for _ in 0..cases(ENOUGH_CASES) {
        let world = World::draw(&mut random);
        for _ in 0..4 {
            let always = RuleParts {
                enabled: true,
                starts_at: None,
                expires_at: None,
                ..world.rule(&mut random).into_parts()
            };
            let rule = RuleSpec::new(always).unwrap();
            let found: Vec<(WarningCode, String)> =
                rule.warnings(noon()).into_iter().map(|it| (it.code, it.pointer)).collect();
            let expected = expected(&rule, &world.packets);
            assert_eq!(found, expected, "{rule:?}");
            for (code, _) in expected {
                seen[code as usize] += 1;
            }
        }
    }
    let [entries, protocols, ports, expired] = seen;
    assert!(entries > 0 && protocols > 0 && ports > 0 && expired == 0, "{seen:?}");
}
