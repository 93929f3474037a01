//! Findings as JSON.

use fireflow_domain::analysis::{
    Analysed, Analysis, Conflict, Cover, Evidence, Finding, FindingKind, Fix, Incomplete, Severity,
};
use fireflow_domain::rule::RuleState;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::acceptances::AcceptanceView;
use super::packets::{PacketSetView, PacketView};
use super::sentences::detail;
use super::{RuleNameView, Subject};
use crate::views::rule_json;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AnalysisHeadView {
    /// The instant at which the findings hold.
    pub at: String,
    /// Whether everything that was asked is decided.
    pub complete: bool,
    /// What is undecided. `minimal` (a proof may name more rules than it needs) leaves the analysis
    /// complete; anything else does not.
    pub incomplete: Vec<IncompleteView>,
    /// What was looked at.
    pub analysed: AnalysedView,
    /// How many findings of the policy there are of each kind and severity, without regard to the
    /// filters of the request.
    pub counts: Vec<CountView>,
}

/// Something that an answer leaves undecided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Undecided")]
pub struct IncompleteView {
    /// What is undecided.
    pub what: &'static str,
    /// The limit that was reached: `steps` of one question, `memory`, or `time`; or a `defect`.
    pub why: &'static str,
    /// For how many rules; 0 if it concerns the answer as a whole.
    pub rule_count: usize,
    /// These rules, at most the first 100.
    pub rules: Vec<RuleNameView>,
}

/// How many undecided or inactive rules an answer lists.
const LISTED_RULES: usize = 100;

/// What an analysis looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AnalysedRules")]
pub struct AnalysedView {
    /// How many rules the policy has.
    pub rules: usize,
    /// How many of them are active at the instant of the analysis.
    pub active: usize,
    /// The rules that take no part because they are not active, by state.
    pub left_out: Vec<StateCountView>,
}

/// Rules that take no part in an analysis.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "InactiveRules")]
pub struct StateCountView {
    /// Their state.
    pub state: &'static str,
    /// How many there are.
    pub count: usize,
    /// These rules, at most the first 100.
    pub rules: Vec<RuleNameView>,
}

/// How many findings of a kind and severity there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "FindingCount")]
pub struct CountView {
    /// The kind.
    pub kind: &'static str,
    /// The severity.
    pub severity: &'static str,
    /// How many there are.
    pub count: usize,
    /// How many of them are accepted.
    pub accepted: usize,
}

/// A fault of a policy, with its proof.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Finding")]
pub struct FindingView {
    /// Identifies the finding. It stays the same if other rules change, or if rules move.
    pub id: String,
    /// Changes if the rules change that prove the finding.
    pub proof: String,
    /// The kind of fault.
    pub kind: &'static str,
    /// How serious it is.
    pub severity: &'static str,
    /// The rule that it is about.
    pub rule: RuleNameView,
    /// The fault and the remedy, in sentences. Rules are named by position.
    pub detail: String,
    /// The rules that prove it: together they match all packets of the rule, or decide them the
    /// same way.
    pub because: Vec<CoverView>,
    /// Whether none of these rules can be left out. If false, they are still a proof.
    pub minimal: bool,
    /// The earlier rule of another action with the largest overlap among those that decide packets
    /// instead of the rule.
    pub conflicts_with: Option<CoverView>,
    /// What that does: `opens` if it lets packets through that the rule would stop, or `closes`.
    pub effect: Option<&'static str>,
    /// A packet that shows the fault.
    pub witness: Option<PacketView>,
    /// The packets concerned, as disjoint sets, at most 20.
    pub packets: Vec<PacketSetView>,
    /// Whether these are all packets concerned.
    pub packets_complete: bool,
    /// The first instant at which the finding may no longer hold, because a rule starts or expires.
    pub until: Option<String>,
    /// Other rules whose deletion is suggested, and that may not be deleted together with this one.
    pub together: Vec<RuleNameView>,
    /// Whether the rule logs its matches, so that its deletion has an effect.
    pub logs: bool,
    /// The part of the rule that the finding is about, as a JSON pointer.
    pub pointer: Option<String>,
    /// The service that is exposed.
    pub service: Option<String>,
    /// How many earlier rules the finding is about.
    pub pairs: Option<u64>,
    /// A change that resolves it.
    pub fix: Option<FixView>,
    /// Who accepted it, and why; null if it is not accepted.
    pub acceptance: Option<AcceptanceView>,
}

/// A rule of a proof.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "RuleShare")]
pub struct CoverView {
    /// The rule.
    pub rule: RuleNameView,
    /// The share of the finding's rule that it contains, above 0 and at most 1; for `exposed`, the
    /// share of all public addresses that it lets in.
    pub share: f64,
}

/// A change that resolves a finding: exactly one of its members is present.
#[derive(Debug, Clone, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "FindingFix")]
pub struct FixView {
    /// Delete these rules. No verdict changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete: Option<Vec<RuleNameView>>,
    /// Move the rule.
    #[serde(rename = "move", skip_serializing_if = "Option::is_none")]
    pub move_rule: Option<MoveView>,
    /// Replace rules by one. No verdict changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<ReplaceView>,
}

/// A move that resolves a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "FindingFixMove")]
pub struct MoveView {
    /// The rule to move.
    pub rule: RuleNameView,
    /// The rule that it must precede.
    pub before: RuleNameView,
}

/// A replacement that resolves a finding.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "FindingFixReplacement")]
pub struct ReplaceView {
    /// The rules to replace; the new rule takes the place of the first.
    pub rules: Vec<RuleNameView>,
    /// The new rule, as `POST …/rules/` accepts it.
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
            counts: counts(analysis, subject),
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
fn counts(analysis: &Analysis, subject: &Subject<'_>) -> Vec<CountView> {
    let mut counts = Vec::new();
    let is_accepted = |finding: &&Finding| subject.acceptance(finding).is_some();
    let accepted: Vec<&Finding> = analysis.findings.iter().filter(is_accepted).collect();
    for severity in Severity::ALL {
        for kind in FindingKind::ALL {
            let count = analysis.count(kind, severity);
            if count > 0 {
                let is_of =
                    |finding: &&&Finding| finding.kind == kind && finding.severity == severity;
                let accepted = accepted.iter().filter(is_of).count();
                let (kind, severity) = (kind.as_str(), severity.as_str());
                counts.push(CountView { kind, severity, count, accepted });
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
            conflicts_with: conflicts_with
                .map(|Conflict { rule, share, first: _ }| cover(rule, share)),
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
            acceptance: subject.acceptance(finding).map(Into::into),
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
