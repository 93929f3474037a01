//! Analyses as JSON, SARIF, CSV, annotations, and text.

use std::collections::BTreeSet;

use fireflow_domain::analysis::{
    Comparison, Difference, Finding, FindingKind, PacketSet, VerdictChange,
};
use fireflow_domain::rule::Action;
use fireflow_formats::analysis::{
    AnalysisText, AnalysisView, Colors, ComparisonView, annotations, comparison_text,
    finding_records, sarif,
};
use serde_json::{Value, json};

use super::schema::faults;
use super::{packet, with_findings};

fn as_json() -> Value {
    with_findings(|analysis, subject| {
        serde_json::to_value(AnalysisView::new(analysis, &analysis.findings, subject)).unwrap()
    })
}

fn of_kind(answer: &Value, kind: FindingKind) -> &Value {
    let findings = answer["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["kind"] == kind.as_str()).unwrap()
}

#[test]
fn an_analysis_as_json_has_everything_about_each_finding() {
    let answer = as_json();
    assert_eq!(answer["complete"], false);
    assert_eq!(answer["incomplete"][0]["what"], "redundant");
    assert_eq!(answer["incomplete"][0]["why"], "steps");
    assert_eq!(answer["incomplete"][0]["rules"][1]["id"], 13);
    let off = json!({"id": 14, "name": "=off", "action": "REJECT", "position": 4, "line": 9});
    let analysed = json!({
        "rules": 4, "active": 3, "left_out": [{"state": "disabled", "count": 1, "rules": [off]}],
    });
    assert_eq!(answer["analysed"], analysed);
    let counts = answer["counts"].as_array().unwrap();
    let restating =
        json!({"kind": "restates_default", "severity": "info", "count": 2, "accepted": 0});
    assert!(counts.contains(&restating));

    let unreachable = of_kind(&answer, FindingKind::Unreachable);
    let lets = json!({"id": 11, "name": "lets", "action": "ALLOW", "position": 1, "line": 2});
    let hidden = json!({"name": null, "action": "DENY", "position": 2, "line": 3});
    assert_eq!(unreachable["rule"], hidden);
    assert_eq!(unreachable["because"], json!([{"rule": lets, "share": 1.0}]));
    assert_eq!(unreachable["conflicts_with"], json!({"rule": lets, "share": 0.5}));
    assert_eq!(unreachable["effect"], "opens");
    assert_eq!(unreachable["witness"]["destination_port"], 22);
    assert_eq!(unreachable["packets"], json!([{"protocols": ["tcp"]}]));
    assert_eq!(unreachable["packets_complete"], false);
    assert_eq!(unreachable["fix"], json!({"move": {"rule": hidden, "before": lets}}));
    assert_eq!(of_kind(&answer, FindingKind::Duplicate)["fix"], json!({"delete": [hidden]}));
    let merged = &of_kind(&answer, FindingKind::Mergeable)["fix"]["replace"];
    let with = json!({
        "action": "DENY", "priority": 20, "protocols": ["tcp"], "reference": "T-1",
        "sources": [{"address": "any"}], "destinations": [{"address": "any"}],
    });
    assert_eq!(merged, &json!({"rules": [lets, hidden], "with": with}));
    assert_eq!(of_kind(&answer, FindingKind::Exposed)["service"], "ssh");
    assert_eq!(of_kind(&answer, FindingKind::Correlated)["pairs"], 3);
    assert_eq!(of_kind(&answer, FindingKind::Ineffective)["pointer"], "/sources/1");

    let ids: BTreeSet<&str> = answer["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), FindingKind::ALL.len() + 1);
}

#[test]
fn sarif_names_the_line_the_proof_and_the_fingerprints_of_each_finding() {
    let log =
        with_findings(|analysis, subject| sarif(analysis, &analysis.findings, subject, "1.2.3"));
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["version"], "1.2.3");
    assert_eq!(run["invocations"][0]["executionSuccessful"], false);
    let results = run["results"].as_array().unwrap();
    // One for each kind that is not only searched on request, and a second one.
    assert_eq!(results.len(), FindingKind::ALL.len() - 3 + 1);
    let unreachable = results.iter().find(|it| it["ruleId"] == "unreachable").unwrap();
    assert_eq!(unreachable["level"], "error");
    let place = &unreachable["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "my%20rules.json");
    assert_eq!(place["region"]["startLine"], 3);
    assert_eq!(unreachable["relatedLocations"].as_array().unwrap().len(), 1);
    let related = &unreachable["relatedLocations"][0];
    assert_eq!(related["physicalLocation"]["region"]["startLine"], 2);
    assert_eq!(related["message"]["text"], "Rule no. 1 `lets`");
    let id = unreachable["partialFingerprints"]["findingId/v1"].as_str().unwrap();
    assert_eq!(id, of_kind(&as_json(), FindingKind::Unreachable)["id"]);
    let kinds: BTreeSet<&str> = run["tool"]["driver"]["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["id"].as_str().unwrap())
        .collect();
    assert!(results.iter().all(|result| kinds.contains(result["ruleId"].as_str().unwrap())));
}

#[test]
fn sarif_is_valid_by_its_schema() {
    let schema: Value = serde_json::from_str(include_str!("data/sarif-2.1.0.json")).unwrap();
    let mut log =
        with_findings(|analysis, subject| sarif(analysis, &analysis.findings, subject, "1.2.3"));
    assert_eq!(faults(&schema, &schema, &log, ""), [""; 0]);
    // The check can fail.
    log["runs"][0]["results"][0]["level"] = json!("fatal");
    log["runs"][0]["results"][0]["locations"][0]["line"] = json!(1);
    log["runs"][0]["results"][0].as_object_mut().unwrap().remove("message");
    assert_eq!(faults(&schema, &schema, &log, "").len(), 3);
}

#[test]
fn csv_has_a_record_for_each_finding_and_no_formula() {
    let bytes = with_findings(|analysis, subject| {
        let mut findings = analysis.findings.clone();
        findings[0].rule = 3;
        finding_records(&findings, subject).unwrap()
    });
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let column = |name: &str| header.iter().position(|it| it == name).unwrap();
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), FindingKind::ALL.len() + 1);
    assert_eq!(&records[0][column("rule")], "'=off");
    let redundant = records.iter().find(|it| &it[column("kind")] == "redundant").unwrap();
    assert_eq!(&redundant[column("because")], "3");
    assert_eq!(&redundant[column("together")], "1");
    assert_eq!((&redundant[column("position")], &redundant[column("line")]), ("2", "3"));
}

#[test]
fn annotations_are_one_escaped_line_for_each_finding() {
    let text = with_findings(|analysis, subject| annotations(&analysis.findings, subject));
    assert_eq!(text.lines().count(), FindingKind::ALL.len() - 3 + 1);
    let permissive = text.lines().find(|line| line.contains("Permissive")).unwrap();
    assert!(
        permissive.starts_with(
            "::warning file=my rules.json,line=3,title=Permissive rule::Rule no. 2 (DENY) permits \
             every service to its destinations: 50 %25 of all"
        ),
        "{permissive}"
    );
}

#[test]
fn the_text_for_people_groups_by_severity_and_ends_with_a_summary() {
    let write = |colors| {
        with_findings(|analysis, subject| {
            let findings: Vec<&Finding> = analysis.findings.iter().collect();
            AnalysisText { analysis, findings: &findings, subject, colors }.write()
        })
    };
    let text = write(Colors::None);
    let places: Vec<usize> = ["3 errors", "5 warnings", "9 for information", "undecided"]
        .iter()
        .map(|head| text.find(&format!("{head}\n")).unwrap())
        .collect();
    assert!(places.is_sorted(), "{text}");
    assert!(text.contains("  my rules.json:3 no. 2  Unreachable rule\n"), "{text}");
    let folded = "  2 rules restate the default action, the first of them my rules.json:3 no. 2\n";
    assert!(text.contains(folded), "{text}");
    assert!(!text.contains("Restates the default action"), "{text}");
    assert!(text.contains("  1 rule has no reference: my rules.json:3 no. 2\n"), "{text}");
    let undecided = "  redundant of rules no. 1 `lets` and no. 3 `blocks, \"all\"`; limit: steps\n";
    assert!(text.contains(undecided), "{text}");
    let summary = "my rules.json: 3 errors, 5 warnings, 9 for information; 3 of 4 rules active; left \
                   out: 1 disabled; the analysis is not complete";
    assert_eq!(text.lines().last(), Some(summary));
    assert!(!text.contains('\u{1b}'));
    assert!(write(Colors::Ansi).contains("\u{1b}[1;31m3 errors\u{1b}[0m"));
}

#[test]
fn a_comparison_names_who_decided_and_who_decides_now() {
    let difference = Difference {
        from: Action::Deny,
        to: Action::Allow,
        change: VerdictChange::Opens,
        left_rule: None,
        right_rule: Some(0),
        left_rules: Vec::new(),
        right_rules: vec![0],
        packets: PacketSet::default(),
        witness: packet(),
    };
    let comparison = Comparison { differences: vec![difference], ..Comparison::default() };
    let (view, text) = with_findings(|_, subject| {
        let view = ComparisonView::new(&comparison, subject, subject);
        let text = comparison_text(&comparison, subject, subject, Colors::None);
        (serde_json::to_value(view).unwrap(), text)
    });
    assert_eq!((&view["equal"], &view["complete"]), (&json!(false), &json!(true)));
    let shown = &view["differences"][0];
    assert_eq!((&shown["opens"], &shown["left_rule"]), (&json!(true), &json!(null)));
    assert_eq!(shown["right_rule"]["name"], "lets");
    let expected = "opens    DENY -> ALLOW  any protocol from any to any
         such as tcp 10.0.0.1:49152 -> 198.51.100.10:22
         by the default action, now by rule no. 1 `lets` (my rules.json:2)

1 difference, 1 of which open
";
    assert_eq!(text, expected);
    let equal = with_findings(|_, subject| {
        comparison_text(&Comparison::default(), subject, subject, Colors::None)
    });
    assert_eq!(equal, "no packet changes its verdict\n");
}
