//! The arithmetic of a budget: how much each subject may hold, and which waiter is next.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Reservation, Use};

/// A request that waits for an amount.
pub(super) struct Waiter {
    pub(super) subject: Arc<str>,
    pub(super) purpose: Use,
    pub(super) amount: u64,
    pub(super) grant: oneshot::Sender<Reservation>,
}

/// The amounts that are lent, and the requests that wait.
pub(super) struct Shares {
    capacity: u64,
    /// Whether loans are whole units, such as a processor. Then no request asks for less than
    /// others, and nothing is reserved for small ones.
    is_counted: bool,
    used: u64,
    by_purpose: [u64; Use::ALL.len()],
    by_subject: HashMap<Arc<str>, u64>,
    /// In their order of arrival.
    waiting: Vec<Waiter>,
}

impl Shares {
    pub(super) fn new(capacity: u64, is_counted: bool) -> Self {
        Self {
            capacity,
            is_counted,
            used: 0,
            by_purpose: [0; Use::ALL.len()],
            by_subject: HashMap::new(),
            waiting: Vec::new(),
        }
    }

    pub(super) const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The same capacity, with nothing lent.
    pub(super) fn unused(&self) -> Self {
        Self::new(self.capacity, self.is_counted)
    }

    pub(super) const fn used_by_purpose(&self) -> [u64; Use::ALL.len()] {
        self.by_purpose
    }

    pub(super) fn waiting(&mut self) -> usize {
        self.waiting.retain(|waiter| !waiter.grant.is_closed());
        self.waiting.len()
    }

    /// The most that one subject holds at once: half.
    pub(super) const fn share(&self) -> u64 {
        match self.capacity / 2 {
            0 => self.capacity,
            half => half,
        }
    }

    /// Whether a subject may borrow this much more now.
    fn fits(&self, subject: &str, amount: u64) -> bool {
        let before = self.by_subject.get(subject).copied().unwrap_or_default();
        let own = before.saturating_add(amount);
        if self.is_counted {
            return own <= self.share() && self.used.saturating_add(amount) <= self.capacity;
        }
        // Tiny requests are served even while large ones are.
        let is_small = amount <= self.capacity / 256;
        let little = self.capacity / 16;
        // A subject that holds little may borrow a whole share on top. Otherwise the large request
        // of a subject that always has small ones in progress would never be served.
        let is_within_share = own <= self.share()
            || before <= little
            || (is_small && before <= self.share().saturating_add(little.saturating_mul(2)));
        let ceiling = if own <= little || is_small {
            self.capacity
        } else {
            self.capacity.saturating_sub(self.spare())
        };
        is_within_share && self.used.saturating_add(amount) <= ceiling
    }

    /// The part that is reserved for subjects that hold little.
    const fn spare(&self) -> u64 {
        self.capacity / 4
    }

    /// Takes an amount, unless it is not free, or the same subject already waits for the same
    /// amount or less.
    pub(super) fn take(&mut self, subject: &str, purpose: Use, amount: u64) -> Option<Arc<str>> {
        let is_behind = self.waiting.iter().any(|waiter| {
            waiter.amount <= amount && *waiter.subject == *subject && !waiter.grant.is_closed()
        });
        (!is_behind && self.fits(subject, amount)).then(|| self.force(subject, purpose, amount))
    }

    pub(super) fn force(&mut self, subject: &str, purpose: Use, amount: u64) -> Arc<str> {
        self.used = self.used.saturating_add(amount);
        if let Some(used) = self.by_purpose.get_mut(purpose as usize) {
            *used = used.saturating_add(amount);
        }
        let known = self.by_subject.get_key_value(subject).map(|(name, _)| Arc::clone(name));
        let name = known.unwrap_or_else(|| subject.into());
        let own = self.by_subject.entry(Arc::clone(&name)).or_default();
        *own = own.saturating_add(amount);
        name
    }

    pub(super) fn give_back(&mut self, subject: &str, purpose: Use, amount: u64) {
        self.used = self.used.saturating_sub(amount);
        if let Some(used) = self.by_purpose.get_mut(purpose as usize) {
            *used = used.saturating_sub(amount);
        }
        if let Some(own) = self.by_subject.get_mut(subject) {
            *own = own.saturating_sub(amount);
            if *own == 0 {
                self.by_subject.remove(subject);
            }
        }
    }

    pub(super) fn wait(&mut self, waiter: Waiter) {
        self.waiting.push(waiter);
    }

    /// Takes amounts for the waiters that can be served now. The subject that holds the least comes
    /// first, then the earliest arrival.
    pub(super) fn next(&mut self) -> Vec<(Waiter, Arc<str>)> {
        let mut served = Vec::new();
        if self.waiting() == 0 {
            return served;
        }
        loop {
            let fitting = self.waiting.iter().enumerate();
            let first = fitting
                .filter(|(_, waiter)| self.fits(&waiter.subject, waiter.amount))
                .min_by_key(|(_, waiter)| self.by_subject.get(&waiter.subject).copied())
                .map(|(index, _)| index);
            let Some(index) = first else { return served };
            let waiter = self.waiting.remove(index);
            let subject = self.force(&waiter.subject, waiter.purpose, waiter.amount);
            served.push((waiter, subject));
        }
    }
}
