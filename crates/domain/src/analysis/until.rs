//! From when on a finding about the reach of a rule no longer holds, because rules start or expire.

use super::budget::Meter;
use super::context::Context;
use super::hidden::hidden_fault;
use super::points::sample;
use super::question::{Neighbors, Side};
use super::reach::{Effectiveness, Reach, effectiveness, reach};
use super::redundant::redundant_fault;
use super::report::{FindingKind, Obstacle, Severity};
use super::solver::Solver;
use super::space::{Slot, Space, SpaceRule};
use crate::rule::Action;
use crate::time::Instant;

/// What is wrong with the reach of a rule: the kind of its finding, and how serious that is if it
/// stays so.
pub(super) type Fault = (FindingKind, Severity);

/// What decides which faults there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seeks {
    /// A conflict below this share of a hidden rule is a warning, not an error.
    pub(super) small_conflict: f64,
    /// Whether rules that change no verdict are searched.
    pub(super) redundant: bool,
}

/// The first start or expiry of another rule that changes a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: Instant,
    /// What is wrong from then on; none if nothing is.
    pub(super) fault: Option<Fault>,
}

/// The steps of an instant that no meter counts: packets are tried before a search.
const STEPS_OF_INSTANT: u64 = 10_000;

/// The first start or expiry ahead that changes the fault of a rule; none if there is no such instant
/// in its own life. `proof` has the earlier rules that cover a hidden rule.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
pub(super) fn change_ahead(
    context: &Context<'_>,
    slot: Slot,
    now: Fault,
    proof: &[Slot],
    seeks: Seeks,
    meter: &mut Meter<'_>,
) -> Result<Option<Change>, Obstacle> {
    let space = &context.space;
    if !space.has_times {
        return Ok(None);
    }
    let earlier = near(space, slot, Side::Earlier, &|_| false, meter)?;
    let later = near(space, slot, Side::Later, &|_| false, meter)?;
    let of_earlier = instants_of(context, slot, &earlier);
    let mut instants = instants_of(context, slot, &later);
    instants.extend_from_slice(&of_earlier);
    instants.sort_unstable();
    instants.dedup();
    if instants.is_empty() {
        return Ok(None);
    }
    let own = context.action(Some(slot));
    let is_hidden = is_hidden(now.0);
    let mut equals = is_hidden.then(|| equals(space, slot, &earlier, meter));
    let has_others = earlier.iter().any(|rule| context.action(Some(*rule)) != own);
    for at in instants {
        let then = context.later(at);
        // Later rules do not matter to a hidden rule, nor does much else to most of them.
        let is_same = is_hidden
            && (of_earlier.binary_search(&at).is_err()
                || match now.0 {
                    FindingKind::Duplicate => {
                        repeated_action(&then, equals.as_deref()).is_some_and(|it| it == own)
                    }
                    _ => {
                        !has_others
                            && equals.as_ref().is_some_and(Vec::is_empty)
                            && proof.iter().all(|rule| then.is_active(*rule))
                    }
                });
        if is_same {
            continue;
        }
        meter.steps += STEPS_OF_INSTANT;
        meter.check()?;
        let fault = fault(&then, slot, &mut equals, &earlier, seeks, meter)?;
        if fault != Some(now) {
            return Ok(Some(Change { at, fault }));
        }
    }
    Ok(None)
}

/// The instants ahead in the life of a rule at which a rule that meets it starts or expires, in order.
/// Rules that are gone hide no others.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
pub(super) fn instants_ahead(
    context: &Context<'_>,
    slot: Slot,
    is_gone: &dyn Fn(Slot) -> bool,
    meter: &mut Meter<'_>,
) -> Result<Vec<Instant>, Obstacle> {
    let space = &context.space;
    if !space.has_times {
        return Ok(Vec::new());
    }
    let mut rules = near(space, slot, Side::Earlier, is_gone, meter)?;
    rules.extend(near(space, slot, Side::Later, is_gone, meter)?);
    Ok(instants_of(context, slot, &rules))
}

/// The rules on one side of a rule that meet it at any time.
fn near(
    space: &Space,
    slot: Slot,
    side: Side,
    is_gone: &dyn Fn(Slot) -> bool,
    meter: &mut Meter<'_>,
) -> Result<Vec<Slot>, Obstacle> {
    // Rules that contain the rule now may expire, and rules that start later may matter.
    let lasts = |rule: Slot| {
        !is_gone(rule) && space.rules.get(rule as usize).is_some_and(|it| !is_timed(it))
    };
    Ok(Neighbors::of_any_time(space, slot, side, &lasts, meter)?.rules(space))
}

/// Whether a kind of finding is about rules that no packet reaches.
pub(super) const fn is_hidden(kind: FindingKind) -> bool {
    matches!(kind, FindingKind::Contradiction | FindingKind::Duplicate | FindingKind::Unreachable)
}

/// What is wrong with a rule at an instant. `equals` is made when it is needed.
fn fault(
    context: &Context<'_>,
    slot: Slot,
    equals: &mut Option<Vec<Slot>>,
    earlier: &[Slot],
    seeks: Seeks,
    meter: &mut Meter<'_>,
) -> Result<Option<Fault>, Obstacle> {
    let is_there = |rule: Slot| context.is_active(rule);
    let mut solver = Solver::new(context, slot, &is_there);
    let mut sampled = sample(context, slot);
    if let Reach::Hidden(_) = reach(&mut solver, &mut sampled, meter)? {
        let equals =
            equals.get_or_insert_with(|| self::equals(&context.space, slot, earlier, meter));
        let equal = equals.iter().copied().find(|rule| context.is_active(*rule));
        return hidden_fault(&mut solver, equal, seeks.small_conflict, meter).map(Some);
    }
    if !seeks.redundant {
        return Ok(None);
    }
    Ok(match effectiveness(&mut solver, &mut sampled, meter)? {
        Effectiveness::Needed => None,
        Effectiveness::Redundant { needs_default } => {
            Some(redundant_fault(context, slot, needs_default))
        }
    })
}

/// The action of the first of some rules that is active.
fn repeated_action(context: &Context<'_>, equals: Option<&[Slot]>) -> Option<Action> {
    let first = equals?.iter().copied().find(|rule| context.is_active(*rule));
    first.map(|rule| context.action(Some(rule)))
}

/// The rules among some that match the same packets as a rule.
fn equals(space: &Space, slot: Slot, among: &[Slot], meter: &mut Meter<'_>) -> Vec<Slot> {
    let mut is_equal = |rule: &Slot| {
        space.contains_rule(*rule, slot, &mut meter.steps)
            && space.contains_rule(slot, *rule, &mut meter.steps)
    };
    among.iter().copied().filter(|rule| is_equal(rule)).collect()
}

/// The instants ahead in the life of a rule at which one of some rules starts or expires, in order.
pub(super) fn instants_of(context: &Context<'_>, slot: Slot, rules: &[Slot]) -> Vec<Instant> {
    let space = &context.space;
    let own = space.rules.get(slot as usize).and_then(|rule| rule.life.expires_at);
    let lives = rules.iter().filter_map(|rule| space.rules.get(*rule as usize)).map(|it| it.life);
    let mut instants: Vec<Instant> = lives
        .flat_map(|life| [life.starts_at, life.expires_at])
        .flatten()
        .filter(|it| context.at < *it && own.is_none_or(|own| *it < own))
        .collect();
    instants.sort_unstable();
    instants.dedup();
    instants
}

const fn is_timed(rule: &SpaceRule) -> bool {
    rule.life.starts_at.is_some() || rule.life.expires_at.is_some()
}
