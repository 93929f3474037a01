//! The resources that a request holds while it is served: a permit and memory. Both are taken as
//! late as possible (see `upload` in the web crate), and released when the request ends, even if it
//! fails or is cancelled.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fireflow_domain::error::Error;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::budget::{Reservation, Shortage, Use};
use crate::error::{ServiceError, internal};
use crate::monitor::{Monitor, join_request};
use crate::session::Session;

/// The limits on each request and on all requests together.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// The largest body of a whole rule set, in bytes.
    pub max_rule_set_bytes: usize,
    /// The longest wait for the next piece of a body.
    pub body_stall: Duration,
    /// The longest time until an answer, including the body.
    pub request_timeout: Duration,
    /// One permit per request that is served at the same time.
    pub in_flight: Arc<Semaphore>,
}

/// The limits of a request, and the resources that it holds.
#[derive(Debug)]
pub struct Work {
    /// The limits of the request.
    pub limits: Limits,
    held: Mutex<Holdings>,
}

#[derive(Debug, Default)]
struct Holdings {
    permit: Option<OwnedSemaphorePermit>,
    memory: Vec<Reservation>,
}

impl Work {
    /// A request that holds nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, held: Mutex::default() }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Holdings> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits the request. To be called once the whole request has arrived, so that a client that
    /// sends only a head or half a body occupies no permit.
    ///
    /// # Errors
    /// Returns [`ServiceError::TooManyRequests`] if the maximum number of requests is already being
    /// served.
    pub fn admit(&self) -> Result<(), ServiceError> {
        let permit = Arc::clone(&self.limits.in_flight).try_acquire_owned();
        let permit = permit.map_err(|_| ServiceError::TooManyRequests)?;
        self.held().permit = Some(permit);
        Ok(())
    }

    /// Holds borrowed memory until the request is answered.
    pub fn hold(&self, memory: Reservation) {
        self.held().memory.push(memory);
    }

    /// Releases the permit and the memory.
    pub fn release(&self) {
        let held = std::mem::take(&mut *self.held());
        drop(held);
    }
}

/// Releases the resources of a request when it ends, even if its client has disconnected.
#[derive(Debug)]
pub struct WorkGuard(pub Arc<Work>);

impl Drop for WorkGuard {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Runs a future on a thread that serves no requests, as a part of this task's request. Use it for
/// work that occupies a processor for long between its waits. The future is dropped as soon as
/// nobody waits for it. The resources that such futures hold must bound their number.
///
/// # Errors
/// Returns [`Error::Internal`] if the future panics.
pub async fn run_on_blocking_thread<T: Send + 'static>(
    monitor: &dyn Monitor,
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    let (waits, gone) = oneshot::channel::<()>();
    let (runtime, future) = (Handle::current(), join_request(monitor, future));
    let run = move || {
        runtime.block_on(async move {
            tokio::select! {
                biased;
                done = future => done,
                _ = gone => None,
            }
        })
    };
    let done = tokio::task::spawn_blocking(run).await.map_err(internal)?;
    drop(waits);
    done.ok_or_else(|| internal("the work was abandoned while a request waited for it"))
}

/// The memory that a row takes between the database and the answer, in bytes: as a value, as a
/// view, and as text. For the first hundred rows, this is what rules with a dozen entries and
/// labels take. Larger rows do no harm here, because a hundred are few, and the requests of one
/// subject take turns.
const ROW_BYTES: u64 = 8 * 1024;
const FIRST_ROWS: u64 = 100;
/// The same for all further rows: measured with rules that have a hundred sources and a long
/// description. The surplus is released as soon as the answer exists.
const LARGE_ROW_BYTES: u64 = 48 * 1024;
/// The most memory of all rows of one answer: their entries and texts are bounded.
const MAX_ROWS_BYTES: u64 = 96 * 1024 * 1024;

/// The most rows that the thread serving the request writes itself, which takes a millisecond.
const MANY_ROWS: usize = 100;

impl Session {
    /// Borrows memory that is held until the request is answered.
    ///
    /// # Errors
    /// Returns [`Shortage`] if there is none in time.
    pub async fn borrow_memory(&self, purpose: Use, bytes: u64) -> Result<(), Shortage> {
        let subject = &self.caller.actor.subject;
        let memory = self.backend.budget.reserve(subject, purpose, bytes).await?;
        self.work.hold(memory);
        Ok(())
    }

    /// Borrows memory for an answer with this many rows, before they are read.
    ///
    /// # Errors
    /// Returns [`Shortage`] if there is none in time.
    pub async fn borrow_for_rows(&self, rows: u32) -> Result<(), Shortage> {
        let rows = u64::from(rows);
        let first = rows.min(FIRST_ROWS).saturating_mul(ROW_BYTES);
        let further = rows.saturating_sub(FIRST_ROWS).saturating_mul(LARGE_ROW_BYTES);
        let bytes = first.saturating_add(further).min(MAX_ROWS_BYTES);
        self.borrow_memory(Use::Answer, bytes).await
    }

    /// Runs long computations in turns, outside the threads that serve requests. A subject with
    /// much work waits for its own turns and does not delay others.
    ///
    /// # Errors
    /// Returns [`ServiceError::Shortage`] if there is no turn in time.
    pub async fn run_in_turn<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let subject = &self.caller.actor.subject;
        let turn = self.backend.turns.reserve(subject, Use::Answer, 1).await?;
        let run = move || {
            let done = run();
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(run).await.map_err(ServiceError::internal)
    }

    /// Like [`Self::run_in_turn`] for many rows. Few rows are processed immediately, on the thread
    /// that serves the request.
    ///
    /// # Errors
    /// Returns [`ServiceError::Shortage`] if there is no turn in time.
    pub async fn run_for_rows<T: Send + 'static>(
        &self,
        rows: usize,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        if rows > MANY_ROWS { self.run_in_turn(run).await } else { Ok(run()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::NoMonitor;

    #[tokio::test]
    async fn what_takes_long_is_done_beside_the_threads_that_serve() {
        let (tell, told) = std::sync::mpsc::channel();
        let blocks = run_on_blocking_thread(&NoMonitor, async move {
            tokio::task::yield_now().await;
            told.recv()
        });
        // This runtime has a single thread, so without a separate one it would wait for itself.
        let tells = async { tell.send(7) };
        let (answer, sent) = tokio::join!(blocks, tells);
        assert_eq!((answer.unwrap(), sent), (Ok(7), Ok(())));
        let panics: Result<(), Error> =
            run_on_blocking_thread(&NoMonitor, async { panic!("a defect") }).await;
        assert!(matches!(panics, Err(Error::Internal(_))));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_given_up() {
        let (held, gone) = oneshot::channel::<()>();
        let (begins, begun) = oneshot::channel();
        let waits = tokio::spawn(async move {
            run_on_blocking_thread(&NoMonitor, async move {
                begins.send(()).unwrap();
                std::future::pending::<()>().await;
                drop(held);
            })
            .await
        });
        begun.await.unwrap();
        waits.abort();
        assert!(gone.await.is_err(), "the future must be dropped with everything that it holds");
    }
}
