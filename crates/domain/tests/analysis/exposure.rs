//! Tests of findings about services that anybody can reach.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use fireflow_domain::analysis::{
    AnalysedPolicy, AnalysisLimits, AnalysisOptions, EXPOSED_SERVICES, Evidence, ExposedService,
    Finding, FindingKind, FindingKinds, Severity, analyse,
};
use fireflow_domain::engine::naive;
use fireflow_domain::net::{AddressRange, Family, PortRange, Protocol};
use fireflow_domain::packet::{Packet, PacketParts};
use fireflow_domain::rule::{Action, Endpoint, RuleParts, RuleSpec};
use fireflow_domain::testing::random::{Random, cases, seed};
use fireflow_domain::testing::rules::everything;

use super::ENOUGH_CASES;
use super::small_world::{PORTS, World, analysed, noon};

/// The special-purpose blocks of the registries, as they are written there.
const NOT_PUBLIC: [&str; 19] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
];

fn span(text: &str) -> (Family, u128, u128) {
    match AddressRange::parse(text).unwrap() {
        AddressRange::V4 { first, last } => (Family::V4, first.into(), last.into()),
        AddressRange::V6 { first, last } => (Family::V6, first, last),
        AddressRange::Any => unreachable!("{text}"),
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// How many addresses of a range are public.
#[expect(clippy::cast_precision_loss, reason = "shares are compared with a tolerance")]
fn public(family: Family, first: u128, last: u128) -> f64 {
    let all = if family == Family::V4 { (0, u32::MAX.into()) } else { (0x2 << 124, 0x4 << 124) };
    let within = |(from, to): (u128, u128)| {
        let (from, to) = (from.max(first), to.min(last));
        if from <= to { (to - from) as f64 + 1.0 } else { 0.0 }
    };
    let all = (all.0, if family == Family::V4 { all.1 } else { all.1 - 1 });
    let blocks = NOT_PUBLIC.into_iter().map(span).filter(|it| it.0 == family);
    within(all) - blocks.map(|it| within((it.1, it.2))).sum::<f64>()
}

/// The addresses of a family that rules can distinguish: the first of each range, the number of all
/// addresses of the range, and of its public ones.
#[expect(clippy::cast_precision_loss, reason = "sizes are compared with a tolerance")]
fn ranges(world: &World, family: Family) -> Vec<(IpAddr, f64, f64)> {
    let [v4, v6] = world.addresses();
    let firsts = if family == Family::V4 { v4 } else { v6 };
    let end = if family == Family::V4 { u32::MAX.into() } else { u128::MAX };
    let lasts = firsts.iter().skip(1).map(|it| bits(*it) - 1).chain([end]);
    let range = |(first, last): (&IpAddr, u128)| {
        let from = bits(*first);
        // No packet has an address in ::ffff:0:0/96, and no range divides it.
        let is_mapped = family == Family::V6 && from < 0xffff_0000_0000 && last > 0xffff_0000_0000;
        let none = if is_mapped { 1 << 32 } else { 0 };
        (*first, (last - from - none) as f64 + 1.0, public(family, from, last))
    };
    firsts.iter().zip(lasts).map(range).collect()
}

/// The rule that decides a packet of a service; none if that is the default.
fn decider(
    world: &World,
    rules: &[RuleSpec],
    service: &ExposedService,
    (source, source_port): (IpAddr, u16),
    destination: IpAddr,
) -> Option<usize> {
    let port = PORTS[..world.ports].iter().rev().find(|it| **it <= service.ports.first());
    let packet = Packet::new(PacketParts {
        source_address: source,
        destination_address: destination,
        protocol: service.protocol,
        source_port: Some(source_port),
        destination_port: port.copied(),
        icmp_type: None,
        icmp_code: None,
        at: noon(),
    });
    let packet = packet.unwrap();
    rules.iter().position(|rule| naive::matches(rule, &packet))
}

/// The sizes of the sources that each rule, or the default at the end, lets in to a destination.
fn let_in(
    world: &World,
    rules: &[RuleSpec],
    default: Action,
    service: &ExposedService,
    family: Family,
    destination: IpAddr,
) -> Vec<f64> {
    let mut sizes = vec![0.0; rules.len() + 1];
    for (source, _, size) in ranges(world, family) {
        let mut deciders = BTreeSet::new();
        for source_port in &PORTS[..world.ports] {
            let first = decider(world, rules, service, (source, *source_port), destination);
            if first.map_or(default, |rule| rules[rule].action).permits() {
                deciders.insert(first.unwrap_or(rules.len()));
            }
        }
        for decider in deciders {
            sizes[decider] += size;
        }
    }
    sizes
}

/// The sources whose packets to a destination each rule, or the default at the end, decides.
fn sources_of(
    world: &World,
    rules: &[RuleSpec],
    service: &ExposedService,
    family: Family,
    destination: IpAddr,
) -> BTreeMap<usize, BTreeSet<IpAddr>> {
    let mut sources: BTreeMap<usize, BTreeSet<IpAddr>> = BTreeMap::new();
    for (source, ..) in ranges(world, family) {
        for source_port in &PORTS[..world.ports] {
            let first = decider(world, rules, service, (source, *source_port), destination);
            sources.entry(first.unwrap_or(rules.len())).or_default().insert(source);
        }
    }
    sources
}

/// The rules that expose a destination: each that lets in enough alone, or else those that let in most
/// and are enough together. Two rules of a small world that let in the same source with other source
/// ports are counted once.
fn exposing(
    world: &World,
    rules: &[RuleSpec],
    default: Action,
    service: &ExposedService,
    family: Family,
    destination: IpAddr,
) -> BTreeSet<usize> {
    let anybody = public(family, 0, u128::MAX) * 0.5 * (1.0 - 1e-9);
    let sizes = let_in(world, rules, default, service, family, destination);
    let alone: BTreeSet<usize> = (0..sizes.len()).filter(|rule| sizes[*rule] >= anybody).collect();
    if !alone.is_empty() {
        return alone;
    }
    let mut order: Vec<usize> = (0..sizes.len()).filter(|rule| sizes[*rule] > 0.0).collect();
    order.sort_by(|a, b| sizes[*b].total_cmp(&sizes[*a]));
    let mut together = BTreeSet::new();
    for rule in order {
        together.insert(rule);
        let union = union_of(world, rules, default, service, family, destination, &together);
        if union >= anybody {
            return together;
        }
    }
    BTreeSet::new()
}

fn union_of(
    world: &World,
    rules: &[RuleSpec],
    default: Action,
    service: &ExposedService,
    family: Family,
    destination: IpAddr,
    deciders: &BTreeSet<usize>,
) -> f64 {
    let mut union = 0.0;
    for (source, _, size) in ranges(world, family) {
        let is_let_in = PORTS[..world.ports].iter().any(|source_port| {
            let first = decider(world, rules, service, (source, *source_port), destination);
            first.map_or(default, |rule| rules[rule].action).permits()
                && deciders.contains(&first.unwrap_or(rules.len()))
        });
        union += if is_let_in { size } else { 0.0 };
    }
    union
}

#[test]
fn exposed_destinations_are_those_that_most_public_addresses_reach() {
    let mut random = Random::new(seed());
    let (mut alone, mut together, mut by_default) = (0, 0, 0);
    let cases = cases(400);
    for _ in 0..cases {
        let world = World::draw(&mut random);
        let rules = world.rules(&mut random, 16);
        let default = world.action(&mut random);
        let listed = analysed(&rules);
        let policy = AnalysedPolicy { rules: &listed, default_action: default };
        let named = world.protocols.iter().copied().find(|it| it.has_ports());
        let protocol = named.unwrap_or(Protocol(132));
        let services: Vec<ExposedService> = EXPOSED_SERVICES[1..3]
            .iter()
            .map(|it| ExposedService { protocol, ..it.clone() })
            .collect();
        let kinds = FindingKinds::NONE.with(FindingKind::Exposed);
        let options =
            AnalysisOptions { kinds, services: services.clone(), ..AnalysisOptions::at(noon()) };
        let limits = AnalysisLimits::usual(&|| true);
        let analysis = analyse(&policy, &options, &limits);
        assert_eq!(analysis.incomplete, []);
        for family in Family::ALL {
            for service in &services {
                let found = analysis.findings.iter().find(|it| match &it.evidence {
                    Evidence::Service { service: its, family: own, .. } => {
                        its == service && *own == family
                    }
                    _ => false,
                });
                let mut expected: BTreeMap<usize, BTreeSet<IpAddr>> = BTreeMap::new();
                let mut size = 0.0;
                for (destination, all, _) in ranges(&world, family) {
                    let found = exposing(&world, &rules, default, service, family, destination);
                    size += if found.is_empty() { 0.0 } else { all };
                    together += usize::from(found.len() > 1);
                    for (rule, sources) in sources_of(&world, &rules, service, family, destination)
                    {
                        if found.contains(&rule) {
                            expected.entry(rule).or_default().extend(sources);
                        }
                    }
                }
                let sources_of = expected;
                let expected: BTreeSet<usize> = sources_of.keys().copied().collect();
                let because: BTreeSet<usize> =
                    found.iter().flat_map(|it| &it.because).map(|cover| cover.rule).collect();
                assert_eq!(because, expected, "{service:?} {family:?} {rules:#?} {found:?}");
                let Some(finding) = found else { continue };
                assert_eq!(finding.severity, Severity::Error);
                assert_eq!(Some(&finding.rule), expected.first());
                alone += usize::from(expected.len() == 1);
                by_default += usize::from(expected.contains(&rules.len()));
                let Evidence::Service { destinations, .. } = finding.evidence else {
                    unreachable!()
                };
                assert!((destinations / size - 1.0).abs() < 1e-9, "{destinations} {size}");
                let witness = finding.witness.unwrap();
                let first = rules.iter().position(|rule| naive::matches(rule, &witness));
                assert_eq!(first.unwrap_or(rules.len()), finding.rule, "{finding:?}");
                let of_source: BTreeMap<IpAddr, f64> =
                    ranges(&world, family).into_iter().map(|it| (it.0, it.2)).collect();
                for cover in &finding.because {
                    let its = sources_of[&cover.rule].iter().map(|source| of_source[source]);
                    let share = its.sum::<f64>() / public(family, 0, u128::MAX);
                    assert!((cover.share - share).abs() < 1e-9, "{share} {finding:?}");
                }
            }
        }
    }
    println!("{alone} by one rule, {together} by several, {by_default} by the default action");
    if cases >= ENOUGH_CASES {
        assert!(alone > 20 && together > 5 && by_default > 20, "{alone} {together} {by_default}");
    }
}

/// What is exposed to whom: the rule of the finding, the service, and the rules that let people in.
fn found(rules: &[(Action, &str, &str)], default: Action) -> Vec<(usize, String, Vec<usize>)> {
    found_from(rules, default, 0.5)
}

/// The same, if a share of the public addresses counts as anybody.
fn found_from(
    rules: &[(Action, &str, &str)],
    default: Action,
    share: f64,
) -> Vec<(usize, String, Vec<usize>)> {
    let specs: Vec<RuleSpec> = rules
        .iter()
        .map(|(action, source, destination)| {
            let entry =
                |text: &str| Endpoint { address: AddressRange::parse(text).unwrap(), port: None };
            RuleSpec::new(RuleParts {
                action: *action,
                protocols: [Protocol::TCP].into_iter().collect(),
                sources: source.split(' ').map(entry).collect(),
                destinations: vec![entry(destination)],
                ports: vec![PortRange::single(22)],
                ..everything()
            })
            .unwrap()
        })
        .collect();
    let listed = analysed(&specs);
    let policy = AnalysedPolicy { rules: &listed, default_action: default };
    let mut options = AnalysisOptions::at(noon());
    options.services.retain(|service| service.name == "ssh");
    options.kinds = FindingKinds::NONE.with(FindingKind::Exposed);
    options.thresholds.exposed_sources = share;
    let analysis = analyse(&policy, &options, &AnalysisLimits::usual(&|| true));
    assert_eq!(analysis.incomplete, []);
    let of_finding = |it: &Finding| {
        let Evidence::Service { family, .. } = &it.evidence else { unreachable!() };
        let because = it.because.iter().map(|cover| cover.rule).collect();
        (it.rule, family.as_str().to_owned(), because)
    };
    analysis.findings.iter().map(of_finding).collect()
}

#[test]
fn one_missing_address_matters_if_all_must_be_able_to_reach_a_service() {
    for (everybody, host, missing, is_exposed) in [
        ("0.0.0.0/0", "198.51.100.1", "8.8.8.8", false),
        ("0.0.0.0/0", "198.51.100.1", "10.8.8.8", true),
        ("::/0", "2001:db8::1", "2001:4860:4860::8888", false),
        ("::/0", "2001:db8::1", "2001:db8::8888", true),
    ] {
        let rules = [(Action::Deny, missing, host), (Action::Allow, everybody, host)];
        let found = found_from(&rules, Action::Deny, 1.0);
        assert_eq!(found.is_empty(), !is_exposed, "{missing}");
    }
}

#[test]
fn rules_with_parts_of_the_internet_count_together() {
    let (allow, deny) = (Action::Allow, Action::Deny);
    let host = "198.51.100.1";
    let third = |source| (allow, source, host);
    let rules =
        [third("11.0.0.0-80.0.0.0"), third("80.0.0.1-150.0.0.0"), third("150.0.0.1-223.0.0.0")];
    assert_eq!(found(&rules[..1], deny), []);
    assert_eq!(found(&rules, deny).len(), 1);
    // Two of the three are enough.
    assert_eq!(found(&rules, deny)[0].2.len(), 2);
    // Another destination is another matter.
    let apart =
        [rules[0], (allow, rules[1].1, "198.51.100.2"), (allow, rules[2].1, "198.51.100.3")];
    assert_eq!(found(&apart, deny), []);
    // A rule that lets in nearly everybody is found alone, whatever small rules there are besides it.
    let wide = [third("8.8.8.8"), third("0.0.0.0/0"), rules[0]];
    assert_eq!(found(&wide, deny), [(1, "ipv4".to_owned(), vec![1])]);
}

#[test]
fn partners_are_nobody_and_an_allow_rule_after_a_fence_is_for_partners_too() {
    let (allow, deny) = (Action::Allow, Action::Deny);
    let blocks: Vec<String> = (20..140).map(|it| format!("{it}.0.0.0/8")).collect();
    let partners: Vec<(Action, &str, &str)> =
        blocks.iter().map(|it| (allow, it.as_str(), "198.51.100.1")).collect();
    // Fifty blocks of this size are less than half of the internet.
    assert_eq!(found(&partners[..50], deny), []);
    assert_eq!(found(&partners, deny).len(), 1);
    let fenced = [
        (deny, "0.0.0.0-8.8.8.7 8.8.8.9-255.255.255.255 ::/0", "any"),
        (allow, "any", "198.51.100.1"),
    ];
    assert_eq!(found(&fenced, deny), []);
}

#[test]
fn the_default_action_lets_anybody_in() {
    let (allow, deny) = (Action::Allow, Action::Deny);
    let both =
        |rule| [(rule, "ipv4".to_owned(), vec![rule]), (rule, "ipv6".to_owned(), vec![rule])];
    // The default comes after all rules.
    assert_eq!(found(&[], allow), both(0));
    assert_eq!(found(&[(deny, "any", "198.51.100.1")], allow), both(1));
    assert_eq!(found(&[(deny, "any", "any")], allow), []);
    assert_eq!(found(&[], deny), []);
    // A rule and the default together.
    let half = [(allow, "0.0.0.0-110.0.0.0", "198.51.100.1"), (deny, "::/0", "any")];
    let [one] = &found(&half, allow)[..] else { unreachable!() };
    assert_eq!(one, &(2, "ipv4".to_owned(), vec![2]));
}
