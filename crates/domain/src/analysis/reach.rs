//! Whether packets reach a rule, and whether it changes a verdict.

use super::bounds::Point;
use super::budget::Meter;
use super::cell::Cell;
use super::context::Context;
use super::intern::as_u32;
use super::near::TouchedBuffer;
use super::points::{Decides, Sampled, sample};
use super::question::Hole;
use super::report::Obstacle;
use super::solver::{Scope, Solver};
use super::space::{Part, Slot};
use crate::net::Family;

/// What is known about the reach of a rule.
#[derive(Debug)]
pub(super) enum Reach {
    /// No packet reaches it: these earlier rules cover it.
    Hidden(Vec<Slot>),
    /// Packets reach it.
    Reached,
}

/// Whether a rule that is reached has an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effectiveness {
    /// Some packet's verdict changes without it.
    Needed,
    /// No packet's verdict changes without it.
    Redundant {
        /// Some packet would meet the default, and the default has the same action.
        needs_default: bool,
    },
}

/// How many later rules of another action are tried at the corners of what both contain.
const TRIED_RULES: usize = 6;

/// Decides whether packets reach a rule. Completes what the sample has shown.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
pub(super) fn reach(
    solver: &mut Solver<'_>,
    sampled: &mut Sampled,
    meter: &mut Meter<'_>,
) -> Result<Reach, Obstacle> {
    let (context, slot) = (solver.context, solver.slot);
    if let Some(hidden_by) = sampled.hidden_by {
        return Ok(Reach::Hidden(vec![hidden_by]));
    }
    if sampled.reached.is_some() {
        return Ok(Reach::Reached);
    }
    let space = &context.space;
    let earlier = solver.earlier(meter)?.rules(space);
    let mut containers = earlier.into_iter();
    if let Some(one) = containers.find(|it| space.contains_rule(*it, slot, &mut meter.steps)) {
        return Ok(Reach::Hidden(vec![one]));
    }
    let mut used = Vec::new();
    let Some(hole) = solver.find_hole(Scope::Before, None, &|_| true, meter, &mut used)? else {
        return Ok(Reach::Hidden(used));
    };
    if let Some(point) = first_point(&hole.cell) {
        sampled.add(context, slot, hole.family, point);
    }
    Ok(Reach::Reached)
}

/// The first packet of a cell.
pub(super) fn first_point(cell: &Cell) -> Option<Point> {
    (!cell.is_empty()).then(|| cell.bounds().first)
}

/// Decides whether a rule that is reached changes a verdict. Completes what the sample has shown.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
pub(super) fn effectiveness(
    solver: &mut Solver<'_>,
    sampled: &mut Sampled,
    meter: &mut Meter<'_>,
) -> Result<Effectiveness, Obstacle> {
    if sampled.needed.is_some() {
        return Ok(Effectiveness::Needed);
    }
    let (context, slot) = (solver.context, solver.slot);
    if let Some(decides) = other_corner(context, slot, meter)? {
        sampled.needed = Some(decides);
        return Ok(Effectiveness::Needed);
    }
    let own = context.action(Some(slot));
    let default = context.policy.default_action;
    if let Some(hole) = solver.find_difference(meter)? {
        if let Some(point) = first_point(&hole.cell) {
            sampled.add(context, slot, hole.family, point);
        }
        return Ok(Effectiveness::Needed);
    }
    let later = solver.later(meter)?;
    let is_open = later.0.iter().any(|it| it.container.is_none());
    // If a rule contains one of several parts, the rules after it matter once it is gone.
    let container = match &later.0[..] {
        [only] => Some(only.container),
        all => all.iter().all(|it| it.container.is_none()).then_some(None),
    };
    let is_settled = later.rules(&context.space).iter().all(|it| context.action(Some(*it)) == own);
    let mut meets_default = || {
        solver.find_hole(Scope::All, None, &|_| true, meter, &mut Vec::new()).map(|it| it.is_some())
    };
    let needs_default = default == own && is_open && (sampled.open.is_some() || meets_default()?);
    sampled.settled = container.filter(|_| is_settled);
    Ok(Effectiveness::Redundant { needs_default })
}

/// A packet at a corner of what the rule and one of the next rules of another action contain, if one
/// shows that the rule is needed.
fn other_corner(
    context: &Context<'_>,
    slot: Slot,
    meter: &mut Meter<'_>,
) -> Result<Option<Decides>, Obstacle> {
    let own = context.action(Some(slot));
    let mut buffer = TouchedBuffer::default();
    let mut tried = 0;
    for family in Family::ALL {
        let space = context.space.family(family);
        let later = context.space.part_numbers(slot, family).end..as_u32(space.parts.len());
        for part in context.space.parts(slot, family) {
            let touched = space.near.touched(part, &context.space.sides, &mut buffer);
            let mut needed = None;
            let mut obstacle = None;
            space.near.each(&part.bounds, touched, later.clone(), |number| {
                obstacle = meter.check().err();
                meter.steps += 1;
                let other = space.parts.get(number as usize);
                let Some(other) = other.filter(|it| context.is_active(it.rule)) else {
                    return obstacle.is_none();
                };
                if context.action(Some(other.rule)) != own && other.bounds.meets(&part.bounds) {
                    needed = corners(part, other)
                        .find_map(|it| other_verdict(context, family, part, slot, it));
                    tried += 1;
                }
                // Rules after one that contains the part do not matter.
                let is_last = other.is_whole && other.bounds.contains(&part.bounds);
                !(is_last || needed.is_some() || tried == TRIED_RULES || obstacle.is_some())
            });
            if let Some(obstacle) = obstacle {
                return Err(obstacle);
            }
            if needed.is_some() || tried == TRIED_RULES {
                return Ok(needed);
            }
        }
    }
    Ok(None)
}

/// Some corners of the bounds that two parts have in common.
fn corners(a: &Part, b: &Part) -> impl Iterator<Item = Point> {
    // A bit for each dimension: 0 for its first value, 1 for its last one.
    const CORNERS: [u8; 4] = [0, 0b1_1111, 0b0_1010, 0b1_0101];
    a.bounds.intersection(&b.bounds).into_iter().flat_map(|both| {
        CORNERS.into_iter().map(move |corner| {
            let mut point = both.first;
            for ((bit, value), end) in point.iter_mut().enumerate().zip(both.end) {
                if corner >> bit & 1 == 1 {
                    *value = end - 1;
                }
            }
            point
        })
    })
}

/// A packet of a part, if the rule decides it, and a later rule or the default would decide it
/// otherwise.
fn other_verdict(
    context: &Context<'_>,
    family: Family,
    part: &Part,
    slot: Slot,
    point: Point,
) -> Option<Decides> {
    let decides =
        context.space.has(part, &point) && context.match_before(slot, family, &point).is_none();
    if !decides {
        return None;
    }
    let next = context.match_after(slot, family, &point);
    let is_other = context.action(next) != context.action(Some(slot));
    is_other.then_some(Decides { family, point, next })
}

/// The result for a rule before proofs are made.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) slot: Slot,
    pub(super) reach: Result<Reach, Obstacle>,
    /// None if the rule is not reached, or if that is undecided.
    pub(super) effectiveness: Option<Result<Effectiveness, Obstacle>>,
    pub(super) sampled: Sampled,
}

/// Decides reach and redundancy of a rule.
pub(super) fn decide(context: &Context<'_>, slot: Slot, seeks_redundant: bool) -> Decided {
    let mut sampled = sample(context, slot);
    if sampled.needed.is_some() {
        let effectiveness = Some(Ok(Effectiveness::Needed));
        return Decided { slot, reach: Ok(Reach::Reached), effectiveness, sampled };
    }
    let mut meter = context.budget.meter(context.limits().steps);
    let is_there = |slot: Slot| context.is_active(slot);
    let mut solver = Solver::new(context, slot, &is_there);
    let reach = meter.check().and_then(|()| reach(&mut solver, &mut sampled, &mut meter));
    let effectiveness = (seeks_redundant && matches!(reach, Ok(Reach::Reached))).then(|| {
        let mut meter = context.budget.meter(context.limits().steps);
        effectiveness(&mut solver, &mut sampled, &mut meter)
    });
    Decided { slot, reach, effectiveness, sampled }
}

/// Packets of a hole that can be shown, the nicest first. Some may not be in it.
pub(super) fn witnesses(
    context: &Context<'_>,
    hole: &Hole,
) -> impl Iterator<Item = crate::packet::Packet> {
    let (space, family, at) = (&context.space, hole.family, context.at);
    let point = first_point(&hole.cell).filter(|_| hole.is_point);
    // The first address of a block is often no host.
    let of_point = [1, 0].map(|offset| {
        point.and_then(|point| super::witness::at_point(space, family, &point, offset, at))
    });
    let of_cell =
        (!hole.is_point).then(|| super::witness::packet(space, family, &hole.cell, at)).flatten();
    of_point.into_iter().flatten().chain(of_cell)
}
