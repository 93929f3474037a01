//! Sequences of JSON values: one per line, over several lines, or without anything between them.

use std::fmt;

use serde_json::Value;
use serde_json::de::{Deserializer, SliceRead, StreamDeserializer};
use serde_json::value::RawValue;

use crate::json::{Parsed, parse_elements_or_object};

/// Why a text is not JSON, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {detail} at column {column}")]
pub struct JsonError {
    line: u64,
    column: usize,
    detail: String,
}

/// Iterates over values: the text of each, and the line in which it begins, counted from 1. An
/// error ends the iteration.
pub struct Values<'a> {
    bytes: &'a [u8],
    values: StreamDeserializer<'a, SliceRead<'a>, &'a RawValue>,
    /// The line of the byte at `place`.
    line: u64,
    place: usize,
}

impl fmt::Debug for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").field("line", &self.line).finish_non_exhaustive()
    }
}

/// Iterates over the values of a text.
#[must_use]
pub fn values(bytes: &[u8]) -> Values<'_> {
    Values { bytes, values: Deserializer::from_slice(bytes).into_iter(), line: 1, place: 0 }
}

impl<'a> Iterator for Values<'a> {
    type Item = Result<(u64, &'a str), JsonError>;

    fn next(&mut self) -> Option<Self::Item> {
        let value = match self.values.next()? {
            Ok(value) => value.get(),
            Err(error) => return Some(Err(placed(&error, 1))),
        };
        let start = self.values.byte_offset().saturating_sub(value.len());
        let before = self.bytes.get(self.place..start).unwrap_or_default();
        let ends = before.iter().filter(|byte| **byte == b'\n').count();
        self.line = self.line.saturating_add(ends.try_into().unwrap_or(u64::MAX));
        self.place = start;
        Some(Ok((self.line, value)))
    }
}

/// Reads the value that begins in `line`: the elements of a list or a page, or one object.
///
/// # Errors
/// Returns the errors of [`parse_elements_or_object`], with the line and column in the file.
pub fn elements(
    line: u64,
    text: &str,
    visit: &mut dyn FnMut(usize, Value),
) -> Result<Parsed, JsonError> {
    parse_elements_or_object(text.as_bytes(), visit).map_err(|error| placed(&error, line))
}

/// The lines in which the elements of a list begin, or those of the `items` of a page, or of the
/// `rules` of a policy. `text` is
/// valid JSON that begins in `line`. The lines only inform people: the reader of the elements decides
/// which elements there are.
#[must_use]
pub fn element_lines(line: u64, text: &str) -> Vec<u64> {
    let mut lines = Vec::new();
    let (mut line, mut depth) = (line, 0_usize);
    let (mut is_text, mut is_escaped) = (false, false);
    // The depth of the elements, once their list has begun.
    let mut list: Option<usize> = None;
    let mut is_element_due = false;
    // The last text, which may be the name of a member, and whether the elements are under it.
    let (mut text_start, mut is_items) = (0, false);
    for (place, byte) in text.bytes().enumerate() {
        if is_text {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => {
                    is_text = false;
                    is_items = matches!(text.get(text_start..place), Some("items" | "rules"));
                }
                _ => {}
            }
            continue;
        }
        if byte == b'\n' {
            line = line.saturating_add(1);
        }
        if byte.is_ascii_whitespace() {
            continue;
        }
        if is_element_due && byte != b']' {
            lines.push(line);
        }
        is_element_due = false;
        match byte {
            b'"' => {
                is_text = true;
                text_start = place.saturating_add(1);
            }
            b'{' => depth = depth.saturating_add(1),
            b'[' => {
                depth = depth.saturating_add(1);
                if list.is_none() && (depth == 1 || (depth == 2 && is_items)) {
                    list = Some(depth);
                    is_element_due = true;
                }
            }
            b'}' | b']' => {
                if list == Some(depth) {
                    return lines;
                }
                depth = depth.saturating_sub(1);
            }
            b',' => is_element_due = list == Some(depth),
            _ => {}
        }
    }
    lines
}

/// Converts an error of a text that begins in `line` to one with its position in the file.
fn placed(error: &serde_json::Error, line: u64) -> JsonError {
    let (behind, column) = (error.line(), error.column());
    let text = error.to_string();
    let what = text.strip_suffix(&format!(" at line {behind} column {column}")).unwrap_or(&text);
    let line = line.saturating_add(behind.saturating_sub(1).try_into().unwrap_or(u64::MAX));
    JsonError { line, column, detail: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the values of a text. An error is returned as its line.
    fn read(text: &str) -> Vec<Result<(u64, &str), usize>> {
        let line = |error: JsonError| {
            let text = error.to_string();
            let (line, _) = text.strip_prefix("line ").unwrap().split_once(':').unwrap();
            line.parse().unwrap()
        };
        values(text.as_bytes()).map(|it| it.map_err(line)).collect()
    }

    #[test]
    fn each_is_told_with_the_line_in_which_it_begins() {
        assert_eq!(read(""), []);
        assert_eq!(read(" \n\n"), []);
        assert_eq!(read("{}"), [Ok((1, "{}"))]);
        assert_eq!(
            read("\n[1,\n2]{\"a\":\n3} \r\n\n [\n]"),
            [Ok((2, "[1,\n2]")), Ok((3, "{\"a\":\n3}")), Ok((6, "[\n]"))]
        );
    }

    #[test]
    fn elements_of_lists_and_pages_are_found_in_their_lines() {
        let lines = |text| element_lines(7, text);
        let none: Vec<u64> = Vec::new();
        assert_eq!(lines("[]"), none);
        assert_eq!(lines("[1, 2]"), [7, 7]);
        assert_eq!(lines("[\n{\"a\": [1,\n2]},\n\n{\"b\": \"],[\\\"\"}\n]"), [8, 11]);
        let page = "{\"total\": 2,\n\"links\": [\n1],\"items\": [\n{},\n{\"items\": [1]}\n]}";
        assert_eq!(lines(page), [10, 11]);
        assert_eq!(lines("{\"a\": {\"items\": [\n1]}}"), none);
        assert_eq!(lines("{\n}"), none);
    }

    #[test]
    fn what_is_no_json_ends_them() {
        assert_eq!(read("{}\n{\"a\" 1}\n{}"), [Ok((1, "{}")), Err(2)]);
        assert_eq!(read("{}\n{\"a\": "), [Ok((1, "{}")), Err(2)]);
        let deep = "[".repeat(100_000);
        assert_eq!(read(&deep), [Err(1)]);
    }
}
