//! The limit on concurrent streams of packets, in total and per subject.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use crate::budget::{Budget, Reservation, Use};
use crate::error::ServiceError;

/// The memory that a stream takes: a piece that is being received, a piece that is being answered,
/// its answers, and two pieces of answers that wait to be sent.
const STREAM_BYTES: u64 = 1024 * 1024;
/// The most concurrent streams for each processor.
const PER_PROCESSOR: usize = 32;
/// The most concurrent streams of one subject.
const PER_SUBJECT: usize = 16;

/// The streams that are being inspected.
#[derive(Debug)]
pub struct Streams {
    most: usize,
    /// How long a stream may wait for its next packets.
    pub packet_timeout: Duration,
    of_subjects: Arc<Mutex<HashMap<String, usize>>>,
    /// One permit per processor. The pieces of all streams are answered in turns.
    processors: Semaphore,
}

/// The right to answer a stream, which ends when this is dropped.
#[derive(Debug)]
pub struct StreamPermit {
    of_subjects: Arc<Mutex<HashMap<String, usize>>>,
    subject: String,
    memory: Option<Reservation>,
}

impl Streams {
    /// Allows as many streams as this machine can answer. Each may wait up to the timeout for its
    /// next packets.
    #[must_use]
    pub fn new(packet_timeout: Duration) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let most = processors.saturating_mul(PER_PROCESSOR);
        let processors = Semaphore::new(processors);
        Self { most, packet_timeout, of_subjects: Arc::default(), processors }
    }

    /// The number of streams that are being inspected.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        let of_subjects = self.of_subjects.lock().unwrap_or_else(PoisonError::into_inner);
        of_subjects.values().sum::<usize>().try_into().unwrap_or(u64::MAX)
    }

    /// Admits a stream of a subject, with the memory for it.
    ///
    /// # Errors
    /// Returns [`ServiceError::TooManyStreams`] if there are already too many streams, in total or
    /// of this subject, and [`ServiceError::Shortage`] if there is no memory.
    pub async fn admit(
        &self,
        budget: &Budget,
        subject: &str,
    ) -> Result<StreamPermit, ServiceError> {
        let mut permit = self.place(subject)?;
        permit.memory = Some(budget.reserve(subject, Use::Stream, STREAM_BYTES).await?);
        Ok(permit)
    }

    fn place(&self, subject: &str) -> Result<StreamPermit, ServiceError> {
        let mut of_subjects = self.of_subjects.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = of_subjects.values().sum();
        let own = of_subjects.get(subject).copied().unwrap_or_default();
        if all >= self.most || own >= PER_SUBJECT {
            return Err(ServiceError::TooManyStreams);
        }
        of_subjects.insert(subject.to_owned(), own + 1);
        let of_subjects = Arc::clone(&self.of_subjects);
        Ok(StreamPermit { of_subjects, subject: subject.to_owned(), memory: None })
    }

    /// Waits for a processor on which a piece can be answered.
    ///
    /// # Errors
    /// Never returns an error, because the semaphore is never closed.
    pub async fn processor(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.processors.acquire().await
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut of_subjects = self.of_subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = of_subjects.get_mut(&self.subject) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                of_subjects.remove(&self.subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_subject_cannot_have_all_streams_and_gives_back_what_it_had() {
        let (streams, budget) = (Streams::new(Duration::ZERO), Budget::bytes(1 << 30));
        let mut held = Vec::new();
        for _ in 0..PER_SUBJECT {
            held.push(streams.admit(&budget, "ann").await.unwrap());
        }
        let refused = streams.admit(&budget, "ann").await;
        assert!(matches!(refused, Err(ServiceError::TooManyStreams)));
        let other = streams.admit(&budget, "bob").await.unwrap();
        assert_eq!(streams.under_way(), 17);
        let used = |budget: &Budget| budget.state().used[Use::Stream as usize];
        assert_eq!(used(&budget), 17 * STREAM_BYTES);
        drop((held, other));
        assert_eq!((streams.under_way(), used(&budget)), (0, 0));
    }

    #[tokio::test]
    async fn a_stream_without_memory_takes_no_place() {
        let streams = Streams::new(Duration::ZERO);
        let budget = Budget::bytes(4 * STREAM_BYTES).with_patience(Duration::from_millis(1));
        let _all = budget.reserve_anyway("bob", Use::Body, 4 * STREAM_BYTES);
        let refused = streams.admit(&budget, "ann").await;
        assert!(matches!(refused, Err(ServiceError::Shortage(_))));
        assert_eq!(streams.under_way(), 0);
    }
}
