//! Tests how findings, comparisons and searches are written.

#![expect(clippy::unwrap_used, reason = "a test reports a failure by panicking")]
#![expect(clippy::indexing_slicing, reason = "a test reports a failure by panicking")]
#![expect(clippy::panic, reason = "a test reports a failure by panicking")]

mod outputs;
mod schema;
mod sets;
mod words;

use fireflow_domain::analysis::{
    Analysed, AnalysedPolicy, AnalysedRule, Analysis, Conflict, Cover, EXPOSED_SERVICES, Effect,
    Evidence, Finding, FindingKind, Fix, Incomplete, Obstacle, PacketSet, Severity, Task, identify,
};
use fireflow_domain::error::Violations;
use fireflow_domain::ids::PolicyId;
use fireflow_domain::net::{Family, PortRange, Protocol};
use fireflow_domain::packet::{Packet, PacketParts};
use fireflow_domain::rule::{Action, RuleSpec};
use fireflow_domain::time::Instant;
use fireflow_formats::analysis::{RuleLabel, Subject};
use fireflow_formats::rule::{SetReading, given_rule};
use serde_json::{Value, json};

fn at(text: &str) -> Instant {
    Instant::parse(text).unwrap()
}

fn now() -> Instant {
    at("2026-11-28T00:00:00Z")
}

fn rule(mut value: Value) -> RuleSpec {
    for member in ["sources", "destinations"] {
        if value.get(member).is_none() {
            value[member] = json!([{"address": "any"}]);
        }
    }
    let mut violations = Violations::new();
    let policy = PolicyId::new(1).unwrap();
    let read = given_rule(value, "", policy, SetReading::default(), &mut violations);
    assert!(violations.is_empty(), "{violations:?}");
    read.unwrap().0.spec
}

/// Four rules: `lets`, one without a name, `blocks, "all"`, and one that is disabled.
fn specs() -> Vec<RuleSpec> {
    vec![
        rule(json!({"name": "lets", "action": "ALLOW", "priority": 10, "protocols": ["tcp"]})),
        rule(json!({"action": "DENY", "priority": 20, "protocols": ["tcp"], "reference": "T-1"})),
        rule(json!({"name": "blocks, \"all\"", "action": "DENY", "priority": 30, "log": true})),
        rule(json!({"name": "=off", "action": "REJECT", "priority": 40, "enabled": false})),
    ]
}

/// The id and the line of each rule.
const PLACES: [(Option<i64>, u64); 4] = [(Some(11), 2), (None, 3), (Some(13), 7), (Some(14), 9)];

fn packet() -> Packet {
    Packet::new(PacketParts {
        source_address: "10.0.0.1".parse().unwrap(),
        destination_address: "198.51.100.10".parse().unwrap(),
        protocol: Protocol::TCP,
        source_port: Some(49_152),
        destination_port: Some(22),
        icmp_type: None,
        icmp_code: None,
        at: now(),
    })
    .unwrap()
}

fn cover(rule: usize) -> Cover {
    Cover { rule, share: 1.0 }
}

/// A finding of each kind about the second rule, then one about pairs, and others that differ.
fn finding(kind: FindingKind) -> Finding {
    let one = |severity| Finding::new(kind, severity, 1);
    let first = vec![cover(0)];
    match kind {
        FindingKind::Contradiction => Finding {
            conflicts_with: Some(Conflict { rule: 0, share: 1.0, first: 0 }),
            effect: Some(Effect::Opens),
            because: first,
            witness: Some(packet()),
            ..one(Severity::Error)
        },
        FindingKind::Duplicate => {
            Finding { because: first, fix: Some(Fix::Delete(vec![1])), ..one(Severity::Warning) }
        }
        FindingKind::Unreachable => Finding {
            because: first,
            conflicts_with: Some(Conflict { rule: 0, share: 0.5, first: 0 }),
            effect: Some(Effect::Opens),
            witness: Some(packet()),
            packets: vec![PacketSet { protocols: vec![Protocol::TCP], ..PacketSet::default() }],
            is_packets_complete: false,
            fix: Some(Fix::Move { rule: 1, before: 0 }),
            ..one(Severity::Error)
        },
        FindingKind::Redundant => {
            Finding { because: vec![cover(2)], together: vec![0], ..one(Severity::Warning) }
        }
        FindingKind::RestatesDefault => one(Severity::Info),
        FindingKind::NeverMatches => one(Severity::Warning),
        FindingKind::Expired => Finding {
            evidence: Evidence::Since(at("2026-01-01T00:00:00Z")),
            ..one(Severity::Warning)
        },
        FindingKind::ExpiresSoon => Finding {
            evidence: Evidence::Expires(at("2026-12-01T00:00:00Z")),
            ..one(Severity::Info)
        },
        FindingKind::DisabledLong => {
            Finding { evidence: Evidence::Since(at("2026-01-01T00:00:00Z")), ..one(Severity::Info) }
        }
        FindingKind::NoReference => one(Severity::Info),
        FindingKind::Ineffective => {
            let spec = rule(json!({
                "action": "DENY", "priority": 1, "protocols": ["icmp"],
                "sources": [{"address": "any"}, {"address": "::/0"}],
            }));
            let warning = spec.warnings(now()).swap_remove(0);
            Finding { evidence: Evidence::Warning(warning), ..one(Severity::Info) }
        }
        FindingKind::Permissive => Finding {
            evidence: Evidence::Permits {
                family: Family::V4,
                addresses: 0.5,
                any_service: true,
                any_destination: false,
                is_any_service_everywhere: true,
            },
            ..one(Severity::Warning)
        },
        FindingKind::Exposed => Finding {
            evidence: Evidence::Service {
                service: EXPOSED_SERVICES[1].clone(),
                family: Family::V6,
                destinations: 256.0,
            },
            because: vec![cover(0), cover(1)],
            ..one(Severity::Error)
        },
        FindingKind::Correlated | FindingKind::Generalises => {
            Finding { evidence: Evidence::Pairs(3), because: first, ..one(Severity::Info) }
        }
        FindingKind::Mergeable => Finding {
            because: first,
            fix: Some(Fix::Replace {
                rules: vec![0, 1],
                with: Box::new(specs().swap_remove(1).into_parts()),
            }),
            ..one(Severity::Info)
        },
    }
}

/// Calls `test` with a policy and an analysis with a finding of each kind.
fn with_findings<T>(test: impl FnOnce(&Analysis, &Subject<'_>) -> T) -> T {
    let specs = specs();
    let rules: Vec<AnalysedRule<'_>> = specs.iter().map(AnalysedRule::of).collect();
    let policy = AnalysedPolicy { rules: &rules, default_action: Action::Deny };
    let mut findings: Vec<Finding> = FindingKind::ALL.into_iter().map(finding).collect();
    findings.push(Finding::new(FindingKind::RestatesDefault, Severity::Info, 2));
    identify(&mut findings, &policy);
    let undecided = Incomplete { what: Task::Redundant, why: Obstacle::Steps, rules: vec![0, 2] };
    let analysis = Analysis {
        at: now(),
        analysed: Analysed::of(&policy, now()),
        findings,
        incomplete: vec![undecided],
    };
    let label = |(spec, (id, line))| RuleLabel::new(spec, id, Some(line));
    let labels: Vec<RuleLabel<'_>> = specs.iter().zip(PLACES).map(label).collect();
    test(&analysis, &Subject { labels: &labels, source: "my rules.json", acceptances: None })
}

fn port(port: u16) -> PortRange {
    PortRange::single(port)
}
