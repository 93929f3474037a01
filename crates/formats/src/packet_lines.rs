//! Packets as lines of JSON (NDJSON): any number of them, a piece at a time.

use std::fmt;
use std::net::IpAddr;
use std::ops::ControlFlow;

use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::net::Protocol;
use fireflow_domain::packet::{GivenPacket, PacketParts};
use fireflow_domain::time::Instant;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use crate::fault::summary;
use crate::json;
use crate::lines::{Line, LineSplitter};
use crate::packet::packet;

/// The longest line, in bytes; no packet needs that much.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// Why a line is not a packet.
#[derive(Debug, thiserror::Error)]
pub enum LineFault {
    /// The line is too long.
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The line is not JSON.
    #[error("{}", within_line(.0))]
    Malformed(#[from] serde_json::Error),
    /// It is not a packet.
    #[error("{}", summary(.0))]
    Invalid(Violations),
}

/// Which kind of fault a line has: the words that answers have for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFaultCode {
    /// The line is too long.
    TooLarge,
    /// The line is not JSON.
    MalformedJson,
    /// The line is not a packet.
    Invalid,
}

impl LineFaultCode {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::MalformedJson => "malformed_json",
            Self::Invalid => "invalid",
        }
    }
}

impl LineFault {
    /// Which kind of fault it is.
    #[must_use]
    pub const fn code(&self) -> LineFaultCode {
        match self {
            Self::TooLong => LineFaultCode::TooLarge,
            Self::Malformed(_) => LineFaultCode::MalformedJson,
            Self::Invalid(_) => LineFaultCode::Invalid,
        }
    }

    /// Everything that is wrong with the packet; empty if the line is none.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        match self {
            Self::TooLong | Self::Malformed(_) => &[],
            Self::Invalid(violations) => violations.items(),
        }
    }
}

/// The message of a JSON error within one of many lines, without the line number of the parser.
fn within_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// Reads packets from lines that arrive in pieces.
#[derive(Debug)]
pub struct PacketLines(LineSplitter);

impl Default for PacketLines {
    fn default() -> Self {
        Self(LineSplitter::new(MAX_LINE_BYTES))
    }
}

impl PacketLines {
    /// The number of lines read so far.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.0.count()
    }

    /// Reads the lines that end in a piece. Calls `visit` with the number of each line, from 1, and
    /// its packet, until `visit` stops. Returns how many bytes of the piece were read. Packets
    /// without a time get the time `now`. Empty lines are counted and skipped.
    pub fn read(
        &mut self,
        piece: &[u8],
        now: Instant,
        visit: &mut impl FnMut(u64, Result<GivenPacket, LineFault>) -> ControlFlow<()>,
    ) -> usize {
        self.0.split(piece, &mut |number, line| visit_packet(number, line, now, visit))
    }

    /// Reads the last line if no line end came after it.
    pub fn end(
        &mut self,
        now: Instant,
        visit: &mut impl FnMut(u64, Result<GivenPacket, LineFault>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.0.end(&mut |number, line| visit_packet(number, line, now, visit))
    }
}

fn visit_packet(
    number: u64,
    line: Line<'_>,
    now: Instant,
    visit: &mut impl FnMut(u64, Result<GivenPacket, LineFault>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    match line {
        Line::TooLong => visit(number, Err(LineFault::TooLong)),
        Line::Whole(text) if text.trim_ascii().is_empty() => ControlFlow::Continue(()),
        Line::Whole(text) => visit(number, read_packet(text, now)),
    }
}

/// Reads one packet.
///
/// # Errors
/// Returns all violations, or the JSON error.
pub fn read_packet(line: &[u8], now: Instant) -> Result<GivenPacket, LineFault> {
    // The fast parser reads valid packets; any other line is read again to explain the fault. The
    // check for `{` is necessary because the fast parser alone would accept an array of the
    // members' values in order.
    if line.trim_ascii_start().starts_with(b"{")
        && let Ok(line) = std::str::from_utf8(line)
        && let Ok(plain) = serde_json::from_str::<PlainPacket<'_>>(line)
        && let Some(packet) = plain.packet(now)
    {
        return Ok(packet);
    }
    let value = json::parse(line)?;
    let mut violations = Violations::new();
    packet(value, "", now, &mut violations).ok_or(LineFault::Invalid(violations))
}

/// A packet in its usual spelling, deserialized without an intermediate value. The exact reader
/// accepts everything that this accepts, with the same result.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainPacket<'a> {
    source_address: IpAddr,
    destination_address: IpAddr,
    #[serde(default)]
    protocol: Option<PlainProtocol>,
    #[serde(default)]
    source_port: Option<u16>,
    #[serde(default)]
    destination_port: Option<u16>,
    #[serde(default)]
    icmp_type: Option<u8>,
    #[serde(default)]
    icmp_code: Option<u8>,
    #[serde(default, borrow)]
    at: Option<&'a str>,
}

impl PlainPacket<'_> {
    fn packet(self, now: Instant) -> Option<GivenPacket> {
        let at = match self.at {
            Some(text) => Instant::parse(text).ok()?,
            None => now,
        };
        GivenPacket::new(PacketParts {
            source_address: self.source_address,
            destination_address: self.destination_address,
            protocol: self.protocol.map_or(Protocol::TCP, |it| it.0),
            source_port: self.source_port,
            destination_port: self.destination_port,
            icmp_type: self.icmp_type,
            icmp_code: self.icmp_code,
            at,
        })
        .ok()
    }
}

struct PlainProtocol(Protocol);

impl<'de> Deserialize<'de> for PlainProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = PlainProtocol;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or number")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<PlainProtocol, E> {
                Protocol::parse(word).map(PlainProtocol).map_err(E::custom)
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<PlainProtocol, E> {
                u8::try_from(number).map(|it| PlainProtocol(Protocol(it))).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spellings of each member: valid, unusual and invalid.
    const MEMBERS: [(&str, &[&str]); 8] = [
        (
            "source_address",
            &[
                "\"10.0.0.1\"",
                "\"10.0.0.1\"",
                "\"2001:db8::1\"",
                "\"2001:DB8::0:1\"",
                "\"10.0.0.01\"",
                "\"::ffff:10.0.0.1\"",
                "\"fe80::1%eth0\"",
                "\"10.0.0.1 \"",
                "\"1\\u0030.0.0.1\"",
                "167772161",
                "null",
                "[10, 0, 0, 1]",
                "{\"V4\": [10, 0, 0, 1]}",
            ],
        ),
        (
            "destination_address",
            &["\"10.0.0.2\"", "\"10.0.0.2\"", "\"2001:db8::2\"", "\"any\"", "null", "[]"],
        ),
        (
            "protocol",
            &[
                "\"tcp\"", "\"UDP\"", "6", "\"6\"", "\"icmp\"", "58", "47", "\"006\"", "\" tcp\"",
                "256", "-1", "6.0", "6e0", "null", "true", "[6]",
            ],
        ),
        ("source_port", &["1", "0", "65535", "65536", "-0", "1.0", "1e0", "\"1\"", "null", "01"]),
        ("destination_port", &["443", "443", "65535", "4.43e2", "99999", "null", "{}"]),
        ("icmp_type", &["8", "0", "255", "256", "null", "8.0"]),
        ("icmp_code", &["0", "1", "null", "\"0\""]),
        (
            "at",
            &[
                "\"2026-11-24T12:00:00Z\"",
                "\"2026-11-24t12:00:00.5+01:00\"",
                "\"2026-11-24 12:00:00Z\"",
                "\"2026-11-24\"",
                "0",
                "null",
                "\"2026\\u002d11-24T12:00:00Z\"",
            ],
        ),
    ];

    #[test]
    fn what_is_read_fast_is_what_the_exact_reading_reads() {
        let now = Instant::from_micros(1_700_000_000_000_000).unwrap();
        let mut state = 11_u64;
        // Knuth's linear congruential generator, good enough to choose samples.
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below
        };
        let (mut right, mut wrong) = (0, 0);
        for _ in 0..60_000 {
            let mut members = Vec::new();
            for (index, (name, values)) in MEMBERS.iter().enumerate() {
                // The addresses are nearly always present, the rest in half of the lines; sometimes
                // a member is duplicated.
                let is_there = if index < 2 { random(50) > 0 } else { random(2) == 0 };
                let times = usize::from(is_there) + usize::from(random(150) == 0);
                for _ in 0..times {
                    // Mostly one of the first spellings; otherwise hardly any packet would be
                    // valid.
                    let most = if random(3) == 0 { values.len() } else { 2 };
                    members.push(format!("\"{name}\": {}", values[random(most)]));
                }
            }
            if random(100) == 0 {
                members.push("\"port\": 1".to_owned());
            }
            let line = match random(60) {
                0 => format!(
                    "[{}]",
                    members
                        .iter()
                        .map(|it| it.split_once(": ").unwrap().1)
                        .collect::<Vec<_>>()
                        .join(",")
                ),
                1 => format!("{{{}}} {{}}", members.join(",")),
                2 => format!("{{{},}}", members.join(",")),
                _ => format!(" {{{}}}\r", members.join(" ,")),
            };
            let exact = json::parse(line.as_bytes()).ok().and_then(|value| {
                let mut violations = Violations::new();
                packet(value, "", now, &mut violations)
            });
            let read = read_packet(line.as_bytes(), now).ok();
            assert_eq!(read, exact, "{line}");
            right += usize::from(exact.is_some());
            wrong += usize::from(exact.is_none());
        }
        assert!(right > 1_000 && wrong > 1_000, "{right} {wrong}");
    }
}
