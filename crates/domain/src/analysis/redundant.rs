//! Findings about rules that change no verdict.

use super::budget::Meter;
use super::context::Context;
use super::findings::Outcome;
use super::measure::share;
use super::proof::minimal;
use super::question::{Neighbors, Side};
use super::reach::first_point;
use super::report::{Cover, Finding, FindingKind, Fix, Obstacle, Severity, Task};
use super::solver::{Scope, Solver};
use super::space::Slot;
use super::until::redundant_until;

/// The most later rules among which a smallest proof is searched.
const MOST_TO_SHORTEN: usize = 8;

/// The finding about a rule that changes no verdict.
pub(super) fn redundant(
    context: &Context<'_>,
    slot: Slot,
    needs_default: bool,
    outcome: &mut Outcome,
) {
    let logs = context.spec(slot).is_some_and(|spec| spec.log);
    let (kind, severity) = match (needs_default, logs) {
        (true, _) => (FindingKind::RestatesDefault, Severity::Info),
        (false, true) => (FindingKind::Redundant, Severity::Info),
        (false, false) => (FindingKind::Redundant, Severity::Warning),
    };
    let mut finding = Finding { logs, ..Finding::new(kind, severity, context.index(slot)) };
    if !needs_default {
        match successors(context, slot) {
            Ok((because, is_minimal)) => {
                finding.because = because;
                finding.is_minimal = is_minimal;
            }
            Err(obstacle) => {
                finding.is_minimal = false;
                outcome.undecided(Task::Minimal, obstacle, slot);
            }
        }
    }
    let mut meter = context.budget.meter(context.limits().steps);
    match redundant_until(context, slot, &mut meter) {
        Ok(until) => finding.until = until,
        Err(obstacle) => outcome.undecided(Task::Until, obstacle, slot),
    }
    if finding.until.is_some() {
        finding.severity = Severity::Info;
    }
    outcome.findings.push(finding);
}

/// The later rules of the same action that decide the packets of a redundant rule without it, and
/// whether none of them can be left out.
fn successors(context: &Context<'_>, slot: Slot) -> Result<(Vec<Cover>, bool), Obstacle> {
    let is_there = |slot: Slot| context.is_active(slot);
    let mut solver = Solver::new(context, slot, &is_there);
    let mut meter = context.budget.meter(context.limits().steps);
    let own = context.action(Some(slot));
    let takes = |rule: Slot| rule < slot || context.action(Some(rule)) == own;
    let later = solver.later(&mut meter)?;
    let containers: Vec<Option<Slot>> = later.0.iter().map(|it| it.container).collect();
    if let [Some(one)] = containers[..]
        && context.action(Some(one)) == own
    {
        // Whatever comes before it, this one rule is enough.
        let because = Cover { rule: context.index(one), share: 1.0 };
        return Ok((vec![because], true));
    }
    let mut used = Vec::new();
    solver.find_hole(Scope::All, None, &takes, &mut meter, &mut used)?;
    used.retain(|rule| *rule > slot);
    let mut is_minimal = used.len() < 2;
    if !is_minimal && used.len() <= MOST_TO_SHORTEN {
        let is_earlier = |rule: Slot| rule < slot;
        let proof = minimal(&mut solver, Scope::All, &is_earlier, used, &mut meter)?;
        (used, is_minimal) = (proof.rules, proof.is_minimal);
    }
    let mut because: Vec<Cover> = used
        .iter()
        .map(|rule| Cover { rule: context.index(*rule), share: share(&context.space, slot, *rule) })
        .collect();
    because.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.rule.cmp(&b.rule)));
    Ok((because, is_minimal))
}

/// Finds out which redundant rules may go at the same time. The hidden rules whose deletion is
/// suggested go first, which changes no verdict; then each redundant rule in turn, if it still is redundant without those that are gone.
/// Each one that must stay names the rules that are gone and hold a packet for which it is needed.
pub(super) fn together(context: &Context<'_>, outcome: &mut Outcome) {
    let mut gone = vec![false; context.indexes.len()];
    let mut undecided = Vec::new();
    let (mut redundant, hidden): (Vec<&mut Finding>, Vec<&mut Finding>) =
        outcome.findings.iter_mut().partition(|it| it.kind == FindingKind::Redundant);
    for finding in hidden {
        if let (Some(Fix::Delete(_)), Some(slot)) = (&finding.fix, context.slot(finding.rule)) {
            set(&mut gone, slot);
        }
    }
    redundant.retain(|it| !it.logs);
    redundant.sort_by_key(|finding| finding.rule);
    for finding in redundant {
        let Some(slot) = context.slot(finding.rule) else { continue };
        let is_there = |it: Slot| !is_set(&gone, it) && context.is_active(it);
        let mut solver = Solver::new(context, slot, &is_there);
        let mut meter = context.budget.meter(context.limits().steps);
        let difference = match meets_any(context, slot, &gone, &mut meter) {
            // All is as it was when the rule was found to be redundant.
            Ok(false) => Ok(None),
            Ok(true) => solver.find_difference(&mut meter),
            Err(obstacle) => Err(obstacle),
        };
        match difference {
            Ok(None) => set(&mut gone, slot),
            Ok(Some(hole)) => {
                let point = first_point(&hole.cell);
                let holds = |it: &Slot| {
                    let parts = context.space.parts(*it, hole.family);
                    point.is_some_and(|at| parts.iter().any(|part| context.space.has(part, &at)))
                };
                let rules = context.active().filter(|it| is_set(&gone, *it));
                finding.together = rules.filter(holds).map(|it| context.index(it)).collect();
            }
            Err(obstacle) => undecided.push((obstacle, slot)),
        }
    }
    for (obstacle, slot) in undecided {
        outcome.undecided(Task::Together, obstacle, slot);
    }
}

/// Whether a rule that is gone can meet a rule.
fn meets_any(
    context: &Context<'_>,
    slot: Slot,
    gone: &[bool],
    meter: &mut Meter<'_>,
) -> Result<bool, Obstacle> {
    let is_gone = |it: Slot| is_set(gone, it);
    for side in [Side::Earlier, Side::Later] {
        if Neighbors::of(&context.space, slot, side, &is_gone, meter)?.len() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn set(gone: &mut [bool], slot: Slot) {
    if let Some(it) = gone.get_mut(slot as usize) {
        *it = true;
    }
}

fn is_set(gone: &[bool], slot: Slot) -> bool {
    gone.get(slot as usize).copied().unwrap_or(false)
}
