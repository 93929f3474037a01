//! Findings of an analysis, and what is left undecided.

use std::collections::BTreeMap;

use super::context::Context;
use super::report::{Finding, Incomplete, Obstacle, RuleIndex, Task};
use super::space::Slot;

/// What the analysis of one rule, or of a kind, has found.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) findings: Vec<Finding>,
    undecided: Vec<(Task, Obstacle, Option<Slot>)>,
}

impl Outcome {
    /// Notes that something is undecided for a rule.
    pub(super) fn undecided(&mut self, task: Task, obstacle: Obstacle, slot: Slot) {
        self.undecided.push((task, obstacle, Some(slot)));
    }

    /// Notes that something is undecided that concerns the policy as a whole.
    pub(super) fn undecided_whole(&mut self, task: Task, obstacle: Obstacle) {
        self.undecided.push((task, obstacle, None));
    }

    /// Whether something of this kind is undecided.
    pub(super) fn is_undecided(&self, task: Task) -> bool {
        self.undecided.iter().any(|it| it.0 == task)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.undecided.extend(other.undecided);
    }

    /// The undecided questions, by task and reason, with the rules in order.
    pub(super) fn incomplete(&self, context: &Context<'_>) -> Vec<Incomplete> {
        let mut by_task: BTreeMap<(Task, Obstacle), Vec<RuleIndex>> = BTreeMap::new();
        for (task, obstacle, slot) in &self.undecided {
            let rules = by_task.entry((*task, *obstacle)).or_default();
            rules.extend(slot.map(|slot| context.index(slot)));
        }
        let mut incomplete = Vec::with_capacity(by_task.len());
        for ((what, why), mut rules) in by_task {
            rules.sort_unstable();
            rules.dedup();
            incomplete.push(Incomplete { what, why, rules });
        }
        incomplete
    }
}
