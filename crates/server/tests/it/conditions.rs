//! Entity tags and the requests that they guard.

use fireflow_storage::db_test;
use fireflow_web::described::ParamKind;
use serde_json::{Value, json};

use crate::operations::operations;
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
            // The parent's data in a child's answer is part of the child's state.
            api.patch(&firewall, &json!({"name": format!("renamed {}", path.len())})).await.expect(200);
            let changed = api.with("GET", path, &[("if-none-match", &tag)], None).await;
            assert_eq!(changed.status.as_u16(), 200, "{path}");
        }
        // The tag of a policy's rule list has the policy's state.
        let tags = [api.get(&policy).await, api.get(&rules).await];
        let states = tags.each_ref().map(|it| it.header("etag").split_once('.').unwrap().0);
        assert_eq!(states[0], states[1]);
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
            answer.problem(412, "weak_tag");
            for matching in [fresh.as_str(), "*"] {
                let body = change(matching);
                api.with("PATCH", path, &[("if-match", matching)], Some(&body)).await.expect(200);
            }
            api.with("DELETE", path, &[("if-match", "*")], None).await.expect(204);
        }
    }
}

/// An operation that takes conditions.
struct Conditional {
    id: &'static str,
    method: String,
    path: String,
    body: Option<Value>,
    writes: bool,
}

/// Every operation that takes conditions, in an order in which all can succeed. Operations that
/// embed children are there twice.
async fn conditional(api: &Api) -> Vec<Conditional> {
    let policy = api.policy().await;
    let rule = api.rule(&policy, &json!({})).await["id"].clone();
    let ids =
        [&api.get(&policy).await.expect(200)["firewall"]["id"], &json!(1), &rule].map(Value::clone);
    let mut all = Vec::new();
    for operation in operations(&api.document).iter().filter(|it| it.row.is_conditional) {
        let path = operation.path(&ids);
        let expansions = operation.row.parameters().filter_map(|param| match param.kind {
            ParamKind::Words(words) if param.name == "expand" => words.last(),
            _ => None,
        });
        let expanded = expansions.map(|word| format!("{path}?expand={word}"));
        for path in std::iter::once(path.clone()).chain(expanded) {
            all.push(Conditional {
                id: operation.row.id,
                method: operation.method.clone(),
                path,
                body: operation.body_with(&rule),
                writes: operation.row.writes(),
            });
        }
    }
    assert!(all.len() >= 15, "{}", all.len());
    all
}

/// The path of an operation.
fn path_of<'a>(all: &'a [Conditional], id: &str) -> &'a str {
    &all.iter().find(|it| it.id == id).unwrap().path
}

db_test! {
    async fn what_is_no_entity_tag_is_told_its_form(api: Api) {
        let bad = [
            "6", "abc", "\"abc", "abc\"", "\"a\" \"b\"", "\"a\"b", "W/6", "w/\"6\"", "\"a b\"", "", ",",
            "*, \"a\"", "\"a\", 6",
        ];
        for Conditional { method, path, body, .. } in conditional(&api).await {
            for name in ["If-Match", "If-None-Match"] {
                for value in bad {
                    let answer = api.with(&method, &path, &[(name, value)], body.as_ref()).await;
                    let problem = answer.problem(400, "malformed_request");
                    assert_eq!(problem["errors"][0]["parameter"], name, "{value}");
                    let detail = problem["detail"].as_str().unwrap();
                    assert!(detail.starts_with(name) && detail.contains("double quotes"), "{detail}");
                    assert!(detail.len() < 400, "{detail}");
                }
            }
        }
        let many = vec!["\"a\""; 101].join(",");
        let answer = api.with("GET", "/firewalls/1/", &[("if-match", &many)], None).await;
        answer.problem(400, "malformed_request");
        let long = format!("\"{}", "x".repeat(5_000));
        let answer = api.with("GET", "/firewalls/1/", &[("if-match", &long)], None).await;
        let problem = answer.problem(400, "malformed_request");
        assert!(problem["detail"].as_str().unwrap().len() < 400);
        // Nothing was written; the token, the role and the path are checked first.
        assert_eq!(api.db.integers("SELECT count(*) FROM audit_event").await, [3]);
        let viewer = api.token_for(&[fireflow_domain::actor::Role::Viewer], None);
        let header = [("if-match", "6")];
        api.send("DELETE", "/firewalls/1/", &viewer, &header, None).await.problem(403, "forbidden");
        api.with("DELETE", "/firewalls/x/", &header, None).await.problem(404, "not_found");
    }
}

db_test! {
    async fn a_tag_that_holds_for_nothing_is_told_why(api: Api) {
        let all = conditional(&api).await;
        let rule = api.get(path_of(&all, "getRuleById")).await.header("etag").to_owned();
        let policy = api.get(path_of(&all, "getFilteringPolicyById")).await.header("etag").to_owned();
        let of_rules = |path: &str| path.contains("/rules/") && path.ends_with(char::is_numeric);
        for Conditional { method, path, body, .. } in &all {
            let is_of_rule = of_rules(path.trim_end_matches('/'));
            let foreign = if is_of_rule { &policy } else { &rule };
            let ask = async |tag: &str| {
                api.with(method, path, &[("if-match", tag)], body.as_ref()).await
            };
            for unknown in ["\"abc\"", "\"\"", "\"4.1\"", "\"4.1\", \"a,b\"", foreign] {
                let problem = ask(unknown).await.problem(412, "unknown_tag");
                assert!(problem["detail"].as_str().unwrap().contains("ETag"), "{problem}");
            }
            for weak in ["W/\"4.1\"", "\"abc\", W/\"4.1\"", &format!("W/{rule}")] {
                let problem = ask(weak).await.problem(412, "weak_tag");
                assert!(problem["detail"].as_str().unwrap().contains("proxy"), "{problem}");
            }
        }
        // A missing resource gets 404, whatever the condition.
        let answer = api.with("DELETE", "/firewalls/99/", &[("if-match", "\"a\"")], None).await;
        answer.problem(404, "not_found");
        assert_eq!(api.db.integers("SELECT count(*) FROM audit_event").await, [3]);
    }
}

db_test! {
    async fn every_change_heeds_both_conditions(api: Api) {
        let all = conditional(&api).await;
        let mut tags = Vec::new();
        for Conditional { path, .. } in all.iter().filter(|it| !it.writes) {
            if let Some(tag) = api.get(path).await.headers.get("etag") {
                tags.push((path, tag.to_str().unwrap().to_owned()));
            } else {
                let what = "what an expanded firewall shows is no state of its own";
                assert!(path.contains("?expand=filtering_policies"), "{path}: {what}");
            }
        }
        for Conditional { method, path, body, .. } in all.iter().filter(|it| it.writes) {
            // The tag of what the path is about, or of what is nearest above it.
            let above = tags.iter().filter(|(of, _)| path.starts_with(of.as_str()));
            let (_, tag) = above.max_by_key(|(of, _)| of.len()).unwrap();
            let weak = format!("W/{tag}");
            for named in ["*", tag.as_str(), weak.as_str()] {
                let header = [("if-none-match", named)];
                let answer = api.with(method, path, &header, body.as_ref()).await;
                let problem = answer.problem(412, "revision_mismatch");
                assert!(problem["detail"].as_str().unwrap().contains("If-None-Match"), "{problem}");
            }
        }
        assert_eq!(api.db.integers("SELECT count(*) FROM audit_event").await, [3]);
        // Several header lines form one list; spaces and empty elements are ignored.
        let one = path_of(&all, "updateRuleById");
        let (_, rule) = tags.iter().find(|(path, _)| *path == one).unwrap();
        let list = format!(" , \"a,b\" ,, {rule}\t");
        let headers = [("if-match", "\"x\""), ("if-match", list.as_str()), ("if-none-match", "\"y\"")];
        let body = json!({"description": "changed"});
        api.with("PATCH", one, &headers, Some(&body)).await.expect(200);
        // After the change, the tag belongs to a former state.
        let answer = api.with("PATCH", one, &headers, Some(&body)).await;
        answer.problem(412, "revision_mismatch");
    }
}

db_test! {
    async fn a_restoration_takes_no_condition_since_nothing_deleted_has_a_tag(api: Api) {
        let policy = api.policy().await;
        let rule = api.rule(&policy, &json!({})).await;
        let firewall = firewall_of(&policy).to_owned();
        let rule = format!("{policy}rules/{}/", rule["id"]);
        for path in [&rule, &policy, &firewall] {
            let tag = api.get(path).await.header("etag").to_owned();
            api.with("DELETE", path, &[("if-match", &tag)], None).await.expect(204);
            let (list, _id) = path.trim_end_matches('/').rsplit_once('/').unwrap();
            let list = api.get(&format!("{list}/?deleted=true")).await;
            assert!(list.headers.get("etag").is_none(), "{path}");
            let restore = format!("{path}restore/");
            let foreign = [("if-match", "\"7777\""), ("if-none-match", "*")];
            api.with("POST", &restore, &foreign, None).await.expect(200);
        }
    }
}

db_test! {
    async fn each_condition_makes_a_repeated_request_another(api: Api) {
        let policy = api.policy().await;
        let rule = api.rule(&policy, &json!({})).await;
        let path = format!("{policy}rules/move/");
        let body = json!({"rule_ids": [rule["id"]], "at": "last"});
        let tag = api.get(&policy).await.header("etag").to_owned();
        let ask = async |second: &str| {
            let headers = [("idempotency-key", "k"), ("if-match", tag.as_str()), ("if-match", second)];
            api.with("POST", &path, &headers, Some(&body)).await
        };
        ask("\"a\"").await.expect(200);
        assert_eq!(ask("\"a\"").await.header("idempotency-replayed"), "true");
        ask("\"b\"").await.problem(422, "key_reused");
    }
}
