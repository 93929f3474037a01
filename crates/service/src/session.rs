//! Sessions: the units of work of one caller. Each unit is ended, committed or rolled back.

use std::sync::Arc;
use std::time::{Duration, Instant as Moment};

use fireflow_domain::actor::Caller;
use fireflow_domain::error::{Error, ErrorChain};
use fireflow_domain::store::{
    Claim, Claimed, KeptAnswer, Party, ReadKind, ReadUnit, Terms, WriteKind, WriteUnit,
};
use futures_util::future::BoxFuture;

use crate::backend::Backend;
use crate::error::ServiceError;
use crate::idempotency::IdempotentRequest;
use crate::work::{Work, run_on_blocking_thread};

/// How long before the end of a request a database may stop its statement.
const STOP_MARGIN: Duration = Duration::from_millis(100);

/// One request of a caller, and the resources that it uses.
#[derive(Debug, Clone)]
pub struct Session {
    /// The parts that all sessions share.
    pub backend: Arc<Backend>,
    /// The caller, and the time of the request.
    pub caller: Arc<Caller>,
    /// The time after which nobody waits for the answer.
    pub deadline: Moment,
    /// The client's key for the request, with which the client can repeat it.
    pub idempotent: Option<Arc<IdempotentRequest>>,
    /// The limits of the request, and the resources that it holds.
    pub work: Arc<Work>,
}

/// An answer that can be stored, and returned again when its request is repeated.
pub trait Repeatable: Sized + Send {
    /// Converts the answer to its stored form.
    fn to_kept(&self) -> KeptAnswer;
    /// Restores an answer from its stored form.
    ///
    /// # Errors
    /// Returns [`Error::Internal`] if the stored form is not an answer, which is a defect.
    fn from_kept(kept: KeptAnswer) -> Result<Self, Error>;
}

impl Session {
    /// Reads in one statement, or in several that need not see the same state.
    ///
    /// # Errors
    /// Returns the errors of the use case and of the storage.
    pub async fn read<T, F>(&self, ask: F) -> Result<T, Error>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_in(ReadKind::Single, ask).await
    }

    /// Reads in several statements that see one state.
    ///
    /// # Errors
    /// Returns the errors of the use case and of the storage.
    pub async fn read_snapshot<T, F>(&self, ask: F) -> Result<T, Error>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_in(ReadKind::Snapshot, ask).await
    }

    /// Reads a page of a list, within the time limit of lists. If there is a read replica, the page
    /// comes from it, so its state may be a little old.
    ///
    /// # Errors
    /// Returns the errors of the use case and of the storage, and [`Error::TooExpensive`] if the
    /// list takes too long.
    pub async fn read_list<T, F>(&self, ask: F) -> Result<T, Error>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_in(ReadKind::Page, ask).await
    }

    /// Reads in a unit of work of a kind that is known only at run time.
    ///
    /// # Errors
    /// Returns the errors of the use case and of the storage.
    pub async fn read_in<T, F>(&self, kind: ReadKind, ask: F) -> Result<T, Error>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        let _span = self.backend.monitor.begin_use_case();
        let unit = self.begin_read(kind).await?;
        let left = self.deadline.saturating_duration_since(Moment::now());
        let answered = Self::find(kind, unit, &self.caller, ask).await;
        // A list that waited for its turn during most of the request, and was stopped by the end of
        // the request, is not known to be expensive: the same request may succeed later.
        let waited_long = left < self.backend.request_timeout / 2;
        if waited_long && Moment::now() + STOP_MARGIN >= self.deadline {
            answered.map_err(Error::unless_list)
        } else {
            answered
        }
    }

    /// Reads all rules of a policy in one state, to compile them. The compilation may outlive its
    /// request, so the deadline is the full request timeout from now, not that of the request.
    ///
    /// # Errors
    /// Returns the errors of the use case and of the storage.
    pub async fn read_to_compile<T, F>(&self, ask: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>
            + Send
            + 'static,
    {
        let deadline = Some(Moment::now() + self.backend.request_timeout);
        let terms = Terms { deadline, ..self.terms() };
        let kind = ReadKind::Compilation;
        let monitor = &*self.backend.monitor;
        let _span = monitor.begin_use_case();
        let unit = self.backend.storage.read(kind, &terms).await?;
        let caller = Arc::clone(&self.caller);
        run_on_blocking_thread(monitor, async move { Self::find(kind, unit, &caller, ask).await })
            .await?
    }

    /// Begins a unit of work that reads. The caller must end it.
    ///
    /// # Errors
    /// Returns the errors of the storage.
    pub async fn begin_read(&self, kind: ReadKind) -> Result<Box<dyn ReadUnit>, Error> {
        Ok(self.backend.storage.read(kind, &self.terms()).await?)
    }

    /// Runs a use case in a unit of work that has begun, and ends the unit.
    async fn find<T, F>(
        kind: ReadKind,
        mut unit: Box<dyn ReadUnit>,
        caller: &Caller,
        ask: F,
    ) -> Result<T, Error>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        let answered = ask(&mut *unit, caller).await.map_err(|error| match kind {
            ReadKind::Page | ReadKind::FreshPage | ReadKind::Export | ReadKind::FreshExport => {
                error
            }
            ReadKind::Single | ReadKind::Snapshot | ReadKind::Compilation => error.unless_list(),
        });
        // The use case already has its result, so a failure here does not affect the answer.
        if let Err(error) = unit.end().await {
            tracing::debug!(cause = %ErrorChain(&error), "a read transaction could not be ended");
        }
        answered
    }

    /// The party that the storage works for, and its deadline.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms { party: Party::of(&self.caller.actor), deadline: Some(self.deadline) }
    }

    /// Runs a use case that writes, and commits it. When this returns, all changes of the use case
    /// are durable, including its audit event. After an error, none of them is. Only the write
    /// methods of `Session` commit.
    ///
    /// # Errors
    /// Returns the errors of the use case and of the commit.
    pub async fn write<T, F>(&self, ask: F) -> Result<T, Error>
    where
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        let _span = self.backend.monitor.begin_use_case();
        let unit = self.begin_write(WriteKind::Few).await?;
        Self::carry_out(unit, &self.caller, ask).await
    }

    /// Like [`Self::write`], for changes of many rows. The time that they take grows with their
    /// number, so they run outside the threads that serve requests. The storage limits how many of
    /// them run at once.
    ///
    /// # Errors
    /// Returns the errors of the use case and of the commit.
    pub async fn write_many<T, F>(&self, ask: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>
            + Send
            + 'static,
    {
        let monitor = &*self.backend.monitor;
        let _span = monitor.begin_use_case();
        let unit = self.begin_write(WriteKind::Many).await?;
        let caller = Arc::clone(&self.caller);
        run_on_blocking_thread(monitor, async move { Self::carry_out(unit, &caller, ask).await })
            .await?
    }

    /// Like [`Self::write`], for requests that a client may repeat. If the request's key is already
    /// known, this returns the first answer and writes nothing. Otherwise it stores the answer
    /// under the key, in the same transaction. `render` creates the answer.
    ///
    /// # Errors
    /// Returns the errors of the use case, the commit and `render`, or [`ServiceError::KeyReused`]
    /// if the key belongs to another request.
    pub async fn write_idempotent<T, F, A, E>(
        &self,
        ask: F,
        render: impl FnOnce(T) -> Result<A, E> + Send,
    ) -> Result<A, E>
    where
        T: Send,
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
        A: Repeatable,
        E: From<Error> + From<ServiceError> + Send,
    {
        let _span = self.backend.monitor.begin_use_case();
        let unit = self.begin_write(WriteKind::Few).await?;
        Self::carry_out_idempotent(unit, &self.caller, self.claim(), ask, render).await
    }

    /// Like [`Self::write_idempotent`], for changes of many rows; see [`Self::write_many`].
    ///
    /// # Errors
    /// Returns the errors of [`Self::write_idempotent`].
    pub async fn write_many_idempotent<T, F, A, E>(
        &self,
        ask: F,
        render: impl FnOnce(T) -> Result<A, E> + Send + 'static,
    ) -> Result<A, E>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>
            + Send
            + 'static,
        A: Repeatable + 'static,
        E: From<Error> + From<ServiceError> + Send + 'static,
    {
        let monitor = &*self.backend.monitor;
        let _span = monitor.begin_use_case();
        let unit = self.begin_write(WriteKind::Many).await?;
        let (caller, claim) = (Arc::clone(&self.caller), self.claim());
        let written =
            async move { Self::carry_out_idempotent(unit, &caller, claim, ask, render).await };
        run_on_blocking_thread(monitor, written).await?
    }

    async fn begin_write(&self, kind: WriteKind) -> Result<Box<dyn WriteUnit>, Error> {
        Ok(self.backend.storage.write(kind, &self.terms()).await?)
    }

    /// The claim on the request's key, if the request has a key.
    fn claim(&self) -> Option<Claim> {
        self.idempotent.as_ref().map(|request| Claim {
            subject: self.caller.actor.subject.clone(),
            key: request.key.clone(),
            fingerprint: request.fingerprint(),
            at: self.caller.now,
        })
    }

    async fn carry_out<T, F>(
        mut unit: Box<dyn WriteUnit>,
        caller: &Caller,
        ask: F,
    ) -> Result<T, Error>
    where
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        let done = ask(&mut *unit, caller).await.map_err(Error::unless_list);
        Self::end(unit, done).await
    }

    async fn carry_out_idempotent<T, F, A, E>(
        mut unit: Box<dyn WriteUnit>,
        caller: &Caller,
        claim: Option<Claim>,
        ask: F,
        render: impl FnOnce(T) -> Result<A, E> + Send,
    ) -> Result<A, E>
    where
        T: Send,
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
        A: Repeatable,
        E: From<Error> + From<ServiceError> + Send,
    {
        let Some(claim) = claim else {
            return render(Self::carry_out(unit, caller, ask).await?);
        };
        let answered = Self::answer(&mut *unit, caller, &claim, ask, render).await;
        Self::end(unit, answered).await
    }

    /// Commits a unit of work that has succeeded, and rolls back one that has failed.
    ///
    /// # Errors
    /// Returns the error of the use case, or of the commit. If the rollback fails, its error replaces
    /// that of the use case, because the state that caused the failure may not be durable either.
    async fn end<T, E: From<Error>>(unit: Box<dyn WriteUnit>, done: Result<T, E>) -> Result<T, E> {
        match done {
            Ok(value) => {
                unit.commit().await.map_err(Error::from)?;
                Ok(value)
            }
            Err(error) => {
                unit.rollback().await.map_err(|rollback| {
                    tracing::warn!(
                        cause = %ErrorChain(&rollback),
                        "the request was abandoned and could not be rolled back"
                    );
                    Error::from(rollback)
                })?;
                Err(error)
            }
        }
    }

    /// Returns the answer that is stored under a key. If there is none, runs the use case and
    /// stores its answer.
    async fn answer<T, F, A, E>(
        unit: &mut dyn WriteUnit,
        caller: &Caller,
        claim: &Claim,
        ask: F,
        render: impl FnOnce(T) -> Result<A, E> + Send,
    ) -> Result<A, E>
    where
        T: Send,
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
        A: Repeatable,
        E: From<Error> + From<ServiceError>,
    {
        match unit.answers().claim(claim).await.map_err(|error| Error::from(error).unless_list())? {
            Claimed::First => {
                let answer = render(ask(unit, caller).await.map_err(Error::unless_list)?)?;
                let kept = unit.answers().keep(claim, &answer.to_kept()).await;
                kept.map_err(|error| Error::from(error).unless_list())?;
                Ok(answer)
            }
            Claimed::Repeated(kept) => Ok(A::from_kept(kept)?),
            Claimed::Other => Err(ServiceError::KeyReused.into()),
        }
    }
}
