//! Which parts of rules can meet some bounds.
//!
//! For each dimension, at up to 256 cuts, bitmaps have the parts that end before the cut and those that begin
//! after it. What can meet some bounds is in none of at most ten of these bitmaps, so a query reads
//! n / 64 words of each, however wide the bounds are. A tree would find few candidates sooner, but
//! wide rules, which make analyses slow, meet most others anyway.
//!
//! Bounds say little about parts of many ranges, such as lists of hosts. For these, other bitmaps
//! have the parts that touch the addresses between two of up to 1,024 cuts.

use super::bounds::{Bounds, DESTINATION, DIMENSIONS, Point, SOURCE};
use super::budget::Budget;
use super::intern::ListId;
use super::ranges::Range;
use super::report::Obstacle;
use super::sides::Sides;
use super::space::Part;

/// The most cuts of a dimension.
const CUTS: usize = 256;
/// The most cuts of addresses that parts of several ranges touch.
const TOUCHED_CUTS: usize = 1_024;
/// How many neighboring cuts share a coarse bitmap.
const COARSE: usize = 32;
/// How many words of a query are prepared at once: a line of the processor's cache.
const WORDS: usize = 8;

/// Bitmaps of the same length.
#[derive(Debug, Default)]
struct Bitmaps {
    /// The words of each: a multiple of [`WORDS`].
    words: usize,
    bits: Vec<u64>,
}

/// The words of a bitmap of so many bits.
const fn words_of(count: usize) -> usize {
    count.div_ceil(64).next_multiple_of(WORDS)
}

impl Bitmaps {
    fn new(count: usize, words: usize) -> Self {
        Self { words, bits: vec![0; count * words] }
    }

    fn get(&self, number: usize) -> &[u64] {
        let from = number * self.words;
        self.bits.get(from..from + self.words).unwrap_or_default()
    }

    fn set(&mut self, number: usize, bit: usize) {
        if let Some(word) = self.bits.get_mut(number * self.words + bit / 64) {
            *word |= 1 << (bit % 64);
        }
    }

    /// Adds the bits of one bitmap to its neighbor.
    fn spread(&mut self, from: usize, to: usize) {
        let words = self.words;
        let (low, high) = (from.min(to), from.max(to));
        let Some((head, tail)) = self.bits.split_at_mut_checked(high * words) else { return };
        let Some(low) = head.get_mut(low * words..(low + 1) * words) else { return };
        let Some(high) = tail.get_mut(..words) else { return };
        let (from, to) = if from < to { (low, high) } else { (high, low) };
        for (to, from) in to.iter_mut().zip(from) {
            *to |= *from;
        }
    }
}

/// The bitmaps of one dimension.
#[derive(Debug, Default)]
struct Dimension {
    cuts: Vec<u32>,
    /// At each cut, the parts that end there or before.
    ended: Bitmaps,
    /// At each cut, the parts that begin there or after.
    begins: Bitmaps,
    /// How many parts these are.
    counts: Vec<[u32; 2]>,
}

/// Parts that are out of a query, and how many they are.
type Excluded<'a> = (u32, &'a [u64]);

/// Which parts touch the addresses from each cut to the next.
#[derive(Debug, Default)]
struct Touch {
    cuts: Vec<u32>,
    fine: Bitmaps,
    coarse: Bitmaps,
}

/// Bitmaps of all parts of a family.
#[derive(Debug, Default)]
pub(super) struct Near {
    dimensions: [Dimension; DIMENSIONS],
    /// For sources and for destinations; none if every part is all of its bounds.
    touch: Option<[Touch; 2]>,
}

/// The parts that can touch some sources, and those that can touch some destinations.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Touched<'a>(Option<(&'a [u64], &'a [u64])>);

/// Memory for [`Near::touched`].
#[derive(Debug, Default)]
pub(super) struct TouchedBuffer([Vec<u64>; 2]);

/// At most so many of the ends, each after the same number of others.
fn quantiles(mut ends: Vec<u32>, most: usize) -> Vec<u32> {
    ends.sort_unstable();
    let step = (ends.len() / most).max(1);
    let mut cuts = vec![0];
    cuts.extend(ends.into_iter().step_by(step));
    cuts.dedup();
    cuts
}

impl Near {
    /// # Errors
    /// Returns [`Obstacle::Memory`] if the budget is used up.
    pub(super) fn new(
        parts: &[Part],
        sides: &Sides,
        universe: Vec<Range>,
        budget: &Budget<'_>,
    ) -> Result<Self, Obstacle> {
        let words = words_of(parts.len());
        let mut near = Self::default();
        if parts.is_empty() {
            return Ok(near);
        }
        let end = universe.last().map_or(0, |range| range.1);
        for (number, dimension) in near.dimensions.iter_mut().enumerate() {
            let ends = |part: &Part| {
                [part.bounds.first.get(number).copied(), part.bounds.end.get(number).copied()]
            };
            let cuts = quantiles(parts.iter().flat_map(ends).flatten().collect(), CUTS);
            budget.take(2 * cuts.len() * words * 8)?;
            *dimension = Dimension::new(
                cuts,
                words,
                parts.iter().map(|part| {
                    let [first, end] = ends(part);
                    (first.unwrap_or(0), end.unwrap_or(0))
                }),
            );
        }
        if parts.iter().any(|part| !part.is_whole) {
            let source = |part: &Part| part.source;
            let destination = |part: &Part| part.destination;
            near.touch = Some([
                Touch::new(parts, sides, source, end, budget)?,
                Touch::new(parts, sides, destination, end, budget)?,
            ]);
        }
        Ok(near)
    }

    /// What a part can touch, by its sides.
    pub(super) fn touched<'a>(
        &self,
        part: &Part,
        sides: &Sides,
        buffer: &'a mut TouchedBuffer,
    ) -> Touched<'a> {
        let Some([source, destination]) = &self.touch else { return Touched(None) };
        let [first, second] = &mut buffer.0;
        source.collect(sides, part.source, first);
        destination.collect(sides, part.destination, second);
        Touched(Some((first, second)))
    }

    /// What a packet can touch.
    pub(super) fn at(&self, point: &Point) -> Touched<'_> {
        Touched(self.touch.as_ref().map(|[source, destination]| {
            let at = |dimension: usize| point.get(dimension).copied().unwrap_or(0);
            (source.at(at(SOURCE)), destination.at(at(DESTINATION)))
        }))
    }

    /// Calls `visit` with the number of each part that may meet the bounds, in order, from a range of
    /// numbers, as long as it returns true.
    #[inline]
    pub(super) fn each(
        &self,
        bounds: &Bounds,
        touched: Touched<'_>,
        numbers: std::ops::Range<u32>,
        mut visit: impl FnMut(u32) -> bool,
    ) {
        let (from, to) = (numbers.start as usize, numbers.end as usize);
        if from >= to {
            return;
        }
        let mut excluded: [Excluded<'_>; 2 * DIMENSIONS] = [(0, &[]); 2 * DIMENSIONS];
        let mut slots = excluded.iter_mut();
        let mut count = 0;
        let ranges = bounds.first.iter().zip(&bounds.end);
        for (dimension, (first, end)) in self.dimensions.iter().zip(ranges) {
            let both = [dimension.ended_before(*first), dimension.begins_at(*end)];
            for bitmap in both.into_iter().flatten().filter(|it| it.0 > 0) {
                if let Some(slot) = slots.next() {
                    *slot = bitmap;
                    count += 1;
                }
            }
        }
        let excluded = excluded.get_mut(..count).unwrap_or_default();
        // Those that leave few parts come first: most lines then need not be read from the others.
        excluded.sort_unstable_by_key(|it| std::cmp::Reverse(it.0));
        let last_word = to.div_ceil(64);
        let mut word = from / 64 / WORDS * WORDS;
        let line = |bits: &[u64], word: usize| -> Option<[u64; WORDS]> {
            bits.get(word..word + WORDS)?.try_into().ok()
        };
        while word < last_word {
            let mut words = [u64::MAX; WORDS];
            let mut is_out = false;
            for (_, bitmap) in excluded.iter() {
                let Some(bits) = line(bitmap, word) else { return };
                for (own, its) in words.iter_mut().zip(bits) {
                    *own &= !its;
                }
                is_out = words.iter().fold(0, |all, it| all | it) == 0;
                if is_out {
                    break;
                }
            }
            if is_out {
                word += WORDS;
                continue;
            }
            if let Some((sources, destinations)) = touched.0 {
                let both = (line(sources, word), line(destinations, word));
                let (Some(sources), Some(destinations)) = both else { return };
                for ((own, a), b) in words.iter_mut().zip(sources).zip(destinations) {
                    *own &= a & b;
                }
            }
            for (bits, word) in words.iter().zip(word..) {
                let mut bits = *bits;
                let base = word * 64;
                if base >= to || base + 64 <= from {
                    continue;
                }
                if base < from {
                    bits &= u64::MAX << (from - base);
                }
                if base + 64 > to {
                    bits &= u64::MAX >> (base + 64 - to);
                }
                while bits != 0 {
                    // Numbers of parts are below 2^32.
                    let number = u32::try_from(base).unwrap_or(u32::MAX) + bits.trailing_zeros();
                    if !visit(number) {
                        return;
                    }
                    bits &= bits - 1;
                }
            }
            word += WORDS;
        }
    }
}

impl Dimension {
    fn new(cuts: Vec<u32>, words: usize, ranges: impl Iterator<Item = Range>) -> Self {
        let mut ended = Bitmaps::new(cuts.len(), words);
        let mut begins = Bitmaps::new(cuts.len(), words);
        for (bit, (first, end)) in ranges.enumerate() {
            let ends_by = cuts.partition_point(|cut| *cut < end);
            if ends_by < cuts.len() {
                ended.set(ends_by, bit);
            }
            // The first cut is 0.
            let begins_from = cuts.partition_point(|cut| *cut <= first).saturating_sub(1);
            begins.set(begins_from, bit);
        }
        for cut in 1..cuts.len() {
            ended.spread(cut - 1, cut);
        }
        for cut in (1..cuts.len()).rev() {
            begins.spread(cut, cut - 1);
        }
        let count = |bitmap: &[u64]| bitmap.iter().map(|word| word.count_ones()).sum();
        let counts = (0..cuts.len()).map(|it| [count(ended.get(it)), count(begins.get(it))]);
        Self { counts: counts.collect(), cuts, ended, begins }
    }

    /// The parts that certainly end before a value.
    fn ended_before(&self, value: u32) -> Option<Excluded<'_>> {
        let at = self.cuts.partition_point(|cut| *cut <= value).checked_sub(1)?;
        self.counts.get(at).filter(|_| at > 0).map(|it| (it[0], self.ended.get(at)))
    }

    /// The parts that certainly begin at a value or after it.
    fn begins_at(&self, value: u32) -> Option<Excluded<'_>> {
        let at = self.cuts.partition_point(|cut| *cut < value);
        self.counts.get(at).map(|it| (it[1], self.begins.get(at)))
    }
}

impl Touch {
    fn new(
        parts: &[Part],
        sides: &Sides,
        side: impl Fn(&Part) -> ListId,
        end: u32,
        budget: &Budget<'_>,
    ) -> Result<Self, Obstacle> {
        let words = words_of(parts.len());
        // Sides with very many segments are sampled, so that the ends of all need not be listed.
        let mut ends: Vec<u32> = Vec::new();
        for part in parts {
            let segments = sides.segments(side(part));
            let step = segments.len().div_ceil(TOUCHED_CUTS).max(1);
            ends.extend(segments.iter().step_by(step).map(|it| it.first));
        }
        let cuts = quantiles(ends, TOUCHED_CUTS.min(4 * words.max(4)));
        let coarse = cuts.len().div_ceil(COARSE);
        budget.take((cuts.len() + coarse) * words * 8)?;
        let mut touch = Self {
            fine: Bitmaps::new(cuts.len(), words),
            coarse: Bitmaps::new(coarse, words),
            cuts,
        };
        debug_assert!(touch.cuts.last().is_none_or(|cut| *cut <= end));
        for (bit, part) in parts.iter().enumerate() {
            let mut done = 0;
            for segment in sides.segments(side(part)) {
                let (first, last) = touch.span((segment.first, segment.end));
                for cut in first.max(done)..=last {
                    touch.fine.set(cut, bit);
                    touch.coarse.set(cut / COARSE, bit);
                }
                done = last + 1;
            }
        }
        Ok(touch)
    }

    /// The first and the last cut whose addresses a range touches.
    fn span(&self, range: Range) -> (usize, usize) {
        let first = self.cuts.partition_point(|cut| *cut <= range.0).saturating_sub(1);
        let last = self.cuts.partition_point(|cut| *cut < range.1).saturating_sub(1);
        (first, last)
    }

    fn at(&self, address: u32) -> &[u64] {
        self.fine.get(self.cuts.partition_point(|cut| *cut <= address).saturating_sub(1))
    }

    /// The parts that touch some address of a side.
    fn collect(&self, sides: &Sides, side: ListId, touched: &mut Vec<u64>) {
        touched.clear();
        touched.resize(self.fine.words, 0);
        let mut next = 0;
        for segment in sides.segments(side) {
            let (first, last) = self.span((segment.first, segment.end));
            let mut cut = next.max(first);
            while cut <= last {
                let (bits, step) = if cut % COARSE == 0 && cut + COARSE <= last + 1 {
                    (self.coarse.get(cut / COARSE), COARSE)
                } else {
                    (self.fine.get(cut), 1)
                };
                for (own, its) in touched.iter_mut().zip(bits) {
                    *own |= its;
                }
                cut += step;
            }
            next = last + 1;
        }
    }
}
