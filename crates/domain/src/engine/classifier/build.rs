//! The construction of an index.
//!
//! A node is cut along the bits of one dimension into as many children as it has cuboids, at most
//! 256. The dimension and the number of bits are found by trying all of them. The cost of a cut has
//! three parts. The first is the expected number of cuboids of a child (seen from a cuboid in it), in
//! bits. The second is the space for copies of cuboids that lie in several children. The third is the
//! cuboids that stay with the node since they span many children: they are compared with every packet
//! that passes.
//!
//! The window of bits begins at the highest bit in which the cuboids differ. The bits above it are
//! ignored, which is safe since each cuboid is compared with the whole packet. If many cuboids would
//! stay with a root, they get a tree of their own. A cuboid that covers the whole region of a child
//! hides all later cuboids there. Finally, cuboids are put into blocks; neighbors with few cuboids share
//! a block. Long lists of blocks get tables (`lists`).

use super::LANE;
use super::address::Address;
use super::block::{Block, LANES, Shifts, most_selective_window};
use super::cuboid::{Cuboid, Dimension, Range, Region, kind};
use super::cut::{Cut, bits_of, child_region, clipped, cost, cuts};
use super::hull::Hull;
use super::index::{Addresses, Condition, Index, NO_CUBOID, Node, Root, Rule};
use super::lists::{self, Listed, Lists, MIN_CONDITIONAL_LIST, MIN_LIST};

/// A node with no more cuboids than this is not cut any further: its cuboids fill one block.
const LEAF: usize = LANES;
/// The least gain that justifies a node, in bits.
const MIN_GAIN: f64 = 0.2;
/// The greatest depth of a node.
const MAX_DEPTH: usize = 24;
/// The most trees, for rules with and for rules without limits in time.
const MAX_ROOTS: usize = 8;
/// Cuboids of rules with limits in time have trees of their own if one in this many cuboids has such a
/// rule. Otherwise they are too few to pay for another tree.
const MAX_TIMED: usize = 8;
/// The most cuboids that decide which addresses say more.
const MAX_SAMPLE: usize = 1 << 18;
/// A group is split in two if more than one in this many of its cuboids would stay with its root.
const MAX_STAYING: usize = 50;

/// What to index.
#[derive(Debug)]
pub(super) struct Source<'a, A> {
    /// In order of their places.
    pub(super) cuboids: &'a [Cuboid<A>],
    /// The conditions of their rules, in order of places.
    pub(super) conditions: Vec<Condition>,
    pub(super) hulls: Vec<Hull<A>>,
}

/// Indexes cuboids. `most` is the number of cuboids, copies included, that blocks should have room for;
/// nodes that would exceed it are not cut further. `ceiling` is the number that blocks may have room
/// for at most. `should_continue` is called at every node, and again and again at large ones.
///
/// Returns none if `should_continue` returns false, if more room than the ceiling would be needed, or if
/// there are more cuboids than numbers for them.
pub(super) fn index<A: Address>(
    source: Source<'_, A>,
    most: usize,
    ceiling: usize,
    should_continue: &dyn Fn() -> bool,
) -> Option<Index<A>> {
    let Source { cuboids, conditions, hulls } = source;
    // Reserved room that is never touched takes no memory, while growing doubles the memory for a
    // moment. If the room cannot be reserved, the blocks grow.
    let mut blocks = Vec::new();
    let _has_room = blocks.try_reserve_exact(most.div_ceil(LANES)).is_ok();
    let mut builder = Builder {
        cuboids,
        index: Index {
            nodes: Vec::new(),
            blocks,
            rules: Vec::new(),
            addresses: Vec::new(),
            roots: Vec::new(),
            hiding: Vec::new(),
            lists: Lists::new(cuboids.len()),
            conditions,
            hulls,
        },
        most,
        ceiling: ceiling.max(most).div_ceil(LANES),
        shifts: Shifts::default(),
        should_continue,
    };
    let ports = (A::ZERO, A::from(u16::MAX));
    let protocols = (A::from(kind::ANY.0), A::from(kind::ANY.1));
    let all = [(A::ZERO, A::MAX), (A::ZERO, A::MAX), ports, ports, protocols];
    for numbers in by_time(cuboids, &builder.index.conditions) {
        let (mark, first_root) = (builder.mark(), builder.index.roots.len());
        let all_numbers = (numbers.len() >= MIN_LIST).then(|| numbers.clone());
        let mut groups = groups(cuboids, numbers);
        let (mut roots, mut cost) = (0, 0.0);
        while let Some(group) = groups.pop() {
            if groups.len() + roots < MAX_ROOTS
                && let Some(parts) = builder.parts(&group, &all)?
            {
                groups.extend(parts);
                continue;
            }
            roots += 1;
            let node = builder.root(&group);
            let (cuboids, cost_of_tree) = builder.node(node, group, &all, 0)?;
            builder.share(&Shared { cuboids, nodes: vec![node] })?;
            cost += cost_of_tree;
        }
        if let Some(numbers) = all_numbers
            && cost > lists::cost(numbers.len())
        {
            builder.reset(mark);
            builder.index.roots.truncate(first_root);
            let node = builder.root(&numbers);
            builder.share(&Shared { cuboids: numbers, nodes: vec![node] })?;
        }
    }
    let mut index = builder.index;
    // The tree with the first rules comes first: its match cuts the search in the others short.
    index.roots.sort_by_key(|root| root.lowest);
    number(&mut index, cuboids);
    if index.blocks.len() < index.blocks.capacity() / 2 {
        index.blocks.shrink_to_fit();
    }
    index.nodes.shrink_to_fit();
    index.lists.shrink_to_fit();
    index.hiding.sort_unstable();
    index.hiding.dedup();
    index.hiding.shrink_to_fit();
    Some(index)
}

/// The numbers of the cuboids whose rules have no limits in time, and of those whose rules have some.
/// A packet passes over the trees of the latter if all their rules are over, or none is in force yet.
fn by_time<A: Address>(cuboids: &[Cuboid<A>], conditions: &[Condition]) -> Vec<Vec<u32>> {
    let is_timed = |cuboid: &Cuboid<A>| {
        cuboid.is_conditional && Condition::times_of(conditions, cuboid) != Condition::ALWAYS
    };
    let numbered = || (0_u32..).zip(cuboids);
    let timed: Vec<u32> =
        numbered().filter(|(_, cuboid)| is_timed(cuboid)).map(|(number, _)| number).collect();
    if timed.is_empty() || timed.len() < cuboids.len() / MAX_TIMED {
        return vec![numbered().map(|(number, _)| number).collect()];
    }
    let others = numbered().filter(|(_, cuboid)| !is_timed(cuboid)).map(|(number, _)| number);
    let mut parts = vec![others.collect(), timed];
    parts.retain(|part| !part.is_empty());
    parts
}

/// Numbers the cuboids that are in blocks, and keeps the data that lookups need of them. The others
/// are left out, since many cuboids can be hidden in every node.
fn number<A: Address>(index: &mut Index<A>, cuboids: &[Cuboid<A>]) {
    let mut is_there = vec![false; cuboids.len()];
    for number in index.blocks.iter_mut().flat_map(Block::numbers_mut) {
        if let Some(is_there) = is_there.get_mut(*number as usize) {
            *is_there = true;
        }
    }
    let count = is_there.iter().filter(|is_there| **is_there).count();
    index.rules.reserve_exact(count);
    index.addresses.reserve_exact(if A::IS_WIDE { count } else { 0 });
    let mut numbers = Vec::with_capacity(cuboids.len());
    let mut next = 0;
    for (is_there, cuboid) in is_there.into_iter().zip(cuboids) {
        numbers.push(next);
        if is_there {
            next += 1;
            index.rules.push(Rule::of(cuboid, &index.conditions));
            if A::IS_WIDE {
                let (source, destination) = (cuboid.sources(), cuboid.destinations());
                index.addresses.push(Addresses { source, destination });
            }
        }
    }
    let blocks = index.blocks.iter_mut().flat_map(Block::numbers_mut);
    let lowest = index.roots.iter_mut().map(|root| &mut root.lowest);
    for number in blocks.chain(lowest) {
        *number = numbers.get(*number as usize).copied().unwrap_or(NO_CUBOID);
    }
}

/// Groups cuboids by which of their addresses are specific. If a tree mixed cuboids with only a
/// specific source and cuboids with only a specific destination, each cut would copy one kind for
/// each cuboid of the other.
fn groups<A: Address>(cuboids: &[Cuboid<A>], numbers: Vec<u32>) -> Vec<Vec<u32>> {
    let of = |number: u32| cuboids.get(number as usize);
    // A sample is enough to compare two dimensions.
    let step = numbers.len().div_ceil(MAX_SAMPLE).max(1);
    let different = |dimension: Dimension| {
        let sample = numbers.iter().step_by(step).filter_map(|number| of(*number));
        let mut ranges: Vec<Range<A>> = sample.map(|it| it.range(dimension)).collect();
        ranges.sort_unstable();
        ranges.dedup();
        ranges.len()
    };
    let sources_say_more = different(Dimension::Source) >= different(Dimension::Destination);
    let mut groups = vec![Vec::new(), Vec::new(), Vec::new()];
    let few = A::MAX.above(A::SITE_PREFIX);
    for number in numbers {
        let Some(cuboid) = of(number) else { continue };
        let says_much = |dimension: Dimension| {
            let (first, last) = cuboid.range(dimension);
            last.wrapping_sub(first) <= few
        };
        let group = match (says_much(Dimension::Source), says_much(Dimension::Destination)) {
            (true, true) => usize::from(!sources_say_more),
            (true, false) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        if let Some(group) = groups.get_mut(group) {
            group.push(number);
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

struct Builder<'a, A> {
    cuboids: &'a [Cuboid<A>],
    index: Index<A>,
    most: usize,
    /// The most blocks.
    ceiling: usize,
    /// The windows of the blocks that were made last. Their neighbors usually need the same.
    shifts: Shifts,
    should_continue: &'a dyn Fn() -> bool,
}

/// Adjacent nodes that share blocks, and the cuboids in those blocks.
#[derive(Debug, Default)]
struct Shared {
    cuboids: Vec<u32>,
    nodes: Vec<u32>,
}

/// How much there was at some moment.
#[derive(Debug, Clone, Copy)]
struct Mark {
    nodes: usize,
    blocks: usize,
    hiding: usize,
    lists: lists::Mark,
}

impl<'a, A: Address> Builder<'a, A> {
    /// Makes room for adjacent nodes. Returns the number of the first one.
    fn grow(&mut self, nodes: usize) -> u32 {
        let first = self.index.nodes.len();
        self.index.nodes.resize(first + nodes, Node::EMPTY);
        u32::try_from(first).unwrap_or(NO_CUBOID)
    }

    /// Makes the root of a tree for cuboids. Returns its node.
    fn root(&mut self, numbers: &[u32]) -> u32 {
        let node = self.grow(1);
        let lowest = numbers.first().copied().unwrap_or(NO_CUBOID);
        let times = self.times(numbers);
        self.index.roots.push(Root { node, lowest, times });
        node
    }

    fn cuboid(&self, number: u32) -> Option<&'a Cuboid<A>> {
        self.cuboids.get(number as usize)
    }

    /// Splits a group in two if many of its cuboids would stay with the root: the staying cuboids and
    /// the others. If no cut pays, it splits off the cuboids that are wide in one dimension.
    ///
    /// The outer option is none if `should_continue` returned false.
    fn parts(&self, group: &[u32], all: &Region<A>) -> Option<Option<[Vec<u32>; 2]>> {
        let few = LEAF.max(group.len() / MAX_STAYING);
        let Some(cut) = self.best_cut(group, all)? else {
            let half = |limits: &Range<A>| limits.1.above(1);
            let parts = Dimension::ALL
                .into_iter()
                .zip(all)
                .map(|(dimension, limits)| {
                    self.split(group, |cuboid| {
                        let (first, last) = cuboid.range(dimension);
                        last.wrapping_sub(first) > half(limits)
                    })
                })
                .filter(|[narrow, wide]| !narrow.is_empty() && wide.len() > few)
                .min_by_key(|[narrow, wide]| narrow.len().abs_diff(wide.len()));
            return Some(parts);
        };
        let limits = *all.get(cut.dimension as usize)?;
        let parts = self.split(group, |cuboid| {
            cut.stays(cut.span(clipped(cuboid.range(cut.dimension), limits)))
        });
        let [others, staying] = &parts;
        Some((staying.len() > few && !others.is_empty()).then_some(parts))
    }

    /// The times at which the rule of some cuboid is active.
    fn times(&self, numbers: &[u32]) -> Range<i64> {
        let conditions = &self.index.conditions;
        let cuboids = numbers.iter().filter_map(|number| self.cuboid(*number));
        let times = cuboids.map(|it| Condition::times_of(conditions, it));
        let joined = times.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        joined.unwrap_or(Condition::ALWAYS)
    }

    /// The cuboids for which a predicate is false, and those for which it is true.
    fn split(&self, group: &[u32], is: impl Fn(&Cuboid<A>) -> bool) -> [Vec<u32>; 2] {
        let (those, others) =
            group.iter().partition(|number| self.cuboid(**number).is_some_and(&is));
        [others, those]
    }

    /// Builds the subtree of a node from cuboids. A node that is not cut gets no blocks here. Its
    /// cuboids are returned, so that the caller can put them into a block that neighbors share. Also
    /// returns the expected cost of a lookup in the subtree, in blocks that are compared.
    ///
    /// A subtree that costs more than one list of all its cuboids is removed again.
    fn node(
        &mut self,
        at: u32,
        mut numbers: Vec<u32>,
        region: &Region<A>,
        depth: usize,
    ) -> Option<(Vec<u32>, f64)> {
        let covers = |number: &u32| self.cuboid(*number).is_some_and(|it| it.covers(region));
        if !(self.should_continue)() {
            return None;
        }
        if let Some(last) = numbers.iter().position(covers)
            && last + 1 < numbers.len()
        {
            numbers.truncate(last + 1);
            let hiding = numbers.last().and_then(|it| self.cuboid(*it)).map(Cuboid::order);
            self.index.hiding.extend(hiding);
        }
        let nodes = size_of_val(self.index.nodes.as_slice()) / LANE;
        let is_full = self.index.blocks.len() * LANES + nodes + numbers.len() > self.most;
        let cut = if numbers.len() <= LEAF || depth == MAX_DEPTH || is_full {
            None
        } else {
            self.best_cut(&numbers, region)?
        };
        let as_list = lists::cost(numbers.len());
        let Some(cut) = cut else { return Some((numbers, as_list)) };
        let mark = self.mark();
        let mut below: Vec<Vec<u32>> = vec![Vec::new(); cut.children()];
        let mut own = Vec::new();
        let limits = *region.get(cut.dimension as usize)?;
        for number in &numbers {
            let range = clipped(self.cuboid(*number)?.range(cut.dimension), limits);
            let (first, last) = cut.span(range);
            if cut.stays((first, last)) {
                own.push(*number);
            } else {
                below.get_mut(first..=last)?.iter_mut().for_each(|child| child.push(*number));
            }
        }
        // Only a long list can cost less than its subtree.
        if numbers.len() < MIN_LIST {
            numbers = Vec::new();
        }
        // A packet that is in some cuboid is in a child with many cuboids rather than in one with few.
        let placed: usize = below.iter().map(Vec::len).sum();
        let mut cost = 1.0 + lists::cost(own.len());
        let node = self.keep(&own)?;
        drop(own);
        let children = self.grow(cut.children());
        let shift = u8::try_from(cut.shift).ok()?;
        let cut_of = Node::cut(cut.dimension, cut.bits);
        *self.index.nodes.get_mut(at as usize)? = Node { children, shift, cut: cut_of, ..node };
        // A cuboid is complete in every block, so a node may also have cuboids that only its neighbors
        // need.
        let mut shared = Shared::default();
        for (child, numbers) in (0_u32..).zip(below).filter(|(_, numbers)| !numbers.is_empty()) {
            let region = child_region(region, cut, child);
            let share = numbers.len() as f64 / placed as f64;
            let (cuboids, child_cost) = self.node(children + child, numbers, &region, depth + 1)?;
            cost += share * child_cost;
            if cuboids.is_empty() {
                continue;
            }
            let union = union(&shared.cuboids, &cuboids);
            if union.len() <= LANES {
                shared.cuboids = union;
            } else {
                self.share(&shared)?;
                shared = Shared { cuboids, nodes: Vec::new() };
            }
            shared.nodes.push(children + child);
        }
        if cost > as_list && numbers.len() >= MIN_LIST {
            self.reset(mark);
            *self.index.nodes.get_mut(at as usize)? = Node::EMPTY;
            return Some((numbers, as_list));
        }
        self.share(&shared)?;
        Some((Vec::new(), cost))
    }

    fn mark(&self) -> Mark {
        Mark {
            nodes: self.index.nodes.len(),
            blocks: self.index.blocks.len(),
            hiding: self.index.hiding.len(),
            lists: self.index.lists.mark(),
        }
    }

    /// Removes all that was added since a mark.
    fn reset(&mut self, mark: Mark) {
        self.index.nodes.truncate(mark.nodes);
        self.index.blocks.truncate(mark.blocks);
        self.index.hiding.truncate(mark.hiding);
        self.index.lists.reset(mark.lists);
    }

    /// Assigns the shared blocks to their nodes.
    fn share(&mut self, shared: &Shared) -> Option<()> {
        if shared.cuboids.is_empty() {
            return Some(());
        }
        let filled = self.keep(&shared.cuboids)?;
        for node in &shared.nodes {
            *self.index.nodes.get_mut(*node as usize)? = filled;
        }
        Some(())
    }

    /// Appends cuboids to the blocks. Returns a node that refers to them.
    fn keep(&mut self, numbers: &[u32]) -> Option<Node> {
        let cuboids: Vec<(u32, &Cuboid<A>)> =
            numbers.iter().filter_map(|number| Some((*number, self.cuboid(*number)?))).collect();
        let windows = |of: fn(&Cuboid<A>) -> Range<A>, likely: u8| {
            most_selective_window(cuboids.iter().map(|(_, cuboid)| of(cuboid)), likely)
        };
        let shifts = Shifts {
            source: windows(Cuboid::sources, self.shifts.source),
            destination: windows(Cuboid::destinations, self.shifts.destination),
        };
        self.shifts = shifts;
        let first = self.index.blocks.len();
        let added = cuboids.len().div_ceil(LANES);
        let left = self.ceiling.checked_sub(first).filter(|left| added <= *left)?;
        if first + added > self.index.blocks.capacity() {
            // Grows by a fraction only: doubling would briefly take three times the memory.
            self.index.blocks.reserve_exact(added.max(first / 8).min(left));
        }
        self.index.blocks.extend(cuboids.chunks(LANES).map(|cuboids| Block::new(cuboids, shifts)));
        let blocks = u32::try_from(first).ok()?;
        if let Some(list) = self.list(blocks, &cuboids) {
            return Some(Node { blocks: list, count: Node::LISTED, shifts, ..Node::EMPTY });
        }
        let count = u32::try_from(self.index.blocks.len()).ok()?.checked_sub(blocks)?;
        Some(Node { blocks, count, shifts, ..Node::EMPTY })
    }

    /// Makes the tables of cuboids that are in blocks from this one on, if that pays.
    fn list(&mut self, block: u32, cuboids: &[(u32, &Cuboid<A>)]) -> Option<u32> {
        if cuboids.len() < MIN_CONDITIONAL_LIST {
            return None;
        }
        let conditional = cuboids.iter().filter(|(_, cuboid)| cuboid.is_conditional).count();
        if cuboids.len() < MIN_LIST && conditional < MIN_CONDITIONAL_LIST {
            return None;
        }
        let conditions = &self.index.conditions;
        let listed: Vec<Listed<'_, A>> = cuboids
            .iter()
            .map(|(_, cuboid)| (*cuboid, Condition::times_of(conditions, cuboid)))
            .collect();
        self.index.lists.add(block, &listed)
    }

    /// The cheapest cut; none if no cut pays. The outer option is none if `should_continue` returned
    /// false.
    fn best_cut(&self, numbers: &[u32], region: &Region<A>) -> Option<Option<Cut>> {
        let mut best: Option<Cut> = None;
        for (dimension, limits) in Dimension::ALL.into_iter().zip(region) {
            let ranges: Vec<Range<A>> = numbers
                .iter()
                .filter_map(|it| Some(clipped(self.cuboid(*it)?.range(dimension), *limits)))
                .collect();
            for cut in cuts(dimension, &ranges, *limits) {
                let cut = Cut { cost: cost(cut, &ranges, self.should_continue)?, ..cut };
                if best.is_none_or(|best| cut.cost < best.cost) {
                    best = Some(cut);
                }
            }
        }
        Some(best.filter(|cut| cut.cost < bits_of(numbers.len()) - MIN_GAIN))
    }
}

/// The sorted union of two lists that are in order.
fn union(one: &[u32], other: &[u32]) -> Vec<u32> {
    let mut all = [one, other].concat();
    all.sort_unstable();
    all.dedup();
    all
}
