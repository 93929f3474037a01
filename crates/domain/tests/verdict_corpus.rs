//! Runs the corpus of verdicts through the definition and the classifier.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test reports a failure by panicking"
)]

use std::collections::BTreeSet;
use std::path::Path;

use fireflow_domain::engine::classifier::{Budget, Classifier};
use fireflow_domain::engine::naive;
use fireflow_domain::packet::Packet;
use fireflow_domain::rule::Action;
use fireflow_domain::testing::verdicts::{Case, Expectation, Outcome, entries, read_folder};

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/verdicts");
    read_folder(&folder).unwrap_or_else(|why| panic!("{why}"))
}

/// Compares the verdicts of an evaluator, which returns the place of the deciding rule among rules
/// in order of evaluation.
fn compare(case: &Case, evaluate: impl Fn(&[naive::RuleRef<'_>], &Packet) -> Option<usize>) {
    let specs = case.specs().unwrap();
    let entries = entries(&specs);
    for Expectation { packet, outcome, why } in &case.packets {
        let found = match packet.packet() {
            Ok(packet) => {
                let rule = evaluate(&entries, &packet).map(|place| &entries[place]);
                Outcome::Verdict {
                    action: rule.map_or_else(
                        || Action::parse(&case.default_action).unwrap(),
                        |rule| rule.spec.action,
                    ),
                    rule: rule.map(|rule| usize::try_from(rule.id.get()).unwrap() - 1),
                }
            }
            Err(members) => {
                assert_eq!(members.len(), 1, "{why}: {members:?}");
                Outcome::Refused(members[0].clone())
            }
        };
        assert_eq!(&found, outcome, "{why}");
    }
}

#[test]
fn the_definition_gives_the_verdicts_of_the_corpus() {
    for case in cases() {
        compare(&case, naive::first_match);
    }
}

#[test]
fn the_classifier_gives_the_verdicts_of_the_corpus() {
    for case in cases() {
        compare(&case, |entries, packet| {
            Classifier::compile(entries, Budget::default()).unwrap().first_match(packet)
        });
    }
}

/// Every file has a verdict by a rule for each rule that can decide, so that no rule is there for
/// nothing, and the corpus does not shrink by mistake.
#[test]
fn the_corpus_is_as_large_as_it_was_and_each_active_rule_decides_in_it() {
    let cases = cases();
    assert!(cases.len() >= 16, "{} files", cases.len());
    let packets: usize = cases.iter().map(|case| case.packets.len()).sum();
    assert!(packets >= 200, "{packets} packets");
    let never = [
        ("mapped-addresses", "mapped-block"),
        ("order", "shadowed"),
        ("times", "disabled"),
        ("times", "disabled-within-its-time"),
    ];
    let mut idle = BTreeSet::new();
    for case in &cases {
        for (place, rule) in case.rules.iter().enumerate() {
            let decides = |it: &Expectation| matches!(it.outcome, Outcome::Verdict { rule: Some(rule), .. } if rule == place);
            if !case.packets.iter().any(decides) {
                idle.insert((case.name.as_str(), rule.name.as_str()));
            }
        }
    }
    assert_eq!(idle, BTreeSet::from(never));
}

const GOOD: &str = r#"
subject = "One rule."
default_action = "DENY"
at = "2026-06-01T12:00:00Z"

[[rules]]
name = "web"
action = "ALLOW"
priority = 1
sources = ["any"]
destinations = ["any 443"]

[[packets]]
packet = "tcp 10.0.0.1:1 -> 10.0.0.2:443"
action = "ALLOW"
rule = "web"
why = "its port"
"#;

#[test]
fn a_file_that_would_check_less_than_it_says_is_refused() {
    let case = Case::parse("good", GOOD).unwrap();
    assert_eq!(case.packets[0].why, "good.toml, line 13: its port");
    for (from, to, expected) in [
        ("rule = \"web\"", "rule = \"dns\"", "line 13: no rule is named dns"),
        ("rule = \"web\"\n", "", "line 13: what decides has the action DENY, not ALLOW"),
        ("action = \"ALLOW\"\nrule", "action = \"DENY\"\nrule", "has the action ALLOW, not DENY"),
        ("rule = \"web\"", "refused = \"at\"", "line 13: a packet has either an `action` or is"),
        ("why = \"its port\"", "", "line 13: `why` is missing"),
        ("why", "because", "line 13: `why` is missing"),
        ("priority = 1", "priority = 1\nenable = false", "line 6: unknown members: enable"),
        ("priority = 1", "priority = 2147483648", "line 9: `priority` is not a number within"),
        ("priority = 1", "", "line 6: `priority` is missing"),
        ("[\"any\"]", "\"any\"", "line 10: `sources` is not a list of texts"),
        ("[\"any\"]", "[\"10.0.0.1/8\"]", "line 6: `10.0.0.1/8` has host bits set"),
        ("[[packets]]", "[[packet]]", "line 1: unknown members: packet"),
        ("tcp 10.0.0.1:1 -> ", "tcp 10.0.0.1:1 ", "is not written as `protocol source -> "),
        ("10.0.0.1:1", "10.0.0.1:65536", "is not written as `protocol source -> destination`"),
        ("at = ", "at = at", "TOML parse error"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let why = Case::parse("bad", &text).unwrap_err();
        assert!(why.contains(expected), "{from} -> {to}: {why}");
    }
}
