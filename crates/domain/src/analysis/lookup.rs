//! Search and partition: which packets of a set meet an outcome, and the verdict of each part of it.

use super::answers::{FoundPackets, Partition, PartitionPart, SearchAnswer};
use super::budget::{Budget, Meter};
use super::cell::Cell;
use super::collect::{Joined, Piece, joined};
use super::explore::{Exploration, as_done};
use super::instants::instants;
use super::packets::PacketSet;
use super::report::{Incomplete, Obstacle, RuleIndex, Task};
use super::request::{AnalysedPolicy, AnalysisLimits, Outcome, SearchRequest};
use super::solver::{action_of, label};
use super::space::{Slot, Space};
use super::spell::{cells, ends_of};
use super::walk::{Label, Last, NO_LABEL, OnSides};
use crate::engine::naive;
use crate::net::Family;
use crate::rule::{Action, RuleSpec};
use crate::time::Instant;
use crate::worlds::Kind;

/// A search is many questions.
const QUESTIONS: u64 = 20;

/// The label of what a search for a rule or for the default looks for.
const WANTED: Label = 1;
/// The label of everything else.
const UNWANTED: Label = 0;

/// The rules of a policy that are active at some instant of an interval, in ranks.
struct Prepared<'a> {
    policy: &'a AnalysedPolicy<'a>,
    /// The place of each rule of the space.
    indexes: Vec<RuleIndex>,
    space: Space,
    instants: Vec<Instant>,
    cells: Vec<(Family, Kind, Cell)>,
}

impl<'a> Prepared<'a> {
    fn new(
        policy: &'a AnalysedPolicy<'a>,
        packets: &PacketSet,
        (from, until): (Instant, Instant),
        budget: &Budget<'_>,
    ) -> Result<Self, Obstacle> {
        let takes_part = |spec: &RuleSpec| {
            spec.enabled
                && spec.starts_at.is_none_or(|start| start <= until)
                && spec.expires_at.is_none_or(|end| from < end)
        };
        let rules = policy.rules.iter().enumerate().filter(|it| takes_part(it.1.spec));
        let (indexes, specs): (Vec<RuleIndex>, Vec<&RuleSpec>) =
            rules.map(|(index, rule)| (index, rule.spec)).unzip();
        let instants = instants(specs.iter().copied(), from, until);
        let space = Space::new(&specs, |family| ends_of(packets, family), budget)?;
        let cells = cells(&space, packets);
        Ok(Self { policy, indexes, space, instants, cells })
    }

    fn index(&self, slot: Slot) -> Option<RuleIndex> {
        self.indexes.get(slot as usize).copied()
    }

    fn action(&self, rule: Option<RuleIndex>) -> Action {
        let spec = rule.and_then(|index| self.policy.spec(index));
        spec.map_or(self.policy.default_action, |spec| spec.action)
    }
}

/// Searches a set for packets with an outcome.
pub(super) fn search(
    policy: &AnalysedPolicy<'_>,
    request: &SearchRequest,
    limits: &AnalysisLimits<'_>,
) -> SearchAnswer {
    let budget = Budget::new(limits);
    let mut answer = SearchAnswer::default();
    let mut incomplete = Vec::new();
    match Prepared::new(policy, &request.packets, (request.from, request.until), &budget) {
        Ok(mut prepared) => {
            let mut meter = budget.meter(limits.steps.saturating_mul(QUESTIONS));
            let mut pieces = Vec::new();
            match find(&mut prepared, request.outcome, limits.parts, &mut meter, &mut pieces) {
                Ok(goes_on) => answer.more = !goes_on,
                Err(obstacle) => incomplete.push((Task::Parts, obstacle)),
            }
            for part in joined(&prepared.space, pieces) {
                match found(&prepared, request.outcome, part) {
                    Some(found) => answer.found.push(found),
                    None => incomplete.push((Task::Witness, Obstacle::Defect)),
                }
            }
        }
        Err(obstacle) => incomplete.push((Task::Parts, obstacle)),
    }
    incomplete.dedup();
    answer.incomplete =
        incomplete.into_iter().map(|(what, why)| Incomplete::whole(what, why)).collect();
    answer
}

fn find(
    prepared: &mut Prepared<'_>,
    outcome: Outcome,
    most: usize,
    meter: &mut Meter<'_>,
    pieces: &mut Vec<Piece>,
) -> Result<bool, Obstacle> {
    let default = prepared.policy.default_action;
    let wanted = |is_wanted: bool| if is_wanted { WANTED } else { UNWANTED };
    let wants = |it: Label| match outcome {
        Outcome::Action(action) => it == label(action),
        Outcome::Blocked => it != label(Action::Allow),
        Outcome::Rule(_) | Outcome::Default => it == WANTED,
    };
    for at in std::mem::take(&mut prepared.instants) {
        let done = as_done(&mut prepared.space, pieces);
        let of_default = match outcome {
            Outcome::Action(_) | Outcome::Blocked => label(default),
            Outcome::Rule(_) => UNWANTED,
            Outcome::Default => WANTED,
        };
        let last = [Last { label: of_default, rule: None }, Last { label: NO_LABEL, rule: None }];
        let of = |slot: Slot| {
            let index = prepared.index(slot)?;
            let label = match outcome {
                Outcome::Action(_) | Outcome::Blocked => label(prepared.action(Some(index))),
                // Later rules do not matter.
                Outcome::Rule(rule) if index > rule => return None,
                Outcome::Rule(rule) => wanted(index == rule),
                Outcome::Default => UNWANTED,
            };
            Some((OnSides::LEFT, label))
        };
        let exploration = Exploration {
            space: &prepared.space,
            at,
            last,
            of: &of,
            is_done: &|_| false,
            done: &done,
            wants: &wants,
            names_rules: true,
            most,
        };
        for (family, _, cell) in &prepared.cells {
            if !exploration.run(*family, cell, meter, pieces)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// A part as the answer shows it; none if its witness is refuted.
fn found(prepared: &Prepared<'_>, outcome: Outcome, part: Joined) -> Option<FoundPackets> {
    let Joined { packets, labels: [of_part, _], rules: [rules, _], witness, .. } = part;
    let witness = witness?;
    let rules: Vec<RuleIndex> =
        rules.into_iter().flatten().filter_map(|slot| prepared.index(slot)).collect();
    let policy = prepared.policy;
    let rule = policy.rules.iter().position(|it| naive::matches(it.spec, &witness));
    let action = prepared.action(rule);
    let is_right = match outcome {
        Outcome::Action(_) | Outcome::Blocked => action == action_of(of_part),
        Outcome::Rule(wanted) => rule == Some(wanted),
        Outcome::Default => rule.is_none(),
    };
    let is_named = rule.is_none_or(|rule| rules.contains(&rule));
    (is_right && is_named).then_some(FoundPackets { packets, action, rule, rules, witness })
}

/// Divides a set of packets into disjoint parts, each with one verdict by one rule.
pub(super) fn partition(
    policy: &AnalysedPolicy<'_>,
    packets: &PacketSet,
    at: Instant,
    limits: &AnalysisLimits<'_>,
) -> Partition {
    let budget = Budget::new(limits);
    let mut partition = Partition::default();
    match Prepared::new(policy, packets, (at, at), &budget) {
        Ok(prepared) => {
            let mut meter = budget.meter(limits.steps.saturating_mul(QUESTIONS));
            let mut pieces = Vec::new();
            match divide(&prepared, at, limits.parts, &mut meter, &mut pieces) {
                Ok(goes_on) => partition.more = !goes_on,
                Err(obstacle) => {
                    partition.incomplete.push(Incomplete::whole(Task::Parts, obstacle));
                }
            }
            add_parts(&prepared, pieces, &mut partition);
        }
        Err(obstacle) => partition.incomplete.push(Incomplete::whole(Task::Parts, obstacle)),
    }
    partition.parts.sort_by_key(|part| part.rule.unwrap_or(RuleIndex::MAX));
    partition
}

fn divide(
    prepared: &Prepared<'_>,
    at: Instant,
    most: usize,
    meter: &mut Meter<'_>,
    pieces: &mut Vec<Piece>,
) -> Result<bool, Obstacle> {
    // The label of a rule is its number, and that of the default the next number.
    let default = super::intern::as_u32(prepared.indexes.len());
    let exploration = Exploration {
        space: &prepared.space,
        at,
        last: [Last { label: default, rule: None }, Last { label: NO_LABEL, rule: None }],
        of: &|slot| Some((OnSides::LEFT, slot)),
        is_done: &|_| false,
        done: &[],
        wants: &|_| true,
        names_rules: false,
        most,
    };
    for (family, _, cell) in &prepared.cells {
        if !exploration.run(*family, cell, meter, pieces)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn add_parts(prepared: &Prepared<'_>, pieces: Vec<Piece>, partition: &mut Partition) {
    let joined = joined(&prepared.space, pieces);
    for part in joined {
        let rule = prepared.index(part.labels[0]);
        partition.parts.push(PartitionPart {
            packets: part.packets,
            action: prepared.action(rule),
            rule,
            size: part.size,
        });
    }
}
