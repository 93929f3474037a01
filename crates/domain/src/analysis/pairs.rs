//! Findings about pairs of rules of different actions, counted for each rule.

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::cell::Cell;
use super::context::Context;
use super::findings::Outcome;
use super::intern::ListId;
use super::measure::share;
use super::near::TouchedBuffer;
use super::question::Hole;
use super::ranges::{Range, intersection};
use super::reach::witnesses;
use super::report::{Cover, Evidence, Finding, FindingKind, Obstacle, Severity, Task};
use super::space::{Life, Slot, Space};
use super::spell::packet_sets;
use crate::engine::naive;
use crate::net::Family;
use crate::time::Instant;

/// Adds one finding for each rule that overlaps earlier rules of another action, and one for each rule
/// that contains some. Nobody reads a hundred million pairs, so they are counted, and the first of
/// each rule is shown.
pub(super) fn pairs(context: &Context<'_>, outcome: &mut Outcome) {
    let active: Vec<Slot> = context.active().collect();
    let parts: Vec<Outcome> = active.into_par_iter().map(|slot| of_rule(context, slot)).collect();
    for part in parts {
        outcome.add(part);
    }
}

#[derive(Default)]
struct Counted {
    /// How many rules are active now.
    count: u64,
    first: Option<Slot>,
    /// Whether one of them is active as long as the rule of the finding.
    lasts: bool,
    /// The lives of the others, and of those that start later.
    lives: Vec<Life>,
}

impl Counted {
    fn add(&mut self, slot: Slot, life: Life, own: Life, at: Instant) {
        if life.is_active(at) {
            self.count += 1;
            self.first = Some(self.first.map_or(slot, |first| first.min(slot)));
            let outlives = |end| own.expires_at.is_some_and(|own| own <= end);
            self.lasts |= life.expires_at.is_none_or(outlives);
        }
        if !self.lasts {
            self.lives.push(life);
        }
    }

    /// The first instant ahead at which none of the rules is active; none if there is no such instant
    /// in the life of the rule of the finding.
    fn until(&self, own: Life, at: Instant) -> Option<Instant> {
        if self.lasts {
            return None;
        }
        let ends = self.lives.iter().filter_map(|life| life.expires_at).filter(|end| at < *end);
        let is_first = |end: &Instant| self.lives.iter().all(|life| !life.is_active(*end));
        ends.filter(is_first).min().filter(|end| own.is_active(*end))
    }
}

fn of_rule(context: &Context<'_>, slot: Slot) -> Outcome {
    let mut outcome = Outcome::default();
    let (mut correlated, mut generalized) = (Counted::default(), Counted::default());
    match count(context, slot, &mut correlated, &mut generalized) {
        Ok(()) => {
            let counts =
                [(FindingKind::Correlated, correlated), (FindingKind::Generalises, generalized)];
            for (kind, counted) in counts {
                let Some(first) = counted.first else { continue };
                let until = life(context, slot).and_then(|own| counted.until(own, context.at));
                match finding(context, kind, slot, first, counted.count) {
                    Some(finding) => outcome.findings.push(Finding { until, ..finding }),
                    None => outcome.undecided(Task::Witness, Obstacle::Defect, slot),
                }
            }
        }
        Err(obstacle) => outcome.undecided(Task::Pairs, obstacle, slot),
    }
    outcome
}

/// When a rule is active.
fn life(context: &Context<'_>, slot: Slot) -> Option<Life> {
    context.space.rules.get(slot as usize).map(|rule| rule.life)
}

fn count(
    context: &Context<'_>,
    slot: Slot,
    correlated: &mut Counted,
    generalized: &mut Counted,
) -> Result<(), Obstacle> {
    let space = &context.space;
    let own = context.action(Some(slot));
    let Some(own_life) = life(context, slot) else { return Ok(()) };
    let mut meter = context.budget.meter(context.limits().steps);
    let mut buffer = TouchedBuffer::default();
    let mut seen: Vec<Slot> = Vec::new();
    // Rules of several parts meet the rule several times.
    let is_single = Family::ALL.iter().map(|it| space.parts(slot, *it).len()).sum::<usize>() < 2;
    for family in Family::ALL {
        let family_space = space.family(family);
        let before = 0..space.part_numbers(slot, family).start;
        for part in space.parts(slot, family) {
            let mut obstacle = None;
            let mut last = None;
            let touched = family_space.near.touched(part, &space.sides, &mut buffer);
            meter.steps += family_space.parts.len() as u64 / 64;
            family_space.near.each(&part.bounds, touched, before.clone(), |number| {
                obstacle = meter.check().err();
                let Some(other) = family_space.parts.get(number as usize) else { return false };
                let rule = other.rule;
                let is_other = context.action(Some(rule)) != own;
                let is_new = last != Some(rule) && (is_single || !seen.contains(&rule));
                if is_other && is_new && space.meet(part, other, &mut meter.steps) {
                    last = Some(rule);
                    if !is_single {
                        seen.push(rule);
                    }
                    if !space.contains_rule(rule, slot, &mut meter.steps) {
                        let contains = space.contains_rule(slot, rule, &mut meter.steps);
                        let counted = if contains { &mut *generalized } else { &mut *correlated };
                        if let Some(life) = life(context, rule) {
                            counted.add(rule, life, own_life, context.at);
                        }
                    }
                }
                obstacle.is_none()
            });
            if let Some(obstacle) = obstacle {
                return Err(obstacle);
            }
        }
    }
    Ok(())
}

/// The finding of a rule, with a packet that both rules match; none if that is refuted.
fn finding(
    context: &Context<'_>,
    kind: FindingKind,
    slot: Slot,
    first: Slot,
    count: u64,
) -> Option<Finding> {
    let hole = common(context, slot, first)?;
    let packet = witnesses(context, &hole).next()?;
    let matches = |slot| context.spec(slot).is_some_and(|spec| naive::matches(spec, &packet));
    (matches(slot) && matches(first)).then(|| Finding {
        because: vec![Cover {
            rule: context.index(first),
            share: share(&context.space, slot, first),
        }],
        witness: Some(packet),
        packets: packet_sets(&context.space, hole.family, &hole.cell),
        is_packets_complete: false,
        evidence: Evidence::Pairs(count),
        ..Finding::new(kind, Severity::Info, context.index(slot))
    })
}

/// Packets that two rules have in common: those of the first pair of parts, and of the first groups of
/// their sides, that meet.
fn common(context: &Context<'_>, slot: Slot, other: Slot) -> Option<Hole> {
    let space = &context.space;
    for family in Family::ALL {
        for own in space.parts(slot, family) {
            for its in space.parts(other, family) {
                let protocols =
                    intersection(space.sets.get(own.protocols), space.sets.get(its.protocols));
                let source = common_groups(space, own.source, its.source);
                let destination = common_groups(space, own.destination, its.destination);
                let (Some((source, from)), Some((destination, to))) = (source, destination) else {
                    continue;
                };
                let cell = Cell::of_ranges([source, destination, from, to, protocols]);
                if !cell.is_empty() {
                    return Some(Hole { family, cell, is_point: false });
                }
            }
        }
    }
    None
}

/// The addresses and the ports that the first groups of two sides have in common. The factors of a
/// product are independent, so each side is searched by itself.
fn common_groups(space: &Space, a: ListId, b: ListId) -> Option<(Vec<Range>, Vec<Range>)> {
    for own in space.sides.groups(a) {
        for its in space.sides.groups(b) {
            let both = |a, b| intersection(space.sets.get(a), space.sets.get(b));
            let addresses = both(own.addresses, its.addresses);
            if addresses.is_empty() {
                continue;
            }
            let ports = both(own.field, its.field);
            if !ports.is_empty() {
                return Some((addresses, ports));
            }
        }
    }
    None
}
