//! Retention of deleted resources, and of the answers of requests that may be repeated. The audit
//! trail is kept forever.

use crate::error::Result;
use crate::store::{Purged, Storage, Terms, WriteKind};
use crate::time::{Instant, MICROS_PER_SECOND};

/// How long the answer of a request with a key is kept, in seconds.
pub const ANSWERS_KEPT_S: i64 = 24 * 3_600;
/// Roughly how many rows one transaction removes. Other writers wait for no more than that.
const ROWS_AT_ONCE: u32 = 2_000;

/// The instant since which answers are kept.
#[must_use]
pub fn answers_kept_since(now: Instant) -> Instant {
    now.plus_micros(-ANSWERS_KEPT_S * MICROS_PER_SECOND)
}

/// Removes permanently what was deleted before an instant, and the answers that have expired. Works
/// in many small transactions. Removed resources cannot be restored.
///
/// # Errors
/// Returns the store's error; the transactions before it remain committed.
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
