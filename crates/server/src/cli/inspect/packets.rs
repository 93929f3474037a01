//! The packets of a file, some thousands at a time.

use std::ops::ControlFlow;

use anyhow::Result;
use fireflow_domain::engine::classifier::Key;
use fireflow_domain::engine::port_map::PortAnswer;
use fireflow_domain::error::Violations;
use fireflow_domain::packet::{GivenPacket, Packet};
use fireflow_domain::time::Instant;
use fireflow_formats::flow_log::{Mapping, Skipped};
use fireflow_formats::format::{Assumed, FileReader, PacketFault, PacketRecord};
use fireflow_formats::packet_lines::{LineFault, LineFaultCode};
use fireflow_formats::{FlowLog, Source, sniff};

use super::super::rule_file::described;
use super::rules::{Query, Rules};

/// How many lines are decided at once.
const BATCH: usize = 64 * 1024;

/// Why a line or record is no packet.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) code: LineFaultCode,
    pub(super) detail: String,
}

impl Fault {
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self { code: LineFaultCode::Invalid, detail: detail.into() }
    }
}

impl From<&Violations> for Fault {
    fn from(violations: &Violations) -> Self {
        Self::invalid(described(violations))
    }
}

impl From<&LineFault> for Fault {
    fn from(fault: &LineFault) -> Self {
        match fault {
            LineFault::Invalid(violations) => violations.into(),
            LineFault::TooLong | LineFault::Malformed(_) => {
                Self { code: fault.code(), detail: fault.to_string() }
            }
        }
    }
}

impl From<&PacketFault> for Fault {
    fn from(fault: &PacketFault) -> Self {
        match fault {
            PacketFault::Line(fault) => fault.into(),
            PacketFault::Column(fault) => Self::invalid(fault.to_string()),
        }
    }
}

/// What can be asked of the rules of one kind.
pub(super) enum Queries {
    Packets(Vec<Packet>),
    Keys(Vec<Key<u32>>),
}

/// The content of a line.
pub(super) enum LineContent {
    /// The next of the queries, with the number of the rule that the line names as the deciding
    /// one.
    Packet(Option<i64>),
    /// The next of the queries without a source port.
    PacketWithoutPort,
    Skipped(Skipped),
    Fault(Fault),
}

/// Some lines, with the verdicts on their packets.
pub(super) struct Batch {
    pub(super) lines: Vec<(u64, LineContent)>,
    pub(super) queries: Queries,
    /// The queries whose source port is unknown.
    pub(super) without_port: Queries,
    /// The position of the deciding rule for each query.
    pub(super) decided: Vec<Option<usize>>,
    /// The same for each query without a source port.
    pub(super) assumed: Vec<PortAnswer<Option<usize>>>,
    pub(super) guesses: Guesses,
}

/// How often a log lacked a field that rules depend on, so that its value was assumed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Guesses {
    /// ICMP without a type: an echo request.
    pub(super) icmp: u64,
    /// TCP without flags: the first packet of a connection.
    pub(super) tcp: u64,
}

/// Collects lines, and hands them on when there are enough.
struct Collector<'a> {
    rules: &'a Rules,
    batch: Batch,
    take: &'a mut dyn FnMut(&Batch) -> Result<()>,
}

impl Collector<'_> {
    fn add_record(&mut self, line: u64, record: PacketRecord, now: Instant) {
        match record {
            PacketRecord::Packet(packet, Assumed { icmp_type, tcp_flags }) => {
                self.batch.guesses.icmp += u64::from(icmp_type);
                self.batch.guesses.tcp += u64::from(tcp_flags);
                self.add_packet(line, packet.map_err(|fault| Fault::from(&fault)));
            }
            PacketRecord::Benchmark(packet) => {
                self.add(line, self.rules.query_of(&packet, now), packet.expected);
            }
            PacketRecord::Skipped(why) => self.batch.lines.push((line, LineContent::Skipped(why))),
        }
    }

    fn add(&mut self, line: u64, query: Result<Query, Fault>, expected: Option<i64>) {
        let added = query.and_then(|query| self.batch.queries.add(query));
        let said = added.map_or_else(LineContent::Fault, |()| LineContent::Packet(expected));
        self.batch.lines.push((line, said));
    }

    fn add_packet(&mut self, line: u64, given: Result<GivenPacket, Fault>) {
        let is_port_unknown = given.as_ref().is_ok_and(|given| given.assumed_ports().is_some());
        let query = given.and_then(|given| self.rules.query(*given.packet()));
        if is_port_unknown {
            let added = query.and_then(|query| self.batch.without_port.add(query));
            let said = added.map_or_else(LineContent::Fault, |()| LineContent::PacketWithoutPort);
            self.batch.lines.push((line, said));
        } else {
            self.add(line, query, None);
        }
    }

    fn hand_on_if_full(&mut self) -> Result<()> {
        if self.batch.lines.len() < BATCH { Ok(()) } else { self.hand_on() }
    }

    fn hand_on(&mut self) -> Result<()> {
        self.batch.decided = self.rules.decide(&self.batch.queries);
        self.batch.assumed = self.rules.decide_by_port(&self.batch.without_port);
        (self.take)(&self.batch)?;
        self.batch.lines.clear();
        self.batch.guesses = Guesses::default();
        self.batch.queries.clear();
        self.batch.without_port.clear();
        Ok(())
    }
}

impl Queries {
    fn add(&mut self, query: Query) -> Result<(), Fault> {
        match (query, self) {
            (Query::Packet(packet), Self::Packets(packets)) => packets.push(packet),
            (Query::Key(key), Self::Keys(keys)) => keys.push(key),
            (Query::Packet(_), Self::Keys(_)) | (Query::Key(_), Self::Packets(_)) => {
                return Err(Fault::invalid("the packet and the rules have different formats"));
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        match self {
            Self::Packets(packets) => packets.clear(),
            Self::Keys(keys) => keys.clear(),
        }
    }
}

/// Reads a file to its end. `now` is the time of packets that have none.
///
/// # Errors
/// Returns an error if the file cannot be read or its format is unknown, and any error of `take`.
pub(super) fn read(
    mut source: Source,
    columns: Option<&Mapping>,
    rules: &Rules,
    now: Instant,
    take: &mut dyn FnMut(&Batch) -> Result<()>,
) -> Result<()> {
    let batch = Batch {
        lines: Vec::new(),
        queries: rules.queries(),
        without_port: rules.queries(),
        decided: Vec::new(),
        assumed: Vec::new(),
        guesses: Guesses::default(),
    };
    let mut collector = Collector { rules, batch, take };
    let file: Box<dyn FileReader> = match columns {
        Some(columns) => Box::new(FlowLog::with_columns(columns, &source.first)?),
        None => sniff(&source.first)?,
    };
    let mut taken = Ok(());
    let read = file.packets(&mut source.reader, now, &mut |line, record| {
        collector.add_record(line, record, now);
        taken = collector.hand_on_if_full();
        if taken.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    let read = read.map_err(anyhow::Error::from).and(taken);
    // Packets from before a failure are still decided, unless their verdicts cannot be written.
    let is_written = read.as_ref().err().is_none_or(|error| !error.is::<super::OutputError>());
    let handed_on = if is_written { collector.hand_on() } else { Ok(()) };
    read.and(handed_on)
}
