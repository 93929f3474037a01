//! Tests that findings depend on what rules mean, and keep their ids when the same rules are given
//! otherwise.

use fireflow_domain::analysis::{
    AnalysedPolicy, Analysis, AnalysisLimits, AnalysisOptions, Finding, FindingKind, FindingKinds,
    analyse,
};
use fireflow_domain::engine::naive;
use fireflow_domain::net::{AddressRange, PortRange, Protocol};
use fireflow_domain::rule::{Action, Endpoint, RuleParts, RuleSpec};
use fireflow_domain::testing::random::{Random, cases, seed};

use super::ENOUGH_CASES;
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

/// A rule that matches the same packets at all times.
fn timeless(rule: &RuleSpec) -> RuleSpec {
    let parts = rule.clone().into_parts();
    let parts = RuleParts { starts_at: None, expires_at: None, enabled: true, ..parts };
    RuleSpec::new(parts).unwrap()
}

/// Which packets of a world each rule matches if it is active.
fn matches(world: &World, rules: &[RuleSpec]) -> Vec<Vec<bool>> {
    let packets = world.packets_at(noon());
    let of_rule = |rule: &RuleSpec| {
        let rule = timeless(rule);
        packets.iter().map(|packet| naive::matches(&rule, packet)).collect()
    };
    rules.iter().map(of_rule).collect()
}

fn analysis_of(rules: &[RuleSpec], default_action: Action) -> Analysis {
    let listed = analysed(rules);
    let policy = AnalysedPolicy { rules: &listed, default_action };
    let options = AnalysisOptions { kinds: FindingKinds::all(), ..AnalysisOptions::at(noon()) };
    let analysis = analyse(&policy, &options, &AnalysisLimits::usual(&|| true));
    assert_eq!(analysis.incomplete, []);
    analysis
}

#[test]
fn rules_that_do_not_overlap_may_change_places_and_no_finding_gets_another_id() {
    let mut random = Random::new(seed());
    let mut swaps = 0;
    let cases = cases(200);
    for _ in 0..cases {
        let world = World::draw(&mut random);
        let rules = world.rules(&mut random, 20);
        let mut matched = matches(&world, &rules);
        let mut moved = rules.clone();
        for _ in 0..40.min(20 * rules.len().saturating_sub(1)) {
            let at = random.below(u32::try_from(rules.len() - 1).unwrap()) as usize;
            let overlap = matched[at].iter().zip(&matched[at + 1]).any(|(a, b)| *a && *b);
            // Equal rules that match nothing are numbered in their order.
            let is_empty = |rule: &Vec<bool>| rule.iter().all(|it| !it);
            if !overlap && !is_empty(&matched[at]) && !is_empty(&matched[at + 1]) {
                moved.swap(at, at + 1);
                matched.swap(at, at + 1);
                swaps += 1;
            }
        }
        let default = world.action(&mut random);
        let ids = |rules: &[RuleSpec]| {
            let analysis = analysis_of(rules, default);
            // Whether rules can be merged depends on which are neighbors.
            let findings =
                analysis.findings.into_iter().filter(|it| it.kind != FindingKind::Mergeable);
            let mut ids: Vec<String> = findings
                .map(|it| format!("{} {:?} {:?} {:?}", it.id, it.kind, it.severity, it.until))
                .collect();
            ids.sort();
            ids
        };
        assert_eq!(ids(&rules), ids(&moved), "{rules:#?} {moved:#?}");
    }
    assert!(cases < ENOUGH_CASES || swaps > 100, "{swaps}");
}

/// A rule as two rules that together match the same packets.
fn divided(rule: &RuleSpec, random: &mut Random) -> Option<[RuleSpec; 2]> {
    let parts = reworded(rule, random).into_parts();
    let count = u32::try_from(parts.sources.len()).unwrap();
    let at = (count > 1).then(|| 1 + random.below(count - 1) as usize)?;
    let (first, second) = parts.sources.split_at(at);
    let half = |sources: &[Endpoint]| {
        RuleSpec::new(RuleParts { sources: sources.to_vec(), ..parts.clone() }).ok()
    };
    Some([half(first)?, half(second)?])
}

#[test]
fn a_rule_that_is_divided_in_two_changes_no_finding_about_another_rule() {
    const REACH: [FindingKind; 6] = [
        FindingKind::Contradiction,
        FindingKind::Duplicate,
        FindingKind::Unreachable,
        FindingKind::Redundant,
        FindingKind::RestatesDefault,
        FindingKind::NeverMatches,
    ];
    let mut random = Random::new(seed());
    let mut compared = 0;
    let cases = cases(200);
    for _ in 0..cases {
        let world = World::draw(&mut random);
        let rules = world.rules(&mut random, 20);
        if rules.is_empty() {
            continue;
        }
        let at = random.below(u32::try_from(rules.len()).unwrap()) as usize;
        let Some(halves) = divided(&rules[at], &mut random) else { continue };
        let mut others = rules.clone();
        others.splice(at..=at, halves);
        let (matched, of_halves) = (matches(&world, &rules), matches(&world, &others[at..at + 2]));
        let default = world.action(&mut random);
        let (before, after) = (analysis_of(&rules, default), analysis_of(&others, default));
        let of = |analysis: &Analysis, rule: usize| {
            let mut found = analysis.findings.iter().filter(|it| it.rule == rule);
            found.find(|it| REACH.contains(&it.kind)).cloned()
        };
        for rule in (0..rules.len()).filter(|rule| *rule != at) {
            // A rule that matches the same packets is a duplicate of one rule, not of two.
            if matched[rule] == matched[at] || of_halves.contains(&matched[rule]) {
                continue;
            }
            let place = if rule < at { rule } else { rule + 1 };
            let (before, after) = (of(&before, rule), of(&after, place));
            // What a conflict is a small share of, each half is a smaller share of.
            let known = |it: &Finding| (it.id, it.kind, it.effect);
            assert_eq!(
                before.as_ref().map(known),
                after.as_ref().map(known),
                "{before:?} {after:?} {rules:#?} {others:#?}"
            );
            compared += usize::from(before.is_some());
        }
        // Both halves have the fault of the rule.
        let halves = [of(&after, at), of(&after, at + 1)];
        let is_hidden = |it: &Finding| REACH[..3].contains(&it.kind);
        if of(&before, at).is_some_and(|it| is_hidden(&it)) {
            let is_lost = |it: &Option<Finding>| {
                it.as_ref().is_some_and(|it| is_hidden(it) || it.kind == FindingKind::NeverMatches)
            };
            assert!(halves.iter().all(is_lost), "{halves:?}");
        }
    }
    assert!(cases < ENOUGH_CASES || compared > 100, "{compared}");
}
