//! Tests that analyses find what enumerating every packet of a small world finds.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test reports a failure by panicking"
)]

#[path = "support/small_world.rs"]
mod small_world;

use std::time::Duration;

use fireflow_domain::analysis::{
    AnalysedPolicy, Analysis, AnalysisLimits, AnalysisOptions, ComparisonOptions, Effect, Finding,
    FindingKind, Obstacle, Severity, Task, analyse, compare,
};
use fireflow_domain::engine::naive;
use fireflow_domain::rule::{Action, RuleParts, RuleSpec, RuleState};
use fireflow_domain::testing::analysis_families as families;
use fireflow_domain::testing::random::{Random, cases, seed};

use self::small_world::{World, analysed, noon};

/// The first rule that matches each packet.
struct Verdicts<'a> {
    world: &'a World,
    rules: &'a [RuleSpec],
    policy: AnalysedPolicy<'a>,
    /// For each packet, whether each rule matches it.
    matches: Vec<Vec<bool>>,
}

impl<'a> Verdicts<'a> {
    fn new(world: &'a World, rules: &'a [RuleSpec], policy: AnalysedPolicy<'a>) -> Self {
        let matches = world
            .packets
            .iter()
            .map(|packet| rules.iter().map(|rule| naive::matches(rule, packet)).collect())
            .collect();
        Self { world, rules, policy, matches }
    }

    fn first(&self, packet: usize, without: impl Fn(usize) -> bool) -> Option<usize> {
        (0..self.rules.len()).find(|rule| self.matches[packet][*rule] && !without(*rule))
    }

    fn action(&self, rule: Option<usize>) -> Action {
        rule.map_or(self.policy.default_action, |rule| self.rules[rule].action)
    }

    fn packets(&self) -> std::ops::Range<usize> {
        0..self.world.packets.len()
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
        let is_active = |rule: &RuleSpec| rule.state(noon()) == RuleState::Active;
        if !is_active(spec) || self.of(rule).next().is_none() {
            return None;
        }
        if self.decided_by(rule).next().is_none() {
            let equal: Vec<usize> = (0..rule)
                .filter(|it| {
                    self.packets()
                        .all(|packet| self.matches[packet][*it] == self.matches[packet][rule])
                })
                .collect();
            return Some(if equal.iter().any(|it| self.rules[*it].action != spec.action) {
                FindingKind::Contradiction
            } else if equal.is_empty() {
                FindingKind::Unreachable
            } else {
                FindingKind::Duplicate
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
            assert_eq!(finding.until, None);
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
        }
    }

    /// Removing all hidden rules, and all redundant ones that name no others, changes no verdict.
    /// The others name only rules that are gone then.
    fn check_together(&self, analysis: &Analysis) {
        let hidden = |finding: &&Finding| {
            matches!(
                finding.kind,
                FindingKind::Contradiction | FindingKind::Duplicate | FindingKind::Unreachable
            )
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
        let verdicts = Verdicts::new(&world, &rules, policy);
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
    }
    println!("{REACH:?} {found:?}");
    assert!(found.iter().all(|count| *count > 10), "{found:?}");
}

/// Analyzes rules for at most so long, and returns how long it took.
fn analysed_within(rules: &[RuleSpec], deadline: Duration) -> (Analysis, Duration) {
    let listed = analysed(rules);
    let policy = AnalysedPolicy { rules: &listed, default_action: Action::Deny };
    let start = std::time::Instant::now();
    let should_continue = || start.elapsed() < deadline;
    let limits = AnalysisLimits::usual(&should_continue);
    let analysis = analyse(&policy, &AnalysisOptions::at(noon()), &limits);
    (analysis, start.elapsed())
}

#[test]
fn sets_without_order_are_given_up_at_the_deadline_and_named() {
    let rules = families::scatter(2_000, 1_000, 200, 1);
    let (analysis, time) = analysed_within(&rules, Duration::from_secs(2));
    // A generous bound, for slow machines: all rules together would take minutes.
    assert!(time < Duration::from_secs(60), "{time:?}");
    let of_reach = analysis.incomplete.iter().find(|it| it.what == Task::Reach).unwrap();
    assert!(!of_reach.rules.is_empty());
    // What is undecided is not reported, and what is reported is right.
    for finding in analysis.findings.iter().filter(|it| REACH.contains(&it.kind)) {
        assert!(!of_reach.rules.contains(&finding.rule), "{finding:?}");
    }
}

#[test]
fn an_analysis_that_may_not_go_on_decides_nothing_and_says_so() {
    let rules = families::scatter(20, 10, 5, 1);
    let (analysis, _) = analysed_within(&rules, Duration::ZERO);
    assert!(!analysis.is_complete());
    assert!(analysis.findings.iter().all(|it| !REACH.contains(&it.kind)));
}

#[test]
fn memory_beyond_the_budget_is_not_taken() {
    let rules = families::random_boxes(500, 5.0, 1);
    let listed = analysed(&rules);
    let policy = AnalysedPolicy { rules: &listed, default_action: Action::Deny };
    let limits = AnalysisLimits { bytes: 10_000, ..AnalysisLimits::usual(&|| true) };
    let analysis = analyse(&policy, &AnalysisOptions::at(noon()), &limits);
    assert!(analysis.incomplete.iter().any(|it| it.why == Obstacle::Memory));
    let options = ComparisonOptions::at(noon());
    let comparison = compare(&policy, &AnalysedPolicy { rules: &[], ..policy }, &options, &limits);
    assert!(comparison.incomplete.iter().any(|it| it.why == Obstacle::Memory));
    assert!(!comparison.is_proven_equal());
}

#[test]
fn rules_of_a_million_products_are_decided() {
    let largest = families::largest_rule().unwrap();
    let (analysis, _) = analysed_within(&[largest.clone(), largest], Duration::from_secs(600));
    let kinds: Vec<FindingKind> =
        analysis.findings.iter().filter(|it| REACH.contains(&it.kind)).map(|it| it.kind).collect();
    assert_eq!((kinds, analysis.incomplete), (vec![FindingKind::Duplicate], vec![]));
    // All of a rule is in two others, none of which contains it.
    let rules = families::giants(3, 300, 7);
    let half = |from: usize, to: usize| {
        let parts = rules[0].clone().into_parts();
        let sources = parts.sources[from..to].to_vec();
        RuleSpec::new(RuleParts { sources, ..parts }).unwrap()
    };
    let rules = [half(0, 170), half(160, 300), rules[1].clone(), rules[0].clone()];
    let (analysis, _) = analysed_within(&rules, Duration::from_secs(600));
    assert_eq!(analysis.incomplete, []);
    let last: Vec<&Finding> = analysis
        .findings
        .iter()
        .filter(|it| it.rule == 3 && it.kind == FindingKind::Unreachable)
        .collect();
    let covers: Vec<usize> = last[0].because.iter().map(|it| it.rule).collect();
    assert!(covers.contains(&0) && covers.contains(&1) && covers.len() == 2, "{last:?}");
}
