//! Packets in requests, and their verdicts.

use std::collections::BTreeMap;
use std::sync::Arc;

use fireflow_domain::engine::compact::CompactRule;
use fireflow_domain::engine::naive::Explanation;
use fireflow_domain::engine::port_map::PortAnswer;
use fireflow_domain::packet::{GivenPacket, Packet, Payload};
use fireflow_domain::usecase::inspect::{GivenVerdict, InspectedPolicy, Verdict};
use fireflow_formats::assumed_ports::AssumedPorts;
use poem_openapi::Object;
use serde::Serialize;
use serde_json::value::RawValue;

use super::left_out::LeftOutView;
use super::view::{EndpointView, PortEntryView, RuleView, pages};

/// A packet to inspect.
#[derive(Debug, Object)]
#[oai(rename = "Packet", example, skip_serializing_if_is_none)]
pub struct PacketBody {
    /// The source address.
    pub source_address: String,
    /// The source port; refused if the protocol has no ports. If it is omitted or null, the port is
    /// unknown: the packet is evaluated with each port from 49152 to 65535, and the response has
    /// `ports_assumed`.
    #[oai(validator(minimum(value = "0"), maximum(value = "65535")))]
    pub source_port: Option<u16>,
    /// The destination address.
    pub destination_address: String,
    /// The destination port; required if the protocol has ports, otherwise refused.
    #[oai(validator(minimum(value = "0"), maximum(value = "65535")))]
    pub destination_port: Option<u16>,
    /// The protocol, by name or number; omitted: tcp.
    pub protocol: Option<String>,
    /// The ICMP type; omitted: echo request.
    #[oai(validator(minimum(value = "0"), maximum(value = "255")))]
    pub icmp_type: Option<u8>,
    /// The ICMP code; omitted: 0.
    #[oai(validator(minimum(value = "0"), maximum(value = "255")))]
    pub icmp_code: Option<u8>,
    /// The packet's time, RFC 3339; omitted: now.
    pub at: Option<String>,
}

impl poem_openapi::types::Example for PacketBody {
    fn example() -> Self {
        Self {
            source_address: "10.1.2.3".into(),
            source_port: Some(40_000),
            destination_address: "198.51.100.10".into(),
            destination_port: Some(443),
            protocol: Some("tcp".into()),
            icmp_type: None,
            icmp_code: None,
            at: None,
        }
    }
}

/// The packet as FireFlow interpreted it.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "InspectedPacket")]
pub struct PacketView {
    /// The source address.
    pub source_address: String,
    /// The source port; null if it is unknown, or if the protocol has no ports.
    pub source_port: Option<u16>,
    /// The destination address.
    pub destination_address: String,
    /// The destination port, if the protocol has ports.
    pub destination_port: Option<u16>,
    /// The protocol, by name if it has one.
    pub protocol: String,
    /// The ICMP type, for icmp and icmpv6.
    pub icmp_type: Option<u8>,
    /// The ICMP code, for icmp and icmpv6.
    pub icmp_code: Option<u8>,
    /// The packet's time.
    pub at: String,
}

impl From<&GivenPacket> for PacketView {
    fn from(given: &GivenPacket) -> Self {
        let packet = given.packet();
        let (icmp_type, icmp_code) = match packet.payload() {
            Payload::Icmp { icmp_type, icmp_code } => (Some(icmp_type), Some(icmp_code)),
            Payload::Ports { .. } | Payload::Opaque => (None, None),
        };
        Self {
            source_address: packet.source().to_string(),
            source_port: given.source_port(),
            destination_address: packet.destination().to_string(),
            destination_port: packet.destination_port(),
            protocol: packet.protocol().to_string(),
            icmp_type,
            icmp_code,
            at: packet.at().to_string(),
        }
    }
}

/// The policy of the verdict, and its state.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "InspectedPolicy")]
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
#[derive(Debug, Object, Serialize)]
#[oai(rename = "RuleSummary")]
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
#[derive(Debug, Object, Serialize)]
#[oai(rename = "MatchedEntries")]
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
#[derive(Debug, Object, Serialize)]
#[oai(rename = "FailedRule")]
pub struct FailedRuleView {
    /// The rule.
    pub rule: RuleSummaryView,
    /// `protocol`, `source`, `destination`, `icmp`, or the state in which the rule is not
    /// evaluated: `disabled`, `expired`, `scheduled`.
    pub failed: Vec<String>,
}

/// A rule that would match the packet, but is not active.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "InactiveRule")]
pub struct InactiveRuleView {
    /// The rule.
    pub rule: RuleSummaryView,
    /// Its state at the packet's time: `disabled`, `expired` or `scheduled`.
    pub state: String,
}

/// The reasons for a verdict.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Explanation")]
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

/// The verdict for a range of source ports.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "PortVerdict")]
pub struct PortVerdictView {
    /// The first port of the range.
    pub from: u16,
    /// The last port of the range.
    pub to: u16,
    /// The action on the packet if its source port is in the range.
    pub action: String,
    /// Identifies the rule that decides; null if no rule matches.
    pub rule_id: Option<i64>,
}

/// The source ports that FireFlow assumes for a packet whose source port is unknown.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "AssumedPorts")]
pub struct AssumedPortsView {
    /// The first of the ports: 49152.
    pub from: u16,
    /// The last of the ports: 65535.
    pub to: u16,
    /// Whether the deciding rule depends on the source port. If so, the verdict is the strictest
    /// one: DENY if any port is denied, else REJECT if any port is rejected, else ALLOW.
    pub verdict_depends: bool,
    /// The port to which the verdict and its explanation refer: the lowest one with the strictest
    /// action. Absent if the verdict does not depend on the port; an explanation then refers to the
    /// first port.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The verdict for each range of ports, in order, at most the first 8. Absent if the verdict
    /// does not depend on the port.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternatives: Option<Vec<PortVerdictView>>,
    /// How many such ranges there are. Absent if the verdict does not depend on the port.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternatives_count: Option<u64>,
}

impl From<&PortAnswer<Verdict<'_>>> for AssumedPortsView {
    fn from(answer: &PortAnswer<Verdict<'_>>) -> Self {
        let AssumedPorts { from, to, verdict_depends, differing } = answer.into();
        let mut view = Self {
            from,
            to,
            verdict_depends,
            port: None,
            alternatives: None,
            alternatives_count: None,
        };
        if let Some(differing) = differing {
            let alternatives = differing.alternatives.into_iter().map(|it| PortVerdictView {
                from: it.from,
                to: it.to,
                action: it.action.to_owned(),
                rule_id: it.rule_id,
            });
            view.port = Some(differing.port);
            view.alternatives = Some(alternatives.collect());
            view.alternatives_count = Some(wide(differing.alternatives_count));
        }
        view
    }
}

macro_rules! inspections {
    ($($(#[$doc:meta])* $name:ident, $schema:literal, $rule:ty;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Object, Serialize)]
            #[oai(rename = $schema)]
            pub struct $name {
                /// What is done with the packet: `ALLOW`, `DENY` or `REJECT`.
                pub action: String,
                /// Whether the packet may pass.
                pub permitted: bool,
                /// `rule` if a rule decides, `default` if no rule matches.
                pub reason: String,
                /// The rule that decides; null if no rule matches.
                pub active_rule: Option<$rule>,
                /// The packet as FireFlow interpreted it, with defaults.
                pub packet: PacketView,
                /// The assumed source ports; only if the packet's source port is unknown.
                #[oai(skip_serializing_if_is_none)]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub ports_assumed: Option<AssumedPortsView>,
                /// The policy, and its state at that time.
                pub policy: PolicyStateView,
                /// The reasons for the verdict; with `explain=true`.
                #[oai(skip_serializing_if_is_none)]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub explanation: Option<ExplanationView>,
            }
        )+
    };
}

inspections! {
    /// The verdict on a packet.
    InspectionView, "Inspection", RuleView;
    /// The verdict on one of many packets.
    InspectionItemView, "InspectionItem", RuleSummaryView;
}

/// A policy of a firewall that inspected a packet.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "InspectingPolicy")]
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
#[derive(Debug, Object, Serialize)]
#[oai(rename = "PolicyInspection")]
pub struct PolicyInspectionView {
    /// The policy.
    pub policy: InspectingPolicyView,
    /// What the policy does with the packet: `ALLOW`, `DENY` or `REJECT`.
    pub action: String,
    /// Whether the packet may pass.
    pub permitted: bool,
    /// `rule` if a rule decides, `default` if no rule matches.
    pub reason: String,
    /// The rule that decides; null if no rule matches.
    pub active_rule: Option<RuleSummaryView>,
    /// The packet as FireFlow interpreted it, with defaults.
    pub packet: PacketView,
    /// The assumed source ports; only if the packet's source port is unknown.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports_assumed: Option<AssumedPortsView>,
}

pages! {
    /// The verdicts of a page of policies.
    PolicyInspectionPage, "PolicyInspectionPage", PolicyInspectionView,
    /// The policies that are not on the page, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutView>
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
            action: verdict.action.to_string(),
            permitted: verdict.action.permits(),
            reason: reason(verdict.rule.is_some()).to_owned(),
            active_rule: verdict.rule.map(Into::into),
            packet: given.into(),
            ports_assumed: assumed.as_ref().map(Into::into),
            policy: inspected.into(),
            explanation: explains.then(|| ExplanationView::of(inspected, &packet)),
        }
    }
}

/// An [`InspectionView`] whose rule is already serialized.
#[derive(Debug, Serialize)]
pub struct WrittenInspection<'a> {
    /// What is done with the packet.
    pub action: &'static str,
    permitted: bool,
    reason: &'static str,
    /// The rule that decides; none if no rule matches.
    pub active_rule: Option<&'a RawValue>,
    packet: PacketView,
    #[serde(skip_serializing_if = "Option::is_none")]
    ports_assumed: Option<AssumedPorts>,
    policy: PolicyStateView,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<ExplanationView>,
}

impl WrittenInspection<'_> {
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
