//! What is kept only for a while: deleted things, and the answers of requests that may be repeated.
//! The audit trail is kept for ever.

use crate::error::Result;
use crate::store::{Purged, Storage, Terms, WriteKind};
use crate::time::{Instant, MICROS_PER_SECOND};

/// How long the answer of a request with a key is kept, in seconds.
pub const ANSWERS_KEPT_S: i64 = 24 * 3_600;
/// How many rows a transaction removes, about: writers wait no longer than that takes.
const ROWS_AT_ONCE: u32 = 2_000;

/// Since when answers are still kept.
#[must_use]
pub fn answers_kept_since(now: Instant) -> Instant {
    now.plus_micros(-ANSWERS_KEPT_S * MICROS_PER_SECOND)
}

/// Removes for good what was deleted before an instant, and answers that are no longer kept, in many
/// small transactions. What is removed cannot be restored.
///
/// # Errors
/// The store's; what was removed until then stays so.
pub async fn purge(storage: &dyn Storage, deleted_before: Instant, now: Instant) -> Result<Purged> {
    let mut all = Purged::default();
    loop {
        let mut uow = storage.write(WriteKind::Many, &Terms::default()).await?;
        let kept_before = answers_kept_since(now);
        let purged = uow.upkeep().purge(deleted_before, kept_before, ROWS_AT_ONCE).await?;
        uow.commit().await?;
        if purged == Purged::default() {
            return Ok(all);
        }
        all = all.plus(purged);
    }
}
