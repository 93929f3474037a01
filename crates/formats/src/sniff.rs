//! Detects the format of a file by its content.

use crate::benchmark::is_packet_shaped;
use crate::flow_log::{FlowLog, LayoutError, first_line};

/// A format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// JSON arrays, or objects that span several lines. There may be several values, one after the
    /// other. An object whose line exceeds the part that is read ahead is also of this kind, since
    /// its end is not known.
    Json,
    /// One JSON object per line. A file with a single object on one line is also of this kind.
    NdJson,
    /// Rules as [`benchmark::rule`](crate::benchmark::rule) reads them.
    BenchmarkRules,
    /// Packets as [`benchmark::packet`](crate::benchmark::packet) reads them.
    BenchmarkPackets,
    /// A flow log.
    FlowLog(Box<FlowLog>),
}

/// Why the format of a file cannot be detected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownFormat {
    /// The file has no content.
    #[error("the file is empty")]
    Empty,
    /// The content is in no known format.
    #[error(
        "the file begins with `{start}`, which is not a known format; known formats are JSON, one \
         JSON object per line, ClassBench's rules (`@10.0.0.0/8 …`) or packets (five or six \
         decimals), an AWS VPC flow log, Zeek's conn.log, and a table whose header names the \
         addresses and the protocol"
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
pub fn sniff(first: &[u8]) -> Result<Kind, UnknownFormat> {
    let line = first_line(first);
    let text = line.trim_ascii();
    match text {
        [] => return Err(UnknownFormat::Empty),
        [b'[', ..] => return Ok(Kind::Json),
        [b'{', ..] => {
            return Ok(if has_whole_object(text) { Kind::NdJson } else { Kind::Json });
        }
        // The names of a header can also begin with `@`, as in `@timestamp`.
        [b'@', b'0'..=b'9', ..] => return Ok(Kind::BenchmarkRules),
        _ if is_packet_shaped(text) => return Ok(Kind::BenchmarkPackets),
        _ => {}
    }
    match FlowLog::detect(first)? {
        Some(log) => Ok(Kind::FlowLog(Box::new(log))),
        None => Err(UnknownFormat::Unknown { start: start(text) }),
    }
}

/// Whether the object at the beginning of a line ends on that line.
fn has_whole_object(line: &[u8]) -> bool {
    let mut depth = 0_usize;
    let mut is_text = false;
    let mut is_escaped = false;
    for byte in line {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
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

    fn told(text: &str) -> Kind {
        sniff(text.as_bytes()).unwrap()
    }

    fn style(text: &str) -> Style {
        match told(text) {
            Kind::FlowLog(log) => log.style(),
            other => panic!("{text}: {other:?}"),
        }
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
            assert_eq!(told(text), Kind::Json, "{text}");
        }
        for text in [
            "{\"a\":{\"b\":[1]}}\n{\"a\":2}\n",
            "{\"a\":\"\\\"{\"}",
            "\u{feff}\n{} {}",
            "{\"a\":1}\n\n{\"a\":2}",
        ] {
            assert_eq!(told(text), Kind::NdJson, "{text}");
        }
    }

    #[test]
    fn benchmarks_are_told_by_their_first_line() {
        let rule = "@1.2.3.4/32\t5.6.7.8/32\t0 : 65535\t0 : 65535\t0x06/0xFF\t0x0000/0x0000\t\n";
        assert_eq!(told(rule), Kind::BenchmarkRules);
        assert_eq!(told("3697822801\t1540835327\t65535\t0\t1\t-1\n"), Kind::BenchmarkPackets);
        assert_eq!(told("1 2 3 4 5"), Kind::BenchmarkPackets);
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
            assert_eq!(style(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_unknown_is_refused_with_its_beginning() {
        assert_eq!(sniff(b" \r\n\n"), Err(UnknownFormat::Empty));
        let error = sniff(b"-P INPUT ACCEPT\n").unwrap_err().to_string();
        assert!(error.starts_with("the file begins with `-P INPUT ACCEPT`, which is"), "{error}");
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
