//! Rule sets in the line formats of exports: NDJSON, and CSV (RFC 4180). Each line is converted to
//! a rule in JSON and read as such, so the same checks apply to all formats.

use csv::{ByteRecord, ReaderBuilder};
use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::read_only::RULE;
use fireflow_domain::rule::{MAX_ENDPOINTS, MAX_PORTS};
use fireflow_domain::spelling::nearest;
use fireflow_domain::text::excerpt;
use serde_json::{Map, Value, json};

use crate::fault::ReadError;
use crate::json::{self, Meter};
use crate::rule_columns::{COLUMNS, CellKind, Column, unguarded};

/// Reads one rule per line, and skips empty lines.
///
/// # Errors
/// Returns [`ReadError::MalformedJson`] with the number of the line that is not JSON.
pub(crate) fn ndjson(
    bytes: &[u8],
    meter: &Meter,
    mut visit: impl FnMut(u64, Value),
) -> Result<(), ReadError> {
    for (line, number) in bytes.split(|byte| *byte == b'\n').zip(1..) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let value = json::parse_within(line, meter)
            .map_err(|error| ReadError::MalformedJson(format!("line {number}: {error}")))?;
        visit(number, value);
        meter.refill();
        meter.check()?;
    }
    Ok(())
}

/// Reads a header and one rule per record; `visit` gets each rule, or the fault of its record. The
/// columns are those of an export, in any order. A member without a column is omitted.
///
/// # Errors
/// Returns [`ReadError::Invalid`] if the header is not that of an export, or
/// [`ReadError::MalformedText`] if the bytes are not CSV in UTF-8.
pub(crate) fn csv(
    bytes: &[u8],
    meter: &Meter,
    mut visit: impl FnMut(u64, Result<Value, String>),
) -> Result<(), ReadError> {
    // Spreadsheets begin a CSV file with a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(bytes);
    let columns = columns(reader.byte_headers().map_err(malformed)?)?;
    let mut record = ByteRecord::new();
    let mut lines = LineCount { bytes, at: 0, line: 1 };
    while reader.read_byte_record(&mut record).map_err(malformed)? {
        let line = lines.line_at(record.position().map_or(0, csv::Position::byte));
        let cells = record.len();
        let read = match cells == columns.len() {
            true => Ok(rule(&columns, &record, line, meter)?),
            false => Err(format!("has {cells} cells, but the header has {}", columns.len())),
        };
        visit(line, read);
        meter.refill();
        meter.check()?;
    }
    Ok(())
}

/// Counts lines as records are read. The offset of a record may include the line end before it,
/// because the reader assigns the LF of a CR LF to the next record.
struct LineCount<'b> {
    bytes: &'b [u8],
    at: usize,
    line: u64,
}

impl LineCount<'_> {
    /// The line of the record at an offset. Offsets only grow.
    fn line_at(&mut self, byte: u64) -> u64 {
        let mut start = usize::try_from(byte).unwrap_or(usize::MAX);
        while matches!(self.bytes.get(start), Some(b'\r' | b'\n')) {
            start += 1;
        }
        let passed = self.bytes.get(self.at..start).unwrap_or_default();
        let ends = memchr::memchr_iter(b'\n', passed).count();
        self.line = self.line.saturating_add(u64::try_from(ends).unwrap_or(u64::MAX));
        self.at = start;
        self.line
    }
}

fn malformed(error: csv::Error) -> ReadError {
    ReadError::MalformedText(format!("the body is not CSV: {error}"))
}

/// The columns of a header, in order.
fn columns(header: &ByteRecord) -> Result<Vec<&'static Column>, ReadError> {
    let mut violations = Violations::new();
    let mut seen: Vec<&str> = Vec::new();
    let mut columns = Vec::new();
    for name in header {
        let name = String::from_utf8_lossy(name);
        match COLUMNS.iter().find(|column| column.name == name) {
            Some(column) if seen.contains(&column.name) => {
                let detail = format!("line 1: duplicate column `{}`", column.name);
                violations.push(Violation::body("", detail));
            }
            Some(column) => {
                seen.push(column.name);
                columns.push(column);
            }
            None => {
                let meant = nearest(&name, COLUMNS.iter().map(|column| column.name));
                let meant = meant.map(|it| format!("; did you mean `{it}`?")).unwrap_or_default();
                let name = excerpt(&name);
                let detail = format!("line 1: `{name}` is not a column of an export{meant}");
                violations.push(Violation::body("", detail));
            }
        }
    }
    if violations.is_empty() { Ok(columns) } else { Err(ReadError::Invalid(violations)) }
}

/// Converts a record to a rule in JSON.
fn rule(
    columns: &[&Column],
    record: &ByteRecord,
    line: u64,
    meter: &Meter,
) -> Result<Value, ReadError> {
    let mut members = Map::new();
    let mut parent = Map::new();
    for (column, cell) in columns.iter().zip(record) {
        let Ok(cell) = std::str::from_utf8(cell) else {
            let detail = format!("line {line}: the cell of `{}` is not UTF-8", column.name);
            return Err(ReadError::MalformedText(detail));
        };
        if column.member == "filtering_policy" {
            // The policy is identified by its id alone; its other columns are ignored.
            if column.name == "filtering_policy_id" && !cell.is_empty() {
                parent.insert("id".to_owned(), number(cell));
            }
        } else if let Some(value) = value(column, cell, meter) {
            members.insert(column.member.to_owned(), value);
        }
    }
    if !parent.is_empty() {
        members.insert("filtering_policy".to_owned(), Value::Object(parent));
    }
    Ok(Value::Object(members))
}

/// Converts a cell to the value of a member. An empty cell of a read-only member or of the priority
/// omits the member, so that new rules can be added to an export.
fn value(column: &Column, cell: &str, meter: &Meter) -> Option<Value> {
    let member = column.member;
    let is_read_only = RULE.iter().any(|read_only| read_only.name() == member);
    if cell.is_empty() && (is_read_only || member == "priority") {
        return None;
    }
    let value = match column.kind {
        CellKind::OptionalNumber | CellKind::OptionalWord | CellKind::OptionalText
            if cell.is_empty() =>
        {
            Value::Null
        }
        CellKind::Number | CellKind::OptionalNumber => number(cell),
        CellKind::Flag => match cell {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            other => other.into(),
        },
        CellKind::Word | CellKind::OptionalWord => cell.into(),
        CellKind::Text | CellKind::OptionalText => unguarded(cell).into(),
        CellKind::Words => listed(cell).map(Value::from).collect(),
        CellKind::Endpoints => listed(cell).map(endpoint).collect(),
        CellKind::Ports => listed(cell).map(port).collect(),
        CellKind::Labels if cell.is_empty() => json!({}),
        CellKind::Labels => {
            json::parse_within(cell.as_bytes(), meter).unwrap_or_else(|_| cell.into())
        }
    };
    Some(value)
}

/// Converts a cell to a number. A text that is not a number stays a string, which is refused later
/// with its place.
fn number(cell: &str) -> Value {
    cell.parse::<i64>().map_or_else(|_| cell.into(), Value::from)
}

/// The entries of a cell. Reading stops one entry after the longest list that a rule may have.
fn listed(cell: &str) -> impl Iterator<Item = &str> {
    let entries = cell.split(';').map(str::trim).filter(move |_| !cell.trim().is_empty());
    entries.take(MAX_ENDPOINTS.max(MAX_PORTS) + 1)
}

/// Converts `10.0.0.0/8` or `10.0.0.0/8 443` to an endpoint.
fn endpoint(text: &str) -> Value {
    match text.split_once(' ') {
        Some((address, port)) => json!({"address": address, "port": port.trim()}),
        None => json!({"address": text}),
    }
}

/// Converts `443` or `8000-8100` to an entry of `ports`.
fn port(text: &str) -> Value {
    match text.split_once('-') {
        Some((from, to)) => json!({"from": number(from), "to": number(to)}),
        None => json!({"number": number(text)}),
    }
}
