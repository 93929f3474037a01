//! Compiled policies, kept as long as they are what the database holds.
//!
//! Each inspection reads its policy's row, with its revision, and answers by what was compiled of
//! that very state; so no answer is older than the last acknowledged write, with any number of
//! processes. Where nothing is compiled of it yet, one request reads and compiles it, and the others
//! wait for that one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant as Moment;

use fireflow_domain::engine::classifier::Budget;
use fireflow_domain::ids::{FirewallId, PolicyId, Revision};
use fireflow_domain::policy::Policy;
use fireflow_domain::rule::Rule;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::inspect::{self, CompiledPolicy, InspectedPolicy};
use fireflow_domain::usecase::policy;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::sync::Semaphore;

use crate::app::Context;
use crate::problem::Problem;

/// How many policies the cache is laid out for; it is bounded by bytes.
const POLICIES: usize = 1_000;

/// Which state of a policy it is. The revision says it, in one history of the database: where that
/// goes back (a backup is put in its place, a standby that lagged becomes the primary) the same
/// revision can be another state, which the rest tells apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    id: PolicyId,
    revision: Revision,
    created_at: Instant,
    updated_at: Instant,
    rule_count: u64,
    /// See [`fireflow_domain::store::Storage::incarnation`].
    incarnation: u64,
}

impl State {
    const fn of(policy: &Policy, incarnation: u64) -> Self {
        Self {
            id: policy.id,
            revision: policy.revision,
            created_at: policy.created_at,
            updated_at: policy.updated_at,
            rule_count: policy.rule_count,
            incarnation,
        }
    }
}

#[derive(Debug, Clone)]
struct Kept {
    compiled: Arc<CompiledPolicy>,
    bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct ByBytes;

impl Weighter<State, Kept> for ByBytes {
    fn weight(&self, _state: &State, kept: &Kept) -> u64 {
        kept.bytes
    }
}

/// What was compiled, up to a number of bytes.
#[derive(Debug)]
pub struct CompiledPolicies {
    cache: Cache<State, Kept, ByBytes>,
    capacity: u64,
    budget: Budget,
    /// Compilations take a processor each.
    compiling: Semaphore,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// How the cache is.
#[derive(Debug, Clone, Copy, Default)]
pub struct CacheState {
    /// How often a policy's state was there.
    pub hits: u64,
    /// How often it had to be compiled, or was waited for.
    pub misses: u64,
    /// How many policies there are.
    pub policies: u64,
    /// How much memory they take, about.
    pub bytes: u64,
}

/// In one piece: a part of the cache would not take what is larger than its part of the bytes, and a
/// large policy is larger.
fn cache(capacity: u64) -> Cache<State, Kept, ByBytes> {
    let options = OptionsBuilder::new()
        .shards(1)
        .estimated_items_capacity(POLICIES)
        .weight_capacity(capacity)
        .build();
    match options {
        Ok(options) => {
            let (hasher, lifecycle) = (DefaultHashBuilder::default(), DefaultLifecycle::default());
            Cache::with_options(options, ByBytes, hasher, lifecycle)
        }
        // All that has to be said is said.
        Err(_) => Cache::with_weighter(POLICIES, capacity, ByBytes),
    }
}

impl CompiledPolicies {
    /// Keeps up to so many bytes.
    #[must_use]
    pub fn new(capacity: u64, budget: Budget) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            cache: cache(capacity),
            capacity,
            budget,
            compiling: Semaphore::new(processors),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> CacheState {
        CacheState {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            policies: u64::try_from(self.cache.len()).unwrap_or(u64::MAX),
            bytes: self.cache.weight(),
        }
    }

    /// A policy as it is now, to be asked about packets. One statement; where its state is not
    /// compiled yet two more, of one snapshot.
    ///
    /// # Errors
    /// Where there is no such policy that the caller may see.
    pub async fn get(
        &self,
        ctx: &Context,
        firewall: FirewallId,
        id: PolicyId,
    ) -> Result<InspectedPolicy, Problem> {
        let policy = ctx
            .read(|uow, caller| {
                Box::pin(async move { policy::get(uow, caller, firewall, id).await })
            })
            .await?;
        // Asked behind the statement: whoever answered it is known by now.
        let state = State::of(&policy, ctx.app.storage.incarnation());
        let guard = match self.cache.get_value_or_guard_async(&state).await {
            Ok(kept) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(InspectedPolicy { policy, compiled: kept.compiled });
            }
            Err(guard) => guard,
        };
        self.misses.fetch_add(1, Ordering::Relaxed);
        let (policy, rules) = ctx
            .read_snapshot(|uow, caller| {
                Box::pin(async move { inspect::load(uow, caller, firewall, id).await })
            })
            .await?;
        let kept = self.compile(ctx, policy, rules).await?;
        let compiled = Arc::clone(&kept.compiled);
        let policy = compiled.policy.clone();
        // It may have changed since it was looked at, or the database may be another one now.
        let loaded = State::of(&policy, ctx.app.storage.incarnation());
        if loaded == state {
            // Where it was thrown out meanwhile, it is compiled again.
            drop(guard.insert(kept));
            let is_current = |it: &State| it.id != state.id || *it == state;
            self.cache.retain(|it, _| is_current(it));
        }
        Ok(InspectedPolicy { policy, compiled })
    }

    async fn compile(
        &self,
        ctx: &Context,
        policy: Policy,
        rules: Vec<Rule>,
    ) -> Result<Kept, Problem> {
        let _turn = self.compiling.acquire().await.map_err(Problem::internal)?;
        let (budget, capacity) = (self.budget, self.capacity);
        let telemetry = Arc::clone(&ctx.app.telemetry);
        let compile = move || {
            let start = Moment::now();
            let compiled = CompiledPolicy::new(policy, rules, budget);
            let bytes = u64::try_from(compiled.bytes()).unwrap_or(u64::MAX);
            telemetry.metrics.compiled(start.elapsed(), !compiled.is_over_budget());
            let id = compiled.policy.id.get();
            if compiled.is_over_budget() {
                tracing::warn!(
                    policy = id,
                    "the policy needs more than its budget: each packet is held against each rule"
                );
            } else if bytes > capacity {
                tracing::warn!(
                    policy = id,
                    bytes,
                    capacity,
                    "the policy is larger than the cache: each inspection compiles it anew"
                );
            }
            Kept { compiled: Arc::new(compiled), bytes }
        };
        tokio::task::spawn_blocking(compile).await.map_err(Problem::internal)
    }
}
