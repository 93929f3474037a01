//! Forms of filters one by one: search in any case, warnings, lists other than those of rules.

use fireflow_domain::filter::{Expression, FieldKind, Filter, Level, describe};
use fireflow_domain::labels::Labels;
use fireflow_domain::policy::PolicySpec;
use fireflow_domain::rule::{Action, Duplicates, RuleSpec, WarningCode};
use fireflow_domain::text::{Description, Name, Reference};
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::firewall::NewFirewall;
use fireflow_domain::usecase::rule::NewRule;
use fireflow_domain::usecase::{firewall, policy, rule};
use fireflow_storage::testing::TestDatabase;
use fireflow_storage::{DatabaseKind, db_test};

use crate::filter::{SEED, fill, found};
use crate::filter_strategies::FIRST_DAY;
use crate::support::{caller, make_firewall, make_policy, now, parts, tenant, write};

db_test! {
    async fn every_text_is_searched_in_any_case(db: TestDatabase) {
        let texts = [
            "CHG-1042", "chg 7", "\u{c9}DGE", "E\u{301}dge", "stra\u{df}e", "STRASSE", "300 \u{212a}",
            "\u{39f}\u{394}\u{39f}\u{3a3}", "\u{130}stanbul", "[x]*?", "a\\b", "100%_", "\u{10400}y", "-", "]^", "",
        ];
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        let mut uow = write(&db).await;
        for (text, address) in texts.into_iter().zip(1_u32..) {
            let labels = [("site".to_owned(), text.to_owned())].into_iter().collect();
            let mut parts = parts(&format!("10.0.0.{address}"), "any");
            parts.reference = Reference::parse(text).unwrap();
            parts.labels = Labels::new(labels).unwrap();
            let spec = RuleSpec::new(parts).unwrap();
            let new = NewRule { spec, placement: None, duplicates: Duplicates::Refuse };
            rule::create(&mut *uow, &caller(), firewall.id, policy.id, new).await.unwrap();
        }
        uow.commit().await.unwrap();
        for (part, expected) in [
            ("chg", vec![1, 2]),
            ("CHG-", vec![1]),
            ("hG", vec![1, 2]),
            ("\u{e9}dge", vec![3, 4]),
            ("E\u{301}DGE", vec![3, 4]),
            ("Stra\u{1e9e}e", vec![5]),
            ("strasse", vec![6]),
            ("k", vec![7]),
            ("K", vec![7]),
            ("\u{3bf}\u{3b4}\u{3bf}\u{3c2}", vec![8]),
            ("\u{130}STAN", vec![9]),
            ("[X]", vec![10]),
            ("]", vec![10, 15]),
            ("*", vec![10]),
            ("?", vec![10]),
            ("^", vec![15]),
            ("\\B", vec![11]),
            ("%_", vec![12]),
            ("_", vec![12]),
            ("\u{10428}Y", vec![13]),
            ("-", vec![1, 14]),
            ("", (1..=16).collect()),
            ("x".repeat(4_000).as_str(), vec![]),
            ("\u{3c9}\u{342}".repeat(2_000).as_str(), vec![]),
        ] {
            let quoted = part.replace('\\', "\\\\").replace('*', "\\*");
            for field in ["reference", "labels.site"] {
                let filter = format!("{field} : \"{quoted}\"");
                let filter = Filter::parse(Level::Rule, &filter)
                    .unwrap_or_else(|error| panic!("{filter}: {error}"));
                let (ids, _) = found(&db, &filter, now()).await;
                assert_eq!(ids.into_iter().collect::<Vec<_>>(), expected, "{filter}");
            }
        }
    }
}

db_test! {
    async fn rules_are_found_by_each_of_their_warnings(db: TestDatabase) {
        let data = fill(&db, SEED).await;
        let now = Instant::parse(FIRST_DAY).unwrap().plus_micros(3 * 86_400_000_000);
        for code in WarningCode::ALL {
            let filter = Filter::parse(Level::Rule, &format!("warnings = {}", code.as_str())).unwrap();
            let expected = data.fitting(&filter, now);
            assert!(!expected.is_empty(), "{filter} shows nothing");
            assert_eq!(found(&db, &filter, now).await.0, expected, "{filter}");
        }
        let all = ["warnings = null", "warnings != null", "NOT warnings IN (null, expired)"];
        // The most comparisons that there may be.
        let many = vec!["warnings = entry_without_effect"; 110].join(" OR ");
        for text in all.into_iter().chain([many.as_str()]) {
            let filter = Filter::parse(Level::Rule, text).unwrap();
            let expected = data.fitting(&filter, now);
            assert_eq!(found(&db, &filter, now).await.0, expected, "{filter}");
        }
    }
}

db_test! {
    committed("PostgreSQL plans by what else the tables have held")
    async fn filters_on_other_lists_are_answered_from_indexes_too(db: TestDatabase) {
        fill(&db, SEED).await;
        // PostgreSQL chooses by what the tables hold.
        let mut uow = write(&db).await;
        for number in 0..300 {
            let labels = [("env".to_owned(), format!("test-{number}"))].into_iter().collect();
            let labels = Labels::new(labels).unwrap();
            let new = NewFirewall {
                name: Name::parse(&format!("host-{number}")).unwrap(),
                tenant: Some(tenant("blue")),
                description: Description::default(),
                labels: labels.clone(),
            };
            let made = firewall::create(&mut *uow, &caller(), new).await.unwrap();
            let spec = PolicySpec {
                name: Name::parse(&format!("in-{number}")).unwrap(),
                description: Description::default(),
                labels,
                default_action: Action::Deny,
            };
            policy::create(&mut *uow, &caller(), made.id, spec).await.unwrap();
        }
        uow.commit().await.unwrap();
        db.database.analyze().await.unwrap();
        let at = Instant::parse(FIRST_DAY).unwrap();
        for (level, text, index) in [
            (Level::Firewall, "name = edge-1", "firewall_"),
            (Level::Firewall, "name = edge*", "firewall_name"),
            (Level::Firewall, "updated_at > now + 900d", "firewall_updated_at"),
            (Level::Firewall, "created_at < now", "firewall_created_at"),
            (Level::Firewall, "tenant = red", "firewall_live_name"),
            (Level::Firewall, "labels.site IN (fra, par)", "firewall_label_value"),
            (Level::Firewall, "labels:site", "firewall_label_value"),
            (Level::Firewall, "NOT policy_count = 0 AND labels.site : FR", "firewall_label_value"),
            (Level::Firewall, "labels.site = fra OR name = edge-2", "firewall_label_value"),
            (Level::Policy, "name = web", "policy_"),
            (Level::Policy, "updated_at >= now + 900d", "policy_updated_at"),
            (Level::Policy, "labels.env = prod", "policy_label_value"),
            (Level::Policy, "firewall.name = edge-1", "policy_"),
            (Level::Policy, "firewall.labels.site = fra", "firewall_label_value"),
            (Level::Event, "at >= now + 900d", "audit_event_at"),
            (Level::Event, "subject = ann", "audit_event_subject"),
            (Level::Event, "subject = \"ann*\"", "audit_event_subject"),
            (Level::Event, "resource = firewall_rule", "audit_event_resource"),
            (Level::Event, "action IN (delete, restore)", "audit_event_deed"),
            (Level::Event, "firewall_id = 7", "audit_event_firewall"),
            (Level::Event, "filtering_policy_id = 7", "audit_event_policy"),
            (Level::Event, "request_id = x", "audit_event_request"),
            (Level::Event, "tenant = red", "audit_event_tenant"),
        ] {
            let filter = Filter::parse(level, text).unwrap();
            let (seeds, _) = db.plans(&Expression { filter, at }).await;
            let [seed] = &seeds[..] else { panic!("{text} has {} seeds", seeds.len()) };
            assert!(seed.contains(index), "{text} is not answered from {index}:\n{seed}");
            let is_scan = |line: &&str| line.starts_with("SCAN ") || line.contains("Seq Scan");
            // A union of parts is read as a whole: the parts are not.
            let scan = seed.lines().find(|line| is_scan(line) && !line.contains("SCAN part"));
            assert_eq!(scan, None, "{text}:\n{seed}");
        }
        // Bounds of one field are one range.
        let text = "at >= now - 2d AND at < now - 1d AND NOT subject = ann";
        let filter = Filter::parse(Level::Event, text).unwrap();
        assert_eq!(db.plans(&Expression { filter, at }).await.0.len(), 3);
        for (level, text) in [
            (Level::Firewall, "name : edge"),
            (Level::Firewall, "policy_count = 0"),
            (Level::Policy, "name != web"),
            (Level::Policy, "firewall.labels.site = null"),
            (Level::Event, "NOT subject = ann"),
            (Level::Event, "reason : chg"),
            (Level::Event, "tenant = null OR subject = ann"),
        ] {
            let filter = Filter::parse(level, text).unwrap();
            assert_eq!(db.plans(&Expression { filter, at }).await.0, [] as [String; 0], "{text}");
        }
    }
}

db_test! {
    async fn each_field_with_an_index_is_documented_and_answered_from_it(db: TestDatabase) {
        let page = include_str!("../../../../docs/filters.md");
        let speed = page.split("\n## Speed\n").nth(1).unwrap();
        let at = Instant::parse(FIRST_DAY).unwrap();
        let values =
            [(FieldKind::Integer, "8"), (FieldKind::Text, "edge"), (FieldKind::Timestamp, FIRST_DAY)];
        for (level, list) in [
            (Level::Firewall, "- of policies and firewalls:"),
            (Level::Policy, "- of policies and firewalls:"),
            (Level::Rule, "- of rules:"),
            (Level::Event, "- of audit events:"),
        ] {
            let list = speed.lines().find(|line| line.starts_with(list)).unwrap();
            let (mut fields, mut indexed) = (0, 0);
            // The fields of a parent have a dot.
            for info in describe(level).into_iter().filter(|it| !it.name.contains('.')) {
                let value = values.iter().find(|(kind, _)| *kind == info.kind);
                let Some((_, value)) = value else { continue };
                let filter = Filter::parse(level, &format!("{} = {value}", info.name)).unwrap();
                let (seeds, _) = db.plans(&Expression { filter, at }).await;
                let is_documented = list.contains(&format!("`{}`", info.name));
                assert_eq!(seeds.len(), usize::from(is_documented), "{list}: {info:?}");
                fields += 1;
                for seed in seeds {
                    indexed += 1;
                    // PostgreSQL plans by the contents of the tables, which are empty here. Both
                    // databases have the same indexes.
                    let is_search = seed.contains("SEARCH ") && !seed.contains("SCAN ");
                    let is_planned = db.database.kind() == DatabaseKind::Postgres;
                    assert!(is_search || is_planned, "{info:?}:\n{seed}");
                }
            }
            assert!(indexed >= 4 && indexed < fields, "{level:?}: {indexed} of {fields}");
        }
    }
}
