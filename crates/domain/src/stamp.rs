//! Who wrote something, and when.

use crate::time::Instant;

/// The time and the author of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The time.
    pub at: Instant,
    /// The author: the token's subject.
    pub by: String,
}
