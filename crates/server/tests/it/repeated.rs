//! Requests that are repeated with the same `Idempotency-Key`.

use std::time::Duration;

use fireflow_domain::actor::Role;
use fireflow_storage::db_test;
use fireflow_web::described::Effect;
use serde_json::{Value, json};

use crate::operations::operations;
use crate::support::{Answer, Api};

async fn post(api: &Api, path: &str, key: &str, body: &Value) -> Answer {
    api.with("POST", path, &[("idempotency-key", key)], Some(body)).await
}

async fn names(api: &Api) -> Vec<String> {
    let list = api.get("/firewalls/?page_size=1000").await.expect(200);
    let items = list["items"].as_array().unwrap().iter();
    items.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
}

db_test! {
    async fn a_repeated_request_is_answered_as_the_first_was(api: Api) {
        let body = json!({"name": "edge", "labels": {"site": "fra"}});
        let first = post(&api, "/firewalls/", "8e03978e", &body).await;
        assert!(first.headers.get("idempotency-replayed").is_none());
        let again = post(&api, "/firewalls/", "8e03978e", &body).await;
        assert_eq!(again.header("idempotency-replayed"), "true");
        assert_eq!((first.status, &first.text), (again.status, &again.text));
        for name in ["etag", "location", "content-type"] {
            assert_eq!(first.header(name), again.header(name), "{name}");
        }
        assert_ne!(first.header("x-request-id"), again.header("x-request-id"));
        assert_eq!(names(&api).await, ["edge"]);
        assert_eq!(api.db.integers("SELECT count(*) FROM audit_event").await, [1]);
        // The quoted form is the same key. Later changes of the firewall do not affect the stored
        // answer.
        api.with("DELETE", first.header("location"), &[], None).await.expect(204);
        let quoted = post(&api, "/firewalls/", "\"8e03978e\"", &body).await;
        assert_eq!((quoted.header("idempotency-replayed"), &quoted.text), ("true", &first.text));
        assert!(names(&api).await.is_empty());
    }
}

db_test! {
    async fn another_request_under_a_used_key_is_refused(api: Api) {
        post(&api, "/firewalls/", "k", &json!({"name": "edge"})).await.expect(201);
        post(&api, "/firewalls/", "k", &json!({"name": "core"})).await.problem(422, "key_reused");
        // The path and the tenants belong to the request too, not only the body.
        let policy = json!({"name": "in", "default_action": "DENY"});
        post(&api, "/firewalls/1/filtering-policies/", "k", &policy).await.problem(422, "key_reused");
        let blue = api.token_for(&Role::ALL, Some(&[""]));
        let body = json!({"name": "edge"});
        let other = api.send("POST", "/firewalls/", &blue, &[("idempotency-key", "k")], Some(&body));
        other.await.problem(422, "key_reused");
        assert_eq!(names(&api).await, ["edge"]);
        for bad in ["", "a b", &"x".repeat(256)] {
            let answer = post(&api, "/firewalls/", bad, &json!({"name": "x"})).await;
            let problem = answer.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["parameter"], "Idempotency-Key", "{problem}");
        }
    }
}

db_test! {
    async fn what_failed_changed_nothing_and_leaves_its_key_free(api: Api) {
        post(&api, "/firewalls/", "a", &json!({"name": "edge"})).await.expect(201);
        let taken = post(&api, "/firewalls/", "b", &json!({"name": "edge"})).await;
        taken.problem(409, "name_taken");
        post(&api, "/firewalls/", "b", &json!({"nmae": "edge"})).await.problem(422, "invalid");
        let made = post(&api, "/firewalls/", "b", &json!({"name": "core"})).await;
        assert!(made.headers.get("idempotency-replayed").is_none());
        made.expect(201);
        // A dry run with a token that lacks the role does not use the key either.
        let viewer = api.token_for(&[Role::Viewer], None);
        let body = json!({"name": "edge"});
        let answer = api.send("POST", "/firewalls/", &viewer, &[("idempotency-key", "a")], Some(&body));
        answer.await.problem(403, "forbidden");
    }
}

db_test! {
    async fn keys_are_each_subjects_own_and_end_after_a_day(api: Api) {
        post(&api, "/firewalls/", "k", &json!({"name": "edge"})).await.expect(201);
        let bob = api.token_of("bob", &[Role::Editor]);
        let body = json!({"name": "bobs"});
        let his = api.send("POST", "/firewalls/", &bob, &[("idempotency-key", "k")], Some(&body)).await;
        his.expect(201);
        api.clock.advance(Duration::from_secs(24 * 3_600 - 1));
        let early = api.token_of("tester", &Role::ALL);
        let key = [("idempotency-key", "k")];
        let other = json!({"name": "other"});
        let answer = api.send("POST", "/firewalls/", &early, &key, Some(&other)).await;
        answer.problem(422, "key_reused");
        api.clock.advance(Duration::from_secs(1));
        let late = api.token_of("tester", &Role::ALL);
        let answer = api.send("POST", "/firewalls/", &late, &key, Some(&other)).await;
        assert!(answer.headers.get("idempotency-replayed").is_none());
        answer.expect(201);
        let again = api.send("POST", "/firewalls/", &late, &key, Some(&other)).await;
        assert_eq!(again.header("idempotency-replayed"), "true");
    }
}

db_test! {
    async fn of_many_that_come_at_once_one_is_done(api: Api) {
        let body = json!({"name": "edge"});
        let all = (0..16).map(|_| post(&api, "/firewalls/", "k", &body));
        let answers = futures_util::future::join_all(all).await;
        let first = answers.iter().filter(|it| it.headers.get("idempotency-replayed").is_none());
        assert_eq!(first.count(), 1);
        assert!(answers.iter().all(|it| it.status == 201 && it.text == answers[0].text));
        assert_eq!(names(&api).await, ["edge"]);
    }
}

db_test! {
    async fn every_writing_post_can_be_repeated(api: Api) {
        let mut ids = [json!(0), json!(0), json!(0)];
        let mut seen = 0;
        for operation in operations(&api.document) {
            if operation.method != "POST" || !operation.row.writes() {
                continue;
            }
            let (path, body) = (operation.target(&ids), operation.body_with(&ids[2]));
            if operation.restores() {
                let deleted = path.strip_suffix("restore/").unwrap();
                api.with("DELETE", deleted, &[], None).await.expect(204);
            }
            let headers = [("idempotency-key", operation.row.id)];
            let first = api.with("POST", &path, &headers, body.as_ref()).await;
            assert!(first.status.is_success(), "{path}: {}", first.text);
            assert!(first.headers.get("idempotency-replayed").is_none(), "{path}");
            let changes = api.db.integers("SELECT count(*) FROM audit_event").await;
            let again = api.with("POST", &path, &headers, body.as_ref()).await;
            assert_eq!((first.status, &first.text), (again.status, &again.text), "{path}");
            assert_eq!(again.header("idempotency-replayed"), "true", "{path}");
            assert_eq!(api.db.integers("SELECT count(*) FROM audit_event").await, changes, "{path}");
            if operation.row.effect == Effect::Creates {
                ids[operation.depth()] = first.json()["id"].clone();
            }
            seen += 1;
        }
        assert!(seen >= 8, "{seen}");
    }
}
