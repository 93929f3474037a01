//! Reads a flow log, line by line.

use std::io::{self, BufRead};

use csv::ByteRecord;
use fireflow_domain::time::Instant;

use super::split::split_into;
use super::{BYTE_ORDER_MARK, Flow, FlowLog, without_end};
use crate::error::LineError;
use crate::lines::{Line, LineReader};

/// The longest record, in bytes without its line feed.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// One record of a flow log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRecord {
    /// Its line number, counted from 1.
    pub line: u64,
    /// Its content.
    pub flow: Result<Flow, LineError>,
}

/// Iterates over the records of a flow log, without headers, comments and blank lines. A record is
/// one line. A fault in a line is an error of that line alone, and the next line is read
/// independently. Only two errors end the iteration: a later header with unusable columns
/// ([`LineError::Layout`]) and an error of the reader.
#[derive(Debug)]
pub struct FlowReader<R> {
    lines: LineReader<R>,
    log: FlowLog,
    now: Instant,
    record: ByteRecord,
    is_done: bool,
}

impl<R: BufRead> FlowReader<R> {
    /// Reads from the beginning of a file. `now` is the time of packets whose records have no time.
    pub fn new(input: R, log: FlowLog, now: Instant) -> Self {
        Self {
            lines: LineReader::new(input, MAX_RECORD_BYTES),
            log,
            now,
            record: ByteRecord::new(),
            is_done: false,
        }
    }

    /// Reads the next line, whatever it is. None: there is no more.
    fn read_line(&mut self) -> io::Result<Option<FlowLine>> {
        let (number, line) = match self.lines.next_line()? {
            None => return Ok(None),
            Some((_, Line::TooLong)) => {
                return Ok(Some(FlowLine::Record(Err(LineError::TooLong))));
            }
            Some((number, Line::Whole(line))) => (number, line),
        };
        let mut line = without_end(line);
        if number == 1 {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.trim_ascii().is_empty() || self.log.is_comment(line, number) {
            return Ok(Some(FlowLine::Other));
        }
        let (separator, has_quotes) = (self.log.separator, self.log.has_quotes());
        if let Err(error) = split_into(&mut self.record, line, separator, has_quotes) {
            return Ok(Some(FlowLine::Record(Err(error))));
        }
        Ok(Some(match self.log.take_header(&self.record) {
            Ok(true) => FlowLine::Other,
            Ok(false) => FlowLine::Record(self.log.read(&self.record, self.now)),
            Err(error) => {
                // The records after it would be read with the wrong columns.
                self.is_done = true;
                FlowLine::Record(Err(error.into()))
            }
        }))
    }
}

/// What a line is.
enum FlowLine {
    Record(Result<Flow, LineError>),
    /// A blank line, a header or a comment.
    Other,
}

impl<R: BufRead> Iterator for FlowReader<R> {
    type Item = io::Result<FlowRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            match self.read_line() {
                Ok(Some(FlowLine::Record(flow))) => {
                    return Some(Ok(FlowRecord { line: self.lines.count(), flow }));
                }
                Ok(Some(FlowLine::Other)) => {}
                Ok(None) => self.is_done = true,
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}
