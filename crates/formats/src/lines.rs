//! Reading line by line in bounded memory.

use std::io::{self, BufRead, Read};

/// How a line was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LineRead {
    /// All of it, with its line feed, unless it is the last one and has none.
    Whole,
    /// Its beginning: it is longer than what was asked for, and the rest of it was passed over.
    TooLong,
    /// Nothing: all lines have been read.
    End,
}

/// Reads the next line into `line`, in place of what was there: as a whole, or, where it has more
/// than `max` bytes before its line feed, its first `max` bytes. Reads up to its end either way, so
/// that the next call reads the next line. A line that is too long costs time, but no memory:
/// `BufRead::read_until` would keep a file without line feeds as a whole.
///
/// # Errors
/// Where the reader has one, those aside that say to try again.
pub fn read_line<R: BufRead + ?Sized>(
    reader: &mut R,
    line: &mut Vec<u8>,
    max: usize,
) -> io::Result<LineRead> {
    line.clear();
    // With room for the line feed.
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    if Read::take(&mut *reader, limit).read_until(b'\n', line)? == 0 {
        return Ok(LineRead::End);
    }
    if line.len() <= max || line.ends_with(b"\n") {
        return Ok(LineRead::Whole);
    }
    line.truncate(max);
    reader.skip_until(b'\n')?;
    Ok(LineRead::TooLong)
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn all(text: &str, max: usize, buffer: usize) -> Vec<(LineRead, String)> {
        let mut reader = BufReader::with_capacity(buffer, text.as_bytes());
        let mut line = Vec::new();
        let mut all = Vec::new();
        loop {
            let read = read_line(&mut reader, &mut line, max).unwrap();
            if read == LineRead::End {
                assert!(line.is_empty());
                return all;
            }
            all.push((read, String::from_utf8(line.clone()).unwrap()));
        }
    }

    #[test]
    fn a_line_is_whole_or_cut_and_the_next_one_follows() {
        use LineRead::{TooLong, Whole};

        for buffer in [1, 2, 3, 100] {
            let lines = |text| {
                let all = all(text, 3, buffer);
                let lines: Vec<_> = all.iter().map(|(read, it)| (*read, it.as_str())).collect();
                format!("{lines:?}")
            };
            for (text, expected) in [
                ("", vec![]),
                ("\n", vec![(Whole, "\n")]),
                ("abc", vec![(Whole, "abc")]),
                ("abc\n\n", vec![(Whole, "abc\n"), (Whole, "\n")]),
                ("abcd", vec![(TooLong, "abc")]),
                ("abcd\nab\r\n", vec![(TooLong, "abc"), (Whole, "ab\r\n")]),
                ("abcdefghi\nabcd\na", vec![(TooLong, "abc"), (TooLong, "abc"), (Whole, "a")]),
            ] {
                assert_eq!(lines(text), format!("{expected:?}"), "{buffer}");
            }
        }
    }

    #[test]
    fn a_file_without_line_feeds_does_not_fill_the_memory() {
        let mut reader = BufReader::new(io::repeat(b'x').take(50_000_000));
        let mut line = Vec::new();
        assert_eq!(read_line(&mut reader, &mut line, 1000).unwrap(), LineRead::TooLong);
        assert!(line.len() == 1000 && line.capacity() < 10_000);
        assert_eq!(read_line(&mut reader, &mut line, 1000).unwrap(), LineRead::End);
    }
}
