//! What an answer says about a source port that is unknown.

use fireflow_domain::engine::port_map::PortAnswer;
use fireflow_domain::net::PortRange;
use fireflow_domain::usecase::inspect::Verdict;
use serde::Serialize;

/// The source ports that were assumed, and whether the verdict depends on them. The verdict at a
/// range of ports is of type `V`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AssumedPorts<V = PortVerdict> {
    /// The first of the ports.
    pub from: u16,
    /// The last of the ports.
    pub to: u16,
    /// Whether not all of the ports have the same deciding rule.
    pub verdict_depends: bool,
    /// The verdicts, if they differ.
    #[serde(flatten)]
    pub differing: Option<DifferingPorts<V>>,
}

/// Verdicts that differ by source port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DifferingPorts<V> {
    /// The port whose verdict is the answer.
    pub port: u16,
    /// The ranges of ports, each with its verdict, in order; the answered verdict included.
    pub alternatives: Vec<V>,
    /// The number of ranges; there can be more than are listed.
    pub alternatives_count: usize,
}

/// The verdict at a range of source ports, by a rule of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortVerdict {
    /// The first port of the range.
    pub from: u16,
    /// The last port of the range.
    pub to: u16,
    /// The action.
    pub action: &'static str,
    /// The rule that decides; null if no rule matches.
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
