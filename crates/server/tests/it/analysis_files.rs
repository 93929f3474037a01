//! `fireflow analyse`, `compare` and `search`: what is wrong with the policies of files, without the
//! service.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::offline::folder;
use crate::service::{binary, text};

/// Runs a command, whose words are separated by spaces; quotes hold a word together.
fn run(folder: &Path, command: &str) -> Output {
    let mut words = Vec::new();
    for (index, part) in command.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part);
        } else {
            words.extend(part.split_whitespace());
        }
    }
    binary(folder).args(words).output().unwrap()
}

/// Runs a command that must end with a status, and returns its output.
fn output(folder: &Path, command: &str, status: i32) -> String {
    let output = run(folder, command);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{command}: {told}");
    text(&output.stdout)
}

fn error(folder: &Path, command: &str, status: i32) -> String {
    let output = run(folder, command);
    assert_eq!(output.status.code(), Some(status), "{command}: {}", text(&output.stdout));
    text(&output.stderr)
}

/// `no-ssh` is lost to `internal`, `again` repeats a part of `web`, and `final` restates the default.
const RULES: &str = r#"[
  {"name": "web", "action": "ALLOW", "protocols": ["tcp"], "reference": "CHG-1",
   "sources": [{"address": "192.0.2.0/24"}], "destinations": [{"address": "198.51.100.10", "port": 443}]},
  {"name": "internal", "action": "ALLOW", "protocols": ["tcp"], "reference": "CHG-2",
   "sources": [{"address": "10.0.0.0/24"}], "destinations": [{"address": "198.51.100.0/24", "port": "1-1023"}]},
  {"name": "no-ssh", "action": "DENY", "protocols": ["tcp"], "reference": "CHG-3",
   "sources": [{"address": "10.0.0.8/29"}], "destinations": [{"address": "198.51.100.10", "port": 22}]},
  {"name": "again", "action": "ALLOW", "protocols": ["tcp"], "reference": "CHG-4",
   "sources": [{"address": "192.0.2.7"}], "destinations": [{"address": "198.51.100.10", "port": 443}]},
  {"name": "final", "action": "DENY", "reference": "CHG-5",
   "sources": [{"address": "any"}], "destinations": [{"address": "any"}]}
]"#;
const AT: &str = "--at 2026-11-28T00:00:00Z --default-action DENY";

const EXAMPLES: &str = include_str!("../../../../docs/analysis.md");

#[test]
fn each_example_of_the_documentation_has_the_finding_that_it_shows() {
    let mut shown = 0;
    for section in EXAMPLES.split("\n### `").skip(1) {
        let (kind, rest) = section.split_once('`').unwrap();
        let example = rest.split_once("```json\n").and_then(|(_, rest)| rest.split_once("```"));
        let (rules, _) = example.unwrap();
        let folder = folder(&[("rules.json", rules)]);
        let also = "--also correlated,generalises,mergeable";
        let command = format!("analyse rules.json {AT} {also} --format json");
        let run = run(folder.path(), &command);
        let found = findings(&text(&run.stdout));
        assert!(found.iter().any(|(found, _)| found == kind), "{kind}: {found:?}");
        shown += 1;
    }
    assert_eq!(shown, 16);
}

/// The findings of an output in JSON, by kind and name of the rule.
fn findings(output: &str) -> Vec<(String, String)> {
    let answer: Value = serde_json::from_str(output).unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = answer["findings"].as_array().unwrap().iter();
    findings.map(|it| (word(&it["kind"]), word(&it["rule"]["name"]))).collect()
}

#[test]
fn a_pipeline_stops_at_findings_of_the_severity_that_it_names() {
    let folder = folder(&[("rules.json", RULES)]);
    let path = folder.path();
    let printed = output(path, &format!("analyse rules.json {AT}"), 1);
    assert!(
        printed.starts_with("1 error\n  rules.json:6 no. 3 `no-ssh`  Unreachable rule\n"),
        "{printed}"
    );
    assert!(printed.contains("Move rule no. 3 `no-ssh` before rule no. 2 `internal`"), "{printed}");
    assert!(printed.contains("1 warning\n  rules.json:8 no. 4 `again`"), "{printed}");
    assert!(printed.contains("1 rule restates the default action: rules.json:10"), "{printed}");
    let summary = "rules.json: 1 error, 1 warning, 1 for information; 5 of 5 rules active";
    assert_eq!(printed.lines().last(), Some(summary));
    assert!(!printed.contains('\u{1b}'), "colors are for terminals");

    // Without the rule that is lost, nothing is an error any more.
    let mut rules: Vec<Value> = serde_json::from_str(RULES).unwrap();
    rules.remove(2);
    std::fs::write(path.join("less.json"), Value::from(rules).to_string()).unwrap();
    output(path, &format!("analyse less.json {AT}"), 0);
    output(path, &format!("analyse less.json {AT} --severity warning"), 1);
    std::fs::write(path.join("none.json"), "[]").unwrap();
    output(path, &format!("analyse none.json {AT} --severity info"), 0);
}

#[test]
fn accepted_findings_do_not_fail_a_pipeline() {
    let folder = folder(&[("rules.json", RULES)]);
    let path = folder.path();
    let all = output(path, &format!("analyse rules.json {AT} --format json"), 1);
    let all: Value = serde_json::from_str(&all).unwrap();
    let lost = &all["findings"][0];
    let acceptance = json!({
        "finding_id": lost["id"], "proof": lost["proof"], "severity": lost["severity"],
        "reason": "CHG-9", "until": "2027-01-01T00:00:00Z",
    });
    for list in [json!([acceptance]), json!({"items": [acceptance]})] {
        std::fs::write(path.join("accepted.json"), list.to_string()).unwrap();
        let left = output(
            path,
            &format!("analyse rules.json {AT} --format json --accepted accepted.json"),
            0,
        );
        let left: Value = serde_json::from_str(&left).unwrap();
        assert_eq!(left["findings"][0], all["findings"][1]);
        assert_eq!(left["counts"][0]["accepted"], 1);
    }
    let later = "--at 2027-01-01T00:00:00Z --default-action DENY --accepted accepted.json";
    assert!(output(path, &format!("analyse rules.json {later}"), 1).contains("no-ssh"));
    std::fs::write(path.join("accepted.json"), r#"[{"finding_id": "7"}]"#).unwrap();
    let told = error(path, &format!("analyse rules.json {AT} --accepted accepted.json"), 2);
    assert!(told.contains("accepted.json") && told.contains("32 hexadecimal digits"), "{told}");
}

#[test]
fn the_services_whose_exposure_is_a_finding_can_be_named() {
    const RULE: &str = r#"[{"action": "ALLOW", "reference": "x", "protocols": ["tcp"],
        "sources": [{"address": "any"}], "destinations": [{"address": "192.0.2.1", "port": 5985}]}]"#;
    let folder = folder(&[("rules.json", RULE)]);
    let analyse = |more: &str, status| {
        output(folder.path(), &format!("analyse rules.json {AT} {more}"), status)
    };
    assert!(!analyse("", 0).contains("xposed"));
    assert!(analyse("--exposed-services usual,winrm=tcp/5985", 1).contains("winrm"));
    let told = error(folder.path(), &format!("analyse rules.json {AT} --exposed-services x"), 2);
    assert!(told.contains("`x` is not a service such as `ssh`"), "{told}");
}

#[test]
fn a_baseline_leaves_only_what_is_new() {
    let folder = folder(&[("rules.json", RULES)]);
    let path = folder.path();
    let all = output(path, &format!("analyse rules.json {AT} --format json"), 1);
    let expected =
        [("unreachable", "no-ssh"), ("unreachable", "again"), ("restates_default", "final")];
    let expected = expected.map(|(kind, name)| (kind.to_owned(), name.to_owned()));
    assert_eq!(findings(&all), expected);
    std::fs::write(path.join("baseline.json"), &all).unwrap();
    let with_baseline = format!("{AT} --format json --baseline baseline.json");
    assert_eq!(findings(&output(path, &format!("analyse rules.json {with_baseline}"), 0)), []);

    // A rule in front moves all others, and is repeated at the end.
    let mut rules: Vec<Value> = serde_json::from_str(RULES).unwrap();
    let new = json!({
        "name": "dns", "action": "ALLOW", "protocols": ["udp"], "reference": "CHG-6",
        "sources": [{"address": "10.0.0.1"}], "destinations": [{"address": "198.51.100.53", "port": 53}],
    });
    rules.insert(0, new.clone());
    let mut repeated = new;
    repeated["name"] = json!("dns again");
    rules.push(repeated);
    std::fs::write(path.join("more.json"), Value::from(rules).to_string()).unwrap();
    let new = output(path, &format!("analyse more.json {with_baseline} --severity warning"), 1);
    assert_eq!(findings(&new).len(), 1, "{new}");
    assert_eq!(findings(&new)[0].1, "dns again");

    std::fs::write(path.join("other.json"), "{}").unwrap();
    let told = error(path, &format!("analyse rules.json {AT} --baseline other.json"), 2);
    assert!(told.contains("other.json: must be an output of `analyse --format json`"), "{told}");
}

#[test]
fn findings_are_written_for_code_hosts() {
    let folder = folder(&[("rules.json", RULES)]);
    let path = folder.path();
    let log = output(path, &format!("analyse rules.json {AT} --format sarif"), 1);
    let log: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(log["version"], "2.1.0");
    let first = &log["runs"][0]["results"][0];
    assert_eq!((&first["ruleId"], &first["level"]), (&json!("unreachable"), &json!("error")));
    let place = &first["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "rules.json");
    assert_eq!(place["region"]["startLine"], 6);
    let lines = output(path, &format!("analyse rules.json {AT} --format github"), 1);
    assert!(
        lines.starts_with("::error file=rules.json,line=6,title=Unreachable rule::"),
        "{lines}"
    );
    assert_eq!(lines.lines().count(), 3);
}

#[test]
fn one_policy_of_a_file_with_several_is_analyzed() {
    let mut rules: Vec<Value> = serde_json::from_str(RULES).unwrap();
    for (index, rule) in rules.iter_mut().enumerate() {
        let (id, name) = if index == 1 { (1, "in") } else { (2, "out") };
        let policy = json!({"id": id, "name": name, "default_action": "DENY"});
        rule["filtering_policy"] = policy;
    }
    let folder = folder(&[("rules.json", &Value::from(rules).to_string())]);
    let path = folder.path();
    let at = "--at 2026-11-28T00:00:00Z --format json";
    let told = error(path, &format!("analyse rules.json {at}"), 2);
    assert!(told.contains("the rules belong to several policies"), "{told}");
    let out = output(path, &format!("analyse rules.json {at} --policy out"), 0);
    // Without `internal`, `no-ssh` is reached, but changes nothing.
    assert!(!findings(&out).contains(&("unreachable".to_owned(), "no-ssh".to_owned())), "{out}");
    let told = error(path, &format!("analyse rules.json {at} --policy none"), 2);
    assert!(told.contains("no rule belongs to a policy with the name `none`"), "{told}");
}

#[test]
fn rules_of_a_benchmark_are_analyzed_as_if_all_allowed() {
    let rules = "@10.0.0.0/8\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x06/0xFF\n\
                 @10.1.0.0/16\t192.0.2.0/24\t0 : 65535\t80 : 80\t0x06/0xFF\n";
    let folder = folder(&[
        ("rules", rules),
        ("bad", "@10.0.0.0/8\t0.0.0.0/0\t0 : 65535\t80 : 80\t0x2f/0xFF\n"),
    ]);
    let run = run(folder.path(), &format!("analyse rules {AT} --severity warning"));
    assert_eq!(run.status.code(), Some(1));
    assert!(text(&run.stderr).contains("rules have no action: ALLOW is assumed for all"));
    assert!(
        text(&run.stdout).contains("  rules:2 no. 2  Unreachable rule\n"),
        "{}",
        text(&run.stdout)
    );
    // GRE has no ports.
    let told = error(folder.path(), &format!("analyse bad {AT}"), 2);
    assert!(told.contains("bad: line 1: "), "{told}");
}

#[test]
fn a_comparison_fails_exactly_if_some_packet_changes_its_verdict() {
    let mut rules: Vec<Value> = serde_json::from_str(RULES).unwrap();
    rules.remove(3);
    let same = Value::from(rules.clone()).to_string();
    rules[1]["destinations"] = json!([{"address": "198.51.100.0/23", "port": "1-1023"}]);
    let more = Value::from(rules).to_string();
    let folder = folder(&[("rules.json", RULES), ("same.json", &same), ("more.json", &more)]);
    let path = folder.path();
    let printed = output(path, &format!("compare rules.json same.json {AT}"), 0);
    assert_eq!(printed, "no packet changes its verdict\n");
    let printed = output(path, &format!("compare rules.json more.json {AT}"), 1);
    assert!(
        printed.starts_with("opens    DENY -> ALLOW  tcp from 10.0.0.0/24 to 198.51.101.0/24"),
        "{printed}"
    );
    assert!(
        printed.contains("by rule no. 5 `final` (rules.json:10), now by rule no. 2 `internal`"),
        "{printed}"
    );
    let printed = output(path, &format!("compare more.json rules.json {AT} --format json"), 1);
    let answer: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&answer["equal"], &answer["complete"]), (&json!(false), &json!(true)));
    assert_eq!(answer["differences"][0]["change"], "closes");
    assert_eq!(answer["differences"][0]["left_rule"]["name"], "internal");
    let told = error(path, &format!("compare - - {AT}"), 2);
    assert!(told.contains("only one of the files can be standard input"), "{told}");
}

#[test]
fn a_search_finds_packets_or_proves_that_there_are_none() {
    let folder = folder(&[("rules.json", RULES)]);
    let path = folder.path();
    let ssh = "--packets \"protocols=tcp destination_ports=22\"";
    let printed = output(path, &format!("search rules.json {ssh} {AT}"), 1);
    assert!(
        printed.starts_with("ALLOW  tcp from 10.0.0.0/24 to 198.51.100.0/24 port 22\n"),
        "{printed}"
    );
    assert!(printed.contains("by rule no. 2 `internal` (rules.json:4)"), "{printed}");
    let none = "--packets \"protocols=tcp sources=192.0.2.0/24 destination_ports=22\"";
    let printed = output(path, &format!("search rules.json {none} {AT}"), 0);
    assert_eq!(printed, "there is no such packet\n");
    // No packet reaches the third rule.
    output(path, &format!("search rules.json --packets any --outcome rule:3 {AT}"), 0);
    let printed =
        output(path, &format!("search rules.json {ssh} --outcome blocked {AT} --format json"), 1);
    let answer: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(answer["none"], false);
    assert_eq!(answer["found"][0]["rule"]["name"], "final");
    for (command, why) in [
        ("search rules.json --packets any --outcome rule:6", "there are only 5 rules"),
        ("search rules.json --packets any --outcome rule:0", "or rule:N with N from 1"),
        ("search rules.json --packets ports=22", "is not a known member"),
        ("search rules.json --packets \"\"", "the set is empty; write `any` for every packet"),
    ] {
        let told = error(path, command, 2);
        assert!(told.contains(why), "{command}: {told}");
    }
}

#[test]
fn a_file_without_content_is_a_policy_without_rules_and_that_is_said() {
    let folder = folder(&[("none.ndjson", ""), ("rules.json", RULES)]);
    let path = folder.path();
    let run = run(path, &format!("analyse none.ndjson {AT} --severity info"));
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let notice = "none.ndjson: the file is empty, so the policy has no rules";
    assert!(text(&run.stderr).contains(notice), "{}", text(&run.stderr));
    assert!(text(&run.stdout).ends_with("0 of 0 rules active\n"), "{}", text(&run.stdout));
    let printed = output(path, &format!("compare rules.json none.ndjson {AT}"), 1);
    assert!(printed.contains("now by the default action"), "{printed}");
    let all = "--packets any --outcome default";
    output(path, &format!("search none.ndjson {all} {AT}"), 1);
    // Without rules, a default that lets everything in exposes every service.
    let open = "--at 2026-11-28T00:00:00Z --default-action ALLOW";
    let printed = output(path, &format!("analyse none.ndjson {open}"), 1);
    assert!(printed.contains("The default action permits it."), "{printed}");
}

#[test]
fn a_policy_as_comparisons_take_it_is_read() {
    let policy = |rules: &str, default: &str| {
        format!("{{\n\"default_action\": {default},\n\"rules\": {rules}}}")
    };
    let folder = folder(&[
        ("rules.json", RULES),
        ("policy.json", &policy(RULES, "\"REJECT\"")),
        ("line.ndjson", &policy("[]", "\"deny\"").replace('\n', "")),
        ("bad.json", &policy(RULES, "\"DROP\"")),
        ("other.json", "{\"rules\": [], \"name\": \"in\"}"),
    ]);
    let path = folder.path();
    let printed = output(path, "compare rules.json policy.json --default-action DENY", 0);
    assert_eq!(printed, "no packet changes its verdict\n");
    let found = output(path, "analyse policy.json --at 2026-11-28T00:00:00Z --format json", 1);
    let answer: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(answer["findings"][0]["rule"]["name"], "no-ssh");
    // The lines of the rules in the file: two lines come before them.
    assert_eq!(answer["findings"][0]["rule"]["line"], 8);
    // The default of the file counts: no rule restates REJECT.
    assert!(!found.contains("restates_default"), "{found}");
    output(path, "search line.ndjson --packets any --outcome REJECT", 0);
    output(path, "search line.ndjson --packets any --outcome DENY", 1);
    for (file, why) in [
        ("bad.json", "`default_action` must be ALLOW, DENY or REJECT"),
        ("other.json", "unknown member `name`; a policy has `rules` and `default_action`"),
    ] {
        let told = error(path, &format!("analyse {file}"), 2);
        assert!(told.contains(why), "{told}");
    }
}
