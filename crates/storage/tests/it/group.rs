//! Writers that share a transaction of SQLite: no writer affects another until the transaction
//! itself fails. On PostgreSQL the same holds without a shared transaction.

use std::sync::Arc;

use fireflow_domain::error::{Error, StoreError};
use fireflow_domain::store::{Storage, Terms, WriteKind};
use fireflow_domain::usecase::firewall;
use fireflow_storage::testing::TestDatabase;
use fireflow_storage::{DatabaseKind, db_test};
use tokio::sync::Barrier;

use crate::support::*;

db_test! {
    committed("several writers at once")
    async fn units_that_are_undone_take_nothing_of_their_neighbours(db: TestDatabase) {
        const UNITS: usize = 60;
        let start = Arc::new(Barrier::new(UNITS));
        let mut tasks = Vec::new();
        for index in 0..UNITS {
            let (database, start) = (db.database.clone(), Arc::clone(&start));
            tasks.push(tokio::spawn(async move {
                start.wait().await;
                let mut uow = database.write(WriteKind::Few, &Terms::default()).await.unwrap();
                let new = new_firewall(&format!("edge {index}"));
                firewall::create(&mut *uow, &caller(), new).await.unwrap();
                match index % 3 {
                    0 => uow.commit().await.unwrap(),
                    1 => uow.rollback().await.unwrap(),
                    _ => drop(uow),
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for table in ["firewall", "audit_event", "firewall_label"] {
            let count = db.integers(&format!("SELECT count(*) FROM {table}")).await;
            assert_eq!(count, [20], "{table}");
        }
        let left = db
            .integers("SELECT CAST(replace(name, 'edge ', '') AS bigint) FROM firewall ORDER BY 1")
            .await;
        assert!(left.iter().all(|index| index % 3 == 0), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_share_transactions() {
    const UNITS: usize = 40;
    let db = TestDatabase::new(DatabaseKind::Sqlite).await;
    // The first holds the turn until all others wait for theirs.
    let first = write(&db).await;
    let mut tasks = Vec::new();
    for index in 0..UNITS {
        let database = db.database.clone();
        tasks.push(tokio::spawn(async move {
            let mut uow = database.write(WriteKind::Few, &Terms::default()).await.unwrap();
            let new = new_firewall(&format!("edge {index}"));
            firewall::create(&mut *uow, &caller(), new).await.unwrap();
            uow.commit().await.unwrap();
        }));
    }
    while db.database.waiting_writers() < UNITS {
        tokio::task::yield_now().await;
    }
    let before = db.database.write_groups();
    first.commit().await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    let groups = db.database.write_groups() - before;
    assert!(groups < 40, "{groups} transactions for {UNITS} units");
    // A large unit shares its transaction with no other.
    let before = db.database.write_groups();
    for kind in [WriteKind::Few, WriteKind::Many, WriteKind::Few] {
        db.database.write(kind, &Terms::default()).await.unwrap().commit().await.unwrap();
    }
    assert_eq!(db.database.write_groups() - before, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_shared_transaction_fails_all_of_its_units_do() {
    const UNITS: usize = 24;
    let db = TestDatabase::new(DatabaseKind::Sqlite).await;
    make_firewall(&db, "before").await;
    // A full disk undoes the whole transaction, whichever statement meets it.
    let pages = db.integers("PRAGMA page_count").await[0];
    db.execute(&format!("PRAGMA max_page_count = {}", pages + 2)).await;
    let first = write(&db).await;
    let mut tasks = Vec::new();
    for index in 0..UNITS {
        let database = db.database.clone();
        tasks.push(tokio::spawn(async move {
            let mut uow = database.write(WriteKind::Few, &Terms::default()).await?;
            let mut new = new_firewall(&format!("edge {index}"));
            new.description = fireflow_domain::text::Description::parse(&"x".repeat(900)).unwrap();
            let made = firewall::create(&mut *uow, &caller(), new).await;
            match made {
                Ok(made) => uow.commit().await.map(|()| made.id.get()).map_err(Error::from),
                Err(error) => {
                    // Its outcome is that of the group.
                    uow.rollback().await?;
                    Err(error)
                }
            }
        }));
    }
    while db.database.waiting_writers() < UNITS {
        tokio::task::yield_now().await;
    }
    // It may end in the same group as those that follow.
    drop(first);
    let mut acknowledged = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(id) => acknowledged.push(id),
            Err(Error::Unavailable { .. } | Error::Unsettled(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(acknowledged.len() < UNITS, "the disk was never full");
    // Every acknowledged write is found, and no other. The writer works again, on a new connection,
    // which does not have the limit.
    let after = make_firewall(&db, "after").await;
    acknowledged.sort_unstable();
    let stored = db.integers("SELECT id FROM firewall WHERE name LIKE 'edge%' ORDER BY id").await;
    assert_eq!(stored, acknowledged);
    assert!(after.id.get() > 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_too_long_for_a_turn_is_told_so() {
    let db = TestDatabase::new(DatabaseKind::Sqlite).await;
    let db =
        db.reopened(|options| options.turn_timeout = std::time::Duration::from_millis(500)).await;
    let long = write(&db).await;
    let refused = db.database.write(WriteKind::Few, &Terms::default()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    long.commit().await.unwrap();
    make_firewall(&db, "edge").await;
}
