//! Memory that nobody uses any more goes back to the system while nothing is asked, too.

use std::hint::black_box;
use std::time::Duration;

use fireflow_storage::Pool;

/// How often the allocator is made to look: its own moment is a second.
const EVERY: Duration = Duration::from_secs(2);
/// So many times there is one at which the database's connections forget.
const FORGETS_EACH: u32 = 10;
/// So large that it is no part of what a thread keeps for itself.
const PIECE: usize = 4 * 1024 * 1024;

/// Gives memory back again and again, for as long as the service runs.
///
/// Connections of the database that nobody uses forget the statements that they have prepared, and what
/// they have read: a statement of a thousand rows takes megabytes, and each number of rows is another
/// statement.
///
/// The allocator keeps what is freed for a moment, since the next request may want it, and gives it
/// back when something else is freed after that moment. Of a service that has become idle nothing is:
/// it would keep what its start or its last load took. So a large piece is taken and freed. Nothing is
/// written to it, so that it takes no memory.
pub(super) async fn give_back(pools: Vec<Pool>) {
    for turn in 1_u32.. {
        tokio::time::sleep(EVERY).await;
        if turn.is_multiple_of(FORGETS_EACH) {
            for pool in &pools {
                pool.forget().await;
            }
        }
        drop(black_box(Vec::<u8>::with_capacity(PIECE)));
    }
}
