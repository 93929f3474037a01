//! Analyses of policies: on threads of their own, within limits, and kept as long as they hold.
//!
//! An analysis takes up to many seconds of a processor. So at most one runs for each processor but
//! one, subjects take turns, and each ends as soon as nobody waits for it, or is expected to ask again
//! after a 202. The findings of a policy are kept by the policy's state: requests for the same
//! state share one analysis.

mod kept;
mod rules_with;
mod waiting;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant as Moment};

use fireflow_domain::analysis::{
    AnalysedPolicy, AnalysedRule, AnalysisLimits, AnalysisOptions, EXPOSED_SERVICES,
    ExposedService, FindingKinds, Former, Thresholds, analyse_again, analyse_with_grounds,
    holds_until,
};
use fireflow_domain::error::Error;
use fireflow_domain::policy::Policy;
use fireflow_domain::rule::RuleSpec;
use fireflow_domain::store::RuleUpkeep;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::inspect::{self, InspectedPolicy};
use fireflow_domain::usecase::policy;
use tokio::sync::watch;

pub use self::kept::{AnalysisQuestion, KeptAnalysis};
use self::kept::{Basis, Kept, identity};
use self::waiting::Interest;
use crate::budget::{Budget, Reservation, Shortage, Use};
use crate::error::ServiceError;
use crate::inspections::PolicyState;
use crate::session::Session;

/// The memory of an analysis, measured with 100,000 rules, and with a million entries, and that of the
/// rules in the form that is analyzed. Without that form, the peaks of 100,000 rules with two entries each
/// are 2,300 to 3,500 bytes for each rule.
const BYTES_PER_RULE: u64 = 3_584;
const BYTES_PER_ENTRY: u64 = 144;
/// The memory of an analysis of few rules.
const FIRST_BYTES: u64 = 4 * 1024 * 1024;
/// How long an analysis continues after a request that was answered before its end. The client is
/// expected to ask again in that time.
const ASKED_AGAIN: Duration = Duration::from_secs(60);
/// When a client should ask again.
const RETRY_AFTER_S: i64 = 2;

/// The limits of one analysis.
#[derive(Debug, Clone, Copy)]
pub struct AnalysisBounds {
    /// The longest time.
    pub max_time: Duration,
    /// The most memory, in bytes.
    pub max_bytes: u64,
}

impl Default for AnalysisBounds {
    fn default() -> Self {
        Self { max_time: Duration::from_secs(30), max_bytes: 512 * 1024 * 1024 }
    }
}

/// What analyses may take, and what counts as a finding.
#[derive(Debug, Clone)]
pub struct AnalysisSettings {
    /// The limits of one analysis.
    pub bounds: AnalysisBounds,
    /// From which size or age on a rule is a finding.
    pub thresholds: Thresholds,
    /// The services whose exposure is a finding.
    pub services: Vec<ExposedService>,
}

impl Default for AnalysisSettings {
    fn default() -> Self {
        Self {
            bounds: AnalysisBounds::default(),
            thresholds: Thresholds::default(),
            services: EXPOSED_SERVICES.to_vec(),
        }
    }
}

impl AnalysisSettings {
    fn options(&self, kinds: FindingKinds, at: Instant) -> AnalysisOptions {
        let Self { bounds: _, thresholds, services } = self;
        AnalysisOptions { kinds, at, thresholds: *thresholds, services: services.clone() }
    }
}

/// Runs analyses, and keeps the findings of policies. Cheap to clone: all clones share them.
#[derive(Debug, Clone)]
pub struct Analyses(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: AnalysisSettings,
    /// One turn for each processor but one, at least one.
    turns: Budget,
    kept: Kept,
    running: Mutex<Vec<Running>>,
}

/// An analysis that is under way.
#[derive(Debug, Clone)]
struct Running {
    question: AnalysisQuestion,
    interest: Arc<Interest>,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// How an analysis ended.
#[derive(Debug, Clone)]
enum Outcome {
    Done(Arc<KeptAnalysis>),
    /// The policy has changed since its rules were read.
    Moved,
    Shortage(Shortage),
    /// A defect, which was logged.
    Failed,
}

/// The answer to a request for an analysis.
#[derive(Debug, Clone)]
pub enum Progress {
    /// The analysis.
    Done(Arc<KeptAnalysis>),
    /// The policy has changed in the meantime.
    Moved,
    /// It is still under way. It continues for a while, so that the client can ask again.
    UnderWay {
        /// When to ask again, in seconds.
        retry_after_s: i64,
    },
}

/// Roughly the memory that the analysis of rules takes, in bytes.
#[must_use]
pub const fn bytes_of(rules: u64, entries: u64) -> u64 {
    FIRST_BYTES
        .saturating_add(rules.saturating_mul(BYTES_PER_RULE))
        .saturating_add(entries.saturating_mul(BYTES_PER_ENTRY))
}

impl Analyses {
    /// Runs analyses on all processors but one, each within the bounds of these settings.
    #[must_use]
    pub fn new(settings: AnalysisSettings) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let turns =
            Budget::turns(processors.saturating_sub(1)).with_patience(settings.bounds.max_time);
        Self(Arc::new(Inner { settings, turns, kept: Kept::default(), running: Mutex::default() }))
    }

    /// Returns the findings of a policy, and waits for them up to a time. `at` is the instant at
    /// which they hold; none: now.
    ///
    /// # Errors
    /// Returns [`ServiceError::Shortage`] if there is no memory or turn for the analysis.
    pub async fn findings(
        &self,
        session: &Session,
        inspected: &InspectedPolicy,
        kinds: FindingKinds,
        at: Option<Instant>,
        wait: Duration,
    ) -> Result<Progress, ServiceError> {
        let now = session.caller.now;
        let question = AnalysisQuestion { state: PolicyState::of(&inspected.policy), kinds, at };
        if let Some(kept) = self.0.kept.get(&question, now) {
            return Ok(Progress::Done(kept));
        }
        let mut running = self.0.join_or_start(session, inspected, question);
        let waiter = running.interest.guard();
        let ended = running.outcome.wait_for(Option::is_some);
        match tokio::time::timeout(wait, ended).await {
            Ok(Ok(outcome)) => match outcome.clone() {
                Some(Outcome::Done(kept)) => Ok(Progress::Done(kept)),
                Some(Outcome::Moved) => Ok(Progress::Moved),
                Some(Outcome::Shortage(shortage)) => Err(shortage.into()),
                Some(Outcome::Failed) | None => {
                    Err(ServiceError::internal("the analysis failed; the log has the cause"))
                }
            },
            Ok(Err(_)) => Err(ServiceError::internal("an analysis ended without an outcome")),
            Err(_) => {
                waiter.leave_for(ASKED_AGAIN);
                Ok(Progress::UnderWay { retry_after_s: RETRY_AFTER_S })
            }
        }
    }

    /// Runs an analysis that is not kept, for at most a time. It ends early, with what is decided so
    /// far, once nobody waits for it.
    ///
    /// # Errors
    /// Returns [`ServiceError::Shortage`] if there is no memory or turn for it.
    pub async fn run<T: Send + 'static>(
        &self,
        session: &Session,
        bytes: u64,
        time: Duration,
        job: impl FnOnce(&AnalysisLimits<'_>) -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let is_awaited = Arc::new(AtomicBool::new(true));
        let guard = ClearOnDrop(Arc::clone(&is_awaited));
        let should_continue = move || is_awaited.load(Ordering::Relaxed);
        let granted = self.0.grant(session, bytes).await?;
        let time = time.min(self.0.settings.bounds.max_time);
        let done = run(granted, time, should_continue, job).await;
        drop(guard);
        done
    }
}

/// Clears a flag when it is dropped, because nobody waits any more.
struct ClearOnDrop(Arc<AtomicBool>);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

fn analysed<'a>((spec, upkeep): (&'a RuleSpec, &RuleUpkeep)) -> AnalysedRule<'a> {
    let RuleUpkeep { has_reference, updated_at } = *upkeep;
    AnalysedRule { spec, has_reference, updated_at: Some(updated_at) }
}

/// Reads what analyses need besides; none if the policy is in another state. One snapshot.
async fn read_upkeep(
    session: &Session,
    policy: &Arc<Policy>,
) -> Result<Option<Vec<RuleUpkeep>>, Error> {
    let (firewall, id, state) = (policy.firewall.id, policy.id, PolicyState::of(policy));
    session
        .read_to_compile(move |uow, caller| {
            Box::pin(async move {
                let policy = policy::get_known(uow, caller, firewall, id).await?;
                if PolicyState::of(&policy) != state {
                    return Ok(None);
                }
                inspect::upkeep(uow, caller, &policy).await.map(Some)
            })
        })
        .await
}

impl Inner {
    fn running(&self) -> std::sync::MutexGuard<'_, Vec<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the analysis that answers a question, or starts it. The interest counts the caller
    /// until a guard takes over.
    fn join_or_start(
        self: &Arc<Self>,
        session: &Session,
        inspected: &InspectedPolicy,
        question: AnalysisQuestion,
    ) -> Running {
        let mut all = self.running();
        let joined =
            all.iter().find(|running| running.question == question && running.interest.join());
        if let Some(running) = joined {
            return running.clone();
        }
        let (tell, outcome) = watch::channel(None);
        let interest = Arc::new(Interest::of_one());
        let running = Running { question, interest: Arc::clone(&interest), outcome };
        all.push(running.clone());
        drop(all);
        let inner = Arc::clone(self);
        let (session, inspected) = (session.clone(), inspected.clone());
        tokio::spawn(async move {
            let outcome = inner.analyse(&session, &inspected, question, &interest).await;
            inner.running().retain(|running| !Arc::ptr_eq(&running.interest, &interest));
            // Nobody may wait any more.
            let _told = tell.send(Some(outcome)).is_ok();
        });
        running
    }

    /// Analyzes a policy once there is a turn and memory for it, and keeps the findings.
    async fn analyse(
        &self,
        session: &Session,
        inspected: &InspectedPolicy,
        question: AnalysisQuestion,
        interest: &Arc<Interest>,
    ) -> Outcome {
        let Policy { rule_count, entry_count, .. } = *inspected.policy;
        let bytes = bytes_of(rule_count, entry_count);
        let granted = match self.grant(session, bytes).await {
            Ok(granted) => granted,
            Err(shortage) => return Outcome::Shortage(shortage),
        };
        let upkeep = match read_upkeep(session, &inspected.policy).await {
            Ok(Some(upkeep)) => upkeep,
            Ok(None) => return Outcome::Moved,
            Err(error) => {
                tracing::warn!(%error, "the rules to analyze could not be read");
                return Outcome::Shortage(Shortage { what: "the database", retry_after_s: 1 });
            }
        };
        let at = question.at.unwrap_or(session.caller.now);
        let options = self.settings.options(question.kinds, at);
        let former = self.kept.former(&question);
        let inspected = inspected.clone();
        let job = move |limits: &AnalysisLimits<'_>| {
            let specs = inspected.named_specs();
            let rules: Vec<AnalysedRule<'_>> = specs.iter().zip(&upkeep).map(analysed).collect();
            let default_action = inspected.policy.spec.default_action;
            let policy = AnalysedPolicy { rules: &rules, default_action };
            let same = former.as_ref().and_then(|former| former.basis.same(&inspected));
            let (analysis, grounds) = match (&former, &same) {
                (Some(former), Some(same)) => {
                    let Basis { grounds, options: then, default_action, .. } = &former.basis;
                    let former = Former {
                        default_action: *default_action,
                        same,
                        options: then,
                        analysis: &former.analysis,
                        grounds,
                    };
                    analyse_again(&former, &policy, &options, limits)
                }
                _ => analyse_with_grounds(&policy, &options, limits),
            };
            let until = holds_until(&policy, &options);
            let lineage = inspected.lineage;
            let rules = inspected.compiled.iter().map(|rule| identity(rule)).collect();
            let basis = Basis { grounds, options, default_action, lineage, rules };
            KeptAnalysis { analysis, until, basis }
        };
        let awaited = Arc::clone(interest);
        let should_continue = move || awaited.is_awaited();
        match run(granted, self.settings.bounds.max_time, should_continue, job).await {
            Ok(kept) => {
                let kept = Arc::new(kept);
                // What ended early because nobody waited for it is not worth keeping.
                if kept.analysis.is_complete() || interest.is_awaited() {
                    self.kept.insert(question, Arc::clone(&kept));
                }
                Outcome::Done(kept)
            }
            Err(error) => {
                tracing::error!(%error, "the analysis of a policy failed");
                Outcome::Failed
            }
        }
    }

    /// Waits for a turn and for memory.
    async fn grant(&self, session: &Session, bytes: u64) -> Result<Granted, Shortage> {
        let (backend, subject) = (&session.backend, &session.caller.actor.subject);
        let turn = self.turns.reserve(subject, Use::Analysis, 1).await?;
        let bytes = bytes.min(self.settings.bounds.max_bytes);
        let memory = backend.budget.reserve(subject, Use::Analysis, bytes).await?;
        Ok(Granted { turn, memory })
    }
}

/// What an analysis holds while it runs.
struct Granted {
    turn: Reservation,
    memory: Reservation,
}

/// Runs a job on a thread of its own.
async fn run<T: Send + 'static>(
    granted: Granted,
    time: Duration,
    is_awaited: impl Fn() -> bool + Send + Sync + 'static,
    job: impl FnOnce(&AnalysisLimits<'_>) -> T + Send + 'static,
) -> Result<T, ServiceError> {
    let run = move || on_own_thread(granted, time, &is_awaited, job);
    tokio::task::spawn_blocking(run)
        .await
        .map_err(ServiceError::internal)?
        .map_err(ServiceError::internal)
}

/// Runs a job in a pool of one thread, so that it never takes the threads of inspections, whatever it
/// does in parallel.
fn on_own_thread<T: Send>(
    granted: Granted,
    time: Duration,
    is_awaited: &(dyn Fn() -> bool + Sync),
    job: impl FnOnce(&AnalysisLimits<'_>) -> T + Send,
) -> Result<T, rayon::ThreadPoolBuildError> {
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|_| "analysis".to_owned())
        .build()?;
    let start = Moment::now();
    let should_continue = || start.elapsed() < time && is_awaited();
    let Granted { turn, memory } = granted;
    let bytes = usize::try_from(memory.amount()).unwrap_or(usize::MAX);
    let limits = AnalysisLimits { bytes, ..AnalysisLimits::usual(&should_continue) };
    let done = pool.install(|| job(&limits));
    drop((turn, memory));
    Ok(done)
}
