//! The resources that a request holds while it is served: a permit and memory. Both are taken as
//! late as possible (see `upload`), and released when the request ends, however it ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fireflow_service::budget::{Reservation, Use};
use fireflow_telemetry::request;
use poem::http::{HeaderMap, header};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::app::Context;
use crate::problem::{Code, Problem};

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
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    permit: Option<OwnedSemaphorePermit>,
    memory: Vec<Reservation>,
}

impl Work {
    /// A request that holds nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, held: Mutex::default() }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits the request. To be called once the whole request has arrived, so that a client that
    /// sends only a head or half a body occupies no permit.
    ///
    /// # Errors
    /// Returns 503 if the maximum number of requests is being served.
    pub fn admit(&self) -> Result<(), Problem> {
        let permit = Arc::clone(&self.limits.in_flight).try_acquire_owned();
        let permit = permit.map_err(|_| too_many_requests())?;
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

/// The problem for a request beyond the maximum number of concurrent requests.
#[must_use]
pub fn too_many_requests() -> Problem {
    Problem::unavailable(Code::Unavailable, "too many requests are being served; try again", 1)
}

/// Releases the resources of a request when it ends, even if its client has disconnected.
#[derive(Debug)]
pub struct Served(pub Arc<Work>);

impl Drop for Served {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// Whether the head of a request declares a body. Over HTTP/2 a body need not be declared.
#[must_use]
pub fn declares_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}

/// Runs a future on a thread that serves no requests, as a part of this task's request. Use it for
/// work that occupies a processor for long between its waits. The future is dropped as soon as
/// nobody waits for it. The resources that such futures hold must bound their number.
///
/// # Errors
/// Returns `Code::Internal` if the future panics.
pub async fn beside<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, Problem> {
    let (waits, gone) = oneshot::channel::<()>();
    let (runtime, current) = (Handle::current(), request::current());
    let run = move || {
        runtime.block_on(async move {
            let future = async move {
                match current {
                    Some(current) => request::within(current, future).await,
                    None => future.await,
                }
            };
            tokio::select! {
                biased;
                done = future => Some(done),
                _ = gone => None,
            }
        })
    };
    let done = tokio::task::spawn_blocking(run).await.map_err(Problem::internal)?;
    drop(waits);
    done.ok_or_else(|| Problem::internal("the work was abandoned while a request waited for it"))
}

/// The memory that a row takes between the database and the answer, in bytes: as a value, as a
/// view, and as text. For the first hundred rows, this is what rules with a dozen entries and
/// labels take. Larger rows do no harm here: a hundred are few, and the requests of one subject
/// take turns.
const ROW_BYTES: u64 = 8 * 1024;
const FIRST_ROWS: u64 = 100;
/// The same for all further rows: measured with rules that have a hundred sources and a long
/// description. The surplus is released as soon as the answer exists.
const LARGE_ROW_BYTES: u64 = 48 * 1024;
/// The most memory of all rows of one answer: their entries and texts are bounded.
const MAX_ROWS_BYTES: u64 = 96 * 1024 * 1024;

/// Up to this many rows are written at once by the thread that serves the request, which takes a
/// millisecond.
const MANY_ROWS: usize = 100;

impl Context {
    /// Borrows memory that is held until the request is answered.
    ///
    /// # Errors
    /// Returns 503 with `Retry-After` if the memory does not become free in time.
    pub async fn borrow_memory(&self, purpose: Use, bytes: u64) -> Result<(), Problem> {
        let subject = &self.caller.actor.subject;
        let memory = self.app.budget.reserve(subject, purpose, bytes).await?;
        self.work.hold(memory);
        Ok(())
    }

    /// Borrows memory for an answer with this many rows, before they are read.
    ///
    /// # Errors
    /// Returns 503 with `Retry-After` if the memory does not become free in time.
    pub async fn borrow_for_rows(&self, rows: u32) -> Result<(), Problem> {
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
    /// Returns 503 with `Retry-After` if there is no turn in time.
    pub async fn in_turn<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let subject = &self.caller.actor.subject;
        let turn = self.app.turns.reserve(subject, Use::Answer, 1).await?;
        let run = move || {
            let done = run();
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(run).await.map_err(Problem::internal)
    }

    /// Like [`Self::in_turn`] for many rows; few rows are processed at once.
    ///
    /// # Errors
    /// Returns 503 with `Retry-After` if there is no turn in time.
    pub async fn for_rows<T: Send + 'static>(
        &self,
        rows: usize,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        if rows > MANY_ROWS { self.in_turn(run).await } else { Ok(run()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_long_is_done_beside_the_threads_that_serve() {
        let (tell, told) = std::sync::mpsc::channel();
        let blocks = beside(async move {
            tokio::task::yield_now().await;
            told.recv()
        });
        // This runtime has a single thread, so without a separate one it would wait for itself.
        let tells = async { tell.send(7) };
        let (answer, sent) = tokio::join!(blocks, tells);
        assert_eq!((answer.unwrap(), sent), (Ok(7), Ok(())));
        let panics: Result<(), Problem> = beside(async { panic!("a defect") }).await;
        assert_eq!(panics.unwrap_err().code, Code::Internal);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_given_up() {
        let (held, gone) = oneshot::channel::<()>();
        let (begins, begun) = oneshot::channel();
        let waits = tokio::spawn(beside(async move {
            begins.send(()).unwrap();
            std::future::pending::<()>().await;
            drop(held);
        }));
        begun.await.unwrap();
        waits.abort();
        assert!(gone.await.is_err(), "the future must be dropped with everything that it holds");
    }
}
