//! Compiles policies in the background: one task for each policy that has something to compile.
//! Nobody waits for it. It begins when it is its turn and there is memory, and its result serves
//! all states of the policy that share what it compiles.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant as Moment};

use fireflow_domain::engine::Limits;
use fireflow_domain::engine::classifier::Budget as CompilationBudget;
use fireflow_domain::engine::compiled::{Compilation, CompiledRules};
use fireflow_domain::ids::PolicyId;

use super::cache::CachedPolicy;
use super::queue::Turn;
use super::{NO_TIME_PAUSE, PolicyCache, bytes_of};
use crate::backend::Backend;
use crate::budget::{Budget, Reservation, Use};
use crate::monitor::Monitor;

/// The name under which the memory of all compilations is borrowed. It may hold as much as one
/// subject may.
const BORROWER: &str = "\u{0}compilations";

/// The pause after an attempt to borrow memory that was refused.
const NO_MEMORY_PAUSE: Duration = Duration::from_secs(1);

/// What a compilation needs besides the cache. It holds no storage, so that a task that still
/// compiles does not keep the database open.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    memory: Budget,
    monitor: Arc<dyn Monitor>,
}

impl Tools {
    pub(super) fn of(backend: &Backend) -> Self {
        Self { memory: backend.budget.clone(), monitor: Arc::clone(&backend.monitor) }
    }
}

/// Marks a policy as being compiled, until it is dropped.
struct Mark<'a> {
    cache: &'a PolicyCache,
    id: PolicyId,
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        self.cache.compiling.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// A compilation, and the rules that it is done for.
struct Work {
    lineage: u64,
    compilation: Compilation,
    /// The new base, if the rules get one.
    rebased: Option<CompiledRules>,
}

impl Work {
    /// What a policy needs now; none if everything is compiled, or an attempt would come too early.
    fn of(cached: &CachedPolicy) -> Option<Self> {
        let (lineage, compiled) = (cached.lineage, &cached.compiled);
        let may_try = cached.again_at.is_none() || cached.is_due_again();
        let is_rebased = may_try && (compiled.should_be_rebased() || compiled.is_stopped());
        // A base that is not compiled yet is not replaced, but used once it is.
        if is_rebased && compiled.pending().is_none_or(|it| it.is_of_changes()) {
            let rebased = compiled.rebased();
            let compilation = rebased.pending()?;
            return Some(Self { lineage, compilation, rebased: Some(rebased) });
        }
        Some(Self { lineage, compilation: compiled.pending()?, rebased: None })
    }
}

impl PolicyCache {
    /// Compiles a policy in the background, unless that is under way.
    pub(super) fn compile_soon(self: &Arc<Self>, id: PolicyId, tools: Tools) {
        let is_first = self.compiling.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        if !is_first {
            return;
        }
        let cache = Arc::clone(self);
        tokio::spawn(async move {
            let mark = Mark { cache: &cache, id };
            while cache.compile_next(id, &tools).await {}
            drop(mark);
            // A state that was cached between the last look and the end of the mark found the mark.
            if cache.policies.peek(&id).is_some_and(|cached| cached.needs_work()) {
                cache.compile_soon(id, tools);
            }
        });
    }

    /// Compiles what a cached policy needs next. Returns false if it needs nothing.
    async fn compile_next(self: &Arc<Self>, id: PolicyId, tools: &Tools) -> bool {
        // One at a time: each makes a copy of the rules.
        let Ok(planning) = self.planning.acquire().await else { return false };
        let Some(cached) = self.policies.peek(&id) else { return false };
        let budget = self.limits.budget;
        let plan = move || {
            let work = Work::of(&cached)?;
            let bytes = bytes_of(work.compilation.bytes(budget));
            Some((work, bytes))
        };
        let planned = tokio::task::spawn_blocking(plan).await;
        drop(planning);
        let Ok(Some((work, bytes))) = planned else { return false };
        // A compilation takes no more than its budget, so it always fits into the memory of all.
        let capacity = tools.memory.share();
        let beside = bytes_of(work.compilation.bytes_of_specs());
        let allowed = usize::try_from(capacity.saturating_sub(beside)).unwrap_or(usize::MAX);
        let budget = CompilationBudget { bytes: budget.bytes.min(allowed), ..budget };
        let Some(turn) = self.queue.turn(bytes.min(capacity), capacity).await else { return false };
        let memory = borrow(&tools.memory, bytes).await;
        self.run(id, work, budget, (turn, memory), tools).await
    }

    /// Compiles within a turn, and publishes the result.
    async fn run(
        self: &Arc<Self>,
        id: PolicyId,
        work: Work,
        budget: CompilationBudget,
        held: (Turn, Reservation),
        tools: &Tools,
    ) -> bool {
        // Evicted in the meantime: nobody would find the result.
        if self.policies.peek(&id).is_none_or(|cached| cached.lineage != work.lineage) {
            return self.policies.peek(&id).is_some();
        }
        let (limits, monitor) = (self.limits, Arc::clone(&tools.monitor));
        let compile = move || {
            let start = Moment::now();
            let should_continue = || start.elapsed() < limits.time;
            work.compilation.run(Limits { budget, should_continue: &should_continue });
            let is_over_budget = work.compilation.is_over_budget();
            let result = if is_over_budget { "over_budget" } else { "compiled" };
            monitor.compiled(start.elapsed(), result);
            report(id, &work.compilation);
            // From here on, the memory counts towards the cache.
            drop(held);
            work
        };
        let Ok(work) = tokio::task::spawn_blocking(compile).await else { return false };
        self.publish(id, work).await;
        true
    }

    /// Gives the cached policy what was compiled. It may be in a later state by now.
    async fn publish(self: &Arc<Self>, id: PolicyId, work: Work) {
        let lock = self.lock(id);
        let _held = lock.lock().await;
        let Some(cached) = self.policies.peek(&id) else { return };
        if cached.lineage != work.lineage {
            return;
        }
        let again_at = work.compilation.is_stopped().then(|| Moment::now() + NO_TIME_PAUSE);
        let largest = self.largest();
        let publish = move || {
            let Work { compilation, rebased, .. } = work;
            let again_at = if compilation.is_of_changes() { cached.again_at } else { again_at };
            let compiled = match &rebased {
                Some(rebased) => Arc::new(cached.compiled.on(rebased)),
                None => Arc::clone(&cached.compiled),
            };
            let bytes = bytes_of(compiled.memory_bytes());
            let cached = CachedPolicy { compiled, bytes, again_at, ..cached };
            if bytes > largest { without_classifier(id, cached) } else { cached }
        };
        if let Ok(cached) = tokio::task::spawn_blocking(publish).await {
            self.policies.insert(id, cached);
        }
    }
}

impl CachedPolicy {
    /// Whether there is something to compile now.
    pub(super) fn needs_work(&self) -> bool {
        let may_try = self.again_at.is_none() || self.is_due_again();
        self.compiled.pending().is_some()
            || (may_try && (self.compiled.should_be_rebased() || self.compiled.is_stopped()))
    }
}

/// The rules of a policy whose classifier does not fit into the cache. Without it they do, and need
/// not be read for each inspection.
fn without_classifier(id: PolicyId, cached: CachedPolicy) -> CachedPolicy {
    tracing::warn!(
        policy = id.get(),
        bytes = cached.bytes,
        "the compiled policy is larger than the cache: each packet is compared with each rule"
    );
    let compiled = cached.compiled.rebased();
    while let Some(compilation) = compiled.pending() {
        compilation.refuse();
    }
    let bytes = bytes_of(compiled.memory_bytes());
    let again_at = Some(Moment::now() + NO_TIME_PAUSE);
    CachedPolicy { compiled: Arc::new(compiled), bytes, again_at, ..cached }
}

/// Borrows memory for a compilation, and waits for it as long as necessary: nobody waits for the
/// compilation.
async fn borrow(memory: &Budget, bytes: u64) -> Reservation {
    loop {
        if let Ok(reservation) = memory.reserve(BORROWER, Use::Compilation, bytes).await {
            return reservation;
        }
        tokio::time::sleep(NO_MEMORY_PAUSE).await;
    }
}

/// Logs why a policy is not compiled.
pub(super) fn report(id: PolicyId, compilation: &Compilation) {
    if compilation.is_stopped() {
        tracing::warn!(
            policy = id.get(),
            retried_after_s = NO_TIME_PAUSE.as_secs(),
            "there was no time to compile the policy: until it is compiled, each packet is \
             compared with each rule"
        );
    } else if compilation.is_over_budget() {
        tracing::warn!(
            policy = id.get(),
            "the policy exceeds its compilation budget: each packet is compared with each rule"
        );
    }
}
