//! The definition of a verdict: a loop over the rules in order. Costs O(rules × entries) per
//! packet.

use std::net::IpAddr;
use std::sync::Arc;

use crate::ids::RuleId;
use crate::net::{PortRange, Protocol};
use crate::packet::{Packet, Payload};
use crate::rule::{Action, Criteria, Endpoint, RuleSpec, RuleState, Schedule};

use super::port_map::{Claims, PortMap};

/// The most rules that an explanation lists on either side of the deciding one.
pub const MAX_EXPLAINED: usize = 100;

/// A rule by its id and its content, which are borrowed.
#[derive(Debug, Clone, Copy)]
pub struct RuleRef<'a> {
    /// Its id, which orders rules of equal priority.
    pub id: RuleId,
    /// Its content.
    pub spec: &'a RuleSpec,
}

/// The conditions of a rule: what is compared with a packet, and when.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    criteria: Criteria<'a>,
    schedule: Schedule,
}

impl<'a> Conditions<'a> {
    #[inline]
    pub(super) const fn new(criteria: Criteria<'a>, schedule: Schedule) -> Self {
        Self { criteria, schedule }
    }
}

/// A rule in any form that has the conditions.
pub trait HasConditions {
    /// The conditions.
    fn conditions(&self) -> Conditions<'_>;
}

impl HasConditions for RuleSpec {
    // Inlined, a member is only read by the comparison that needs it.
    #[inline]
    fn conditions(&self) -> Conditions<'_> {
        Conditions { criteria: Criteria::of(self), schedule: Schedule::of(self) }
    }
}

impl HasConditions for RuleRef<'_> {
    #[inline]
    fn conditions(&self) -> Conditions<'_> {
        self.spec.conditions()
    }
}

impl<T: HasConditions + ?Sized> HasConditions for &T {
    #[inline]
    fn conditions(&self) -> Conditions<'_> {
        (**self).conditions()
    }
}

impl<T: HasConditions + ?Sized> HasConditions for Arc<T> {
    #[inline]
    fn conditions(&self) -> Conditions<'_> {
        (**self).conditions()
    }
}

/// A condition that a rule sets for packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The rule is active at the packet's time. Carries the state that the rule has instead.
    State(RuleState),
    /// The protocol is listed.
    Protocol,
    /// At least one source holds the packet's source address and port.
    Source,
    /// At least one destination holds the packet's destination address and port.
    Destination,
    /// The ICMP type and code are the packet's.
    Icmp,
}

impl Condition {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State(state) => state.as_str(),
            Self::Protocol => "protocol",
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Icmp => "icmp",
        }
    }
}

/// Sorts rules into the order of evaluation: priority, then id.
pub fn sort(rules: &mut [RuleRef<'_>]) {
    rules.sort_unstable_by_key(|rule| (rule.spec.priority, rule.id));
}

/// The index of the first rule that matches. The rules are in order of evaluation.
#[must_use]
pub fn first_match(rules: &[RuleRef<'_>], packet: &Packet) -> Option<usize> {
    rules.iter().position(|rule| matches(rule.spec, packet))
}

/// The index of the first rule that matches, at each source port that a packet may have. Costs as
/// much as one packet does, whatever the number of ports.
#[must_use]
pub fn first_match_by_port(
    rules: &[RuleRef<'_>],
    packet: &Packet,
    ports: PortRange,
) -> PortMap<Option<usize>> {
    first_among_by_port(rules.iter().enumerate(), packet, ports)
}

/// The first of some rules that matches, at each source port that a packet may have. Each rule comes
/// with its index, in order.
pub(super) fn first_among_by_port<'a, R: HasConditions + 'a>(
    rules: impl IntoIterator<Item = (usize, &'a R)>,
    packet: &Packet,
    ports: PortRange,
) -> PortMap<Option<usize>> {
    let mut claims = Claims::new(ports);
    for (index, rule) in rules {
        for matching in matching_ports(rule.conditions(), packet, ports) {
            claims.add(index, matching);
        }
        // Later rules decide at no port.
        if claims.best() <= index {
            break;
        }
    }
    claims.into_map()
}

/// The source ports with which a rule matches a packet, out of those that the packet may have. The
/// ranges can overlap.
fn matching_ports<'a>(
    rule: Conditions<'a>,
    packet: &Packet,
    ports: PortRange,
) -> impl Iterator<Item = PortRange> + use<'a> {
    let Criteria { protocols, icmp_type, icmp_code, sources, destinations, ports: own_ports } =
        rule.criteria;
    let is_met = rule.schedule.state(packet.at()) == RuleState::Active
        && has_protocol(protocols, packet)
        && destinations.iter().any(|entry| destination_holds(own_ports, entry, packet))
        && has_icmp(icmp_type, icmp_code, packet);
    let sources = if is_met { sources } else { &[] };
    let source = packet.source();
    sources
        .iter()
        .filter(move |entry| entry.address.contains(source))
        .filter_map(move |entry| entry.port.unwrap_or(PortRange::ALL).intersection(ports))
}

/// The action on a packet: that of the first rule that matches, else the default.
#[must_use]
pub fn verdict(rules: &[RuleRef<'_>], default_action: Action, packet: &Packet) -> Action {
    first_match(rules, packet)
        .and_then(|index| rules.get(index))
        .map_or(default_action, |rule| rule.spec.action)
}

/// Whether a rule matches a packet.
#[must_use]
#[inline]
pub fn matches<R: HasConditions + ?Sized>(rule: &R, packet: &Packet) -> bool {
    let conditions = rule.conditions();
    conditions.schedule.state(packet.at()) == RuleState::Active
        && matches_at_any_time(&conditions, packet)
}

/// Whether a rule matches a packet if its state is ignored.
fn matches_at_any_time(conditions: &Conditions<'_>, packet: &Packet) -> bool {
    let Criteria { protocols, icmp_type, icmp_code, sources, destinations, ports } =
        conditions.criteria;
    has_protocol(protocols, packet)
        && sources.iter().any(|entry| source_holds(entry, packet))
        && destinations.iter().any(|entry| destination_holds(ports, entry, packet))
        && has_icmp(icmp_type, icmp_code, packet)
}

/// All conditions of a rule that a packet does not meet; empty exactly when the rule matches.
#[must_use]
pub fn failed_conditions<R: HasConditions + ?Sized>(rule: &R, packet: &Packet) -> Vec<Condition> {
    let Conditions { criteria, schedule } = rule.conditions();
    let state = schedule.state(packet.at());
    let Criteria { protocols, icmp_type, icmp_code, sources, destinations, ports } = criteria;
    [
        (state == RuleState::Active, Condition::State(state)),
        (has_protocol(protocols, packet), Condition::Protocol),
        (sources.iter().any(|entry| source_holds(entry, packet)), Condition::Source),
        (
            destinations.iter().any(|entry| destination_holds(ports, entry, packet)),
            Condition::Destination,
        ),
        (has_icmp(icmp_type, icmp_code, packet), Condition::Icmp),
    ]
    .into_iter()
    .filter(|(is_met, _)| !is_met)
    .map(|(_, condition)| condition)
    .collect()
}

/// Which entries of a matching rule hold the packet, by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MatchedEntries {
    /// The first source that holds it.
    pub source: usize,
    /// The first destination that holds it.
    pub destination: usize,
    /// The first entry of `ports` that holds it, if the destination names no port of its own.
    pub port: Option<usize>,
}

/// Why a packet meets its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The index of the deciding rule; none if the default action decides.
    pub active: Option<usize>,
    /// The entries of the deciding rule that hold the packet.
    pub matched: Option<MatchedEntries>,
    /// The rules before the deciding one, with their failed conditions: the nearest rules, in
    /// order. Without a deciding rule, all rules count as earlier ones.
    pub before: Vec<(usize, Vec<Condition>)>,
    /// The number of rules before the deciding one.
    pub before_count: usize,
    /// Later rules that would have matched: the nearest, in order.
    pub later: Vec<usize>,
    /// The number of later rules that would have matched.
    pub later_count: usize,
    /// Rules that would match if they were not disabled, expired or scheduled at the packet's time.
    /// The first ones, in order, each with its state. They answer "Why does my rule not apply?"
    pub inactive: Vec<(usize, RuleState)>,
    /// The number of such rules.
    pub inactive_count: usize,
}

/// Explains a packet's verdict against rules in order of evaluation.
#[must_use]
pub fn explain<R: HasConditions>(rules: &[R], packet: &Packet) -> Explanation {
    let active = rules.iter().position(|rule| matches(rule, packet));
    let before_count = active.unwrap_or(rules.len());
    let before = rules
        .iter()
        .enumerate()
        .take(before_count)
        .skip(before_count.saturating_sub(MAX_EXPLAINED))
        .map(|(index, rule)| (index, failed_conditions(rule, packet)))
        .collect();
    let mut later = Vec::new();
    let mut later_count = 0;
    for (index, rule) in rules.iter().enumerate().skip(before_count.saturating_add(1)) {
        if matches(rule, packet) {
            later_count += 1;
            if later.len() < MAX_EXPLAINED {
                later.push(index);
            }
        }
    }
    let mut inactive = Vec::new();
    let mut inactive_count = 0;
    for (index, rule) in rules.iter().enumerate() {
        let conditions = rule.conditions();
        let state = conditions.schedule.state(packet.at());
        if state != RuleState::Active && matches_at_any_time(&conditions, packet) {
            inactive_count += 1;
            if inactive.len() < MAX_EXPLAINED {
                inactive.push((index, state));
            }
        }
    }
    let matched = active
        .and_then(|index| rules.get(index))
        .and_then(|rule| matched_entries(&rule.conditions(), packet));
    Explanation {
        active,
        matched,
        before,
        before_count,
        later,
        later_count,
        inactive,
        inactive_count,
    }
}

fn matched_entries(conditions: &Conditions<'_>, packet: &Packet) -> Option<MatchedEntries> {
    let Criteria {
        sources,
        destinations,
        ports,
        // The whole packet has these, not one entry of a list.
        protocols: _,
        icmp_type: _,
        icmp_code: _,
    } = conditions.criteria;
    let source = sources.iter().position(|entry| source_holds(entry, packet))?;
    let destination =
        destinations.iter().position(|entry| destination_holds(ports, entry, packet))?;
    let names_port = destinations.get(destination).is_some_and(|entry| entry.port.is_some());
    let port = packet
        .destination_port()
        .filter(|_| !names_port)
        .and_then(|port| ports.iter().position(|range| range.contains(port)));
    Some(MatchedEntries { source, destination, port })
}

fn has_protocol(protocols: &[Protocol], packet: &Packet) -> bool {
    protocols.is_empty() || protocols.contains(&packet.protocol())
}

fn has_icmp(wanted_type: Option<u8>, wanted_code: Option<u8>, packet: &Packet) -> bool {
    match packet.payload() {
        Payload::Icmp { icmp_type, icmp_code } => {
            wanted_type.is_none_or(|wanted| wanted == icmp_type)
                && wanted_code.is_none_or(|wanted| wanted == icmp_code)
        }
        Payload::Ports { .. } | Payload::Opaque => wanted_type.is_none() && wanted_code.is_none(),
    }
}

fn source_holds(entry: &Endpoint, packet: &Packet) -> bool {
    holds(entry, packet.source(), packet.source_port(), &[])
}

fn destination_holds(ports: &[PortRange], entry: &Endpoint, packet: &Packet) -> bool {
    holds(entry, packet.destination(), packet.destination_port(), ports)
}

/// Whether an entry holds an address and a port. An entry that restricts ports does not hold a
/// packet without ports.
fn holds(entry: &Endpoint, address: IpAddr, port: Option<u16>, fallback: &[PortRange]) -> bool {
    let has_port = |range: &PortRange| port.is_some_and(|port| range.contains(port));
    entry.address.contains(address)
        && match &entry.port {
            Some(range) => has_port(range),
            None => fallback.is_empty() || fallback.iter().any(has_port),
        }
}
