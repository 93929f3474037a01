//! Tests of findings about pairs of rules and about neighbors.

use fireflow_domain::analysis::{
    AnalysedPolicy, AnalysisLimits, AnalysisOptions, Evidence, FindingKind, Fix, analyse,
};
use fireflow_domain::engine::naive;
use fireflow_domain::rule::{Action, RuleSpec};
use fireflow_domain::testing::random::{Random, cases, seed};

use super::Verdicts;
use super::small_world::{World, analysed, noon};

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
