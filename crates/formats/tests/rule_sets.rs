//! Tests whole public benchmark rule sets and their traces. They are read from a local folder,
//! because they may not be redistributed.

#![expect(clippy::unwrap_used, reason = "a test reports a failure by panicking")]

#[path = "support/rule_set_files.rs"]
mod rule_set_files;

use fireflow_domain::engine::classifier::{Budget, Cuboid, Index, NO_CUBOID};

#[test]
fn a_rule_set_and_its_trace_are_read_and_agree() {
    let Some(rules) = rule_set_files::cuboids("fw1_1k") else { return };
    assert!(rules.len() > 700);
    for trace in ["trace", "mix"] {
        let packets = rule_set_files::packets("fw1_1k", trace);
        assert!(packets.len() >= 5_000);
        for (key, expected) in packets {
            let first = rules.iter().find(|rule| rule.holds(&key));
            assert_eq!(first.map_or(NO_CUBOID, Cuboid::order), expected);
        }
    }
}

#[test]
fn public_rule_sets_are_answered_right_on_every_packet_of_every_trace() {
    let mut sets = 0;
    for name in rule_set_files::names() {
        let Some(cuboids) = rule_set_files::cuboids(&name) else { continue };
        let index = Index::build(&cuboids, Budget::default()).unwrap();
        let mut packets = 0;
        for trace in ["trace", "mix"] {
            for (key, expected) in rule_set_files::packets(&name, trace) {
                assert_eq!(index.find(&key), expected, "{name} {trace} {key:?}");
                packets += 1;
            }
        }
        assert!(packets > 10_000, "{name}: {packets}");
        sets += 1;
    }
    // Either all sets are available, or the folder is missing.
    assert!([0, 9].contains(&sets), "{sets}");
}
