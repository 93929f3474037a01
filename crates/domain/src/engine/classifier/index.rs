//! The index: boxes in trees that cut their dimensions, and the way of a packet through them.

use super::address::Address;
use super::block::{Block, LANES, Probe, Rank, Shifts};

/// The place of no rule.
pub const NO_BOX: u32 = u32::MAX;

/// What a packet carries behind its protocol, as bits, so that a box can take several.
pub mod kind {
    /// Ports.
    pub const PORTS: u8 = 1;
    /// Type and code.
    pub const ICMP: u8 = 2;
    /// Nothing that rules look at.
    pub const OPAQUE: u8 = 4;
    /// Whatever it is.
    pub const ALL: u8 = PORTS | ICMP | OPAQUE;
}

/// One box: ranges of all dimensions, which a packet lies in or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Boxed<A> {
    source: A,
    source_span: A,
    destination: A,
    destination_span: A,
    /// The source port, or the ICMP type.
    pub(super) first: u16,
    pub(super) first_span: u16,
    /// The destination port, or the ICMP code.
    pub(super) second: u16,
    pub(super) second_span: u16,
    pub(super) protocol: u8,
    pub(super) protocol_mask: u8,
    pub(super) kinds: u8,
    pub(super) is_timed: bool,
    /// The place of its rule: of several boxes that hold a packet the lowest decides.
    order: u32,
}

/// An inclusive range; its first is not beyond its last.
pub type Range<T> = (T, T);

/// What a box is made of.
#[derive(Debug, Clone, Copy)]
pub struct BoxParts<A> {
    /// Source addresses.
    pub source: Range<A>,
    /// Destination addresses.
    pub destination: Range<A>,
    /// Source ports, or ICMP types.
    pub first: Range<u16>,
    /// Destination ports, or ICMP codes.
    pub second: Range<u16>,
    /// The protocol; none: any.
    pub protocol: Option<u8>,
    /// What packets may carry: bits of [`kind`].
    pub kinds: u8,
    /// Whether its rule holds at certain times only.
    pub is_timed: bool,
    /// The place of its rule, below 2^31.
    pub order: u32,
}

/// Every port.
pub const ALL_PORTS: Range<u16> = (0, u16::MAX);

/// A packet, as boxes look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<A> {
    /// Its source address.
    pub source: A,
    /// Its destination address.
    pub destination: A,
    /// Its source port or ICMP type; 0 where it has neither.
    pub first: u16,
    /// Its destination port or ICMP code; 0 where it has neither.
    pub second: u16,
    /// Its protocol.
    pub protocol: u8,
    /// What it carries: one bit of [`kind`].
    pub kind: u8,
}

impl<A: Address> Boxed<A> {
    /// Makes one.
    #[must_use]
    pub fn new(parts: &BoxParts<A>) -> Self {
        let span = |(first, last): Range<u16>| last.wrapping_sub(first);
        Self {
            source: parts.source.0,
            source_span: parts.source.1.wrapping_sub(parts.source.0),
            destination: parts.destination.0,
            destination_span: parts.destination.1.wrapping_sub(parts.destination.0),
            first: parts.first.0,
            first_span: span(parts.first),
            second: parts.second.0,
            second_span: span(parts.second),
            protocol: parts.protocol.unwrap_or(0),
            protocol_mask: if parts.protocol.is_some() { u8::MAX } else { 0 },
            kinds: parts.kinds,
            is_timed: parts.is_timed,
            order: parts.order,
        }
    }

    /// The place of its rule.
    #[must_use]
    pub const fn order(&self) -> u32 {
        self.order
    }

    /// A packet at one of its corners: each bit of the number chooses an end of a dimension.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn corner(&self, corner: u32) -> Key<A> {
        let at = |bit: u32, first: A, span: A| {
            if corner & 1 << bit == 0 { first } else { first.wrapping_add(span) }
        };
        let port = |bit: u32, first: u16, span: u16| {
            if corner & 1 << bit == 0 { first } else { first.wrapping_add(span) }
        };
        let is_any = self.protocol_mask == 0;
        Key {
            source: at(0, self.source, self.source_span),
            destination: at(1, self.destination, self.destination_span),
            first: port(2, self.first, self.first_span),
            second: port(3, self.second, self.second_span),
            protocol: if is_any { 6 } else { self.protocol },
            kind: kind::PORTS,
        }
    }

    /// Whether it holds a packet.
    #[must_use]
    #[inline]
    pub fn holds(&self, key: &Key<A>) -> bool {
        (key.source.wrapping_sub(self.source) <= self.source_span)
            & (key.destination.wrapping_sub(self.destination) <= self.destination_span)
            & (key.first.wrapping_sub(self.first) <= self.first_span)
            & (key.second.wrapping_sub(self.second) <= self.second_span)
            & ((key.protocol ^ self.protocol) & self.protocol_mask == 0)
            & (key.kind & self.kinds != 0)
    }

    /// Its source addresses.
    pub(super) fn sources(&self) -> Range<A> {
        (self.source, self.source.wrapping_add(self.source_span))
    }

    /// Its destination addresses.
    pub(super) fn destinations(&self) -> Range<A> {
        (self.destination, self.destination.wrapping_add(self.destination_span))
    }

    /// Its range in a dimension.
    pub(super) fn range(&self, dimension: Dimension) -> Range<A> {
        let ports = |first: u16, span: u16| (A::from(first), A::from(first.wrapping_add(span)));
        match dimension {
            Dimension::Source => self.sources(),
            Dimension::Destination => self.destinations(),
            Dimension::First => ports(self.first, self.first_span),
            Dimension::Second => ports(self.second, self.second_span),
        }
    }

    /// Whether it holds whatever lies in a region, at any time.
    pub(super) fn covers(&self, region: &Region<A>) -> bool {
        let is_unlimited = self.protocol_mask == 0 && self.kinds == kind::ALL && !self.is_timed;
        is_unlimited
            && Dimension::ALL.iter().zip(region).all(|(dimension, (first, last))| {
                let range = self.range(*dimension);
                range.0 <= *first && *last <= range.1
            })
    }
}

/// What can be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dimension {
    Source,
    Destination,
    First,
    Second,
}

impl Dimension {
    pub(super) const ALL: [Self; 4] = [Self::Source, Self::Destination, Self::First, Self::Second];
}

/// A range in each dimension.
pub(super) type Region<A> = [Range<A>; 4];

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
    const fn place(self) -> u64 {
        self.0 & u32::MAX as u64
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
        if found.rank() == Rank::NONE || self.is_within(found.place() as u32, key) {
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
                let is_held = !A::IS_WIDE || self.is_within(first_place + lane, key);
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
                let probe = probe.shifted(key, node.shifts);
                for (number, block) in numbers.zip(blocks.unwrap_or(&[])) {
                    best = look(number * LANES as u32, block, &probe, best);
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
    fn is_within(&self, place: u32, key: &Key<A>) -> bool {
        let holds = |range: u32, address: A| {
            let range = self.ranges.get(range as usize);
            range.is_some_and(|(first, last)| *first <= address && address <= *last)
        };
        self.wide.get(place as usize).is_some_and(|wide| {
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
