//! Frees the memory of idle SQLite connections.

use std::time::Duration;

use fireflow_storage::Pool;

/// How often idle connections are cleared.
const EVERY: Duration = Duration::from_secs(20);

/// Clears the prepared statements and the page cache of idle SQLite connections, for as long as the
/// service runs. A statement for a thousand rows takes megabytes, and each number of rows is
/// another statement.
pub(super) async fn forget(pools: Vec<Pool>) {
    loop {
        tokio::time::sleep(EVERY).await;
        for pool in &pools {
            pool.forget().await;
        }
    }
}
