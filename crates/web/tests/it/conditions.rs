//! Entity tags and what they guard.

use fireflow_storage::db_test;
use serde_json::json;

use crate::support::{Api, firewall_of};

db_test! {
    async fn a_reader_who_knows_the_state_is_told_so(api: Api) {
        let policy = api.policy().await;
        let rule = api.rule(&policy, &json!({})).await;
        let firewall = firewall_of(&policy).to_owned();
        let rules = format!("{policy}rules/");
        let rule = format!("{rules}{}/", rule["id"]);
        for path in [&firewall, &policy, &rules, &rule] {
            let tag = api.get(path).await.header("etag").to_owned();
            let again = api.with("GET", path, &[("if-none-match", &tag)], None).await;
            assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{path}");
            assert_eq!(again.header("etag"), tag);
            let other = api.with("GET", path, &[("if-none-match", "\"0\"")], None).await;
            assert_eq!(other.status.as_u16(), 200);
            // What a child shows of its parent counts as its state.
            api.patch(&firewall, &json!({"name": format!("renamed {}", path.len())})).await.expect(200);
            let changed = api.with("GET", path, &[("if-none-match", &tag)], None).await;
            assert_eq!(changed.status.as_u16(), 200, "{path}");
        }
        // A policy's rule list carries the policy's tag.
        let tags = [api.get(&policy).await, api.get(&rules).await];
        assert_eq!(tags[0].header("etag"), tags[1].header("etag"));
    }
}

db_test! {
    async fn of_two_writers_who_read_the_same_the_second_is_told(api: Api) {
        let policy = api.policy().await;
        let rule = api.rule(&policy, &json!({})).await;
        let firewall = firewall_of(&policy).to_owned();
        let rule = format!("{policy}rules/{}/", rule["id"]);
        for path in [&rule, &policy, &firewall] {
            let tag = api.get(path).await.header("etag").to_owned();
            let change = |text: &str| json!({"description": text});
            let guard = [("if-match", tag.as_str())];
            let first = api.with("PATCH", path, &guard, Some(&change("first"))).await;
            assert_ne!(first.header("etag"), tag);
            first.expect(200);
            let second = api.with("PATCH", path, &guard, Some(&change("second"))).await;
            second.problem(412, "revision_mismatch");
            api.with("DELETE", path, &guard, None).await.problem(412, "revision_mismatch");
            api.with("GET", path, &guard, None).await.problem(412, "revision_mismatch");
            let found = api.get(path).await;
            let fresh = format!("\"7777\", {}", found.header("etag"));
            assert_eq!(found.expect(200)["description"], "first");
            let weak = format!("W/{fresh}").replace("\"7777\", ", "");
            let answer = api.with("DELETE", path, &[("if-match", &weak)], None).await;
            answer.problem(412, "revision_mismatch");
            for matching in [fresh.as_str(), "*"] {
                let body = change(matching);
                api.with("PATCH", path, &[("if-match", matching)], Some(&body)).await.expect(200);
            }
            api.with("DELETE", path, &[("if-match", "*")], None).await.expect(204);
        }
    }
}
