//! Analyses over HTTP: the faults of a policy, comparisons, searches and partitions.

use std::collections::BTreeSet;
use std::time::Duration;

use fireflow_domain::time::Clock as _;
use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Api, changed, encoded};

/// A policy whose second rule is lost to the first, whose third repeats the first, and whose last
/// restates the default. Returns its path and the ids of the rules.
async fn policy_with_faults(api: &Api) -> (String, Vec<i64>) {
    let policy = api.policy().await;
    let ends = |source: &str, port: u16| {
        json!({
            "sources": [{"address": source}],
            "destinations": [{"address": "198.51.100.10", "port": port}],
        })
    };
    let mut ids = Vec::new();
    for (name, action, members) in [
        (
            "internal",
            "ALLOW",
            json!({"sources": [{"address": "10.0.0.0/24"}],
                                     "destinations": [{"address": "198.51.100.0/24", "port": "1-1023"}]}),
        ),
        ("no-ssh", "DENY", ends("10.0.0.8/29", 22)),
        ("again", "ALLOW", ends("10.0.0.1", 443)),
        ("final", "DENY", json!({"protocols": []})),
    ] {
        let priority = 10 * (ids.len() + 1);
        let own = json!({
            "name": name, "action": action, "priority": priority, "reference": "CHG-1",
        });
        let rule = api.rule(&policy, &changed(members, &own)).await;
        ids.push(rule["id"].as_i64().unwrap());
    }
    (policy, ids)
}

/// The kinds of the findings of a page, each with the name of its rule.
fn kinds(page: &Value) -> Vec<(&str, &str)> {
    let items = page["items"].as_array().unwrap().iter();
    items.map(|it| (it["kind"].as_str().unwrap(), it["rule"]["name"].as_str().unwrap())).collect()
}

db_test! {
    async fn faults_of_a_policy_are_found_with_their_proof(api: Api) {
        let (policy, ids) = policy_with_faults(&api).await;
        let list = format!("{policy}analysis/?wait=25");
        let page = api.get(&list).await.expect(200);
        let expected =
            [("unreachable", "no-ssh"), ("unreachable", "again"), ("restates_default", "final")];
        assert_eq!(kinds(&page), expected);
        assert_eq!((&page["complete"], &page["incomplete"]), (&json!(true), &json!([])));
        assert_eq!(page["analysed"], json!({"rules": 4, "active": 4, "left_out": []}));
        let current = api.get(&policy).await.expect(200);
        assert_eq!(page["revision"], current["revision"]);
        assert_eq!((&page["total"], &page["next_cursor"]), (&json!(3), &Value::Null));
        let lost = &page["items"][0];
        let internal = json!({"id": ids[0], "name": "internal", "action": "ALLOW", "position": 1});
        assert_eq!(lost["because"], json!([{"rule": internal, "share": 1.0}]));
        assert_eq!(lost["conflicts_with"]["rule"], internal);
        assert_eq!((&lost["severity"], &lost["effect"]), (&json!("error"), &json!("opens")));
        assert_eq!(lost["fix"]["move"]["before"], internal);
        // The proof is right: the witness is a packet of the lost rule that another rule decides.
        let witness = &lost["witness"];
        let query: Vec<String> =
            ["source_address", "source_port", "destination_address", "destination_port", "protocol"]
                .iter()
                .map(|name| format!("{name}={}", witness[name].to_string().trim_matches('"')))
                .collect();
        let (action, decided_by) = api.verdict(&policy, &query.join("&")).await;
        assert_eq!((action.as_str(), decided_by), ("ALLOW", Some(ids[0])));

        let about_again = format!("rule_id={}", ids[2]);
        // Filters. The counts stay those of the policy.
        for (filter, expected) in [
            ("severity=error", &expected[..1]),
            ("severity=warning,info", &expected[1..]),
            ("kind=restates_default,duplicate", &expected[2..]),
            (about_again.as_str(), &expected[1..2]),
            ("severity=error&kind=duplicate", &expected[..0]),
        ] {
            let narrowed = api.get(&format!("{list}&{filter}")).await.expect(200);
            assert_eq!(kinds(&narrowed), expected, "{filter}");
            assert_eq!(narrowed["counts"], page["counts"]);
        }
        for bad in ["severity=fatal", "kind=nonsense", "rule_id=x", "at=now", "wait=26", "page=1"] {
            api.get(&format!("{list}&{bad}")).await.problem(422, "invalid");
        }
    }
}

db_test! {
    async fn pages_are_of_one_state(api: Api) {
        let (policy, _) = policy_with_faults(&api).await;
        let list = format!("{policy}analysis/?wait=25&page_size=2");
        let first = api.get(&list).await.expect(200);
        assert_eq!((kinds(&first).len(), &first["total"]), (2, &json!(3)));
        let cursor = first["next_cursor"].as_str().unwrap();
        let second = api.get(&format!("{list}&cursor={cursor}")).await.expect(200);
        assert_eq!(kinds(&second), [("restates_default", "final")]);
        assert_eq!((&second["at"], &second["next_cursor"]), (&first["at"], &Value::Null));
        for bad in [format!("{list}&cursor=x"), format!("{list}&severity=error&cursor={cursor}")] {
            api.get(&bad).await.problem(422, "invalid");
        }
        api.rule(&policy, &json!({"name": "new", "priority": 1_000})).await;
        let moved = api.get(&format!("{list}&cursor={cursor}")).await;
        moved.problem(409, "state_moved");
    }
}

db_test! {
    async fn findings_are_kept_until_the_policy_or_the_clock_changes_them(api: Api) {
        let (policy, ids) = policy_with_faults(&api).await;
        let list = format!("{policy}analysis/?wait=25");
        let first = api.get(&list).await.expect(200);
        api.clock.advance(Duration::from_secs(60));
        let again = api.get(&list).await.expect(200);
        assert_eq!(again, first, "nothing has changed, so neither has the instant");
        assert_eq!(first["until"], Value::Null);

        // After its expiry, the first rule hides nothing any more.
        let mut expires = api.clock.now().to_string();
        expires.replace_range(0..4, "2031");
        let rule = format!("{policy}rules/{}/", ids[0]);
        api.patch(&rule, &json!({"expires_at": expires})).await.expect(200);
        let page = api.get(&list).await.expect(200);
        assert_eq!(page["revision"].as_i64(), first["revision"].as_i64().map(|it| it + 1));
        assert!(page["until"].as_str().is_some_and(|until| until < expires.as_str()));
        let later = api.get(&format!("{list}&at={expires}")).await.expect(200);
        assert_eq!(later["at"], json!(expires));
        assert_eq!(later["analysed"]["active"], 3);
        assert!(!kinds(&later).contains(&("unreachable", "no-ssh")), "{later}");
    }
}

db_test! {
    async fn an_analysis_that_continues_a_former_one_finds_what_a_whole_one_finds(api: Api) {
        let (policy, ids) = policy_with_faults(&api).await;
        let list = format!("{policy}analysis/?wait=25");
        api.get(&list).await.expect(200);
        let rule = |id: i64| format!("{policy}rules/{id}/");
        for step in 0..4 {
            match step {
                0 => {
                    let wide = json!({"name": "wide", "action": "DENY", "priority": 5, "reference": "C-2"});
                    api.rule(&policy, &wide).await;
                }
                1 => drop(api.delete(&rule(ids[0])).await.expect(204)),
                2 => drop(api.patch(&rule(ids[1]), &json!({"priority": 1})).await.expect(200)),
                _ => drop(api.patch(&rule(ids[2]), &json!({"action": "DENY"})).await.expect(200)),
            }
            let continued = api.get(&list).await.expect(200);
            // An analysis at a given instant never continues another one.
            let at = continued["at"].as_str().unwrap();
            let whole = api.get(&format!("{list}&at={at}")).await.expect(200);
            assert_eq!(continued["items"], whole["items"], "{step}");
            assert_eq!(continued["complete"], json!(true));
        }
    }
}

db_test! {
    async fn rules_are_listed_by_their_findings(api: Api) {
        let (policy, ids) = policy_with_faults(&api).await;
        let list = |filter: &str| format!("{policy}rules/?filter={}", encoded(filter));
        let names = |page: &Value| -> Vec<String> {
            let items = page["items"].as_array().unwrap().iter();
            items.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
        };
        for (filter, found) in [
            ("finding = unreachable", vec!["no-ssh", "again"]),
            ("finding IN (unreachable, restates_default)", vec!["no-ssh", "again", "final"]),
            ("finding = unreachable AND action = ALLOW", vec!["again"]),
            ("NOT finding = unreachable", vec!["internal", "final"]),
            ("finding = null", vec!["internal"]),
            ("finding != null", vec!["no-ssh", "again", "final"]),
            ("finding = mergeable", vec![]),
        ] {
            let page = api.get(&list(filter)).await.expect(200);
            assert_eq!(names(&page), found, "{filter}");
            assert_eq!(page["total"], found.len(), "{filter}");
            assert_eq!(page["partial"], json!(["filter"]));
        }
        // Pages and exports are those of the same rules.
        let first = api.get(&format!("{}&page_size=1&cursor=", list("finding != null"))).await;
        let cursor = first.expect(200)["next_cursor"].as_str().unwrap().to_owned();
        let rest = api.get(&format!("{}&cursor={cursor}", list("finding != null"))).await;
        assert_eq!(names(&rest.expect(200)), ["again", "final"]);
        let accept = [("accept", "text/csv")];
        let path = format!("{}&fields=name", list("finding = unreachable"));
        let lines = api.send("GET", &path, api.token(), &accept, None).await;
        assert_eq!(lines.status.as_u16(), 200, "{}", lines.text);
        assert!(!lines.headers.contains_key("etag"), "an accepted finding would not change the tag");
        let expected = ["id,name".to_owned(), format!("{},no-ssh", ids[1]), format!("{},again", ids[2])];
        assert_eq!(lines.text.lines().collect::<Vec<_>>(), expected);

        // Accepted findings do not count, and the tag of the former list is no longer valid.
        let before = api.get(&list("finding = unreachable")).await;
        let tag = before.header("etag").to_owned();
        let about = format!("{policy}analysis/?rule_id={}&wait=25", ids[1]);
        let found = api.get(&about).await.expect(200);
        let id = found["items"][0]["id"].as_str().unwrap();
        let acceptance = format!("{policy}findings/{id}/acceptance/");
        api.put(&acceptance, &json!({"reason": "kept for the audit"})).await.expect(200);
        let known = [("if-none-match", tag.as_str())];
        let path = list("finding = unreachable");
        let after = api.send("GET", &path, api.token(), &known, None).await.expect(200);
        assert_eq!(names(&after), ["again"]);
        // A change of the policy changes its findings.
        api.delete(&format!("{policy}rules/{}/", ids[0])).await.expect(204);
        let page = api.get(&list("finding = unreachable")).await.expect(200);
        assert_eq!(names(&page), [] as [&str; 0]);
    }
}

db_test! {
    async fn findings_are_selected_by_a_filter_of_their_rules(api: Api) {
        let (policy, _) = policy_with_faults(&api).await;
        let list = |filter: &str| format!("{policy}analysis/?wait=25&filter={}", encoded(filter));
        let all = [("unreachable", "no-ssh"), ("unreachable", "again"), ("restates_default", "final")];
        for (filter, found) in [
            ("action = DENY", vec![all[0], all[2]]),
            ("name = a* OR destinations.port = 22", vec![all[0], all[1]]),
            ("NOT action = DENY AND filtering_policy.id > 0", vec![all[1]]),
            ("created_at > now - 1h", all.to_vec()),
            ("name = nothing", vec![]),
        ] {
            let page = api.get(&list(filter)).await.expect(200);
            assert_eq!(kinds(&page), found, "{filter}");
            assert_eq!(page["total"], found.len(), "{filter}");
            // The counts stay those of the policy.
            assert_eq!(page["counts"][0]["count"], 1, "{filter}");
        }
        let first = api.get(&format!("{}&page_size=1", list("action = DENY"))).await.expect(200);
        let cursor = first["next_cursor"].as_str().unwrap();
        let rest = api.get(&format!("{}&cursor={cursor}", list("action=DENY"))).await.expect(200);
        assert_eq!(kinds(&rest), [all[2]]);
        api.get(&format!("{}&cursor={cursor}", list("action = ALLOW"))).await.expect(422);
        for (bad, part) in [
            ("finding = unreachable", "use `kind`"),
            ("hue = red", "`hue`"),
        ] {
            let problem = api.get(&list(bad)).await.expect(422);
            let error = &problem["errors"][0];
            assert_eq!(error["parameter"], "filter");
            assert!(error["detail"].as_str().unwrap().contains(part), "{error}");
        }
    }
}

db_test! {
    async fn findings_are_refused_in_lists_across_policies(api: Api) {
        let path = format!("/rules/?filter={}", encoded("NOT (log = true OR finding = unreachable)"));
        let problem = api.get(&path).await.expect(422);
        assert_eq!(problem["errors"][0]["parameter"], "filter");
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("`finding`, which needs the list of one policy"), "{detail}");
        let accept = [("accept", "application/x-ndjson")];
        api.send("GET", &path, api.token(), &accept, None).await.expect(422);
    }
}

db_test! {
    async fn who_does_not_wait_is_told_where_and_when_to_ask_again(api: Api) {
        let (policy, _) = policy_with_faults(&api).await;
        let list = format!("{policy}analysis/?wait=0&severity=error");
        let answer = api.get(&list).await;
        assert_eq!(answer.status.as_u16(), 202, "{}", answer.text);
        assert_eq!(answer.text, "");
        assert_eq!(answer.header("location"), list);
        assert_eq!(answer.header("retry-after"), "2");
        // The analysis went on, or begins again: a request that waits gets it.
        let page = api.get(&list.replace("wait=0", "wait=25")).await.expect(200);
        assert_eq!(kinds(&page), [("unreachable", "no-ssh")]);
        // Now it is known at once.
        assert_eq!(api.get(&list).await.expect(200), page);
    }
}

db_test! {
    async fn findings_are_available_as_sarif_and_csv(api: Api) {
        let (policy, ids) = policy_with_faults(&api).await;
        let list = format!("{policy}analysis/?wait=25");
        let sarif = [("accept", "application/sarif+json")];
        let answer = api.with("GET", &list, &sarif, None).await;
        assert_eq!(answer.header("content-type"), "application/sarif+json");
        let log = answer.expect(200);
        let results = log["runs"][0]["results"].as_array().unwrap();
        assert_eq!(results.len(), 3);
        let uri = &results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
        let path = policy.trim_start_matches('/');
        assert_eq!(uri, &json!(format!("{path}rules/{}/", ids[1])));
        let csv = [("accept", "text/csv")];
        let answer = api.with("GET", &format!("{list}&severity=error"), &csv, None).await;
        assert!(answer.header("content-type").starts_with("text/csv"));
        let lines: Vec<&str> = answer.text.lines().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[1].contains(",error,unreachable,2,"), "{}", lines[1]);
        api.with("GET", &format!("{list}&cursor="), &csv, None).await.problem(422, "invalid");
    }
}

db_test! {
    async fn a_proposed_rule_set_is_compared_with_the_stored_one(api: Api) {
        let (policy, ids) = policy_with_faults(&api).await;
        let comparisons = format!("{policy}comparisons/");
        let rules = api.get(&format!("{policy}rules/")).await.expect(200)["items"].clone();
        let right = |rules: &Value| json!({"right": {"rules": rules, "default_action": "DENY"}});
        let same = api.post(&comparisons, &right(&rules)).await.expect(200);
        let expected = json!({
            "equal": true, "complete": true, "incomplete": [], "more": false, "differences": [],
        });
        assert_eq!(same, expected);
        // Without the first rule, its packets are denied.
        let mut fewer = rules.clone();
        fewer.as_array_mut().unwrap().remove(0);
        let answer = api.post(&comparisons, &right(&fewer)).await.expect(200);
        let differences = answer["differences"].as_array().unwrap();
        assert!(!differences.is_empty());
        assert!(differences.iter().all(|it| it["change"] == "closes" && it["opens"] == false));
        assert!(differences.iter().all(|it| it["left_rule"]["id"] == ids[0]), "{answer}");
        // With itself, by its ids, and on both sides.
        let mut steps = policy.trim_matches('/').split('/').filter_map(|step| step.parse::<i64>().ok());
        let stored = json!({"firewall_id": steps.next(), "filtering_policy_id": steps.next()});
        let both = json!({"left": stored, "right": stored});
        assert_eq!(api.post(&comparisons, &both).await.expect(200), expected);
        for (body, pointer) in [
            (json!({}), "#/right"),
            (json!({"right": {}}), "#/right"),
            (json!({"right": {"rules": []}}), "#/right/default_action"),
            (json!({"right": {"firewall_id": 1, "rules": []}}), "#/right"),
            (json!({"right": {"rules": [{"action": "DENY"}], "default_action": "DENY"}}),
             "#/right/rules/0/sources"),
            (json!({"right": {"rules": [], "default_action": "DENY"}, "from": "2026-01-02T00:00:00Z",
                    "until": "2026-01-01T00:00:00Z"}), "#/until"),
            (json!({"right": {"rules": [], "default_action": "DENY"}, "lft": null}), "#/lft"),
        ] {
            let problem = api.post(&comparisons, &body).await.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        }
        let missing = json!({"right": {"firewall_id": 1, "filtering_policy_id": 999}});
        api.post(&comparisons, &missing).await.problem(404, "not_found");
    }
}

db_test! {
    async fn packets_of_a_set_are_found_and_divided(api: Api) {
        let (policy, ids) = policy_with_faults(&api).await;
        let searches = format!("{policy}searches/");
        let ssh = json!({"protocols": "tcp", "destination_ports": 22, "family": "ipv4"});
        let allowed = json!({"packets": ssh, "outcome": {"action": "ALLOW"}});
        let answer = api.post(&searches, &allowed).await.expect(200);
        assert_eq!((&answer["none"], &answer["complete"]), (&json!(false), &json!(true)));
        assert_eq!(answer["found"][0]["rule"]["id"], ids[0]);
        let packets = json!({
            "protocols": ["tcp"], "sources": ["10.0.0.0/24"], "destinations": ["198.51.100.0/24"],
            "destination_ports": ["22"],
        });
        let mut found = answer["found"][0]["packets"].clone();
        found.as_object_mut().unwrap().remove("family");
        assert_eq!(found, packets);
        let none = json!({"packets": {}, "outcome": {"rule_id": ids[1]}});
        let answer = api.post(&searches, &none).await.expect(200);
        assert_eq!((&answer["none"], &answer["found"]), (&json!(true), &json!([])));
        let unknown = json!({"packets": {}, "outcome": {"rule_id": 999_999}});
        let problem = api.post(&searches, &unknown).await.problem(422, "invalid");
        assert_eq!(problem["errors"][0]["pointer"], "#/outcome/rule_id");

        let partitions = format!("{policy}partitions/");
        let set = json!({"packets": {"protocols": "tcp", "sources": "10.0.0.0-10.0.1.255",
                                     "source_ports": 50_000, "destinations": "198.51.100.10",
                                     "destination_ports": 443}});
        let answer = api.post(&partitions, &set).await.expect(200);
        let parts: Vec<(&Value, &Value, Option<f64>)> = answer["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| (&part["action"], &part["rule"]["id"], part["size"].as_f64()))
            .collect();
        let expected = [
            (&json!("ALLOW"), &json!(ids[0]), Some(256.0)),
            (&json!("DENY"), &json!(ids[3]), Some(256.0)),
        ];
        assert_eq!(parts, expected);
        assert_eq!(answer["complete"], true);
    }
}

/// Checks that a value has the members of its schema: all that are required, and no others.
fn check(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        return check(document, target, value, place);
    }
    if value.is_null() {
        assert_eq!(schema["nullable"], true, "{place} is null");
        return;
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check(document, part, value, place);
    }
    match schema["type"].as_str() {
        Some("object") if schema["properties"].is_object() => {
            let properties = schema["properties"].as_object().unwrap();
            let members = value.as_object().unwrap_or_else(|| panic!("{place} is no object"));
            for name in schema["required"].as_array().into_iter().flatten() {
                let name = name.as_str().unwrap();
                assert!(members.contains_key(name), "{place} lacks {name}");
            }
            for (name, value) in members {
                let property = properties.get(name);
                let property = property.unwrap_or_else(|| panic!("{place} has {name}"));
                check(document, property, value, &format!("{place}/{name}"));
            }
        }
        Some("array") => {
            for (index, item) in value.as_array().unwrap().iter().enumerate() {
                check(document, &schema["items"], item, &format!("{place}/{index}"));
            }
        }
        Some("string") => assert!(value.is_string(), "{place}: {value}"),
        Some("integer") => assert!(value.is_u64() || value.is_i64(), "{place}: {value}"),
        Some("number") => assert!(value.is_number(), "{place}: {value}"),
        Some("boolean") => assert!(value.is_boolean(), "{place}: {value}"),
        _ => {}
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{place}: {value}");
    }
}

db_test! {
    async fn answers_have_the_members_of_their_schemas(api: Api) {
        let (policy, _) = policy_with_faults(&api).await;
        let check = |name: &str, value: &Value| {
            let schema = &api.document["components"]["schemas"][name];
            assert!(schema.is_object(), "{name}");
            check(&api.document, schema, value, name);
        };
        let kinds = "correlated,generalises,mergeable,unreachable,redundant,restates_default";
        let page = api.get(&format!("{policy}analysis/?wait=25&kind={kinds}")).await.expect(200);
        let seen: BTreeSet<&str> =
            page["items"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
        assert!(seen.len() >= 2, "{page}");
        check("Analysis", &page);
        let body = json!({"right": {"rules": [], "default_action": "REJECT"}});
        check("Comparison", &api.post(&format!("{policy}comparisons/"), &body).await.expect(200));
        let body = json!({"packets": {}, "outcome": {"action": "BLOCKED"}});
        check("Search", &api.post(&format!("{policy}searches/"), &body).await.expect(200));
        let body = json!({"packets": {}});
        check("Partition", &api.post(&format!("{policy}partitions/"), &body).await.expect(200));
    }
}
