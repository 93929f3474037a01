//! The index: trees that cut the dimensions of cuboids, and the path of a packet through them.

use super::address::Address;
use super::block::{Block, Probe, Shifts};
use super::cuboid::{Cuboid, Dimension, Key, Range, kind};
use super::hull::Hull;
use super::lists::Lists;
use crate::engine::port_map::{Claims, PortMap};
use crate::net::PortRange;
use crate::time::Instant;

/// The number of no cuboid, and the place of no rule.
pub const NO_CUBOID: u32 = u32::MAX;

/// A node takes a quarter of a cache line. Its children are adjacent, so that one load leads from a
/// node to the next.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Node {
    /// Its first child.
    pub(super) children: u32,
    /// Its first block, and the number of its blocks. Neighbors can share them. If the number is
    /// [`Node::LISTED`], the first is the number of a list instead.
    pub(super) blocks: u32,
    pub(super) count: u32,
    /// The shift of the bits that choose the child.
    pub(super) shift: u8,
    /// The number of those bits (zero: no children), and above [`Node::DIMENSION`] their dimension.
    pub(super) cut: u8,
    /// The windows of its blocks.
    pub(super) shifts: Shifts,
}

impl Node {
    pub(super) const EMPTY: Self = Self {
        children: 0,
        blocks: 0,
        count: 0,
        shift: 0,
        cut: 0,
        shifts: Shifts { source: 0, destination: 0 },
    };
    /// The node has a list with tables.
    pub(super) const LISTED: u32 = u32::MAX;
    const BITS: u8 = 15;
    const DIMENSION: u8 = 4;

    /// Packs the dimension and the number of bits that choose a child.
    pub(super) fn cut(dimension: Dimension, bits: u32) -> u8 {
        let number = match dimension {
            Dimension::Source => 0,
            Dimension::Destination => 1,
            Dimension::First => 2,
            Dimension::Second => 3,
            Dimension::Protocol => 4,
        };
        u8::try_from(bits).unwrap_or(0) & Self::BITS | number << Self::DIMENSION
    }

    /// The child that a packet is in.
    #[inline]
    fn child<A: Address>(&self, key: &Key<A>) -> u32 {
        let window = match self.cut >> Self::DIMENSION {
            0 => key.source.window(self.shift),
            1 => key.destination.window(self.shift),
            2 => u32::from(key.first).wrapping_shr(u32::from(self.shift)),
            3 => u32::from(key.second).wrapping_shr(u32::from(self.shift)),
            _ => u32::from(key.protocol_number()).wrapping_shr(u32::from(self.shift)),
        };
        let mask = (1_u32 << (self.cut & Self::BITS)) - 1;
        self.children.wrapping_add(window & mask)
    }

    /// Calls `visit` for each child that packets with these source ports are in, with the ports of
    /// the child. Each port is in one child.
    fn children_at<A: Address>(
        &self,
        key: &Key<A>,
        ports: PortRange,
        mut visit: impl FnMut(u32, PortRange),
    ) {
        if self.cut >> Self::DIMENSION != 2 {
            return visit(self.child(key), ports);
        }
        let mask = (1_u32 << (self.cut & Self::BITS)) - 1;
        let window = |port: u16| u32::from(port).wrapping_shr(u32::from(self.shift));
        let (first, last) = (window(ports.first()), window(ports.last()));
        if last - first > mask {
            // The bits above the window differ, so a child has ports from several places.
            (0..=mask).for_each(|child| visit(self.children.wrapping_add(child), ports));
            return;
        }
        for window in first..=last {
            let start = window.wrapping_shl(u32::from(self.shift));
            let end = start | (1_u32.wrapping_shl(u32::from(self.shift)) - 1);
            let part = PortRange::new(
                u16::try_from(start).unwrap_or(u16::MAX),
                u16::try_from(end).unwrap_or(u16::MAX),
            );
            if let Some(part) = part.ok().and_then(|part| part.intersection(ports)) {
                visit(self.children.wrapping_add(window & mask), part);
            }
        }
    }
}

/// The number of blocks that fit into a core's own cache, roughly 1 MiB.
const NEAR_BLOCKS: usize = 4_096;

/// The root node of a tree, and what holds for all cuboids in the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    pub(super) node: u32,
    /// The lowest number of a cuboid.
    pub(super) lowest: u32,
    /// The times at which some rule is active, in microseconds; not at the last one.
    pub(super) times: Range<i64>,
}

impl Root {
    const fn is_open(&self, at: i64) -> bool {
        self.times.0 <= at && at < self.times.1
    }
}

/// The place of a cuboid's rule, or the number of the rule's condition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule(u32);

impl Rule {
    /// The highest place that fits.
    pub(super) const MAX_ORDER: u32 = u32::MAX >> 1;
    const CONDITION: u32 = !Self::MAX_ORDER;

    /// The rule of a cuboid; `conditions` are in order of their rules.
    pub(super) fn of<A: Address>(cuboid: &Cuboid<A>, conditions: &[Condition]) -> Self {
        let condition = || Condition::position(conditions, cuboid.order());
        let condition = cuboid.is_conditional.then(condition).flatten();
        let number = condition.and_then(|at| u32::try_from(at).ok());
        Self(number.map_or_else(|| cuboid.order(), |number| number | Self::CONDITION))
    }

    #[inline]
    fn condition(self, conditions: &[Condition]) -> Option<&Condition> {
        if self.0 & Self::CONDITION == 0 {
            return None;
        }
        conditions.get((self.0 & Self::MAX_ORDER) as usize)
    }
}

/// What a rule demands of a packet besides being in its cuboids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Condition {
    order: u32,
    hull: u32,
    /// The times at which it is active, in microseconds; not at the last one.
    times: Range<i64>,
}

impl Condition {
    pub(super) const NO_HULL: u32 = u32::MAX;
    /// At all times.
    pub(super) const ALWAYS: Range<i64> = (i64::MIN, i64::MAX);

    pub(super) fn new(
        order: u32,
        hull: Option<u32>,
        starts_at: Option<Instant>,
        expires_at: Option<Instant>,
    ) -> Self {
        let (from, until) = Self::ALWAYS;
        let times =
            (starts_at.map_or(from, Instant::micros), expires_at.map_or(until, Instant::micros));
        Self { order, hull: hull.unwrap_or(Self::NO_HULL), times }
    }

    /// The place of the condition of a rule among conditions, which are in order of their rules.
    fn position(conditions: &[Self], order: u32) -> Option<usize> {
        conditions.binary_search_by_key(&order, |it| it.order).ok()
    }

    /// The times at which the rule of a cuboid is active.
    pub(super) fn times_of<A: Address>(conditions: &[Self], cuboid: &Cuboid<A>) -> Range<i64> {
        let condition = || conditions.get(Self::position(conditions, cuboid.order())?);
        let condition = cuboid.is_conditional.then(condition).flatten();
        condition.map_or(Self::ALWAYS, |condition| condition.times)
    }

    #[inline]
    const fn is_active(&self, at: i64) -> bool {
        self.times.0 <= at && at < self.times.1
    }
}

/// The full addresses of a cuboid, in one cache line. Kept only if they are wide.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Addresses<A> {
    pub(super) source: Range<A>,
    pub(super) destination: Range<A>,
}

/// The index of cuboids. Immutable; a lookup allocates nothing.
#[derive(Debug, Clone)]
pub struct Index<A> {
    pub(super) nodes: Vec<Node>,
    /// The cuboids of each node, in order; a cuboid can be in several nodes.
    pub(super) blocks: Vec<Block>,
    /// The rules of all cuboids.
    pub(super) rules: Vec<Rule>,
    /// The full addresses of all cuboids if they are wide, since blocks have only windows of them.
    pub(super) addresses: Vec<Addresses<A>>,
    pub(super) roots: Vec<Root>,
    /// The places of the rules that hide later ones, in order. A cuboid is left out of a node if an
    /// earlier cuboid covers the node's whole region.
    pub(super) hiding: Vec<u32>,
    /// The tables of the nodes whose lists are long.
    pub(super) lists: Lists<A>,
    /// The conditions of the rules that have some, in order of the rules.
    pub(super) conditions: Vec<Condition>,
    pub(super) hulls: Vec<Hull<A>>,
}

impl<A: Address> Index<A> {
    /// The place of the first rule that holds a packet; [`NO_CUBOID`] if no rule does. An index that
    /// was built of cuboids alone has no rules with limits in time.
    #[must_use]
    #[inline]
    pub fn find(&self, key: &Key<A>) -> u32 {
        self.find_at(key, 0)
    }

    /// Like [`Self::find`], for a packet at a time, in microseconds.
    #[inline]
    pub(super) fn find_at(&self, key: &Key<A>, at: i64) -> u32 {
        if !self.conditions.is_empty() {
            return self.find_among(key, at, |_| true);
        }
        let found = self.search(
            key,
            at,
            |block, probe, best| best.min(block.first_of(block.holding(probe))),
            |number| !A::IS_WIDE || self.has_addresses(number, key),
        );
        if A::IS_WIDE && found != NO_CUBOID && !self.has_addresses(found, key) {
            // The match is outside the full addresses, so another match may come after it.
            return self.find_among(key, at, |_| true);
        }
        self.order(found)
    }

    /// The place of the first rule that holds a packet and that `takes` accepts, given its place.
    /// `takes` must accept every rule that hides others. A rule with a condition hides nothing, so it
    /// may be rejected.
    #[inline]
    pub(super) fn find_among(&self, key: &Key<A>, at: i64, takes: impl Fn(u32) -> bool) -> u32 {
        let accepts = |number: u32| {
            (!A::IS_WIDE || self.has_addresses(number, key))
                && self.is_accepted(number, at, &takes, |hull| hull.holds(key))
        };
        let look = |block: &Block, probe: &Probe, best: u32| {
            let mut cuboids = block.holding(probe);
            while cuboids != 0 {
                let number = block.number(cuboids.trailing_zeros());
                if number >= best {
                    break;
                }
                if accepts(number) {
                    return number;
                }
                cuboids &= cuboids - 1;
            }
            best
        };
        let found = self.search(key, at, look, accepts);
        self.order(found)
    }

    /// Whether a packet at a time that is in a cuboid meets the condition of its rule, and `takes`
    /// accepts the rule's place. `is_in` decides about the hull.
    #[inline]
    fn is_accepted(
        &self,
        number: u32,
        at: i64,
        takes: impl Fn(u32) -> bool,
        is_in: impl FnOnce(&Hull<A>) -> bool,
    ) -> bool {
        let Some(rule) = self.rules.get(number as usize) else { return false };
        match rule.condition(&self.conditions) {
            None => takes(rule.0),
            Some(condition) => {
                condition.is_active(at)
                    && takes(condition.order)
                    && self.hulls.get(condition.hull as usize).is_none_or(is_in)
            }
        }
    }

    /// The place of the first rule that holds a packet, at each source port that it may have. The
    /// port in the key is ignored. Costs as much as [`Self::find`] unless cuboids are cut by their
    /// source ports, and at most O(cuboids × log cuboids).
    #[must_use]
    pub fn find_by_port(&self, key: &Key<A>, ports: PortRange) -> PortMap<Option<usize>> {
        self.find_among_by_port(key, 0, ports, |_| true)
    }

    /// Like [`Self::find_by_port`], at a time, for rules that `takes` accepts as in
    /// [`Self::find_among`].
    pub(super) fn find_among_by_port(
        &self,
        key: &Key<A>,
        at: i64,
        ports: PortRange,
        takes: impl Fn(u32) -> bool,
    ) -> PortMap<Option<usize>> {
        let probe = Probe::new(key);
        // The claims of cuboids by their numbers, which have the order of their rules.
        let mut claims = Claims::new(ports);
        let mut waiting: Vec<(u32, PortRange)> = Vec::new();
        // Returns true once the rest of a list can claim no port.
        let look = |claims: &mut Claims, place: usize, node: &Node, lanes: u32| {
            let Some(block) = self.blocks.get(place) else { return true };
            let mut cuboids = block.holding_at_some_port(&probe.shifted(key, node.shifts)) & lanes;
            while cuboids != 0 {
                let lane = cuboids.trailing_zeros();
                let number = block.number(lane);
                if number as usize >= claims.best() {
                    return true;
                }
                cuboids &= cuboids - 1;
                self.claim(claims, (number, block.ports(lane)), key, at, &takes);
            }
            false
        };
        for root in &self.roots {
            if root.lowest as usize >= claims.best() || !root.is_open(at) {
                continue;
            }
            waiting.push((root.node, ports));
            while let Some((node, ports)) = waiting.pop() {
                let Some(node) = self.nodes.get(node as usize) else { continue };
                if node.count == Node::LISTED {
                    let visit = |block, lanes| look(&mut claims, block, node, lanes);
                    self.lists.candidates(node.blocks, key, at, true, visit);
                } else {
                    for block in node.blocks..node.blocks + node.count {
                        look(&mut claims, block as usize, node, u32::MAX);
                    }
                }
                if node.cut != 0 {
                    node.children_at(key, ports, |child, ports| waiting.push((child, ports)));
                }
            }
        }
        let order =
            |number: usize| u32::try_from(number).ok().map(|number| self.order(number) as usize);
        claims.into_map().map(|number| number.and_then(order))
    }

    /// Claims the source ports with which a cuboid, given by its number and its ports, holds a packet.
    fn claim(
        &self,
        claims: &mut Claims,
        (number, (first, last)): (u32, Range<u16>),
        key: &Key<A>,
        at: i64,
        takes: impl Fn(u32) -> bool,
    ) {
        if A::IS_WIDE && !self.has_addresses(number, key) {
            return;
        }
        let mut claim = |first: u16, last: u16| {
            if let Ok(matching) = PortRange::new(first, last) {
                claims.add(number as usize, matching);
            }
        };
        let is_accepted = self.is_accepted(number, at, takes, |hull| {
            // Ports outside the cuboid are in other pieces of the hull, which claim them, too.
            if key.kind == kind::PORTS {
                hull.source_ports(key, |ports| claim(ports.0, ports.1));
                false
            } else {
                hull.holds(key)
            }
        });
        if is_accepted {
            claim(first, last);
        }
    }

    /// Searches the trees for the lowest number of a cuboid that holds the packet. `look` gets the
    /// best number so far and lowers it with each block that can hold the packet. `accepts` decides
    /// about the number of a cuboid of a long list whose block holds the packet.
    #[inline]
    fn search(
        &self,
        key: &Key<A>,
        at: i64,
        look: impl Fn(&Block, &Probe, u32) -> u32,
        accepts: impl Fn(u32) -> bool,
    ) -> u32 {
        let probe = Probe::new(key);
        let mut best = NO_CUBOID;
        // A block outside the cache is not loaded in vain. For a cached block this check costs more
        // than it saves.
        let are_far = self.blocks.len() > NEAR_BLOCKS;
        for root in &self.roots {
            // Checked once per tree: at each node the check costs more than it saves.
            if root.lowest >= best || !root.is_open(at) {
                continue;
            }
            let mut place = root.node;
            // Each number in a node was made together with the entry that it refers to, so `get`
            // never fails.
            while let Some(node) = self.nodes.get(place as usize) {
                if node.count == Node::LISTED {
                    best = self.first_listed(node, key, at, best, &accepts);
                } else {
                    let blocks = node.blocks as usize..(node.blocks + node.count) as usize;
                    let blocks = self.blocks.get(blocks).unwrap_or(&[]);
                    for (nth, block) in blocks.iter().enumerate() {
                        if nth > 0 && are_far && block.number(0) >= best {
                            break;
                        }
                        best = look(block, &probe.shifted(key, node.shifts), best);
                    }
                }
                if node.cut == 0 {
                    break;
                }
                place = node.child(key);
            }
        }
        best
    }

    /// The lowest number of a cuboid in a long list that holds the packet and is accepted, or the best
    /// number so far.
    #[inline(never)]
    fn first_listed(
        &self,
        node: &Node,
        key: &Key<A>,
        at: i64,
        best: u32,
        accepts: impl Fn(u32) -> bool,
    ) -> u32 {
        let probe = Probe::new(key).shifted(key, node.shifts);
        let mut found = best;
        self.lists.candidates(node.blocks, key, at, false, |block, lanes| {
            let Some(block) = self.blocks.get(block) else { return true };
            // The list is in order.
            if block.number(lanes.trailing_zeros()) >= best {
                return true;
            }
            let mut cuboids = block.holding(&probe) & lanes;
            while cuboids != 0 {
                let number = block.number(cuboids.trailing_zeros());
                if number >= best {
                    return true;
                }
                if accepts(number) {
                    found = number;
                    return true;
                }
                cuboids &= cuboids - 1;
            }
            false
        });
        found
    }

    /// The place of the rule of a cuboid.
    #[inline]
    fn order(&self, number: u32) -> u32 {
        self.rules.get(number as usize).map_or(NO_CUBOID, |rule| {
            rule.condition(&self.conditions).map_or(rule.0, |condition| condition.order)
        })
    }

    /// Whether a cuboid holds a packet's full addresses.
    #[inline]
    fn has_addresses(&self, number: u32, key: &Key<A>) -> bool {
        self.addresses.get(number as usize).is_some_and(|Addresses { source, destination }| {
            source.0 <= key.source
                && key.source <= source.1
                && destination.0 <= key.destination
                && key.destination <= destination.1
        })
    }

    /// How much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(self.nodes.as_slice())
            + size_of_val(self.blocks.as_slice())
            + size_of_val(self.rules.as_slice())
            + size_of_val(self.addresses.as_slice())
            + size_of_val(self.hiding.as_slice())
            + self.lists.bytes()
            + size_of_val(self.conditions.as_slice())
            + size_of_val(self.hulls.as_slice())
            + self.hulls.iter().map(Hull::bytes).sum::<usize>()
    }
}
