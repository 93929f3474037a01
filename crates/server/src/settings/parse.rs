//! Parsers that several settings share. Each error names a valid form.

use std::path::PathBuf;
use std::time::Duration;

/// Reads a number with a unit: `30s`, `5m`, `24h`, `90d`.
///
/// # Errors
/// Returns a message that names the accepted forms.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || "must be a number with a unit: `30s`, `5m`, `24h` or `90d`".to_owned();
    let unit_s = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(bad()),
    };
    let number = text.trim_end_matches(['s', 'm', 'h', 'd']);
    let is_plain = number.len() + 1 == text.len()
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit());
    // No setting needs more than a hundred years.
    const MAX_S: u64 = 100 * 366 * 86_400;
    number
        .parse::<u64>()
        .ok()
        .filter(|_| is_plain)
        .and_then(|number| number.checked_mul(unit_s))
        .filter(|seconds| (1..=MAX_S).contains(seconds))
        .map(Duration::from_secs)
        .ok_or_else(bad)
}

/// A duration, or `0s`.
pub(super) fn duration_or_none(text: &str) -> Result<Duration, String> {
    if text == "0s" { Ok(Duration::ZERO) } else { parse_duration(text) }
}

/// A number from 1 to a billion.
pub(super) fn number<T: TryFrom<u32>>(text: &str) -> Result<T, String> {
    number_up_to::<1_000_000_000, T>(text)
}

/// A number from 1 to `MOST`.
pub(super) fn number_up_to<const MOST: u32, T: TryFrom<u32>>(text: &str) -> Result<T, String> {
    text.parse::<u32>()
        .ok()
        .filter(|number| (1..=MOST).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("must be a number from 1 to {MOST}"))
}

/// `true` or `false`.
pub(super) fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("must be `true` or `false`".to_owned()),
    }
}

/// Any text.
pub(super) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Any text, for a setting that may be left out.
pub(super) fn some_text(text: &str) -> Result<Option<String>, String> {
    Ok(Some(text.to_owned()))
}

/// The name of a file, for a setting that may be left out.
pub(super) fn some_file(text: &str) -> Result<Option<PathBuf>, String> {
    Ok(Some(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("90d"), Ok(Duration::from_secs(90 * 86_400)));
        for bad in ["", "30", "s", "-1s", "1.5h", "1hh", "0s", "99999999999999999999d", "١s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
