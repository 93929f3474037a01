//! The index: boxes in trees that cut their dimensions, and the way of a packet through them.

use super::address::Address;

/// Of a box that has no limits in time, and of nothing found.
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

/// One box: ranges of all dimensions, which a packet lies in or not. Of IPv4 it is half a cache
/// line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Boxed<A> {
    source: A,
    source_span: A,
    destination: A,
    destination_span: A,
    /// The source port, or the ICMP type.
    first: u16,
    first_span: u16,
    /// The destination port, or the ICMP code.
    second: u16,
    second_span: u16,
    protocol: u8,
    protocol_mask: u8,
    kinds: u8,
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
    /// The place of its rule, below [`NO_BOX`].
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

    /// Whether it holds a packet: one decision, since which of the dimensions it is that does not
    /// fit cannot be foreseen.
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

    /// Its range in a dimension.
    pub(super) fn range(&self, dimension: Dimension) -> Range<A> {
        let ports = |first: u16, span: u16| (A::from(first), A::from(first.wrapping_add(span)));
        match dimension {
            Dimension::Source => (self.source, self.source.wrapping_add(self.source_span)),
            Dimension::Destination => {
                (self.destination, self.destination.wrapping_add(self.destination_span))
            }
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
    /// Its first box.
    pub(super) boxes: u32,
    /// The lowest place of all boxes in it and below.
    pub(super) lowest: u32,
    /// How many boxes it has itself.
    pub(super) count: u16,
    /// Where the bits lie that choose the child.
    pub(super) shift: u8,
    /// How many bits they are (none: it has no children), and above [`Node::DIMENSION`] of what.
    pub(super) cut: u8,
}

impl Node {
    pub(super) const EMPTY: Self =
        Self { children: 0, boxes: 0, lowest: NO_BOX, count: 0, shift: 0, cut: 0 };
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

/// Boxes, indexed. Immutable; a lookup allocates nothing.
#[derive(Debug, Clone)]
pub struct Index<A> {
    pub(super) nodes: Vec<Node>,
    /// The boxes of each node, in order; a box can be in several nodes.
    pub(super) boxes: Vec<Boxed<A>>,
    pub(super) roots: Vec<u32>,
    /// The places of rules that hid others where they stand: those are not there, in order.
    pub(super) hiding: Vec<u32>,
}

impl<A: Address> Index<A> {
    /// The place of the first rule that holds a packet, [`NO_BOX`] where none does. `is_active` says
    /// of a rule with limits in time whether it holds now.
    #[must_use]
    #[inline]
    pub fn find(&self, key: &Key<A>, is_active: impl Fn(u32) -> bool) -> u32 {
        self.find_among(key, |boxed| !boxed.is_timed || is_active(boxed.order))
    }

    /// The same among the boxes that are taken at all. None that is not may be one of those that
    /// hide others.
    #[inline]
    pub(super) fn find_among(&self, key: &Key<A>, takes: impl Fn(&Boxed<A>) -> bool) -> u32 {
        let mut best = NO_BOX;
        for root in &self.roots {
            best = self.descend(*root, key, best, &takes);
        }
        best
    }

    #[inline]
    fn descend(
        &self,
        root: u32,
        key: &Key<A>,
        mut best: u32,
        takes: &impl Fn(&Boxed<A>) -> bool,
    ) -> u32 {
        let mut at = root;
        // Every number in a node was made beside what it stands for: nothing is ever missed.
        while let Some(node) = self.nodes.get(at as usize) {
            if node.lowest >= best {
                break;
            }
            let first = node.boxes as usize;
            let own = self.boxes.get(first..first + usize::from(node.count)).unwrap_or(&[]);
            for boxed in own {
                if boxed.order >= best {
                    break;
                }
                if boxed.holds(key) && takes(boxed) {
                    best = boxed.order;
                    break;
                }
            }
            if node.cut == 0 {
                break;
            }
            at = node.child(key);
        }
        best
    }

    /// How much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(self.nodes.as_slice())
            + size_of_val(self.boxes.as_slice())
            + size_of_val(self.hiding.as_slice())
    }
}
