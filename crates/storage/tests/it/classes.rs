//! Classes of work: whatever one of them does, the other classes and subjects make progress.

use std::time::{Duration, Instant};

use fireflow_domain::actor::Visibility;
use fireflow_domain::error::{Outage, StoreError};
use fireflow_domain::store::{Party, ReadKind, Storage, Terms, WriteKind};
use fireflow_storage::testing::TestDatabase;
use fireflow_storage::{DatabaseKind, db_test};

use crate::support::*;

/// The terms of a subject, with a deadline after the given time.
fn terms(subject: &str, patience: Duration) -> Terms {
    let mut actor = caller().actor;
    actor.subject = subject.to_owned();
    Terms { party: Party::of(&actor), deadline: Some(Instant::now() + patience) }
}

fn long(subject: &str) -> Terms {
    terms(subject, Duration::from_secs(60))
}

/// Terms with which a subject hardly waits for a turn.
fn at_once(subject: &str) -> Terms {
    terms(subject, Duration::from_millis(20))
}

const LISTS: [ReadKind; 6] = [
    ReadKind::Page,
    ReadKind::FreshPage,
    ReadKind::Snapshot,
    ReadKind::Export,
    ReadKind::FreshExport,
    ReadKind::Compilation,
];

db_test! {
    committed("several connections at once")
    async fn lists_and_compilations_of_a_greedy_subject_leave_the_rest_alone(db: TestDatabase) {
        let edge = make_firewall(&db, "edge").await;
        let mut held = Vec::new();
        for kind in LISTS {
            while let Ok(unit) = db.database.read(kind, &at_once("greedy")).await {
                held.push(unit);
                assert!(held.len() < 100, "no bound");
            }
        }
        // As many again wait.
        let waiting: Vec<_> = (0..50)
            .map(|turn| {
                let (database, kind) = (db.database.clone(), LISTS[turn % LISTS.len()]);
                tokio::spawn(async move { database.read(kind, &long("greedy")).await.map(drop) })
            })
            .collect();
        for subject in ["greedy", "other"] {
            for _ in 0..20 {
                let mut unit = db.database.read(ReadKind::Single, &long(subject)).await.unwrap();
                let found = unit.firewalls().get(&Visibility::All, edge.id).await.unwrap();
                assert_eq!(found.unwrap().id, edge.id);
                unit.end().await.unwrap();
            }
        }
        make_firewall(&db, "another").await;
        // Other subjects have their own turns at lists.
        db.database.read(ReadKind::Page, &long("other")).await.unwrap().end().await.unwrap();
        for unit in held {
            unit.end().await.unwrap();
        }
        for task in waiting {
            task.await.unwrap().unwrap();
        }
    }
}

db_test! {
    committed("several connections at once")
    async fn writes_of_a_subject_do_not_make_reads_wait(db: TestDatabase) {
        let edge = make_firewall(&db, "edge").await;
        let mut held = Vec::new();
        for kind in [WriteKind::Many, WriteKind::Few] {
            while let Ok(unit) = db.database.write(kind, &at_once("greedy")).await {
                held.push(unit);
                assert!(held.len() < 100, "no bound");
            }
        }
        for kind in LISTS.into_iter().chain([ReadKind::Single]) {
            let mut unit = db.database.read(kind, &long("other")).await.unwrap();
            let found = unit.firewalls().get(&Visibility::All, edge.id).await.unwrap();
            assert_eq!(found.unwrap().id, edge.id);
            unit.end().await.unwrap();
        }
        if db.database.kind() == DatabaseKind::Postgres {
            db.database.write(WriteKind::Few, &long("other")).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_write_does_not_wait_for_all_that_another_subject_queued() {
    let db = TestDatabase::new(DatabaseKind::Sqlite).await;
    let db = db.reopened(|options| options.write_group = 1).await;
    let first = db.database.write(WriteKind::Few, &long("greedy")).await.unwrap();
    let (ended, mut order) = tokio::sync::mpsc::unbounded_channel();
    let queue = async |subject: &'static str, kind: WriteKind| {
        let (before, database) = (db.database.waiting_writers(), db.database.clone());
        let ended = ended.clone();
        tokio::spawn(async move {
            let unit = database.write(kind, &long(subject)).await.unwrap();
            ended.send((subject, kind)).unwrap();
            unit.commit().await.unwrap();
        });
        while db.database.waiting_writers() == before {
            tokio::task::yield_now().await;
        }
    };
    for _ in 0..40 {
        queue("greedy", WriteKind::Few).await;
    }
    for _ in 0..3 {
        queue("importer", WriteKind::Many).await;
    }
    queue("other", WriteKind::Few).await;
    first.commit().await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 44 {
        seen.push(order.recv().await.unwrap());
    }
    let place = |it| seen.iter().position(|seen| *seen == it).unwrap();
    assert!(place(("other", WriteKind::Few)) < 5, "{seen:?}");
    let large: Vec<usize> = (0..seen.len()).filter(|at| seen[*at].1 == WriteKind::Many).collect();
    assert!(
        large.windows(2).all(|pair| pair[1] > pair[0] + 1),
        "not one after the other: {seen:?}"
    );
    assert!(large.iter().all(|at| *at < 8), "not after all small ones: {seen:?}");
}

db_test! {
    committed("several connections at once")
    async fn what_reads_cannot_write(db: TestDatabase) {
        for (name, refused) in db.database.writes_of_readers().await {
            assert!(refused, "{name}");
        }
    }
}

db_test! {
    async fn without_its_migrations_a_database_is_refused_with_the_command_to_run(db: Empty) {
        let refused = db.0.database.read(ReadKind::Single, &Terms::default()).await.err().unwrap();
        assert!(matches!(refused, StoreError::Refused(Outage::NotMigrated, _)));
        let refused = db.0.database.write(WriteKind::Few, &Terms::default()).await.err().unwrap();
        assert!(matches!(refused, StoreError::Refused(Outage::NotMigrated, _)));
        assert!(!db.0.database.is_ready().await.unwrap());
        db.0.database.migrate_up("local").await.unwrap();
        assert!(db.0.database.is_ready().await.unwrap());
        make_firewall(&db.0, "edge").await;
    }
}

/// A database without its schema.
struct Empty(TestDatabase);

impl Empty {
    async fn new(kind: DatabaseKind) -> Self {
        Self(TestDatabase::empty(kind).await)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_read_only_is_read_and_not_ready() {
    let db = TestDatabase::new(DatabaseKind::Sqlite).await;
    let edge = make_firewall(&db, "edge").await;
    assert!(db.database.is_ready().await.unwrap());
    // Nothing is known of the schema yet, and SQLite answers as if it could not write to the file.
    let db = db.reopened(|_| {}).await;
    db.execute("PRAGMA query_only = ON").await;
    assert!(!db.database.is_ready().await.unwrap());
    let mut unit = read(&db, ReadKind::Single).await;
    assert!(unit.firewalls().get(&Visibility::All, edge.id).await.unwrap().is_some());
    let refused = db.database.write(WriteKind::Few, &Terms::default()).await.err().unwrap();
    assert!(matches!(refused, StoreError::Refused(Outage::ReadOnly, _)), "{refused:?}");
}

/// A query that ends only when it is stopped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_ends_when_its_unit_is_given_up() {
    for kind in [DatabaseKind::Sqlite, DatabaseKind::Postgres] {
        let db = TestDatabase::new(kind).await;
        // There are more queries than connections, so each connection must become free again.
        for _ in 0..20 {
            db.database.run_for(Duration::from_millis(20), &long("ann")).await;
        }
        let idle = async || {
            let free = |pool: &fireflow_storage::Pool| pool.state().in_use == 0;
            while !db.database.pools().iter().all(free) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), idle()).await.unwrap();
        if kind == DatabaseKind::Postgres {
            let left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%endless%' AND \
                        state = 'active' AND pid <> pg_backend_pid()";
            assert_eq!(db.integers(left).await, [0]);
        }
    }
}
