//! The features that a policy's rules use, as a set of bits on the policy.
//!
//! During a rolling deployment, after a failover or after the restoration of a backup, an old
//! process can meet rules with members that it does not know. It must not evaluate, show or change
//! them: without the member, they mean something else. So each member that version 0 did not know
//! has a bit, and the transaction that first stores such a member sets the bit on the policy. A
//! process refuses a policy with a bit that it does not know.
//!
//! To add a feature, add a [`Feature`] to [`FEATURES`] with the next bit and the version that knows
//! it.

use std::fmt;

/// A set of features, one bit each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Features(u64);

/// A feature of rules that version 0 did not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Its bit.
    pub bit: Features,
    /// Its name in settings and reports.
    pub name: &'static str,
    /// The first version that reads it.
    pub since: Version,
}

/// Every feature, in the order of bits. There is none yet.
pub const FEATURES: &[Feature] = &[];

/// The features that the previous release reads. By default only these are written, so that a
/// deployment can be rolled back. Update this constant with each release.
pub const FEATURES_BEFORE: Features = Features::NONE;

/// The features that this version reads.
pub const FEATURES_KNOWN: Features = all(FEATURES);

impl Features {
    /// No feature.
    pub const NONE: Self = Self(0);

    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The features that are in one set or both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The features that are not in another set.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The features that a version reads.
    #[must_use]
    pub fn of_version(version: Version) -> Self {
        let known = FEATURES.iter().filter(|feature| feature.since <= version);
        known.fold(Self::NONE, |set, feature| set.union(feature.bit))
    }

    /// The feature with a name; none if this version does not know it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        FEATURES.iter().find(|feature| feature.name == name).map(|feature| feature.bit)
    }
}

const fn all(mut features: &[Feature]) -> Features {
    let mut all = Features::NONE;
    while let [first, rest @ ..] = features {
        all = all.union(first.bit);
        features = rest;
    }
    all
}

impl fmt::Display for Features {
    /// Names with commas between them. An unknown bit appears as its number, from 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_first = true;
        for number in (0..u64::BITS).filter(|number| self.0 >> number & 1 == 1) {
            if !std::mem::take(&mut is_first) {
                f.write_str(", ")?;
            }
            match FEATURES.iter().find(|feature| feature.bit.0 == 1 << number) {
                Some(feature) => f.write_str(feature.name)?,
                None => write!(f, "bit {number}")?,
            }
        }
        Ok(())
    }
}

/// A released version: `1.4.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Grows with breaking changes.
    pub major: u32,
    /// Grows with additions.
    pub minor: u32,
    /// Grows with fixes.
    pub patch: u32,
}

impl Version {
    /// Reads `1.4.0`, and ignores what follows a `-` or a `+`. None if the text is no version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let release = text.split(['-', '+']).next().unwrap_or(text);
        let mut numbers = release.split('.').map(|part| {
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| part.parse().ok()).flatten()
        });
        let version =
            Self { major: numbers.next()??, minor: numbers.next()??, patch: numbers.next()?? };
        numbers.next().is_none().then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_have_one_bit_each_in_order_and_names_without_commas() {
        for (number, feature) in FEATURES.iter().enumerate() {
            assert_eq!(feature.bit.bits(), 1 << number);
            assert!(feature.name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_'));
            assert_eq!(Features::named(feature.name), Some(feature.bit));
        }
        let own = Version::parse(env!("CARGO_PKG_VERSION")).unwrap();
        assert_eq!(Features::of_version(own), FEATURES_KNOWN);
    }

    #[test]
    fn what_is_not_known_is_left_over() {
        let (first, last) = (Features::from_bits(1), Features::from_bits(1 << 63));
        let both = first.union(last);
        assert_eq!(both.without(first), last);
        assert!(both.without(both).is_empty());
        assert_eq!(Features::from_bits(1 << 62 | 1 << 63).to_string(), "bit 62, bit 63");
        assert_eq!(Features::NONE.to_string(), "");
    }

    #[test]
    fn versions_are_read_and_compared_by_their_numbers() {
        let version = |text| Version::parse(text);
        assert!(version("1.10.0") > version("1.9.9"));
        assert_eq!(version("1.2.3-rc.1+build"), version("1.2.3"));
        for wrong in ["", "1", "1.2", "1.2.3.4", "v1.2.3", "1.+2.3", "1..3", "1.2.x"] {
            assert_eq!(version(wrong), None, "{wrong}");
        }
    }
}
