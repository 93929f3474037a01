//! The syntax tree of a filter: conditions with their types, as they were understood.

use super::moment::Moment;
use crate::audit::AuditAction;
use crate::error::Resource;
use crate::net::{AddressRange, Family, PortRange, Protocol};
use crate::rule::{Action, RuleState, WarningCode};
use crate::time::Instant;

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Firewalls.
    Firewall,
    /// Filtering policies.
    Policy,
    /// Rules.
    Rule,
    /// Audit events. They have no parents: what they concern may be gone.
    Event,
}

impl Level {
    /// Every level, from the top.
    pub const ALL: [Self; 4] = [Self::Firewall, Self::Policy, Self::Rule, Self::Event];
}

/// Conditions joined. `All` and `Any` have two members or more.
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
    /// A truth value.
    Flag(FlagField, bool),
    /// An action.
    Action(ActionField, Vec<Action>),
    /// A rule's state at the time of the question.
    State(Vec<RuleState>),
    /// What an event was.
    AuditAction(Vec<AuditAction>),
    /// The kind of thing that an event concerns.
    Resource(Vec<Resource>),
    /// A label, by level and key (which keeps to `labels::is_key`).
    Label(Level, String, LabelTest),
    /// Some of a rule's warnings at the time of the question; none at all: `None`.
    Warning(Option<Vec<WarningCode>>),
    /// Some of a rule's protocols, as written; none written: `None`.
    Protocol(Option<Vec<Protocol>>),
    /// Some of a rule's `ports`; without any they are one entry, every port.
    Ports(PortTest),
    /// Some source or destination of a rule, all of it at once.
    Entry(Side, Logic<EntryTest>),
    /// Some packet of a set is matched by the rule, whatever its state and the rules before it.
    Traffic(Box<Traffic>),
}

macro_rules! fields {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $level:ident $word:literal $($nullable:ident)?),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is the field of the same name")]
        pub enum $name { $($variant),+ }

        impl $name {
            /// Every field.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Whose it is.
            #[must_use]
            pub const fn level(self) -> Level {
                match self { $(Self::$variant => Level::$level),+ }
            }

            /// Its name on the wire and in the database, without the name of a parent.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Whether it can be absent.
            #[must_use]
            pub const fn is_nullable(self) -> bool {
                match self { $(Self::$variant => fields!(@nullable $($nullable)?)),+ }
            }
        }
    };
    (@nullable) => { false };
    (@nullable nullable) => { true };
}

fields! {
    /// Integers.
    NumberField {
        FirewallId = Firewall "id", PolicyCount = Firewall "policy_count",
        FirewallRevision = Firewall "revision",
        PolicyId = Policy "id", RuleCount = Policy "rule_count",
        PolicyRevision = Policy "revision",
        RuleId = Rule "id", Priority = Rule "priority", IcmpType = Rule "icmp_type" nullable,
        IcmpCode = Rule "icmp_code" nullable, RuleRevision = Rule "revision",
        EventId = Event "id", EventResourceId = Event "resource_id",
        EventFirewallId = Event "firewall_id", EventPolicyId = Event "filtering_policy_id" nullable,
        EventSequence = Event "sequence" nullable,
    }
}
fields! {
    /// Instants.
    InstantField {
        FirewallCreatedAt = Firewall "created_at", FirewallUpdatedAt = Firewall "updated_at",
        PolicyCreatedAt = Policy "created_at", PolicyUpdatedAt = Policy "updated_at",
        RuleCreatedAt = Rule "created_at", RuleUpdatedAt = Rule "updated_at",
        StartsAt = Rule "starts_at" nullable, ExpiresAt = Rule "expires_at" nullable,
        EventAt = Event "at",
    }
}
fields! {
    /// Texts.
    TextField {
        FirewallName = Firewall "name", Tenant = Firewall "tenant",
        FirewallDescription = Firewall "description", FirewallCreatedBy = Firewall "created_by",
        FirewallUpdatedBy = Firewall "updated_by",
        PolicyName = Policy "name", PolicyDescription = Policy "description",
        PolicyCreatedBy = Policy "created_by", PolicyUpdatedBy = Policy "updated_by",
        RuleName = Rule "name" nullable, RuleDescription = Rule "description",
        Reference = Rule "reference", RuleCreatedBy = Rule "created_by",
        RuleUpdatedBy = Rule "updated_by",
        EventSubject = Event "subject", EventRequestId = Event "request_id",
        EventClientAddress = Event "client_address", EventReason = Event "reason",
        EventTenant = Event "tenant" nullable,
    }
}
fields! {
    /// Truth values.
    FlagField { Enabled = Rule "enabled", Log = Rule "log" }
}
fields! {
    /// Actions.
    ActionField { DefaultAction = Policy "default_action", Action = Rule "action" }
}

impl TextField {
    /// Whether the database keeps a folded form of it beside the text, which `:` searches. Other
    /// texts are searched letter by letter (see [`crate::letters`]).
    #[must_use]
    pub const fn is_folded(self) -> bool {
        match self {
            Self::FirewallName
            | Self::FirewallDescription
            | Self::PolicyName
            | Self::PolicyDescription
            | Self::RuleName
            | Self::RuleDescription => true,
            Self::Tenant
            | Self::FirewallCreatedBy
            | Self::FirewallUpdatedBy
            | Self::PolicyCreatedBy
            | Self::PolicyUpdatedBy
            | Self::Reference
            | Self::RuleCreatedBy
            | Self::RuleUpdatedBy
            | Self::EventSubject
            | Self::EventRequestId
            | Self::EventClientAddress
            | Self::EventReason
            | Self::EventTenant => false,
        }
    }
}

/// A test of something that has an order. False where it is absent, but for `Absent`.
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

/// A test of a text. False where it is absent, but for `Absent`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TextTest {
    /// `= null`.
    Absent,
    /// `=`, `IN`: some pattern fits.
    OneOf(Vec<Pattern>),
    /// `:`: it holds this text, in any case. Holds the text as given.
    Holds(String),
}

/// What a text is compared with. The star is not part of the text in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// `x`.
    Exact(String),
    /// `x*`, and `*`: of an empty text.
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
    /// `labels.k = v`, `IN`: some pattern fits. False where the label is absent.
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

/// A test of one entry of a side: its address, and one of the port ranges that are in effect there
/// (its own; else, of a destination, each of the rule's `ports`; else every port).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EntryTest {
    /// Its addresses.
    Address(RangeTest<AddressRange>),
    /// Its ports in effect; `Absent`: it names none itself.
    Port(PortTest),
}

/// A test of ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PortTest {
    /// `= null`: none are written.
    Absent,
    /// The ports in effect.
    Range(RangeTest<PortRange>),
}

/// A test of a range.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RangeTest<R> {
    /// `=`, `IN`: it is the same set as one of these.
    OneOf(Vec<R>),
    /// It lies inside this one. Of addresses, `any` lies in `any` alone.
    Within(R),
    /// It holds all of this one. `any` holds everything, and alone holds `any`.
    Contains(R),
    /// It has something in common with this one. `any` overlaps everything.
    Overlaps(R),
}

/// A set of packets. What is absent is not restricted.
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
    /// What the list is of.
    pub level: Level,
    /// The condition.
    pub condition: Logic<Test>,
}

/// A filter that is asked at a time, which decides the states of rules and what `now` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression {
    /// The filter.
    pub filter: Filter,
    /// When.
    pub at: Instant,
}
