//! Log lines as JSON: one object each, written directly from the event. The library's own formatter
//! uses a serialiser and a string for each value, which took a tenth of the time of a small
//! request.

use std::fmt::{self, Write};

use fireflow_domain::invisible::is_invisible;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// `{"timestamp":…,"level":…,` the event's fields `,"target":…}`.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        writer.write_str("\",\"level\":\"")?;
        writer.write_str(event.metadata().level().as_str())?;
        writer.write_char('"')?;
        let mut fields = Fields { writer: writer.by_ref(), result: Ok(()) };
        event.record(&mut fields);
        fields.result?;
        writer.write_str(",\"target\":")?;
        write_text(&mut writer, event.metadata().target())?;
        writer.write_str("}\n")
    }
}

struct Fields<'a> {
    writer: Writer<'a>,
    result: fmt::Result,
}

impl Fields<'_> {
    fn member(&mut self, field: &Field, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.result.is_err() {
            return;
        }
        let writer = &mut self.writer;
        self.result = writer
            .write_char(',')
            .and_then(|()| write_text(writer, field.name()))
            .and_then(|()| writer.write_char(':'))
            .and_then(|()| write(writer));
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, |writer| {
            writer.write_char('"')?;
            write!(Escaped(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, |writer| write_text(writer, value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no representation of infinities and NaN.
        self.member(field, |writer| match value.is_finite() {
            true => write!(writer, "{value}"),
            false => writer.write_str("null"),
        });
    }
}

fn write_text(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    writer.write_char('"')?;
    Escaped(writer).write_str(text)?;
    writer.write_char('"')
}

/// Writes the text between the quotes of a JSON string (RFC 8259, 7).
struct Escaped<'a, 'b>(&'a mut Writer<'b>);

impl Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Most texts are ASCII, so they are scanned byte by byte.
        let is_ascii = text.is_ascii();
        let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        let next = |rest: &str| {
            if is_ascii {
                rest.bytes().position(is_special)
            } else {
                let is_special =
                    |it: char| u8::try_from(it).is_ok_and(is_special) || is_invisible(it);
                rest.find(is_special)
            }
        };
        let mut rest = text;
        while let Some(at) = next(rest) {
            let (plain, from) = rest.split_at(at);
            self.0.write_str(plain)?;
            let mut characters = from.chars();
            match characters.next() {
                Some('"') => self.0.write_str("\\\"")?,
                Some('\\') => self.0.write_str("\\\\")?,
                Some('\n') => self.0.write_str("\\n")?,
                // Invisible characters must not mislead a reader of the log.
                Some(other) => {
                    for unit in other.encode_utf16(&mut [0; 2]) {
                        write!(self.0, "\\u{unit:04x}")?;
                    }
                }
                None => {}
            }
            rest = characters.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Buffer {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn every_kind_of_value_is_json_on_one_line() {
        let buffer = Buffer::default();
        let subscriber =
            tracing_subscriber::fmt().event_format(JsonLines).with_writer(buffer.clone()).finish();
        let nasty = "a\"b\\c\nd\re\u{1}f\u{7f}ä\u{2028}\u{202e}x\u{e0041}😀";
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(
                target: "fireflow::test",
                nasty, shown = %nasty, debug = ?nasty, signed = -7, large = u64::MAX, truth = true,
                half = 0.5, nan = f64::NAN, absent = None::<&str>, "said {nasty}"
            );
            tracing::warn!("again");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        assert!(!text.chars().any(is_invisible), "{}", text.escape_unicode());
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [first, second] = &lines[..] else { panic!("{text}") };
        let mut expected = json!({
            "level": "INFO", "target": "fireflow::test", "message": format!("said {nasty}"),
            "nasty": nasty, "shown": nasty, "debug": format!("{nasty:?}"), "signed": -7,
            "large": u64::MAX, "truth": true, "half": 0.5, "nan": null,
        });
        expected["timestamp"] = first["timestamp"].clone();
        assert_eq!(*first, expected);
        let timestamp = first["timestamp"].as_str().unwrap();
        assert!(fireflow_domain::time::Instant::parse(timestamp).is_ok(), "{timestamp}");
        assert_eq!((&second["level"], &second["message"]), (&json!("WARN"), &json!("again")));
    }
}
