//! Files of ClassBench's rules and packets.

use std::io::BufRead;
use std::ops::ControlFlow;

use fireflow_domain::engine::classifier::NO_CUBOID;
use fireflow_domain::time::Instant;

use crate::benchmark::{self, MAX_LINE_BYTES, is_packet_shaped};
use crate::flow_log::first_line;
use crate::format::{
    FileError, FileReader, Format, Holds, PacketRecord, PacketVisitor, Recognized, RuleLocation,
    RuleRecord, RuleVisitor, Sample,
};
use crate::lines::{Line, LineReader};
use crate::packet_lines::LineFault;

pub(crate) const FORMAT: Format = Format {
    names: &["ClassBench's rules (`@10.0.0.0/8 …`) or packets (five or six decimals)"],
    rules: &["ClassBench's text"],
    rules_in_short: &["lines that begin with `@`"],
    packets: &["ClassBench's traces"],
    samples: &[
        Sample {
            name: "ClassBench rules",
            text: "@220.104.76.45/32\t9.20.226.211/32\t0 : 65535\t1521 : 1521\t0x06/0xFF\t\
                   0x0000/0x0200\t\n\n@0.0.0.0/0\t9.20.226.211/32\t0 : 65535\t0 : 65535\t0x00/0x00\n",
            holds: Holds::Rules(2),
        },
        Sample {
            name: "ClassBench packets",
            text: "3697822801\t1540835327\t65535\t0\t1\t-1\n\n1 2 3 4 5\n",
            holds: Holds::Packets(2),
        },
    ],
    recognize,
};

fn recognize(first: &[u8]) -> Recognized {
    Ok(match first_line(first).trim_ascii() {
        // The names of a header can also begin with `@`, as in `@timestamp`.
        [b'@', b'0'..=b'9', ..] => Some(Box::new(Rules)),
        text if is_packet_shaped(text) => Some(Box::new(Packets)),
        _ => None,
    })
}

/// Rules as [`benchmark::rule_parts`] reads them.
#[derive(Debug)]
struct Rules;

/// Packets as [`benchmark::packet`] reads them.
#[derive(Debug)]
struct Packets;

impl FileReader for Rules {
    fn name(&self) -> &'static str {
        "ClassBench rules"
    }

    fn rules(&self, input: &mut dyn BufRead, visit: RuleVisitor<'_>) -> Result<(), FileError> {
        let mut lines = LineReader::new(input, MAX_LINE_BYTES);
        let mut order = 0_u32;
        while let Some((number, line)) = lines.next_line()? {
            let text = match line {
                Line::TooLong => return Err(FileError::LongLine { line: number }),
                Line::Whole(text) if text.trim_ascii().is_empty() => continue,
                Line::Whole(text) => text,
            };
            let rule = benchmark::rule_parts(text, order)
                .map_err(|fault| FileError::Line { line: number, fault })?;
            // The parser refuses the rule after the last possible one.
            order = order.checked_add(1).unwrap_or(NO_CUBOID);
            let place = RuleLocation { line: number, index: None, own_line: number };
            if visit(place, RuleRecord::Cuboid(rule)).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl FileReader for Packets {
    fn name(&self) -> &'static str {
        "ClassBench packets"
    }

    fn packets(
        &self,
        input: &mut dyn BufRead,
        _now: Instant,
        visit: PacketVisitor<'_>,
    ) -> Result<(), FileError> {
        let mut lines = LineReader::new(input, MAX_LINE_BYTES);
        while let Some((number, line)) = lines.next_line()? {
            let record = match line {
                Line::TooLong => PacketRecord::packet(Err(LineFault::TooLong)),
                Line::Whole(text) if text.trim_ascii().is_empty() => continue,
                Line::Whole(text) => match benchmark::packet(text) {
                    Ok(packet) => PacketRecord::Benchmark(packet),
                    Err(fault) => PacketRecord::packet(Err(fault)),
                },
            };
            if let ControlFlow::Break(()) = visit(number, record) {
                break;
            }
        }
        Ok(())
    }
}
