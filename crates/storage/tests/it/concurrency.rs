//! Several writers at once, and writers that leave in the middle.

use std::sync::Arc;
use std::time::Duration;

use fireflow_domain::error::{Conflict, Error};
use fireflow_domain::patch::Patch;
use fireflow_domain::policy::PolicyPatch;
use fireflow_domain::store::{Storage, Terms, WriteKind};
use fireflow_domain::usecase::{Expected, firewall, policy, rule};
use fireflow_storage::db_test;
use fireflow_storage::testing::TestDatabase;

use crate::support::*;

db_test! {
    committed("several writers at once")
    async fn of_many_that_want_one_name_one_gets_it(db: TestDatabase) {
        let mut tasks = Vec::new();
        for _ in 0..16 {
            let database = db.database.clone();
            tasks.push(tokio::spawn(async move {
                let mut uow = database.write(WriteKind::Few, &Terms::default()).await?;
                let made = firewall::create(&mut *uow, &caller(), new_firewall("edge")).await?;
                uow.commit().await?;
                Ok::<_, Error>(made.id.get())
            }));
        }
        let (mut made, mut holders) = (Vec::new(), Vec::new());
        for task in tasks {
            match task.await.unwrap() {
                Ok(id) => made.push(id),
                Err(Error::AlreadyExists(Conflict::NameTaken { holder, .. })) => holders.push(holder),
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!((made.len(), holders.len()), (1, 15));
        assert!(holders.iter().all(|holder| *holder == made[0]));
    }
}

db_test! {
    committed("several writers at once")
    async fn of_many_equal_rules_one_is_created(db: TestDatabase) {
        let db = Arc::new(db);
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let mut tasks = Vec::new();
        for _ in 0..16 {
            let (db, policy) = (Arc::clone(&db), policy.clone());
            tasks.push(tokio::spawn(async move {
                make_rule(&db, &policy, parts("10.0.0.1", "any")).await
            }));
        }
        let mut made = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(_) => made += 1,
                Err(Error::AlreadyExists(Conflict::EqualRule { .. })) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!(made, 1);
    }
}

db_test! {
    committed("several writers at once")
    async fn writers_of_parents_and_children_neither_fail_nor_wait_for_each_other_forever(db: TestDatabase) {
        let db = Arc::new(db);
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let mut tasks = Vec::new();
        for index in 0..64 {
            let (database, policy) = (db.database.clone(), policy.clone());
            tasks.push(tokio::spawn(async move {
                let mut uow = database.write(WriteKind::Few, &Terms::default()).await?;
                let (parent, caller) = (policy.firewall.id, caller());
                match index % 4 {
                    0 => {
                        let new = policy_spec(&format!("policy {index}"));
                        policy::create(&mut *uow, &caller, parent, new).await.map(drop)?;
                    }
                    1 => {
                        let named = Patch::Set(name(&format!("in {index}")));
                        let patch = PolicyPatch { name: named, ..PolicyPatch::default() };
                        let anything = Expected::ANYTHING;
                        policy::update(&mut *uow, &caller, parent, policy.id, &anything, patch)
                            .await
                            .map(drop)?;
                    }
                    _ => {
                        let new = spec(parts(&format!("10.0.0.{index}"), "any"));
                        rule::create(&mut *uow, &caller, parent, policy.id, plain(new)).await.map(drop)?;
                    }
                }
                uow.commit().await?;
                Ok::<_, Error>(())
            }));
        }
        let all = async {
            for task in tasks {
                task.await.unwrap().unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(240), all).await.unwrap();
        assert_eq!(db.integers("SELECT rule_count FROM policy ORDER BY id LIMIT 1").await, [32]);
        assert_eq!(db.integers("SELECT policy_count FROM firewall").await, [17]);
        // 1 at creation, one for each of 32 rules and 16 renames.
        assert_eq!(db.integers("SELECT revision FROM policy ORDER BY id LIMIT 1").await, [49]);
    }
}

db_test! {
    committed("several writers at once")
    async fn a_commit_whose_caller_goes_away_happens_or_not_but_never_in_part(db: TestDatabase) {
        let (mut began, mut asked) = (0_u64, 0);
        for index in 0..40_u64 {
            let database = db.database.clone();
            let write = async move {
                let mut uow = database.write(WriteKind::Few, &Terms::default()).await.unwrap();
                let new = new_firewall(&format!("edge {index}"));
                firewall::create(&mut *uow, &caller(), new).await.unwrap();
                uow.commit().await.unwrap();
            };
            // Dropped after a time that grows from nothing to more than the whole write takes.
            let patience = Duration::from_micros(index * 150);
            asked += 1;
            if tokio::time::timeout(patience, write).await.is_ok() {
                began += 1;
            }
        }
        // Every dropped write has ended once the single writer, or a lock, is free again.
        let last = make_firewall(&db, "last").await;
        let firewalls = db.integers("SELECT count(*) FROM firewall").await[0];
        let events = db.integers("SELECT count(*) FROM audit_event").await[0];
        let labels = db.integers("SELECT count(*) FROM firewall_label").await[0];
        assert_eq!((firewalls, firewalls), (events, labels), "all of a change or nothing of it");
        assert!(firewalls > i64::try_from(began).unwrap(), "what was acknowledged is there");
        assert!(firewalls <= asked + 1);
        assert!(last.id.get() >= firewalls);
    }
}
