//! Formats of files: the names of each, how it is recognized, and how its rules and packets are
//! read.
//!
//! A format is one module with one [`Format`]. [`FORMATS`](crate::FORMATS) lists them all.

use std::fmt;
use std::io::{self, BufRead};
use std::ops::ControlFlow;

use fireflow_domain::engine::classifier::CuboidParts;
use fireflow_domain::error::Violations;
use fireflow_domain::packet::GivenPacket;
use fireflow_domain::time::Instant;
use serde_json::{Map, Value};

use crate::benchmark::BenchmarkPacket;
use crate::error::LineError;
use crate::flow_log::{LayoutError, Skipped};
use crate::json_values::JsonError;
use crate::packet_lines::LineFault;

/// A format of files. Several dialects are one format if the same code recognizes and reads them.
#[derive(Debug)]
pub struct Format {
    /// Its names in the list of known formats, one for each dialect.
    pub names: &'static [&'static str],
    /// Its files of rules, as help names them. Empty if it has no rules.
    pub rules: &'static [&'static str],
    /// Its rules, as the message about packets in the place of rules names them.
    pub rules_in_short: &'static [&'static str],
    /// Its files of packets, as help names them. Empty if it has no packets.
    pub packets: &'static [&'static str],
    /// Valid files of each kind and dialect. Tests read them, and corrupt them.
    pub samples: &'static [Sample],
    /// Recognizes the beginning of a file, see [`sniff`](crate::sniff). Returns an error if the
    /// file is of this format but cannot be read.
    pub recognize: fn(&[u8]) -> Recognized,
}

/// The reader of a file, if it is of this format.
pub type Recognized = Result<Option<Box<dyn FileReader>>, LayoutError>;

/// A valid file.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The name of its format, as [`FileReader::name`] returns it.
    pub name: &'static str,
    /// Its content.
    pub text: &'static str,
    /// What it holds.
    pub holds: Holds,
}

/// What a file holds, and how many of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Rules.
    Rules(usize),
    /// Packets.
    Packets(usize),
}

/// Reads a file in a format that was recognized.
pub trait FileReader: fmt::Debug {
    /// The name of the format or dialect, such as `AWS VPC flow log`.
    fn name(&self) -> &'static str;

    /// Reads rules to the end of the file, or until `visit` stops.
    ///
    /// # Errors
    /// Returns [`FileError::NotRules`] if this is a file of packets, and an error for the first
    /// rule that cannot be read.
    fn rules(&self, _input: &mut dyn BufRead, _visit: RuleVisitor<'_>) -> Result<(), FileError> {
        Err(FileError::NotRules)
    }

    /// Reads packets to the end of the file, or until `visit` stops. `now` is the time of packets
    /// that have none. A record that is no packet is visited as a fault, and reading continues.
    ///
    /// # Errors
    /// Returns [`FileError::NotPackets`] if this is a file of rules, and an error if the rest of
    /// the file cannot be read.
    fn packets(
        &self,
        _input: &mut dyn BufRead,
        _now: Instant,
        _visit: PacketVisitor<'_>,
    ) -> Result<(), FileError> {
        Err(FileError::NotPackets)
    }
}

/// Receives each rule and its place.
pub type RuleVisitor<'a> = &'a mut dyn FnMut(RuleLocation, RuleRecord) -> ControlFlow<()>;

/// Receives each packet, and the number of its line or record, counted from 1.
pub type PacketVisitor<'a> = &'a mut dyn FnMut(u64, PacketRecord) -> ControlFlow<()>;

/// The place of a rule in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleLocation {
    /// The line, counted from 1.
    pub line: u64,
    /// The rule's place in the list that begins in this line, counted from 0.
    pub index: Option<usize>,
    /// The line in which the rule itself begins.
    pub own_line: u64,
}

impl fmt::Display for RuleLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, index, own_line: _ } = self;
        match index {
            Some(index) => write!(f, "rule {index} of the list in line {line} (counted from 0)"),
            None => write!(f, "line {line}"),
        }
    }
}

/// One rule, or what a file states about its rules.
#[derive(Debug)]
pub enum RuleRecord {
    /// A rule as JSON in the form of the API.
    Api(Value),
    /// The members of a list's page, without its items. A plain list has none.
    Page(Map<String, Value>),
    /// The members of a policy with its rules, without these, as comparisons take it.
    Policy(Map<String, Value>),
    /// A rule of a benchmark: a cuboid of IPv4, without an action.
    Cuboid(CuboidParts<u32>),
}

/// One record of a file of packets.
#[derive(Debug)]
pub enum PacketRecord {
    /// A packet, or why the record is none.
    Packet(Result<GivenPacket, PacketFault>, Assumed),
    /// A packet of a benchmark, which may name the rule that must decide.
    Benchmark(BenchmarkPacket),
    /// A record without a packet that can be evaluated.
    Skipped(Skipped),
}

impl PacketRecord {
    /// A packet, none of whose values is assumed.
    pub fn packet(packet: Result<GivenPacket, impl Into<PacketFault>>) -> Self {
        Self::Packet(packet.map_err(Into::into), Assumed::default())
    }
}

/// The values that rules depend on, and that a record lacks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Assumed {
    /// ICMP without a type counts as an echo request.
    pub icmp_type: bool,
    /// TCP without flags counts as the first packet of a connection.
    pub tcp_flags: bool,
}

/// Why a record is no packet.
#[derive(Debug, thiserror::Error)]
pub enum PacketFault {
    /// A fault of the line as a whole, or of the packet that it describes.
    #[error(transparent)]
    Line(#[from] LineFault),
    /// A fault of one of its columns.
    #[error(transparent)]
    Column(#[from] LineError),
}

impl From<Violations> for PacketFault {
    fn from(violations: Violations) -> Self {
        Self::Line(LineFault::Invalid(violations))
    }
}

/// Why a file, or the rest of it, cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file holds packets instead of rules.
    #[error("these are packets, not rules")]
    NotRules,
    /// The file holds rules instead of packets.
    #[error("these are rules, not packets")]
    NotPackets,
    /// The bytes cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The text is not JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A line is no rule.
    #[error("line {line}")]
    Line {
        /// The line, counted from 1.
        line: u64,
        /// The reason.
        #[source]
        fault: LineError,
    },
    /// A line of a file of rules is too long.
    #[error("line {line}: {}", LineFault::TooLong)]
    LongLine {
        /// The line, counted from 1.
        line: u64,
    },
    /// A list of packets has a further member.
    #[error("line {line}: `{member}` cannot be combined with `items`; write the packets as a list")]
    Member {
        /// The line in which the list begins, counted from 1.
        line: u64,
        /// The member, shortened.
        member: String,
    },
}
