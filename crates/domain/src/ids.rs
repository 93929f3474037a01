//! Identifiers: integers that every JSON client can represent.

use std::fmt;

/// The largest id, 2^53 - 1. JSON clients that store numbers as doubles cannot represent all larger
/// integers.
pub const MAX_ID: i64 = 9_007_199_254_740_991;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// An id; none unless the number is from 1 to 2^53 - 1.
            #[must_use]
            pub const fn new(value: i64) -> Option<Self> {
                if value >= 1 && value <= MAX_ID { Some(Self(value)) } else { None }
            }

            /// Reads an id as a path spells it: ASCII digits, no sign, no leading zero.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                parse_decimal(text).and_then(Self::new)
            }

            /// The largest id.
            pub const LAST: Self = Self(MAX_ID);

            /// The number.
            #[must_use]
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// Identifies a firewall.
    FirewallId
}
id! {
    /// Identifies a filtering policy.
    PolicyId
}
id! {
    /// Identifies a rule.
    RuleId
}

fn parse_decimal(text: &str) -> Option<i64> {
    let canonical = !text.is_empty()
        && text.len() <= 16
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && !text.starts_with('0');
    if canonical { text.parse().ok() } else { None }
}

/// A counter of a resource's changes. It starts at 1 and only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision of a new resource.
    pub const FIRST: Self = Self(1);
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_plain_decimal_within_its_bounds() {
        assert_eq!(FirewallId::parse("1").map(FirewallId::get), Some(1));
        assert_eq!(FirewallId::parse("9007199254740991").map(FirewallId::get), Some(MAX_ID));
        for bad in [
            "",
            "0",
            "01",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "1e3",
            "٣",
            "9007199254740992",
            "99999999999999999999",
            "1\n",
        ] {
            assert_eq!(FirewallId::parse(bad), None, "{bad:?}");
        }
    }
}
