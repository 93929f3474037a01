//! Read-only members: refused on creation, and accepted in a change only with the resource's own
//! values.

use std::time::Duration;

use fireflow_domain::read_only::{FIREWALL, POLICY, RULE, ReadOnlyMember};
use fireflow_formats::views::{FirewallView, PolicyView, RuleView};
use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Api, firewall_of, plain_rule};

/// A resource: its members, the path of its list, the body that creates it, and its own path.
struct Resource {
    members: &'static [ReadOnlyMember],
    /// All members that answers show.
    shown: &'static [&'static str],
    list: String,
    body: Value,
    path: String,
}

async fn resources(api: &Api) -> [Resource; 3] {
    let policy = api.policy().await;
    let rule = api.rule(&policy, &json!({"name": "web", "enabled": false})).await;
    let firewall = firewall_of(&policy).to_owned();
    let mut other = plain_rule();
    other["sources"] = json!([{"address": "192.0.2.7"}]);
    [
        Resource {
            members: FIREWALL,
            shown: FirewallView::MEMBERS,
            list: "/firewalls/".to_owned(),
            body: json!({"name": "other"}),
            path: firewall.clone(),
        },
        Resource {
            members: POLICY,
            shown: PolicyView::MEMBERS,
            list: format!("{firewall}filtering-policies/"),
            body: json!({"name": "other", "default_action": "DENY"}),
            path: policy.clone(),
        },
        Resource {
            members: RULE,
            shown: RuleView::MEMBERS,
            list: format!("{policy}rules/"),
            body: other,
            path: format!("{policy}rules/{}/", rule["id"]),
        },
    ]
}

/// A value of the member's type that no resource of these tests has.
fn other_value(member: ReadOnlyMember) -> Value {
    use ReadOnlyMember as Only;
    match member {
        Only::Id | Only::PolicyCount | Only::RuleCount | Only::Position | Only::Revision => {
            json!(77)
        }
        Only::Firewall | Only::FilteringPolicy => json!({"id": 77}),
        Only::FilteringPolicies | Only::Rules => json!([]),
        Only::LeftOut => json!({}),
        Only::State => json!("scheduled"),
        Only::Warnings => json!([{"code": "expired", "pointer": "#/expires_at", "detail": "x"}]),
        Only::CreatedAt | Only::UpdatedAt | Only::DeletedAt => json!("2001-02-03T04:05:06Z"),
        Only::CreatedBy | Only::UpdatedBy | Only::DeletedBy => json!("somebody else"),
    }
}

/// Values of other types.
fn odd_values(member: ReadOnlyMember) -> Vec<Value> {
    use ReadOnlyMember as Only;
    match member {
        Only::Id | Only::PolicyCount | Only::RuleCount | Only::Position | Only::Revision => {
            vec![json!("x"), json!(1.5), json!(-1), json!({}), json!(true)]
        }
        Only::Firewall | Only::FilteringPolicy => {
            vec![json!("x"), json!({}), json!({"id": "x"}), json!([])]
        }
        Only::FilteringPolicies | Only::Rules | Only::Warnings => {
            vec![json!("x"), json!({}), json!(7)]
        }
        Only::LeftOut => vec![json!("x"), json!([]), json!(7)],
        Only::State => vec![json!("established"), json!(7), json!("ACTIVE")],
        Only::CreatedAt | Only::UpdatedAt | Only::DeletedAt => {
            vec![json!("yesterday"), json!(7), json!("2026-11-24")]
        }
        Only::CreatedBy | Only::UpdatedBy | Only::DeletedBy => vec![json!(7), json!([])],
    }
}

#[track_caller]
fn assert_refused(problem: &Value, pointer: &str, member: ReadOnlyMember) {
    let [fault] = &problem["errors"].as_array().unwrap()[..] else { panic!("{problem}") };
    assert_eq!(fault["pointer"], pointer, "{problem}");
    let detail = fault["detail"].as_str().unwrap();
    let is_of_the_path = detail.starts_with("contradicts the path, which has");
    assert!(detail.contains(member.instead()) || is_of_the_path, "{problem}");
}

db_test! {
    async fn what_answers_show_and_what_is_writable_is_in_the_table(api: Api) {
        for Resource { members, shown: names, path, .. } in resources(&api).await {
            let shown = api.get(&path).await.expect(200);
            for name in shown.as_object().unwrap().keys() {
                assert!(names.contains(&name.as_str()), "{path}: {name}");
            }
            // Each writable member accepts its own value, which changes nothing.
            let is_read_only = |name: &str| members.iter().any(|member| member.name() == name);
            for name in names.iter().filter(|name| !is_read_only(name)) {
                let patch = json!({*name: shown[*name]});
                let same = api.patch(&path, &patch).await.expect(200);
                assert_eq!(same["revision"], shown["revision"], "{patch}");
            }
        }
    }
}

db_test! {
    async fn nothing_new_has_read_only_members_unless_they_are_to_be_ignored(api: Api) {
        for Resource { members, list, body, .. } in resources(&api).await {
            let mut everything = body.clone();
            for member in members.iter().copied() {
                let with = |value: Value| {
                    let mut body = body.clone();
                    body[member.name()] = value;
                    body
                };
                for value in odd_values(member).into_iter().chain([other_value(member)]) {
                    let problem = api.post(&list, &with(value)).await.problem(422, "invalid");
                    assert_refused(&problem, &format!("#/{}", member.name()), member);
                    let detail = problem["detail"].as_str().unwrap();
                    assert!(detail.contains("read_only=ignore"), "{detail}");
                }
                everything[member.name()] = other_value(member);
            }
            let ignoring = format!("{list}?read_only=ignore");
            let made = api.post(&ignoring, &everything).await.expect(201);
            assert_ne!(made["id"], 77);
            assert_eq!(made["created_by"], "tester");
            api.post(&format!("{list}?read_only=keep"), &body).await.problem(422, "invalid");
        }
    }
}

db_test! {
    async fn changes_take_read_only_members_only_as_they_are(api: Api) {
        for Resource { members, path, .. } in resources(&api).await {
            let shown = api.get(&path).await.expect(200);
            // Everything that was read can be sent back with a change.
            let mut all = shown.clone();
            all["description"] = json!("changed");
            let shown = api.patch(&path, &all).await.expect(200);
            assert_eq!(shown["description"], "changed");
            api.patch(&path, &all).await.problem(412, "revision_mismatch");
            for member in members.iter().copied() {
                let name = member.name();
                let patch = |value: &Value| json!({"description": "not to be written", name: value});
                let has = shown.get(name);
                if let Some(has) = has {
                    let same = api.patch(&path, &json!({name: has})).await.expect(200);
                    assert_eq!(same["revision"], shown["revision"], "{name}");
                }
                for value in odd_values(member).iter().chain([&other_value(member)]) {
                    let problem = api.patch(&path, &patch(value)).await.problem(422, "invalid");
                    assert_refused(&problem, &format!("#/{name}"), member);
                }
                if has.is_some() {
                    // A merge patch with `null` would remove the member.
                    api.patch(&path, &patch(&Value::Null)).await.problem(422, "invalid");
                }
            }
            let older = json!({"revision": shown["revision"].as_i64().unwrap() - 1});
            api.patch(&path, &older).await.problem(412, "revision_mismatch");
            assert_eq!(api.get(&path).await.expect(200), shown, "nothing was written");
        }
    }
}

db_test! {
    async fn a_parent_is_compared_by_its_id_alone(api: Api) {
        let [_, policy, rule] = resources(&api).await;
        for (path, parent) in [(&policy.path, "firewall"), (&rule.path, "filtering_policy")] {
            let id = api.get(path).await.expect(200)[parent]["id"].clone();
            for good in [json!({"id": id}), json!({"id": id, "name": "as it was"}), id.clone()] {
                api.patch(path, &json!({parent: good})).await.expect(200);
            }
            let unknown = json!({parent: {"id": id, "nmae": "x"}});
            let problem = api.patch(path, &unknown).await.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], format!("#/{parent}/nmae"));
        }
    }
}

db_test! {
    async fn state_and_warnings_may_be_those_of_the_last_write(api: Api) {
        let policy = api.policy().await;
        let made = api.rule(&policy, &json!({"expires_at": "2026-11-24T13:00:00Z"})).await;
        let path = format!("{policy}rules/{}/", made["id"]);
        assert_eq!((&made["state"], &made["warnings"]), (&json!("active"), &json!([])));
        api.clock.advance(Duration::from_secs(2 * 3_600));
        let now = api.get(&path).await.expect(200);
        assert_eq!(now["state"], "expired");
        for read in [&made, &now] {
            let same = json!({"state": read["state"], "warnings": read["warnings"]});
            api.patch(&path, &same).await.expect(200);
        }
        for never in ["scheduled", "disabled"] {
            let problem = api.patch(&path, &json!({"state": never})).await.problem(422, "invalid");
            assert!(problem["detail"].as_str().unwrap().contains("`enabled`"), "{problem}");
        }
    }
}

db_test! {
    async fn batches_judge_read_only_members_like_single_changes(api: Api) {
        let policy = api.policy().await;
        let rules = format!("{policy}rules/");
        let batch = format!("{rules}batch/");
        let first = api.rule(&policy, &json!({"priority": 1})).await;
        let ends = json!([{"address": "192.0.2.9"}]);
        let second = api.rule(&policy, &json!({"priority": 2, "sources": ends})).await;
        let update = |rule: &Value, patch: Value| {
            json!({"operations": [{"op": "update", "rule_id": rule["id"], "patch": patch}]})
        };
        let mut all = second.clone();
        all["position"] = json!(2);
        all["description"] = json!("changed");
        let done = api.post(&batch, &update(&second, all.clone())).await.expect(200);
        assert_eq!(done["items"][0]["rule"]["description"], "changed");
        api.post(&batch, &update(&second, all)).await.problem(412, "revision_mismatch");
        for member in RULE.iter().copied() {
            for value in odd_values(member).into_iter().chain([other_value(member)]) {
                let patch = json!({member.name(): value});
                let problem = api.post(&batch, &update(&first, patch)).await.problem(422, "invalid");
                let pointer = format!("#/operations/0/patch/{}", member.name());
                assert_refused(&problem, &pointer, member);
            }
        }
        let mut new = first.clone();
        new["sources"] = json!([{"address": "192.0.2.10"}]);
        let create = json!({"operations": [{"op": "create", "rule": new}]});
        api.post(&batch, &create).await.problem(422, "invalid");
        api.post(&format!("{batch}?read_only=ignore"), &create).await.expect(200);
    }
}

db_test! {
    async fn nobody_is_led_to_a_read_only_member(api: Api) {
        for Resource { members, list, body, path, .. } in resources(&api).await {
            for member in members.iter().copied() {
                let name = member.name();
                let shorter: String = name.chars().skip(1).collect();
                for near in [format!("{name}s"), format!("{name}_"), shorter, name.to_uppercase()] {
                    let is_member = members.iter().any(|it| it.name() == near);
                    if is_member {
                        continue;
                    }
                    let mut body = body.clone();
                    body[&near] = json!("x");
                    for problem in [
                        api.post(&list, &body).await.problem(422, "invalid"),
                        api.patch(&path, &json!({near.clone(): "x"})).await.problem(422, "invalid"),
                    ] {
                        let detail = problem["errors"][0]["detail"].as_str().unwrap();
                        assert!(!detail.contains(&format!("`{name}`?")), "{near}: {detail}");
                    }
                }
            }
        }
        let policy = api.get("/filtering-policies/").await.expect(200)["items"][0].clone();
        let list = format!("/firewalls/{}/filtering-policies/{}/rules/", policy["firewall"]["id"], policy["id"]);
        for body in [json!({"states": ["established"]}), json!({"state": "established"})] {
            let mut rule = plain_rule();
            rule.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
            api.post(&list, &rule).await.problem(422, "invalid");
        }
    }
}
