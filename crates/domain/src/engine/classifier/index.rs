//! The index: boxes in trees that cut their dimensions, and the way of a packet through them.

use super::address::Address;
use super::block::{Block, LANE_BITS, Probe, Rank, Shifts};
use super::boxed::{Dimension, Key, Range};

/// The place of no rule.
pub const NO_BOX: u32 = u32::MAX;

/// A node, in a quarter of a cache line: its children lie side by side, so that one load leads from
/// a node to the next.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub(super) struct Node {
    /// Its first child.
    pub(super) children: u32,
    /// Its first block, and how many it has. Neighbours can have the same.
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

/// Where a tree begins, and the lowest rank in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    pub(super) node: u32,
    pub(super) lowest: Rank,
}

/// Which ranges a box of wide addresses has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wide {
    pub(super) source: u32,
    pub(super) destination: u32,
}

/// What was found so far: the lower, the better.
trait Best: Copy {
    const NONE: Self;
    fn rank(self) -> Rank;
}

impl Best for Rank {
    const NONE: Self = Self::NONE;

    #[inline]
    fn rank(self) -> Rank {
        self
    }
}

/// The rank of a box, and below it its place: which lane it is, counted from those of the first
/// block. One number, so that the lowest is found without a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Placed(u64);

impl Placed {
    #[inline]
    fn new(rank: Rank, place: u32) -> Self {
        Self(u64::from(rank.bits()) << u32::BITS | u64::from(place))
    }

    #[inline]
    fn place(self) -> usize {
        usize::try_from(self.0 & u64::from(u32::MAX)).unwrap_or(usize::MAX)
    }
}

impl Best for Placed {
    const NONE: Self = Self(u64::MAX);

    #[inline]
    fn rank(self) -> Rank {
        Rank::from_bits((self.0 >> u32::BITS) as u32)
    }
}

/// Boxes, indexed. Immutable; a lookup allocates nothing.
#[derive(Debug, Clone)]
pub struct Index<A> {
    pub(super) nodes: Vec<Node>,
    /// The boxes of each node, in order; a box can be in several nodes.
    pub(super) blocks: Vec<Block>,
    /// The ranges of each lane, where addresses are wide.
    pub(super) wide: Vec<Wide>,
    /// Different ranges of wide addresses.
    pub(super) ranges: Vec<Range<A>>,
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
        if !A::IS_WIDE {
            let look = |_, block: &Block, probe: &_, best: Rank| {
                best.min(block.first_of(block.holding(probe)))
            };
            return self.search(key, look).order_or(NO_BOX);
        }
        let found = self.search(key, |first_place, block, probe, best: Placed| {
            let boxes = block.holding(probe);
            best.min(Placed::new(block.first_of(boxes), first_place + boxes.trailing_zeros()))
        });
        if found.rank() == Rank::NONE || self.is_within(found.place(), key) {
            return found.rank().order_or(NO_BOX);
        }
        // It lies beside the window: what else was found may be behind it.
        self.find_among(key, |_, _| true)
    }

    /// The place of the first rule that holds a packet and is taken, which is asked with its place and
    /// whether it has limits in time. None that is not may be one of those that hide others, but for
    /// such limits: what has any hides nothing.
    #[inline]
    pub(super) fn find_among(&self, key: &Key<A>, takes: impl Fn(u32, bool) -> bool) -> u32 {
        let found = self.search(key, |first_place, block, probe, best: Rank| {
            let mut boxes = block.holding(probe);
            while boxes != 0 {
                let lane = boxes.trailing_zeros();
                let rank = block.rank(lane);
                if rank >= best {
                    break;
                }
                let is_held = !A::IS_WIDE || self.is_within((first_place + lane) as usize, key);
                if is_held && takes(rank.order(), rank.is_timed()) {
                    return rank;
                }
                boxes &= boxes - 1;
            }
            best
        });
        found.order_or(NO_BOX)
    }

    /// Goes through the trees with the best that was found so far, which `look` makes better with each
    /// block that can hold the packet; it is told the place of its first lane.
    #[inline]
    fn search<B: Best>(&self, key: &Key<A>, look: impl Fn(u32, &Block, &Probe, B) -> B) -> B {
        let probe = Probe::new(key, Shifts::default());
        let mut best = B::NONE;
        for root in &self.roots {
            // Asked once a tree: at each node it costs more than it spares.
            if root.lowest >= best.rank() {
                continue;
            }
            let mut at = root.node;
            // Every number in a node was made beside what it stands for: nothing is ever missed.
            while let Some(node) = self.nodes.get(at as usize) {
                let numbers = node.blocks..node.blocks + node.count;
                let blocks = self.blocks.get(numbers.start as usize..numbers.end as usize);
                for (number, block) in numbers.zip(blocks.unwrap_or(&[])) {
                    let probe = probe.shifted(key, node.shifts);
                    best = look(number << LANE_BITS, block, &probe, best);
                }
                if node.cut == 0 {
                    break;
                }
                at = node.child(key);
            }
        }
        best
    }

    /// Whether the box at a place holds a packet's wide addresses.
    #[inline]
    fn is_within(&self, place: usize, key: &Key<A>) -> bool {
        let holds = |range: u32, address: A| {
            let range = self.ranges.get(range as usize);
            range.is_some_and(|(first, last)| *first <= address && address <= *last)
        };
        self.wide.get(place).is_some_and(|wide| {
            holds(wide.source, key.source) && holds(wide.destination, key.destination)
        })
    }

    /// How much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(self.nodes.as_slice())
            + size_of_val(self.blocks.as_slice())
            + size_of_val(self.wide.as_slice())
            + size_of_val(self.ranges.as_slice())
            + size_of_val(self.hiding.as_slice())
    }
}
