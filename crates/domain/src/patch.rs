//! Changes that name only what changes.

/// One field of a change: kept as it is, or set anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Patch<T> {
    /// Stays as it is.
    #[default]
    Keep,
    /// Becomes this.
    Set(T),
}

impl<T> Patch<T> {
    /// The new value, or the old one.
    #[must_use]
    pub fn or(self, old: T) -> T {
        match self {
            Self::Keep => old,
            Self::Set(new) => new,
        }
    }

    /// Whether the field is kept.
    #[must_use]
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }
}
