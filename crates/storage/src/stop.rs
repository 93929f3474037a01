//! Stops statements of SQLite.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use sea_orm::SqlxError;
use sea_orm::sqlx::SqliteConnection;

/// How many steps of SQLite's virtual machine run between two checks: about a millisecond.
const STEPS_PER_LOOK: i32 = 20_000;

/// Stops a SQLite statement: at a deadline, or when nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct Stop {
    at: Option<Instant>,
    is_stopped: AtomicBool,
}

impl Stop {
    pub(crate) fn new(at: Option<Instant>) -> Arc<Self> {
        Arc::new(Self { at, is_stopped: AtomicBool::new(false) })
    }

    fn should_continue(&self) -> bool {
        !self.is_stopped.load(Ordering::Relaxed) && self.at.is_none_or(|at| Instant::now() < at)
    }
}

/// Stops the statement when it is dropped.
#[derive(Debug)]
pub(crate) struct StopOnDrop(pub(crate) Arc<Stop>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// What stops the statements of a connection at present.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watched(Arc<Mutex<Option<Arc<Stop>>>>);

impl Watched {
    /// Sets what stops the next statements; none: nothing.
    pub(crate) fn set(&self, stop: Option<Arc<Stop>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stop;
    }

    fn should_continue(&self) -> bool {
        let stop = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stop.as_ref().is_none_or(|it| it.should_continue())
    }
}

/// Makes a new connection's statements stop when its user at that time requests it.
pub(crate) async fn obey_from_now_on(
    connection: &mut SqliteConnection,
) -> Result<Watched, SqlxError> {
    let watched = Watched::default();
    let asked = watched.clone();
    let mut handle = connection.lock_handle().await?;
    handle.set_progress_handler(STEPS_PER_LOOK, move || asked.should_continue());
    Ok(watched)
}
