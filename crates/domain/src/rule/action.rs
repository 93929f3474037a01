//! What happens to a packet.

use std::fmt;

/// The action on a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The packet passes.
    Allow,
    /// The packet is dropped silently.
    Deny,
    /// The packet is dropped, and its sender is notified.
    Reject,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Reject];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "ALLOW",
            Self::Deny => "DENY",
            Self::Reject => "REJECT",
        }
    }

    /// Reads the word, in any case.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str().eq_ignore_ascii_case(word))
    }

    /// Whether the packet passes.
    #[must_use]
    pub const fn permits(self) -> bool {
        matches!(self, Self::Allow)
    }

    /// How strict the action is: DENY, which drops the packet silently, is stricter than REJECT,
    /// and REJECT is stricter than ALLOW.
    #[must_use]
    pub const fn strictness(self) -> u8 {
        match self {
            Self::Allow => 0,
            Self::Reject => 1,
            Self::Deny => 2,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
