//! The same question as in `cover`, on bits: for sets without order, and for rules of very many
//! products.
//!
//! A frame belongs to a part of a rule. It divides the three factors of the part (its source, its
//! destination, its protocols) into atoms: pairs of an address and a port, or protocols, that the
//! rules nearby do not distinguish. Each rule is then a row of bits. This is slower than ranges for
//! usual policies, and many times faster for lists of hundreds of hosts. Entries with ports of their
//! own are not multiplied out, since an atom is a pair.

use super::bounds::Point;
use super::budget::Meter;
use super::cell::Cell;
use super::intern::{FxHashMap, Interned, ListId};
use super::question::{Hole, Neighbors};
use super::ranges::{Range, has, hull};
use super::report::Obstacle;
use super::sides::{Segment, Sides};
use super::space::{Part, Slot, Space};
use crate::net::Family;

/// The factors: source, destination, protocols.
const FACTORS: usize = 3;

/// The frame of a part of a rule.
pub(super) struct Frame {
    family: Family,
    /// The words of each factor, one after another: where each factor begins, and the end.
    starts: [usize; FACTORS + 1],
    /// A bit for each atom of the part.
    all: Vec<u64>,
    /// The atoms of each part nearby, in order.
    rows: Vec<u64>,
    rules: Vec<Slot>,
    /// A pair of values of each atom of the source and of the destination.
    pairs: [Vec<(u32, u32)>; 2],
    /// A value of each atom of the protocols.
    protocols: Vec<u32>,
}

/// The frames of all parts of a rule.
pub(super) struct Frames(Vec<Frame>);

/// The atoms of a factor.
struct Atoms<T> {
    /// A value of each atom.
    values: Vec<T>,
    /// For each distinct set, the atoms that it has.
    sets: Vec<Vec<u64>>,
    /// Which of these sets each part nearby has.
    set_of: Vec<usize>,
}

impl Frames {
    /// The frames of a rule among its neighbors.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if they take more than the budget has.
    pub(super) fn new(
        space: &Space,
        neighbors: &Neighbors,
        meter: &mut Meter<'_>,
    ) -> Result<Self, Obstacle> {
        let frames = neighbors.0.iter().filter_map(|own| {
            let parts = &space.family(own.family).parts;
            let part = parts.get(own.part as usize)?;
            let others: Vec<&Part> =
                own.others.iter().filter_map(|number| parts.get(*number as usize)).collect();
            Some(Frame::new(space, own.family, part, &others, meter))
        });
        Ok(Self(frames.collect::<Result<_, _>>()?))
    }

    /// Whether some rules cover the rule, or what it and another rule contain: none if they do, else
    /// a packet that none of them matches. Adds the rules that prove it to `used`.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn find_hole(
        &self,
        within: Option<Slot>,
        takes: &dyn Fn(Slot) -> bool,
        meter: &mut Meter<'_>,
        used: &mut Vec<Slot>,
    ) -> Result<Option<Hole>, Obstacle> {
        for frame in &self.0 {
            let rows: Vec<u32> = frame
                .rules
                .iter()
                .zip(0_u32..)
                .filter(|(rule, _)| takes(**rule))
                .map(|(_, row)| row)
                .collect();
            let cells: Vec<Vec<u64>> = match within {
                None => vec![frame.all.clone()],
                Some(within) => {
                    let own = frame.rules.iter().enumerate().filter(|it| *it.1 == within);
                    own.map(|(row, _)| frame.row(row).to_vec()).collect()
                }
            };
            for cell in cells {
                let mut proof = Vec::new();
                if let Some(bits) = frame.search(cell, &rows, meter, &mut proof)? {
                    return Ok(frame.hole(&bits));
                }
                used.extend(proof.iter().filter_map(|row| frame.rules.get(*row as usize)));
            }
        }
        used.sort_unstable();
        used.dedup();
        Ok(None)
    }
}

impl Frame {
    fn new(
        space: &Space,
        family: Family,
        part: &Part,
        others: &[&Part],
        meter: &mut Meter<'_>,
    ) -> Result<Self, Obstacle> {
        let side = |of: &dyn Fn(&Part) -> ListId, meter: &mut Meter<'_>| {
            let near: Vec<ListId> = others.iter().map(|other| of(other)).collect();
            side_atoms(&space.sets, &space.sides, of(part), &near, meter)
        };
        let source = side(&|part| part.source, meter)?;
        let destination = side(&|part| part.destination, meter)?;
        let near: Vec<ListId> = others.iter().map(|other| other.protocols).collect();
        let protocols = protocol_atoms(&space.sets, part.protocols, &near);
        let words = [source.values.len(), destination.values.len(), protocols.values.len()]
            .map(|atoms| atoms.div_ceil(64));
        let starts = [0, words[0], words[0] + words[1], words.iter().sum()];
        let width = starts[FACTORS];
        meter.take(others.len() * width * size_of::<u64>())?;
        let mut rows = Vec::with_capacity(others.len() * width);
        for row in 0..others.len() {
            meter.steps += width as u64 / 8 + 1;
            meter.check()?;
            rows.extend_from_slice(source.row(row));
            rows.extend_from_slice(destination.row(row));
            rows.extend_from_slice(protocols.row(row));
        }
        let mut all = full(source.values.len());
        all.extend(full(destination.values.len()));
        all.extend(full(protocols.values.len()));
        Ok(Self {
            family,
            starts,
            all,
            rows,
            rules: others.iter().map(|other| other.rule).collect(),
            pairs: [source.values, destination.values],
            protocols: protocols.values,
        })
    }

    fn row(&self, row: usize) -> &[u64] {
        let width = self.all.len();
        self.rows.get(row * width..(row + 1) * width).unwrap_or_default()
    }

    /// The words of a factor.
    fn factor<'a>(&self, bits: &'a [u64], factor: usize) -> &'a [u64] {
        let from = self.starts.get(factor).copied().unwrap_or(0);
        let to = self.starts.get(factor + 1).copied().unwrap_or(from);
        bits.get(from..to).unwrap_or_default()
    }

    /// How many atoms of each factor two rows of bits have in common.
    fn common(&self, a: &[u64], b: &[u64]) -> [u32; FACTORS] {
        [0, 1, 2].map(|factor| {
            let words = self.factor(a, factor).iter().zip(self.factor(b, factor));
            words.map(|(a, b)| (a & b).count_ones()).sum()
        })
    }

    /// See `cover`: the same search. Returns a cell that no row meets.
    fn search(
        &self,
        cell: Vec<u64>,
        rows: &[u32],
        meter: &mut Meter<'_>,
        used: &mut Vec<u32>,
    ) -> Result<Option<Vec<u64>>, Obstacle> {
        let mut arena: Vec<u32> = rows.to_vec();
        let mut tasks: Vec<(Vec<u64>, usize, usize)> = vec![(cell, 0, arena.len())];
        while let Some((mut cell, from, to)) = tasks.pop() {
            arena.truncate(to);
            let start = arena.len();
            arena.extend_from_within(from..to);
            let divide = loop {
                let totals = self.common(&cell, &cell);
                if totals.contains(&0) {
                    break None;
                }
                let mut taken: Option<Vec<u64>> = None;
                let mut is_covered = false;
                let mut best = (-1.0, 0);
                let mut kept = start;
                for at in start..arena.len() {
                    meter.steps += cell.len() as u64 / 8 + 1;
                    meter.check()?;
                    let Some(number) = arena.get(at).copied() else { break };
                    let row = self.row(number as usize);
                    let counts = self.common(&cell, row);
                    if counts.contains(&0) {
                        continue;
                    }
                    let mut partial = counts.iter().zip(&totals).enumerate();
                    let mut partial_factors = partial.by_ref().filter(|it| it.1.0 < it.1.1);
                    match (partial_factors.next(), partial_factors.next()) {
                        (None, _) => {
                            used.push(number);
                            is_covered = true;
                            break;
                        }
                        (Some((factor, _)), None) => {
                            used.push(number);
                            let taken = taken.get_or_insert_with(|| vec![0; cell.len()]);
                            self.add(taken, row, factor);
                        }
                        (Some(_), Some(_)) => {
                            let share: f64 = counts
                                .iter()
                                .zip(&totals)
                                .map(|(count, all)| f64::from(*count) / f64::from(*all))
                                .product();
                            if share > best.0 {
                                best = (share, kept - start);
                            }
                            if let Some(place) = arena.get_mut(kept) {
                                *place = number;
                            }
                            kept += 1;
                        }
                    }
                }
                if is_covered {
                    break None;
                }
                arena.truncate(kept);
                let Some(taken) = taken else {
                    if kept == start {
                        return Ok(Some(cell));
                    }
                    break Some(arena.swap_remove(start + best.1));
                };
                for (own, taken) in cell.iter_mut().zip(taken) {
                    *own &= !taken;
                }
            };
            let Some(chosen) = divide else { continue };
            used.push(chosen);
            let to = arena.len();
            for cell in self.outside(cell, self.row(chosen as usize)).into_iter().rev() {
                tasks.push((cell, start, to));
            }
        }
        Ok(None)
    }

    /// Adds the atoms of one factor of a row.
    fn add(&self, bits: &mut [u64], row: &[u64], factor: usize) {
        let from = self.starts.get(factor).copied().unwrap_or(0);
        let to = self.starts.get(factor + 1).copied().unwrap_or(from);
        let (own, its) = (bits.get_mut(from..to), row.get(from..to));
        if let (Some(own), Some(its)) = (own, its) {
            for (own, its) in own.iter_mut().zip(its) {
                *own |= its;
            }
        }
    }

    /// The disjoint parts of a cell outside of a row, the largest last.
    fn outside(&self, cell: Vec<u64>, row: &[u64]) -> Vec<Vec<u64>> {
        let (counts, totals) = (self.common(&cell, row), self.common(&cell, &cell));
        let mut shares: Vec<(f64, usize)> = counts
            .iter()
            .zip(totals)
            .enumerate()
            .filter(|(_, (count, all))| **count < *all)
            .map(|(factor, (count, all))| (f64::from(*count) / f64::from(all), factor))
            .collect();
        shares.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut inside = cell;
        let mut outside = Vec::with_capacity(shares.len());
        for (_, factor) in shares {
            let from = self.starts.get(factor).copied().unwrap_or(0);
            let to = self.starts.get(factor + 1).copied().unwrap_or(from);
            let mut out = inside.clone();
            let words = out.iter_mut().zip(&mut inside).zip(row).take(to).skip(from);
            for ((out, inside), row) in words {
                *out &= !row;
                *inside &= row;
            }
            outside.push(out);
        }
        outside
    }

    /// A packet of a cell.
    fn hole(&self, bits: &[u64]) -> Option<Hole> {
        let first = |factor: usize| {
            let words = self.factor(bits, factor);
            let word = words.iter().position(|word| *word != 0)?;
            words.get(word).map(|bits| word * 64 + bits.trailing_zeros() as usize)
        };
        let [sources, destinations] = &self.pairs;
        let (source, from) = *sources.get(first(0)?)?;
        let (destination, to) = *destinations.get(first(1)?)?;
        let protocol = *self.protocols.get(first(2)?)?;
        let point: Point = [source, destination, from, to, protocol];
        let cell = Cell::of_ranges(point.map(|value| vec![(value, value + 1)]));
        Some(Hole { family: self.family, cell, is_point: true })
    }
}

impl<T> Atoms<T> {
    /// The atoms of a part nearby.
    fn row(&self, part: usize) -> &[u64] {
        let set = self.set_of.get(part).and_then(|set| self.sets.get(*set));
        set.map_or(&[], Vec::as_slice)
    }
}

/// So many bits that are set.
fn full(count: usize) -> Vec<u64> {
    let mut words = vec![u64::MAX; count.div_ceil(64)];
    if !count.is_multiple_of(64)
        && let Some(last) = words.last_mut()
    {
        *last = (1 << (count % 64)) - 1;
    }
    words
}

/// The number of each distinct item, and the items.
fn distinct(items: &[ListId]) -> (Vec<usize>, Vec<ListId>) {
    let mut numbers: FxHashMap<ListId, usize> = FxHashMap::default();
    let mut different = Vec::new();
    let number_of = |item: &ListId| {
        *numbers.entry(*item).or_insert_with(|| {
            different.push(*item);
            different.len() - 1
        })
    };
    let of = items.iter().map(number_of).collect();
    (of, different)
}

/// Collects atoms: one for each pattern of sets.
struct Collector<T> {
    values: Vec<T>,
    atom_of: FxHashMap<Vec<u64>, usize>,
}

impl<T> Collector<T> {
    fn add(&mut self, pattern: Vec<u64>, value: T) {
        let next = self.values.len();
        if let std::collections::hash_map::Entry::Vacant(entry) = self.atom_of.entry(pattern) {
            entry.insert(next);
            self.values.push(value);
        }
    }

    fn finish(self, sets: usize, set_of: Vec<usize>) -> Atoms<T> {
        let words = self.values.len().div_ceil(64);
        let mut bits = vec![vec![0_u64; words]; sets];
        for (pattern, atom) in self.atom_of {
            for set in ones(&pattern) {
                if let Some(word) = bits.get_mut(set).and_then(|it| it.get_mut(atom / 64)) {
                    *word |= 1 << (atom % 64);
                }
            }
        }
        Atoms { values: self.values, sets: bits, set_of }
    }
}

/// The places of the bits that are set.
fn ones(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(at, word)| {
        let mut left = *word;
        std::iter::from_fn(move || {
            let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(at * 64 + bit)
        })
    })
}

fn set_bit(words: &mut [u64], bit: usize) {
    if let Some(word) = words.get_mut(bit / 64) {
        *word |= 1 << (bit % 64);
    }
}

/// The atoms of a set of protocols.
fn protocol_atoms(sets: &Interned<Range>, own: ListId, near: &[ListId]) -> Atoms<u32> {
    let (set_of, different) = distinct(near);
    let mut collector = Collector { values: Vec::new(), atom_of: FxHashMap::default() };
    let words = different.len().div_ceil(64);
    // There are at most 256 protocols.
    for protocol in sets.get(own).iter().flat_map(|range| range.0..range.1) {
        let mut pattern = vec![0; words];
        for (number, set) in different.iter().enumerate() {
            if has(sets.get(*set), protocol) {
                set_bit(&mut pattern, number);
            }
        }
        collector.add(pattern, protocol);
    }
    collector.finish(different.len(), set_of)
}

/// The atoms of a side: a sweep over its addresses, and at each place over its ports.
fn side_atoms(
    sets: &Interned<Range>,
    sides: &Sides,
    own: ListId,
    near: &[ListId],
    meter: &mut Meter<'_>,
) -> Result<Atoms<(u32, u32)>, Obstacle> {
    let (set_of, different) = distinct(near);
    let own = sides.segments(own);
    let (first, end) =
        own.first().zip(own.last()).map_or((0, 0), |(first, last)| (first.first, last.end));
    // Where each set begins and ends, with its ports from there on.
    let mut events: Vec<(u32, bool, usize, ListId)> = Vec::new();
    for (number, side) in different.iter().enumerate() {
        let segments = sides.segments(*side);
        let skipped = segments.partition_point(|it| it.end <= first);
        let inside = segments.get(skipped..).unwrap_or_default();
        for segment in inside.iter().take_while(|it| it.first < end) {
            events.push((segment.first.max(first), true, number, segment.field));
            events.push((segment.end.min(end), false, number, segment.field));
        }
        meter.steps += 1 + inside.len() as u64;
        meter.check()?;
    }
    events.sort_unstable();
    meter.steps += events.len() as u64 * 4;
    let mut sweep = Sweep {
        sets,
        count: different.len(),
        active: vec![None; different.len()],
        hash: 0,
        seen: FxHashMap::default(),
        collector: Collector { values: Vec::new(), atom_of: FxHashMap::default() },
    };
    let mut next = events.iter().peekable();
    for segment in own {
        let mut at = segment.first;
        while at < segment.end {
            while let Some((place, begins, number, field)) = next.next_if(|it| it.0 <= at).copied()
            {
                debug_assert!(place <= at);
                sweep.toggle(number, field, begins);
            }
            sweep.visit(segment, at, meter)?;
            at = next.peek().map_or(segment.end, |it| it.0.min(segment.end)).max(at + 1);
        }
    }
    Ok(sweep.collector.finish(different.len(), set_of))
}

/// The ports of the part itself and of each set, at a place that was visited.
type Visited = (ListId, Vec<Option<ListId>>);

/// The sets that are active at a place of a sweep.
struct Sweep<'a> {
    sets: &'a Interned<Range>,
    count: usize,
    /// The ports of each set.
    active: Vec<Option<ListId>>,
    /// A hash of `active` that is kept up to date.
    hash: u64,
    /// Combinations that were visited already: the hash finds them, the list proves it.
    seen: FxHashMap<u64, Vec<Visited>>,
    collector: Collector<(u32, u32)>,
}

impl Sweep<'_> {
    fn toggle(&mut self, number: usize, field: ListId, begins: bool) {
        if let Some(active) = self.active.get_mut(number) {
            *active = begins.then_some(field);
            self.hash ^= mixed(number as u64, u64::from(field));
        }
    }

    /// Adds the atoms at an address.
    fn visit(&mut self, segment: &Segment, at: u32, meter: &mut Meter<'_>) -> Result<(), Obstacle> {
        meter.steps += self.count as u64 / 16 + 1;
        meter.check()?;
        let known = self.seen.entry(self.hash).or_default();
        if known.iter().any(|it| it.0 == segment.field && it.1 == self.active) {
            return Ok(());
        }
        meter.take(self.count * size_of::<Option<ListId>>())?;
        known.push((segment.field, self.active.clone()));
        let own = self.sets.get(segment.field);
        let (first, end) = hull(own);
        let active: Vec<(usize, &[Range])> = self
            .active
            .iter()
            .enumerate()
            .filter_map(|(number, field)| field.map(|field| (number, self.sets.get(field))))
            .collect();
        let mut cuts: Vec<u32> = own.iter().flat_map(|it| [it.0, it.1]).collect();
        for (_, ports) in &active {
            let skipped = ports.partition_point(|it| it.1 <= first);
            let inside = ports.iter().skip(skipped).take_while(|it| it.0 < end);
            cuts.extend(inside.flat_map(|it| [it.0, it.1]));
        }
        cuts.retain(|cut| first <= *cut && *cut < end);
        cuts.sort_unstable();
        cuts.dedup();
        meter.steps += (cuts.len() * (active.len() + 1)) as u64 / 2;
        meter.check()?;
        let words = self.count.div_ceil(64);
        for port in cuts {
            if !has(own, port) {
                continue;
            }
            let mut pattern = vec![0; words];
            for (number, ports) in &active {
                if has(ports, port) {
                    set_bit(&mut pattern, *number);
                }
            }
            let before = self.collector.values.len();
            self.collector.add(pattern, (at, port));
            if self.collector.values.len() > before {
                meter.take(words * size_of::<u64>())?;
            }
        }
        Ok(())
    }
}

/// A number for a set and its ports that looks random.
const fn mixed(number: u64, field: u64) -> u64 {
    let mut z = (number << 32 | field).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
