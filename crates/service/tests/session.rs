//! Tests which units of work are committed and which are rolled back, and the answers to repeated
//! requests.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as the tests do")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant as Moment};

use async_trait::async_trait;
use fireflow_domain::actor::{Actor, Caller, Role, Visibility};
use fireflow_domain::error::{Error, StoreError};
use fireflow_domain::features::Features;
use fireflow_domain::limits::PolicyLimits;
use fireflow_domain::store::{
    AcceptanceReader, AcceptanceWriter, AnswerStore, AuditReader, AuditWriter, Claim, Claimed,
    FirewallReader, FirewallWriter, KeptAnswer, PolicyReader, PolicyWriter, ReadKind, ReadUnit,
    RuleReader, RuleWriter, Storage, StoreResult, Terms, Upkeep, WriteKind, WriteUnit,
};
use fireflow_domain::time::Instant;
use fireflow_service::backend::Backend;
use fireflow_service::budget::Budget;
use fireflow_service::error::ServiceError;
use fireflow_service::idempotency::IdempotentRequest;
use fireflow_service::monitor::{Monitor, SpanOwner, UseCaseSpan};
use fireflow_service::session::{Repeatable, Session};
use fireflow_service::work::{Limits, Work};
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

/// The ends of the units of work, in order, and the stored answers.
#[derive(Debug, Default)]
struct Journal {
    events: Mutex<Vec<&'static str>>,
    kept: Mutex<Vec<(Claim, KeptAnswer)>>,
    /// Whether each rollback fails.
    is_broken: bool,
}

impl Journal {
    fn note(&self, event: &'static str) {
        self.events.lock().unwrap().push(event);
    }

    fn events(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

struct Unit {
    journal: Arc<Journal>,
    /// Stored only if the unit is committed.
    kept: Option<(Claim, KeptAnswer)>,
}

#[async_trait]
impl ReadUnit for Unit {
    fn firewalls(&mut self) -> &mut dyn FirewallReader {
        unreachable!()
    }

    fn policies(&mut self) -> &mut dyn PolicyReader {
        unreachable!()
    }

    fn rules(&mut self) -> &mut dyn RuleReader {
        unreachable!()
    }

    fn acceptances(&mut self) -> &mut dyn AcceptanceReader {
        unreachable!()
    }

    fn audit(&mut self) -> &mut dyn AuditReader {
        unreachable!()
    }

    fn known_features(&self) -> Features {
        Features::from_bits(0)
    }

    async fn end(self: Box<Self>) -> StoreResult<()> {
        self.journal.note("end");
        Ok(())
    }
}

#[async_trait]
impl WriteUnit for Unit {
    fn firewalls_mut(&mut self) -> &mut dyn FirewallWriter {
        unreachable!()
    }

    fn policies_mut(&mut self) -> &mut dyn PolicyWriter {
        unreachable!()
    }

    fn rules_mut(&mut self) -> &mut dyn RuleWriter {
        unreachable!()
    }

    fn acceptances_mut(&mut self) -> &mut dyn AcceptanceWriter {
        unreachable!()
    }

    fn audit_mut(&mut self) -> &mut dyn AuditWriter {
        unreachable!()
    }

    fn policy_limits(&self) -> PolicyLimits {
        PolicyLimits::default()
    }

    fn answers(&mut self) -> &mut dyn AnswerStore {
        self
    }

    fn upkeep(&mut self) -> &mut dyn Upkeep {
        unreachable!()
    }

    async fn commit(self: Box<Self>) -> StoreResult<()> {
        self.journal.note("commit");
        self.journal.kept.lock().unwrap().extend(self.kept);
        Ok(())
    }

    async fn rollback(self: Box<Self>) -> StoreResult<()> {
        self.journal.note("rollback");
        if self.journal.is_broken { Err(StoreError::Unsettled("lost".into())) } else { Ok(()) }
    }
}

#[async_trait]
impl AnswerStore for Unit {
    async fn claim(&mut self, claim: &Claim) -> StoreResult<Claimed> {
        let kept = self.journal.kept.lock().unwrap();
        let found = kept.iter().find(|(it, _)| it.key == claim.key);
        Ok(match found {
            None => Claimed::First,
            Some((it, answer)) if it.fingerprint == claim.fingerprint => {
                Claimed::Repeated(answer.clone())
            }
            Some(_) => Claimed::Other,
        })
    }

    async fn keep(&mut self, claim: &Claim, answer: &KeptAnswer) -> StoreResult<()> {
        self.kept = Some((claim.clone(), answer.clone()));
        Ok(())
    }
}

struct Store(Arc<Journal>);

#[async_trait]
impl Storage for Store {
    async fn read(&self, _: ReadKind, _: &Terms) -> StoreResult<Box<dyn ReadUnit>> {
        Ok(Box::new(Unit { journal: Arc::clone(&self.0), kept: None }))
    }

    async fn write(&self, _: WriteKind, _: &Terms) -> StoreResult<Box<dyn WriteUnit>> {
        Ok(Box::new(Unit { journal: Arc::clone(&self.0), kept: None }))
    }

    async fn is_ready(&self) -> StoreResult<bool> {
        Ok(true)
    }
}

/// Counts the spans that have begun and ended.
#[derive(Debug, Default)]
struct Spans {
    begun: AtomicUsize,
    ended: Arc<Ended>,
}

#[derive(Debug, Default)]
struct Ended(AtomicUsize);

impl SpanOwner for Ended {
    fn end_use_case(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Monitor for Spans {
    fn begin_use_case(&self) -> Option<UseCaseSpan> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Some(UseCaseSpan::new(Arc::<Ended>::clone(&self.ended)))
    }

    fn join_request(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        work
    }

    fn compiled(&self, _: Duration, _: &'static str) {}
}

/// A session on a storage that keeps a journal. `key` holds the key and the hash of the body of an
/// idempotent request.
fn session(journal: &Arc<Journal>, monitor: &Arc<Spans>, key: Option<(&str, u8)>) -> Session {
    let backend = Arc::new(Backend {
        storage: Arc::new(Store(Arc::clone(journal))),
        monitor: Arc::<Spans>::clone(monitor),
        budget: Budget::bytes(1 << 20),
        turns: Budget::turns(1),
        request_timeout: Duration::from_secs(60),
    });
    let actor =
        Actor { subject: "ann".to_owned(), roles: vec![Role::Editor], visibility: Visibility::All };
    let caller = Caller {
        actor,
        now: Instant::EPOCH,
        request_id: String::new(),
        client_address: String::new(),
        reason: String::new(),
    };
    let idempotent = key.map(|(key, body)| {
        let request =
            IdempotentRequest::new(key.to_owned(), "POST", "/", b"", &caller.actor.visibility);
        request.set_body([body; 32]);
        Arc::new(request)
    });
    let limits = Limits {
        max_body_bytes: 0,
        max_rule_set_bytes: 0,
        body_stall: Duration::ZERO,
        request_timeout: Duration::from_secs(60),
        in_flight: Arc::new(Semaphore::new(1)),
    };
    let deadline = Moment::now() + Duration::from_secs(60);
    let work = Arc::new(Work::new(limits));
    Session { backend, caller: Arc::new(caller), deadline, idempotent, work }
}

#[tokio::test]
async fn a_list_is_too_expensive_only_if_it_had_its_time() {
    let (journal, spans) = (Arc::<Journal>::default(), Arc::<Spans>::default());
    let slow = || -> Result<u8, Error> { Err(Error::TooExpensive("slow".into())) };
    for (left, is_expensive) in [
        // It was stopped by the limit of lists, long before the end of the request.
        (Duration::from_secs(50), true),
        (Duration::from_secs(20), true),
        // It was stopped at the end of a request that had waited for a minute.
        (Duration::ZERO, false),
    ] {
        let mut session = session(&journal, &spans, None);
        session.deadline = Moment::now() + left;
        let answered = session.read_list(|_, _| Box::pin(async move { slow() })).await;
        match answered {
            Err(Error::TooExpensive(_)) => assert!(is_expensive, "{left:?}"),
            Err(Error::Unavailable { .. }) => assert!(!is_expensive, "{left:?}"),
            other => panic!("{other:?}"),
        }
    }
}

/// A number as an answer.
#[derive(Debug, PartialEq, Eq)]
struct Number(u8);

impl Repeatable for Number {
    fn to_kept(&self) -> KeptAnswer {
        KeptAnswer { status: 200, headers: Vec::new(), body: vec![self.0] }
    }

    fn from_kept(kept: KeptAnswer) -> Result<Self, Error> {
        kept.body.first().copied().map(Self).ok_or_else(|| Error::Internal("empty".into()))
    }
}

async fn write(session: &Session, value: u8) -> Result<Number, ServiceError> {
    let render = |value| Ok(Number(value));
    session.write_idempotent(move |_, _| Box::pin(async move { Ok(value) }), render).await
}

#[tokio::test]
async fn what_succeeds_is_committed_and_what_fails_is_undone() {
    let (journal, spans) = (Arc::<Journal>::default(), Arc::<Spans>::default());
    let session = session(&journal, &spans, None);
    let written = session.write(|_, _| Box::pin(async { Ok(7) })).await;
    assert_eq!(written.unwrap(), 7);
    assert_eq!(journal.events(), ["commit"]);
    let fails = || -> Result<u8, Error> { Err(Error::TooExpensive("slow".into())) };
    let failed = session.write(|_, _| Box::pin(async move { fails() })).await;
    // The request is not for a list, so it may be retried after it took too long.
    assert!(matches!(failed, Err(Error::Unavailable { .. })), "{failed:?}");
    assert_eq!(journal.events(), ["rollback"]);
    let many = session.write_many(|_, _| Box::pin(async { Ok(8) })).await;
    assert_eq!(many.unwrap(), 8);
    assert_eq!(journal.events(), ["commit"]);
    let listed = session.read_list(|_, _| Box::pin(async move { fails() })).await;
    assert!(matches!(listed, Err(Error::TooExpensive(_))), "{listed:?}");
    let read = session.read(|_, _| Box::pin(async move { fails() })).await;
    assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
    assert_eq!(journal.events(), ["end", "end"]);
    assert_eq!(spans.begun.load(Ordering::SeqCst), 5);
    assert_eq!(spans.ended.0.load(Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_the_first_and_writes_nothing() {
    let (journal, spans) = (Arc::<Journal>::default(), Arc::<Spans>::default());
    let session = |key| session(&journal, &spans, key);
    assert_eq!(write(&session(Some(("k", 1))), 1).await.unwrap(), Number(1));
    assert_eq!(journal.events(), ["commit"]);
    assert_eq!(write(&session(Some(("k", 1))), 2).await.unwrap(), Number(1));
    assert_eq!(journal.kept.lock().unwrap().len(), 1);
    let other = write(&session(Some(("k", 2))), 3).await;
    assert!(matches!(other, Err(ServiceError::KeyReused)), "{other:?}");
    assert_eq!(journal.events(), ["commit", "rollback"]);
    assert_eq!(write(&session(None), 4).await.unwrap(), Number(4));
    assert_eq!(journal.kept.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_answer_that_cannot_be_rendered_undoes_the_write_and_frees_the_key() {
    let (journal, spans) = (Arc::<Journal>::default(), Arc::<Spans>::default());
    let session = session(&journal, &spans, Some(("k", 1)));
    let failed: Result<Number, ServiceError> = session
        .write_many_idempotent(
            |_, _| Box::pin(async { Ok(1) }),
            |_| Err(Error::Internal("no text".into()).into()),
        )
        .await;
    assert!(matches!(failed, Err(ServiceError::Domain(Error::Internal(_)))), "{failed:?}");
    assert_eq!(journal.events(), ["rollback"]);
    assert_eq!(write(&session, 2).await.unwrap(), Number(2));
}

#[tokio::test]
async fn what_cannot_be_undone_is_answered_as_unsettled() {
    let journal = Arc::new(Journal { is_broken: true, ..Journal::default() });
    let spans = Arc::<Spans>::default();
    let session = session(&journal, &spans, None);
    let fails = || -> Result<u8, Error> { Err(Error::Forbidden { needs: Role::Admin }) };
    let failed = session.write(|_, _| Box::pin(async move { fails() })).await;
    assert!(matches!(failed, Err(Error::Unsettled(_))), "{failed:?}");
}
