//! Tests whole rule sets with their traces: FireFlow's own, and the public benchmark sets if they are
//! available.

#![expect(clippy::unwrap_used, reason = "a test reports a failure by panicking")]

#[path = "support/rule_set_files.rs"]
mod rule_set_files;

use fireflow_domain::engine::classifier::{Budget, Cuboid, Index, Key, NO_CUBOID};
use fireflow_domain::testing::unchecked::checks_nothing_without;

use rule_set_files::RuleSetFiles;

/// Compares the answers of all traces with those of a function. Each trace has at least `least` packets.
/// Returns how many packets there are, and how many a rule matches.
fn check(set: &RuleSetFiles, least: usize, find: impl Fn(&Key<u32>) -> u32) -> (usize, usize) {
    let (mut all, mut matched) = (0, 0);
    for trace in set.traces {
        let packets = set.packets(trace);
        assert!(packets.len() >= least, "{} {trace}: {}", set.name, packets.len());
        all += packets.len();
        for (key, expected) in packets {
            assert_eq!(find(&key), expected, "{} {trace} {key:?}", set.name);
            matched += usize::from(expected != NO_CUBOID);
        }
    }
    (all, matched)
}

/// The definition: a loop over the rules.
fn first(cuboids: &[Cuboid<u32>], key: &Key<u32>) -> u32 {
    cuboids.iter().find(|rule| rule.holds(key)).map_or(NO_CUBOID, Cuboid::order)
}

#[test]
fn own_rule_sets_and_their_traces_are_read_and_agree() {
    for set in rule_set_files::own() {
        let cuboids = set.cuboids();
        assert!(cuboids.len() > 250, "{}", set.name);
        let (packets, matched) = check(&set, 1_500, |key| first(&cuboids, key));
        assert!(packets > matched && matched > packets / 2, "{}: {matched}", set.name);
    }
}

#[test]
fn own_rule_sets_are_answered_right_on_every_packet() {
    for set in rule_set_files::own() {
        let index = Index::build(&set.cuboids(), Budget::default()).unwrap();
        check(&set, 1_500, |key| index.find(key));
    }
}

#[test]
fn a_public_rule_set_and_its_traces_are_read_and_agree() {
    let sets = rule_set_files::public();
    let Some(set) = sets.iter().find(|set| set.name == "fw1_1k") else {
        return checks_nothing_without("the public rule sets");
    };
    let cuboids = set.cuboids();
    assert!(cuboids.len() > 700);
    check(set, 5_000, |key| first(&cuboids, key));
}

#[test]
fn public_rule_sets_are_answered_right_on_every_packet_of_every_trace() {
    let sets = rule_set_files::public();
    if sets.is_empty() {
        return checks_nothing_without("the public rule sets");
    }
    assert_eq!(sets.len(), 9, "either all sets are available, or none");
    for set in sets {
        let index = Index::build(&set.cuboids(), Budget::default()).unwrap();
        let (packets, _) = check(&set, 1, |key| index.find(key));
        assert!(packets > 10_000, "{}: {packets}", set.name);
    }
}
