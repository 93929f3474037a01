//! Long lists of cuboids that no cut divides, such as prefixes of all lengths around one host.
//!
//! Each list has a bit for each of its cuboids, in tables: in each dimension, and in time, up to
//! some hundred cuts make intervals, and each interval has the bits of the cuboids that meet it. A
//! packet is in one interval of each table. Only cuboids whose bits are set in all of these rows
//! can hold it, and only these are compared with it. A second level has a bit for each 64 cuboids,
//! so that a lookup reads few words of a row (aggregated bit vectors: F. Baboescu, G. Varghese,
//! SIGCOMM 2001). If the cuts are fewer than the ends of cuboids, the bits say "perhaps". The
//! comparison that follows is exact.

use super::address::Address;
use super::block::LANES;
use super::cuboid::{Cuboid, Dimension, Key, Range, kind};

/// A list with at least this many cuboids has tables: comparing fewer takes no longer.
pub(super) const MIN_LIST: usize = 384;
/// A list with conditions has tables from this length on, since a condition takes longer to check.
pub(super) const MIN_CONDITIONAL_LIST: usize = 24;
/// What a lookup in tables costs at least, in blocks.
const LOOKUP: f64 = 48.0;
/// How many cuboids more make a lookup in tables as much longer as one block does.
const CUBOIDS_PER_BLOCK: f64 = 2_048.0;
/// The most intervals in all tables of a list.
const MAX_INTERVALS: usize = 640;
/// Fewer intervals divide too little.
const MIN_INTERVALS: usize = 8;
/// The most memory for the tables of a list, in bytes for each of its cuboids.
const BYTES_PER_CUBOID: usize = 64;
/// The most tables of a list: the dimensions, and time.
const MAX_TABLES: usize = Dimension::ALL.len() + 1;

/// The tables of all lists of an index.
#[derive(Debug, Clone)]
pub(super) struct Lists<A> {
    lists: Vec<List>,
    tables: Vec<Table>,
    cuts: Vec<A>,
    instants: Vec<i64>,
    bits: Vec<u64>,
    /// The memory that the tables may take, in bytes.
    room: usize,
}

#[derive(Debug, Clone, Copy)]
struct List {
    /// Its first block. The list has all blocks of a node.
    block: u32,
    /// Its first table, and the number of its tables.
    table: u32,
    tables: u32,
    /// The words of the second level in a row, and all words of a row.
    summary: u32,
    words: u32,
}

#[derive(Debug, Clone, Copy)]
struct Table {
    /// None: time.
    dimension: Option<Dimension>,
    /// Its first cut, and the number of its cuts.
    cut: u32,
    cuts: u32,
    /// The first word of its first row.
    row: u32,
}

/// How much there was at some moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    lists: usize,
    tables: usize,
    cuts: usize,
    instants: usize,
    bits: usize,
}

/// What a lookup in a list of so many cuboids costs, in blocks that are compared.
pub(super) fn cost(cuboids: usize) -> f64 {
    let blocks = cuboids.div_ceil(LANES) as f64;
    if cuboids < MIN_LIST {
        blocks
    } else {
        blocks.min(LOOKUP + cuboids as f64 / CUBOIDS_PER_BLOCK)
    }
}

/// A cuboid of a list, with the times at which its rule is active, in microseconds.
pub(super) type Listed<'a, A> = (&'a Cuboid<A>, Range<i64>);

impl<A: Address> Lists<A> {
    /// No lists yet, of an index of so many cuboids.
    pub(super) const fn new(cuboids: usize) -> Self {
        Self {
            lists: Vec::new(),
            tables: Vec::new(),
            cuts: Vec::new(),
            instants: Vec::new(),
            bits: Vec::new(),
            room: Self::most_bytes(cuboids),
        }
    }

    /// How much memory it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.lists.as_slice())
            + size_of_val(self.tables.as_slice())
            + size_of_val(self.cuts.as_slice())
            + size_of_val(self.instants.as_slice())
            + size_of_val(self.bits.as_slice())
    }

    /// The memory that the tables of so many cuboids may take, in bytes.
    pub(super) const fn most_bytes(cuboids: usize) -> usize {
        cuboids.saturating_mul(BYTES_PER_CUBOID)
    }

    /// What there is now, for [`Self::reset`].
    pub(super) const fn mark(&self) -> Mark {
        Mark {
            lists: self.lists.len(),
            tables: self.tables.len(),
            cuts: self.cuts.len(),
            instants: self.instants.len(),
            bits: self.bits.len(),
        }
    }

    /// Removes all lists that were added since a mark.
    pub(super) fn reset(&mut self, mark: Mark) {
        self.lists.truncate(mark.lists);
        self.tables.truncate(mark.tables);
        self.cuts.truncate(mark.cuts);
        self.instants.truncate(mark.instants);
        self.bits.truncate(mark.bits);
    }

    /// Makes room for so many words. Grows by a fraction: doubling would briefly take three times the
    /// memory.
    fn reserve(&mut self, words: usize) {
        if self.bits.len() + words > self.bits.capacity() {
            self.bits.reserve_exact(words.max(self.bits.len() / 8));
        }
    }

    pub(super) fn shrink_to_fit(&mut self) {
        self.lists.shrink_to_fit();
        self.tables.shrink_to_fit();
        self.cuts.shrink_to_fit();
        self.instants.shrink_to_fit();
        self.bits.shrink_to_fit();
    }

    /// Makes the tables of cuboids that are in blocks from this one on. Returns the number of the
    /// list; none if there is no room, or no table would divide the cuboids.
    pub(super) fn add(&mut self, block: u32, cuboids: &[Listed<'_, A>]) -> Option<u32> {
        let words = cuboids.len().div_ceil(64);
        let summary = words.div_ceil(64);
        let row = words + summary;
        let row_bytes = row * size_of::<u64>() + size_of::<A>().max(size_of::<i64>());
        let fixed = size_of::<List>() + MAX_TABLES * size_of::<Table>();
        let room = self.room.saturating_sub(self.bytes()).min(Self::most_bytes(cuboids.len()));
        let most = room.saturating_sub(fixed) / row_bytes;
        let most = most.min(MAX_INTERVALS).min(cuboids.len() / 2);
        if most < MIN_INTERVALS {
            return None;
        }
        self.reserve(most * row);
        let mut ends: Vec<(Option<Dimension>, Ends<A>)> = Dimension::ALL
            .into_iter()
            .map(|dimension| {
                let ranges = cuboids.iter().map(|(cuboid, _)| cuboid.range(dimension));
                let highest = match dimension {
                    Dimension::Source | Dimension::Destination => A::MAX,
                    Dimension::First | Dimension::Second => A::from(u16::MAX),
                    Dimension::Protocol => A::from(kind::ANY.1),
                };
                let next = |last: A| (last < highest).then(|| last.wrapping_add(A::from(1)));
                (Some(dimension), Ends::Numbers(ends_of(ranges, A::ZERO, next)))
            })
            .collect();
        // Active until an instant means active before it.
        let times = cuboids.iter().map(|(_, (from, until))| (*from, *until));
        let next = |until: i64| (until < i64::MAX).then_some(until);
        ends.push((None, Ends::Instants(ends_of(times, i64::MIN, next))));
        ends.retain(|(_, ends)| ends.len() > 0);
        // Tables with few ends get all that they need, and the others share the rest.
        ends.sort_by_key(|(_, ends)| ends.len());
        let (mut left, mut tables_left) = (most, ends.len());
        let first_table = self.tables.len();
        let has_cuts = |cuts: usize, of: &Self| {
            u32::try_from(of.cuts.len() + of.instants.len() + cuts).is_ok()
                && u32::try_from(of.bits.len() + (cuts + 1) * row).is_ok()
        };
        for (dimension, ends) in ends {
            let share = left / tables_left.max(1);
            tables_left -= 1;
            // A table of n cuts has n + 1 intervals.
            let cuts = ends.len().min(share.saturating_sub(1));
            if cuts == 0 || !has_cuts(cuts, self) {
                continue;
            }
            left -= cuts + 1;
            let first_row = self.bits.len();
            self.bits.resize(first_row + (cuts + 1) * row, 0);
            let first_cut = match ends {
                Ends::Numbers(ends) => {
                    let first = self.cuts.len();
                    self.cuts.extend(quantiles(&ends, cuts));
                    first
                }
                Ends::Instants(ends) => {
                    let first = self.instants.len();
                    self.instants.extend(quantiles(&ends, cuts));
                    first
                }
            };
            let number = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
            let table = Table {
                dimension,
                cut: number(first_cut),
                cuts: number(cuts),
                row: number(first_row),
            };
            self.tables.push(table);
            for (at, (cuboid, times)) in cuboids.iter().enumerate() {
                let (first, last) = match dimension {
                    Some(dimension) => {
                        let (first, last) = cuboid.range(dimension);
                        (self.interval(&table, first), self.interval(&table, last))
                    }
                    None => {
                        let last = times.1.saturating_sub(1);
                        (
                            self.interval_in_time(&table, times.0),
                            self.interval_in_time(&table, last),
                        )
                    }
                };
                let (word, bit) = (at / 64, 1 << (at % 64));
                let (in_summary, summary_bit) = (word / 64, 1 << (word % 64));
                for interval in first..=last {
                    let row = self.bits.get_mut(first_row + interval * row..);
                    let Some(row) = row else { continue };
                    if let Some(bits) = row.get_mut(in_summary) {
                        *bits |= summary_bit;
                    }
                    if let Some(bits) = row.get_mut(summary + word) {
                        *bits |= bit;
                    }
                }
            }
        }
        let tables = self.tables.len() - first_table;
        let list = List {
            block,
            table: u32::try_from(first_table).ok()?,
            tables: u32::try_from(tables).ok()?,
            summary: u32::try_from(summary).ok()?,
            words: u32::try_from(row).ok()?,
        };
        let number = u32::try_from(self.lists.len()).ok()?;
        (tables > 0).then(|| {
            self.lists.push(list);
            number
        })
    }

    fn interval(&self, table: &Table, number: A) -> usize {
        let cuts = self.cuts.get(table.cut as usize..(table.cut + table.cuts) as usize);
        cuts.map_or(0, |cuts| cuts.partition_point(|cut| *cut <= number))
    }

    fn interval_in_time(&self, table: &Table, at: i64) -> usize {
        let cuts = self.instants.get(table.cut as usize..(table.cut + table.cuts) as usize);
        cuts.map_or(0, |cuts| cuts.partition_point(|cut| *cut <= at))
    }

    /// Calls `visit` for the blocks of a list that can hold a packet, in order, each with a bit mask
    /// of the lanes that can. Ends once `visit` returns true.
    ///
    /// `any_first`: the packet's first field (its source port) can be any.
    #[inline]
    pub(super) fn candidates(
        &self,
        list: u32,
        key: &Key<A>,
        at: i64,
        any_first: bool,
        mut visit: impl FnMut(usize, u32) -> bool,
    ) {
        let Some(list) = self.lists.get(list as usize) else { return };
        let tables = list.table as usize..(list.table + list.tables) as usize;
        let tables = self.tables.get(tables).unwrap_or(&[]);
        let words = list.words as usize;
        let mut rows: [&[u64]; MAX_TABLES] = [&[]; MAX_TABLES];
        let mut count = 0;
        for table in tables {
            let interval = match table.dimension {
                None => self.interval_in_time(table, at),
                Some(Dimension::First) if any_first => continue,
                Some(dimension) => self.interval(table, key.field(dimension)),
            };
            let start = table.row as usize + interval * words;
            if let (Some(row), Some(bits)) =
                (rows.get_mut(count), self.bits.get(start..start + words))
            {
                *row = bits;
                count += 1;
            }
        }
        let rows = rows.get(..count).unwrap_or(&[]);
        let summary = list.summary as usize;
        // Without a row, all bits are set.
        let all = |word: usize| {
            rows.iter().fold(u64::MAX, |bits, row| bits & row.get(word).copied().unwrap_or(0))
        };
        for in_summary in 0..summary {
            let mut words_left = all(in_summary);
            while words_left != 0 {
                let word = in_summary * 64 + words_left.trailing_zeros() as usize;
                words_left &= words_left - 1;
                if summary + word >= words {
                    return;
                }
                let mut bits = all(summary + word);
                while bits != 0 {
                    let lane = bits.trailing_zeros() & !7;
                    let lanes = bits >> lane & 0xff;
                    bits &= !(0xff << lane);
                    let block = list.block as usize + word * (64 / LANES) + lane as usize / LANES;
                    if visit(block, u32::try_from(lanes).unwrap_or(0)) {
                        return;
                    }
                }
            }
        }
    }
}

enum Ends<A> {
    Numbers(Vec<A>),
    Instants(Vec<i64>),
}

impl<A> Ends<A> {
    const fn len(&self) -> usize {
        match self {
            Self::Numbers(ends) => ends.len(),
            Self::Instants(ends) => ends.len(),
        }
    }
}

/// The numbers at which ranges begin, and those after which they end: different ones, in order.
/// `next` is the number after a last one. The lowest number divides nothing.
fn ends_of<T: Copy + Ord>(
    ranges: impl Iterator<Item = Range<T>>,
    lowest: T,
    next: impl Fn(T) -> Option<T>,
) -> Vec<T> {
    let mut ends = Vec::new();
    for (first, last) in ranges {
        ends.extend((first > lowest).then_some(first));
        ends.extend(next(last));
    }
    ends.sort_unstable();
    ends.dedup();
    ends
}

/// So many of the numbers, evenly spread.
fn quantiles<T: Copy>(numbers: &[T], count: usize) -> impl Iterator<Item = T> {
    let at = move |nth: usize| (nth * 2 + 1) * numbers.len() / (count * 2);
    (0..count).filter_map(move |nth| numbers.get(at(nth)).copied())
}

#[cfg(test)]
mod tests {
    use super::super::cuboid::CuboidParts;
    use super::*;
    use crate::testing::random::Random;

    /// A range with numbers below a bound; some begin at 0, some end at the last number of all.
    fn range(random: &mut Random, below: u32, max: u32) -> Range<u32> {
        let (one, other) = (random.below(below), random.below(below));
        let last = if random.happens(10) { max } else { one.max(other) };
        (if random.happens(10) { 0 } else { one.min(other) }, last)
    }

    fn port((first, last): Range<u32>) -> Range<u16> {
        (u16::try_from(first).unwrap(), u16::try_from(last).unwrap())
    }

    #[test]
    fn a_list_shows_every_cuboid_that_can_hold_a_packet_in_order() {
        let mut random = Random::new(3);
        let mut compared = 0;
        for count in [24, 63, 64, 65, 200, 4_100, 9_000] {
            let cuboids: Vec<(Cuboid<u32>, Range<i64>)> = (0..count)
                .map(|order| {
                    let times = range(&mut random, 50, 60);
                    let cuboid = Cuboid::new(&CuboidParts {
                        source: range(&mut random, 90_000, u32::MAX),
                        destination: range(&mut random, 30, u32::MAX),
                        first: port(range(&mut random, 900, 65_535)),
                        second: port(range(&mut random, 9, 65_535)),
                        protocols: port(range(&mut random, 700, 767)),
                        is_conditional: true,
                        order,
                    });
                    let until = if times.1 == 60 { i64::MAX } else { i64::from(times.1) + 1 };
                    let from = if times.0 == 0 { i64::MIN } else { i64::from(times.0) };
                    (cuboid, (from, until))
                })
                .collect();
            let listed: Vec<Listed<'_, u32>> =
                cuboids.iter().map(|(cuboid, times)| (cuboid, *times)).collect();
            let mut lists = Lists::new(2 * cuboids.len());
            // Another list comes first.
            let few: Vec<Listed<'_, u32>> = listed.iter().copied().take(24).collect();
            assert_eq!(lists.add(7, &few), Some(0));
            assert_eq!(lists.add(1_000, &listed), Some(1), "{count}");
            assert!(lists.bytes() <= Lists::<u32>::most_bytes(2 * cuboids.len()));
            for _ in 0..200 {
                let at = i64::from(random.below(70)) - 5;
                let key = Key {
                    source: random.below(91_000),
                    destination: random.below(32),
                    first: u16::try_from(random.below(920)).unwrap(),
                    second: u16::try_from(random.below(10)).unwrap(),
                    protocol: u8::try_from(random.below(256)).unwrap(),
                    kind: u8::try_from(random.below(u32::from(kind::OPAQUE) + 1)).unwrap(),
                };
                for any_first in [false, true] {
                    let mut shown = Vec::new();
                    lists.candidates(1, &key, at, any_first, |block, lanes| {
                        let first = (block - 1_000) * LANES;
                        shown.extend(
                            (0..LANES).filter(|it| lanes >> it & 1 == 1).map(|it| first + it),
                        );
                        false
                    });
                    assert!(shown.is_sorted());
                    let is_in = |(cuboid, times): &(Cuboid<u32>, Range<i64>)| {
                        let first = if any_first { cuboid.first } else { key.first };
                        cuboid.holds(&Key { first, ..key }) && times.0 <= at && at < times.1
                    };
                    for (place, _) in cuboids.iter().enumerate().filter(|(_, it)| is_in(it)) {
                        assert!(shown.binary_search(&place).is_ok(), "{place} {key:?} {at}");
                        compared += 1;
                    }
                    assert!(shown.len() < cuboids.len() / 2 + 12, "the tables divide the cuboids");
                }
            }
        }
        assert!(compared > 1_000, "{compared}");
    }

    #[test]
    fn cuboids_that_nothing_divides_have_no_tables() {
        let parts = CuboidParts {
            source: (0, u32::MAX),
            destination: (0, u32::MAX),
            first: (0, u16::MAX),
            second: (0, u16::MAX),
            protocols: kind::ANY,
            is_conditional: false,
            order: 0,
        };
        let cuboid = Cuboid::new(&parts);
        let mut lists = Lists::new(1_000);
        assert_eq!(lists.add(0, &[(&cuboid, (i64::MIN, i64::MAX)); 1_000]), None);
    }
}
