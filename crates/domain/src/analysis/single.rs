//! Which rules let anybody reach one destination: exactly, source by source and port by port.

use super::budget::Meter;
use super::intern::as_u32;
use super::ranges::{Range, contains};
use super::report::Obstacle;
use super::space::Slot;
use super::sweep::{DEFAULT, Question};
use super::ways_in::{Fields, Way};

/// Pieces of which some are taken, so that those that are left are found fast.
struct Left {
    /// The next piece at or after each one that may be left, and one after the last.
    next: Vec<u32>,
}

impl Left {
    /// All pieces of some ranges.
    fn new(count: usize, mut ranges: Vec<Range>) -> Self {
        ranges.sort_unstable();
        let mut next = Vec::with_capacity(count + 1);
        for (from, to) in ranges.into_iter().chain([(as_u32(count), as_u32(count) + 1)]) {
            // Pieces between two ranges are taken.
            next.resize(next.len().max(from as usize), from);
            next.extend(as_u32(next.len())..to);
        }
        Self { next }
    }

    /// The first piece that is left from a number on.
    fn find(&mut self, from: u32) -> u32 {
        let mut at = from;
        while let Some(next) = self.next.get(at as usize).copied()
            && next != at
        {
            // Halves the way of later searches.
            let after = self.next.get(next as usize).copied().unwrap_or(next);
            if let Some(own) = self.next.get_mut(at as usize) {
                *own = after;
            }
            at = after;
        }
        at
    }

    /// Takes all pieces of a range that are left.
    fn take(&mut self, range: Range, steps: &mut u64, mut visit: impl FnMut(u32)) {
        *steps += 1;
        let mut at = self.find(range.0);
        while at < range.1 {
            visit(at);
            *steps += 1;
            if let Some(next) = self.next.get_mut(at as usize) {
                *next = at + 1;
            }
            at = self.find(at + 1);
        }
    }
}

/// The rules that let anybody reach a destination, alone or else together; none if nobody does. The
/// ways to the destination can be in any order.
pub(super) fn at_destination<'a>(
    question: &Question<'_>,
    ways: impl Iterator<Item = &'a Way>,
    meter: &mut Meter<'_>,
) -> Result<Vec<Slot>, Obstacle> {
    let sources = &question.ways.sources;
    let mut ways: Vec<&Way> = ways.collect();
    ways.sort_by_key(|way| way.slot);
    let mut numbers: Vec<u32> = ways.iter().filter_map(|way| way.fields).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let fields: Vec<&Fields> =
        numbers.iter().filter_map(|it| question.ways.fields.get(*it as usize)).collect();
    let before = meter.bytes();
    meter.take(sources.sizes.len() * 12)?;
    let count = sources.sizes.len();
    // Who decides each piece with ports that only ways take that take all of them, if there are such ports.
    // With other ports, that differs only at sources of ways that take these.
    let mut usual: Option<Vec<Option<Slot>>> = None;
    // What each rule lets in.
    let mut let_in: Vec<(Slot, u32)> = Vec::new();
    for taken in kinds(&question.ways.all_fields, &fields, meter)? {
        let takes = |way: &Way| {
            way.fields.is_none_or(|it| {
                let place = numbers.binary_search(&it).ok();
                place.and_then(|place| taken.get(place)).copied().unwrap_or(false)
            })
        };
        let spans = |way: &Way| sources.spans.get(way.source as usize).into_iter().flatten();
        let looked_at = if usual.is_some() {
            let others = ways.iter().filter(|way| way.fields.is_some() && takes(way));
            others.flat_map(|way| spans(way)).copied().collect()
        } else {
            vec![(0, as_u32(count))]
        };
        let mut left = Left::new(count, looked_at);
        meter.steps += count as u64 / 8;
        let is_usual = usual.is_none() && !taken.contains(&true);
        let mut deciders: Vec<Option<Slot>> = vec![None; if is_usual { count } else { 0 }];
        let default = question.default_permits.then_some(DEFAULT);
        let mut decide = |piece: u32, slot: Slot, permits: bool| {
            if let Some(decider) = deciders.get_mut(piece as usize) {
                *decider = Some(slot);
            }
            let known = usual.as_ref().and_then(|it| it.get(piece as usize)).copied();
            if permits && known != Some(Some(slot)) {
                let_in.push((slot, piece));
            }
        };
        for way in ways.iter().filter(|way| takes(way)) {
            meter.steps += 1;
            meter.check()?;
            for range in spans(way) {
                left.take(*range, &mut meter.steps, |piece| decide(piece, way.slot, way.permits));
            }
        }
        if let Some(default) = default {
            let all = (0, as_u32(count));
            left.take(all, &mut meter.steps, |piece| decide(piece, default, true));
        }
        if is_usual {
            usual = Some(deciders);
        }
        meter.take((let_in.len() * 8).saturating_sub(meter.bytes() - before))?;
    }
    let_in.sort_unstable();
    let_in.dedup();
    let size = |piece: u32| sources.sizes.get(piece as usize).copied().unwrap_or(0);
    let of_rules: Vec<(u128, &[(Slot, u32)])> = let_in
        .chunk_by(|a, b| a.0 == b.0)
        .map(|own| (own.iter().map(|it| size(it.1)).sum(), own))
        .collect();
    let rules = enough(question.anybody, of_rules, sources.sizes.len(), size);
    meter.give_back(meter.bytes().saturating_sub(before));
    Ok(rules)
}

/// The rules that are enough, alone or else together.
fn enough(
    anybody: u128,
    mut of_rules: Vec<(u128, &[(Slot, u32)])>,
    pieces: usize,
    size: impl Fn(u32) -> u128,
) -> Vec<Slot> {
    let slot = |own: &[(Slot, u32)]| own.first().map(|it| it.0);
    let alone = of_rules.iter().filter(|it| it.0 >= anybody);
    let alone: Vec<Slot> = alone.filter_map(|it| slot(it.1)).collect();
    if !alone.is_empty() || of_rules.iter().map(|it| it.0).sum::<u128>() < anybody {
        return alone;
    }
    // Rules of the same size stay in order.
    of_rules.sort_by_key(|it| std::cmp::Reverse(it.0));
    let mut is_in = vec![false; pieces];
    let mut sum = 0_u128;
    let mut rules = Vec::new();
    for (_, own) in of_rules {
        rules.extend(slot(own));
        for (_, piece) in own {
            if let Some(is_in) = is_in.get_mut(*piece as usize)
                && !std::mem::replace(is_in, true)
            {
                sum += size(*piece);
            }
        }
        if sum >= anybody {
            return rules;
        }
    }
    Vec::new()
}

/// The kinds of ports that some fields distinguish: for each one, which of them take it.
fn kinds(
    all: &Fields,
    fields: &[&Fields],
    meter: &mut Meter<'_>,
) -> Result<Vec<Vec<bool>>, Obstacle> {
    let of = |place: usize, meter: &mut Meter<'_>| {
        let set = |fields: &Fields| fields.get(place).cloned().unwrap_or_default();
        let sets: Vec<Vec<Range>> = fields.iter().map(|it| set(it)).collect();
        let all = set(all);
        let ends = sets.iter().chain([&all]).flatten().flat_map(|range| [range.0, range.1]);
        let mut ends: Vec<u32> = ends.collect();
        ends.sort_unstable();
        ends.dedup();
        let mut kinds: Vec<Vec<bool>> = Vec::new();
        for (first, end) in ends.iter().zip(ends.iter().skip(1)) {
            meter.steps += 1 + fields.len() as u64;
            meter.check()?;
            if contains(&all, &[(*first, *end)]) {
                kinds.push(sets.iter().map(|set| super::ranges::has(set, *first)).collect());
            }
        }
        kinds.sort_unstable();
        kinds.dedup();
        Ok(kinds)
    };
    let (first, second) = (of(0, meter)?, of(1, meter)?);
    let mut both: Vec<Vec<bool>> = Vec::new();
    for first in &first {
        for second in &second {
            meter.steps += 1 + fields.len() as u64;
            meter.check()?;
            both.push(first.iter().zip(second).map(|(a, b)| *a && *b).collect());
        }
    }
    both.sort_unstable();
    both.dedup();
    Ok(both)
}
