//! Compiled policies, cached as long as they match the database.
//!
//! Each inspection reads its policy's row, with the revision and the mark of its state. It answers
//! with the rules that were compiled from exactly that state. So no answer is older than the last
//! acknowledged write, with any number of processes. If the storage counts its commits, the row is
//! read again only after a commit. SQLite's storage does, because it has no other writers.
//!
//! If the state is not compiled yet, one task compiles it and all requests for it wait. The task
//! starts from an earlier compiled state and the rules that changed since, if there is such a
//! state, otherwise from all rules. It continues after its requests have ended, because the next
//! request can use the result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant as Moment};

use fireflow_domain::actor::Visibility;
use fireflow_domain::engine::Limits;
use fireflow_domain::engine::classifier::Budget;
use fireflow_domain::engine::compiled::{CompiledRules, Plan};
use fireflow_domain::ids::{FirewallId, PolicyId, Revision};
use fireflow_domain::policy::Policy;
use fireflow_domain::rule::Rule;
use fireflow_domain::usecase::inspect::{self, InspectedPolicy};
use fireflow_domain::usecase::policy;
use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Equivalent, Lifecycle, OptionsBuilder, Weighter};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use crate::budget::{Reservation, Use};
use crate::error::ServiceError;
use crate::monitor::join_request;
use crate::session::Session;

/// The number of policies that the cache is sized for. Its actual bound is in bytes.
const POLICIES: usize = 1_000;
/// The number of policies whose last compiled state is remembered.
const STATES: usize = 20_000;
/// The share of the cache, in percent, that one policy may take; the rest is for new entries.
const LARGEST: u64 = 97;
/// The most changed rules of a policy that are read. If there are more, all rules are read.
const MAX_CHANGED: usize = 10_000;
/// If there was no time to compile a policy, how long it is inspected without compilation before
/// the next attempt. The machine may be less busy then.
const NO_TIME_PAUSE: Duration = Duration::from_secs(60);
/// How often a lookup abandons a state for a newer one. After that, it compiles a state even if the
/// state is already outdated. Otherwise a policy that changes all the time would never be compiled.
const ROUNDS: usize = 4;

/// Identifies a state of a policy. The random mark is unique in every history of the database. The
/// revision reveals changes by an older version of the service that does not write marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyState {
    id: PolicyId,
    revision: Revision,
    mark: Option<u64>,
}

impl PolicyState {
    /// The state of a policy that was read.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let mark = u64::from_str_radix(policy.states.current(), 16).ok();
        Self { id: policy.id, revision: policy.revision, mark }
    }

    /// Whether it has a mark, without which it cannot be recognized later.
    #[must_use]
    pub const fn is_marked(&self) -> bool {
        self.mark.is_some()
    }

    /// Whether this state is earlier in the history of a policy, with only known changes in
    /// between. Each change raises the revision by one and leaves a mark, so both differences must
    /// be equal.
    fn is_before(&self, policy: &Policy) -> bool {
        let changes = policy.revision.0.checked_sub(self.revision.0);
        let marks = self.mark.and_then(|mark| policy.states.newer_than(&format!("{mark:016x}")));
        let marks = marks.and_then(|it| i64::try_from(it).ok());
        self.id == policy.id && marks.is_some() && marks == changes
    }
}

#[derive(Debug, Clone)]
struct CachedPolicy {
    compiled: Arc<CompiledRules>,
    bytes: u64,
    /// When to compile the policy again, if there was no time for it.
    again_at: Option<Moment>,
}

impl CachedPolicy {
    fn is_due(&self) -> bool {
        self.again_at.is_some_and(|at| at <= Moment::now())
    }
}

#[derive(Debug, Clone, Copy)]
struct ByBytes;

impl Weighter<PolicyState, CachedPolicy> for ByBytes {
    fn weight(&self, _state: &PolicyState, kept: &CachedPolicy) -> u64 {
        kept.bytes
    }
}

/// Drops large entries on a thread that serves no requests.
#[derive(Debug, Clone, Copy)]
struct BackgroundDrop;

/// Entries to drop.
#[derive(Debug, Default)]
struct Discarded(Vec<CachedPolicy>);

impl Lifecycle<PolicyState, CachedPolicy> for BackgroundDrop {
    type RequestState = Discarded;

    fn on_evict(&self, discarded: &mut Discarded, _state: PolicyState, kept: CachedPolicy) {
        discarded.0.push(kept);
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

/// The key of a cached row: which policy, and for whom it is visible.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PolicyQuestion<V> {
    firewall: FirewallId,
    policy: PolicyId,
    who: V,
}

impl Equivalent<PolicyQuestion<Visibility>> for PolicyQuestion<&Visibility> {
    fn equivalent(&self, other: &PolicyQuestion<Visibility>) -> bool {
        (self.firewall, self.policy, self.who) == (other.firewall, other.policy, &other.who)
    }
}

/// A policy's row, valid until the next commit.
#[derive(Debug, Clone)]
struct PolicyRow {
    /// The storage's number of commits before the row was read.
    commits: u64,
    policy: Arc<Policy>,
}

/// The limits on compiling a policy.
#[derive(Debug, Clone, Copy)]
pub struct CompilationLimits {
    /// The most cuboids and bytes.
    pub budget: Budget,
    /// The longest time.
    pub time: Duration,
}

impl Default for CompilationLimits {
    fn default() -> Self {
        Self { budget: Budget::default(), time: Duration::from_secs(5) }
    }
}

/// The current use of the cache of compiled policies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InspectionCacheState {
    /// How many inspections found their policy in the cache.
    pub hits: u64,
    /// How many policies were compiled because they were not in the cache.
    pub misses: u64,
    /// How many policies it holds.
    pub policies: u64,
    /// How much memory they take, in bytes.
    pub bytes: u64,
}

/// The cache of compiled policies, limited by its size in bytes. Cheap to clone: all clones share
/// the cache.
#[derive(Debug, Clone)]
pub struct Inspections(Arc<PolicyCache>);

#[derive(Debug)]
struct PolicyCache {
    cache: Cache<PolicyState, CachedPolicy, ByBytes, DefaultHashBuilder, BackgroundDrop>,
    rows: Cache<PolicyQuestion<Visibility>, PolicyRow>,
    /// The last compiled state of each policy.
    last: Cache<PolicyId, PolicyState>,
    capacity: u64,
    limits: CompilationLimits,
    /// One permit per processor, because each compilation occupies one.
    compiling: Semaphore,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A cache with a single shard. Each shard has its own part of the capacity, and a large policy
/// would exceed it.
fn cache(
    capacity: u64,
) -> Cache<PolicyState, CachedPolicy, ByBytes, DefaultHashBuilder, BackgroundDrop> {
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

/// A task that finds the compiled policy for one request. While it only waits for another task, it
/// ends together with its request. Once it does the work itself, it continues, because the next
/// request can use the result.
struct PolicyLookup {
    task: JoinHandle<Option<Result<InspectedPolicy, ServiceError>>>,
    is_at_work: Arc<AtomicBool>,
}

impl Drop for PolicyLookup {
    fn drop(&mut self) {
        if !self.is_at_work.load(Ordering::Relaxed) {
            self.task.abort();
        }
    }
}

/// The rules that were read to compile a policy's state.
enum PolicyContents {
    /// All rules.
    All(Vec<Rule>),
    /// The rules that changed since the former compilation.
    Changed(Arc<CompiledRules>, Vec<Rule>),
}

impl Inspections {
    /// Caches up to this many bytes.
    #[must_use]
    pub fn new(capacity: u64, limits: CompilationLimits) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(PolicyCache {
            cache: cache(capacity),
            rows: Cache::new(POLICIES),
            last: Cache::new(STATES),
            capacity,
            limits,
            compiling: Semaphore::new(processors),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }))
    }

    /// The state of the cache, for metrics.
    #[must_use]
    pub fn state(&self) -> InspectionCacheState {
        InspectionCacheState {
            hits: self.0.hits.load(Ordering::Relaxed),
            misses: self.0.misses.load(Ordering::Relaxed),
            policies: u64::try_from(self.0.cache.len()).unwrap_or(u64::MAX),
            bytes: self.0.cache.weight(),
        }
    }

    /// Returns the current policy, ready to inspect packets. This takes one statement, or none if
    /// nothing was committed since the last one. If the state is not compiled yet, it takes two
    /// more, in one snapshot.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`](fireflow_domain::error::Error::NotFound) if the caller can see
    /// no such policy, and [`ServiceError::Shortage`] if there is no memory to compile it.
    pub async fn get(
        &self,
        session: &Session,
        firewall: FirewallId,
        id: PolicyId,
    ) -> Result<InspectedPolicy, ServiceError> {
        let policy = self.0.current(session, firewall, id).await?;
        let state = PolicyState::of(&policy);
        match self.0.cache.get(&state) {
            Some(cached) if cached.is_due() => drop(self.0.cache.remove(&state)),
            Some(cached) => {
                self.0.hits.fetch_add(1, Ordering::Relaxed);
                return Ok(InspectedPolicy { policy, compiled: cached.compiled });
            }
            None => {}
        }
        let is_at_work = Arc::new(AtomicBool::new(false));
        let (cache, session) = (Arc::clone(&self.0), session.clone());
        let (monitor, works) = (Arc::clone(&session.backend.monitor), Arc::clone(&is_at_work));
        let find =
            join_request(&*monitor, async move { cache.find(&session, policy, &works).await });
        let mut lookup = PolicyLookup { task: tokio::spawn(find), is_at_work };
        let found = (&mut lookup.task).await.map_err(ServiceError::internal)?;
        found.ok_or_else(|| ServiceError::internal("a lookup that was not run"))?
    }
}

impl PolicyCache {
    /// Returns the current row of a policy.
    async fn current(
        &self,
        session: &Session,
        firewall: FirewallId,
        id: PolicyId,
    ) -> Result<Arc<Policy>, ServiceError> {
        // The count is taken before the row is read, because the row may or may not include a
        // commit that happens during the read.
        let commits = session.backend.storage.commits();
        let who = &session.caller.actor.visibility;
        if let Some(commits) = commits
            && let Some(known) = self.rows.get(&PolicyQuestion { firewall, policy: id, who })
            && known.commits == commits
        {
            return Ok(known.policy);
        }
        let policy = session
            .read(|uow, caller| {
                Box::pin(async move { policy::get_known(uow, caller, firewall, id).await })
            })
            .await?;
        let policy = Arc::new(policy);
        if let Some(commits) = commits {
            let asked = PolicyQuestion { firewall, policy: id, who: who.clone() };
            self.rows.insert(asked, PolicyRow { commits, policy: Arc::clone(&policy) });
        }
        Ok(policy)
    }

    /// Waits for the compilation of a policy's state, or compiles it. If the policy has changed in
    /// the meantime, the newer state is compiled.
    async fn find(
        &self,
        session: &Session,
        policy: Arc<Policy>,
        is_at_work: &AtomicBool,
    ) -> Result<InspectedPolicy, ServiceError> {
        let mut policy = policy;
        let mut may_update = true;
        let mut rounds = 0;
        loop {
            let state = PolicyState::of(&policy);
            is_at_work.store(false, Ordering::Relaxed);
            let guard = match self.cache.get_value_or_guard_async(&state).await {
                Ok(kept) => {
                    self.hits.fetch_add(1, Ordering::Relaxed);
                    return Ok(InspectedPolicy { policy, compiled: kept.compiled });
                }
                Err(guard) => guard,
            };
            is_at_work.store(true, Ordering::Relaxed);
            let former = if may_update { self.former(&policy) } else { None };
            // Reading all rules of a policy takes memory, so it is limited to one policy per
            // processor too.
            let mut turn = match &former {
                Some(_) => None,
                None => Some(self.turn().await?),
            };
            let is_update = former.is_some();
            let mut memory = {
                let (budget, subject) = (&session.backend.budget, &session.caller.actor.subject);
                let bytes = estimate(&policy, is_update);
                budget.reserve(subject, Use::Compilation, bytes).await?
            };
            let (current, read) = read(session, &policy, former, rounds < ROUNDS).await?;
            rounds += 1;
            policy = Arc::new(current);
            // If the policy has changed, continue with its new state.
            let Some(read) = read else { continue };
            if turn.is_none() {
                turn = Some(self.turn().await?);
            }
            let compiled = self.compile(session, &policy, read, &mut memory).await;
            // From here on, the memory counts towards the cache.
            drop((turn, memory));
            let kept = match compiled {
                Ok(Some(kept)) => kept,
                // A rule was removed without a trace in the changes, or there is a defect in
                // applying changes.
                Ok(None) | Err(_) if is_update => {
                    may_update = false;
                    continue;
                }
                Ok(None) => return Err(ServiceError::internal("rules that do not form a policy")),
                Err(error) => return Err(error),
            };
            self.misses.fetch_add(1, Ordering::Relaxed);
            let compiled = Arc::clone(&kept.compiled);
            let loaded = PolicyState::of(&policy);
            if loaded == state {
                // If the entry was evicted in the meantime, the policy is compiled again later.
                drop(guard.insert(kept));
            } else {
                drop(guard);
                self.cache.insert(loaded, kept);
            }
            self.keep_last(loaded);
            return Ok(InspectedPolicy { policy, compiled });
        }
    }

    /// Waits for a processor to compile on.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, ServiceError> {
        self.compiling.acquire().await.map_err(ServiceError::internal)
    }

    /// Returns the compiled rules of an earlier state of a policy, and the revision of that state.
    fn former(&self, policy: &Policy) -> Option<(Revision, Arc<CompiledRules>)> {
        let state = self.last.get(&policy.id).filter(|state| state.is_before(policy))?;
        let kept = self.cache.peek(&state)?;
        Some((state.revision, kept.compiled))
    }

    /// Caches only the last compiled state of each policy. It is not always the one with the
    /// highest revision: after the database was restored from a backup, revisions are lower than
    /// before.
    fn keep_last(&self, state: PolicyState) {
        let former = self.last.get(&state.id).filter(|it| *it != state);
        self.last.insert(state.id, state);
        let removed = former.and_then(|it| self.cache.remove(&it));
        drop(Discarded(removed.map(|(_, kept)| kept).into_iter().collect()));
    }

    /// Compiles on threads that serve no requests, once there is memory for it. If there is no
    /// memory in time, the rules are evaluated one by one for a while. Returns `None` if the rules
    /// that were read do not form the policy.
    async fn compile(
        &self,
        session: &Session,
        policy: &Policy,
        read: PolicyContents,
        memory: &mut Reservation,
    ) -> Result<Option<CachedPolicy>, ServiceError> {
        let (id, count) = (policy.id.get(), policy.rule_count);
        let (limits, largest) = (self.limits, self.capacity / 100 * LARGEST);
        let plan = move || {
            let (plan, action) = match read {
                PolicyContents::All(rules) => (Plan::of_all(rules), "compiled"),
                PolicyContents::Changed(former, changes) => {
                    (Plan::of_changes(&former, changes, count)?, "updated")
                }
            };
            let bytes = plan.bytes_to_compile(limits.budget);
            Some((plan, action, bytes))
        };
        let planned = tokio::task::spawn_blocking(plan).await.map_err(ServiceError::internal)?;
        let Some((plan, action, bytes)) = planned else { return Ok(None) };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let has_memory = memory.grow_to(memory.amount().saturating_add(bytes)).await.is_ok();
        let monitor = Arc::clone(&session.backend.monitor);
        let compile = move || {
            let start = Moment::now();
            let should_continue = || has_memory && start.elapsed() < limits.time;
            let compiled =
                plan.compile(Limits { budget: limits.budget, should_continue: &should_continue });
            let bytes = u64::try_from(compiled.memory_bytes()).unwrap_or(u64::MAX);
            let result = if compiled.is_over_budget() { "over_budget" } else { action };
            monitor.compiled(start.elapsed(), result);
            if compiled.is_stopped() {
                tracing::warn!(
                    policy = id,
                    retried_after_s = NO_TIME_PAUSE.as_secs(),
                    "there was no memory or time to compile the policy: until it is compiled, each \
                     packet is compared with each rule"
                );
            } else if compiled.is_over_budget() {
                tracing::warn!(
                    policy = id,
                    "the policy exceeds its compilation budget: each packet is compared with each \
                     rule"
                );
            }
            if bytes > largest {
                tracing::warn!(
                    policy = id,
                    bytes,
                    largest,
                    "the policy is larger than the cache: each inspection compiles it again"
                );
            }
            let again_at = compiled.is_stopped().then(|| Moment::now() + NO_TIME_PAUSE);
            CachedPolicy { compiled: Arc::new(compiled), bytes, again_at }
        };
        tokio::task::spawn_blocking(compile).await.map(Some).map_err(ServiceError::internal)
    }
}

/// Estimates the bytes that a policy takes while its rules are read. With a former classifier, only
/// changed rules are read.
fn estimate(policy: &Policy, is_update: bool) -> u64 {
    let (of_rule, of_entry) = if is_update { (64, 16) } else { (1_024, 128) };
    let rules = policy.rule_count.saturating_mul(of_rule);
    rules.saturating_add(policy.entry_count.saturating_mul(of_entry))
}

/// Reads the current policy and the rules to compile it from, in one snapshot. If `may_move` is set
/// and the policy is not in the sought state, no rules are read.
async fn read(
    session: &Session,
    sought: &Policy,
    former: Option<(Revision, Arc<CompiledRules>)>,
    may_move: bool,
) -> Result<(Policy, Option<PolicyContents>), ServiceError> {
    let (firewall, id, state) = (sought.firewall.id, sought.id, PolicyState::of(sought));
    let read = session.read_to_compile(move |uow, caller| {
        Box::pin(async move {
            let policy = policy::get_known(uow, caller, firewall, id).await?;
            let is_sought = PolicyState::of(&policy) == state;
            if !is_sought && may_move {
                return Ok((policy, None));
            }
            if is_sought && let Some((since, former)) = former {
                let changed =
                    inspect::changed_rules(uow, caller, &policy, since, MAX_CHANGED).await?;
                if let Some(changed) = changed {
                    return Ok((policy, Some(PolicyContents::Changed(former, changed))));
                }
            }
            let rules = inspect::all_rules(uow, caller, &policy).await?;
            Ok((policy, Some(PolicyContents::All(rules))))
        })
    });
    Ok(read.await?)
}
