//! What a question may still take: steps, and the time and memory of the whole analysis.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::report::Obstacle;
use super::request::AnalysisLimits;

/// After how many steps `should_continue` is called: every few milliseconds.
const STEPS_BETWEEN_CALLS: u64 = 1 << 15;

/// The limits of an analysis, shared by its threads.
pub(super) struct Budget<'a> {
    limits: &'a AnalysisLimits<'a>,
    bytes: AtomicUsize,
    /// Whether time is over. Once `should_continue` returned false, it is not called again.
    is_over: AtomicU8,
}

impl<'a> Budget<'a> {
    pub(super) const fn new(limits: &'a AnalysisLimits<'a>) -> Self {
        Self { limits, bytes: AtomicUsize::new(0), is_over: AtomicU8::new(0) }
    }

    pub(super) const fn limits(&self) -> &'a AnalysisLimits<'a> {
        self.limits
    }

    /// Whether there is time left.
    pub(super) fn should_continue(&self) -> bool {
        if self.is_over.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let goes_on = (self.limits.should_continue)();
        if !goes_on {
            self.is_over.store(1, Ordering::Relaxed);
        }
        goes_on
    }

    /// Takes memory before it is allocated.
    ///
    /// # Errors
    /// Returns [`Obstacle::Memory`] if the analysis has none left.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Obstacle> {
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.limits.bytes {
            self.give_back(bytes);
            return Err(Obstacle::Memory);
        }
        Ok(())
    }

    /// The memory that is left.
    pub(super) fn left(&self) -> usize {
        self.limits.bytes.saturating_sub(self.bytes.load(Ordering::Relaxed))
    }

    /// Returns memory that was taken.
    pub(super) fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A meter for one question, with its own steps.
    pub(super) fn meter(&self, steps: u64) -> Meter<'_> {
        Meter { budget: self, steps: 0, limit: steps, next_call: 0, bytes: 0 }
    }
}

/// Counts the steps of one question, and gives back the memory that it took when it is dropped.
pub(super) struct Meter<'a> {
    budget: &'a Budget<'a>,
    /// The steps so far. Hot loops add to it directly; [`Self::check`] compares it.
    pub(super) steps: u64,
    limit: u64,
    next_call: u64,
    bytes: usize,
}

impl<'a> Meter<'a> {
    /// Whether the question may go on. Call it in every loop.
    ///
    /// # Errors
    /// Returns [`Obstacle::Steps`] if the steps are used up, and [`Obstacle::Time`] if the analysis
    /// is to end.
    #[inline]
    pub(super) fn check(&mut self) -> Result<(), Obstacle> {
        if self.steps > self.limit {
            return Err(Obstacle::Steps);
        }
        if self.steps >= self.next_call {
            self.next_call = self.steps.saturating_add(STEPS_BETWEEN_CALLS);
            if !self.budget.should_continue() {
                return Err(Obstacle::Time);
            }
        }
        Ok(())
    }

    /// Counts work that depends on rules that do not matter to the question. It takes time, but no
    /// steps, so that whether a question is decided depends only on the rules that matter.
    pub(super) const fn pass(&mut self, steps: u64) {
        self.next_call = self.next_call.saturating_sub(steps);
    }

    /// The memory that the question holds, in bytes.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The steps that are left.
    const fn left(&self) -> u64 {
        self.limit.saturating_sub(self.steps)
    }

    /// Runs a part of the question with at most a share of the steps that are left.
    pub(super) fn within_share<T>(
        &mut self,
        divisor: u64,
        ask: impl FnOnce(&mut Self) -> Result<T, Obstacle>,
    ) -> Result<T, Obstacle> {
        let steps = self.left() / divisor.max(1);
        self.within(steps, ask)
    }

    /// Runs a part of the question with at most so many of its steps.
    pub(super) fn within<T>(
        &mut self,
        steps: u64,
        ask: impl FnOnce(&mut Self) -> Result<T, Obstacle>,
    ) -> Result<T, Obstacle> {
        let limit = self.limit;
        self.limit = limit.min(self.steps.saturating_add(steps));
        let answer = ask(self);
        self.limit = limit;
        answer
    }

    /// Takes memory until the question is done.
    ///
    /// # Errors
    /// Returns [`Obstacle::Memory`] if the analysis has none left.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Obstacle> {
        self.budget.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Returns memory before the question is done.
    pub(super) fn give_back(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.give_back(bytes);
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}
