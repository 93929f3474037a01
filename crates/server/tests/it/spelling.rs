//! Spellings with the same meaning are equal, and different values look different.

use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Api, encoded, firewall_of};

/// Every kind of character that is invisible or changes the direction of text.
const UNSEEN: [(&str, &str); 9] = [
    ("prod\u{200B}", "U+200B ZERO WIDTH SPACE"),
    ("\u{202E}dorp", "U+202E RIGHT-TO-LEFT OVERRIDE"),
    ("soft\u{AD}hyphen", "U+00AD SOFT HYPHEN"),
    ("\u{3164}", "U+3164 HANGUL FILLER"),
    ("\u{2800}", "U+2800 BRAILLE PATTERN BLANK"),
    ("❤\u{FE0F}", "U+FE0F VARIATION SELECTOR-16"),
    ("a\u{2028}b", "U+2028 LINE SEPARATOR"),
    ("flag\u{E0067}", "U+E0067"),
    ("x\u{2066}y", "U+2066 LEFT-TO-RIGHT ISOLATE"),
];

#[track_caller]
fn assert_fault(problem: &Value, pointer: &str, code_point: &str) {
    let [fault] = &problem["errors"].as_array().unwrap()[..] else { panic!("{problem}") };
    assert_eq!(fault["pointer"], pointer, "{problem}");
    assert!(fault["detail"].as_str().unwrap().contains(code_point), "{problem}");
}

db_test! {
    async fn invisible_characters_are_refused_where_things_are_told_apart(api: Api) {
        let policy = api.policy().await;
        let firewall = firewall_of(&policy);
        let policies = format!("{firewall}filtering-policies/");
        let rules = format!("{policy}rules/");
        let rule = api.rule(&policy, &json!({})).await;
        let rule = format!("{rules}{}/", rule["id"]);
        let ends = json!([{"address": "192.0.2.1"}]);
        for (text, code_point) in UNSEEN {
            let label = json!({"site": text});
            for (name, value, pointer) in [
                ("name", json!(text), "#/name"),
                ("tenant", json!(text), "#/tenant"),
                ("labels", label.clone(), "#/labels/site"),
                ("reference", json!(text), "#/reference"),
            ] {
                let is_of_rules = name == "reference";
                let mut body = json!({"name": "new", "default_action": "DENY"});
                body[name] = value.clone();
                if name != "tenant" && !is_of_rules {
                    let problem = api.post(&policies, &body).await.problem(422, "invalid");
                    assert_fault(&problem, pointer, code_point);
                    let problem = api.patch(&policy, &json!({name: value})).await;
                    assert_fault(&problem.problem(422, "invalid"), pointer, code_point);
                }
                if !is_of_rules {
                    let mut body = json!({"name": "new"});
                    body[name] = value.clone();
                    let problem = api.post("/firewalls/", &body).await.problem(422, "invalid");
                    assert_fault(&problem, pointer, code_point);
                    let problem = api.patch(firewall, &json!({name: value})).await;
                    assert_fault(&problem.problem(422, "invalid"), pointer, code_point);
                }
                if name != "tenant" {
                    let changes = json!({name: value, "sources": ends});
                    let problem = api.try_rule(&policy, &changes).await.problem(422, "invalid");
                    assert_fault(&problem, pointer, code_point);
                    let problem = api.patch(&rule, &json!({name: value})).await;
                    assert_fault(&problem.problem(422, "invalid"), pointer, code_point);
                    let patch = json!({"op": "update", "rule_id": 1, "patch": {name: value}});
                    let batch = json!({"operations": [patch]});
                    let problem = api.post(&format!("{rules}batch/"), &batch).await;
                    let below = format!("#/operations/0/patch{}", pointer.trim_start_matches('#'));
                    assert_fault(&problem.problem(422, "invalid"), &below, code_point);
                    let set = json!([{"action": "DENY", "sources": ends, "destinations": ends, name: value}]);
                    let problem = api.put(&rules, &set).await.problem(422, "invalid");
                    assert_fault(&problem, &format!("#/0{}", pointer.trim_start_matches('#')), code_point);
                }
            }
            let reason = [("change-reason", text)];
            let body = json!({"name": "with a reason"});
            let problem = api.with("POST", "/firewalls/", &reason, Some(&body)).await;
            let problem = problem.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["parameter"], "Change-Reason");
            assert!(problem["detail"].as_str().unwrap().contains(code_point), "{problem}");
            let name = api.get(&format!("/firewalls/?name={}", encoded(text))).await;
            name.problem(422, "invalid");
            // Free text may contain them, and is returned unchanged.
            let changed = api.patch(&rule, &json!({"description": text.replace('\u{2028}', "")})).await;
            assert_eq!(changed.expect(200)["description"], text.replace('\u{2028}', ""));
        }
        assert_eq!(api.get("/firewalls/").await.expect(200)["total"], 1);
        let visible = json!({"name": "größe 東京 😀", "labels": {"site": "Zürich"}});
        api.post("/firewalls/", &visible).await.expect(201);
    }
}

db_test! {
    async fn a_protocol_named_twice_is_named_once(api: Api) {
        let policy = api.policy().await;
        let changes = json!({"protocols": ["icmp", 1, "ICMP"], "icmp_type": 8, "name": "ping"});
        let made = api.rule(&policy, &changes).await;
        assert_eq!((&made["protocols"], &made["icmp_type"]), (&json!(["icmp"]), &json!(8)));
        let once = json!({"protocols": ["icmp"], "icmp_type": 8});
        api.try_rule(&policy, &once).await.problem(409, "equal_rule");
        let plain = api.rule(&policy, &json!({"protocols": ["icmp", "icmp"]})).await;
        // The rule is not found for IPv6, in the current stored form and in that of earlier
        // versions.
        for stored in ["[\"icmp\"]", "[\"icmp\",\"icmp\"]"] {
            api.db.execute(&format!("UPDATE rule SET protocols = '{stored}'")).await;
            for (filter, total) in [("family = ipv6", 0), ("family = ipv4", 2), ("protocol = gre", 0)] {
                let filter = encoded(&format!("traffic:({filter})"));
                let found = api.get(&format!("{policy}rules/?filter={filter}")).await.expect(200);
                assert_eq!(found["total"], total, "{stored} {filter}");
            }
            let path = format!("{policy}rules/{}/", plain["id"]);
            assert_eq!(api.get(&path).await.expect(200)["protocols"], json!(["icmp"]));
            // Another spelling of the same value changes nothing.
            let same = api.patch(&path, &json!({"protocols": ["icmp", "icmp"]})).await.expect(200);
            assert_eq!(same["revision"], plain["revision"]);
        }
        api.db.execute("UPDATE rule SET protocols = '[\"gre\",\"icmp\",\"gre\"]', icmp_type = null").await;
        let filter = encoded("traffic:(family = ipv6 AND source = any)");
        let found = api.get(&format!("{policy}rules/?filter={filter}")).await.expect(200);
        assert_eq!(found["total"], 2, "by gre");
    }
}
