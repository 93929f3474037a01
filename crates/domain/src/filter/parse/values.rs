//! Values by their type. An error is a sentence that begins with the value.

use crate::analysis::FindingKind;
use crate::audit::AuditAction;
use crate::error::Resource;
use crate::filter::error::shown;
use crate::filter::fields::FieldKind;
use crate::filter::lexer::{Keyword, Value};
use crate::filter::moment::Moment;
use crate::filter::tree::Pattern;
use crate::labels;
use crate::net::{AddressRange, Family, PortRange, Protocol};
use crate::rule::{Action, RuleState, WarningCode};
use crate::time::Instant;

/// The value, or a sentence that explains why it is not valid.
pub(super) type Parsed<T> = Result<T, String>;

fn no(value: &Value<'_>, kind: FieldKind) -> String {
    format!("`{}` is not {}", shown(value.raw), kind.example())
}

pub(super) fn integer(value: &Value<'_>) -> Parsed<i64> {
    let text = value.text.as_str();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_canonical = text == "0" || !digits.starts_with('0');
    if !is_decimal {
        return Err(no(value, FieldKind::Integer));
    }
    if !is_canonical {
        return Err(format!("`{}` has leading zeros; remove them", shown(value.raw)));
    }
    text.parse()
        .map_err(|_| format!("`{}` is not within {} to {}", shown(value.raw), i64::MIN, i64::MAX))
}

/// A number from 0 to 255.
pub(super) fn octet(value: &Value<'_>) -> Parsed<u8> {
    let number = integer(value)?;
    u8::try_from(number).map_err(|_| format!("`{number}` is not a number from 0 to 255"))
}

pub(super) fn moment(value: &Value<'_>) -> Parsed<Moment> {
    match Moment::parse_relative(&value.text) {
        Some(read) => read.map_err(|why| format!("`{}` {why}", shown(value.raw))),
        None => Instant::parse(&value.text).map(Moment::At).map_err(|error| {
            format!(
                "`{}` {error}; or write a time from now, such as `now`, `now + 30d` or `now - 12h`",
                shown(value.raw)
            )
        }),
    }
}

pub(super) fn flag(value: &Value<'_>) -> Parsed<bool> {
    match Keyword::parse(&value.text) {
        Some(Keyword::True) => Ok(true),
        Some(Keyword::False) => Ok(false),
        _ => Err(no(value, FieldKind::Boolean)),
    }
}

pub(super) fn action(value: &Value<'_>) -> Parsed<Action> {
    Action::parse(&value.text).ok_or_else(|| no(value, FieldKind::Action))
}

pub(super) fn state(value: &Value<'_>) -> Parsed<RuleState> {
    RuleState::ALL
        .into_iter()
        .find(|state| state.as_str().eq_ignore_ascii_case(&value.text))
        .ok_or_else(|| no(value, FieldKind::State))
}

pub(super) fn warning(value: &Value<'_>) -> Parsed<WarningCode> {
    WarningCode::ALL
        .into_iter()
        .find(|code| code.as_str().eq_ignore_ascii_case(&value.text))
        .ok_or_else(|| no(value, FieldKind::Warning))
}

pub(super) fn finding(value: &Value<'_>) -> Parsed<FindingKind> {
    FindingKind::parse(&value.text.to_ascii_lowercase())
        .ok_or_else(|| no(value, FieldKind::Finding))
}

pub(super) fn audit_action(value: &Value<'_>) -> Parsed<AuditAction> {
    AuditAction::ALL
        .into_iter()
        .find(|action| action.as_str().eq_ignore_ascii_case(&value.text))
        .ok_or_else(|| no(value, FieldKind::AuditAction))
}

pub(super) fn resource(value: &Value<'_>) -> Parsed<Resource> {
    Resource::ALL
        .into_iter()
        .find(|kind| kind.as_str().eq_ignore_ascii_case(&value.text))
        .ok_or_else(|| no(value, FieldKind::Resource))
}

pub(super) fn family(value: &Value<'_>) -> Parsed<Family> {
    Family::ALL
        .into_iter()
        .find(|family| family.as_str().eq_ignore_ascii_case(&value.text))
        .ok_or_else(|| no(value, FieldKind::Family))
}

pub(super) fn protocol(value: &Value<'_>) -> Parsed<Protocol> {
    Protocol::parse(&value.text).map_err(|error| {
        let hint = if value.text.eq_ignore_ascii_case("any") {
            "; for rules without protocols write `protocols = null`, and in `traffic` leave the \
             protocol out"
        } else {
            ""
        };
        format!("{error}{hint}")
    })
}

pub(super) fn ports(value: &Value<'_>) -> Parsed<PortRange> {
    PortRange::parse(&value.text).map_err(|error| error.to_string())
}

pub(super) fn addresses(value: &Value<'_>) -> Parsed<AddressRange> {
    AddressRange::parse(&value.text).map_err(|error| error.to_string())
}

/// Reads the key of a label.
pub(super) fn key(value: &Value<'_>) -> Parsed<String> {
    if labels::is_key(&value.text) {
        Ok(value.text.clone())
    } else {
        Err(super::names::not_a_key(&value.text))
    }
}

/// Reads the text to search for. A star in it must be escaped, since stars are literal here.
pub(super) fn needle(value: &Value<'_>) -> Parsed<String> {
    if value.stars.is_empty() {
        Ok(value.text.clone())
    } else {
        Err(format!(
            "`{}` contains a star, but `:` finds the text anywhere; remove it, or write \
             `\\*` in quotes for the character itself",
            shown(value.raw)
        ))
    }
}

/// Reads a text that may have a star at either end.
pub(super) fn pattern(value: &Value<'_>) -> Parsed<Pattern> {
    let text = value.text.as_str();
    let part = |part: Option<&str>| part.unwrap_or_default().to_owned();
    let last = text.len().saturating_sub(1);
    match *value.stars.as_slice() {
        [] => Ok(Pattern::Exact(text.to_owned())),
        [0] if last == 0 => Ok(Pattern::Prefix(String::new())),
        [0] => Ok(Pattern::Suffix(part(text.get(1..)))),
        [at] if at == last => Ok(Pattern::Prefix(part(text.get(..at)))),
        [0, 1] if last == 1 => {
            Err(format!("`{}` has too many stars; `*` alone matches any text", shown(value.raw)))
        }
        [0, at] if at == last => Ok(Pattern::Infix(part(text.get(1..at)))),
        _ => Err(format!(
            "`{}` has a star inside; a star is allowed at either end, and `\\*` in quotes is the \
             character itself",
            shown(value.raw)
        )),
    }
}
