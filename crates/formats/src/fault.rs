//! The reasons why a whole text could not be read, and the serialized form of violations.

use fireflow_domain::error::{FaultLocation, Rival, Violation, Violations};
use serde::Serialize;

/// Why rules or packets could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The text is not JSON.
    #[error("{0}")]
    MalformedJson(String),
    /// The text does not have the required format, which is not JSON.
    #[error("{0}")]
    MalformedText(String),
    /// The text has the right format, but its content is not valid.
    #[error("{}", summary(.0))]
    Invalid(Violations),
    /// The text, or a part of it, exceeds a limit.
    #[error("{0}")]
    TooLarge(String),
    /// The text is marked as a part of a list, but the whole list is required.
    #[error("{0}")]
    Partial(String),
    /// Nobody waits for the result any more.
    #[error("reading was abandoned")]
    Abandoned,
}

impl From<serde_json::Error> for ReadError {
    fn from(error: serde_json::Error) -> Self {
        Self::MalformedJson(error.to_string())
    }
}

/// A violation in the form that answers contain.
#[derive(Debug, Serialize)]
pub struct WrittenViolation<'a> {
    /// The place in the text, as a JSON pointer in URI form (RFC 6901): `#/sources/0/address`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// The parameter or header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<&'a str>,
    /// The kind of fault, if programs need to recognize it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The place of the other part of the text, if two parts conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflicts_with: Option<String>,
    /// The id of the stored resource that it conflicts with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub existing_id: Option<i64>,
    /// The fault, and what would be right.
    pub detail: &'a str,
}

impl<'a> From<&'a Violation> for WrittenViolation<'a> {
    fn from(violation: &'a Violation) -> Self {
        let (pointer, parameter) = match &violation.place {
            FaultLocation::Body(pointer) => (Some(format!("#{pointer}")), None),
            FaultLocation::Query(name) | FaultLocation::Header(name) => (None, Some(name.as_str())),
        };
        let (conflicts_with, existing_id) = match &violation.rival {
            None => (None, None),
            Some(Rival::Body(pointer)) => (Some(format!("#{pointer}")), None),
            Some(Rival::Stored(id)) => (None, Some(*id)),
        };
        Self {
            pointer,
            parameter,
            code: violation.code.map(|code| code.as_str()),
            conflicts_with,
            existing_id,
            detail: &violation.detail,
        }
    }
}

/// Describes violations in one sentence: a single one with its place, several by their number.
#[must_use]
pub fn summary(violations: &Violations) -> String {
    let listed = violations.items().len();
    match (violations.items(), violations.omitted()) {
        ([only], 0) => only.to_string(),
        (_, 0) => format!("{listed} errors; see `errors`"),
        (_, omitted) => {
            format!("{} errors; `errors` lists the first {listed}", listed.saturating_add(omitted))
        }
    }
}

#[cfg(test)]
mod tests {
    use fireflow_domain::error::ViolationCode;

    use super::*;

    #[test]
    fn a_violation_is_written_with_its_place_and_its_rival() {
        let violation = Violation::body("/items/1/name", "is taken")
            .coded(ViolationCode::NameTaken)
            .against(Rival::Body("/items/0/name".to_owned()));
        let written = serde_json::to_value(WrittenViolation::from(&violation)).unwrap();
        let expected = serde_json::json!({
            "pointer": "#/items/1/name",
            "code": "name_taken",
            "conflicts_with": "#/items/0/name",
            "detail": "is taken",
        });
        assert_eq!(written, expected);
        let violation = Violation::query("at", "is wrong").against(Rival::Stored(7));
        let written = serde_json::to_value(WrittenViolation::from(&violation)).unwrap();
        let expected =
            serde_json::json!({"parameter": "at", "existing_id": 7, "detail": "is wrong"});
        assert_eq!(written, expected);
    }

    #[test]
    fn one_violation_is_shown_and_several_are_counted() {
        let mut violations = Violations::from(Violation::body("/action", "is required"));
        assert_eq!(summary(&violations), "#/action: is required");
        violations.push(Violation::header("If-Match", "is wrong"));
        assert_eq!(summary(&violations), "2 errors; see `errors`");
        violations.count(3);
        assert_eq!(summary(&violations), "5 errors; `errors` lists the first 2");
    }
}
