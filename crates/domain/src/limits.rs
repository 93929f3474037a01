//! Configurable limits.

/// The most that a policy may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyLimits {
    /// Live rules.
    pub rules: u64,
    /// Source, destination and port entries of its live rules.
    pub entries: u64,
}

impl PolicyLimits {
    /// The limits of a policy unless others are set.
    pub const DEFAULT: Self = Self { rules: 200_000, entries: 1_000_000 };
}

impl Default for PolicyLimits {
    fn default() -> Self {
        Self::DEFAULT
    }
}
