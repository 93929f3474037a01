//! The state that all requests share, and how one request reads and writes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant as Moment};

use fireflow_auth::Authenticator;
use fireflow_domain::actor::Caller;
use fireflow_domain::error::{Error, ErrorChain};
use fireflow_domain::store::{
    Claim, Claimed, Party, ReadKind, ReadUnit, Storage, Terms, WriteKind, WriteUnit,
};
use fireflow_domain::time::{Clock, Instant, MICROS_PER_SECOND};
use fireflow_service::budget::{Budget, BudgetState, Use};
use fireflow_storage::Pool;
use fireflow_telemetry::Telemetry;
use fireflow_telemetry::metrics::{Exposition, MemoryState, MemoryUse, Sampled};
use fireflow_telemetry::request::UseCase;
use futures_util::future::BoxFuture;
use poem_openapi::types::Type;
use serde::Serialize;

use crate::idempotency::Once;
use crate::inspected::CompiledPolicies;
use crate::inspection_stream::Streams;
use crate::middleware::Gate;
use crate::problem::{Code, Problem};
use crate::reply::{Kind, Reply};
use crate::work::{Work, beside};

/// The state that all requests share.
pub struct App {
    /// The storage of firewalls, policies, rules and audit events.
    pub storage: Arc<dyn Storage>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Authenticates clients.
    pub authenticator: Authenticator,
    /// Checks and settings that depend on where a request comes from.
    pub gate: Gate,
    /// The prefix of every path, without a trailing slash: empty, or `/fireflow`.
    pub base_path: String,
    /// What `/health/` reports in addition to readiness.
    pub about: About,
    /// Logs, metrics and traces.
    pub telemetry: Arc<Telemetry>,
    /// The connection pools of the database.
    pub pools: Vec<Pool>,
    /// Policies that are compiled for inspections.
    pub compiled: CompiledPolicies,
    /// The memory that requests borrow from.
    pub budget: Budget,
    /// Turns on a processor for long work: large bodies, pages, many packets.
    pub turns: Budget,
    /// The streams of packets that are being inspected.
    pub inspection_streams: Streams,
    /// The longest time until an answer.
    pub request_timeout: Duration,
    /// Whether the process is shutting down. It is then not ready.
    pub is_stopping: AtomicBool,
    /// The last known state of the database. Anybody may ask for the readiness, so not every
    /// question reaches the database.
    pub readiness: Readiness,
}

/// How long a result of the database's health check stays valid.
const READINESS_COUNTS: Duration = Duration::from_millis(500);

/// How long the page of metrics waits for the database's health check.
const METRICS_PATIENCE: Duration = Duration::from_secs(1);

/// The last result of the database's health check.
#[derive(Debug, Default)]
pub struct Readiness(tokio::sync::Mutex<Option<(std::time::Instant, bool)>>);

impl App {
    /// Whether the database answers, all migrations are applied, and the process is not shutting
    /// down. Concurrent calls share one health check.
    pub async fn is_ready(&self) -> bool {
        if self.is_stopping.load(Ordering::Relaxed) {
            return false;
        }
        let mut last = self.readiness.0.lock().await;
        if let Some((at, is_ready)) = *last
            && at.elapsed() < READINESS_COUNTS
        {
            return is_ready;
        }
        let is_ready = self.storage.is_ready().await.unwrap_or(false);
        *last = Some((std::time::Instant::now(), is_ready));
        is_ready
    }

    /// The page of metrics.
    ///
    /// # Errors
    /// Returns `Code::Internal` if the page cannot be made, which is a defect.
    pub async fn metrics(&self, exposition: Exposition) -> Result<String, Problem> {
        // Metrics matter most when the database does not answer, so they wait for it only briefly.
        let is_ready = tokio::time::timeout(METRICS_PATIENCE, self.is_ready()).await;
        let sampled = Sampled {
            is_ready: is_ready.unwrap_or(false),
            database: self.about.database,
            pools: self.pools.iter().map(|pool| (pool.name, pool.state())).collect(),
            token_lookups: self.authenticator.lookups(),
            key_files: self.authenticator.key_files(),
            compiled: self.compiled.state(),
            streams: self.inspection_streams.under_way(),
            budget: memory(&self.budget.state()),
            started_at: self.about.started_at.micros() as f64 / MICROS_PER_SECOND as f64,
        };
        let telemetry = Arc::clone(&self.telemetry);
        let page = move || telemetry.metrics.page(&sampled, exposition);
        tokio::task::spawn_blocking(page).await.map_err(Problem::internal)
    }
}

/// The state of the budget in the form that metrics show.
fn memory(state: &BudgetState) -> MemoryState {
    let BudgetState { capacity, used, refused, waiting } = *state;
    let uses = Use::ALL.into_iter().zip(used).zip(refused);
    let uses = uses.map(|((purpose, used), refused)| MemoryUse {
        purpose: purpose.as_str(),
        used,
        refused,
    });
    MemoryState { capacity, uses: uses.collect(), waiting }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("base_path", &self.base_path).finish_non_exhaustive()
    }
}

/// The facts about the process that are known when it starts.
#[derive(Debug, Clone)]
pub struct About {
    /// `sqlite` or `postgres`.
    pub database: &'static str,
    /// The most connections of the pool.
    pub max_connections: u32,
    /// When the process started.
    pub started_at: Instant,
    /// The same instant on a monotonic clock, from which the uptime is counted.
    pub running_since: std::time::Instant,
}

/// One request of a caller that has the role required by the operation.
#[derive(Debug, Clone)]
pub struct Context {
    /// The state that all requests share.
    pub app: Arc<App>,
    /// The caller, and the time of the request.
    pub caller: Caller,
    /// When the caller's token expires.
    pub expires_at: Instant,
    /// The time after which nobody waits for the answer.
    pub deadline: Moment,
    /// The idempotency key of the request, if the client sent one.
    pub once: Option<Arc<Once>>,
    /// The limits of the request, and what it holds.
    pub work: Arc<Work>,
}

impl Context {
    /// Reads in one statement, or in several that need not see the same state.
    ///
    /// # Errors
    /// Returns the errors of the use case.
    pub async fn read<T, F>(&self, ask: F) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_in(ReadKind::Single, ask).await
    }

    /// Reads in several statements that see the same state.
    ///
    /// # Errors
    /// Returns the errors of the use case.
    pub async fn read_snapshot<T, F>(&self, ask: F) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_in(ReadKind::Snapshot, ask).await
    }

    /// Reads a page of a list, within the time limit of lists. Uses a read replica if there is one,
    /// so the state may be slightly old.
    ///
    /// # Errors
    /// Returns the errors of the use case.
    pub async fn read_list<T, F>(&self, ask: F) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_in(ReadKind::Page, ask).await
    }

    /// Reads in a kind of transaction that the request chooses.
    ///
    /// # Errors
    /// Returns the errors of the use case.
    pub async fn read_in<T, F>(&self, kind: ReadKind, ask: F) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_on(kind, &self.terms(), ask).await
    }

    /// Reads all rules of a policy, in one state, to compile them. The read continues after the
    /// request has ended. It may take as long as a request may, counted from now.
    ///
    /// # Errors
    /// Returns the errors of the use case.
    pub async fn read_to_compile<T, F>(&self, ask: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>
            + Send
            + 'static,
    {
        let deadline = Some(Moment::now() + self.app.request_timeout);
        let terms = Terms { deadline, ..self.terms() };
        let kind = ReadKind::Compilation;
        let _span = UseCase::begin(&self.app.telemetry);
        let unit = self.app.storage.read(kind, &terms).await.map_err(Error::from)?;
        let caller = self.caller.clone();
        beside(async move { Self::find(kind, unit, &caller, ask).await }).await?
    }

    async fn read_on<T, F>(&self, kind: ReadKind, terms: &Terms, ask: F) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        let _span = UseCase::begin(&self.app.telemetry);
        let unit = self.app.storage.read(kind, terms).await.map_err(Error::from)?;
        Self::find(kind, unit, &self.caller, ask).await
    }

    /// Runs a use case in a read transaction that has begun, and ends the transaction.
    async fn find<T, F>(
        kind: ReadKind,
        mut unit: Box<dyn ReadUnit>,
        caller: &Caller,
        ask: F,
    ) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        let answered = ask(&mut *unit, caller).await.map_err(|error| match kind {
            ReadKind::Page | ReadKind::FreshPage | ReadKind::Export | ReadKind::FreshExport => {
                error
            }
            ReadKind::Single | ReadKind::Snapshot | ReadKind::Compilation => error.unless_list(),
        });
        // The result is already complete, so a connection that fails now is the storage's concern.
        if let Err(error) = unit.end().await {
            tracing::debug!(cause = %ErrorChain(&error), "a read transaction could not be ended");
        }
        Ok(answered?)
    }

    /// The party on whose behalf the storage works, and the deadline.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms { party: Party::of(&self.caller.actor), deadline: Some(self.deadline) }
    }

    /// Writes. Only this function and its variants below commit. When it returns, everything that
    /// the use case wrote, including its audit event, is durable. After an error, none of it is.
    ///
    /// # Errors
    /// Returns the errors of the use case and of the commit.
    pub async fn write<T, F>(&self, ask: F) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        let _span = UseCase::begin(&self.app.telemetry);
        let uow = self.begin(WriteKind::Few).await?;
        Self::carry_out(uow, &self.caller, ask).await
    }

    /// Like [`Self::write`], for a change of many items. Its duration grows with their number, so
    /// it runs outside the threads that serve requests. The storage bounds how many such changes
    /// run at once.
    ///
    /// # Errors
    /// Returns the errors of the use case and of the commit.
    pub async fn write_many<T, F>(&self, ask: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>
            + Send
            + 'static,
    {
        let _span = UseCase::begin(&self.app.telemetry);
        let uow = self.begin(WriteKind::Many).await?;
        let caller = self.caller.clone();
        beside(async move { Self::carry_out(uow, &caller, ask).await }).await?
    }

    /// Writes a change that a client may retry. If the request's idempotency key is known, this
    /// returns its first answer and writes nothing. Otherwise it stores the answer under the key,
    /// in the same transaction.
    ///
    /// # Errors
    /// Returns the errors of the use case and of the commit, or `Code::KeyReused` if the key was
    /// used for another request.
    pub async fn write_once<T, F, K, V>(
        &self,
        ask: F,
        render: impl FnOnce(T) -> Result<Reply<K, V>, Problem> + Send,
    ) -> Result<Reply<K, V>, Problem>
    where
        T: Send,
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
        K: Kind,
        V: Type + Serialize,
    {
        let _span = UseCase::begin(&self.app.telemetry);
        let uow = self.begin(WriteKind::Few).await?;
        Self::carry_out_once(uow, &self.caller, self.claim(), ask, render).await
    }

    /// Like [`Self::write_once`], for a change of many items; see [`Self::write_many`].
    ///
    /// # Errors
    /// Returns the errors of the use case and of the commit, or `Code::KeyReused` if the key was
    /// used for another request.
    pub async fn write_many_once<T, F, K, V>(
        &self,
        ask: F,
        render: impl FnOnce(T) -> Result<Reply<K, V>, Problem> + Send + 'static,
    ) -> Result<Reply<K, V>, Problem>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>
            + Send
            + 'static,
        K: Kind + 'static,
        V: Type + Serialize + 'static,
    {
        let _span = UseCase::begin(&self.app.telemetry);
        let uow = self.begin(WriteKind::Many).await?;
        let (caller, claim) = (self.caller.clone(), self.claim());
        beside(async move { Self::carry_out_once(uow, &caller, claim, ask, render).await }).await?
    }

    async fn begin(&self, kind: WriteKind) -> Result<Box<dyn WriteUnit>, Problem> {
        Ok(self.app.storage.write(kind, &self.terms()).await.map_err(Error::from)?)
    }

    /// The claim to the request's idempotency key, if it has one.
    fn claim(&self) -> Option<Claim> {
        self.once.as_ref().map(|once| Claim {
            subject: self.caller.actor.subject.clone(),
            key: once.key.clone(),
            fingerprint: once.fingerprint(),
            at: self.caller.now,
        })
    }

    async fn carry_out<T, F>(
        mut uow: Box<dyn WriteUnit>,
        caller: &Caller,
        ask: F,
    ) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        let answered = ask(&mut *uow, caller).await;
        let answered = answered.map_err(|error| Problem::from(error.unless_list()));
        Self::end(uow, answered).await
    }

    async fn carry_out_once<T, F, K, V>(
        mut uow: Box<dyn WriteUnit>,
        caller: &Caller,
        claim: Option<Claim>,
        ask: F,
        render: impl FnOnce(T) -> Result<Reply<K, V>, Problem> + Send,
    ) -> Result<Reply<K, V>, Problem>
    where
        T: Send,
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
        K: Kind,
        V: Type + Serialize,
    {
        let Some(claim) = claim else { return render(Self::carry_out(uow, caller, ask).await?) };
        let answered =
            match uow.answers().claim(&claim).await.map_err(|it| Error::from(it).unless_list()) {
                Ok(Claimed::First) => match ask(&mut *uow, caller).await {
                    Ok(value) => match render(value) {
                        Ok(reply) => {
                            let kept = uow.answers().keep(&claim, &reply.kept()).await;
                            kept.map(|()| reply)
                                .map_err(|error| Error::from(error).unless_list().into())
                        }
                        Err(problem) => Err(problem),
                    },
                    Err(error) => Err(error.unless_list().into()),
                },
                Ok(Claimed::Repeated(answer)) => Reply::repeated(answer),
                Ok(Claimed::Other) => {
                    let detail =
                        "this `Idempotency-Key` was used for another request; send a new key";
                    Err(Problem::new(Code::KeyReused, detail))
                }
                Err(error) => Err(error.into()),
            };
        Self::end(uow, answered).await
    }

    /// Commits after a success, and rolls back after an error.
    async fn end<T>(uow: Box<dyn WriteUnit>, answered: Result<T, Problem>) -> Result<T, Problem> {
        match answered {
            Ok(value) => {
                uow.commit().await.map_err(Error::from)?;
                Ok(value)
            }
            Err(problem) => {
                // If the rollback fails, the state on which the answer is based may be lost too.
                match uow.rollback().await {
                    Ok(()) => Err(problem),
                    Err(rollback) => {
                        tracing::warn!(
                            code = problem.code.as_str(),
                            "the request was abandoned and could not be rolled back"
                        );
                        Err(Error::from(rollback).into())
                    }
                }
            }
        }
    }

    /// A path of the API including the base path, for `Location`.
    #[must_use]
    pub fn path(&self, path: fmt::Arguments<'_>) -> String {
        format!("{}{path}", self.app.base_path)
    }
}
