//! The syntax tree of a filter: typed conditions.

use super::findings::FindingTest;
use super::moment::Moment;
use crate::audit::AuditAction;
use crate::error::Resource;
use crate::net::{AddressRange, Family, PortRange, Protocol};
use crate::rule::{Action, RuleState, WarningCode};
use crate::time::Instant;

pub use crate::list_fields::{ActionField, FlagField, InstantField, Level, NumberField, TextField};

/// A logical combination of conditions. `All` and `Any` have two members or more.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Logic<T> {
    /// AND.
    All(Vec<Self>),
    /// OR.
    Any(Vec<Self>),
    /// NOT: plain negation, since every test is true or false.
    Not(Box<Self>),
    /// One test.
    Is(T),
}

/// One test of a firewall, policy, rule or audit event, or of a parent of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// An integer.
    Number(NumberField, Ordered<i64>),
    /// An instant.
    Instant(InstantField, Ordered<Moment>),
    /// A text.
    Text(TextField, TextTest),
    /// A boolean.
    Flag(FlagField, bool),
    /// An action.
    Action(ActionField, Vec<Action>),
    /// A rule's state at the time of the request.
    State(Vec<RuleState>),
    /// The action of an event.
    AuditAction(Vec<AuditAction>),
    /// The kind of resource that an event concerns.
    Resource(Vec<Resource>),
    /// A label, by level and key (a key for which `labels::is_key` holds).
    Label(Level, String, LabelTest),
    /// Some of a rule's warnings at the time of the question; none at all: `None`.
    Warning(Option<Vec<WarningCode>>),
    /// The findings about a rule.
    Finding(FindingTest),
    /// One of the protocols that a rule lists; `None`: the rule lists none.
    Protocol(Option<Vec<Protocol>>),
    /// One of a rule's `ports`. A rule without `ports` has one entry, every port.
    Ports(PortTest),
    /// One source or destination of a rule, which must meet the whole condition.
    Entry(Side, Logic<EntryTest>),
    /// The rule matches a packet of the set, whatever its state and the rules ahead of it.
    Traffic(Box<Traffic>),
}

/// A test of an ordered value. Only `Absent` is true of an absent value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ordered<T> {
    /// `= null`.
    Absent,
    /// `=`, `IN`.
    OneOf(Vec<T>),
    /// `<`.
    Less(T),
    /// `<=`.
    AtMost(T),
    /// `>`.
    Greater(T),
    /// `>=`.
    AtLeast(T),
}

/// A test of a text. Only `Absent` is true of an absent text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TextTest {
    /// `= null`.
    Absent,
    /// `=`, `IN`: at least one pattern matches.
    OneOf(Vec<Pattern>),
    /// `:`: the folded value contains this text when it is folded, too. Holds the text as given.
    Holds(String),
}

/// A pattern for texts. The stars are not part of the stored text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `x`.
    Exact(String),
    /// `x*`; `*` is the prefix of an empty text.
    Prefix(String),
    /// `*x`.
    Suffix(String),
    /// `*x*`.
    Infix(String),
}

/// A test of a label's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LabelTest {
    /// `labels:k`.
    Present,
    /// `labels.k = null`.
    Absent,
    /// `labels.k = v`, `IN`: at least one pattern matches. False if the label is absent.
    OneOf(Vec<Pattern>),
    /// `labels.k : v`: the value holds this text, in any case.
    Holds(String),
}

/// A side of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// `sources`.
    Source,
    /// `destinations`.
    Destination,
}

/// A test of one entry of a side: of its address, or of one of its port ranges in effect. Those are
/// its own range; else, for a destination, each of the rule's `ports`; else every port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EntryTest {
    /// Its addresses.
    Address(RangeTest<AddressRange>),
    /// Its ports in effect; `Absent`: the entry itself names none.
    Port(PortTest),
}

/// A test of ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PortTest {
    /// `= null`: no ports are given.
    Absent,
    /// The ports in effect.
    Range(RangeTest<PortRange>),
}

/// A test of a range.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RangeTest<R> {
    /// `=`, `IN`: it is the same set as one of these.
    OneOf(Vec<R>),
    /// It lies inside this one. For addresses, `any` lies only in `any`.
    Within(R),
    /// It contains all of this one. `any` contains everything, and only `any` contains `any`.
    Contains(R),
    /// It has an element in common with this one. `any` overlaps everything.
    Overlaps(R),
}

/// A set of packets. An absent member is not restricted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Traffic {
    /// `family = ipv4`.
    pub family: Option<Family>,
    /// `source = 10.20.0.0/16`.
    pub source: Option<AddressRange>,
    /// `source_port = 1024-65535`: only packets that have ports.
    pub source_port: Option<PortRange>,
    /// `destination = 192.0.2.1`.
    pub destination: Option<AddressRange>,
    /// `destination_port = 22`: only packets that have ports.
    pub destination_port: Option<PortRange>,
    /// `protocol = tcp`.
    pub protocol: Option<Protocol>,
    /// `icmp_type = 8`: only icmp and icmpv6.
    pub icmp_type: Option<u8>,
    /// `icmp_code = 0`: only icmp and icmpv6.
    pub icmp_code: Option<u8>,
}

/// A filter of a list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Filter {
    /// The level of the list.
    pub level: Level,
    /// The condition.
    pub condition: Logic<Test>,
}

/// A filter with the time at which it is evaluated, which decides the states of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// The filter.
    pub filter: Filter,
    /// The time.
    pub at: Instant,
}
