//! Walks the description: every operation refuses the clients that it must, and none is left out.

use fireflow_domain::actor::Role;
use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Api, written_members};

struct Operation {
    id: String,
    method: String,
    path: String,
    has_ids: bool,
    body: Option<Value>,
    is_open: bool,
}

/// The operations that need no token.
const OPEN: [&str; 2] = ["getLiveness", "getReadiness"];

fn operations(document: &Value, ids: [&Value; 3]) -> Vec<Operation> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let [firewall, policy, rule] = ids;
            let concrete = path
                .replace("{firewall_id}", &firewall.to_string())
                .replace("{filtering_policy_id}", &policy.to_string())
                .replace("{rule_id}", &rule.to_string());
            assert!(!concrete.contains('{'), "{concrete}");
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            operations.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase(),
                has_ids: path.contains('{'),
                path: concrete,
                body: (!schema.is_null()).then(|| example(document, schema)),
                is_open: operation.get("security").is_none(),
            });
        }
    }
    operations
}

/// The description's example of a body.
fn example(document: &Value, schema: &Value) -> Value {
    if schema["type"] == "array" {
        return json!([example(document, &schema["items"])]);
    }
    let name = schema["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
    let example = &document["components"]["schemas"][name]["example"];
    assert!(example.is_object(), "{name} has no example");
    example.clone()
}

fn needed_role(operation: &Operation) -> Option<Role> {
    match (operation.id.as_str(), operation.method.as_str()) {
        ("whoami", _) => None,
        ("getHealth" | "getMetrics", _) => Some(Role::HealthCheck),
        ("getAuditEvents", _) => Some(Role::Editor),
        ("inspectPackets", _) | (_, "GET") => Some(Role::Viewer),
        _ => Some(Role::Editor),
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
        let all = operations(&api.document, [&firewall["id"], &policy["id"], &rule["id"]]);
        assert_eq!(all.len(), 31, "a new operation? see whether it is described as it should be");

        let before = api.db.integers("SELECT count(*) FROM audit_event").await;
        let blue = api.token_for(&Role::ALL, Some(&["blue"]));
        for operation in &all {
            let Operation { id, method, path, body, .. } = operation;
            if OPEN.contains(&id.as_str()) {
                assert!(operation.is_open, "{id}");
                continue;
            }
            assert!(!operation.is_open, "{id} asks for no token");
            let none = api.raw(method, path, &[], vec![]).await;
            none.problem(401, "unauthenticated");
            let bad = api.send(method, path, "not.a.token", &[], body.as_ref()).await;
            bad.problem(401, "unauthenticated");
            if let Some(role) = needed_role(operation) {
                for small in Role::ALL.into_iter().filter(|small| !small.holds(role)) {
                    let token = api.token_for(&[small], None);
                    // The role is checked first: neither the body nor the query is read.
                    let path = format!("{path}?nonsense");
                    let answer = api.send(method, &path, &token, &[], Some(&json!("nonsense"))).await;
                    answer.problem(403, "forbidden");
                }
            }
            if operation.has_ids {
                let path = if id == "inspectPacket" {
                    let packet = crate::support::tcp("10.0.0.1", "10.0.0.2", 1);
                    format!("{path}?{packet}")
                } else {
                    path.clone()
                };
                let answer = api.send(method, &path, &blue, &[], body.as_ref()).await;
                answer.problem(404, "not_found");
            }
        }
        assert_eq!(api.db.integers("SELECT count(*) FROM audit_event").await, before);
        assert_eq!(api.get(&policy_path).await.expect(200)["rule_count"], 1);
    }
}

/// The id that examples use for rules; no rule has it.
const NOBODYS_ID: i64 = fireflow_domain::ids::MAX_ID;

/// A body with the id of an existing rule.
fn with_rule(body: &Value, rule: &Value) -> Value {
    match body {
        Value::Number(_) if *body == NOBODYS_ID => rule.clone(),
        Value::Array(items) => items.iter().map(|item| with_rule(item, rule)).collect(),
        Value::Object(members) => Value::Object(
            members.iter().map(|(name, value)| (name.clone(), with_rule(value, rule))).collect(),
        ),
        other => other.clone(),
    }
}

db_test! {
    async fn every_example_works_as_it_stands(api: Api) {
        let mut ids = [json!(1), json!(1), json!(1)];
        let order = |id: &str| match id {
            "createFirewall" => 0,
            "createFilteringPolicy" => 1,
            "createRule" => 2,
            "replaceRules" => 4,
            "deleteRuleById" => 5,
            "deleteFilteringPolicyById" => 6,
            "deleteFirewallById" => 7,
            _ => 3,
        };
        let mut names: Vec<String> = operations(&api.document, [&ids[0], &ids[1], &ids[2]])
            .into_iter()
            .map(|operation| operation.id)
            .collect();
        names.sort_by_key(|id| order(id));
        for name in names {
            let [firewall, policy, rule] = &ids;
            // In a policy with rules, the example's set would delete them; the next test covers
            // that.
            let empty = match name.as_str() {
                "replaceRules" => {
                    let list = format!("/firewalls/{firewall}/filtering-policies/");
                    let body = json!({"name": "without rules", "default_action": "DENY"});
                    Some(api.post(&list, &body).await.expect(201)["id"].clone())
                }
                _ => None,
            };
            let policy = empty.as_ref().unwrap_or(policy);
            let all = operations(&api.document, [firewall, policy, rule]);
            let operation = all.into_iter().find(|operation| operation.id == name).unwrap();
            let Operation { method, path, body, .. } = operation;
            let path = if name == "inspectPacket" {
                let examples: Vec<String> = fireflow_web::described::INSPECTION
                    .iter()
                    .filter_map(|param| Some(format!("{}={}", param.name, param.example?)))
                    .collect();
                format!("{path}?{}", examples.join("&"))
            } else {
                path
            };
            // A user must fill in the ids of a body, like those of the path.
            let body = body.map(|body| with_rule(&body, rule));
            let answer = api.with(&method, &path, &[], body.as_ref()).await;
            assert!(answer.status.is_success(), "{name}: {}", answer.text);
            let described = &api.document["paths"];
            if name == "inspectPacket" {
                assert_eq!(answer.json()["reason"], "rule", "the examples go together");
            }
            let is_described = described.as_object().unwrap().values().any(|methods| {
                methods[method.to_lowercase()]["operationId"] == name.as_str()
                    && !methods[method.to_lowercase()]["responses"][answer.status.as_str()].is_null()
            });
            assert!(is_described, "{name} answers {}", answer.status);
            if let Some(slot) = ids.get_mut(order(&name)) {
                *slot = answer.json()["id"].clone();
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
            for operation in operations(&api.document, [&firewall, &policy, &rule]) {
                let Operation { id, method, path, body, .. } = operation;
                if method == "GET" || method == "DELETE" {
                    continue;
                }
                let answer = api.with(&method, &path, &[], body.as_ref()).await;
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
    let lists = [
        fireflow_web::described::FIREWALLS,
        fireflow_web::described::POLICIES,
        fireflow_web::described::RULES,
        fireflow_web::described::AUDIT_EVENTS,
    ];
    for param in lists.into_iter().flatten() {
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
