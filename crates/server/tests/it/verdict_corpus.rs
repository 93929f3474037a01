//! Runs the domain's corpus of verdicts over HTTP and through `fireflow inspect`.

use std::path::Path;

use fireflow_domain::testing::verdicts::{
    Case, Expectation, Outcome, WrittenEntry, WrittenPacket, WrittenRule, read_folder,
};
use fireflow_storage::db_test;
use fireflow_storage::testing::TestDatabase;
use serde_json::{Map, Value, json};

use crate::service::{binary, text};
use crate::support::{Api, encoded};

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../domain/tests/corpus/verdicts");
    read_folder(&folder).unwrap_or_else(|why| panic!("{why}"))
}

/// A rule in the spelling of its file.
fn rule_body(rule: &WrittenRule) -> Value {
    let WrittenRule {
        name,
        action,
        priority,
        protocols,
        icmp_type,
        icmp_code,
        sources,
        destinations,
        ports,
        enabled,
        starts_at,
        expires_at,
    } = rule;
    let ends = |entries: &[WrittenEntry]| -> Value {
        entries
            .iter()
            .map(|WrittenEntry { address, port }| json!({"address": address, "port": port}))
            .collect()
    };
    let port = |text: &String| -> Value {
        let number = |text: &str| text.parse::<u16>().unwrap();
        match text.split_once('-') {
            Some((from, to)) => json!({"from": number(from), "to": number(to)}),
            None => json!({"number": number(text)}),
        }
    };
    json!({
        "name": name,
        "action": action,
        "priority": priority,
        "protocols": protocols,
        "icmp_type": icmp_type,
        "icmp_code": icmp_code,
        "sources": ends(sources),
        "destinations": ends(destinations),
        "ports": ports.iter().map(port).collect::<Value>(),
        "enabled": enabled,
        "starts_at": starts_at,
        "expires_at": expires_at,
    })
}

/// The members of a packet, without those that its file omits.
fn packet_body(packet: &WrittenPacket) -> Map<String, Value> {
    let WrittenPacket {
        protocol,
        source_address,
        source_port,
        destination_address,
        destination_port,
        icmp_type,
        icmp_code,
        at,
    } = packet;
    let members = json!({
        "protocol": protocol,
        "source_address": source_address,
        "source_port": source_port,
        "destination_address": destination_address,
        "destination_port": destination_port,
        "icmp_type": icmp_type,
        "icmp_code": icmp_code,
        "at": at,
    });
    let Value::Object(mut members) = members else { panic!("{members}") };
    members.retain(|_, value| !value.is_null());
    members
}

fn query(members: &Map<String, Value>) -> String {
    let value = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let parts = members.iter().map(|(name, it)| format!("{name}={}", encoded(&value(it))));
    parts.collect::<Vec<_>>().join("&")
}

/// Compares an answer with the expected verdict.
#[track_caller]
fn compare(case: &Case, expectation: &Expectation, answer: &Value, how: &str) {
    let Expectation { packet: _, outcome: Outcome::Verdict { action, rule }, why } = expectation
    else {
        panic!("{how}: {}: {answer}", expectation.why);
    };
    let name = rule.map(|place| case.rules[place].name.as_str());
    let found = (answer["action"].as_str(), answer["active_rule"]["name"].as_str());
    assert_eq!(found, (Some(action.as_str()), name), "{how}: {why}");
    assert_eq!(answer["reason"], if name.is_some() { "rule" } else { "default" }, "{how}: {why}");
    assert_eq!(answer["permitted"], action.permits(), "{how}: {why}");
}

db_test! {
    committed("requests have connections of their own")
    async fn the_api_gives_the_verdicts_of_the_corpus(db: TestDatabase) {
        let api = Api::on(db);
        let firewall = api.post("/firewalls/", &json!({"name": "edge"})).await.expect(201);
        let policies = format!("/firewalls/{}/filtering-policies/", firewall["id"]);
        for case in cases() {
            let body = json!({"name": case.name, "default_action": case.default_action});
            let policy = api.post(&policies, &body).await.expect(201);
            let policy = format!("{policies}{}/", policy["id"]);
            let rules: Value = case.rules.iter().map(rule_body).collect();
            api.put(&format!("{policy}rules/"), &rules).await.expect(200);
            let inspections = format!("{policy}inspections/");
            let (mut array, mut expected) = (Vec::new(), Vec::new());
            for expectation in &case.packets {
                let members = packet_body(&expectation.packet);
                let path = format!("{inspections}?{}", query(&members));
                if let Outcome::Refused(member) = &expectation.outcome {
                    let why = &expectation.why;
                    for answer in [
                        api.get(&path).await,
                        api.post(&inspections, &json!([members])).await,
                    ] {
                        assert_eq!(answer.status, 422, "{why}: {}", answer.text);
                        let faults = answer.json()["errors"].to_string();
                        assert!(faults.contains(member), "{why}: {faults}");
                    }
                } else {
                    compare(&case, expectation, &api.get(&path).await.expect(200), "GET");
                    array.push(Value::Object(members));
                    expected.push(expectation);
                }
            }
            let answers = api.post(&inspections, &json!(array)).await.expect(200);
            let answers = answers.as_array().unwrap();
            assert_eq!(answers.len(), expected.len(), "{}", case.name);
            for (expectation, answer) in expected.into_iter().zip(answers) {
                compare(&case, expectation, answer, "POST");
            }
        }
    }
}

#[test]
fn the_command_line_gives_the_verdicts_of_the_corpus() {
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();
        let rules: Value = case.rules.iter().map(rule_body).collect();
        let line = |it: &Expectation| format!("{}\n", Value::Object(packet_body(&it.packet)));
        let packets: String = case.packets.iter().map(line).collect();
        std::fs::write(folder.path().join("rules.json"), rules.to_string()).unwrap();
        std::fs::write(folder.path().join("packets.ndjson"), packets).unwrap();
        let output = binary(folder.path())
            .args(["inspect", "--rules", "rules.json", "--packets", "packets.ndjson"])
            .args(["--format", "ndjson", "--default-action", &case.default_action])
            .output()
            .unwrap();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let refuses = case.packets.iter().any(|it| matches!(it.outcome, Outcome::Refused(_)));
        assert_eq!(output.status.code(), Some(i32::from(refuses)), "{}: {err}", case.name);
        assert_eq!(out.lines().count(), case.packets.len(), "{}: {out}{err}", case.name);
        for (expectation, line) in case.packets.iter().zip(out.lines()) {
            let answer: Value = serde_json::from_str(line).unwrap();
            if let Outcome::Refused(member) = &expectation.outcome {
                let fault = answer["error"]["detail"].as_str().unwrap_or_default();
                assert!(fault.contains(member), "{}: {answer}", expectation.why);
            } else {
                compare(&case, expectation, &answer, "inspect");
            }
        }
    }
}
