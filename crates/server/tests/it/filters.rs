//! Filters and cursors over HTTP.

use std::collections::BTreeSet;
use std::time::Duration;

use fireflow_domain::filter::{Level, describe};
use fireflow_storage::testing::TestDatabase;
use fireflow_storage::{DatabaseOptions, db_test};
use serde_json::{Value, json};

use crate::support::{Answer, Api, encoded, list_of, plain_rule};

async fn filtered(api: &Api, list: &str, filter: &str) -> Answer {
    api.get(&format!("{list}?page_size=1000&filter={}", encoded(filter))).await
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().filter_map(|item| item["name"].as_str()).collect()
}

fn ids(list: &Value) -> Vec<i64> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
}

/// A policy with four rules about SSH.
async fn ssh(api: &Api) -> String {
    let policy = api.policy().await;
    let any = json!([{"address": "any"}]);
    for (name, rule) in [
        ("any", json!({"sources": any, "destinations": any, "protocols": []})),
        (
            "office",
            json!({"sources": [{"address": "10.20.0.0/24"}], "destinations": any, "ports": [{"number": 22}]}),
        ),
        ("web", json!({"sources": any, "destinations": [{"address": "192.0.2.1", "port": 443}]})),
        ("ping", json!({"sources": any, "destinations": any, "protocols": ["icmp"]})),
    ] {
        let mut rule = rule;
        rule["name"] = json!(name);
        api.rule(&policy, &rule).await;
    }
    policy
}

db_test! {
    async fn a_rule_is_found_by_the_packets_that_it_matches(api: Api) {
        let policy = ssh(&api).await;
        let filter = "traffic:(source = 10.20.0.0/16 AND protocol = tcp AND destination_port = 22)";
        for list in ["/rules/".to_owned(), format!("{policy}rules/")] {
            let found = filtered(&api, &list, filter).await.expect(200);
            assert_eq!(names(&found), ["any", "office"], "{list}");
            assert_eq!((&found["total"], &found["total_is_exact"]), (&json!(2), &json!(true)));
            // A filtered list has no positions, because other rules are between its rules.
            assert!(found["items"][0].get("position").is_none_or(Value::is_null), "{found}");
        }
        let both = format!("/rules/?name=office&filter={}", encoded(filter));
        assert_eq!(names(&api.get(&both).await.expect(200)), ["office"], "plain filters stay");
        let parents = filtered(&api, "/filtering-policies/", "rule_count = 4 AND firewall.name = \"*\"");
        assert_eq!(parents.await.expect(200)["total"], 1);
        assert_eq!(filtered(&api, "/firewalls/", "policy_count > 1").await.expect(200)["total"], 0);
        // Exports use the same filters as pages.
        let accept = [("accept", "text/csv")];
        let path = format!("/rules/?fields=name&filter={}", encoded(filter));
        let lines = api.send("GET", &path, api.token(), &accept, None).await;
        assert_eq!(lines.text.lines().collect::<Vec<_>>(), ["id,name", "1,any", "2,office"]);
    }
}

db_test! {
    async fn every_operator_of_every_field_is_answered(api: Api) {
        let policy = ssh(&api).await;
        let value = |kind: &str, name: &str| match kind {
            "integer" => "7",
            "timestamp" => "2026-11-24T12:00:00Z",
            "boolean" => "true",
            "action" => "ALLOW",
            "state" => "active",
            "warning" => "expired",
            "finding" => "unreachable",
            "audit_action" => "delete",
            "resource" => "firewall",
            "protocol" => "tcp",
            "ports" => "20-30",
            "addresses" => "10.0.0.0/8",
            "text" | "label" if name.contains("tenant") => "\"\"",
            _ => "\"edge*\"",
        };
        let mut asked = 0;
        for (level, list) in [
            (Level::Firewall, "/firewalls/".to_owned()),
            (Level::Policy, list_of(&policy)),
            (Level::Rule, "/rules/".to_owned()),
            (Level::Event, "/audit-events/".to_owned()),
        ] {
            for field in describe(level) {
                let name = field.name.replace("{key}", "site");
                let kind = field.kind.as_str();
                // Only lists of one policy know its findings.
                let of_policy = format!("{policy}rules/");
                let list = if kind == "finding" { &of_policy } else { &list };
                for operator in &field.operators {
                    let filter = match (kind, *operator) {
                        ("labels", ":") => format!("{name}:site"),
                        ("entries", ":") => format!("{name}:(address CONTAINS 10.1.2.3 AND NOT port = 22)"),
                        ("traffic", ":") => format!("{name}:(source = 10.1.2.3)"),
                        (_, "IN") => format!("{name} IN ({})", value(kind, &name)),
                        (_, ":") => format!("{name} : edge"),
                        _ => format!("{name} {operator} {}", value(kind, &name)),
                    };
                    filtered(&api, list, &filter).await.expect(200);
                    filtered(&api, list, &format!("NOT ({filter})")).await.expect(200);
                    asked += 1;
                }
                if field.is_nullable {
                    filtered(&api, list, &format!("{name} = null")).await.expect(200);
                }
            }
        }
        assert!(asked > 150, "{asked}");
    }
}

db_test! {
    async fn every_text_is_searched_and_each_warning_is_found(api: Api) {
        let policy = ssh(&api).await;
        let any = json!([{"address": "any"}]);
        for (name, rule) in [
            ("late", json!({"expires_at": "2026-01-01T00:00:00Z", "reference": "CHG-1042"})),
            ("port", json!({"destinations": [{"address": "10.0.0.1", "port": 1}], "ports": [{"number": 2}]})),
            ("entry", json!({"sources": [{"address": "10.0.0.1"}, {"address": "2001:db8::1"}],
                "destinations": [{"address": "10.0.0.2"}], "labels": {"ticket": "Ünder Chg"}})),
            ("protocol", json!({"sources": [{"address": "10.0.0.3"}], "destinations": any,
                "protocols": ["udp", "icmpv6"]})),
        ] {
            let mut rule = rule;
            rule["name"] = json!(name);
            api.rule(&policy, &rule).await;
        }
        for (filter, expected) in [
            ("reference : chg", vec!["late"]),
            ("labels.ticket : \"üNDER c\" OR reference:\"-1042\"", vec!["late", "entry"]),
            ("created_by : TEST AND filtering_policy.updated_by : Ester AND name : POR", vec!["port"]),
            ("warnings = expired", vec!["late"]),
            ("warnings = ports_without_effect", vec!["port"]),
            ("warnings = entry_without_effect", vec!["entry"]),
            ("warnings = protocol_without_effect", vec!["protocol"]),
            ("warnings IN (expired, entry_without_effect)", vec!["late", "entry"]),
            ("warnings != null", vec!["late", "port", "entry", "protocol"]),
            ("warnings = null", vec!["any", "office", "web", "ping"]),
        ] {
            let found = filtered(&api, "/rules/", filter).await.expect(200);
            assert_eq!(names(&found), expected, "{filter}");
            // The filter finds the values that the answer shows.
            for item in found["items"].as_array().unwrap() {
                let has_some = item["warnings"].as_array().is_some_and(|it| !it.is_empty());
                assert!(!filter.starts_with("warnings") || has_some == (filter != "warnings = null"));
            }
        }
        for (filter, total) in [("subject : TESTE AND action = create", 10), ("reason : x", 0), ("tenant : x", 0)] {
            let found = filtered(&api, "/audit-events/", filter).await.expect(200);
            assert_eq!(found["total"], total, "{filter}");
        }
        for (filter, part) in [
            ("state : act", "`state` takes `=`, `!=` and `IN`, not `:`"),
            ("priority : 1", "`priority` takes `=`, `!=`, `<`"),
            ("warnings : expired", "`warnings = expired` is true if one of them is expired"),
        ] {
            let problem = filtered(&api, "/rules/", filter).await.problem(422, "invalid");
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.contains(part), "{detail}");
        }
    }
}

db_test! {
    async fn a_mistake_is_named_with_its_place_and_what_would_be_right(api: Api) {
        for (filter, position, hint) in [
            ("sorces.address CONTAINS 10.1.2.3", 1, "sources"),
            ("name = a AND action = ALLOW OR log = true", 1, "AND"),
            ("priority = high", 12, "integer"),
            ("(name = a", 1, ")"),
            ("name == a", 6, "="),
            ("sources.address WITHIN 10.0.0.1/8", 24, "10.0.0.0/8"),
        ] {
            let problem = filtered(&api, "/rules/", filter).await.problem(422, "invalid");
            let fault = &problem["errors"][0];
            assert_eq!(fault["parameter"], "filter");
            let detail = fault["detail"].as_str().unwrap();
            let place: usize =
                detail.strip_prefix("at position ").unwrap().split(':').next().unwrap().parse().unwrap();
            assert!(place >= position && detail.contains(hint), "{filter}: {detail}");
        }
        let long = format!("name = \"{}\"", "x".repeat(5_000));
        filtered(&api, "/rules/", &long).await.problem(422, "invalid");
    }
}

#[tokio::test]
async fn the_fields_are_described_for_programs() {
    let api = Api::new(fireflow_storage::DatabaseKind::Sqlite).await;
    let answer = api.raw("GET", "/docs/filter-schema.json", &[], Vec::new()).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let schema = answer.expect(200);
    let names = |list: &str| -> BTreeSet<String> {
        let fields = schema["lists"][list]["fields"].as_array().unwrap();
        fields.iter().map(|field| field["name"].as_str().unwrap().to_owned()).collect()
    };
    assert!(
        names("rules").is_superset(&BTreeSet::from(
            ["traffic", "sources.address", "firewall.labels.{key}", "filtering_policy.name"]
                .map(str::to_owned)
        ))
    );
    assert!(!names("firewalls").contains("priority"));
    let fields = schema["lists"]["rules"]["fields"].as_array().unwrap();
    let traffic = fields.iter().find(|field| field["name"] == "traffic").unwrap();
    assert_eq!(traffic["members"].as_array().unwrap().len(), 8);
}

/// All ids of a list, read by cursor.
async fn walk(api: &Api, list: &str, query: &str) -> Vec<i64> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("{list}?{query}&cursor={cursor}")).await.expect(200);
        assert!(page.get("total").is_none() && page.get("page").is_none(), "{page}");
        all.extend(ids(&page));
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return all,
        }
    }
}

db_test! {
    async fn cursors_walk_every_order_without_loss_or_repetition(api: Api) {
        let policy = api.policy().await;
        for index in 0..23 {
            let mut rule = json!({
                "priority": index % 4,
                "sources": [{"address": format!("10.0.0.{index}")}],
                "enabled": index % 3 == 0,
                "description": format!("d{}", index % 5),
            });
            // Some rules have no name and no expiry, and many expiries are equal.
            if index % 2 == 0 {
                rule["name"] = json!(format!("n{:02}", 99 - index));
                rule["expires_at"] = json!(format!("2027-01-0{}T00:00:00Z", 1 + index % 3));
            }
            api.rule(&policy, &rule).await;
        }
        let rules = format!("{policy}rules/");
        for order in [
            "", "&order_by=id", "&order_by=-id", "&order_by=name", "&order_by=-name",
            "&order_by=expires_at", "&order_by=-expires_at", "&order_by=priority",
            "&order_by=-priority", "&order_by=enabled,-description", "&order_by=-name,priority",
            "&order_by=-created_at,name,-id", "&order_by=expires_at,-name",
        ] {
            let whole = ids(&api.get(&format!("{rules}?page_size=1000{order}")).await.expect(200));
            assert_eq!(whole.len(), 23);
            for size in [1, 4, 22, 23, 24] {
                let walked = walk(&api, &rules, &format!("page_size={size}{order}")).await;
                assert_eq!(walked, whole, "{order} by {size}");
            }
        }
        let filter = encoded("expires_at < 2027-01-02T12:00:00Z");
        let all = format!("{rules}?page_size=1000&filter={filter}");
        let whole = ids(&api.get(&all).await.expect(200));
        assert_eq!(walk(&api, &rules, &format!("page_size=3&filter={filter}")).await, whole);
        assert_eq!(walk(&api, "/rules/", &format!("page_size=3&filter={filter}")).await, whole.iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>());
        // From a numbered page onward, and in the other lists.
        let page = api.get(&format!("{rules}?page=2&page_size=5")).await.expect(200);
        let next = page["next_cursor"].as_str().unwrap();
        let third = api.get(&format!("{rules}?page=3&page_size=5")).await.expect(200);
        let behind = api.get(&format!("{rules}?page_size=5&cursor={next}&with_total=true")).await.expect(200);
        assert_eq!((ids(&behind), &behind["total"]), (ids(&third), &json!(23)));
        assert_eq!(walk(&api, "/firewalls/", "page_size=1").await, [1]);
        assert_eq!(walk(&api, "/filtering-policies/", "order_by=-name").await, [1]);
    }
}

db_test! {
    async fn positions_go_on_behind_a_cursor_though_the_policy_changes(api: Api) {
        let policy = api.policy().await;
        for index in 0..6 {
            let sources = json!([{"address": format!("10.0.0.{index}")}]);
            api.rule(&policy, &json!({"priority": 10 * index, "sources": sources})).await;
        }
        let positions = |page: &Value| -> Vec<i64> {
            page["items"].as_array().unwrap().iter().map(|it| it["position"].as_i64().unwrap()).collect()
        };
        let rules = format!("{policy}rules/");
        let first = api.get(&format!("{rules}?page_size=2&cursor=")).await.expect(200);
        assert_eq!(positions(&first), [1, 2]);
        let next = first["next_cursor"].as_str().unwrap();
        let behind = format!("{rules}?page_size=2&cursor={next}");
        let before = api.db.statements();
        assert_eq!(positions(&api.get(&behind).await.expect(200)), [3, 4]);
        let unchanged = api.db.statements() - before;
        // A new rule at the front: the cursor keeps its place among the other rules, but its
        // position changes.
        api.rule(&policy, &json!({"priority": -1, "sources": [{"address": "10.9.9.9"}]})).await;
        let before = api.db.statements();
        assert_eq!(positions(&api.get(&behind).await.expect(200)), [4, 5]);
        assert_eq!(api.db.statements() - before, unchanged + 1, "it is counted again");
    }
}

db_test! {
    async fn a_cursor_belongs_to_its_list_filter_and_order(api: Api) {
        let policy = ssh(&api).await;
        let rules = format!("{policy}rules/");
        let filter = encoded("action = ALLOW");
        let page = api.get(&format!("{rules}?page_size=1&filter={filter}")).await.expect(200);
        let cursor = page["next_cursor"].as_str().unwrap();
        // A different spelling of the filter, other members and a different page size still give
        // the same list.
        let same = encoded("  (action=allow) ");
        api.get(&format!("{rules}?page_size=2&fields=name&filter={same}&cursor={cursor}")).await.expect(200);
        for other in [
            format!("{rules}?cursor={cursor}"),
            format!("/rules/?filter={filter}&cursor={cursor}"),
            format!("{rules}?filter={filter}&order_by=name&cursor={cursor}"),
            format!("{rules}?filter={filter}&name=web&cursor={cursor}"),
            format!("{rules}?filter={filter}&cursor={}x", &cursor),
            format!("{rules}?filter={filter}&cursor=AAAA"),
        ] {
            api.get(&other).await.problem(422, "bad_cursor");
        }
        let both = api.get(&format!("{rules}?page=1&cursor=")).await;
        assert!(both.problem(422, "invalid")["detail"].as_str().unwrap().contains("cannot be combined with"));
    }
}

/// A database with a list timeout of 200 ms. That is enough for all but the worst queries, even on
/// a busy machine.
struct Hurried(Api);

impl Hurried {
    async fn new(kind: fireflow_storage::DatabaseKind) -> Self {
        let database = TestDatabase::new(kind).await;
        let hurry =
            |options: &mut DatabaseOptions| options.list_timeout = Duration::from_millis(200);
        Self(Api::on(database.reopened(hurry).await))
    }
}

db_test! {
    async fn what_takes_too_long_to_find_is_refused_and_the_rest_goes_on(hurried: Hurried) {
        let Hurried(api) = hurried;
        let policy = api.policy().await;
        let rules: Vec<Value> = (0..4_000)
            .map(|index| {
                let mut rule = plain_rule();
                rule["priority"] = json!(index);
                rule["sources"] = json!([{"address": format!("10.0.{}.{}", index / 256, index % 256)}]);
                rule
            })
            .collect();
        api.put(&format!("{policy}rules/"), &json!(rules)).await.expect(200);
        // Ninety conditions that hold for each rule, and one equally expensive condition that does
        // not. Evaluating them takes seconds.
        let holds: Vec<String> =
            (0..90).map(|index| format!("NOT sources.address OVERLAPS 11.0.0.{index}")).collect();
        let filter = format!("{} AND NOT sources.address OVERLAPS 10.0.0.0/8", holds.join(" AND "));
        let problem = filtered(&api, "/rules/", &filter).await.problem(422, "too_expensive");
        assert!(problem["detail"].as_str().unwrap().contains("narrow"), "{problem}");
        // The connection whose statement was stopped still works.
        for _ in 0..10 {
            api.get("/firewalls/?with_total=false").await.expect(200);
            api.get(&format!("{policy}rules/1/")).await.expect(200);
        }
    }
}
