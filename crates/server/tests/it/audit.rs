//! The audit trail: its content, its readers, and that it only grows.

use std::time::Duration;

use fireflow_domain::actor::Role;
use fireflow_domain::time::Clock;
use fireflow_domain::usecase::retention;
use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::generated_rules::full_rule;
use crate::support::{Api, changed, encoded};

fn ids(list: &Value) -> Vec<i64> {
    list["items"].as_array().unwrap().iter().map(|it| it["id"].as_i64().unwrap()).collect()
}

/// A firewall of each tenant, changes of one, and the deletion of the other.
async fn history(api: &Api) {
    api.post("/firewalls/", &json!({"name": "edge", "tenant": "red"})).await.expect(201);
    api.post("/firewalls/", &json!({"name": "core", "tenant": "blue"})).await.expect(201);
    let headers = [("change-reason", "CHG-4711: new uplink")];
    let patch = json!({"description": "both uplinks"});
    api.with("PATCH", "/firewalls/1/", &headers, Some(&patch)).await.expect(200);
    let policy = json!({"name": "in", "default_action": "DENY"});
    api.post("/firewalls/1/filtering-policies/", &policy).await.expect(201);
    api.rule("/firewalls/1/filtering-policies/1/", &json!({"name": "web"})).await;
    api.with("DELETE", "/firewalls/2/", &[], None).await.expect(204);
}

db_test! {
    async fn every_change_is_there_with_who_when_why_and_what(api: Api) {
        history(&api).await;
        let all = api.get("/audit-events/").await.expect(200);
        assert_eq!((&all["total"], ids(&all)), (&json!(6), vec![1, 2, 3, 4, 5, 6]));
        let event = &all["items"][2];
        assert_eq!((&event["action"], &event["resource"]), (&json!("update"), &json!("firewall")));
        assert_eq!(event["subject"], "tester");
        assert_eq!(event["reason"], "CHG-4711: new uplink");
        assert_eq!(event["at"], "2026-11-24T12:00:00.000000Z");
        assert_eq!(event["before"]["description"], "");
        assert_eq!(event["after"]["description"], "both uplinks");
        assert_eq!(event["request_id"].as_str().unwrap().len(), 32);
        let rule = &all["items"][4];
        assert_eq!((&rule["resource"], &rule["firewall_id"]), (&json!("firewall_rule"), &json!(1)));
        assert_eq!((&rule["before"], &rule["after"]["name"]), (&Value::Null, &json!("web")));
        let deleted = &all["items"][5];
        assert_eq!((&deleted["action"], &deleted["after"]), (&json!("delete"), &Value::Null));
    }
}

db_test! {
    async fn it_is_filtered_ordered_and_paged_like_other_lists(api: Api) {
        history(&api).await;
        let at = "2026-11-24T12:00:00Z";
        for (query, expected) in [
            ("action=create", vec![1, 2, 4, 5]),
            ("resource=firewall_rule", vec![5]),
            ("resource=firewall&resource_id=2", vec![2, 6]),
            ("firewall_id=1", vec![1, 3, 4, 5]),
            ("subject=tester&action=delete", vec![6]),
            ("subject=nobody", vec![]),
            (&format!("since={at}"), vec![1, 2, 3, 4, 5, 6]),
            (&format!("until={at}"), vec![]),
            ("order_by=-id&page_size=2", vec![6, 5]),
            ("order_by=-at", vec![6, 5, 4, 3, 2, 1]),
            ("order_by=action,-id&firewall_id=1", vec![5, 4, 1, 3]),
            ("page=2&page_size=4", vec![5, 6]),
        ] {
            let list = api.get(&format!("/audit-events/?{query}")).await.expect(200);
            assert_eq!(ids(&list), expected, "{query}");
        }
        let request = api.get("/audit-events/?page_size=1").await.expect(200);
        let request = request["items"][0]["request_id"].as_str().unwrap().to_owned();
        let list = api.get(&format!("/audit-events/?request_id={request}")).await.expect(200);
        assert_eq!(ids(&list), [1]);
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let query = format!("/audit-events/?order_by=-at&page_size=4&cursor={cursor}");
            let page = api.get(&query).await.expect(200);
            seen.extend(ids(&page));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(seen, [6, 5, 4, 3, 2, 1]);
        let few = api.get("/audit-events/?fields=action&page_size=1").await.expect(200);
        assert_eq!(few["items"], json!([{"id": 1, "action": "create"}]));
        for bad in [
            "action=created",
            "resource=rule",
            "resource_id=0",
            "since=yesterday",
            "order_by=subject",
            "order_by=state",
            "subject=",
            "cursor=x",
            "fliter=x",
        ] {
            let answer = api.get(&format!("/audit-events/?{bad}")).await;
            assert_eq!(answer.status, 422, "{bad}: {}", answer.text);
        }
    }
}

db_test! {
    async fn editors_read_it_and_only_of_their_tenants(api: Api) {
        history(&api).await;
        for role in [Role::Viewer, Role::HealthCheck] {
            let token = api.token_for(&[role], None);
            let answer = api.send("GET", "/audit-events/", &token, &[], None).await;
            answer.problem(403, "forbidden");
        }
        for (tenants, expected) in
            [(&["red"][..], vec![1, 3, 4, 5]), (&["blue"], vec![2, 6]), (&["green"], vec![])]
        {
            for role in [Role::Editor, Role::Admin] {
                let token = api.token_for(&[role], Some(tenants));
                let list = api.send("GET", "/audit-events/", &token, &[], None).await.expect(200);
                assert_eq!((ids(&list), &list["total"]), (expected.clone(), &json!(expected.len())));
            }
        }
    }
}

db_test! {
    async fn it_only_grows(api: Api) {
        history(&api).await;
        for sql in [
            "UPDATE audit_event SET subject = 'nobody'",
            "UPDATE audit_event SET subject = subject WHERE id = 1",
            "DELETE FROM audit_event WHERE id = 1",
            "DELETE FROM audit_event",
        ] {
            let refusal = api.db.try_execute(sql).await.unwrap_err();
            assert!(refusal.contains("the audit trail is append-only"), "{sql}: {refusal}");
        }
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            let answer = api.with(method, "/audit-events/", &[], Some(&json!({}))).await;
            answer.problem(405, "method_not_allowed");
        }
        assert_eq!(api.get("/audit-events/").await.expect(200)["total"], 6);
    }
}

db_test! {
    async fn the_filter_language_goes_with_pages_orders_tenants_and_cursors(api: Api) {
        history(&api).await;
        let list = |filter: &str, rest: &str| {
            format!("/audit-events/?filter={}{rest}", encoded(filter))
        };
        for (filter, rest, expected) in [
            ("action = create AND resource != firewall", "", vec![4, 5]),
            ("action IN (update, DELETE)", "&order_by=-id", vec![6, 3]),
            ("reason = \"*CHG-*\"", "", vec![3]),
            ("NOT reason = \"\"", "", vec![3]),
            ("reason : chg-47 AND tenant : RE", "", vec![3]),
            ("filtering_policy_id != null AND sequence >= 1", "", vec![4, 5]),
            ("subject = \"test*\" AND firewall_id = 2", "", vec![2, 6]),
            ("resource_id = 1", "&resource=firewall_rule", vec![5]),
            ("at >= 2026-11-24T12:00:00Z AND id < 3", "", vec![1, 2]),
            ("at > 2026-11-24T12:00:00Z", "", vec![]),
            ("action = restore OR client_address = \"*\"", "&page=2&page_size=5", vec![6]),
            // Any order can be combined with a filter.
            ("resource = firewall", "&order_by=action,-id", vec![2, 1, 6, 3]),
        ] {
            let answer = api.get(&list(filter, rest)).await.expect(200);
            assert_eq!(ids(&answer), expected, "{filter}{rest}");
        }
        let blue = api.token_for(&[Role::Admin], Some(&["blue"]));
        let path = list("action = create OR action = delete", "");
        let answer = api.send("GET", &path, &blue, &[], None).await.expect(200);
        assert_eq!((ids(&answer), &answer["total"]), (vec![2, 6], &json!(2)));
        // A cursor belongs to the filter's meaning, whatever its spelling.
        let page = api.get(&list("action = create", "&page_size=3")).await.expect(200);
        let cursor = format!("&page_size=3&cursor={}", page["next_cursor"].as_str().unwrap());
        let next = api.get(&list("(action  =  CREATE)", &cursor)).await.expect(200);
        assert_eq!(ids(&next), [5]);
        let other = api.get(&list("action = update", &cursor)).await;
        other.problem(422, "bad_cursor");
        for (filter, part) in [
            ("action = removed", "`create`, `update`, `move`, `delete` or `restore`"),
            ("action = ALLOW", "`ALLOW` is not `create`, `update`, `move`, `delete` or `restore`"),
            ("log = true", "is a field of rules; this list is of audit events"),
            ("before = 1", "not a field of audit events"),
            ("action : del", "`action` takes `=`, `!=` and `IN`, not `:`"),
            ("at : x", "`at` takes `=`, `!=`, `<`"),
        ] {
            let problem = api.get(&list(filter, "")).await.problem(422, "invalid");
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.contains(part), "{filter}: {detail}");
        }
    }
}

db_test! {
    async fn events_stay_with_the_tenant_that_they_were_written_under(api: Api) {
        history(&api).await;
        // The firewall moves to another tenant, is changed there, and is deleted.
        api.patch("/firewalls/1/", &json!({"tenant": "green"})).await.expect(200);
        api.patch("/firewalls/1/", &json!({"description": "theirs now"})).await.expect(200);
        api.delete("/firewalls/1/").await.expect(204);
        let seen = |tenants: &'static [&'static str], query: &'static str| {
            let token = api.token_for(&[Role::Admin], Some(tenants));
            let api = &api;
            async move {
                let path = format!("/audit-events/{query}");
                let list = api.send("GET", &path, &token, &[], None).await.expect(200);
                assert_eq!(list["total"], list["items"].as_array().unwrap().len());
                (ids(&list), list)
            }
        };
        for _ in 0..2 {
            // The move is an event of both tenants.
            let (red, list) = seen(&["red"], "").await;
            assert_eq!(red, [1, 3, 4, 5, 7]);
            assert_eq!(list["items"][4]["after"]["tenant"], "green");
            assert_eq!(list["items"][0]["tenant"], "red");
            assert_eq!(seen(&["green"], "").await.0, [7, 8, 9]);
            assert_eq!(seen(&["red", "green"], "?order_by=-id").await.0, [9, 8, 7, 5, 4, 3, 1]);
            assert_eq!(seen(&["blue"], "").await.0, [2, 6]);
            assert_eq!(seen(&["other"], "").await.0, Vec::<i64>::new());
            assert_eq!(seen(&[], "").await.0, Vec::<i64>::new());
            assert_eq!(seen(&["red"], "?firewall_id=1&action=update").await.0, [3, 7]);
            assert_eq!(seen(&["red"], "?filter=action%3Dupdate%20OR%20action%3Ddelete").await.0, [3, 7]);
            assert_eq!(seen(&["red"], "?filtering_policy_id=1").await.0, [4, 5]);
            api.clock.advance(Duration::from_secs(60));
            let now = api.clock.now();
            retention::purge(&api.db.database, now, now).await.unwrap();
        }
        assert_eq!(api.db.integers("SELECT count(*) FROM firewall").await, [0]);
    }
}

db_test! {
    async fn states_are_what_the_api_showed(api: Api) {
        let get = |path: &'static str| {
            let api = &api;
            async move { api.get(path).await.expect(200) }
        };
        let last = || {
            let api = &api;
            async move {
                let list = api.get("/audit-events/?order_by=-id&page_size=1").await.expect(200);
                list["items"][0].clone()
            }
        };
        let firewall = json!({
            "name": "edge", "tenant": "red", "description": "a\nb", "labels": {"site": "fra"},
        });
        api.post("/firewalls/", &firewall).await.expect(201);
        const FIREWALL: &str = "/firewalls/1/";
        let created = get(FIREWALL).await;
        assert_eq!((&last().await["before"], &last().await["after"]), (&Value::Null, &created));
        api.clock.advance(Duration::from_secs(1));
        api.patch(FIREWALL, &json!({"name": "core"})).await.expect(200);
        let event = last().await;
        assert_eq!((&event["before"], &event["after"]), (&created, &get(FIREWALL).await));

        const POLICY: &str = "/firewalls/1/filtering-policies/1/";
        let policy = json!({"name": "in", "default_action": "DENY", "labels": {"a": "b"}});
        api.post("/firewalls/1/filtering-policies/", &policy).await.expect(201);
        let created = get(POLICY).await;
        assert_eq!((&last().await["before"], &last().await["after"]), (&Value::Null, &created));
        api.clock.advance(Duration::from_secs(1));
        api.patch(POLICY, &json!({"description": "x"})).await.expect(200);
        let event = last().await;
        assert_eq!((&event["before"], &event["after"]), (&created, &get(POLICY).await));

        const RULE: &str = "/firewalls/1/filtering-policies/1/rules/1/";
        let all = changed(full_rule(), &json!({
            "name": "all of it", "action": "REJECT", "priority": -7, "protocols": ["udp", "99"],
            "sources": [{"address": "10.0.0.0/8", "port": "1-2"}, {"address": "2001:db8::/32"}],
            "destinations": [{"address": "any", "port": 53}, {"address": "192.0.2.1-192.0.2.9"}],
            "ports": [{"number": 443}, {"from": 8000, "to": 8100}],
            "log": true, "starts_at": "2026-01-01T00:00:00Z", "expires_at": "2026-11-24T12:00:30Z",
            "description": "a\nb", "reference": "CHG-1", "labels": {"app": "x"}, "enabled": true,
        }));
        api.rule(POLICY, &all).await;
        let created = get(RULE).await;
        assert_eq!((&last().await["before"], &last().await["after"]), (&Value::Null, &created));
        api.clock.advance(Duration::from_secs(60));
        // The rule has expired in the meantime, so the event has its current state and warnings.
        let expired = get(RULE).await;
        assert_eq!(expired["state"], "expired");
        assert!(!expired["warnings"].as_array().unwrap().is_empty());
        let icmp = json!({
            "protocols": ["icmp"], "icmp_type": 8, "icmp_code": 0, "ports": [], "name": null,
            "sources": [{"address": "10.0.0.0/8"}], "destinations": [{"address": "any"}],
            "enabled": false,
        });
        api.patch(RULE, &icmp).await.expect(200);
        let event = last().await;
        let disabled = get(RULE).await;
        assert_eq!((&event["before"], &event["after"]), (&expired, &disabled));
        api.delete(RULE).await.expect(204);
        assert_eq!((&last().await["before"], &last().await["after"]), (&disabled, &Value::Null));
        // An event of a whole set has the same form.
        api.put(&format!("{POLICY}rules/"), &json!([all])).await.expect(200);
        let event = last().await;
        assert_eq!(event["after"], get("/firewalls/1/filtering-policies/1/rules/2/").await);
        // A deleted rule can be created again from its state.
        let mut again = event["after"].clone();
        for read_only in ["id", "filtering_policy", "state", "warnings", "revision", "created_at",
            "created_by", "updated_at", "updated_by"] {
            again.as_object_mut().unwrap().remove(read_only).unwrap();
        }
        api.delete("/firewalls/1/filtering-policies/1/rules/2/").await.expect(204);
        api.post(&format!("{POLICY}rules/"), &again).await.expect(201);
    }
}
