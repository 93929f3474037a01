//! Tests that bits answer what ranges answer.

use super::*;
use crate::analysis::budget::Budget;
use crate::analysis::question::{Question, Side};
use crate::analysis::request::AnalysisLimits;
use crate::analysis::space::undivided;
use crate::analysis::witness::packet;
use crate::engine::naive;
use crate::rule::RuleSpec;
use crate::testing::analysis_families as families;
use crate::time::Instant;

fn check(rules: &[RuleSpec]) -> [usize; 2] {
    let limits = AnalysisLimits::usual(&|| true);
    let budget = Budget::new(&limits);
    let specs: Vec<&RuleSpec> = rules.iter().collect();
    let space = Space::new(&specs, undivided, &budget).unwrap();
    let mut found = [0, 0];
    for slot in 0..Slot::try_from(rules.len()).unwrap() {
        let mut meter = budget.meter(u64::MAX / 4);
        let neighbors = Neighbors::of(&space, slot, Side::Earlier, &|_| true, &mut meter).unwrap();
        let frames = Frames::new(&space, &neighbors, &mut meter).unwrap();
        let within = neighbors.rules(&space).into_iter().max();
        for within in [None, within] {
            let takes = |it: Slot| Some(it) != within && it % 7 != 3;
            let question = Question { space: &space, neighbors: &neighbors, within, takes: &takes };
            let ranges = question.find_hole(&mut meter, &mut Vec::new()).unwrap();
            let mut used = Vec::new();
            let bits = frames.find_hole(within, &takes, &mut meter, &mut used).unwrap();
            assert_eq!(ranges.is_some(), bits.is_some());
            found[usize::from(bits.is_some())] += 1;
            if let Some(hole) = bits {
                let at = Instant::EPOCH;
                let packet = packet(&space, hole.family, &hole.cell, at).unwrap();
                let has = |slot: Slot| naive::matches(&rules[slot as usize], &packet);
                assert!(has(slot) && within.is_none_or(has));
                assert!(!(0..slot).any(|it| takes(it) && has(it)));
            } else {
                assert!(used.iter().all(|it| takes(*it)));
            }
        }
    }
    found
}

#[test]
fn bits_answer_what_ranges_answer() {
    let mut found = [0; 2];
    for seed in 0..4 {
        let all = [
            check(&families::scatter(12, 6, 5, seed)),
            check(&families::giants(6, 10, seed)),
            check(&families::random_boxes(20, 6.0, seed)),
            check(&families::grid(3, seed)),
        ];
        for [covered, holes] in all {
            found[0] += covered;
            found[1] += holes;
        }
    }
    assert!(found.iter().all(|count| *count > 20), "{found:?}");
}
