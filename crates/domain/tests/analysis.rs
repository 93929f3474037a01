//! Tests that analyses find what enumerating every packet of a small world finds.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test reports a failure by panicking"
)]

#[path = "support/small_world.rs"]
mod small_world;

use fireflow_domain::analysis::{
    AnalysedPolicy, Analysis, AnalysisLimits, AnalysisOptions, Effect, Evidence, Finding,
    FindingKind, FindingKinds, Fix, Severity, analyse,
};
use fireflow_domain::engine::naive;
use fireflow_domain::net::{AddressRange, PortRange, Protocol};
use fireflow_domain::rule::{Action, Endpoint, RuleSpec, RuleState};
use fireflow_domain::testing::random::{Random, cases, seed};
use fireflow_domain::time::Instant;

use self::small_world::{World, analysed, hour, noon};

/// The first rule that matches each packet.
struct Verdicts<'a> {
    at: Instant,
    rules: &'a [RuleSpec],
    policy: AnalysedPolicy<'a>,
    /// For each packet, whether each rule matches it.
    matches: Vec<Vec<bool>>,
}

impl<'a> Verdicts<'a> {
    fn new(world: &World, rules: &'a [RuleSpec], policy: AnalysedPolicy<'a>, at: Instant) -> Self {
        let matches = world
            .packets_at(at)
            .iter()
            .map(|packet| rules.iter().map(|rule| naive::matches(rule, packet)).collect())
            .collect();
        Self { at, rules, policy, matches }
    }

    fn first(&self, packet: usize, without: impl Fn(usize) -> bool) -> Option<usize> {
        (0..self.rules.len()).find(|rule| self.matches[packet][*rule] && !without(*rule))
    }

    fn action(&self, rule: Option<usize>) -> Action {
        rule.map_or(self.policy.default_action, |rule| self.rules[rule].action)
    }

    fn packets(&self) -> std::ops::Range<usize> {
        0..self.matches.len()
    }

    fn of(&self, rule: usize) -> impl Iterator<Item = usize> + '_ {
        self.packets().filter(move |packet| self.matches[*packet][rule])
    }

    fn decided_by(&self, rule: usize) -> impl Iterator<Item = usize> + '_ {
        self.of(rule).filter(move |packet| self.first(*packet, |_| false) == Some(rule))
    }

    /// The sharpest finding about the reach of a rule.
    fn reach(&self, rule: usize) -> Option<FindingKind> {
        let spec = &self.rules[rule];
        let is_active = |rule: &RuleSpec| rule.state(self.at) == RuleState::Active;
        if !is_active(spec) || self.of(rule).next().is_none() {
            return None;
        }
        if self.decided_by(rule).next().is_none() {
            // Only the first of several rules with the same packets can decide any.
            let equal: Option<usize> = (0..rule).find(|it| {
                self.packets().all(|packet| self.matches[packet][*it] == self.matches[packet][rule])
            });
            return Some(match equal {
                Some(equal) if self.rules[equal].action == spec.action => FindingKind::Duplicate,
                Some(equal) if self.decided_by(equal).next().is_some() => {
                    FindingKind::Contradiction
                }
                Some(_) | None => FindingKind::Unreachable,
            });
        }
        let without = |packet| self.first(packet, |it| it == rule);
        let changes = |packet: usize| self.action(without(packet)) != spec.action;
        if self.decided_by(rule).any(changes) {
            return None;
        }
        let meets_default = self.decided_by(rule).any(|packet| without(packet).is_none());
        Some(if meets_default { FindingKind::RestatesDefault } else { FindingKind::Redundant })
    }

    fn is_cover(&self, rule: usize, cover: &[usize]) -> bool {
        self.of(rule).all(|packet| cover.iter().any(|it| self.matches[packet][*it]))
    }

    fn check_hidden(&self, finding: &Finding) {
        let rule = finding.rule;
        let cover: Vec<usize> = finding.because.iter().map(|it| it.rule).collect();
        assert!(cover.iter().all(|it| *it < rule), "{finding:?}");
        assert!(self.is_cover(rule, &cover), "{finding:?}");
        assert!(finding.is_minimal, "{finding:?}");
        for left_out in &cover {
            let rest: Vec<usize> = cover.iter().copied().filter(|it| it != left_out).collect();
            assert!(!self.is_cover(rule, &rest), "{finding:?}");
        }
        // Rules of another action that decide some packet of it.
        let own = self.rules[rule].action;
        let others = (0..rule).filter(|it| {
            self.rules[*it].action != own
                && self.decided_by(*it).any(|packet| self.matches[packet][rule])
        });
        let others: Vec<usize> = others.collect();
        let effects: Vec<Option<Effect>> =
            others.iter().map(|it| Effect::of(own, self.rules[*it].action)).collect();
        if finding.kind == FindingKind::Unreachable {
            let conflict = finding.conflicts_with;
            assert_eq!(conflict.is_some(), !others.is_empty(), "{finding:?}");
            assert_eq!(finding.effect, effects.iter().copied().find(Option::is_some).flatten());
            if let Some(conflict) = conflict {
                assert!(others.contains(&conflict.rule), "{finding:?}");
                let witness = finding.witness.as_ref().unwrap();
                assert!(naive::matches(&self.rules[rule], witness));
                let first = self.rules.iter().position(|it| naive::matches(it, witness));
                assert_eq!(first, Some(conflict.rule));
            }
        }
        if finding.severity == Severity::Error {
            assert!(
                finding.effect == Some(Effect::Opens) || finding.kind != FindingKind::Unreachable
            );
        }
    }

    fn check_redundant(&self, finding: &Finding) {
        let rule = finding.rule;
        assert_eq!(finding.logs, self.rules[rule].log);
        let later: Vec<usize> = finding.because.iter().map(|it| it.rule).collect();
        assert!(later.iter().all(|it| *it > rule), "{finding:?}");
        if finding.kind == FindingKind::Redundant {
            let mut decided = self.decided_by(rule);
            assert!(decided.all(|packet| later.iter().any(|it| self.matches[packet][*it])));
            assert!(finding.is_minimal, "{finding:?}");
            for left_out in &later {
                let mut rest = later.iter().filter(|it| *it != left_out);
                let mut decided = self.decided_by(rule);
                assert!(
                    !decided.all(|packet| rest.clone().any(|it| self.matches[packet][*it])),
                    "{finding:?} {:?}",
                    rest.next()
                );
            }
        }
    }

    /// Deleting all hidden rules for which this is suggested, and all redundant ones that name no
    /// others, changes no verdict.
    /// The others name only rules that are gone then.
    fn check_together(&self, analysis: &Analysis) {
        let hidden = |finding: &&Finding| {
            matches!(finding.kind, FindingKind::Duplicate | FindingKind::Unreachable)
                && matches!(finding.fix, Some(Fix::Delete(_)))
        };
        let redundant =
            |finding: &&Finding| finding.kind == FindingKind::Redundant && !finding.logs;
        let findings = analysis.findings.iter();
        let gone: Vec<usize> = findings
            .clone()
            .filter(|it| hidden(it) || redundant(it) && it.together.is_empty())
            .map(|it| it.rule)
            .collect();
        let is_same = |gone: &[usize]| {
            self.packets().all(|packet| {
                let before = self.action(self.first(packet, |_| false));
                before == self.action(self.first(packet, |it| gone.contains(&it)))
            })
        };
        assert!(is_same(&gone), "{gone:?}");
        for finding in findings.filter(|it| redundant(it) && !it.together.is_empty()) {
            assert!(finding.together.iter().all(|it| gone.contains(it)), "{finding:?}");
        }
    }
}

/// The severity of a finding about reach if it stays as it is.
fn lasting_severity(finding: &Finding) -> Severity {
    let share = finding.conflicts_with.map_or(0.0, |conflict| conflict.share);
    match (finding.kind, finding.effect) {
        (FindingKind::Contradiction, Some(_)) => Severity::Error,
        (FindingKind::Unreachable, Some(Effect::Opens)) if share >= 0.01 => Severity::Error,
        (FindingKind::Contradiction, None) | (FindingKind::RestatesDefault, _) => Severity::Info,
        (FindingKind::Redundant, _) if finding.logs => Severity::Info,
        _ => Severity::Warning,
    }
}

/// The kind and the lasting severity of the finding about the reach of a rule.
fn fault(analysis: &Analysis, rule: usize) -> Option<(FindingKind, Severity)> {
    let mut findings = analysis.findings.iter();
    let finding = findings.find(|it| it.rule == rule && REACH.contains(&it.kind))?;
    Some((finding.kind, lasting_severity(finding)))
}

/// A finding names the first start or expiry of another rule that changes its kind or severity, or
/// ends it.
fn check_until(rules: &[RuleSpec], policy: AnalysedPolicy<'_>, analysis: &Analysis) {
    if rules.iter().all(|rule| rule.starts_at.is_none() && rule.expires_at.is_none()) {
        assert!(analysis.findings.iter().all(|it| it.until.is_none()));
        return;
    }
    let later: Vec<(Instant, Analysis)> = (1..5)
        .map(hour)
        .map(|at| (at, analysed_at(policy, at, AnalysisOptions::at(at).kinds)))
        .collect();
    for finding in analysis.findings.iter().filter(|it| REACH.contains(&it.kind)) {
        let rule = finding.rule;
        let now = Some((finding.kind, lasting_severity(finding)));
        let lives = |at: Instant| rules[rule].state(at) == RuleState::Active;
        let change = later
            .iter()
            .take_while(|(at, _)| lives(*at))
            .map(|(at, analysis)| (*at, fault(analysis, rule)))
            .find(|(_, then)| *then != now);
        assert_eq!(finding.until, change.map(|it| it.0), "{finding:?} {change:?} {rules:#?}");
        let resolves = change.is_some_and(|(_, then)| match finding.kind {
            FindingKind::Redundant | FindingKind::RestatesDefault => then.is_none(),
            _ => then.is_none_or(|(kind, _)| !HIDDEN.contains(&kind)),
        });
        let severity = if resolves { Severity::Info } else { lasting_severity(finding) };
        assert_eq!(finding.severity, severity, "{finding:?} {change:?} {rules:#?}");
    }
}

fn analysed_at(policy: AnalysedPolicy<'_>, at: Instant, kinds: FindingKinds) -> Analysis {
    let options = AnalysisOptions { kinds, ..AnalysisOptions::at(at) };
    let analysis = analyse(&policy, &options, &AnalysisLimits::usual(&|| true));
    assert_eq!(analysis.incomplete, []);
    analysis
}

const HIDDEN: [FindingKind; 3] =
    [FindingKind::Contradiction, FindingKind::Duplicate, FindingKind::Unreachable];

const REACH: [FindingKind; 5] = [
    FindingKind::Contradiction,
    FindingKind::Duplicate,
    FindingKind::Unreachable,
    FindingKind::Redundant,
    FindingKind::RestatesDefault,
];

#[test]
fn findings_about_reach_are_those_that_all_packets_of_a_small_world_show() {
    let mut random = Random::new(seed());
    let mut found = [0_usize; REACH.len()];
    for _ in 0..cases(400) {
        let world = World::draw(&mut random);
        let rules = world.rules(&mut random, 24);
        let listed = analysed(&rules);
        let policy = AnalysedPolicy { rules: &listed, default_action: world.action(&mut random) };
        let limits = AnalysisLimits::usual(&|| true);
        let analysis = analyse(&policy, &AnalysisOptions::at(noon()), &limits);
        assert_eq!(analysis.incomplete, []);
        let verdicts = Verdicts::new(&world, &rules, policy, noon());
        for rule in 0..rules.len() {
            let of_rule = analysis.findings.iter().filter(|it| it.rule == rule);
            let of_reach: Vec<&Finding> = of_rule.filter(|it| REACH.contains(&it.kind)).collect();
            let kinds: Vec<FindingKind> = of_reach.iter().map(|it| it.kind).collect();
            let expected: Vec<FindingKind> = verdicts.reach(rule).into_iter().collect();
            assert_eq!(kinds, expected, "rule {rule} of {rules:#?}");
            for finding in of_reach {
                found[REACH.iter().position(|it| *it == finding.kind).unwrap()] += 1;
                match finding.kind {
                    FindingKind::Redundant | FindingKind::RestatesDefault => {
                        verdicts.check_redundant(finding);
                    }
                    _ => verdicts.check_hidden(finding),
                }
            }
        }
        verdicts.check_together(&analysis);
        check_until(&rules, policy, &analysis);
    }
    println!("{REACH:?} {found:?}");
    assert!(found.iter().all(|count| *count > 10), "{found:?}");
}

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

#[test]
fn pairs_and_neighbors_are_those_that_all_packets_of_a_small_world_show() {
    let mut random = Random::new(seed());
    let mut found = [0_usize; 3];
    for _ in 0..cases(300) {
        let world = World::draw(&mut random);
        let rules = world.rules(&mut random, 16);
        let listed = analysed(&rules);
        let policy = AnalysedPolicy { rules: &listed, default_action: Action::Deny };
        let kinds = [FindingKind::Correlated, FindingKind::Generalises, FindingKind::Mergeable];
        let options =
            AnalysisOptions { kinds: kinds.into_iter().collect(), ..AnalysisOptions::at(noon()) };
        let analysis = analyse(&policy, &options, &AnalysisLimits::usual(&|| true));
        assert_eq!(analysis.incomplete, []);
        let verdicts = Verdicts::new(&world, &rules, policy, noon());
        for rule in 0..rules.len() {
            let contains =
                |a: usize, b: usize| verdicts.of(b).all(|packet| verdicts.matches[packet][a]);
            let overlapping = (0..rule).filter(|other| {
                rules[*other].action != rules[rule].action
                    && verdicts.of(rule).any(|packet| verdicts.matches[packet][*other])
                    && !contains(*other, rule)
            });
            let (inside, across): (Vec<usize>, Vec<usize>) =
                overlapping.partition(|other| contains(rule, *other));
            for (number, expected) in [across, inside].into_iter().enumerate() {
                let finding =
                    analysis.findings.iter().find(|it| it.rule == rule && it.kind == kinds[number]);
                assert_eq!(finding.is_some(), !expected.is_empty());
                let Some(finding) = finding else { continue };
                found[number] += 1;
                assert_eq!(finding.evidence, Evidence::Pairs(expected.len() as u64));
                assert_eq!(finding.because[0].rule, expected[0]);
                let witness = finding.witness.unwrap();
                assert!(naive::matches(&rules[rule], &witness));
                assert!(naive::matches(&rules[expected[0]], &witness));
            }
        }
        for finding in analysis.findings.iter().filter(|it| it.kind == FindingKind::Mergeable) {
            found[2] += 1;
            let Some(Fix::Replace { rules: replaced, with }) = &finding.fix else { panic!() };
            let merged = RuleSpec::new((**with).clone()).unwrap();
            assert_eq!(replaced[1], finding.rule);
            for packet in world.packets_at(noon()) {
                let either = replaced.iter().any(|it| naive::matches(&rules[*it], &packet));
                assert_eq!(naive::matches(&merged, &packet), either, "{finding:?} {packet:?}");
            }
        }
    }
    println!("{found:?}");
    assert!(found.iter().all(|count| *count > 5), "{found:?}");
}
