//! Lists on a read replica. A second database with other content simulates a lagging replica.

use fireflow_storage::testing::TestDatabase;
use fireflow_storage::{DatabaseKind, DatabaseUrl};
use serde_json::{Value, json};

use crate::support::Api;

const LISTS: [&str; 5] = [
    "/firewalls/",
    "/firewalls/1/filtering-policies/",
    "/filtering-policies/",
    "/firewalls/1/filtering-policies/1/rules/",
    "/rules/",
];

/// A firewall, a policy and a rule, all with the same name.
async fn fill(api: &Api, name: &str) {
    let body = json!({"name": name});
    api.post("/firewalls/", &body).await.expect(201);
    let body = json!({"name": name, "default_action": "DENY"});
    api.post("/firewalls/1/filtering-policies/", &body).await.expect(201);
    let any = json!([{"address": "any"}]);
    let body = json!({
        "name": name, "action": "ALLOW", "priority": 1, "sources": any, "destinations": any,
    });
    api.post("/firewalls/1/filtering-policies/1/rules/", &body).await.expect(201);
}

/// A service that reads lists from a URL.
async fn reading_from(url: &str) -> Api {
    let url = DatabaseUrl::parse(url).unwrap();
    let database = TestDatabase::new(DatabaseKind::Postgres).await;
    Api::on(database.reopened(|options| options.read_url = Some(url)).await)
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_read_on_the_replica_and_nothing_else_is() {
    let old = Api::new(DatabaseKind::Postgres).await;
    fill(&old, "old").await;
    let api = reading_from(&old.db.url).await;
    fill(&api, "new").await;

    for list in LISTS {
        assert_eq!(names(&api.get(list).await.expect(200)), ["old"], "{list}");
    }
    let whole = api.open("/rules/", "application/x-ndjson").await;
    assert!(whole.into_body().into_string().await.unwrap().contains("\"name\":\"old\""));

    // The trail is read there too, and has one event less.
    api.post("/firewalls/", &json!({"name": "newer"})).await.expect(201);
    assert_eq!(api.get("/audit-events/").await.expect(200)["total"], 3);

    for one in [
        "/firewalls/1/",
        "/firewalls/1/?expand=filtering_policies",
        "/firewalls/1/filtering-policies/1/",
    ] {
        assert_eq!(api.get(one).await.expect(200)["name"], "new", "{one}");
    }
    let packet = "?source_address=192.0.2.1&source_port=1&destination_address=192.0.2.2&\
                  destination_port=2";
    let inspected = format!("/firewalls/1/filtering-policies/1/inspections/{packet}");
    assert_eq!(api.get(&inspected).await.expect(200)["active_rule"]["name"], "new");
    // A conditional request needs the current state, so it goes to the primary.
    let condition = [("if-none-match", "\"0.0\"")];
    let token = api.token_for(&fireflow_domain::actor::Role::ALL, None);
    let list = api.send("GET", LISTS[3], &token, &condition, None).await.expect(200);
    assert_eq!(names(&list), ["new"]);
    // As documented for clients that must see their own writes.
    for accept in ["application/json", "application/x-ndjson"] {
        let headers = [("if-match", "*"), ("accept", accept)];
        let answer = api.send("GET", LISTS[3], &token, &headers, None).await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
        assert!(answer.text.contains("\"name\":\"new\""), "{accept}: {}", answer.text);
    }
    for whole in [
        "/firewalls/1/?expand=filtering_policies.rules",
        "/firewalls/1/filtering-policies/1/?expand=rules",
    ] {
        let answer = api.get(whole).await;
        assert!(answer.text.contains("\"rules\":[{\"id\":1"), "{}", answer.text);
        assert!(!answer.text.contains("\"old\""), "{}", answer.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_read_on_the_primary_while_the_replica_has_no_schema_yet() {
    let late = TestDatabase::empty(DatabaseKind::Postgres).await;
    let api = reading_from(&late.url).await;
    fill(&api, "new").await;
    for list in LISTS {
        assert_eq!(names(&api.get(list).await.expect(200)), ["new"], "{list}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_are_read_on_the_primary_while_the_replica_is_away() {
    let api = reading_from("postgres://nobody@127.0.0.1:1/nothing").await;
    fill(&api, "new").await;
    for list in LISTS {
        assert_eq!(names(&api.get(list).await.expect(200)), ["new"], "{list}");
    }
}
