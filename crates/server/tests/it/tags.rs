//! The meaning of a tag: one state in any history of the database, and everything that an answer
//! shows.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use fireflow_storage::testing::{TestDatabase, entity_tables};
use fireflow_storage::{DatabaseKind, db_test};
use serde_json::{Value, json};

use crate::service::{Place, Service, run, text};
use crate::support::{Answer, Api, firewall_of, list_of};

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

async fn read(api: &Api, path: &str, accept: &str, tag: Option<&str>) -> Answer {
    let mut headers = vec![("accept", accept)];
    headers.extend(tag.map(|tag| ("if-none-match", tag)));
    api.with("GET", path, &headers, None).await
}

async fn tag(api: &Api, path: &str, accept: &str) -> String {
    let answer = read(api, path, accept, None).await;
    assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.text);
    answer.header("etag").to_owned()
}

/// The part of a tag before the period, which identifies the state.
fn state(tag: &str) -> &str {
    tag.trim_matches('"').split_once('.').unwrap().0
}

/// A policy with rules `a` and `b`. Returns the paths of the firewall, the policy, the list, and
/// rule `a`.
async fn fill(api: &Api) -> [String; 4] {
    let policy = api.policy().await;
    let rule = api.rule(&policy, &json!({"name": "a"})).await;
    let other = json!({"name": "b", "action": "DENY", "priority": 200});
    api.rule(&policy, &other).await;
    let rules = format!("{policy}rules/");
    let rule = format!("{rules}{}/", rule["id"]);
    [firewall_of(&policy).to_owned(), policy, rules, rule]
}

const TABLES: [&str; 3] = ["firewall", "policy", "rule"];

async fn save(db: &TestDatabase) {
    for table in TABLES {
        db.execute(&format!("CREATE TABLE saved_{table} AS SELECT * FROM {table}")).await;
    }
}

/// Restores the saved rows: all columns, or only those that an older version knows. The audit trail
/// cannot be restored here, so its chains continue.
async fn put_back(db: &TestDatabase, has_marks: bool) {
    let tables = entity_tables();
    for table in TABLES {
        let columns: Vec<&str> = tables[table]
            .keys()
            .map(String::as_str)
            .filter(|column| *column != "id" && !column.starts_with("audit_"))
            .filter(|column| has_marks || !["mark", "states"].contains(column))
            .collect();
        let columns = columns.join(", ");
        let sql = format!(
            "UPDATE {table} SET ({columns}) = \
             (SELECT {columns} FROM saved_{table} s WHERE s.id = {table}.id)"
        );
        db.execute(&sql).await;
    }
}

async fn describe(api: &Api, path: &str, text: &str) -> Answer {
    let answer = api.patch(path, &json!({"description": text})).await;
    assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.text);
    answer
}

db_test! {
    async fn a_tag_of_a_state_that_was_lost_fits_no_other(api: Api) {
        let [firewall, policy, rules, rule] = fill(&api).await;
        save(&api.db).await;
        for has_marks in [true, false] {
            for path in [&firewall, &policy, &rule] {
                describe(&api, path, "lost").await;
            }
            let reads = [
                (firewall.clone(), "*/*"),
                (policy.clone(), "*/*"),
                (format!("{policy}?expand=rules"), "*/*"),
                (rule.clone(), "*/*"),
                (format!("{rule}?fields=id"), "*/*"),
                (rules.clone(), "*/*"),
                (format!("{rules}?fields=id"), "*/*"),
                (format!("{rules}?page_size=1"), CSV),
                (rules.clone(), CSV),
                (rules.clone(), NDJSON),
            ];
            let mut tags = HashMap::new();
            for (path, accept) in &reads {
                tags.insert((path, accept), tag(&api, path, accept).await);
            }
            let lost = |path: &String| tags[&(path, &"*/*")].clone();
            let guards = [lost(&firewall), lost(&policy), lost(&rule)];
            let list = lost(&rules);
            put_back(&api.db, has_marks).await;
            // The same counters, but in another history.
            for path in [&firewall, &policy, &rule] {
                describe(&api, path, "another").await;
            }
            for (path, accept) in &reads {
                let known = Some(tags[&(path, accept)].as_str());
                let answer = read(&api, path, accept, known).await;
                assert_eq!(answer.status.as_u16(), 200, "{path} as {accept}");
            }
            let body = json!({"description": "over what nobody saw"});
            for (path, lost) in [&firewall, &policy, &rule].into_iter().zip(&guards) {
                let guard = [("if-match", lost.as_str())];
                for (method, body) in [("PATCH", Some(&body)), ("DELETE", None), ("GET", None)] {
                    let answer = api.with(method, path, &guard, body).await;
                    answer.problem(412, "revision_mismatch");
                }
            }
            let set = json!([]);
            let id = api.get(&rule).await.expect(200)["id"].clone();
            let moved = json!({"rule_ids": [id], "at": "last"});
            let batch = json!({"operations": [{"op": "delete", "rule_id": id}]});
            for lost in [&list, &guards[1]] {
                let guard = [("if-match", lost.as_str())];
                let put = api.with("PUT", &rules, &guard, Some(&set)).await;
                put.problem(412, "revision_mismatch");
                for (path, body) in [("move/", &moved), ("batch/", &batch)] {
                    let path = format!("{rules}{path}");
                    let answer = api.with("POST", &path, &guard, Some(body)).await;
                    answer.problem(412, "revision_mismatch");
                }
            }
            let conditional = json!({"op": "delete", "rule_id": id, "if_match": guards[2]});
            let batch = json!({"operations": [conditional]});
            let problem = api.post(&format!("{rules}batch/"), &batch).await.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], "#/operations/0/if_match", "{problem}");
            put_back(&api.db, true).await;
        }
    }
}

db_test! {
    async fn a_cursor_of_a_lost_state_counts_anew(api: Api) {
        let [_, policy, rules, rule] = fill(&api).await;
        api.rule(&policy, &json!({"name": "c", "priority": 300, "protocols": ["udp"]})).await;
        save(&api.db).await;
        api.delete(&rule).await.expect(204);
        let page = api.get(&format!("{rules}?page_size=1&cursor=")).await.expect(200);
        assert_eq!((&page["items"][0]["name"], &page["items"][0]["position"]), (&json!("b"), &json!(1)));
        put_back(&api.db, true).await;
        // The same revision, with one more rule ahead of the cursor.
        describe(&api, &policy, "another").await;
        let cursor = page["next_cursor"].as_str().unwrap();
        let next = api.get(&format!("{rules}?page_size=1&cursor={cursor}")).await.expect(200);
        assert_eq!((&next["items"][0]["name"], &next["items"][0]["position"]), (&json!("c"), &json!(3)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_lets_no_lost_update_pass() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let rule = "/firewalls/1/filtering-policies/1/rules/1/";
    let change = |text: &str| json!({"description": text}).to_string();
    let lost = {
        let service = Service::start(folder, &place.url);
        let mut connection = service.connect();
        for (path, body) in [
            ("/firewalls/", json!({"name": "edge"})),
            ("/firewalls/1/filtering-policies/", json!({"name": "in", "default_action": "DENY"})),
            ("/firewalls/1/filtering-policies/1/rules/", crate::support::plain_rule()),
        ] {
            let (status, answer) = connection.ask("POST", path, &body.to_string()).unwrap();
            assert_eq!(status, 201, "{answer}");
        }
        let output = run(folder, &["backup", "b.db"], &[]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let answer = connection.exchange("PATCH", rule, &change("lost")).unwrap();
        assert_eq!(answer.status.as_u16(), 200);
        (answer.header("etag").to_owned(), answer.expect(200)["revision"].clone())
    };
    let output = run(folder, &["restore", "b.db", "--replace"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let service = Service::start(folder, &place.url);
    let mut connection = service.connect();
    let (tag, revision) = lost;
    let (_, another) = connection.ask("PATCH", rule, &change("another")).unwrap();
    assert_eq!(another["revision"], revision, "the counter was there before");
    let mut ask = |method, name, body: &str| {
        connection.exchange_with(method, rule, &[(name, tag.as_str())], body).unwrap()
    };
    assert_eq!(ask("GET", "if-none-match", "").status.as_u16(), 200);
    ask("PATCH", "if-match", &change("over it")).problem(412, "revision_mismatch");
    ask("DELETE", "if-match", "").problem(412, "revision_mismatch");
}

db_test! {
    async fn a_tag_changes_with_whatever_is_shown_and_with_nothing_else(api: Api) {
        let [firewall, policy, rules, rule] = fill(&api).await;
        let reads = [
            (firewall.clone(), "*/*"),
            (format!("{firewall}?fields=id"), "*/*"),
            (policy.clone(), "*/*"),
            (format!("{policy}?fields=name"), "*/*"),
            (format!("{policy}?expand=rules"), "*/*"),
            (rule.clone(), "*/*"),
            (format!("{rule}?fields=name"), "*/*"),
            (rules.clone(), "*/*"),
            (format!("{rules}?page_size=1"), "*/*"),
            (format!("{rules}?page_size=1&page=2"), "*/*"),
            (format!("{rules}?page_size=1"), CSV),
            (format!("{rules}?page_size=1"), NDJSON),
            (rules.clone(), CSV),
            (rules.clone(), NDJSON),
            (format!("{rules}?fields=name"), CSV),
            (format!("{rules}?fields=name"), NDJSON),
        ];
        let mut seen: HashMap<String, String> = HashMap::new();
        let mut read_all = async || {
            let mut found = Vec::new();
            for (path, accept) in &reads {
                let answer = read(&api, path, accept, None).await;
                let tag = answer.header("etag").to_owned();
                let again = read(&api, path, accept, Some(&tag)).await;
                assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""), "{path}");
                assert_eq!(again.header("etag"), tag);
                assert!(!answer.text.is_empty());
                // One tag has one answer, whatever the path.
                let text = seen.entry(tag.clone()).or_insert_with(|| answer.text.clone());
                assert_eq!(*text, answer.text, "{path} as {accept}");
                found.push((tag, answer.text));
            }
            found
        };
        let mut before = read_all().await;
        let tags: HashSet<&String> = before.iter().map(|(tag, _)| tag).collect();
        assert_eq!(tags.len(), reads.len(), "each shows something else");
        for step in 0..6 {
            match step {
                0 => drop(api.patch(&firewall, &json!({"name": "renamed"})).await.expect(200)),
                1 => drop(api.patch(&policy, &json!({"default_action": "REJECT"})).await.expect(200)),
                2 => drop(describe(&api, &rule, "changed").await),
                // `a` is renumbered, which does not change the rule. Its tag changes, because the
                // answer shows its priority.
                3 => drop(api.rule(&policy, &json!({"name": "c", "priority": 10, "protocols": []})).await),
                4 => drop(api.delete(&format!("{rules}2/")).await.expect(204)),
                _ => drop(api.with("POST", &format!("{rules}2/restore/"), &[], None).await.expect(200)),
            }
            let after = read_all().await;
            for (((path, accept), old), new) in reads.iter().zip(&before).zip(&after) {
                assert!(
                    old.0 != new.0 || old.1 == new.1,
                    "step {step}, {path} as {accept}: other bytes under one tag"
                );
            }
            before = after;
        }
    }
}

db_test! {
    async fn what_a_write_answers_is_the_tag_that_a_read_finds(api: Api) {
        let [firewall, policy, rules, rule] = fill(&api).await;
        let same = async |answer: Answer, path: &str| {
            let written = answer.header("etag").to_owned();
            assert_eq!(tag(&api, path, "*/*").await, written, "{path}");
        };
        let made = api.post("/firewalls/", &json!({"name": "core"})).await;
        let path = made.header("location").to_owned();
        same(made, &path).await;
        let body = json!({"name": "out", "default_action": "DENY"});
        let made = api.post(&list_of(&policy), &body).await;
        let path = made.header("location").to_owned();
        same(made, &path).await;
        let mut placed = crate::support::plain_rule();
        placed.as_object_mut().unwrap().remove("priority");
        placed["protocols"] = json!(["udp"]);
        let made = api.post(&format!("{rules}?at=first"), &placed).await;
        assert_eq!(made.json()["position"], 1, "which a read of the rule does not show");
        let path = made.header("location").to_owned();
        same(made, &path).await;
        for path in [&firewall, &policy, &rule] {
            same(describe(&api, path, "changed").await, path).await;
            // The same change again writes nothing, and keeps the state.
            same(describe(&api, path, "changed").await, path).await;
        }
        for path in [&rule, &policy, &firewall] {
            let before = tag(&api, path, "*/*").await;
            api.delete(path).await.expect(204);
            let restored = api.with("POST", &format!("{path}restore/"), &[], None).await;
            assert_ne!(state(restored.header("etag")), state(&before), "a deletion is a change");
            same(restored, path).await;
        }
        // The tag of a batch's answer is valid for the next change.
        for round in 0..2 {
            let batch = json!({"operations": [{"op": "delete", "rule_id": 2 - round}]});
            let answer = api.post(&format!("{rules}batch/"), &batch).await;
            let left = answer.header("etag").to_owned();
            assert_eq!(state(&left), state(&tag(&api, &policy, "*/*").await));
            assert_eq!(state(&left), state(&tag(&api, &rules, CSV).await));
            assert_eq!(read(&api, &rules, "*/*", Some(&left)).await.status.as_u16(), 200);
            let body = json!({"description": format!("after batch {round}")});
            api.with("PATCH", &policy, &[("if-match", &left)], Some(&body)).await.expect(200);
        }
    }
}

db_test! {
    async fn what_the_clock_changes_changes_the_tag(api: Api) {
        let policy = api.policy().await;
        let times = json!({
            "name": "t", "starts_at": "2026-11-24T12:00:10Z", "expires_at": "2026-11-24T12:00:20Z",
        });
        let timed = api.rule(&policy, &times).await;
        api.rule(&policy, &json!({"name": "plain", "protocols": []})).await;
        let rules = format!("{policy}rules/");
        let rule = format!("{rules}{}/", timed["id"]);
        let reads = [
            (rule.clone(), "*/*"),
            (rules.clone(), "*/*"),
            (format!("{rules}?fields=state"), "*/*"),
            (format!("{rules}?filter=state+%3D+active"), "*/*"),
            (format!("{policy}?expand=rules"), "*/*"),
            (rules.clone(), CSV),
            (rules.clone(), NDJSON),
            (format!("{rules}?filter=state+%3D+active"), NDJSON),
            (format!("{rules}?page_size=1"), CSV),
        ];
        let mut before = Vec::new();
        for (path, accept) in &reads {
            before.push(tag(&api, path, accept).await);
        }
        for expected in ["active", "expired"] {
            // Nothing has changed yet, so a client that knows the tag gets 304.
            api.clock.advance(Duration::from_secs(9));
            for ((path, accept), known) in reads.iter().zip(&before) {
                let answer = read(&api, path, accept, Some(known)).await;
                assert_eq!(answer.status.as_u16(), 304, "before {expected}: {path} as {accept}");
            }
            api.clock.advance(Duration::from_secs(1));
            for ((path, accept), known) in reads.iter().zip(&mut before) {
                let answer = read(&api, path, accept, Some(known)).await;
                assert_eq!(answer.status.as_u16(), 200, "{expected}: {path} as {accept}");
                *known = answer.header("etag").to_owned();
            }
            assert_eq!(api.get(&rule).await.expect(200)["state"], expected);
            // The rule's stored state is the same, so a change that was prepared earlier still
            // succeeds.
            let guard = [("if-match", before[0].as_str())];
            let body = json!({"log": expected == "active"});
            let changed = api.with("PATCH", &rule, &guard, Some(&body)).await;
            assert_eq!(changed.status.as_u16(), 200, "{}", changed.text);
            for ((path, accept), known) in reads.iter().zip(&mut before) {
                *known = tag(&api, path, accept).await;
            }
        }
        // An answer without members that depend on the time keeps its tag.
        let plain = format!("{rules}?fields=name");
        let known = tag(&api, &plain, "*/*").await;
        api.clock.advance(Duration::from_secs(1_000));
        assert_eq!(read(&api, &plain, "*/*", Some(&known)).await.status.as_u16(), 304);
    }
}

db_test! {
    async fn who_knows_the_state_costs_no_more_statements(api: Api) {
        let [firewall, policy, rules, rule] = fill(&api).await;
        let reads = [
            (&firewall, "*/*", 1),
            (&policy, "*/*", 1),
            (&rule, "*/*", 1),
            (&rules, "*/*", 2),
            // The policy, and the last change of its rules by the clock, but no rules.
            (&rules, CSV, 2),
            (&rules, NDJSON, 2),
        ];
        for (path, accept, expected) in reads {
            let known = tag(&api, path, accept).await;
            let before = api.db.statements();
            assert_eq!(read(&api, path, accept, Some(&known)).await.status.as_u16(), 304);
            assert_eq!(api.db.statements() - before, expected, "{path} as {accept}");
        }
    }
}

db_test! {
    async fn a_batch_takes_tags_of_its_rules(api: Api) {
        let [_, policy, rules, rule] = fill(&api).await;
        let path = format!("{rules}batch/");
        let known = tag(&api, &rule, "*/*").await;
        let id = api.get(&rule).await.expect(200)["id"].clone();
        let update = |tag: &str, text: &str| {
            json!({"operations": [{
                "op": "update", "rule_id": id, "patch": {"description": text}, "if_match": tag,
            }]})
        };
        api.post(&path, &update(&known, "one")).await.expect(200);
        let fresh = format!("\"x\", {}", tag(&api, &rule, "*/*").await);
        api.post(&path, &update(&fresh, "two")).await.expect(200);
        api.post(&path, &update("*", "three")).await.expect(200);
        let weak = format!("W/{}", tag(&api, &rule, "*/*").await);
        let of_policy = tag(&api, &policy, "*/*").await;
        for (tag, said) in [
            (known.as_str(), "has changed"),
            (&weak, "weak"),
            (&of_policy, "not a tag of this rule"),
            ("\"7\"", "not a tag of this rule"),
            ("6", "double quotes"),
            ("", "double quotes"),
        ] {
            let problem = api.post(&path, &update(tag, "late")).await.problem(422, "invalid");
            let error = &problem["errors"][0];
            assert_eq!(error["pointer"], "#/operations/0/if_match", "{tag}");
            assert!(error["detail"].as_str().unwrap().contains(said), "{tag}: {error}");
        }
        let wrong = json!({"operations": [{"op": "delete", "rule_id": id, "if_match": 7}]});
        api.post(&path, &wrong).await.problem(422, "invalid");
        let both = json!({"operations": [{
            "op": "delete", "rule_id": id, "if_match": tag(&api, &rule, "*/*").await,
            "if_revision": api.get(&rule).await.expect(200)["revision"],
        }]});
        let answer: Value = api.post(&path, &both).await.expect(200);
        assert_eq!(answer["items"][0]["rule_id"], id);
    }
}
