//! What the analyzer finds, as text: sentences, JSON, SARIF, CSV, annotations of code hosts, and
//! text for people.

mod annotations;
mod answers;
mod findings;
mod packets;
pub mod requests;
mod sarif;
mod sentences;
mod table;
mod text;

use std::fmt;

use fireflow_domain::analysis::{AnalysedPolicy, RuleIndex};
use fireflow_domain::rule::RuleSpec;
use serde::Serialize;

pub use annotations::annotations;
pub use answers::{
    ComparisonView, DifferenceView, FoundView, PartView, PartitionView, SearchView, partition_view,
    search_view,
};
pub use findings::{
    AnalysedView, AnalysisHeadView, AnalysisView, CountView, CoverView, FindingView, FixView,
    IncompleteView, StateCountView, incomplete_views, rule_json,
};
pub use packets::{PacketSetView, PacketView, packet_in_words, packet_set, packet_set_of_words};
pub use sarif::sarif;
pub use sentences::{KINDS, KindText, detail};
pub use table::finding_records;
pub use text::{AnalysisText, Colors, comparison_text, partition_text, search_text};

/// How answers refer to a rule, in addition to its content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleLabel {
    /// Its id, if it has one.
    pub id: Option<i64>,
    /// The line in which it begins, if it was read from a file.
    pub line: Option<u64>,
}

/// A policy that answers are about, with what they need to refer to its rules.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The policy.
    pub policy: AnalysedPolicy<'a>,
    /// The labels of its rules, in the same order.
    pub labels: &'a [RuleLabel],
    /// The name of the file from which it was read, or the path of the policy in the API.
    pub source: &'a str,
}

/// A rule as answers name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleNameView {
    /// Identifies the rule.
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
    pub line: Option<u64>,
}

impl<'a> Subject<'a> {
    /// The content of a rule.
    fn spec(&self, rule: RuleIndex) -> Option<&'a RuleSpec> {
        self.policy.spec(rule)
    }

    /// The label of a rule.
    fn label(&self, rule: RuleIndex) -> RuleLabel {
        self.labels.get(rule).copied().unwrap_or_default()
    }

    /// A rule as answers name it.
    #[must_use]
    pub fn rule(&self, rule: RuleIndex) -> RuleNameView {
        let RuleLabel { id, line } = self.label(rule);
        let spec = self.spec(rule);
        RuleNameView {
            id,
            name: spec.and_then(|spec| spec.name.as_ref()).map(ToString::to_string),
            action: spec.map_or("", |spec| spec.action.as_str()),
            position: rule.saturating_add(1),
            line,
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
        write!(f, "no. {}", self.rule.saturating_add(1))?;
        match self.subject.spec(self.rule).and_then(|spec| spec.name.as_ref()) {
            Some(name) => write!(f, " `{}`", name.as_str()),
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
