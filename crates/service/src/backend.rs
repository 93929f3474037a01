//! What all units of work share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fireflow_domain::store::Storage;

use crate::budget::Budget;
use crate::monitor::Monitor;

/// What all units of work share.
pub struct Backend {
    /// Where things are kept.
    pub storage: Arc<dyn Storage>,
    /// What records what is done.
    pub monitor: Arc<dyn Monitor>,
    /// The memory that requests borrow from.
    pub budget: Budget,
    /// Turns on a processor for what takes long: large bodies, pages, many packets.
    pub turns: Budget,
    /// The longest time to an answer.
    pub request_timeout: Duration,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("budget", &self.budget).finish_non_exhaustive()
    }
}
