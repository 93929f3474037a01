//! The chains of the audit trail: they stay valid whatever is written, and reveal every alteration.

use fireflow_domain::audit_chain::{Chain, EventHash, Head};
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::policy::Policy;
use fireflow_domain::rule::{RuleParts, RulePatch};
use fireflow_domain::store::{Storage, Terms, WriteKind};
use fireflow_domain::text::Description;
use fireflow_domain::usecase::rule::RulePath;
use fireflow_domain::usecase::rule_set::{self, GivenRule, ReplaceOptions};
use fireflow_domain::usecase::{Expected, firewall, policy, retention, rule};
use fireflow_storage::testing::{TestDatabase, options};
use fireflow_storage::{AuditCounts, AuditFault, AuditFinding, AuditTrail, DatabaseKind, db_test};

use crate::support::*;

/// The result of a verification.
struct Verified {
    counts: AuditCounts,
    heads: Vec<(Chain, Head)>,
    faults: Vec<AuditFault>,
}

async fn verify_with(db: &TestDatabase, kept: &[(Chain, Head)]) -> Verified {
    let (mut heads, mut faults) = (Vec::new(), Vec::new());
    let mut report = |finding| match finding {
        AuditFinding::Chain(chain, head) => heads.push((chain, head)),
        AuditFinding::Fault(fault) => faults.push(fault),
    };
    let trail = AuditTrail::open(&options(&db.url)).await.unwrap();
    let counts = trail.verify(&mut report).await.unwrap();
    trail.look_up(kept, &mut report).await.unwrap();
    trail.close().await.unwrap();
    Verified { counts, heads, faults }
}

async fn verify(db: &TestDatabase) -> Verified {
    verify_with(db, &[]).await
}

async fn faults(db: &TestDatabase) -> Vec<AuditFault> {
    verify(db).await.faults
}

fn chain_of(policy: &Policy) -> Chain {
    Chain::Policy(policy.id)
}

/// Lets the test's own statements past the guards, as the tables' owner could.
async fn drop_guards(db: &TestDatabase) {
    match db.database.kind() {
        DatabaseKind::Sqlite => {
            for guard in ["update", "delete", "replace", "odd_id"] {
                db.execute(&format!("DROP TRIGGER audit_event_no_{guard}")).await;
            }
        }
        DatabaseKind::Postgres => {
            db.execute("ALTER TABLE audit_event DISABLE TRIGGER USER").await;
        }
    }
}

/// The faults that are not about the guards.
fn altered(faults: Vec<AuditFault>) -> Vec<AuditFault> {
    faults.into_iter().filter(|fault| !matches!(fault, AuditFault::NoGuard { .. })).collect()
}

/// A firewall, a policy, and rules, each changed.
async fn history(db: &TestDatabase) -> Policy {
    let firewall = make_firewall(db, "edge").await;
    let policy = make_policy(db, firewall.id, "in").await;
    for last in 1..=3 {
        make_rule(db, &policy, parts(&format!("10.0.0.{last}"), "any")).await.unwrap();
    }
    policy
}

async fn put(db: &TestDatabase, policy: &Policy, rules: Vec<RuleParts>) {
    let given = rules.into_iter().map(|parts| GivenRule::from(spec(parts))).collect();
    let mut uow = write(db).await;
    let (admin, parent) = (caller(), (policy.firewall.id, policy.id));
    let options = ReplaceOptions { max_deletions: Some(u64::MAX), ..ReplaceOptions::default() };
    let anything = Expected::ANYTHING;
    rule_set::replace(&mut *uow, &admin, parent, &anything, given, options).await.unwrap();
    uow.commit().await.unwrap();
}

db_test! {
    committed("verification opens the database again")
    async fn every_kind_of_write_continues_the_chain_of_its_policy_or_firewall(db: TestDatabase) {
        let policy = history(&db).await;
        let (admin, anything) = (caller(), Expected::ANYTHING);
        let parent = (policy.firewall.id, policy.id);
        let first = RulePath {
            firewall: parent.0,
            policy: parent.1,
            rule: fireflow_domain::ids::RuleId::new(1).unwrap(),
        };
        let mut uow = write(&db).await;
        let patch = RulePatch { enabled: fireflow_domain::patch::Patch::Set(false), ..RulePatch::default() };
        rule::update(&mut *uow, &admin, first, &anything, patch).await.unwrap();
        uow.commit().await.unwrap();
        let mut uow = write(&db).await;
        let placement = fireflow_domain::rule::order::Placement::Last;
        rule::move_rules(&mut *uow, &admin, parent, &anything, &[first.rule], placement).await.unwrap();
        uow.commit().await.unwrap();
        let mut uow = write(&db).await;
        rule::delete(&mut *uow, &admin, first, &anything).await.unwrap();
        uow.commit().await.unwrap();
        put(&db, &policy, vec![parts("10.9.9.9", "any")]).await;
        let mut uow = write(&db).await;
        let patch = fireflow_domain::policy::PolicyPatch {
            description: fireflow_domain::patch::Patch::Set(Description::parse("x").unwrap()),
            ..Default::default()
        };
        policy::update(&mut *uow, &admin, parent.0, parent.1, &anything, patch).await.unwrap();
        uow.commit().await.unwrap();
        let mut uow = write(&db).await;
        policy::delete(&mut *uow, &admin, parent.0, parent.1, &anything).await.unwrap();
        uow.commit().await.unwrap();
        let mut uow = write(&db).await;
        firewall::delete(&mut *uow, &admin, parent.0, &anything).await.unwrap();
        uow.commit().await.unwrap();

        let verified = verify(&db).await;
        assert_eq!(verified.faults, []);
        let expected = AuditCounts { chains: 2, events: 14, unchained: 0 };
        assert_eq!(verified.counts, expected);
        let sequences: Vec<(Chain, i64)> =
            verified.heads.iter().map(|(chain, head)| (*chain, head.sequence)).collect();
        assert_eq!(sequences, [(Chain::Firewall(parent.0), 2), (chain_of(&policy), 12)]);
    }
}

db_test! {
    committed("verification opens the database again")
    async fn events_of_one_change_are_chained_one_after_the_other(db: TestDatabase) {
        let policy = history(&db).await;
        let rules = (0..2_345).map(|index| parts(&format!("10.7.{}.{}", index / 256, index % 256), "any"));
        put(&db, &policy, rules.collect()).await;
        let verified = verify(&db).await;
        assert_eq!(verified.faults, []);
        assert_eq!(verified.counts.events, 5 + 3 + 2_345);
    }
}

db_test! {
    committed("verification opens the database again")
    async fn what_is_undone_leaves_no_place_in_the_chain(db: TestDatabase) {
        let policy = history(&db).await;
        let mut uow = write(&db).await;
        let new = plain(spec(parts("10.0.1.1", "any")));
        rule::create(&mut *uow, &caller(), policy.firewall.id, policy.id, new).await.unwrap();
        uow.rollback().await.unwrap();
        let mut uow = write(&db).await;
        firewall::create(&mut *uow, &caller(), new_firewall("core")).await.unwrap();
        drop(uow);
        make_rule(&db, &policy, parts("10.0.1.2", "any")).await.unwrap();
        let verified = verify(&db).await;
        assert_eq!((verified.faults, verified.counts.events), (vec![], 6));
    }
}

db_test! {
    committed("verification opens the database again")
    async fn writers_at_once_leave_whole_chains(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let mut policies = Vec::new();
        for word in ["a", "b"] {
            policies.push(make_policy(&db, firewall.id, word).await);
        }
        let mut tasks = Vec::new();
        for writer in 0..12_u8 {
            let (database, policy) = (db.database.clone(), policies[usize::from(writer % 2)].clone());
            tasks.push(tokio::spawn(async move {
                for index in 0..10 {
                    let mut uow = database.write(WriteKind::Few, &Terms::default()).await.unwrap();
                    let (admin, parent) = (caller(), (policy.firewall.id, policy.id));
                    let new = plain(spec(parts(&format!("10.{writer}.0.{index}"), "any")));
                    rule::create(&mut *uow, &admin, parent.0, parent.1, new).await.unwrap();
                    match index % 3 {
                        0 => uow.rollback().await.unwrap(),
                        1 => drop(uow),
                        _ => uow.commit().await.unwrap(),
                    }
                    let mut uow = database.write(WriteKind::Few, &Terms::default()).await.unwrap();
                    let text = format!("{writer} {index}");
                    let patch = fireflow_domain::firewall::FirewallPatch {
                        description: fireflow_domain::patch::Patch::Set(Description::parse(&text).unwrap()),
                        ..Default::default()
                    };
                    firewall::update(&mut *uow, &admin, parent.0, &Expected::ANYTHING, patch).await.unwrap();
                    uow.commit().await.unwrap();
                    let mut uow = database.write(WriteKind::Few, &Terms::default()).await.unwrap();
                    let new = new_firewall(&format!("f {writer} {index}"));
                    firewall::create(&mut *uow, &admin, new).await.unwrap();
                    uow.commit().await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let verified = verify(&db).await;
        assert_eq!(verified.faults, []);
        // Three of ten rules, ten changes and ten firewalls of each writer.
        let expected = AuditCounts { chains: 123, events: 3 + 12 * (3 + 10 + 10), unchained: 0 };
        assert_eq!(verified.counts, expected);
    }
}

db_test! {
    committed("verification opens the database again")
    async fn no_statement_of_the_serving_role_alters_an_event(db: TestDatabase) {
        history(&db).await;
        let before = verify(&db).await;
        let columns = "id, at, subject, request_id, client_address, reason, deed, resource, \
                       resource_id, firewall_id, tenant, policy_id, sequence, predecessor, hash";
        let again = |id: &str| format!(
            "({columns}) SELECT {id}, at, 'somebody else', request_id, client_address, reason, deed, \
             resource, resource_id, firewall_id, tenant, policy_id, sequence, predecessor, hash \
             FROM audit_event WHERE id = 3"
        );
        let mut statements = vec![
            "UPDATE audit_event SET subject = 'somebody else' WHERE id = 3".to_owned(),
            "UPDATE audit_event SET subject = subject".to_owned(),
            "UPDATE audit_event SET tenant = 'blue' WHERE id = 3".to_owned(),
            "DELETE FROM audit_event WHERE id = 3".to_owned(),
            "DELETE FROM audit_event".to_owned(),
            format!("INSERT INTO audit_event {}", again("id")),
            format!("INSERT INTO audit_event {}", again("1000")),
            format!(
                "INSERT INTO audit_event {} ON CONFLICT (id) DO UPDATE SET subject = excluded.subject",
                again("id")
            ),
        ];
        match db.database.kind() {
            DatabaseKind::Sqlite => statements.extend([
                "UPDATE OR REPLACE audit_event SET id = 3 WHERE id = 2".to_owned(),
                format!("INSERT OR REPLACE INTO audit_event {}", again("id")),
                format!("REPLACE INTO audit_event {}", again("id")),
                format!("REPLACE INTO audit_event {}", again("'3'")),
                format!("REPLACE INTO audit_event {}", again("3.0")),
                // A new id, but a position in the chain that another event has.
                format!("REPLACE INTO audit_event {}", again("NULL")),
                format!("REPLACE INTO audit_event {}", again("-5")),
                format!("REPLACE INTO audit_event {}", again("-1")),
                "REPLACE INTO audit_event SELECT * FROM audit_event".to_owned(),
            ]),
            DatabaseKind::Postgres => statements.extend([
                "TRUNCATE audit_event".to_owned(),
                "TRUNCATE firewall, audit_event CASCADE".to_owned(),
                "SET session_replication_role = replica; DELETE FROM audit_event".to_owned(),
                "MERGE INTO audit_event USING (SELECT 3 AS n) AS it ON id = n WHEN MATCHED THEN DELETE"
                    .to_owned(),
                "MERGE INTO audit_event USING (SELECT 3 AS n) AS it ON id = n WHEN MATCHED THEN \
                 UPDATE SET subject = 'x'".to_owned(),
                "WITH gone AS (DELETE FROM audit_event RETURNING *) SELECT * FROM gone".to_owned(),
            ]),
        }
        for sql in &statements {
            let refused = db.try_execute(sql).await;
            assert!(refused.is_err(), "{sql}");
        }
        // An insert that ignores conflicts may be accepted, but alters nothing either.
        let ignored = format!("INSERT INTO audit_event {} ON CONFLICT DO NOTHING", again("id"));
        let _refused = db.try_execute(&ignored).await.is_err();
        let after = verify(&db).await;
        assert_eq!((after.faults, after.heads), (vec![], before.heads));
        assert_eq!(after.counts, before.counts);
    }
}

db_test! {
    committed("verification opens the database again")
    async fn what_is_altered_past_the_guards_is_found(db: TestDatabase) {
        let policy = history(&db).await;
        let chain = chain_of(&policy);
        let kept = verify(&db).await.heads;
        drop_guards(&db).await;
        let guards = faults(&db).await;
        assert!(!guards.is_empty() && altered(guards).is_empty());
        let hash_differs = |event: i64| AuditFault::HashDiffers { chain, sequence: event - 1, event };
        // Event 2 is the first of the policy, 5 the last.
        for (change, back) in [
            ("subject = 'x'", "subject = 'tester'"),
            ("reason = ''", "reason = 'because'"),
            ("at = at + 1", "at = at - 1"),
            ("deed = 'delete'", "deed = 'create'"),
            ("tenant = 'blue'", "tenant = ''"),
            ("former_tenant = ''", "former_tenant = NULL"),
            ("client_address = '192.0.2.2'", "client_address = '192.0.2.1'"),
            ("state_before = '{}'", "state_before = NULL"),
            ("resource_id = resource_id + 7", "resource_id = resource_id - 7"),
            ("firewall_id = firewall_id + 7", "firewall_id = firewall_id - 7"),
        ] {
            db.execute(&format!("UPDATE audit_event SET {change} WHERE id = 4")).await;
            assert_eq!(altered(faults(&db).await), [hash_differs(4)], "{change}");
            db.execute(&format!("UPDATE audit_event SET {back} WHERE id = 4")).await;
            assert_eq!(altered(faults(&db).await), [], "{back}");
        }
        db.execute("UPDATE audit_event SET id = 40 WHERE id = 4").await;
        let out_of_order = AuditFault::OutOfOrder { chain, sequence: 4, event: 5 };
        assert_eq!(altered(faults(&db).await), [out_of_order]);
        db.execute("UPDATE audit_event SET id = 4 WHERE id = 40").await;

        // The end of the chain.
        db.execute("CREATE TABLE aside AS SELECT * FROM audit_event").await;
        db.execute("DELETE FROM audit_event WHERE id = 5").await;
        let missing = AuditFault::Missing { chain, first: 4, last: 4, before: None };
        assert_eq!(altered(faults(&db).await), [missing]);
        // With the head restored in the database, only a head that was kept elsewhere reveals it.
        let back = "UPDATE policy SET audit_sequence = 3, \
                    audit_hash = (SELECT hash FROM audit_event WHERE id = 4)";
        db.execute(back).await;
        assert_eq!(altered(faults(&db).await), []);
        let (_, head) = *kept.iter().find(|(of, _)| *of == chain).unwrap();
        let lost = AuditFault::HeadLost { chain, head, event: None };
        assert_eq!(altered(verify_with(&db, &kept).await.faults), std::slice::from_ref(&lost));
        db.execute("INSERT INTO audit_event SELECT * FROM aside WHERE id = 5").await;
        let differs = AuditFault::HeadDiffers { chain, last: 4, event: 5, stored: Some(3) };
        assert_eq!(altered(verify_with(&db, &kept).await.faults), [differs]);
        db.execute("UPDATE policy SET audit_sequence = 4, audit_hash = (SELECT hash FROM audit_event WHERE id = 5)").await;
        assert_eq!(altered(verify_with(&db, &kept).await.faults), []);

        // The middle, and the beginning.
        for (event, first) in [(4, 3), (2, 1)] {
            db.execute(&format!("DELETE FROM audit_event WHERE id = {event}")).await;
            let missing = AuditFault::Missing { chain, first, last: first, before: Some(event + 1) };
            assert_eq!(altered(faults(&db).await), [missing]);
            db.execute(&format!("INSERT INTO audit_event SELECT * FROM aside WHERE id = {event}")).await;
        }
        // A whole chain.
        db.execute("DELETE FROM audit_event WHERE policy_id IS NOT NULL").await;
        let missing = AuditFault::Missing { chain, first: 1, last: 4, before: None };
        assert_eq!(altered(faults(&db).await), [missing]);
        db.execute("INSERT INTO audit_event SELECT * FROM aside WHERE policy_id IS NOT NULL").await;
        // A recomputed hash matches its event, but its successor does not match it.
        db.execute("UPDATE audit_event SET hash = (SELECT hash FROM audit_event WHERE id = 1) WHERE id = 4").await;
        let next = AuditFault::PredecessorDiffers { chain, sequence: 4, event: 5 };
        assert_eq!(altered(faults(&db).await), [hash_differs(4), next]);
        db.execute("UPDATE audit_event SET hash = (SELECT hash FROM aside WHERE id = 4) WHERE id = 4").await;
        // An event that never happened.
        let forged = "INSERT INTO audit_event (id, at, subject, request_id, client_address, reason, \
                      deed, resource, resource_id, firewall_id) VALUES (99, 0, 'ann', '', '', '', \
                      'delete', 'firewall', 1, 1)";
        db.execute(forged).await;
        assert_eq!(altered(faults(&db).await), [AuditFault::NotChained { event: 99 }]);
        db.execute("DELETE FROM audit_event WHERE id = 99").await;
        assert_eq!(altered(faults(&db).await), []);
        // A chain that never began has no such head.
        let other = Chain::Firewall(FirewallId::new(77).unwrap());
        let head = Head { sequence: 1, hash: EventHash::genesis(other, true) };
        let lost = AuditFault::HeadLost { chain: other, head, event: None };
        assert_eq!(altered(verify_with(&db, &[(other, head)]).await.faults), [lost]);
    }
}

db_test! {
    committed("verification opens the database again")
    async fn chains_outlast_what_they_are_of(db: TestDatabase) {
        let policy = history(&db).await;
        let (admin, parent) = (caller(), (policy.firewall.id, policy.id));
        let mut uow = write(&db).await;
        firewall::delete(&mut *uow, &admin, parent.0, &Expected::ANYTHING).await.unwrap();
        uow.commit().await.unwrap();
        let later = now().plus_micros(1);
        let purged = retention::purge(&db.database, later, later).await.unwrap();
        assert_eq!((purged.rules, purged.policies, purged.firewalls), (3, 1, 1));
        let verified = verify(&db).await;
        assert_eq!(verified.faults, []);
        assert_eq!(verified.counts, AuditCounts { chains: 2, events: 6, unchained: 0 });
        // The end of a chain is still known.
        drop_guards(&db).await;
        db.execute("DELETE FROM audit_event WHERE id = 6").await;
        let chain = Chain::Firewall(parent.0);
        let missing = AuditFault::Missing { chain, first: 2, last: 2, before: None };
        assert_eq!(altered(faults(&db).await), [missing]);
    }
}

db_test! {
    committed("verification opens the database again")
    async fn what_is_older_than_the_chains_stays_and_goes_on_in_one(db: TestDatabase) {
        let policy = history(&db).await;
        // The schema before the chains, with existing events, and a firewall that was purged.
        migrate_before(&db, "m20261127_000007_audit_chains").await;
        let gone = "INSERT INTO audit_event (at, subject, request_id, client_address, reason, deed, \
                    resource, resource_id, firewall_id) VALUES (0, 'ann', '', '', '', 'delete', \
                    'firewall', 77, 77)";
        db.execute(gone).await;
        db.execute("UPDATE firewall SET tenant = 'red'").await;
        db.database.migrate_up("local").await.unwrap();
        let verified = verify(&db).await;
        assert_eq!(verified.faults, []);
        assert_eq!(verified.counts, AuditCounts { chains: 0, events: 0, unchained: 6 });
        assert_eq!(db.integers("SELECT count(*) FROM audit_event WHERE tenant = 'red'").await, [5]);
        assert_eq!(db.integers("SELECT count(*) FROM audit_event WHERE tenant IS NULL").await, [1]);
        let of_policy = "SELECT count(*) FROM audit_event WHERE policy_id = 1";
        assert_eq!(db.integers(of_policy).await, [4]);

        make_rule(&db, &policy, parts("10.3.3.3", "any")).await.unwrap();
        let fresh = make_policy(&db, policy.firewall.id, "fresh").await;
        let verified = verify(&db).await;
        assert_eq!(verified.faults, []);
        assert_eq!(verified.counts, AuditCounts { chains: 2, events: 2, unchained: 6 });
        assert_eq!(verified.heads.last().unwrap().0, Chain::Policy(PolicyId::new(fresh.id.get()).unwrap()));
        // The triggers are back, and a removed old event is noticed.
        assert!(db.try_execute("UPDATE audit_event SET reason = 'x'").await.is_err());
        drop_guards(&db).await;
        db.execute("DELETE FROM audit_event WHERE id = 2").await;
        let missed = AuditFault::UnchainedCount { expected: 6, found: 5 };
        assert_eq!(altered(faults(&db).await), [missed]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_an_older_version_have_their_tenant_on_postgres() {
    let db = TestDatabase::new(DatabaseKind::Postgres).await;
    history(&db).await;
    db.execute("UPDATE firewall SET tenant = 'red'").await;
    let older = "INSERT INTO audit_event (at, subject, request_id, client_address, reason, deed, \
                 resource, resource_id, firewall_id) VALUES (0, 'ann', '', '', '', 'update', \
                 'firewall', 1, 1)";
    db.execute(older).await;
    assert_eq!(db.integers("SELECT id FROM audit_event WHERE tenant = 'red'").await, [6]);
}
