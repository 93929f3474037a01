//! Findings about rules that no packet reaches: contradictions, duplicates, unreachable rules.

use super::budget::Meter;
use super::collect::joined;
use super::context::Context;
use super::explore::Exploration;
use super::findings::Outcome;
use super::intern::FxHashMap;
use super::measure::share;
use super::packets::PacketSet;
use super::proof::{minimal, terminating};
use super::reach::witness;
use super::report::{Conflict, Cover, Effect, Finding, FindingKind, Obstacle, Severity, Task};
use super::solver::{Scope, Solver};
use super::space::{Meaning, Slot};
use super::until::hidden_until;
use super::walk::{Last, NO_LABEL, OnSides};
use crate::packet::Packet;

/// The active rules with the same meaning, in order, by that meaning.
pub(super) struct Meanings(FxHashMap<Meaning, Vec<Slot>>);

impl Meanings {
    pub(super) fn new(context: &Context<'_>) -> Self {
        let mut meanings: FxHashMap<_, Vec<Slot>> = FxHashMap::default();
        for slot in context.active() {
            meanings.entry(context.space.meaning(slot)).or_default().push(slot);
        }
        meanings.retain(|_, slots| slots.len() > 1);
        Self(meanings)
    }

    /// The rules before a rule that match the same packets.
    fn before(&self, context: &Context<'_>, slot: Slot) -> &[Slot] {
        if self.0.is_empty() {
            return &[];
        }
        let all = self.0.get(&context.space.meaning(slot)).map_or(&[][..], Vec::as_slice);
        let count = all.partition_point(|it| *it < slot);
        all.get(..count).unwrap_or_default()
    }
}

/// The steps to make a proof small, for each step that it took to find it.
const STEPS_TO_SHORTEN: u64 = 5;
/// The least steps to make a proof small.
const LEAST_STEPS_TO_SHORTEN: u64 = 100_000;

/// The finding about a rule that earlier rules cover.
pub(super) fn hidden(
    context: &Context<'_>,
    meanings: &Meanings,
    slot: Slot,
    cover: Vec<Slot>,
    small_conflict: f64,
    outcome: &mut Outcome,
) {
    let own = context.action(Some(slot));
    let equal = meanings.before(context, slot);
    let is_there = |slot: Slot| context.is_active(slot);
    let mut solver = Solver::new(context, slot, &is_there);
    let mut finding =
        Finding::new(FindingKind::Unreachable, Severity::Warning, context.index(slot));
    let mut proving = cover;
    // Only the first of several rules with the same packets can decide any.
    if let Some(first) = equal.first().copied() {
        let because = vec![Cover { rule: context.index(first), share: 1.0 }];
        if context.action(Some(first)) == own {
            finding = Finding { kind: FindingKind::Duplicate, because, ..finding };
            proving = vec![first];
        } else {
            let takes = |it: Slot| it < first;
            let mut meter = context.budget.meter(context.limits().steps);
            match solver.find_hole(Scope::Before, Some(first), &takes, &mut meter, &mut Vec::new())
            {
                Ok(Some(hole)) => {
                    let effect = Effect::of(own, context.action(Some(first)));
                    let decided = Some(context.index(first));
                    let verifies = |it: &Packet| context.verifies(decided, Some(slot), it);
                    finding = Finding {
                        kind: FindingKind::Contradiction,
                        severity: if effect.is_some() { Severity::Error } else { Severity::Info },
                        because,
                        conflicts_with: Some(Conflict { rule: context.index(first), share: 1.0 }),
                        effect,
                        witness: witness(context, &hole).filter(verifies),
                        ..finding
                    };
                    proving = vec![first];
                }
                // That rule is hidden itself, so the two contradict each other on no packet.
                Ok(None) => {}
                Err(obstacle) => outcome.undecided(Task::Conflict, obstacle, slot),
            }
        }
    }
    if finding.kind == FindingKind::Unreachable {
        let kept = unreachable(&mut solver, proving.clone(), small_conflict, &mut finding, outcome);
        if !kept {
            return;
        }
    }
    let mut meter = context.budget.meter(context.limits().steps);
    match hidden_until(&mut solver, &proving, &mut meter) {
        Ok(until) => finding.until = until,
        Err(obstacle) => outcome.undecided(Task::Until, obstacle, slot),
    }
    // The fault ends when the rules expire that it rests on, unless others start in time.
    if finding.until.is_some() && !is_followed(context, slot) {
        finding.severity = Severity::Info;
    }
    outcome.findings.push(finding);
}

/// Whether an earlier rule with packets of a rule starts later. It can take the place of one that
/// expires.
fn is_followed(context: &Context<'_>, slot: Slot) -> bool {
    let is_there = |_: Slot| true;
    let mut meter = context.budget.meter(context.limits().steps);
    let mut solver = Solver::new(context, slot, &is_there);
    match solver.earlier(&mut meter) {
        Ok(earlier) => {
            earlier.rules(&context.space).into_iter().any(|rule| !context.is_active(rule))
        }
        Err(_) => true,
    }
}

/// Completes the finding of an unreachable rule. Returns false if its witness is refuted.
fn unreachable(
    solver: &mut Solver<'_>,
    cover: Vec<Slot>,
    small_conflict: f64,
    finding: &mut Finding,
    outcome: &mut Outcome,
) -> bool {
    let (context, slot) = (solver.context, solver.slot);
    let own = context.action(Some(slot));
    let proof = if cover.len() < 2 {
        Ok(super::proof::Proof { rules: cover.clone(), is_minimal: true })
    } else {
        let mut meter = meter_to_shorten(context, solver, &cover);
        minimal(solver, Scope::Before, &|_| false, cover.clone(), &mut meter)
    };
    let (rules, is_minimal) = match proof {
        Ok(proof) => (proof.rules, proof.is_minimal),
        Err(obstacle) => {
            outcome.undecided(Task::Minimal, obstacle, slot);
            (cover, false)
        }
    };
    if !is_minimal && !outcome.is_undecided(Task::Minimal) {
        outcome.undecided(Task::Minimal, Obstacle::Steps, slot);
    }
    finding.is_minimal = is_minimal;
    finding.because = rules
        .iter()
        .map(|rule| Cover { rule: context.index(*rule), share: share(&context.space, slot, *rule) })
        .collect();
    finding.because.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.rule.cmp(&b.rule)));
    let mut meter = context.budget.meter(context.limits().steps);
    match terminating(solver, &mut meter) {
        Ok(None) => {}
        Ok(Some(found)) => {
            let rule = context.index(found.rule);
            let packet = witness(context, &found.hole);
            let is_shown =
                packet.is_some_and(|packet| context.verifies(Some(rule), Some(slot), &packet));
            if !is_shown {
                outcome.undecided(Task::Witness, Obstacle::Defect, slot);
                return false;
            }
            finding.witness = packet;
            finding.conflicts_with = Some(Conflict { rule, share: found.share });
            finding.effect = Effect::of(own, context.action(Some(found.rule)));
            let most = context.limits().packets;
            (finding.packets, finding.is_packets_complete) =
                taken_packets(solver, found.rule, most).unwrap_or((Vec::new(), false));
            if finding.effect == Some(Effect::Opens) && found.share >= small_conflict {
                finding.severity = Severity::Error;
            }
        }
        Err(obstacle) => outcome.undecided(Task::Conflict, obstacle, slot),
    }
    true
}

/// The steps to list the packets that a rule takes from a hidden one.
const STEPS_TO_LIST: u64 = 200_000;

/// The packets of a hidden rule that another rule decides, and whether these are all.
fn taken_packets(
    solver: &Solver<'_>,
    rule: Slot,
    most: usize,
) -> Result<(Vec<PacketSet>, bool), Obstacle> {
    let (context, slot) = (solver.context, solver.slot);
    // 1 is the label of the rule; later rules do not matter.
    let of = |it: Slot| (it <= rule).then(|| (OnSides::LEFT, u32::from(it == rule)));
    let exploration = Exploration {
        space: &context.space,
        at: context.at,
        last: [Last { label: 0, rule: None }, Last { label: NO_LABEL, rule: None }],
        of: &of,
        is_done: &|_| false,
        done: &[],
        wants: &|label| label == 1,
        names_rules: false,
        most: most.saturating_add(1),
    };
    let mut meter = context.budget.meter(STEPS_TO_LIST);
    let mut pieces = Vec::new();
    let is_complete = exploration.run_rule(slot, &mut meter, &mut pieces)?;
    let joined = joined(&context.space, pieces);
    let is_complete = is_complete && joined.len() <= most;
    Ok((joined.into_iter().take(most).map(|it| it.packets).collect(), is_complete))
}

/// The budget to make a proof small: a few times what finding it again takes.
fn meter_to_shorten<'a>(
    context: &Context<'a>,
    solver: &mut Solver<'_>,
    cover: &[Slot],
) -> Meter<'a> {
    let mut meter = context.budget.meter(context.limits().steps);
    let takes = |rule: Slot| cover.binary_search(&rule).is_ok();
    let again = solver.find_hole(Scope::Before, None, &takes, &mut meter, &mut Vec::new());
    let steps = if again.is_ok() { meter.steps } else { 0 };
    let steps = steps.saturating_mul(STEPS_TO_SHORTEN).saturating_add(LEAST_STEPS_TO_SHORTEN);
    context.budget.meter(steps.min(context.limits().steps))
}
