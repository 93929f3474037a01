//! What all requests share, and what one request does with it.

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

/// What all requests share.
pub struct App {
    /// Where things are kept.
    pub storage: Arc<dyn Storage>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who asks.
    pub authenticator: Authenticator,
    /// What is decided by where a request comes from.
    pub gate: Gate,
    /// The prefix of every path, without a slash at its end: empty, or `/fireflow`.
    pub base_path: String,
    /// What `/health/` tells beside readiness.
    pub about: About,
    /// Where the service tells of itself.
    pub telemetry: Arc<Telemetry>,
    /// The database's pools of connections.
    pub pools: Vec<Pool>,
    /// What was compiled for inspections.
    pub compiled: CompiledPolicies,
    /// The memory that requests borrow from.
    pub budget: Budget,
    /// Turns on a processor for what takes long: large bodies, pages, many packets.
    pub turns: Budget,
    /// The streams of packets that are inspected.
    pub inspection_streams: Streams,
    /// The longest time to an answer.
    pub request_timeout: Duration,
    /// Whether the process is shutting down: then it is not ready.
    pub is_stopping: AtomicBool,
    /// Whether the database was well a moment ago: anybody may ask, so that it is not asked each
    /// time.
    pub readiness: Readiness,
}

/// How long an answer of the database on its health counts.
const READINESS_COUNTS: Duration = Duration::from_millis(500);

/// How long the page of metrics waits for an answer on the database's health.
const METRICS_PATIENCE: Duration = Duration::from_secs(1);

/// The last answer on the database's health.
#[derive(Debug, Default)]
pub struct Readiness(tokio::sync::Mutex<Option<(std::time::Instant, bool)>>);

impl App {
    /// Whether the database answers, all migrations are applied, and the process does not stop. One
    /// that asks while another does waits for that one's answer.
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
    /// Where it cannot be made: a defect.
    pub async fn metrics(&self, exposition: Exposition) -> Result<String, Problem> {
        // A database that does not answer must not keep from looking.
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

/// The state of the budget as metrics show it.
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

/// What is known of the process when it starts.
#[derive(Debug, Clone)]
pub struct About {
    /// `sqlite` or `postgres`.
    pub database: &'static str,
    /// The most connections of the pool.
    pub max_connections: u32,
    /// When the process started.
    pub started_at: Instant,
    /// The same by a clock that is never set: how long it has run is counted from here.
    pub running_since: std::time::Instant,
}

/// One request of a caller who holds the role that the operation needs.
#[derive(Debug, Clone)]
pub struct Context {
    /// What all requests share.
    pub app: Arc<App>,
    /// Who asks, and when.
    pub caller: Caller,
    /// When the caller's token ends.
    pub expires_at: Instant,
    /// When nobody waits for the answer any more.
    pub deadline: Moment,
    /// The key that the client named the request with, to ask for it again.
    pub once: Option<Arc<Once>>,
    /// What the request may take, and has taken.
    pub work: Arc<Work>,
}

impl Context {
    /// Reads in one statement, or in several that need not agree.
    ///
    /// # Errors
    /// The use case's.
    pub async fn read<T, F>(&self, ask: F) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_in(ReadKind::Single, ask).await
    }

    /// Reads in several statements that see one state.
    ///
    /// # Errors
    /// The use case's.
    pub async fn read_snapshot<T, F>(&self, ask: F) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_in(ReadKind::Snapshot, ask).await
    }

    /// Reads a page of a list, within the time that lists have: of a read replica where there is
    /// one, so perhaps a state that is a little old.
    ///
    /// # Errors
    /// The use case's.
    pub async fn read_list<T, F>(&self, ask: F) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_in(ReadKind::Page, ask).await
    }

    /// Reads what the request decides.
    ///
    /// # Errors
    /// The use case's.
    pub async fn read_in<T, F>(&self, kind: ReadKind, ask: F) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_on(kind, &self.terms(), ask).await
    }

    /// Reads all rules of a policy, of one state, to compile them. It goes on when the request is
    /// gone, and has as long as a request may take, from now on.
    ///
    /// # Errors
    /// The use case's.
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

    /// Asks a unit of work that has begun, and ends it.
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
        // What was read is known; a connection that fails now is the storage's matter.
        if let Err(error) = unit.end().await {
            tracing::debug!(cause = %ErrorChain(&error), "a read transaction could not be ended");
        }
        Ok(answered?)
    }

    /// On whose behalf the storage works, and until when.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms { party: Party::of(&self.caller.actor), deadline: Some(self.deadline) }
    }

    /// Writes: the only way to, and the only place that commits. All of the use case, its audit
    /// event included, lasts when this returns; after an error nothing of it does.
    ///
    /// # Errors
    /// The use case's, or the commit's.
    pub async fn write<T, F>(&self, ask: F) -> Result<T, Problem>
    where
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        let _span = UseCase::begin(&self.app.telemetry);
        let uow = self.begin(WriteKind::Few).await?;
        Self::carry_out(uow, &self.caller, ask).await
    }

    /// The same for a change of many things: how long it takes grows with them, so that it is done
    /// beside the threads that serve. The storage bounds how many there are at once.
    ///
    /// # Errors
    /// The use case's, or the commit's.
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

    /// Writes what a client may ask for again: where the request has a key that is known, its first
    /// answer is given, and nothing is written; else its answer is kept under the key, in the same
    /// transaction.
    ///
    /// # Errors
    /// The use case's, the commit's, or where the key stands for another request.
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

    /// The same for a change of many things; see [`Self::write_many`].
    ///
    /// # Errors
    /// The use case's, the commit's, or where the key stands for another request.
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

    /// What the request's key stands for, if it has one.
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

    /// Makes all of it last, or nothing.
    async fn end<T>(uow: Box<dyn WriteUnit>, answered: Result<T, Problem>) -> Result<T, Problem> {
        match answered {
            Ok(value) => {
                uow.commit().await.map_err(Error::from)?;
                Ok(value)
            }
            Err(problem) => {
                // Where that fails, what the answer rests on may not last either.
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

    /// A path of the API below the base path, for `Location`.
    #[must_use]
    pub fn path(&self, path: fmt::Arguments<'_>) -> String {
        format!("{}{path}", self.app.base_path)
    }
}
