//! Findings about rules that change no verdict.

use super::budget::Meter;
use super::context::Context;
use super::findings::Outcome;
use super::measure::share;
use super::proof::minimal;
use super::question::{Hole, Neighbors, Side};
use super::reach::first_point;
use super::report::{Cover, Finding, FindingKind, Fix, Obstacle, RuleIndex, Severity, Task};
use super::solver::{Scope, Solver};
use super::space::Slot;
use super::until::{Fault, Seeks, change_ahead, instants_ahead};
use crate::time::Instant;

/// The most later rules among which a smallest proof is searched whatever it takes.
const FEW_RULES: usize = 8;
/// The steps to make a longer proof small, for each step that it took to find it.
const STEPS_TO_SHORTEN: u64 = 5;
/// The least steps to make a longer proof small.
const LEAST_STEPS_TO_SHORTEN: u64 = 20_000;

/// What is wrong with a rule that changes no verdict.
pub(super) fn redundant_fault(context: &Context<'_>, slot: Slot, needs_default: bool) -> Fault {
    let logs = context.spec(slot).is_some_and(|spec| spec.log);
    match (needs_default, logs) {
        (true, _) => (FindingKind::RestatesDefault, Severity::Info),
        (false, true) => (FindingKind::Redundant, Severity::Info),
        (false, false) => (FindingKind::Redundant, Severity::Warning),
    }
}

/// The finding about a rule that changes no verdict.
pub(super) fn redundant(
    context: &Context<'_>,
    slot: Slot,
    needs_default: bool,
    seeks: Seeks,
    outcome: &mut Outcome,
) {
    let logs = context.spec(slot).is_some_and(|spec| spec.log);
    let (kind, severity) = redundant_fault(context, slot, needs_default);
    let mut finding = Finding { logs, ..Finding::new(kind, severity, context.index(slot)) };
    if !needs_default {
        let successors = successors(context, slot);
        finding.because = successors.because;
        finding.is_minimal = successors.is_minimal.is_ok();
        if let Err(obstacle) = successors.is_minimal {
            outcome.undecided(Task::Minimal, obstacle, slot);
        }
    }
    let mut meter = context.budget.meter(context.limits().steps);
    match change_ahead(context, slot, (kind, severity), &[], seeks, &mut meter) {
        Ok(None) => {}
        Ok(Some(change)) => {
            finding.until = Some(change.at);
            // From then on the rule is needed.
            if change.fault.is_none() {
                finding.severity = Severity::Info;
            }
        }
        Err(obstacle) => outcome.undecided(Task::Until, obstacle, slot),
    }
    outcome.findings.push(finding);
}

/// The later rules of the same action that decide the packets of a redundant rule without it.
struct Successors {
    because: Vec<Cover>,
    /// Whether none of them can be left out, or why that is not known.
    is_minimal: Result<(), Obstacle>,
}

fn successors(context: &Context<'_>, slot: Slot) -> Successors {
    let is_there = |slot: Slot| context.is_active(slot);
    let mut rules = Vec::new();
    let mut is_minimal = find_successors(Solver::new(context, slot, &is_there), &mut rules);
    match with_those_before(context, slot, &rules) {
        Ok(None) => {}
        Ok(Some(all)) => (rules, is_minimal) = (all.rules, all.is_minimal),
        Err(obstacle) => is_minimal = Err(obstacle),
    }
    let mut because: Vec<Cover> = rules
        .iter()
        .map(|rule| Cover { rule: context.index(*rule), share: share(&context.space, slot, *rule) })
        .collect();
    because.sort_by(|a, b| b.share.total_cmp(&a.share).then(a.rule.cmp(&b.rule)));
    Successors { because, is_minimal }
}

/// The rules of a proof, and whether none of them can be left out, or why that is not known.
struct Proven {
    rules: Vec<Slot>,
    is_minimal: Result<(), Obstacle>,
}

/// Rules of another action can be between a redundant rule and the rules that cover it. Other rules then
/// take their packets before, and belong to the proof. Returns all that do; none if `rules` are enough.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
fn with_those_before(
    context: &Context<'_>,
    slot: Slot,
    rules: &[Slot],
) -> Result<Option<Proven>, Obstacle> {
    let own = context.action(Some(slot));
    let is_own = |rule: Slot| context.action(Some(rule)) == own;
    let mut meter = context.budget.meter(context.limits().steps);
    let later = |it: Slot| it > slot && context.is_active(it);
    let near =
        Neighbors::all_later(&context.space, slot, &later, &mut meter)?.rules(&context.space);
    let last = rules.iter().copied().max().unwrap_or(slot);
    if near.iter().all(|rule| *rule > last || is_own(*rule)) {
        return Ok(None);
    }
    let mut is_enough = |rules: &[Slot]| {
        let is_there =
            |it: Slot| context.is_active(it) && (it <= slot || !is_own(it) || rules.contains(&it));
        let mut solver = Solver::new(context, slot, &is_there);
        let takes = |it: Slot| it < slot || rules.contains(&it);
        // The default may have the same action, but decides none of the packets.
        let hole = solver.find_hole(Scope::All, None, &takes, &mut meter, &mut Vec::new())?;
        Ok(hole.is_none() && solver.find_difference(&mut meter)?.is_none())
    };
    if is_enough(rules)? {
        return Ok(None);
    }
    let mut all: Vec<Slot> = near.into_iter().filter(|rule| is_own(*rule)).collect();
    // Those that contain least go first.
    let mut order: Vec<(f64, Slot)> =
        all.iter().map(|rule| (share(&context.space, slot, *rule), *rule)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
    for (_, rule) in order {
        let without: Vec<Slot> = all.iter().copied().filter(|it| *it != rule).collect();
        match is_enough(&without) {
            Ok(true) => all = without,
            Ok(false) => {}
            Err(obstacle) => return Ok(Some(Proven { rules: all, is_minimal: Err(obstacle) })),
        }
    }
    Ok(Some(Proven { rules: all, is_minimal: Ok(()) }))
}

/// Finds the rules of [`Successors`]. If it returns an [`Obstacle`], the rules that it has found by
/// then are a proof all the same.
fn find_successors(mut solver: Solver<'_>, rules: &mut Vec<Slot>) -> Result<(), Obstacle> {
    let (context, slot) = (solver.context, solver.slot);
    let mut meter = context.budget.meter(context.limits().steps);
    let own = context.action(Some(slot));
    let is_own = |rule: &Slot| context.action(Some(*rule)) == own;
    let later = solver.later(&mut meter)?;
    if let [only] = &later.0[..]
        && let Some(one) = only.container.filter(is_own)
    {
        // Whatever comes before it, this one rule is enough.
        rules.push(one);
        return Ok(());
    }
    // All later rules of the action decide the packets; the search finds fewer.
    rules.extend(later.rules(&context.space).into_iter().filter(is_own));
    let takes = |rule: Slot| rule < slot || is_own(&rule);
    let mut used = Vec::new();
    let before = meter.steps;
    solver.find_hole(Scope::All, None, &takes, &mut meter, &mut used)?;
    used.retain(|rule| *rule > slot);
    rules.clone_from(&used);
    if used.len() < 2 {
        return Ok(());
    }
    let is_earlier = |rule: Slot| rule < slot;
    let steps = if used.len() <= FEW_RULES {
        context.limits().steps
    } else {
        let steps = meter.steps.saturating_sub(before).saturating_mul(STEPS_TO_SHORTEN);
        steps.saturating_add(LEAST_STEPS_TO_SHORTEN).min(context.limits().steps)
    };
    let mut meter = context.budget.meter(steps);
    // The list of later rules ends where a rule contains all packets of a part. A rule after the end
    // can take the place of others, so that they can be left out.
    let is_used = |rule: Slot| used.binary_search(&rule).is_ok();
    let all = Neighbors::all_later(&context.space, slot, &is_used, &mut meter)?;
    let mut solver = solver.with_later(all);
    let proof = minimal(&mut solver, Scope::All, &is_earlier, used.clone(), &mut meter)?;
    *rules = proof.rules;
    if proof.is_minimal { Ok(()) } else { Err(Obstacle::Steps) }
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
    // No deletion of a rule that logs is suggested, so it is there for all others.
    redundant.sort_by_key(|finding| (finding.logs, finding.rule));
    for finding in redundant {
        let Some(slot) = context.slot(finding.rule) else { continue };
        match without_gone(context, slot, finding.until, &|it| is_set(&gone, it)) {
            Ok(None) if finding.logs => {}
            Ok(None) => set(&mut gone, slot),
            Ok(Some(together)) => finding.together = together,
            Err(obstacle) => undecided.push((obstacle, slot)),
        }
    }
    for (obstacle, slot) in undecided {
        outcome.undecided(Task::Together, obstacle, slot);
    }
}

/// The rules that are gone and for which a redundant rule must stay; none if it may go as well.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
pub(super) fn without_gone(
    context: &Context<'_>,
    slot: Slot,
    until: Option<Instant>,
    is_gone: &dyn Fn(Slot) -> bool,
) -> Result<Option<Vec<RuleIndex>>, Obstacle> {
    let Some((then, hole)) = needed(context, slot, until, is_gone)? else { return Ok(None) };
    let point = first_point(&hole.cell);
    let holds = |it: &Slot| {
        let parts = then.space.parts(*it, hole.family);
        point.is_some_and(|at| parts.iter().any(|part| then.space.has(part, &at)))
    };
    let rules = then.active().filter(|it| is_gone(*it));
    Ok(Some(rules.filter(holds).map(|it| context.index(it)).collect()))
}

/// Whether a rule that is gone can meet a rule.
fn meets_any(
    context: &Context<'_>,
    slot: Slot,
    is_gone: &dyn Fn(Slot) -> bool,
    meter: &mut Meter<'_>,
) -> Result<bool, Obstacle> {
    for side in [Side::Earlier, Side::Later] {
        if Neighbors::of(&context.space, slot, side, is_gone, meter)?.len() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A packet for which a redundant rule is needed when others are gone, with the instant: now or ahead,
/// as long as the rule is redundant by itself.
fn needed<'a>(
    context: &Context<'a>,
    slot: Slot,
    until: Option<Instant>,
    is_gone: &dyn Fn(Slot) -> bool,
) -> Result<Option<(Context<'a>, Hole)>, Obstacle> {
    let mut meter = context.budget.meter(context.limits().steps);
    if !meets_any(context, slot, is_gone, &mut meter)? {
        // All is as it was when the rule was found to be redundant.
        return Ok(None);
    }
    let ahead = instants_ahead(context, slot, is_gone, &mut meter)?;
    let ahead = ahead.into_iter().filter(|at| until.is_none_or(|until| *at < until));
    for at in std::iter::once(context.at).chain(ahead) {
        let then = context.later(at);
        let is_there = |it: Slot| !is_gone(it) && then.is_active(it);
        if let Some(hole) = Solver::new(&then, slot, &is_there).find_difference(&mut meter)? {
            return Ok(Some((then, hole)));
        }
    }
    Ok(None)
}

fn set(gone: &mut [bool], slot: Slot) {
    if let Some(it) = gone.get_mut(slot as usize) {
        *it = true;
    }
}

fn is_set(gone: &[bool], slot: Slot) -> bool {
    gone.get(slot as usize).copied().unwrap_or(false)
}
