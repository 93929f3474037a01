//! Whether the database answers.

use std::time::{Duration, Instant};

use fireflow_domain::store::Storage;

/// How long the result of a health check stays valid.
const READINESS_COUNTS: Duration = Duration::from_millis(500);

/// The result of the last health check of the database.
#[derive(Debug, Default)]
pub struct Readiness(tokio::sync::Mutex<Option<(Instant, bool)>>);

impl Readiness {
    /// Whether the database answers and all migrations are applied. Concurrent calls wait for one
    /// health check and share its result.
    pub async fn check(&self, storage: &dyn Storage) -> bool {
        let mut last = self.0.lock().await;
        if let Some((at, is_ready)) = *last
            && at.elapsed() < READINESS_COUNTS
        {
            return is_ready;
        }
        let is_ready = storage.is_ready().await.unwrap_or(false);
        *last = Some((Instant::now(), is_ready));
        is_ready
    }
}
