//! Turns of compilations. The least expensive one is next, and each turn that another one takes
//! makes a waiting one cheaper, so that none waits forever. All of them together take no more than
//! a given amount of memory.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// After so many turns of others, no other compilation begins before one for which there was no
/// memory. By then its cost has been halved as often.
const MOST_PASSES: u32 = 32;

/// Grants turns. Cheap to clone: all clones share the same turns.
#[derive(Debug, Clone)]
pub(super) struct CompilationQueue(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// How many compilations run at once.
    most: usize,
    running: usize,
    /// The memory that they take, in bytes.
    used: u64,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    bytes: u64,
    capacity: u64,
    /// How many turns others took since.
    passes: u32,
    grant: oneshot::Sender<Turn>,
}

impl Waiting {
    /// The cost that counts: half of it after each turn of another one.
    const fn cost(&self) -> u64 {
        match self.bytes.checked_shr(self.passes) {
            Some(cost) => cost,
            None => 0,
        }
    }
}

/// The right to compile, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    queue: CompilationQueue,
    bytes: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.running = state.running.saturating_sub(1);
        state.used = state.used.saturating_sub(self.bytes);
        drop(state);
        self.queue.serve();
    }
}

impl CompilationQueue {
    /// So many compilations at once.
    pub(super) fn new(most: usize) -> Self {
        let state = State { most: most.max(1), running: 0, used: 0, waiting: Vec::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn of a compilation that takes so much memory, of so much that all of them may
    /// take together. A task that stops waiting loses its place. Returns `None` if the memory would
    /// never suffice.
    pub(super) async fn turn(&self, bytes: u64, capacity: u64) -> Option<Turn> {
        if bytes > capacity {
            return None;
        }
        let (grant, granted) = oneshot::channel();
        self.state().waiting.push(Waiting { bytes, capacity, passes: 0, grant });
        self.serve();
        granted.await.ok()
    }

    /// Grants all turns that are free.
    fn serve(&self) {
        while let Some(waiting) = self.next() {
            // If it has stopped waiting, its turn is dropped here, and free again.
            let turn = Turn { queue: self.clone(), bytes: waiting.bytes };
            drop(waiting.grant.send(turn));
        }
    }

    /// Takes the next one out of the queue, and counts its turn as taken.
    fn next(&self) -> Option<Waiting> {
        let mut state = self.state();
        state.waiting.retain(|waiting| !waiting.grant.is_closed());
        if state.running >= state.most {
            return None;
        }
        let mut order: Vec<usize> = (0..state.waiting.len()).collect();
        order.sort_by_key(|index| state.waiting.get(*index).map(Waiting::cost));
        let mut found = None;
        for index in order {
            let waiting = state.waiting.get(index)?;
            if state.used.saturating_add(waiting.bytes) <= waiting.capacity {
                found = Some(index);
                break;
            }
            if waiting.passes >= MOST_PASSES {
                break;
            }
        }
        let next = state.waiting.remove(found?);
        for waiting in &mut state.waiting {
            waiting.passes = waiting.passes.saturating_add(1);
        }
        state.running += 1;
        state.used = state.used.saturating_add(next.bytes);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const CAPACITY: u64 = 100;

    /// Waits for a turn in a task of its own, and reports its number when it has the turn.
    fn wait(queue: &CompilationQueue, bytes: u64) -> tokio::task::JoinHandle<Option<Turn>> {
        let queue = queue.clone();
        tokio::spawn(async move { queue.turn(bytes, CAPACITY).await })
    }

    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn the_cheapest_is_next_and_nobody_waits_forever() {
        let queue = CompilationQueue::new(1);
        let mut held = queue.turn(1, CAPACITY).await;
        let mut large = Box::pin(wait(&queue, 64));
        settle().await;
        let mut passes = 0;
        loop {
            let small = wait(&queue, 2);
            settle().await;
            drop(held.take());
            settle().await;
            if let Some(granted) = (&mut large).now_or_never() {
                assert!(granted.unwrap().is_some());
                break;
            }
            held = small.await.unwrap();
            passes += 1;
            assert!(passes < 10, "the large one starves");
        }
        assert_eq!(passes, 5, "64 is halved until it is as cheap as 2");
    }

    #[tokio::test]
    async fn all_together_take_no_more_memory_than_there_is() {
        let queue = CompilationQueue::new(4);
        assert!(queue.turn(CAPACITY + 1, CAPACITY).await.is_none(), "it would never fit");
        let first = queue.turn(60, CAPACITY).await.unwrap();
        let second = wait(&queue, 50);
        settle().await;
        assert!(!second.is_finished());
        let third = queue.turn(40, CAPACITY).await.unwrap();
        drop(third);
        settle().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn who_stops_waiting_holds_nothing() {
        let queue = CompilationQueue::new(1);
        let held = queue.turn(100, CAPACITY).await.unwrap();
        let waits = wait(&queue, 100);
        settle().await;
        waits.abort();
        settle().await;
        drop(held);
        let state = queue.state();
        assert_eq!((state.running, state.used, state.waiting.len()), (0, 0, 0));
    }
}
