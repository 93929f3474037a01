//! The caches of inspections: policies with their rules, and the rows of policies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant as Moment;

use fireflow_domain::actor::Visibility;
use fireflow_domain::engine::compiled::CompiledRules;
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::policy::Policy;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Equivalent, Lifecycle, OptionsBuilder, Weighter};

use super::state::KnownState;

/// The number of policies that the cache is sized for. Its actual bound is in bytes.
pub(super) const POLICIES: usize = 1_000;

/// A policy's rules in the last state that was asked for.
#[derive(Debug, Clone)]
pub(super) struct CachedPolicy {
    pub(super) known: KnownState,
    /// A number for the rules that were read together, and their changes since.
    pub(super) lineage: u64,
    pub(super) compiled: Arc<CompiledRules>,
    pub(super) bytes: u64,
    /// When to compile the policy again, if there was no time for it.
    pub(super) again_at: Option<Moment>,
    /// When it was last asked for, in seconds since the start.
    pub(super) asked: Arc<AtomicU64>,
}

impl CachedPolicy {
    /// Whether it was not compiled for lack of time, and the next attempt is due.
    pub(super) fn is_due_again(&self) -> bool {
        self.again_at.is_some_and(|at| at <= Moment::now())
    }

    /// Notes that it is asked for. Returns how long it was not, in seconds.
    pub(super) fn note_asked(&self, now: u64) -> u64 {
        let before = self.asked.load(Ordering::Relaxed);
        if before != now {
            self.asked.store(now, Ordering::Relaxed);
        }
        now.saturating_sub(before)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ByBytes;

impl Weighter<PolicyId, CachedPolicy> for ByBytes {
    fn weight(&self, _id: &PolicyId, cached: &CachedPolicy) -> u64 {
        cached.bytes
    }
}

/// Drops large entries on a thread that serves no requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct BackgroundDrop;

/// Entries to drop.
#[derive(Debug, Default)]
pub(super) struct Discarded(Vec<CachedPolicy>);

impl Discarded {
    pub(super) const fn of(entries: Vec<CachedPolicy>) -> Self {
        Self(entries)
    }
}

impl Lifecycle<PolicyId, CachedPolicy> for BackgroundDrop {
    type RequestState = Discarded;

    fn on_evict(&self, discarded: &mut Discarded, _id: PolicyId, cached: CachedPolicy) {
        discarded.0.push(cached);
    }
}

impl Drop for Discarded {
    fn drop(&mut self) {
        let discarded = std::mem::take(&mut self.0);
        if !discarded.is_empty()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(discarded));
        }
    }
}

pub(super) type Policies =
    Cache<PolicyId, CachedPolicy, ByBytes, DefaultHashBuilder, BackgroundDrop>;

/// A cache with a single shard. Each shard has its own part of the capacity, and a large policy
/// would exceed it.
pub(super) fn policies(capacity: u64) -> Policies {
    let options = OptionsBuilder::new()
        .shards(1)
        .estimated_items_capacity(POLICIES)
        .weight_capacity(capacity)
        .build();
    let hasher = DefaultHashBuilder::default();
    match options {
        Ok(options) => Cache::with_options(options, ByBytes, hasher, BackgroundDrop),
        // Cannot happen: all required options are set.
        Err(_) => Cache::with(POLICIES, capacity, ByBytes, hasher, BackgroundDrop),
    }
}

/// The key of a cached row: which policy, and for whom it is visible.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PolicyQuestion<V> {
    pub(super) firewall: FirewallId,
    pub(super) policy: PolicyId,
    pub(super) who: V,
}

impl Equivalent<PolicyQuestion<Visibility>> for PolicyQuestion<&Visibility> {
    fn equivalent(&self, other: &PolicyQuestion<Visibility>) -> bool {
        (self.firewall, self.policy, self.who) == (other.firewall, other.policy, &other.who)
    }
}

/// A policy's row, valid until the next commit.
#[derive(Debug, Clone)]
pub(super) struct PolicyRow {
    /// The storage's number of commits before the row was read.
    pub(super) commits: u64,
    pub(super) policy: Arc<Policy>,
}
