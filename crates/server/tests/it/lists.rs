//! Pages, orders, filters.

use fireflow_domain::actor::Role;
use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Api, firewall_of, list_of};

fn ids(list: &Value) -> Vec<i64> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
}

db_test! {
    async fn pages_cut_a_list(api: Api) {
        for index in 0..5 {
            api.post("/firewalls/", &json!({"name": format!("f{index}")})).await.expect(201);
        }
        let all = ids(&api.get("/firewalls/").await.expect(200));
        let answer = api.get("/firewalls/?page=2&page_size=2").await;
        let pagination: Value = serde_json::from_str(answer.header("x-pagination")).unwrap();
        let expected = json!({
            "total": 5, "total_pages": 3, "page": 2, "first_page": 1, "last_page": 3,
            "previous_page": 1, "next_page": 3,
        });
        assert_eq!(pagination, expected);
        let page = answer.expect(200);
        assert_eq!(ids(&page), all[2..4]);
        assert_eq!((&page["total"], &page["page"], &page["per_page"]), (&json!(5), &json!(2), &json!(2)));
        assert_eq!(page["total_is_exact"], true);
        let beyond = api.get("/firewalls/?page=9").await.expect(200);
        assert_eq!((&beyond["items"], &beyond["total"]), (&json!([]), &json!(5)));
        let problem = api.get("/firewalls/?page=101&page_size=1000").await;
        assert_eq!(problem.problem(422, "invalid")["errors"][0]["parameter"], "page");
    }
}

db_test! {
    async fn lists_are_ordered_by_any_field(api: Api) {
        for name in ["b", "a", "C"] {
            api.post("/firewalls/", &json!({"name": name})).await.expect(201);
        }
        let list = api.get("/firewalls/?order_by=-name").await.expect(200);
        let names: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["b", "a", "C"]);
        let problem = api.get("/firewalls/?order_by=nmae").await.problem(422, "invalid");
        assert!(problem["errors"][0]["detail"].as_str().unwrap().contains("`name`"), "{problem}");
        // Every field in the description can be used.
        let policy = api.policy().await;
        api.rule(&policy, &json!({})).await;
        for (operation, path) in [
            ("getFirewalls", "/firewalls/".to_owned()),
            ("getFilteringPolicies", list_of(&policy)),
            ("getRules", format!("{policy}rules/")),
        ] {
            let order = crate::operations::row(operation)
                .parameters()
                .find_map(|param| match param.kind {
                    fireflow_web::described::ParamKind::OrderBy(fields) => Some(fields),
                    _ => None,
                })
                .unwrap();
            for field in order {
                let list = api.get(&format!("{path}?order_by=-{field}")).await.expect(200);
                assert!(list["total"].as_i64().unwrap() > 0);
            }
        }
    }
}

db_test! {
    async fn rules_come_in_order_of_evaluation_with_their_position(api: Api) {
        let policy = api.policy().await;
        for (index, priority) in [30, 10, 20].into_iter().enumerate() {
            let source = json!([{"address": format!("10.0.0.{index}")}]);
            api.rule(&policy, &json!({"priority": priority, "sources": source})).await;
        }
        let positions = |list: &Value| -> Vec<(i64, Option<i64>)> {
            let item = |it: &Value| (it["priority"].as_i64().unwrap(), it["position"].as_i64());
            list["items"].as_array().unwrap().iter().map(item).collect()
        };
        let path = format!("{policy}rules/");
        let list = api.get(&path).await.expect(200);
        assert_eq!(positions(&list), [(10, Some(1)), (20, Some(2)), (30, Some(3))]);
        let second = api.get(&format!("{path}?page=2&page_size=2")).await.expect(200);
        assert_eq!(positions(&second), [(30, Some(3))]);
        let sorted = api.get(&format!("{path}?order_by=-priority")).await.expect(200);
        assert_eq!(positions(&sorted), [(30, None), (20, None), (10, None)]);
        let filtered = api.get(&format!("{path}?priority=20")).await.expect(200);
        assert_eq!(positions(&filtered), [(20, None)]);
    }
}

db_test! {
    async fn plain_filters_compare_one_entry(api: Api) {
        let policy = api.policy().await;
        let rule = json!({
            "name": "a rule", "action": "REJECT", "priority": 5,
            "sources": [{"address": "10.0.0.0/8"}, {"address": "2001:db8::/32", "port": 53}],
            "destinations": [{"address": "any", "port": "8000-8100"}, {"address": "any"}],
            "ports": [{"number": 443}],
        });
        let made = api.rule(&policy, &rule).await;
        api.rule(&policy, &json!({})).await;
        for query in [
            "name=a+rule",
            "name=a%20rule",
            "action=reject",
            "priority=5",
            "source_address=10.0.0.0-10.255.255.255",
            "source_address=2001%3Adb8%3A%3A%2F32",
            "source_port=53",
            "destination_port=8000-8100",
            "port=443",
            "port=443&action=REJECT&destination_address=any",
        ] {
            let list = api.get(&format!("{policy}rules/?{query}")).await.expect(200);
            assert_eq!(ids(&list), [made["id"].as_i64().unwrap()], "{query}");
            assert_eq!(list["total"], 1);
        }
        for query in ["port=44", "source_port=443", "source_address=10.0.0.1", "name=a"] {
            let list = api.get(&format!("{policy}rules/?{query}")).await.expect(200);
            assert_eq!(list["total"], 0, "{query}");
        }
        let policies = list_of(&policy);
        let list = api.get(&format!("{policies}?default_action=deny&name=in")).await.expect(200);
        assert_eq!(list["total"], 1);
        let list = api.get(&format!("{policies}?default_action=ALLOW")).await.expect(200);
        assert_eq!(list["total"], 0);
        let list = api.get("/firewalls/?name=edge").await.expect(200);
        assert_eq!(list["total"], 1);
    }
}

db_test! {
    async fn lists_across_all_firewalls_show_what_the_tenants_may_see(api: Api) {
        let blue = api.token_for(&[Role::Editor], Some(&["blue"]));
        let mut all = Vec::new();
        for (tenant, name) in [("blue", "one"), ("blue", "two"), ("red", "one")] {
            let body = json!({"name": name, "tenant": tenant});
            let firewall = api.post("/firewalls/", &body).await.expect(201);
            let path = format!("/firewalls/{}/filtering-policies/", firewall["id"]);
            let body = json!({"name": "in", "default_action": "DENY"});
            let policy = api.post(&path, &body).await.expect(201);
            let policy = format!("{path}{}/", policy["id"]);
            let rule = json!({"sources": [{"address": "10.1.2.3"}], "name": format!("{name} rule")});
            all.push(api.rule(&policy, &rule).await["id"].as_i64().unwrap());
            api.rule(&policy, &json!({})).await;
        }
        let policies = api.get("/filtering-policies/").await.expect(200);
        assert_eq!((&policies["total"], policies["items"].as_array().unwrap().len()), (&json!(3), 3));
        let rules = api.get("/rules?page_size=4").await.expect(200);
        assert_eq!((&rules["total"], rules["items"].as_array().unwrap().len()), (&json!(6), 4));
        let found = api.get("/rules/?source_address=10.1.2.3").await.expect(200);
        assert_eq!(ids(&found), all);
        assert_eq!(found["items"][0]["filtering_policy"]["firewall"]["name"], "one");
        assert!(found["items"][0].get("position").is_none());

        let see = async |path: &str| api.send("GET", path, &blue, &[], None).await.expect(200);
        assert_eq!(see("/filtering-policies/").await["total"], 2);
        assert_eq!(see("/rules/").await["total"], 4);
        assert_eq!(ids(&see("/rules/?source_address=10.1.2.3").await), all[..2]);
        let none = api.token_for(&[Role::Viewer], Some(&[]));
        let nothing = api.send("GET", "/rules/", &none, &[], None).await.expect(200);
        assert_eq!((&nothing["total"], &nothing["items"]), (&json!(0), &json!([])));

        // Children of a deleted firewall are neither listed nor counted.
        let firewall = &found["items"][2]["filtering_policy"]["firewall"]["id"];
        api.delete(&format!("/firewalls/{firewall}/")).await.expect(204);
        assert_eq!(api.get("/rules/").await.expect(200)["total"], 4);
        assert_eq!(api.get("/filtering-policies/").await.expect(200)["total"], 2);

        let sorted = api.get("/rules/?order_by=-name&action=ALLOW").await.expect(200);
        assert_eq!(sorted["items"][0]["name"], "two rule");
        api.get("/rules/?order_by=priority&action=ALLOW").await.expect(200);
        api.get("/rules/?order_by=priority").await.problem(422, "invalid");
        api.get("/filtering-policies/?order_by=rule_count").await.problem(422, "invalid");
        for order in ["id", "-name", "created_at", "updated_at", "expires_at"] {
            api.get(&format!("/rules/?order_by={order}")).await.expect(200);
        }
    }
}

db_test! {
    async fn answers_have_the_members_that_are_asked_for(api: Api) {
        let policy = api.policy().await;
        let rule = api.rule(&policy, &json!({"name": "web"})).await;
        let one = format!("{policy}rules/{}/", rule["id"]);
        let only = json!({"id": rule["id"], "name": "web"});
        assert_eq!(api.get(&format!("{one}?fields=name")).await.expect(200), only);
        for list in [format!("{policy}rules/"), "/rules/".to_owned()] {
            let page = api.get(&format!("{list}?fields=id,name")).await.expect(200);
            assert_eq!((&page["items"], &page["total"]), (&json!([only]), &json!(1)));
        }
        let page = api.get("/firewalls/?fields=policy_count").await.expect(200);
        assert_eq!(page["items"][0].as_object().unwrap().len(), 2);
        let found = api.get(&format!("{policy}?fields=default_action,revision")).await.expect(200);
        assert_eq!(found.as_object().unwrap().len(), 3);
        for bad in ["fields=", "fields=nmae", "fields=name,name", "fields=name,", "fields=name&fields=id"] {
            let problem = api.get(&format!("{one}?{bad}")).await.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["parameter"], "fields", "{bad}");
        }
        // The selectable members are those in the description.
        use fireflow_web::described::{FirewallView, PolicyView, RuleView};
        for (schema, members) in [
            ("Firewall", FirewallView::MEMBERS),
            ("FilteringPolicy", PolicyView::MEMBERS),
            ("FirewallRule", RuleView::MEMBERS),
        ] {
            let described = &api.document["components"]["schemas"][schema]["properties"];
            let mut described: Vec<&str> =
                described.as_object().unwrap().keys().map(String::as_str).collect();
            let mut members = members.to_vec();
            described.sort_unstable();
            members.sort_unstable();
            assert_eq!(described, members);
        }
    }
}

db_test! {
    async fn children_are_embedded_where_they_are_asked_for(api: Api) {
        let policy = api.policy().await;
        let firewall = firewall_of(&policy);
        for (priority, source) in [(20, "10.0.0.1"), (10, "10.0.0.2")] {
            let rule = json!({"priority": priority, "sources": [{"address": source}]});
            api.rule(&policy, &rule).await;
        }
        let plain = api.get(&policy).await.expect(200);
        assert!(plain.get("rules").is_none());
        let before = api.db.statements();
        let answer = api.get(&format!("{policy}?expand=rules")).await;
        assert_eq!(api.db.statements() - before, 2);
        let tag = answer.header("etag").to_owned();
        let expanded = answer.expect(200);
        let priorities: Vec<&Value> =
            expanded["rules"].as_array().unwrap().iter().map(|rule| &rule["priority"]).collect();
        assert_eq!(priorities, [&json!(10), &json!(20)]);
        let rule = format!("{policy}rules/{}/", expanded["rules"][0]["id"]);
        assert_eq!(expanded["rules"][0], api.get(&rule).await.expect(200));
        // The tag's state covers the rules.
        let state = |tag: &str| tag.split_once('.').unwrap().0.to_owned();
        assert_eq!(state(&tag), state(api.get(&policy).await.header("etag")));
        // The answer can be sent back without the children, which are written separately.
        let mut alone = expanded.clone();
        let children = alone.as_object_mut().unwrap().remove("rules");
        api.patch(&policy, &alone).await.expect(200);
        let refused = api.patch(&policy, &json!({"rules": children})).await.expect(422);
        assert_eq!(refused["errors"][0]["pointer"], "#/rules");

        for path in [firewall.to_owned(), "/firewalls/".to_owned()] {
            let one = |answer: &Value| answer["items"].get(0).unwrap_or(answer).clone();
            let answer = api.get(&format!("{path}?expand=filtering_policies")).await;
            assert!(answer.headers.get("etag").is_none());
            let shallow = one(&answer.expect(200));
            assert_eq!(shallow["filtering_policies"][0], api.get(&policy).await.expect(200));
            let before = api.db.statements();
            let deep = api.get(&format!("{path}?expand=filtering_policies.rules")).await;
            assert!(api.db.statements() - before <= 4, "one for each level, and a total");
            let deep = one(&deep.expect(200));
            assert_eq!(deep["filtering_policies"][0], expanded);
        }
        for path in [list_of(&policy), "/filtering-policies/".to_owned()] {
            let list = api.get(&format!("{path}?expand=rules&fields=rules")).await.expect(200);
            assert_eq!(list["items"][0], json!({"id": expanded["id"], "rules": expanded["rules"]}));
        }
        let empty = json!({"name": "empty"});
        let empty = api.post("/firewalls/", &empty).await.expect(201);
        let path = format!("/firewalls/{}/?expand=filtering_policies.rules", empty["id"]);
        assert_eq!(api.get(&path).await.expect(200)["filtering_policies"], json!([]));

        for bad in ["expand=rule", "expand=", "expand=rules,rules"] {
            api.get(&format!("{policy}?{bad}")).await.problem(422, "invalid");
        }
        api.db.execute("UPDATE policy SET rule_count = 10001").await;
        let problem = api.get(&format!("{policy}?expand=rules")).await.problem(413, "too_large");
        assert!(problem["detail"].as_str().unwrap().contains("page_size"), "{problem}");
        api.get("/firewalls/?expand=filtering_policies.rules").await.problem(413, "too_large");
        api.get("/firewalls/?expand=filtering_policies").await.expect(200);
    }
}

db_test! {
    async fn a_page_of_too_many_entries_is_refused_with_a_size_that_fits(api: Api) {
        let policy = api.policy().await;
        let many = |second: u32| -> Value {
            let one = |i: u32| json!({"address": format!("10.{second}.{}.{}", i / 250, i % 250)});
            (0..1_000).map(one).collect()
        };
        let ports: Value = (1..=1_000).map(|port| json!({"number": port})).collect();
        let wide = json!({"sources": many(1), "destinations": many(2), "ports": ports});
        api.rule(&policy, &wide).await;
        copy_rules(&api, 66).await;
        for path in [format!("{policy}rules/"), "/rules/".to_owned()] {
            let problem = api.get(&format!("{path}?page_size=100")).await.problem(413, "too_large");
            assert!(problem["detail"].as_str().unwrap().contains("page_size=66"), "{problem}");
            let page = api.get(&format!("{path}?page_size=66")).await.expect(200);
            assert_eq!(ids(&page).len(), 66);
        }
    }
}

/// Adds `copies` rows for each existing rule. Derived rows are not needed here.
async fn copy_rules(api: &Api, copies: u32) {
    let tables = fireflow_storage::testing::entity_tables();
    let columns: Vec<String> = tables["rule"]
        .keys()
        .filter(|it| !["id", "copy"].contains(&it.as_str()))
        .cloned()
        .collect();
    let columns = columns.join(", ");
    let copies = format!(
        "INSERT INTO rule ({columns}, copy) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {copies}) \
         SELECT {columns}, i FROM rule, n"
    );
    api.db.execute(&copies).await;
}

db_test! {
    async fn a_page_or_an_expansion_of_too_much_text_is_refused(api: Api) {
        let policy = api.policy().await;
        let labels: serde_json::Map<String, Value> =
            (0..64).map(|label| (format!("label-{label:057}"), json!("v".repeat(255)))).collect();
        api.rule(&policy, &json!({"description": "d".repeat(4_096), "labels": labels})).await;
        copy_rules(&api, 330).await;
        for path in [format!("{policy}rules/"), "/rules/".to_owned()] {
            let problem = api.get(&format!("{path}?page_size=1000")).await.problem(413, "too_large");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains("characters") && detail.contains("page_size=322"), "{problem}");
            api.get(&format!("{path}?page_size=322")).await.expect(200);
        }
        // The exact size is queried only for policies with many rules.
        api.get(&format!("{policy}?expand=rules")).await.expect(200);
        api.db.execute("UPDATE policy SET rule_count = 1001").await;
        let problem = api.get(&format!("{policy}?expand=rules")).await.problem(413, "too_large");
        assert!(problem["detail"].as_str().unwrap().contains("characters"), "{problem}");
    }
}

db_test! {
    async fn a_list_shows_the_members_that_were_asked_for_as_they_are_written(api: Api) {
        let policy = api.policy().await;
        let text = "a \"quoted\" \\ text, \u{1f525}";
        let rule = api.rule(&policy, &json!({"name": "one", "description": text})).await;
        let whole = api.get(&format!("{policy}rules/")).await.expect(200);
        let some = api.get(&format!("{policy}rules/?fields=description,sources")).await.expect(200);
        let item = json!({
            "id": rule["id"], "description": text, "sources": rule["sources"],
        });
        assert_eq!(some["items"], json!([item]));
        assert_eq!(some["total"], whole["total"]);
        assert_eq!(some["partial"], json!(["fields"]));
    }
}
