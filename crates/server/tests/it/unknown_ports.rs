//! Packets whose source port is unknown: they are evaluated with every ephemeral port.

use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::offline::{answers, failure, folder, inspect};
use crate::service::text;
use crate::support::Api;

/// A packet without its source port.
fn packet(source: &str, port: u16) -> Value {
    json!({
        "source_address": source, "destination_address": "192.0.2.1", "destination_port": port,
    })
}

fn query(source: &str, port: u16) -> String {
    format!("source_address={source}&destination_address=192.0.2.1&destination_port={port}")
}

/// A policy that allows port 443 except from source ports 50000 to 50100, and port 80 from any.
async fn policy(api: &Api) -> (String, [Value; 3]) {
    let policy = api.policy().await;
    let rule = |priority: i32, action: &str, source: Value, port: u16| {
        json!({
            "priority": priority, "action": action, "protocols": ["tcp"], "sources": [source],
            "destinations": [{"address": "any", "port": port}],
        })
    };
    let some = json!({"address": "10.0.0.0/8", "port": "50000-50100"});
    let reject = api.rule(&policy, &rule(1, "REJECT", some, 443)).await;
    let low = json!({"address": "any", "port": "0-1023"});
    api.rule(&policy, &rule(2, "DENY", low, 443)).await;
    let allow = api.rule(&policy, &rule(3, "ALLOW", json!({"address": "any"}), 443)).await;
    let dynamic = json!({"address": "10.0.0.0/8", "port": "49153-65535"});
    let most = api.rule(&policy, &rule(4, "ALLOW", dynamic, 80)).await;
    (policy, [reject["id"].clone(), allow["id"].clone(), most["id"].clone()])
}

db_test! {
    async fn a_packet_without_a_source_port_has_the_verdict_of_every_ephemeral_port(api: Api) {
        let (policy, [reject, allow, most]) = policy(&api).await;
        let path = format!("{policy}inspections/");
        let one = async |query: &str| api.get(&format!("{path}?{query}")).await.expect(200);

        // From elsewhere, all of the ports are allowed by one rule.
        let same = one(&query("192.0.2.9", 443)).await;
        assert_eq!((&same["action"], &same["active_rule"]["id"]), (&json!("ALLOW"), &allow));
        let assumed = json!({"from": 49_152, "to": 65_535, "verdict_depends": false});
        assert_eq!(same["ports_assumed"], assumed);
        assert_eq!(same["packet"]["source_port"], Value::Null);
        // With the port, the answer is the one that it always was.
        let known = one(&format!("{}&source_port=50050", query("192.0.2.9", 443))).await;
        assert!(known.get("ports_assumed").is_none());
        assert_eq!(known["packet"]["source_port"], 50_050);
        let gre = one("source_address=10.0.0.1&destination_address=192.0.2.1&protocol=gre").await;
        assert!(gre.get("ports_assumed").is_none());

        // Some ports are rejected.
        let differs = one(&format!("{}&explain=true", query("10.0.0.1", 443))).await;
        assert_eq!((&differs["action"], &differs["permitted"]), (&json!("REJECT"), &json!(false)));
        assert_eq!((&differs["reason"], &differs["active_rule"]["id"]), (&json!("rule"), &reject));
        let range = |from: u16, to: u16, action: &str, rule: &Value| {
            json!({"from": from, "to": to, "action": action, "rule_id": rule})
        };
        let rejected = json!({
            "from": 49_152, "to": 65_535, "verdict_depends": true, "port": 50_000,
            "alternatives": [
                range(49_152, 49_999, "ALLOW", &allow),
                range(50_000, 50_100, "REJECT", &reject),
                range(50_101, 65_535, "ALLOW", &allow),
            ],
            "alternatives_count": 3,
        });
        assert_eq!(differs["ports_assumed"], rejected);
        // The explanation is about the port that decides.
        assert_eq!(differs["packet"]["source_port"], Value::Null);
        assert_eq!(differs["explanation"]["earlier_count"], 0);
        assert_eq!(differs["explanation"]["matched"]["source"]["port"], "50000-50100");
        assert_eq!(differs["explanation"]["later"][0]["id"], allow);
        let explained = one(&format!("{}&explain=true", query("192.0.2.9", 443))).await;
        assert_eq!(explained["explanation"]["earlier_count"], 2);

        // One port of 16,384 is left to the default action.
        let denied = one(&query("10.0.0.1", 80)).await;
        assert_eq!((&denied["action"], &denied["reason"]), (&json!("DENY"), &json!("default")));
        let left = json!({
            "from": 49_152, "to": 65_535, "verdict_depends": true, "port": 49_152,
            "alternatives": [
                range(49_152, 49_152, "DENY", &Value::Null),
                range(49_153, 65_535, "ALLOW", &most),
            ],
            "alternatives_count": 2,
        });
        assert_eq!(denied["ports_assumed"], left);

        // Arrays and lines have the same answers.
        let mut packets =
            vec![packet("192.0.2.9", 443), packet("10.0.0.1", 443), packet("10.0.0.1", 80)];
        packets[1]["source_port"] = Value::Null;
        packets.push(json!({
            "source_address": "10.0.0.1", "source_port": 50_000,
            "destination_address": "192.0.2.1", "destination_port": 443,
        }));
        let array = api.post(&format!("{path}?explain=true"), &json!(packets)).await.expect(200);
        let lines: String = packets.iter().map(|packet| format!("{packet}\n")).collect();
        let authorization = format!("Bearer {}", api.token());
        let headers = [("content-type", "application/x-ndjson"), ("authorization", &authorization)];
        let stream = api.raw("POST", &path, &headers, lines.into_bytes()).await;
        let lines: Vec<Value> =
            stream.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 4);
        let expected = [Some(&assumed), Some(&rejected), Some(&left), None];
        for ((item, line), expected) in array.as_array().unwrap().iter().zip(&lines).zip(expected) {
            assert_eq!((item.get("ports_assumed"), line.get("ports_assumed")), (expected, expected));
            for member in ["action", "permitted", "reason", "active_rule"] {
                assert_eq!(item[member], line[member]);
            }
        }
        assert_eq!(array[1]["explanation"], differs["explanation"]);
        assert_eq!(array[3]["action"], "REJECT");
    }
}

db_test! {
    async fn of_many_ranges_of_ports_the_first_are_listed_and_all_are_counted(api: Api) {
        let policy = api.policy().await;
        for nth in 0..20 {
            let port = 49_160 + nth * 10;
            let action = if nth == 15 { "DENY" } else { "REJECT" };
            api.rule(&policy, &json!({
                "action": action, "priority": nth, "protocols": ["tcp"],
                "sources": [{"address": "any", "port": port}],
                "destinations": [{"address": "any"}],
            }))
            .await;
        }
        let all = json!({"priority": 100, "protocols": ["tcp"], "action": "ALLOW"});
        api.rule(&policy, &all).await;
        let path = format!("{policy}inspections/?{}", query("10.0.0.1", 443));
        let answer = api.get(&path).await.expect(200);
        assert_eq!(answer["action"], "DENY");
        let assumed = &answer["ports_assumed"];
        assert_eq!(assumed["port"], 49_310);
        assert_eq!(assumed["alternatives_count"], 41);
        assert_eq!(assumed["alternatives"].as_array().unwrap().len(), 8);
    }
}

const RULES: &str = r#"[
  {"name": "odd", "action": "DENY", "protocols": ["tcp"],
   "sources": [{"address": "10.0.0.0/8", "port": 60000}], "destinations": [{"address": "any", "port": 443}]},
  {"name": "web", "action": "ALLOW", "protocols": ["tcp", "udp"],
   "sources": [{"address": "any"}], "destinations": [{"address": "any", "port": 443}]}
]"#;

const FLOWS: &str = "src,dst,proto,dport
192.0.2.1,198.51.100.1,tcp,443
192.0.2.1,198.51.100.1,udp,443
2001:db8::1,2001:db8::2,tcp,443
192.0.2.1,198.51.100.1,tcp,80
10.0.0.1,198.51.100.1,tcp,443
10.0.0.1,198.51.100.1,icmp,
192.0.2.1,198.51.100.1,gre,
";

#[test]
fn flows_without_source_ports_are_all_read() {
    let folder = folder(&[("rules.json", RULES), ("flows.csv", FLOWS)]);
    let files = "--rules rules.json --packets flows.csv";
    let index = answers(folder.path(), &format!("{files} --format index"));
    assert_eq!(index, "1\n1\n1\n-1\n0\n-1\n-1\n");
    let ndjson = answers(folder.path(), &format!("{files} --format ndjson"));
    let lines: Vec<Value> = ndjson.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let assumed = json!({"from": 49_152, "to": 65_535, "verdict_depends": false});
    for (place, expected) in [(0, Some(&assumed)), (3, Some(&assumed)), (5, None), (6, None)] {
        assert_eq!(lines[place].get("ports_assumed"), expected);
    }
    let range = |from: u16, to: u16, action: &str, rule: u8| json!({"from": from, "to": to, "action": action, "rule_number": rule});
    let differs = json!({
        "line": 6, "action": "DENY", "permitted": false, "reason": "rule",
        "active_rule": {"number": 0, "name": "odd", "action": "DENY", "priority": 100},
        "ports_assumed": {
            "from": 49_152, "to": 65_535, "verdict_depends": true, "port": 60_000,
            "alternatives": [
                range(49_152, 59_999, "ALLOW", 1), range(60_000, 60_000, "DENY", 0),
                range(60_001, 65_535, "ALLOW", 1),
            ],
            "alternatives_count": 3,
        },
    });
    let mut given = lines[4].clone();
    // The priority is the one that the rules get in the order of the file.
    given["active_rule"]["priority"] = json!(100);
    assert_eq!(given, differs);
    let output = inspect(folder.path(), files);
    let (out, summary) = (text(&output.stdout), text(&output.stderr));
    let lines: Vec<&str> = out.lines().map(str::trim).collect();
    assert!(lines[0].contains("tcp 192.0.2.1:* -> 198.51.100.1:443 "), "{out}");
    assert!(lines[2].contains("tcp [2001:db8::1]:* -> [2001:db8::2]:443 "), "{out}");
    let differs = "; depends on the source port: 49152-59999 ALLOW by rule no. 1, \
                   60000 DENY by rule no. 0, 60001-65535 ALLOW by rule no. 1";
    assert!(lines[4].starts_with("6  DENY ") && lines[4].ends_with(differs), "{out}");
    assert!(
        summary.contains(
            "5 packets without a source port: evaluated with each port from 49152 to 65535; 1 of \
             the verdicts depend on the port"
        ),
        "{summary}"
    );
    let hits = answers(folder.path(), &format!("{files} --hits --format index"));
    assert_eq!(hits, "1\n3\n");
}

#[test]
fn packets_with_and_without_source_ports_are_answered_in_their_order() {
    let packets = [
        r#"{"source_address":"10.0.0.1","destination_address":"192.0.2.1","destination_port":443}"#,
        r#"{"source_address":"10.0.0.1","destination_address":"192.0.2.1","destination_port":443,"source_port":1}"#,
        r#"{"source_address":"10.0.0.1","destination_address":"192.0.2.1"}"#,
        r#"{"source_address":"10.0.0.1","destination_address":"192.0.2.1","destination_port":443,"source_port":null}"#,
        r#"{"source_address":"10.0.0.1","destination_address":"192.0.2.1","destination_port":443,"source_port":60000}"#,
    ];
    let array = format!("[{}]", packets.join(","));
    let benchmark = "@10.0.0.0/8\t0.0.0.0/0\t60000 : 60000\t0 : 65535\t0x06/0xFF\t0x0000/0x0000\n";
    let folder = folder(&[
        ("rules.json", RULES),
        ("lines.ndjson", &packets.join("\n")),
        ("array.json", &array),
        ("benchmark", benchmark),
    ]);
    for packets in ["lines.ndjson", "array.json"] {
        let files = format!("--packets {packets} --format index");
        let (out, error) = failure(folder.path(), &format!("--rules rules.json {files}"), 1);
        assert_eq!(out, "0\n1\n0\n0\n");
        assert!(error.contains("destination_port: is required with tcp"), "{error}");
        // Rules of a benchmark have no actions: the lowest port is answered.
        let (out, _) = failure(folder.path(), &format!("--rules benchmark {files}"), 1);
        assert_eq!(out, "-1\n-1\n-1\n0\n");
    }
    let files = "--rules benchmark --packets lines.ndjson --format ndjson";
    let (out, _) = failure(folder.path(), files, 1);
    let first: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    let alternatives = json!([
        {"from": 49_152, "to": 59_999, "rule_number": null},
        {"from": 60_000, "to": 60_000, "rule_number": 0},
        {"from": 60_001, "to": 65_535, "rule_number": null},
    ]);
    assert_eq!(first["ports_assumed"]["alternatives"], alternatives);
}
