//! Splits a line at its separators.

use csv::ByteRecord;

use crate::error::LineError;

/// Splits a line without its line end, as the `csv` crate does. A value that begins with a quote
/// ends with one, and a doubled quote inside it is a literal quote. Elsewhere a quote is an
/// ordinary character. Unlike in the `csv` crate, a value never continues on the next line: one
/// stray quote would swallow the records after it unnoticed.
///
/// # Errors
/// Returns [`LineError::OpenQuote`] if a quote is not closed. The record then holds the values so
/// far.
pub(super) fn split_into(
    record: &mut ByteRecord,
    line: &[u8],
    separator: u8,
    has_quotes: bool,
) -> Result<(), LineError> {
    record.clear();
    if !has_quotes || !line.contains(&b'"') {
        for value in line.split(|byte| *byte == separator) {
            record.push_field(value);
        }
        return Ok(());
    }
    let mut rest = line;
    let mut value = Vec::new();
    loop {
        value.clear();
        if let [b'"', within @ ..] = rest {
            rest = within;
            loop {
                let Some((text, behind)) = split_once(rest, b'"') else {
                    value.extend_from_slice(rest);
                    record.push_field(&value);
                    return Err(LineError::OpenQuote);
                };
                value.extend_from_slice(text);
                rest = behind;
                let [b'"', more @ ..] = rest else { break };
                value.push(b'"');
                rest = more;
            }
        }
        let Some((text, behind)) = split_once(rest, separator) else {
            value.extend_from_slice(rest);
            record.push_field(&value);
            return Ok(());
        };
        value.extend_from_slice(text);
        record.push_field(&value);
        rest = behind;
    }
}

/// The text ahead of the first occurrence of a byte, and the text after it.
fn split_once(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().position(|it| *it == byte)?;
    Some((text.get(..place)?, text.get(place.saturating_add(1)..)?))
}

/// Splits a line that may hold names. An empty line has no columns.
pub(super) fn split(line: &[u8], separator: u8) -> ByteRecord {
    let mut record = ByteRecord::new();
    if !line.is_empty() {
        // An open quote is reported when the line is read as a record.
        let _is_closed = split_into(&mut record, line, separator, separator != b' ').is_ok();
    }
    record
}

pub(super) fn split_plainly(line: &[u8], separator: u8) -> ByteRecord {
    line.split(|byte| *byte == separator).collect()
}

#[cfg(test)]
mod tests {
    use csv::{ReaderBuilder, Terminator};
    use proptest::prelude::*;

    use super::*;

    fn values(line: &str) -> Result<Vec<String>, LineError> {
        let mut record = ByteRecord::new();
        split_into(&mut record, line.as_bytes(), b',', true)?;
        Ok(record.iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect())
    }

    #[test]
    fn values_may_stand_in_quotes_that_are_closed() {
        for (line, expected) in [
            ("a,b", vec!["a", "b"]),
            (",", vec!["", ""]),
            ("\"a,b\",c", vec!["a,b", "c"]),
            ("\"a\"\"b\",\"\",\"\"\"\"", vec!["a\"b", "", "\""]),
            ("a\"b,\"c\"d\"", vec!["a\"b", "cd\""]),
        ] {
            assert_eq!(values(line).unwrap(), expected, "{line}");
        }
        for line in ["\"", "a,\"b", "\"a\"\"", "\"a,b,c", "\"a\",\"b\"\",c"] {
            assert_eq!(values(line), Err(LineError::OpenQuote), "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_line_is_split_as_csv_does(line in "[ab,\"; ]{1,20}", has_quotes: bool) {
            let mut record = ByteRecord::new();
            let is_closed = split_into(&mut record, line.as_bytes(), b',', has_quotes).is_ok();
            let mut theirs = ByteRecord::new();
            // If the last value ends with the line feed, a quote was still open.
            let text = format!("{line}\n");
            ReaderBuilder::new()
                .quoting(has_quotes)
                .terminator(Terminator::Any(b'\n'))
                .has_headers(false)
                .flexible(true)
                .from_reader(text.as_bytes())
                .read_byte_record(&mut theirs)
                .unwrap();
            prop_assert_eq!(is_closed, !theirs.as_slice().ends_with(b"\n"));
            if is_closed {
                prop_assert_eq!(record, theirs);
            }
        }
    }
}
