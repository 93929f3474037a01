//! A limit on how much of a scarce resource, above all memory, all requests together may hold. A
//! request borrows what it needs before it begins, and gives it back by dropping it. If nothing is
//! free, the request waits for a bounded time.
//!
//! The budget is fair between subjects: one subject gets at most half, and a little more for small
//! requests. The last quarter serves only subjects that hold little, so that a few large holders
//! cannot keep everyone else out.

mod shares;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use shares::{Shares, Waiter};

/// How long a request waits for a part of the budget before it is refused.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a request waits for a turn on a processor. Longer than [`PATIENCE`]: the request has
/// already been received, and refusing it would waste that work.
const TURN_PATIENCE: Duration = Duration::from_secs(15);
/// When a refused request may be retried, in seconds.
const RETRY_AFTER_S: i64 = 5;
/// The most requests that wait. Each holds a connection and a few kilobytes, and the last ones
/// would not be served in time.
const MAX_WAITING: usize = 1_024;

/// The purpose of a loan, which is a label of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The body of a request, and the result of decoding it.
    Body,
    /// A whole rule set or a batch, and what is compared with it.
    RuleSet,
    /// A policy that is being compiled.
    Compilation,
    /// A page of a list while it is built, and a response until it is sent.
    Answer,
    /// A list that is sent as lines.
    Export,
    /// A stream of packets.
    Stream,
    /// The analysis of a policy, a comparison or a search.
    Analysis,
}

impl Use {
    /// All purposes, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Body,
        Self::RuleSet,
        Self::Compilation,
        Self::Answer,
        Self::Export,
        Self::Stream,
        Self::Analysis,
    ];

    /// The purpose's name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::RuleSet => "rule_set",
            Self::Compilation => "compilation",
            Self::Answer => "answer",
            Self::Export => "export",
            Self::Stream => "stream",
            Self::Analysis => "analysis",
        }
    }
}

/// A limited resource: bytes of memory, or turns on a processor. Cheap to clone: all clones share
/// the same budget.
#[derive(Clone)]
pub struct Budget(Arc<Inner>);

struct Inner {
    shares: Mutex<Shares>,
    patience: Duration,
    /// The lacking resource, for the message of a refusal.
    what: &'static str,
    refused: [AtomicU64; Use::ALL.len()],
}

/// The current use of a budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetState {
    /// The whole budget.
    pub capacity: u64,
    /// How much is lent, by [`Use::ALL`].
    pub used: [u64; Use::ALL.len()],
    /// How many loans were refused since the start, by [`Use::ALL`].
    pub refused: [u64; Use::ALL.len()],
    /// How many requests wait.
    pub waiting: u64,
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Budget").field(&self.state()).finish()
    }
}

/// The refusal of a loan: too much is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// The lacking resource.
    pub what: &'static str,
    /// When to retry, in seconds.
    pub retry_after_s: i64,
}

impl Shortage {
    /// A policy changes so often that its parts cannot be read in one state.
    pub const CHANGING: Self =
        Self { what: "the policy changes faster than it can be read", retry_after_s: 1 };
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; retry after {} s", self.what, self.retry_after_s)
    }
}

impl std::error::Error for Shortage {}

/// A part of a budget. Dropping it gives the part back, even if its holder fails or is cancelled.
pub struct Reservation {
    budget: Budget,
    subject: Arc<str>,
    purpose: Use,
    amount: u64,
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("subject", &self.subject)
            .field("purpose", &self.purpose)
            .field("amount", &self.amount)
            .finish()
    }
}

impl Budget {
    /// A budget of memory, in bytes.
    #[must_use]
    pub fn bytes(capacity: u64) -> Self {
        Self::new(Shares::new(capacity, false), "the memory for requests is in use", PATIENCE)
    }

    /// The same capacity, with another timeout for waiting requests.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        let shares = self.with(|shares| shares.unused());
        Self::new(shares, self.0.what, patience)
    }

    /// Turns for work that occupies a processor for long, as many at once as there are processors.
    /// One subject gets at most half of them, so that the rest of the service keeps running.
    #[must_use]
    pub fn turns(processors: usize) -> Self {
        let capacity = u64::try_from(processors.max(1)).unwrap_or(u64::MAX);
        let shares = Shares::new(capacity, true);
        Self::new(shares, "too many requests are being processed", TURN_PATIENCE)
    }

    fn new(shares: Shares, what: &'static str, patience: Duration) -> Self {
        let shares = Mutex::new(shares);
        Self(Arc::new(Inner { shares, patience, what, refused: Default::default() }))
    }

    fn with<T>(&self, ask: impl FnOnce(&mut Shares) -> T) -> T {
        ask(&mut self.0.shares.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current use of the budget.
    #[must_use]
    pub fn state(&self) -> BudgetState {
        let refused = std::array::from_fn(|index| {
            self.0.refused.get(index).map_or(0, |count| count.load(Ordering::Relaxed))
        });
        self.with(|shares| BudgetState {
            capacity: shares.capacity(),
            used: shares.used_by_purpose(),
            refused,
            waiting: u64::try_from(shares.waiting()).unwrap_or(u64::MAX),
        })
    }

    /// The most that one subject can hold.
    #[must_use]
    pub fn share(&self) -> u64 {
        self.with(|shares| shares.share())
    }

    /// Borrows an amount if it is free now and nobody waits for it. An amount above a subject's
    /// share counts as the whole share, so it is granted only if the subject holds little.
    #[must_use]
    pub fn try_reserve(&self, subject: &str, purpose: Use, amount: u64) -> Option<Reservation> {
        self.with(|shares| {
            let amount = amount.min(shares.share());
            shares.take(subject, purpose, amount).map(|subject| Reservation {
                budget: self.clone(),
                subject,
                purpose,
                amount,
            })
        })
    }

    /// Borrows an amount even if it is not free: for something that already exists and cannot be
    /// refused.
    #[must_use]
    pub fn reserve_anyway(&self, subject: &str, purpose: Use, amount: u64) -> Reservation {
        let subject = self.with(|shares| shares.force(subject, purpose, amount));
        Reservation { budget: self.clone(), subject, purpose, amount }
    }

    /// Borrows an amount, and waits up to the budget's timeout (by default [`PATIENCE`]) for it. An
    /// amount above a subject's share counts as in [`Self::try_reserve`].
    ///
    /// # Errors
    /// Returns [`Shortage`] if the wait times out, or too many requests already wait.
    pub async fn reserve(
        &self,
        subject: &str,
        purpose: Use,
        amount: u64,
    ) -> Result<Reservation, Shortage> {
        if let Some(reservation) = self.try_reserve(subject, purpose, amount) {
            return Ok(reservation);
        }
        if let Some(receiver) = self.enqueue(subject, purpose, amount)
            && let Ok(Ok(reservation)) = timeout(self.0.patience, receiver).await
        {
            return Ok(reservation);
        }
        Err(self.refuse(purpose))
    }

    /// Waits for an amount, unless too many requests already wait.
    fn enqueue(
        &self,
        subject: &str,
        purpose: Use,
        amount: u64,
    ) -> Option<oneshot::Receiver<Reservation>> {
        let receiver = self.with(|shares| {
            if shares.waiting() >= MAX_WAITING {
                return None;
            }
            let (grant, receiver) = oneshot::channel();
            let amount = amount.min(shares.share());
            shares.wait(Waiter { subject: subject.into(), purpose, amount, grant });
            Some(receiver)
        });
        // What was given back between the caller's first attempt and its place in the queue has woken
        // nobody.
        self.serve();
        receiver
    }

    /// Counts a refusal, and returns it.
    pub fn refuse(&self, purpose: Use) -> Shortage {
        if let Some(count) = self.0.refused.get(purpose as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Shortage { what: self.0.what, retry_after_s: RETRY_AFTER_S }
    }

    /// Lends what is free to waiting requests.
    fn serve(&self) {
        let served = self.with(Shares::next);
        for (waiter, subject) in served {
            let Waiter { purpose, amount, grant, .. } = waiter;
            let reservation = Reservation { budget: self.clone(), subject, purpose, amount };
            // If the waiter has left in the meantime, dropping the reservation here gives it back.
            drop(grant.send(reservation));
        }
    }
}

impl Reservation {
    /// The borrowed amount.
    #[must_use]
    pub const fn amount(&self) -> u64 {
        self.amount
    }

    /// Gives back what exceeds an amount.
    pub fn shrink_to(&mut self, amount: u64) {
        let Some(freed) = self.amount.checked_sub(amount).filter(|freed| *freed > 0) else {
            return;
        };
        self.amount = amount;
        self.budget.with(|shares| shares.give_back(&self.subject, self.purpose, freed));
        self.budget.serve();
    }

    /// Borrows more, up to a total amount. Waits as [`Budget::reserve`] does.
    ///
    /// # Errors
    /// Returns [`Shortage`] if the wait times out.
    pub async fn grow_to(&mut self, amount: u64) -> Result<(), Shortage> {
        let amount = amount.min(self.budget.share());
        let Some(more) = amount.checked_sub(self.amount).filter(|more| *more > 0) else {
            return Ok(());
        };
        let mut added = self.budget.reserve(&self.subject, self.purpose, more).await?;
        self.amount = self.amount.saturating_add(std::mem::take(&mut added.amount));
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.amount > 0 {
            self.budget.with(|shares| shares.give_back(&self.subject, self.purpose, self.amount));
            self.budget.serve();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: u64 = 512;

    fn budget() -> Budget {
        Budget::bytes(2 * SHARE)
    }

    #[test]
    fn one_subject_cannot_have_all_of_it() {
        let budget = budget();
        let held = budget.try_reserve("ann", Use::Body, SHARE).unwrap();
        assert!(budget.try_reserve("ann", Use::Body, 10).is_none());
        // Tiny requests are exempt.
        drop(budget.try_reserve("ann", Use::Body, 2).unwrap());
        assert!(budget.try_reserve("bob", Use::Body, SHARE).is_none(), "the last quarter is kept");
        let little = budget.try_reserve("bob", Use::Body, 64).unwrap();
        drop(held);
        // An amount above a share counts as the share.
        assert_eq!(budget.try_reserve("ann", Use::Body, u64::MAX).unwrap().amount(), SHARE);
        drop(little);
        assert_eq!(budget.state().used, [0; Use::ALL.len()]);
    }

    #[test]
    fn small_requests_of_a_subject_do_not_keep_its_large_one_waiting() {
        let budget = budget();
        let _small = budget.try_reserve("ann", Use::Body, 50).unwrap();
        let large = budget.try_reserve("ann", Use::RuleSet, u64::MAX).unwrap();
        assert_eq!(large.amount(), SHARE);
        assert!(budget.try_reserve("ann", Use::RuleSet, u64::MAX).is_none());
    }

    #[test]
    fn who_holds_little_is_served_while_others_hold_much() {
        let budget = budget();
        let _ann = budget.try_reserve("ann", Use::RuleSet, SHARE).unwrap();
        let _bob = budget.try_reserve("bob", Use::RuleSet, SHARE / 2).unwrap();
        assert!(budget.try_reserve("eve", Use::RuleSet, SHARE / 2).is_none());
        let small: Vec<_> = (0..4)
            .filter_map(|name| budget.try_reserve(&name.to_string(), Use::Body, 64))
            .collect();
        assert_eq!(small.len(), 4);
        let state = budget.state();
        assert_eq!(state.used.iter().sum::<u64>(), 2 * SHARE);
        assert_eq!(state.used[Use::Body as usize], 256);
    }

    #[test]
    fn all_turns_are_taken_and_half_of_them_by_one_subject() {
        for processors in [1_usize, 2, 3, 4, 8, 64, 512] {
            let turns = Budget::turns(processors);
            let mut held = Vec::new();
            for subject in ["ann", "bob", "eve"] {
                let before = held.len();
                while let Some(turn) = turns.try_reserve(subject, Use::Body, 1) {
                    held.push(turn);
                }
                let half = (processors / 2).max(1);
                assert_eq!(held.len() - before, half.min(processors - before), "{processors}");
            }
            assert_eq!(held.len(), processors);
        }
    }

    #[tokio::test]
    async fn who_waits_is_served_in_turns_or_told_to_come_back() {
        let budget = budget().with_patience(Duration::from_secs(60));
        let first = budget.reserve("ann", Use::RuleSet, SHARE).await.unwrap();
        let other = budget.clone();
        let waits = tokio::spawn(async move { other.reserve("bob", Use::RuleSet, SHARE).await });
        tokio::task::yield_now().await;
        assert_eq!(budget.state().waiting, 1);
        drop(first);
        assert_eq!(waits.await.unwrap().unwrap().amount(), SHARE);

        let budget = budget.with_patience(Duration::from_millis(20));
        let second = budget.reserve("ann", Use::RuleSet, SHARE).await.unwrap();
        let refused = budget.reserve("ann", Use::RuleSet, SHARE).await.unwrap_err();
        assert_eq!(refused.retry_after_s, 5);
        assert_eq!(budget.state().refused[Use::RuleSet as usize], 1);
        drop(second);
        // A waiter that gave up no longer waits, and holds nothing.
        assert_eq!(budget.state().used, [0; Use::ALL.len()]);
        assert!(budget.try_reserve("ann", Use::Body, SHARE).is_some());
    }

    #[tokio::test]
    async fn what_was_given_back_before_somebody_waits_is_not_lost() {
        let budget = budget();
        let held = budget.try_reserve("ann", Use::Body, SHARE).unwrap();
        assert!(budget.try_reserve("ann", Use::Body, SHARE).is_none());
        // Between the attempt and the place in the queue.
        drop(held);
        let mut receiver = budget.enqueue("ann", Use::Body, SHARE).unwrap();
        assert_eq!(receiver.try_recv().unwrap().amount(), SHARE);
    }

    #[tokio::test]
    async fn who_leaves_while_waiting_holds_nothing() {
        let budget = budget();
        let held = budget.reserve("ann", Use::Body, SHARE).await.unwrap();
        let waiting = budget.clone();
        let waits = tokio::spawn(async move { waiting.reserve("ann", Use::Body, 10).await });
        tokio::task::yield_now().await;
        waits.abort();
        assert!(waits.await.unwrap_err().is_cancelled());
        drop(held);
        let state = budget.state();
        assert_eq!((state.used, state.waiting), ([0; Use::ALL.len()], 0));
    }

    #[tokio::test]
    async fn what_is_borrowed_grows_and_shrinks() {
        let budget = budget();
        let mut held = budget.reserve("ann", Use::Answer, 100).await.unwrap();
        held.grow_to(300).await.unwrap();
        assert_eq!(budget.state().used[Use::Answer as usize], 300);
        held.shrink_to(20);
        held.shrink_to(50);
        assert_eq!((held.amount(), budget.state().used[Use::Answer as usize]), (20, 20));
        drop(held);
        drop(budget.reserve_anyway("ann", Use::Answer, 4 * SHARE));
        assert_eq!(budget.state().used, [0; Use::ALL.len()]);
    }
}
