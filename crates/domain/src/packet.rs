//! The packets that FireFlow decides on. Each is the first packet of a connection.

use std::net::IpAddr;

use crate::error::{Violation, Violations};
use crate::net::{Family, PortRange, Protocol};
use crate::time::Instant;

/// The fields of a packet that follow its addresses and protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Ports; exactly the protocols that have ports carry them.
    Ports {
        /// The source port.
        source: u16,
        /// The destination port.
        destination: u16,
    },
    /// Type and code; exactly icmp and icmpv6 carry them.
    Icmp {
        /// The type.
        icmp_type: u8,
        /// The code.
        icmp_code: u8,
    },
    /// Nothing that rules examine.
    Opaque,
}

/// A packet that some network can carry: both addresses are of one family, the protocol exists in
/// that family, and the packet has ports or ICMP fields exactly if the protocol has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Packet {
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    payload: Payload,
    at: Instant,
}

/// A packet as it was given: its source port can be unknown. It then means one packet with each of
/// the [ephemeral ports](PortRange::EPHEMERAL).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GivenPacket {
    /// The packet; if its source port is unknown, the packet with the first of the assumed ports.
    packet: Packet,
    is_port_unknown: bool,
}

impl GivenPacket {
    /// Checks the parts against each other. The source port is unknown if it is absent and the
    /// protocol has ports.
    ///
    /// # Errors
    /// Returns all violations, with pointers such as `/destination_port`.
    pub fn new(parts: PacketParts) -> Result<Self, Violations> {
        let is_port_unknown = parts.source_port.is_none() && parts.protocol.has_ports();
        let source_port =
            if is_port_unknown { Some(PortRange::EPHEMERAL.first()) } else { parts.source_port };
        let packet = Packet::new(PacketParts { source_port, ..parts })?;
        Ok(Self { packet, is_port_unknown })
    }

    /// The packet. If its source port is unknown, it is the packet with the first of the assumed
    /// ports.
    #[must_use]
    pub const fn packet(&self) -> &Packet {
        &self.packet
    }

    /// The source ports that the packet may have, if its port is unknown.
    #[must_use]
    pub fn assumed_ports(&self) -> Option<PortRange> {
        self.is_port_unknown.then_some(PortRange::EPHEMERAL)
    }

    /// The source port, if the packet has ports and it is known.
    #[must_use]
    pub const fn source_port(&self) -> Option<u16> {
        if self.is_port_unknown { None } else { self.packet.source_port() }
    }
}

impl From<Packet> for GivenPacket {
    fn from(packet: Packet) -> Self {
        Self { packet, is_port_unknown: false }
    }
}

/// A packet as a request describes it, before the check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketParts {
    /// The source address.
    pub source_address: IpAddr,
    /// The destination address.
    pub destination_address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The source port; absent from a [`GivenPacket`] with ports: unknown.
    pub source_port: Option<u16>,
    /// The destination port.
    pub destination_port: Option<u16>,
    /// The ICMP type; absent: echo request.
    pub icmp_type: Option<u8>,
    /// The ICMP code; absent: 0.
    pub icmp_code: Option<u8>,
    /// The packet's time.
    pub at: Instant,
}

impl Packet {
    /// Checks the parts against each other.
    ///
    /// # Errors
    /// Returns all violations, with pointers such as `/source_port`.
    pub fn new(parts: PacketParts) -> Result<Self, Violations> {
        let mut violations = Violations::new();
        let protocol = parts.protocol;
        for (pointer, address) in [
            ("/source_address", parts.source_address),
            ("/destination_address", parts.destination_address),
        ] {
            if let IpAddr::V6(v6) = address
                && let Some(v4) = v6.to_ipv4_mapped()
            {
                violations.push(Violation::body(
                    pointer,
                    format!("`{v6}` is an IPv4 address in IPv6 form; write `{v4}`"),
                ));
            }
        }
        if parts.source_address.is_ipv4() != parts.destination_address.is_ipv4() {
            violations.push(Violation::body(
                "/destination_address",
                "must be of the same family as `source_address`",
            ));
        }
        let family = family_of(parts.source_address);
        if !protocol.exists_in(family) {
            let (other, name) = match family {
                Family::V4 => (Protocol::ICMP, "IPv4"),
                Family::V6 => (Protocol::ICMPV6, "IPv6"),
            };
            violations.push(Violation::body(
                "/protocol",
                format!("{protocol} does not exist in {name}; use {other}"),
            ));
        }
        for (pointer, port) in
            [("/source_port", parts.source_port), ("/destination_port", parts.destination_port)]
        {
            match (protocol.has_ports(), port) {
                (true, None) => violations
                    .push(Violation::body(pointer, format!("is required with {protocol}"))),
                (false, Some(_)) => violations.push(Violation::body(
                    pointer,
                    format!("must be left out: {protocol} has no ports"),
                )),
                (true, Some(_)) | (false, None) => {}
            }
        }
        for (pointer, field) in [("/icmp_type", parts.icmp_type), ("/icmp_code", parts.icmp_code)] {
            if field.is_some() && !protocol.is_icmp() {
                violations.push(Violation::body(
                    pointer,
                    format!("must be left out: {protocol} is neither icmp nor icmpv6"),
                ));
            }
        }
        if parts.icmp_code.is_some() && parts.icmp_type.is_none() && protocol.is_icmp() {
            violations.push(Violation::body("/icmp_type", "is required with `icmp_code`"));
        }
        let payload = if let (Some(source), Some(destination)) =
            (parts.source_port, parts.destination_port)
        {
            Payload::Ports { source, destination }
        } else if protocol.is_icmp() {
            let echo_request = if protocol == Protocol::ICMP { 8 } else { 128 };
            Payload::Icmp {
                icmp_type: parts.icmp_type.unwrap_or(echo_request),
                icmp_code: parts.icmp_code.unwrap_or(0),
            }
        } else {
            Payload::Opaque
        };
        violations.into_result(|| Self {
            source: parts.source_address,
            destination: parts.destination_address,
            protocol,
            payload,
            at: parts.at,
        })
    }

    /// The source address.
    #[must_use]
    pub const fn source(&self) -> IpAddr {
        self.source
    }

    /// The destination address.
    #[must_use]
    pub const fn destination(&self) -> IpAddr {
        self.destination
    }

    /// The protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The same packet with another source port. A packet without ports stays as it is.
    #[must_use]
    pub const fn with_source_port(self, port: u16) -> Self {
        let payload = match self.payload {
            Payload::Ports { destination, .. } => Payload::Ports { source: port, destination },
            Payload::Icmp { .. } | Payload::Opaque => self.payload,
        };
        Self { payload, ..self }
    }

    /// The same packet at another time.
    #[must_use]
    pub const fn with_time(self, at: Instant) -> Self {
        Self { at, ..self }
    }

    /// Ports or ICMP fields.
    #[must_use]
    pub const fn payload(&self) -> Payload {
        self.payload
    }

    /// The packet's time.
    #[must_use]
    pub const fn at(&self) -> Instant {
        self.at
    }

    /// The source port, if the packet has ports.
    #[must_use]
    pub const fn source_port(&self) -> Option<u16> {
        match self.payload {
            Payload::Ports { source, .. } => Some(source),
            Payload::Icmp { .. } | Payload::Opaque => None,
        }
    }

    /// The destination port, if the packet has ports.
    #[must_use]
    pub const fn destination_port(&self) -> Option<u16> {
        match self.payload {
            Payload::Ports { destination, .. } => Some(destination),
            Payload::Icmp { .. } | Payload::Opaque => None,
        }
    }
}

/// The family of an address.
#[must_use]
pub const fn family_of(address: IpAddr) -> Family {
    match address {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(protocol: Protocol) -> PacketParts {
        PacketParts {
            source_address: "10.0.0.1".parse().unwrap(),
            destination_address: "10.0.0.2".parse().unwrap(),
            protocol,
            source_port: None,
            destination_port: None,
            icmp_type: None,
            icmp_code: None,
            at: Instant::from_micros(0).unwrap(),
        }
    }

    #[test]
    fn ports_stand_exactly_where_the_protocol_has_them() {
        let missing = Packet::new(parts(Protocol::TCP)).unwrap_err();
        assert_eq!(missing.items().len(), 2);
        let refused =
            Packet::new(PacketParts { source_port: Some(1), ..parts(Protocol(47)) }).unwrap_err();
        assert!(refused.items()[0].detail.contains("gre has no ports"));
    }

    #[test]
    fn only_the_source_port_of_a_protocol_with_ports_may_be_unknown() {
        let missing = GivenPacket::new(parts(Protocol::UDP)).unwrap_err();
        let pointers: Vec<String> = missing.items().iter().map(ToString::to_string).collect();
        assert_eq!(pointers, ["#/destination_port: is required with udp"]);
        let with_port = PacketParts { destination_port: Some(53), ..parts(Protocol::UDP) };
        let unknown = GivenPacket::new(with_port).unwrap();
        assert_eq!(unknown.source_port(), None);
        assert_eq!(unknown.assumed_ports(), PortRange::new(49_152, 65_535).ok());
        assert_eq!(unknown.packet().source_port(), Some(49_152));
        let known = GivenPacket::new(PacketParts { source_port: Some(7), ..with_port }).unwrap();
        assert_eq!((known.source_port(), known.assumed_ports()), (Some(7), None));
        assert_eq!(GivenPacket::from(unknown.packet().with_source_port(7)), known);
        let without_ports = GivenPacket::new(parts(Protocol(47))).unwrap();
        assert_eq!(without_ports.assumed_ports(), None);
        assert_eq!(without_ports.packet().with_source_port(7), *without_ports.packet());
    }

    #[test]
    fn icmp_defaults_to_echo_request() {
        let packet = Packet::new(parts(Protocol::ICMP)).unwrap();
        assert_eq!(packet.payload(), Payload::Icmp { icmp_type: 8, icmp_code: 0 });
        assert!(Packet::new(parts(Protocol::ICMPV6)).is_err());
    }

    #[test]
    fn families_are_not_mixed_and_mapped_addresses_are_refused() {
        let mixed = PacketParts {
            destination_address: "2001:db8::1".parse().unwrap(),
            ..parts(Protocol(47))
        };
        assert!(Packet::new(mixed).is_err());
        let mapped = PacketParts {
            source_address: "::ffff:10.0.0.1".parse().unwrap(),
            destination_address: "2001:db8::1".parse().unwrap(),
            ..parts(Protocol(47))
        };
        let violations = Packet::new(mapped).unwrap_err();
        assert!(violations.items()[0].detail.contains("write `10.0.0.1`"));
    }
}
