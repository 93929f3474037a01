//! What an answer says about a source port that is unknown.

use fireflow_domain::engine::port_map::PortAnswer;
use fireflow_domain::net::PortRange;
use fireflow_domain::usecase::inspect::Verdict;
use schemars::JsonSchema;
use serde::Serialize;

/// The source ports that FireFlow assumes for a packet whose source port is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AssumedPorts")]
pub struct AssumedPorts<V = PortVerdict> {
    /// The first of the ports: 49152.
    pub from: u16,
    /// The last of the ports: 65535.
    pub to: u16,
    /// Whether the deciding rule depends on the source port. If so, the verdict is the strictest
    /// one: DENY if any port is denied, else REJECT if any port is rejected, else ALLOW.
    pub verdict_depends: bool,
    /// The verdicts, if they differ. The verdict for a range of ports is of type `V`.
    #[serde(flatten)]
    pub differing: Option<DifferingPorts<V>>,
}

/// Verdicts that differ by source port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DifferingPorts<V> {
    /// The port to which the verdict and its explanation refer: the lowest one with the strictest
    /// action. Absent if the verdict does not depend on the port; an explanation then refers to the
    /// first port.
    pub port: u16,
    /// The verdict for each range of ports, in order, at most the first 8. Absent if the verdict
    /// does not depend on the port.
    pub alternatives: Vec<V>,
    /// How many such ranges there are. Absent if the verdict does not depend on the port.
    pub alternatives_count: usize,
}

/// The verdict for a range of source ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "PortVerdict")]
pub struct PortVerdict {
    /// The first port of the range.
    pub from: u16,
    /// The last port of the range.
    pub to: u16,
    /// The action on the packet if its source port is in the range.
    pub action: &'static str,
    /// Identifies the rule that decides; null if no rule matches.
    pub rule_id: Option<i64>,
}

impl PortVerdict {
    fn new(ports: PortRange, verdict: &Verdict<'_>) -> Self {
        Self {
            from: ports.first(),
            to: ports.last(),
            action: verdict.action.as_str(),
            rule_id: verdict.rule.map(|rule| rule.id().get()),
        }
    }
}

impl<V> AssumedPorts<V> {
    /// The form of an answer. `show` makes the form of the verdict at a range of ports.
    pub fn new<T>(answer: &PortAnswer<T>, show: impl Fn(PortRange, &T) -> V) -> Self {
        let differing = (answer.ranges > 1).then(|| DifferingPorts {
            port: answer.port,
            alternatives: answer.alternatives.iter().map(|(ports, it)| show(*ports, it)).collect(),
            alternatives_count: answer.ranges,
        });
        Self {
            from: answer.ports.first(),
            to: answer.ports.last(),
            verdict_depends: differing.is_some(),
            differing,
        }
    }
}

impl From<&PortAnswer<Verdict<'_>>> for AssumedPorts {
    fn from(answer: &PortAnswer<Verdict<'_>>) -> Self {
        Self::new(answer, PortVerdict::new)
    }
}
