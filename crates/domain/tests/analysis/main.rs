//! Tests that analyses find what enumerating every packet of a small world finds.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test reports a failure by panicking"
)]

mod again;
mod exposure;
mod ineffective;
mod meaning;
mod pairs;
mod permissive;
#[path = "../support/small_world.rs"]
mod small_world;

use fireflow_domain::analysis::{
    AnalysedPolicy, Analysis, AnalysisLimits, AnalysisOptions, Effect, Evidence, Finding,
    FindingKind, FindingKinds, Fix, Severity, analyse,
};
use fireflow_domain::engine::naive;
use fireflow_domain::rule::{Action, RuleSpec, RuleState};
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
                Some(equal)
                    if self.decided_by(equal).next().is_some()
                        && self.is_worst_conflict(equal, rule) =>
                {
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

    /// Whether no rule lets packets of a rule through if another one, like the rule itself, stops them.
    fn is_worst_conflict(&self, other: usize, rule: usize) -> bool {
        let own = self.rules[rule].action;
        let has_effect = |it: usize| Effect::of(own, self.rules[it].action).is_some();
        let decides = |it: usize| self.decided_by(it).any(|packet| self.matches[packet][rule]);
        has_effect(other) || !(0..rule).any(|it| has_effect(it) && decides(it))
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
                let same = others.iter().zip(&effects).find(|it| *it.1 == finding.effect);
                assert_eq!(same.map(|it| *it.0), Some(conflict.first), "{finding:?}");
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
            let packets: Vec<usize> = self.decided_by(rule).collect();
            let is_proof = |because: &[usize]| {
                packets.iter().all(|packet| self.decide_instead(because, rule, *packet))
            };
            assert!(is_proof(&later), "{finding:?} {:#?}", self.rules);
            assert!(finding.is_minimal, "{finding:?}");
            for left_out in &later {
                let rest: Vec<usize> = later.iter().copied().filter(|it| it != left_out).collect();
                assert!(!is_proof(&rest), "{finding:?} {rest:?} {:#?}", self.rules);
            }
        }
    }

    /// Whether one of some rules decides a packet instead of an earlier one, before any rule of another
    /// action does.
    fn decide_instead(&self, because: &[usize], rule: usize, packet: usize) -> bool {
        let is_there =
            |it: &usize| because.contains(it) || self.rules[*it].action != self.rules[rule].action;
        let mut later = (rule + 1..self.rules.len()).filter(is_there);
        later.find(|it| self.matches[packet][*it]).is_some_and(|it| because.contains(&it))
    }

    fn is_same_without(&self, gone: &[usize]) -> bool {
        self.packets().all(|packet| {
            let before = self.action(self.first(packet, |_| false));
            before == self.action(self.first(packet, |it| gone.contains(&it)))
        })
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
        assert!(self.is_same_without(&gone), "{gone:?}");
        for finding in findings.filter(|it| it.kind == FindingKind::Redundant) {
            if finding.together.is_empty() {
                let all: Vec<usize> = gone.iter().copied().chain([finding.rule]).collect();
                assert!(self.is_same_without(&all), "{finding:?}");
            }
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

/// What a finding has in common with one at another instant.
fn subject(finding: &Finding) -> (FindingKind, usize, String) {
    let detail = match &finding.evidence {
        Evidence::Service { service, family, .. } => {
            let because: Vec<usize> = finding.because.iter().map(|it| it.rule).collect();
            format!("{service:?} {family:?} {because:?}")
        }
        _ => String::new(),
    };
    (finding.kind, finding.rule, detail)
}

/// A finding names the first start or expiry of another rule that changes its kind or severity, or
/// ends it. Until then, all suggested deletions can be made.
fn check_until(
    world: &World,
    rules: &[RuleSpec],
    policy: AnalysedPolicy<'_>,
    analysis: &Analysis,
    kinds: FindingKinds,
) -> usize {
    if rules.iter().all(|rule| rule.starts_at.is_none() && rule.expires_at.is_none()) {
        assert!(analysis.findings.iter().all(|it| it.until.is_none()));
        return 0;
    }
    let later: Vec<(Instant, Analysis)> =
        (1..4).map(hour).map(|at| (at, analysed_at(policy, at, kinds))).collect();
    let mut checked = 0;
    for finding in &analysis.findings {
        let rule = finding.rule;
        // An exposed service is no matter of one rule.
        let lives = |at: Instant| {
            finding.kind == FindingKind::Exposed || rules[rule].state(at) == RuleState::Active
        };
        let mut ahead = later.iter().take_while(|(at, _)| lives(*at));
        if !REACH.contains(&finding.kind) {
            let is_same = |other: &Finding| subject(other) == subject(finding);
            let ends = match finding.kind {
                FindingKind::Exposed
                | FindingKind::Correlated
                | FindingKind::Generalises
                | FindingKind::Mergeable => {
                    ahead.find(|(_, then)| !then.findings.iter().any(is_same)).map(|it| it.0)
                }
                _ => None,
            };
            assert_eq!(finding.until, ends, "{finding:?} {rules:#?}");
            checked += usize::from(ends.is_some());
            continue;
        }
        let now = Some((finding.kind, lasting_severity(finding)));
        let change =
            ahead.map(|(at, then)| (*at, fault(then, rule))).find(|(_, then)| *then != now);
        assert_eq!(finding.until, change.map(|it| it.0), "{finding:?} {change:?} {rules:#?}");
        checked += usize::from(change.is_some());
        let resolves = change.is_some_and(|(_, then)| match finding.kind {
            FindingKind::Redundant | FindingKind::RestatesDefault => then.is_none(),
            _ => then.is_none_or(|(kind, _)| !HIDDEN.contains(&kind)),
        });
        let severity = if resolves { Severity::Info } else { lasting_severity(finding) };
        assert_eq!(finding.severity, severity, "{finding:?} {change:?} {rules:#?}");
    }
    let deleted = analysis.findings.iter().filter(|it| it.together.is_empty());
    let gone: Vec<usize> = deleted
        .filter_map(|finding| match &finding.fix {
            Some(Fix::Delete(gone)) => Some(gone.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    for at in later.iter().map(|it| it.0) {
        let verdicts = Verdicts::new(world, rules, policy, at);
        assert!(verdicts.is_same_without(&gone), "{at} {gone:?} {rules:#?}");
    }
    checked
}

fn analysed_at(policy: AnalysedPolicy<'_>, at: Instant, kinds: FindingKinds) -> Analysis {
    let options = AnalysisOptions { kinds, ..AnalysisOptions::at(at) };
    let analysis = analyse(&policy, &options, &AnalysisLimits::usual(&|| true));
    assert_eq!(analysis.incomplete, []);
    analysis
}

/// From how many cases on everything occurs that a test looks for.
const ENOUGH_CASES: u32 = 200;

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
fn findings_are_those_that_all_packets_of_a_small_world_show() {
    let mut random = Random::new(seed());
    let mut counts = [0_usize; FindingKind::ALL.len()];
    let mut lapsing = 0;
    let cases = cases(400);
    for _ in 0..cases {
        let world = World::draw(&mut random);
        let rules = world.rules(&mut random, 24);
        let mut listed = analysed(&rules);
        for rule in &mut listed {
            rule.has_reference = random.happens(50);
            rule.updated_at = random.happens(50).then(|| hour(-200 * 24));
        }
        let policy = AnalysedPolicy { rules: &listed, default_action: world.action(&mut random) };
        let kinds = FindingKinds::all();
        let analysis = analysed_at(policy, noon(), kinds);
        for finding in &analysis.findings {
            counts[finding.kind as usize] += 1;
        }
        let verdicts = Verdicts::new(&world, &rules, policy, noon());
        for rule in 0..rules.len() {
            let of_rule = analysis.findings.iter().filter(|it| it.rule == rule);
            let of_reach: Vec<&Finding> =
                of_rule.clone().filter(|it| REACH.contains(&it.kind)).collect();
            let kinds: Vec<FindingKind> = of_reach.iter().map(|it| it.kind).collect();
            let expected: Vec<FindingKind> = verdicts.reach(rule).into_iter().collect();
            assert_eq!(kinds, expected, "rule {rule} of {rules:#?}");
            let is_empty = rules[rule].state(noon()) == RuleState::Active
                && verdicts.of(rule).next().is_none();
            let never = of_rule.clone().any(|it| it.kind == FindingKind::NeverMatches);
            assert_eq!(never, is_empty, "rule {rule} of {rules:#?}");
            for finding in of_reach {
                match finding.kind {
                    FindingKind::Redundant | FindingKind::RestatesDefault => {
                        verdicts.check_redundant(finding);
                    }
                    _ => verdicts.check_hidden(finding),
                }
            }
        }
        verdicts.check_together(&analysis);
        lapsing += check_until(&world, &rules, policy, &analysis, kinds);
    }
    let counts = FindingKind::ALL.into_iter().zip(counts);
    println!("{:?}, {lapsing} that end", counts.clone().collect::<Vec<_>>());
    if cases >= ENOUGH_CASES {
        for (kind, count) in counts {
            assert!(count > 5, "{kind:?}: {count}");
        }
        assert!(lapsing > 20, "{lapsing}");
    }
}
