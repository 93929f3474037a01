//! What inspections read: rules without their texts, what changed, and what proves that a state
//! descends from another one.

use fireflow_domain::actor::Visibility;
use fireflow_domain::audit_chain::Head;
use fireflow_domain::ids::Revision;
use fireflow_domain::patch::Patch;
use fireflow_domain::policy::Policy;
use fireflow_domain::rule::{Action, RulePatch};
use fireflow_domain::store::ReadKind;
use fireflow_domain::testing::rules::{full, full_icmp};
use fireflow_domain::text::Description;
use fireflow_domain::usecase::rule::RulePath;
use fireflow_domain::usecase::{Expected, policy, rule};
use fireflow_storage::db_test;
use fireflow_storage::testing::TestDatabase;

use crate::support::*;

async fn current(db: &TestDatabase, of: &Policy) -> Policy {
    let mut uow = read(db, ReadKind::Single).await;
    policy::get(&mut *uow, &caller(), of.firewall.id, of.id).await.unwrap()
}

db_test! {
    async fn rules_are_read_without_texts_as_they_are_with_them(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        make_rule(&db, &policy, full()).await.unwrap();
        make_rule(&db, &policy, full_icmp()).await.unwrap();
        let gone = make_rule(&db, &policy, parts("10.0.0.1", "any")).await.unwrap();
        let before = current(&db, &policy).await;
        let path = RulePath { firewall: firewall.id, policy: policy.id, rule: gone.id };
        let mut uow = write(&db).await;
        rule::delete(&mut *uow, &caller(), path, &Expected::ANYTHING).await.unwrap();
        uow.commit().await.unwrap();

        let mut uow = read(&db, ReadKind::Snapshot).await;
        let all = uow.rules().all(&policy.reference()).await.unwrap();
        let statements = db.statements();
        let compact = uow.rules().all_compact(policy.id, Revision(9)).await.unwrap();
        assert_eq!(db.statements() - statements, 1);
        assert_eq!((all.len(), compact.len()), (2, 2));
        for (rule, compact) in all.iter().zip(&compact) {
            assert!(compact.is_of(rule), "{compact:?}");
            assert_eq!(compact.since(), Revision(9));
        }
        let since = Revision(0);
        let whole = uow.rules().changed_since(&policy.reference(), since, 9).await.unwrap();
        let changed = uow.rules().changed_compact(policy.id, since, Revision(9), 9).await.unwrap();
        assert_eq!(changed.len(), 3);
        for rule in &whole {
            let compact = changed.iter().find(|it| it.id == rule.id).unwrap();
            assert_eq!(compact.rule.is_none(), rule.deleted.is_some());
            assert!(compact.rule.as_ref().is_none_or(|compact| compact.is_of(rule)));
        }
        let last = uow.rules().changed_compact(policy.id, before.revision, Revision(9), 9).await;
        assert_eq!(last.unwrap().len(), 1, "only the deletion came later");
        let most = uow.rules().changed_compact(policy.id, since, Revision(9), 2).await.unwrap();
        assert_eq!(most.len(), 2);
        uow.end().await.unwrap();
    }
}

db_test! {
    async fn a_rule_comes_with_the_state_of_its_policy(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let first = make_rule(&db, &policy, parts("10.0.0.1", "any")).await.unwrap();
        let other = make_rule(&db, &policy, parts("10.0.0.2", "any")).await.unwrap();
        let state = current(&db, &policy).await;
        let read_first = async |who: Visibility| {
            let mut uow = read(&db, ReadKind::Single).await;
            uow.rules().get_in_state(&who, firewall.id, policy.id, first.id).await.unwrap()
        };
        let found = read_first(Visibility::All).await.unwrap();
        assert_eq!(found.rule, first);
        assert_eq!((found.changed, found.revision), (Revision(2), Revision(3)));
        assert_eq!(found.states, state.states);
        let stranger = Visibility::Tenants(vec![tenant("elsewhere")]);
        assert!(read_first(stranger).await.is_none());

        let path = RulePath { firewall: firewall.id, policy: policy.id, rule: first.id };
        let patch = RulePatch {
            description: Patch::Set(Description::parse("new").unwrap()),
            ..RulePatch::default()
        };
        let mut uow = write(&db).await;
        rule::update(&mut *uow, &caller(), path, &Expected::ANYTHING, patch).await.unwrap();
        uow.commit().await.unwrap();
        let found = read_first(Visibility::All).await.unwrap();
        assert_eq!((found.changed, found.revision), (Revision(4), Revision(4)));
        assert_eq!(found.states.newer_than(state.states.current()), Some(1));
        assert_eq!(found.states.root(), state.states.root());
        assert_ne!(found.rule.id, other.id);
    }
}

db_test! {
    async fn the_audit_chain_proves_which_states_came_before(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let other = make_policy(&db, firewall.id, "out").await;
        let made = make_rule(&db, &policy, parts("10.0.0.1", "any")).await.unwrap();
        let known = current(&db, &policy).await;
        let head = known.audit_head.unwrap();
        let path = RulePath { firewall: firewall.id, policy: policy.id, rule: made.id };
        for round in 0..20 {
            let action = if round % 2 == 0 { Action::Deny } else { Action::Allow };
            let patch = RulePatch { action: Patch::Set(action), ..RulePatch::default() };
            let mut uow = write(&db).await;
            rule::update(&mut *uow, &caller(), path, &Expected::ANYTHING, patch).await.unwrap();
            uow.commit().await.unwrap();
        }
        let later = current(&db, &policy).await;
        assert_eq!(later.revision, Revision(known.revision.0 + 20));
        assert_eq!(later.states.newer_than(known.states.current()), None, "too long ago");
        assert_eq!(later.states.root(), known.states.root(), "all writers know marks");
        let mut uow = read(&db, ReadKind::Snapshot).await;
        assert!(uow.audit().is_in_chain(policy.id, head).await.unwrap());
        assert!(uow.audit().is_in_chain(policy.id, later.audit_head.unwrap()).await.unwrap());
        // An event of another policy, and an event that was lost with a database.
        assert!(!uow.audit().is_in_chain(other.id, head).await.unwrap());
        let lost = Head { sequence: head.sequence, hash: later.audit_head.unwrap().hash };
        assert!(!uow.audit().is_in_chain(policy.id, lost).await.unwrap());
        uow.end().await.unwrap();
        // A writer that does not know marks leaves a list with a new one.
        db.execute("UPDATE policy SET revision = revision + 1").await;
        let broken = current(&db, &policy).await;
        assert_ne!(broken.states.root(), known.states.root());
    }
}
