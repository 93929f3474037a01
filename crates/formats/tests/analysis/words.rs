//! Findings in sentences.

use fireflow_domain::analysis::{Finding, FindingKind, Severity};
use fireflow_formats::analysis::{KINDS, detail};

use super::{at, cover, finding, with_findings};

fn in_words(finding: &Finding) -> String {
    with_findings(|_, subject| detail(finding, subject))
}

#[test]
fn each_kind_is_a_sentence_about_what_is_wrong_and_what_to_do() {
    let expected = [
        "Rule no. 2 (DENY) never decides a packet: rule no. 1 `lets` (ALLOW) comes first and \
         matches the same packets. Decide which action is right, and delete the other rule.",
        "Rule no. 2 (DENY) repeats rule no. 1 `lets`: the same packets and the same action. Delete \
         it; no verdict changes.",
        "No packet reaches rule no. 2 (DENY): earlier rule no. 1 `lets` matches all its packets. \
         Rule no. 1 `lets` (ALLOW) lets through packets that it would stop, such as \
         tcp 10.0.0.1:49152 -> 198.51.100.10:22. Move rule no. 2 before rule no. 1 `lets`, or \
         delete it.",
        "No verdict changes without rule no. 2 (DENY): rule no. 3 `blocks, \"all\"` decides its \
         packets the same way. Do not delete it together with rule no. 1 `lets`: some packets would \
         then have another verdict.",
        "Rule no. 2 (DENY) does to its packets what the default action does, so no verdict changes \
         without it.",
        "Rule no. 2 (DENY) matches no packet: none that a network can carry has the fields that it \
         requires. Correct or delete it.",
        "Rule no. 2 (DENY) expired at 2026-01-01T00:00:00.000000Z and no longer matches. Change \
         its `expires_at`, or delete it.",
        "Rule no. 2 (DENY) expires at 2026-12-01T00:00:00.000000Z. Change its `expires_at` if it \
         is needed longer.",
        "Rule no. 2 (DENY) is disabled and was last changed at 2026-01-01T00:00:00.000000Z. \
         Enable or delete it.",
        "Rule no. 2 (DENY) has no `reference`. Name the ticket or change that it belongs to.",
        "A part of rule no. 2 (DENY) has no effect, `/sources/1`: ",
        "Rule no. 2 (DENY) permits every service to its destinations: 50 % of all pairs of IPv4 \
         addresses. Name the addresses and services that are needed.",
        "Most public IPv6 addresses can reach ssh (tcp/22) on 256 addresses. Rules no. 1 `lets` and \
         no. 2 permit it. Limit the sources to those that need it.",
        "Rule no. 2 (DENY) overlaps 3 earlier rules of another action, the first of them rule \
         no. 1 `lets`. Neither contains the other, so their order decides the packets that both \
         match.",
        "Rule no. 2 (DENY) contains 3 earlier rules of another action, the first of them rule \
         no. 1 `lets`. This is usual for an exception that precedes a general rule.",
        "Rules no. 1 `lets` and no. 2 (DENY) can be written as one rule. No verdict changes.",
    ];
    for (kind, expected) in FindingKind::ALL.into_iter().zip(expected) {
        let words = in_words(&finding(kind));
        if kind == FindingKind::Ineffective {
            assert!(words.starts_with(expected) && words.ends_with('.'), "{words}");
        } else {
            assert_eq!(words, expected);
        }
    }
}

#[test]
fn the_default_action_is_named_in_findings_about_it() {
    let by = |because: &[usize]| {
        let because = because.iter().map(|rule| cover(*rule)).collect();
        in_words(&Finding { because, ..finding(FindingKind::Exposed) })
    };
    let has = |because: &[usize], part: &str| {
        let words = by(because);
        assert!(words.contains(part), "{words}");
    };
    has(&[0], "Rule no. 1 `lets` permits it.");
    has(&[4], "The default action permits it.");
    has(&[0, 4], "Rule no. 1 `lets` and the default action together permit it.");
    has(&[0, 1, 4], "Rules no. 1 `lets` and no. 2, with the default action, permit it.");
    with_findings(|_, subject| {
        let named = subject.rule(4);
        assert_eq!((named.id, named.name, named.position), (None, None, 5));
    });
}

#[test]
fn each_kind_has_its_title_at_its_place() {
    let kinds: Vec<FindingKind> = KINDS.iter().map(|kind| kind.kind).collect();
    assert_eq!(kinds, FindingKind::ALL);
}

#[test]
fn many_rules_are_counted_and_the_end_of_a_finding_is_named() {
    let many = Finding {
        because: vec![cover(0), cover(1), cover(2), cover(3), cover(0)],
        until: Some(at("2027-01-01T00:00:00Z")),
        ..Finding::new(FindingKind::Unreachable, Severity::Warning, 3)
    };
    let expected = "No packet reaches rule no. 4 `=off` (REJECT): earlier rules no. 1 `lets`, no. 2, \
                    no. 3 `blocks, \"all\"`, and 2 more match all its packets. This holds until 2027-01-01T00:00:00.000000Z, when a rule starts or \
                    expires.";
    assert_eq!(in_words(&many), expected);
    let logging = Finding { logs: true, ..Finding::new(FindingKind::Redundant, Severity::Info, 2) };
    let words = in_words(&logging);
    assert!(words.contains("later rules decide its packets the same way."), "{words}");
    assert!(words.contains("without it, these log lines end"), "{words}");
}
