//! Detects the format of a file by its content.

use crate::flow_log::{LayoutError, first_line};
use crate::format::{FileReader, Format};
use crate::{benchmark_files, flow_log_files, json_files};

/// All formats of files. The first that recognizes a file reads it.
pub const FORMATS: [&Format; 3] =
    [&json_files::FORMAT, &benchmark_files::FORMAT, &flow_log_files::FORMAT];

/// Why the format of a file cannot be detected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownFormat {
    /// The file has no content.
    #[error("the file is empty")]
    Empty,
    /// The content is in no known format.
    #[error(
        "the file begins with `{start}`, which is not a known format; known formats are {}",
        listed("and", |format| format.names)
    )]
    Unknown {
        /// The beginning of its first line, escaped and shortened.
        start: String,
    },
    /// The file is a flow log that lacks a required column.
    #[error(transparent)]
    FlowLog(#[from] LayoutError),
}

/// Detects a format by the beginning of a file, which must include the whole first line that is not
/// a comment, as [`Source::first`](crate::Source::first) does. Blank lines and a byte order mark
/// ahead of it are ignored.
///
/// # Errors
/// Returns [`UnknownFormat`] if the file is empty or in no known format, or if it is a flow log
/// that lacks a required column.
pub fn sniff(first: &[u8]) -> Result<Box<dyn FileReader>, UnknownFormat> {
    let text = first_line(first).trim_ascii();
    if text.is_empty() {
        return Err(UnknownFormat::Empty);
    }
    for format in FORMATS {
        if let Some(reader) = (format.recognize)(first)? {
            return Ok(reader);
        }
    }
    Err(UnknownFormat::Unknown { start: start(text) })
}

/// The names that all formats have for something: `a, b, and c`.
#[must_use]
pub fn listed(and: &str, names: fn(&Format) -> &'static [&'static str]) -> String {
    let names: Vec<&str> = FORMATS.into_iter().flat_map(names).copied().collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, others)) => format!("{}, {and} {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The beginning of a line, escaped, with at most 60 characters.
fn start(line: &[u8]) -> String {
    const MAX_CHARS: usize = 60;
    let line = String::from_utf8_lossy(line.get(..MAX_CHARS * 4).unwrap_or(line));
    let mut start = String::new();
    for char in line.chars() {
        let escaped = char.escape_debug();
        if start.chars().count() + escaped.len() > MAX_CHARS - 1 {
            start.push('…');
            break;
        }
        start.extend(escaped);
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_log::Style;

    fn told(text: &str) -> &'static str {
        sniff(text.as_bytes()).unwrap().name()
    }

    #[test]
    fn json_is_told_from_an_object_a_line() {
        for text in [
            "[]",
            " \n [{\"a\":1}]",
            "{\n \"a\": 1}",
            "{\"a\": \"}\",\n\"b\":1}",
            "{",
            "\u{feff}[1]",
            &format!("{{\"a\": \"{}", "x".repeat(64 * 1024)),
        ] {
            assert_eq!(told(text), "JSON", "{text}");
        }
        for text in [
            "{\"a\":{\"b\":[1]}}\n{\"a\":2}\n",
            "{\"a\":\"\\\"{\"}",
            "\u{feff}\n{} {}",
            "{\"a\":1}\n\n{\"a\":2}",
        ] {
            assert_eq!(told(text), "NDJSON", "{text}");
        }
    }

    #[test]
    fn benchmarks_are_told_by_their_first_line() {
        let rule = "@1.2.3.4/32\t5.6.7.8/32\t0 : 65535\t0 : 65535\t0x06/0xFF\t0x0000/0x0000\t\n";
        assert_eq!(told(rule), "ClassBench rules");
        assert_eq!(told("3697822801\t1540835327\t65535\t0\t1\t-1\n"), "ClassBench packets");
        assert_eq!(told("1 2 3 4 5"), "ClassBench packets");
    }

    #[test]
    fn flow_logs_are_told_by_their_names() {
        for (text, expected) in [
            ("#separator \\x09\n#fields\tid.orig_h\tid.resp_h\tproto\n", Style::Zeek),
            ("#fields\tid.orig_h\tid.resp_h\tproto\n", Style::Zeek),
            ("version account-id interface-id srcaddr dstaddr protocol\n", Style::Aws),
            ("version,srcaddr,dstaddr,protocol\n", Style::Aws),
            ("2 1 eni-1 10.0.0.1 10.0.0.2 1 2 6 1 1 1 1 ACCEPT OK\n", Style::Aws),
            ("2024-01-01T00:00:00.000Z 2 1 eni-1 - - - - - - - 1 1 - NODATA\n", Style::Aws),
            ("@timestamp,Source IP,Destination IP,Proto\n", Style::Table),
            ("src;dst;proto\n", Style::Table),
            ("\"src_ip\",\"dst_ip\",\"protocol\"\r\n", Style::Table),
            ("source.ip\tdestination.ip\tnetwork.transport", Style::Table),
        ] {
            assert_eq!(told(text), expected.as_str(), "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused_with_its_beginning() {
        assert_eq!(sniff(b" \r\n\n").unwrap_err(), UnknownFormat::Empty);
        let error = sniff(b"-P INPUT ACCEPT\n").unwrap_err().to_string();
        let expected = "the file begins with `-P INPUT ACCEPT`, which is not a known format; known \
                        formats are JSON, one JSON object per line, ClassBench's rules \
                        (`@10.0.0.0/8 …`) or packets (five or six decimals), an AWS VPC flow log, \
                        Zeek's conn.log, and a table whose header names the addresses and the \
                        protocol";
        assert_eq!(error, expected);
        let Err(UnknownFormat::Unknown { start }) = sniff("\0ä\u{1b}".repeat(999).as_bytes())
        else {
            panic!("it is known");
        };
        assert!(start.starts_with("\\0ä\\u{1b}") && start.ends_with('…'), "{start}");
        assert!(start.chars().count() <= 60);
        let pcap = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
        assert!(matches!(sniff(&pcap), Err(UnknownFormat::Unknown { .. })));
    }

    #[test]
    fn every_name_of_a_reader_has_a_sample() {
        let all = FORMATS.into_iter().flat_map(|format| format.samples);
        let names: std::collections::BTreeSet<&str> = all.map(|sample| sample.name).collect();
        let expected = [
            "AWS VPC flow log",
            "ClassBench packets",
            "ClassBench rules",
            "JSON",
            "NDJSON",
            "Zeek conn.log",
            "table",
        ];
        assert_eq!(names.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_flow_log_that_lacks_a_column_is_refused_with_its_name() {
        for (text, expected) in [
            ("src_ip,dst_ip,bytes\n", "for the protocol"),
            ("#fields\tts\tid.orig_h\tproto\n", "for the destination address"),
            ("#separator \\x09\n#path\tconn\n", "must begin with the names"),
            ("#separator ab\n", "`#separator` must name one byte"),
        ] {
            let error = sniff(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
