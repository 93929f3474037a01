//! Whether a rule is evaluated.

use crate::time::Instant;

/// Whether a rule is evaluated at an instant, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RuleState {
    /// It is evaluated.
    Active,
    /// Its `starts_at` is in the future.
    Scheduled,
    /// Its `expires_at` has passed.
    Expired,
    /// It is disabled.
    Disabled,
}

impl RuleState {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Active, Self::Scheduled, Self::Expired, Self::Disabled];

    /// The state at an instant of a rule with these fields. The rule is active at `starts_at`, and
    /// no longer active at `expires_at`.
    #[must_use]
    pub fn of(
        enabled: bool,
        starts_at: Option<Instant>,
        expires_at: Option<Instant>,
        at: Instant,
    ) -> Self {
        if !enabled {
            Self::Disabled
        } else if expires_at.is_some_and(|end| end <= at) {
            Self::Expired
        } else if starts_at.is_some_and(|start| at < start) {
            Self::Scheduled
        } else {
            Self::Active
        }
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Scheduled => "scheduled",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
        }
    }
}
