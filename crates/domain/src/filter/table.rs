//! The fields that one value of a resource decides: one row for each. The parser, the writer, the
//! evaluator and the description for clients all read these rows.
//!
//! A row is `Variant = level "word" flags => value`. The word is the field's name on the wire,
//! without the name of a parent. The value is an expression of the resource of that level. The flags
//! are `nullable`, for a value that is an `Option`, and `folded`, for a text that `:` compares in
//! folded form.

use super::subject::Subject;
use crate::ids::PolicyId;
use crate::rule::Action;
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
                self.flags().is_nullable
            }

            const fn flags(self) -> Flags {
                match self { $(Self::$variant => fields!(@flags $($flag)*)),+ }
            }

            /// Its value. The outer `Option` is whether the subject has the level, the inner one
            /// whether it has a value.
            pub(super) fn value(self, subject: Subject<'_>) -> Option<Option<$type>> {
                Some(match self {
                    $(Self::$variant => {
                        let $level = subject.$level()?;
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
    (@flags) => { Flags { is_nullable: false, is_folded: false } };
    (@flags nullable) => { Flags { is_nullable: true, is_folded: false } };
    (@flags folded) => { Flags { is_nullable: false, is_folded: true } };
    (@flags nullable folded) => { Flags { is_nullable: true, is_folded: true } };
    (@value [nullable $($flag:ident)*] $value:expr) => { $value };
    (@value [$($flag:ident)*] $value:expr) => { Some($value) };
}

/// The flags of a row.
struct Flags {
    is_nullable: bool,
    is_folded: bool,
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
        Priority = rule "priority" => rule.spec.priority.into(),
        IcmpType = rule "icmp_type" nullable => rule.spec.icmp_type.map(Into::into),
        IcmpCode = rule "icmp_code" nullable => rule.spec.icmp_code.map(Into::into),
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
        self.flags().is_folded
    }
}

/// A number of resources.
fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
