//! The memory of requests: it is borrowed before use, shared between subjects, and returned.

use std::fmt::Write as _;
use std::time::Duration;

use fireflow_domain::actor::Role;
use fireflow_service::budget::Budget;
use fireflow_storage::testing::TestDatabase;
use fireflow_storage::{DatabaseKind, db_test};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::admission::{begun, first, patient};
use crate::support::{Api, plain_rule};

pub(crate) const MIB: u64 = 1024 * 1024;

/// A service with `bytes` of memory for requests, whose subjects wait only briefly for it.
pub(crate) async fn with_memory(bytes: u64) -> Api {
    let db = TestDatabase::new(DatabaseKind::Sqlite).await;
    Api::built(db, |app, _| {
        app.budget = Budget::bytes(bytes).with_patience(Duration::from_millis(50));
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_subject_cannot_keep_the_others_out_with_bodies_that_do_not_come() {
    let api = with_memory(64 * MIB).await;
    let (address, _stop, _served) = api.listen(patient(), None).await;
    let [ann, bob] = ["ann", "bob"].map(|name| api.token_of(name, &[Role::Editor]));
    let head = |token: &str, length: usize| {
        format!(
            "POST /firewalls/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let mut held = vec![begun(address, &head(&ann, 1_000_000)).await];
    while api.borrowed() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // That was Ann's share, so her next request gets 503 with `Retry-After`.
    let mut next = begun(address, &head(&ann, 1_000_000)).await;
    let answer = first(&mut next).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 5"), "{answer}");
    // Other subjects are served, and Ann's small requests are too, since waiting bodies hold no
    // permit.
    let body = json!({"name": "edge"});
    api.send("POST", "/firewalls/", &bob, &[], Some(&body)).await.expect(201);
    api.send("GET", "/firewalls/", &ann, &[], None).await.expect(200);
    let metrics = api.get("/metrics").await.text;
    assert!(
        metrics.contains("fireflow_work_memory_refusals_total{purpose=\"body\"} 1\n"),
        "{metrics}"
    );
    // Closed connections return all of their memory.
    held.clear();
    api.nothing_is_borrowed().await;
    let mut again = begun(address, &head(&ann, 1_000_000)).await;
    again.write_all(&vec![b' '; 1_000_000]).await.unwrap();
    assert!(first(&mut again).await.starts_with("HTTP/1.1 400 "), "blanks are no JSON");
    api.nothing_is_borrowed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_set_is_served_alone_and_the_next_has_its_turn() {
    let db = TestDatabase::new(DatabaseKind::Sqlite).await;
    // A long timeout, so that every waiting request is served in the end.
    let api = Api::built(db, |app, _| {
        app.budget = Budget::bytes(64 * MIB).with_patience(Duration::from_secs(60));
    });
    let policy = api.policy().await;
    let rules: Vec<Value> = (0..3_000)
        .map(|index| {
            let mut rule = plain_rule();
            rule["priority"] = json!(index);
            rule["sources"] = json!([{"address": format!("10.0.{}.{}", index / 256, index % 256)}]);
            rule
        })
        .collect();
    let (path, body) = (format!("{policy}rules/"), json!(rules));
    let (first, second, third) =
        tokio::join!(api.put(&path, &body), api.put(&path, &body), api.put(&path, &body),);
    let created: i64 = [first, second, third]
        .map(|answer| answer.expect(200)["created"].as_i64().unwrap())
        .iter()
        .sum();
    assert_eq!(created, 3_000, "one of them made all");
    api.nothing_is_borrowed().await;
}

/// The path of a list whose page of a thousand rules is 4.6 MB.
pub(crate) async fn long_list(api: &Api) -> String {
    let policy = api.policy().await;
    let rules: Vec<Value> = (0..1_000)
        .map(|index| {
            let mut rule = plain_rule();
            rule["description"] = json!("x".repeat(4_000));
            rule["priority"] = json!(index);
            rule["sources"] = json!([{"address": format!("10.0.{}.{}", index / 256, index % 256)}]);
            rule
        })
        .collect();
    let path = format!("{policy}rules/");
    for rules in rules.chunks(400) {
        let operations: Vec<Value> =
            rules.iter().map(|rule| json!({"op": "create", "rule": rule})).collect();
        api.post(&format!("{path}batch/"), &json!({"operations": operations})).await.expect(200);
    }
    api.nothing_is_borrowed().await;
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_nobody_reads_counts_until_it_is_sent() {
    let api = with_memory(32 * MIB).await;
    let path = long_list(&api).await;
    // Each answer is 4.6 MB, and the system buffers some of it for the client.
    let (address, _stop, _served) = api.listen(patient(), None).await;
    let ann = api.token_of("ann", &[Role::Viewer]);
    let request = format!(
        "GET {path}?page_size=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ann}\r\n\r\n"
    );
    let mut unread = Vec::new();
    let refusal = loop {
        let mut stream = begun(address, &request).await;
        let answer = first(&mut stream).await;
        if !answer.starts_with("HTTP/1.1 200 ") {
            break answer;
        }
        unread.push(stream);
        assert!(unread.len() < 8, "any number of answers is kept: {}", api.borrowed());
        assert!(api.borrowed() <= 16 * MIB, "{}", api.borrowed());
    };
    assert!(refusal.starts_with("HTTP/1.1 503 "), "{refusal}");
    assert!(!unread.is_empty() && api.borrowed() >= 4 * MIB, "{}", api.borrowed());
    // Other subjects get their pages.
    let bob = api.token_of("bob", &[Role::Viewer]);
    let page = api.send("GET", &format!("{path}?page_size=100"), &bob, &[], None).await;
    assert_eq!(page.expect(200)["items"].as_array().unwrap().len(), 100);
    drop(unread);
    api.nothing_is_borrowed().await;
}

db_test! {
    async fn a_body_that_becomes_more_than_any_request_needs_is_not_read(api: Api) {
        let policy = api.policy().await;
        let token = format!("Bearer {}", api.token());
        let headers = [("content-type", "application/json"), ("authorization", token.as_str())];
        // Each byte takes a hundred in memory, so 1.9 MB would take about 200 MB.
        let deep = vec!["{\"\":{\"\":{\"\":{\"\":{\"\":0}}}}}"; 70_000].join(",");
        let members: Vec<String> = (0..150_000).map(|index| format!("\"{index:x}\":0")).collect();
        let members = format!("{{{}}}", members.join(","));
        for (method, path, body) in [
            ("POST", "/firewalls/".to_owned(), format!("[{deep}]")),
            ("POST", "/firewalls/".to_owned(), format!("{{\"name\":[{deep}]}}")),
            ("POST", format!("{policy}rules/"), format!("{{\"sources\":[{deep}]}}")),
            ("POST", format!("{policy}inspections/"), format!("[{{\"at\":[{deep}]}}]")),
            ("PUT", format!("{policy}rules/"), format!("[{{\"labels\":[{deep}]}}]")),
            ("POST", format!("{policy}rules/batch/"), format!("{{\"operations\":[[{deep}]]}}")),
        ] {
            let answer = api.raw(method, &path, &headers, body.into_bytes()).await;
            answer.problem(413, "too_large");
        }
        // Ordinary faults are all counted, and the first hundred are reported.
        for (path, body) in [
            ("/firewalls/".to_owned(), members.clone()),
            (format!("{policy}inspections/"), format!("[{members}]")),
        ] {
            let answer = api.raw("POST", &path, &headers, body.into_bytes()).await;
            let problem = answer.problem(422, "invalid");
            assert_eq!(problem["errors"].as_array().unwrap().len(), 100);
            let detail = problem["detail"].as_str().unwrap();
            // The count includes the missing required members.
            assert!(detail.starts_with("15000") && detail.contains("the first 100"), "{detail}");
        }
        api.nothing_is_borrowed().await;
    }
}

db_test! {
    async fn faults_are_counted_to_the_last_and_told_up_to_a_hundred(api: Api) {
        let policy = api.policy().await;
        let many = 5_000;
        let rule = json!({"acton": "ALLOW", "priority": "x", "sources": [], "destinations": 7});
        let told = |problem: &Value, count: usize| {
            assert_eq!(problem["errors"].as_array().unwrap().len(), 100);
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.starts_with(&format!("{count} errors")), "{detail}");
        };
        let one = api.put(&format!("{policy}rules/"), &json!([rule])).await;
        let each = one.problem(422, "invalid")["errors"].as_array().unwrap().len();
        let set = api.put(&format!("{policy}rules/"), &json!(vec![rule.clone(); many])).await;
        told(&set.problem(422, "invalid"), each * many);
        let operations = vec![json!({"op": "create", "rule": rule, "rul": 1}); many];
        let batch = json!({"operations": operations});
        let batch = api.post(&format!("{policy}rules/batch/"), &batch).await;
        told(&batch.problem(422, "invalid"), (each + 1) * many);
        let packets = vec![json!({"source_adress": "10.0.0.1"}); many];
        let packets = api.post(&format!("{policy}inspections/"), &json!(packets)).await;
        told(&packets.problem(422, "invalid"), 3 * many);
        // Faults in query parameters are counted in the same way.
        let mut query = String::new();
        for index in 0..3_000 {
            write!(query, "p{index}&").unwrap();
        }
        let answer = api.get(&format!("/firewalls/?{query}")).await;
        told(&answer.problem(422, "invalid"), 3_000);
    }
}

db_test! {
    async fn what_is_no_list_of_operations_is_told_with_its_place(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/batch/");
        for (body, pointer) in [
            (json!({"operations": 7}), "#/operations"),
            (json!({"operations": null}), "#/operations"),
            (json!({"operations": {"op": "delete"}}), "#/operations"),
            (json!({}), "#/operations"),
            (json!([]), "#"),
            (json!(7), "#"),
        ] {
            let problem = api.post(&path, &body).await.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        }
        let operations = vec![json!({"op": "delete", "rule_id": 1}); 10_001];
        let answer = api.post(&path, &json!({"operations": operations})).await;
        let problem = answer.problem(422, "invalid");
        assert!(problem["detail"].as_str().unwrap().contains("has 10001 entries"), "{problem}");
    }
}
