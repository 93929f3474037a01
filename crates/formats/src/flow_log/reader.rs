//! Reading a flow log, line by line.

use std::io::{self, BufRead};

use csv::ByteRecord;
use fireflow_domain::time::Instant;

use super::split::split_into;
use super::{BYTE_ORDER_MARK, Flow, FlowLog, without_end};
use crate::error::LineError;
use crate::lines::{Line, LineReader};

/// The longest record, in bytes without its line feed.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRecord {
    /// Its line, the first being 1.
    pub line: u64,
    /// What it says.
    pub flow: Result<Flow, LineError>,
}

/// The records of a flow log, without headers, comments and blank lines. A record is a line: what
/// is wrong with one is an error of it alone, and the next line is read for itself. Only columns
/// that change for the worse within a file ([`LineError::Layout`]) and errors of reading end it.
#[derive(Debug)]
pub struct FlowReader<R> {
    lines: LineReader<R>,
    log: FlowLog,
    now: Instant,
    record: ByteRecord,
    is_done: bool,
}

impl<R: BufRead> FlowReader<R> {
    /// Reads from the beginning of a file. `now` is the time of packets whose records have none.
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
                // What is behind it would be read by the wrong columns.
                self.is_done = true;
                FlowLine::Record(Err(error.into()))
            }
        }))
    }
}

/// What a line is.
enum FlowLine {
    Record(Result<Flow, LineError>),
    /// Nothing, names or a comment.
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
