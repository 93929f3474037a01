//! Packets as lines of JSON (NDJSON), and their verdicts as lines too: any number of them,
//! processed in pieces.

use std::fmt;
use std::net::IpAddr;
use std::ops::ControlFlow;

use fireflow_domain::error::Violations;
use fireflow_domain::net::Protocol;
use fireflow_domain::packet::{Packet, PacketParts};
use fireflow_domain::rule::{Action, Rule};
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::inspect::{InspectedPolicy, Verdict};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

use super::inspection::packet;
use super::json;
use crate::problem::{Code, Fault, Problem};

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
    /// The line is not a packet.
    #[error("the line is not a packet")]
    Invalid(Violations),
}

/// The message of a JSON error within one of many lines, without the line number of the parser.
fn within_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

/// Reads packets from lines that arrive in pieces.
#[derive(Debug, Default)]
pub struct PacketLines {
    /// The number of lines read so far.
    line: u64,
    /// The beginning of a line whose end has not arrived yet.
    begun: Vec<u8>,
    /// Whether that line is too long, so the rest of it is skipped.
    is_skipping: bool,
}

impl PacketLines {
    /// Reads the lines that end in a piece. Calls `visit` with the number of each line, from 1, and
    /// its packet, until `visit` stops. Returns how many bytes of the piece were read. Packets
    /// without a time get the time `now`. Empty lines are counted and skipped.
    pub fn read(
        &mut self,
        piece: &[u8],
        now: Instant,
        visit: &mut dyn FnMut(u64, Result<Packet, LineFault>) -> ControlFlow<()>,
    ) -> usize {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', piece) {
            let rest = piece.get(start..end).unwrap_or_default();
            start = end + 1;
            let next = if self.begun.is_empty() && !self.is_skipping {
                self.line(rest, now, visit)
            } else {
                // The line has ended, whether its beginning was too long or not.
                let begun = self.begin(rest, visit);
                let ended = self.end(now, visit);
                if begun.is_break() { begun } else { ended }
            };
            if next.is_break() {
                return start;
            }
        }
        let _last = self.begin(piece.get(start..).unwrap_or_default(), visit);
        piece.len()
    }

    /// Reads the last line if no line end came after it.
    pub fn end(
        &mut self,
        now: Instant,
        visit: &mut dyn FnMut(u64, Result<Packet, LineFault>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let line = std::mem::take(&mut self.begun);
        if std::mem::take(&mut self.is_skipping) {
            return ControlFlow::Continue(());
        }
        let next =
            if line.is_empty() { ControlFlow::Continue(()) } else { self.line(&line, now, visit) };
        self.begun = line;
        self.begun.clear();
        next
    }

    /// Stores the beginning of a line.
    fn begin(
        &mut self,
        piece: &[u8],
        visit: &mut dyn FnMut(u64, Result<Packet, LineFault>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.is_skipping {
            return ControlFlow::Continue(());
        }
        if self.begun.len() + piece.len() <= MAX_LINE_BYTES {
            self.begun.extend_from_slice(piece);
            ControlFlow::Continue(())
        } else {
            self.line += 1;
            self.begun.clear();
            self.is_skipping = true;
            visit(self.line, Err(LineFault::TooLong))
        }
    }

    fn line(
        &mut self,
        line: &[u8],
        now: Instant,
        visit: &mut dyn FnMut(u64, Result<Packet, LineFault>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.line += 1;
        if line.len() > MAX_LINE_BYTES {
            visit(self.line, Err(LineFault::TooLong))
        } else if line.trim_ascii().is_empty() {
            ControlFlow::Continue(())
        } else {
            visit(self.line, read_packet(line, now))
        }
    }
}

/// Reads one packet.
///
/// # Errors
/// Returns all violations, or the JSON error.
pub fn read_packet(line: &[u8], now: Instant) -> Result<Packet, LineFault> {
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
    fn packet(self, now: Instant) -> Option<Packet> {
        let at = match self.at {
            Some(text) => Instant::parse(text).ok()?,
            None => now,
        };
        Packet::new(PacketParts {
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

/// Answers packets line by line, as they arrive.
#[derive(Debug)]
pub struct VerdictLines {
    inspected: InspectedPolicy,
    packets: PacketLines,
    counts: [u64; Action::ALL.len()],
    faults: u64,
}

/// Writes the verdict on a packet, by hand because most of it is constant: `line`, `action`,
/// `permitted`, `reason` and `active_rule`, which has the form of
/// [`super::inspection::RuleSummaryView`].
fn write_verdict(
    line: u64,
    action: Action,
    rule: Option<&Rule>,
    answers: &mut Vec<u8>,
) -> serde_json::Result<()> {
    answers.extend_from_slice(b"{\"line\":");
    serde_json::to_writer(&mut *answers, &line)?;
    answers.extend_from_slice(match action {
        Action::Allow => b",\"action\":\"ALLOW\",\"permitted\":true".as_slice(),
        Action::Deny => b",\"action\":\"DENY\",\"permitted\":false",
        Action::Reject => b",\"action\":\"REJECT\",\"permitted\":false",
    });
    let Some(rule) = rule else {
        answers.extend_from_slice(b",\"reason\":\"default\",\"active_rule\":null}");
        return Ok(());
    };
    answers.extend_from_slice(b",\"reason\":\"rule\",\"active_rule\":{\"id\":");
    serde_json::to_writer(&mut *answers, &rule.id.get())?;
    answers.extend_from_slice(b",\"name\":");
    let name = rule.spec.name.as_ref().map(|name| name.as_str());
    serde_json::to_writer(&mut *answers, &name)?;
    answers.extend_from_slice(match rule.spec.action {
        Action::Allow => b",\"action\":\"ALLOW\",\"priority\":".as_slice(),
        Action::Deny => b",\"action\":\"DENY\",\"priority\":",
        Action::Reject => b",\"action\":\"REJECT\",\"priority\":",
    });
    serde_json::to_writer(&mut *answers, &rule.spec.priority)?;
    answers.extend_from_slice(b"}}");
    Ok(())
}

/// The fault of one line, in the form of a problem.
#[derive(Debug, Serialize)]
pub struct FaultLine<'a> {
    line: u64,
    error: FaultInLine<'a>,
}

#[derive(Debug, Serialize)]
struct FaultInLine<'a> {
    code: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [Fault],
}

impl<'a> FaultLine<'a> {
    /// The fault of the line with this number.
    #[must_use]
    pub const fn new(line: u64, code: Code, detail: &'a str, errors: &'a [Fault]) -> Self {
        Self { line, error: FaultInLine { code: code.as_str(), detail, errors } }
    }
}

impl VerdictLines {
    /// Answers by the rules of a policy.
    #[must_use]
    pub fn new(inspected: InspectedPolicy) -> Self {
        let packets = PacketLines::default();
        Self { inspected, packets, counts: [0; Action::ALL.len()], faults: 0 }
    }

    /// Writes the answers to the lines that end in a piece, until there are `most` bytes of them.
    /// The limit is necessary because a short invalid line can have an answer a hundred times as
    /// long. Returns how many bytes of the piece were read. Packets without a time get the time
    /// `now`.
    pub fn answer(
        &mut self,
        piece: &[u8],
        now: Instant,
        most: usize,
        answers: &mut Vec<u8>,
    ) -> usize {
        let Self { inspected, packets, counts, faults } = self;
        packets.read(piece, now, &mut |line, packet| {
            write(inspected, counts, faults, line, packet, answers);
            if answers.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    }

    /// Writes the answer to the last line if no line end came after it.
    pub fn end(&mut self, now: Instant, answers: &mut Vec<u8>) {
        let Self { inspected, packets, counts, faults } = self;
        let _ended = packets.end(now, &mut |line, packet| {
            write(inspected, counts, faults, line, packet, answers);
            ControlFlow::Continue(())
        });
    }

    /// The number of lines so far.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.packets.line
    }

    /// The number of lines that were not packets.
    #[must_use]
    pub const fn faults(&self) -> u64 {
        self.faults
    }

    /// Takes the number of packets since the last call, by [action](Action::ALL).
    pub fn take_counts(&mut self) -> [u64; Action::ALL.len()] {
        std::mem::take(&mut self.counts)
    }
}

fn write(
    inspected: &InspectedPolicy,
    counts: &mut [u64; Action::ALL.len()],
    faults: &mut u64,
    line: u64,
    packet: Result<Packet, LineFault>,
    answers: &mut Vec<u8>,
) {
    // Neither write can fail: the values are valid, and they go to memory.
    let written = match packet {
        Ok(packet) => {
            let Verdict { action, rule } = inspected.verdict(&packet);
            if let Some(count) = counts.get_mut(action as usize) {
                *count += 1;
            }
            write_verdict(line, action, rule, answers)
        }
        Err(fault) => {
            *faults += 1;
            let problem = fault.problem();
            let fault = FaultLine::new(line, problem.code, &problem.detail, &problem.faults);
            serde_json::to_writer(&mut *answers, &fault)
        }
    };
    debug_assert!(written.is_ok(), "{written:?}");
    answers.push(b'\n');
}

impl LineFault {
    /// The fault as a problem.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::TooLong => Problem::new(Code::TooLarge, self.to_string()),
            Self::Malformed(_) => Problem::new(Code::MalformedJson, self.to_string()),
            Self::Invalid(violations) => Problem::invalid(violations),
        }
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
