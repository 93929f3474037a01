//! Bad input gets a 4xx answer with the location and the fault, never a 500 or a silent change.

use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Answer, Api, MAX_BODY_BYTES, firewall_of, plain_rule, tcp};

async fn raw_post(api: &Api, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    let authorization = format!("Bearer {}", api.token());
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    api.raw("POST", path, &headers, body.into()).await
}

fn pointers(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap();
    errors.iter().map(|error| error["pointer"].as_str().unwrap_or_default()).collect()
}

db_test! {
    async fn what_is_no_json_cannot_be_read(api: Api) {
        let deep = format!("{{\"name\": {}1{}}}", "[".repeat(40), "]".repeat(40));
        let bottomless = "[".repeat(1_000_000);
        for body in [
            "", "{", "{\"name\": }", "nonsense", "{\"name\": \"a\"} x", "{'name': 'a'}",
            "{\"name\": \"a\", \"name\": \"b\"}", "{\"name\": \"\\ud800\"}", &deep, &bottomless,
        ] {
            raw_post(&api, "/firewalls/", body).await.problem(400, "malformed_json");
        }
        raw_post(&api, "/firewalls/", b"{\"name\": \"\xff\"}".to_vec())
            .await
            .problem(400, "malformed_json");
        for body in ["null", "[]", "\"x\"", "7", "true"] {
            let problem = raw_post(&api, "/firewalls/", body).await.problem(422, "invalid");
            assert_eq!(pointers(&problem), ["#"]);
        }
        assert_eq!(api.get("/firewalls/").await.expect(200)["total"], 0);
    }
}

db_test! {
    async fn media_types_and_sizes_are_limited(api: Api) {
        let authorization = format!("Bearer {}", api.token());
        let auth = ("authorization", authorization.as_str());
        let body = || b"{\"name\": \"x\"}".to_vec();
        for headers in [
            vec![auth],
            vec![auth, ("content-type", "text/plain")],
            vec![auth, ("content-type", "application/xml")],
            vec![auth, ("content-type", "application/merge-patch+json")],
            vec![auth, ("content-type", "application/json"), ("content-encoding", "gzip")],
        ] {
            let answer = api.raw("POST", "/firewalls/", &headers, body()).await;
            answer.problem(415, "unsupported_media_type");
        }
        let json = ("content-type", "application/json; charset=utf-8");
        api.raw("POST", "/firewalls/", &[auth, json], body()).await.expect(201);
        let large = format!("{{\"name\": \"{}\"}}", "x".repeat(MAX_BODY_BYTES));
        raw_post(&api, "/firewalls/", large).await.problem(413, "too_large");
    }
}

db_test! {
    async fn members_are_strict(api: Api) {
        let cases = [
            (json!({"name": false}), "#/name"),
            (json!({"name": 7}), "#/name"),
            (json!({"name": null}), "#/name"),
            (json!({"name": " "}), "#/name"),
            (json!({"name": "a\u{0}b"}), "#/name"),
            (json!({"name": "a\nb"}), "#/name"),
            (json!({"name": "x".repeat(256)}), "#/name"),
            (json!({"name": "a", "nmae": "b"}), "#/nmae"),
            (json!({"name": "a", "": 1}), "#/"),
            (json!({"name": "a", "a/b~c": 1}), "#/a~1b~0c"),
            (json!({"name": "a", "description": "\u{0}"}), "#/description"),
            (json!({"name": "a", "description": null}), "#/description"),
            (json!({"name": "a", "labels": []}), "#/labels"),
            (json!({"name": "a", "labels": {"A": "x"}}), "#/labels/A"),
            (json!({"name": "a", "labels": {"a": 1}}), "#/labels/a"),
            (json!({"name": "a", "labels": {"a": null}}), "#/labels/a"),
            (json!({"name": "a", "labels": {"a": "\u{7}"}}), "#/labels/a"),
            (json!({"name": "a", "tenant": "x".repeat(64)}), "#/tenant"),
            (json!({}), "#/name"),
        ];
        for (body, pointer) in cases {
            let problem = api.post("/firewalls/", &body).await.problem(422, "invalid");
            assert_eq!(pointers(&problem), [pointer], "{body}");
        }
        assert_eq!(api.get("/firewalls/").await.expect(200)["total"], 0);
    }
}

db_test! {
    async fn rules_are_strict_at_any_depth(api: Api) {
        let policy = api.policy().await;
        let address = |address: &str| json!([{"address": address}]);
        let cases = [
            ("protocl", json!("udp"), "#/protocl"),
            ("negate_sources", json!(true), "#/negate_sources"),
            ("action", json!("PERMIT"), "#/action"),
            ("action", json!(true), "#/action"),
            ("priority", json!("100"), "#/priority"),
            ("priority", json!(1e30), "#/priority"),
            ("priority", json!(null), "#/priority"),
            ("priority", json!(-2_147_483_649_i64), "#/priority"),
            ("protocols", json!(["tpc"]), "#/protocols/0"),
            ("protocols", json!([256]), "#/protocols/0"),
            ("protocols", json!([6.5]), "#/protocols/0"),
            ("protocols", json!([[]]), "#/protocols/0"),
            ("protocols", json!("tcp"), "#/protocols"),
            ("protocol", json!("udp"), "#/protocol"),
            ("icmp_type", json!(256), "#/icmp_type"),
            ("icmp_type", json!(8), "#/icmp_type"),
            ("sources", json!([]), "#/sources"),
            ("sources", json!({}), "#/sources"),
            ("sources", json!(["any"]), "#/sources/0"),
            ("sources", json!([{}]), "#/sources/0/address"),
            ("sources", json!([{"address": 7}]), "#/sources/0/address"),
            ("sources", json!([{"address": "any", "prot": 1}]), "#/sources/0/prot"),
            ("sources", json!([{"address": "any", "port": 65536}]), "#/sources/0/port"),
            ("sources", json!([{"address": "any", "port": "١"}]), "#/sources/0/port"),
            ("sources", json!([{"address": "any", "port": "9-1"}]), "#/sources/0/port"),
            ("sources", json!([{"address": "any", "port": true}]), "#/sources/0/port"),
            ("sources", address("10.0.0.1/8"), "#/sources/0/address"),
            ("sources", address("10.0.0.0/255.0.0.0"), "#/sources/0/address"),
            ("sources", address("10.0.0.9-10.0.0.1"), "#/sources/0/address"),
            ("sources", address("::ffff:10.0.0.1"), "#/sources/0/address"),
            ("sources", address("example.org"), "#/sources/0/address"),
            ("ports", json!([443]), "#/ports/0"),
            ("ports", json!([{}]), "#/ports/0"),
            ("ports", json!([{"number": 1, "from": 1, "to": 2}]), "#/ports/0"),
            ("ports", json!([{"from": 2, "to": 1}]), "#/ports/0/to"),
            ("ports", json!([{"number": 1, "numer": 1}]), "#/ports/0/numer"),
            ("enabled", json!("true"), "#/enabled"),
            ("enabled", json!(null), "#/enabled"),
            ("starts_at", json!("tomorrow"), "#/starts_at"),
            ("starts_at", json!(0), "#/starts_at"),
            ("expires_at", json!("2026-11-24T00:00:00Z\n"), "#/expires_at"),
            ("filtering_policy", json!({"id": 999}), "#/filtering_policy"),
        ];
        for (member, value, pointer) in cases {
            let problem = api.try_rule(&policy, &json!({member: value})).await.problem(422, "invalid");
            assert_eq!(pointers(&problem), [pointer], "{member}: {problem}");
        }
        let many: Value = (0..1_001).map(|_| json!({"address": "any"})).collect();
        let problem = api.try_rule(&policy, &json!({"sources": many})).await.problem(422, "invalid");
        assert_eq!(pointers(&problem), ["#/sources"]);
        let all_bad: Value = (0..500).map(|_| json!({"address": "x"})).collect();
        let problem = api.try_rule(&policy, &json!({"sources": all_bad})).await.problem(422, "invalid");
        assert_eq!(pointers(&problem).len(), 100, "the rest is counted");
        let count = api.get(&policy).await.expect(200);
        assert_eq!((&count["rule_count"], &count["revision"]), (&json!(0), &json!(1)));
        // Control: the rule from which all of these were derived is valid.
        api.post(&format!("{policy}rules/"), &plain_rule()).await.expect(201);
    }
}

db_test! {
    async fn a_body_that_contradicts_the_path_is_refused(api: Api) {
        let policy = api.policy().await;
        let rule = api.rule(&policy, &json!({})).await;
        let path = format!("{policy}rules/{}/", rule["id"]);
        for (body, pointer) in [
            (json!({"id": 999}), "#/id"),
            (json!({"filtering_policy": {"id": 999}}), "#/filtering_policy"),
            (json!({"revisio": 1}), "#/revisio"),
            (json!({"name": 1}), "#/name"),
            (json!({"action": null}), "#/action"),
        ] {
            let problem = api.patch(&path, &body).await.problem(422, "invalid");
            assert_eq!(pointers(&problem), [pointer]);
        }
        let problem = api.patch(&policy, &json!({"firewall": {"id": 999}})).await;
        assert_eq!(pointers(&problem.problem(422, "invalid")), ["#/firewall"]);
        assert_eq!(api.get(&path).await.expect(200), rule);
    }
}

db_test! {
    async fn ids_that_are_none_name_nothing(api: Api) {
        let policy = api.policy().await;
        for id in [
            "0", "-1", "01", "+1", "1.0", "1e3", "x", "9007199254740992", "99999999999999999999",
            "%D9%A3", "1%0A", "%00", "%FF", "1%2F2", "..",
        ] {
            for path in [
                format!("/firewalls/{id}/"),
                format!("/firewalls/{id}/filtering-policies/"),
                format!("{}{id}/", policy.trim_end_matches(|c: char| c == '/' || c.is_ascii_digit()).to_owned() + "/"),
                format!("{policy}rules/{id}/"),
            ] {
                let answer = api.get(&path).await;
                assert_eq!(answer.status.as_u16(), 404, "{path}: {}", answer.text);
                answer.problem(404, "not_found");
            }
        }
    }
}

db_test! {
    async fn query_parameters_are_strict_everywhere(api: Api) {
        let policy = api.policy().await;
        let rule = api.rule(&policy, &json!({})).await;
        let rule = format!("{policy}rules/{}/", rule["id"]);
        let firewall = firewall_of(&policy).to_owned();
        for path in [
            "/firewalls/".to_owned(), firewall, policy.clone(), format!("{policy}rules/"), rule,
            format!("{policy}inspections/"), "/whoami/".to_owned(), "/health/".to_owned(),
        ] {
            let problem = api.get(&format!("{path}?nonsense=1")).await.problem(422, "invalid");
            let errors = problem["errors"].as_array().unwrap();
            assert!(errors.iter().any(|it| it["parameter"] == "nonsense"), "{path}: {problem}");
        }
        for query in [
            "name=", "name=%00", "action=x", "priority=x", "source_address=10.0.0.1/8",
            "source_port=x", "destination_address=", "destination_port=65536", "port=1-0",
            "page=1&page=1", "page_size=0", "page_size=%D9%A1",
        ] {
            api.get(&format!("{policy}rules/?{query}")).await.problem(422, "invalid");
        }
    }
}

db_test! {
    async fn packets_that_cannot_be_are_refused(api: Api) {
        let policy = api.policy().await;
        let good = tcp("10.0.0.1", "10.0.0.2", 443);
        let base = "source_address=10.0.0.1&destination_address=10.0.0.2";
        let cases = [
            (String::new(), "source_address"),
            (base.to_owned(), "destination_port"),
            (format!("{base}&destination_port=443&source_port="), "source_port"),
            (format!("{base}&protocol=icmp&source_port=1"), "source_port"),
            (format!("{base}&protocol=icmpv6"), "protocol"),
            (format!("{base}&protocol=gre&icmp_type=8"), "icmp_type"),
            (format!("{base}&protocol=256"), "protocol"),
            (format!("{base}&protocol=icmp&icmp_type=256"), "icmp_type"),
            (good.replace("10.0.0.2", "::1"), "destination_address"),
            (good.replace("10.0.0.1", "::ffff:10.0.0.1"), "source_address"),
            (good.replace("10.0.0.1", "10.0.0.0/8"), "source_address"),
            (good.replace("10.0.0.1", "10.0.0.1%0A"), "source_address"),
            (good.replace("443", "65536"), "destination_port"),
            (good.replace("443", "-1"), "destination_port"),
            (format!("{good}&at=now"), "at"),
            (format!("{good}&explain=yes"), "explain"),
        ];
        for (query, parameter) in cases {
            let answer = api.get(&format!("{policy}inspections/?{query}")).await;
            let problem = answer.problem(422, "invalid");
            let errors = problem["errors"].as_array().unwrap();
            assert!(errors.iter().any(|it| it["parameter"] == parameter), "{query}: {problem}");
        }
        let path = format!("{policy}inspections/");
        let packets = json!([
            {"source_address": "10.0.0.1", "destination_address": "10.0.0.2", "protocol": "esp"},
            {"source_address": "10.0.0.1", "destination_address": "x", "protcol": "tcp"},
            7,
            {"source_address": "10.0.0.1", "destination_address": "10.0.0.2"},
        ]);
        let problem = api.post(&path, &packets).await.problem(422, "invalid");
        assert_eq!(
            pointers(&problem),
            ["#/1/destination_address", "#/1/protcol", "#/2", "#/3/destination_port"]
        );
        api.post(&path, &json!({})).await.problem(422, "invalid");
    }
}

db_test! {
    async fn what_is_not_there_and_what_is_not_allowed_have_their_form(api: Api) {
        api.get("/nothing").await.problem(404, "not_found");
        api.get("/").await.problem(404, "not_found");
        api.get("/firewalls/1/rules/").await.problem(404, "not_found");
        for (method, path, allow) in [
            ("PUT", "/firewalls/", "GET, HEAD, POST"),
            ("PUT", "/firewalls/1", "DELETE, GET, HEAD, PATCH"),
            ("DELETE", "/firewalls/1/filtering-policies/1/rules/", "GET, HEAD, POST, PUT"),
            ("PUT", "/firewalls/1/filtering-policies/1/rules/move/", "POST"),
            ("OPTIONS", "/whoami/", "GET, HEAD"),
            ("POST", "/health/live", "GET, HEAD"),
            ("DELETE", "/docs/openapi.json", "GET, HEAD"),
        ] {
            let answer = api.with(method, path, &[], None).await;
            assert_eq!(answer.header("allow"), allow, "{path}");
            answer.problem(405, "method_not_allowed");
        }
        // A client without a token learns nothing about existing resources.
        for (method, path) in [("GET", "/nothing"), ("PUT", "/firewalls/"), ("GET", "/firewalls/1/")] {
            api.raw(method, path, &[], vec![]).await.problem(401, "unauthenticated");
        }
    }
}

db_test! {
    async fn odd_authorization_headers_are_refused(api: Api) {
        let token = api.token().to_owned();
        for value in [
            "", "Bearer", "Bearer ", "Basic dGVzdDp0ZXN0", &token, "Bearer x",
            &format!("Bearer {token}x"), &format!("Bearer {token} {token}"),
            &format!("Bearer {}", "a".repeat(20_000)),
        ] {
            let answer = api.raw("GET", "/firewalls/", &[("authorization", value)], vec![]).await;
            assert!(answer.header("www-authenticate").starts_with("Bearer realm="));
            answer.problem(401, "unauthenticated");
        }
        let good = format!("bearer  {token}");
        api.raw("GET", "/firewalls/", &[("authorization", &good)], vec![]).await.expect(200);
        let twice = [("authorization", good.as_str()), ("authorization", good.as_str())];
        let answer = api.raw("GET", "/firewalls/", &twice, vec![]).await;
        answer.problem(401, "unauthenticated");
    }
}

db_test! {
    async fn every_fault_is_told_once(api: Api) {
        let policy = api.policy().await;
        let body = json!({"sources": [], "destinations": [{"address": "10.0.0.1/8"}]});
        let problem = api.post(&format!("{policy}rules/"), &body).await.problem(422, "invalid");
        let pointers: Vec<&Value> =
            problem["errors"].as_array().unwrap().iter().map(|fault| &fault["pointer"]).collect();
        assert_eq!(pointers, ["#/sources", "#/destinations/0/address", "#/action", "#/priority"]);
    }
}

db_test! {
    async fn a_fault_shows_the_right_form_of_what_was_given(api: Api) {
        let policy = api.policy().await;
        for (member, value, shown) in [
            ("sources", json!(["10.0.0.0/8"]), r#"{"address": "10.0.0.0/8"}"#),
            ("sources", json!(["ANY"]), r#"{"address": "any"}"#),
            ("destinations", json!(["web"]), r#"{"address": "10.0.0.0/8"}"#),
            ("sources", json!([{"address": "192.0.2.0/255.255.255.0"}]), "`192.0.2.0/24`"),
            ("sources", json!([{"address": "192.0.2.0/0.0.0.255"}]), "`192.0.2.0/24`"),
            ("ports", json!([22]), r#"{"number": 22}"#),
            ("ports", json!(["22"]), r#"{"number": 22}"#),
            ("ports", json!(["8000-8100"]), r#"{"from": 8000, "to": 8100}"#),
            ("ports", json!(["ssh"]), r#"{"number": 443}"#),
            ("protocols", json!(["any"]), r#""protocols": []"#),
        ] {
            let problem = api.try_rule(&policy, &json!({member: value})).await.problem(422, "invalid");
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.contains(shown), "{value}: {detail}");
        }
    }
}

db_test! {
    async fn a_query_in_another_products_words_is_told_ours(api: Api) {
        let policy = api.policy().await;
        let rules = format!("{policy}rules/");
        for (query, meant) in [
            ("limit=5", "`page_size`"), ("offset=5", "`cursor`"), ("sort=name", "`order_by`"),
            ("q=x", "`filter`"), ("state=active", "`filter=state = active`"), ("pgae=1", "`page`"),
        ] {
            let problem = api.get(&format!("{rules}?{query}")).await.problem(422, "invalid");
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.ends_with(&format!("did you mean {meant}?")), "{query}: {detail}");
        }
        // A name without a similar parameter gets no suggestion.
        let packet = "source_address=10.0.0.1&source_port=1&destination_address=10.0.0.2&destination_port=2";
        let problem = api.get(&format!("{policy}inspections/?{packet}&dst=10.0.0.2")).await;
        let problem = problem.problem(422, "invalid");
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(!detail.contains("did you mean"), "{detail}");
        for (path, parameter) in [
            (format!("{policy}inspections/?{packet}&at=2026-11-24T12:00:00+01:00"), "at"),
            ("/audit-events/?since=2026-11-24T12:00:00+01:00".to_owned(), "since"),
        ] {
            let problem = api.get(&path).await.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["parameter"], parameter);
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.contains("`%2B`"), "{detail}");
            api.get(&path.replace('+', "%2B")).await.expect(200);
        }
    }
}

db_test! {
    async fn a_path_that_is_nearly_right_is_told_the_nearest(api: Api) {
        let policy = api.policy().await;
        let firewall = firewall_of(&policy);
        for (path, meant) in [
            ("/policies/".to_owned(), "/filtering-policies/".to_owned()),
            (format!("{firewall}policies/"), format!("{firewall}filtering-policies/")),
            (format!("{policy}rule/"), format!("{policy}rules/")),
            (format!("{policy}inspect"), format!("{policy}inspections/")),
        ] {
            let problem = api.get(&path).await.problem(404, "not_found");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.ends_with(&format!("did you mean `{meant}`?")), "{detail}");
        }
        let problem = api.get("/users/").await.problem(404, "not_found");
        assert_eq!(problem["detail"], "nothing exists at `/users/`");
        // A client without a token learns of no path.
        api.raw("GET", "/policies/", &[], vec![]).await.problem(401, "unauthenticated");
    }
}
