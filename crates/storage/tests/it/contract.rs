use fireflow_domain::actor::Visibility;
use fireflow_domain::error::{Conflict, Error, Resource};
use fireflow_domain::ids::{FirewallId, PolicyId, Revision};
use fireflow_domain::labels::LabelsPatch;
use fireflow_domain::mark::{CurrentState, Mark, StateTag};
use fireflow_domain::net::{AddressRange, PortRange};
use fireflow_domain::page::{Direction, PageRequest, SortKey};
use fireflow_domain::patch::Patch;
use fireflow_domain::policy::PolicyPatch;
use fireflow_domain::rule::{Action, RuleParts, RulePatch, RuleState};
use fireflow_domain::store::{
    FirewallField, FirewallFilter, PolicyFilter, ReadKind, RuleField, RuleFilter, Terms, WriteKind,
};
use fireflow_domain::testing::rules::{full, full_icmp};
use fireflow_domain::usecase::firewall::NewFirewall;
use fireflow_domain::usecase::rule::RulePath;
use fireflow_domain::usecase::{Expected, Named, NamedState, firewall, policy, rule};
use fireflow_domain::{firewall::FirewallPatch, rule::Rule};
use fireflow_storage::db_test;
use fireflow_storage::testing::TestDatabase;

use crate::support::*;

fn path(rule: &Rule) -> RulePath {
    RulePath { firewall: rule.policy.firewall.id, policy: rule.policy.id, rule: rule.id }
}

fn conflict<T: std::fmt::Debug>(result: Result<T, Error>) -> Conflict {
    match result {
        Err(Error::AlreadyExists(conflict)) => conflict,
        other => panic!("expected a conflict, not {other:?}"),
    }
}

fn assert_not_found<T: std::fmt::Debug>(result: Result<T, Error>, missing: Resource) {
    match result {
        Err(Error::NotFound { what, .. }) => assert_eq!(what, missing),
        other => panic!("expected that nothing is found, not {other:?}"),
    }
}

db_test! {
    async fn what_is_written_is_read_back(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let rule = make_rule(&db, &policy, full()).await.unwrap();
        let icmp = make_rule(&db, &policy, full_icmp()).await.unwrap();

        let mut uow = read(&db, ReadKind::Single).await;
        let found = firewall::get(&mut *uow, &caller(), firewall.id).await.unwrap();
        assert_eq!((found.spec, found.policy_count), (firewall.spec.clone(), 1));
        let found = policy::get(&mut *uow, &caller(), firewall.id, policy.id).await.unwrap();
        assert_eq!((&found.spec, found.rule_count, found.revision), (&policy.spec, 2, Revision(3)));
        for written in [rule, icmp] {
            let found = rule::get(&mut *uow, &caller(), path(&written)).await.unwrap();
            assert_eq!(found, written);
        }
        let all = uow.rules().all(&policy.reference()).await.unwrap();
        assert_eq!(all.len(), 2);
    }
}

db_test! {
    async fn a_deleted_name_can_be_used_again(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let mut uow = write(&db).await;
        let taken = firewall::create(&mut *uow, &caller(), new_firewall("edge")).await;
        let expected = Conflict::NameTaken {
            what: Resource::Firewall,
            name: "edge".into(),
            holder: firewall.id.get(),
        };
        assert_eq!(conflict(taken), expected);
        let policy = policy::create(&mut *uow, &caller(), firewall.id, policy_spec("in")).await;
        let policy = policy.unwrap();
        let named = RuleParts { name: Some(name("web")), ..parts("10.0.0.1", "any") };
        for _ in 0..2 {
            let named = spec(named.clone());
            let made = rule::create(&mut *uow, &caller(), firewall.id, policy.id, plain(named))
                .await
                .unwrap();
            rule::delete(&mut *uow, &caller(), path(&made.rule), &Expected::ANYTHING).await.unwrap();
        }
        policy::delete(&mut *uow, &caller(), firewall.id, policy.id, &Expected::ANYTHING)
            .await
            .unwrap();
        policy::create(&mut *uow, &caller(), firewall.id, policy_spec("in")).await.unwrap();
        firewall::delete(&mut *uow, &caller(), firewall.id, &Expected::ANYTHING).await.unwrap();
        let again = firewall::create(&mut *uow, &caller(), new_firewall("edge")).await.unwrap();
        assert!(again.id > firewall.id);
        uow.commit().await.unwrap();
    }
}

db_test! {
    async fn children_of_a_deleted_parent_are_hidden(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let rule = make_rule(&db, &policy, parts("10.0.0.1", "any")).await.unwrap();
        let mut uow = write(&db).await;
        firewall::delete(&mut *uow, &caller(), firewall.id, &Expected::ANYTHING).await.unwrap();
        let caller = caller();
        let missing = Resource::Firewall;
        assert_not_found(firewall::get(&mut *uow, &caller, firewall.id).await, missing);
        assert_not_found(policy::get(&mut *uow, &caller, firewall.id, policy.id).await, missing);
        assert_not_found(rule::get(&mut *uow, &caller, path(&rule)).await, missing);
        let new = rule::create(
            &mut *uow,
            &caller,
            firewall.id,
            policy.id,
            plain(spec(parts("10.0.0.2", "any"))));
        assert_not_found(new.await, missing);
    }
}

db_test! {
    async fn other_tenants_see_nothing(db: TestDatabase) {
        let blue = caller_of(Visibility::Tenants(vec![tenant("blue")]));
        let red = caller_of(Visibility::Tenants(vec![tenant("red")]));
        let mut uow = write(&db).await;
        let made = firewall::create(&mut *uow, &blue, new_firewall("edge")).await.unwrap();
        assert_eq!(made.spec.tenant.as_str(), "blue");
        let made_policy = policy::create(&mut *uow, &blue, made.id, policy_spec("in")).await.unwrap();
        let made_rule =
            rule::create(&mut *uow, &blue, made.id, made_policy.id, plain(spec(parts("any", "any"))));
        let made_rule = made_rule.await.unwrap().rule;
        // The same name is free for another tenant.
        let other = firewall::create(&mut *uow, &red, new_firewall("edge")).await.unwrap();

        let missing = Resource::Firewall;
        assert_not_found(firewall::get(&mut *uow, &red, made.id).await, missing);
        assert_not_found(policy::get(&mut *uow, &red, made.id, made_policy.id).await, missing);
        assert_not_found(rule::get(&mut *uow, &red, path(&made_rule)).await, missing);
        let anything = Expected::ANYTHING;
        assert_not_found(firewall::delete(&mut *uow, &red, made.id, &anything).await, missing);
        assert_not_found(
            policy::delete(&mut *uow, &red, made.id, made_policy.id, &anything).await,
            missing,
        );
        assert_not_found(rule::delete(&mut *uow, &red, path(&made_rule), &anything).await, missing);
        // A known policy under the caller's own firewall is not found either.
        let elsewhere = policy::get(&mut *uow, &red, other.id, made_policy.id).await;
        assert_not_found(elsewhere, Resource::Policy);

        let rules = [made_rule.id];
        let found = uow.rules().policies_of(&blue.actor.visibility, &rules).await.unwrap();
        assert_eq!(found, [(made_rule.id, made_policy.id)]);
        let found = uow.rules().policies_of(&red.actor.visibility, &rules).await.unwrap();
        assert!(found.is_empty());

        let filter = FirewallFilter::default();
        let seen = firewall::page(&mut *uow, &red, &filter, &[], &first_page()).await.unwrap();
        assert_eq!(seen.items.iter().map(|it| it.id).collect::<Vec<_>>(), [other.id]);
        assert_eq!(seen.total.unwrap().count, 1);
        let nobody = caller_of(Visibility::Tenants(vec![]));
        let seen = firewall::page(&mut *uow, &nobody, &filter, &[], &first_page()).await.unwrap();
        assert!(seen.items.is_empty());
    }
}

db_test! {
    committed("it opens the database again")
    async fn an_equal_rule_is_refused_also_after_a_restart(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let old = RuleParts { enabled: false, ..parts("10.0.0.0/8", "any 443") };
        let old = make_rule(&db, &policy, old).await.unwrap();
        let url = db.url.clone();
        db.database.close().await.unwrap();

        let database =
            fireflow_storage::Database::open(fireflow_storage::testing::options(&url)).await.unwrap();
        let storage: &dyn fireflow_domain::store::Storage = &database;
        let mut uow = storage.write(WriteKind::Few, &Terms::default()).await.unwrap();
        let twin = RuleParts { priority: 99, log: true, ..parts("10.0.0.0/8", "any 443-443") };
        let made =
            rule::create(&mut *uow, &caller(), firewall.id, policy.id, plain(spec(twin))).await;
        let holder = old.id.get();
        assert_eq!(
            conflict(made),
            Conflict::EqualRule { holder, inactive: Some(RuleState::Disabled) }
        );
    }
}

db_test! {
    async fn revisions_and_counters_follow_every_change(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let rule = make_rule(&db, &policy, parts("10.0.0.1", "any")).await.unwrap();
        assert_eq!(rule.revision, Revision(2));
        let second = make_rule(&db, &policy, parts("10.0.0.2", "any")).await.unwrap();
        assert_eq!(second.revision, Revision(3));

        let mut uow = write(&db).await;
        let caller = caller();
        let patch = RulePatch { priority: Patch::Set(5), ..RulePatch::default() };
        let only = |state: CurrentState| {
            let one_of = Named::Listed(vec![NamedState::Tagged(StateTag::of(state))]);
            Expected { one_of, ..Expected::ANYTHING }
        };
        let former = CurrentState { mark: Mark::new(7), ..CurrentState::from(&rule) };
        let stale = only(former);
        let refused = rule::update(&mut *uow, &caller, path(&rule), &stale, patch.clone()).await;
        assert!(matches!(refused, Err(Error::RevisionMismatch { current: Revision(2), .. })));
        let fresh = only(CurrentState::from(&rule));
        let changed = rule::update(&mut *uow, &caller, path(&rule), &fresh, patch.clone()).await;
        let changed = changed.unwrap();
        assert_eq!(changed.revision, Revision(4));
        assert_ne!(changed.mark, rule.mark);
        // The same update again changes nothing and writes nothing.
        let before = db.statements();
        let same = rule::update(&mut *uow, &caller, path(&rule), &Expected::ANYTHING, patch).await;
        assert_eq!(same.unwrap().revision, Revision(4));
        assert_eq!(db.statements() - before, 2, "two reads");

        rule::delete(&mut *uow, &caller, path(&second), &Expected::ANYTHING).await.unwrap();
        let found = policy::get(&mut *uow, &caller, firewall.id, policy.id).await.unwrap();
        assert_eq!((found.revision, found.header_revision), (Revision(5), Revision(1)));
        assert_eq!(found.rule_count, 1);
        let patch = PolicyPatch { name: Patch::Set(name("out")), ..PolicyPatch::default() };
        let anything = Expected::ANYTHING;
        policy::update(&mut *uow, &caller, firewall.id, policy.id, &anything, patch).await.unwrap();
        let found = rule::get(&mut *uow, &caller, path(&rule)).await.unwrap();
        assert_eq!(found.policy.name.as_str(), "out");
        assert_eq!((found.revision, found.policy.header_revision), (Revision(4), Revision(6)));
        uow.commit().await.unwrap();

        // The row of a deleted rule has the policy's revision: a cache reads what it missed.
        let deleted = db.integers("SELECT revision FROM rule WHERE deleted_at IS NOT NULL").await;
        assert_eq!(deleted, [5]);
        // Counters equal the number of rows.
        let counted = "SELECT p.rule_count - (SELECT count(*) FROM rule r WHERE r.policy_id = p.id \
                       AND r.deleted_at IS NULL) FROM policy p";
        assert_eq!(db.integers(counted).await, [0]);
        assert_eq!(db.integers("SELECT policy_count FROM firewall").await, [1]);
        let counted = "SELECT entry_count FROM policy";
        assert_eq!(db.integers(counted).await, [2], "a source and a destination are left");
        // The derived rows of the deleted rule are gone; those of the other rule are still there.
        assert_eq!(db.integers("SELECT DISTINCT rule_id FROM rule_address").await, [rule.id.get()]);
    }
}

db_test! {
    async fn a_full_policy_takes_no_more(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        db.execute("UPDATE policy SET entry_count = 999998").await;
        let last = make_rule(&db, &policy, parts("10.0.0.1", "any")).await.unwrap();
        let full = make_rule(&db, &policy, parts("10.0.0.2", "any")).await;
        assert!(matches!(full, Err(Error::TooLarge { limit: 1_000_000, .. })), "{full:?}");
        let mut uow = write(&db).await;
        let grow = Patch::Set(vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]);
        let patch = RulePatch { sources: grow, ..RulePatch::default() };
        let full = rule::update(&mut *uow, &caller(), path(&last), &Expected::ANYTHING, patch).await;
        assert!(matches!(full, Err(Error::TooLarge { .. })), "{full:?}");
        drop(uow);
        db.execute("UPDATE policy SET entry_count = 2, rule_count = 200000").await;
        let full = make_rule(&db, &policy, parts("10.0.0.2", "any")).await;
        assert!(matches!(full, Err(Error::TooLarge { limit: 200_000, .. })), "{full:?}");
    }
}

db_test! {
    async fn what_is_derived_follows_the_rule(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let rule = make_rule(&db, &policy, full()).await.unwrap();
        // `any` has a row for each family.
        assert_eq!(db.integers("SELECT count(*) FROM rule_address").await, [6]);
        assert_eq!(db.integers("SELECT count(*) FROM rule_port").await, [2]);
        assert_eq!(db.integers("SELECT count(*) FROM rule_label").await, [2]);
        let mut uow = write(&db).await;
        let patch = RulePatch {
            sources: Patch::Set(vec![endpoint("10.9.0.0/16")]),
            ports: Patch::Set(vec![]),
            labels: LabelsPatch::Clear,
            ..RulePatch::default()
        };
        rule::update(&mut *uow, &caller(), path(&rule), &Expected::ANYTHING, patch).await.unwrap();
        let patch = FirewallPatch { labels: LabelsPatch::Clear, ..FirewallPatch::default() };
        firewall::update(&mut *uow, &caller(), firewall.id, &Expected::ANYTHING, patch)
            .await
            .unwrap();
        uow.commit().await.unwrap();
        assert_eq!(db.integers("SELECT count(*) FROM rule_address").await, [3]);
        assert_eq!(db.integers("SELECT count(*) FROM rule_port").await, [0]);
        assert_eq!(db.integers("SELECT count(*) FROM rule_label").await, [0]);
        assert_eq!(db.integers("SELECT count(*) FROM firewall_label").await, [0]);
        assert_eq!(db.integers("SELECT count(*) FROM policy_label").await, [1]);
    }
}

/// Lists all rules, two at a time.
async fn stepwise(
    db: &TestDatabase,
    who: &Visibility,
    parent: Option<(FirewallId, PolicyId)>,
    filter: &RuleFilter,
) -> Vec<i64> {
    let mut uow = read(db, ReadKind::Snapshot).await;
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let rules = uow.rules().following(who, parent, filter, after, 2).await.unwrap();
        assert!(rules.len() <= 2);
        let Some(last) = rules.last() else { return ids };
        after = Some((last.id, last.spec.priority));
        ids.extend(rules.iter().map(|rule| rule.id.get()));
    }
}

async fn rule_ids(
    db: &TestDatabase,
    policy: &fireflow_domain::policy::Policy,
    filter: RuleFilter,
    order: &[SortKey<RuleField>],
) -> Vec<i64> {
    let mut uow = read(db, ReadKind::Snapshot).await;
    let parent = (policy.firewall.id, policy.id);
    let (_, page) =
        rule::page(&mut *uow, &caller(), parent, &filter, order, &first_page()).await.unwrap();
    assert_eq!(page.total.unwrap().count, page.items.len() as u64);
    page.items.iter().map(|rule| rule.id.get()).collect()
}

db_test! {
    async fn rules_come_as_they_are_evaluated_and_equal_priorities_have_an_order(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let mut ids = Vec::new();
        for (index, priority) in [20, 10, -5, 10].into_iter().enumerate() {
            let parts = RuleParts { priority, ..parts(&format!("10.0.0.{index}"), "any") };
            ids.push(make_rule(&db, &policy, parts).await.unwrap().id.get());
        }
        let [a, b, c, d] = ids[..] else { panic!("four rules") };
        assert_eq!(rule_ids(&db, &policy, RuleFilter::default(), &[]).await, [c, b, d, a]);
        let descending = [SortKey { field: RuleField::Priority, direction: Direction::Descending }];
        let sorted = rule_ids(&db, &policy, RuleFilter::default(), &descending).await;
        assert_eq!(sorted, [a, d, b, c], "ids break ties, in the last direction");
    }
}

db_test! {
    async fn steps_through_a_list_meet_every_rule_once(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let other = make_policy(&db, firewall.id, "out").await;
        for (index, priority) in [20, 10, -5, 10, 10, 10, i32::MAX].into_iter().enumerate() {
            let action = if index % 2 == 0 { Action::Allow } else { Action::Deny };
            let parts = RuleParts { priority, action, ..parts(&format!("10.0.0.{index}"), "any") };
            make_rule(&db, &policy, parts).await.unwrap();
        }
        let last = make_rule(&db, &other, parts("10.0.0.1", "any")).await.unwrap().id.get();
        let all = RuleFilter::default();
        let denied = RuleFilter { action: Some(Action::Deny), ..RuleFilter::default() };
        let parent = Some((firewall.id, policy.id));
        for filter in [&all, &denied] {
            let evaluated = rule_ids(&db, &policy, filter.clone(), &[]).await;
            assert_eq!(stepwise(&db, &Visibility::All, parent, filter).await, evaluated);
            let mut by_id = evaluated;
            by_id.sort_unstable();
            by_id.extend((*filter == all).then_some(last));
            assert_eq!(stepwise(&db, &Visibility::All, None, filter).await, by_id);
        }
        let stranger = Visibility::Tenants(vec![fireflow_domain::text::Tenant::parse("elsewhere").unwrap()]);
        assert_eq!(stepwise(&db, &stranger, parent, &all).await, [0_i64; 0]);
        assert_eq!(stepwise(&db, &stranger, None, &all).await, [0_i64; 0]);
    }
}

db_test! {
    async fn nulls_come_first_and_every_field_sorts(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let named = |word: &str, source| RuleParts { name: Some(name(word)), ..parts(source, "any") };
        let z = make_rule(&db, &policy, named("z", "10.0.0.1")).await.unwrap().id.get();
        let none = make_rule(&db, &policy, parts("10.0.0.2", "any")).await.unwrap().id.get();
        let upper = make_rule(&db, &policy, named("B", "10.0.0.3")).await.unwrap().id.get();
        let lower = make_rule(&db, &policy, named("a", "10.0.0.4")).await.unwrap().id.get();
        let by = |field, direction| [SortKey { field, direction }];
        let all = RuleFilter::default;
        let names = rule_ids(&db, &policy, all(), &by(RuleField::Name, Direction::Ascending)).await;
        assert_eq!(names, [none, upper, lower, z], "bytes, on both databases");
        let names = rule_ids(&db, &policy, all(), &by(RuleField::Name, Direction::Descending)).await;
        assert_eq!(names, [z, lower, upper, none]);
        for field in RuleField::ALL {
            for direction in [Direction::Ascending, Direction::Descending] {
                assert_eq!(rule_ids(&db, &policy, all(), &by(*field, direction)).await.len(), 4);
            }
        }
        let mut uow = read(&db, ReadKind::Single).await;
        for field in FirewallField::ALL {
            let order = [SortKey { field: *field, direction: Direction::Descending }];
            let filter = FirewallFilter::default();
            let page = firewall::page(&mut *uow, &caller(), &filter, &order, &first_page()).await;
            assert_eq!(page.unwrap().items.len(), 1);
        }
    }
}

db_test! {
    async fn plain_filters_compare_one_entry_exactly(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let any = make_rule(&db, &policy, parts("any", "10.0.0.0/8 443")).await.unwrap().id.get();
        let zero = parts("0.0.0.0/0", "10.0.0.0/9");
        let zero = RuleParts { priority: 7, ports: vec![PortRange::parse("443").unwrap()], ..zero };
        let zero = make_rule(&db, &policy, zero).await.unwrap().id.get();
        let v6 = parts("2001:db8::/32 53", "::/0");
        let v6 = RuleParts { name: Some(name("six")), ..v6 };
        let v6 = make_rule(&db, &policy, v6).await.unwrap().id.get();

        let address = |text: &str| Some(AddressRange::parse(text).unwrap());
        let port = |text: &str| Some(PortRange::parse(text).unwrap());
        let none = RuleFilter::default;
        let cases = [
            (RuleFilter { source_address: address("any"), ..none() }, vec![any]),
            (RuleFilter { source_address: address("0.0.0.0/0"), ..none() }, vec![zero]),
            (RuleFilter { source_address: address("::/0"), ..none() }, vec![]),
            (RuleFilter { destination_address: address("10.0.0.0/8"), ..none() }, vec![any]),
            (RuleFilter { destination_address: address("10.0.0.1"), ..none() }, vec![]),
            (RuleFilter { destination_port: port("443"), ..none() }, vec![any]),
            (RuleFilter { source_port: port("53"), ..none() }, vec![v6]),
            (RuleFilter { port: port("443"), ..none() }, vec![zero]),
            (RuleFilter { name: Some(name("six")), ..none() }, vec![v6]),
            (RuleFilter { priority: Some(7), ..none() }, vec![zero]),
            (RuleFilter { priority: Some(7), name: Some(name("six")), ..none() }, vec![]),
        ];
        for (filter, expected) in cases {
            assert_eq!(rule_ids(&db, &policy, filter.clone(), &[]).await, expected, "{filter:?}");
        }
    }
}

db_test! {
    async fn pages_cut_the_list_and_totals_are_exact(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        for index in 0..5 {
            make_policy(&db, firewall.id, &format!("p{index}")).await;
        }
        let mut uow = read(&db, ReadKind::Snapshot).await;
        let mut seen = Vec::new();
        for number in 1..=3 {
            let request = PageRequest::new(number, 2).unwrap();
            let filter = PolicyFilter::default();
            let page = policy::page(&mut *uow, &caller(), firewall.id, &filter, &[], &request)
                .await
                .unwrap();
            assert_eq!((page.total.unwrap().count, page.total.unwrap().is_exact), (5, true));
            seen.extend(page.items.iter().map(|policy| policy.spec.name.to_string()));
        }
        assert_eq!(seen, ["p0", "p1", "p2", "p3", "p4"]);
        let unknown = FirewallId::new(999).unwrap();
        let filter = PolicyFilter::default();
        let page = policy::page(&mut *uow, &caller(), unknown, &filter, &[], &first_page()).await;
        assert_not_found(page, Resource::Firewall);
    }
}

db_test! {
    async fn what_is_not_committed_is_undone_with_its_audit_event(db: TestDatabase) {
        let mut uow = write(&db).await;
        firewall::create(&mut *uow, &caller(), new_firewall("edge")).await.unwrap();
        uow.rollback().await.unwrap();
        let mut uow = write(&db).await;
        firewall::create(&mut *uow, &caller(), new_firewall("edge")).await.unwrap();
        drop(uow);
        assert_eq!(db.integers("SELECT count(*) FROM audit_event").await, [0]);
        assert_eq!(db.integers("SELECT count(*) FROM firewall").await, [0]);

        let made = make_firewall(&db, "edge").await;
        assert_eq!(db.integers("SELECT resource_id FROM audit_event").await, [made.id.get()]);
        for write in ["UPDATE audit_event SET reason = 'x'", "DELETE FROM audit_event"] {
            let refused = db.try_execute(write).await.unwrap_err();
            assert!(refused.contains("append-only"), "{refused}");
        }
    }
}

db_test! {
    async fn a_rename_meets_the_holder_of_the_name(db: TestDatabase) {
        let one = make_firewall(&db, "one").await;
        let two = make_firewall(&db, "two").await;
        let mut uow = write(&db).await;
        let patch = FirewallPatch { name: Patch::Set(name("one")), ..FirewallPatch::default() };
        let anything = Expected::ANYTHING;
        let taken = firewall::update(&mut *uow, &caller(), two.id, &anything, patch).await;
        let holder = one.id.get();
        let expected = Conflict::NameTaken { what: Resource::Firewall, name: "one".into(), holder };
        assert_eq!(conflict(taken), expected);
        // The unit of work can continue: the refusal undid only itself.
        let patch = FirewallPatch { name: Patch::Set(name("three")), ..FirewallPatch::default() };
        let renamed = firewall::update(&mut *uow, &caller(), two.id, &anything, patch).await.unwrap();
        assert_eq!((renamed.revision, renamed.header_revision), (Revision(2), Revision(2)));
        uow.commit().await.unwrap();
        let mut uow = write(&db).await;
        let again = NewFirewall { labels: labels(&[]), ..new_firewall("two") };
        firewall::create(&mut *uow, &caller(), again).await.unwrap();
    }
}

db_test! {
    async fn a_value_that_the_domain_refuses_is_reported_with_its_place(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let rule = make_rule(&db, &policy, parts("10.0.0.1", "any")).await.unwrap();
        db.execute(r#"UPDATE rule SET sources = '[{"address":"10.0.0.1/8"}]'"#).await;
        let mut uow = read(&db, ReadKind::Single).await;
        let Err(Error::Internal(source)) = rule::get(&mut *uow, &caller(), path(&rule)).await else {
            panic!("a corrupt row must not be answered");
        };
        let place = format!("rule.sources of row {}", rule.id);
        assert!(source.to_string().contains(&place), "{source}");
    }
}

db_test! {
    async fn rows_of_before_invisible_characters_were_refused_can_be_read_and_changed(db: TestDatabase) {
        let made = make_firewall(&db, "prod").await;
        let policy = make_policy(&db, made.id, "in").await;
        let rule = make_rule(&db, &policy, parts("10.0.0.1", "any")).await.unwrap();
        let old = "prod\u{200B}";
        db.execute(&format!(
            "UPDATE firewall SET name = '{old}', labels = '{{\"site\":\"{old}\"}}'"
        )).await;
        db.execute(&format!("UPDATE policy SET name = '{old}'")).await;
        db.execute(&format!("UPDATE rule SET name = '{old}', reference = '{old}'")).await;
        let mut uow = write(&db).await;
        let found = rule::get(&mut *uow, &caller(), path(&rule)).await.unwrap();
        assert_eq!(found.spec.name.as_ref().map(|name| name.as_str()), Some(old));
        assert_eq!(found.policy.firewall.name.as_str(), old);
        // Members that a change does not name stay; those that it names are changed.
        let patch = FirewallPatch {
            labels: LabelsPatch::Merge([("env".to_owned(), Some("live".to_owned()))].into()),
            ..FirewallPatch::default()
        };
        let changed =
            firewall::update(&mut *uow, &caller(), made.id, &Expected::ANYTHING, patch).await;
        let labels = changed.unwrap().spec.labels;
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("env", "live"), ("site", old)]);
    }
}
