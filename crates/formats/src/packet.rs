//! Packets as JSON: one, or an array of them.

use std::fmt::Display;
use std::net::IpAddr;

use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::net::Protocol;
use fireflow_domain::packet::{GivenPacket, PacketParts};
use fireflow_domain::text::excerpt;
use fireflow_domain::time::Instant;
use serde_json::Value;

use crate::fault::ReadError;
use crate::json::{self, Meter, kind};
use crate::members::{Members, integer};

/// The most packets in one request.
pub const MAX_PACKETS: usize = 10_000;
/// The most packets in one request with explanations.
pub const MAX_EXPLAINED_PACKETS: usize = 100;

/// Reads an address in its only accepted spelling, in JSON as well as in queries.
///
/// # Errors
/// Returns a message with a valid example.
pub fn address(text: &str) -> Result<IpAddr, String> {
    // The standard library's parser accepts only ASCII, and no zones, masks or white space.
    text.parse().map_err(|_| {
        format!("`{}` is not an IPv4 or IPv6 address such as `192.0.2.1`", excerpt(text))
    })
}

/// Reads an array of packets, one by one. Blocks the thread, so call it outside those that serve
/// requests.
///
/// # Errors
/// Returns all violations, each with its index.
pub fn packets(
    bytes: &[u8],
    now: Instant,
    explains: bool,
    meter: &Meter,
) -> Result<Vec<GivenPacket>, ReadError> {
    if !matches!(bytes.trim_ascii_start().first(), Some(b'[') | None) {
        let value = json::parse_within(bytes, meter)?;
        let detail = format!("must be an array of packets, not {}", kind(&value));
        return Err(ReadError::Invalid(Violation::body("", detail).into()));
    }
    let (limit, why) = if explains {
        (MAX_EXPLAINED_PACKETS, "with `explain`")
    } else {
        (MAX_PACKETS, "in one request")
    };
    let mut violations = Violations::new();
    let mut packets = Vec::new();
    let mut count = 0_usize;
    json::parse_elements(bytes, meter, &mut |index, item| {
        count += 1;
        // Packets beyond the limit are only counted.
        if count <= limit {
            packets.extend(packet(item, &format!("/{index}"), now, &mut violations));
        }
    })?;
    if count > limit {
        let detail = format!("has {count} packets; at most {limit} are allowed {why}");
        return Err(ReadError::Invalid(Violation::body("", detail).into()));
    }
    // Either each packet gets an answer or none does.
    if violations.is_empty() && packets.len() == count {
        Ok(packets)
    } else {
        Err(ReadError::Invalid(violations))
    }
}

/// Reads one packet, with pointers below `at`. If it returns `None`, it has noted the faults.
pub fn packet(
    value: Value,
    at: &str,
    now: Instant,
    violations: &mut Violations,
) -> Option<GivenPacket> {
    let mut faults = violations.nested();
    let parts = packet_parts(value, at, now, &mut faults);
    if !faults.is_empty() {
        violations.extend(faults);
        return None;
    }
    // The packet as a whole is checked only if all members are valid.
    GivenPacket::new(parts?).map_err(|faults| violations.extend_below(at, faults)).ok()
}

fn packet_parts(
    value: Value,
    at: &str,
    now: Instant,
    faults: &mut Violations,
) -> Option<PacketParts> {
    let mut members = Members::open(value, at, faults)?;
    let source = members.text("source_address", address);
    let source = members.required("source_address", source);
    let destination = members.text("destination_address", address);
    let destination = members.required("destination_address", destination);
    let protocol = members.value("protocol", |value| match &value {
        Value::String(word) => Protocol::parse(word).map_err(text),
        Value::Number(_) => integer(&value, 0, u8::MAX.into())
            .and_then(|number| Protocol::parse(&number.to_string()).map_err(text)),
        other => Err(format!("must be a name or number, not {}", kind(other))),
    });
    let source_port = port(&mut members, "source_port");
    let destination_port = port(&mut members, "destination_port");
    let icmp_type = byte(&mut members, "icmp_type");
    let icmp_code = byte(&mut members, "icmp_code");
    let time = members.text("at", Instant::parse).nullable();
    members.finish();
    Some(PacketParts {
        source_address: source?,
        destination_address: destination?,
        protocol: protocol.nullable().unwrap_or(Protocol::TCP),
        source_port,
        destination_port,
        icmp_type,
        icmp_code,
        at: time.unwrap_or(now),
    })
}

fn text(error: impl Display) -> String {
    error.to_string()
}

fn port(members: &mut Members<'_>, name: &'static str) -> Option<u16> {
    members.integer(name, 0, u16::MAX.into()).nullable().and_then(|it| u16::try_from(it).ok())
}

fn byte(members: &mut Members<'_>, name: &'static str) -> Option<u8> {
    members.integer(name, 0, u8::MAX.into()).nullable().and_then(|it| u8::try_from(it).ok())
}
