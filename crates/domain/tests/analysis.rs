//! Tests that analyses find what enumerating every packet of a small world finds.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test reports a failure by panicking"
)]

#[path = "support/small_world.rs"]
mod small_world;

use fireflow_domain::analysis::{
    AnalysedPolicy, Analysis, AnalysisLimits, AnalysisOptions, Effect, Finding, FindingKind,
    Severity, analyse,
};
use fireflow_domain::engine::naive;
use fireflow_domain::rule::RuleSpec;
use fireflow_domain::rule::RuleState;
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

    fn action(&self, rule: Option<usize>) -> fireflow_domain::rule::Action {
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
