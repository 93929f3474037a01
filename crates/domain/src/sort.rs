//! The fields that items are ordered by, and their values, which cursors carry.

use crate::audit::AuditRecord;
use crate::firewall::Firewall;
use crate::ids::PolicyId;
use crate::page::{Page, PageRequest, Position, SortKey, SortValue, Total};
use crate::policy::Policy;
use crate::rule::{Rule, RuleState};
use crate::time::Instant;

macro_rules! fields {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is the field of the same name")]
        pub enum $name { $($variant),+ }

        impl $name {
            /// Every field.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name of every field.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The field's name on the wire and in the database.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Finds a field by its name.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|field| field.as_str() == word)
            }
        }
    };
}

fields! {
    /// What firewalls can be ordered by.
    FirewallField {
        Id = "id", Name = "name", Tenant = "tenant", Description = "description",
        PolicyCount = "policy_count", Revision = "revision", CreatedAt = "created_at",
        CreatedBy = "created_by", UpdatedAt = "updated_at", UpdatedBy = "updated_by",
    }
}
fields! {
    /// What policies can be ordered by.
    PolicyField {
        Id = "id", Name = "name", Description = "description", DefaultAction = "default_action",
        RuleCount = "rule_count", Revision = "revision", CreatedAt = "created_at",
        CreatedBy = "created_by", UpdatedAt = "updated_at", UpdatedBy = "updated_by",
    }
}
fields! {
    /// What rules can be ordered by.
    RuleField {
        Id = "id", Name = "name", Action = "action", Priority = "priority",
        IcmpType = "icmp_type", IcmpCode = "icmp_code", Enabled = "enabled", State = "state", Log = "log",
        StartsAt = "starts_at", ExpiresAt = "expires_at", Description = "description",
        Reference = "reference", Revision = "revision", CreatedAt = "created_at",
        CreatedBy = "created_by", UpdatedAt = "updated_at", UpdatedBy = "updated_by",
    }
}

fields! {
    /// What audit events can be ordered by.
    AuditField {
        Id = "id", At = "at", Subject = "subject", RequestId = "request_id",
        ClientAddress = "client_address", Reason = "reason", Action = "action",
        Resource = "resource", ResourceId = "resource_id", FirewallId = "firewall_id",
        PolicyId = "filtering_policy_id", Tenant = "tenant", Sequence = "sequence",
    }
}

/// A field that items are ordered by.
pub trait SortField: Copy + PartialEq {
    /// The type of the items.
    type Item;

    /// The field's value of an item, at the time that decides states.
    fn value(self, item: &Self::Item, at: Instant) -> SortValue;

    /// The id of an item.
    fn id(item: &Self::Item) -> i64;

    /// Whether a value is of the field's type. Cursors are input, so their values must be checked.
    fn takes(self, value: &SortValue) -> bool;

    /// Whether its values change by the clock alone.
    fn depends_on_clock(self) -> bool {
        false
    }
}

/// The time that decides states in a list. A list that does not depend on it has none.
#[must_use]
pub fn time_of(request: &PageRequest) -> Instant {
    request.at.unwrap_or(Instant::EPOCH)
}

/// The position of an item in an order.
fn position<F: SortField>(order: &[SortKey<F>], item: &F::Item, request: &PageRequest) -> Position {
    let values = order.iter().map(|key| key.field.value(item, time_of(request))).collect();
    Position { values, id: F::id(item), place: None, at: request.at }
}

/// A page of items in an order, with the position of the next page if there are more items.
pub fn page<F: SortField>(
    items: Vec<F::Item>,
    has_more: bool,
    order: &[SortKey<F>],
    request: &PageRequest,
    total: Option<Total>,
) -> Page<F::Item> {
    let last = items.last().filter(|_| has_more);
    let next = last.map(|last| position(order, last, request));
    Page { items, total, request: request.clone(), next }
}

/// The types of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SortValueKind {
    Integer,
    /// An integer of 32 bits, the type of its column in the database.
    Small,
    Text,
    Flag,
}

fn is_of(kind: SortValueKind, is_nullable: bool, value: &SortValue) -> bool {
    match (kind, value) {
        (SortValueKind::Integer, SortValue::Integer(_))
        | (SortValueKind::Text, SortValue::Text(_))
        | (SortValueKind::Flag, SortValue::Flag(_)) => true,
        (SortValueKind::Small, SortValue::Integer(number)) => i32::try_from(*number).is_ok(),
        (
            SortValueKind::Integer
            | SortValueKind::Small
            | SortValueKind::Text
            | SortValueKind::Flag,
            SortValue::Absent,
        ) => is_nullable,
        (
            SortValueKind::Integer | SortValueKind::Small,
            SortValue::Text(_) | SortValue::Flag(_),
        )
        | (SortValueKind::Text, SortValue::Integer(_) | SortValue::Flag(_))
        | (SortValueKind::Flag, SortValue::Integer(_) | SortValue::Text(_)) => false,
    }
}

fn text(text: &str) -> SortValue {
    SortValue::Text(text.to_owned())
}

fn count(count: u64) -> SortValue {
    SortValue::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

fn instant(instant: Instant) -> SortValue {
    SortValue::Integer(instant.micros())
}

fn maybe(number: Option<i64>) -> SortValue {
    number.map_or(SortValue::Absent, SortValue::Integer)
}

impl SortField for FirewallField {
    type Item = Firewall;

    fn id(item: &Firewall) -> i64 {
        item.id.get()
    }

    fn value(self, item: &Firewall, _at: Instant) -> SortValue {
        match self {
            Self::Id => SortValue::Integer(item.id.get()),
            Self::Name => text(item.spec.name.as_str()),
            Self::Tenant => text(item.spec.tenant.as_str()),
            Self::Description => text(item.spec.description.as_str()),
            Self::PolicyCount => count(item.policy_count),
            Self::Revision => SortValue::Integer(item.revision.0),
            Self::CreatedAt => instant(item.created_at),
            Self::CreatedBy => text(&item.created_by),
            Self::UpdatedAt => instant(item.updated_at),
            Self::UpdatedBy => text(&item.updated_by),
        }
    }

    fn takes(self, value: &SortValue) -> bool {
        let kind = match self {
            Self::Id | Self::PolicyCount | Self::Revision | Self::CreatedAt | Self::UpdatedAt => {
                SortValueKind::Integer
            }
            Self::Name | Self::Tenant | Self::Description | Self::CreatedBy | Self::UpdatedBy => {
                SortValueKind::Text
            }
        };
        is_of(kind, false, value)
    }
}

impl SortField for PolicyField {
    type Item = Policy;

    fn id(item: &Policy) -> i64 {
        item.id.get()
    }

    fn value(self, item: &Policy, _at: Instant) -> SortValue {
        match self {
            Self::Id => SortValue::Integer(item.id.get()),
            Self::Name => text(item.spec.name.as_str()),
            Self::Description => text(item.spec.description.as_str()),
            Self::DefaultAction => text(item.spec.default_action.as_str()),
            Self::RuleCount => count(item.rule_count),
            Self::Revision => SortValue::Integer(item.revision.0),
            Self::CreatedAt => instant(item.created_at),
            Self::CreatedBy => text(&item.created_by),
            Self::UpdatedAt => instant(item.updated_at),
            Self::UpdatedBy => text(&item.updated_by),
        }
    }

    fn takes(self, value: &SortValue) -> bool {
        let kind = match self {
            Self::Id | Self::RuleCount | Self::Revision | Self::CreatedAt | Self::UpdatedAt => {
                SortValueKind::Integer
            }
            Self::Name
            | Self::Description
            | Self::DefaultAction
            | Self::CreatedBy
            | Self::UpdatedBy => SortValueKind::Text,
        };
        is_of(kind, false, value)
    }
}

impl SortField for RuleField {
    type Item = Rule;

    fn id(item: &Rule) -> i64 {
        item.id.get()
    }

    fn value(self, item: &Rule, at: Instant) -> SortValue {
        let spec = &item.spec;
        match self {
            Self::Id => SortValue::Integer(item.id.get()),
            Self::Name => spec.name.as_ref().map_or(SortValue::Absent, |name| text(name.as_str())),
            Self::Action => text(spec.action.as_str()),
            Self::Priority => SortValue::Integer(spec.priority.into()),
            Self::IcmpType => maybe(spec.icmp_type.map(Into::into)),
            Self::IcmpCode => maybe(spec.icmp_code.map(Into::into)),
            Self::Enabled => SortValue::Flag(spec.enabled),
            Self::State => SortValue::Integer(state_rank(spec.state(at))),
            Self::Log => SortValue::Flag(spec.log),
            Self::StartsAt => maybe(spec.starts_at.map(Instant::micros)),
            Self::ExpiresAt => maybe(spec.expires_at.map(Instant::micros)),
            Self::Description => text(spec.description.as_str()),
            Self::Reference => text(spec.reference.as_str()),
            Self::Revision => SortValue::Integer(item.revision.0),
            Self::CreatedAt => instant(item.created_at),
            Self::CreatedBy => text(&item.created_by),
            Self::UpdatedAt => instant(item.updated_at),
            Self::UpdatedBy => text(&item.updated_by),
        }
    }

    fn takes(self, value: &SortValue) -> bool {
        let (kind, is_nullable) = match self {
            Self::State => (SortValueKind::Small, false),
            Self::Id | Self::Revision | Self::CreatedAt | Self::UpdatedAt => {
                (SortValueKind::Integer, false)
            }
            Self::StartsAt | Self::ExpiresAt => (SortValueKind::Integer, true),
            Self::Priority => (SortValueKind::Small, false),
            Self::IcmpType | Self::IcmpCode => (SortValueKind::Small, true),
            Self::Enabled | Self::Log => (SortValueKind::Flag, false),
            Self::Name => (SortValueKind::Text, true),
            Self::Action
            | Self::Description
            | Self::Reference
            | Self::CreatedBy
            | Self::UpdatedBy => (SortValueKind::Text, false),
        };
        is_of(kind, is_nullable, value)
    }

    fn depends_on_clock(self) -> bool {
        self == Self::State
    }
}

/// The place of a state in the order of states: scheduled, active, expired, disabled. That is the
/// way that a rule goes, and what is switched off stands last.
#[must_use]
pub const fn state_rank(state: RuleState) -> i64 {
    match state {
        RuleState::Scheduled => 0,
        RuleState::Active => 1,
        RuleState::Expired => 2,
        RuleState::Disabled => 3,
    }
}

impl SortField for AuditField {
    type Item = AuditRecord;

    fn id(item: &AuditRecord) -> i64 {
        item.id
    }

    fn value(self, item: &AuditRecord, _at: Instant) -> SortValue {
        match self {
            Self::Id => SortValue::Integer(item.id),
            Self::At => instant(item.at),
            Self::Subject => text(&item.subject),
            Self::RequestId => text(&item.request_id),
            Self::ClientAddress => text(&item.client_address),
            Self::Reason => text(&item.reason),
            Self::Action => text(item.action.as_str()),
            Self::Resource => text(item.resource.as_str()),
            Self::ResourceId => SortValue::Integer(item.resource_id),
            Self::FirewallId => SortValue::Integer(item.firewall_id.get()),
            Self::PolicyId => maybe(item.policy_id.map(PolicyId::get)),
            Self::Tenant => item.tenant.as_ref().map_or(SortValue::Absent, |it| text(it.as_str())),
            Self::Sequence => maybe(item.link.as_ref().map(|link| link.sequence)),
        }
    }

    fn takes(self, value: &SortValue) -> bool {
        let (kind, is_nullable) = match self {
            Self::Id | Self::At | Self::ResourceId | Self::FirewallId => {
                (SortValueKind::Integer, false)
            }
            Self::PolicyId | Self::Sequence => (SortValueKind::Integer, true),
            Self::Subject
            | Self::RequestId
            | Self::ClientAddress
            | Self::Reason
            | Self::Action
            | Self::Resource => (SortValueKind::Text, false),
            Self::Tenant => (SortValueKind::Text, true),
        };
        is_of(kind, is_nullable, value)
    }
}
