//! Accepted findings in the storage.

use fireflow_domain::acceptance::AcceptanceSpec;
use fireflow_domain::analysis::{Finding, FindingId, FindingKind, Severity};
use fireflow_domain::store::ReadKind;
use fireflow_domain::text::Reason;
use fireflow_domain::usecase::{Expected, acceptance, firewall, retention};
use fireflow_storage::db_test;
use fireflow_storage::testing::TestDatabase;

use crate::support::*;

fn finding(number: usize) -> Finding {
    let id = FindingId::parse(&format!("{number:032x}")).unwrap();
    Finding { id, proof: id, ..Finding::new(FindingKind::Redundant, Severity::Warning, 0) }
}

fn because(reason: &str) -> AcceptanceSpec {
    AcceptanceSpec { reason: Reason::parse(reason).unwrap(), until: Some(now()) }
}

db_test! {
    async fn the_last_acceptance_of_a_finding_counts(db: TestDatabase) {
        let parent = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, parent.id, "in").await;
        let other = make_policy(&db, parent.id, "out").await;
        let mut uow = write(&db).await;
        let (admin, of) = (caller(), (parent.id, policy.id));
        let one = acceptance::accept(&mut *uow, &admin, of, &finding(1), because("a")).await.unwrap();
        let two = acceptance::accept(&mut *uow, &admin, of, &finding(2), because("b")).await.unwrap();
        let one_again =
            acceptance::accept(&mut *uow, &admin, of, &finding(1), because("c")).await.unwrap();
        assert_ne!(one, one_again);
        let all = acceptance::all(&mut *uow, &admin, parent.id, policy.id).await.unwrap();
        assert_eq!(all, [one_again.clone(), two]);
        assert_eq!(uow.acceptances().count(policy.id).await.unwrap(), 2);
        let none = acceptance::all(&mut *uow, &admin, parent.id, other.id).await.unwrap();
        assert_eq!(none, []);
        let withdrawn = finding(2).id;
        assert!(acceptance::withdraw(&mut *uow, &admin, of, withdrawn).await.unwrap());
        assert!(!acceptance::withdraw(&mut *uow, &admin, of, withdrawn).await.unwrap());
        let all = acceptance::all(&mut *uow, &admin, parent.id, policy.id).await.unwrap();
        assert_eq!(all, [one_again]);
        // The policy is as it was, except that its audit chain has grown.
        let after = uow.policies().get(&admin.actor.visibility, parent.id, policy.id).await.unwrap();
        let after = after.unwrap();
        assert_eq!(after.audit_head.unwrap().sequence, 5);
        assert_eq!(fireflow_domain::policy::Policy { audit_head: policy.audit_head, ..after }, policy);
        uow.commit().await.unwrap();
    }
}

db_test! {
    async fn acceptances_take_a_constant_number_of_statements(db: TestDatabase) {
        let parent = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, parent.id, "in").await;
        let (admin, of) = (caller(), (parent.id, policy.id));
        for number in 0..30 {
            let mut uow = write(&db).await;
            let before = db.statements();
            acceptance::accept(&mut *uow, &admin, of, &finding(number), because("a")).await.unwrap();
            assert_eq!(db.statements() - before, 6);
            uow.commit().await.unwrap();
        }
        let mut uow = read(&db, ReadKind::Snapshot).await;
        let before = db.statements();
        let all = acceptance::all(&mut *uow, &admin, parent.id, policy.id).await.unwrap();
        assert_eq!((all.len(), db.statements() - before), (30, 2));
        uow.end().await.unwrap();
        let mut uow = write(&db).await;
        let before = db.statements();
        acceptance::withdraw(&mut *uow, &admin, of, finding(7).id).await.unwrap();
        assert_eq!(db.statements() - before, 5);
        uow.commit().await.unwrap();
    }
}

db_test! {
    committed("a purge runs in transactions of its own")
    async fn a_purge_removes_acceptances_with_their_policy(db: TestDatabase) {
        let parent = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, parent.id, "in").await;
        let admin = caller();
        let mut uow = write(&db).await;
        acceptance::accept(&mut *uow, &admin, (parent.id, policy.id), &finding(1), because("a"))
            .await
            .unwrap();
        uow.commit().await.unwrap();
        let mut uow = write(&db).await;
        firewall::delete(&mut *uow, &admin, parent.id, &Expected::ANYTHING).await.unwrap();
        uow.commit().await.unwrap();
        let later = now().plus_micros(1);
        let purged = retention::purge(&db.database, later, later).await.unwrap();
        assert_eq!((purged.policies, purged.firewalls), (1, 1));
        assert_eq!(db.integers("SELECT count(*) FROM acceptance").await, [0]);
    }
}
