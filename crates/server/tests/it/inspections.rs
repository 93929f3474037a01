//! Inspections by compiled policies. The verdict never comes from an outdated state, and each state
//! is compiled once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fireflow_domain::actor::Role;
use fireflow_service::inspections::{CompilationLimits, Inspections};
use fireflow_storage::testing::TestDatabase;
use fireflow_storage::{DatabaseKind, db_test};
use serde_json::{Value, json};

use crate::service::{Connection, Place, Service};
use crate::support::{Api, plain_rule, record_in, tcp};

/// The verdicts of both services on a packet.
fn verdicts(services: &mut [Connection; 2], policy: &str, packet: &str) -> Vec<(Value, Value)> {
    let path = format!("{policy}inspections/?{packet}");
    let verdict = |service: &mut Connection| {
        let (status, body) = service.ask("GET", &path, "").unwrap();
        assert_eq!(status, 200, "{body}");
        (body["action"].clone(), body["active_rule"]["id"].clone())
    };
    services.iter_mut().map(verdict).collect()
}

#[tokio::test]
async fn what_one_process_writes_the_other_answers_by_at_once() {
    let place = Place::new(DatabaseKind::Postgres).await;
    let folder = place.folder.path();
    let (one, other) = (Service::start(folder, &place.url), Service::start(folder, &place.url));
    let mut services = [one.connect(), other.connect()];
    let mut write = one.connect();
    let mut ask = |method: &str, path: &str, body: Value| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = write.ask(method, path, &body).unwrap();
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    };
    ask("POST", "/firewalls/", json!({"name": "edge"}));
    let policies = "/firewalls/1/filtering-policies/";
    ask("POST", policies, json!({"name": "in", "default_action": "DENY"}));
    let policy = format!("{policies}1/");
    let rules = format!("{policy}rules/");
    let packet = tcp("10.0.0.1", "10.0.0.2", 443);
    let mut expect = |action: &str, rule: Value, what: &str| {
        let expected = vec![(json!(action), rule); 2];
        // Twice: once to compile the policy, and once from the cache.
        for _ in 0..2 {
            assert_eq!(verdicts(&mut services, &policy, &packet), expected, "{what}");
        }
    };
    expect("DENY", Value::Null, "no rule");
    for round in 0..10 {
        let mut rule = plain_rule();
        rule["priority"] = json!(100 - round);
        rule["action"] = json!("ALLOW");
        let allowing = ask("POST", &rules, rule.clone())["id"].clone();
        expect("ALLOW", allowing.clone(), "a new rule");
        let path = format!("{rules}{allowing}/");
        ask("PATCH", &path, json!({"action": "REJECT"}));
        expect("REJECT", allowing.clone(), "its action");
        ask("PATCH", &path, json!({"enabled": false}));
        expect("DENY", Value::Null, "switched off");
        ask("PATCH", &path, json!({"enabled": true, "sources": [{"address": "10.9.9.9"}]}));
        expect("DENY", Value::Null, "another source");
        ask("PATCH", &path, json!({"sources": [{"address": "any"}]}));
        expect("REJECT", allowing.clone(), "every source");
        ask("PATCH", &policy, json!({"default_action": "ALLOW"}));
        ask("DELETE", &path, Value::Null);
        expect("ALLOW", Value::Null, "deleted, and another default");
        ask("POST", &format!("{path}restore/"), Value::Null);
        expect("REJECT", allowing.clone(), "restored");
        ask("DELETE", &path, Value::Null);
        ask("PATCH", &policy, json!({"default_action": "DENY"}));
        expect("DENY", Value::Null, "as it was");
    }
    // The parents in the answer have their current state.
    let made = ask("POST", &rules, plain_rule());
    let show = |service: &Service| {
        let path = format!("{policy}inspections/?{packet}");
        service.connect().ask("GET", &path, "").unwrap().1["active_rule"]["filtering_policy"]
            .clone()
    };
    let before = [show(&one), show(&other)];
    ask("PATCH", "/firewalls/1/", json!({"name": "renamed"}));
    for (service, before) in [&one, &other].into_iter().zip(before) {
        let after = show(service);
        assert_ne!(after, before);
        assert!(after.to_string().contains("renamed"), "{after}");
    }
    assert!(made["id"].is_number());
}

/// A value from the metrics page.
pub(crate) async fn metric(api: &Api, series: &str) -> u64 {
    let token = api.token_for(&[Role::HealthCheck], None);
    let page = api.send("GET", "/metrics", &token, &[], None).await.text;
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series}:\n{page}")).parse().unwrap()
}

pub(crate) fn measured(db: TestDatabase) -> Api {
    Api::built(db, |app, _| record_in(app, &Arc::default()))
}

db_test! {
    committed("requests have connections of their own")
    async fn however_many_wait_a_state_is_compiled_once(db: TestDatabase) {
        let api = measured(db);
        let policy = api.policy().await;
        for index in 0..40 {
            api.rule(&policy, &json!({"sources": [{"address": format!("10.0.0.{index}")}]})).await;
        }
        let packet = tcp("10.0.0.7", "10.9.9.9", 443);
        for round in 1..=3 {
            let asked = (0..50).map(|_| api.verdict(&policy, &packet));
            for (action, _) in futures_util::future::join_all(asked).await {
                assert_eq!(action, "ALLOW");
            }
            let of = |result: &str| {
                format!("fireflow_classifier_compilations_total{{result=\"{result}\"}}")
            };
            assert_eq!(metric(&api, &of("compiled")).await, 1);
            if round > 1 {
                assert_eq!(metric(&api, &of("updated")).await, round - 1);
            }
            let hits = "fireflow_classifier_cache_lookups_total{result=\"hit\"}";
            let misses = "fireflow_classifier_cache_lookups_total{result=\"miss\"}";
            assert_eq!(metric(&api, misses).await, round);
            assert_eq!(metric(&api, hits).await, round * 49);
            // The cache keeps one state of each policy.
            assert_eq!(metric(&api, "fireflow_classifier_cache_policies").await, 1);
            assert!(metric(&api, "fireflow_classifier_cache_bytes").await > 10_000);
            let source = format!("10.1.0.{round}");
            api.rule(&policy, &json!({"sources": [{"address": source}]})).await;
        }
    }
}

db_test! {
    committed("requests have connections of their own")
    async fn a_rule_of_a_thousand_million_combinations_is_answered(db: TestDatabase) {
        let api = measured(db);
        let policy = api.policy().await;
        let side = |network: u32| -> Value {
            (0..1_000_u32)
                .map(|host| json!({"address": format!("10.{network}.{}.{}", host / 250, host % 250)}))
                .collect()
        };
        let ports: Value = (0..1_000).map(|port| json!({"number": 3 * port})).collect();
        api.rule(&policy, &json!({
            "protocols": ["tcp"], "sources": side(1), "destinations": side(2), "ports": ports,
        }))
        .await;
        for (source, port, action) in [
            ("10.1.3.249", 2_997, "ALLOW"),
            ("10.1.3.249", 2_996, "DENY"),
            ("10.1.4.1", 2_997, "DENY"),
        ] {
            let packet = tcp(source, "10.2.3.249", port);
            assert_eq!(api.verdict(&policy, &packet).await.0, action, "{source} {port}");
        }
        let compiled = "fireflow_classifier_compilations_total{result=\"compiled\"}";
        assert_eq!(metric(&api, compiled).await, 1, "once, and not multiplied out");
    }
}

db_test! {
    committed("requests have connections of their own")
    async fn a_policy_that_takes_most_of_the_cache_is_kept(db: TestDatabase) {
        let capacity = 100_000;
        let api = Api::built(db, |app, _| {
            record_in(app, &Arc::default());
            app.inspections = Inspections::new(capacity, CompilationLimits::default());
        });
        let policy = api.policy().await;
        let rules: Value = (0..160)
            .map(|index| json!({
                "action": "ALLOW", "priority": index,
                "sources": [{"address": format!("10.0.0.{index}")}],
                "destinations": [{"address": "any"}],
            }))
            .collect();
        api.put(&format!("{policy}rules/"), &rules).await.expect(200);
        for _ in 0..3 {
            let packet = tcp("10.0.0.7", "10.9.9.9", 443);
            assert_eq!(api.verdict(&policy, &packet).await.0, "ALLOW");
        }
        let bytes = metric(&api, "fireflow_classifier_cache_bytes").await;
        assert!(bytes > capacity / 2 && bytes <= capacity, "{bytes}");
        let hits = "fireflow_classifier_cache_lookups_total{result=\"hit\"}";
        assert_eq!(metric(&api, hits).await, 2);
    }
}

db_test! {
    committed("requests have connections of their own")
    async fn what_changed_is_answered_as_what_is_compiled_anew(db: TestDatabase) {
        let api = measured(db);
        // This service caches nothing, so it reads all rules for each inspection.
        let other = Api::built(Arc::clone(&api.db), |app, _| {
            app.inspections = Inspections::new(0, CompilationLimits::default());
        });
        let policy = api.policy().await;
        let rules: Value = (0..100)
            .map(|index| json!({
                "name": format!("rule {index}"),
                "action": if index % 2 == 0 { "ALLOW" } else { "REJECT" },
                "priority": index,
                "protocols": ["tcp"],
                "sources": [{"address": format!("10.0.{}.0/24", index % 5)}],
                "destinations": [{"address": format!("10.9.0.{index}-10.9.0.{}", index + 3)}],
                "enabled": true,
                "expires_at": null,
            }))
            .collect();
        let path = format!("{policy}rules/");
        let made = api.put(&path, &rules).await.expect(200);
        assert_eq!(made["created"], 100, "{made}");
        let list = api.get(&format!("{path}?page_size=200")).await.expect(200);
        let id = |at: usize| list["items"][at]["id"].as_i64().unwrap();
        let rule = |at: usize| format!("{path}{}/", id(at));
        let packets: Vec<String> = (0..30)
            .map(|it| tcp(&format!("10.0.{}.7", it % 6), &format!("10.9.0.{}", it * 7 % 104), 443))
            .collect();
        let allow = |destination: &str, priority: i64| json!({
            "action": "ALLOW", "priority": priority, "protocols": ["tcp"],
            "sources": [{"address": "any"}], "destinations": [{"address": destination}],
        });
        let placed = |mut rule: Value| {
            rule.as_object_mut().unwrap().remove("priority");
            rule
        };
        let changes: Vec<(&str, String, Value)> = vec![
            ("POST", path.clone(), allow("10.9.0.0/26", 40)),
            ("PATCH", rule(3), json!({"action": "ALLOW"})),
            ("PATCH", rule(3), json!({"destinations": [{"address": "10.9.0.70"}]})),
            ("POST", format!("{path}?before={}", id(10)), placed(allow("10.9.0.14", 0))),
            ("DELETE", rule(7), Value::Null),
            ("POST", format!("{}restore/", rule(7)), Value::Null),
            ("POST", format!("{path}move/"), json!({"rule_ids": [id(60), id(20)], "at": "first"})),
            ("PATCH", rule(90), json!({"priority": 5})),
            ("POST", format!("{path}batch/"), json!({"operations": [
                {"op": "create", "rule": allow("10.9.0.77", 1)},
                {"op": "update", "rule_id": id(30), "patch": {"enabled": false}},
                {"op": "delete", "rule_id": id(31)},
            ]})),
            ("PATCH", policy.clone(), json!({"default_action": "ALLOW"})),
            ("PATCH", rule(50), json!({"expires_at": "2000-01-01T00:00:00Z"})),
            ("POST", format!("{path}?at=first"), placed(allow("10.9.0.99", 0))),
            ("PUT", format!("{path}?max_deletions=100"), rules.clone()),
        ];
        let updated = "fireflow_classifier_compilations_total{result=\"updated\"}";
        api.verdict(&policy, &packets[0]).await;
        for (round, (method, path, body)) in changes.into_iter().enumerate() {
            let body = (!body.is_null()).then_some(body);
            let answer = api.with(method, &path, &[], body.as_ref()).await;
            assert!(answer.status.is_success(), "{method} {path}: {}", answer.text);
            for packet in &packets {
                let path = format!("{policy}inspections/?{packet}");
                let (one, other) = (api.get(&path).await, other.get(&path).await);
                let one = one.expect(200);
                assert_eq!(one, other.expect(200), "{method} {path}");
                // The rule in the answer equals the stored rule.
                if let Some(id) = one["active_rule"]["id"].as_i64() {
                    let mut rule = api.get(&format!("{policy}rules/{id}/")).await.expect(200);
                    rule.as_object_mut().unwrap().remove("position");
                    assert_eq!(one["active_rule"], rule, "{method} {path}");
                }
            }
            if round == 5 {
                assert_eq!(metric(&api, updated).await, 6, "each by what changed alone");
            }
        }
        assert!(metric(&api, updated).await > 8);
        // A purged rule cannot be reported as changed, so the policy is compiled again.
        api.delete(&rule(0)).await.expect(204);
        api.db.execute("DELETE FROM rule WHERE deleted_at IS NOT NULL").await;
        let packet = tcp("10.0.0.7", "10.9.0.1", 443);
        let path = format!("{policy}inspections/?{packet}");
        assert_eq!(api.get(&path).await.expect(200), other.get(&path).await.expect(200));
        assert_eq!(api.get(&path).await.expect(200)["reason"], "default");
    }
}

db_test! {
    committed("requests have connections of their own")
    async fn an_inspection_asks_the_database_no_more_than_it_must(db: TestDatabase) {
        let is_sqlite = db.database.kind() == DatabaseKind::Sqlite;
        let api = measured(db);
        let policy = api.policy().await;
        for index in 0..52 {
            api.rule(&policy, &json!({"sources": [{"address": format!("10.0.0.{index}")}]})).await;
        }
        let packet = tcp("10.0.0.7", "10.9.9.9", 443);
        let asked = async || {
            let before = api.db.statements();
            api.verdict(&policy, &packet).await;
            api.db.statements() - before
        };
        // The row, then the row and the rules in one snapshot.
        assert_eq!(asked().await, 3);
        let again = if is_sqlite { 0 } else { 1 };
        assert_eq!(asked().await, again);
        assert_eq!(asked().await, again);
        // Any commit may have changed the row or its visibility.
        api.post("/firewalls/", &json!({"name": "other"})).await.expect(201);
        assert_eq!(asked().await, 1);
        assert_eq!(asked().await, again);
        api.rule(&policy, &plain_rule_at(7)).await;
        assert_eq!(asked().await, 3);
        // Visibility is checked for each client.
        let stranger = api.token_for(&[Role::Viewer], Some(&["elsewhere"]));
        let path = format!("{policy}inspections/?{packet}");
        assert_eq!(api.send("GET", &path, &stranger, &[], None).await.status, 404);
        assert_eq!(asked().await, again);
    }
}

fn plain_rule_at(priority: i32) -> Value {
    let mut rule = plain_rule();
    rule["priority"] = json!(priority);
    rule["name"] = json!("another");
    rule["destinations"] = json!([{"address": "10.0.0.1"}]);
    rule
}

db_test! {
    committed("requests have connections of their own")
    async fn while_many_ask_no_answer_is_older_than_a_write(db: TestDatabase) {
        let api = Arc::new(measured(db));
        let policy = api.policy().await;
        let rule = api.rule(&policy, &plain_rule()).await;
        let path = format!("{policy}rules/{}/", rule["id"]);
        let packet = tcp("10.0.0.7", "10.9.9.9", 443);
        let is_done = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (api, is_done) = (Arc::clone(&api), Arc::clone(&is_done));
                let (policy, packet) = (policy.clone(), packet.clone());
                tokio::spawn(async move {
                    let mut count = 0;
                    while !is_done.load(Ordering::Relaxed) {
                        api.verdict(&policy, &packet).await;
                        count += 1;
                        // On SQLite a request may complete without ever yielding.
                        tokio::task::yield_now().await;
                    }
                    count
                })
            })
            .collect();
        for round in 0..60 {
            let action = ["DENY", "ALLOW", "REJECT"][round % 3];
            api.patch(&path, &json!({"action": action})).await.expect(200);
            for _ in 0..3 {
                assert_eq!(api.verdict(&policy, &packet).await.0, action, "round {round}");
            }
        }
        is_done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.await.unwrap() > 10);
        }
    }
}

/// During a rolling deployment the previous version writes too. It only knows revisions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_version_writes_is_answered_by() {
    let api = Api::new(DatabaseKind::Postgres).await;
    let policy = api.policy().await;
    for index in 0..20 {
        let rule = json!({
            "priority": index, "sources": [{"address": format!("10.0.0.{index}")}], "action": "ALLOW",
        });
        api.rule(&policy, &rule).await;
    }
    let packet = tcp("10.0.0.7", "10.9.9.9", 443);
    let change = json!({"description": "x"});
    let rules = api.get(&format!("{policy}rules/?page_size=20")).await.expect(200);
    let rule = format!("{policy}rules/{}/", rules["items"][3]["id"]);
    for (action, other) in [("REJECT", "DENY"), ("DENY", "REJECT"), ("ALLOW", "DENY")] {
        api.verdict(&policy, &packet).await;
        let sql = format!("UPDATE rule SET action = '{action}', revision = revision + 1");
        api.db.execute(&sql).await;
        api.db.execute("UPDATE policy SET revision = revision + 1").await;
        assert_eq!(api.verdict(&policy, &packet).await.0, action);
        // A later change by this version does not hide it either.
        let sql = format!("UPDATE rule SET action = '{other}', revision = revision + 1");
        api.db.execute(&sql).await;
        api.db.execute("UPDATE policy SET revision = revision + 1").await;
        api.patch(&rule, &change).await.expect(200);
        assert_eq!(api.verdict(&policy, &packet).await.0, other);
    }
}

/// A standby without the last change of a name becomes the primary. The next name then gets the
/// revision of the lost one.
#[tokio::test]
async fn a_lost_name_of_a_firewall_is_not_shown() {
    let api = Api::new(DatabaseKind::Postgres).await;
    let policy = api.policy().await;
    api.rule(&policy, &plain_rule()).await;
    let path = format!("{policy}inspections/?{}", tcp("10.0.0.1", "10.0.0.2", 1));
    for name in ["lost", "kept"] {
        api.db.execute(&format!("UPDATE firewall SET name = '{name}'")).await;
        let answer = api.get(&path).await.expect(200);
        assert_eq!(answer["active_rule"]["filtering_policy"]["firewall"]["name"], name);
    }
}
