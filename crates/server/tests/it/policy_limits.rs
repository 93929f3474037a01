//! The configured size limits of a policy.

use fireflow_domain::usecase::rule::PolicyLimits;
use fireflow_storage::db_test;
use fireflow_storage::testing::TestDatabase;
use serde_json::{Value, json};

use crate::support::{Answer, Api, plain_rule};

fn too_large(answer: Answer, limit: &str) {
    let problem = answer.problem(413, "too_large");
    assert!(problem["detail"].as_str().unwrap().contains(limit), "{problem}");
}

fn from(source: &str) -> Value {
    let mut rule = plain_rule();
    rule["sources"] = json!([{"address": source}]);
    rule
}

db_test! {
    committed("requests have connections of their own")
    async fn a_policy_takes_as_many_rules_and_entries_as_are_set(db: TestDatabase) {
        let limits = PolicyLimits { rules: 3, entries: 8 };
        let api = Api::on(db.reopened(|options| options.policy_limits = limits).await);
        let policy = api.policy().await;
        let rules = format!("{policy}rules/");
        let three = json!([from("10.0.0.1"), from("10.0.0.2"), from("10.0.0.3")]);
        api.put(&rules, &three).await.expect(200);
        let a_rule = "the number of rules of a policy is limited to 3";
        too_large(api.post(&rules, &from("10.0.0.4")).await, a_rule);
        let create = json!({"operations": [{"op": "create", "rule": from("10.0.0.4")}]});
        too_large(api.post(&format!("{policy}rules/batch/"), &create).await, a_rule);
        let mut four = three.as_array().unwrap().clone();
        four.push(from("10.0.0.4"));
        too_large(api.put(&rules, &json!(four)).await, "a policy has at most 3 rules, not 4");
        let moved = json!({"rule_ids": [1, 2, 3, 4], "at": "first"});
        assert_eq!(api.post(&format!("{rules}move/"), &moved).await.status.as_u16(), 422);
        // A rule is deleted and another one is created, so the deleted rule cannot be restored.
        api.delete(&format!("{rules}1/")).await.expect(204);
        api.post(&rules, &from("10.0.0.4")).await.expect(201);
        too_large(api.post(&format!("{rules}1/restore/"), &json!({})).await, a_rule);
        // The policy has six entries.
        let more = |count: u8| {
            let ends = (0..count).map(|it| json!({"address": format!("10.1.0.{it}")}));
            json!({"sources": ends.collect::<Vec<_>>()})
        };
        api.patch(&format!("{rules}2/"), &more(3)).await.expect(200);
        let entries = "the number of source, destination and port entries of a policy is limited to 8";
        too_large(api.patch(&format!("{rules}2/"), &more(4)).await, entries);
        api.patch(&format!("{rules}2/"), &more(1)).await.expect(200);
    }
}
