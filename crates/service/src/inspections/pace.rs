//! How many comparisons of rules with packets a second all callers may have made. Rules that are
//! not compiled are compared with a packet one by one, which takes the processor time of others.
//! The callers who want more than there is get equal parts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as Moment};

use crate::budget::Shortage;

/// How many comparisons a second one processor may be used for. It makes some 200 million.
const PER_PROCESSOR: u64 = 100_000_000;
/// What a caller who has not asked for long may have made at once, as a part of a second.
const BURST: f64 = 0.1;
/// The longest time that a caller waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many comparisons are made at once, at least for one packet.
const AT_ONCE: u64 = 10_000_000;
/// So few comparisons are not counted: the counting would cost more.
const FEW: u64 = 1_000;

/// The rate of all callers.
#[derive(Debug)]
pub(super) struct Pace {
    per_second: f64,
    debts: Mutex<Debts>,
}

/// The comparisons of each caller that the time since has not paid for.
#[derive(Debug)]
struct Debts {
    at: Moment,
    of: HashMap<Arc<str>, f64>,
}

impl Pace {
    /// The rate of a machine with so many processors.
    pub(super) fn new(processors: usize) -> Self {
        let per_second = PER_PROCESSOR.saturating_mul(u64::try_from(processors).unwrap_or(1));
        Self::per_second(per_second)
    }

    fn per_second(count: u64) -> Self {
        let debts = Debts { at: Moment::now(), of: HashMap::new() };
        // Exact for all numbers that can come here.
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more precision")]
        Self { per_second: (count as f64).max(1.0), debts: Mutex::new(debts) }
    }

    /// How many packets are compared at once if each costs so many comparisons.
    pub(super) fn packets_at_once(comparisons: u64) -> usize {
        usize::try_from(AT_ONCE / comparisons.max(1)).unwrap_or(usize::MAX).max(1)
    }

    /// Counts comparisons of a caller. Returns how long the caller must wait before they are
    /// made.
    ///
    /// # Errors
    /// Returns [`Shortage`], and counts nothing, if that would take too long.
    pub(super) fn charge(
        &self,
        subject: &str,
        comparisons: u64,
        now: Moment,
    ) -> Result<Duration, Shortage> {
        if comparisons <= FEW {
            return Ok(Duration::ZERO);
        }
        let mut debts = self.debts.lock().unwrap_or_else(PoisonError::into_inner);
        debts.pay(self.per_second, now);
        let debt = debts.of.get(subject).copied().unwrap_or_default();
        let callers = debts.of.len() + usize::from(debt == 0.0);
        #[expect(clippy::cast_precision_loss, reason = "there are few callers")]
        let share = self.per_second / callers as f64;
        let wait = ((debt - self.per_second * BURST) / share).max(0.0);
        if wait > PATIENCE.as_secs_f64() {
            return Err(Shortage {
                what: "too many packets are being compared with rules that are not compiled",
                retry_after_s: 5,
            });
        }
        #[expect(clippy::cast_precision_loss, reason = "a debt needs no more precision")]
        let debt = debt + comparisons as f64;
        debts.of.insert(subject.into(), debt);
        Ok(Duration::from_secs_f64(wait))
    }
}

impl Debts {
    /// Pays for the time since the last call: all callers get equal parts of it.
    fn pay(&mut self, per_second: f64, now: Moment) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        if self.of.is_empty() {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "there are few callers")]
        let paid = seconds * per_second / self.of.len() as f64;
        self.of.retain(|_, debt| {
            *debt -= paid;
            *debt > 0.0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_caller_waits_for_what_it_had_made_and_others_do_not() {
        let pace = Pace::per_second(1_000_000);
        let start = Moment::now();
        assert_eq!(pace.charge("ann", 2_100_000, start), Ok(Duration::ZERO), "nothing before it");
        assert_eq!(pace.charge("ann", 500_000, start), Ok(2 * SECOND));
        assert_eq!(pace.charge("bob", 10_000, start), Ok(Duration::ZERO));
        // Two callers have half of the rate each, until one has nothing left to pay for.
        assert_eq!(pace.charge("bob", 1_500_000, start + SECOND), Ok(Duration::ZERO));
        assert_eq!(pace.charge("ann", 10_000, start + SECOND), Ok(4 * SECOND));
        assert!(pace.charge("ann", 1_001, start + SECOND).is_ok());
        assert_eq!(pace.charge("ann", 10_000, start + 100 * SECOND), Ok(Duration::ZERO));
    }

    #[test]
    fn who_would_wait_too_long_is_refused_and_not_charged() {
        let pace = Pace::per_second(1_000_000);
        let start = Moment::now();
        assert_eq!(pace.charge("ann", 6_000_000, start), Ok(Duration::ZERO));
        for _ in 0..10 {
            assert_eq!(pace.charge("ann", 6_000_000, start).unwrap_err().retry_after_s, 5);
        }
        assert_eq!(pace.charge("ann", FEW, start), Ok(Duration::ZERO), "so few never wait");
        assert!(pace.charge("ann", 2_000, start + SECOND).is_ok());
    }

    #[test]
    fn expensive_packets_are_compared_one_at_a_time() {
        assert_eq!(Pace::packets_at_once(u64::MAX), 1);
        assert_eq!(Pace::packets_at_once(1_000_000), 10);
        assert!(Pace::packets_at_once(0) >= 1_000_000);
    }
}
