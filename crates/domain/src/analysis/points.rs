//! Packets of a rule that settle most questions about it.
//!
//! Nearly every rule decides one of its corners or one of a few random packets. A search for the
//! first rule that matches is then all that is needed.

use super::bounds::Point;
use super::context::Context;
use super::ranges::Range;
use super::sides::Segment;
use super::space::{Part, Slot};
use crate::net::Family;

/// How many packets of a rule are tried.
const TRIES: u32 = 8;

/// A packet that a rule decides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decides {
    pub(super) family: Family,
    pub(super) point: Point,
    /// The rule that would decide it without the rule; none: the default.
    pub(super) next: Option<Slot>,
}

/// What a few packets of a rule have shown.
#[derive(Debug, Default)]
pub(super) struct Sampled {
    /// A packet that the rule decides.
    pub(super) reached: Option<Decides>,
    /// A packet that would have another action without the rule.
    pub(super) needed: Option<Decides>,
    /// A packet that would meet the default without the rule.
    pub(super) open: Option<Decides>,
    /// An earlier rule that contains the rule.
    pub(super) hidden_by: Option<Slot>,
    /// Whether all later rules that meet a redundant rule have its action: up to one that contains it, or
    /// as the default has.
    pub(super) settled: Option<Option<Slot>>,
}

impl Sampled {
    /// Adds a packet of a rule that no earlier rule has.
    pub(super) fn add(&mut self, context: &Context<'_>, slot: Slot, family: Family, point: Point) {
        let next = context.match_after(slot, family, &point);
        let decides = Decides { family, point, next };
        self.reached.get_or_insert(decides);
        if next.is_none() {
            self.open.get_or_insert(decides);
        }
        if context.action(next) != context.action(Some(slot)) {
            self.needed.get_or_insert(decides);
        }
    }
}

/// Tries packets of a rule: its first corner, its last one, then random ones.
pub(super) fn sample(context: &Context<'_>, slot: Slot) -> Sampled {
    let space = &context.space;
    let mut sampled = Sampled::default();
    let parts: Vec<(Family, &Part)> = Family::ALL
        .into_iter()
        .flat_map(|family| space.parts(slot, family).iter().map(move |part| (family, part)))
        .collect();
    let mut random = Random::new(u64::from(slot));
    let mut seen: Vec<Slot> = Vec::new();
    for (number, (family, part)) in (0..TRIES).zip(parts.iter().cycle()) {
        let Some(point) = point(context, part, number, &mut random) else { continue };
        if let Some(before) = context.match_before(slot, *family, &point) {
            if !seen.contains(&before) {
                seen.push(before);
                if space.contains_rule(before, slot, &mut 0) {
                    sampled.hidden_by = Some(before);
                    return sampled;
                }
            }
            continue;
        }
        sampled.add(context, slot, *family, point);
        if sampled.needed.is_some() {
            return sampled;
        }
    }
    sampled
}

/// A packet of a part.
fn point(context: &Context<'_>, part: &Part, number: u32, random: &mut Random) -> Option<Point> {
    let space = &context.space;
    let (source, first) = end_of(context, space.sides.segments(part.source), number, random)?;
    let segments = space.sides.segments(part.destination);
    let (destination, second) = end_of(context, segments, number, random)?;
    let protocol = value_of(space.sets.get(part.protocols), number, random)?;
    Some([source, destination, first, second, protocol])
}

/// An address and a port of a side.
fn end_of(
    context: &Context<'_>,
    segments: &[Segment],
    number: u32,
    random: &mut Random,
) -> Option<(u32, u32)> {
    let segment = chosen(segments, number, random)?;
    let address = value_of(&[(segment.first, segment.end)], number, random)?;
    Some((address, value_of(context.space.sets.get(segment.field), number, random)?))
}

/// The first value, the last one, or a random one.
fn value_of(set: &[Range], number: u32, random: &mut Random) -> Option<u32> {
    let range = chosen(set, number, random)?;
    Some(match number {
        0 => range.0,
        1 => range.1 - 1,
        _ => range.0 + random.below(range.1 - range.0),
    })
}

/// The first item, the last one, or a random one.
fn chosen<'a, T>(items: &'a [T], number: u32, random: &mut Random) -> Option<&'a T> {
    match number {
        0 => items.first(),
        1 => items.last(),
        _ => random.pick(items),
    }
}

/// Numbers that look random and are the same in each analysis (SplitMix64, as in
/// `testing::random`).
struct Random(u64);

impl Random {
    const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound.
    fn below(&mut self, bound: u32) -> u32 {
        let number = (u128::from(self.next()) * u128::from(bound)) >> 64;
        u32::try_from(number).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        items.get(self.below(count) as usize)
    }
}
