//! Resources: created, read, changed and deleted.

use fireflow_domain::actor::Role;
use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::generated_rules::{full_icmp_rule, full_rule};
use crate::support::{Api, firewall_of, plain_rule, tcp, written_members};

db_test! {
    async fn a_firewall_lives_and_dies(api: Api) {
        let body = json!({"name": " edge ", "description": "a\nb", "labels": {"site": "fra"}});
        let answer = api.post("/firewalls/", &body).await;
        assert!(answer.header("etag").starts_with('"'));
        let path = answer.header("location").to_owned();
        let made = answer.expect(201);
        assert_eq!(path, format!("/firewalls/{}/", made["id"]));
        let expected = json!({
            "id": made["id"], "name": "edge", "tenant": "", "description": "a\nb",
            "labels": {"site": "fra"}, "policy_count": 0, "revision": 1,
            "created_at": "2026-11-24T12:00:00.000000Z", "created_by": "tester",
            "updated_at": "2026-11-24T12:00:00.000000Z", "updated_by": "tester",
        });
        assert_eq!(made, expected);
        assert_eq!(api.get(&path).await.expect(200), expected);
        // The path without the final slash leads to the same resource.
        assert_eq!(api.get(path.trim_end_matches('/')).await.expect(200), expected);

        // The answer can be sent back, and changes nothing.
        let same = api.patch(&path, &expected).await.expect(200);
        assert_eq!(same, expected);
        let changes = json!({"name": "core", "labels": {"site": null, "env": "prod"}});
        let changed = api.patch(&path, &changes).await.expect(200);
        assert_eq!(changed["name"], "core");
        assert_eq!(changed["labels"], json!({"env": "prod"}));
        assert_eq!(changed["revision"], 2);
        let cleared = api.patch(&path, &json!({"labels": null, "tenant": "blue"})).await.expect(200);
        assert_eq!((&cleared["labels"], &cleared["tenant"]), (&json!({}), &json!("blue")));

        api.delete(&path).await.expect(204);
        let problem = api.get(&path).await.problem(404, "not_found");
        let detail = format!("A firewall with id={} was not found", made["id"]);
        assert_eq!(problem["detail"], detail);
    }
}

db_test! {
    async fn a_policy_lives_and_dies(api: Api) {
        let path = api.policy().await;
        let made = api.get(&path).await.expect(200);
        assert_eq!(made["firewall"]["name"], "edge");
        assert_eq!((&made["default_action"], &made["rule_count"]), (&json!("DENY"), &json!(0)));
        let firewall = format!("/firewalls/{}/", made["firewall"]["id"]);
        assert_eq!(api.get(&firewall).await.expect(200)["policy_count"], 1);
        let twin = json!({"name": "in", "default_action": "allow"});
        let problem = api.post(&format!("{firewall}filtering-policies"), &twin).await;
        assert_eq!(problem.problem(409, "name_taken")["existing_id"], made["id"]);
        let changed = api.patch(&path, &json!({"default_action": "reject"})).await.expect(200);
        assert_eq!((&changed["default_action"], &changed["revision"]), (&json!("REJECT"), &json!(2)));
        assert_eq!(api.verdict(&path, &tcp("10.0.0.1", "10.0.0.2", 1)).await.0, "REJECT");
        api.delete(&path).await.expect(204);
        api.get(&path).await.problem(404, "not_found");
        assert_eq!(api.get(&firewall).await.expect(200)["policy_count"], 0);
    }
}

db_test! {
    async fn a_rule_comes_back_in_canonical_spelling(api: Api) {
        let policy = api.policy().await;
        let body = json!({
            "name": "web-in", "action": "allow", "priority": 0, "protocols": ["TCP", 17],
            "sources": [
                {"address": "10.0.0.0-10.255.255.255", "port": null},
                {"address": "192.0.2.1-192.0.2.9", "port": "1024-65535"},
                {"address": "2001:0DB8:0:0::/48", "port": "0-0"},
                {"address": "ANY"},
            ],
            "destinations": [{"address": "198.51.100.11/32", "port": 8443}, {"address": "::/0"}],
            "ports": [{"number": 443}, {"from": 8000, "to": 8100}, {"from": 5, "to": 5}],
            "log": true, "starts_at": "2026-11-24T13:00:00+01:00", "reference": " CHG-1 ",
            "labels": {"a": "b"},
        });
        let made = api.post(&format!("{policy}rules/"), &body).await.expect(201);
        assert_eq!(made["protocols"], json!(["tcp", "udp"]));
        let sources = json!([
            {"address": "10.0.0.0/8"},
            {"address": "192.0.2.1-192.0.2.9", "port": "1024-65535"},
            {"address": "2001:db8::/48", "port": 0},
            {"address": "any"},
        ]);
        assert_eq!(made["sources"], sources);
        let destinations = json!([{"address": "198.51.100.11", "port": 8443}, {"address": "::/0"}]);
        assert_eq!(made["destinations"], destinations);
        assert_eq!(made["ports"], json!([{"number": 443}, {"from": 8000, "to": 8100}, {"number": 5}]));
        assert_eq!(made["starts_at"], "2026-11-24T12:00:00.000000Z");
        assert_eq!((&made["state"], &made["reference"]), (&json!("active"), &json!("CHG-1")));
        assert_eq!((&made["enabled"], &made["priority"]), (&json!(true), &json!(0)));
        assert!(made.get("position").is_none());

        let path = format!("{policy}rules/{}/", made["id"]);
        assert_eq!(api.get(&path).await.expect(200), made);
        assert_eq!(api.patch(&path, &made).await.expect(200), made, "sent again as it was read");
        let changes = json!({
            "name": null, "protocol": "any", "ports": [], "expires_at": "2026-11-24T12:00:01Z",
        });
        let changed = api.patch(&path, &changes).await.expect(200);
        assert_eq!((&changed["name"], &changed["protocols"]), (&Value::Null, &json!([])));
        assert_eq!(changed["expires_at"], "2026-11-24T12:00:01.000000Z");
        api.clock.advance(std::time::Duration::from_secs(1));
        let expired = api.get(&path).await.expect(200);
        assert_eq!((&expired["state"], &expired["warnings"][0]["code"]), (&json!("expired"), &json!("expired")));
    }
}

db_test! {
    async fn a_change_is_judged_as_a_whole(api: Api) {
        let policy = api.policy().await;
        let rule = api.rule(&policy, &json!({"sources": [{"address": "10.0.0.1"}]})).await;
        let path = format!("{policy}rules/{}/", rule["id"]);
        let v6 = json!({"destinations": [{"address": "2001:db8::1"}]});
        let problem = api.patch(&path, &v6).await.problem(422, "invalid");
        assert!(problem["errors"][0]["detail"].as_str().unwrap().len() > 10, "{problem}");
        let icmp = json!({"icmp_type": 8});
        let problem = api.patch(&path, &icmp).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "#/icmp_type");
        assert_eq!(api.get(&path).await.expect(200), rule, "nothing was changed");
        // A change that makes a rule equal to another one is refused, like the creation of such a
        // rule.
        api.rule(&policy, &json!({"sources": [{"address": "10.0.0.2"}]})).await;
        let equal = json!({"sources": [{"address": "10.0.0.2"}]});
        api.patch(&path, &equal).await.problem(409, "equal_rule");
    }
}

db_test! {
    async fn tenants_see_their_own(api: Api) {
        let blue = api.token_for(&[Role::Editor], Some(&["blue"]));
        let red = api.token_for(&[Role::Editor], Some(&["red"]));
        let body = json!({"name": "edge"});
        let made = api.send("POST", "/firewalls/", &blue, &[], Some(&body)).await.expect(201);
        assert_eq!(made["tenant"], "blue");
        let path = format!("/firewalls/{}/", made["id"]);
        api.send("GET", &path, &red, &[], None).await.problem(404, "not_found");
        // The other tenant may use the same name, and its list shows only its own firewalls.
        api.send("POST", "/firewalls/", &red, &[], Some(&body)).await.expect(201);
        let list = api.send("GET", "/firewalls/", &red, &[], None).await.expect(200);
        assert_eq!((list["total"].as_i64(), list["items"].as_array().unwrap().len()), (Some(1), 1));
        let both = api.token_for(&[Role::Editor], Some(&["blue", "red"]));
        let problem = api.send("POST", "/firewalls/", &both, &[], Some(&body)).await;
        assert_eq!(problem.problem(422, "invalid")["errors"][0]["pointer"], "#/tenant");
        let named = json!({"name": "core", "tenant": "red"});
        api.send("POST", "/firewalls/", &both, &[], Some(&named)).await.expect(201);
        let moved = json!({"tenant": "red"});
        api.send("PATCH", &path, &both, &[], Some(&moved)).await.problem(403, "forbidden");
        let none = api.token_for(&[Role::Admin], Some(&[]));
        let list = api.send("GET", "/firewalls/", &none, &[], None).await.expect(200);
        assert_eq!(list["total"], 0);
    }
}

db_test! {
    async fn a_packet_is_decided_and_explained(api: Api) {
        let policy = api.policy().await;
        let rule = |priority: i32, action: &str, source: &str| {
            json!({"priority": priority, "action": action, "sources": [{"address": source}]})
        };
        let first = api.rule(&policy, &rule(10, "DENY", "192.0.2.0/24")).await;
        let mut off = rule(20, "DENY", "10.0.0.0/8");
        off["enabled"] = json!(false);
        let second = api.rule(&policy, &off).await;
        let third = api.rule(&policy, &rule(30, "ALLOW", "10.0.0.0/8")).await;
        let fourth = api.rule(&policy, &rule(40, "REJECT", "any")).await;
        let query = tcp("10.1.2.3", "198.51.100.1", 443);
        let answer =
            api.get(&format!("{policy}inspections/?{query}&explain=true")).await.expect(200);
        assert_eq!(answer["active_rule"]["id"], third["id"]);
        assert_eq!(answer["active_rule"]["filtering_policy"]["firewall"]["name"], "edge");
        assert_eq!(answer["policy"]["revision"], 5);
        let why = &answer["explanation"];
        assert_eq!(why["earlier"][0]["rule"]["id"], first["id"]);
        assert_eq!(why["earlier"][0]["failed"], json!(["source"]));
        assert_eq!(why["earlier"][1]["rule"]["id"], second["id"]);
        assert_eq!(why["earlier"][1]["failed"], json!(["disabled"]));
        assert_eq!(why["matched"]["source"], json!({"address": "10.0.0.0/8"}));
        assert_eq!(why["later"][0]["id"], fourth["id"]);
        assert_eq!((&why["earlier_count"], &why["later_count"]), (&json!(2), &json!(1)));

        let packet = |source: &str| json!({
            "source_address": source, "source_port": 40000,
            "destination_address": "198.51.100.1", "destination_port": 443,
        });
        let ping = json!({
            "source_address": "10.0.0.1", "destination_address": "10.0.0.2", "protocol": "icmp",
        });
        let many = json!([packet("10.1.2.3"), packet("192.0.2.7"), ping]);
        let answers = api.post(&format!("{policy}inspections/"), &many).await.expect(200);
        let actions: Vec<&str> =
            answers.as_array().unwrap().iter().map(|it| it["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["ALLOW", "DENY", "DENY"]);
        let brief = json!({
            "id": third["id"], "name": null, "action": "ALLOW", "priority": 30,
        });
        assert_eq!(answers[0]["active_rule"], brief);
        assert_eq!(answers[2]["reason"], "default");
        assert_eq!((&answers[2]["packet"]["icmp_type"], &answers[2]["packet"]["icmp_code"]), (&json!(8), &json!(0)));
        assert!(answers[0].get("explanation").is_none());
        let path = format!("{policy}inspections/?explain=true");
        let explained = api.post(&path, &json!([packet("10.1.2.3")])).await.expect(200);
        assert_eq!(explained[0]["explanation"]["later_count"], 1);
        assert_eq!(api.post(&path, &json!([])).await.expect(200), json!([]));
    }
}

db_test! {
    async fn a_packets_time_decides_which_rules_hold(api: Api) {
        let policy = api.policy().await;
        let period = json!({
            "starts_at": "2027-01-01T00:00:00Z", "expires_at": "2027-02-01T00:00:00Z",
        });
        api.rule(&policy, &period).await;
        let query = tcp("10.0.0.1", "10.0.0.2", 1);
        for (at, action) in [
            ("2026-12-31T23:59:59.999999Z", "DENY"),
            ("2027-01-01T00:00:00Z", "ALLOW"),
            ("2027-01-31T23:59:59.999999Z", "ALLOW"),
            ("2027-02-01T00:00:00Z", "DENY"),
        ] {
            assert_eq!(api.verdict(&policy, &format!("{query}&at={at}")).await.0, action, "{at}");
        }
        assert_eq!(api.verdict(&policy, &query).await.0, "DENY", "now");
    }
}

db_test! {
    async fn every_change_leaves_an_audit_event_with_its_reason(api: Api) {
        let reason = [("change-reason", "CHG-7, größer")];
        let body = json!({"name": "edge"});
        let made = api.with("POST", "/firewalls/", &reason, Some(&body)).await.expect(201);
        let path = format!("/firewalls/{}/", made["id"]);
        api.patch(&path, &json!({"name": "core"})).await.expect(200);
        api.patch(&path, &json!({"name": "core"})).await.expect(200);
        api.delete(&path).await.expect(204);
        let count = "SELECT count(*) FROM audit_event WHERE subject = 'tester'";
        assert_eq!(api.db.integers(count).await, [3], "what changes nothing leaves none");
        let count = "SELECT count(*) FROM audit_event WHERE reason = 'CHG-7, größer' \
                     AND deed = 'create' AND state_before IS NULL AND state_after LIKE '%edge%'";
        assert_eq!(api.db.integers(count).await, [1]);
        let long = "x".repeat(1_001);
        let answer = api.with("POST", "/firewalls/", &[("change-reason", &long)], Some(&body)).await;
        assert_eq!(answer.problem(422, "invalid")["errors"][0]["parameter"], "Change-Reason");
    }
}

db_test! {
    async fn ten_thousand_packets_are_one_question(api: Api) {
        let policy = api.policy().await;
        api.rule(&policy, &json!({"sources": [{"address": "10.0.0.0/9"}]})).await;
        let packet = |index: u32| json!({
            "source_address": format!("10.{}.0.1", index % 256), "source_port": 1,
            "destination_address": "10.0.0.2", "destination_port": 2,
        });
        let path = format!("{policy}inspections/");
        let many: Value = (0..10_000).map(packet).collect();
        let answers = api.post(&path, &many).await.expect(200);
        let answers = answers.as_array().unwrap();
        assert_eq!(answers.len(), 10_000);
        for (index, answer) in answers.iter().enumerate() {
            assert_eq!(answer["permitted"], index % 256 < 128);
        }
        let many: Value = (0..10_001).map(packet).collect();
        api.post(&path, &many).await.problem(422, "invalid");
        let many: Value = (0..101).map(packet).collect();
        api.post(&format!("{path}?explain=true"), &many).await.problem(422, "invalid");
        assert!(plain_rule().is_object());
    }
}

db_test! {
    async fn null_puts_a_default_back(api: Api) {
        let policy = api.policy().await;
        let rule = json!({
            "name": "n", "protocols": ["tcp"], "ports": [{"number": 22}], "enabled": false, "log": true,
            "description": "text", "reference": "CHG-1", "starts_at": "2030-01-01T00:00:00Z",
        });
        let made = api.rule(&policy, &rule).await;
        let path = format!("{policy}rules/{}/", made["id"]);
        let defaults = [
            ("description", json!("")), ("reference", json!("")), ("ports", json!([])),
            ("protocols", json!([])), ("enabled", json!(true)), ("log", json!(false)),
            ("starts_at", json!(null)), ("name", json!(null)),
        ];
        for (member, default) in &defaults {
            let changed = api.patch(&path, &json!({*member: null})).await.expect(200);
            assert_eq!(&changed[member], default, "{member}");
        }
        // So for each member that has a default.
        let required = json!({
            "action": "ALLOW", "priority": 1, "sources": [{"address": "192.0.2.99"}],
            "destinations": [{"address": "any"}],
        });
        let least = api.post(&format!("{policy}rules/"), &required).await.expect(201);
        for (index, mut full) in [full_rule(), full_icmp_rule()].into_iter().enumerate() {
            full["priority"] = json!(1);
            // With all defaults, it would equal another rule.
            full["sources"] = json!([{"address": format!("192.0.2.{index}")}]);
            let made = api.post(&format!("{policy}rules/"), &full).await.expect(201);
            let path = format!("{policy}rules/{}/", made["id"]);
            // An ICMP code needs a type, so the code is cleared first.
            let members: Vec<&str> = written_members().collect();
            for member in members.into_iter().rev().filter(|it| required.get(it).is_none()) {
                let changed = api.patch(&path, &json!({member: null})).await.expect(200);
                assert_eq!(changed[member], least[member], "{member}");
            }
        }
        for member in written_members().filter(|it| required.get(it).is_none()) {
            let is_set = |rule: &Value| !rule[member].is_null() && rule[member] != least[member];
            assert!(is_set(&full_rule()) || is_set(&full_icmp_rule()), "no full rule sets {member}");
        }
        // A batch accepts the same values, and so does the short name `protocol`.
        api.patch(&path, &json!({"protocols": ["udp"], "log": true})).await.expect(200);
        let operations = json!({"operations": [
            {"op": "update", "rule_id": made["id"], "patch": {"protocol": null, "log": null}},
        ]});
        let answer = api.post(&format!("{policy}rules/batch/"), &operations).await.expect(200);
        let rule = &answer["items"][0]["rule"];
        assert_eq!((&rule["protocols"], &rule["log"]), (&json!([]), &json!(false)));
        for path in [policy.as_str(), firewall_of(&policy)] {
            api.patch(path, &json!({"description": "text"})).await.expect(200);
            let changed = api.patch(path, &json!({"description": null})).await.expect(200);
            assert_eq!(changed["description"], "");
        }
        // A member without a default cannot be cleared.
        for member in ["action", "priority", "sources", "destinations"] {
            let problem = api.patch(&path, &json!({member: null})).await.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], format!("#/{member}"));
        }
    }
}

db_test! {
    async fn an_explanation_names_the_rules_that_would_match_if_they_were_active(api: Api) {
        let policy = api.policy().await;
        let states = [
            ("off", json!({"enabled": false})),
            ("over", json!({"expires_at": "2026-11-01T00:00:00Z"})),
            ("to-come", json!({"starts_at": "2027-01-01T00:00:00Z"})),
            ("active", json!({"description": "decides"})),
            // This rule is disabled, and matches other packets anyway.
            ("elsewhere", json!({"enabled": false, "protocols": ["udp"]})),
            ("off-too", json!({"enabled": false, "action": "REJECT"})),
        ];
        for (index, (name, mut rule)) in states.into_iter().enumerate() {
            rule["name"] = json!(name);
            rule["priority"] = json!(index);
            rule["ports"] = json!([{"from": 443, "to": 450 + index}]);
            api.rule(&policy, &rule).await;
        }
        let explained = |query: String| {
            let path = format!("{policy}inspections/?{query}&explain=true");
            let api = &api;
            async move { api.get(&path).await.expect(200)["explanation"].clone() }
        };
        let names = |explanation: &Value| -> Vec<(String, String)> {
            explanation["inactive"].as_array().unwrap().iter()
                .map(|it| (it["rule"]["name"].as_str().unwrap().to_owned(), it["state"].as_str().unwrap().to_owned()))
                .collect()
        };
        let pair = |name: &str, state: &str| (name.to_owned(), state.to_owned());
        let query = tcp("10.1.2.3", "10.9.9.9", 443);
        let now = explained(query.clone()).await;
        assert_eq!(names(&now), [
            pair("off", "disabled"), pair("over", "expired"), pair("to-come", "scheduled"),
            pair("off-too", "disabled"),
        ]);
        assert_eq!(now["inactive_count"], 4);
        // The state is evaluated at the packet's time.
        let before = explained(format!("{query}&at=2026-10-01T00:00:00Z")).await;
        assert_eq!(names(&before), [
            pair("off", "disabled"), pair("to-come", "scheduled"), pair("off-too", "disabled"),
        ]);
        let other = explained(tcp("10.1.2.3", "10.9.9.9", 80)).await;
        assert_eq!((&other["inactive"], &other["inactive_count"]), (&json!([]), &json!(0)));
        let item = json!([{"source_address": "10.1.2.3", "source_port": 1, "destination_address": "10.9.9.9", "destination_port": 443}]);
        let many = api.post(&format!("{policy}inspections/?explain=true"), &item).await.expect(200);
        assert_eq!(many[0]["explanation"]["inactive"], now["inactive"]);
    }
}
