//! Points in time as filters name them: fixed ones, and those that move with the clock.

use std::fmt::{self, Display};

use crate::time::{Instant, MICROS_PER_SECOND};

/// The furthest that a moment may be from now, in seconds: 100 years of 365.25 days.
const MAX_SECONDS: i64 = 36_525 * 86_400;
/// The units that are read, with their seconds; the longest first.
const UNITS: [(&str, i64); 5] = [("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
/// Weeks are written as days.
const WRITTEN_UNITS: [(&str, i64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

/// A point in time. Every filter is asked at one time, which is what `now` means in all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Moment {
    /// A fixed one.
    At(Instant),
    /// So many seconds after now, or before it if they are negative: 100 years at most.
    FromNow(i64),
}

impl Moment {
    /// Which point it is, if it is now.
    #[must_use]
    pub fn at(self, now: Instant) -> Instant {
        match self {
            Self::At(instant) => instant,
            Self::FromNow(seconds) => now.plus_micros(seconds.saturating_mul(MICROS_PER_SECOND)),
        }
    }

    /// Reads `now`, `now + 30d` and `now - 12h`, with or without white space; none if the text does
    /// not begin with `now`. An error is what is wrong, without the text itself.
    pub(super) fn parse_relative(text: &str) -> Option<Result<Self, String>> {
        let (word, rest) = text.split_at_checked(NOW.len())?;
        if !word.eq_ignore_ascii_case(NOW) || rest.starts_with(|it: char| it.is_alphanumeric()) {
            return None;
        }
        Some(offset(rest.trim()).map(Self::FromNow))
    }
}

/// The word for the time at which a filter is asked.
pub(super) const NOW: &str = "now";

/// The seconds of `+ 30d` or `- 12h`; of nothing 0.
fn offset(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let (sign, amount) = if let Some(amount) = text.strip_prefix('+') {
        (1, amount.trim_start())
    } else if let Some(amount) = text.strip_prefix('-') {
        (-1, amount.trim_start())
    } else {
        return Err("has neither `+` nor `-` after `now`; write `now + 30d` or `now - 12h`".into());
    };
    let end = amount.find(|it: char| !it.is_ascii_digit()).unwrap_or(amount.len());
    let (digits, unit) = amount.split_at_checked(end).unwrap_or((amount, ""));
    let seconds = UNITS.iter().find(|(word, _)| *word == unit).map(|(_, seconds)| *seconds);
    let Some(seconds) = seconds.filter(|_| !digits.is_empty()) else {
        return Err(
            "does not end with an amount of time: a whole number and a unit, which is s, m \
                    (minutes), h, d or w, such as `now + 30d`"
                .into(),
        );
    };
    digits
        .parse::<i64>()
        .ok()
        .and_then(|number| number.checked_mul(seconds))
        .filter(|seconds| *seconds <= MAX_SECONDS)
        .map(|seconds| sign * seconds)
        .ok_or_else(|| "is more than 100 years from now; write an RFC 3339 instant".into())
}

impl Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(instant) => instant.fmt(f),
            Self::FromNow(0) => f.write_str(NOW),
            Self::FromNow(seconds) => {
                let sign = if *seconds < 0 { '-' } else { '+' };
                let amount = seconds.unsigned_abs();
                // The last unit divides everything.
                let fits = |size: i64| amount.is_multiple_of(size.unsigned_abs());
                let known = WRITTEN_UNITS.into_iter().find(|(_, size)| fits(*size));
                let (unit, size) = known.unwrap_or(("s", 1));
                write!(f, "{NOW} {sign} {}{unit}", amount / size.unsigned_abs())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Moment, String> {
        Moment::parse_relative(text).expect("it begins with now")
    }

    #[test]
    fn moments_from_now_are_read_and_have_one_spelling() {
        for (text, seconds, written) in [
            ("now", 0, "now"),
            ("NOW", 0, "now"),
            ("now + 0d", 0, "now"),
            ("now+30d", 2_592_000, "now + 30d"),
            ("now  -  12h", -43_200, "now - 12h"),
            ("now + 2w", 1_209_600, "now + 14d"),
            ("now - 90m", -5_400, "now - 90m"),
            ("now + 120s", 120, "now + 2m"),
            ("now + 36525d", MAX_SECONDS, "now + 36525d"),
        ] {
            let moment = read(text).unwrap();
            assert_eq!((moment, moment.to_string().as_str()), (Moment::FromNow(seconds), written));
            assert_eq!(read(written), Ok(moment));
        }
        for other in ["2026-12-31T00:00:00Z", "nowhere", "now1", "no", "", "nów"] {
            assert_eq!(Moment::parse_relative(other), None, "{other}");
        }
        for (bad, part) in [
            ("now 30d", "neither `+` nor `-`"),
            ("now * 3d", "neither `+` nor `-`"),
            ("now +", "amount of time"),
            ("now + d", "amount of time"),
            ("now + 30", "amount of time"),
            ("now + 30M", "(minutes)"),
            ("now + 1.5h", "amount of time"),
            ("now + -3d", "amount of time"),
            ("now + 1d2h", "amount of time"),
            ("now + 36526d", "100 years"),
            ("now - 99999999999999999999s", "100 years"),
            ("now + 9223372036854775807w", "100 years"),
        ] {
            assert!(read(bad).unwrap_err().contains(part), "{bad}: {:?}", read(bad));
        }
    }

    #[test]
    fn moments_stay_within_the_years_that_can_be_written() {
        let last = Instant::parse("9999-12-31T23:59:59Z").unwrap();
        assert_eq!(Moment::FromNow(MAX_SECONDS).at(last), last);
        assert_eq!(Moment::FromNow(-1).at(last).to_string(), "9999-12-31T23:59:58.000000Z");
    }
}
