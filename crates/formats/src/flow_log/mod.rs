//! Flow logs. Each record is one flow, of which the first packet is evaluated.
//!
//! Three kinds are detected automatically: AWS VPC flow logs with any header or in the default
//! format, Zeek's `conn.log`, and tables with a header of common names. For all other logs, a
//! [`Mapping`] assigns the columns.

mod columns;
mod reader;
mod split;
mod values;

use std::fmt;

use csv::ByteRecord;
use fireflow_domain::net::Protocol;
use fireflow_domain::packet::PacketParts;
use fireflow_domain::time::Instant;

pub use self::columns::{ColumnRef, LayoutError, Mapping, MappingError};
pub use self::reader::{FlowReader, FlowRecord, MAX_RECORD_BYTES};

use self::columns::{Column, Columns, normal};
use self::split::{split, split_plainly};
use crate::error::LineError;

/// The content of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// A packet that is not yet validated;
    /// [`GivenPacket::new`](fireflow_domain::packet::GivenPacket::new) does so.
    Packet(PacketParts),
    /// No packet that can be evaluated.
    Skipped(Skipped),
}

/// Why a record holds no packet that can be evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skipped {
    /// It has no addresses, since no data was seen or recorded (AWS: `NODATA`, `SKIPDATA`).
    NoData,
    /// Its TCP flags are SYN and ACK (AWS: both of them, possibly among others). It is the
    /// answering direction of a connection, and the other direction has a record of its own.
    /// FireFlow decides the first packet of a connection.
    Reply,
    /// Its protocol was not recorded (Zeek: `unknown_transport`).
    UnknownProtocol,
}

impl Skipped {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::NoData, Self::Reply, Self::UnknownProtocol];

    /// The reason in words, as in “12 records skipped: no data”.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoData => "no data",
            Self::Reply => "the reply direction of a connection",
            Self::UnknownProtocol => "an unknown protocol",
        }
    }
}

/// The producer of a flow log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Style {
    /// An AWS VPC flow log.
    Aws,
    /// Zeek's `conn.log`, as tab-separated text.
    Zeek,
    /// Any table.
    Table,
}

/// The layout of a flow log: the separator between columns, and the meaning of each column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowLog {
    style: Style,
    separator: u8,
    columns: Columns,
    /// The text that marks an absent value, in addition to an empty value and `-`.
    unset: Vec<u8>,
    /// The record with the names of the columns, if the log has one.
    header: Option<ByteRecord>,
    /// The columns that the user assigned.
    mapping: Option<Mapping>,
    /// The number of lines at the beginning that can be comments. Zero for Zeek's logs, where
    /// comments can be anywhere.
    before: u64,
}

/// The separators, in the order in which they are tried. The space is last since names can contain
/// it.
const SEPARATORS: [u8; 5] = [b',', b'\t', b';', b'|', b' '];

/// The columns of an AWS flow log of version 2. Such a log has a header only in files on S3.
const AWS_DEFAULT: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol \
                           packets bytes start end action log-status";

impl FlowLog {
    /// Detects a flow log by the beginning of a file, which consists of its first whole lines. None
    /// if the file is not a flow log. Blank lines and comments, which begin with `#`, may precede
    /// the names or the first record.
    ///
    /// # Errors
    /// Returns [`LayoutError`] if the file looks like a flow log, but a required column (one of the
    /// addresses or the protocol) is missing or exists twice.
    pub fn detect(first: &[u8]) -> Result<Option<Self>, LayoutError> {
        if is_zeek(first) {
            return Self::zeek(first, None).map(Some);
        }
        let start = Beginning::of(first);
        // Names can be part of a comment, but a line that is not a comment takes precedence.
        let found = Self::by_names(start.first);
        if matches!(found, Ok(Some(_))) {
            return found;
        }
        match start.last_comment.map(Self::by_names) {
            Some(Ok(Some(log))) => Ok(Some(log)),
            _ => found,
        }
    }

    /// A log whose columns follow from this line: by common names, or as AWS's default format.
    fn by_names(line: NumberedLine<'_>) -> Result<Option<Self>, LayoutError> {
        if let Some(log) = Self::aws_default(line) {
            return Ok(Some(log));
        }
        // The error is about the separator with which the line most resembles a header.
        let mut nearest = (1, None);
        for separator in SEPARATORS {
            let header = split(line.text, separator);
            let names: Vec<String> = header.iter().map(normal).collect();
            let style = if is_aws(&names) { Style::Aws } else { Style::Table };
            match Columns::by_names(&names, style == Style::Aws) {
                Ok(columns) => {
                    return Ok(Some(Self {
                        style,
                        separator,
                        columns,
                        unset: Vec::new(),
                        header: Some(header),
                        mapping: None,
                        before: line.before,
                    }));
                }
                Err(error) => {
                    let is_known =
                        |column: &Column| !column.is_of_aws() && column.find_in(&names).is_some();
                    let known = Column::ALL.into_iter().filter(is_known).count();
                    if known > nearest.0 {
                        nearest = (known, Some(error));
                    }
                }
            }
        }
        nearest.1.map_or(Ok(None), Err)
    }

    /// A flow log whose columns the user assigns; `first` is the beginning of the file. If the
    /// mapping chooses a column by its name, the first line must be a header. Otherwise the first
    /// line is a record if an address or the protocol can be parsed from it, and a header if not.
    /// So a bad first record is reported as such. Comments, which begin with `#`, may precede it.
    ///
    /// # Errors
    /// Returns [`LayoutError`] if the file lacks a column of the mapping, or if a name is
    /// ambiguous.
    pub fn with_columns(mapping: &Mapping, first: &[u8]) -> Result<Self, LayoutError> {
        if is_zeek(first) {
            return Self::zeek(first, Some(mapping.clone()));
        }
        let start = Beginning::of(first);
        // A line that could also be a comment counts as a comment.
        let is_whole = |(log, known): &(Self, usize)| {
            if mapping.has_names() { log.header.is_some() } else { *known == 3 }
        };
        let commented = |line| Self::by_mapping(mapping, line).ok().filter(is_whole);
        if !mapping.has_names()
            && let Some((log, _)) = start.first_comment.and_then(commented)
        {
            return Ok(log);
        }
        match Self::by_mapping(mapping, start.first) {
            Ok((log, _)) => Ok(log),
            Err(error) if mapping.has_names() => {
                start.last_comment.and_then(commented).map(|(log, _)| log).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// A log with this first line. Also returns how many of the addresses and the protocol can be
    /// parsed from the line.
    fn by_mapping(mapping: &Mapping, line: NumberedLine<'_>) -> Result<(Self, usize), LayoutError> {
        let mut most: Option<(usize, LayoutError)> = None;
        for separator in SEPARATORS {
            let header = split(line.text, separator);
            match mapping.columns(&header) {
                Ok(mut columns) => {
                    let value = |place| header.get(place).unwrap_or_default().trim_ascii();
                    let is_address = |place| {
                        let value = value(place);
                        value == b"-" || values::address(value).is_some()
                    };
                    let told = [
                        is_address(columns.source_address),
                        is_address(columns.destination_address),
                        (values::PROTOCOL.read)(value(columns.protocol)).is_some(),
                    ];
                    let known = told.into_iter().filter(|is_told| *is_told).count();
                    let is_header = mapping.has_names() || known == 0;
                    if !is_header {
                        columns.forget_named();
                    }
                    let names: Vec<String> = header.iter().map(normal).collect();
                    let is_aws = is_header && is_aws(&names);
                    let log = Self {
                        style: if is_aws { Style::Aws } else { Style::Table },
                        separator,
                        columns,
                        unset: Vec::new(),
                        header: is_header.then_some(header),
                        mapping: Some(mapping.clone()),
                        before: line.before,
                    };
                    return Ok((log, known));
                }
                // The separator that splits the line into the most columns is probably the right
                // one.
                Err(error) if most.as_ref().is_none_or(|(count, _)| header.len() > *count) => {
                    most = Some((header.len(), error));
                }
                Err(_) => {}
            }
        }
        Err(most.map_or(LayoutError::NoHeader, |(_, error)| error))
    }

    /// The producer of the log.
    #[must_use]
    pub const fn style(&self) -> Style {
        self.style
    }

    /// Whether the log records ICMP types; Zeek's logs record them in the port columns. A packet
    /// without a recorded type is read as an echo request.
    #[must_use]
    pub const fn has_icmp_types(&self) -> bool {
        match self.style {
            Style::Zeek => self.columns.source_port.is_some(),
            Style::Aws | Style::Table => self.columns.icmp_type.is_some(),
        }
    }

    /// Whether the log records TCP flags, which identify a [`Skipped::Reply`].
    #[must_use]
    pub const fn has_tcp_flags(&self) -> bool {
        self.columns.tcp_flags.is_some()
    }

    /// Detects records of AWS's default format without a header. Records exported from CloudWatch
    /// begin with an additional timestamp.
    fn aws_default(line: NumberedLine<'_>) -> Option<Self> {
        let record = split(line.text, b' ');
        let values: Vec<&[u8]> = record.iter().collect();
        let before = match values.as_slice() {
            [b"2", rest @ ..] if rest.len() == 13 => 0,
            [time, b"2", rest @ ..] if rest.len() == 13 && values::instant(time).is_some() => 1,
            _ => return None,
        };
        let names: Vec<String> =
            AWS_DEFAULT.split(' ').map(|name| normal(name.as_bytes())).collect();
        let find = |column: Column| Some(column.find_in(&names)? + before);
        Some(Self {
            style: Style::Aws,
            separator: b' ',
            columns: Columns::gather(find, Some(record.len())).ok()?,
            unset: Vec::new(),
            header: None,
            mapping: None,
            before: line.before,
        })
    }

    /// Reads the header of a Zeek log: the lines that begin with `#`.
    fn zeek(first: &[u8], mapping: Option<Mapping>) -> Result<Self, LayoutError> {
        let mut separator = b'\t';
        let mut unset = Vec::new();
        for line in leading(first) {
            if let Some(text) = line.strip_prefix(b"#separator ") {
                separator = zeek_separator(text.trim_ascii())?;
                continue;
            }
            let record = split_plainly(line, separator);
            match (record.get(0), record.get(1)) {
                (Some(b"#unset_field"), Some(text)) => unset = text.to_vec(),
                (Some(b"#fields"), _) => {
                    let columns = zeek_columns(&record, mapping.as_ref())?;
                    return Ok(Self {
                        style: Style::Zeek,
                        separator,
                        columns,
                        unset,
                        header: None,
                        mapping,
                        before: 0,
                    });
                }
                _ => {}
            }
        }
        Err(LayoutError::NoHeader)
    }

    /// Whether a line is a comment ahead of the first line that is not one.
    fn is_comment(&self, line: &[u8], number: u64) -> bool {
        number <= self.before && is_comment(line)
    }

    /// Whether values may be quoted.
    fn has_quotes(&self) -> bool {
        self.style != Style::Zeek && self.separator != b' '
    }

    /// Whether a record is a header or a comment. A concatenation of several Zeek logs has several
    /// headers, and each `#fields` line replaces the columns.
    fn take_header(&mut self, record: &ByteRecord) -> Result<bool, LayoutError> {
        if self.header.as_ref().is_some_and(|header| is_same(header, record)) {
            return Ok(true);
        }
        let is_comment =
            self.style == Style::Zeek && record.get(0).is_some_and(|it| it.starts_with(b"#"));
        if is_comment && record.get(0) == Some(b"#fields") {
            self.columns = zeek_columns(record, self.mapping.as_ref())?;
        }
        Ok(is_comment)
    }

    /// Reads a record that is neither a header nor a comment. `now` is the packet's time if the
    /// record has no time.
    ///
    /// Protocols are numbers or names. Ports are dropped if the protocol has no ports. Without a
    /// column of ICMP types, an ICMP packet is an echo request. Times are in RFC 3339 format, or
    /// they are seconds since 1970, with or without a fraction. Larger numbers have smaller units:
    /// milliseconds from 10¹¹ on, microseconds from 10¹⁴ on and nanoseconds from 10¹⁷ on. IPv4 in
    /// IPv6 form becomes IPv4.
    ///
    /// # Errors
    /// Returns [`LineError`] for the column that is wrong. Whether the values form a valid packet
    /// is left to [`GivenPacket::new`](fireflow_domain::packet::GivenPacket::new).
    pub fn read(&self, record: &ByteRecord, now: Instant) -> Result<Flow, LineError> {
        let columns = &self.columns;
        self.check_width(record)?;
        let status = self.optional(record, columns.log_status);
        if matches!(status, Some(b"NODATA" | b"SKIPDATA")) {
            return Ok(Flow::Skipped(Skipped::NoData));
        }
        let source = self.optional(record, Some(columns.source_address));
        let destination = self.optional(record, Some(columns.destination_address));
        if source.is_none() && destination.is_none() {
            return Ok(Flow::Skipped(Skipped::NoData));
        }
        let source_address = columns.value(Column::SourceAddress, source, &values::ADDRESS)?;
        let destination_address =
            columns.value(Column::DestinationAddress, destination, &values::ADDRESS)?;
        let protocol = self.optional(record, Some(columns.protocol));
        if self.style == Style::Zeek && protocol == Some(b"unknown_transport") {
            return Ok(Flow::Skipped(Skipped::UnknownProtocol));
        }
        let mut protocol = columns.value(Column::Protocol, protocol, &values::PROTOCOL)?;
        let read_at = self.optional(record, columns.at);
        let mut parts = PacketParts {
            source_address,
            destination_address,
            protocol,
            source_port: None,
            destination_port: None,
            icmp_type: None,
            icmp_code: None,
            at: columns.optional(Column::At, read_at, &values::INSTANT)?.unwrap_or(now),
        };
        let source_port = self.optional(record, columns.source_port);
        let destination_port = self.optional(record, columns.destination_port);
        if self.style == Style::Zeek && protocol.is_icmp() {
            // Zeek uses one name for ICMP and ICMPv6.
            protocol = if source_address.is_ipv6() { Protocol::ICMPV6 } else { Protocol::ICMP };
            parts.protocol = protocol;
            let icmp_type =
                columns.optional(Column::SourcePort, source_port, &values::ICMP_TYPE)?;
            let other =
                columns.optional(Column::DestinationPort, destination_port, &values::ICMP_CODE)?;
            parts.icmp_type = icmp_type;
            parts.icmp_code = icmp_type
                .zip(other)
                .map(|(icmp_type, other)| values::code_of_zeek(protocol, icmp_type, other));
        } else if protocol.is_icmp() {
            let icmp_type = self.optional(record, columns.icmp_type);
            let icmp_code = self.optional(record, columns.icmp_code);
            parts.icmp_type = columns.optional(Column::IcmpType, icmp_type, &values::ICMP_TYPE)?;
            parts.icmp_code = columns.optional(Column::IcmpCode, icmp_code, &values::ICMP_CODE)?;
        } else if protocol.has_ports() {
            let port = &values::PORT;
            parts.source_port = columns.optional(Column::SourcePort, source_port, port)?;
            parts.destination_port =
                columns.optional(Column::DestinationPort, destination_port, port)?;
        }
        if protocol == Protocol::TCP {
            let flags = self.optional(record, columns.tcp_flags);
            let flags = columns.optional(Column::TcpFlags, flags, &values::FLAGS)?;
            if flags.is_some_and(|flags| self.is_reply(flags)) {
                return Ok(Flow::Skipped(Skipped::Reply));
            }
        }
        Ok(Flow::Packet(parts))
    }

    /// Whether the flags show that the other side began the connection. AWS records an ACK only for
    /// a packet with SYN, so both flags mean the answering side, with or without FIN. `NetFlow`,
    /// IPFIX and nfdump combine the flags of all packets of a side. There, the side that began the
    /// connection has both flags, too, but among others; exactly SYN and ACK is an answer without
    /// further packets.
    const fn is_reply(&self, flags: u32) -> bool {
        match self.style {
            Style::Aws => flags & SYN_ACK == SYN_ACK,
            Style::Zeek | Style::Table => flags == SYN_ACK,
        }
    }

    /// Checks the number of columns. If a value contains an unquoted separator, all later values
    /// are in the wrong columns and could be mistaken for others.
    fn check_width(&self, record: &ByteRecord) -> Result<(), LineError> {
        let (needs, found) = (self.columns.width(), record.len());
        if found < needs {
            return Err(LineError::Short { needs, found });
        }
        let Some(most) = self.columns.named() else { return Ok(()) };
        // Some programs end every line except the header with a separator.
        let is_last_empty = || record.get(most).is_some_and(|last| last.trim_ascii().is_empty());
        if found > most && !(found.checked_sub(1) == Some(most) && is_last_empty()) {
            return Err(LineError::Wide { most, found });
        }
        Ok(())
    }

    /// The value of a column, if the record has one.
    fn optional<'a>(&self, record: &'a ByteRecord, column: Option<usize>) -> Option<&'a [u8]> {
        let value = record.get(column?)?.trim_ascii();
        let is_unset = value.is_empty() || value == b"-" || value == self.unset.as_slice();
        (!is_unset).then_some(value)
    }
}

/// The flags of the answer to the first packet of a TCP connection.
const SYN_ACK: u32 = 0x12;

impl Style {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "AWS VPC flow log",
            Self::Zeek => "Zeek conn.log",
            Self::Table => "table",
        }
    }
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether two records have the same values, ignoring blanks around them.
fn is_same(one: &ByteRecord, other: &ByteRecord) -> bool {
    let mut both = one.iter().zip(other);
    one.len() == other.len() && both.all(|(one, other)| one.trim_ascii() == other.trim_ascii())
}

fn is_aws(names: &[String]) -> bool {
    ["srcaddr", "dstaddr", "protocol"].iter().all(|name| names.iter().any(|it| it == name))
}

fn is_zeek(first: &[u8]) -> bool {
    leading(first).any(|line| line.starts_with(b"#separator") || line.starts_with(b"#fields"))
}

/// The comments at the beginning of a text, without the blank lines between them.
fn leading(first: &[u8]) -> impl Iterator<Item = &[u8]> {
    let filled = lines(first).filter(|line| !line.trim_ascii().is_empty());
    filled.take_while(|line| is_comment(line))
}

/// Whether a line is a comment, or a header that begins like one.
fn is_comment(line: &[u8]) -> bool {
    line.starts_with(b"#")
}

/// A line at the beginning of a file.
#[derive(Debug, Clone, Copy, Default)]
struct NumberedLine<'a> {
    text: &'a [u8],
    /// The number of lines ahead of it.
    before: u64,
}

/// The lines at the beginning of a file that can hold the names or the first record.
#[derive(Debug, Default)]
struct Beginning<'a> {
    first_comment: Option<NumberedLine<'a>>,
    /// The comment closest to the first line that is not a comment.
    last_comment: Option<NumberedLine<'a>>,
    /// The first line that is neither blank nor a comment; empty if there is no such line.
    first: NumberedLine<'a>,
}

impl<'a> Beginning<'a> {
    fn of(first: &'a [u8]) -> Self {
        let mut beginning = Self::default();
        for (text, before) in lines(first).zip(0..) {
            let line = NumberedLine { text, before };
            if is_comment(text) {
                beginning.first_comment.get_or_insert(line);
                beginning.last_comment = Some(line);
            } else if !text.trim_ascii().is_empty() {
                beginning.first = line;
                break;
            }
        }
        beginning
    }
}

fn zeek_columns(record: &ByteRecord, mapping: Option<&Mapping>) -> Result<Columns, LayoutError> {
    let header: ByteRecord = record.iter().skip(1).collect();
    if let Some(mapping) = mapping {
        return mapping.columns(&header);
    }
    let names: Vec<String> = header.iter().map(normal).collect();
    Columns::by_names(&names, false)
}

/// `\x09`, or the byte itself.
fn zeek_separator(text: &[u8]) -> Result<u8, LayoutError> {
    let byte = match text {
        [] => Some(b'\t'),
        [byte] => Some(*byte),
        [b'\\', b'x', digits @ ..] if digits.len() == 2 => {
            std::str::from_utf8(digits).ok().and_then(|it| u8::from_str_radix(it, 16).ok())
        }
        _ => None,
    };
    // A line end cannot be a separator.
    byte.filter(|byte| !matches!(byte, b'\n' | b'\r')).ok_or(LayoutError::Separator)
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A line without its line end, LF or CRLF.
fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The lines of a text, without their line ends and without a byte order mark.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    text.split(|byte| *byte == b'\n').map(without_end)
}

/// The first line that is not blank.
pub(crate) fn first_line(text: &[u8]) -> &[u8] {
    lines(text).find(|line| !line.trim_ascii().is_empty()).unwrap_or_default()
}
