//! Tests that findings depend on what rules mean, and keep their ids when the same rules are given
//! otherwise.

use fireflow_domain::analysis::{
    AnalysedPolicy, AnalysisLimits, AnalysisOptions, Finding, FindingKind, FindingKinds, analyse,
};
use fireflow_domain::net::{AddressRange, PortRange, Protocol};
use fireflow_domain::rule::{Endpoint, RuleSpec};
use fireflow_domain::testing::random::{Random, cases, seed};

use super::small_world::{World, analysed, noon};

/// The same rules in other words: entries in another order, repeated, and divided.
fn reworded(rule: &RuleSpec, random: &mut Random) -> RuleSpec {
    let mut parts = rule.clone().into_parts();
    for entries in [&mut parts.sources, &mut parts.destinations] {
        let mut divided = Vec::new();
        for entry in entries.iter() {
            let halves = match entry.address {
                AddressRange::Any => vec!["0.0.0.0/0", "::/1", "8000::/1"]
                    .into_iter()
                    .map(|text| AddressRange::parse(text).unwrap())
                    .collect(),
                AddressRange::V4 { first, last } if first < last => vec![
                    AddressRange::V4 { first, last: first },
                    AddressRange::V4 { first: first + 1, last },
                ],
                AddressRange::V6 { first, last } if first < last => vec![
                    AddressRange::V6 { first, last: last - 1 },
                    AddressRange::V6 { first: last, last },
                ],
                one => vec![one],
            };
            divided.extend(halves.into_iter().map(|address| Endpoint { address, ..*entry }));
        }
        for at in (1..divided.len()).rev() {
            divided.swap(at, random.below(u32::try_from(at).unwrap() + 1) as usize);
        }
        divided.extend(divided.first().copied());
        *entries = divided;
    }
    let ports = parts.ports.iter().flat_map(|range| {
        let (first, last) = (range.first(), range.last());
        let middle = first + (last - first) / 2;
        let rest = (middle < last).then(|| PortRange::new(middle + 1, last).unwrap());
        std::iter::once(PortRange::new(first, middle).unwrap()).chain(rest)
    });
    parts.ports = ports.collect();
    parts.ports.reverse();
    let mut protocols: Vec<Protocol> = parts.protocols.to_vec();
    protocols.reverse();
    parts.protocols = protocols.into_iter().collect();
    RuleSpec::new(parts).unwrap()
}

#[test]
fn findings_depend_on_what_rules_mean_and_not_on_how_they_are_written() {
    let mut random = Random::new(seed());
    for _ in 0..cases(200) {
        let world = World::draw(&mut random);
        let rules = world.rules(&mut random, 20);
        let others: Vec<RuleSpec> = rules.iter().map(|it| reworded(it, &mut random)).collect();
        let default_action = world.action(&mut random);
        let found = |rules: &[RuleSpec]| {
            let listed = analysed(rules);
            let policy = AnalysedPolicy { rules: &listed, default_action };
            let options =
                AnalysisOptions { kinds: FindingKinds::all(), ..AnalysisOptions::at(noon()) };
            let analysis = analyse(&policy, &options, &AnalysisLimits::usual(&|| true));
            assert_eq!(analysis.incomplete, []);
            let of_meaning = |it: &&Finding| {
                !matches!(it.kind, FindingKind::Ineffective | FindingKind::Mergeable)
            };
            let mut findings: Vec<String> = analysis
                .findings
                .iter()
                .filter(of_meaning)
                .map(|it| {
                    let because: Vec<usize> = it.because.iter().map(|it| it.rule).collect();
                    let conflict = it.conflicts_with.map(|it| it.rule);
                    // How packets are divided into sets may depend on where the ends of ranges are.
                    let packets = it.packets.is_empty();
                    format!(
                        "{} {:?} {:?} {because:?} {conflict:?} {:?} {:?} {:?}",
                        it.rule, it.kind, it.severity, it.until, it.together, packets,
                    )
                })
                .collect();
            findings.sort();
            findings
        };
        let (found, other) = (found(&rules), found(&others));
        for (a, b) in found.iter().zip(&other) {
            assert_eq!(a, b);
        }
        assert_eq!(found.len(), other.len());
    }
}
