//! Tests how long analyses run, and what they are given.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant as Moment};

use async_trait::async_trait;
use fireflow_domain::actor::{Actor, Caller, Role, Visibility};
use fireflow_domain::error::StoreError;
use fireflow_domain::store::{
    ReadKind, ReadUnit, Storage, StoreResult, Terms, WriteKind, WriteUnit,
};
use fireflow_domain::time::Instant;
use fireflow_service::analyses::{Analyses, AnalysisBounds, AnalysisSettings};
use fireflow_service::backend::Backend;
use fireflow_service::budget::{Budget, Use};
use fireflow_service::monitor::NoMonitor;
use fireflow_service::session::Session;
use fireflow_service::work::{Limits, Work};
use tokio::sync::Semaphore;

const MEBIBYTE: u64 = 1 << 20;
/// Longer than any test.
const LONG: Duration = Duration::from_secs(3_600);

/// A storage that no test reads.
struct Nowhere;

#[async_trait]
impl Storage for Nowhere {
    async fn read(&self, _: ReadKind, _: &Terms) -> StoreResult<Box<dyn ReadUnit>> {
        Err(StoreError::Failed("there is no storage".into()))
    }

    async fn write(&self, _: WriteKind, _: &Terms) -> StoreResult<Box<dyn WriteUnit>> {
        Err(StoreError::Failed("there is no storage".into()))
    }

    async fn is_ready(&self) -> StoreResult<bool> {
        Ok(false)
    }
}

/// A session with a budget of 64 MiB, of which one subject gets half.
fn session() -> Session {
    let backend = Arc::new(Backend {
        storage: Arc::new(Nowhere),
        monitor: Arc::new(NoMonitor),
        budget: Budget::bytes(64 * MEBIBYTE),
        turns: Budget::turns(1),
        request_timeout: LONG,
    });
    let actor =
        Actor { subject: "ann".to_owned(), roles: vec![Role::Viewer], visibility: Visibility::All };
    let caller = Caller {
        actor,
        now: Instant::EPOCH,
        request_id: String::new(),
        client_address: String::new(),
        reason: String::new(),
    };
    let limits = Limits {
        max_body_bytes: 0,
        max_rule_set_bytes: 0,
        body_stall: Duration::ZERO,
        request_timeout: LONG,
        in_flight: Arc::new(Semaphore::new(1)),
    };
    let work = Arc::new(Work::new(limits));
    let deadline = Moment::now() + LONG;
    Session { backend, caller: Arc::new(caller), deadline, idempotent: None, work }
}

fn analyses() -> Analyses {
    let bounds = AnalysisBounds { max_time: LONG, max_bytes: 16 * MEBIBYTE };
    Analyses::new(AnalysisSettings { bounds, ..AnalysisSettings::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_analysis_ends_once_nobody_waits_for_it() {
    let (analyses, session) = (analyses(), session());
    let ((begin, begun), (end, ended)) = (channel(), channel());
    let budget = session.backend.budget.clone();
    let waits = tokio::spawn(async move {
        let job = move |limits: &fireflow_domain::analysis::AnalysisLimits<'_>| {
            begin.send(()).unwrap();
            while (limits.should_continue)() {
                std::thread::yield_now();
            }
            end.send(()).unwrap();
        };
        analyses.run(&session, MEBIBYTE, LONG, job).await
    });
    // Both waits end with the job, and never before.
    tokio::task::spawn_blocking(move || begun.recv()).await.unwrap().unwrap();
    let used = budget.state().used.get(Use::Analysis as usize).copied();
    assert_eq!(used, Some(MEBIBYTE));
    waits.abort();
    tokio::task::spawn_blocking(move || ended.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_analysis_is_given_its_time_and_its_memory_and_no_more() {
    let (analyses, session) = (analyses(), session());
    let give = async |bytes, time| {
        let job = |limits: &fireflow_domain::analysis::AnalysisLimits<'_>| {
            (limits.bytes, (limits.should_continue)())
        };
        analyses.run(&session, bytes, time, job).await.unwrap()
    };
    let mebibytes = |count: usize| count << 20;
    assert_eq!(give(MEBIBYTE, LONG).await, (mebibytes(1), true));
    assert_eq!(give(u64::MAX, LONG).await, (mebibytes(16), true), "the bound");
    assert_eq!(give(MEBIBYTE, Duration::ZERO).await, (mebibytes(1), false));
    let used = session.backend.budget.state().used;
    assert_eq!(used.iter().sum::<u64>(), 0, "everything is given back");
}

#[tokio::test]
async fn an_analysis_without_memory_is_refused() {
    let (analyses, session) = (analyses(), session());
    let budget = session.backend.budget.clone().with_patience(Duration::from_millis(1));
    let backend = Backend {
        storage: Arc::new(Nowhere),
        monitor: Arc::new(NoMonitor),
        budget: budget.clone(),
        turns: Budget::turns(1),
        request_timeout: LONG,
    };
    let session = Session { backend: Arc::new(backend), ..session };
    let _all = budget.reserve_anyway("bob", Use::Body, 64 * MEBIBYTE);
    let refused = analyses.run(&session, MEBIBYTE, LONG, |_| ()).await;
    assert!(matches!(refused, Err(fireflow_service::error::ServiceError::Shortage(_))));
}
