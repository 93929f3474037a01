//! Findings as JSON.

use fireflow_domain::analysis::{
    Analysed, Analysis, Conflict, Cover, Evidence, Finding, FindingKind, Fix, Incomplete, Severity,
};
use fireflow_domain::net::PortRange;
use fireflow_domain::rule::{Endpoint, RuleParts, RuleState};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::packets::{PacketSetView, PacketView};
use super::sentences::detail;
use super::{RuleNameView, Subject};

/// The findings of a policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnalysisView {
    /// What they rest on.
    #[serde(flatten)]
    pub head: AnalysisHeadView,
    /// The findings.
    pub findings: Vec<FindingView>,
}

/// What the findings of a policy rest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnalysisHeadView {
    /// The instant at which the findings hold.
    pub at: String,
    /// Whether everything that was asked is decided.
    pub complete: bool,
    /// What is undecided.
    pub incomplete: Vec<IncompleteView>,
    /// What was looked at.
    pub analysed: AnalysedView,
    /// How many findings there are of each kind and severity.
    pub counts: Vec<CountView>,
}

/// Something that an answer leaves undecided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IncompleteView {
    /// What is undecided.
    pub what: &'static str,
    /// Why.
    pub why: &'static str,
    /// For how many rules.
    pub rule_count: usize,
    /// The first of these rules.
    pub rules: Vec<RuleNameView>,
}

/// How many undecided or inactive rules an answer lists.
const LISTED_RULES: usize = 100;

/// What an analysis looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnalysedView {
    /// How many rules the policy has.
    pub rules: usize,
    /// How many of them are active.
    pub active: usize,
    /// How many take no part, by the state that they have instead.
    pub left_out: Vec<StateCountView>,
}

/// How many rules have a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StateCountView {
    /// The state.
    pub state: &'static str,
    /// How many rules have it.
    pub count: usize,
    /// The first of them.
    pub rules: Vec<RuleNameView>,
}

/// How many findings of a kind and severity there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CountView {
    /// The kind.
    pub kind: &'static str,
    /// The severity.
    pub severity: &'static str,
    /// How many there are.
    pub count: usize,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FindingView {
    /// Its id, the same after changes elsewhere in the policy.
    pub id: String,
    /// A hash of what it rests on.
    pub proof: String,
    /// Its kind.
    pub kind: &'static str,
    /// How serious it is.
    pub severity: &'static str,
    /// The rule that it is about.
    pub rule: RuleNameView,
    /// The fault and the remedy, in sentences.
    pub detail: String,
    /// The rules that prove it.
    pub because: Vec<CoverView>,
    /// Whether none of these rules can be left out.
    pub minimal: bool,
    /// The earlier rule of another action that decides packets instead.
    pub conflicts_with: Option<CoverView>,
    /// What that does: `opens` or `closes`.
    pub effect: Option<&'static str>,
    /// A packet that shows it.
    pub witness: Option<PacketView>,
    /// The packets concerned, as disjoint sets.
    pub packets: Vec<PacketSetView>,
    /// Whether these are all of them.
    pub packets_complete: bool,
    /// When it may no longer hold, because a rule starts or expires.
    pub until: Option<String>,
    /// Redundant rules that may not be deleted together with this one.
    pub together: Vec<RuleNameView>,
    /// Whether the rule logs its matches.
    pub logs: bool,
    /// The part of the rule that it is about, as a JSON pointer.
    pub pointer: Option<String>,
    /// The service that is exposed.
    pub service: Option<String>,
    /// How many earlier rules it is about.
    pub pairs: Option<u64>,
    /// A change that resolves it.
    pub fix: Option<FixView>,
}

/// A rule of a proof.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoverView {
    /// The rule.
    pub rule: RuleNameView,
    /// The share of the finding's rule that it contains.
    pub share: f64,
}

/// A change that resolves a finding. Exactly one member is present.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct FixView {
    /// Delete these rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete: Option<Vec<RuleNameView>>,
    /// Move the finding's rule.
    #[serde(rename = "move", skip_serializing_if = "Option::is_none")]
    pub move_rule: Option<MoveView>,
    /// Replace rules by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<ReplaceView>,
}

/// A move of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MoveView {
    /// The rule to move.
    pub rule: RuleNameView,
    /// The rule that it must precede.
    pub before: RuleNameView,
}

/// A replacement of rules.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplaceView {
    /// The rules to replace; the new rule takes the place of the first.
    pub rules: Vec<RuleNameView>,
    /// The new rule, as the API accepts it.
    pub with: Value,
}

impl AnalysisView {
    /// The form of an answer, with some of the findings. The counts are those of all.
    #[must_use]
    pub fn new<'f>(
        analysis: &Analysis,
        findings: impl IntoIterator<Item = &'f Finding>,
        subject: &Subject<'_>,
    ) -> Self {
        Self {
            head: AnalysisHeadView::new(analysis, subject),
            findings: findings.into_iter().map(|it| FindingView::new(it, subject)).collect(),
        }
    }
}

impl AnalysisHeadView {
    /// The form of an answer.
    #[must_use]
    pub fn new(analysis: &Analysis, subject: &Subject<'_>) -> Self {
        Self {
            at: analysis.at.to_string(),
            complete: analysis.is_complete(),
            incomplete: incomplete_views(&analysis.incomplete, subject),
            analysed: AnalysedView::new(&analysis.analysed, subject),
            counts: counts(analysis),
        }
    }
}

/// What an answer leaves undecided.
#[must_use]
pub fn incomplete_views(incomplete: &[Incomplete], subject: &Subject<'_>) -> Vec<IncompleteView> {
    let view = |one: &Incomplete| IncompleteView {
        what: one.what.as_str(),
        why: one.why.as_str(),
        rule_count: one.rules.len(),
        rules: one.rules.iter().take(LISTED_RULES).map(|rule| subject.rule(*rule)).collect(),
    };
    incomplete.iter().map(view).collect()
}

impl AnalysedView {
    /// The form of an answer.
    #[must_use]
    pub fn new(analysed: &Analysed, subject: &Subject<'_>) -> Self {
        let states = RuleState::ALL.into_iter().filter_map(|state| {
            let rules = || analysed.left_out.iter().filter(|(_, other)| *other == state);
            let count = rules().count();
            let first = rules().take(LISTED_RULES).map(|(rule, _)| subject.rule(*rule));
            let rules = first.collect();
            (count > 0).then(|| StateCountView { state: state.as_str(), count, rules })
        });
        Self { rules: analysed.rules, active: analysed.active, left_out: states.collect() }
    }
}

/// The counts by severity and kind that are not 0, the most serious first.
fn counts(analysis: &Analysis) -> Vec<CountView> {
    let mut counts = Vec::new();
    for severity in Severity::ALL {
        for kind in FindingKind::ALL {
            let count = analysis.count(kind, severity);
            if count > 0 {
                let (kind, severity) = (kind.as_str(), severity.as_str());
                counts.push(CountView { kind, severity, count });
            }
        }
    }
    counts
}

impl FindingView {
    /// The form of an answer.
    #[must_use]
    pub fn new(finding: &Finding, subject: &Subject<'_>) -> Self {
        // No `..`: the compiler demands a decision here for each new member.
        let Finding {
            id,
            proof,
            // The id has it.
            number: _,
            kind,
            severity,
            rule,
            because,
            is_minimal,
            conflicts_with,
            effect,
            witness,
            packets,
            is_packets_complete,
            until,
            together,
            logs,
            evidence,
            fix,
        } = finding;
        let cover = |rule, share| CoverView { rule: subject.rule(rule), share };
        let (mut pointer, mut service, mut pairs) = (None, None, None);
        match evidence {
            Evidence::Warning(warning) => pointer = Some(warning.pointer.clone()),
            Evidence::Service { service: exposed, .. } => service = Some(exposed.name.to_string()),
            Evidence::Pairs(count) => pairs = Some(*count),
            // The sentence has these.
            Evidence::None
            | Evidence::Permits { .. }
            | Evidence::Since(_)
            | Evidence::Expires(_) => {}
        }
        Self {
            id: id.to_string(),
            proof: proof.to_string(),
            kind: kind.as_str(),
            severity: severity.as_str(),
            rule: subject.rule(*rule),
            detail: detail(finding, subject),
            because: because.iter().map(|Cover { rule, share }| cover(*rule, *share)).collect(),
            minimal: *is_minimal,
            conflicts_with: conflicts_with.map(|Conflict { rule, share }| cover(rule, share)),
            effect: effect.map(|effect| effect.as_str()),
            witness: witness.as_ref().map(Into::into),
            packets: packets.iter().map(Into::into).collect(),
            packets_complete: *is_packets_complete,
            until: until.map(|until| until.to_string()),
            together: together.iter().map(|rule| subject.rule(*rule)).collect(),
            logs: *logs,
            pointer,
            service,
            pairs,
            fix: fix.as_ref().map(|fix| FixView::new(fix, subject)),
        }
    }
}

impl FixView {
    fn new(fix: &Fix, subject: &Subject<'_>) -> Self {
        let named = |rules: &[usize]| rules.iter().map(|rule| subject.rule(*rule)).collect();
        match fix {
            Fix::Delete(rules) => Self { delete: Some(named(rules)), ..Self::default() },
            Fix::Move { rule, before } => {
                let (rule, before) = (subject.rule(*rule), subject.rule(*before));
                Self { move_rule: Some(MoveView { rule, before }), ..Self::default() }
            }
            Fix::Replace { rules, with } => {
                let replace = ReplaceView { rules: named(rules), with: rule_json(with) };
                Self { replace: Some(replace), ..Self::default() }
            }
        }
    }
}

/// A rule as the API accepts it, with the members that are not their default.
#[must_use]
pub fn rule_json(parts: &RuleParts) -> Value {
    // No `..`: the compiler demands a decision here for each new member.
    let RuleParts {
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
        log,
        starts_at,
        expires_at,
        description,
        reference,
        labels,
    } = parts;
    let mut members = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            members.insert(name.to_owned(), value);
        }
    };
    let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    let some = |values: Vec<Value>| if values.is_empty() { Value::Null } else { values.into() };
    set("name", name.as_ref().map(|name| name.as_str()).into());
    set("action", action.as_str().into());
    set("priority", (*priority).into());
    set("protocols", some(protocols.iter().map(|it| it.to_string().into()).collect()));
    set("icmp_type", (*icmp_type).into());
    set("icmp_code", (*icmp_code).into());
    set("sources", sources.iter().map(endpoint).collect());
    set("destinations", destinations.iter().map(endpoint).collect());
    set("ports", some(ports.iter().copied().map(port).collect()));
    set("enabled", if *enabled { Value::Null } else { false.into() });
    set("log", if *log { true.into() } else { Value::Null });
    set("starts_at", starts_at.map(|at| at.to_string()).into());
    set("expires_at", expires_at.map(|at| at.to_string()).into());
    set("description", text(description.as_str()));
    set("reference", text(reference.as_str()));
    let labels: Map<String, Value> =
        labels.as_map().iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    set("labels", if labels.is_empty() { Value::Null } else { labels.into() });
    Value::Object(members)
}

fn endpoint(entry: &Endpoint) -> Value {
    let address = entry.address.to_string();
    match entry.port {
        Some(port) if port.first() == port.last() => {
            json!({"address": address, "port": port.first()})
        }
        Some(port) => json!({"address": address, "port": port.to_string()}),
        None => json!({"address": address}),
    }
}

fn port(range: PortRange) -> Value {
    if range.first() == range.last() {
        json!({"number": range.first()})
    } else {
        json!({"from": range.first(), "to": range.last()})
    }
}
