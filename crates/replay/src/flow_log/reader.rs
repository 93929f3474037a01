//! Reads a flow log, line by line.

use std::io::{self, BufRead};

use csv::ByteRecord;
use fireflow_domain::time::Instant;

use super::split::split_into;
use super::{BYTE_ORDER_MARK, Flow, FlowLog, without_end};
use crate::error::LineError;
use crate::lines::{LineRead, read_line};

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
    input: R,
    log: FlowLog,
    now: Instant,
    /// The number of lines read so far.
    number: u64,
    line: Vec<u8>,
    record: ByteRecord,
    is_done: bool,
}

impl<R: BufRead> FlowReader<R> {
    /// Reads from the beginning of a file. `now` is the time of packets whose records have no time.
    pub fn new(input: R, log: FlowLog, now: Instant) -> Self {
        Self {
            input,
            log,
            now,
            number: 0,
            line: Vec::new(),
            record: ByteRecord::new(),
            is_done: false,
        }
    }

    /// Reads the next line of any kind; none at the end of the file.
    fn read_line(&mut self) -> io::Result<Option<Line>> {
        let read = read_line(&mut self.input, &mut self.line, MAX_RECORD_BYTES)?;
        if read == LineRead::End {
            return Ok(None);
        }
        self.number = self.number.saturating_add(1);
        if read == LineRead::TooLong {
            return Ok(Some(Line::Record(Err(LineError::TooLong))));
        }
        let mut line = without_end(&self.line);
        if self.number == 1 {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if line.trim_ascii().is_empty() || self.log.is_comment(line, self.number) {
            return Ok(Some(Line::Other));
        }
        let (separator, has_quotes) = (self.log.separator, self.log.has_quotes());
        if let Err(error) = split_into(&mut self.record, line, separator, has_quotes) {
            return Ok(Some(Line::Record(Err(error))));
        }
        Ok(Some(match self.log.take_header(&self.record) {
            Ok(true) => Line::Other,
            Ok(false) => Line::Record(self.log.read(&self.record, self.now)),
            Err(error) => {
                // The records after it would be read with the wrong columns.
                self.is_done = true;
                Line::Record(Err(error.into()))
            }
        }))
    }
}

/// The content of a line.
enum Line {
    Record(Result<Flow, LineError>),
    /// A blank line, a header or a comment.
    Other,
}

impl<R: BufRead> Iterator for FlowReader<R> {
    type Item = io::Result<FlowRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            match self.read_line() {
                Ok(Some(Line::Record(flow))) => {
                    return Some(Ok(FlowRecord { line: self.number, flow }));
                }
                Ok(Some(Line::Other)) => {}
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
