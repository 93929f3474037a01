//! The fields that lists are filtered and ordered by, if one value of a resource decides them: one
//! row for each. The parser of filters, the writer, the evaluator and the description for clients
//! all read these rows, and so do orders and their cursors.
//!
//! A row is `Variant = level "word" flags => value`. The word is the field's name on the wire,
//! without the name of a parent. The value is an expression of the resource of that level. The flags
//! are `nullable`, for a value that is an `Option`, `folded`, for a text that `:` compares in folded
//! form, and `small`, for an integer whose column has 32 bits.
//!
//! The tables of orders at the end name the fields that a list can be ordered by, in the order in
//! which messages and the description list them.

use crate::audit::AuditRecord;
use crate::firewall::Firewall;
use crate::ids::PolicyId;
use crate::page::SortValue;
use crate::policy::Policy;
use crate::rule::{Action, Rule};
use crate::sort::{SortField, state_rank};
use crate::time::Instant;

/// The kind of resource that a list contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Firewalls.
    Firewall,
    /// Filtering policies.
    Policy,
    /// Rules.
    Rule,
    /// Audit events. They have no parents, since the resources that they concern may be gone.
    Event,
}

impl Level {
    /// Every level, from the top.
    pub const ALL: [Self; 4] = [Self::Firewall, Self::Policy, Self::Rule, Self::Event];
}

/// The resources that have values: the subject of a filter with its parents, or the item of a list.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Resources<'a> {
    pub(crate) firewall: Option<&'a Firewall>,
    pub(crate) policy: Option<&'a Policy>,
    pub(crate) rule: Option<&'a Rule>,
    pub(crate) event: Option<&'a AuditRecord>,
}

macro_rules! fields {
    ($(#[$doc:meta])* $name:ident: $type:ty {
        $($variant:ident = $level:ident $word:literal $($flag:ident)* => $value:expr,)+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is the field of the same name")]
        pub enum $name { $($variant),+ }

        impl $name {
            /// Every field.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The level that has the field.
            #[must_use]
            pub const fn level(self) -> Level {
                match self { $(Self::$variant => fields!(@level $level)),+ }
            }

            /// Its name on the wire and in the database, without the name of a parent.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Whether it can be null.
            #[must_use]
            pub const fn is_nullable(self) -> bool {
                self.flags().nullable
            }

            const fn flags(self) -> Flags {
                match self {
                    $(Self::$variant => Flags { $($flag: true,)* ..Flags::NONE }),+
                }
            }

            /// Its value. The outer `Option` is whether there is a resource of the level, the inner
            /// one whether it has a value.
            pub(crate) fn value(self, resources: Resources<'_>) -> Option<Option<$type>> {
                Some(match self {
                    $(Self::$variant => {
                        let $level = resources.$level?;
                        fields!(@value [$($flag)*] $value)
                    })+
                })
            }
        }
    };
    (@level firewall) => { Level::Firewall };
    (@level policy) => { Level::Policy };
    (@level rule) => { Level::Rule };
    (@level event) => { Level::Event };
    (@value [nullable $($flag:ident)*] $value:expr) => { $value };
    (@value [$($flag:ident)*] $value:expr) => { Some($value) };
}

/// The flags of a row.
struct Flags {
    nullable: bool,
    folded: bool,
    small: bool,
}

impl Flags {
    const NONE: Self = Self { nullable: false, folded: false, small: false };
}

fields! {
    /// Integers.
    NumberField: i64 {
        FirewallId = firewall "id" => firewall.id.get(),
        PolicyCount = firewall "policy_count" => count(firewall.policy_count),
        FirewallRevision = firewall "revision" => firewall.revision.0,
        PolicyId = policy "id" => policy.id.get(),
        RuleCount = policy "rule_count" => count(policy.rule_count),
        PolicyRevision = policy "revision" => policy.revision.0,
        RuleId = rule "id" => rule.id.get(),
        Priority = rule "priority" small => rule.spec.priority.into(),
        IcmpType = rule "icmp_type" nullable small => rule.spec.icmp_type.map(Into::into),
        IcmpCode = rule "icmp_code" nullable small => rule.spec.icmp_code.map(Into::into),
        RuleRevision = rule "revision" => rule.revision.0,
        EventId = event "id" => event.id,
        EventResourceId = event "resource_id" => event.resource_id,
        EventFirewallId = event "firewall_id" => event.firewall_id.get(),
        EventPolicyId = event "filtering_policy_id" nullable => event.policy_id.map(PolicyId::get),
        EventSequence = event "sequence" nullable => event.link.as_ref().map(|link| link.sequence),
    }
}
fields! {
    /// Instants.
    InstantField: Instant {
        FirewallCreatedAt = firewall "created_at" => firewall.created_at,
        FirewallUpdatedAt = firewall "updated_at" => firewall.updated_at,
        PolicyCreatedAt = policy "created_at" => policy.created_at,
        PolicyUpdatedAt = policy "updated_at" => policy.updated_at,
        RuleCreatedAt = rule "created_at" => rule.created_at,
        RuleUpdatedAt = rule "updated_at" => rule.updated_at,
        StartsAt = rule "starts_at" nullable => rule.spec.starts_at,
        ExpiresAt = rule "expires_at" nullable => rule.spec.expires_at,
        EventAt = event "at" => event.at,
    }
}
fields! {
    /// Texts.
    TextField: &str {
        FirewallName = firewall "name" folded => firewall.spec.name.as_str(),
        Tenant = firewall "tenant" => firewall.spec.tenant.as_str(),
        FirewallDescription = firewall "description" folded => firewall.spec.description.as_str(),
        FirewallCreatedBy = firewall "created_by" => firewall.created_by.as_str(),
        FirewallUpdatedBy = firewall "updated_by" => firewall.updated_by.as_str(),
        PolicyName = policy "name" folded => policy.spec.name.as_str(),
        PolicyDescription = policy "description" folded => policy.spec.description.as_str(),
        PolicyCreatedBy = policy "created_by" => policy.created_by.as_str(),
        PolicyUpdatedBy = policy "updated_by" => policy.updated_by.as_str(),
        RuleName = rule "name" nullable folded => rule.spec.name.as_ref().map(|name| name.as_str()),
        RuleDescription = rule "description" folded => rule.spec.description.as_str(),
        Reference = rule "reference" => rule.spec.reference.as_str(),
        RuleCreatedBy = rule "created_by" => rule.created_by.as_str(),
        RuleUpdatedBy = rule "updated_by" => rule.updated_by.as_str(),
        EventSubject = event "subject" => event.subject.as_str(),
        EventRequestId = event "request_id" => event.request_id.as_str(),
        EventClientAddress = event "client_address" => event.client_address.as_str(),
        EventReason = event "reason" => event.reason.as_str(),
        EventTenant = event "tenant" nullable => event.tenant.as_ref().map(|tenant| tenant.as_str()),
    }
}
fields! {
    /// Booleans.
    FlagField: bool {
        Enabled = rule "enabled" => rule.spec.enabled,
        Log = rule "log" => rule.spec.log,
    }
}
fields! {
    /// Actions.
    ActionField: Action {
        DefaultAction = policy "default_action" => policy.spec.default_action,
        Action = rule "action" => rule.spec.action,
    }
}

impl TextField {
    /// Whether the database has a folded form of the text in a second column, which `:` searches.
    /// Other texts are searched letter by letter (see [`crate::letters`]).
    #[must_use]
    pub const fn is_folded(self) -> bool {
        self.flags().folded
    }
}

/// A number of resources.
fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What decides a place in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OrderKey {
    Number(NumberField),
    Instant(InstantField),
    Text(TextField),
    Flag(FlagField),
    Action(ActionField),
    /// A rule's state at the time of the request.
    State,
    AuditAction,
    /// The kind of an event's resource.
    Resource,
}

impl OrderKey {
    const fn word(self) -> &'static str {
        match self {
            Self::Number(field) => field.word(),
            Self::Instant(field) => field.word(),
            Self::Text(field) => field.word(),
            Self::Flag(field) => field.word(),
            Self::Action(field) => field.word(),
            Self::State => "state",
            Self::AuditAction => "action",
            Self::Resource => "resource",
        }
    }

    /// Its value at the time that decides states, if it has one.
    fn value(self, item: Resources<'_>, at: Instant) -> Option<SortValue> {
        let text = |text: &str| SortValue::Text(text.to_owned());
        match self {
            Self::Number(field) => field.value(item)?.map(SortValue::Integer),
            Self::Instant(field) => field.value(item)?.map(|it| SortValue::Integer(it.micros())),
            Self::Text(field) => field.value(item)?.map(text),
            Self::Flag(field) => field.value(item)?.map(SortValue::Flag),
            Self::Action(field) => field.value(item)?.map(|action| text(action.as_str())),
            Self::State => {
                item.rule.map(|rule| SortValue::Integer(state_rank(rule.spec.state(at))))
            }
            Self::AuditAction => item.event.map(|event| text(event.action.as_str())),
            Self::Resource => item.event.map(|event| text(event.resource.as_str())),
        }
    }

    const fn is_nullable(self) -> bool {
        match self {
            Self::Number(field) => field.is_nullable(),
            Self::Instant(field) => field.is_nullable(),
            Self::Text(field) => field.is_nullable(),
            Self::Flag(field) => field.is_nullable(),
            Self::Action(field) => field.is_nullable(),
            Self::State | Self::AuditAction | Self::Resource => false,
        }
    }

    fn takes(self, value: &SortValue) -> bool {
        let is_small = || matches!(value, SortValue::Integer(it) if i32::try_from(*it).is_ok());
        let is_of_type = match self {
            Self::State => is_small(),
            Self::Number(field) if field.flags().small => is_small(),
            Self::Number(_) | Self::Instant(_) => matches!(value, SortValue::Integer(_)),
            Self::Text(_) | Self::Action(_) | Self::AuditAction | Self::Resource => {
                matches!(value, SortValue::Text(_))
            }
            Self::Flag(_) => matches!(value, SortValue::Flag(_)),
        };
        is_of_type || (*value == SortValue::Absent && self.is_nullable())
    }
}

macro_rules! orders {
    ($(#[$doc:meta])* $name:ident of $level:ident: $item:ty, $id:expr;
     $($variant:ident = $key:ident$(($field:expr))?,)+) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is the field of the same name")]
        pub enum $name { $($variant),+ }

        impl $name {
            /// Every field.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name of every field.
            pub const WORDS: &'static [&'static str] = &[$(Self::$variant.as_str()),+];

            const fn key(self) -> OrderKey {
                match self { $(Self::$variant => OrderKey::$key$(($field))?),+ }
            }

            /// The field's name on the wire and in the database.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                self.key().word()
            }

            /// Finds a field by its name.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|field| field.as_str() == word)
            }
        }

        impl SortField for $name {
            type Item = $item;

            fn id($level: &$item) -> i64 {
                $id
            }

            fn value(self, item: &$item, at: Instant) -> SortValue {
                let item = Resources { $level: Some(item), ..Resources::default() };
                self.key().value(item, at).unwrap_or(SortValue::Absent)
            }

            fn takes(self, value: &SortValue) -> bool {
                self.key().takes(value)
            }

            fn depends_on_clock(self) -> bool {
                self.key() == OrderKey::State
            }
        }
    };
}

orders! {
    /// What firewalls can be ordered by.
    FirewallField of firewall: Firewall, firewall.id.get();
    Id = Number(NumberField::FirewallId),
    Name = Text(TextField::FirewallName),
    Tenant = Text(TextField::Tenant),
    Description = Text(TextField::FirewallDescription),
    PolicyCount = Number(NumberField::PolicyCount),
    Revision = Number(NumberField::FirewallRevision),
    CreatedAt = Instant(InstantField::FirewallCreatedAt),
    CreatedBy = Text(TextField::FirewallCreatedBy),
    UpdatedAt = Instant(InstantField::FirewallUpdatedAt),
    UpdatedBy = Text(TextField::FirewallUpdatedBy),
}

orders! {
    /// What policies can be ordered by.
    PolicyField of policy: Policy, policy.id.get();
    Id = Number(NumberField::PolicyId),
    Name = Text(TextField::PolicyName),
    Description = Text(TextField::PolicyDescription),
    DefaultAction = Action(ActionField::DefaultAction),
    RuleCount = Number(NumberField::RuleCount),
    Revision = Number(NumberField::PolicyRevision),
    CreatedAt = Instant(InstantField::PolicyCreatedAt),
    CreatedBy = Text(TextField::PolicyCreatedBy),
    UpdatedAt = Instant(InstantField::PolicyUpdatedAt),
    UpdatedBy = Text(TextField::PolicyUpdatedBy),
}

orders! {
    /// What rules can be ordered by.
    RuleField of rule: Rule, rule.id.get();
    Id = Number(NumberField::RuleId),
    Name = Text(TextField::RuleName),
    Action = Action(ActionField::Action),
    Priority = Number(NumberField::Priority),
    IcmpType = Number(NumberField::IcmpType),
    IcmpCode = Number(NumberField::IcmpCode),
    Enabled = Flag(FlagField::Enabled),
    State = State,
    Log = Flag(FlagField::Log),
    StartsAt = Instant(InstantField::StartsAt),
    ExpiresAt = Instant(InstantField::ExpiresAt),
    Description = Text(TextField::RuleDescription),
    Reference = Text(TextField::Reference),
    Revision = Number(NumberField::RuleRevision),
    CreatedAt = Instant(InstantField::RuleCreatedAt),
    CreatedBy = Text(TextField::RuleCreatedBy),
    UpdatedAt = Instant(InstantField::RuleUpdatedAt),
    UpdatedBy = Text(TextField::RuleUpdatedBy),
}

orders! {
    /// What audit events can be ordered by.
    AuditField of event: AuditRecord, event.id;
    Id = Number(NumberField::EventId),
    At = Instant(InstantField::EventAt),
    Subject = Text(TextField::EventSubject),
    RequestId = Text(TextField::EventRequestId),
    ClientAddress = Text(TextField::EventClientAddress),
    Reason = Text(TextField::EventReason),
    Action = AuditAction,
    Resource = Resource,
    ResourceId = Number(NumberField::EventResourceId),
    FirewallId = Number(NumberField::EventFirewallId),
    PolicyId = Number(NumberField::EventPolicyId),
    Tenant = Text(TextField::EventTenant),
    Sequence = Number(NumberField::EventSequence),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_take_values_of_the_type_of_their_column() {
        let takes = |field: RuleField| {
            let values = [
                SortValue::Absent,
                SortValue::Integer(i32::MAX.into()),
                SortValue::Integer(i64::MAX),
                SortValue::Text(String::new()),
                SortValue::Flag(false),
            ];
            values.map(|value| field.takes(&value))
        };
        for (field, expected) in [
            (RuleField::Id, [false, true, true, false, false]),
            (RuleField::Priority, [false, true, false, false, false]),
            (RuleField::IcmpCode, [true, true, false, false, false]),
            (RuleField::State, [false, true, false, false, false]),
            (RuleField::ExpiresAt, [true, true, true, false, false]),
            (RuleField::Name, [true, false, false, true, false]),
            (RuleField::Action, [false, false, false, true, false]),
            (RuleField::Log, [false, false, false, false, true]),
        ] {
            assert_eq!(takes(field), expected, "{}", field.as_str());
        }
    }
}
