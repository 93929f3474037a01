//! Walks the description: every operation refuses the clients that it must, and none is left out.

use std::collections::BTreeSet;

use fireflow_domain::actor::Role;
use fireflow_storage::db_test;
use fireflow_web::described::{Access, Effect, OPERATIONS, Operation};
use serde_json::{Value, json};

use crate::operations::{Described, operations, with_finding};
use crate::support::{Api, written_members};

db_test! {
    async fn rows_and_the_description_agree(api: Api) {
        let all = operations(&api.document);
        let described: BTreeSet<&str> = all.iter().map(|operation| operation.row.id).collect();
        let rows: BTreeSet<&str> = OPERATIONS.into_iter().flatten().map(|row| row.id).collect();
        assert_eq!(described, rows);
        assert_eq!(rows.len(), OPERATIONS.into_iter().flatten().count(), "two rows of one operation");
        for operation in &all {
            let Described { row, method, described, .. } = operation;
            let id = row.id;
            let named = |place: &str| -> Vec<&str> {
                let all = described["parameters"].as_array().unwrap().iter();
                let all = all.filter(|it| it["in"] == place);
                all.map(|it| it["name"].as_str().unwrap()).collect()
            };
            let parameters: Vec<&str> = row.parameters().map(|param| param.name).collect();
            assert_eq!(named("query"), parameters, "{id}");
            let mut headers = Vec::new();
            headers.extend(row.is_conditional.then_some("If-Match"));
            headers.extend((row.is_conditional && !row.writes()).then_some("If-None-Match"));
            headers.extend((row.writes() && method == "POST").then_some("Idempotency-Key"));
            headers.extend(row.writes().then_some("Change-Reason"));
            assert_eq!(named("header"), headers, "{id}");
            assert_eq!(described.get("security").is_some(), row.access != Access::Open, "{id}");
            let responses = described["responses"].as_object().unwrap();
            let is_answered = |status: u16| responses.contains_key(&status.to_string());
            for status in [409, 428] {
                assert_eq!(is_answered(status), row.statuses.contains(&status), "{id} {status}");
            }
            assert_eq!(is_answered(412), row.is_conditional, "{id}");
            assert!(row.statuses.iter().all(|status| is_answered(*status)), "{id}");
            assert_eq!(is_answered(304), row.is_conditional && !row.writes(), "{id}");
            assert_eq!(is_answered(201), row.effect == Effect::Creates, "{id}");
            assert_eq!(is_answered(204), row.effect == Effect::Deletes, "{id}");
            assert_eq!(method == "DELETE", row.effect == Effect::Deletes, "{id}");
            assert!(method == "POST" || row.writes() != (method == "GET"), "{id}");
        }
    }
}

db_test! {
    async fn every_operation_refuses_whom_it_must(api: Api) {
        let firewall = json!({"name": "theirs", "tenant": "red"});
        let firewall = api.post("/firewalls/", &firewall).await.expect(201);
        let policies = format!("/firewalls/{}/filtering-policies/", firewall["id"]);
        let policy = json!({"name": "in", "default_action": "DENY"});
        let policy = api.post(&policies, &policy).await.expect(201);
        let policy_path = format!("{policies}{}/", policy["id"]);
        let rule = api.rule(&policy_path, &json!({})).await;
        let ids = [&firewall["id"], &policy["id"], &rule["id"]].map(Value::clone);

        let before = api.db.integers("SELECT count(*) FROM audit_event").await;
        let blue = api.token_for(&Role::ALL, Some(&["blue"]));
        for operation in operations(&api.document).iter().filter(|operation| operation.needs_token()) {
            let Described { row, method, body, .. } = operation;
            let path = &operation.path(&ids);
            let none = api.raw(method, path, &[], vec![]).await;
            none.problem(401, "unauthenticated");
            let bad = api.send(method, path, "not.a.token", &[], body.as_ref()).await;
            bad.problem(401, "unauthenticated");
            if let Access::With(role) = row.access {
                for small in Role::ALL.into_iter().filter(|small| !small.holds(role)) {
                    let token = api.token_for(&[small], None);
                    // The role is checked first: neither the body nor the query is read.
                    let path = format!("{path}?nonsense");
                    let answer = api.send(method, &path, &token, &[], Some(&json!("nonsense"))).await;
                    answer.problem(403, "forbidden");
                }
            }
            if operation.depth() > 0 {
                let target = operation.target(&ids);
                let answer = api.send(method, &target, &blue, &[], body.as_ref()).await;
                answer.problem(404, "not_found");
            }
        }
        assert_eq!(api.db.integers("SELECT count(*) FROM audit_event").await, before);
        assert_eq!(api.get(&policy_path).await.expect(200)["rule_count"], 1);
    }
}

db_test! {
    async fn every_example_works_as_it_stands(api: Api) {
        let mut ids = [json!(1), json!(1), json!(1)];
        for operation in operations(&api.document) {
            let Described { row, method, described, .. } = &operation;
            let (id, [firewall, _, rule]) = (row.id, &ids);
            // In a policy with rules, the example's set would delete them; the next test covers
            // that.
            let mut of = ids.clone();
            if row.statuses.contains(&428) {
                let list = format!("/firewalls/{firewall}/filtering-policies/");
                let body = json!({"name": "without rules", "default_action": "DENY"});
                of[1] = api.post(&list, &body).await.expect(201)["id"].clone();
            }
            // The role of the row suffices.
            let token = match row.access {
                Access::With(role) => api.token_for(&[role], None),
                Access::AnyRole | Access::Open => api.token_for(&[Role::ALL[0]], None),
            };
            let path = with_finding(&api, operation.target(&of)).await;
            let body = operation.body_with(rule);
            let answer = api.send(method, &path, &token, &[], body.as_ref()).await;
            assert!(answer.status.is_success(), "{id}: {}", answer.text);
            if id == "inspectPacket" {
                assert_eq!(answer.json()["reason"], "rule", "the examples go together");
            }
            let is_described = !described["responses"][answer.status.as_str()].is_null();
            assert!(is_described, "{id} answers {}", answer.status);
            if row.effect == Effect::Creates {
                ids[operation.depth()] = answer.json()["id"].clone();
            }
        }
    }
}

db_test! {
    async fn no_example_harms_what_is_there(api: Api) {
        // With one rule, with several, and with other rules that have the names from the examples.
        for names in [vec!["web-in"], vec!["a", "web-in", "no-telnet"], vec!["first", "second"]] {
            let firewall = json!({"name": format!("edge {}", names.join(" "))});
            let firewall = api.post("/firewalls/", &firewall).await.expect(201)["id"].clone();
            let policies = format!("/firewalls/{firewall}/filtering-policies/");
            let policy = json!({"name": "in", "default_action": "ALLOW"});
            let policy = api.post(&policies, &policy).await.expect(201)["id"].clone();
            let policy_path = format!("{policies}{policy}/");
            for (index, name) in names.iter().enumerate() {
                let ends = json!([{"address": format!("192.0.2.{index}")}]);
                api.rule(&policy_path, &json!({"name": name, "sources": ends, "priority": index})).await;
            }
            let list = format!("{policy_path}rules/?page_size=1000");
            // The members, except the priorities and labels, in rule order.
            let state = async || {
                let rules = api.get(&list).await.expect(200)["items"].clone();
                let rules = rules.as_array().unwrap().clone();
                let kept = |rule: &Value| -> Vec<Value> {
                    // One example adds a label.
                    let names = ["id"].into_iter().chain(written_members());
                    names.filter(|it| *it != "labels").map(|it| rule[it].clone()).collect()
                };
                let rules: Vec<_> = rules.iter().map(kept).collect();
                (rules, api.get(&policy_path).await.expect(200)["default_action"].clone())
            };
            let (before, default_action) = state().await;
            let rule = before[0][0].clone();
            let ids = [firewall, policy, rule];
            for operation in operations(&api.document) {
                let Described { row, method, body, .. } = &operation;
                let id = row.id;
                if method == "GET" || method == "DELETE" {
                    continue;
                }
                let path = with_finding(&api, operation.path(&ids)).await;
                let answer = api.with(method, &path, &[], body.as_ref()).await;
                let is_good = answer.status.is_success();
                let is_refused = [409, 422, 428].contains(&answer.status.as_u16());
                assert!(is_good || is_refused, "{id}: {}", answer.text);
                let (after, default_after) = state().await;
                let of_before: Vec<_> =
                    after.iter().filter(|it| before.iter().any(|old| old[0] == it[0])).collect();
                assert_eq!(of_before, before.iter().collect::<Vec<_>>(), "{id} changed what was there");
                assert_eq!(default_after, default_action, "{id}");
                if id == "replaceRules" {
                    answer.problem(428, "deletion_count_required");
                }
            }
        }
    }
}

#[test]
fn nothing_that_is_filled_in_hides_a_part_of_a_list() {
    let rows = OPERATIONS.into_iter().flatten();
    // The verdicts of a firewall's policies are pages too, but of one packet, which must be given.
    let is_list = |row: &&Operation| {
        let mut parameters = row.parameters();
        parameters.clone().any(|param| param.name == "page")
            && !parameters.any(|param| param.is_required())
    };
    let lists = rows.filter(is_list);
    assert!(lists.clone().count() >= 6);
    for param in lists.flat_map(|row| row.parameters()) {
        let described = param.describe();
        // Swagger UI would fill in each of these values and send it.
        for filled in [
            &described["example"],
            &described["examples"],
            &described["schema"]["example"],
            &described["schema"]["default"],
        ] {
            assert!(filled.is_null(), "{described}");
        }
    }
}
