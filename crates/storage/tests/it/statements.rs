//! The number of statements of an operation does not depend on the number of rows.

use fireflow_domain::filter::{Expression, Filter, Level};
use fireflow_domain::net::PortRange;
use fireflow_domain::rule::RuleParts;
use fireflow_domain::store::{ReadKind, RuleFilter};
use fireflow_domain::usecase::rule::RulePath;
use fireflow_domain::usecase::{Expected, acceptance, inspect, rule};
use fireflow_storage::db_test;
use fireflow_storage::testing::TestDatabase;

use crate::support::*;

fn wide(sources: usize, first: u8) -> RuleParts {
    let ports = (1..=sources.min(900)).map(|port| PortRange::single(u16::try_from(port).unwrap()));
    let sources =
        (0..sources).map(|index| endpoint(&format!("10.{first}.{}.{}", index / 256, index % 256)));
    RuleParts { sources: sources.collect(), ports: ports.collect(), ..parts("any", "any") }
}

db_test! {
    async fn reads_take_a_constant_number_of_statements(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let small = make_policy(&db, firewall.id, "small").await;
        let large = make_policy(&db, firewall.id, "large").await;
        make_rule(&db, &small, parts("10.0.0.1", "any")).await.unwrap();
        for index in 0..52 {
            make_rule(&db, &large, parts(&format!("10.0.1.{index}"), "any")).await.unwrap();
        }
        for policy in [&small, &large] {
            let before = db.statements();
            let mut uow = read(&db, ReadKind::Snapshot).await;
            let viewer = caller();
            let found = fireflow_domain::usecase::policy::get(&mut *uow, &viewer, firewall.id, policy.id).await.unwrap();
            let rules = inspect::all_rules(&mut *uow, &viewer, &found).await.unwrap();
            assert_eq!(db.statements() - before, 2, "an inspection over {} rules", rules.len());
            uow.end().await.unwrap();

            let before = db.statements();
            let mut uow = read(&db, ReadKind::Snapshot).await;
            let parent = (firewall.id, policy.id);
            let filter = RuleFilter::default();
            rule::page(&mut *uow, &caller(), parent, &filter, &[], &first_page()).await.unwrap();
            assert_eq!(db.statements() - before, 2, "a page: its policy, which counts its rules, and they");
            uow.end().await.unwrap();

            let text = "traffic:(source = 10.0.0.0/8) AND name = null AND labels.a = null";
            let filter = Filter::parse(Level::Rule, text).unwrap();
            let expression = Some(Expression { filter, at: now() });
            let filter = RuleFilter { expression, ..RuleFilter::default() };
            let before = db.statements();
            let mut uow = read(&db, ReadKind::Snapshot).await;
            let (_, page) =
                rule::page(&mut *uow, &caller(), parent, &filter, &[], &first_page()).await.unwrap();
            assert!(page.next.is_none(), "a last page needs no count of the list");
            assert_eq!(db.statements() - before, 3, "the same, and its candidates");
            uow.end().await.unwrap();

            let text = "traffic:(source = 10.0.0.0/8) AND name = null AND labels.a = null";
            let filter = Filter::parse(Level::Rule, text).unwrap();
            let expression = Expression { filter, at: now() };
            let before = db.statements();
            let mut uow = read(&db, ReadKind::Snapshot).await;
            let shown = acceptance::shown(&mut *uow, &viewer, &found, Some(&expression)).await.unwrap();
            assert_eq!(shown.unwrap().rules.map(|all| all.len()), Some(rules.len()));
            assert_eq!(db.statements() - before, 4, "accepted findings, the policy, its matching rules");
            uow.end().await.unwrap();

            let path =
                RulePath { firewall: firewall.id, policy: policy.id, rule: rules[0].id };
            let before = db.statements();
            let mut uow = read(&db, ReadKind::Single).await;
            rule::get(&mut *uow, &caller(), path).await.unwrap();
            assert_eq!(db.statements() - before, 1, "a rule with its live parents");
        }
    }
}

db_test! {
    async fn writes_take_one_more_for_each_thousand_rows(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let mut counts = Vec::new();
        for (sources, first) in [(1, 1), (400, 2), (1_000, 3)] {
            let before = db.statements();
            let made = make_rule(&db, &policy, wide(sources, first)).await.unwrap();
            let create = db.statements() - before;
            let path = RulePath { firewall: firewall.id, policy: policy.id, rule: made.id };
            let before = db.statements();
            let mut uow = write(&db).await;
            rule::delete(&mut *uow, &caller(), path, &Expected::ANYTHING).await.unwrap();
            uow.commit().await.unwrap();
            counts.push((create, db.statements() - before));
        }
        // Lock, equal?, row, addresses, ports, counter, event; 1,000 sources and `any` twice make
        // 1,002 address rows: one statement more.
        assert_eq!(counts, [(7, 8), (7, 8), (8, 8)]);
    }
}
