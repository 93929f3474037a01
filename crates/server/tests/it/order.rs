//! Placing and moving rules.

use fireflow_domain::actor::Role;
use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Api, plain_rule};

/// A rule without a priority, which differs from the others in its source.
fn unplaced(name: &str) -> Value {
    let mut body = plain_rule();
    let members = body.as_object_mut().unwrap();
    members.remove("priority");
    members.insert("name".to_owned(), json!(name));
    members.insert("action".to_owned(), json!("DENY"));
    let last = name.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
    members
        .insert("sources".to_owned(), json!([{"address": format!("10.0.{}.{last}", name.len())}]));
    body
}

async fn names(api: &Api, policy: &str) -> Vec<String> {
    let list = api.get(&format!("{policy}rules/?page_size=1000")).await.expect(200);
    let name = |rule: &Value| rule["name"].as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(name).collect()
}

db_test! {
    async fn a_rule_is_placed_where_it_is_asked_to_be(api: Api) {
        let policy = api.policy().await;
        let rules = format!("{policy}rules/");
        let place = async |name: &str, query: &str| {
            api.post(&format!("{rules}?{query}"), &unplaced(name)).await
        };
        let a = place("a", "at=last").await.expect(201);
        assert_eq!((&a["priority"], &a["position"]), (&json!(10), &json!(1)));
        let c = place("c", "at=last").await.expect(201);
        assert_eq!((&c["priority"], &c["position"]), (&json!(20), &json!(2)));
        let b = place("b", &format!("before={}", c["id"])).await.expect(201);
        assert_eq!((&b["priority"], &b["position"]), (&json!(15), &json!(2)));
        place("first", "at=first").await.expect(201);
        place("d", &format!("after={}", c["id"])).await.expect(201);
        assert_eq!(names(&api, &policy).await, ["first", "a", "b", "c", "d"]);

        place("x", "before=999999").await.problem(422, "invalid");
        place("x", &format!("before={}&after={}", a["id"], b["id"])).await.problem(422, "invalid");
        place("x", "at=middle").await.problem(422, "invalid");
        place("x", "after=x").await.problem(422, "invalid");
        let both = api.post(&format!("{rules}?at=last"), &plain_rule()).await.problem(422, "invalid");
        assert_eq!(both["errors"][0]["pointer"], "#/priority");
        api.post(&rules, &unplaced("x")).await.problem(422, "invalid");
    }
}

db_test! {
    async fn an_answer_explains_why_a_named_rule_is_not_in_the_policy(api: Api) {
        let blue = api.token_for(&[Role::Editor], Some(&["blue"]));
        let red = api.token_for(&[Role::Editor], Some(&["red"]));
        let policies_of = async |token: &str, names: &[&str]| {
            let body = json!({"name": "edge"});
            let firewall = api.send("POST", "/firewalls/", token, &[], Some(&body)).await.expect(201);
            let mut paths = Vec::new();
            for name in names {
                let path = format!("/firewalls/{}/filtering-policies/", firewall["id"]);
                let body = json!({"name": name, "default_action": "DENY"});
                let made = api.send("POST", &path, token, &[], Some(&body)).await.expect(201);
                paths.push((made["id"].clone(), format!("{path}{}/rules/", made["id"])));
            }
            paths
        };
        let rule_in = async |token: &str, rules: &str, name: &str| {
            let path = format!("{rules}?at=last");
            let made = api.send("POST", &path, token, &[], Some(&unplaced(name))).await.expect(201);
            made["id"].as_i64().unwrap()
        };
        let mut policies = policies_of(&blue, &["own", "other"]).await;
        let (other_policy, other) = policies.pop().unwrap();
        let (_, rules) = policies.pop().unwrap();
        let (_, hidden) = policies_of(&red, &["hidden"]).await.pop().unwrap();
        let own = rule_in(&blue, &rules, "own").await;
        let elsewhere = rule_in(&blue, &other, "elsewhere").await;
        let gone = rule_in(&blue, &rules, "gone").await;
        let path = format!("{rules}{gone}/");
        api.send("DELETE", &path, &blue, &[], None).await.expect(204);
        // A caller does not learn of policies that it may not see.
        let unseen = rule_in(&red, &hidden, "unseen").await;
        let never = unseen + 1_000;

        let refused = async |method: &str, path: &str, body: &Value| {
            let answer = api.send(method, path, &blue, &[], Some(body)).await;
            let problem = answer.problem(422, "invalid");
            let fault = &problem["errors"][0];
            let place = fault["parameter"].as_str().or(fault["pointer"].as_str());
            (place.unwrap().to_owned(), fault["detail"].as_str().unwrap().to_owned())
        };
        for (rule, reason) in [
            (elsewhere, format!("the rule with id={elsewhere} is in another policy, with id={other_policy}")),
            (gone, format!("the rule with id={gone} is deleted")),
            (unseen, format!("there is no rule with id={unseen}")),
            (never, format!("there is no rule with id={never}")),
        ] {
            let is = |place: &str| (place.to_owned(), reason.clone());
            for side in ["before", "after"] {
                let path = format!("{rules}?{side}={rule}");
                assert_eq!(refused("POST", &path, &unplaced("new")).await, is(side));
                let body = json!({"rule_ids": [own], side: rule});
                assert_eq!(refused("POST", &format!("{rules}move/"), &body).await, is(&format!("#/{side}")));
                let create = json!({"op": "create", "rule": unplaced("new"), side: rule});
                let body = json!({"operations": [create]});
                let place = is(&format!("#/operations/0/{side}"));
                assert_eq!(refused("POST", &format!("{rules}batch/"), &body).await, place);
            }
            let body = json!({"rule_ids": [rule], "at": "first"});
            assert_eq!(refused("POST", &format!("{rules}move/"), &body).await, is("#/rule_ids/0"));
            let mut in_set = unplaced("own");
            in_set["id"] = json!(rule);
            assert_eq!(refused("PUT", &rules, &json!([in_set])).await, is("#/0/id"));
            let mut operations = vec![
                json!({"op": "update", "rule_id": rule, "patch": {"log": true}}),
                json!({"op": "delete", "rule_id": rule}),
            ];
            if rule != gone {
                operations.push(json!({"op": "restore", "rule_id": rule}));
            }
            for operation in operations {
                let body = json!({"operations": [operation]});
                let place = is("#/operations/0/rule_id");
                assert_eq!(refused("POST", &format!("{rules}batch/"), &body).await, place, "{body}");
            }
        }
        let body = json!({"operations": [
            {"op": "delete", "rule_id": own},
            {"op": "update", "rule_id": own, "patch": {"log": true}},
        ]});
        let reason = format!("the rule with id={own} is deleted by an earlier operation");
        let place = ("#/operations/1/rule_id".to_owned(), reason);
        assert_eq!(refused("POST", &format!("{rules}batch/"), &body).await, place);
    }
}

db_test! {
    async fn making_room_is_no_change_of_those_that_give_way(api: Api) {
        let policy = api.policy().await;
        let rules = format!("{policy}rules/");
        let mut ids = Vec::new();
        for (name, priority) in [("a", 1), ("b", 2), ("c", 3)] {
            let mut body = unplaced(name);
            body["priority"] = json!(priority);
            ids.push(api.post(&rules, &body).await.expect(201)["id"].as_i64().unwrap());
        }
        let before = api.get(&format!("{rules}{}/", ids[1])).await.expect(200);
        let path = format!("{rules}?before={}", ids[1]);
        api.post(&path, &unplaced("new")).await.expect(201);
        assert_eq!(names(&api, &policy).await, ["a", "new", "b", "c"]);
        for id in ids {
            let rule = api.get(&format!("{rules}{id}/")).await.expect(200);
            assert!(rule["revision"].as_i64().unwrap() < 5, "{rule}");
            if rule["id"] == before["id"] {
                assert_eq!(rule["updated_at"], before["updated_at"]);
                assert_eq!(rule["revision"], before["revision"]);
            }
        }
    }
}

db_test! {
    async fn moves_give_the_order_of_a_plain_list(api: Api) {
        let policy = api.policy().await;
        let rules = format!("{policy}rules/");
        let mut list: Vec<(i64, String)> = Vec::new();
        for index in 0..12 {
            let name = format!("r{index}");
            let mut body = unplaced(&name);
            // Some priorities are equal, and there are gaps between others.
            body["priority"] = json!(index / 3 * 2);
            let made = api.post(&rules, &body).await.expect(201);
            list.push((made["id"].as_i64().unwrap(), name));
        }
        // A small generator, so that every run makes the same moves.
        let mut state = 7_usize;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 31);
            (state >> 8) % below
        };
        for _ in 0..40 {
            let mut block: Vec<usize> = (0..list.len()).filter(|_| random(4) == 0).collect();
            if block.is_empty() || block.len() == list.len() {
                block = vec![random(list.len())];
            }
            let ids: Vec<i64> = block.iter().map(|index| list[*index].0).collect();
            let (moved, mut rest): (Vec<_>, Vec<_>) =
                list.iter().cloned().partition(|(id, _)| ids.contains(id));
            let at = random(rest.len());
            let (word, index) = match random(4) {
                0 => (json!({"at": "first"}), 0),
                1 => (json!({"at": "last"}), rest.len()),
                2 => (json!({"before": rest[at].0}), at),
                _ => (json!({"after": rest[at].0}), at + 1),
            };
            rest.splice(index..index, moved);
            list = rest;
            let mut body = word;
            // A block keeps its own order, whatever the order of the ids in the request.
            let mut asked = ids.clone();
            asked.reverse();
            body["rule_ids"] = json!(asked);
            let answer = api.post(&format!("{rules}move/"), &body).await.expect(200);
            assert_eq!(answer["items"].as_array().unwrap().len(), ids.len());
            assert_eq!(answer["items"][0]["position"], index + 1);
            let expected: Vec<&str> = list.iter().map(|(_, name)| name.as_str()).collect();
            assert_eq!(names(&api, &policy).await, expected, "{body}");
        }
    }
}

db_test! {
    async fn a_move_is_guarded_and_noted(api: Api) {
        let policy = api.policy().await;
        let rules = format!("{policy}rules/");
        let mut ids = Vec::new();
        for name in ["a", "b", "c"] {
            let made = api.post(&format!("{rules}?at=last"), &unplaced(name)).await.expect(201);
            ids.push(made["id"].clone());
        }
        let path = format!("{rules}move/");
        let tag = api.get(&policy).await.header("etag").to_owned();
        let body = json!({"rule_ids": [ids[2]], "at": "first"});
        let guard = [("if-match", tag.as_str())];
        let moved = api.with("POST", &path, &guard, Some(&body)).await.expect(200);
        assert_eq!(moved["revision"], 5);
        assert_eq!(moved["items"][0]["position"], 1);
        assert_eq!(names(&api, &policy).await, ["c", "a", "b"]);
        api.with("POST", &path, &guard, Some(&body)).await.problem(412, "revision_mismatch");
        // If the rule is at that place already, nothing is written.
        let again = api.post(&path, &body).await.expect(200);
        assert_eq!(again["revision"], 5);
        let count = "SELECT count(*) FROM audit_event WHERE deed = 'move'";
        assert_eq!(api.db.integers(count).await, [1]);
        let revision = |rule: &Value| rule["revision"].as_i64();
        let c = api.get(&format!("{rules}{}/", ids[2])).await.expect(200);
        let a = api.get(&format!("{rules}{}/", ids[0])).await.expect(200);
        assert_eq!((revision(&c), revision(&a)), (Some(5), Some(2)));

        for (body, pointer) in [
            (json!({"rule_ids": [], "at": "first"}), "#/rule_ids"),
            (json!({"rule_ids": [999_999], "at": "first"}), "#/rule_ids/0"),
            (json!({"rule_ids": [ids[0], ids[0]], "at": "first"}), "#/rule_ids/1"),
            (json!({"rule_ids": ["1"], "at": "first"}), "#/rule_ids/0"),
            (json!({"rule_ids": [ids[0]], "before": ids[0]}), "#/before"),
            (json!({"rule_ids": [ids[0]], "after": 999_999}), "#/after"),
            (json!({"rule_ids": [ids[0]], "at": "middle"}), "#/at"),
            (json!({"rule_ids": [ids[0]]}), "#"),
            (json!({"rule_ids": [ids[0]], "at": "first", "before": ids[1]}), "#"),
            (json!({"at": "first"}), "#/rule_ids"),
        ] {
            let problem = api.post(&path, &body).await.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}");
        }
        assert_eq!(names(&api, &policy).await, ["c", "a", "b"]);
    }
}
