//! The requests that wait for an analysis.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as Moment};

/// The interest in an analysis. Once there is none, the analysis is abandoned, and nobody can join it
/// any more.
#[derive(Debug)]
pub(super) struct Interest {
    waiters: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_abandoned: bool,
    /// Until when somebody is expected to ask again.
    expected_until: Option<Moment>,
}

impl Interest {
    /// The interest of one waiter, which a guard takes over.
    pub(super) fn of_one() -> Self {
        Self { waiters: AtomicUsize::new(1), state: Mutex::default() }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a waiter, which a guard takes over. Returns false if the analysis is abandoned.
    pub(super) fn join(&self) -> bool {
        let state = self.state();
        if !state.is_abandoned {
            self.waiters.fetch_add(1, Ordering::Relaxed);
        }
        !state.is_abandoned
    }

    /// A guard of a waiter that was already added.
    pub(super) fn guard(self: &Arc<Self>) -> Waiter {
        Waiter(Arc::clone(self))
    }

    /// Whether somebody waits, or is expected to ask again. If not, the analysis is abandoned from
    /// now on. Costs one load while somebody waits.
    pub(super) fn is_awaited(&self) -> bool {
        if self.waiters.load(Ordering::Relaxed) > 0 {
            return true;
        }
        let mut state = self.state();
        // A waiter may have joined before the lock was taken.
        let is_awaited = self.waiters.load(Ordering::Relaxed) > 0
            || state.expected_until.is_some_and(|until| Moment::now() < until);
        state.is_abandoned |= !is_awaited;
        !state.is_abandoned
    }
}

/// A waiter, until it is dropped.
#[derive(Debug)]
pub(super) struct Waiter(Arc<Interest>);

impl Waiter {
    /// Leaves, but is expected to ask again within a time.
    pub(super) fn leave_for(self, time: Duration) {
        self.0.state().expected_until = Some(Moment::now() + time);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_analysis_is_abandoned_once_nobody_waits_or_is_expected() {
        let interest = Arc::new(Interest::of_one());
        let first = interest.guard();
        assert!(interest.join());
        let second = interest.guard();
        drop(first);
        assert!(interest.is_awaited());
        second.leave_for(Duration::from_secs(3_600));
        assert!(interest.is_awaited(), "it is expected again");
        assert!(interest.join());
        interest.guard().leave_for(Duration::ZERO);
        assert!(!interest.is_awaited());
        assert!(!interest.join(), "a later request starts another one");
        assert!(!interest.is_awaited());
    }
}
