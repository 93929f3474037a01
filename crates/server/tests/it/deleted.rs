//! Deleted resources: listed, restored and purged.

use std::time::Duration;

use fireflow_domain::actor::Role;
use fireflow_domain::store::Purged;
use fireflow_domain::time::{Clock, Instant};
use fireflow_domain::usecase::retention;
use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Api, tcp};

const POLICY: &str = "/firewalls/1/filtering-policies/1/";

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}

/// A firewall, a policy, and rules `a` and `b`.
async fn fill(api: &Api) {
    api.post("/firewalls/", &json!({"name": "edge", "labels": {"site": "fra"}})).await.expect(201);
    let policy = json!({"name": "in", "default_action": "DENY"});
    api.post("/firewalls/1/filtering-policies/", &policy).await.expect(201);
    for (name, address) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        let rule = json!({
            "name": name, "sources": [{"address": address, "port": 7}], "ports": [{"number": 443}],
            "labels": {"app": name},
        });
        api.rule(POLICY, &rule).await;
    }
}

async fn delete(api: &Api, path: &str) {
    api.with("DELETE", path, &[], None).await.expect(204);
}

async fn restore(api: &Api, path: &str) -> Value {
    api.with("POST", &format!("{path}restore/"), &[], None).await.expect(200)
}

async fn verdict(api: &Api) -> Value {
    let packet = tcp("10.0.0.1", "10.0.0.9", 443).replace("source_port=40000", "source_port=7");
    api.get(&format!("{POLICY}inspections/?{packet}")).await.expect(200)["reason"].clone()
}

db_test! {
    async fn a_deleted_rule_comes_back_as_it_was(api: Api) {
        fill(&api).await;
        let path = format!("{POLICY}rules/1/");
        let before = api.get(&path).await.expect(200);
        delete(&api, &path).await;
        assert_eq!(verdict(&api).await, "default");
        for list in [format!("{POLICY}rules/?deleted=true"), "/rules/?deleted=true".to_owned()] {
            let list = api.get(&list).await.expect(200);
            assert_eq!((names(&list), &list["total"]), (vec!["a"], &json!(1)));
            let item = &list["items"][0];
            assert_eq!(item["deleted_by"], "tester");
            assert_eq!(item["deleted_at"], "2026-11-24T12:00:00.000000Z");
        }
        let revision = api.get(POLICY).await.expect(200)["revision"].as_i64().unwrap();
        let after = restore(&api, &path).await;
        for member in ["name", "priority", "sources", "ports", "labels", "created_at", "updated_at"] {
            assert_eq!(after[member], before[member], "{member}");
        }
        assert_eq!(after["revision"], revision + 1);
        assert!(after.get("deleted_at").is_none());
        assert_eq!(verdict(&api).await, "rule");
        // Filters find it again.
        for filter in [
            "sources.address CONTAINS 10.0.0.1",
            "ports = 443 AND name = a",
            "labels.app = a",
            "sources.port = 7 AND name = a",
        ] {
            let query = format!("/rules/?filter={}", filter.replace(' ', "%20").replace('=', "%3D"));
            let list = api.get(&query).await.expect(200);
            assert_eq!(names(&list), ["a"], "{filter}");
        }
        let policy = api.get(POLICY).await.expect(200);
        assert_eq!((&policy["rule_count"], &policy["revision"]), (&json!(2), &json!(revision + 1)));
        // A second restore changes nothing.
        assert_eq!(restore(&api, &path).await, after);
        let events = api.get("/audit-events/?action=restore").await.expect(200);
        assert_eq!((&events["total"], &events["items"][0]["after"]["name"]), (&json!(1), &json!("a")));
    }
}

db_test! {
    async fn parents_come_back_with_what_was_hidden_with_them_and_nothing_else(api: Api) {
        fill(&api).await;
        delete(&api, &format!("{POLICY}rules/2/")).await;
        delete(&api, POLICY).await;
        delete(&api, "/firewalls/1/").await;
        // Below a deleted parent, nothing is listed and nothing can be restored.
        for path in ["/filtering-policies/?deleted=true", "/rules/?deleted=true"] {
            assert!(names(&api.get(path).await.expect(200)).is_empty(), "{path}");
        }
        let restoring = format!("{POLICY}restore/");
        api.with("POST", &restoring, &[], None).await.problem(404, "not_found");
        let list = api.get("/firewalls/?deleted=true").await.expect(200);
        assert_eq!(names(&list), ["edge"]);

        let firewall = restore(&api, "/firewalls/1/").await;
        assert_eq!((&firewall["policy_count"], &firewall["labels"]), (&json!(0), &json!({"site": "fra"})));
        let list = api.get("/firewalls/1/filtering-policies/?deleted=true").await.expect(200);
        assert_eq!(names(&list), ["in"]);
        let policy = restore(&api, POLICY).await;
        assert_eq!(policy["rule_count"], 1);
        assert_eq!(api.get("/firewalls/1/").await.expect(200)["policy_count"], 1);
        assert_eq!(names(&api.get(&format!("{POLICY}rules/")).await.expect(200)), ["a"]);
        assert_eq!(names(&api.get(&format!("{POLICY}rules/?deleted=true")).await.expect(200)), ["b"]);
        assert_eq!(verdict(&api).await, "rule");
        assert!(names(&api.get("/firewalls/?deleted=true").await.expect(200)).is_empty());
    }
}

db_test! {
    async fn what_took_their_place_meanwhile_stays(api: Api) {
        fill(&api).await;
        delete(&api, &format!("{POLICY}rules/1/")).await;
        let other = json!({"name": "a", "sources": [{"address": "10.9.9.9"}]});
        let other = api.rule(POLICY, &other).await;
        let answer = api.with("POST", &format!("{POLICY}rules/1/restore/"), &[], None).await;
        assert_eq!(answer.problem(409, "name_taken")["existing_id"], other["id"]);
        delete(&api, &format!("{POLICY}rules/{}/", other["id"])).await;
        let twin = json!({"name": "twin", "sources": [{"address": "10.0.0.1", "port": 7}], "ports": [{"number": 443}]});
        let twin = api.rule(POLICY, &twin).await;
        let answer = api.with("POST", &format!("{POLICY}rules/1/restore/"), &[], None).await;
        assert_eq!(answer.problem(409, "equal_rule")["existing_id"], twin["id"]);

        delete(&api, POLICY).await;
        let policy = json!({"name": "in", "default_action": "ALLOW"});
        api.post("/firewalls/1/filtering-policies/", &policy).await.expect(201);
        let answer = api.with("POST", &format!("{POLICY}restore/"), &[], None).await;
        answer.problem(409, "name_taken");

        delete(&api, "/firewalls/1/").await;
        api.post("/firewalls/", &json!({"name": "edge"})).await.expect(201);
        let answer = api.with("POST", "/firewalls/1/restore/", &[], None).await;
        assert_eq!(answer.problem(409, "name_taken")["existing_id"], 2);
        assert_eq!(names(&api.get("/firewalls/").await.expect(200)), ["edge"]);
    }
}

db_test! {
    async fn editors_see_and_restore_what_was_deleted_and_only_of_their_tenants(api: Api) {
        fill(&api).await;
        delete(&api, &format!("{POLICY}rules/1/")).await;
        let lists = [
            "/firewalls/?deleted=true".to_owned(),
            "/firewalls/1/filtering-policies/?deleted=true".to_owned(),
            "/filtering-policies/?deleted=true".to_owned(),
            format!("{POLICY}rules/?deleted=true"),
            "/rules/?deleted=true".to_owned(),
        ];
        let viewer = api.token_for(&[Role::Viewer], None);
        let editor = api.token_for(&[Role::Editor], None);
        for list in &lists {
            api.send("GET", list, &viewer, &[], None).await.problem(403, "forbidden");
            api.send("GET", list, &editor, &[], None).await.expect(200);
        }
        let rule = format!("{POLICY}rules/1/restore/");
        api.send("POST", &rule, &viewer, &[], None).await.problem(403, "forbidden");
        let stranger = api.token_for(&[Role::Admin], Some(&["blue"]));
        api.send("POST", &rule, &stranger, &[], None).await.problem(404, "not_found");
        let list = api.send("GET", "/rules/?deleted=true", &stranger, &[], None).await.expect(200);
        assert!(names(&list).is_empty());
        for (query, parameter) in [
            ("filter=name%3Da", "filter"),
            ("source_address=10.0.0.1", "source_address"),
            ("port=443", "port"),
        ] {
            let answer = api.get(&format!("/rules/?deleted=true&{query}")).await;
            let problem = answer.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["parameter"], parameter, "{problem}");
        }
        api.get("/firewalls/?deleted=true&expand=filtering_policies").await.problem(422, "invalid");
        let lines = [("accept", "text/csv")];
        api.with("GET", "/rules/?deleted=true", &lines, None).await.problem(422, "invalid");
        assert_eq!(names(&api.get("/rules/?deleted=true&name=a").await.expect(200)), ["a"]);
        assert!(names(&api.get("/rules/?deleted=true&name=b").await.expect(200)).is_empty());
    }
}

async fn purge(api: &Api, age: Duration) -> Purged {
    let now = api.clock.now();
    let age = i64::try_from(age.as_micros()).unwrap();
    let before: Instant = now.plus_micros(-age);
    retention::purge(&api.db.database, before, now).await.unwrap()
}

const TABLES: [&str; 9] = [
    "firewall",
    "firewall_label",
    "policy",
    "policy_label",
    "rule",
    "rule_address",
    "rule_port",
    "rule_label",
    "kept_answer",
];

db_test! {
    async fn what_was_deleted_long_ago_is_removed_for_good(api: Api) {
        let day = Duration::from_secs(86_400);
        fill(&api).await;
        let kept = json!({"name": "kept", "labels": {"site": "muc"}});
        api.with("POST", "/firewalls/", &[("idempotency-key", "k")], Some(&kept)).await.expect(201);
        delete(&api, &format!("{POLICY}rules/1/")).await;
        assert_eq!(purge(&api, day).await, Purged::default(), "a day has not passed");
        api.clock.advance(day);
        // An answer is kept for a day, whatever the age at which deleted resources are purged.
        assert_eq!(purge(&api, 30 * day).await, Purged { answers: 1, ..Purged::default() });
        api.clock.advance(day);
        assert_eq!(purge(&api, day).await, Purged { rules: 1, ..Purged::default() });
        api.with("POST", &format!("{POLICY}rules/1/restore/"), &[], None).await.problem(404, "not_found");
        // A process that remembers the policy's earlier state must read it again.
        let purged = api.db.integers("SELECT purged_revision FROM policy").await;
        assert_eq!(purged, api.db.integers("SELECT revision FROM policy").await);
        delete(&api, "/firewalls/1/").await;
        api.clock.advance(2 * day);
        let all = Purged { rules: 1, policies: 1, firewalls: 1, answers: 0 };
        assert_eq!(purge(&api, day).await, all);
        let mut left = Vec::new();
        for table in TABLES {
            left.push(api.db.integers(&format!("SELECT count(*) FROM {table}")).await[0]);
        }
        assert_eq!(left, [1, 1, 0, 0, 0, 0, 0, 0, 0], "but what is live");
        assert_eq!(names(&api.get("/firewalls/").await.expect(200)), ["kept"]);
        // The trail is kept forever, and still shows who deleted each resource.
        let events = api.get("/audit-events/?action=delete").await.expect(200);
        assert_eq!(events["total"], 2);
    }
}

db_test! {
    async fn a_large_rule_set_is_removed_in_steps(api: Api) {
        fill(&api).await;
        let rules: Vec<Value> = (0..4_500)
            .map(|index| {
                json!({"action": "ALLOW", "destinations": [{"address": "any"}],
                    "sources": [{"address": format!("10.1.{}.{}", index / 256, index % 256)}]})
            })
            .collect();
        api.with("PUT", &format!("{POLICY}rules/?max_deletions=2"), &[], Some(&json!(rules))).await.expect(200);
        delete(&api, POLICY).await;
        api.clock.advance(Duration::from_secs(60));
        let purged = purge(&api, Duration::from_secs(30)).await;
        // The count includes the two rules that the set replaced.
        assert_eq!(purged, Purged { rules: 4_502, policies: 1, firewalls: 0, answers: 0 });
        assert_eq!(api.db.integers("SELECT count(*) FROM rule_address").await, [0]);
    }
}

db_test! {
    async fn what_is_half_removed_cannot_be_restored(api: Api) {
        use fireflow_domain::store::{Storage, Terms, WriteKind};

        fill(&api).await;
        delete(&api, POLICY).await;
        delete(&api, "/firewalls/1/").await;
        api.clock.advance(Duration::from_secs(60));
        // One step of many: one rule is purged, and the rest still exists.
        let now = api.clock.now();
        let mut uow = api.db.database.write(WriteKind::Many, &Terms::default()).await.unwrap();
        let purged = uow.upkeep().purge(now, now, 1).await.unwrap();
        uow.commit().await.unwrap();
        assert_eq!(purged, Purged { rules: 1, ..Purged::default() });
        restore(&api, "/firewalls/1/").await;
        let restoring = format!("{POLICY}restore/");
        api.with("POST", &restoring, &[], None).await.problem(404, "not_found");
        let list = api.get("/firewalls/1/filtering-policies/?deleted=true").await.expect(200);
        assert!(names(&list).is_empty());
        // A firewall whose policies are partly purged cannot be restored either.
        delete(&api, "/firewalls/1/").await;
        api.clock.advance(Duration::from_secs(60));
        let purged = purge(&api, Duration::from_secs(30)).await;
        assert_eq!(purged, Purged { rules: 1, policies: 1, firewalls: 1, answers: 0 });
    }
}

db_test! {
    async fn what_comes_back_takes_another_name_where_its_own_is_taken(api: Api) {
        fill(&api).await;
        let editor = api.token_for(&[Role::Editor], None);
        let restoring = |path: &str, body: Value| {
            let (path, api, editor) = (format!("{path}restore/"), &api, editor.clone());
            async move { api.send("POST", &path, &editor, &[], Some(&body)).await }
        };
        let rule = format!("{POLICY}rules/1/");
        delete(&api, &rule).await;
        let other = json!({"name": "a", "sources": [{"address": "10.9.9.9"}]});
        api.rule(POLICY, &other).await;
        restoring(&rule, json!({})).await.problem(409, "name_taken");
        restoring(&rule, json!({"name": "b"})).await.problem(409, "name_taken");
        let back = restoring(&rule, json!({"name": "a again"})).await.expect(200);
        assert_eq!((&back["id"], &back["name"]), (&json!(1), &json!("a again")));
        assert_eq!(api.get(&rule).await.expect(200), back);
        // A second restore finds an existing rule. Restoring it under a different name is refused,
        // since that would rename it.
        assert_eq!(restoring(&rule, json!({"name": "a again"})).await.expect(200), back);
        assert_eq!(restoring(&rule, json!({})).await.expect(200), back);
        let problem = restoring(&rule, json!({"name": "else"})).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "#/name");
        // A rule can be restored without a name.
        delete(&api, &rule).await;
        assert_eq!(restoring(&rule, json!({"name": null})).await.expect(200)["name"], Value::Null);

        delete(&api, POLICY).await;
        let policy = json!({"name": "in", "default_action": "ALLOW"});
        api.post("/firewalls/1/filtering-policies/", &policy).await.expect(201);
        restoring(POLICY, json!({})).await.problem(409, "name_taken");
        let back = restoring(POLICY, json!({"name": "old in"})).await.expect(200);
        assert_eq!((&back["name"], &back["rule_count"]), (&json!("old in"), &json!(3)));
        assert_eq!(api.get(POLICY).await.expect(200), back);
        let shown = api.get(&rule).await.expect(200);
        assert_eq!(shown["filtering_policy"]["name"], "old in");
        restoring(POLICY, json!({"name": "in"})).await.problem(422, "invalid");

        delete(&api, "/firewalls/1/").await;
        api.post("/firewalls/", &json!({"name": "edge"})).await.expect(201);
        restoring("/firewalls/1/", json!({})).await.problem(409, "name_taken");
        let back = restoring("/firewalls/1/", json!({"name": "old edge"})).await.expect(200);
        assert_eq!((&back["name"], &back["policy_count"]), (&json!("old edge"), &json!(2)));
        assert_eq!(back["labels"], json!({"site": "fra"}));
        assert_eq!(api.get("/firewalls/1/").await.expect(200), back);
        assert_eq!(api.get(POLICY).await.expect(200)["firewall"]["name"], "old edge");
        restoring("/firewalls/1/", json!({"name": "new"})).await.problem(422, "invalid");
        // The trail has their new names.
        let events = api.get("/audit-events/?action=restore").await.expect(200);
        let after = |event: &Value| event["after"]["name"].clone();
        let names: Vec<Value> = events["items"].as_array().unwrap().iter().map(after).collect();
        assert_eq!(names, [json!("a again"), Value::Null, json!("old in"), json!("old edge")]);
    }
}

db_test! {
    async fn a_rule_comes_back_beside_an_equal_one_where_that_is_asked_for(api: Api) {
        fill(&api).await;
        let rule = format!("{POLICY}rules/1/");
        delete(&api, &rule).await;
        let twin = json!({"name": "twin", "sources": [{"address": "10.0.0.1", "port": 7}], "ports": [{"number": 443}]});
        api.rule(POLICY, &twin).await;
        let restoring = format!("{rule}restore/");
        api.with("POST", &restoring, &[], None).await.problem(409, "equal_rule");
        let keeping = format!("{restoring}?duplicates=keep");
        api.with("POST", &keeping, &[], None).await.expect(200);
        delete(&api, &rule).await;
        let keep = json!({"duplicates": "keep", "name": "a"});
        api.post(&restoring, &keep).await.expect(200);
        assert_eq!(api.get(POLICY).await.expect(200)["rule_count"], 3);
        // Both rules are found, and one of them can be deleted.
        delete(&api, &format!("{POLICY}rules/3/")).await;
        assert_eq!(verdict(&api).await, "rule");
    }
}

db_test! {
    async fn a_restore_refuses_what_it_does_not_read(api: Api) {
        fill(&api).await;
        delete(&api, &format!("{POLICY}rules/1/")).await;
        for path in [format!("{POLICY}rules/1/restore/"), format!("{POLICY}restore/"), "/firewalls/1/restore/".to_owned()] {
            for bad in [
                json!({"nmae": "x"}),
                json!({"priority": 1}),
                json!({"name": 7}),
                json!({"name": ""}),
                json!({"duplicates": "drop"}),
                json!([]),
                json!("x"),
            ] {
                api.post(&path, &bad).await.problem(422, "invalid");
            }
            let token = format!("Bearer {}", api.token());
            let json = [("authorization", token.as_str()), ("content-type", "application/json")];
            api.raw("POST", &path, &json, b"{".to_vec()).await.problem(400, "malformed_json");
            let text = [("authorization", token.as_str()), ("content-type", "text/plain")];
            let answer = api.raw("POST", &path, &text, b"{}".to_vec()).await;
            answer.problem(415, "unsupported_media_type");
            api.with("POST", &format!("{path}?name=x"), &[], None).await.problem(422, "invalid");
        }
        for path in [format!("{POLICY}restore/"), "/firewalls/1/restore/".to_owned()] {
            let path = format!("{path}?duplicates=keep");
            api.with("POST", &path, &[], None).await.problem(422, "invalid");
        }
        let deleted = api.get(&format!("{POLICY}rules/?deleted=true")).await.expect(200);
        assert_eq!(names(&deleted), ["a"], "nothing came back");
        // An empty body is accepted, whatever its declared type.
        let token = format!("Bearer {}", api.token());
        let json = [("authorization", token.as_str()), ("content-type", "application/json")];
        api.raw("POST", &format!("{POLICY}rules/1/restore/"), &json, vec![]).await.expect(200);
    }
}
