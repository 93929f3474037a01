//! What nobody uses any more of the database's connections is forgotten.

use std::time::Duration;

use fireflow_storage::Pool;

/// How often connections that nobody uses forget.
const EVERY: Duration = Duration::from_secs(20);

/// Has connections of the database that nobody uses forget the statements that they have prepared,
/// and what they have read, for as long as the service runs: a statement of a thousand rows takes
/// megabytes, and each number of rows is another statement.
pub(super) async fn forget(pools: Vec<Pool>) {
    loop {
        tokio::time::sleep(EVERY).await;
        for pool in &pools {
            pool.forget().await;
        }
    }
}
