//! The index: boxes in trees that cut their dimensions, and the way of a packet through them.

use super::address::Address;
use super::block::{Block, Probe, Shifts};
use super::boxed::{Boxed, Dimension, Key, Range};

/// The place of no rule.
pub const NO_BOX: u32 = u32::MAX;

/// A node, in a quarter of a cache line: its children lie side by side, so that one load leads from
/// a node to the next.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Node {
    /// Its first child.
    pub(super) children: u32,
    /// Its first block, and how many it has. Neighbors can have the same.
    pub(super) blocks: u32,
    pub(super) count: u32,
    /// Where the bits lie that choose the child.
    pub(super) shift: u8,
    /// How many bits they are (none: it has no children), and above [`Node::DIMENSION`] of what.
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

    /// What chooses a child.
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
}

/// So many blocks lie in a processor's own cache, about: 1 MiB.
const NEAR_BLOCKS: usize = 4_096;

/// Where a tree begins, and the number of its first box.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    pub(super) node: u32,
    pub(super) lowest: u32,
}

/// Of a box, the place of its rule, and whether that has limits in time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule(u32);

impl Rule {
    /// The highest place that there is room for.
    pub(super) const MAX_ORDER: u32 = u32::MAX >> 1;

    pub(super) fn of<A: Address>(boxed: &Boxed<A>) -> Self {
        Self(boxed.order() << 1 | u32::from(boxed.is_timed))
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

/// The addresses of a box: a cache line, where they are wide.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Addresses<A> {
    pub(super) source: Range<A>,
    pub(super) destination: Range<A>,
}

/// Boxes, indexed. Immutable; a lookup allocates nothing.
#[derive(Debug, Clone)]
pub struct Index<A> {
    pub(super) nodes: Vec<Node>,
    /// The boxes of each node, in order; a box can be in several nodes.
    pub(super) blocks: Vec<Block>,
    /// The rules of all boxes.
    pub(super) rules: Vec<Rule>,
    /// The addresses of all boxes, where they are wide: blocks have windows of them.
    pub(super) addresses: Vec<Addresses<A>>,
    pub(super) roots: Vec<Root>,
    /// The places of rules that hide others where they stand: those are not there, in order.
    pub(super) hiding: Vec<u32>,
}

impl<A: Address> Index<A> {
    /// The place of the first rule that holds a packet, whatever its limits in time; [`NO_BOX`] where
    /// none does.
    #[must_use]
    #[inline]
    pub fn find(&self, key: &Key<A>) -> u32 {
        let found =
            self.search(key, |block, probe, best| best.min(block.first_of(block.holding(probe))));
        if A::IS_WIDE && found != NO_BOX && !self.has_addresses(found, key) {
            // It lies beside the window: what else was found may be behind it.
            return self.find_among(key, |_, _| true);
        }
        self.order(found)
    }

    /// The place of the first rule that holds a packet and is taken, which is asked with its place and
    /// whether it has limits in time. None that is not may be one of those that hide others, but for
    /// such limits: what has any hides nothing.
    #[inline]
    pub(super) fn find_among(&self, key: &Key<A>, takes: impl Fn(u32, bool) -> bool) -> u32 {
        let found = self.search(key, |block, probe, best| {
            let mut boxes = block.holding(probe);
            while boxes != 0 {
                let number = block.number(boxes.trailing_zeros());
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
                boxes &= boxes - 1;
            }
            best
        });
        self.order(found)
    }

    /// Goes through the trees with the lowest number of a box that was found so far, which `look` makes
    /// lower with each block that can hold the packet.
    #[inline]
    fn search(&self, key: &Key<A>, look: impl Fn(&Block, &Probe, u32) -> u32) -> u32 {
        let probe = Probe::new(key);
        let mut best = NO_BOX;
        // What lies far is not loaded in vain; near, asking costs more than it spares.
        let are_far = self.blocks.len() > NEAR_BLOCKS;
        for root in &self.roots {
            // Asked once a tree: at each node it costs more than it spares.
            if root.lowest >= best {
                continue;
            }
            let mut at = root.node;
            // Every number in a node was made beside what it stands for: nothing is ever missed.
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

    /// The place of a box's rule.
    #[inline]
    fn order(&self, number: u32) -> u32 {
        self.rules.get(number as usize).map_or(NO_BOX, |rule| rule.order())
    }

    /// Whether a box has a packet's addresses, to the last bit.
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
