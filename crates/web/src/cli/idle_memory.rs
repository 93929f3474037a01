//! Memory that nobody uses any more goes back to the system while nothing is asked, too.
//!
//! The allocator keeps what is freed for a moment, since the next request may want it, and gives it
//! back when something else is freed after that moment. Of a service that has become idle nothing is:
//! it would keep what its start or its last load took. So a large piece is taken and freed now and
//! then. Nothing is written to it, so that it takes no memory.

use std::hint::black_box;
use std::time::Duration;

/// How often: many times the allocator's moment, which is a second.
const EVERY: Duration = Duration::from_secs(10);
/// So large that it is no part of what a thread keeps for itself.
const PIECE: usize = 4 * 1024 * 1024;

/// Has the allocator look, again and again.
pub(super) async fn give_back() {
    loop {
        tokio::time::sleep(EVERY).await;
        drop(black_box(Vec::<u8>::with_capacity(PIECE)));
    }
}
