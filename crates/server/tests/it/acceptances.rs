//! Accepted findings: lists leave them out until they are another finding, and the trail shows who
//! accepted them.

use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::Api;

/// A policy whose second rule is lost to the first, and whose third repeats the first.
async fn policy_with_faults(api: &Api) -> String {
    let policy = api.policy().await;
    let rules = [
        ("wide", "ALLOW", "10.0.0.0/8"),
        ("lost", "DENY", "10.1.0.0/16"),
        ("again", "ALLOW", "10.2.0.0/16"),
    ];
    for ((name, action, source), number) in rules.into_iter().zip(1..) {
        let rule = json!({
            "name": name, "action": action, "priority": 10 * number, "reference": "CHG-1",
            "sources": [{"address": source}], "destinations": [{"address": "192.0.2.10", "port": 443}], "protocols": ["tcp"],
        });
        api.post(&format!("{policy}rules/"), &rule).await.expect(201);
    }
    policy
}

async fn findings(api: &Api, policy: &str, query: &str) -> Value {
    api.get(&format!("{policy}analysis/?wait=25{query}")).await.expect(200)
}

/// The names of the rules of a page of findings.
fn names(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|finding| finding["rule"]["name"].as_str().unwrap()).collect()
}

db_test! {
    async fn an_accepted_finding_is_left_out_and_counted(api: Api) {
        let policy = policy_with_faults(&api).await;
        let before = api.get(&policy).await.expect(200);
        let page = findings(&api, &policy, "").await;
        assert_eq!(names(&page), ["lost", "again"]);
        assert_eq!(page["items"][0]["acceptance"], Value::Null);
        let id = page["items"][0]["id"].as_str().unwrap();
        let path = format!("{policy}findings/{id}/acceptance/");
        let given = json!({"reason": "CHG-7: the partner still needs it"});
        let accepted = api.put(&path, &given).await.expect(200);
        assert_eq!(accepted["finding_id"], id);
        assert_eq!(accepted["proof"], page["items"][0]["proof"]);
        assert_eq!(accepted["severity"], "error");
        assert_eq!(accepted["reason"], given["reason"]);
        assert_eq!(accepted["until"], Value::Null);

        let open = findings(&api, &policy, "").await;
        assert_eq!(names(&open), ["again"]);
        assert_eq!(open["total"], 1);
        let error = &open["counts"][0];
        assert_eq!((&error["severity"], &error["count"], &error["accepted"]),
            (&json!("error"), &json!(1), &json!(1)));
        assert_eq!(open["counts"][1]["accepted"], 0);
        assert_eq!(names(&findings(&api, &policy, "&accepted=include").await), ["lost", "again"]);
        let only = findings(&api, &policy, "&accepted=only").await;
        assert_eq!(names(&only), ["lost"]);
        assert_eq!(only["items"][0]["acceptance"], accepted);
        let list = format!("{policy}analysis/");
        api.get(&format!("{list}?accepted=no")).await.problem(422, "invalid");

        // Other formats: CSV has the reason, and viewers of SARIF fold suppressed results.
        let as_text = |format: &'static str| {
            let list = format!("{list}?accepted=include&wait=25");
            let api = &api;
            async move { api.with("GET", &list, &[("accept", format)], None).await.text }
        };
        assert!(as_text("text/csv").await.contains("CHG-7: the partner still needs it"));
        let log: Value = serde_json::from_str(&as_text("application/sarif+json").await).unwrap();
        let results = &log["runs"][0]["results"];
        assert_eq!(results[0]["suppressions"][0]["justification"], given["reason"]);
        assert_eq!(results[1]["suppressions"], json!([]));

        // It is no change of the policy.
        let after = api.get(&policy).await.expect(200);
        assert_eq!((&after["revision"], &after["updated_at"]), (&before["revision"], &before["updated_at"]));

        assert_eq!(api.get(&format!("{policy}acceptances/")).await.expect(200), json!({"items": [accepted]}));
        api.delete(&path).await.expect(204);
        api.delete(&path).await.problem(404, "not_found");
        assert_eq!(names(&findings(&api, &policy, "").await), ["lost", "again"]);
        assert_eq!(api.get(&format!("{policy}acceptances/")).await.expect(200), json!({"items": []}));
    }
}

db_test! {
    async fn a_finding_comes_back_if_its_proof_changes_or_the_date_passes(api: Api) {
        let policy = policy_with_faults(&api).await;
        let page = findings(&api, &policy, "").await;
        for (finding, until) in page["items"].as_array().unwrap().iter().zip([false, true]) {
            let path = format!("{policy}findings/{}/acceptance/", finding["id"].as_str().unwrap());
            let later = until.then_some("2999-01-01T00:00:00Z");
            api.put(&path, &json!({"reason": "known", "until": later})).await.expect(200);
        }
        assert_eq!(names(&findings(&api, &policy, "").await), [""; 0]);
        // A rule that takes no part in the proofs changes nothing.
        let other = json!({
            "name": "other", "action": "ALLOW", "priority": 1, "reference": "CHG-2",
            "sources": [{"address": "172.16.0.0/12"}], "destinations": [{"address": "192.0.2.11", "port": 443}],
            "protocols": ["tcp"],
        });
        api.post(&format!("{policy}rules/"), &other).await.expect(201);
        assert_eq!(names(&findings(&api, &policy, "").await), [""; 0]);
        // The rule that hides both.
        let rules = api.get(&format!("{policy}rules/?name=wide")).await.expect(200);
        let wide = rules["items"][0]["id"].as_i64().unwrap();
        let change = json!({"sources": [{"address": "10.0.0.0/9"}]});
        api.patch(&format!("{policy}rules/{wide}/"), &change).await.expect(200);
        assert_eq!(names(&findings(&api, &policy, "").await), ["lost", "again"]);
        // The former acceptances stay in the list, for those who look after it.
        let all = api.get(&format!("{policy}acceptances/")).await.expect(200);
        assert_eq!(all["items"].as_array().unwrap().len(), 2);
    }
}

db_test! {
    async fn a_finding_that_is_accepted_between_two_pages_hides_no_other(api: Api) {
        let policy = policy_with_faults(&api).await;
        let first = findings(&api, &policy, "&page_size=1").await;
        assert_eq!(names(&first), ["lost"]);
        let path = format!("{policy}findings/{}/acceptance/", first["items"][0]["id"].as_str().unwrap());
        api.put(&path, &json!({"reason": "known"})).await.expect(200);
        let cursor = first["next_cursor"].as_str().unwrap();
        let second = findings(&api, &policy, &format!("&page_size=1&cursor={cursor}")).await;
        assert_eq!(names(&second), ["again"]);
        assert_eq!(second["next_cursor"], Value::Null);
        // Nor does a withdrawal show one twice.
        api.delete(&path).await.expect(204);
        let again = findings(&api, &policy, &format!("&page_size=1&cursor={cursor}")).await;
        assert_eq!(names(&again), ["again"]);
    }
}

db_test! {
    async fn only_what_a_client_has_seen_is_accepted(api: Api) {
        let policy = policy_with_faults(&api).await;
        let page = findings(&api, &policy, "").await;
        let finding = &page["items"][0];
        let path = format!("{policy}findings/{}/acceptance/", finding["id"].as_str().unwrap());
        let other = page["items"][1]["proof"].as_str().unwrap();
        api.put(&path, &json!({"reason": "r", "proof": other})).await.problem(409, "state_moved");
        let seen = json!({"reason": "r", "proof": finding["proof"]});
        api.put(&path, &seen).await.expect(200);
        for (bad, pointer) in [
            (json!({}), "#/reason"),
            (json!({"reason": " "}), "#/reason"),
            (json!({"reason": "r", "until": "2020-01-01T00:00:00Z"}), "#/until"),
            (json!({"reason": "r", "proof": "x"}), "#/proof"),
            (json!({"reason": "r", "author": "me"}), "#/author"),
        ] {
            let problem = api.put(&path, &bad).await.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{bad}");
        }
        for missing in ["0".repeat(32), "x".to_owned()] {
            let path = format!("{policy}findings/{missing}/acceptance/");
            api.put(&path, &json!({"reason": "r"})).await.problem(404, "not_found");
            api.delete(&path).await.problem(404, "not_found");
        }
    }
}

db_test! {
    async fn the_trail_shows_who_accepted_what(api: Api) {
        let policy = policy_with_faults(&api).await;
        let page = findings(&api, &policy, "").await;
        let path = format!("{policy}findings/{}/acceptance/", page["items"][0]["id"].as_str().unwrap());
        let first = api.put(&path, &json!({"reason": "one"})).await.expect(200);
        // The same again writes nothing.
        api.put(&path, &json!({"reason": "one"})).await.expect(200);
        let second = api.put(&path, &json!({"reason": "two"})).await.expect(200);
        api.delete(&path).await.expect(204);
        let events = api.get("/audit-events/?resource=filtering_policy&action=update").await;
        let events = events.expect(200);
        let states: Vec<(&Value, &Value)> = events["items"].as_array().unwrap().iter()
            .map(|event| (&event["before"], &event["after"])).collect();
        let [first, second] = [first, second].map(|one| json!({"acceptance": one}));
        assert_eq!(states, [
            (&Value::Null, &first),
            (&first, &second),
            (&second, &Value::Null),
        ]);
    }
}
