//! Tests the meaning of rules: which rules are consistent, which are equal, and which packets they
//! match.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use fireflow_domain::engine::naive::{self, Condition, RuleRef};
use fireflow_domain::ids::RuleId;
use fireflow_domain::net::{AddressRange, PortRange, Protocol};
use fireflow_domain::packet::{Packet, PacketParts};
use fireflow_domain::rule::fingerprint::Fingerprint;
use fireflow_domain::rule::{Action, Endpoint, RuleParts, RuleSpec, RuleState, WarningCode};
use fireflow_domain::testing::rules::everything;
use fireflow_domain::time::Instant;
use proptest::prelude::*;

fn at(micros: i64) -> Instant {
    Instant::from_micros(micros).unwrap()
}

fn endpoint(text: &str) -> Endpoint {
    let (address, port) = text.split_once(' ').map_or((text, None), |(a, p)| (a, Some(p)));
    Endpoint {
        address: AddressRange::parse(address).unwrap(),
        port: port.map(|port| PortRange::parse(port).unwrap()),
    }
}

fn parts(protocols: &[&str], sources: &[&str], destinations: &[&str], ports: &[&str]) -> RuleParts {
    RuleParts {
        priority: 10,
        protocols: protocols.iter().map(|p| Protocol::parse(p).unwrap()).collect(),
        sources: sources.iter().map(|entry| endpoint(entry)).collect(),
        destinations: destinations.iter().map(|entry| endpoint(entry)).collect(),
        ports: ports.iter().map(|port| PortRange::parse(port).unwrap()).collect(),
        ..everything()
    }
}

fn rule(protocols: &[&str], sources: &[&str], destinations: &[&str], ports: &[&str]) -> RuleSpec {
    RuleSpec::new(parts(protocols, sources, destinations, ports)).unwrap()
}

fn tcp(source: &str, source_port: u16, destination: &str, destination_port: u16) -> Packet {
    Packet::new(PacketParts {
        source_address: source.parse().unwrap(),
        destination_address: destination.parse().unwrap(),
        protocol: Protocol::TCP,
        source_port: Some(source_port),
        destination_port: Some(destination_port),
        icmp_type: None,
        icmp_code: None,
        at: at(0),
    })
    .unwrap()
}

fn portless(protocol: u8, icmp: Option<(u8, u8)>, source: &str, destination: &str) -> Packet {
    Packet::new(PacketParts {
        source_address: source.parse().unwrap(),
        destination_address: destination.parse().unwrap(),
        protocol: Protocol(protocol),
        source_port: None,
        destination_port: None,
        icmp_type: icmp.map(|(icmp_type, _)| icmp_type),
        icmp_code: icmp.map(|(_, icmp_code)| icmp_code),
        at: at(0),
    })
    .unwrap()
}

#[test]
fn entries_are_alternatives() {
    let rule = rule(&["tcp"], &["10.0.0.0/8", "192.0.2.1"], &["198.51.100.1", "any 22"], &["443"]);
    assert!(naive::matches(&rule, &tcp("10.1.1.1", 1, "198.51.100.1", 443)));
    assert!(naive::matches(&rule, &tcp("192.0.2.1", 1, "198.51.100.1", 443)));
    assert!(naive::matches(&rule, &tcp("192.0.2.1", 1, "203.0.113.9", 22)));
    assert!(!naive::matches(&rule, &tcp("192.0.2.2", 1, "198.51.100.1", 443)));
    assert!(!naive::matches(&rule, &tcp("192.0.2.1", 1, "203.0.113.9", 443)));
}

#[test]
fn each_entry_pairs_its_own_address_and_port() {
    let rule = rule(&["tcp"], &["10.0.0.1 1000", "10.0.0.2 2000"], &["any"], &[]);
    assert!(naive::matches(&rule, &tcp("10.0.0.1", 1000, "10.9.9.9", 1)));
    assert!(!naive::matches(&rule, &tcp("10.0.0.1", 2000, "10.9.9.9", 1)));
}

#[test]
fn ports_of_the_rule_count_and_port_zero_is_a_port() {
    let web = rule(&["tcp"], &["any"], &["any"], &["0", "8000-8100"]);
    assert!(naive::matches(&web, &tcp("10.0.0.1", 1, "10.0.0.2", 0)));
    assert!(naive::matches(&web, &tcp("10.0.0.1", 1, "10.0.0.2", 8100)));
    assert!(!naive::matches(&web, &tcp("10.0.0.1", 1, "10.0.0.2", 8101)));
}

#[test]
fn what_restricts_ports_matches_no_packet_without_them() {
    let restricted = rule(&[], &["any"], &["any"], &["0-65535"]);
    let open = rule(&[], &["any"], &["any"], &[]);
    let gre = portless(47, None, "10.0.0.1", "10.0.0.2");
    assert!(!naive::matches(&restricted, &gre));
    assert!(naive::matches(&open, &gre));
    assert!(naive::matches(&restricted, &tcp("10.0.0.1", 1, "10.0.0.2", 2)));
}

#[test]
fn ipv6_and_icmp_are_met() {
    let v6 = rule(&["tcp"], &["2001:db8:1::/48"], &["2001:db8:2::/64"], &[]);
    assert!(naive::matches(&v6, &tcp("2001:db8:1::5", 1, "2001:db8:2::9", 443)));
    assert!(!naive::matches(&v6, &tcp("2001:db8:3::5", 1, "2001:db8:2::9", 443)));
    let mut echo = parts(&["icmp"], &["any"], &["any"], &[]);
    echo.icmp_type = Some(8);
    let echo = RuleSpec::new(echo).unwrap();
    assert!(naive::matches(&echo, &portless(1, Some((8, 0)), "10.0.0.1", "10.0.0.2")));
    assert!(!naive::matches(&echo, &portless(1, Some((3, 1)), "10.0.0.1", "10.0.0.2")));
}

#[test]
fn any_ipv6_holds_no_ipv4() {
    let v6 = rule(&[], &["::/0"], &["::/0"], &[]);
    assert!(!naive::matches(&v6, &tcp("10.0.0.1", 1, "10.0.0.2", 2)));
}

#[test]
fn a_rule_holds_from_its_start_until_before_its_expiry() {
    let mut limited = parts(&[], &["any"], &["any"], &[]);
    limited.starts_at = Some(at(10));
    limited.expires_at = Some(at(20));
    let mut limited = RuleSpec::new(limited).unwrap();
    for (micros, state) in [
        (9, RuleState::Scheduled),
        (10, RuleState::Active),
        (19, RuleState::Active),
        (20, RuleState::Expired),
    ] {
        assert_eq!(limited.state(at(micros)), state, "{micros}");
    }
    let mut disabled = limited.into_parts();
    disabled.enabled = false;
    limited = RuleSpec::new(disabled).unwrap();
    assert_eq!(limited.state(at(15)), RuleState::Disabled);
}

#[test]
fn the_first_match_decides_by_priority_then_id() {
    let (allow, mut deny) =
        (parts(&[], &["any"], &["any"], &[]), parts(&[], &["any"], &["any"], &[]));
    deny.action = Action::Deny;
    let (allow, deny) = (RuleSpec::new(allow).unwrap(), RuleSpec::new(deny).unwrap());
    let mut rules = [
        RuleRef { id: RuleId::new(7).unwrap(), spec: &allow },
        RuleRef { id: RuleId::new(3).unwrap(), spec: &deny },
    ];
    naive::sort(&mut rules);
    let packet = tcp("10.0.0.1", 1, "10.0.0.2", 2);
    assert_eq!(naive::verdict(&rules, Action::Allow, &packet), Action::Deny);
    assert_eq!(naive::verdict(&[], Action::Reject, &packet), Action::Reject);
}

#[test]
fn an_explanation_names_what_failed_and_what_comes_later() {
    let other = rule(&["udp"], &["10.0.0.1"], &["any"], &["53"]);
    let hit = rule(&["tcp"], &["any", "10.0.0.0/8"], &["10.0.0.2"], &["22", "443"]);
    let all = rule(&[], &["any"], &["any"], &[]);
    let specs = [&other, &hit, &all, &other, &all];
    let rules: Vec<RuleRef<'_>> = specs
        .iter()
        .zip(1..)
        .map(|(spec, id)| RuleRef { id: RuleId::new(id).unwrap(), spec })
        .collect();
    let explanation = naive::explain(&rules, &tcp("10.0.0.1", 1, "10.0.0.2", 443));
    assert_eq!(explanation.active, Some(1));
    assert_eq!(explanation.before, [(0, vec![Condition::Protocol, Condition::Destination])]);
    assert_eq!(explanation.later, [2, 4]);
    let matched = explanation.matched.unwrap();
    assert_eq!((matched.source, matched.destination, matched.port), (0, 0, Some(1)));
}

#[test]
fn a_rule_that_can_match_nothing_is_refused() {
    for (protocols, sources, destinations, ports, why) in [
        (&[][..], &["10.0.0.1"][..], &["2001:db8::1"][..], &[][..], "share an address family"),
        (&["icmpv6"][..], &["10.0.0.1"][..], &["any"][..], &[][..], "icmpv6 only in IPv6"),
        (
            &["icmp"][..],
            &["any"][..],
            &["any"][..],
            &["443"][..],
            "none of its protocols has ports",
        ),
        (&["gre"][..], &["any 1"][..], &["any"][..], &[][..], "none of its protocols has ports"),
    ] {
        let violations = RuleSpec::new(parts(protocols, sources, destinations, ports)).unwrap_err();
        assert_eq!(violations.items().len(), 1);
        assert!(violations.items()[0].detail.contains(why), "{violations:?}");
    }
}

#[test]
fn icmp_fields_need_their_protocol_and_all_faults_come_at_once() {
    let mut wrong = parts(&["tcp"], &[], &["any"], &[]);
    wrong.icmp_type = Some(8);
    wrong.starts_at = Some(at(5));
    wrong.expires_at = Some(at(5));
    let violations = RuleSpec::new(wrong).unwrap_err();
    let places: Vec<String> = violations.items().iter().map(ToString::to_string).collect();
    assert_eq!(places.len(), 3, "{places:?}");
    assert!(places[0].starts_with("#/sources: "));
    assert!(places[1].starts_with("#/icmp_type: "));
    assert!(places[2].starts_with("#/expires_at: "));
}

#[test]
fn parts_without_effect_are_named() {
    let spec = rule(&["tcp", "icmpv6"], &["10.0.0.1", "2001:db8::1"], &["192.0.2.1 443"], &["80"]);
    let found: Vec<(WarningCode, String)> =
        spec.warnings(at(0)).into_iter().map(|w| (w.code, w.pointer)).collect();
    assert_eq!(
        found,
        [
            (WarningCode::ProtocolWithoutEffect, "/protocols/1".to_owned()),
            (WarningCode::EntryWithoutEffect, "/sources/1".to_owned()),
            (WarningCode::PortsWithoutEffect, "/ports".to_owned()),
        ]
    );
}

#[test]
fn the_block_of_mapped_addresses_is_no_partner() {
    let pointers = |rule: RuleSpec| -> Vec<String> {
        rule.warnings(at(0)).into_iter().map(|it| it.pointer).collect()
    };
    let mapped = "::ffff:0:0/96";
    let found =
        pointers(rule(&[], &["10.0.0.0/8", "2001:db8::/32"], &["192.0.2.0/24", mapped], &[]));
    assert_eq!(found, ["/sources/1", "/destinations/1"]);
    // Ports restrict only the destination that no packet has.
    let found = pointers(rule(&[], &["any"], &["192.0.2.1 443", mapped], &["80"]));
    assert_eq!(found, ["/destinations/1", "/ports"]);
    // No single part is to blame if the rule matches no packet.
    assert!(pointers(rule(&["tcp", "icmpv6"], &[mapped], &["any"], &["80"])).is_empty());
}

#[test]
fn equality_is_of_sets_and_canonical_spelling() {
    let one = parts(&["tcp", "udp"], &["10.0.0.1/32", "any"], &["::/0 443-443", "any"], &["1-1"]);
    let same = parts(&["17", "6"], &["any", "10.0.0.1", "any"], &["any", "::/0 443"], &["1"]);
    assert_eq!(Fingerprint::of(&one), Fingerprint::of(&same));
    let base = parts(&[], &["any"], &["any"], &[]);
    let spelled = parts(&[], &["0.0.0.0/0", "::/0"], &["any"], &[]);
    let ports = parts(&[], &["any"], &["any"], &["0-65535"]);
    let mut deny = base.clone();
    deny.action = Action::Deny;
    let distinct = [&base, &spelled, &ports, &deny].map(Fingerprint::of);
    for (index, print) in distinct.iter().enumerate() {
        assert!(!distinct[..index].contains(print), "{index}");
    }
    let mut moved = base.clone();
    moved.priority = -5;
    moved.log = true;
    moved.expires_at = Some(at(1));
    assert_eq!(Fingerprint::of(&moved), Fingerprint::of(&base));
}

/// Computed independently of this code, from the documented encoding. These values must never
/// change.
#[test]
fn fingerprints_equal_the_committed_vectors() {
    let model = parts(
        &["tcp", "udp"],
        &["10.0.0.0/8", "192.0.2.1-192.0.2.9 1024-65535", "2001:db8:1::/48"],
        &["198.51.100.10", "2001:db8:2::/64", "198.51.100.11 8443"],
        &["443", "8000-8100"],
    );
    let mut echo = parts(&["icmp"], &["any"], &["10.0.0.1"], &[]);
    echo.icmp_type = Some(8);
    echo.icmp_code = Some(0);
    for (given, expected) in [
        (
            parts(&[], &["any"], &["any"], &[]),
            "02295442eada06afb66cd00b23beb07500db32bff08217a6930d91e209f5459c",
        ),
        (model, "8b50fc0682959ddf8d785db1ce7c8ad07562b746ee64842148afbbf9d2a2a32d"),
        (echo, "ce99b3b7823a1bec3600154192e26399023e6b90337ae002da1015f205772837"),
    ] {
        assert_eq!(Fingerprint::of(&given).to_hex(), expected);
    }
}

fn range() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("any".to_owned()),
        (0u8..4, 0u8..4).prop_map(|(a, b)| format!("10.0.0.{}-10.0.0.{}", a.min(b), a.max(b))),
        (0u8..4, 0u8..4).prop_map(|(a, b)| format!(
            "2001:db8::{}-2001:db8::{}",
            a.min(b),
            a.max(b)
        )),
    ]
}

proptest! {
    #[test]
    fn order_and_repetition_do_not_count(mut entries in prop::collection::vec(range(), 1..6), seed: u64) {
        let all = |entries: &[String]| {
            let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
            Fingerprint::of(&parts(&[], &entries, &["any"], &[]))
        };
        let before = all(&entries);
        let index = usize::try_from(seed % entries.len() as u64).unwrap();
        entries.rotate_left(index);
        entries.push(entries[0].clone());
        prop_assert_eq!(all(&entries), before);
    }

    /// A rule is refused exactly when no packet of a small universe meets it. A part that causes a
    /// warning can be removed without changing which packets match.
    #[test]
    fn refusals_and_warnings_tell_the_truth(
        protocols in prop::collection::vec(prop::sample::select(vec!["tcp", "icmp", "icmpv6", "gre"]), 0..5),
        sources in prop::collection::vec((range(), prop::option::of(0u16..2)), 1..3),
        destinations in prop::collection::vec((range(), prop::option::of(0u16..2)), 1..3),
        ports in prop::collection::vec(0u16..2, 0..2),
    ) {
        let spell = |entries: &[(String, Option<u16>)]| -> Vec<Endpoint> {
            entries.iter().map(|(address, port)| endpoint(&match port {
                Some(port) => format!("{address} {port}"),
                None => address.clone(),
            })).collect()
        };
        let mut given = parts(&protocols, &[], &[], &[]);
        given.sources = spell(&sources);
        given.destinations = spell(&destinations);
        given.ports = ports.iter().map(|port| PortRange::single(*port)).collect();
        match RuleSpec::new(given.clone()) {
            Err(_) => {
                // In this universe, every rule of this shape that can match does match a packet.
                // This is checked on the parts, with the protocols and ports taken one by one.
                prop_assert!(!universe().iter().any(|packet| matches_parts(&given, packet)));
            }
            Ok(spec) => {
                let matched: Vec<bool> =
                    universe().iter().map(|packet| naive::matches(&spec, packet)).collect();
                prop_assert!(matched.contains(&true));
                for warning in spec.warnings(at(0)) {
                    let mut less = given.clone();
                    let mut step = warning.pointer.split('/').skip(1);
                    let list = step.next().unwrap();
                    let index: usize = step.next().map_or(0, |index| index.parse().unwrap());
                    match list {
                        "protocols" => {
                            let all = less.protocols.iter().copied().enumerate();
                            let others = all.filter(|(at, _)| *at != index).map(|(_, it)| it);
                            less.protocols = others.collect();
                        }
                        "sources" => drop(less.sources.remove(index)),
                        "destinations" => drop(less.destinations.remove(index)),
                        _ => less.ports.clear(),
                    }
                    let less = RuleSpec::new(less).unwrap();
                    let still: Vec<bool> =
                        universe().iter().map(|packet| naive::matches(&less, packet)).collect();
                    prop_assert_eq!(&matched, &still, "{:?}", warning);
                }
            }
        }
    }
}

/// The definition of the model, written a second time without shortcuts.
fn matches_parts(parts: &RuleParts, packet: &Packet) -> bool {
    let in_port = |wanted: Option<PortRange>, port: Option<u16>| match wanted {
        None => true,
        Some(wanted) => port.is_some_and(|port| wanted.contains(port)),
    };
    (parts.protocols.is_empty() || parts.protocols.contains(&packet.protocol()))
        && parts.sources.iter().any(|entry| {
            entry.address.contains(packet.source()) && in_port(entry.port, packet.source_port())
        })
        && parts.destinations.iter().any(|entry| {
            let mut wanted: Vec<Option<PortRange>> = match entry.port {
                Some(port) => vec![Some(port)],
                None => parts.ports.iter().copied().map(Some).collect(),
            };
            if wanted.is_empty() {
                wanted.push(None);
            }
            entry.address.contains(packet.destination())
                && wanted.into_iter().any(|wanted| in_port(wanted, packet.destination_port()))
        })
}

fn universe() -> Vec<Packet> {
    let mut packets = Vec::new();
    for family in 0..2u8 {
        for source in 0..4u8 {
            for destination in 0..4u8 {
                let address = |host: u8| {
                    if family == 0 { format!("10.0.0.{host}") } else { format!("2001:db8::{host}") }
                };
                let (source, destination) = (address(source), address(destination));
                let icmp = if family == 0 { 1 } else { 58 };
                packets.push(portless(icmp, None, &source, &destination));
                packets.push(portless(47, None, &source, &destination));
                for ports in 0..4u16 {
                    packets.push(tcp(&source, ports / 2, &destination, ports % 2));
                }
            }
        }
    }
    packets
}
