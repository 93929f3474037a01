//! What becomes of packets that come in lines, in lines too: any number of them, a piece at a time.

use std::ops::ControlFlow;

use fireflow_domain::engine::compact::CompactRule;
use fireflow_domain::packet::GivenPacket;
use fireflow_domain::rule::Action;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::inspect::{GivenVerdict, InspectedPolicy, Verdict};
use serde::Serialize;

use crate::assumed_ports::AssumedPorts;
use crate::fault::WrittenViolation;
use crate::packet_lines::{LineFault, LineFaultCode, PacketLines};

/// Answers packets line by line, as they arrive.
#[derive(Debug)]
pub struct VerdictLines {
    inspected: InspectedPolicy,
    packets: PacketLines,
    counts: [u64; Action::ALL.len()],
    faults: u64,
}

/// Writes the verdict on a packet, by hand because most of it is constant: `line`, `action`,
/// `permitted`, `reason` and `active_rule`, the rule in brief; `ports_assumed` if the source port is
/// unknown.
fn write_verdict(
    line: u64,
    verdict: &GivenVerdict<'_>,
    answers: &mut Vec<u8>,
) -> serde_json::Result<()> {
    let Verdict { action, rule } = verdict.verdict;
    answers.extend_from_slice(b"{\"line\":");
    serde_json::to_writer(&mut *answers, &line)?;
    answers.extend_from_slice(match action {
        Action::Allow => b",\"action\":\"ALLOW\",\"permitted\":true".as_slice(),
        Action::Deny => b",\"action\":\"DENY\",\"permitted\":false",
        Action::Reject => b",\"action\":\"REJECT\",\"permitted\":false",
    });
    write_rule(rule.map(|rule| &**rule), answers)?;
    if let Some(assumed) = &verdict.assumed {
        answers.extend_from_slice(b",\"ports_assumed\":");
        serde_json::to_writer(&mut *answers, &AssumedPorts::from(assumed))?;
    }
    answers.push(b'}');
    Ok(())
}

/// Writes `reason` and `active_rule`.
fn write_rule(rule: Option<&CompactRule>, answers: &mut Vec<u8>) -> serde_json::Result<()> {
    let Some(rule) = rule else {
        answers.extend_from_slice(b",\"reason\":\"default\",\"active_rule\":null");
        return Ok(());
    };
    answers.extend_from_slice(b",\"reason\":\"rule\",\"active_rule\":{\"id\":");
    serde_json::to_writer(&mut *answers, &rule.id().get())?;
    answers.extend_from_slice(b",\"name\":");
    serde_json::to_writer(&mut *answers, &rule.name())?;
    answers.extend_from_slice(match rule.action() {
        Action::Allow => b",\"action\":\"ALLOW\",\"priority\":".as_slice(),
        Action::Deny => b",\"action\":\"DENY\",\"priority\":",
        Action::Reject => b",\"action\":\"REJECT\",\"priority\":",
    });
    serde_json::to_writer(&mut *answers, &rule.priority())?;
    answers.push(b'}');
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<WrittenViolation<'a>>,
}

impl<'a> FaultLine<'a> {
    /// A fault in one sentence, and the number of its line.
    #[must_use]
    pub const fn new(line: u64, code: LineFaultCode, detail: &'a str) -> Self {
        Self { line, error: FaultInLine { code: code.as_str(), detail, errors: Vec::new() } }
    }
}

impl VerdictLines {
    /// The policy by whose rules the packets are decided.
    #[must_use]
    pub const fn inspected(&self) -> &InspectedPolicy {
        &self.inspected
    }

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
        self.packets.count()
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
    packet: Result<GivenPacket, LineFault>,
    answers: &mut Vec<u8>,
) {
    // Neither write can fail: the values are valid, and they go to memory.
    let written = match packet {
        Ok(packet) => {
            let verdict = inspected.given_verdict(&packet);
            if let Some(count) = counts.get_mut(verdict.verdict.action as usize) {
                *count += 1;
            }
            write_verdict(line, &verdict, answers)
        }
        Err(fault) => {
            *faults += 1;
            let detail = fault.to_string();
            let mut answer = FaultLine::new(line, fault.code(), &detail);
            answer.error.errors = fault.violations().iter().map(Into::into).collect();
            serde_json::to_writer(&mut *answers, &answer)
        }
    };
    debug_assert!(written.is_ok(), "{written:?}");
    answers.push(b'\n');
}
