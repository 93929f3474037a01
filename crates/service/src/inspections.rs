//! Compiled policies, kept as long as they are what the database holds.
//!
//! Each inspection reads its policy's row, with its revision and the mark of its state, and answers by
//! what was compiled of that very state; so no answer is older than the last acknowledged write, with
//! any number of processes. Where the storage counts its commits (SQLite: nobody else writes), the row
//! need not be read again before the next one. Where nothing is compiled of it yet, one task does that and all who ask
//! wait for it: of what was compiled of a state before it and the rules that changed since, where there
//! is one, else of all rules. The task goes on when those who asked are gone: what it finds is of use
//! to the next.

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

/// How many policies the cache is laid out for; it is bounded by bytes.
const POLICIES: usize = 1_000;
/// Of how many policies the last state is known.
const STATES: usize = 20_000;
/// The part of the cache, in hundredths, that one policy can have: the rest is for newcomers.
const LARGEST: u64 = 97;
/// The most changed rules that are read of a policy; where there are more, all are.
const MAX_CHANGED: usize = 10_000;
/// How long a policy is answered without, for which there was no time to compile it: the machine may
/// be less busy then.
const NO_TIME_PAUSE: Duration = Duration::from_secs(60);
/// How often a state is given up for a newer one, before one that may be followed is compiled: else
/// a policy that changes all the time would never be.
const ROUNDS: usize = 4;

/// Which state of a policy it is. Its random mark says it, in every history of the database; the
/// revision tells what a version that knows no marks wrote from the state before.
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

    /// Whether it has a mark to be known again by.
    #[must_use]
    pub const fn is_marked(&self) -> bool {
        self.mark.is_some()
    }

    /// Whether it is before a policy's state in its history, with nothing between that is not known:
    /// each change raises the revision by one and leaves a mark.
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
    /// Where there was no time to compile it: when that is to be tried again.
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

/// Lets go of large things where nobody waits for it.
#[derive(Debug, Clone, Copy)]
struct BackgroundDrop;

/// What there is to let go of.
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

/// Whose question about which policy was answered with a row.
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

/// A policy's row, as it is until the next commit.
#[derive(Debug, Clone)]
struct PolicyRow {
    /// The storage's commits before it was read.
    commits: u64,
    policy: Arc<Policy>,
}

/// What compiling a policy may take.
#[derive(Debug, Clone, Copy)]
pub struct CompilationLimits {
    /// Boxes and bytes.
    pub budget: Budget,
    /// Time.
    pub time: Duration,
}

impl Default for CompilationLimits {
    fn default() -> Self {
        Self { budget: Budget::default(), time: Duration::from_secs(5) }
    }
}

/// How the cache of compiled policies is used now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InspectionCacheState {
    /// How often what was asked for was there.
    pub hits: u64,
    /// How often it had to be compiled.
    pub misses: u64,
    /// How many policies it holds.
    pub policies: u64,
    /// How much memory they take, in bytes.
    pub bytes: u64,
}

/// What was compiled, up to a number of bytes. Cheap to clone: all clones share the cache.
#[derive(Debug, Clone)]
pub struct Inspections(Arc<PolicyCache>);

#[derive(Debug)]
struct PolicyCache {
    cache: Cache<PolicyState, CachedPolicy, ByBytes, DefaultHashBuilder, BackgroundDrop>,
    rows: Cache<PolicyQuestion<Visibility>, PolicyRow>,
    /// The state that was last compiled of each policy.
    last: Cache<PolicyId, PolicyState>,
    capacity: u64,
    limits: CompilationLimits,
    /// Compilations take a processor each.
    compiling: Semaphore,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// In one piece: a part of the cache would not take what is larger than its part of the bytes, and a
/// large policy is larger.
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
        // All that has to be said is said.
        Err(_) => Cache::with(POLICIES, capacity, ByBytes, hasher, BackgroundDrop),
    }
}

/// A task that finds what is compiled, for one request. While it but waits for another one it goes
/// with its request; once it is at work, what it does is of use to the next.
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

/// What was read to compile a policy's state.
enum PolicyContents {
    /// All rules.
    All(Vec<Rule>),
    /// Those that changed since what was compiled before.
    Changed(Arc<CompiledRules>, Vec<Rule>),
}

impl Inspections {
    /// Keeps up to so many bytes.
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

    /// How it is.
    #[must_use]
    pub fn state(&self) -> InspectionCacheState {
        InspectionCacheState {
            hits: self.0.hits.load(Ordering::Relaxed),
            misses: self.0.misses.load(Ordering::Relaxed),
            policies: u64::try_from(self.0.cache.len()).unwrap_or(u64::MAX),
            bytes: self.0.cache.weight(),
        }
    }

    /// A policy as it is now, to be asked about packets. One statement, none where nothing was
    /// committed since the last; where its state is not compiled yet two more, of one snapshot.
    ///
    /// # Errors
    /// Where there is no such policy that the caller may see.
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
    /// A policy's row as it is now.
    async fn current(
        &self,
        session: &Session,
        firewall: FirewallId,
        id: PolicyId,
    ) -> Result<Arc<Policy>, ServiceError> {
        // Before it is read: what is committed meanwhile may be in it, or not.
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

    /// Waits for what is compiled of a policy's state, or compiles it; of a newer one where it has
    /// changed meanwhile.
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
            // Whole policies are read one for each processor too: they take memory.
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
            // Where there is another state by now, that one is looked for.
            let Some(read) = read else { continue };
            if turn.is_none() {
                turn = Some(self.turn().await?);
            }
            let compiled = self.compile(session, &policy, read, &mut memory).await;
            // From here on it counts for the cache.
            drop((turn, memory));
            let kept = match compiled {
                Ok(Some(kept)) => kept,
                // Something is gone that nobody told; or there is a defect in taking changes.
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
                // Where it was thrown out meanwhile, it is compiled again.
                drop(guard.insert(kept));
            } else {
                drop(guard);
                self.cache.insert(loaded, kept);
            }
            self.keep_last(loaded);
            return Ok(InspectedPolicy { policy, compiled });
        }
    }

    /// A processor to compile on.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, ServiceError> {
        self.compiling.acquire().await.map_err(ServiceError::internal)
    }

    /// What was compiled of a state before a policy's, and that one's revision.
    fn former(&self, policy: &Policy) -> Option<(Revision, Arc<CompiledRules>)> {
        let state = self.last.get(&policy.id).filter(|state| state.is_before(policy))?;
        let kept = self.cache.peek(&state)?;
        Some((state.revision, kept.compiled))
    }

    /// Of a policy the state that was compiled last is kept: where the database went back, its revision
    /// is lower than the one before.
    fn keep_last(&self, state: PolicyState) {
        let former = self.last.get(&state.id).filter(|it| *it != state);
        self.last.insert(state.id, state);
        let removed = former.and_then(|it| self.cache.remove(&it));
        drop(Discarded(removed.map(|(_, kept)| kept).into_iter().collect()));
    }

    /// Compiles on threads that serve nobody, once there is memory for it. If there is none in time,
    /// the definition answers for a while. None if what was read does not make the policy.
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
            let goes_on = || has_memory && start.elapsed() < limits.time;
            let compiled = plan.compile(Limits { budget: limits.budget, goes_on: &goes_on });
            let bytes = u64::try_from(compiled.memory_bytes()).unwrap_or(u64::MAX);
            let result = if compiled.is_over_budget() { "over_budget" } else { action };
            monitor.compiled(start.elapsed(), result);
            if compiled.is_over_budget() {
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

/// What a policy takes while its rules are read, in bytes; with a former classifier only what changed.
fn estimate(policy: &Policy, is_update: bool) -> u64 {
    let (of_rule, of_entry) = if is_update { (64, 16) } else { (1_024, 128) };
    let rules = policy.rule_count.saturating_mul(of_rule);
    rules.saturating_add(policy.entry_count.saturating_mul(of_entry))
}

/// A policy as it is now, and what it takes to compile it, of one snapshot; where `may_move`, nothing
/// of another state than the one that was looked for.
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
