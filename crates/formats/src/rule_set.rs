//! The whole rule set of a policy: an array or a list in JSON, or the lines of an export.

use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::ids::PolicyId;
use fireflow_domain::rule::{RuleParts, RuleSpec};
use fireflow_domain::text::excerpt;
use fireflow_domain::usecase::rule_set::GivenRule;
use serde_json::{Map, Value};

use crate::fault::ReadError;
use crate::json::{self, Meter, Parsed};
use crate::members::Members;
use crate::rule::{SetReading, given_rule};
use crate::rule_lines;

/// The format of a rule set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleSetFormat {
    /// An array, or a list in the form of answers.
    Json,
    /// One JSON object per line.
    Ndjson,
    /// Comma-separated values, with a header line.
    Csv,
}

/// Reads a set, rule by rule. Blocks the thread, so call it outside those that serve requests.
///
/// # Errors
/// Returns [`ReadError::Invalid`] with all faults, each with its index, or [`ReadError::Partial`]
/// if the text is marked as a part of a list. Returns other variants if the text does not have the
/// format, or exceeds a limit.
pub fn rule_set(
    bytes: &[u8],
    format: RuleSetFormat,
    policy: PolicyId,
    reading: SetReading,
    meter: &Meter,
) -> Result<Vec<GivenRule>, ReadError> {
    let (rules, violations) = (Vec::new(), Violations::new());
    let mut reader = RuleSetReader { policy, reading, rules, violations, count: 0 };
    read_set(bytes, format, meter, &mut reader)?;
    reader.finish()
}

/// The rules that were read so far, and their faults.
struct RuleSetReader {
    policy: PolicyId,
    reading: SetReading,
    rules: Vec<(GivenRule, bool)>,
    violations: Violations,
    count: usize,
}

impl RuleSetReader {
    /// Reads the next rule, with its line number if the format has lines.
    fn read(&mut self, value: Value, line: Option<u64>) {
        let index = self.count;
        self.count += 1;
        // Rules beyond the limit are only counted.
        if self.count > self.reading.max_rules {
            return;
        }
        let mut faults = self.violations.nested();
        let at = format!("/{index}");
        match given_rule(value, &at, self.policy, self.reading, &mut faults) {
            // A set with a fault is refused, so its valid rules need not be kept.
            Some(rule) if faults.is_empty() && self.violations.is_empty() => self.rules.push(rule),
            Some(_) if faults.is_empty() => self.rules.clear(),
            _ => self.violations.extend(match line {
                Some(line) => faults.prefixed(&format!("line {line}: ")),
                None => faults,
            }),
        }
    }

    /// Notes a line that is not a rule.
    fn fault(&mut self, line: u64, detail: &str) {
        let index = self.count;
        self.violations
            .note(|| Violation::body(format!("/{index}"), format!("line {line}: {detail}")));
        self.count += 1;
    }

    fn finish(mut self) -> Result<Vec<GivenRule>, ReadError> {
        let max_rules = self.reading.max_rules;
        if self.count > max_rules {
            let detail = format!("a policy has at most {max_rules} rules, not {}", self.count);
            return Err(ReadError::TooLarge(detail));
        }
        // After a fault, the index of a rule here would differ from its index in the body.
        if self.violations.is_empty() {
            let rules = numbered(self.rules, &mut self.violations);
            if self.violations.is_empty() {
                return Ok(rules);
            }
        }
        Err(ReadError::Invalid(self.violations))
    }
}

fn read_set(
    bytes: &[u8],
    format: RuleSetFormat,
    meter: &Meter,
    reader: &mut RuleSetReader,
) -> Result<(), ReadError> {
    if bytes.trim_ascii().is_empty() {
        // A file that could not be written is also empty; it must not delete all rules.
        let detail = "the request body is empty; a set without rules is `[]` in JSON, or the header \
                      alone in CSV";
        return Err(ReadError::MalformedJson(detail.to_owned()));
    }
    match format {
        RuleSetFormat::Json => read_json(bytes, meter, reader),
        RuleSetFormat::Ndjson => {
            rule_lines::ndjson(bytes, meter, |line, rule| reader.read(rule, Some(line)))
        }
        RuleSetFormat::Csv => rule_lines::csv(bytes, meter, |line, rule| match rule {
            Ok(rule) => reader.read(rule, Some(line)),
            Err(detail) => reader.fault(line, &detail),
        }),
    }
}

fn read_json(bytes: &[u8], meter: &Meter, reader: &mut RuleSetReader) -> Result<(), ReadError> {
    let no_set = || {
        let detail = "must be an array of rules, or an object with one under `items`";
        Violation::body("", detail)
    };
    // A scalar is valid JSON, but not a rule set.
    if !matches!(bytes.trim_ascii_start().first(), Some(b'[' | b'{')) {
        json::parse_within(bytes, meter)?;
        return Err(ReadError::Invalid(no_set().into()));
    }
    let parsed =
        json::parse_members(bytes, "items", meter, &mut |_, value| reader.read(value, None));
    match parsed {
        Ok(Parsed::Elements(others)) => {
            if let Some(error) = partial(&others) {
                return Err(error);
            }
            page_members(others, &mut reader.violations);
        }
        Ok(Parsed::Object(others)) => {
            reader.violations.push(no_set());
            page_members(others, &mut reader.violations);
        }
        // The JSON may be valid, but with `items` that are not an array.
        Err(error) if error.is_data() => {
            meter.refill();
            json::parse_within(bytes, meter).map_err(|_| error)?;
            return Err(ReadError::Invalid(no_set().into()));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The members of a list in addition to its items.
const OF_PAGES: [&str; 7] =
    ["total", "total_is_exact", "page", "per_page", "page_size", "next_cursor", "partial"];

/// The fault of a list that is marked as incomplete.
fn partial(others: &Map<String, Value>) -> Option<ReadError> {
    let given = |name: &str| others.get(name).filter(|value| !value.is_null());
    // Any value other than an empty array counts as a mark, even if it is not understood.
    let is_list_of_none = |it: &&Value| it.as_array().is_some_and(Vec::is_empty);
    let why = if let Some(marks) = given("partial").filter(|it| !is_list_of_none(it)) {
        format!("its `partial` is {}", shown(marks))
    } else if given("next_cursor").is_some() {
        "its `next_cursor` shows that more rules follow".to_owned()
    } else if given("page").is_some_and(|page| *page != 1) {
        "its `page` shows that other rules precede it".to_owned()
    } else {
        return None;
    };
    let detail = format!(
        "the body is only part of a list: {why}. Rules that it omits would be deleted. Read all rules \
         (`Accept: application/x-ndjson`, without `page`, `filter` and `fields`) and send those"
    );
    Some(ReadError::Partial(detail))
}

/// How many of a list's marks a message shows. The lists of this service have fewer.
const SHOWN_MARKS: usize = 10;

/// The marks of a partial list, for a message: words as they are, anything else as JSON.
fn shown(marks: &Value) -> String {
    let words = marks.as_array().map(|marks| marks.iter().take(SHOWN_MARKS).map(Value::as_str));
    let words: Option<Vec<&str>> = words.and_then(Iterator::collect);
    match words {
        Some(words) => format!("`{}`", excerpt(&words.join(", "))),
        None => excerpt(&marks.to_string()),
    }
}

/// Accepts the known members of a page next to its items, and notes all others as faults.
pub fn page_members(others: Map<String, Value>, violations: &mut Violations) {
    let Some(mut members) = Members::open(Value::Object(others), "", violations) else { return };
    members.passes("items");
    members.remove("items");
    for name in OF_PAGES {
        members.remove(name);
    }
    members.finish();
}

/// Checks that either all rules have a priority or none has. Without priorities, the order of the
/// array counts, in steps of 10.
pub fn numbered(rules: Vec<(GivenRule, bool)>, violations: &mut Violations) -> Vec<GivenRule> {
    let has_priorities = rules.first().is_some_and(|(_, has_priority)| *has_priority);
    let mut numbered = Vec::with_capacity(rules.len());
    for ((rule, has_priority), index) in rules.into_iter().zip(0_i32..) {
        if has_priority != has_priorities {
            let detail = if has_priority {
                "is set here, but not in the previous rules; set it in all rules or in none"
            } else {
                "is missing here, but not in the previous rules; set it in all rules or in none"
            };
            violations.note(|| Violation::body(format!("/{index}/priority"), detail));
        }
        if has_priorities {
            numbered.push(rule);
            continue;
        }
        let priority = index.saturating_add(1).saturating_mul(10);
        match RuleSpec::new(RuleParts { priority, ..rule.spec.into_parts() }) {
            Ok(spec) => numbered.push(GivenRule { spec, ..rule }),
            Err(faults) => violations.extend_below(&format!("/{index}"), faults),
        }
    }
    numbered
}
