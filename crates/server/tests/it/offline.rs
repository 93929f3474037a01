//! `fireflow inspect` gives the service's verdicts from files, without the service.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use fireflow_domain::testing::unchecked::checks_nothing_without;
use fireflow_storage::DatabaseKind;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::service::{Place, Service, binary, text};

pub(crate) fn inspect(folder: &Path, arguments: &str) -> Output {
    let arguments = arguments.split_whitespace();
    binary(folder).arg("inspect").args(arguments).output().unwrap()
}

/// The standard output of a successful run.
pub(crate) fn answers(folder: &Path, arguments: &str) -> String {
    let output = inspect(folder, arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// The standard output and error of a failed run.
pub(crate) fn failure(folder: &Path, arguments: &str, status: i32) -> (String, String) {
    let output = inspect(folder, arguments);
    assert_eq!(output.status.code(), Some(status), "{}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

pub(crate) fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

const RULES: &str = r#"[
  {"name": "web", "action": "ALLOW", "priority": 20, "protocols": ["tcp"],
   "sources": [{"address": "any"}], "destinations": [{"address": "198.51.100.10", "port": 443}]},
  {"name": "no-telnet", "action": "REJECT", "priority": 10, "protocols": ["tcp"],
   "sources": [{"address": "any"}], "destinations": [{"address": "any", "port": 23}]},
  {"action": "ALLOW", "priority": 30, "protocols": ["icmp"], "icmp_type": 8,
   "sources": [{"address": "10.0.0.0/8"}], "destinations": [{"address": "any"}]}
]"#;
const PACKETS: &str = r#"{"source_address": "192.0.2.1", "destination_address": "198.51.100.10", "source_port": 1, "destination_port": 443}
{"source_address": "192.0.2.1", "destination_address": "198.51.100.10", "source_port": 1, "destination_port": 23}

{"source_address": "10.0.0.1", "destination_address": "198.51.100.10", "protocol": "icmp"}
{"source_address": "2001:db8::1", "destination_address": "2001:db8::2", "protocol": 47}
"#;

#[test]
fn packets_of_a_file_meet_the_rules_of_a_file() {
    let folder = folder(&[("rules.json", RULES), ("packets.ndjson", PACKETS)]);
    let files = "--rules rules.json --packets packets.ndjson";
    let index = answers(folder.path(), &format!("{files} --format index"));
    assert_eq!(index, "0\n1\n2\n-1\n");
    let ndjson = answers(folder.path(), &format!("{files} --format ndjson --default-action allow"));
    let lines: Vec<Value> = ndjson.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let web = json!({"number": 0, "name": "web", "action": "ALLOW", "priority": 20});
    let first = json!({
        "line": 1, "action": "ALLOW", "permitted": true, "reason": "rule", "active_rule": web,
    });
    assert_eq!(lines[0], first);
    let last = json!({
        "line": 5, "action": "ALLOW", "permitted": true, "reason": "default", "active_rule": null,
    });
    assert_eq!(lines[3], last);
    let output = inspect(folder.path(), files);
    let (out, summary) = (text(&output.stdout), text(&output.stderr));
    let lines: Vec<&str> = out.lines().map(str::trim).collect();
    assert!(lines[1].starts_with("2  REJECT  tcp 192.0.2.1:1 -> 198.51.100.10:23 "), "{out}");
    assert!(lines[1].ends_with("rule no. 1 `no-telnet` (REJECT at 10)"), "{out}");
    assert!(lines[3].ends_with("no rule"), "{out}");
    assert!(lines[3].contains("gre 2001:db8::1 -> 2001:db8::2"), "{out}");
    assert!(summary.starts_with("fireflow: 4 packets in "), "{summary}");
    assert!(
        summary
            .contains("2 ALLOW, 1 DENY, 1 REJECT; rules hit: 3 of 3; packets without a match: 1"),
        "{summary}"
    );
}

#[test]
fn rules_without_an_id_come_behind_those_that_have_one() {
    let rule = |id: Value, action: &str| {
        json!({
            "id": id, "action": action, "priority": 1, "sources": [{"address": "any"}],
            "destinations": [{"address": "any"}],
        })
    };
    let rules =
        json!([rule(Value::Null, "DENY"), rule(json!(7), "REJECT"), rule(json!(3), "ALLOW")]);
    let folder = folder(&[("rules.json", &rules.to_string()), ("packets.ndjson", PACKETS)]);
    let files = "--rules rules.json --packets packets.ndjson --format index";
    assert_eq!(answers(folder.path(), files), "2\n2\n2\n2\n");
    // An assumed default action is reported.
    std::fs::write(folder.path().join("none.json"), "[]").unwrap();
    let output = inspect(folder.path(), "--rules none.json --packets packets.ndjson");
    assert!(text(&output.stderr).contains("DENY is assumed"), "{}", text(&output.stderr));
}

#[test]
fn json_values_stand_one_after_the_other_in_lines_or_not() {
    let mut rules: Vec<Value> = serde_json::from_str(RULES).unwrap();
    // Longer than the part that is read ahead to detect the format. Only one side is long, because
    // the compiled form of two long sides is their product.
    let host = |host: u32| format!("2001:0db8:0001:0002:0003:0004:0005:{host:04x}");
    let hosts = (1..1_000).map(|it| json!({"address": host(it), "port": 60_000}));
    rules[0]["sources"].as_array_mut().unwrap().extend(hosts);
    rules[0]["description"] = json!("x".repeat(3_000));
    assert!(rules[0].to_string().len() > 64 * 1024);
    let page =
        |rules: &[Value]| json!({"items": rules, "total": 3, "page": 1, "per_page": 2}).to_string();
    let pages = [page(&rules[..2]), page(&rules[2..])];
    let each: Vec<String> =
        rules.iter().map(|it| serde_json::to_string_pretty(it).unwrap()).collect();
    let mixed = format!("{}{}\n{}", each[0], json!([&rules[1]]), pages[1]);
    let lines: Vec<String> = rules.iter().map(ToString::to_string).collect();
    for (name, text) in [
        ("rules in lines", lines.join("\n")),
        ("pages in lines", pages.join("\n")),
        ("pages, nothing between them", pages.concat()),
        ("rules over several lines", each.join("\n")),
        ("rules of their own, lists and pages", mixed),
    ] {
        let folder = folder(&[("rules", &text), ("packets", PACKETS)]);
        let index = answers(folder.path(), "--rules rules --packets packets --format index");
        assert_eq!(index, "0\n1\n2\n-1\n", "{name}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let packets = PACKETS.repeat(20_000);
    let folder = folder(&[("rules.json", RULES), ("packets.ndjson", &packets)]);
    for format in ["text", "ndjson", "index"] {
        let mut child = binary(folder.path())
            .args([
                "inspect",
                "--rules",
                "rules.json",
                "--packets",
                "packets.ndjson",
                "--format",
                format,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{format}: {}", text(&output.stderr));
    }
}

#[test]
fn what_traffic_uses_is_counted() {
    let aws = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets \
               bytes start end action log-status tcp-flags\n\
               3 1 eni-1 192.0.2.1 198.51.100.10 50000 443 6 10 100 1700000000 1700000001 ACCEPT OK 2\n\
               3 1 eni-1 198.51.100.10 192.0.2.1 443 50000 6 10 100 1700000000 1700000001 ACCEPT OK 18\n\
               3 1 eni-1 - - - - - - - 1700000000 1700000001 - NODATA -\n\
               3 1 eni-1 192.0.2.9 198.51.100.10 50001 443 6 10 100 1700000000 1700000001 ACCEPT OK 2\n";
    let zeek = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n\
                #fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\n\
                #types\ttime\tstring\taddr\tport\taddr\tport\tenum\n\
                1700000000.5\tC1\t10.1.2.3\t8\t192.0.2.1\t0\ticmp\n\
                1700000001.5\tC2\t10.1.2.3\t40000\t192.0.2.1\t23\ttcp\n#close\t2026\n";
    let table =
        "when;from;to;proto;dport;sport\n2026-01-01T00:00:00Z;192.0.2.1;198.51.100.10;TCP;443;7\n";
    let files = folder(&[
        ("rules.json", RULES),
        ("aws.log", aws),
        ("conn.log", zeek),
        ("flows.csv", table),
    ]);
    let hits = |packets: &str, more: &str| {
        let files_of = format!("--rules rules.json --packets {packets} --hits {more}");
        answers(files.path(), &files_of)
    };
    assert_eq!(hits("aws.log", "--format index"), "2\n0\n0\n");
    assert_eq!(hits("conn.log", "--format index"), "0\n1\n1\n");
    let columns = "--columns source_address=from,destination_address=to,protocol=4,destination_port=dport,source_port=6,at=when";
    assert_eq!(hits("flows.csv", &format!("--format index {columns}")), "1\n0\n0\n");
    let words = hits("aws.log", "");
    assert_eq!(words.lines().next().unwrap().trim(), "2  rule no. 0 `web` (ALLOW at 20)");
    assert_eq!(words.lines().last().unwrap().trim(), "0  no rule");
    let lines = hits("aws.log", "--format ndjson");
    assert!(lines.starts_with("{\"rule\":{\"number\":0,\"name\":\"web\""), "{lines}");
    assert!(lines.ends_with("{\"rule\":null,\"hits\":0}\n"), "{lines}");
    let summary =
        text(&inspect(files.path(), "--rules rules.json --packets aws.log --hits").stderr);
    assert!(summary.contains("1 record skipped: no data"), "{summary}");
    assert!(summary.contains("1 record skipped: the reply direction"), "{summary}");
    assert!(summary.contains("rules hit: 1 of 3"), "{summary}");
    // Assumptions are reported.
    let unknown = "srcaddr dstaddr srcport dstport protocol\n192.0.2.1 198.51.100.10 1 443 6\n\
                   10.0.0.1 198.51.100.10 0 0 1\n";
    std::fs::write(files.path().join("unknown.log"), unknown).unwrap();
    let output = inspect(files.path(), "--rules rules.json --packets unknown.log --format index");
    let summary = text(&output.stderr);
    assert_eq!(text(&output.stdout), "0\n2\n");
    assert!(summary.contains("1 packet of ICMP without a type: evaluated as echo"), "{summary}");
    assert!(summary.contains("1 packet of TCP without flags: replies"), "{summary}");
}

#[test]
fn a_benchmarks_right_answers_are_checked() {
    let rules = "@10.0.0.0/8\t0.0.0.0/0\t0 : 65535\t80 : 80\t0x06/0xFF\t0x0000/0x0000\n\
                 @0.0.0.0/0\t192.0.2.0/24\t0 : 65535\t0 : 65535\t0x00/0x00\t0x0000/0x0000\n";
    let packet = |source: &str, destination: &str, port: u16, expected: i64| {
        let number = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
        format!("{}\t{}\t7\t{port}\t6\t{expected}\n", number(source), number(destination))
    };
    let right = [
        packet("10.1.1.1", "192.0.2.1", 80, 0),
        packet("10.1.1.1", "192.0.2.1", 81, 1),
        packet("11.1.1.1", "192.0.3.1", 80, -1),
    ]
    .concat();
    let wrong = format!("{right}{}", packet("10.1.1.1", "192.0.2.1", 80, 1));
    let files =
        folder(&[("rules", rules), ("right", &right), ("wrong", &wrong), ("policy.json", RULES)]);
    let path = files.path();
    for (name, content) in [("rules.gz", rules), ("right.gz", &right)] {
        let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
        writer.write_all(content.as_bytes()).unwrap();
        std::fs::write(path.join(name), writer.finish().unwrap()).unwrap();
    }
    for (rules, packets) in [("rules", "right"), ("rules.gz", "right.gz")] {
        let files = format!("--rules {rules} --packets {packets} --check --format index");
        assert_eq!(answers(path, &files), "0\n1\n-1\n");
    }
    let (out, error) = failure(path, "--rules rules --packets wrong --check --format index", 1);
    assert_eq!(out, "0\n1\n-1\n0\n");
    assert!(
        error.contains("wrong: 1 packet decided by another rule than the expected one"),
        "{error}"
    );
    let words = answers(path, "--rules rules --packets right");
    assert!(words.contains("-       tcp 10.1.1.1:7 -> 192.0.2.1:81"), "{words}");
    // A policy's rules can evaluate a benchmark's packets, and vice versa.
    assert_eq!(answers(path, "--rules policy.json --packets right --format index"), "-1\n-1\n-1\n");
    std::fs::write(path.join("packets"), PACKETS).unwrap();
    let (out, error) = failure(path, "--rules rules --packets packets --format index", 1);
    assert_eq!(out, "-1\n-1\n-1\n");
    assert!(error.contains("packets:5: the packet must be IPv4"), "{error}");
}

/// The folder of FireFlow's own rule sets.
fn own_sets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../formats/tests/rule_sets")
}

#[test]
fn own_traces_meet_the_rules_that_they_name() {
    for name in ["acl", "fw", "ipc"] {
        let files = format!("--rules {name}.rules.gz --packets {name}.trace.gz");
        let output = inspect(&own_sets(), &format!("{files} --check --hits --format index"));
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("match the rule that they name"));
    }
}

#[test]
fn own_policies_decide_their_packets_as_the_definition_does() {
    for name in ["ipv4", "ipv6", "mixed"] {
        let files = format!("--rules {name}.rules.ndjson.gz --packets {name}.packets.ndjson.gz");
        let decided = answers(&own_sets(), &format!("{files} --format index"));
        let file = fireflow_formats::open(&own_sets().join(format!("{name}.answers.gz"))).unwrap();
        let expected = std::io::read_to_string(file.reader).unwrap();
        assert!(expected.lines().count() >= 1_000, "{name}");
        for (line, (decided, expected)) in decided.lines().zip(expected.lines()).enumerate() {
            assert_eq!(decided, expected, "{name}: packet {}", line + 1);
        }
        assert_eq!(decided, expected, "{name}");
    }
}

#[test]
fn the_public_traces_meet_the_rules_that_they_name() {
    let sets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/rulesets");
    if !sets.exists() {
        return checks_nothing_without("the public rule sets");
    }
    for name in ["acl1_10k", "fw1_1k", "ipc1_1k"] {
        let file = |kind: &str| sets.join(format!("{name}.{kind}.gz")).display().to_string();
        for trace in ["trace", "mix"] {
            let files = format!("--rules {} --packets {}", file("rules"), file(trace));
            let output = inspect(&sets, &format!("{files} --check --hits --format index"));
            assert!(output.status.success(), "{name} {trace}: {}", text(&output.stderr));
            assert!(text(&output.stderr).contains("match the rule that they name"));
        }
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let packets = format!("{PACKETS}x\n{{\"source_address\": \"1.2.3.4\"}}\n{PACKETS}");
    let files = folder(&[
        ("rules.json", RULES),
        ("packets", &packets),
        ("empty", ""),
        ("words", "what is this\n"),
        ("bad.json", r#"[{"action": "ALLOW", "priority": 1, "sources": []}]"#),
        ("bad.ndjson", "{\"action\": \"ALLOW\"}\n{\"action\": 7}\n"),
        (
            "two.ndjson",
            &[1, 2]
                .map(|policy| {
                    json!({
            "id": policy, "action": "ALLOW", "priority": 1, "filtering_policy": {"id": policy},
            "sources": [{"address": "any"}], "destinations": [{"address": "any"}],
        }).to_string() + "\n"
                })
                .concat(),
        ),
    ]);
    let path = files.path();
    let rule = |id: i64, action: &str| {
        json!({
            "id": id, "action": action, "priority": 1, "sources": [{"address": "any"}],
            "destinations": [{"address": "any"}],
        })
    };
    let with = |mut rule: Value, name: &str, value: Value| {
        rule[name] = value;
        rule
    };
    let of = |default: &str| json!({"id": 1, "default_action": default});
    for (name, content) in [
        (
            "deleted.json",
            json!([with(rule(1, "ALLOW"), "deleted_at", json!("2026-11-24T12:00:00Z"))])
                .to_string(),
        ),
        ("twice.json", json!([rule(3, "ALLOW"), rule(3, "DENY")]).to_string()),
        (
            "part.json",
            json!({"items": [rule(1, "ALLOW")], "total": 5, "page": 1, "per_page": 1}).to_string(),
        ),
        (
            "more.json",
            json!({"items": [rule(1, "ALLOW")], "next_cursor": "x", "per_page": 1}).to_string(),
        ),
        (
            "cursor.json",
            format!(
                "{}\n{}",
                json!({"items": [rule(1, "ALLOW")], "next_cursor": "x", "per_page": 1}),
                json!([rule(2, "ALLOW")])
            ),
        ),
        (
            "inexact.json",
            json!({
                "items": [rule(1, "ALLOW")], "total": 1, "total_is_exact": false,
                "next_cursor": "x", "page": 1, "per_page": 1,
            })
            .to_string(),
        ),
        (
            "filtered.json",
            json!({"items": [rule(1, "ALLOW")], "per_page": 9, "partial": ["filter"]}).to_string(),
        ),
        (
            "end.json",
            json!({"items": [rule(1, "ALLOW")], "per_page": 9, "partial": ["page"]}).to_string(),
        ),
        ("null.json", format!("{}\n\nnull", rule(1, "ALLOW"))),
        ("double.json", format!("{}\n{{\n\"a\": 1,\n\"a\": 2}}", rule(1, "ALLOW"))),
        ("cut.json", format!("{}\n{{\"name\":", rule(1, "ALLOW"))),
        ("page.json", "{\"items\": [\n], \"total\": 50}".to_owned()),
        ("odd.json", json!({"items": [rule(1, "ALLOW")], "bogus": 5}).to_string()),
        (
            "defaults.ndjson",
            format!(
                "{}\n{}\n",
                with(rule(1, "ALLOW"), "filtering_policy", of("ALLOW")),
                with(rule(2, "ALLOW"), "filtering_policy", of("DENY")),
            ),
        ),
    ] {
        std::fs::write(path.join(name), content).unwrap();
    }
    let (out, error) = failure(path, "--rules rules.json --packets packets --format index", 1);
    assert_eq!(out, "0\n1\n2\n-1\n0\n1\n2\n-1\n", "the others are answered");
    assert!(error.contains("packets:6: expected value at column 1"), "{error}");
    assert!(error.contains("packets:7: destination_address: is required"), "{error}");
    assert!(error.ends_with("fireflow: packets: 2 lines could not be read\n"), "{error}");
    let (out, _) = failure(path, "--rules rules.json --packets packets --format ndjson", 1);
    assert!(
        out.contains("\n{\"line\":6,\"error\":{\"code\":\"malformed_json\",\"detail\":"),
        "{out}"
    );
    for (arguments, status, why) in [
        ("--rules rules.json --packets missing", 2, "missing: No such file"),
        ("--rules rules.json --packets empty", 1, "empty"),
        ("--rules rules.json --packets words", 1, "what is this"),
        ("--rules packets --packets packets", 1, "packets: line 1: action: is required"),
        (
            "--rules bad.json --packets packets",
            1,
            "rule 0 of the list in line 1 (counted from 0): sources: has no",
        ),
        ("--rules bad.ndjson --packets packets", 1, "bad.ndjson: line 1: "),
        ("--rules two.ndjson --packets packets", 1, "belong to several policies, 1 and 2"),
        ("--rules deleted.json --packets packets", 1, "is deleted and has no effect"),
        ("--rules twice.json --packets packets", 1, "duplicate rule with id=3"),
        ("--rules part.json --packets packets", 1, "the file has 1 of 5 rules; read all of them"),
        ("--rules more.json --packets packets", 1, "the list has more rules than these 1"),
        ("--rules cursor.json --packets packets", 1, "the list has more rules than these 2"),
        ("--rules inexact.json --packets packets", 1, "the list has more rules than these 1"),
        ("--rules filtered.json --packets packets", 1, "its `partial` names `filter`"),
        ("--rules end.json --packets packets", 1, "pages before it are missing"),
        (
            "--rules null.json --packets packets",
            1,
            "null.json: line 3: invalid type: null, expected",
        ),
        ("--rules double.json --packets packets", 1, "double.json: line 4: duplicate member `a`"),
        ("--rules cut.json --packets packets", 1, "cut.json: line 2: EOF while parsing"),
        (
            "--rules rules.json --packets page.json",
            1,
            "line 1: `total` cannot be combined with `items`",
        ),
        ("--rules odd.json --packets packets", 1, "bogus: is not a known member"),
        (
            "--rules defaults.ndjson --packets packets",
            1,
            "default action is DENY here, but ALLOW earlier",
        ),
        ("--rules - --packets -", 2, "only one of --rules and --packets"),
        ("--rules rules.json --packets packets --columns x=1", 2, "`x` is not a member of packets"),
        ("--rules rules.json --packets packets --default-action drop", 2, "must be ALLOW, DENY"),
        ("--rules rules.json --packets packets --check", 1, "2 lines could not be read"),
    ] {
        let (_, error) = failure(path, arguments, status);
        assert!(error.contains(why), "{arguments}: {error}");
    }
}

/// The exported rules give the same verdicts as the service.
#[tokio::test]
async fn an_exported_policy_answers_as_the_service_does() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let service = Service::start(folder, &place.url);
    let mut connection = service.connect();
    let policy = "/firewalls/1/filtering-policies/1/";
    let created = [
        ("/firewalls/", json!({"name": "edge"})),
        ("/firewalls/1/filtering-policies/", json!({"name": "in", "default_action": "REJECT"})),
    ];
    for (path, body) in created {
        assert_eq!(connection.ask("POST", path, &body.to_string()).unwrap().0, 201);
    }
    let rules = format!("{policy}rules/");
    for index in 0..60 {
        let rule = json!({
            "action": if index % 3 == 0 { "DENY" } else { "ALLOW" }, "priority": index % 7,
            "protocols": ["tcp"], "sources": [{"address": format!("10.0.{}.0/24", index % 8)}],
            "destinations": [{"address": format!("10.1.0.{index}-10.1.0.{}", index + 9), "port": "1-1000"}],
            "expires_at": if index % 5 == 0 { json!("2030-01-01T00:00:00Z") } else { Value::Null },
        });
        assert_eq!(connection.ask("POST", &rules, &rule.to_string()).unwrap().0, 201);
    }
    let packets: Vec<Value> = (0..300)
        .map(|index| {
            json!({
                "source_address": format!("10.0.{}.7", index % 9),
                "destination_address": format!("10.1.0.{}", index % 70),
                "source_port": 1, "destination_port": index * 7 % 1_100,
                "at": if index % 2 == 0 { "2027-01-01T00:00:00Z" } else { "2031-01-01T00:00:00Z" },
            })
        })
        .collect();
    let inspections = format!("{policy}inspections/");
    let (status, online) =
        connection.ask("POST", &inspections, &json!(packets).to_string()).unwrap();
    assert_eq!(status, 200, "{online}");
    // A page of a list, and the lines of an export.
    let path = format!("{rules}?page_size=1000");
    let page = connection.exchange("GET", &path, "").unwrap().text;
    let list: Value = serde_json::from_str(&page).unwrap();
    let lines: String =
        list["items"].as_array().unwrap().iter().map(|rule| format!("{rule}\n")).collect();
    std::fs::write(folder.join("list.json"), page).unwrap();
    std::fs::write(folder.join("rules.ndjson"), lines).unwrap();
    std::fs::write(folder.join("packets.json"), json!(packets).to_string()).unwrap();
    for file in ["list.json", "rules.ndjson"] {
        let mut child = binary(folder)
            .args(["inspect", "--rules", file, "--packets", "-", "--format", "ndjson"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let text_of_packets = json!(packets).to_string();
        child.stdin.take().unwrap().write_all(text_of_packets.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let offline = text(&output.stdout);
        assert_eq!(offline.lines().count(), packets.len());
        for (offline, online) in offline.lines().zip(online.as_array().unwrap()) {
            let offline: Value = serde_json::from_str(offline).unwrap();
            assert_eq!(offline["action"], online["action"]);
            assert_eq!(offline["reason"], online["reason"]);
            assert_eq!(offline["active_rule"]["id"], online["active_rule"]["id"]);
        }
    }
}
