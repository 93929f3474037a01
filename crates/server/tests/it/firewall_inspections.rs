//! One packet in each policy of a firewall.

use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::Api;

const PACKET: &str =
    "source_address=10.0.0.7&source_port=40000&destination_address=192.0.2.10&destination_port=443";

/// A firewall with a policy for each direction, of which only `in` has a rule for the packet.
async fn firewall(api: &Api) -> (String, Vec<i64>) {
    let firewall = api.post("/firewalls/", &json!({"name": "edge"})).await.expect(201);
    let path = format!("/firewalls/{}/", firewall["id"]);
    let mut ids = Vec::new();
    for (name, direction, default_action) in
        [("in", "in", "DENY"), ("out", "out", "ALLOW"), ("spare", "out", "REJECT")]
    {
        let policy = json!({
            "name": name, "default_action": default_action, "labels": {"direction": direction},
        });
        let policy = api.post(&format!("{path}filtering-policies/"), &policy).await.expect(201);
        ids.push(policy["id"].as_i64().unwrap());
    }
    let rule = json!({
        "name": "web", "action": "ALLOW", "priority": 10, "protocols": ["tcp"],
        "sources": [{"address": "10.0.0.0/8"}],
        "destinations": [{"address": "192.0.2.10", "port": 443}],
    });
    let rules = format!("{path}filtering-policies/{}/rules/", ids[0]);
    api.post(&rules, &rule).await.expect(201);
    (path, ids)
}

/// The name, action and reason of each item.
fn verdicts(page: &Value) -> Vec<(&str, &str, &str)> {
    let items = page["items"].as_array().unwrap().iter();
    items
        .map(|it| {
            let name = it["policy"]["name"].as_str().unwrap();
            (name, it["action"].as_str().unwrap(), it["reason"].as_str().unwrap())
        })
        .collect()
}

db_test! {
    async fn each_policy_of_a_firewall_has_its_own_verdict(api: Api) {
        let (path, ids) = firewall(&api).await;
        let list = format!("{path}inspections/?{PACKET}");
        let page = api.get(&list).await.expect(200);
        let expected =
            [("in", "ALLOW", "rule"), ("out", "ALLOW", "default"), ("spare", "REJECT", "default")];
        assert_eq!(verdicts(&page), expected);
        assert_eq!(page["total"], 3);
        let first = &page["items"][0];
        assert_eq!((&first["policy"]["id"], &first["permitted"]), (&json!(ids[0]), &json!(true)));
        assert_eq!(first["policy"]["labels"], json!({"direction": "in"}));
        assert_eq!(first["active_rule"]["name"], "web");
        // The same as that of the policy alone.
        let alone = format!("{path}filtering-policies/{}/inspections/?{PACKET}", ids[0]);
        let alone = api.get(&alone).await.expect(200);
        for member in ["action", "permitted", "reason"] {
            assert_eq!(first[member], alone[member]);
        }
        assert_eq!(first["policy"]["revision"], alone["policy"]["revision"]);
        let packet = |view: &Value| {
            let mut packet = view["packet"].clone();
            packet["at"] = Value::Null;
            packet
        };
        assert_eq!(packet(first), packet(&alone));

        let out = api.get(&format!("{list}&filter=labels.direction%20=%20out")).await.expect(200);
        assert_eq!(verdicts(&out), expected[1..]);
        let mut read = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = format!("{list}&page_size=1&cursor={cursor}");
            let page = api.get(&page).await.expect(200);
            read.extend(verdicts(&page).into_iter().map(|it| it.0.to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(read, ["in", "out", "spare"]);

        // An unknown source port.
        let unknown = list.replace("&source_port=40000", "");
        let page = api.get(&unknown).await.expect(200);
        assert_eq!(page["items"][0]["ports_assumed"]["verdict_depends"], false);
        for (bad, parameter) in [
            (PACKET.replace("10.0.0.7", "10.0.0.0/8"), "source_address"),
            (PACKET.replace("&destination_port=443", ""), "destination_port"),
            (format!("{PACKET}&explain=true"), "explain"),
            (format!("{PACKET}&filter=source%20=%201"), "filter"),
        ] {
            let problem = api.get(&format!("{path}inspections/?{bad}")).await;
            let problem = problem.problem(422, "invalid");
            assert_eq!(problem["errors"][0]["parameter"], parameter, "{bad}");
        }
        api.get(&format!("/firewalls/99/inspections/?{PACKET}")).await.problem(404, "not_found");
    }
}

db_test! {
    async fn what_is_cached_takes_no_statement_for_each_policy(api: Api) {
        let (path, _) = firewall(&api).await;
        let list = format!("{path}inspections/?{PACKET}");
        api.get(&list).await.expect(200);
        let statements = async |list: &str| {
            let before = api.db.statements();
            api.get(list).await.expect(200);
            api.db.statements() - before
        };
        let three = statements(&list).await;
        for number in 0..20 {
            let policy = json!({"name": format!("p{number}"), "default_action": "DENY"});
            api.post(&format!("{path}filtering-policies/"), &policy).await.expect(201);
        }
        let list = format!("{list}&page_size=100");
        assert_eq!(api.get(&list).await.expect(200)["total"], 23);
        assert_eq!(statements(&list).await, three);
    }
}
