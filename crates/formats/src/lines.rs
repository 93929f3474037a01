//! Reads lines of text in bounded memory, from a reader or from pieces that arrive one by one.

use std::io::{self, BufRead, ErrorKind};
use std::ops::ControlFlow;

/// A line without its line feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line<'a> {
    /// The whole line.
    Whole(&'a [u8]),
    /// The line exceeds the limit, so its content is not kept.
    TooLong,
}

/// The part of a line that has arrived so far, or only the fact that it exceeds the limit. A line
/// that is too long costs time, but no memory.
#[derive(Debug)]
struct LineBuffer {
    max: usize,
    bytes: Vec<u8>,
    is_too_long: bool,
}

impl LineBuffer {
    const fn new(max: usize) -> Self {
        Self { max, bytes: Vec::new(), is_too_long: false }
    }

    /// Adds the next part. Returns whether this part made the line too long.
    fn push(&mut self, part: &[u8]) -> bool {
        if self.is_too_long {
            return false;
        }
        if self.bytes.len().saturating_add(part.len()) <= self.max {
            self.bytes.extend_from_slice(part);
            return false;
        }
        self.bytes.clear();
        self.is_too_long = true;
        true
    }

    const fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.is_too_long
    }

    fn line(&self) -> Line<'_> {
        if self.is_too_long { Line::TooLong } else { Line::Whole(&self.bytes) }
    }

    /// Begins the next line.
    fn clear(&mut self) {
        self.bytes.clear();
        self.is_too_long = false;
    }
}

/// Reads the lines of a reader. `BufRead::read_until` would keep a whole file without line feeds in
/// memory.
#[derive(Debug)]
pub struct LineReader<R> {
    reader: R,
    buffer: LineBuffer,
    count: u64,
}

impl<R: BufRead> LineReader<R> {
    /// Lines of at most `max` bytes, without their line feed.
    pub const fn new(reader: R, max: usize) -> Self {
        Self { reader, buffer: LineBuffer::new(max), count: 0 }
    }

    /// How many lines were read.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the next line and its number, from 1, or `None` at the end. The last line need not
    /// have a line feed.
    ///
    /// # Errors
    /// Returns an error of the reader, except [`ErrorKind::Interrupted`], after which it retries.
    pub fn next_line(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        self.buffer.clear();
        let mut has_begun = false;
        loop {
            let piece = match self.reader.fill_buf() {
                Ok(piece) => piece,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if piece.is_empty() {
                if has_begun {
                    break;
                }
                return Ok(None);
            }
            has_begun = true;
            let end = memchr::memchr(b'\n', piece);
            let length = end.unwrap_or(piece.len());
            self.buffer.push(piece.get(..length).unwrap_or_default());
            self.reader.consume(length + usize::from(end.is_some()));
            if end.is_some() {
                break;
            }
        }
        self.count = self.count.saturating_add(1);
        Ok(Some((self.count, self.buffer.line())))
    }
}

/// Reads the lines of pieces. A line that is completely within one piece is not copied.
#[derive(Debug)]
pub struct LineSplitter {
    /// The beginning of a line whose end has not arrived yet.
    begun: LineBuffer,
    count: u64,
}

impl LineSplitter {
    /// Lines of at most `max` bytes, without their line feed.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { begun: LineBuffer::new(max), count: 0 }
    }

    /// How many lines were read.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Reads the lines that end in a piece. Calls `visit` with each line and its number, from 1,
    /// until `visit` breaks. A line that is too long is visited as soon as it exceeds the limit,
    /// before its end has arrived. Returns how many bytes of the piece were read.
    pub fn split(
        &mut self,
        piece: &[u8],
        visit: &mut impl FnMut(u64, Line<'_>) -> ControlFlow<()>,
    ) -> usize {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', piece) {
            let rest = piece.get(start..end).unwrap_or_default();
            start = end + 1;
            let next = if self.begun.is_empty() {
                self.count += 1;
                let is_short = rest.len() <= self.begun.max;
                visit(self.count, if is_short { Line::Whole(rest) } else { Line::TooLong })
            } else {
                // The line ends here, even if its beginning was already too long.
                let begun = self.begin(rest, visit);
                let ended = self.end(visit);
                if begun.is_break() { begun } else { ended }
            };
            if next.is_break() {
                return start;
            }
        }
        let _last = self.begin(piece.get(start..).unwrap_or_default(), visit);
        piece.len()
    }

    /// Reads the last line, if no line feed follows it.
    pub fn end(
        &mut self,
        visit: &mut impl FnMut(u64, Line<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let next = match self.begun.line() {
            // A line that is too long has already been visited.
            Line::TooLong | Line::Whole([]) => ControlFlow::Continue(()),
            line @ Line::Whole(_) => {
                self.count += 1;
                visit(self.count, line)
            }
        };
        self.begun.clear();
        next
    }

    /// Stores the beginning of a line.
    fn begin(
        &mut self,
        part: &[u8],
        visit: &mut impl FnMut(u64, Line<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.begun.push(part) {
            self.count += 1;
            visit(self.count, Line::TooLong)
        } else {
            ControlFlow::Continue(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use super::*;

    /// Converts a line for comparison: `None` if it is too long.
    fn owned(line: Line<'_>) -> Option<String> {
        match line {
            Line::Whole(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
            Line::TooLong => None,
        }
    }

    fn of_reader(text: &str, max: usize, buffer: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = LineReader::new(BufReader::with_capacity(buffer, text.as_bytes()), max);
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next_line().unwrap() {
            all.push((number, owned(line)));
        }
        assert_eq!(lines.count(), all.len() as u64);
        all
    }

    fn of_pieces(text: &str, max: usize, length: usize) -> Vec<(u64, Option<String>)> {
        let mut lines = LineSplitter::new(max);
        let mut all = Vec::new();
        let mut visit = |number, line: Line<'_>| {
            all.push((number, owned(line)));
            ControlFlow::Continue(())
        };
        for piece in text.as_bytes().chunks(length) {
            assert_eq!(lines.split(piece, &mut visit), piece.len());
        }
        assert!(lines.end(&mut visit).is_continue());
        assert_eq!(lines.count(), all.len() as u64);
        all
    }

    #[test]
    fn a_line_is_whole_or_too_long_and_the_next_one_follows() {
        for (text, expected) in [
            ("", vec![]),
            ("\n", vec![Some("")]),
            ("abc", vec![Some("abc")]),
            ("abc\n\n", vec![Some("abc"), Some("")]),
            ("\n\na", vec![Some(""), Some(""), Some("a")]),
            ("abcd", vec![None]),
            ("abcd\nab\r\n", vec![None, Some("ab\r")]),
            ("abcdefghi\nabcd\na", vec![None, None, Some("a")]),
        ] {
            let expected: Vec<(u64, Option<String>)> =
                (1..).zip(expected.into_iter().map(|it| it.map(str::to_owned))).collect();
            for length in [1, 2, 3, 100] {
                assert_eq!(of_reader(text, 3, length), expected, "{text:?} {length}");
                assert_eq!(of_pieces(text, 3, length), expected, "{text:?} {length}");
            }
        }
    }

    #[test]
    fn pieces_are_read_until_no_more_lines_are_wanted() {
        let mut lines = LineSplitter::new(3);
        let mut seen = Vec::new();
        let mut stop = |number, line: Line<'_>| {
            seen.push((number, owned(line)));
            ControlFlow::Break(())
        };
        // The rest of a line that began in an earlier piece ends the reading too.
        assert_eq!(lines.split(b"a", &mut stop), 1);
        assert_eq!(lines.split(b"b\nc\n", &mut stop), 2);
        assert_eq!(lines.split(b"c\nd", &mut stop), 2);
        assert_eq!(lines.split(b"abcd", &mut stop), 4, "it is too long, and its rest follows");
        let expected = [(1, Some("ab")), (2, Some("c")), (3, None)];
        assert_eq!(seen, expected.map(|(number, line)| (number, line.map(str::to_owned))));
    }

    #[test]
    fn a_file_without_line_feeds_does_not_fill_the_memory() {
        let mut lines = LineReader::new(BufReader::new(io::repeat(b'x').take(50_000_000)), 1000);
        assert_eq!(lines.next_line().unwrap(), Some((1, Line::TooLong)));
        assert!(lines.buffer.bytes.capacity() < 10_000);
        assert_eq!(lines.next_line().unwrap(), None);
    }
}
