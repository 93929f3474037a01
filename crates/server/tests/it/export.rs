//! Lists of rules as CSV and NDJSON.

use std::time::Duration;

use fireflow_storage::testing::TestDatabase;
use fireflow_storage::{DatabaseKind, DatabaseOptions, db_test};
use serde_json::{Value, json};

use crate::support::{Answer, Api, firewall_of};

const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

async fn get(api: &Api, path: &str, accept: &str) -> Answer {
    api.with("GET", path, &[("accept", accept)], None).await
}

/// Puts `count` rules, two of each priority.
async fn fill(api: &Api, policy: &str, count: i32) {
    let rule = |index: i32| {
        json!({
            "action": if index % 3 == 0 { "ALLOW" } else { "DENY" },
            "priority": index / 2,
            "sources": [{"address": format!("10.0.{}.{}", index / 256, index % 256), "port": 1}],
            "destinations": [{"address": "any"}],
            "protocols": ["tcp"],
        })
    };
    let set: Vec<Value> = (0..count).map(rule).collect();
    api.put(&format!("{policy}rules/"), &json!(set)).await.expect(200);
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The header and the records.
fn table(text: &str) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let record = |it: Result<csv::StringRecord, _>| it.unwrap().iter().map(str::to_owned).collect();
    (header, reader.records().map(record).collect())
}

db_test! {
    async fn a_whole_list_comes_in_lines(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        fill(&api, &policy, 1_203).await;
        let mut all = Vec::new();
        for page in 1..=2 {
            let page = api.get(&format!("{path}?page_size=1000&page={page}")).await.expect(200);
            all.extend(page["items"].as_array().unwrap().clone());
        }
        let answer = get(&api, &path, NDJSON).await;
        assert_eq!(answer.header("content-type"), NDJSON);
        assert_eq!(answer.header("vary"), "Accept");
        assert!(!answer.headers.contains_key("x-pagination"));
        assert!(lines(&answer.text) == all, "lines are the items of the pages");

        let answer = get(&api, &path, CSV).await;
        assert!(answer.header("content-type").starts_with("text/csv; charset=utf-8"));
        let (header, records) = table(&answer.text);
        assert_eq!(records.len(), all.len());
        let column = |name: &str| header.iter().position(|it| it == name).unwrap();
        for (record, rule) in records.iter().zip(&all) {
            for name in ["id", "priority", "position", "revision"] {
                assert_eq!(record[column(name)], rule[name].to_string());
            }
        }

        // With a filter, across all policies, and with selected members only.
        let allowed: Vec<&Value> = all.iter().filter(|rule| rule["action"] == "ALLOW").collect();
        let filtered = lines(&get(&api, &format!("{path}?action=allow"), NDJSON).await.text);
        assert_eq!(filtered.len(), allowed.len());
        for (rule, expected) in filtered.iter().zip(&allowed) {
            assert_eq!(rule["id"], expected["id"]);
            assert!(rule.get("position").is_none(), "its place among the filtered is not its place");
        }
        let across = lines(&get(&api, "/rules/?fields=name", NDJSON).await.text);
        assert_eq!(across.len(), all.len());
        assert!(across.is_sorted_by_key(|rule| rule["id"].as_i64()));
        assert_eq!(across[0], json!({"id": across[0]["id"], "name": null}));
    }
}

db_test! {
    async fn steps_of_an_export_take_one_statement_each(api: Api) {
        let policy = api.policy().await;
        fill(&api, &policy, 1_203).await;
        // A list across policies needs one more statement: the policies that are left out.
        for (path, statements) in [(format!("{policy}rules/"), 5), ("/rules/".to_owned(), 4)] {
            let before = api.db.statements();
            assert_eq!(get(&api, &path, CSV).await.text.lines().count(), 1_204);
            assert_eq!(api.db.statements() - before, statements, "the policy, its tag, and three steps");
        }
    }
}

db_test! {
    async fn cells_survive_what_people_write(api: Api) {
        let policy = api.policy().await;
        let rule = json!({
            "name": "=HYPERLINK(\"x\")",
            "description": "two\nlines, \"quoted\"",
            "reference": "CHG-1",
            "protocols": ["tcp", "udp"],
            "sources": [{"address": "10.0.0.0/8", "port": 53}, {"address": "2001:db8::/32"}],
            "destinations": [{"address": "192.0.2.1-192.0.2.9", "port": "1024-65535"}],
            "ports": [{"number": 53}, {"from": 8000, "to": 8100}],
            "labels": {"team": "net,ops"},
            "expires_at": "2030-01-01T00:00:00Z",
        });
        api.rule(&policy, &rule).await;
        let fields = "name,description,protocols,sources,destinations,ports,labels,expires_at,\
                      filtering_policy,icmp_type,reference";
        let answer = get(&api, &format!("{policy}rules/?fields={fields}"), CSV).await;
        let (header, records) = table(&answer.text);
        let id = &records[0][0];
        assert_eq!(
            header,
            [
                "id", "firewall_id", "firewall", "filtering_policy_id", "filtering_policy",
                "default_action", "name", "protocols", "icmp_type", "sources", "destinations",
                "ports", "expires_at", "description", "reference", "labels",
            ]
        );
        let ids: Vec<&str> = policy.split('/').filter(|it| it.parse::<i64>().is_ok()).collect();
        assert_eq!(
            records,
            [[
                id.as_str(), ids[0], "edge", ids[1], "in", "DENY", "'=HYPERLINK(\"x\")", "tcp; udp", "",
                "10.0.0.0/8 53; 2001:db8::/32", "192.0.2.1-192.0.2.9 1024-65535", "53; 8000-8100",
                "2030-01-01T00:00:00.000000Z", "two\nlines, \"quoted\"", "CHG-1", "{\"team\":\"net,ops\"}",
            ]]
        );
        assert!(answer.text.ends_with("\r\n"));
    }
}

db_test! {
    async fn a_page_can_come_in_lines_too(api: Api) {
        let policy = api.policy().await;
        fill(&api, &policy, 5).await;
        let path = format!("{policy}rules/?page_size=2&page=2&order_by=-priority");
        let answer = get(&api, &path, NDJSON).await;
        let expected = api.get(&path).await.expect(200);
        assert_eq!(json!(lines(&answer.text)), expected["items"]);
        let pagination: Value = serde_json::from_str(answer.header("x-pagination")).unwrap();
        assert_eq!(pagination["total"], 5);
        let whole = format!("{policy}rules/?order_by=-priority");
        let problem = get(&api, &whole, CSV).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["parameter"], "order_by");
        // An empty list is a header in CSV, and an empty text in NDJSON.
        let none = format!("{policy}rules/?name=none&fields=id");
        assert_eq!(get(&api, &none, CSV).await.text, "id\r\n");
        assert_eq!(get(&api, &none, NDJSON).await.text, "");
    }
}

db_test! {
    async fn the_client_says_which_format(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        for (accept, expected) in [
            ("*/*", "application/json"),
            ("application/xml", "application/json"),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/json"),
            ("text/csv;q=0, */*;q=0.1", "application/json"),
            ("text/csv;q=0.5, application/json", "application/json"),
            ("application/json;q=0.5, text/csv", "text/csv"),
            ("text/csv", "text/csv"),
            ("TEXT/CSV; charset=utf-8", "text/csv"),
            ("application/x-ndjson", "application/x-ndjson"),
            ("", "application/json"),
        ] {
            let answer = get(&api, &path, accept).await;
            assert!(answer.header("content-type").starts_with(expected), "{accept}: {answer:?}");
        }
    }
}

db_test! {
    async fn an_export_has_conditions_like_its_list(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        let tag = get(&api, &path, CSV).await.header("etag").to_owned();
        assert_ne!(tag, api.get(&path).await.header("etag"), "other bytes, another tag");
        let ask = async |name: &str, value: &str| {
            api.with("GET", &path, &[("accept", CSV), (name, value)], None).await
        };
        let unchanged = ask("if-none-match", &tag).await;
        assert_eq!((unchanged.status.as_u16(), unchanged.header("etag")), (304, tag.as_str()));
        assert_eq!(unchanged.header("vary"), "Accept");
        ask("if-match", "\"99\"").await.problem(412, "unknown_tag");
        assert_eq!(ask("if-match", &tag).await.status.as_u16(), 200);
        api.rule(&policy, &json!({})).await;
        assert_eq!(ask("if-none-match", &tag).await.status.as_u16(), 200);
        api.delete(firewall_of(&policy)).await.expect(204);
        get(&api, &path, NDJSON).await.problem(404, "not_found");
    }
}

/// A service whose requests wait only briefly for a turn.
struct Hasty(Api);

impl Hasty {
    async fn new(kind: DatabaseKind) -> Self {
        let database = TestDatabase::new(kind).await;
        let hasty = |options: &mut DatabaseOptions| {
            options.max_connections = 20;
            options.acquire_timeout = Duration::from_secs(3);
        };
        Self(Api::on(database.reopened(hasty).await))
    }
}

db_test! {
    async fn exports_that_nobody_reads_do_not_pile_up(hasty: Hasty) {
        let Hasty(api) = hasty;
        let policy = api.policy().await;
        fill(&api, &policy, 3_000).await;
        let path = format!("{policy}rules/");
        let mut unread = Vec::new();
        let refused = loop {
            let answer = api.open(&path, CSV).await;
            if answer.status().as_u16() != 200 {
                break answer;
            }
            unread.push(answer);
            assert!(unread.len() <= 3, "more than half of all turns are one subject's");
        };
        assert!(refused.headers().contains_key("retry-after"));
        assert_eq!(refused.status().as_u16(), 503);
        let problem: Value =
            serde_json::from_str(&refused.into_body().into_string().await.unwrap()).unwrap();
        assert_eq!(problem["code"], "unavailable", "{problem}");
        assert!(!unread.is_empty());
        api.get(&path).await.expect(200);
        // A client that leaves frees its turn.
        drop(unread);
        let start = std::time::Instant::now();
        while get(&api, &path, CSV).await.status.as_u16() == 503 {
            let is_patient = start.elapsed() < crate::service::PATIENCE;
            assert!(is_patient, "the export of a client that left goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

db_test! {
    async fn an_export_that_fails_halfway_is_no_shorter_list(api: Api) {
        let policy = api.policy().await;
        fill(&api, &policy, 1_203).await;
        let spoil = r#"UPDATE rule SET sources = '[{"address":"10.0.0.1/8"}]' WHERE priority = 600"#;
        api.db.execute(spoil).await;
        let answer = api.open(&format!("{policy}rules/"), NDJSON).await;
        assert_eq!(answer.status().as_u16(), 200);
        assert!(answer.into_body().into_string().await.is_err(), "the body must not just end");
    }
}
