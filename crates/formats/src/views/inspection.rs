//! Verdicts on packets, and their reasons, as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use fireflow_domain::engine::compact::CompactRule;
use fireflow_domain::engine::naive::Explanation;
use fireflow_domain::packet::{GivenPacket, Packet};
use fireflow_domain::usecase::inspect::{GivenVerdict, InspectedPolicy};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::rule::{EndpointView, PortEntryView, RuleView};
use crate::analysis::PacketView;
use crate::assumed_ports::AssumedPorts;

/// The policy of the verdict, and its state.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InspectedPolicy")]
pub struct PolicyStateView {
    /// Identifies the policy.
    pub id: i64,
    /// Its revision at that time.
    pub revision: i64,
}

impl From<&InspectedPolicy> for PolicyStateView {
    fn from(inspected: &InspectedPolicy) -> Self {
        Self { id: inspected.policy.id.get(), revision: inspected.policy.revision.0 }
    }
}

/// A rule in brief.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RuleSummary")]
pub struct RuleSummaryView {
    /// Identifies the rule.
    pub id: i64,
    /// Its name.
    pub name: Option<String>,
    /// What is done with packets that match.
    pub action: String,
    /// Its priority.
    pub priority: i32,
}

impl From<&Arc<CompactRule>> for RuleSummaryView {
    fn from(rule: &Arc<CompactRule>) -> Self {
        Self {
            id: rule.id().get(),
            name: rule.name().map(str::to_owned),
            action: rule.action().to_string(),
            priority: rule.priority(),
        }
    }
}

/// The entries of the deciding rule that match the packet.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MatchedEntries")]
pub struct MatchedView {
    /// The index in `sources`.
    pub source_index: u64,
    /// That source.
    pub source: EndpointView,
    /// The index in `destinations`.
    pub destination_index: u64,
    /// That destination.
    pub destination: EndpointView,
    /// The index in `ports`, if the rule's ports decide.
    pub port_index: Option<u64>,
    /// That port entry.
    pub port: Option<PortEntryView>,
}

/// An earlier rule, and the conditions that the packet does not meet.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "FailedRule")]
pub struct FailedRuleView {
    /// The rule.
    pub rule: RuleSummaryView,
    /// `protocol`, `source`, `destination`, `icmp`, or the state in which the rule is not
    /// evaluated: `disabled`, `expired`, `scheduled`.
    pub failed: Vec<String>,
}

/// A rule that would match the packet, but is not active.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InactiveRule")]
pub struct InactiveRuleView {
    /// The rule.
    pub rule: RuleSummaryView,
    /// Its state at the packet's time: `disabled`, `expired` or `scheduled`.
    pub state: String,
}

/// The reasons for a verdict.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Explanation")]
pub struct ExplanationView {
    /// The entries of the deciding rule that match the packet; null if no rule matches.
    pub matched: Option<MatchedView>,
    /// The rules before the deciding one, at most the 100 nearest, in order.
    pub earlier: Vec<FailedRuleView>,
    /// How many rules precede the deciding one.
    pub earlier_count: u64,
    /// Later rules that would have matched, at most the 100 nearest, in order.
    pub later: Vec<RuleSummaryView>,
    /// How many later rules would have matched.
    pub later_count: u64,
    /// Rules that would match if they were active at the packet's time, at most the first 100, in
    /// order.
    pub inactive: Vec<InactiveRuleView>,
    /// How many such rules there are.
    pub inactive_count: u64,
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl ExplanationView {
    fn of(inspected: &InspectedPolicy, packet: &Packet) -> Self {
        let (explanation, rules) = inspected.explain(packet);
        Self::new(&rules, &explanation)
    }

    fn new(rules: &[&Arc<CompactRule>], explanation: &Explanation) -> Self {
        let rule = |index: usize| rules.get(index).copied();
        let matched = explanation.active.and_then(rule).zip(explanation.matched.as_ref());
        Self {
            matched: matched.and_then(|(rule, entries)| {
                let (source, destination) = (entries.source, entries.destination);
                Some(MatchedView {
                    source_index: wide(source),
                    source: rule.sources().get(source)?.into(),
                    destination_index: wide(destination),
                    destination: rule.destinations().get(destination)?.into(),
                    port_index: entries.port.map(wide),
                    port: entries.port.and_then(|port| rule.ports().get(port)).map(Into::into),
                })
            }),
            earlier: explanation
                .before
                .iter()
                .filter_map(|(index, failed)| {
                    Some(FailedRuleView {
                        rule: rule(*index)?.into(),
                        failed: failed.iter().map(|it| it.as_str().to_owned()).collect(),
                    })
                })
                .collect(),
            earlier_count: wide(explanation.before_count),
            later: explanation
                .later
                .iter()
                .filter_map(|index| rule(*index))
                .map(Into::into)
                .collect(),
            later_count: wide(explanation.later_count),
            inactive: explanation
                .inactive
                .iter()
                .filter_map(|(index, state)| {
                    let state = state.as_str().to_owned();
                    Some(InactiveRuleView { rule: rule(*index)?.into(), state })
                })
                .collect(),
            inactive_count: wide(explanation.inactive_count),
        }
    }
}

macro_rules! inspections {
    ($($(#[$doc:meta])* $name:ident $(<$life:lifetime>)?, $schema:literal,
       $(#[$shown:meta])* $rule:ty;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Serialize, JsonSchema)]
            #[schemars(rename = $schema)]
            pub struct $name $(<$life>)? {
                /// What is done with the packet: `ALLOW`, `DENY` or `REJECT`.
                pub action: &'static str,
                /// Whether the packet may pass.
                pub permitted: bool,
                /// `rule` if a rule decides, `default` if no rule matches.
                pub reason: &'static str,
                /// The rule that decides; null if no rule matches.
                $(#[$shown])*
                pub active_rule: Option<$rule>,
                /// The packet as FireFlow interpreted it, with defaults.
                pub packet: PacketView,
                /// The assumed source ports; only if the packet's source port is unknown.
                #[serde(skip_serializing_if = "Option::is_none")]
                pub ports_assumed: Option<AssumedPorts>,
                /// The policy, and its state at that time.
                pub policy: PolicyStateView,
                /// The reasons for the verdict; with `explain=true`.
                #[serde(skip_serializing_if = "Option::is_none")]
                pub explanation: Option<ExplanationView>,
            }
        )+
    };
}

inspections! {
    // The rule that decides is already serialized, because most traffic matches few rules.
    /// The verdict on a packet.
    InspectionView<'a>, "Inspection", #[schemars(with = "Option<RuleView>")] &'a RawValue;
    /// The verdict on one of many packets.
    InspectionItemView, "InspectionItem", RuleSummaryView;
}

/// A policy of a firewall that inspected a packet.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "InspectingPolicy")]
pub struct InspectingPolicyView {
    /// Identifies the policy.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its revision at that time.
    pub revision: i64,
}

/// The verdict of one policy of a firewall on a packet.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PolicyInspection")]
pub struct PolicyInspectionView {
    /// The policy.
    pub policy: InspectingPolicyView,
    /// What the policy does with the packet: `ALLOW`, `DENY` or `REJECT`.
    pub action: &'static str,
    /// Whether the packet may pass.
    pub permitted: bool,
    /// `rule` if a rule decides, `default` if no rule matches.
    pub reason: &'static str,
    /// The rule that decides; null if no rule matches.
    pub active_rule: Option<RuleSummaryView>,
    /// The packet as FireFlow interpreted it, with defaults.
    pub packet: PacketView,
    /// The assumed source ports; only if the packet's source port is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports_assumed: Option<AssumedPorts>,
}

impl PolicyInspectionView {
    /// Inspects a packet.
    #[must_use]
    pub fn new(inspected: &InspectedPolicy, given: &GivenPacket) -> Self {
        let item = InspectionItemView::new(inspected, given, false);
        let InspectionItemView {
            action,
            permitted,
            reason,
            active_rule,
            packet,
            ports_assumed,
            ..
        } = item;
        let policy = InspectingPolicyView {
            id: inspected.policy.id.get(),
            name: inspected.policy.spec.name.to_string(),
            labels: inspected.policy.spec.labels.as_map().clone(),
            revision: inspected.policy.revision.0,
        };
        Self { policy, action, permitted, reason, active_rule, packet, ports_assumed }
    }
}

impl InspectionItemView {
    /// Inspects a packet.
    #[must_use]
    pub fn new(inspected: &InspectedPolicy, given: &GivenPacket, explains: bool) -> Self {
        let GivenVerdict { verdict, packet, assumed } = inspected.given_verdict(given);
        Self {
            action: verdict.action.as_str(),
            permitted: verdict.action.permits(),
            reason: reason(verdict.rule.is_some()),
            active_rule: verdict.rule.map(Into::into),
            packet: given.into(),
            ports_assumed: assumed.as_ref().map(Into::into),
            policy: inspected.into(),
            explanation: explains.then(|| ExplanationView::of(inspected, &packet)),
        }
    }
}

impl InspectionView<'_> {
    /// Inspects a packet. Also returns the rule that decides, which is not in the answer yet.
    #[must_use]
    pub fn new(
        inspected: &InspectedPolicy,
        given: &GivenPacket,
        explains: bool,
    ) -> (Self, Option<Arc<CompactRule>>) {
        let GivenVerdict { verdict, packet, assumed } = inspected.given_verdict(given);
        let answer = Self {
            action: verdict.action.as_str(),
            permitted: verdict.action.permits(),
            reason: reason(verdict.rule.is_some()),
            active_rule: None,
            packet: given.into(),
            ports_assumed: assumed.as_ref().map(Into::into),
            policy: inspected.into(),
            explanation: explains.then(|| ExplanationView::of(inspected, &packet)),
        };
        (answer, verdict.rule.map(Arc::clone))
    }
}

const fn reason(is_rule: bool) -> &'static str {
    if is_rule { "rule" } else { "default" }
}
