//! Reading a flow log, record by record.

use std::io::{self, Read};

use csv::{ByteRecord, ReaderBuilder, Terminator};
use fireflow_domain::time::Instant;

use super::{Flow, FlowLog};
use crate::error::LineError;

/// The longest record, in bytes, give or take what is read at once.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// How much is read at once, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRecord {
    /// The line that it begins on, the first being 1.
    pub line: u64,
    /// What it says.
    pub flow: Result<Flow, LineError>,
}

/// The records of a flow log, without headers and comments. Goes on behind a bad record; an error
/// of reading ends it.
#[derive(Debug)]
pub struct FlowReader<R> {
    reader: csv::Reader<Bounded<R>>,
    log: FlowLog,
    now: Instant,
    record: ByteRecord,
    is_done: bool,
}

impl<R: Read> FlowReader<R> {
    /// Reads from the beginning of a file. `now` is the time of packets whose records have none.
    pub fn new(reader: R, log: FlowLog, now: Instant) -> Self {
        let settings = settings(log.separator, log.has_quotes());
        let reader = settings.from_reader(Bounded::new(reader));
        Self { reader, log, now, record: ByteRecord::new(), is_done: false }
    }

    /// The line that the record begins on. The reader knows the one that it ends on; blank lines
    /// before it and lines within it have been counted.
    fn line(&self) -> u64 {
        let within = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count();
        // A value whose quote is never closed has the last line end within it.
        let own = u64::from(!self.reader.get_ref().is_at_end);
        let within = u64::try_from(within).unwrap_or(u64::MAX).saturating_add(own);
        self.reader.position().line().saturating_sub(within)
    }

    fn end(&mut self, error: LineError) -> FlowRecord {
        self.is_done = true;
        FlowRecord { line: self.line(), flow: Err(error) }
    }
}

impl<R: Read> Iterator for FlowReader<R> {
    type Item = io::Result<FlowRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            match self.reader.read_byte_record(&mut self.record) {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) if self.reader.get_ref().is_too_long() => {
                    self.is_done = true;
                    let line = self.record.position().map_or(0, csv::Position::line);
                    return Some(Ok(FlowRecord { line, flow: Err(LineError::TooLong) }));
                }
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(match error.into_kind() {
                        csv::ErrorKind::Io(error) => error,
                        other => io::Error::other(format!("{other:?}")),
                    }));
                }
            }
            self.reader.get_mut().in_record = 0;
            let is_blank = self.record.len() == 1
                && self.record.get(0).is_some_and(|it| it.trim_ascii().is_empty());
            if is_blank {
                continue;
            }
            match self.log.take_header(&self.record) {
                Ok(true) => {}
                Ok(false) => {
                    let flow = self.log.read(&self.record, self.now);
                    return Some(Ok(FlowRecord { line: self.line(), flow }));
                }
                // What is behind it would be read by the wrong columns.
                Err(error) => return Some(Ok(self.end(error.into()))),
            }
        }
        self.is_done = true;
        None
    }
}

/// How records are split. A line ends with LF; a CR before it is trimmed with the value, since with
/// both as one end the lines would be counted late.
pub(super) fn settings(separator: u8, has_quotes: bool) -> ReaderBuilder {
    let mut settings = ReaderBuilder::new();
    settings
        .delimiter(separator)
        .quoting(has_quotes)
        .terminator(Terminator::Any(b'\n'))
        .has_headers(false)
        .flexible(true)
        .buffer_capacity(BUFFER_BYTES);
    settings
}

/// Ends a record that does not end by itself, and the last line, where it has no end.
#[derive(Debug)]
struct Bounded<R> {
    input: R,
    /// How many bytes were read since the last record began.
    in_record: usize,
    is_within_line: bool,
    is_at_end: bool,
}

impl<R> Bounded<R> {
    fn new(input: R) -> Self {
        Self { input, in_record: 0, is_within_line: false, is_at_end: false }
    }

    fn is_too_long(&self) -> bool {
        self.in_record > MAX_RECORD_BYTES
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_too_long() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let count = self.input.read(buffer)?;
        self.in_record = self.in_record.saturating_add(count);
        if let Some(last) = count.checked_sub(1).and_then(|last| buffer.get(last)) {
            self.is_within_line = *last != b'\n';
        } else if let Some(first) = buffer.first_mut()
            && self.is_within_line
        {
            self.is_within_line = false;
            *first = b'\n';
            return Ok(1);
        } else {
            self.is_at_end = true;
        }
        Ok(count)
    }
}
