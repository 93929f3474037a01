//! An old process runs together with a new one. It refuses every operation on policies with unknown
//! features, and names these policies in lists that leave them out.

use std::sync::Arc;

use fireflow_domain::features::Features;
use fireflow_storage::db_test;
use fireflow_storage::testing::TestDatabase;
use serde_json::{Value, json};

use crate::operations::operations;
use crate::support::{Answer, Api, backend, tcp};

/// A feature that no version knows.
const UNHEARD_OF: i64 = i64::MIN;

/// A newer process on the same database, which knows every feature.
fn newer(db: &Arc<TestDatabase>) -> Api {
    let mut database = db.database.clone();
    database.set_features(Features::from_bits(u64::MAX));
    Api::built(Arc::clone(db), |app, _| backend(app).storage = Arc::new(database))
}

/// Sets the features of a policy as a newer process does, in a transaction that other processes
/// notice.
async fn raise(api: &Api, policy: &Value, features: i64) {
    let sql = format!("UPDATE policy SET features = {features} WHERE id = {policy}");
    api.db.execute(&sql).await;
    // On SQLite the file belongs to one process, which counts only its own commits. A commit
    // through the service makes it notice the change.
    let name = format!("another {features} {policy}");
    api.post("/firewalls/", &json!({"name": name})).await.expect(201);
}

/// Creates a firewall with a policy. Returns both ids and the policy's path.
async fn policy(api: &Api, name: &str) -> (Value, Value, String) {
    let firewall = api.post("/firewalls/", &json!({"name": name})).await.expect(201);
    let path = format!("/firewalls/{}/filtering-policies/", firewall["id"]);
    let body = json!({"name": name, "default_action": "DENY"});
    let policy = api.post(&path, &body).await.expect(201);
    (firewall["id"].clone(), policy["id"].clone(), format!("{path}{}/", policy["id"]))
}

fn refused(answer: Answer) {
    assert_eq!(answer.header("retry-after"), "10");
    answer.problem(503, "newer_policy");
}

fn ids(list: &Value) -> Vec<&Value> {
    list["items"].as_array().unwrap().iter().map(|item| &item["id"]).collect()
}

/// The operations on a policy that need none of its rules. A policy that is not deleted is not
/// restored; a later test restores one.
const SERVED: [&str; 3] =
    ["getFilteringPolicyById", "deleteFilteringPolicyById", "restoreFilteringPolicyById"];

db_test! {
    async fn every_operation_on_the_rules_of_a_newer_policy_is_refused(api: Api) {
        let (firewall, id, path) = policy(&api, "edge").await;
        let rule = api.rule(&path, &json!({})).await["id"].clone();
        let deleted = api.rule(&path, &json!({"priority": 7, "protocols": []})).await["id"].clone();
        api.delete(&format!("{path}rules/{deleted}/")).await.expect(204);
        let packet = tcp("10.0.0.1", "10.0.0.2", 443);
        // Compiles and caches the policy.
        assert_eq!(api.verdict(&path, &packet).await.0, "ALLOW");
        raise(&api, &id, UNHEARD_OF).await;
        let before = api.db.integers("SELECT count(*) FROM audit_event").await;
        let mut seen = 0;
        for operation in operations(&api.document) {
            let name = operation.row.id;
            if operation.depth() < 2 || SERVED.contains(&name) {
                continue;
            }
            let of = if operation.restores() { &deleted } else { &rule };
            let ids = [&firewall, &id, of].map(Value::clone);
            let (target, body) = (operation.target(&ids), operation.body_with(&rule));
            let answer = api.with(&operation.method, &target, &[], body.as_ref()).await;
            assert_eq!(answer.status.as_u16(), 503, "{name}: {}", answer.text);
            refused(answer);
            seen += 1;
        }
        assert!(seen >= 12, "{seen}");
        for more in ["?expand=rules", "rules/?deleted=true", "rules/?page_size=1&cursor="] {
            refused(api.get(&format!("{path}{more}")).await);
        }
        for format in ["text/csv", "application/x-ndjson"] {
            let list = format!("{path}rules/");
            refused(api.with("GET", &list, &[("accept", format)], None).await);
        }
        let line = json!({
            "source_address": "10.0.0.1", "source_port": 1, "destination_address": "10.0.0.2",
            "destination_port": 1,
        });
        let authorization = format!("Bearer {}", api.token());
        let headers =
            [("authorization", authorization.as_str()), ("content-type", "application/x-ndjson")];
        let inspections = format!("{path}inspections/");
        refused(api.raw("POST", &inspections, &headers, format!("{line}\n").into_bytes()).await);
        assert_eq!(api.db.integers("SELECT count(*) FROM audit_event").await, before);
        // A process that knows the feature serves all operations.
        let newer = newer(&api.db);
        assert_eq!(newer.verdict(&path, &packet).await.0, "ALLOW");
        assert_eq!(newer.get(&format!("{path}rules/")).await.expect(200)["total"], 1);
        newer.get(&format!("{path}rules/{rule}/")).await.expect(200);
        newer.rule(&path, &json!({"protocols": ["udp"]})).await;
        // Writes keep the bits.
        assert_eq!(api.db.integers("SELECT features FROM policy WHERE id = 1").await, [UNHEARD_OF]);
        refused(api.get(&format!("{path}rules/")).await);
    }
}

db_test! {
    async fn a_newer_policy_is_shown_and_deleted_but_only_a_newer_process_restores_it(api: Api) {
        let (firewall, id, path) = policy(&api, "edge").await;
        api.rule(&path, &json!({})).await;
        raise(&api, &id, 1).await;
        let shown = api.get(&path).await.expect(200);
        assert_eq!((&shown["rule_count"], &shown["features"]), (&json!(1), &Value::Null));
        api.delete(&path).await.expect(204);
        refused(api.post(&format!("{path}restore/"), &json!({})).await);
        let newer = newer(&api.db);
        newer.post(&format!("{path}restore/"), &json!({})).await.expect(200);
        assert_eq!(newer.get(&format!("{path}rules/")).await.expect(200)["total"], 1);
        // The same is true for its firewall.
        let firewall = format!("/firewalls/{firewall}/");
        api.delete(&firewall).await.expect(204);
        api.post(&format!("{firewall}restore/"), &json!({})).await.expect(200);
        refused(api.get(&format!("{path}rules/")).await);
    }
}

db_test! {
    async fn lists_across_policies_leave_newer_ones_out_and_name_them(api: Api) {
        let (_, old, old_path) = policy(&api, "old").await;
        let (firewall, new, new_path) = policy(&api, "new").await;
        let kept = api.rule(&old_path, &json!({})).await["id"].clone();
        api.rule(&new_path, &json!({})).await;
        let whole = api.get("/rules/").await.expect(200);
        assert_eq!((&whole["total"], &whole["left_out"]), (&json!(2), &Value::Null));
        raise(&api, &new, 1 << 40).await;
        let left_out = json!({
            "code": "newer_policy",
            "filtering_policies": [
                {"id": new, "name": "new", "firewall": {"id": firewall, "name": "new"}},
            ],
            "has_more": false,
        });
        for query in ["", "?filter=priority%20%3D%20100", "?cursor=&with_total=true", "?fields=id"] {
            let answer = api.get(&format!("/rules/{query}")).await;
            assert_eq!(answer.header("fireflow-left-out"), new.to_string(), "{query}");
            let list = answer.expect(200);
            assert_eq!(ids(&list), [&kept], "{query}");
            assert_eq!((&list["total"], &list["left_out"]), (&json!(1), &left_out), "{query}");
        }
        for format in ["text/csv", "application/x-ndjson"] {
            for query in ["", "?page_size=10"] {
                let list = format!("/rules/{query}");
                let answer = api.with("GET", &list, &[("accept", format)], None).await;
                assert_eq!(answer.header("fireflow-left-out"), new.to_string());
                let names_new = answer.text.contains("\"new\"") || answer.text.contains(",new,");
                assert!(!names_new && !answer.text.is_empty(), "{}", answer.text);
            }
        }
        // The list of deleted rules also leaves it out.
        for (path, rule) in [(&old_path, &kept), (&new_path, &json!(2))] {
            let mark = format!("UPDATE rule SET deleted_at = 1, deleted_by = '' WHERE id = {rule}");
            api.db.execute(&mark).await;
            assert!(!path.is_empty());
        }
        let list = api.get("/rules/?deleted=true").await.expect(200);
        assert_eq!((ids(&list), &list["left_out"]), (vec![&kept], &left_out));
        // A client that cannot see the policy gets no report of it.
        let other = api.token_for(&fireflow_domain::actor::Role::ALL, Some(&["blue"]));
        let list = api.send("GET", "/rules/", &other, &[], None).await.expect(200);
        assert_eq!((&list["total"], &list["left_out"]), (&json!(0), &Value::Null));
        // Policies are listed. If their rules are embedded, the newer policies are left out.
        let list = api.get("/filtering-policies/").await.expect(200);
        assert_eq!((ids(&list), &list["left_out"]), (vec![&old, &new], &Value::Null));
        let answer = api.get("/filtering-policies/?expand=rules&fields=id").await;
        assert_eq!(answer.header("fireflow-left-out"), new.to_string());
        let list = answer.expect(200);
        assert_eq!((ids(&list), &list["left_out"]), (vec![&old], &left_out));
        let own = api.get(&format!("/firewalls/{firewall}/filtering-policies/?expand=rules")).await;
        let list = own.expect(200);
        assert_eq!((ids(&list), &list["left_out"]), (vec![], &left_out));
    }
}

db_test! {
    async fn expanded_firewalls_leave_newer_policies_out_and_name_them(api: Api) {
        let (firewall, new, path) = policy(&api, "new").await;
        api.rule(&path, &json!({})).await;
        let one = format!("/firewalls/{firewall}/");
        raise(&api, &new, 2).await;
        for target in [&one, "/firewalls/?name=new"] {
            let separator = if target.contains('?') { '&' } else { '?' };
            let ask = async |expand: &str| {
                let path = format!("{target}{separator}expand={expand}&fields=filtering_policies");
                api.get(&path).await
            };
            // Policies without their rules are shown.
            let shown = ask("filtering_policies").await;
            assert!(shown.headers.get("fireflow-left-out").is_none());
            let shown = shown.expect(200);
            let shown = if shown["items"].is_array() { &shown["items"][0] } else { &shown };
            assert_eq!(shown["filtering_policies"][0]["id"], new);
            let answer = ask("filtering_policies.rules").await;
            assert_eq!(answer.header("fireflow-left-out"), new.to_string());
            let answer = answer.expect(200);
            assert_eq!(answer["left_out"]["filtering_policies"][0]["id"], new, "{answer}");
            let shown = if answer["items"].is_array() { &answer["items"][0] } else { &answer };
            assert_eq!(shown["filtering_policies"], json!([]));
        }
    }
}

db_test! {
    async fn features_that_are_raised_or_lowered_alone_leave_a_new_state(api: Api) {
        let (_, id, path) = policy(&api, "edge").await;
        let newer = newer(&api.db);
        let tag = newer.get(&path).await.header("etag").to_owned();
        let known = [("if-none-match", tag.as_str())];
        assert_eq!(newer.with("GET", &path, &known, None).await.status.as_u16(), 304);
        raise(&newer, &id, 1).await;
        assert_eq!(newer.with("GET", &path, &known, None).await.status.as_u16(), 200);
        let changed = newer.get(&path).await.header("etag").to_owned();
        raise(&newer, &id, 0).await;
        assert_ne!(newer.get(&path).await.header("etag"), changed);
        // Once the features are lowered, every process serves the policy again.
        assert_eq!(api.get(&format!("{path}rules/")).await.expect(200)["total"], 0);
    }
}
