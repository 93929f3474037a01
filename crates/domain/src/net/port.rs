//! Ranges of ports.

use std::fmt;

use crate::text::excerpt;

/// An inclusive range of ports. Invariant: first ≤ last. A range of one port prints as one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// Why a text is no [`PortRange`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParsePortError {
    /// Neither a number nor a range.
    #[error("`{0}` is not a port from 0 to 65535 or a range such as `1024-65535`")]
    Syntax(String),
    /// The ends are the wrong way round.
    #[error("the range {first}-{last} ends before it begins")]
    Reversed {
        /// As given first.
        first: u16,
        /// As given last.
        last: u16,
    },
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// The dynamic ports (RFC 6335), from which a system chooses the source port of a connection.
    pub const EPHEMERAL: Self = Self { first: 49_152, last: u16::MAX };

    /// One port.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// A range of ports.
    ///
    /// # Errors
    /// Returns [`ParsePortError::Reversed`] if it ends before it begins.
    pub const fn new(first: u16, last: u16) -> Result<Self, ParsePortError> {
        if first <= last {
            Ok(Self { first, last })
        } else {
            Err(ParsePortError::Reversed { first, last })
        }
    }

    /// Reads `443` or `1024-65535`: ASCII digits, no sign, no leading zero.
    ///
    /// # Errors
    /// Returns [`ParsePortError`] if the text is neither, or the range ends before it begins.
    pub fn parse(text: &str) -> Result<Self, ParsePortError> {
        let syntax = || ParsePortError::Syntax(excerpt(text));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let first = parse_number(first).ok_or_else(syntax)?;
        let last = parse_number(last).ok_or_else(syntax)?;
        Self::new(first, last)
    }

    /// The first port.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Whether it contains a port.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// The ports that are in both ranges; none if the ranges do not overlap.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last)).ok()
    }
}

fn parse_number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let canonical = text == "0" || !text.starts_with('0');
    if digits && canonical { text.parse().ok() } else { None }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_one_spelling() {
        for (given, expected) in
            [("0", "0"), ("443-443", "443"), ("0-65535", "0-65535"), ("8000-8100", "8000-8100")]
        {
            assert_eq!(PortRange::parse(given).unwrap().to_string(), expected);
        }
        for bad in ["", "-1", "65536", "80-", "-", "1-2-3", "080", "٨٠", "80\n", "+80", "9-1"] {
            assert!(PortRange::parse(bad).is_err(), "{bad:?}");
        }
    }
}
