//! Batches: many changes at once, all or none.

use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Api, plain_rule};

fn rule(name: &str, source: &str) -> Value {
    let mut body = plain_rule();
    let members = body.as_object_mut().unwrap();
    members.remove("priority");
    members.insert("name".to_owned(), json!(name));
    members.insert("sources".to_owned(), json!([{"address": source}]));
    body
}

async fn list(api: &Api, policy: &str) -> Vec<Value> {
    let list = api.get(&format!("{policy}rules/?page_size=1000")).await.expect(200);
    list["items"].as_array().unwrap().clone()
}

fn names(rules: &[Value]) -> Vec<&str> {
    rules.iter().map(|rule| rule["name"].as_str().unwrap_or("-")).collect()
}

/// A policy with rules a, b and c at priorities 10, 20 and 30. Returns its path, the batch's path
/// and the rules.
async fn abc(api: &Api) -> (String, String, Vec<Value>) {
    let policy = api.policy().await;
    let set = json!([rule("a", "10.0.0.1"), rule("b", "10.0.0.2"), rule("c", "10.0.0.3")]);
    api.put(&format!("{policy}rules/"), &set).await.expect(200);
    let rules = list(api, &policy).await;
    let batch = format!("{policy}rules/batch/");
    (policy, batch, rules)
}

db_test! {
    async fn operations_follow_one_another_and_are_answered_in_order(api: Api) {
        let (policy, batch, rules) = abc(&api).await;
        let [a, b, c] = &rules[..] else { panic!("three rules") };
        let mut numbered = rule("by-number", "10.0.0.5");
        numbered["priority"] = json!(20);
        let operations = json!({"operations": [
            {"op": "create", "rule": rule("x", "10.0.0.4"), "before": b["id"]},
            {"op": "create", "rule": numbered},
            {"op": "update", "rule_id": a["id"], "patch": {"description": "new"}, "if_revision": 2},
            {"op": "move", "rule_ids": [a["id"], b["id"]], "at": "last"},
            {"op": "delete", "rule_id": c["id"], "if_revision": 2},
            {"op": "update", "rule_id": a["id"], "patch": {}},
        ]});
        let answer = api.post(&batch, &operations).await.expect(200);
        assert_eq!((&answer["revision"], &answer["rule_count"]), (&json!(3), &json!(4)));
        let items = answer["items"].as_array().unwrap();
        assert_eq!(items.len(), 6);
        assert_eq!(items[0]["rule"]["name"], "x");
        assert_eq!(items[1]["rule"]["name"], "by-number");
        assert_eq!(items[2]["rule"]["description"], "new");
        assert_eq!(items[3]["rule_ids"], json!([a["id"], b["id"]]));
        assert_eq!(items[4], json!({"rule_id": c["id"]}));
        assert_eq!(items[5]["rule"], items[2]["rule"]);

        let after = list(&api, &policy).await;
        assert_eq!(names(&after), ["x", "by-number", "a", "b"]);
        for (item, place) in [(0, 0), (1, 1), (2, 2)] {
            let id = &items[item]["rule"]["id"];
            assert_eq!(*id, after[place]["id"]);
            let stored = api.get(&format!("{policy}rules/{id}/")).await.expect(200);
            assert_eq!(items[item]["rule"], stored, "the answer is what is stored");
        }
        assert_eq!(api.db.integers("SELECT rule_count * 100 + entry_count FROM policy").await, [408]);
        let events = "SELECT count(*) FROM audit_event WHERE resource = 'firewall_rule'";
        assert_eq!(api.db.integers(events).await, [3 + 2 + 2 + 1]);
    }
}

db_test! {
    async fn one_fault_undoes_all_and_each_has_its_index(api: Api) {
        let (policy, batch, rules) = abc(&api).await;
        let [a, b, _] = &rules[..] else { panic!("three rules") };
        let operations = json!({"operations": [
            {"op": "delete", "rule_id": a["id"]},
            {"op": "update", "rule_id": a["id"], "patch": {"log": true}},
            {"op": "update", "rule_id": b["id"], "patch": {"log": true}, "if_revision": 1},
            {"op": "update", "rule_id": b["id"], "patch": {"icmp_type": 8}},
            {"op": "create", "rule": rule("c", "10.0.0.7"), "at": "last"},
            {"op": "create", "rule": rule("y", "10.0.0.2"), "at": "last"},
            {"op": "create", "rule": rule("z", "10.0.0.8"), "after": 999_999},
            {"op": "move", "rule_ids": [999_999], "at": "first"},
            {"op": "move", "rule_ids": [b["id"]], "before": b["id"]},
        ]});
        let problem = api.post(&batch, &operations).await.problem(422, "invalid");
        let errors = problem["errors"].as_array().unwrap();
        let found: Vec<&str> = errors.iter().map(|it| it["pointer"].as_str().unwrap()).collect();
        assert_eq!(found, [
            "#/operations/1/rule_id", "#/operations/2/if_revision",
            "#/operations/3/patch/icmp_type", "#/operations/6/after",
            "#/operations/7/rule_ids/0", "#/operations/8/rule_ids",
            "#/operations/4", "#/operations/5",
        ]);
        let codes: Vec<Option<&str>> = errors.iter().map(|it| it["code"].as_str()).collect();
        assert_eq!(codes, [
            Some("not_found"), Some("revision_mismatch"), None, Some("not_found"),
            Some("not_found"), None, Some("name_taken"), Some("equal_rule"),
        ]);
        assert_eq!((&errors[6]["existing_id"], &errors[7]["existing_id"]), (&rules[2]["id"], &b["id"]));
        // The error names both conflicting operations.
        let twice = json!({"operations": [
            {"op": "create", "rule": rule("x", "10.0.0.8"), "at": "last"},
            {"op": "create", "rule": rule("y", "10.0.0.8"), "at": "last"},
            {"op": "create", "rule": rule("x", "10.0.0.9"), "at": "last"},
            {"op": "update", "rule_id": b["id"], "patch": {}, "if_match": "W/\"1.2\""},
            {"op": "update", "rule_id": b["id"], "patch": {}, "if_match": "\"abc\""},
        ]});
        let problem = api.post(&batch, &twice).await.problem(422, "invalid");
        let found: Vec<[&Value; 3]> = problem["errors"].as_array().unwrap().iter()
            .map(|it| [&it["pointer"], &it["code"], &it["conflicts_with"]]).collect();
        assert_eq!(json!(found), json!([
            ["#/operations/3/if_match", "weak_tag", null],
            ["#/operations/4/if_match", "unknown_tag", null],
            ["#/operations/1", "equal_rule", "#/operations/0"],
            ["#/operations/2", "name_taken", "#/operations/0"],
        ]));
        let malformed = json!({"operations": [
            {"op": "creat", "rule": {}},
            {"op": "create", "rule": {"nmae": "x"}, "at": "last"},
            {"op": "create", "rule": rule("n", "10.0.0.9")},
            {"op": "create", "rule": plain_rule(), "at": "first"},
            {"op": "update", "rule_id": 1, "patch": {"name": 7}},
            {"op": "update", "rule_id": "1", "patch": {}},
            {"op": "delete"},
            {"op": "delete", "rule_id": 1, "rule": {}},
            {"op": "move", "rule_ids": [1]},
            7,
        ]});
        let problem = api.post(&batch, &malformed).await.problem(422, "invalid");
        let errors = problem["errors"].as_array().unwrap();
        for pointer in [
            "#/operations/0/op", "#/operations/1/rule/nmae", "#/operations/1/rule/action",
            "#/operations/2/rule/priority", "#/operations/3/rule/priority",
            "#/operations/4/patch/name", "#/operations/5/rule_id", "#/operations/6/rule_id",
            "#/operations/7/rule", "#/operations/8", "#/operations/9",
        ] {
            assert!(errors.iter().any(|it| it["pointer"] == pointer), "{pointer}: {problem}");
        }
        assert_eq!(list(&api, &policy).await, rules, "nothing was changed");
        let many: Value = (0..10_001).map(|_| json!({"op": "delete", "rule_id": 1})).collect();
        api.post(&batch, &json!({"operations": many})).await.problem(422, "invalid");
    }
}

db_test! {
    async fn the_end_state_counts(api: Api) {
        let (policy, batch, rules) = abc(&api).await;
        let [a, b, c] = &rules[..] else { panic!("three rules") };
        // Two rules swap names, and a new rule takes a deleted rule's content and name.
        let operations = json!({"operations": [
            {"op": "update", "rule_id": a["id"], "patch": {"name": "b"}},
            {"op": "update", "rule_id": b["id"], "patch": {"name": "a"}},
            {"op": "create", "rule": rule("c", "10.0.0.3"), "at": "first"},
            {"op": "delete", "rule_id": c["id"]},
        ]});
        api.post(&batch, &operations).await.expect(200);
        assert_eq!(names(&list(&api, &policy).await), ["c", "b", "a"]);
        // A batch that changes nothing writes nothing.
        let before = api.get(&policy).await.expect(200);
        let nothing = json!({"operations": [
            {"op": "update", "rule_id": a["id"], "patch": {"name": "b"}},
            {"op": "move", "rule_ids": [a["id"]], "before": b["id"]},
        ]});
        let answer = api.post(&batch, &nothing).await.expect(200);
        assert_eq!(answer["revision"], before["revision"]);
        api.post(&batch, &json!({"operations": []})).await.expect(200);

        // Duplicates that were kept on purpose are no fault, but a new one is.
        let keep = format!("{policy}rules/?duplicates=keep&at=last");
        let mut twin = rule("twin", "10.0.0.1");
        twin.as_object_mut().unwrap().remove("name");
        let twin = api.post(&keep, &twin).await.expect(201);
        let touch = json!({"operations": [
            {"op": "update", "rule_id": twin["id"], "patch": {"log": true}},
            {"op": "update", "rule_id": a["id"], "patch": {"log": true}},
        ]});
        api.post(&batch, &touch).await.expect(200);
        let third = json!({"operations": [
            {"op": "create", "rule": rule("third", "10.0.0.1"), "at": "last"},
        ]});
        api.post(&batch, &third).await.problem(422, "invalid");
        api.post(&format!("{batch}?duplicates=keep"), &third).await.expect(200);
        assert_eq!(list(&api, &policy).await.len(), 5);
    }
}

db_test! {
    async fn a_batch_gives_what_its_operations_give_one_by_one(api: Api) {
        let mut state = 11_u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        for round in 0..6 {
            let mut policies = Vec::new();
            for side in ["batch", "single"] {
                let firewall = json!({"name": format!("{side} {round}")});
                let firewall = api.post("/firewalls/", &firewall).await.expect(201);
                let path = format!("/firewalls/{}/filtering-policies/", firewall["id"]);
                let policy = json!({"name": "in", "default_action": "DENY"});
                let policy = api.post(&path, &policy).await.expect(201);
                let policy = format!("{path}{}/", policy["id"]);
                let set: Value = (0..8)
                    .map(|index| {
                        let mut rule = rule(&format!("r{index}"), &format!("10.0.0.{index}"));
                        rule["priority"] = json!(index / 2);
                        rule
                    })
                    .collect();
                api.put(&format!("{policy}rules/"), &set).await.expect(200);
                policies.push(policy);
            }
            let stored = [list(&api, &policies[0]).await, list(&api, &policies[1]).await];
            // Scripts refer to rules by their initial index, so that both policies get the same
            // operations.
            let mut alive: Vec<usize> = (0..8).collect();
            let mut scripts: [Vec<Value>; 2] = [Vec::new(), Vec::new()];
            for step in 0..12 {
                let pick = alive[random(alive.len())];
                let other = alive[random(alive.len())];
                let kind = random(5);
                for (script, rules) in scripts.iter_mut().zip(&stored) {
                    let (id, beside) = (&rules[pick]["id"], &rules[other]["id"]);
                    let new = rule(&format!("n{step}"), &format!("10.0.1.{step}"));
                    script.push(match kind {
                        0 => json!({"op": "create", "rule": new, "after": beside}),
                        1 => json!({"op": "update", "rule_id": id, "patch": {"priority": step % 4}}),
                        2 if pick != other => json!({"op": "move", "rule_ids": [id], "before": beside}),
                        3 if alive.len() > 4 => json!({"op": "delete", "rule_id": id}),
                        _ => json!({"op": "update", "rule_id": id, "patch": {"description": format!("{step}")}}),
                    });
                }
                if kind == 3 && alive.len() > 4 {
                    alive.retain(|index| *index != pick);
                }
            }
            let [together, apart] = scripts;
            api.post(&format!("{}rules/batch/", policies[0]), &json!({"operations": together}))
                .await
                .expect(200);
            let rules = format!("{}rules/", policies[1]);
            for operation in apart {
                let one = format!("{rules}{}/", operation["rule_id"]);
                match operation["op"].as_str().unwrap() {
                    "create" => {
                        let path = format!("{rules}?after={}", operation["after"]);
                        api.post(&path, &operation["rule"]).await.expect(201);
                    }
                    "update" => drop(api.patch(&one, &operation["patch"]).await.expect(200)),
                    "delete" => drop(api.delete(&one).await.expect(204)),
                    _ => {
                        let body = json!({
                            "rule_ids": operation["rule_ids"], "before": operation["before"],
                        });
                        api.post(&format!("{rules}move/"), &body).await.expect(200);
                    }
                }
            }
            let content = |rules: &[Value]| -> Vec<Value> {
                rules.iter().map(|it| json!([it["name"], it["priority"], it["description"]])).collect()
            };
            let results = [list(&api, &policies[0]).await, list(&api, &policies[1]).await];
            assert_eq!(content(&results[0]), content(&results[1]), "round {round}");
        }
    }
}

db_test! {
    async fn a_rule_that_moves_and_gets_its_priority_again_has_moved(api: Api) {
        let policy = api.policy().await;
        let mut ids = Vec::new();
        for (name, priority, host) in [("w", 1, 1), ("a", 5, 2), ("x", 6, 3), ("y", 7, 4), ("z", 8, 5)] {
            let mut body = rule(name, &format!("10.0.0.{host}"));
            body["priority"] = json!(priority);
            ids.push(api.post(&format!("{policy}rules/"), &body).await.expect(201)["id"].clone());
        }
        let before = api.get(&policy).await.expect(200)["revision"].as_i64().unwrap();
        let events = api.get("/audit-events/").await.expect(200)["total"].as_i64().unwrap();
        let operations = json!({"operations": [
            {"op": "move", "rule_ids": [ids[1]], "after": ids[2]},
        ]});
        let answer = api.post(&format!("{policy}rules/batch/"), &operations).await.expect(200);
        assert_eq!(answer["revision"], before + 1, "{answer}");
        assert_eq!(names(&list(&api, &policy).await), ["w", "x", "a", "y", "z"]);
        assert_eq!(api.get("/audit-events/").await.expect(200)["total"], events + 1);
        // A move that moves nothing changes nothing.
        let answer = api.post(&format!("{policy}rules/batch/"), &operations).await.expect(200);
        assert_eq!(answer["revision"], before + 1, "{answer}");
    }
}

db_test! {
    async fn deleted_rules_come_back_in_a_batch(api: Api) {
        let policy = api.policy().await;
        for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3"), ("d", "10.0.0.4")] {
            let rule = json!({"name": name, "sources": [{"address": address}], "labels": {"app": name}});
            api.rule(&policy, &rule).await;
        }
        let before = api.get(&format!("{policy}rules/1/")).await.expect(200);
        for id in [1, 2] {
            api.delete(&format!("{policy}rules/{id}/")).await.expect(204);
        }
        api.rule(&policy, &json!({"name": "b", "sources": [{"address": "10.0.0.2"}]})).await;
        let batch = format!("{policy}rules/batch/");
        let operations = |operations: Value| json!({"operations": operations});
        // One rule that cannot be restored stops the whole batch.
        let body = operations(json!([
            {"op": "restore", "rule_id": 1},
            {"op": "restore", "rule_id": 2},
            {"op": "restore", "rule_id": 77},
            {"op": "restore", "rule_id": 3, "name": "else"},
        ]));
        let problem = api.post(&batch, &body).await.problem(422, "invalid");
        let mut pointers: Vec<&str> = problem["errors"].as_array().unwrap().iter()
            .map(|error| error["pointer"].as_str().unwrap()).collect();
        pointers.sort();
        assert_eq!(pointers, ["#/operations/1", "#/operations/1", "#/operations/2/rule_id", "#/operations/3/name"]);
        assert_eq!(api.get(&policy).await.expect(200)["rule_count"], 3);

        let body = operations(json!([
            {"op": "restore", "rule_id": 1},
            {"op": "update", "rule_id": 1, "patch": {"log": true}},
            {"op": "restore", "rule_id": 2, "name": "b of old", "duplicates": "keep"},
            {"op": "delete", "rule_id": 3},
            {"op": "restore", "rule_id": 3},
            {"op": "restore", "rule_id": 4},
            {"op": "create", "rule": {"action": "DENY", "priority": 7, "sources": [{"address": "10.9.0.0/16"}], "destinations": [{"address": "any"}]}},
        ]));
        let events = api.get("/audit-events/?page_size=1").await.expect(200)["total"].as_i64().unwrap();
        let done = api.post(&batch, &body).await.expect(200);
        let items = done["items"].as_array().unwrap();
        assert_eq!((items.len(), &done["rule_count"]), (7, &json!(6)));
        assert_eq!((&items[0]["rule"]["name"], &items[0]["rule"]["log"]), (&json!("a"), &json!(true)));
        assert_eq!(items[2]["rule"]["name"], "b of old");
        assert_eq!((&items[3]["rule_id"], &items[5]["rule_id"]), (&json!(3), &json!(4)));
        for item in items {
            if let Some(id) = item["rule"]["id"].as_i64() {
                let shown = api.get(&format!("{policy}rules/{id}/")).await.expect(200);
                assert_eq!(shown, item["rule"]);
            }
        }
        let after = api.get(&format!("{policy}rules/1/")).await.expect(200);
        for member in ["priority", "sources", "destinations", "labels", "created_at"] {
            assert_eq!(after[member], before[member], "{member}");
        }
        // Two rules were restored and one is new. A rule that was created and deleted within the
        // batch left no event.
        let trail = api.get("/audit-events/?order_by=-id&page_size=3").await.expect(200);
        assert_eq!(trail["total"], events + 3);
        let actions: Vec<&str> = trail["items"].as_array().unwrap().iter()
            .map(|event| event["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["create", "restore", "restore"]);
        // Filters find the restored rules again.
        for filter in ["labels.app = a", "sources.address CONTAINS 10.0.0.1"] {
            let query = format!("{policy}rules/?filter={}", crate::support::encoded(filter));
            let list = api.get(&query).await.expect(200);
            assert_eq!((&list["total"], &list["items"][0]["id"]), (&json!(1), &json!(1)), "{filter}");
        }
        // The rule exists already, so a second restore changes nothing.
        let again = operations(json!([{"op": "restore", "rule_id": 1}]));
        assert_eq!(api.post(&batch, &again).await.expect(200)["revision"], done["revision"]);
        for bad in [
            json!({"op": "restore"}),
            json!({"op": "restore", "rule_id": 1, "if_revision": 3}),
            json!({"op": "restore", "rule_id": 1, "duplicates": true}),
            json!({"op": "delete", "rule_id": 1, "name": "x"}),
        ] {
            api.post(&batch, &operations(json!([bad]))).await.problem(422, "invalid");
        }
        // A batch that restores a deleted rule and deletes it again leaves it as it was.
        api.delete(&format!("{policy}rules/1/")).await.expect(204);
        let body = operations(json!([
            {"op": "restore", "rule_id": 1}, {"op": "delete", "rule_id": 1},
            {"op": "restore", "rule_id": 1, "name": "z"}, {"op": "delete", "rule_id": 1},
        ]));
        let revision = api.get(&policy).await.expect(200)["revision"].clone();
        assert_eq!(api.post(&batch, &body).await.expect(200)["revision"], revision);
        api.get(&format!("{policy}rules/1/")).await.problem(404, "not_found");
    }
}
