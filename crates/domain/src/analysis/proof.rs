//! Proofs that a rule is hidden: few rules, and the rule of another action that matters most.

use super::bounds::{Bounds, FIRST_FIELD, Point};
use super::budget::Meter;
use super::measure::Size;
use super::question::{Hole, Neighbors};
use super::report::{Effect, Obstacle};
use super::solver::{Scope, Solver};
use super::space::{Slot, Space};
use crate::net::{Family, PortRange};

/// A cover of a rule.
#[derive(Debug)]
pub(super) struct Proof {
    /// The rules, in order of evaluation.
    pub(super) rules: Vec<Slot>,
    /// Whether none of them can be left out.
    pub(super) is_minimal: bool,
}

/// Leaves out rules of a cover as long as the rest still covers the rule. Rules that contain much of
/// it are kept in preference. (U. Junker: "QuickXplain", AAAI 2004.) If the steps of the meter are
/// used up, the smallest cover that was found remains. Rules of the `background` may be used as well,
/// but are not part of the proof.
///
/// # Errors
/// Returns [`Obstacle::Time`] if the analysis is to end.
pub(super) fn minimal(
    solver: &mut Solver<'_>,
    scope: Scope,
    background: &dyn Fn(Slot) -> bool,
    cover: Vec<Slot>,
    meter: &mut Meter<'_>,
) -> Result<Proof, Obstacle> {
    if cover.len() < 2 {
        return Ok(Proof { rules: cover, is_minimal: true });
    }
    let space = &solver.context.space;
    let size = Size::of(space, solver.slot);
    let share = |rule: Slot| size.share(space, solver.slot, rule);
    let mut sized: Vec<(f64, Slot)> = cover.iter().map(|rule| (share(*rule), *rule)).collect();
    sized.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let rules: Vec<Slot> = sized.into_iter().map(|it| it.1).collect();
    let mut search = Search { solver, scope, background, meter, kept: Vec::new(), best: cover };
    let mut found = Vec::new();
    match search.explain(false, &rules, &mut found) {
        Ok(()) => {
            found.sort_unstable();
            Ok(Proof { rules: found, is_minimal: true })
        }
        Err(Obstacle::Time) => Err(Obstacle::Time),
        Err(_) => Ok(Proof { rules: search.best, is_minimal: false }),
    }
}

struct Search<'s, 'a, 'm> {
    solver: &'s mut Solver<'a>,
    scope: Scope,
    background: &'s dyn Fn(Slot) -> bool,
    meter: &'s mut Meter<'m>,
    /// The rules that are kept at present.
    kept: Vec<Slot>,
    /// The smallest cover so far.
    best: Vec<Slot>,
}

impl Search<'_, '_, '_> {
    /// Adds to `found` the rules among `rules` that are needed with the kept ones. Its depth is the
    /// logarithm of their number.
    fn explain(
        &mut self,
        has_more: bool,
        rules: &[Slot],
        found: &mut Vec<Slot>,
    ) -> Result<(), Obstacle> {
        if has_more {
            let mut used = Vec::new();
            let mut kept = self.kept.clone();
            kept.sort_unstable();
            let background = self.background;
            let takes = |rule: Slot| kept.binary_search(&rule).is_ok() || background(rule);
            let (scope, meter) = (self.scope, &mut *self.meter);
            if self.solver.find_hole(scope, None, &takes, meter, &mut used)?.is_none() {
                used.retain(|rule| !background(*rule));
                if used.len() < self.best.len() {
                    self.best = used;
                }
                return Ok(());
            }
        }
        if rules.len() == 1 {
            found.extend_from_slice(rules);
            return Ok(());
        }
        let (first, second) = rules.split_at(rules.len() / 2);
        let (kept, from) = (self.kept.len(), found.len());
        self.kept.extend_from_slice(first);
        self.explain(true, second, found)?;
        self.kept.truncate(kept);
        let needed = found.get(from..).unwrap_or_default();
        let has_more = !needed.is_empty();
        self.kept.extend_from_slice(needed);
        self.explain(has_more, first, found)?;
        self.kept.truncate(kept);
        Ok(())
    }
}

/// An earlier rule of another action that decides packets of a hidden rule.
#[derive(Debug)]
pub(super) struct Terminating {
    pub(super) rule: Slot,
    pub(super) share: f64,
    /// Packets of the hidden rule that it decides.
    pub(super) hole: Hole,
    /// The first rule with the same effect that decides some.
    pub(super) first: Slot,
}

/// The earlier rule of another action with the largest overlap among those that decide some packet of
/// a hidden rule. A rule that itself decides none of these packets would be a false alarm (Batfish
/// counts only such "terminating lines", too). Rules that permit what the hidden rule does not, or
/// the reverse, come before those that only stop packets in another way.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
pub(super) fn terminating(
    solver: &mut Solver<'_>,
    meter: &mut Meter<'_>,
) -> Result<Option<Terminating>, Obstacle> {
    let (context, slot) = (solver.context, solver.slot);
    let own = context.action(Some(slot));
    let mut others: Vec<(bool, f64, Slot)> = Vec::new();
    let size = Size::of(&context.space, slot);
    let space = &context.space;
    let earlier = solver.earlier(meter)?;
    let mut nearby = earlier.rules(space);
    // A rule that contains the hidden one leaves nothing to those after it.
    let contains = |it: &Slot| space.contains_rule(*it, slot, &mut 0);
    if let Some(container) = nearby.iter().position(contains) {
        nearby.truncate(container + 1);
    }
    let mut covers = Covers::new(space, slot, earlier);
    for rule in nearby {
        let action = context.action(Some(rule));
        if action != own {
            meter.steps += 20;
            let is_mild = Effect::of(own, action).is_none();
            others.push((is_mild, size.share(&context.space, slot, rule), rule));
        }
        meter.check()?;
    }
    others.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
    let mut decided = |rule: Slot, meter: &mut Meter<'_>| -> Result<Option<Hole>, Obstacle> {
        meter.check()?;
        if covers.has_one(rule, meter) {
            return Ok(None);
        }
        let takes = |it: Slot| it < rule;
        match common_packet(solver, rule) {
            Some(hole) => Ok(Some(hole)),
            None => solver.find_hole(Scope::Before, Some(rule), &takes, meter, &mut Vec::new()),
        }
    };
    let mut candidates = others.into_iter();
    let (mut found, is_mild) = loop {
        let Some((is_mild, share, rule)) = candidates.next() else { return Ok(None) };
        if let Some(hole) = decided(rule, meter)? {
            break (Terminating { rule, share, hole, first: rule }, is_mild);
        }
    };
    // Those with a larger overlap decide nothing.
    let left = candidates.filter(|it| it.0 == is_mild && it.2 < found.rule);
    let mut earlier: Vec<Slot> = left.map(|it| it.2).collect();
    earlier.sort_unstable();
    for rule in earlier {
        if decided(rule, meter)?.is_some() {
            found.first = rule;
            break;
        }
    }
    Ok(Some(found))
}

/// The rules near a hidden one that are all of their bounds: one of them often covers what the hidden
/// rule and another one contain.
struct Covers<'a> {
    space: &'a Space,
    slot: Slot,
    /// In order.
    whole: Vec<(Family, Slot, Bounds)>,
    /// Those that have covered something.
    known: Vec<(Family, Slot, Bounds)>,
}

impl<'a> Covers<'a> {
    fn new(space: &'a Space, slot: Slot, earlier: &Neighbors) -> Self {
        let mut whole = Vec::new();
        for near in &earlier.0 {
            let parts = &space.family(near.family).parts;
            let parts = near.others.iter().filter_map(|it| parts.get(*it as usize));
            let parts = parts.filter(|part| part.is_whole);
            whole.extend(parts.map(|part| (near.family, part.rule, part.bounds)));
        }
        whole.sort_by_key(|it| it.1);
        Self { space, slot, whole, known: Vec::new() }
    }

    /// Whether single rules before another one contain what it and the hidden rule contain.
    fn has_one(&mut self, rule: Slot, meter: &mut Meter<'_>) -> bool {
        let space = self.space;
        Family::ALL.into_iter().all(|family| {
            let pairs = space.parts(self.slot, family).iter().flat_map(|own| {
                let its = space.parts(rule, family).iter();
                its.filter_map(|its| own.bounds.intersection(&its.bounds))
            });
            pairs.into_iter().all(|both| self.contains(family, rule, &both, meter))
        })
    }

    fn contains(
        &mut self,
        family: Family,
        rule: Slot,
        both: &Bounds,
        meter: &mut Meter<'_>,
    ) -> bool {
        let covers =
            |it: &&(Family, Slot, Bounds)| it.0 == family && it.1 < rule && it.2.contains(both);
        if self.known.iter().any(|it| covers(&it)) {
            return true;
        }
        meter.steps += self.whole.len() as u64 / 8;
        let found = self.whole.iter().find(covers).copied();
        self.known.extend(found);
        found.is_some()
    }
}

/// A packet of the rule at the first corner of its overlap with an earlier rule, if that rule decides
/// it. It settles most cases without a search. A source port that clients use is tried first.
fn common_packet(solver: &Solver<'_>, rule: Slot) -> Option<Hole> {
    let (context, slot) = (solver.context, solver.slot);
    let space = &context.space;
    for family in Family::ALL {
        for own in space.parts(slot, family) {
            for its in space.parts(rule, family) {
                let Some(both) = own.bounds.intersection(&its.bounds) else { continue };
                let corner: Point = both.first;
                let mut usual = corner;
                let port = u32::from(PortRange::EPHEMERAL.first());
                if let (Some(first), Some(end)) =
                    (usual.get_mut(FIRST_FIELD), both.end.get(FIRST_FIELD))
                    && *first < port
                    && port < *end
                {
                    *first = port;
                }
                let decides = |point: &Point| {
                    space.has(own, point)
                        && space.has(its, point)
                        && context.match_before(rule, family, point).is_none()
                };
                if let Some(point) = [usual, corner].into_iter().find(decides) {
                    let cell = super::cell::Cell::of_ranges(point.map(|it| vec![(it, it + 1)]));
                    return Some(Hole { family, cell, is_point: true });
                }
            }
        }
    }
    None
}
