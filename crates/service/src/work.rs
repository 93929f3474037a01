//! What one request holds while it is served: a permit to be served at all, and memory. Both are
//! taken as late as they can be (see `upload`), and given back when the request is answered, however
//! that is.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fireflow_domain::error::Error;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::budget::{Reservation, Shortage, Use};
use crate::error::{ServiceError, internal};
use crate::monitor::{Monitor, join_request};
use crate::session::Session;

/// What one request, and all together, may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// The largest body of a whole rule set, in bytes.
    pub max_rule_set_bytes: usize,
    /// How long the next piece of a body may take to come.
    pub body_stall: Duration,
    /// The longest time to an answer, the body included.
    pub request_timeout: Duration,
    /// One permit per request that is served at the same time.
    pub in_flight: Arc<Semaphore>,
}

/// What a request may take, and what it has taken.
#[derive(Debug)]
pub struct Work {
    /// What it may take.
    pub limits: Limits,
    held: Mutex<Holdings>,
}

#[derive(Debug, Default)]
struct Holdings {
    permit: Option<OwnedSemaphorePermit>,
    memory: Vec<Reservation>,
}

impl Work {
    /// Of a request that has taken nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, held: Mutex::default() }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Holdings> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the request be served: to be called once all of it is there. Whoever only sends a head
    /// or half a body takes nobody's place.
    ///
    /// # Errors
    /// Returns [`ServiceError::TooManyRequests`] if as many requests as may be are being served.
    pub fn admit(&self) -> Result<(), ServiceError> {
        let permit = Arc::clone(&self.limits.in_flight).try_acquire_owned();
        let permit = permit.map_err(|_| ServiceError::TooManyRequests)?;
        self.held().permit = Some(permit);
        Ok(())
    }

    /// Keeps borrowed memory until the request is answered.
    pub fn hold(&self, memory: Reservation) {
        self.held().memory.push(memory);
    }

    /// Gives everything back.
    pub fn release(&self) {
        let held = std::mem::take(&mut *self.held());
        drop(held);
    }
}

/// Gives back what a request holds when it ends, also if its client has left.
#[derive(Debug)]
pub struct WorkGuard(pub Arc<Work>);

impl Drop for WorkGuard {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Runs a future on a thread that serves nobody, as a part of this task's request: to be used for
/// what waits now and then and in between takes a processor for long. It is dropped, as it would be
/// here, if nobody waits for it any more. How many there are at once must be bounded by what they
/// hold.
///
/// # Errors
/// Returns a defect if it panics.
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

/// What a row takes in memory on its way from the database to the answer, in bytes: as a value, as
/// what is shown of it, and as text. Of the first hundred it is what rules with a dozen entries and
/// labels take; so few are read, one subject's in turns, that larger ones do no harm.
const ROW_BYTES: u64 = 8 * 1024;
const FIRST_ROWS: u64 = 100;
/// The same of all further rows: what rules with a hundred sources and a long description take,
/// measured. What is not needed is given back as soon as the answer is there.
const LARGE_ROW_BYTES: u64 = 48 * 1024;
/// The most that the rows of one answer take together: there are bounds on their entries and texts.
const MAX_ROWS_BYTES: u64 = 96 * 1024 * 1024;

/// Up to so many rows are written at once, by the thread that serves: that takes a millisecond.
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

    /// The same for an answer of so many rows, before they are read.
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

    /// Runs what takes a processor for long, in turns and beside the threads that serve: whoever asks
    /// for much waits for themselves, and not others for them.
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

    /// The same if it is for many rows; for few it is done at once.
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
        // There is one thread that serves here: it would wait for itself.
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
        assert!(gone.await.is_err(), "it is dropped with all that it holds");
    }
}
