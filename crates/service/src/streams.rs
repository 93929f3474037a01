//! How many streams of packets are inspected at once, of all and of one subject.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use crate::budget::{Budget, Reservation, Use};
use crate::error::ServiceError;

/// What a stream takes: a piece that is collected, one that is answered, its answers, and two pieces of
/// answers that wait to be sent.
const STREAM_BYTES: u64 = 1024 * 1024;
/// How many streams there are at once, for each processor; and how many of them of one subject.
const PER_PROCESSOR: usize = 32;
const PER_SUBJECT: usize = 16;

/// The streams that are under way.
#[derive(Debug)]
pub struct Streams {
    most: usize,
    /// How long a stream may wait for its next packets.
    pub packet_timeout: Duration,
    of_subjects: Arc<Mutex<HashMap<String, usize>>>,
    /// A processor for each piece that is answered: in turns, whatever the number of streams.
    processors: Semaphore,
}

/// The right to answer a stream. It ends when this is dropped.
#[derive(Debug)]
pub struct StreamPermit {
    of_subjects: Arc<Mutex<HashMap<String, usize>>>,
    subject: String,
    memory: Option<Reservation>,
}

impl Streams {
    /// As many as this machine can answer, each of which may wait so long for packets.
    #[must_use]
    pub fn new(packet_timeout: Duration) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let most = processors.saturating_mul(PER_PROCESSOR);
        let processors = Semaphore::new(processors);
        Self { most, packet_timeout, of_subjects: Arc::default(), processors }
    }

    /// How many there are.
    #[must_use]
    pub fn under_way(&self) -> u64 {
        let of_subjects = self.of_subjects.lock().unwrap_or_else(PoisonError::into_inner);
        of_subjects.values().sum::<usize>().try_into().unwrap_or(u64::MAX)
    }

    /// Admits a stream of a subject, with the memory for it.
    ///
    /// # Errors
    /// Returns [`ServiceError::TooManyStreams`] if there are too many already, of all or of this
    /// subject, and [`ServiceError::Shortage`] if there is no memory.
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

    /// Waits for a processor to answer a piece on.
    ///
    /// # Errors
    /// Returns none: the semaphore is never closed.
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
