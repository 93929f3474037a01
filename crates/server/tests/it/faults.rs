//! The faults of the service that FireFlow replaces; none of them may return.

use std::time::Duration;

use fireflow_domain::actor::Role;
use fireflow_storage::db_test;
use serde_json::json;

use crate::support::{Api, firewall_of, plain_rule, tcp};

db_test! {
    async fn a_rule_with_several_sources_matches_packets_of_each(api: Api) {
        let policy = api.policy().await;
        let sources = json!([{"address": "10.0.0.0/8"}, {"address": "192.0.2.1"}]);
        let rule = api.rule(&policy, &json!({"sources": sources})).await["id"].as_i64();
        for source in ["10.1.2.3", "192.0.2.1"] {
            let verdict = api.verdict(&policy, &tcp(source, "198.51.100.1", 443)).await;
            assert_eq!(verdict, ("ALLOW".to_owned(), rule));
        }
        let verdict = api.verdict(&policy, &tcp("192.0.2.2", "198.51.100.1", 443)).await;
        assert_eq!(verdict, ("DENY".to_owned(), None));
    }
}

db_test! {
    async fn ports_of_a_rule_decide(api: Api) {
        let policy = api.policy().await;
        api.rule(&policy, &json!({"ports": [{"number": 443}, {"from": 8000, "to": 8100}]})).await;
        for (port, action) in [(443, "ALLOW"), (8050, "ALLOW"), (80, "DENY"), (0, "DENY")] {
            assert_eq!(api.verdict(&policy, &tcp("10.0.0.1", "10.0.0.2", port)).await.0, action);
        }
    }
}

db_test! {
    async fn deleted_rules_neither_decide_nor_are_listed(api: Api) {
        let policy = api.policy().await;
        let rule = api.rule(&policy, &json!({})).await;
        let path = format!("{policy}rules/{}/", rule["id"]);
        assert_eq!(api.verdict(&policy, &tcp("10.0.0.1", "10.0.0.2", 1)).await.0, "ALLOW");
        api.delete(&path).await.expect(204);
        assert_eq!(api.verdict(&policy, &tcp("10.0.0.1", "10.0.0.2", 1)).await.0, "DENY");
        let list = api.get(&format!("{policy}rules/")).await.expect(200);
        assert_eq!((&list["items"], &list["total"]), (&json!([]), &json!(0)));
        for method in ["GET", "PATCH", "DELETE"] {
            let body = (method == "PATCH").then(|| json!({}));
            api.with(method, &path, &[], body.as_ref()).await.problem(404, "not_found");
        }
    }
}

db_test! {
    async fn equal_rules_are_refused_and_named(api: Api) {
        let policy = api.policy().await;
        let rule = api.rule(&policy, &json!({"sources": [{"address": "10.0.0.1/32"}]})).await;
        let twin = json!({"priority": 7, "log": true, "sources": [{"address": "10.0.0.1-10.0.0.1"}]});
        let problem = api.try_rule(&policy, &twin).await.problem(409, "equal_rule");
        assert_eq!(problem["existing_id"], rule["id"]);
        // The storage's tests check the same after the database was reopened.
        let path = format!("{policy}rules/{}/", rule["id"]);
        api.patch(&path, &json!({"enabled": false})).await.expect(200);
        let problem = api.try_rule(&policy, &twin).await.problem(409, "equal_rule");
        assert!(problem["detail"].as_str().unwrap().contains("disabled"), "{problem}");
    }
}

db_test! {
    async fn equal_rules_can_be_kept_on_purpose(api: Api) {
        let policy = api.policy().await;
        let path = format!("{policy}rules/");
        let keep = format!("{path}?duplicates=keep");
        for _ in 0..3 {
            api.post(&keep, &plain_rule()).await.expect(201);
        }
        api.post(&path, &plain_rule()).await.problem(409, "equal_rule");
        let list = api.get(&path).await.expect(200);
        assert_eq!(list["total"], 3);
        for rule in list["items"].as_array().unwrap() {
            let one = format!("{path}{}/", rule["id"]);
            api.patch(&one, &json!({"priority": rule["id"]})).await.expect(200);
            api.delete(&one).await.expect(204);
        }
        api.post(&path, &plain_rule()).await.expect(201);
        api.post(&format!("{path}?duplicates=drop"), &plain_rule()).await.problem(422, "invalid");
    }
}

db_test! {
    async fn names_of_deleted_things_are_free(api: Api) {
        for _ in 0..2 {
            let policy = api.policy().await;
            let rule = api.rule(&policy, &json!({"name": "web"})).await;
            api.delete(&format!("{policy}rules/{}/", rule["id"])).await.expect(204);
            api.rule(&policy, &json!({"name": "web"})).await;
            let firewall = firewall_of(&policy);
            api.delete(firewall).await.expect(204);
        }
    }
}

db_test! {
    async fn a_viewer_is_no_admin(api: Api) {
        let policy = api.policy().await;
        let viewer = api.token_for(&[Role::Viewer], None);
        let who = api.send("GET", "/whoami/", &viewer, &[], None).await.expect(200);
        assert_eq!(who["roles"], json!(["viewer"]));
        api.send("GET", &policy, &viewer, &[], None).await.expect(200);
        api.send("DELETE", &policy, &viewer, &[], None).await.problem(403, "forbidden");
        let editor = api.token_for(&[Role::Editor], None);
        let tenant = json!({"name": "x", "tenant": "blue"});
        api.send("POST", "/firewalls/", &editor, &[], Some(&tenant)).await.problem(403, "forbidden");
    }
}

db_test! {
    async fn odd_addresses_and_huge_numbers_are_no_defects(api: Api) {
        let policy = api.policy().await;
        for address in ["10.0.0.1\n", "١٠.0.0.1", "10.0.0.1 ", "010.0.0.1", "fe80::1%eth0", "\u{0}"] {
            let answer = api.try_rule(&policy, &json!({"sources": [{"address": address}]})).await;
            let problem = answer.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], "#/sources/0/address", "{problem}");
        }
        for query in ["page=99999999999999999999", "page_size=1e30", "priority=1e30"] {
            api.get(&format!("{policy}rules/?{query}")).await.problem(422, "invalid");
        }
        for priority in [json!(1e30), json!(2_147_483_648_i64), json!("1"), json!(1.5)] {
            api.try_rule(&policy, &json!({"priority": priority})).await.problem(422, "invalid");
        }
    }
}

db_test! {
    async fn rules_of_ipv6_are_met(api: Api) {
        let policy = api.policy().await;
        let rule = json!({
            "sources": [{"address": "2001:db8:1::/48"}],
            "destinations": [{"address": "2001:db8:2::1"}],
        });
        api.rule(&policy, &rule).await;
        let inside = tcp("2001:db8:1:2::3", "2001:db8:2::1", 443);
        assert_eq!(api.verdict(&policy, &inside).await.0, "ALLOW");
        let outside = tcp("2001:db8:3::3", "2001:db8:2::1", 443);
        assert_eq!(api.verdict(&policy, &outside).await.0, "DENY");
    }
}

db_test! {
    async fn of_equal_priorities_the_older_rule_decides(api: Api) {
        let policy = api.policy().await;
        let first = api.rule(&policy, &json!({"action": "REJECT"})).await["id"].as_i64();
        api.rule(&policy, &json!({"action": "ALLOW"})).await;
        let verdict = api.verdict(&policy, &tcp("10.0.0.1", "10.0.0.2", 1)).await;
        assert_eq!(verdict, ("REJECT".to_owned(), first));
        let last = api.rule(&policy, &json!({"action": "DENY", "priority": -1})).await;
        let verdict = api.verdict(&policy, &tcp("10.0.0.1", "10.0.0.2", 1)).await;
        assert_eq!(verdict, ("DENY".to_owned(), last["id"].as_i64()));
    }
}

db_test! {
    async fn tokens_end(api: Api) {
        let token = api.token_for(&Role::ALL, None);
        let ask = || api.send("GET", "/firewalls/", &token, &[], None);
        ask().await.expect(200);
        // An hour, plus the tolerated clock skew.
        api.clock.advance(Duration::from_secs(3_600 + 9));
        ask().await.expect(200);
        api.clock.advance(Duration::from_secs(1));
        let answer = ask().await;
        assert!(answer.header("www-authenticate").contains("the token has expired"));
        answer.problem(401, "unauthenticated");
        // A token without an expiry is always refused; see the tests of `auth`.
    }
}

db_test! {
    async fn probes_need_no_token(api: Api) {
        for path in ["/health/live", "/health/ready", "/health/live/", "/health/ready/"] {
            let answer = api.raw("GET", path, &[], vec![]).await.expect(200);
            assert_eq!(answer, json!({"status": "ok"}), "no more than a status");
        }
        api.raw("GET", "/health/", &[], vec![]).await.problem(401, "unauthenticated");
        let probe = api.token_for(&[Role::HealthCheck], None);
        // A change of the clock does not affect the uptime.
        api.clock.advance(Duration::from_secs(1_800));
        let health = api.send("GET", "/health/", &probe, &[], None).await.expect(200);
        assert_eq!((&health["is_ready"], &health["status"]), (&json!(true), &json!("OK")));
        assert!((0..1_800).contains(&health["uptime_s"].as_i64().unwrap()), "{health}");
        api.send("GET", "/firewalls/", &probe, &[], None).await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_service_that_is_overloaded_says_so_and_lives() {
    let api = Api::overloaded().await;
    let answer = api.get("/firewalls/").await;
    assert_eq!(answer.header("retry-after"), "1");
    answer.problem(503, "unavailable");
    api.raw("GET", "/health/ready", &[], vec![]).await.problem(503, "unavailable");
    api.raw("GET", "/health/live", &[], vec![]).await.expect(200);
}
