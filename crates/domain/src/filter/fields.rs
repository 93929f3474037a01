//! The fields that filters know, for each level of list. One table serves the parser, the writer,
//! messages, and clients that offer a choice. It is built from the rows of `list_fields.rs`.

use super::tree::{ActionField, FlagField, InstantField, Level, NumberField, Side, TextField};
use crate::analysis::FindingKind;
use crate::audit::AuditAction;
use crate::error::Resource;
use crate::net::Family;
use crate::rule::{Action, RuleState, WarningCode};

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    In,
    Has,
    Within,
    Contains,
    Overlaps,
}

impl Operator {
    const ALL: [Self; 11] = [
        Self::Equal,
        Self::NotEqual,
        Self::Less,
        Self::AtMost,
        Self::Greater,
        Self::AtLeast,
        Self::In,
        Self::Has,
        Self::Within,
        Self::Contains,
        Self::Overlaps,
    ];

    /// Its spelling.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Greater => ">",
            Self::AtLeast => ">=",
            Self::In => "IN",
            Self::Has => ":",
            Self::Within => "WITHIN",
            Self::Contains => "CONTAINS",
            Self::Overlaps => "OVERLAPS",
        }
    }

    /// Parses an operator; words may be in any case.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operator| operator.as_str().eq_ignore_ascii_case(text))
    }
}

/// The kind of a field's value, which decides how the field is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// An integer of 64 bits.
    Integer,
    /// A text, compared exactly unless the value has a star at either end.
    Text,
    /// A timestamp in RFC 3339 format.
    Timestamp,
    /// `true` or `false`.
    Boolean,
    /// An action, in any case.
    Action,
    /// A rule's state at the time of the request.
    State,
    /// The action of an audit event.
    AuditAction,
    /// A kind of resource.
    Resource,
    /// The value of one label.
    Label,
    /// All labels; `:` tests for a key.
    Labels,
    /// A warning of a rule.
    Warning,
    /// A kind of finding about a rule.
    Finding,
    /// A protocol, by name or number.
    Protocol,
    /// An address family.
    Family,
    /// Ports: one, or a range.
    Ports,
    /// Addresses: a host, a block, a range or `any`.
    Addresses,
    /// The entries of a side; at least one of them must meet the condition.
    Entries,
    /// A set of packets.
    Traffic,
}

impl FieldKind {
    /// Every kind.
    pub const ALL: [Self; 18] = [
        Self::Integer,
        Self::Text,
        Self::Timestamp,
        Self::Boolean,
        Self::Action,
        Self::State,
        Self::AuditAction,
        Self::Resource,
        Self::Label,
        Self::Labels,
        Self::Warning,
        Self::Finding,
        Self::Protocol,
        Self::Family,
        Self::Ports,
        Self::Addresses,
        Self::Entries,
        Self::Traffic,
    ];

    /// The word for clients.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Text => "text",
            Self::Timestamp => "timestamp",
            Self::Boolean => "boolean",
            Self::Action => "action",
            Self::State => "state",
            Self::AuditAction => "audit_action",
            Self::Resource => "resource",
            Self::Label => "label",
            Self::Labels => "labels",
            Self::Warning => "warning",
            Self::Finding => "finding",
            Self::Protocol => "protocol",
            Self::Family => "family",
            Self::Ports => "ports",
            Self::Addresses => "addresses",
            Self::Entries => "entries",
            Self::Traffic => "traffic",
        }
    }

    /// An example of its values, for messages.
    pub(super) const fn example(self) -> &'static str {
        match self {
            Self::Integer => "an integer such as `100`",
            Self::Text => "a text such as `\"edge-*\"`",
            Self::Timestamp => "an instant such as `2026-12-31T00:00:00Z` or `now + 30d`",
            Self::Boolean => "`true` or `false`",
            Self::Action => "`ALLOW`, `DENY` or `REJECT`",
            Self::State => "`active`, `scheduled`, `expired` or `disabled`",
            Self::AuditAction => "`create`, `update`, `move`, `delete` or `restore`",
            Self::Resource => "`firewall`, `filtering_policy` or `firewall_rule`",
            Self::Label => "a text such as `fra`",
            Self::Labels => "a label's key such as `site`",
            Self::Warning => {
                "`entry_without_effect`, `protocol_without_effect`, `ports_without_effect` or \
                 `expired`"
            }
            Self::Finding => "a kind of finding such as `unreachable`",
            Self::Protocol => "a protocol such as `tcp`",
            Self::Family => "`ipv4` or `ipv6`",
            Self::Ports => "a port such as `443` or a range such as `8000-8999`",
            Self::Addresses => "an address such as `192.0.2.1`, `10.0.0.0/8` or `any`",
            Self::Entries => "`(address CONTAINS 10.1.2.3 AND port = 443)`",
            Self::Traffic => {
                "`(source = 10.20.0.0/16 AND protocol = tcp AND destination_port = 22)`"
            }
        }
    }

    fn values(self) -> Vec<&'static str> {
        match self {
            Self::Boolean => vec!["true", "false"],
            Self::Action => Action::ALL.map(Action::as_str).into(),
            Self::State => RuleState::ALL.map(RuleState::as_str).into(),
            Self::AuditAction => AuditAction::WORDS.into(),
            Self::Resource => Resource::WORDS.into(),
            Self::Warning => WarningCode::ALL.map(WarningCode::as_str).into(),
            Self::Finding => FindingKind::WORDS.into(),
            Self::Family => Family::ALL.map(Family::as_str).into(),
            Self::Integer
            | Self::Text
            | Self::Timestamp
            | Self::Label
            | Self::Labels
            | Self::Protocol
            | Self::Ports
            | Self::Addresses
            | Self::Entries
            | Self::Traffic => Vec::new(),
        }
    }
}

/// The properties of a field that decide its operators and values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traits {
    pub(super) kind: FieldKind,
    pub(super) operators: &'static [Operator],
    pub(super) is_nullable: bool,
}

const EQUALITY: &[Operator] = &[Operator::Equal, Operator::NotEqual, Operator::In];

/// The traits of a label's value. There is such a field for each key.
pub(super) const LABEL: Traits = Traits::new(FieldKind::Label, true);

impl Traits {
    const fn new(kind: FieldKind, is_nullable: bool) -> Self {
        let operators: &[Operator] = match kind {
            FieldKind::Integer | FieldKind::Timestamp => &[
                Operator::Equal,
                Operator::NotEqual,
                Operator::Less,
                Operator::AtMost,
                Operator::Greater,
                Operator::AtLeast,
                Operator::In,
            ],
            FieldKind::Boolean => &[Operator::Equal, Operator::NotEqual],
            FieldKind::Text | FieldKind::Label => {
                &[Operator::Equal, Operator::NotEqual, Operator::In, Operator::Has]
            }
            FieldKind::Action
            | FieldKind::State
            | FieldKind::AuditAction
            | FieldKind::Resource
            | FieldKind::Warning
            | FieldKind::Finding
            | FieldKind::Protocol
            | FieldKind::Family => EQUALITY,
            FieldKind::Labels | FieldKind::Entries | FieldKind::Traffic => &[Operator::Has],
            FieldKind::Ports | FieldKind::Addresses => &[
                Operator::Equal,
                Operator::NotEqual,
                Operator::In,
                Operator::Within,
                Operator::Contains,
                Operator::Overlaps,
            ],
        };
        Self { kind, operators, is_nullable }
    }
}

/// A member of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryMember {
    Address,
    Port,
}

impl EntryMember {
    pub(super) const ALL: [Self; 2] = [Self::Address, Self::Port];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Port => "port",
        }
    }

    pub(super) const fn traits(self) -> Traits {
        match self {
            Self::Address => Traits::new(FieldKind::Addresses, false),
            Self::Port => Traits::new(FieldKind::Ports, true),
        }
    }
}

/// A member of a set of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrafficMember {
    Family,
    Source,
    SourcePort,
    Destination,
    DestinationPort,
    Protocol,
    IcmpType,
    IcmpCode,
}

impl TrafficMember {
    pub(super) const ALL: [Self; 8] = [
        Self::Family,
        Self::Source,
        Self::SourcePort,
        Self::Destination,
        Self::DestinationPort,
        Self::Protocol,
        Self::IcmpType,
        Self::IcmpCode,
    ];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Family => "family",
            Self::Source => "source",
            Self::SourcePort => "source_port",
            Self::Destination => "destination",
            Self::DestinationPort => "destination_port",
            Self::Protocol => "protocol",
            Self::IcmpType => "icmp_type",
            Self::IcmpCode => "icmp_code",
        }
    }

    /// Only `=` is allowed, and never null: a member without a restriction is left out.
    pub(super) const fn traits(self) -> Traits {
        let kind = match self {
            Self::Family => FieldKind::Family,
            Self::Source | Self::Destination => FieldKind::Addresses,
            Self::SourcePort | Self::DestinationPort => FieldKind::Ports,
            Self::Protocol => FieldKind::Protocol,
            Self::IcmpType | Self::IcmpCode => FieldKind::Integer,
        };
        Traits { kind, operators: &[Operator::Equal], is_nullable: false }
    }
}

/// The field that a name refers to. The value of a label is not one, since it also has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Number(NumberField),
    Text(TextField),
    Flag(FlagField),
    Action(ActionField),
    Instant(InstantField),
    Labels(Level),
    State,
    Warnings,
    Finding,
    AuditAction,
    Resource,
    Protocols,
    Ports,
    Entries(Side),
    Entry(Side, EntryMember),
    Traffic,
}

impl Field {
    /// The fields of a level itself.
    pub(super) fn own(owner: Level) -> impl Iterator<Item = Self> {
        const OF_RULES: [Field; 12] = [
            Field::State,
            Field::Warnings,
            Field::Finding,
            Field::Protocols,
            Field::Ports,
            Field::Entries(Side::Source),
            Field::Entry(Side::Source, EntryMember::Address),
            Field::Entry(Side::Source, EntryMember::Port),
            Field::Entries(Side::Destination),
            Field::Entry(Side::Destination, EntryMember::Address),
            Field::Entry(Side::Destination, EntryMember::Port),
            Field::Traffic,
        ];
        const OF_EVENTS: [Field; 2] = [Field::AuditAction, Field::Resource];
        NumberField::ALL
            .iter()
            .copied()
            .map(Self::Number)
            .chain(TextField::ALL.iter().copied().map(Self::Text))
            .chain(FlagField::ALL.iter().copied().map(Self::Flag))
            .chain(ActionField::ALL.iter().copied().map(Self::Action))
            .chain(InstantField::ALL.iter().copied().map(Self::Instant))
            .chain(Level::ALL.into_iter().filter(|it| has_labels(*it)).map(Self::Labels))
            .chain(OF_RULES)
            .chain(OF_EVENTS)
            .filter(move |field| field.level() == owner)
    }

    /// The fields that a list of a level can be filtered by: its own, then its parents'.
    pub(super) fn all(level: Level) -> impl Iterator<Item = Self> {
        ancestry(level).iter().copied().flat_map(Self::own)
    }

    const fn level(self) -> Level {
        match self {
            Self::Number(field) => field.level(),
            Self::Text(field) => field.level(),
            Self::Flag(field) => field.level(),
            Self::Action(field) => field.level(),
            Self::Instant(field) => field.level(),
            Self::Labels(level) => level,
            Self::State
            | Self::Warnings
            | Self::Finding
            | Self::Protocols
            | Self::Ports
            | Self::Entries(_)
            | Self::Entry(_, _)
            | Self::Traffic => Level::Rule,
            Self::AuditAction | Self::Resource => Level::Event,
        }
    }

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Number(field) => field.word(),
            Self::Text(field) => field.word(),
            Self::Flag(field) => field.word(),
            Self::Action(field) => field.word(),
            Self::Instant(field) => field.word(),
            Self::Labels(_) => "labels",
            Self::State => "state",
            Self::Warnings => "warnings",
            Self::Finding => "finding",
            Self::AuditAction => "action",
            Self::Resource => "resource",
            Self::Protocols => "protocols",
            Self::Ports => "ports",
            Self::Entries(side) => side_word(side),
            Self::Entry(side, member) => match (side, member) {
                (Side::Source, EntryMember::Address) => "sources.address",
                (Side::Source, EntryMember::Port) => "sources.port",
                (Side::Destination, EntryMember::Address) => "destinations.address",
                (Side::Destination, EntryMember::Port) => "destinations.port",
            },
            Self::Traffic => "traffic",
        }
    }

    /// Its name in a list of a level.
    pub(super) fn name(self, at: Level) -> String {
        field_name(at, self.level(), self.word())
    }

    pub(super) const fn traits(self) -> Traits {
        match self {
            Self::Number(field) => Traits::new(FieldKind::Integer, field.is_nullable()),
            Self::Text(field) => Traits::new(FieldKind::Text, field.is_nullable()),
            Self::Flag(field) => Traits::new(FieldKind::Boolean, field.is_nullable()),
            Self::Action(field) => Traits::new(FieldKind::Action, field.is_nullable()),
            Self::Instant(field) => Traits::new(FieldKind::Timestamp, field.is_nullable()),
            Self::Labels(_) => Traits::new(FieldKind::Labels, false),
            Self::State => Traits::new(FieldKind::State, false),
            Self::Warnings => Traits::new(FieldKind::Warning, true),
            Self::Finding => Traits::new(FieldKind::Finding, true),
            Self::AuditAction => Traits::new(FieldKind::AuditAction, false),
            Self::Resource => Traits::new(FieldKind::Resource, false),
            Self::Protocols => Traits::new(FieldKind::Protocol, true),
            Self::Ports => Traits::new(FieldKind::Ports, true),
            Self::Entries(_) => Traits::new(FieldKind::Entries, false),
            Self::Entry(_, member) => member.traits(),
            Self::Traffic => Traits::new(FieldKind::Traffic, false),
        }
    }
}

/// The word for a side.
pub(super) const fn side_word(side: Side) -> &'static str {
    match side {
        Side::Source => "sources",
        Side::Destination => "destinations",
    }
}

/// A level and its parents, the nearest first.
pub(super) const fn ancestry(level: Level) -> &'static [Level] {
    match level {
        Level::Rule => &[Level::Rule, Level::Policy, Level::Firewall],
        Level::Policy => &[Level::Policy, Level::Firewall],
        Level::Firewall => &[Level::Firewall],
        Level::Event => &[Level::Event],
    }
}

/// Whether resources of a level have labels.
pub(super) const fn has_labels(level: Level) -> bool {
    match level {
        Level::Firewall | Level::Policy | Level::Rule => true,
        Level::Event => false,
    }
}

/// The prefix of a field of level `of` in a list of level `at`; none if such lists lack the field.
pub(super) const fn prefix(at: Level, of: Level) -> Option<&'static str> {
    match (at, of) {
        (Level::Rule, Level::Rule)
        | (Level::Policy, Level::Policy)
        | (Level::Firewall, Level::Firewall)
        | (Level::Event, Level::Event) => Some(""),
        (Level::Rule, Level::Policy) => Some("filtering_policy."),
        (Level::Rule | Level::Policy, Level::Firewall) => Some("firewall."),
        (Level::Policy, Level::Rule)
        | (Level::Firewall, Level::Policy | Level::Rule)
        | (Level::Event, Level::Firewall | Level::Policy | Level::Rule)
        | (Level::Firewall | Level::Policy | Level::Rule, Level::Event) => None,
    }
}

/// A text field of a level, for examples in messages.
pub(super) const fn some_text(level: Level) -> &'static str {
    match level {
        Level::Firewall | Level::Policy | Level::Rule => "name",
        Level::Event => "subject",
    }
}

pub(super) const fn plural(level: Level) -> &'static str {
    match level {
        Level::Firewall => "firewalls",
        Level::Policy => "policies",
        Level::Rule => "rules",
        Level::Event => "audit events",
    }
}

/// The name of a field in a filter: `word` is a field of level `of`, the list is one of level `at`
/// (`firewall.name` in a list of rules). If lists of `at` lack the field, it keeps its own name.
#[must_use]
pub fn field_name(at: Level, of: Level, word: &str) -> String {
    format!("{}{word}", prefix(at, of).unwrap_or_default())
}

/// A field, as described to clients that offer a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldInfo {
    /// Its name, prefixed with that of the parent. `labels.{key}` represents one field for each
    /// key.
    pub name: String,
    /// The kind of its values.
    pub kind: FieldKind,
    /// The operators that it takes, as they are written.
    pub operators: Vec<&'static str>,
    /// Whether it can be null, so that `= null`, `!= null` and null in `IN ( … )` are allowed.
    pub is_nullable: bool,
    /// All its possible values, if they are few enough to list.
    pub values: Vec<&'static str>,
    /// The members that are allowed in `:( … )`, for entries and traffic.
    pub members: Vec<FieldInfo>,
}

impl FieldInfo {
    fn new(name: impl Into<String>, traits: Traits) -> Self {
        Self {
            name: name.into(),
            kind: traits.kind,
            operators: traits.operators.iter().copied().map(Operator::as_str).collect(),
            is_nullable: traits.is_nullable,
            values: traits.kind.values(),
            members: Vec::new(),
        }
    }
}

/// Describes the fields that a list of a level can be filtered by: its own, then its parents'.
#[must_use]
pub fn describe(level: Level) -> Vec<FieldInfo> {
    let mut fields = Vec::new();
    for field in Field::all(level) {
        let mut info = FieldInfo::new(field.name(level), field.traits());
        info.members = match field {
            Field::Entries(_) => {
                EntryMember::ALL.map(|it| FieldInfo::new(it.word(), it.traits())).into()
            }
            Field::Traffic => {
                TrafficMember::ALL.map(|it| FieldInfo::new(it.word(), it.traits())).into()
            }
            Field::Number(_)
            | Field::Text(_)
            | Field::Flag(_)
            | Field::Action(_)
            | Field::Instant(_)
            | Field::Labels(_)
            | Field::State
            | Field::Warnings
            | Field::Finding
            | Field::AuditAction
            | Field::Resource
            | Field::Protocols
            | Field::Ports
            | Field::Entry(_, _) => Vec::new(),
        };
        fields.push(info);
        if let Field::Labels(_) = field {
            fields.push(FieldInfo::new(format!("{}.{{key}}", field.name(level)), LABEL));
        }
    }
    fields
}
