//! Comparisons, searches and partitions as JSON.

use fireflow_domain::analysis::{
    Comparison, Difference, FoundPackets, Partition, PartitionPart, SearchAnswer,
};
use schemars::JsonSchema;
use serde::Serialize;

use super::findings::{IncompleteView, incomplete_views};
use super::packets::{PacketSetView, PacketView};
use super::{RuleNameView, Subject};

/// The packets on which two policies disagree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Comparison")]
pub struct ComparisonView {
    /// Whether it is proven that no packet changes its verdict.
    pub equal: bool,
    /// Whether `differences` has all differences.
    pub complete: bool,
    /// What is undecided.
    pub incomplete: Vec<IncompleteView>,
    /// Whether there are more differences than an answer has.
    pub more: bool,
    /// The differences, the most dangerous first, at most 1,000.
    pub differences: Vec<DifferenceView>,
}

/// Packets that change their verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Difference")]
pub struct DifferenceView {
    /// The action of the left policy.
    pub from: &'static str,
    /// The action of the right policy.
    pub to: &'static str,
    /// `opens` if packets pass that did not, `closes` if they no longer pass, `answers` if DENY
    /// became REJECT or the reverse.
    pub change: &'static str,
    /// Whether packets pass that did not.
    pub opens: bool,
    /// The rule of the left policy that decides the witness; null: its default.
    pub left_rule: Option<RuleNameView>,
    /// The rule of the right policy that decides the witness; null: its default.
    pub right_rule: Option<RuleNameView>,
    /// The rules of the left policy that decide some of the packets, at most the first 20.
    pub left_rules: Vec<RuleNameView>,
    /// The rules of the right policy that decide some of the packets, at most the first 20.
    pub right_rules: Vec<RuleNameView>,
    /// The packets. The sets of several differences are disjoint.
    pub packets: PacketSetView,
    /// One of them.
    pub witness: PacketView,
}

/// How many rules of a part are listed.
const LISTED_RULES: usize = 20;

fn named(rules: &[usize], subject: &Subject<'_>) -> Vec<RuleNameView> {
    rules.iter().take(LISTED_RULES).map(|rule| subject.rule(*rule)).collect()
}

impl ComparisonView {
    /// The form of an answer. What is undecided names rules of the right policy.
    #[must_use]
    pub fn new(comparison: &Comparison, left: &Subject<'_>, right: &Subject<'_>) -> Self {
        Self {
            equal: comparison.is_proven_equal(),
            complete: comparison.incomplete.is_empty() && !comparison.more,
            incomplete: incomplete_views(&comparison.incomplete, right),
            more: comparison.more,
            differences: comparison
                .differences
                .iter()
                .map(|difference| DifferenceView::new(difference, left, right))
                .collect(),
        }
    }
}

impl DifferenceView {
    fn new(difference: &Difference, left: &Subject<'_>, right: &Subject<'_>) -> Self {
        // No `..`: the compiler demands a decision here for each new member.
        let Difference {
            from,
            to,
            change,
            left_rule,
            right_rule,
            left_rules,
            right_rules,
            packets,
            witness,
        } = difference;
        Self {
            from: from.as_str(),
            to: to.as_str(),
            change: change.as_str(),
            opens: to.permits() && !from.permits(),
            left_rule: left_rule.map(|rule| left.rule(rule)),
            right_rule: right_rule.map(|rule| right.rule(rule)),
            left_rules: named(left_rules, left),
            right_rules: named(right_rules, right),
            packets: packets.into(),
            witness: witness.into(),
        }
    }
}

/// The answer to a search.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Search")]
pub struct SearchView {
    /// Whether it is proven that there is no such packet.
    pub none: bool,
    /// Whether `found` has all such packets.
    pub complete: bool,
    /// What is undecided.
    pub incomplete: Vec<IncompleteView>,
    /// Whether there are more than `found` has.
    pub more: bool,
    /// The packets, as disjoint sets.
    pub found: Vec<FoundView>,
}

/// Packets with the outcome that was searched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "FoundPackets")]
pub struct FoundView {
    /// Their action.
    pub action: &'static str,
    /// The rule that decides the witness; null: the default.
    pub rule: Option<RuleNameView>,
    /// The rules that decide some of the packets, at most the first 20.
    pub rules: Vec<RuleNameView>,
    /// The packets.
    pub packets: PacketSetView,
    /// One of them.
    pub witness: PacketView,
}

/// The form of an answer to a search, with at most `limit` sets.
#[must_use]
pub fn search_view(answer: &SearchAnswer, subject: &Subject<'_>, limit: usize) -> SearchView {
    let more = answer.more || answer.found.len() > limit;
    let view = |found: &FoundPackets| {
        let FoundPackets { packets, action, rule, rules, witness } = found;
        FoundView {
            action: action.as_str(),
            rule: rule.map(|rule| subject.rule(rule)),
            rules: named(rules, subject),
            packets: packets.into(),
            witness: witness.into(),
        }
    };
    SearchView {
        none: answer.is_none(),
        complete: answer.incomplete.is_empty() && !more,
        incomplete: incomplete_views(&answer.incomplete, subject),
        more,
        found: answer.found.iter().take(limit).map(view).collect(),
    }
}

/// A set of packets, divided by verdict.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Partition")]
pub struct PartitionView {
    /// Whether `parts` has all parts.
    pub complete: bool,
    /// What is undecided.
    pub incomplete: Vec<IncompleteView>,
    /// Whether there are more parts than an answer has.
    pub more: bool,
    /// The parts, in order of their rules, the default last, at most 1,000.
    pub parts: Vec<PartView>,
}

/// Packets with one verdict by one rule.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "PartitionPart")]
pub struct PartView {
    /// Their action.
    pub action: &'static str,
    /// The rule that decides all of them; null: the default.
    pub rule: Option<RuleNameView>,
    /// How many packets there are, roughly if there are more than 2^53.
    pub size: f64,
    /// The packets.
    pub packets: PacketSetView,
}

/// The form of an answer.
#[must_use]
pub fn partition_view(partition: &Partition, subject: &Subject<'_>) -> PartitionView {
    let view = |part: &PartitionPart| {
        let PartitionPart { packets, action, rule, size } = part;
        PartView {
            action: action.as_str(),
            rule: rule.map(|rule| subject.rule(rule)),
            size: *size,
            packets: packets.into(),
        }
    };
    PartitionView {
        complete: partition.incomplete.is_empty() && !partition.more,
        incomplete: incomplete_views(&partition.incomplete, subject),
        more: partition.more,
        parts: partition.parts.iter().map(view).collect(),
    }
}
