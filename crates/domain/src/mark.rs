//! Marks, which distinguish each state of a resource from every other state.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::error::Resource;
use crate::ids::Revision;

/// A random number that is drawn with each write of a resource. A revision is a counter: a backup
/// that replaces a database, or a lagging standby that becomes the primary, can give the same
/// revision to another state. A mark is never drawn twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark(u64);

impl Mark {
    /// The mark of an unmarked state, which matches no state, not even itself.
    pub const NONE: Self = Self(0);

    /// A mark of random bits.
    #[must_use]
    pub const fn new(random: u64) -> Self {
        Self(random)
    }

    /// Its bits.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether it distinguishes its state from others.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 != Self::NONE.0
    }

    /// Reads the 16 digits that [`fmt::Display`] writes; [`Mark::NONE`] if the text is not valid.
    #[must_use]
    pub fn parse(digits: &str) -> Self {
        hex(digits, 16).map_or(Self::NONE, Self)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Reads a number of exactly `count` lower-case hexadecimal digits.
fn hex(digits: &str, count: usize) -> Option<u64> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_plain = digits.len() == count && digits.bytes().all(is_digit);
    is_plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

/// The current state of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CurrentState {
    /// The kind of the resource.
    pub what: Resource,
    /// Its id.
    pub id: i64,
    /// The mark of its state.
    pub mark: Mark,
    /// Its revision, for people.
    pub revision: Revision,
}

/// A client's name for a state: 24 hexadecimal digits of the mark and of a checksum that identifies
/// the resource. So the tag of another resource can be distinguished from that of a former state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateTag {
    mark: Mark,
    check: u32,
}

impl StateTag {
    /// How many digits it has.
    const DIGITS: usize = 24;

    /// The tag of a state.
    #[must_use]
    pub fn of(state: CurrentState) -> Self {
        Self { mark: state.mark, check: check(state.what, state.id, state.mark) }
    }

    /// Reads the text that [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::DIGITS {
            return None;
        }
        let (mark, check) = text.split_at_checked(16)?;
        let check = hex(check, 8).and_then(|check| u32::try_from(check).ok())?;
        Some(Self { mark: Mark(hex(mark, 16)?), check })
    }

    /// Whether it names the current state or a former state of this resource.
    #[must_use]
    pub fn is_of(self, what: Resource, id: i64) -> bool {
        self.check == check(what, id, self.mark)
    }

    /// Whether it names exactly this state.
    #[must_use]
    pub fn is(self, state: CurrentState) -> bool {
        state.mark.is_known() && self == Self::of(state)
    }
}

impl fmt::Display for StateTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:08x}", self.mark, self.check)
    }
}

fn check(what: Resource, id: i64, mark: Mark) -> u32 {
    let mut hash = Sha256::new();
    hash.update(what.as_str());
    hash.update(id.to_be_bytes());
    hash.update(mark.0.to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let [a, b, c, d, ..] = digest;
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(what: Resource, id: i64, mark: u64) -> CurrentState {
        CurrentState { what, id, mark: Mark::new(mark), revision: Revision(7) }
    }

    #[test]
    fn a_tag_names_one_state_of_one_resource() {
        let tag = StateTag::of(state(Resource::Rule, 3, 0xfe));
        assert_eq!(StateTag::parse(&tag.to_string()), Some(tag));
        assert!(tag.is(state(Resource::Rule, 3, 0xfe)));
        assert!(tag.is_of(Resource::Rule, 3));
        assert!(!tag.is(state(Resource::Rule, 3, 0xff)), "another state");
        for (what, id) in [(Resource::Rule, 4), (Resource::Policy, 3)] {
            assert!(!tag.is(state(what, id, 0xfe)), "of another resource");
            assert!(!tag.is_of(what, id));
        }
    }

    #[test]
    fn a_state_without_a_mark_is_never_known_again() {
        let unmarked = state(Resource::Policy, 1, 0);
        assert!(!StateTag::of(unmarked).is(unmarked));
        assert!(!Mark::parse("").is_known());
        assert_eq!(Mark::parse("00000000000000ff"), Mark::new(255));
    }

    #[test]
    fn only_what_was_written_is_read() {
        let good = "00000000000000fe12345678";
        assert!(StateTag::parse(good).is_some());
        for bad in ["", "6", "abc", "00000000000000FE12345678", "+0000000000000fe12345678"] {
            assert_eq!(StateTag::parse(bad), None, "{bad}");
        }
        assert_eq!(StateTag::parse("é0000000000000fe1234567"), None);
        assert_eq!(StateTag::parse(&format!("{good}0")), None);
    }
}
