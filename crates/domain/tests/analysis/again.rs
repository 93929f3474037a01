//! Tests that the analysis of a later state finds what a whole analysis of it finds.

use std::collections::BTreeSet;

use fireflow_domain::analysis::{
    AnalysedPolicy, Analysis, AnalysisLimits, AnalysisOptions, FindingKind, Former, Grounds,
    Incomplete, RuleIndex, Severity, analyse, analyse_again, analyse_with_grounds, same_rules,
};
use fireflow_domain::rule::{Action, RuleSpec};
use fireflow_domain::testing::analysis_families as families;
use fireflow_domain::testing::random::{Random, cases, seed};
use fireflow_domain::testing::rule_sets::rule_set;
use fireflow_domain::time::{Instant, MICROS_PER_SECOND};

use crate::small_world::{World, analysed, hour, noon};

/// A policy in one state, with its analysis.
struct State {
    rules: Vec<RuleSpec>,
    default_action: Action,
    at: Instant,
    /// The steps of one question.
    steps: u64,
    analysis: Analysis,
    grounds: Grounds,
}

impl State {
    fn new(rules: Vec<RuleSpec>, default_action: Action, at: Instant) -> Self {
        Self::within(usual_steps(), rules, default_action, at)
    }

    fn within(steps: u64, rules: Vec<RuleSpec>, default_action: Action, at: Instant) -> Self {
        let listed = analysed(&rules);
        let policy = AnalysedPolicy { rules: &listed, default_action };
        let limits = AnalysisLimits { steps, ..AnalysisLimits::usual(&|| true) };
        let (analysis, grounds) = analyse_with_grounds(&policy, &AnalysisOptions::at(at), &limits);
        Self { rules, default_action, at, steps, analysis, grounds }
    }

    /// The next state, analyzed from this one. Fails if a whole analysis finds something else.
    fn next(&self, rules: Vec<RuleSpec>, default_action: Action, at: Instant) -> Self {
        let (before, listed) = (analysed(&self.rules), analysed(&rules));
        let before = AnalysedPolicy { rules: &before, default_action: self.default_action };
        let policy = AnalysedPolicy { rules: &listed, default_action };
        let steps = self.steps;
        let limits = AnalysisLimits { steps, ..AnalysisLimits::usual(&|| true) };
        let (options, now) = (AnalysisOptions::at(self.at), AnalysisOptions::at(at));
        let same = same_rules(&before, &policy);
        let former = Former {
            default_action: self.default_action,
            same: &same,
            options: &options,
            analysis: &self.analysis,
            grounds: &self.grounds,
        };
        let (analysis, grounds) = analyse_again(&former, &policy, &now, &limits);
        let whole = analyse(&policy, &now, &limits);
        if self.steps < usual_steps() {
            assert_knows_as_much(&whole, &analysis);
            return Self { rules, default_action, at, steps, analysis, grounds };
        }
        assert_eq!(whole.incomplete, analysis.incomplete);
        for (whole, again) in whole.findings.iter().zip(&analysis.findings) {
            assert_eq!(whole, again, "{:?}", rules.get(whole.rule));
        }
        assert_eq!(whole, analysis);
        Self { rules, default_action, at, steps, analysis, grounds }
    }
}

fn usual_steps() -> u64 {
    AnalysisLimits::usual(&|| true).steps
}

/// Fails unless an analysis leaves nothing undecided that a whole one decides, and says the same of
/// each rule that both decide.
fn assert_knows_as_much(whole: &Analysis, again: &Analysis) {
    let undecided = |analysis: &Analysis| -> BTreeSet<(&str, RuleIndex)> {
        let of_rule = |it: &Incomplete| {
            let what = it.what.as_str();
            it.rules.iter().map(|rule| (what, *rule)).collect::<Vec<_>>()
        };
        analysis.incomplete.iter().flat_map(of_rule).collect()
    };
    let (left_open, more) = (undecided(whole), undecided(again));
    assert!(more.is_subset(&left_open), "{more:?} {left_open:?}");
    let open: BTreeSet<RuleIndex> = left_open.into_iter().map(|it| it.1).collect();
    let decided = |analysis: &Analysis| -> BTreeSet<(RuleIndex, FindingKind, Severity)> {
        let findings = analysis.findings.iter().filter(|it| !open.contains(&it.rule));
        findings.map(|it| (it.rule, it.kind, it.severity)).collect()
    };
    assert_eq!(decided(whole), decided(again));
}

/// A few changes of a list of rules. `draw` makes new rules.
fn changed(
    rules: &[RuleSpec],
    random: &mut Random,
    draw: &dyn Fn(&mut Random) -> RuleSpec,
) -> Vec<RuleSpec> {
    let mut rules = rules.to_vec();
    for _ in 0..=random.below(3) {
        let count = u32::try_from(rules.len()).unwrap();
        let at = random.below(count + 1) as usize;
        let Some(rule) = rules.get(at).cloned() else {
            rules.insert(at, draw(random));
            continue;
        };
        let mut parts = rule.clone().into_parts();
        match random.below(8) {
            0 => {
                rules.remove(at);
                continue;
            }
            1 => {
                rules.insert(at, draw(random));
                continue;
            }
            2 => {
                rules.remove(at);
                rules.insert(random.below(count) as usize, rule);
                continue;
            }
            3 => parts = draw(random).into_parts(),
            4 => parts.action = *random.pick(&Action::ALL).unwrap(),
            5 => parts.enabled = !parts.enabled,
            6 => parts.log = !parts.log,
            _ => parts.expires_at = random.happens(50).then(|| hour(i64::from(random.below(9)))),
        }
        if let Ok(rule) = RuleSpec::new(parts) {
            rules[at] = rule;
        }
    }
    rules
}

#[test]
fn an_analysis_that_continues_finds_what_a_whole_one_finds() {
    let mut random = Random::new(seed());
    let mut kept = 0;
    for _ in 0..cases(300) {
        let world = World::draw(&mut random);
        let rules = world.rules(&mut random, 12);
        let default_action = world.action(&mut random);
        let mut state = State::new(rules, default_action, noon());
        for _ in 0..4 {
            let rules = changed(&state.rules, &mut random, &|random| world.rule(random));
            let default_action =
                if random.happens(5) { world.action(&mut random) } else { state.default_action };
            let hours = if random.happens(30) { i64::from(random.below(4)) } else { 0 };
            let at = state.at.plus_micros(hours * 3_600 * MICROS_PER_SECOND);
            state = state.next(rules, default_action, at);
            kept += state.analysis.findings.len();
        }
    }
    assert!(kept > 0);
}

#[test]
fn an_analysis_of_many_rules_continues_after_each_change() {
    let mut random = Random::new(seed());
    for round in 0..cases(6).min(200) {
        let seed = u64::from(round);
        let rules = match round % 3 {
            0 => rule_set(seed, 7, 150, noon()),
            1 => families::random_boxes(60, 8.0, seed),
            _ => families::rectangles(60, 8.0, seed),
        };
        let pool = rules.clone();
        let mut state = State::new(rules, Action::Deny, noon());
        for _ in 0..6 {
            let draw = |random: &mut Random| random.pick(&pool).unwrap().clone();
            let rules = changed(&state.rules, &mut random, &draw);
            state = state.next(rules, Action::Deny, noon());
        }
    }
}

#[test]
fn what_is_undecided_stays_so_until_something_changes_that_can_matter() {
    let mut random = Random::new(seed());
    let mut undecided = 0;
    for round in 0..cases(12).min(400) {
        let seed = u64::from(round);
        let rules = match round % 3 {
            0 => families::random_boxes(80, 10.0, seed),
            1 => families::rectangles(80, 10.0, seed),
            _ => rule_set(seed, 7, 150, noon()),
        };
        let pool = rules.clone();
        let steps = [500, 2_000, 8_000][random.below(3) as usize];
        let mut state = State::within(steps, rules, Action::Deny, noon());
        for _ in 0..6 {
            undecided += state.analysis.incomplete.iter().map(|it| it.rules.len()).sum::<usize>();
            let draw = |random: &mut Random| random.pick(&pool).unwrap().clone();
            let rules = changed(&state.rules, &mut random, &draw);
            state = state.next(rules, Action::Deny, noon());
        }
    }
    assert!(undecided > 0);
}
