//! The index: trees that cut the dimensions of cuboids, and the path of a packet through them.

use super::address::Address;
use super::block::{Block, Probe, Shifts};
use super::cuboid::{Cuboid, Dimension, Key, Range};
use crate::engine::port_map::{Claims, PortMap};
use crate::net::PortRange;

/// The number of no cuboid, and the place of no rule.
pub const NO_CUBOID: u32 = u32::MAX;

/// A node takes a quarter of a cache line. Its children are adjacent, so that one load leads from a
/// node to the next.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Node {
    /// Its first child.
    pub(super) children: u32,
    /// Its first block, and the number of its blocks. Neighbors can share them.
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
    const BITS: u8 = 15;
    const DIMENSION: u8 = 4;

    /// Packs the dimension and the number of bits that choose a child.
    pub(super) fn cut(dimension: Dimension, bits: u32) -> u8 {
        let number = match dimension {
            Dimension::Source => 0,
            Dimension::Destination => 1,
            Dimension::First => 2,
            Dimension::Second => 3,
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
            _ => u32::from(key.second).wrapping_shr(u32::from(self.shift)),
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

/// The root node of a tree, and the lowest number of a cuboid in the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    pub(super) node: u32,
    pub(super) lowest: u32,
}

/// The place of a cuboid's rule, and whether the rule has limits in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule(u32);

impl Rule {
    /// The highest place that fits.
    pub(super) const MAX_ORDER: u32 = u32::MAX >> 1;

    pub(super) fn of<A: Address>(cuboid: &Cuboid<A>) -> Self {
        Self(cuboid.order() << 1 | u32::from(cuboid.is_timed))
    }

    #[inline]
    const fn order(self) -> u32 {
        self.0 >> 1
    }

    #[inline]
    const fn is_timed(self) -> bool {
        self.0 & 1 == 1
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
}

impl<A: Address> Index<A> {
    /// The place of the first rule that holds a packet, whatever its limits in time; [`NO_CUBOID`] if
    /// no rule does.
    #[must_use]
    #[inline]
    pub fn find(&self, key: &Key<A>) -> u32 {
        let found =
            self.search(key, |block, probe, best| best.min(block.first_of(block.holding(probe))));
        if A::IS_WIDE && found != NO_CUBOID && !self.has_addresses(found, key) {
            // The match is outside the full addresses, so another match may come after it.
            return self.find_among(key, |_, _| true);
        }
        self.order(found)
    }

    /// The place of the first rule that holds a packet and that `takes` accepts. `takes` gets the
    /// place of the rule and whether the rule has limits in time. It must accept every rule that
    /// hides others. A rule with limits in time hides nothing, so it may be rejected.
    #[inline]
    pub(super) fn find_among(&self, key: &Key<A>, takes: impl Fn(u32, bool) -> bool) -> u32 {
        let found = self.search(key, |block, probe, best| {
            let mut cuboids = block.holding(probe);
            while cuboids != 0 {
                let number = block.number(cuboids.trailing_zeros());
                if number >= best {
                    break;
                }
                let is_taken = || {
                    let rule = self.rules.get(number as usize);
                    rule.is_some_and(|rule| takes(rule.order(), rule.is_timed()))
                };
                if (!A::IS_WIDE || self.has_addresses(number, key)) && is_taken() {
                    return number;
                }
                cuboids &= cuboids - 1;
            }
            best
        });
        self.order(found)
    }

    /// The place of the first rule that holds a packet, at each source port that it may have. The
    /// port in the key is ignored. Costs as much as [`Self::find`] unless cuboids are cut by their
    /// source ports, and at most O(cuboids × log cuboids).
    #[must_use]
    pub fn find_by_port(&self, key: &Key<A>, ports: PortRange) -> PortMap<Option<usize>> {
        self.find_among_by_port(key, ports, |_, _| true)
    }

    /// Like [`Self::find_by_port`], for rules that `takes` accepts as in [`Self::find_among`].
    pub(super) fn find_among_by_port(
        &self,
        key: &Key<A>,
        ports: PortRange,
        takes: impl Fn(u32, bool) -> bool,
    ) -> PortMap<Option<usize>> {
        let probe = Probe::new(key);
        // The claims of cuboids by their numbers, which have the order of their rules.
        let mut claims = Claims::new(ports);
        let mut waiting: Vec<(u32, PortRange)> = Vec::new();
        for root in &self.roots {
            if root.lowest as usize >= claims.best() {
                continue;
            }
            waiting.push((root.node, ports));
            while let Some((at, ports)) = waiting.pop() {
                let Some(node) = self.nodes.get(at as usize) else { continue };
                let blocks = node.blocks as usize..(node.blocks + node.count) as usize;
                for block in self.blocks.get(blocks).unwrap_or(&[]) {
                    let mut cuboids = block.holding_at_some_port(&probe.shifted(key, node.shifts));
                    while cuboids != 0 {
                        let lane = cuboids.trailing_zeros();
                        let number = block.number(lane);
                        if number as usize >= claims.best() {
                            break;
                        }
                        cuboids &= cuboids - 1;
                        let is_taken = || {
                            let rule = self.rules.get(number as usize);
                            rule.is_some_and(|rule| takes(rule.order(), rule.is_timed()))
                        };
                        let (first, last) = block.ports(lane);
                        if let Ok(matching) = PortRange::new(first, last)
                            && (!A::IS_WIDE || self.has_addresses(number, key))
                            && is_taken()
                        {
                            claims.add(number as usize, matching);
                        }
                    }
                }
                if node.cut != 0 {
                    node.children_at(key, ports, |child, ports| waiting.push((child, ports)));
                }
            }
        }
        let order = |number: usize| self.rules.get(number).map(|rule| rule.order() as usize);
        claims.into_map().map(|number| number.and_then(order))
    }

    /// Searches the trees for the lowest number of a cuboid that holds the packet. `look` gets the
    /// best number so far and lowers it with each block that can hold the packet.
    #[inline]
    fn search(&self, key: &Key<A>, look: impl Fn(&Block, &Probe, u32) -> u32) -> u32 {
        let probe = Probe::new(key);
        let mut best = NO_CUBOID;
        // A block outside the cache is not loaded in vain. For a cached block this check costs more
        // than it saves.
        let are_far = self.blocks.len() > NEAR_BLOCKS;
        for root in &self.roots {
            // Checked once per tree: at each node the check costs more than it saves.
            if root.lowest >= best {
                continue;
            }
            let mut at = root.node;
            // Each number in a node was made together with the entry that it refers to, so `get`
            // never fails.
            while let Some(node) = self.nodes.get(at as usize) {
                let blocks = node.blocks as usize..(node.blocks + node.count) as usize;
                for (nth, block) in self.blocks.get(blocks).unwrap_or(&[]).iter().enumerate() {
                    if nth > 0 && are_far && block.number(0) >= best {
                        break;
                    }
                    best = look(block, &probe.shifted(key, node.shifts), best);
                }
                if node.cut == 0 {
                    break;
                }
                at = node.child(key);
            }
        }
        best
    }

    /// The place of the rule of a cuboid.
    #[inline]
    fn order(&self, number: u32) -> u32 {
        self.rules.get(number as usize).map_or(NO_CUBOID, |rule| rule.order())
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
    }
}
