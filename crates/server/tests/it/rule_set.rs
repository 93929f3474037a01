//! A policy's rules as a whole.

use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Api, MAX_BODY_BYTES, plain_rule, tcp};

/// A rule without a priority, which differs from the others in its source.
fn rule(name: Option<&str>, source: &str) -> Value {
    let mut body = plain_rule();
    let members = body.as_object_mut().unwrap();
    members.remove("priority");
    members.insert("sources".to_owned(), json!([{"address": source}]));
    if let Some(name) = name {
        members.insert("name".to_owned(), json!(name));
    }
    body
}

async fn list(api: &Api, policy: &str) -> Vec<Value> {
    let list = api.get(&format!("{policy}rules/?page_size=1000")).await.expect(200);
    list["items"].as_array().unwrap().clone()
}

#[track_caller]
fn assert_counts(answer: &Value, counts: [i64; 4]) {
    let names = ["created", "updated", "deleted", "unchanged"];
    let found = names.map(|name| answer[name].as_i64().unwrap());
    assert_eq!(found, counts, "{answer}");
}

db_test! {
    async fn a_set_is_written_once_and_then_only_what_differs(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        let set = json!([rule(Some("a"), "10.0.0.1"), rule(None, "10.0.0.2"), rule(Some("c"), "10.0.0.3")]);
        let answer = api.put(&path, &set).await;
        let tag = answer.header("etag").to_owned();
        api.with("GET", &path, &[("if-match", &tag)], None).await.expect(200);
        let answer = answer.expect(200);
        assert_counts(&answer, [3, 0, 0, 0]);
        assert_eq!((&answer["revision"], &answer["rule_count"]), (&json!(2), &json!(3)));
        let first = list(&api, &policy).await;
        let priorities: Vec<&Value> = first.iter().map(|rule| &rule["priority"]).collect();
        assert_eq!(priorities, [&json!(10), &json!(20), &json!(30)]);

        // The same set, the list as it was read, and the list's page: none of them writes anything.
        let events = api.db.integers("SELECT count(*) FROM audit_event").await;
        let page = api.get(&format!("{path}?page_size=1000")).await.expect(200);
        for same in [set.clone(), json!(first), page] {
            let answer = api.put(&path, &same).await.expect(200);
            assert_counts(&answer, [0, 0, 0, 3]);
            assert_eq!(answer["revision"], 2);
        }
        assert_eq!(api.db.integers("SELECT count(*) FROM audit_event").await, events);

        // One rule is identified by id and one by name. One rule is new, and one is deleted.
        let one_less = format!("{path}?max_deletions=1");
        let mut by_id = first[1].clone();
        by_id["description"] = json!("now with words");
        let mut by_name = rule(Some("a"), "10.9.0.0/16");
        by_name["priority"] = json!(5);
        let mut new = rule(Some("new"), "10.0.0.9");
        new["priority"] = json!(6);
        let answer = api.put(&one_less, &json!([by_id, by_name, new])).await.expect(200);
        assert_counts(&answer, [1, 2, 1, 0]);
        let second = list(&api, &policy).await;
        let ids: Vec<&Value> = second.iter().map(|rule| &rule["id"]).collect();
        assert_eq!((ids[0], ids[2]), (&first[0]["id"], &first[1]["id"]), "they kept their ids");
        assert_eq!(second[0]["created_at"], first[0]["created_at"]);
        assert_eq!(second[0]["revision"], 3);
        assert_eq!(second[2]["description"], "now with words");
        let verdict = api.verdict(&policy, &tcp("10.9.1.1", "192.0.2.1", 1)).await;
        assert_eq!(verdict, ("ALLOW".to_owned(), first[0]["id"].as_i64()));
        let verdict = api.verdict(&policy, &tcp("10.0.0.3", "192.0.2.1", 1)).await;
        assert_eq!(verdict.0, "DENY", "what was not given is gone");
        // The derived rows are up to date.
        let found = api.get(&format!("{path}?source_address=10.9.0.0/16")).await.expect(200);
        assert_eq!(found["total"], 1);
        let found = api.get(&format!("{path}?source_address=10.0.0.1")).await.expect(200);
        assert_eq!(found["total"], 0);
        let counters = "SELECT rule_count * 100 + entry_count FROM policy";
        assert_eq!(api.db.integers(counters).await, [306]);
        assert_eq!(api.db.integers("SELECT count(*) FROM audit_event WHERE deed = 'delete'").await, [1]);

        let answer = api.put(&format!("{path}?max_deletions=3"), &json!([])).await.expect(200);
        assert_counts(&answer, [0, 0, 3, 0]);
        assert_eq!(api.db.integers("SELECT count(*) FROM rule_address").await, [0]);
    }
}

db_test! {
    async fn names_and_contents_can_change_hands(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        let set = json!([rule(Some("a"), "10.0.0.1"), rule(Some("b"), "10.0.0.2")]);
        api.put(&path, &set).await.expect(200);
        let before = list(&api, &policy).await;
        let (mut one, mut two) = (before[0].clone(), before[1].clone());
        (one["name"], two["name"]) = (json!("b"), json!("a"));
        (one["sources"], two["sources"]) = (two["sources"].clone(), one["sources"].clone());
        let answer = api.put(&path, &json!([one, two])).await.expect(200);
        assert_counts(&answer, [0, 2, 0, 0]);
        let after = list(&api, &policy).await;
        assert_eq!((&after[0]["id"], &after[0]["name"]), (&before[0]["id"], &json!("b")));
        assert_eq!(after[0]["sources"], before[1]["sources"]);
        // An equal rule without a name is identified by its content, and gets the name.
        let renamed = json!([rule(Some("x"), "10.0.0.2"), rule(Some("y"), "10.0.0.1")]);
        let answer = api.put(&path, &renamed).await.expect(200);
        assert_counts(&answer, [0, 2, 0, 0]);
        let last = list(&api, &policy).await;
        assert_eq!((&last[0]["id"], &last[0]["name"]), (&before[0]["id"], &json!("x")));
    }
}

db_test! {
    async fn a_set_that_contradicts_itself_is_refused_as_a_whole(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        api.put(&path, &json!([rule(Some("a"), "10.0.0.1")])).await.expect(200);
        let stored = list(&api, &policy).await;
        let with = |mut rule: Value, name: &str, value: Value| {
            rule[name] = value;
            rule
        };
        let plain = |index: u8| rule(None, &format!("10.0.1.{index}"));
        let cases = [
            (json!([plain(1), plain(2), plain(1)]), vec!["#/2"]),
            (json!([rule(Some("n"), "10.0.0.8"), rule(Some("n"), "10.0.0.9")]), vec!["#/1/name"]),
            (json!([with(plain(1), "id", json!(999_999))]), vec!["#/0/id"]),
            (
                json!([with(plain(1), "id", stored[0]["id"].clone()), with(plain(2), "id", stored[0]["id"].clone())]),
                vec!["#/1/id"],
            ),
            (json!([plain(1), with(plain(2), "priority", json!(5))]), vec!["#/1/priority"]),
            (json!([with(plain(2), "priority", json!(5)), plain(1)]), vec!["#/1/priority"]),
            (
                json!([with(plain(1), "protocl", json!("udp")), with(plain(2), "sources", json!([{"address": "x"}]))]),
                vec!["#/0/protocl", "#/1/sources/0/address"],
            ),
            (json!([with(plain(1), "icmp_type", json!(8))]), vec!["#/0/icmp_type"]),
            (json!([with(plain(1), "id", json!("1"))]), vec!["#/0/id"]),
            (json!([7]), vec!["#/0"]),
            (json!("rules"), vec!["#"]),
            (json!({}), vec!["#"]),
            (json!({"items": 7}), vec!["#"]),
            (json!({"rules": []}), vec!["#", "#/rules"]),
            (json!({"items": [], "itmes": []}), vec!["#/itmes"]),
        ];
        for (set, pointers) in cases {
            let problem = api.put(&path, &set).await.problem(422, "invalid");
            let errors = problem["errors"].as_array().unwrap();
            let found: Vec<&str> = errors.iter().map(|it| it["pointer"].as_str().unwrap()).collect();
            assert_eq!(found, pointers, "{set}");
        }
        // If two rules conflict, the error names both and the kind of conflict.
        let twice = json!([rule(Some("n"), "10.0.0.8"), plain(1), rule(Some("n"), "10.0.0.9"), plain(1)]);
        let problem = api.put(&path, &twice).await.problem(422, "invalid");
        let found: Vec<[&Value; 3]> = problem["errors"].as_array().unwrap().iter()
            .map(|it| [&it["pointer"], &it["code"], &it["conflicts_with"]]).collect();
        assert_eq!(json!(found), json!([
            ["#/2/name", "name_taken", "#/0/name"], ["#/3", "equal_rule", "#/1"],
        ]));
        let unknown = json!([with(plain(1), "id", json!(999_999))]);
        let problem = api.put(&path, &unknown).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["code"], "not_found");
        for malformed in ["", "[1", "{\"items\": "] {
            let authorization = format!("Bearer {}", api.token());
            let headers =
                [("authorization", authorization.as_str()), ("content-type", "application/json")];
            let answer = api.raw("PUT", &path, &headers, malformed.as_bytes().to_vec()).await;
            answer.problem(400, "malformed_json");
        }
        assert_eq!(list(&api, &policy).await, stored, "nothing was changed");
        // With `duplicates=keep`, equal rules are kept and identified one by one.
        let keep = format!("{path}?duplicates=keep&max_deletions=1");
        let twins = json!([plain(1), plain(1), plain(1)]);
        let answer = api.put(&keep, &twins).await.expect(200);
        assert_counts(&answer, [3, 0, 1, 0]);
        let answer = api.put(&keep, &twins).await.expect(200);
        assert_counts(&answer, [0, 0, 0, 3]);
        let answer = api.put(&keep, &json!([plain(1), plain(2), plain(1), plain(1), plain(1)])).await;
        assert_counts(&answer.expect(200), [2, 2, 0, 1]);
    }
}

db_test! {
    async fn a_set_is_guarded_and_may_be_large(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        let tag = api.get(&path).await.header("etag").to_owned();
        let guard = [("if-match", tag.as_str())];
        let many: Value = (0..2_500)
            .map(|index| rule(Some(&format!("r{index}")), &format!("10.1.{}.{}", index / 256, index % 256)))
            .collect();
        let answer = api.with("PUT", &path, &guard, Some(&many)).await.expect(200);
        assert_counts(&answer, [2_500, 0, 0, 0]);
        api.with("PUT", &path, &guard, Some(&many)).await.problem(412, "revision_mismatch");
        // The number of statements per thousand rows is constant.
        let mut changed = many.clone();
        for rule in changed.as_array_mut().unwrap().iter_mut().take(1_500) {
            rule["action"] = json!("DENY");
        }
        let before = api.db.statements();
        let answer = api.put(&path, &changed).await.expect(200);
        assert_counts(&answer, [0, 1_500, 0, 1_000]);
        // Lock, rules, unused names and contents (2), rows (2), counter, events (2).
        assert_eq!(api.db.statements() - before, 9);
        assert_eq!(api.get(&policy).await.expect(200)["rule_count"], 2_500);
        assert!(many.to_string().len() < MAX_BODY_BYTES);
        let too_large = "x".repeat(2 * MAX_BODY_BYTES + 1);
        api.put(&path, &json!([rule(Some(&too_large), "10.0.0.1")])).await.problem(413, "too_large");
    }
}
