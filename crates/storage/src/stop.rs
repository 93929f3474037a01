//! Stops statements of SQLite.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sea_orm::SqlxError;
use sea_orm::sqlx::SqliteConnection;

/// How many steps of SQLite's virtual machine run between two checks: about a millisecond.
const STEPS_PER_LOOK: i32 = 20_000;

tokio::task_local! {
    /// Stops the statements of a connection that is being taken from the pool of lists.
    pub(crate) static STOP: Arc<Stop>;
}

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

/// Makes a connection's statements stop when its current user requests it.
pub(crate) async fn obey(connection: &mut SqliteConnection) -> Result<(), SqlxError> {
    let mut handle = connection.lock_handle().await?;
    match STOP.try_with(Arc::clone) {
        Ok(stop) => handle.set_progress_handler(STEPS_PER_LOOK, move || stop.should_continue()),
        Err(_) => handle.remove_progress_handler(),
    }
    Ok(())
}
