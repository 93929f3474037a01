//! Files of rules and packets as JSON in the form of the API: values one after the other, over
//! several lines, or one object per line (NDJSON).

use std::io::BufRead;
use std::ops::ControlFlow;

use fireflow_domain::error::Violations;
use fireflow_domain::packet::GivenPacket;
use fireflow_domain::text::excerpt;
use fireflow_domain::time::Instant;
use serde_json::Value;

use crate::flow_log::first_line;
use crate::format::{
    FileError, FileReader, Format, Holds, PacketRecord, PacketVisitor, Recognized, RuleLocation,
    RuleRecord, RuleVisitor, Sample,
};
use crate::json::Parsed;
use crate::json_values::{element_lines, elements, values};
use crate::packet::packet;
use crate::packet_lines::{LineFault, PacketLines};

pub(crate) const FORMAT: Format = Format {
    names: &["JSON", "one JSON object per line"],
    rules: &["JSON or NDJSON in the form of the API"],
    rules_in_short: &["JSON", "NDJSON"],
    packets: &["JSON or NDJSON in the form of the API"],
    samples: &[
        Sample {
            name: "JSON",
            text: "[{\"action\":\"DENY\",\"protocols\":[\"tcp\"],\"sources\":[{\"address\":\
                   \"any\"}],\"destinations\":[{\"address\":\"10.0.0.0/8\",\"port\":\"80-90\"}],\
                   \"ports\":[{\"number\":1}],\"labels\":{\"a\":\"b\"}}]",
            holds: Holds::Rules(1),
        },
        Sample {
            name: "NDJSON",
            text: "{\"action\":\"ALLOW\",\"sources\":[{\"address\":\"::/0\"}],\"destinations\":\
                   [{\"address\":\"::1\"}]}\n\n",
            holds: Holds::Rules(1),
        },
        Sample {
            name: "NDJSON",
            text: "{\"rules\":[{\"action\":\"ALLOW\",\"sources\":[{\"address\":\"::/0\"}],\
                   \"destinations\":[{\"address\":\"::1\"}]}],\"default_action\":\"DENY\"}",
            holds: Holds::Rules(1),
        },
        Sample {
            name: "JSON",
            text: "{\n\"source_address\":\"10.0.0.1\",\n\"destination_address\":\"10.0.0.2\",\
                   \"protocol\":50}\n[{\"source_address\":\"::1\",\"destination_address\":\
                   \"::2\",\"protocol\":58,\"icmp_type\":128}]",
            holds: Holds::Packets(2),
        },
        Sample {
            name: "NDJSON",
            text: "{\"source_address\":\"10.0.0.1\",\"destination_address\":\"10.0.0.2\",\
                   \"protocol\":47}\n\n{\"source_address\":\"10.0.0.1\",\"destination_address\":\
                   \"10.0.0.2\",\"protocol\":\"tcp\",\"destination_port\":443}",
            holds: Holds::Packets(2),
        },
    ],
    recognize,
};

fn recognize(first: &[u8]) -> Recognized {
    let text = first_line(first).trim_ascii();
    Ok(match text {
        [b'{', ..] if has_whole_object(text) => Some(Box::new(NdJson)),
        [b'[' | b'{', ..] => Some(Box::new(Json)),
        _ => None,
    })
}

/// JSON arrays, or objects that span several lines. There may be several values, one after the
/// other. An object whose line exceeds the part that is read ahead is also of this kind, since its
/// end is not known.
#[derive(Debug)]
struct Json;

/// One JSON object per line. A file with a single object on one line is also of this kind.
#[derive(Debug)]
struct NdJson;

impl FileReader for Json {
    fn name(&self) -> &'static str {
        "JSON"
    }

    fn rules(&self, input: &mut dyn BufRead, visit: RuleVisitor<'_>) -> Result<(), FileError> {
        rules(input, visit)
    }

    /// Packets are numbered from 1, as lines are.
    fn packets(
        &self,
        input: &mut dyn BufRead,
        now: Instant,
        visit: PacketVisitor<'_>,
    ) -> Result<(), FileError> {
        let mut bytes = Vec::new();
        input.read_to_end(&mut bytes)?;
        let (mut number, mut flow) = (0_u64, ControlFlow::Continue(()));
        let mut take = |value| {
            number = number.saturating_add(1);
            if flow.is_continue() {
                let mut violations = Violations::new();
                let read = packet(value, "", now, &mut violations).ok_or(violations);
                flow = visit(number, PacketRecord::packet(read));
            }
        };
        for value in values(&bytes) {
            let (line, text) = value?;
            match elements(line, text, &mut |_, value| take(value))? {
                Parsed::Object(packet) => take(Value::Object(packet)),
                Parsed::Elements(others) => {
                    if let Some(name) = others.keys().next() {
                        return Err(FileError::Member { line, member: excerpt(name) });
                    }
                }
            }
        }
        Ok(())
    }
}

impl FileReader for NdJson {
    fn name(&self) -> &'static str {
        "NDJSON"
    }

    fn rules(&self, input: &mut dyn BufRead, visit: RuleVisitor<'_>) -> Result<(), FileError> {
        rules(input, visit)
    }

    fn packets(
        &self,
        input: &mut dyn BufRead,
        now: Instant,
        visit: PacketVisitor<'_>,
    ) -> Result<(), FileError> {
        let mut lines = PacketLines::default();
        loop {
            let piece = input.fill_buf()?;
            let count = piece.len();
            let mut flow = ControlFlow::Continue(());
            let mut take = |line, packet: Result<GivenPacket, LineFault>| {
                flow = visit(line, PacketRecord::packet(packet));
                flow
            };
            if count == 0 {
                let _ended = lines.end(now, &mut take);
                return Ok(());
            }
            let _all = lines.read(piece, now, &mut take);
            if flow.is_break() {
                return Ok(());
            }
            input.consume(count);
        }
    }
}

/// Reads rules one after the other, lists of rules and pages of lists, whether or not in lines.
fn rules(input: &mut dyn BufRead, visit: RuleVisitor<'_>) -> Result<(), FileError> {
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    for value in values(&bytes) {
        let (line, text) = value?;
        let mut flow = ControlFlow::Continue(());
        let lines = element_lines(line, text);
        let parsed = elements(line, text, &mut |index, value| {
            if flow.is_continue() {
                let own_line = lines.get(index).copied().unwrap_or(line);
                let place = RuleLocation { line, index: Some(index), own_line };
                flow = visit(place, RuleRecord::Api(value));
            }
        })?;
        let place = RuleLocation { line, index: None, own_line: line };
        if flow.is_continue() {
            flow = match parsed {
                Parsed::Object(mut object) => match object.remove("rules") {
                    // A policy as comparisons take it. A rule has no such member.
                    Some(Value::Array(rules)) => {
                        for (index, rule) in rules.into_iter().enumerate() {
                            let own_line = lines.get(index).copied().unwrap_or(line);
                            let place = RuleLocation { line, index: Some(index), own_line };
                            if visit(place, RuleRecord::Api(rule)).is_break() {
                                return Ok(());
                            }
                        }
                        visit(place, RuleRecord::Policy(object))
                    }
                    other => {
                        object.extend(other.map(|other| ("rules".to_owned(), other)));
                        visit(place, RuleRecord::Api(Value::Object(object)))
                    }
                },
                Parsed::Elements(others) => visit(place, RuleRecord::Page(others)),
            };
        }
        if flow.is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether the object at the beginning of a line ends on that line.
fn has_whole_object(line: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut is_text = false;
    let mut is_escaped = false;
    for byte in line {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}
