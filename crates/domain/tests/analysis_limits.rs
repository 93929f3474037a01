//! Tests of single findings, and of analyses that reach their limits.

#![expect(clippy::unwrap_used, reason = "a test reports a failure by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};

use fireflow_domain::analysis::{
    AnalysedPolicy, AnalysedRule, Analysis, AnalysisLimits, AnalysisOptions, ComparisonOptions,
    Evidence, Finding, FindingKind, Obstacle, Severity, Task, analyse, compare,
};
use fireflow_domain::engine::naive;
use fireflow_domain::net::{AddressRange, PortRange, Protocol};
use fireflow_domain::rule::{Action, Endpoint, RuleParts, RuleSpec};
use fireflow_domain::testing::analysis_families as families;
use fireflow_domain::testing::rules::everything;
use fireflow_domain::text::Reference;
use fireflow_domain::time::{Instant, MICROS_PER_SECOND};

fn noon() -> Instant {
    Instant::parse("2026-11-24T12:00:00Z").unwrap()
}

fn analysed(rules: &[RuleSpec]) -> Vec<AnalysedRule<'_>> {
    rules.iter().map(AnalysedRule::of).collect()
}

/// The findings that follow from the reach of rules.
const REACH: [FindingKind; 5] = [
    FindingKind::Contradiction,
    FindingKind::Duplicate,
    FindingKind::Unreachable,
    FindingKind::Redundant,
    FindingKind::RestatesDefault,
];

/// Analyzes rules until it was asked so often whether to go on.
fn analysed_within(rules: &[RuleSpec], most_calls: usize) -> Analysis {
    let listed = analysed(rules);
    let policy = AnalysedPolicy { rules: &listed, default_action: Action::Deny };
    // Calls and not time: the test is the same on every machine.
    let calls = AtomicUsize::new(0);
    let should_continue = || calls.fetch_add(1, Ordering::Relaxed) < most_calls;
    let limits = AnalysisLimits::usual(&should_continue);
    let analysis = analyse(&policy, &AnalysisOptions::at(noon()), &limits);
    // Once it is to end, it ends, and does not ask again for each rule.
    assert!(calls.into_inner() <= most_calls + 64);
    analysis
}

#[test]
fn sets_without_order_are_given_up_at_the_deadline_and_named() {
    let rules = families::scatter(120, 400, 80, 1);
    let analysis = analysed_within(&rules, 140);
    let undecided: Vec<usize> = analysis
        .incomplete
        .iter()
        .filter(|it| it.why == Obstacle::Time)
        .flat_map(|it| it.rules.iter().copied())
        .collect();
    assert!(undecided.len() > 10, "{:?}", analysis.incomplete);
    let of_reach = analysis.incomplete.iter().filter(|it| it.what == Task::Reach);
    let of_reach: Vec<usize> = of_reach.flat_map(|it| it.rules.iter().copied()).collect();
    // Undecided rules have no finding.
    for finding in analysis.findings.iter().filter(|it| REACH.contains(&it.kind)) {
        assert!(!of_reach.contains(&finding.rule), "{finding:?}");
    }
}

#[test]
fn an_analysis_that_may_not_go_on_decides_nothing_and_says_so() {
    let rules = families::scatter(20, 10, 5, 1);
    let analysis = analysed_within(&rules, 0);
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
    let analysis = analysed_within(&[largest.clone(), largest], usize::MAX / 2);
    let kinds: Vec<FindingKind> =
        analysis.findings.iter().filter(|it| REACH.contains(&it.kind)).map(|it| it.kind).collect();
    // Without the first one, the second decides.
    assert_eq!(kinds, [FindingKind::Redundant, FindingKind::Duplicate]);
    assert_eq!(analysis.incomplete, []);
    // All of a rule is in two others, none of which contains it.
    let rules = families::giants(3, 300, 7);
    let half = |from: usize, to: usize| {
        let parts = rules[0].clone().into_parts();
        let sources = parts.sources[from..to].to_vec();
        RuleSpec::new(RuleParts { sources, ..parts }).unwrap()
    };
    let rules = [half(0, 170), half(160, 300), rules[1].clone(), rules[0].clone()];
    let analysis = analysed_within(&rules, usize::MAX / 2);
    assert_eq!(analysis.incomplete, []);
    let last: Vec<&Finding> = analysis
        .findings
        .iter()
        .filter(|it| it.rule == 3 && it.kind == FindingKind::Unreachable)
        .collect();
    let covers: Vec<usize> = last[0].because.iter().map(|it| it.rule).collect();
    assert!(covers.contains(&0) && covers.contains(&1) && covers.len() == 2, "{last:?}");
}

#[test]
fn a_rule_that_lets_anybody_reach_a_shell_is_an_error_and_a_partner_is_none() {
    let entry = |text: &str| Endpoint { address: AddressRange::parse(text).unwrap(), port: None };
    let rule = |action, source: &str, destination: &str, port: &str| {
        RuleSpec::new(RuleParts {
            action,
            protocols: [Protocol::TCP].into_iter().collect(),
            sources: vec![entry(source)],
            destinations: vec![entry(destination)],
            ports: vec![PortRange::parse(port).unwrap()],
            ..everything()
        })
        .unwrap()
    };
    let rules = [
        rule(Action::Deny, "any", "198.51.100.0/25", "22"),
        rule(Action::Allow, "8.8.8.8", "198.51.100.200", "22"),
        rule(Action::Allow, "0.0.0.0/0", "198.51.100.0/24", "20-25"),
        rule(Action::Allow, "any", "2001:db8::1", "22-23"),
        rule(Action::Allow, "10.0.0.0/8", "any", "22"),
    ];
    let listed = analysed(&rules);
    let policy = AnalysedPolicy { rules: &listed, default_action: Action::Deny };
    let options = AnalysisOptions::at(noon());
    let analysis = analyse(&policy, &options, &AnalysisLimits::usual(&|| true));
    assert_eq!(analysis.incomplete, []);
    let mut exposed: Vec<(usize, String, f64)> = analysis
        .findings
        .iter()
        .filter(|it| it.kind == FindingKind::Exposed)
        .map(|it| match &it.evidence {
            Evidence::Service { service, destinations, .. } => {
                assert_eq!(it.severity, Severity::Error);
                let witness = it.witness.unwrap();
                let first = rules.iter().position(|rule| naive::matches(rule, &witness));
                assert_eq!(first, Some(it.rule));
                (it.rule, service.name.to_string(), *destinations)
            }
            _ => panic!("{it:?}"),
        })
        .collect();
    exposed.sort_by_key(|it| (it.0, it.1.clone()));
    // The first half of the network denies ssh, but not telnet and ftp.
    let expected = [
        (2, "ftp", 256.0),
        (2, "ssh", 128.0),
        (2, "telnet", 256.0),
        (3, "ssh", 1.0),
        (3, "telnet", 1.0),
    ];
    assert_eq!(exposed, expected.map(|(rule, name, size)| (rule, name.to_owned(), size)));
}

#[test]
fn rules_are_reported_by_their_times_and_by_how_much_they_permit() {
    let at = |days: i64| noon().plus_micros(days * 24 * 3_600 * MICROS_PER_SECOND);
    let spec = |change: &dyn Fn(&mut RuleParts)| {
        let mut parts = everything();
        change(&mut parts);
        RuleSpec::new(parts).unwrap()
    };
    let referenced = |parts: &mut RuleParts| {
        parts.reference = Reference::parse("CHG-1").unwrap();
        parts.action = Action::Deny;
    };
    let rules = [
        spec(&|parts| {
            referenced(parts);
            parts.expires_at = Some(at(-10));
        }),
        spec(&|parts| {
            referenced(parts);
            parts.expires_at = Some(at(-31));
        }),
        spec(&|parts| {
            referenced(parts);
            parts.expires_at = Some(at(29));
            parts.sources.push(Endpoint {
                address: AddressRange::parse("::ffff:0:0/96").unwrap(),
                port: None,
            });
        }),
        spec(&|parts| {
            referenced(parts);
            parts.enabled = false;
        }),
        spec(&|parts| {
            parts.sources = vec![Endpoint {
                address: AddressRange::parse("::ffff:0:0/96").unwrap(),
                port: None,
            }];
        }),
        spec(&|_| {}),
    ];
    let mut listed = analysed(&rules);
    listed[3].updated_at = Some(at(-181));
    let policy = AnalysedPolicy { rules: &listed, default_action: Action::Deny };
    let analysis = analyse(&policy, &AnalysisOptions::at(noon()), &AnalysisLimits::usual(&|| true));
    let mut found: Vec<(usize, FindingKind, Severity)> =
        analysis.findings.iter().map(|it| (it.rule, it.kind, it.severity)).collect();
    found.sort();
    let expected = [
        (0, FindingKind::Expired, Severity::Info),
        (1, FindingKind::Expired, Severity::Warning),
        (2, FindingKind::ExpiresSoon, Severity::Info),
        // One of its two sources is `::ffff:0:0/96`.
        (2, FindingKind::Ineffective, Severity::Info),
        (3, FindingKind::DisabledLong, Severity::Info),
        (4, FindingKind::NeverMatches, Severity::Warning),
        (4, FindingKind::NoReference, Severity::Info),
        (5, FindingKind::Contradiction, Severity::Info),
        (5, FindingKind::NoReference, Severity::Info),
        (5, FindingKind::Permissive, Severity::Warning),
        (5, FindingKind::Permissive, Severity::Warning),
    ];
    // The rule that hides the last one expires, so that is information only.
    assert_eq!(found, expected);
}
