//! What one caller does with the storage: units of work, each with its end.

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

/// A caller, and what is done for them until a moment.
#[derive(Debug, Clone)]
pub struct Session {
    /// What all sessions share.
    pub backend: Arc<Backend>,
    /// Who asks, and when.
    pub caller: Arc<Caller>,
    /// When nobody waits for the answer any more.
    pub deadline: Moment,
    /// What the client named the request with, to ask for it again.
    pub idempotent: Option<Arc<IdempotentRequest>>,
    /// What the request may take, and has taken.
    pub work: Arc<Work>,
}

/// An answer that can be kept, to be given again when its request is repeated.
pub trait Repeatable: Sized + Send {
    /// What is kept of it.
    fn to_kept(&self) -> KeptAnswer;
    /// The answer that was kept.
    ///
    /// # Errors
    /// Returns a defect if it is none.
    fn from_kept(kept: KeptAnswer) -> Result<Self, Error>;
}

impl Session {
    /// Reads in one statement, or in several that need not agree.
    ///
    /// # Errors
    /// The use case's.
    pub async fn read<T, F>(&self, ask: F) -> Result<T, Error>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_in(ReadKind::Single, ask).await
    }

    /// Reads in several statements that see one state.
    ///
    /// # Errors
    /// The use case's.
    pub async fn read_snapshot<T, F>(&self, ask: F) -> Result<T, Error>
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
    pub async fn read_list<T, F>(&self, ask: F) -> Result<T, Error>
    where
        F: for<'a> FnOnce(&'a mut dyn ReadUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        self.read_in(ReadKind::Page, ask).await
    }

    /// Reads what the request decides.
    ///
    /// # Errors
    /// The use case's.
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

    /// Reads all rules of a policy, of one state, to compile them. It goes on when the request is
    /// gone, and has as long as a request may take, from now on.
    ///
    /// # Errors
    /// The use case's.
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

    /// Begins a unit of work that reads, for what ends it later.
    ///
    /// # Errors
    /// The storage's.
    pub async fn begin_read(&self, kind: ReadKind) -> Result<Box<dyn ReadUnit>, Error> {
        Ok(self.backend.storage.read(kind, &self.terms()).await?)
    }

    /// Asks a unit of work that has begun, and ends it.
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
        // What was read is known; a connection that fails now is the storage's matter.
        if let Err(error) = unit.end().await {
            tracing::debug!(cause = %ErrorChain(&error), "a read transaction could not be ended");
        }
        answered
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
    pub async fn write<T, F>(&self, ask: F) -> Result<T, Error>
    where
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
    {
        let _span = self.backend.monitor.begin_use_case();
        let unit = self.begin_write(WriteKind::Few).await?;
        Self::carry_out(unit, &self.caller, ask).await
    }

    /// The same for a change of many things: how long it takes grows with them, so that it is done
    /// beside the threads that serve. The storage bounds how many there are at once.
    ///
    /// # Errors
    /// The use case's, or the commit's.
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

    /// Writes what a client may ask for again: where the request has a key that is known, its first
    /// answer is given, and nothing is written; else its answer is kept under the key, in the same
    /// transaction. `render` makes the answer.
    ///
    /// # Errors
    /// The use case's, the commit's, those of `render`, or [`ServiceError::KeyReused`] if the key
    /// stands for another request.
    pub async fn write_idempotent<T, F, A, E>(
        &self,
        ask: F,
        render: impl FnOnce(T) -> Result<A, E> + Send,
    ) -> Result<A, E>
    where
        T: Send,
        F: for<'a> FnOnce(&'a mut dyn WriteUnit, &'a Caller) -> BoxFuture<'a, Result<T, Error>>,
        A: Repeatable,
        E: From<ServiceError> + Send,
    {
        let _span = self.backend.monitor.begin_use_case();
        let unit = self.begin_write(WriteKind::Few).await.map_err(ServiceError::from)?;
        Self::carry_out_idempotent(unit, &self.caller, self.claim(), ask, render).await
    }

    /// The same for a change of many things; see [`Self::write_many`].
    ///
    /// # Errors
    /// See [`Self::write_idempotent`].
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
        E: From<ServiceError> + Send + 'static,
    {
        let monitor = &*self.backend.monitor;
        let _span = monitor.begin_use_case();
        let unit = self.begin_write(WriteKind::Many).await.map_err(ServiceError::from)?;
        let (caller, claim) = (Arc::clone(&self.caller), self.claim());
        let written =
            async move { Self::carry_out_idempotent(unit, &caller, claim, ask, render).await };
        run_on_blocking_thread(monitor, written).await.map_err(ServiceError::from)?
    }

    async fn begin_write(&self, kind: WriteKind) -> Result<Box<dyn WriteUnit>, Error> {
        Ok(self.backend.storage.write(kind, &self.terms()).await?)
    }

    /// What the request's key stands for, if it has one.
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
        match ask(&mut *unit, caller).await.map_err(Error::unless_list) {
            Ok(value) => {
                unit.commit().await?;
                Ok(value)
            }
            Err(error) => {
                Self::undo(unit).await?;
                Err(error)
            }
        }
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
        E: From<ServiceError> + Send,
    {
        let Some(claim) = claim else {
            return render(Self::carry_out(unit, caller, ask).await.map_err(ServiceError::from)?);
        };
        match Self::answer(&mut *unit, caller, &claim, ask, render).await {
            Ok(answer) => {
                unit.commit().await.map_err(|error| ServiceError::Domain(error.into()))?;
                Ok(answer)
            }
            Err(error) => {
                Self::undo(unit).await.map_err(ServiceError::from)?;
                Err(error)
            }
        }
    }

    /// The answer that is kept under a key, else that of the use case, which is kept there now.
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
        E: From<ServiceError>,
    {
        let failed = |error: Error| ServiceError::Domain(error.unless_list());
        match unit.answers().claim(claim).await.map_err(|error| failed(error.into()))? {
            Claimed::First => {
                let answer = render(ask(unit, caller).await.map_err(failed)?)?;
                let kept = unit.answers().keep(claim, &answer.to_kept()).await;
                kept.map_err(|error| failed(error.into()))?;
                Ok(answer)
            }
            Claimed::Repeated(kept) => Ok(A::from_kept(kept).map_err(ServiceError::from)?),
            Claimed::Other => Err(ServiceError::KeyReused.into()),
        }
    }

    /// Undoes all of a unit of work, which failed.
    ///
    /// # Errors
    /// The storage's: what the failure rests on may not last either.
    async fn undo(unit: Box<dyn WriteUnit>) -> Result<(), Error> {
        unit.rollback().await.map_err(|rollback| {
            tracing::warn!(
                cause = %ErrorChain(&rollback),
                "the request was abandoned and could not be rolled back"
            );
            rollback.into()
        })
    }
}
