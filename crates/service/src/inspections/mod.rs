//! Inspections: the rules of policies in their current state, ready to decide packets.
//!
//! Each inspection reads its policy's row, with the revision and the mark of its state. It answers
//! with the rules of exactly that state. So no answer is older than the last acknowledged write,
//! with any number of processes. If the storage counts its commits, the row is read again only
//! after a commit. SQLite's storage does, because it has no other writers.
//!
//! If the state is not cached yet, one task reads what changed since the cached state, or all rules.
//! Requests for the same policy wait for this, but nobody waits for a compilation: few rules are
//! compiled at once, others in the background (`background`). Until then each packet is compared
//! with each rule, by the definition, at a bounded rate (`pace`).

mod background;
mod cache;
mod decide;
mod keeper;
mod pace;
mod queue;
mod read;
mod state;
mod texts;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant as Moment};

use fireflow_domain::engine::Limits;
use fireflow_domain::engine::classifier::Budget;
use fireflow_domain::engine::compact::CompactRule;
use fireflow_domain::engine::compiled::{Compilation, CompiledRules};
use fireflow_domain::ids::{FirewallId, PolicyId, Revision};
use fireflow_domain::policy::Policy;
use fireflow_domain::rule::Rule;
use fireflow_domain::usecase::inspect::{self, InspectedPolicy};
use fireflow_domain::usecase::policy;
use quick_cache::sync::Cache;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::task::JoinHandle;

use self::background::Tools;
use self::cache::{CachedPolicy, Discarded, POLICIES, Policies, PolicyQuestion, PolicyRow};
use self::keeper::{Keeper, WARM_FOR_S};
use self::pace::Pace;
use self::queue::CompilationQueue;
use self::read::Contents;
use self::state::KnownState;
use self::texts::RuleTexts;
use crate::budget::Use;
use crate::error::ServiceError;
use crate::monitor::{Monitor, join_request};
use crate::session::Session;

pub use state::PolicyState;

/// The share of the cache, in percent, that one policy may take; the rest is for new entries.
const LARGEST: u64 = 97;
/// The part of the cache's size that rules with their texts may take in addition.
const PART_FOR_TEXTS: u64 = 16;
/// If there was no time to compile a policy, how long it is inspected without compilation before
/// the next attempt. The machine may be less busy then.
const NO_TIME_PAUSE: Duration = Duration::from_secs(60);
/// Rules that cost so few comparisons and so little memory are compiled at once, which takes a
/// millisecond.
const FEW_COMPARISONS: u64 = 4_096;
const FEW_BYTES: usize = 1024 * 1024;
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
    /// How many times the rules of a policy, or what changed of them, were read because they were
    /// not in the cache.
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
    policies: Policies,
    rows: Cache<PolicyQuestion<fireflow_domain::actor::Visibility>, PolicyRow>,
    texts: RuleTexts,
    /// The locks of policies whose rules are being read.
    locks: Mutex<HashMap<PolicyId, Weak<AsyncMutex<()>>>>,
    /// The policies that are compiled in the background.
    compiling: Mutex<HashSet<PolicyId>>,
    planning: Semaphore,
    queue: CompilationQueue,
    pace: Pace,
    keeper: Keeper,
    capacity: u64,
    limits: CompilationLimits,
    start: Moment,
    lineages: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A task that finds the policy for one request. While it only waits for another task, it ends
/// together with its request. Once it does the work itself, it continues, because the next request
/// can use the result.
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

impl Inspections {
    /// Caches up to this many bytes.
    #[must_use]
    pub fn new(capacity: u64, limits: CompilationLimits) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(PolicyCache {
            policies: cache::policies(capacity),
            rows: Cache::new(POLICIES),
            texts: RuleTexts::new(capacity / PART_FOR_TEXTS),
            locks: Mutex::default(),
            compiling: Mutex::default(),
            planning: Semaphore::new(1),
            // The other half serves.
            queue: CompilationQueue::new(processors / 2),
            pace: Pace::new(processors),
            keeper: Keeper::default(),
            capacity,
            limits,
            start: Moment::now(),
            lineages: AtomicU64::new(0),
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
            policies: u64::try_from(self.0.policies.len()).unwrap_or(u64::MAX),
            bytes: self.0.policies.weight(),
        }
    }

    /// Returns the current policy, ready to inspect packets. This takes one statement, or none if
    /// nothing was committed since the last one. If the state is not cached yet, it takes two more,
    /// and at most seven, of one state.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`](fireflow_domain::error::Error::NotFound) if the caller can see
    /// no such policy, and [`ServiceError::Shortage`] if there is no memory to read it.
    pub async fn get(
        &self,
        session: &Session,
        firewall: FirewallId,
        id: PolicyId,
    ) -> Result<InspectedPolicy, ServiceError> {
        let policy = self.0.current(session, firewall, id).await?;
        self.of(session, policy).await
    }

    /// Returns a policy that was just read, ready to inspect packets, in this state or a later one.
    /// Unlike [`Self::get`], this takes no statement if the state is cached.
    ///
    /// # Errors
    /// Like [`Self::get`].
    pub async fn of(
        &self,
        session: &Session,
        policy: Arc<Policy>,
    ) -> Result<InspectedPolicy, ServiceError> {
        let (firewall, id) = (policy.firewall.id, policy.id);
        if let Some(cached) = self.0.cached(&policy) {
            if cached.is_due_again() && cached.needs_work() {
                self.0.compile_soon(id, Tools::of(&session.backend));
            }
            if cached.note_asked(self.0.seconds()) > WARM_FOR_S / 2 {
                self.0.keep_warm(&session.backend, firewall, id, policy.rule_count);
            }
            return Ok(cached.inspected(policy));
        }
        let is_at_work = Arc::new(AtomicBool::new(false));
        let backend = Arc::clone(&session.backend);
        let (cache, session) = (Arc::clone(&self.0), session.clone());
        let (monitor, works) = (Arc::clone(&session.backend.monitor), Arc::clone(&is_at_work));
        let find =
            join_request(&*monitor, async move { cache.find(&session, policy, &works).await });
        let mut lookup = PolicyLookup { task: tokio::spawn(find), is_at_work };
        let found = (&mut lookup.task).await.map_err(ServiceError::internal)?;
        let found = found.ok_or_else(|| ServiceError::internal("a lookup that was not run"))??;
        if let Some(cached) = self.0.policies.peek(&id) {
            cached.note_asked(self.0.seconds());
            self.0.keep_warm(&backend, firewall, id, found.policy.rule_count);
        }
        Ok(found)
    }

    /// Returns a rule of an inspected policy with all its texts; none if it has changed since, so
    /// that the packet must be decided again. Costs at most one statement.
    ///
    /// # Errors
    /// Returns the errors of the use case and of the storage.
    pub async fn rule(
        &self,
        session: &Session,
        inspected: &InspectedPolicy,
        rule: &CompactRule,
    ) -> Result<Option<Arc<Rule>>, ServiceError> {
        let lineage = inspected.lineage;
        if let Some(rule) = self.0.texts.get(lineage, rule) {
            return Ok(Some(rule));
        }
        let (policy, id) = (Arc::clone(&inspected.policy), rule.id());
        let found = session
            .read(|uow, caller| {
                Box::pin(async move { inspect::rule_in_state(uow, caller, &policy, id).await })
            })
            .await?;
        let state = PolicyState::of(&inspected.policy);
        let is_same = |it: &fireflow_domain::store::RuleInState| {
            // The rule is as it was in the state, if the state is in the same history and the rule
            // has not changed since.
            let is_same_history = if state.is_marked() {
                state.is_at_or_before(it.revision, &it.states)
            } else {
                it.revision == state.revision()
            };
            is_same_history && it.changed <= state.revision() && rule.is_of(&it.rule)
        };
        Ok(found.filter(is_same).map(|it| {
            let whole = Arc::new(it.rule);
            self.0.texts.insert(lineage, rule.since(), Arc::clone(&whole));
            whole
        }))
    }
}

impl CachedPolicy {
    fn inspected(self, policy: Arc<Policy>) -> InspectedPolicy {
        InspectedPolicy { policy, compiled: self.compiled, lineage: self.lineage }
    }
}

impl PolicyCache {
    /// The number of seconds since the start.
    fn seconds(&self) -> u64 {
        self.start.elapsed().as_secs()
    }

    /// The most bytes that one policy may take.
    const fn largest(&self) -> u64 {
        self.capacity / 100 * LARGEST
    }

    /// The lock under which the rules of a policy are read.
    fn lock(&self, id: PolicyId) -> Arc<AsyncMutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(&id).and_then(Weak::upgrade) {
            return lock;
        }
        if locks.len() > POLICIES {
            locks.retain(|_, lock| lock.strong_count() > 0);
        }
        let lock = Arc::default();
        locks.insert(id, Arc::downgrade(&lock));
        lock
    }

    /// The cached policy, if it is in the state that was read.
    fn cached(&self, policy: &Policy) -> Option<CachedPolicy> {
        let state = PolicyState::of(policy);
        let cached = self.policies.get(&policy.id).filter(|cached| cached.known.state == state)?;
        self.hits.fetch_add(1, Ordering::Relaxed);
        Some(cached)
    }

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

    /// Brings a policy up to date, or waits until another task has done so.
    async fn find(
        self: &Arc<Self>,
        session: &Session,
        policy: Arc<Policy>,
        is_at_work: &AtomicBool,
    ) -> Result<InspectedPolicy, ServiceError> {
        let lock = self.lock(policy.id);
        let _held = lock.lock().await;
        if let Some(cached) = self.cached(&policy) {
            return Ok(cached.inspected(policy));
        }
        is_at_work.store(true, Ordering::Relaxed);
        let mut former = self.policies.peek(&policy.id);
        loop {
            let memory = {
                let (budget, subject) = (&session.backend.budget, &session.caller.actor.subject);
                let bytes = bytes_to_read(&policy, former.is_some());
                budget.reserve(subject, Use::Compilation, bytes).await?
            };
            let known = former.as_ref().map(|cached| cached.known);
            let (current, contents) = read::read(session, &policy, known).await?;
            let policy = Arc::new(current);
            let is_update = !matches!(contents, Contents::All(..));
            match self.update(session, &policy, contents, former.take()).await {
                Ok(Some(cached)) => {
                    drop(memory);
                    self.keep(session, &policy, cached.clone());
                    return Ok(cached.inspected(policy));
                }
                // A rule was removed without a trace in the changes, or there is a defect in
                // applying changes. All rules are read.
                Ok(None) | Err(_) if is_update => {}
                Ok(None) => return Err(ServiceError::internal("rules that do not form a policy")),
                Err(error) => return Err(error),
            }
        }
    }

    /// Caches a policy in its current state, and compiles in the background what is left to
    /// compile.
    fn keep(self: &Arc<Self>, session: &Session, policy: &Policy, cached: CachedPolicy) {
        self.misses.fetch_add(1, Ordering::Relaxed);
        let (id, needs_work) = (policy.id, cached.needs_work());
        let former = self.policies.peek(&id);
        self.policies.insert(id, cached);
        drop(Discarded::of(former.into_iter().collect()));
        if needs_work {
            self.compile_soon(id, Tools::of(&session.backend));
        }
    }

    /// Makes the rules of a policy out of what was read, on a thread that serves no requests, and
    /// compiles them if there are few. Returns `None` if what was read does not form the policy.
    async fn update(
        self: &Arc<Self>,
        session: &Session,
        policy: &Arc<Policy>,
        contents: Contents,
        former: Option<CachedPolicy>,
    ) -> Result<Option<CachedPolicy>, ServiceError> {
        let (cache, policy) = (Arc::clone(self), Arc::clone(policy));
        let monitor = Arc::clone(&session.backend.monitor);
        let update = move || {
            let start = Moment::now();
            let known = KnownState::of(&policy);
            let mut cached = match (contents, former) {
                (Contents::All(rules, texts), former) => {
                    let lineage = cache.lineages.fetch_add(1, Ordering::Relaxed);
                    cache.keep_texts(lineage, policy.revision, texts);
                    let asked = former.map(|former| former.asked).unwrap_or_default();
                    let compiled = Arc::new(CompiledRules::uncompiled(rules));
                    CachedPolicy { known, lineage, compiled, bytes: 0, again_at: None, asked }
                }
                (Contents::Changed(changed, texts), Some(former)) => {
                    let compiled = former.compiled.changed(&changed, policy.rule_count)?;
                    monitor.compiled(start.elapsed(), "updated");
                    cache.keep_texts(former.lineage, policy.revision, texts);
                    CachedPolicy { known, compiled: Arc::new(compiled), ..former }
                }
                (Contents::Same, Some(former)) => former,
                // Only a known state can have changes.
                (Contents::Changed(..) | Contents::Same, None) => return None,
            };
            cache.compile_few(&mut cached, &*monitor, policy.id);
            cached.bytes = bytes_of(cached.compiled.memory_bytes());
            Some(cached)
        };
        tokio::task::spawn_blocking(update).await.map_err(ServiceError::internal)
    }

    /// Keeps rules that were read with their texts at a revision of their policy.
    fn keep_texts(&self, lineage: u64, since: Revision, texts: Vec<Rule>) {
        for rule in texts.into_iter().filter(|rule| rule.deleted.is_none()) {
            self.texts.insert(lineage, since, Arc::new(rule));
        }
    }

    /// Compiles what takes no longer than its rules take to be read.
    fn compile_few(&self, cached: &mut CachedPolicy, monitor: &dyn Monitor, id: PolicyId) {
        let is_small = cached.compiled.all_comparisons() <= FEW_COMPARISONS;
        if is_small && cached.again_at.is_none() && cached.compiled.should_be_rebased() {
            let rebased = cached.compiled.rebased();
            if rebased.pending().is_some_and(|it| self.is_little(&it)) {
                cached.compiled = Arc::new(rebased);
            }
        }
        while let Some(compilation) = cached.compiled.pending() {
            if !self.is_little(&compilation) {
                break;
            }
            let start = Moment::now();
            let should_continue = || start.elapsed() < self.limits.time;
            let budget = self.limits.budget;
            compilation.run(Limits { budget, should_continue: &should_continue });
            background::report(id, &compilation);
            if compilation.is_over_budget() {
                monitor.compiled(start.elapsed(), "over_budget");
            } else if !compilation.is_of_changes() {
                monitor.compiled(start.elapsed(), "compiled");
            }
        }
    }

    /// Whether a compilation takes little time and memory. Rules beyond their budget do: they are
    /// only counted.
    fn is_little(&self, compilation: &Compilation) -> bool {
        compilation.comparisons() <= FEW_COMPARISONS
            && compilation.bytes(self.limits.budget) <= FEW_BYTES
    }
}

fn bytes_of(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Estimates the bytes that a policy takes while its rules are read. With a cached state, only
/// changed rules are read.
fn bytes_to_read(policy: &Policy, is_update: bool) -> u64 {
    let (of_rule, of_entry) = if is_update { (64, 16) } else { (768, 128) };
    let rules = policy.rule_count.saturating_mul(of_rule);
    rules.saturating_add(policy.entry_count.saturating_mul(of_entry))
}
