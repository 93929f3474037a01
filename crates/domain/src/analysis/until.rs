//! From when on a finding no longer holds, because rules start or expire.

use super::budget::Meter;
use super::context::Context;
use super::question::{Neighbors, Side};
use super::report::Obstacle;
use super::solver::{Scope, Solver};
use super::space::{Slot, SpaceRule};
use crate::time::Instant;

/// When a rule is no longer covered, because rules of its cover expire; none if it is covered as long
/// as it exists itself.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
pub(super) fn hidden_until(
    solver: &mut Solver<'_>,
    cover: &[Slot],
    meter: &mut Meter<'_>,
) -> Result<Option<Instant>, Obstacle> {
    let (context, slot) = (solver.context, solver.slot);
    let end = |rule: Slot| expiry(context, rule);
    let own = end(slot);
    // What outlives the rule itself need not be looked at.
    let outlives = |rule: Slot| match (end(rule), own) {
        (None, _) => true,
        (Some(end), Some(own)) => own <= end,
        (Some(_), None) => false,
    };
    if !context.space.has_times || cover.iter().all(|rule| outlives(*rule)) {
        return Ok(None);
    }
    if solver.find_hole(Scope::Before, None, &outlives, meter, &mut Vec::new())?.is_none() {
        return Ok(None);
    }
    // The rules that live until an instant or longer cover it up to then. The latest such instant is
    // found by halves: the later it is, the fewer rules there are.
    let earlier = solver.earlier(meter)?.rules(&context.space);
    let mut ends: Vec<Instant> =
        earlier.iter().filter(|rule| !outlives(**rule)).filter_map(|rule| end(*rule)).collect();
    ends.sort_unstable();
    ends.dedup();
    let (mut holds, mut fails) = (0, ends.len());
    // The first end holds: all rules of the present live until then.
    while fails - holds > 1 {
        let middle = usize::midpoint(holds, fails);
        let Some(at) = ends.get(middle).copied() else { break };
        let takes = |rule: Slot| end(rule).is_none_or(|end| at <= end);
        if solver.find_hole(Scope::Before, None, &takes, meter, &mut Vec::new())?.is_none() {
            holds = middle;
        } else {
            fails = middle;
        }
    }
    Ok(ends.get(holds).copied())
}

/// The first start or expiry ahead after which a redundant rule changes a verdict; none if there is
/// no such instant in its own life.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
pub(super) fn redundant_until(
    context: &Context<'_>,
    slot: Slot,
    meter: &mut Meter<'_>,
) -> Result<Option<Instant>, Obstacle> {
    let space = &context.space;
    if !space.has_times {
        return Ok(None);
    }
    let mut near: Vec<Slot> = Vec::new();
    for side in [Side::Earlier, Side::Later] {
        // Rules that contain the rule now may expire, and rules that start later may matter.
        let lasts = |rule: Slot| space.rules.get(rule as usize).is_some_and(|it| !is_timed(it));
        near.extend(Neighbors::of_any_time(space, slot, side, &lasts, meter)?.rules(space));
    }
    let own = expiry(context, slot);
    let lives = near.iter().filter_map(|rule| space.rules.get(*rule as usize)).map(|it| it.life);
    let mut ends: Vec<Instant> = lives
        .flat_map(|life| [life.starts_at, life.expires_at])
        .flatten()
        .filter(|it| context.at < *it && own.is_none_or(|own| *it < own))
        .collect();
    ends.sort_unstable();
    ends.dedup();
    for end in ends {
        let is_there = |rule: Slot| space.is_active(rule, end);
        if Solver::new(context, slot, &is_there).find_difference(meter)?.is_some() {
            return Ok(Some(end));
        }
    }
    Ok(None)
}

const fn is_timed(rule: &SpaceRule) -> bool {
    rule.life.starts_at.is_some() || rule.life.expires_at.is_some()
}

/// When a rule expires.
fn expiry(context: &Context<'_>, rule: Slot) -> Option<Instant> {
    context.space.rules.get(rule as usize).and_then(|rule| rule.life.expires_at)
}
