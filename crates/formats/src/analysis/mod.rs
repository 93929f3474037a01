//! What the analyzer finds, as text: sentences, JSON, SARIF, CSV, annotations of code hosts, and
//! text for people.

mod acceptances;
mod annotations;
mod answers;
mod findings;
mod packets;
mod page;
mod policy;
pub mod requests;
mod sarif;
mod sentences;
mod table;
mod text;

use std::fmt;

use fireflow_domain::acceptance::{Acceptance, Acceptances};
use fireflow_domain::analysis::{Finding, RuleIndex};
use fireflow_domain::engine::compact::CompactRule;
use fireflow_domain::rule::{Action, RuleSpec};
use schemars::JsonSchema;
use serde::Serialize;

pub use acceptances::{
    AcceptanceListView, AcceptanceView, GivenAcceptance, acceptances, new_acceptance,
};
pub use annotations::annotations;
pub use answers::{
    ComparisonView, DifferenceView, FoundView, PartView, PartitionView, SearchView, partition_view,
    search_view,
};
pub use findings::{
    AnalysedView, AnalysisHeadView, AnalysisView, CountView, CoverView, FindingView, FixView,
    IncompleteView, StateCountView, incomplete_views,
};
pub use packets::{
    GivenSetView, PacketSetView, PacketView, packet_in_words, packet_set, packet_set_of_words,
};
pub use page::{AnalysisPageView, FindingQuery, FindingsFormat, MAX_PAGE_SIZE};
pub use policy::{LabeledPolicy, ReadRule};
pub use sarif::sarif;
pub use sentences::{KINDS, KindText, detail};
pub use table::finding_records;
pub use text::{AnalysisText, Colors, comparison_text, partition_text, search_text};

/// How answers refer to a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleLabel<'a> {
    /// Its id, if it has one.
    pub id: Option<i64>,
    /// The line in which it begins, if it was read from a file.
    pub line: Option<u64>,
    /// Its name, if it has one.
    pub name: Option<&'a str>,
    /// The action on packets that match.
    pub action: Action,
}

impl<'a> RuleLabel<'a> {
    /// The label of a rule with this content.
    #[must_use]
    pub fn new(spec: &'a RuleSpec, id: Option<i64>, line: Option<u64>) -> Self {
        let name = spec.name.as_ref().map(|name| name.as_str());
        Self { id, line, name, action: spec.action }
    }

    /// The label of a stored rule.
    #[must_use]
    pub fn stored(rule: &'a CompactRule) -> Self {
        Self { id: Some(rule.id().get()), line: None, name: rule.name(), action: rule.action() }
    }
}

/// A policy that answers are about: what they need to refer to its rules.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The labels of its rules, in order of evaluation.
    pub labels: &'a [RuleLabel<'a>],
    /// The name of the file from which it was read, or the path of the policy in the API.
    pub source: &'a str,
    /// Its accepted findings; none if they play no part in the answer.
    pub acceptances: Option<&'a Acceptances>,
}

/// A rule, with its position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "NamedRule")]
pub struct RuleNameView {
    /// Identifies the rule. Absent from rules that are not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Its name.
    pub name: Option<String>,
    /// What is done with packets that match.
    pub action: &'static str,
    /// Its position in the order of evaluation, from 1.
    pub position: usize,
    /// The line of the file in which it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub line: Option<u64>,
}

impl<'a> Subject<'a> {
    /// The acceptance of a finding, if it is accepted.
    #[must_use]
    pub fn acceptance(&self, finding: &Finding) -> Option<&'a Acceptance> {
        self.acceptances.and_then(|all| all.of(finding))
    }

    /// The label of a rule; none if the index is beyond the end.
    fn label(&self, rule: RuleIndex) -> Option<&'a RuleLabel<'a>> {
        self.labels.get(rule)
    }

    /// The line in which a rule begins.
    fn line(&self, rule: RuleIndex) -> Option<u64> {
        self.label(rule).and_then(|label| label.line)
    }

    /// The name of a rule.
    fn name(&self, rule: RuleIndex) -> Option<&'a str> {
        self.label(rule).and_then(|label| label.name)
    }

    /// Whether this is not a rule but the default action, which comes after all rules. Only a default
    /// that lets packets in has a finding.
    const fn is_default(&self, rule: RuleIndex) -> bool {
        rule >= self.labels.len()
    }

    /// The action of a rule.
    fn action(&self, rule: RuleIndex) -> &'static str {
        self.label(rule).map_or(Action::Allow, |label| label.action).as_str()
    }

    /// A rule with its noun, at the begin of a sentence.
    fn titled(&self, rule: RuleIndex) -> String {
        if self.is_default(rule) {
            "The default action".to_owned()
        } else {
            format!("Rule {}", self.named(rule))
        }
    }

    /// A rule as answers name it.
    #[must_use]
    pub fn rule(&self, rule: RuleIndex) -> RuleNameView {
        RuleNameView {
            id: self.label(rule).and_then(|label| label.id),
            name: self.name(rule).map(str::to_owned),
            action: self.action(rule),
            position: rule.saturating_add(1),
            line: self.line(rule),
        }
    }

    /// A rule as sentences name it.
    const fn named(&self, rule: RuleIndex) -> NamedRule<'_> {
        NamedRule { subject: self, rule }
    }
}

/// A rule in a sentence: ``no. 7 `web` ``. The number is its position.
#[derive(Clone, Copy)]
struct NamedRule<'a> {
    subject: &'a Subject<'a>,
    rule: RuleIndex,
}

impl fmt::Display for NamedRule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subject.is_default(self.rule) {
            return f.write_str("the default action");
        }
        write!(f, "no. {}", self.rule.saturating_add(1))?;
        match self.subject.name(self.rule) {
            Some(name) => write!(f, " `{name}`"),
            None => Ok(()),
        }
    }
}

/// A number and its noun: `1 rule`, `2 rules`.
fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Items of a sentence: `a`, `a and b`, `a, b, and c`.
fn listed(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [one, two] => format!("{one} and {two}"),
        [first @ .., last] => format!("{}, and {last}", first.join(", ")),
    }
}
