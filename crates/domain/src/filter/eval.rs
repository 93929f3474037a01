//! The meaning of a filter, for resources in memory. This is the definition: the answers of the
//! database must be the same.

use crate::letters;
use crate::net::{AddressRange, Family, PortRange, Protocol};
use crate::rule::{Endpoint, RuleSpec};
use crate::text::fold;
use crate::time::Instant;

use super::tree::{
    EntryTest, Filter, LabelTest, Level, Logic, Ordered, Pattern, PortTest, RangeTest, Side, Test,
    TextTest, Traffic,
};

pub use super::subject::Subject;

impl Filter {
    /// Whether a subject satisfies the filter. A test of a level that the subject does not have is
    /// false. Costs O(tests × entries).
    #[must_use]
    pub fn fits(&self, subject: Subject<'_>, now: Instant) -> bool {
        self.condition.holds(&|test| test.fits(subject, now))
    }
}

impl<T> Logic<T> {
    /// Whether the condition is true, given the result of each test.
    pub fn holds(&self, test: &dyn Fn(&T) -> bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(test)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(test)),
            Self::Not(part) => !part.holds(test),
            Self::Is(one) => test(one),
        }
    }
}

impl Test {
    fn fits(&self, subject: Subject<'_>, now: Instant) -> bool {
        let item = subject.resources();
        let of_rule =
            |holds: &dyn Fn(&RuleSpec) -> bool| subject.rule().is_some_and(|it| holds(&it.spec));
        match self {
            Self::Number(field, test) => {
                field.value(item).is_some_and(|it| test.fits(it, |number| number))
            }
            Self::Instant(field, test) => field
                .value(subject.resources())
                .is_some_and(|it| test.fits(it, |moment| moment.at(now))),
            Self::Text(field, test) => {
                let holds = if field.is_folded() { folded_holds } else { letters::holds };
                field.value(item).is_some_and(|it| test.fits(it, holds))
            }
            Self::Flag(field, wanted) => field.value(item).flatten() == Some(*wanted),
            Self::Action(field, actions) => {
                field.value(item).flatten().is_some_and(|it| actions.contains(&it))
            }
            Self::State(states) => of_rule(&|rule| states.contains(&rule.state(now))),
            Self::Warning(wanted) => of_rule(&|rule| {
                let warnings = rule.warnings(now);
                match wanted {
                    None => warnings.is_empty(),
                    Some(codes) => warnings.iter().any(|warning| codes.contains(&warning.code)),
                }
            }),
            Self::Finding(test) => subject.rule().is_some_and(|rule| test.fits(rule.id)),
            Self::AuditAction(actions) => {
                subject.event().is_some_and(|it| actions.contains(&it.action))
            }
            Self::Resource(kinds) => subject.event().is_some_and(|it| kinds.contains(&it.resource)),
            Self::Label(level, key, test) => {
                let labels = match level {
                    Level::Firewall => subject.firewall().map(|firewall| &firewall.spec.labels),
                    Level::Policy => subject.policy().map(|policy| &policy.spec.labels),
                    Level::Rule => subject.rule().map(|rule| &rule.spec.labels),
                    Level::Event => None,
                };
                labels.is_some_and(|labels| test.fits(labels.as_map().get(key).map(String::as_str)))
            }
            Self::Protocol(None) => of_rule(&|rule| rule.protocols.is_empty()),
            Self::Protocol(Some(listed)) => {
                of_rule(&|rule| rule.protocols.iter().any(|it| listed.contains(it)))
            }
            Self::Ports(PortTest::Absent) => of_rule(&|rule| rule.ports.is_empty()),
            Self::Ports(PortTest::Range(test)) => {
                of_rule(&|rule| in_effect(None, &rule.ports).any(|port| test.fits_port(port)))
            }
            Self::Entry(side, condition) => of_rule(&|rule| some_entry(rule, *side, condition)),
            Self::Traffic(traffic) => of_rule(&|rule| traffic.meets(rule)),
        }
    }
}

impl<T: Copy> Ordered<T> {
    /// Whether a value fits, if what it is compared with is what `meant` makes of it.
    fn fits<V: Ord>(&self, value: Option<V>, meant: impl Fn(T) -> V) -> bool {
        let Some(value) = value else { return matches!(self, Self::Absent) };
        match self {
            Self::Absent => false,
            Self::OneOf(wanted) => wanted.iter().any(|it| value == meant(*it)),
            Self::Less(bound) => value < meant(*bound),
            Self::AtMost(bound) => value <= meant(*bound),
            Self::Greater(bound) => value > meant(*bound),
            Self::AtLeast(bound) => value >= meant(*bound),
        }
    }
}

/// How names and descriptions hold a text in any case.
fn folded_holds(text: &str, part: &str) -> bool {
    fold(text).contains(&fold(part))
}

impl TextTest {
    /// Whether a value fits, if this is how it holds a text in any case.
    fn fits(&self, value: Option<&str>, holds: fn(&str, &str) -> bool) -> bool {
        match self {
            Self::Absent => value.is_none(),
            Self::OneOf(patterns) => {
                value.is_some_and(|value| patterns.iter().any(|it| it.fits(value)))
            }
            Self::Holds(part) => value.is_some_and(|value| holds(value, part)),
        }
    }
}

impl LabelTest {
    fn fits(&self, value: Option<&str>) -> bool {
        match self {
            Self::Present => value.is_some(),
            Self::Absent => value.is_none(),
            Self::OneOf(patterns) => {
                value.is_some_and(|value| patterns.iter().any(|it| it.fits(value)))
            }
            Self::Holds(part) => value.is_some_and(|value| letters::holds(value, part)),
        }
    }
}

impl Pattern {
    fn fits(&self, value: &str) -> bool {
        match self {
            Self::Exact(text) => value == text,
            Self::Prefix(text) => value.starts_with(text.as_str()),
            Self::Suffix(text) => value.ends_with(text.as_str()),
            Self::Infix(text) => value.contains(text.as_str()),
        }
    }
}

/// The port ranges in effect if an entry has the port `own` and its rule has `ports`.
fn in_effect(own: Option<PortRange>, ports: &[PortRange]) -> impl Iterator<Item = PortRange> {
    let every = (own.is_none() && ports.is_empty()).then_some(PortRange::ALL);
    let inherited = if own.is_none() { ports } else { &[] };
    own.into_iter().chain(every).chain(inherited.iter().copied())
}

/// Whether an entry of a side, with one of its port ranges in effect, meets the whole condition.
fn some_entry(rule: &RuleSpec, side: Side, condition: &Logic<EntryTest>) -> bool {
    let (entries, ports) = match side {
        Side::Source => (&rule.sources, &[][..]),
        Side::Destination => (&rule.destinations, rule.ports.as_slice()),
    };
    entries.iter().any(|entry| {
        in_effect(entry.port, ports).any(|port| condition.holds(&|test| test.fits(entry, port)))
    })
}

impl EntryTest {
    fn fits(&self, entry: &Endpoint, port: PortRange) -> bool {
        match self {
            Self::Address(test) => test.fits_address(entry.address),
            Self::Port(PortTest::Absent) => entry.port.is_none(),
            Self::Port(PortTest::Range(test)) => test.fits_port(port),
        }
    }
}

/// Whether the first range lies inside the second.
fn lies_in(inner: AddressRange, outer: AddressRange) -> bool {
    match (inner, outer) {
        (_, AddressRange::Any) => true,
        (AddressRange::Any, AddressRange::V4 { .. } | AddressRange::V6 { .. })
        | (AddressRange::V4 { .. }, AddressRange::V6 { .. })
        | (AddressRange::V6 { .. }, AddressRange::V4 { .. }) => false,
        (AddressRange::V4 { first, last }, AddressRange::V4 { first: from, last: to }) => {
            from <= first && last <= to
        }
        (AddressRange::V6 { first, last }, AddressRange::V6 { first: from, last: to }) => {
            from <= first && last <= to
        }
    }
}

/// Whether two ranges have an address in common.
fn overlaps(one: AddressRange, other: AddressRange) -> bool {
    match (one, other) {
        (AddressRange::Any, _) | (_, AddressRange::Any) => true,
        (AddressRange::V4 { .. }, AddressRange::V6 { .. })
        | (AddressRange::V6 { .. }, AddressRange::V4 { .. }) => false,
        (AddressRange::V4 { first, last }, AddressRange::V4 { first: from, last: to }) => {
            first <= to && from <= last
        }
        (AddressRange::V6 { first, last }, AddressRange::V6 { first: from, last: to }) => {
            first <= to && from <= last
        }
    }
}

impl RangeTest<AddressRange> {
    fn fits_address(&self, value: AddressRange) -> bool {
        match self {
            Self::OneOf(ranges) => ranges.contains(&value),
            Self::Within(range) => lies_in(value, *range),
            Self::Contains(range) => lies_in(*range, value),
            Self::Overlaps(range) => overlaps(value, *range),
        }
    }
}

impl RangeTest<PortRange> {
    fn fits_port(&self, value: PortRange) -> bool {
        let lies_in = |inner: PortRange, outer: PortRange| {
            outer.first() <= inner.first() && inner.last() <= outer.last()
        };
        match self {
            Self::OneOf(ranges) => ranges.contains(&value),
            Self::Within(range) => lies_in(value, *range),
            Self::Contains(range) => lies_in(*range, value),
            Self::Overlaps(range) => ports_overlap(value, *range),
        }
    }
}

fn ports_overlap(one: PortRange, other: PortRange) -> bool {
    one.first() <= other.last() && other.first() <= one.last()
}

/// One protocol of each kind that the model distinguishes: with ports, ICMP in each family,
/// neither.
const KINDS: [Protocol; 4] = [Protocol::TCP, Protocol::ICMP, Protocol::ICMPV6, Protocol(47)];

impl Traffic {
    /// Whether the rule would match a packet of the set if it were active and the first rule.
    fn meets(&self, rule: &RuleSpec) -> bool {
        let candidates: &[Protocol] = match &self.protocol {
            Some(protocol) => std::slice::from_ref(protocol),
            None if rule.protocols.is_empty() => &KINDS,
            None => &rule.protocols,
        };
        let listed = |protocol| rule.protocols.is_empty() || rule.protocols.contains(&protocol);
        Family::ALL
            .into_iter()
            .filter(|family| self.family.is_none_or(|wanted| wanted == *family))
            .any(|family| {
                candidates.iter().any(|protocol| {
                    listed(*protocol)
                        && protocol.exists_in(family)
                        && self.meets_icmp(rule, *protocol)
                        && self.meets_ends(rule, family, protocol.has_ports())
                })
            })
    }

    fn meets_icmp(&self, rule: &RuleSpec, protocol: Protocol) -> bool {
        if !protocol.is_icmp() {
            // A rule that restricts ICMP fields lists ICMP protocols only.
            return self.icmp_type.is_none() && self.icmp_code.is_none();
        }
        let agree = |asked: Option<u8>, said: Option<u8>| {
            asked.zip(said).is_none_or(|(asked, said)| asked == said)
        };
        agree(self.icmp_type, rule.icmp_type) && agree(self.icmp_code, rule.icmp_code)
    }

    fn meets_ends(&self, rule: &RuleSpec, family: Family, has_ports: bool) -> bool {
        let has_address = |entry: &Endpoint, asked: Option<AddressRange>| {
            let asked = asked.unwrap_or(AddressRange::Any);
            // Two ranges that overlap have a family in common; `any` has both.
            entry.address.has_family(family)
                && asked.has_family(family)
                && overlaps(entry.address, asked)
        };
        let has_port = |own: Option<PortRange>, ports: &[PortRange], asked: Option<PortRange>| {
            if has_ports {
                asked.is_none_or(|asked| {
                    in_effect(own, ports).any(|port| ports_overlap(port, asked))
                })
            } else {
                // A rule that restricts ports does not match a packet without ports.
                own.is_none() && ports.is_empty() && asked.is_none()
            }
        };
        rule.sources.iter().any(|entry| {
            has_address(entry, self.source) && has_port(entry.port, &[], self.source_port)
        }) && rule.destinations.iter().any(|entry| {
            has_address(entry, self.destination)
                && has_port(entry.port, &rule.ports, self.destination_port)
        })
    }
}
