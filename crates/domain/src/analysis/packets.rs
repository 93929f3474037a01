//! Sets of packets, as questions and answers spell them.

use std::fmt;

use crate::net::{AddressRange, Family, PortRange, Protocol};

/// Values of an ICMP type or code, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    /// The first.
    pub first: u8,
    /// The last, not below the first.
    pub last: u8,
}

impl ByteRange {
    /// Every value.
    pub const ALL: Self = Self { first: 0, last: u8::MAX };

    /// One value.
    #[must_use]
    pub const fn single(value: u8) -> Self {
        Self { first: value, last: value }
    }

    /// Values from the first to the last; none if the range ends before it begins.
    #[must_use]
    pub const fn new(first: u8, last: u8) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// Whether it contains a value.
    #[must_use]
    pub const fn contains(self, value: u8) -> bool {
        self.first <= value && value <= self.last
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// A set of packets: every combination of one value from each member. It is a product, spelled as
/// rules spell their members: an empty list holds everything.
///
/// As in rules, a set that names ports holds only packets with ports, and a set that names ICMP
/// types or codes holds only packets of ICMP. Only packets that a network can carry belong to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct PacketSet {
    /// The family; none: both.
    pub family: Option<Family>,
    /// The protocols; empty: any.
    pub protocols: Vec<Protocol>,
    /// The source addresses; empty: any.
    pub sources: Vec<AddressRange>,
    /// The source ports; empty: any, and packets without ports.
    pub source_ports: Vec<PortRange>,
    /// The destination addresses; empty: any.
    pub destinations: Vec<AddressRange>,
    /// The destination ports; empty: any, and packets without ports.
    pub destination_ports: Vec<PortRange>,
    /// The ICMP types; empty: any, and packets without ICMP fields.
    pub icmp_types: Vec<ByteRange>,
    /// The ICMP codes; empty: any, and packets without ICMP fields.
    pub icmp_codes: Vec<ByteRange>,
}

impl PacketSet {
    /// Every packet.
    #[must_use]
    pub fn everything() -> Self {
        Self::default()
    }

    /// Roughly how much memory it takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        // No `..`: the compiler demands a decision here for each new member.
        let Self {
            family: _,
            protocols,
            sources,
            source_ports,
            destinations,
            destination_ports,
            icmp_types,
            icmp_codes,
        } = self;
        size_of::<Self>()
            + size_of_val(protocols.as_slice())
            + size_of_val(sources.as_slice())
            + size_of_val(source_ports.as_slice())
            + size_of_val(destinations.as_slice())
            + size_of_val(destination_ports.as_slice())
            + size_of_val(icmp_types.as_slice())
            + size_of_val(icmp_codes.as_slice())
    }
}
