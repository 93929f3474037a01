//! Boxes: products of one range in each dimension. A packet is either in a cuboid or outside it.

use super::address::Address;

/// The kind of payload that follows the protocol, as bits, so that a cuboid can accept several kinds.
pub mod kind {
    /// Ports.
    pub const PORTS: u8 = 1;
    /// Type and code.
    pub const ICMP: u8 = 2;
    /// Nothing that rules can restrict.
    pub const OPAQUE: u8 = 4;
    /// Any payload.
    pub const ALL: u8 = PORTS | ICMP | OPAQUE;
}

/// One cuboid: a range in each dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Cuboid<A> {
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
    /// The place of its rule. If several cuboids hold a packet, the lowest place decides.
    order: u32,
}

/// An inclusive range; its first number is not greater than its last.
pub type Range<T> = (T, T);

/// The parts of a cuboid.
#[derive(Debug, Clone, Copy)]
pub struct CuboidParts<A> {
    /// Source addresses.
    pub source: Range<A>,
    /// Destination addresses.
    pub destination: Range<A>,
    /// Source ports, or ICMP types.
    pub first: Range<u16>,
    /// Destination ports, or ICMP codes.
    pub second: Range<u16>,
    /// The protocol; none means any.
    pub protocol: Option<u8>,
    /// The kinds of payload that it accepts: bits of [`kind`].
    pub kinds: u8,
    /// Whether its rule is active only at certain times.
    pub is_timed: bool,
    /// The place of its rule, below 2^31.
    pub order: u32,
}

/// Every port.
pub const ALL_PORTS: Range<u16> = (0, u16::MAX);

/// A packet in the form that cuboids compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<A> {
    /// Its source address.
    pub source: A,
    /// Its destination address.
    pub destination: A,
    /// Its source port or ICMP type; 0 if it has neither.
    pub first: u16,
    /// Its destination port or ICMP code; 0 if it has neither.
    pub second: u16,
    /// Its protocol.
    pub protocol: u8,
    /// Its payload: one bit of [`kind`].
    pub kind: u8,
}

impl<A: Address> Cuboid<A> {
    /// Makes a cuboid of its parts.
    #[must_use]
    pub fn new(parts: &CuboidParts<A>) -> Self {
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

    /// A packet at one corner of the cuboid. Each bit of the number chooses an end of one dimension.
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

    /// Whether the cuboid holds a packet.
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

    /// Whether the cuboid holds every packet of a region, at any time.
    pub(super) fn covers(&self, region: &Region<A>) -> bool {
        let is_unlimited = self.protocol_mask == 0 && self.kinds == kind::ALL && !self.is_timed;
        is_unlimited
            && Dimension::ALL.iter().zip(region).all(|(dimension, (first, last))| {
                let range = self.range(*dimension);
                range.0 <= *first && *last <= range.1
            })
    }
}

/// A dimension that can be cut.
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
