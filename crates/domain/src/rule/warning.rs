//! Warnings about rules.

/// A warning about a part of a rule that is accepted although it can have no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Its kind.
    pub code: WarningCode,
    /// A JSON pointer into the rule.
    pub pointer: String,
    /// The warning in a sentence.
    pub detail: String,
}

/// The kinds of [`Warning`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WarningCode {
    /// A source or destination that no packet of the rule can match.
    EntryWithoutEffect,
    /// A protocol that no packet of the rule can have.
    ProtocolWithoutEffect,
    /// `ports`, although every destination that packets can match names its own.
    PortsWithoutEffect,
    /// `expires_at` is in the past.
    Expired,
}

impl WarningCode {
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self::EntryWithoutEffect,
        Self::ProtocolWithoutEffect,
        Self::PortsWithoutEffect,
        Self::Expired,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EntryWithoutEffect => "entry_without_effect",
            Self::ProtocolWithoutEffect => "protocol_without_effect",
            Self::PortsWithoutEffect => "ports_without_effect",
            Self::Expired => "expired",
        }
    }
}
