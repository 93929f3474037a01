//! Cuboids: products of one range in each dimension. A packet is either in a cuboid or outside it.

use super::address::Address;

/// The kind of payload that follows the protocol. A kind and a protocol are one number, so that one
/// range can hold all protocols with ports, or all packets.
pub mod kind {
    use super::Range;

    /// Ports.
    pub const PORTS: u8 = 0;
    /// Type and code.
    pub const ICMP: u8 = 1;
    /// Nothing that rules can restrict.
    pub const OPAQUE: u8 = 2;
    /// The numbers of all protocols of all kinds.
    pub const ANY: Range<u16> = (number(PORTS, 0), number(OPAQUE, u8::MAX));

    /// The number of a protocol whose packets have payload of a kind.
    #[must_use]
    pub const fn number(kind: u8, protocol: u8) -> u16 {
        u16::from_be_bytes([kind, protocol])
    }

    /// The numbers of all protocols of a kind.
    #[must_use]
    pub const fn all(kind: u8) -> Range<u16> {
        (number(kind, 0), number(kind, u8::MAX))
    }
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
    /// The protocol with its kind.
    pub(super) protocol: u16,
    pub(super) protocol_span: u16,
    pub(super) is_conditional: bool,
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
    /// The protocols with their kinds: numbers of [`kind`].
    pub protocols: Range<u16>,
    /// Whether its rule rejects some of the packets in the cuboid: it is active only at certain times,
    /// or the cuboid is a piece of its hull.
    pub is_conditional: bool,
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
    /// Its payload: one of [`kind`].
    pub kind: u8,
}

impl<A> Key<A> {
    /// Its protocol with its kind.
    #[inline]
    pub(super) const fn protocol_number(&self) -> u16 {
        kind::number(self.kind, self.protocol)
    }
}

impl<A: Address> Key<A> {
    /// Its number in a dimension.
    #[inline]
    pub(super) fn field(&self, dimension: Dimension) -> A {
        match dimension {
            Dimension::Source => self.source,
            Dimension::Destination => self.destination,
            Dimension::First => A::from(self.first),
            Dimension::Second => A::from(self.second),
            Dimension::Protocol => A::from(self.protocol_number()),
        }
    }
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
            protocol: parts.protocols.0,
            protocol_span: span(parts.protocols),
            is_conditional: parts.is_conditional,
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
        let [kind, protocol] = self.protocol.to_be_bytes();
        Key {
            source: at(0, self.source, self.source_span),
            destination: at(1, self.destination, self.destination_span),
            first: port(2, self.first, self.first_span),
            second: port(3, self.second, self.second_span),
            // Of a range of protocols, most packets have TCP.
            protocol: if self.protocol_span == 0 { protocol } else { 6.max(protocol) },
            kind,
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
            & (key.protocol_number().wrapping_sub(self.protocol) <= self.protocol_span)
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
            Dimension::Protocol => ports(self.protocol, self.protocol_span),
        }
    }

    /// Whether the cuboid holds every packet of a region, and its rule accepts all of them.
    pub(super) fn covers(&self, region: &Region<A>) -> bool {
        !self.is_conditional
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
    Protocol,
}

impl Dimension {
    pub(super) const ALL: [Self; 5] =
        [Self::Source, Self::Destination, Self::First, Self::Second, Self::Protocol];
}

/// A range in each dimension.
pub(super) type Region<A> = [Range<A>; 5];
