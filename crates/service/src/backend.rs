//! The parts that all units of work share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use fireflow_domain::store::Storage;

use crate::budget::Budget;
use crate::monitor::Monitor;

/// The parts that all units of work share.
pub struct Backend {
    /// Stores all resources.
    pub storage: Arc<dyn Storage>,
    /// Records the work that is done.
    pub monitor: Arc<dyn Monitor>,
    /// The memory that requests borrow from.
    pub budget: Budget,
    /// Turns on a processor for long computations: large bodies, pages, many packets.
    pub turns: Budget,
    /// The longest time until an answer.
    pub request_timeout: Duration,
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("budget", &self.budget).finish_non_exhaustive()
    }
}
