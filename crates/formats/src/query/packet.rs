//! Packets in query parameters.

use fireflow_domain::error::{FaultLocation, Violation, Violations};
use fireflow_domain::net::Protocol;
use fireflow_domain::packet::{GivenPacket, PacketParts};
use fireflow_domain::time::Instant;

use super::Query;
use crate::packet::address;

/// Reads one packet from query parameters.
///
/// # Errors
/// Returns all violations, by parameter.
pub fn packet(mut query: Query, now: Instant) -> Result<GivenPacket, Violations> {
    let parts = packet_parts(&mut query, now);
    query.finish()?;
    given_packet(parts)
}

/// Reads the parts of one packet. If an address is missing, this is noted, and there are none.
pub fn packet_parts(query: &mut Query, now: Instant) -> Option<PacketParts> {
    for name in ["source_address", "destination_address"] {
        query.missing(name);
    }
    let source = query.parse("source_address", address);
    let destination = query.parse("destination_address", address);
    let protocol = query.parse("protocol", Protocol::parse);
    let port = |query: &mut Query, name: &str| {
        query.integer(name, 0, u16::MAX.into()).and_then(|it| u16::try_from(it).ok())
    };
    let byte = |query: &mut Query, name: &str| {
        query.integer(name, 0, u8::MAX.into()).and_then(|it| u8::try_from(it).ok())
    };
    let source_port = port(query, "source_port");
    let destination_port = port(query, "destination_port");
    let icmp_type = byte(query, "icmp_type");
    let icmp_code = byte(query, "icmp_code");
    let at = query.instant("at");
    Some(PacketParts {
        source_address: source?,
        destination_address: destination?,
        protocol: protocol.unwrap_or(Protocol::TCP),
        source_port,
        destination_port,
        icmp_type,
        icmp_code,
        at: at.unwrap_or(now),
    })
}

/// A packet of parts that were read from query parameters without a fault.
///
/// # Errors
/// Returns all violations, by parameter.
pub fn given_packet(parts: Option<PacketParts>) -> Result<GivenPacket, Violations> {
    // A missing address has already been noted as a fault.
    let parts = parts.ok_or_else(Violations::new)?;
    GivenPacket::new(parts).map_err(|violations| {
        let mut named = Violations::new();
        for violation in violations.items() {
            let name = match &violation.place {
                FaultLocation::Body(pointer) => pointer.trim_start_matches('/').to_owned(),
                FaultLocation::Query(name) | FaultLocation::Header(name) => name.clone(),
            };
            named.push(Violation::query(name, violation.detail.clone()));
        }
        named
    })
}
