//! Instants in UTC with microseconds, and the clock that they come from.

use std::fmt;

use chrono::{DateTime, Datelike, SecondsFormat, Utc};

/// Microseconds in a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;

/// A point in time: microseconds since 1970-01-01T00:00:00Z, within the years 0001 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(i64);

/// Why a text is no [`Instant`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not an RFC 3339 instant such as `2026-12-31T00:00:00Z`, in the years 0001 to 9999")]
pub struct ParseInstantError;

impl Instant {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// An instant from microseconds; none if it is not within the years 0001 to 9999.
    #[must_use]
    pub fn from_micros(micros: i64) -> Option<Self> {
        let date = DateTime::<Utc>::from_timestamp_micros(micros)?;
        (1..=9999).contains(&date.year()).then_some(Self(micros))
    }

    /// Microseconds since 1970.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339. Digits beyond microseconds are cut off.
    ///
    /// # Errors
    /// Returns [`ParseInstantError`] if the text is not RFC 3339, or the instant is not within the
    /// years 0001 to 9999.
    pub fn parse(text: &str) -> Result<Self, ParseInstantError> {
        // RFC 3339 is ASCII with a four-digit year; chrono alone is more lenient (a space for the T).
        let bytes = text.as_bytes();
        let shaped = text.is_ascii()
            && bytes.len() >= 20
            && bytes.get(4) == Some(&b'-')
            && matches!(bytes.get(10), Some(b'T' | b't'));
        if !shaped {
            return Err(ParseInstantError);
        }
        let date = DateTime::parse_from_rfc3339(text).map_err(|_| ParseInstantError)?;
        Self::from_micros(date.timestamp_micros()).ok_or(ParseInstantError)
    }

    /// The instant this many microseconds later, or this instant if the result is out of range.
    #[must_use]
    pub fn plus_micros(self, micros: i64) -> Self {
        Self::from_micros(self.0.saturating_add(micros)).unwrap_or(self)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::<Utc>::from_timestamp_micros(self.0) {
            Some(date) => f.write_str(&date.to_rfc3339_opts(SecondsFormat::Micros, true)),
            None => write!(f, "{}us", self.0),
        }
    }
}

/// The only source of time in FireFlow, so that tests can stop the clock.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Instant;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_written_in_utc_with_microseconds() {
        let instant = Instant::parse("2026-12-31T01:00:00.1234567+01:00").unwrap();
        assert_eq!(instant.to_string(), "2026-12-31T00:00:00.123456Z");
        assert_eq!(Instant::parse(&instant.to_string()), Ok(instant));
    }

    #[test]
    fn what_is_not_rfc_3339_is_refused() {
        for bad in [
            "",
            "2026-12-31",
            "2026-12-31 00:00:00Z",
            "2026-12-31T00:00:00",
            "now",
            "12026-12-31T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-12-31T00:00:00Z\n",
            "0000-01-01T00:00:00Z",
        ] {
            assert!(Instant::parse(bad).is_err(), "{bad:?}");
        }
    }
}
