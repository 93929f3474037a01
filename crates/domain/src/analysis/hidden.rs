//! Findings about rules that no packet reaches: contradictions, duplicates, unreachable rules.

use super::budget::Meter;
use super::collect::joined;
use super::context::Context;
use super::explore::decided_by;
use super::findings::Outcome;
use super::intern::FxHashMap;
use super::measure::share;
use super::packets::PacketSet;
use super::proof::{minimal, terminating};
use super::question::Hole;
use super::reach::witnesses;
use super::report::{Conflict, Cover, Effect, Finding, FindingKind, Obstacle, Severity, Task};
use super::solver::{Scope, Solver};
use super::space::{Meaning, Slot};
use super::until::{Fault, Seeks, change_ahead, is_hidden};
use crate::packet::Packet;

/// The first active rule of each meaning.
pub(super) struct Meanings(FxHashMap<Meaning, Slot>);

impl Meanings {
    pub(super) fn new(context: &Context<'_>) -> Self {
        let mut first = FxHashMap::default();
        for slot in context.active() {
            first.entry(context.space.meaning(slot)).or_insert(slot);
        }
        Self(first)
    }

    /// The first rule before a rule that matches the same packets. No other one before it can decide
    /// any of them.
    fn before(&self, context: &Context<'_>, slot: Slot) -> Option<Slot> {
        let first = self.0.get(&context.space.meaning(slot)).copied();
        first.filter(|first| *first < slot)
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
    seeks: Seeks,
    outcome: &mut Outcome,
) {
    let is_there = |slot: Slot| context.is_active(slot);
    let mut solver = Solver::new(context, slot, &is_there);
    let equal = meanings.before(context, slot);
    let repeated = equal.and_then(|equal| repeated(&mut solver, equal, outcome));
    let proving = equal.filter(|_| repeated.is_some()).map_or(cover, |equal| vec![equal]);
    let found =
        repeated.or_else(|| unreachable(&mut solver, &proving, seeks.small_conflict, outcome));
    let Some(mut finding) = found else { return };
    let mut meter = context.budget.meter(context.limits().steps);
    let fault = (finding.kind, finding.severity);
    match change_ahead(context, slot, fault, &proving, seeks, &mut meter) {
        Ok(None) => {}
        Ok(Some(change)) => {
            finding.until = Some(change.at);
            // From then on packets reach the rule.
            if change.fault.is_none_or(|(kind, _)| !is_hidden(kind)) {
                finding.severity = Severity::Info;
            }
        }
        Err(obstacle) => outcome.undecided(Task::Until, obstacle, slot),
    }
    outcome.findings.push(finding);
}

/// What is wrong with a rule that no packet reaches. `equal` is the first active rule before it that
/// matches the same packets.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
pub(super) fn hidden_fault(
    solver: &mut Solver<'_>,
    equal: Option<Slot>,
    small_conflict: f64,
    meter: &mut Meter<'_>,
) -> Result<Fault, Obstacle> {
    let own = solver.context.action(Some(solver.slot));
    if let Some(equal) = equal {
        let other = solver.context.action(Some(equal));
        if own == other {
            return Ok((FindingKind::Duplicate, Severity::Warning));
        }
        if contradicted_packets(solver, equal, meter)?.is_some() {
            let effect = Effect::of(own, other);
            return Ok((FindingKind::Contradiction, contradiction_severity(effect)));
        }
    }
    let conflict = terminating(solver, meter)?;
    let severity = conflict.map_or(Severity::Warning, |it| {
        let effect = Effect::of(own, solver.context.action(Some(it.rule)));
        unreachable_severity(effect, it.share, small_conflict)
    });
    Ok((FindingKind::Unreachable, severity))
}

const fn contradiction_severity(effect: Option<Effect>) -> Severity {
    if effect.is_some() { Severity::Error } else { Severity::Info }
}

fn unreachable_severity(effect: Option<Effect>, share: f64, small_conflict: f64) -> Severity {
    let is_error = effect == Some(Effect::Opens) && share >= small_conflict;
    if is_error { Severity::Error } else { Severity::Warning }
}

/// Packets of a rule that an earlier rule with the same packets and another action decides; none if
/// the earlier one decides none, or if that is the smaller matter: both stop packets, and a third rule
/// lets some of them through.
fn contradicted_packets(
    solver: &mut Solver<'_>,
    equal: Slot,
    meter: &mut Meter<'_>,
) -> Result<Option<Hole>, Obstacle> {
    let is_before = |it: Slot| it < equal;
    let hole = solver.find_hole(Scope::Before, Some(equal), &is_before, meter, &mut Vec::new())?;
    let context = solver.context;
    let own = context.action(Some(solver.slot));
    let effect_of = |rule: Slot| Effect::of(own, context.action(Some(rule)));
    if hole.is_some() && effect_of(equal).is_none() {
        let conflict = terminating(solver, meter)?;
        if conflict.is_some_and(|it| effect_of(it.rule).is_some()) {
            return Ok(None);
        }
    }
    Ok(hole)
}

/// The finding about a rule that matches the same packets as an earlier one: a duplicate, or a
/// contradiction. None if they contradict each other on no packet, because the earlier rule is hidden
/// itself, if something worse happens to other packets of the rule, or if that is undecided.
fn repeated(solver: &mut Solver<'_>, equal: Slot, outcome: &mut Outcome) -> Option<Finding> {
    let (context, slot) = (solver.context, solver.slot);
    let (own, other) = (context.action(Some(slot)), context.action(Some(equal)));
    let rule = context.index(equal);
    let finding = Finding {
        because: vec![Cover { rule, share: 1.0 }],
        ..Finding::new(FindingKind::Duplicate, Severity::Warning, context.index(slot))
    };
    if own == other {
        return Some(finding);
    }
    let mut meter = context.budget.meter(context.limits().steps);
    let hole = match contradicted_packets(solver, equal, &mut meter) {
        Ok(hole) => hole?,
        Err(obstacle) => {
            outcome.undecided(Task::Conflict, obstacle, slot);
            return None;
        }
    };
    let witness = shown(context, equal, slot, &hole, outcome)?;
    let effect = Effect::of(own, other);
    Some(Finding {
        kind: FindingKind::Contradiction,
        severity: contradiction_severity(effect),
        conflicts_with: Some(Conflict { rule, share: 1.0, first: rule }),
        effect,
        witness: Some(witness),
        ..finding
    })
}

/// A packet of a hidden rule that another one decides; none, and a defect, if the definition refutes
/// it.
fn shown(
    context: &Context<'_>,
    decides: Slot,
    slot: Slot,
    hole: &Hole,
    outcome: &mut Outcome,
) -> Option<Packet> {
    let decides = Some(context.index(decides));
    let packet = witnesses(context, hole).find(|it| context.verifies(decides, Some(slot), it));
    if packet.is_none() {
        outcome.undecided(Task::Witness, Obstacle::Defect, slot);
    }
    packet
}

/// The finding about an unreachable rule; none if its witness is refuted.
fn unreachable(
    solver: &mut Solver<'_>,
    cover: &[Slot],
    small_conflict: f64,
    outcome: &mut Outcome,
) -> Option<Finding> {
    let (context, slot) = (solver.context, solver.slot);
    let own = context.action(Some(slot));
    let mut finding =
        Finding::new(FindingKind::Unreachable, Severity::Warning, context.index(slot));
    let proof = if cover.len() < 2 {
        Ok(super::proof::Proof { rules: cover.to_vec(), is_minimal: true })
    } else {
        let mut meter = meter_to_shorten(context, solver, cover);
        minimal(solver, Scope::Before, &|_| false, cover.to_vec(), &mut meter)
    };
    let (rules, is_minimal) = match proof {
        Ok(proof) => (proof.rules, proof.is_minimal),
        Err(obstacle) => {
            outcome.undecided(Task::Minimal, obstacle, slot);
            (cover.to_vec(), false)
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
            finding.witness = Some(shown(context, found.rule, slot, &found.hole, outcome)?);
            let first = context.index(found.first);
            finding.conflicts_with = Some(Conflict { rule, share: found.share, first });
            finding.effect = Effect::of(own, context.action(Some(found.rule)));
            let most = context.limits().packets;
            (finding.packets, finding.is_packets_complete) =
                taken_packets(solver, found.rule, most).unwrap_or((Vec::new(), false));
            finding.severity = unreachable_severity(finding.effect, found.share, small_conflict);
        }
        Err(obstacle) => outcome.undecided(Task::Conflict, obstacle, slot),
    }
    Some(finding)
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
    let mut meter = context.budget.meter(STEPS_TO_LIST);
    let mut pieces = Vec::new();
    let is_complete = decided_by(context, rule, most.saturating_add(1), |exploration| {
        exploration.run_common((slot, rule), &mut meter, &mut pieces)
    })?;
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
